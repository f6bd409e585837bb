"""Labels of other tools lack numbers; every page, export and answer shows them all the same."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from csp_engine.bundle import Bundle, verify
from csp_engine.cli import main
from csp_engine.exchange import export_labels, import_labels, label_rows
from csp_engine.exports.html import of_layers, write_folder
from csp_engine.http.answers import Answers
from csp_engine.views.memo import Memo
from tests.pages.conftest import html, open_page

TABLES = {
    "bare": "layer,unit,description\nfirst,2,red\nfirst,3,blue\nsecond,0,null\n",
    "scored": "layer,unit,description,score\nfirst,2,red,0.5\nfirst,2,blue,\nfirst,3,grey,-1\n",
    "partly": "layer,unit,description,score\nfirst,2,red,\nfirst,2,blue,NaN\nsecond,1,x,1e30\n",
}
PAGES = ("overview", "search", "layer", "map", "compare", "neuron")
NOT_A_NUMBER = re.compile(r"(?<![\w])[-+−]?(nan|inf)(?![\w])", re.I)


@pytest.fixture(scope="module")
def imported(small_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small bundle with labels of every kind, its own ones exported and imported among them."""
    folder = tmp_path_factory.mktemp("imported")
    path = Path(shutil.copytree(small_bundle, folder / "imported.csp"))
    for name, text in TABLES.items():
        (folder / f"{name}.csv").write_text(text, "utf-8")
        import_labels(folder / f"{name}.csv", path)
    for ending in ("csv", "jsonl", "parquet"):
        own = folder / f"own_{ending}.{ending}"
        export_labels(Bundle.open(path), own, methods=["csp"], n_labels=3)
        import_labels(own, path)
    return path


def test_what_was_exported_comes_back_the_same_in_every_format(imported: Path):
    bundle = Bundle.open(imported)
    kept = ["neuron", "rank", "description"]
    own = label_rows(bundle, methods=["csp"], n_labels=3)
    for ending in ("csv", "jsonl", "parquet"):
        again = label_rows(bundle, methods=[f"imported-own_{ending}"], n_labels=9)
        assert again[kept].to_numpy().tolist() == own[kept].to_numpy().tolist()
        assert np.array_equal(again["score"], own["score"])
    assert verify(bundle) == []


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("name", [*TABLES, "own_csv"])
def test_no_page_raises_or_shows_what_is_no_number(serve, imported, page, name):
    serve(imported)
    where = {"layer": "first@mean", "unit": "2"} if page == "neuron" else {}
    at = open_page(page, method=f"imported-{name}", **where)
    assert not at.exception
    problems = re.findall(r"csp-problem[^>]*>([^<]*)", html(at))
    # A layer without imported labels has no vectors of that method, and the page says so.
    assert all("has no concept vectors" in each for each in problems)
    assert page == "compare" or not problems
    assert not NOT_A_NUMBER.search(html(at))


def test_the_neuron_page_names_the_table_and_claims_nothing(serve, imported):
    serve(imported)
    at = open_page("neuron", layer="first@mean", unit="2", method="imported-bare")
    said = re.sub(r"<[^>]+>", "", html(at))
    assert "Imported from bare.csv: how reliable its labels are was not tested." in said
    assert "not judged" in said
    assert "is not reliable" not in said.split("Candidate labels")[0]
    assert re.search(r"<h1[^>]*>red</h1>", html(at))


@pytest.mark.slow
def test_the_exported_pages_hold_no_nan_and_the_same_sentence(imported, tmp_path):
    bundle = Bundle.open(imported)
    write_folder(bundle, of_layers(bundle), tmp_path / "pages")
    pages = list((tmp_path / "pages").rglob("*.html"))
    assert len(pages) > bundle.n_units("small", "first@mean")
    for page in pages:
        text = page.read_text("utf-8")
        visible = re.sub(r"<[^>]+>", " ", text.split("<body", 1)[1])
        assert not NOT_A_NUMBER.search(visible), page
        assert "width: nan" not in text
    (two,) = (tmp_path / "pages").glob("neurons/1-*/2.html")
    assert "Imported from bare.csv" in two.read_text("utf-8")


def test_hovering_over_a_neuron_is_valid_json(imported):
    bundle = Bundle.open(imported)
    answers = Answers(lambda name: bundle, Memo(), lambda params: "")
    for name in TABLES:
        body = answers.card("imported", bundle.digest[:16], f"imported-{name}", "0-2").body
        held = json.loads(body, parse_constant=lambda text: pytest.fail(text))
        assert held["title"] == "red"
        assert "–" not in held["facts"]


@pytest.mark.slow
def test_every_command_reads_it(imported, tmp_path, capsys):
    every = [["info", str(imported)], ["info", str(imported), "--json"], ["verify", str(imported)]]
    for ending in ("csv", "jsonl", "parquet"):
        every.append(["export", str(imported), str(tmp_path / f"all.{ending}"), "-n", "5"])
    for args in every:
        with pytest.raises(SystemExit) as ended:
            main(args)
        assert not ended.value.code
    for line in (tmp_path / "all.jsonl").read_text("utf-8").splitlines():
        json.loads(line, parse_constant=lambda text: pytest.fail(text))
    capsys.readouterr()
