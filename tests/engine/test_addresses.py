"""Bundles at an address: whole there or not there, and fetched with every byte checked."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from csp_engine.bundle import Bundle, verify
from csp_engine.cli import main
from csp_engine.errors import BundleError, InputError
from csp_engine.exchange import addresses
from csp_engine.exchange.addresses import CACHE_GB, copy_to_address, fetched, in_use
from csp_engine.pipeline import build
from tests.worlds import toys
from tests.worlds.buckets import BUCKET, bucket

AT = "memory://lab/toy.csp"


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    toys.draw_images(folder / "images")
    return build(toys.request(folder, folder / "toy.csp")).path


@pytest.fixture
def memory(monkeypatch, tmp_path):
    import fsspec

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    system = fsspec.filesystem("memory")
    system.store.clear()
    yield system
    system.store.clear()


def at(system) -> dict[str, bytes]:
    return {name: bytes(file.getvalue()) for name, file in system.store.items()}


def test_there_and_back_it_is_the_same_bundle(memory, toy):
    copy_to_address(Bundle.open(toy), AT)
    back = Bundle.open(fetched(AT))
    assert (back.digest, back.name) == (Bundle.open(toy).digest, "toy")
    assert verify(back) == []


def test_a_shared_disk_is_an_address_too(toy, tmp_path):
    place = f"file://{tmp_path}/far/away/toy.csp"
    copy_to_address(Bundle.open(toy), place)
    assert verify(Bundle.open(tmp_path / "far/away/toy.csp")) == []
    assert Bundle.open(fetched(place, tmp_path / "kept")).digest == Bundle.open(toy).digest


def test_the_manifest_is_written_last_and_nothing_is_sent_twice(memory, toy, monkeypatch):
    sent: list[str] = []
    put, pipe = type(memory).put_file, type(memory).pipe_file
    monkeypatch.setattr(
        type(memory), "put_file", lambda s, a, b, **k: (sent.append(b), put(s, a, b, **k))
    )
    monkeypatch.setattr(
        type(memory), "pipe_file", lambda s, a, *v, **k: (sent.append(a), pipe(s, a, *v, **k))
    )

    class Stop(Exception):
        pass

    def stop(stage: str, done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copy_to_address(Bundle.open(toy), AT, stop)
    assert len(sent) == 5
    with pytest.raises(InputError, match="no whole bundle"):
        fetched(AT)
    first = sent.copy()
    copy_to_address(Bundle.open(toy), AT)
    assert sent[-1] == "/lab/toy.csp/manifest.json"
    assert len(sent) == len(set(sent)) > len(first)


def test_a_newer_bundle_takes_its_place_and_leaves_nothing_behind(memory, toy, tmp_path):
    copy_to_address(Bundle.open(toy), AT)
    before = at(memory)
    toys.draw_images(tmp_path / "images", seed=1)
    newer = build(toys.request(tmp_path, tmp_path / "toy.csp"))
    copy_to_address(newer, AT)
    assert Bundle.open(fetched(AT)).digest == newer.digest
    assert len(at(memory)) == len(before)


def test_what_others_put_there_is_left_alone(memory, toy):
    memory.pipe("/lab/toy.csp/notes.txt", b"mine")
    with pytest.raises(InputError, match=r"holds 'notes\.txt', which is of no bundle"):
        copy_to_address(Bundle.open(toy), AT)
    assert at(memory) == {"/lab/toy.csp/notes.txt": b"mine"}


@pytest.mark.parametrize("harm", ["changed", "cut", "gone", "longer"])
def test_a_byte_that_changed_there_is_told(memory, toy, harm):
    copy_to_address(Bundle.open(toy), AT)
    path = next(name for name in memory.store if name.endswith("image.npy"))
    content = at(memory)[path]
    if harm == "gone":
        memory.rm(path)
    else:
        new = {"changed": content[:-1] + b"x", "cut": content[:9], "longer": content + b"x"}[harm]
        memory.pipe(path, new)
    kind = InputError if harm == "gone" else BundleError
    with pytest.raises(kind, match=r"toy\.csp"):
        fetched(AT)
    copy_to_address(Bundle.open(toy), AT)  # mends it
    assert verify(Bundle.open(fetched(AT))) == []


def test_a_byte_that_changed_in_the_cache_is_fetched_again(memory, toy):
    copy_to_address(Bundle.open(toy), AT)
    path = fetched(AT)
    file = next(path.rglob("image.npy"))
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    assert fetched(AT) == path
    assert verify(Bundle.open(path)) == []


def test_a_manifest_cannot_lead_out_of_the_folder(memory, toy, tmp_path):
    from csp_engine.hashing import sha256_json

    copy_to_address(Bundle.open(toy), AT)
    body = json.loads(at(memory)["/lab/toy.csp/manifest.json"])
    body.pop("self_sha256")
    record = next(iter(body["stages"].values()))
    record["directory"] = "../../../stolen"
    body["self_sha256"] = sha256_json(body)
    memory.pipe("/lab/toy.csp/manifest.json", json.dumps(body).encode())
    with pytest.raises(BundleError):
        fetched(AT)
    assert not list(tmp_path.rglob("stolen*"))


def test_the_cache_is_bounded_and_keeps_what_is_in_use(memory, toy, monkeypatch):
    bundle = Bundle.open(toy)
    places = [f"memory://lab/{name}.csp" for name in "abc"]
    for place in places:
        size = copy_to_address(bundle, place)
    monkeypatch.setenv(CACHE_GB, str(2.5 * size / 1e9))
    first, second = fetched(places[0]), fetched(places[1])
    with in_use(first):
        third = fetched(places[2])
        assert (first.exists(), second.exists(), third.exists()) == (True, False, True)
    monkeypatch.setenv(CACHE_GB, str(0.5 * size / 1e9))
    with pytest.raises(InputError, match=f"set {CACHE_GB}"):
        fetched(places[1])
    monkeypatch.setenv(CACHE_GB, "lots")
    with pytest.raises(InputError, match="give a number of gigabytes"):
        fetched(places[1])


def test_two_that_fetch_at_once_both_have_it(memory, toy, monkeypatch):
    """The second begins while the first has all files but the manifest; then either may end."""
    copy_to_address(Bundle.open(toy), AT)
    own, inner = addresses._fetch, []

    def during(system, far, near, record, address):
        own(system, far, near, record, address)
        if not inner:
            inner.append(None)
            inner.append(fetched(AT))

    monkeypatch.setattr(addresses, "_fetch", during)
    assert fetched(AT) == inner[1]
    assert verify(Bundle.open(inner[1])) == []
    assert sorted(p.name for p in inner[1].parent.iterdir()) == [".in-use", "toy.csp"]


@pytest.mark.parametrize("ending", ["..", ".", "a/.."])
def test_an_address_that_names_no_bundle_is_refused(memory, toy, tmp_path, ending):
    copy_to_address(Bundle.open(toy), AT)
    with pytest.raises(InputError, match="names no bundle"):
        fetched(f"{AT}/{ending}", tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_what_is_copied_from_the_cache_makes_no_room(memory, toy, tmp_path, monkeypatch):
    n_bytes = copy_to_address(Bundle.open(toy), AT)
    copy_to_address(Bundle.open(toy), "memory://lab/other.csp")
    own = shutil.copytree

    def during(source, target, *more):
        monkeypatch.setenv(CACHE_GB, str(1.5 * n_bytes / 1e9))
        with pytest.raises(InputError, match="in use"):
            fetched("memory://lab/other.csp")
        return own(source, target, *more)

    monkeypatch.setattr(shutil, "copytree", during)
    with pytest.raises(SystemExit) as ended:
        main(["copy", AT, str(tmp_path / "mine.csp")])
    assert not ended.value.code
    assert verify(Bundle.open(tmp_path / "mine.csp")) == []


def test_an_altered_bundle_is_not_copied(memory, toy, tmp_path):
    harmed = Path(shutil.copytree(toy, tmp_path / "harmed.csp"))
    file = next(harmed.rglob("image.npy"))
    bundle = Bundle.open(harmed)
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(BundleError, match="altered"):
        copy_to_address(bundle, AT)
    assert at(memory) == {}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("a.csp", "b.csp"), "One of the two is an address"),
        (("memory://lab/none.csp", "{here}/b.csp"), "no whole bundle at 'memory://lab/none.csp'"),
        (("nosuch://x/a.csp", "{here}/b.csp"), "nosuch"),
        (("{toy}", "memory://lab/folder"), "let it end in NAME.csp"),
    ],
)
def test_the_command_says_what_it_cannot_do(memory, toy, tmp_path, capsys, arguments, sentence):
    with pytest.raises(SystemExit) as stop:
        main(["copy", *(each.format(here=tmp_path, toy=toy) for each in arguments)])
    assert stop.value.code == 2
    assert sentence in capsys.readouterr().err


def test_the_command_copies_both_ways(memory, toy, tmp_path, capsys):
    for arguments in ((str(toy), AT), (AT, str(tmp_path / "back.csp"))):
        with pytest.raises(SystemExit) as stop:
            main(["copy", *arguments])
        assert stop.value.code == 0
    assert verify(Bundle.open(tmp_path / "back.csp")) == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["back.csp", "cache"]


def test_a_server_is_given_what_was_fetched(memory, toy, monkeypatch):
    from csp_engine.cli import serving

    copy_to_address(Bundle.open(toy), AT)
    (path,) = serving._paths([AT])
    assert Bundle.open(path).digest == Bundle.open(toy).digest


@pytest.mark.slow
def test_the_same_at_an_s3_server_that_loses_the_connection(toy, tmp_path):
    with bucket() as door:
        place = f"s3://{BUCKET}/toy.csp"

        def cut(method, path, answer):
            status, headers, body = answer
            is_hit = method == "GET" and "image.npy" in path
            return (status, headers, body[: len(body) // 2]) if is_hit else answer

        door.change = cut
        with pytest.raises(InputError, match="does not do what it is asked"):
            copy_to_address(Bundle.open(toy), place)
        door.change = None
        with pytest.raises(InputError, match="no whole bundle"):
            fetched(place, tmp_path / "kept")
        copy_to_address(Bundle.open(toy), place)
        door.change = cut
        with pytest.raises(InputError, match="does not do what it is asked"):
            fetched(place, tmp_path / "kept")
        assert not list((tmp_path / "kept").rglob("*.csp/manifest.json"))
        door.change = None
        bundle = Bundle.open(fetched(place, tmp_path / "kept"))
        assert bundle.digest == Bundle.open(toy).digest
        assert verify(bundle) == []
        door.change = lambda *_: (403, {"Content-Length": "0"}, b"")
        with pytest.raises(InputError, match=r"check the address and your rights"):
            fetched(place, tmp_path / "kept")
    assert addresses.usual_folder().name == "bundles"
