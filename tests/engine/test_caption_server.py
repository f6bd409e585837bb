"""A server that is asked for candidates: what it is sent, how it may misbehave, what is kept."""

from __future__ import annotations

import json
import signal
import socket
import threading
from email.utils import formatdate
from time import time

import numpy as np
import pytest
from PIL import Image

from csp_engine.captioners import load_captioner
from csp_engine.captioners.generators.asking import Question, Shown, propose, with_reasons
from csp_engine.captioners.generators.kept import Answer, KeptAnswers
from csp_engine.captioners.generators.naming import read_spec
from csp_engine.captioners.generators.prompts import CELL, GAP, grid
from csp_engine.captioners.generators.server import KEY, MOST_BYTES, PATIENCE, Server
from csp_engine.errors import InputError, MissingModelError
from tests.worlds.loopback import Asked, Reply, loopback

RED = Image.new("RGB", (40, 30), "red")
BLUE = Image.new("RGB", (30, 40), "blue")
GOOD = '["blue veil"]'


@pytest.fixture(autouse=True)
def _own_answers(tmp_path, monkeypatch):
    monkeypatch.setenv("CSP_ANSWERS", str(tmp_path / "answers"))
    monkeypatch.delenv(KEY, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # never asked about this machine


def server_of(running, ending="timeout=5,attempts=3", first_wait=0.001):
    return Server(read_spec(running.spec(ending)), first_wait=first_wait)


def ask(server, n=1, **fields):
    """Answers to n different questions."""
    questions = [Question((RED,), f"question {i}", 0, **fields) for i in range(n)]
    found = {}
    server.answer(questions, found.__setitem__)
    return [found[i] for i in range(n)]


def in_turn(*replies: Reply):
    """Replies one after another, the last for ever."""
    rest, lock = list(replies), threading.Lock()

    def reply(_: Asked) -> Reply:
        with lock:
            return rest.pop(0) if len(rest) > 1 else rest[0]

    return reply


# ---------------------------------------------------------------- what is sent


def test_what_is_sent_is_the_grids_the_question_and_nothing_else(monkeypatch):
    monkeypatch.setenv(KEY, "secret")
    with loopback(lambda _: Reply(GOOD)) as running:
        server = server_of(running, "tokens=77")
        question = Question((grid([RED] * 9), grid([BLUE])), "what is it?", 5)
        server.answer([question], lambda *_: None)
        (asked,) = running.asked
    assert asked.path == "/v1/chat/completions"
    assert asked.headers["Authorization"] == "Bearer secret"
    assert {k: v for k, v in asked.body.items() if k != "messages"} == {
        "model": "tiny",
        "max_tokens": 77,
        "temperature": 0,
        "seed": 5,
    }
    assert [part["type"] for part in asked.content] == ["image_url", "image_url", "text"]
    assert asked.prompt == "what is it?"
    first, second = (np.asarray(image.convert("RGB"), int) for image in asked.images)
    assert first.shape == (3 * CELL + 4 * GAP, 3 * CELL + 4 * GAP, 3)
    assert second.shape == (CELL + 2 * GAP, CELL + 2 * GAP, 3)
    assert abs(first[first.shape[0] // 2, first.shape[1] // 2] - [255, 0, 0]).max() < 12
    assert abs(second[second.shape[0] // 2, second.shape[1] // 2] - [0, 0, 255]).max() < 12


def test_without_a_key_none_is_sent():
    with loopback(lambda _: Reply(GOOD)) as running:
        ask(server_of(running))
        assert "Authorization" not in running.asked[0].headers


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("openai/gpt", "lacks the model or the address"),
        ("openai/@http://a", "lacks the model or the address"),
        ("openai/", "cannot be understood"),
        ("transformers/", "cannot be understood"),
        ("openai/m@http://user:hunter2@host/v1", "CSP_CAPTIONER_KEY instead"),
        ("openai/m@https://host/v1?key=hunter2", "leave it out, and give a key in"),
        ("openai/m@http://", "no address of a server"),
        ("openai/m@http://a:99999999", "no address of a server"),
        ("openai/m@http://a b/v1", "no address has"),
        ("openai/m@http://a/v1#speed=3", "'speed', which openai/ does not know.*concurrency"),
        ("openai/m@http://a/v1#timeout=soon", "timeout 'soon'; it must lie between"),
        ("openai/m@http://a/v1#concurrency=0", "must lie between 1 and 256"),
        ("transformers/m#timeout=3", "which transformers/ does not know; after # may stand"),
    ],
)
def test_a_spec_that_cannot_be_used_is_refused_in_words(spec, said):
    with pytest.raises(InputError, match=said) as refused:
        load_captioner(spec)
    assert "hunter2" not in str(refused.value)


FAR = (
    "http://example.com/v1", "http://8.8.8.8/v1", "http://134744072/v1", "http://0x8080808/v1",
    "http://[::ffff:8.8.8.8]/v1", "http://[2001:4860:4860::8888]/v1",
)  # fmt: skip


@pytest.mark.parametrize("url", FAR)
def test_the_key_never_crosses_a_network_in_the_clear(monkeypatch, url):
    load_captioner(f"openai/m@{url}")
    monkeypatch.setenv(KEY, "secret")
    with pytest.raises(InputError, match="not encrypted") as refused:
        load_captioner(f"openai/m@{url}")
    assert "secret" not in str(refused.value)
    load_captioner("openai/m@https://example.com/v1")
    for near in ("192.168.1.7:8000", "[::1]:8000", "[fd00::7]", "gpu-box:8000", "localhost"):
        load_captioner(f"openai/m@http://{near}/v1")


def test_neither_key_nor_speed_is_part_of_the_fingerprint(monkeypatch):
    plain = load_captioner("openai/m@https://a/v1")
    monkeypatch.setenv(KEY, "secret")
    with_key = load_captioner("openai/m@https://a/v1#concurrency=2,price_in=3")
    assert with_key.fingerprint == plain.fingerprint
    assert "secret" not in json.dumps(with_key.description)
    others = ("openai/n@https://a/v1", "openai/m@https://b/v1", "openai/m@https://a/v1#tokens=9")
    assert len({plain.fingerprint, *(load_captioner(s).fingerprint for s in others)}) == 4


# ---------------------------------------------------------------- how it may misbehave

BROKEN = {
    "half of it": Reply(GOOD, half=True),
    "nothing": Reply(drop=True),
    "no HTTP": Reply(raw=b"220 mail.example.com ESMTP\r\n\r\n"),
    "no JSON": Reply(body=b"<html><body>Bad gateway</body></html>"),
    "other JSON": Reply(body=b'{"choices": []}'),
    "a list": Reply(body=b"[1, 2]"),
    "null": Reply(body=b"null"),
    "deep JSON": Reply(body=b"[" * 100_000),
    "no text": Reply(body=b'{"choices": [{"message": {"content": 7}}]}'),
    "too much": Reply(body=b"x" * (MOST_BYTES + 1)),
    "busy": Reply(status=503),
    "error 500": Reply(status=500, body=b'{"error": "boom"}'),
    "rate": Reply(status=429, headers={"Retry-After": "0"}),
    "rate with a date": Reply(status=429, headers={"Retry-After": formatdate(time() - 5)}),
    "rate with nonsense": Reply(status=429, headers={"Retry-After": "soon"}),
    "late": Reply(GOOD, silence_s=0.6),
    "byte by byte": Reply(GOOD, drip_s=0.1),
    "head byte by byte": Reply(raw=b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 100, drip_s=0.1),
}
SLOW = ("late", "byte by byte", "head byte by byte")


@pytest.mark.parametrize("name", BROKEN)
def test_what_fails_once_is_asked_again(name):
    slow = name in SLOW
    with loopback(in_turn(BROKEN[name], Reply(GOOD))) as running:
        server = server_of(running, f"timeout={0.3 if slow else 20},attempts=4")
        (answer,) = ask(server)
        assert (answer.text, answer.failure) == (GOOD, "")
        assert len(running.asked) >= 2


@pytest.mark.parametrize("name", BROKEN)
def test_what_fails_for_ever_is_said_and_not_kept(name, tmp_path):
    slow = name in SLOW
    with loopback(lambda _: BROKEN[name]) as running:
        server = server_of(running, f"timeout={0.2 if slow else 20},attempts=2")
        (answer,) = ask(server)
        assert len(running.asked) == 2
    assert answer.text == ""
    assert answer.failure.endswith(", 2 times")
    kept = KeptAnswers(tmp_path / "kept")
    kept.keep("0" * 64, answer)
    assert kept.of("0" * 64) is None


def test_a_server_that_asks_to_wait_for_an_hour_is_not_waited_for():
    with loopback(lambda _: Reply(status=429, headers={"Retry-After": "3600"})) as running:
        (answer,) = ask(server_of(running))
        assert "asks to wait 3600 s" in answer.failure
        assert len(running.asked) == 1


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_stops_everything_in_one_sentence(monkeypatch, status):
    body = json.dumps({"error": {"message": "bad\x1b[31m key"}}).encode()
    with loopback(lambda _: Reply(status=status, body=body)) as running:
        with pytest.raises(InputError, match=f"{status} to no key.*CSP_CAPTIONER_KEY") as refused:
            ask(server_of(running, "concurrency=1"), 5)
        assert len(running.asked) == 1
        assert "\x1b" not in str(refused.value)
        monkeypatch.setenv(KEY, "secret")
        with pytest.raises(InputError, match="to the key in") as refused:
            ask(server_of(running))
        assert "secret" not in str(refused.value)


def test_an_unknown_model_is_named():
    with (
        loopback(lambda _: Reply(status=404)) as running,
        pytest.raises(
            MissingModelError, match=r"knows no model 'tiny' at http.*correct --captioner"
        ),
    ):
        ask(server_of(running))


def test_no_redirect_is_followed(monkeypatch):
    monkeypatch.setenv(KEY, "secret")
    with loopback(lambda _: Reply(GOOD)) as elsewhere:
        moved = Reply(status=307, headers={"Location": f"{elsewhere.url}/chat/completions"})
        with (
            loopback(lambda _: moved) as running,
            pytest.raises(InputError, match="sends questions elsewhere"),
        ):
            ask(server_of(running))
        assert elsewhere.asked == []


def test_a_server_that_is_down_is_said_in_one_sentence():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        spec = f"openai/tiny@http://127.0.0.1:{free.getsockname()[1]}/v1#attempts=2"
        server = Server(read_spec(spec), first_wait=0.001)
        assert ask(server)[0].failure.startswith("no connection")
        said = f"last {PATIENCE} questions unanswered.*run the same command again"
        with pytest.raises(MissingModelError, match=said):
            ask(server, 3 * PATIENCE)


def test_a_question_that_is_refused_leaves_the_others():
    def reply(asked: Asked) -> Reply:
        bad = asked.prompt == "question 1"
        return Reply(status=400, body=b'{"error": "content policy"}') if bad else Reply(GOOD)

    with loopback(reply) as running:
        answers = ask(server_of(running), 3)
        assert [each.text for each in answers] == [GOOD, "", GOOD]
        assert answers[1].failure == "it answers 400 (“content policy”)"
        assert len(running.asked) == 3


@pytest.mark.parametrize("field", ["max_tokens", "temperature", "seed"])
def test_a_field_that_a_server_does_not_take_is_left_out(field):
    def reply(asked: Asked) -> Reply:
        message = f"Unsupported parameter: '{field}'"
        body = json.dumps({"error": {"message": message}}).encode()
        return Reply(status=400, body=body) if field in asked.body else Reply(GOOD)

    with loopback(reply) as running:
        server = server_of(running, "concurrency=1")
        assert [each.text for each in ask(server, 3)] == [GOOD] * 3
        assert len(running.asked) == 4
        assert ("max_completion_tokens" in running.asked[-1].body) == (field == "max_tokens")


def test_as_many_questions_are_under_way_as_was_asked_for():
    together = threading.Barrier(4)

    def reply(_: Asked) -> Reply:
        together.wait(60)
        return Reply(GOOD)

    with loopback(reply) as running:
        assert len(ask(server_of(running, "concurrency=4,timeout=120"), 8)) == 8
        assert running.most_under_way == 4


def test_tokens_and_cost_are_counted():
    usage = {"prompt_tokens": 1000, "completion_tokens": 20}
    with loopback(lambda _: Reply(GOOD, usage=usage)) as running:
        (answer,) = ask(server_of(running, "price_in=2,price_out=10"))
    assert (answer.n_tokens_in, answer.n_tokens_out) == (1000, 20)
    assert answer.cost == pytest.approx((1000 * 2 + 20 * 10) / 1e6)
    with loopback(lambda _: Reply(GOOD, usage=usage | {"cost": 0.5})) as running:
        assert ask(server_of(running))[0].cost == 0.5
    odd = {"prompt_tokens": "many", "completion_tokens": -1, "cost": "NaN"}
    with loopback(lambda _: Reply(GOOD, usage=odd)) as running:
        (answer,) = ask(server_of(running))
        assert (answer.n_tokens_in, answer.n_tokens_out, answer.cost) == (0, 0, 0)


# ---------------------------------------------------------------- what is kept

SHOWN = [Shown(unit, "contrast", (unit,), (unit + 20,)) for unit in range(12)]


def picture(image: int) -> Image.Image:
    return Image.new("RGB", (8, 8), (image, 255 - image, 7))


def run(server, kept, shown=SHOWN, progress=lambda done, total: None):
    return propose(server, shown, picture, kept, n_phrases=3, seed=0, progress=progress)


def test_a_rerun_asks_nothing_and_says_the_same(tmp_path):
    kept = KeptAnswers(tmp_path)
    usage = {"prompt_tokens": 10, "completion_tokens": 2}
    with loopback(lambda _: Reply(GOOD, usage=usage)) as running:
        first = run(server_of(running, "price_in=1"), kept)
        assert len(running.asked) == 12
        again = run(server_of(running, "price_in=1"), kept)
        assert len(running.asked) == 12
    assert first.facts == again.facts
    assert first.facts["n_tokens_in"] == 120
    assert first.facts["n_same_answer"] == 12
    for name in ("candidates", "sets", "answers"):
        assert getattr(first, name).equals(getattr(again, name))


def test_an_interrupted_run_goes_on_where_it_was(tmp_path):
    kept = KeptAnswers(tmp_path)

    def stop(done: int, total: int) -> None:
        if done >= 8:
            raise KeyboardInterrupt

    with loopback(lambda _: Reply(GOOD)) as running:
        server = server_of(running, "concurrency=1")
        with pytest.raises(KeyboardInterrupt):
            run(server, kept, progress=stop)
        assert len(running.asked) == 8
        found = run(server, kept)
        assert len(running.asked) == 12
    assert list(found.answers["status"]) == ["proposed"] * 12


@pytest.fixture
def interruptible():
    """Ctrl-C means what it does on a command line, whatever ran in this process before."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_what_is_under_way_when_somebody_stops_is_kept_too(tmp_path, interruptible):
    kept, lock, n = KeptAnswers(tmp_path), threading.Lock(), [0]
    together = threading.Barrier(3)

    def reply(_: Asked) -> Reply:
        with lock:
            n[0] += 1
            place = n[0]
        if place <= 3:
            together.wait(60)  # three are paid for when it comes
        if place == 3:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)  # Ctrl-C
        return Reply(GOOD, silence_s=0.2)

    with loopback(reply) as running:
        server = server_of(running, "concurrency=3,timeout=120")
        with pytest.raises(KeyboardInterrupt):
            run(server, kept)
        assert len(list(tmp_path.rglob("*.json"))) == len(running.asked) < 12
        found = run(server, kept)
        assert len(running.asked) == 12
    assert list(found.answers["status"]) == ["proposed"] * 12


def test_what_was_answered_before_a_server_died_is_kept(tmp_path):
    kept, lock, left = KeptAnswers(tmp_path), threading.Lock(), [5]

    def reply(_: Asked) -> Reply:
        with lock:
            left[0] -= 1
            return Reply(GOOD) if left[0] >= 0 else Reply(status=401)

    with loopback(reply) as running:
        server = server_of(running, "concurrency=1")
        with pytest.raises(InputError, match="401"):
            run(server, kept)
        running.reply = lambda _: Reply(GOOD)
        before = len(running.asked)
        run(server, kept)
        assert len(running.asked) - before == 12 - 5


def test_two_neurons_with_the_same_images_are_one_question(tmp_path):
    shown = [Shown(unit, "contrast", (1,), (2,)) for unit in range(5)]
    with loopback(lambda _: Reply(GOOD)) as running:
        found = run(server_of(running), KeptAnswers(tmp_path), shown)
        assert len(running.asked) == 1
    assert list(found.candidates["unit"]) == [0, 1, 2, 3, 4]


def test_neurons_are_marked_by_what_became_of_them(tmp_path):
    said = {
        0: Reply(GOOD),
        1: Reply("none"),
        2: Reply(""),
        3: Reply("<script>alert(1)</script>"),
        4: Reply(status=400),
        5: Reply(body=b'{"choices": [{"message": {"content": null}}]}'),
    }

    def reply(asked: Asked) -> Reply:
        inside = asked.images[0].getpixel((GAP + CELL // 2, GAP + CELL // 2))
        return said[min(said, key=lambda unit: abs(40 * unit - inside[0]))]

    shown = [Shown(unit, "contrast", (40 * unit,), (9,)) for unit in range(6)]
    every = with_reasons(shown, 8, ("contrast",), {*range(6), 7})
    with loopback(reply) as running:
        found = run(server_of(running), KeptAnswers(tmp_path), every)
    rows = found.answers.set_index("unit")
    assert rows["status"].to_dict() == {
        0: "proposed",
        1: "nothing",
        2: "empty",
        3: "unreadable",
        4: "unanswered",
        5: "empty",
        6: "no exemplars",
        7: "no contrast images",
    }
    assert rows["answer"][3] == "<script>alert(1)</script>"  # kept as it came, shown as text
    assert rows["note"][4] == "it answers 400"
    assert list(found.candidates["text"]) == ["blue veil"]
    assert (found.facts["n_unanswered"], found.facts["n_without_phrase"]) == (1, 4)
    assert list(found.sets["unit"]) == [0, 1, 2, 3, 4, 5]


def test_if_nothing_is_answered_the_build_stops(tmp_path):
    with (
        loopback(lambda _: Reply(status=400)) as running,
        pytest.raises(MissingModelError, match="answered none of 3 questions"),
    ):
        run(server_of(running), KeptAnswers(tmp_path), SHOWN[:3])


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"text": 7}', b"[" * 99_999, b"\xff\xfe"])
def test_a_damaged_answer_is_asked_again(tmp_path, damage):
    kept = KeptAnswers(tmp_path)
    kept.keep("ab" * 32, Answer("yes"))
    (file,) = tmp_path.rglob("*.json")
    assert kept.of("ab" * 32) == Answer("yes")
    file.write_bytes(damage)
    assert kept.of("ab" * 32) is None


def test_a_folder_that_cannot_keep_answers_is_refused_before_anything_is_paid(tmp_path):
    (tmp_path / "file").write_text("")
    with loopback(lambda _: Reply(GOOD)) as running:
        with pytest.raises(InputError, match=r"Answers cannot be kept.*CSP_ANSWERS"):
            run(server_of(running), KeptAnswers(tmp_path / "file" / "answers"))
        assert running.asked == []
