"""Reviews only grow: the database refuses changes, and what gets past it is found and named."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
import threading
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from csp_engine import reviews
from csp_engine.errors import InputError, ReviewError
from csp_engine.reviews import LatestVerdicts, Place, database, engines, open_reviews
from csp_engine.reviews.append_only import triggers
from csp_engine.types import NeuronRef

MODEL, LAYER = "f" * 64, "layer4@mean"
NAMES = (
    "number", "model", "layer", "unit", "reviewer", "revision", "verdict", "note", "method",
    "label", "bundle", "given_at",
)  # fmt: skip


@pytest.fixture
def place(tmp_path) -> Place:
    return filled(Place(file=tmp_path / "reviews.sqlite"))


def filled(place: Place) -> Place:
    """Six entries of two people on two neurons."""
    kept = open_reviews(place)
    for at, verdict in enumerate(("valid", "mixed", "withdrawn", "valid", "unclear", "spurious")):
        neuron = NeuronRef(MODEL, LAYER, at % 2)
        kept.add(neuron, reviewer="adaeve"[3 * (at > 3) :][:3], verdict=verdict, note=f"ö {at}")
    return place


def change(place: Place, *statements: str, unguarded: bool = True) -> None:
    """With a tool of the database, by somebody who may also take the triggers away."""
    connection = sqlite3.connect(place.file)
    try:
        query = f"select name, sql from sqlite_master where type = 'trigger' and {int(unguarded)}"
        held = connection.execute(query).fetchall()
        for name, _ in held:
            connection.execute(f"drop trigger {name}")
        for statement in statements:
            connection.execute(statement)
        for _, sql in held:
            connection.execute(sql)
        connection.commit()
    finally:
        connection.close()


def by_hand(place: Place) -> list[str]:
    """The hashes as docs/reviews.md states them, from what the file holds."""
    connection = sqlite3.connect(place.file)
    rows = connection.execute(f"select {', '.join(NAMES)} from review order by number").fetchall()
    connection.close()
    found = [""]
    for row in rows:
        at = datetime.fromisoformat(row[-1]).replace(tzinfo=UTC).isoformat(timespec="microseconds")
        text = json.dumps([found[-1], *row[:-1], at], separators=(",", ":"))
        found.append(hashlib.sha256(text.encode("ascii")).hexdigest())
    return found[1:]


def test_every_entry_is_chained_as_the_document_says(place):
    connection = sqlite3.connect(place.file)
    stored = [row[0] for row in connection.execute("select chain from review order by number")]
    connection.close()
    assert stored == by_hand(place)
    checked = open_reviews(place).check()
    assert (checked.n_entries, checked.head, checked.problems) == (6, stored[-1], ())
    assert all(open_reviews(place).check(each).problems == () for each in stored)


REFUSED = [
    "update review set verdict = 'valid' where number = 2",
    "update review set chain = chain",
    "delete from review",
    "delete from review where number = 6",
    "replace into review select * from review where number = 3",
    "replace into review select 7, model, layer, unit, reviewer, revision, 'valid', note, method, "
    "label, bundle, given_at, chain, confidence, reason from review where number = 3",
    "insert into review select 9, model, layer, unit, 'new', 1, verdict, note, method, label, "
    "bundle, given_at, chain, confidence, reason from review where number = 3",
    "insert into review select 7, model, layer, unit, 'new', 1, verdict, note, method, label, "
    "bundle, given_at, '', confidence, reason from review where number = 3",
    "insert into review select * from review where number = 2 on conflict (number) do update set "
    "verdict = 'valid'",
]


@pytest.mark.parametrize("statement", REFUSED)
def test_the_file_refuses_what_does_not_add(place, statement):
    with pytest.raises(sqlite3.IntegrityError, match="only added, never changed"):
        change(place, statement, unguarded=False)
    assert open_reviews(place).check().problems == ()


SWAP = [f"update review set number = {a} where number = {b}" for a, b in ((99, 2), (2, 5), (5, 99))]
FOUND = {
    "an edit": (["update review set note = 'x' where number = 3"], "Entry 3 is not"),
    "another time": (
        ["update review set given_at = '2020-01-01 00:00:00.000000' where number = 6"],
        "Entry 6 is not what was written after entry 5",
    ),
    "an edit of the first": (["update review set method = 'x' where number = 1"], "Entry 1 is"),
    "another hash": (["update review set chain = hex(unit) where number = 2"], "Entry 2 is not"),
    "one removed": (["delete from review where number = 4"], "Entry 4 is missing"),
    "the first removed": (["delete from review where number = 1"], "Entry 1 is missing"),
    "several removed": (["delete from review where number in (2, 3)"], "Entries 2 to 3 are"),
    "removed and moved up": (
        ["delete from review where number = 4",
         "update review set number = 4 where number = 5",
         "update review set number = 5 where number = 6"],
        "Entry 4 is not",
    ),
    "two swapped": (SWAP, "Entry 2 is not"),
    "one inserted": (
        ["update review set number = 99 where number = 6",
         "insert into review select 6, model, layer, unit, 'eve', 9, verdict, note, method, label, "
         "bundle, given_at, chain, confidence, reason from review where number = 2",
         "update review set number = 7 where number = 99"],
        "Entry 6 is not",
    ),
    "one added": (
        ["insert into review select 7, model, layer, unit, 'mallory', 1, verdict, note, method, "
         "label, bundle, given_at, chain, confidence, reason from review where number = 6"],
        "Entry 7 is not",
    ),
    "no date": (["update review set given_at = 'soon' where number = 2"], "Entry 2 has the time"),
    "no verdict": (["update review set verdict = 'evil' where number = 2"], "Entry 2 says 'evil'"),
    "bytes": (["update review set note = x'00ff' where number = 2"], "Entry 2 is not"),
    "no hash": (["update review set chain = x'00' where number = 2"], "Entry 2 is not"),
}  # fmt: skip


@pytest.mark.parametrize("what", FOUND)
def test_what_was_done_to_a_file_is_found_and_named(place, what):
    statements, said = FOUND[what]
    change(place, *statements)
    problems = open_reviews(place).check().problems
    assert any(said in problem for problem in problems), problems
    assert all(re.fullmatch(r"[A-Z].{1,150}\.", problem) for problem in problems)


@pytest.mark.parametrize("name", sorted(triggers("sqlite")))
def test_a_trigger_that_was_taken_away_or_replaced_is_found(place, name):
    change(place, f"drop trigger {name}", unguarded=False)
    (problem,) = open_reviews(place).check().problems
    assert name in problem
    event = {"review_only_added": "insert"}.get(name, name.rpartition("_")[2])
    weak = f"create trigger {name} before {event} on review begin select 1; end"
    change(place, weak, unguarded=False)
    assert open_reviews(place).check().problems == (problem,)


@pytest.mark.parametrize("does", ["select raise(ignore)", "delete from alembic_version"])
def test_a_trigger_that_somebody_added_is_found(place, does):
    change(place, f"create trigger eve before insert on review begin {does}; end")
    (problem,) = open_reviews(place).check().problems
    assert problem.startswith("The trigger or rule eve was added by somebody else")


def test_bytes_in_place_of_a_text_that_looks_like_them_are_found(place):
    neuron = NeuronRef(MODEL, LAYER, 0)
    open_reviews(place).add(neuron, reviewer="ada", verdict="valid", note="b'n'")
    assert open_reviews(place).check().problems == ()
    change(place, "update review set note = x'6e' where number = 7")
    assert "Entry 7 is not" in open_reviews(place).check().problems[0]


def test_what_is_gone_from_the_end_is_found_by_a_hash_that_was_kept(place):
    kept = open_reviews(place).check().head
    change(place, "delete from review where number > 4")
    assert open_reviews(place).check().problems == ()  # nothing in the file tells
    (problem,) = open_reviews(place).check(kept).problems
    assert kept in problem
    change(place, "delete from review where number > 0")
    assert open_reviews(place).check().n_entries == 0
    assert len(open_reviews(place).check(kept).problems) == 1


def test_a_forgery_with_all_hashes_made_again_is_found_by_a_hash_that_was_kept(place):
    kept = open_reviews(place).check().head
    change(place, "update review set note = 'forged' where number = 1")
    for number, chain in enumerate(by_hand(place), start=1):
        change(place, f"update review set chain = '{chain}' where number = {number}")
    assert open_reviews(place).check().problems == ()
    assert len(open_reviews(place).check(kept).problems) == 1


def test_a_file_of_the_version_before_is_read_as_it_is_and_chained_by_the_next_verdict(tmp_path):
    place = Place(file=tmp_path / "old.sqlite")
    filled(place)
    connection = sqlite3.connect(place.file)
    for name in ("never_update", "never_delete", "only_added"):
        connection.execute(f"drop trigger review_{name}")
    for name in ("chain", "confidence", "reason"):
        connection.execute(f"alter table review drop column {name}")
    connection.execute("update alembic_version set version_num = '0001'")
    before = connection.execute("select * from review order by number").fetchall()
    connection.commit()
    connection.close()
    old = open_reviews(place)
    assert [each.note for each in old.of_models([MODEL])] == [f"ö {at}" for at in range(6)]
    assert len(old.since(0)) == 6
    with pytest.raises(ReviewError, match="earlier version"):
        old.check()
    old.add(NeuronRef(MODEL, LAYER, 0), reviewer="ada", verdict="mixed")
    connection = sqlite3.connect(place.file)
    now = connection.execute("select * from review order by number").fetchall()
    connection.close()
    assert [row[:-3] for row in now[:6]] == before
    assert [row[-3] for row in now] == by_hand(place)
    assert old.check().problems == ()
    with pytest.raises(sqlite3.IntegrityError):
        change(place, "delete from review", unguarded=False)


def test_a_file_without_confidence_keeps_its_hashes_and_takes_it_from_then_on(tmp_path):
    place = filled(Place(file=tmp_path / "old.sqlite"))
    head = open_reviews(place).check().head
    change(
        place,
        "alter table review drop column confidence",
        "alter table review drop column reason",
        "update alembic_version set version_num = '0002'",
    )
    old = open_reviews(place)
    assert (old.check().head, old.check().problems) == (head, ())
    assert {(each.confidence, each.reason) for each in old.of_models([MODEL])} == {("", "")}
    neuron = NeuronRef(MODEL, LAYER, 0)
    old.add(neuron, reviewer="ada", verdict="mixed", confidence="low", reason="images")
    old.add(neuron, reviewer="ada", verdict="mixed")
    assert old.check(head).problems == ()
    assert [each.confidence for each in old.history(neuron)][:2] == ["", "low"]
    connection = sqlite3.connect(place.file)
    rows = connection.execute(
        f"select {', '.join(NAMES)}, chain, confidence, reason from review order by number"
    ).fetchall()
    connection.close()
    at = datetime.fromisoformat(rows[6][11]).replace(tzinfo=UTC).isoformat(timespec="microseconds")
    text = json.dumps([head, *rows[6][:11], at, "low", "images"], separators=(",", ":"))
    assert rows[6][12] == hashlib.sha256(text.encode("ascii")).hexdigest()


@pytest.mark.parametrize(
    "statement",
    [
        "update review set confidence = 'high' where number = 7",
        "update review set confidence = '', reason = '' where number = 7",
        "update review set confidence = reason, reason = confidence where number = 7",
        "update review set reason = 'images' where number = 3",
    ],
)
def test_an_altered_confidence_or_reason_is_found(place, statement):
    kept = open_reviews(place)
    neuron = NeuronRef(MODEL, LAYER, 0)
    kept.add(neuron, reviewer="ada", verdict="valid", confidence="low", reason="label")
    assert kept.check().problems == ()
    change(place, statement)
    assert kept.check().problems


@pytest.mark.parametrize("more", [{"confidence": "sure"}, {"reason": "a feeling"}])
def test_what_is_no_choice_is_refused_and_nothing_is_kept(place, more):
    kept = open_reviews(place)
    with pytest.raises(InputError, match="choose one of"):
        kept.add(NeuronRef(MODEL, LAYER, 0), reviewer="ada", verdict="valid", **more)
    assert kept.check().n_entries == 6


@pytest.mark.parametrize("statement", ["delete from alembic_version", "drop table alembic_version"])
def test_verdicts_whose_schema_is_not_said_are_no_empty_history(place, statement):
    change(place, statement, unguarded=False)
    kept = open_reviews(place)
    for act in (
        lambda: kept.history(NeuronRef(MODEL, LAYER, 0)),
        lambda: kept.of_models([MODEL]),
        lambda: kept.since(0),
        lambda: LatestVerdicts().refresh(kept),
        lambda: kept.add(NeuronRef(MODEL, LAYER, 0), reviewer="ada", verdict="valid"),
        kept.check,
    ):
        with pytest.raises(ReviewError, match=r"_version does not say.*restore a copy\.$"):
            act()


BAD = {
    "given_at": ["'soon'", "5", "''", "x'00'", "'2026-13-45 99:99:99'"],
    "unit": ["'x'", "1.5"],
    "verdict": ["'evil'", "''"],
    "revision": ["'x'"],
}


@pytest.mark.parametrize(("column", "value"), [(c, v) for c, values in BAD.items() for v in values])
def test_a_damaged_value_is_a_sentence(place, column, value):
    change(place, f"update review set {column} = {value} where number = 3")
    kept = open_reviews(place)
    said: list[str] = []
    latest = LatestVerdicts()
    acts: list[Callable[[], object]] = [
        lambda: kept.of_models([MODEL]),
        lambda: latest.refresh(kept),
    ]
    for act in acts:
        try:
            act()
        except ReviewError as error:
            said.append(str(error))
    assert said
    assert all(re.search(r"damaged .*--verify", sentence) for sentence in said)
    latest.of_layer(MODEL, LAYER, 2)
    assert any("ntry 3 " in problem for problem in kept.check().problems)


def test_a_lock_is_waited_for_and_then_a_sentence(place, monkeypatch):
    monkeypatch.setattr(engines, "BUSY_S", 0.05)
    kept = open_reviews(place)
    holder = sqlite3.connect(place.file, isolation_level=None, check_same_thread=False)
    holder.execute("begin exclusive")
    with pytest.raises(ReviewError, match=r"held by another program.*try again"):
        kept.add(NeuronRef(MODEL, LAYER, 0), reviewer="ada", verdict="valid")
    monkeypatch.setattr(database, "LOCK_TRIES", 1000)
    ended = threading.Timer(0.3, lambda: holder.execute("commit"))
    ended.start()
    kept.add(NeuronRef(MODEL, LAYER, 0), reviewer="ada", verdict="valid")
    ended.join()
    holder.close()
    assert kept.check().n_entries == 7


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://host:port/x", "postgresql://ada:se/cret@host/x", "postgresql://[::1/x",
        "://", "postgresql://", "x y://z", "postgresql+psycopg2:///\udcff", "mysql://a@b:99999999/c",
        "postgresql://ada:secret@127.0.0.1:1/x", "/dev/null", "/dev/full", "pipe", "folder",
        "~nobody-of-this-name/x", "folder/deep/" + "x" * 300,
    ],
)  # fmt: skip
def test_no_address_ends_in_more_than_a_sentence(tmp_path, monkeypatch, address):
    monkeypatch.setenv("CSP_START_FOLDER", str(tmp_path))
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    monkeypatch.setenv(reviews.VARIABLE, address)

    def act() -> None:
        kept = open_reviews(reviews.named_place())
        kept.add(NeuronRef(MODEL, LAYER, 0), reviewer="ada", verdict="valid")

    with pytest.raises((ReviewError, InputError)) as raised:
        act()
    assert re.fullmatch(r"[^\n]{10,600}\.", str(raised.value))
    assert "cret" not in str(raised.value)
