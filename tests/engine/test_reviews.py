"""The history of verdicts: it only grows, survives a kill, and many may write at once."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from alembic.script import ScriptDirectory

from csp_engine import reviews
from csp_engine.errors import InputError, ReviewError
from csp_engine.reviews import STATES, VERDICTS, WITHDRAWN, LatestVerdicts, Place, open_reviews
from csp_engine.reviews.database import REVISIONS, review
from csp_engine.reviews.migrating import MIGRATIONS
from csp_engine.types import NeuronRef

NEURON = NeuronRef("f" * 64, "layer4@mean", 7)
ODD = [
    "<script>alert(1)</script>",
    "'; drop table review; --",
    "אדום \u202egnp",
    "🩺👩🏽‍⚕️",
    "a\nb",
    "100 %",
]
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(file=tmp_path / "new folder" / "100 % ö.sqlite")


@pytest.fixture(params=["file", "server"])
def any_place(request: pytest.FixtureRequest, place: Place) -> Place:
    """On a server it is a database of its own, empty too."""
    if request.param == "file":
        return place
    return Place(request.getfixturevalue("postgres").empty_database())


def in_child(work: Callable[[], object]) -> int:
    """Start it in a forked process that ends as soon as it is done; its number."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(3)
        os._exit(0)
    return pid


def ended(pid: int) -> int:
    """Wait for it: its exit code, or minus the signal that ended it."""
    _, status = os.waitpid(pid, 0)
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def raw(place: Place, query: str) -> list[tuple]:
    connection = sqlite3.connect(place.file)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def test_changing_and_taking_back_add_rows_and_change_none(place):
    database = open_reviews(place)
    assert database.history(NEURON) == []
    assert not place.file.parent.exists()
    kept: list[tuple] = []
    for verdict in ("spurious", "mixed", WITHDRAWN, "mixed"):
        database.add(NEURON, reviewer="ada", verdict=verdict, note=verdict[:3], bundle="b" * 64)
        rows = raw(place, "select * from review order by number")
        assert rows[: len(kept)] == kept
        assert len(rows) == len(kept) + 1
        kept = rows
    database.add(NEURON, reviewer="bob", verdict="valid")
    found = database.history(NEURON)
    assert [(each.reviewer, each.revision) for each in found] == [
        ("bob", 1), ("ada", 4), ("ada", 3), ("ada", 2), ("ada", 1),
    ]  # fmt: skip
    assert found == sorted(found, key=lambda each: each.given_at, reverse=True)
    assert [each.verdict for each in reviews.latest_of(found)] == ["valid", "mixed"]
    assert [each.verdict for each in reviews.latest_of(found[2:])] == []
    assert database.history(NeuronRef(NEURON.model, NEURON.layer, 8)) == []


@forks
def test_writers_in_several_processes_lose_nothing(any_place):
    """They also find no database at first, and make it at the same time."""

    def write(reviewer: str) -> None:
        database = open_reviews(any_place)
        for at in range(15):
            database.add(NEURON, reviewer=reviewer, verdict=VERDICTS[at % 4], note=str(at))

    children = [in_child(lambda name=name: write(name)) for name in ("ada", "ada", "bob", "eve")]
    assert [ended(child) for child in children] == [0] * 4
    found = open_reviews(any_place).of_models([NEURON.model])
    assert len(found) == 60
    for name, n in (("ada", 30), ("bob", 15), ("eve", 15)):
        mine = [each for each in found if each.reviewer == name]
        assert [each.revision for each in mine] == list(range(1, n + 1))
        assert sorted(each.note for each in mine) == sorted(map(str, [*range(15)] * (n // 15)))
    numbers = [row[0] for row in open_reviews(any_place).since(0)]
    assert numbers == list(range(1, 61))
    assert open_reviews(any_place).check().problems == ()


@pytest.mark.slow
@forks
def test_what_was_saved_survives_a_kill_at_any_statement(any_place):
    """Also while the schema is made: what is half made is not there for the next one."""
    n_saved = 0
    for last in range(1, 40):

        def work(last=last) -> None:
            database = open_reviews(any_place)
            seen = 0

            @sa.event.listens_for(sa.Engine, "before_cursor_execute")
            def die(*_: object) -> None:
                nonlocal seen
                seen += 1
                if seen == last:
                    os.kill(os.getpid(), signal.SIGKILL)

            database.add(NEURON, reviewer="ada", verdict="valid", note=str(last))
            os.kill(os.getpid(), signal.SIGUSR1)  # saved, and ended before it could tidy up

        how = ended(in_child(work))
        assert how in (-signal.SIGKILL, -signal.SIGUSR1)
        n_saved += how == -signal.SIGUSR1
        found = open_reviews(any_place).history(NEURON)
        assert len(found) == n_saved
        assert open_reviews(any_place).check().problems == ()
        if n_saved == 2:
            break
    assert n_saved == 2
    assert last > 5  # it was killed while making the schema as well


def test_a_database_of_a_newer_version_is_refused_and_left_alone(place):
    database = open_reviews(place)
    database.add(NEURON, reviewer="ada", verdict="valid")
    connection = sqlite3.connect(place.file)
    connection.execute("update alembic_version set version_num = '0999'")
    connection.commit()
    connection.close()
    before = place.file.read_bytes()
    for act in (
        lambda: database.history(NEURON),
        lambda: database.since(0),
        lambda: database.add(NEURON, reviewer="ada", verdict="mixed"),
        lambda: open_reviews(place).of_models([NEURON.model]),
    ):
        with pytest.raises(ReviewError, match=r"newer version .*0999.*update it\.$"):
            act()
    assert place.file.read_bytes() == before


def test_migrations_make_the_table_that_the_code_uses(place):
    script = ScriptDirectory(str(MIGRATIONS))
    assert tuple(each.revision for each in script.walk_revisions())[::-1] == REVISIONS
    open_reviews(place).add(NEURON, reviewer="ada", verdict="valid")
    made = sa.inspect(sa.create_engine(f"sqlite:///{place.file}"))
    columns = made.get_columns("review")
    said = [(each["name"], str(each["type"]), each["nullable"]) for each in columns]
    dialect = made.engine.dialect
    used = [(each.name, each.type.compile(dialect), each.nullable) for each in review.columns]
    assert said == used
    (unique,) = made.get_unique_constraints("review")
    assert unique["column_names"] == ["model", "layer", "unit", "reviewer", "revision"]
    assert raw(place, "pragma journal_mode") == [("wal",)]


def test_any_text_comes_back_as_it_was(place):
    database = open_reviews(place)
    for text in ODD:
        database.add(NEURON, reviewer=text, verdict="unclear", note=text, label=text)
    found = database.history(NEURON)[::-1]
    assert [(each.reviewer, each.note, each.label) for each in found] == [(t, t, t) for t in ODD]
    database.add(NEURON, reviewer=" ada\x00 ", verdict="valid", note="bell\x07 \ud800 ")
    (newest, *_) = database.history(NEURON)
    assert (newest.reviewer, newest.note) == ("ada", "bell ?")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"verdict": "good"}, "not a verdict; choose one of valid"),
        ({"verdict": ""}, "not a verdict"),
        ({"reviewer": " \x00"}, "needs the name"),
        ({"reviewer": "x" * 201}, "longer than 200"),
        ({"note": "x" * 501}, "longer than 500"),
    ],
)
def test_what_is_no_review_is_refused_in_a_sentence(place, given, said):
    with pytest.raises(InputError, match=said):
        open_reviews(place).add(NEURON, **({"reviewer": "ada", "verdict": "valid"} | given))
    assert not place.is_there


def test_what_is_held_in_memory_equals_a_slow_replay_of_the_whole_history(place):
    rng = random.Random(4)
    database, latest = open_reviews(place), LatestVerdicts()
    said: dict[int, dict[str, str]] = {}
    for step in range(60):
        unit, name = rng.randrange(6), rng.choice("abc")
        verdict = rng.choice([*VERDICTS, WITHDRAWN, WITHDRAWN])
        layer = rng.choice(["layer4@mean", "layer3@mean"])
        neuron = NeuronRef(NEURON.model, layer, unit)
        database.add(neuron, reviewer=name, verdict=verdict)
        if layer == NEURON.layer:
            said.setdefault(unit, {})[name] = verdict
        if step % 7 == 0:
            latest.refresh(database)
            found = latest.of_layer(NEURON.model, NEURON.layer, 5)
            for at in range(5):
                stands = {v for v in said.get(at, {}).values() if v != WITHDRAWN}
                expected = "disagree" if len(stands) > 1 else next(iter(stands), None)
                assert (None if found[at] < 0 else STATES[found[at]]) == expected
    np.testing.assert_array_equal(latest.of_layer("other", NEURON.layer, 3), [-1, -1, -1])


def test_a_place_that_cannot_be_written_to_says_so(tmp_path):
    (tmp_path / "file").write_text("x")
    place = Place(file=tmp_path / "file" / "reviews.sqlite")
    assert "cannot be written to" in place.refusal
    assert open_reviews(place).history(NEURON) == []
    with pytest.raises(ReviewError, match="cannot be written to"):
        open_reviews(place).add(NEURON, reviewer="ada", verdict="valid")
    assert Place(file=tmp_path / "a" / "b" / "reviews.sqlite").refusal == ""


def test_what_is_no_database_is_a_sentence(tmp_path, monkeypatch):
    (tmp_path / "reviews.sqlite").write_text("not a database, " * 100)
    with pytest.raises(ReviewError, match="cannot be used: file is not a database"):
        open_reviews(Place(file=tmp_path / "reviews.sqlite")).history(NEURON)
    for url, said in {
        "nonsense://ada:secret@host/x": "nonsense",
        "postgresql+gone://ada:secret@host/x": "gone",
        "not an address://": "cannot be used",
    }.items():
        monkeypatch.setenv(reviews.VARIABLE, url)
        with pytest.raises(ReviewError, match=said) as raised:
            open_reviews(reviews.named_place())
        assert "secret" not in str(raised.value)


def test_the_environment_names_a_file_from_where_the_server_was_started(tmp_path, monkeypatch):
    monkeypatch.setenv("CSP_START_FOLDER", str(tmp_path))
    for named in ("a/b.sqlite", "sqlite:///a/b.sqlite", f"sqlite:///{tmp_path}/a/b.sqlite"):
        monkeypatch.setenv(reviews.VARIABLE, named)
        assert reviews.named_place().file == tmp_path / "a" / "b.sqlite"
    for named in ("sqlite://", "sqlite:///:memory:"):
        monkeypatch.setenv(reviews.VARIABLE, named)
        with pytest.raises(InputError, match="name a file"):
            reviews.named_place()
    monkeypatch.setenv(reviews.VARIABLE, "")
    assert reviews.named_place() is None


def test_one_database_is_found_beside_a_bundle_or_where_builds_go(tmp_path, monkeypatch):
    monkeypatch.delenv(reviews.VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    bundle = tmp_path / "mine" / "a.csp"
    with pytest.raises(InputError, match="No verdicts are recorded yet"):
        reviews.place_for(bundle)
    for folder in ("bundles", "mine"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "reviews.sqlite").write_bytes(b"")
        if folder == "bundles":
            assert reviews.place_for(bundle).file == tmp_path / "bundles" / "reviews.sqlite"
    with pytest.raises(InputError, match="name one with CSP_REVIEWS"):
        reviews.place_for(bundle)
