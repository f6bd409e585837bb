"""Verdicts on a real PostgreSQL server: killed writers, a server that ends, a line that is cut."""

from __future__ import annotations

import os
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from csp_engine.errors import ReviewError
from csp_engine.reviews import Place, engines, open_reviews
from csp_engine.types import NeuronRef
from tests.worlds.postgres import Cutting

NEURON = NeuronRef("f" * 64, "layer4@mean", 7)


@pytest.fixture
def place(postgres) -> Place:
    return Place(postgres.empty_database())


def notes(place: Place) -> list[str]:
    """What is kept, the oldest first, of a history that is whole."""
    kept = open_reviews(place)
    assert kept.check().problems == ()
    numbers = [row[0] for row in kept.since(0)]
    assert numbers == list(range(1, len(numbers) + 1))
    return [each.note for each in kept.history(NEURON)][::-1]


def test_a_schema_that_comes_between_two_questions_is_no_damage(place):
    """On a server each question sees what was committed up to then."""
    other, asked = open_reviews(place), []

    def meanwhile(_connection, _cursor, _statement, parameters, *_: object) -> None:
        if not asked and "alembic_version" in str(parameters):  # just answered: it is not there
            asked.append(parameters)
            other.add(NEURON, reviewer="eve", verdict="valid")

    sa.event.listen(sa.Engine, "after_cursor_execute", meanwhile)
    try:
        open_reviews(place).add(NEURON, reviewer="ada", verdict="valid")
    finally:
        sa.event.remove(sa.Engine, "after_cursor_execute", meanwhile)
    assert asked
    assert [each.reviewer for each in other.history(NEURON)] == ["ada", "eve"]


def test_threads_of_one_program_make_the_schema_once(place):
    """What makes it keeps its state in the program, and not in the connection."""
    names = ["ada", "bob", "eve", "kim", "lea", "max"]
    with ThreadPoolExecutor(len(names)) as pool:
        for each in [
            pool.submit(open_reviews(place).add, NEURON, reviewer=name, verdict="valid", note=name)
            for name in names
        ]:
            each.result()
    assert sorted(notes(place)) == names


def test_a_server_refuses_changes_and_finds_what_was_done(postgres, monkeypatch):
    address = postgres.empty_database()
    kept = open_reviews(Place(address))
    for verdict in ("valid", "mixed", "valid"):
        kept.add(NEURON, reviewer="ada", verdict=verdict, note="ö \u202e")
    checked = kept.check()
    assert checked.problems == ()
    engine = sa.create_engine(address)
    last = checked.n_entries
    for statement in (
        "update review set note = 'x'",
        "delete from review",
        "truncate review",
        f"insert into review select * from review where number = {last} on conflict (number) do "
        "update set note = 'x'",
    ):
        with pytest.raises(sa.exc.DBAPIError, match="only added"), engine.begin() as connection:
            connection.exec_driver_sql(statement)
    with engine.begin() as connection:
        connection.exec_driver_sql("alter table review disable trigger all")
        connection.exec_driver_sql(f"update review set note = 'x' where number = {last}")
    problems = kept.check(checked.head).problems
    assert sum("trigger" in problem for problem in problems) == 2
    assert any(f"Entry {last} is not" in problem for problem in problems)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"delete from review where number = {last}")
        connection.exec_driver_sql("alter table review enable trigger all")
    assert len(kept.check(checked.head).problems) == 1
    assert kept.check().problems == ()
    monkeypatch.setattr(engines, "BUSY_S", 0.1)
    with engine.begin() as connection:
        connection.exec_driver_sql("lock table review in access exclusive mode")
        with pytest.raises(ReviewError, match="held by another program"):
            kept.add(NEURON, reviewer="ada", verdict="valid")
    engine.dispose()


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        (
            "create or replace function review_only_grows() returns trigger language plpgsql as "
            "$$ begin return new; end -- RAISE EXCEPTION $$",
            "review_never_changed is not as it was made",
        ),
        (
            "drop trigger review_never_changed on review; create trigger review_never_changed "
            "before update or delete on review for each row when (false) execute function "
            "review_only_grows()",
            "review_never_changed is not as it was made",
        ),
        (
            "drop trigger review_never_changed on review; create trigger review_never_changed "
            "before delete on review for each row execute function review_only_grows()",
            "review_never_changed is not as it was made",
        ),
        ("create rule eve as on insert to review do instead nothing", "rule eve was added"),
    ],
    ids=["another function", "never fires", "deletions alone", "a rule"],
)
def test_a_guard_that_only_looks_like_one_is_found(postgres, statement, said):
    address = postgres.empty_database()
    kept = open_reviews(Place(address))
    kept.add(NEURON, reviewer="ada", verdict="valid")
    assert kept.check().problems == ()
    engine = sa.create_engine(address)
    with engine.begin() as connection:
        connection.exec_driver_sql(statement)
    engine.dispose()
    assert any(said in problem for problem in kept.check().problems)


@pytest.mark.slow
def test_writers_that_are_killed_while_others_write_lose_and_double_nothing(place):
    """Each tells through a pipe what is kept; it may be killed between that and the telling."""
    rng, told, writers = random.Random(5), {}, []
    for name in "abcdef":
        reads, writes = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reads)
            kept = open_reviews(place)
            for at in range(1000):
                kept.add(NEURON, reviewer=name, verdict="valid", note=f"{name}{at}")
                os.write(writes, f"{at}\n".encode())
            os._exit(0)
        os.close(writes)
        writers.append((name, pid, reads))
    time.sleep(1.5)
    rng.shuffle(writers)
    for name, pid, reads in writers:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        with os.fdopen(reads) as pipe:
            told[name] = len(pipe.read().splitlines())
        time.sleep(0.1 * rng.random())
    found = notes(place)
    assert sum(told.values()) > 20
    for name, n in told.items():
        mine = [note for note in found if note[0] == name]
        assert mine == [f"{name}{at}" for at in range(len(mine))]
        assert n <= len(mine) <= n + 1


@pytest.mark.slow
def test_a_server_that_ends_while_a_verdict_is_saved_is_a_sentence_and_loses_nothing(
    postgres, place
):
    """Before its first statement, before its last ones, and before the commit."""
    kept, seen, n_all, ends_at = open_reviews(place), 0, 0, -1
    events = ("before_cursor_execute", "commit")

    def count(*_: object) -> None:
        nonlocal seen
        seen += 1
        if seen == ends_at:
            postgres.stop("immediate" if ends_at == n_all else "fast")

    kept.add(NEURON, reviewer="ada", verdict="valid", note="0")
    for name in events:
        sa.event.listen(sa.Engine, name, count)
    try:
        kept.add(NEURON, reviewer="ada", verdict="valid", note="1")
        n_all = seen
        for at in (1, *range(n_all - 2, n_all + 1)):
            seen, ends_at = 0, at
            with pytest.raises(ReviewError, match=r"^[^\n]{30,400}\.$"):
                kept.add(NEURON, reviewer="ada", verdict="mixed", note="lost")
            ends_at = -1
            postgres.start()
            assert notes(place) == ["0", "1"]
    finally:
        for name in events:
            sa.event.remove(sa.Engine, name, count)
    kept.add(NEURON, reviewer="ada", verdict="valid", note="2")
    assert notes(place) == ["0", "1", "2"]


@pytest.mark.slow
def test_a_server_that_was_started_again_in_between_is_no_error(postgres, place):
    kept = open_reviews(place)
    for at in range(3):
        kept.add(NEURON, reviewer="ada", verdict="valid", note=str(at))
        assert len(kept.history(NEURON)) == at + 1
        postgres.stop()
        postgres.start()
    assert notes(place) == ["0", "1", "2"]


@pytest.mark.parametrize("comes_back", [True, False])
def test_a_verdict_whose_answer_is_lost_is_kept_once(postgres, place, comes_back):
    """The server kept it, and the line was cut before it could say so."""
    line = Cutting(postgres.port)
    kept = open_reviews(Place(postgres.url(place.url.rpartition("/")[2], line.port)))
    kept.add(NEURON, reviewer="ada", verdict="valid", note="before")
    line.is_armed, line.is_closed = True, not comes_back
    if comes_back:
        kept.add(NEURON, reviewer="ada", verdict="mixed", note="lost")
    else:
        with pytest.raises(ReviewError, match=r"look whether it is there before you give it"):
            kept.add(NEURON, reviewer="ada", verdict="mixed", note="lost")
    assert not line.is_armed
    line.close()
    assert notes(place) == ["before", "lost"]
