"""Verdicts on the pages: given, shown, narrowed by, exported; and where none can be given."""

from __future__ import annotations

import csv
import getpass
import html as html_text
import io
import json
import re
import sqlite3
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from csp_engine.bundle import Bundle
from csp_engine.cli import main
from csp_engine.reviews import Place, Review, Reviews, lasting_id, open_reviews
from csp_engine.types import NeuronRef
from csp_engine.views import lists
from csp_engine.views.address import Narrowing, read_view
from csp_engine.views.audit.queue import queue
from csp_engine.views.table.rows import csv_bytes, neuron_table
from csp_engine.words.own_concepts import from_link
from pages.ui.neuron import verdict
from pages.ui.shell import reviewer as reviewing
from pages.ui.shell import store
from tests.pages.conftest import component, html, open_page, rewrite_manifest
from tests.pages.test_access import ADA, AUTH, visited
from tests.worlds.hostile_world import HOSTILE

LAYER = "second@mean"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serve, small_bundle) -> Path:
    """A database of its own, not there yet, for the small bundle."""
    serve(small_bundle)
    monkeypatch.setenv("CSP_REVIEWS", str(tmp_path / "reviews.sqlite"))
    return tmp_path / "reviews.sqlite"


def database(file: Path) -> Reviews:
    return open_reviews(Place(file=file))


def said_of(file: Path, bundle: Path, unit: int) -> list[Review]:
    neuron = lasting_id(Bundle.open(bundle), NeuronRef("small", LAYER, unit))
    return database(file).history(neuron)


def say(file: Path, path: Path, unit: int, verdict: str, reviewer: str = "bob", **more) -> None:
    opened = Bundle.open(path)
    neuron = lasting_id(opened, NeuronRef("small", LAYER, unit))
    given = {"bundle": opened.digest, **more}
    database(file).add(neuron, reviewer=reviewer, verdict=verdict, **given)


def own(widgets, name: str):
    """The widget of this name; its key also names the neuron that it is of."""
    (found,) = [each for each in widgets if (each.key or "").startswith(f"{name} ")]
    return found


def choice(at: AppTest):
    return own(at.get("button_group"), verdict.CHOICE)


def neuron_page(unit: int = 5, **params: str) -> AppTest:
    at = open_page("neuron", layer=LAYER, unit=str(unit), **params)
    assert not at.exception
    return at


def test_a_verdict_is_saved_with_what_was_seen_and_changed_and_taken_back(file, small_bundle):
    at = neuron_page()
    assert choice(at).value is None
    assert "Will be saved as ada." in html(at)
    assert not file.exists()
    choice(at).set_value("spurious").run()
    bundle = Bundle.open(small_bundle)
    (saved,) = said_of(file, small_bundle, 5)
    row = neuron_table(bundle, store.MEMO, "csp").query("layer == @LAYER and unit == 5").iloc[0]
    assert (saved.reviewer, saved.verdict, saved.note) == ("ada", "spurious", "")
    assert (saved.bundle, saved.method) == (bundle.digest, "csp")
    assert saved.label == (row["label"] if row["reliable"] else "")
    assert "Saved as ada, " in html(at)
    own(at.text_input, verdict.NOTE).set_value("a corner").run()
    again = neuron_page()
    assert choice(again).value == "spurious"
    assert own(again.text_input, verdict.NOTE).value == "a corner"
    # A click that ends the typing of a note as well: one row.
    own(again.text_input, verdict.NOTE).set_value("two corners")
    choice(again).set_value("mixed").run()
    choice(again).set_value(None).run()
    rows = said_of(file, small_bundle, 5)
    assert [(each.verdict, each.note) for each in rows[::-1]] == [
        ("spurious", ""), ("spurious", "a corner"), ("mixed", "two corners"), ("withdrawn", ""),
    ]  # fmt: skip
    assert choice(again).value is None
    assert html(again).count("<li><span class='csp-badge '>") == 4  # the history, unfolded


def test_confidence_and_reason_are_kept_with_the_verdict(file, small_bundle):
    at = neuron_page()
    own(at.selectbox, verdict.CONFIDENCE).set_value("low").run()
    assert not file.exists()  # they wait for the verdict, as a note does
    choice(at).set_value("valid").run()
    own(at.selectbox, verdict.REASON).set_value("contrast images").run()
    rows = said_of(file, small_bundle, 5)[::-1]
    assert [(each.confidence, each.reason) for each in rows] == [
        ("low", ""), ("low", "contrast images")]  # fmt: skip
    again = neuron_page()
    assert own(again.selectbox, verdict.CONFIDENCE).value == "low"
    assert own(again.selectbox, verdict.REASON).value == "contrast images"
    assert "low confidence, because of contrast images" in html(again)
    again.button(key="next").click().run()
    assert own(again.selectbox, verdict.CONFIDENCE).value is None


def test_without_sign_in_a_reviewer_types_a_name_and_no_account_stands_in(
    file, small_bundle, monkeypatch
):
    monkeypatch.delenv("CSP_REVIEWER")
    at = neuron_page()
    assert getpass.getuser() not in html(at)
    assert "Write your name first" in html(at)
    assert choice(at).disabled
    at.text_input(key=verdict.NAME).set_value("  Grace ").run()
    choice(at).set_value("valid").run()
    assert [each.reviewer for each in said_of(file, small_bundle, 5)] == ["Grace"]
    at.button(key="next").click().run()
    assert at.text_input(key=verdict.NAME).value == "Grace"
    assert "Will be saved as Grace." in html(at)


def test_blind_shows_images_and_ones_own_verdict_alone(file, small_bundle):
    say(file, small_bundle, 5, "spurious", "bob", note="a secret note")
    plain = html(neuron_page())
    assert "a secret note" in plain
    at = neuron_page(blind="yes")
    shown = html(at)
    bundle = Bundle.open(small_bundle)
    row = neuron_table(bundle, store.MEMO, "csp").query("layer == @LAYER and unit == 5").iloc[0]
    assert row["label"] in plain
    for text in (row["label"], "a secret note", "bob", "Candidate labels", "Nearest neurons"):
        assert text not in shown
    choice(at).set_value("valid").run()
    mine = said_of(file, small_bundle, 5)[0]
    assert (mine.reviewer, mine.verdict, mine.label, mine.method) == ("ada", "valid", "", "")
    assert "bob" not in html(at)
    at.toggle(key="_blind").set_value(False).run()
    assert row["label"] in html(at)


@pytest.mark.slow
def test_the_queue_of_suspects_goes_on_to_what_i_have_not_judged(
    tmp_path, monkeypatch, serve, shipped_bundle
):
    serve(shipped_bundle)
    monkeypatch.setenv("CSP_REVIEWS", str(tmp_path / "reviews.sqlite"))
    rows = queue(Bundle.open(shipped_bundle), store.MEMO, "biased", from_link(""))
    audit = html(open_page("audit", model="biased"))
    assert "Judge them one by one" in audit
    first = dict(zip(rows.columns, rows.iloc[0], strict=True))
    assert f"unit={first['unit']}&amp;" in audit or f"unit={first['unit']}" in audit
    at = open_page("neuron", model="biased", layer=first["layer"], unit=str(first["unit"]),
                   queue="suspects")  # fmt: skip
    assert f"1 of {len(rows)} in the queue" in html(at)
    choice(at).set_value("spurious").run()
    at.button(key="next").click().run()
    second = rows.iloc[1]
    assert f"{second['layer']} / {second['unit']} " in html(at)
    assert f"1 of {len(rows) - 1} in the queue" in html(at)
    # Another reviewer has the whole queue.
    monkeypatch.setenv("CSP_REVIEWER", "bob")
    other = open_page("neuron", model="biased", layer=first["layer"], unit=str(first["unit"]),
                      queue="suspects")  # fmt: skip
    assert f"1 of {len(rows)} in the queue" in html(other)
    choice(other).set_value("valid").run()
    judged = html(open_page("audit", model="biased"))
    assert "ada and bob judged 1 of the same neurons, 0 of them alike" in judged
    assert "On 1 neuron, reviewers differ" in judged
    disputed = open_page("neuron", model="biased", layer=first["layer"],
                         unit=str(first["unit"]), queue="disputed")  # fmt: skip
    assert "1 of 1 in the queue of neurons on which reviewers differ" in html(disputed)
    blind = html(open_page("audit", model="biased", blind="yes"))
    assert "reviewers differ" not in blind
    assert f"{second['layer']}/{second['unit']}</a>" in blind
    for text in ("Which neurons carry it", "Which neurons respond to it", "truly responds to",
                 "uncertainty</th>", "label</th>", "held at 0", "Download"):  # fmt: skip
        assert text in audit or text == "Download"
        assert text not in blind, text


def test_groups_are_not_shown_to_the_blind_for_they_are_named(file, small_bundle):
    seeing = neuron_page(show="groups")
    assert "split in two" in html(seeing)
    (shows,) = [each for each in seeing.get("button_group") if each.key == "_show"]
    assert shows.value == "groups"
    assert "Groups" in shows.options
    blind = neuron_page(show="groups", blind="yes")
    for text in ("split in two", "set apart by", "Polysemanticity"):
        assert text not in html(blind)
    (shows,) = [each for each in blind.get("button_group") if each.key == "_show"]
    assert shows.value == "contrast"
    assert "Groups" not in shows.options


def test_a_note_waits_for_its_verdict_and_stays_with_its_neuron(file, small_bundle):
    at = neuron_page()
    own(at.text_input, verdict.NOTE).set_value("  stripes ").run()
    assert not file.exists()
    choice(at).set_value("valid").run()
    (saved,) = said_of(file, small_bundle, 5)
    assert (saved.verdict, saved.note) == ("valid", "stripes")
    at.button(key="next").click().run()
    assert own(at.text_input, verdict.NOTE).value == ""
    assert choice(at).value is None


def test_texts_of_others_are_text(file, small_bundle, monkeypatch):
    for text in HOSTILE:
        say(file, small_bundle, 5, "valid", text, note=text)
    monkeypatch.setenv("CSP_REVIEWER", HOSTILE[0])
    shown = html(neuron_page())
    for text in HOSTILE:
        assert html_text.escape(text.replace("\u202e", "")) in shown
    assert "<script" not in shown
    assert "<img" not in shown


def test_after_a_new_build_a_verdict_is_still_there_and_marked(file, copied, serve):
    serve(copied)
    say(file, copied, 5, "spurious", "ada")
    say(file, copied, 5, "valid", "bob")
    assert "build" not in html(neuron_page()).partition("csp-verdict")[2].partition("<h2")[0]
    rewrite_manifest(copied, updated="2099-01-01T00:00:00+00:00")
    at = neuron_page()
    assert choice(at).value == "spurious"
    assert html(at).count(", on an earlier build") == 2
    choice(at).set_value("mixed").run()
    assert html(at).partition("<details")[0].count("on an earlier build") == 0


def test_a_server_that_only_shows_shows_verdicts_and_takes_none(file, small_bundle, monkeypatch):
    monkeypatch.setenv("CSP_READ_ONLY", "1")
    nothing = neuron_page()
    assert "Verdict" not in html(nothing)
    say(file, small_bundle, 5, "spurious", note="a corner")
    at = neuron_page()
    assert "This server only shows verdicts." in html(at)
    assert "a corner" in html(at)
    keys = [each.key for each in at.get("button_group")]
    assert not [key for key in keys if key.startswith(f"{verdict.CHOICE} ")]
    assert "1" not in [each["key"] for each in component(at, "csp_keys")["keys"]]


def test_where_nothing_can_be_written_or_read_a_sentence_says_so(
    file, small_bundle, monkeypatch, tmp_path
):
    file.write_bytes(b"no database " * 100)
    at = neuron_page()
    assert "file is not a database" in html(at)
    assert "Candidate labels" in html(at)
    rows = open_page("layer", review="valid")
    assert "file is not a database" in html(rows)
    assert len(open_page("layer").dataframe[0].value) == 20
    monkeypatch.setenv("CSP_REVIEWS", str(file / "reviews.sqlite"))
    at = neuron_page()
    assert f"Verdicts cannot be recorded: {file} cannot be written to." in html(at)
    keys = [each.key for each in at.get("button_group")]
    assert not [key for key in keys if key.startswith(f"{verdict.CHOICE} ")]


def test_what_fails_while_saving_is_said_and_not_shown_as_saved(file, small_bundle):
    say(file, small_bundle, 5, "valid")
    at = neuron_page()
    connection = sqlite3.connect(file)
    connection.execute("update alembic_version set version_num = '0999'")
    connection.commit()
    connection.close()
    choice(at).set_value("spurious").run()
    assert "newer version" in html(at)
    assert not at.exception


def test_the_account_is_the_reviewer(file, small_bundle, monkeypatch):
    from pages.ui.shell import access

    at = visited({"auth": AUTH}, ADA)
    at.query_params["layer"], at.query_params["unit"] = LAYER, "5"
    at.switch_page(str(Path(access.__file__).parents[2] / "neuron.py")).run()
    choice(at).set_value("unclear").run()
    (saved,) = said_of(file, small_bundle, 5)
    assert saved.reviewer == "ada@example.org"


def test_table_search_and_overview_show_and_narrow_by_verdicts(file, small_bundle):
    at = open_page("layer", layer=LAYER, sort="layer")
    assert "review" not in at.dataframe[0].value
    assert "Review" not in [box.label for box in at.selectbox]
    for unit, given, reviewer in [
        (2, "valid", "ada"), (2, "valid", "bob"), (3, "valid", "ada"), (3, "spurious", "bob"),
        (4, "spurious", "ada"), (5, "mixed", "ada"), (5, "withdrawn", "ada"),
    ]:  # fmt: skip
        say(file, small_bundle, unit, given, reviewer)
    at = open_page("layer", layer=LAYER, sort="layer")
    found = at.dataframe[0].value["review"].astype(object)
    expected = {2: "valid", 3: "disagree", 4: "spurious"}
    assert found.where(found.notna(), None).tolist() == [expected.get(u) for u in range(12)]
    kept = {
        "reviewed": [2, 3, 4],
        "unreviewed": [0, 1, *range(5, 12)],
        "valid": [2],
        "disagree": [3],
    }
    at.selectbox(key="_review").select("reviewed").run()
    assert at.query_params["review"] == "reviewed"
    for review, units in kept.items():
        narrowed = open_page("layer", layer=LAYER, review=review, sort="layer").dataframe[0].value
        assert narrowed["unit"].tolist() == units
    cards = component(open_page("search", q="red", review="reviewed"), "csp_cards")["cards"]
    assert {card["id"] for card in cards} == {f"{LAYER} / {unit}" for unit in kept["reviewed"]}
    bundle = Bundle.open(small_bundle)
    view = read_view({"layer": LAYER}, "small", bundle)
    rows = lists.ordered(
        lists.searched(bundle, store.MEMO, view, None, reviewing.column(bundle)),
        view,
        Narrowing(sort="-review"),
    )
    text = csv_bytes(rows, ["review", "score"]).decode()
    written = [row["review"] for row in csv.DictReader(io.StringIO(text))]
    assert written == ["valid", "spurious", "disagree", *[""] * 9]
    overview = html(open_page("overview"))
    assert re.findall(r"data-heading='reviewed'>(\d+)<", overview) == ["0", "3"]


def test_next_goes_through_what_is_not_reviewed_yet(file, small_bundle):
    at = neuron_page(5, review="unreviewed", scope="layer")
    assert "6 of 12 in" in html(at)
    choice(at).set_value("valid").run()
    at.run()
    assert "not in a table with filters" in html(at)
    at.button(key="next").click().run()
    assert at.query_params["unit"] == "6"
    at.button(key="previous").click().run()
    assert at.query_params["unit"] == "4"  # 5 has left the list


def test_the_command_prints_the_whole_history(file, small_bundle, capsys):
    for given in ("spurious", "withdrawn"):
        say(file, small_bundle, 5, given, note='a "corner", <b>', bundle="0" * 64)
    say(file, small_bundle, 6, "valid")
    database(file).add(NeuronRef("0" * 64, LAYER, 5), reviewer="eve", verdict="valid")
    printed = {}
    for kind in ("csv", "json"):
        with pytest.raises(SystemExit) as stop:
            main(["reviews", str(small_bundle), "--format", kind])
        assert stop.value.code == 0
        printed[kind] = capsys.readouterr().out
    rows = json.loads(printed["json"])
    assert [(row["neuron"], row["verdict"], row["is_latest"]) for row in rows] == [
        (f"small/{LAYER}/5", "spurious", False),
        (f"small/{LAYER}/5", "withdrawn", True),
        (f"small/{LAYER}/6", "valid", True),
    ]
    assert [row["same_bundle"] for row in rows] == [False, False, True]
    read = list(csv.DictReader(io.StringIO(printed["csv"])))
    assert read == [{name: str(value) for name, value in row.items()} for row in rows]
    with pytest.raises(SystemExit) as stop:
        main(["reviews", str(small_bundle), "--verify", "--format", "json"])
    assert stop.value.code == 0
    checked = json.loads(capsys.readouterr().out)
    assert (checked["entries"], checked["problems"]) == (4, [])
    for head, code in ((checked["head"], 0), ("0" * 64, 1), ("0" * 63, 2)):
        with pytest.raises(SystemExit) as stop:
            main(["reviews", str(small_bundle), "--verify", "--head", head])
        assert stop.value.code == code
