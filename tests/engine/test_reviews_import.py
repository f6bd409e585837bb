"""Verdicts exported and imported: with reviewer, note and time, once, and all or nothing."""

from __future__ import annotations

import json
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from csp_engine.bundle import Bundle
from csp_engine.cli import main
from csp_engine.errors import InputError
from csp_engine.pipeline import build
from csp_engine.reviews import Place, as_rows, import_reviews, lasting_id, open_reviews
from csp_engine.types import NeuronRef
from tests.worlds import toys

NOTES = ("", "=1+1", 'a\nb, "c"; d', "'quoted", "<b>אדום</b> 🩺", "@x;=y")
NEURONS = [NeuronRef("small", "first@mean", unit) for unit in range(3)]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    folder = tmp_path_factory.mktemp("import")
    build(toys.request(folder, folder / "small.csp"))
    return Bundle.open(folder / "small.csp")


@pytest.fixture
def theirs(bundle, tmp_path, monkeypatch):
    place = Place(file=tmp_path / "theirs.sqlite")
    monkeypatch.setenv("CSP_REVIEWS", str(place.file))
    kept = open_reviews(place)
    for at, note in enumerate(NOTES):
        kept.add(lasting_id(bundle, NEURONS[at % 3]), reviewer="=ada" if at % 2 else "bo",
                 verdict=("valid", "spurious", "withdrawn")[at % 3], note=note,
                 confidence=("low", "")[at % 2], reason=("", "images")[at % 2], label="=x",
                 given_at=datetime(2026, 1, 31, 12, at, 5, 123456, UTC))  # fmt: skip
    return kept


def exported(capsys, bundle: Bundle, file_format: str, path: Path) -> Path:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(["reviews", str(bundle.path), "--format", file_format])
    assert not stop.value.code
    path.write_text(capsys.readouterr().out, "utf-8", newline="")
    return path


@pytest.mark.parametrize("file_format", ["csv", "json"])
def test_what_was_exported_comes_back_with_reviewer_note_and_time(
    bundle, theirs, tmp_path, capsys, file_format
):
    source = exported(capsys, bundle, file_format, tmp_path / f"theirs.{file_format}")
    ours = open_reviews(Place(file=tmp_path / "ours.sqlite"))
    found = import_reviews(source, bundle, ours)
    assert (found.n_added, found.n_known, found.n_older) == (len(NOTES), 0, 0)
    strip = [{k: v for k, v in row.items() if k != "note"} for row in as_rows(bundle, ours)]
    assert strip == [
        {k: v for k, v in row.items() if k != "note"} for row in as_rows(bundle, theirs)
    ]
    assert [r["note"] for r in as_rows(bundle, ours)] == [
        r["note"] for r in as_rows(bundle, theirs)
    ]
    assert ours.check().problems == ()
    again = import_reviews(source, bundle, ours)
    assert (again.n_added, again.n_known) == (0, len(NOTES))
    assert ours.check().n_entries == len(NOTES)


@pytest.mark.parametrize("file_format", ["csv", "json"])
def test_a_file_carries_verdicts_from_sqlite_to_postgresql_and_back(
    bundle, theirs, tmp_path, monkeypatch, capsys, postgres, file_format
):
    places = {"there": postgres.empty_database(), "back": str(tmp_path / "back.sqlite")}
    first = exported(capsys, bundle, file_format, tmp_path / f"first.{file_format}")
    source = first
    for name, place in places.items():
        monkeypatch.setenv("CSP_REVIEWS", place)
        for n_added in (len(NOTES), 0):  # the same file again changes nothing
            with pytest.raises(SystemExit) as stop:
                main(["reviews", str(bundle.path), "--import", str(source)])
            assert not stop.value.code
            assert f"{n_added} added" in capsys.readouterr().out
        source = exported(capsys, bundle, file_format, tmp_path / f"{name}.{file_format}")
        assert source.read_bytes() == first.read_bytes()
        with pytest.raises(SystemExit) as stop:
            main(["reviews", str(bundle.path), "--verify"])
        assert not stop.value.code
        assert (
            f"{len(NOTES)} entries, each of which fits the one before it" in capsys.readouterr().out
        )


@pytest.mark.skipif(shutil.which("pg_dump") is None, reason="there is no pg_dump on the path")
def test_a_dump_of_postgresql_comes_back_with_its_chain_and_its_triggers(
    bundle, theirs, tmp_path, capsys, postgres
):
    """As docs/team.md does it: ``pg_dump``, then ``psql`` into an empty database."""
    source = exported(capsys, bundle, "json", tmp_path / "theirs.json")
    url, other = postgres.empty_database(), postgres.empty_database()
    import_reviews(source, bundle, open_reviews(Place(url)))
    plain = [each.replace("+psycopg", "") for each in (url, other)]
    dump = subprocess.run(["pg_dump", plain[0]], capture_output=True, check=True).stdout
    psql = ["psql", "--quiet", "--set=ON_ERROR_STOP=1", plain[1]]
    subprocess.run(psql, input=dump, capture_output=True, check=True)
    kept, back = open_reviews(Place(url)), open_reviews(Place(other))
    assert as_rows(bundle, back) == as_rows(bundle, kept)
    assert back.check() == kept.check()
    assert back.check(kept.check().head).problems == ()
    back.add(lasting_id(bundle, NEURONS[0]), reviewer="cy", verdict="mixed")
    assert back.check(kept.check().head).n_entries == len(NOTES) + 1


def test_an_older_word_never_becomes_the_last(bundle, theirs, tmp_path, capsys):
    source = exported(capsys, bundle, "json", tmp_path / "theirs.json")
    ours = open_reviews(Place(file=tmp_path / "ours.sqlite"))
    ours.add(lasting_id(bundle, NEURONS[0]), reviewer="bo", verdict="mixed")
    found = import_reviews(source, bundle, ours)
    assert (found.n_added, found.n_older) == (len(NOTES) - 1, 1)
    last = [r for r in as_rows(bundle, ours) if r["is_latest"] and r["reviewer"] == "bo"]
    assert {r["neuron"]: r["verdict"] for r in last}[str(NEURONS[0])] == "mixed"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"verdict": "great"}, "choose one of"),
        ({"reviewer": " "}, "name of who"),
        ({"neuron": "small/first@mean/999"}, "no neuron of"),
        ({"neuron": "other/first@mean/0"}, "no neuron of"),
        ({"neuron": "nonsense"}, "Row 2"),
        ({"model": "f" * 64}, "another network"),
        ({"given_at": "yesterday"}, "no time"),
        ({"given_at": "2999-01-01T00:00:00Z"}, "no time"),
        ({"given_at": None}, "no given_at"),
        ({"confidence": "sure"}, "choose one of"),
        ({"note": "x" * 501}, "shorten"),
        ({"note": 7}, "no text"),
    ],
)
def test_one_bad_row_adds_nothing(bundle, theirs, tmp_path, change, words):
    rows = as_rows(bundle, theirs)
    rows[1] = {**rows[1], **change}
    (tmp_path / "bad.json").write_text(json.dumps(rows), "utf-8")
    ours = open_reviews(Place(file=tmp_path / "ours.sqlite"))
    with pytest.raises(InputError, match=words):
        import_reviews(tmp_path / "bad.json", bundle, ours)
    assert ours.check().n_entries == 0


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"{", b"[1]", b"a,b\n1,2\n", b"[" * 90_000])
@pytest.mark.parametrize("name", ["x.json", "x.csv"])
def test_a_file_that_is_no_history_is_a_sentence(bundle, tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    ours = open_reviews(Place(file=tmp_path / "ours.sqlite"))
    try:
        found = import_reviews(tmp_path / name, bundle, ours)
    except InputError:
        return
    assert found.n_added == 0  # an empty table


def test_the_command_imports_and_tells_agreement(bundle, theirs, tmp_path, capsys, monkeypatch):
    source = exported(capsys, bundle, "csv", tmp_path / "theirs.csv")
    monkeypatch.setenv("CSP_REVIEWS", str(tmp_path / "new.sqlite"))
    for arguments, words, code in (
        (["--import", str(source)], "6 added, 0 were there already", 0),
        (["--import", str(source)], "0 added, 6 were there already", 0),
        (["--agreement"], "bo judged", 0),
        (["--agreement", "--format", "json"], '"reviewers"', 0),
        (["--agreement", "--verify"], "one of them", 2),
        (["--import", str(tmp_path / "none.csv")], "cannot be read", 2),
    ):
        with pytest.raises(SystemExit) as stop:
            main(["reviews", str(bundle.path), *arguments])
        said = capsys.readouterr()
        assert (stop.value.code or 0) == code
        assert words in said.out + said.err
