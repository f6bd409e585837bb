"""Reports: every figure is that of the views, and an altered byte, file or name never passes."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from csp_engine import pipeline
from csp_engine.bundle import Bundle
from csp_engine.cli import main
from csp_engine.errors import InputError, MissingModelError
from csp_engine.exports import report
from csp_engine.exports.report import headings, keys
from csp_engine.exports.report.document import Document, Table
from csp_engine.exports.report.seal import MARKS, sealed, split
from csp_engine.hashing import sha256_file
from csp_engine.reviews import Place, lasting_id, open_reviews
from csp_engine.types import NeuronRef
from csp_engine.views.audit import associations, factors, fixes, interventions
from csp_engine.views.audit.figures import figure
from csp_engine.views.case.audit import melanoma
from csp_engine.views.memo import Memo
from csp_engine.views.neuron import looking
from csp_engine.words.concepts import SHIPPED
from tests.worlds import toys
from tests.worlds.everything import everything

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "assets" / "demo" / "dermoscopy.csp"
NEURON = NeuronRef("small", "first@mean", 1)
HOSTILE = (
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "--> <b>out</b> <!--",
    "=HYPERLINK(\"http://evil\")",
    "#panic(\"typst\") #import \"/etc/passwd\" $x$ *b* <label> @ref",
    "\u202egnp.exe\u2066 turned",
    "{{ 7 * 7 }} {% raw %} ${7*7}",
    "a\nseal,forged,,,,,,,,,,\n%seal {}",
    "\x1b[31mred\x07 \x00 zero",
    "漢字 العربية 🦠 \ud800 Ω",
)  # fmt: skip


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    return everything(tmp_path_factory.mktemp("report"))


@pytest.fixture
def verdicts(bundle, monkeypatch, tmp_path):
    """A database with two verdicts, named as the command line finds it."""
    place = Place(file=tmp_path / "reviews.sqlite")
    monkeypatch.setenv("CSP_REVIEWS", str(place.file))
    database = open_reviews(place)
    neuron = lasting_id(bundle, NEURON)
    for reviewer, verdict in (("ada", "valid"), ("bo", "spurious")):
        database.add(neuron, reviewer=reviewer, verdict=verdict, bundle=bundle.digest)
    return database


def made(bundle: Bundle, reviews=None, order: str = "audit") -> Document:
    return report.document_of(bundle, report.options_for(bundle, headings=order), reviews)


def sections(document: Document) -> dict[str, list[dict]]:
    parts = document.as_json()["parts"]
    return {each["name"]: each["blocks"] for part in parts for each in part["sections"]}


def written(tmp_path: Path, document: Document, file_format: str, key=None) -> Path:
    path = tmp_path / f"report.{file_format}"
    path.write_bytes(report.as_bytes(document, file_format, key))
    return path


def private_key(path: Path) -> tuple[Path, str]:
    key = Ed25519PrivateKey.generate()
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    path.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    raw = serialization.Encoding.Raw
    return path, key.public_key().public_bytes(raw, serialization.PublicFormat.Raw).hex()


# ------------------------------------------------------------------ what it says


@pytest.mark.slow
def test_every_figure_of_the_demo_is_that_of_the_page():
    bundle = Bundle.open(DEMO)
    found = sections(made(bundle))
    stored = bundle.intervention("biased")
    effects = {each.artefact: each for each in interventions.effects(stored)}
    table, *rest = found["effects"]
    assert [row[0]["text"] for row in table["rows"]] == list(effects)
    others = interventions.compared_models(bundle, "biased", stored)["retrained"]
    for row in table["rows"]:
        each = effects[row[0]["text"]]
        assert row[1] == {"text": each.effect.signed, "value": each.effect.value,
                          "low": each.effect.low, "high": each.effect.high,
                          "n": each.n_pairs}  # fmt: skip
        counts = (each.n_pairs, each.n_groups, each.n_called, each.n_lost, each.n_gained)
        assert tuple(cell["value"] for cell in row[4:9]) == counts
        assert row[9]["text"] == others[each.artefact].effect.signed
    told = [block["text"] for block in rest if block["type"] == "text"]
    assert told == [each.sentence("melanoma") for each in effects.values()]
    shown = [block for block in rest if block["type"] == "pictures"]
    assert [strip["figure"]["value"] for strip in shown[0]["strips"]] == [
        row["effect"] for row in interventions.pictures(stored, next(iter(effects.values())))
    ]
    patch = interventions.audited(bundle, "biased", "colour patch", "csp_plus")
    carriers = found["carriers"]
    assert interventions.carrier_sentence(patch, "melanoma") in carriers[0]["text"]
    suspects = next(b for b in carriers if "strongest carriers of" in b.get("caption", ""))
    assert [(row[0]["text"], row[1]["value"], row[5]["text"], row[6]["text"])
            for row in suspects["rows"]] == [
        (str(s.neuron), s.attribution, s.label.title, s.truth) for s in patch.suspects
    ]  # fmt: skip
    for row, each in zip(suspects["rows"], patch.suspects, strict=True):
        assert row[3] == {"text": each.confirmed.fine, "value": each.confirmed.value,
                          "low": each.confirmed.low, "high": each.confirmed.high}  # fmt: skip
        assert (row[4]["text"], row[4]["value"]) == (each.moved.fine, each.moved.value)
    accuracy = bundle.performance("biased")
    right = next(b for b in found["model"] if "How often" in b["caption"])
    assert [row[1]["value"] for row in right["rows"][: len(accuracy)]] == pytest.approx(
        accuracy["accuracy"].tolist()
    )
    gone = " ".join(item for block in found["untested"] for item in block["items"])
    assert effects["hair"].sentence("melanoma") in gone  # not shown, with its power
    assert "naevus" in gone


@pytest.mark.slow
def test_suspects_by_association_are_those_of_the_page():
    bundle, memo = Bundle.open(DEMO), Memo()
    blocks = sections(made(bundle))["association"]
    concepts = melanoma(memo)
    layer = associations.usual_layer(bundle, "biased", "ruler", "csp_plus")
    found = associations.look(bundle, memo, "biased", layer, "ruler", "csp_plus", concepts)
    told = [block["text"] for block in blocks if block["type"] == "text"]
    assert any(found.sentence() in text for text in told)
    for name in associations.layers_with(bundle, "biased"):
        (table,) = [b for b in blocks if b.get("caption", "").startswith(f"{name}: what was")]
        rows = associations.sought_in(bundle, "biased", name, concepts)
        assert [row[4]["text"] for row in table["rows"]] == [each.best.words for each in rows]
        assert [row[3].get("value") for row in table["rows"]] == [
            each.n_suspects if each.is_tried else None for each in rows
        ]
    table = next(b for b in blocks if b.get("caption", "").startswith("colour patch: suspects"))
    layer = table["caption"].rpartition(" in ")[2]
    found = associations.look(bundle, memo, "biased", layer, "colour patch", "csp_plus", concepts)
    assert [[row[0]["text"], row[1]["text"], row[3]["value"], row[6]["text"]]
            for row in table["rows"]] == [
        [str(s.neuron), s.auroc.words, s.q_suspect, s.truth] for s in found.suspects[:20]
    ]  # fmt: skip


@pytest.mark.slow
def test_fixes_are_those_of_the_page():
    bundle, memo = Bundle.open(DEMO), Memo()
    blocks = sections(made(bundle))["fix"]
    told = [block["text"] for block in blocks if block["type"] == "text"]
    tables = [block for block in blocks if block["type"] == "table"]
    names = bundle.fixes("biased")
    assert len(told) == len(tables) == len(names) > 0
    for name, text, table in zip(names, told, tables, strict=True):
        found = fixes.kept(bundle, memo, "biased", name)
        for said in (found.sentence, found.verdict, found.details, found.gap_sentence):
            assert said in text
        for row, each in zip(table["rows"], found.slices, strict=True):
            assert [cell["text"] for cell in row[:1] + row[3:4] + row[6:9]] == [
                each.name, each.found.change.signed, each.right.change.signed,
                f"{each.ranked.before:.3f}", f"{each.ranked.after:.3f}",
            ]  # fmt: skip
            assert row[2]["value"] == each.found.after.share


def test_factors_are_those_of_the_page_and_their_pictures_those_of_the_bundle(bundle):
    document = made(bundle)
    blocks = sections(document)["factors"]
    (layer,) = factors.layers_factored(bundle, "small")
    found = factors.factored(bundle, "small", layer, "csp")
    stored = bundle.factors("small", layer)
    assert blocks[0]["text"] == found.sentence
    assert len(blocks[1]["rows"]) == len(stored.factors) == 3
    for row, each, kept in zip(
        blocks[1]["rows"], found.factors, stored.factors.to_dict("records"), strict=True
    ):
        assert row[1]["text"] == each.gap.signed
        assert [cell.get("value") for cell in row[1:4]] == [
            kept["gap"],
            kept["wrong"],
            kept["right"],
        ]
        assert (row[4]["text"] == "yes") == kept["is_called"]
        turned = (each.turning.n_mended, each.turning.n_spoilt) if each.turning else (None, None)
        assert tuple(cell.get("value") for cell in row[5:7]) == turned
        assert row[8]["text"].startswith(str(each.neurons[0][0].unit) if each.neurons else "")
    shown = [
        p for b in blocks if b["type"] == "pictures" for s in b["strips"] for p in s["pictures"]
    ]
    assert [each["sha256"] for each in shown] == [
        hashlib.sha256(stored.thumbs[at]).hexdigest()
        for each in found.called for at in each.pictures
    ]  # fmt: skip
    assert "factors" in sections(made(bundle, order="annex-iv"))


@pytest.mark.slow
def test_the_factors_of_the_demo_stand_with_the_decisions_that_they_push():
    bundle = Bundle.open(DEMO)
    blocks = sections(made(bundle))["factors"]
    found = factors.factored(bundle, "biased", "layer2@max", "csp_plus")
    assert blocks[0]["text"] == found.sentence
    (pictures,) = [b for b in blocks if b["type"] == "pictures"]
    assert [len(s["pictures"]) for s in pictures["strips"]] == [
        len(f.pictures) for f in found.called
    ]
    assert pictures["strips"][0]["pictures"][0]["words"].startswith("called ")


@pytest.mark.slow
def test_maps_and_their_checks_are_those_of_the_pages():
    bundle = Bundle.open(DEMO)
    found = sections(made(bundle))
    tables = [block for block in found["maps"] if block["type"] == "table"]
    told = " ".join(block["text"] for block in found["maps"] if block["type"] == "text")
    layers = [x for x in bundle.layers("biased") if looking.checks_of(bundle, "biased", x)]
    assert [table["caption"] for table in tables] == [f"{x}: where maps point" for x in layers]
    verdicts = set()
    for layer, table in zip(layers, tables, strict=True):
        checks = looking.checks_of(bundle, "biased", layer)
        for each, row in zip(checks, table["rows"], strict=True):
            assert row[0]["text"] == f"{each.name}, {each.artefact or 'all things'}"
            assert (row[1]["value"], row[1]["n"]) == (each.rate.value, each.n_photographs)
            assert (row[1]["low"], row[1]["high"]) == (each.rate.low, each.rate.high)
            assert [cell["value"] for cell in row[3:6]] == [
                each.against[name].control.value for name in looking.CONTROLS
            ]
            assert (row[-1]["text"] == "yes") == each.is_good
            verdicts.add(each.is_good)
            if not each.artefact:
                assert each.figures in told
                assert each.verdict in told
    assert verdicts == {True, False}
    asked = {row[0]["text"]: row[1]["text"] for row in found["checklist"][0]["rows"]}
    assert asked["Is it measured how well maps find a place?"].startswith(f"yes, in {layers[0]}")


@pytest.mark.slow
def test_an_effect_that_is_withheld_is_in_no_form(bundle, tmp_path):
    home = Path(shutil.copytree(bundle.path, tmp_path / "withheld.csp"))
    gates = toys.open_gate()
    (name,) = gates
    gates[name] = dataclasses.replace(gates[name], why="nobody has seen a real one")
    target = toys.target(["first", "last"])
    pipeline.add_interventions(home, target, toys.CornerPairs(), "red", gates=gates, n_random=2)
    document = made(Bundle.open(home))
    found = sections(document)
    stored = Bundle.open(home).intervention("small")
    (effect,) = interventions.effects(stored)
    assert effect.is_withheld
    measured = figure(stored.effects.iloc[0].to_dict(), "effect")
    assert measured.is_away_from_zero
    (row,) = found["effects"][0]["rows"]
    assert row[1] == {"text": "withheld"}
    assert "carriers" not in found
    (pictures,) = [each for each in found["effects"] if each["type"] == "pictures"]
    assert "Marked" not in pictures["rule"]  # nor what was decided of any version
    for strip in pictures["strips"]:
        assert strip["figure"] == {"text": "withheld"}
        assert not any(each["is_marked"] for each in strip["pictures"])
    for file_format in ("json", "csv", "html"):
        content = report.as_bytes(document, file_format).decode()
        assert "nobody has seen a real one" in content
        assert measured.signed not in content
        assert repr(measured.value) not in content


def test_the_same_figures_are_in_json_csv_and_html(bundle, verdicts):
    document = made(bundle, verdicts)
    content, _ = split(report.as_bytes(document, "json"), "json")
    assert json.loads(content + b"}") == document.as_json()
    assert json.loads(report.as_bytes(document, "json"))["seal"]["bundle"] == bundle.digest
    rows = list(csv.DictReader(io.StringIO(report.as_bytes(document, "csv").decode())))
    values = [float(row["value"]) for row in rows if row["value"]]
    cells = [
        cell["value"]
        for blocks in sections(document).values()
        for block in blocks
        for cell in (
            [c for row in block.get("rows", []) for c in row[1:]]
            + [strip["figure"] for strip in block.get("strips", [])]
        )
        if "value" in cell
    ]
    assert values == cells
    page = report.as_bytes(document, "html").decode()
    for block in document.blocks():
        if isinstance(block, Table):
            for row in block.rows:
                for cell in row:
                    assert f"<bdi>{cell.text}</bdi>" in page or "&" in page
    assert rows[-1]["section"] == "seal"


def test_every_number_names_a_file_with_its_true_hash(bundle, verdicts):
    document = made(bundle, verdicts)
    for block in document.blocks():
        said = json.dumps(dict(zip(block.__slots__, map(str, (getattr(block, n) for n in
                          block.__slots__ if n != "sources")), strict=False)))  # fmt: skip
        if re.search(r"\d", said):
            assert block.sources, said
    database = [each for each in document.sources if each.file.startswith("verdicts")]
    assert [each.sha256 for each in database] == [verdicts.check().head]
    (listed,) = [each for each in document.sources if each.file == "concept set"]
    assert listed.sha256 == sha256_file(SHIPPED["melanoma"])
    for source in set(document.sources) - {*database, listed}:
        assert sha256_file(bundle.path / source.file) == source.sha256


@pytest.mark.parametrize("order", headings.ORDERS)
def test_no_order_of_headings_loses_a_section(bundle, verdicts, order):
    own = sections(made(bundle, verdicts))
    assert sections(made(bundle, verdicts, order)).keys() == own.keys()
    assert {"question", "effects", "carriers", "verdicts", "untested", "limitations"} <= own.keys()


def test_a_section_that_no_heading_names_is_kept(bundle):
    found = made(bundle).parts[0].sections
    strange = [*found, type(found[0])("new", "New", "", found[0].blocks)]
    parts = headings.ordered(strange, "annex-iv")
    assert [each.name for part in parts if part.heading == headings.REST
            for each in part.sections] == ["new"]  # fmt: skip


def test_without_pairs_and_verdicts_it_says_so(tmp_path):
    pipeline.build(toys.request(tmp_path, tmp_path / "bare.csp"))
    bare = Bundle.open(tmp_path / "bare.csp")
    found = sections(made(bare))
    assert "effects" not in found
    assert "has no answer" in found["question"][0]["text"]
    said = " ".join(item for block in found["untested"] for item in block["items"])
    for word in ("added to photographs", "swapped", "recorded a verdict", "on test images"):
        assert word in said
    for file_format in report.FORMATS:
        report.as_bytes(made(bare), file_format)


def test_verdicts_are_those_of_the_network_up_to_the_last_entry(bundle, verdicts):
    document = made(bundle, verdicts)
    (said, table, agreed, differing, chain) = sections(document)["verdicts"]
    assert "1 neurons of small have a verdict, by 2 reviewers: ada (1), bo (1)" in said["text"]
    assert [[cell["text"] for cell in row[:3]] for row in table["rows"]] == [
        [str(NEURON), "ada", "valid"], [str(NEURON), "bo", "spurious"]]  # fmt: skip
    assert "judged 1 of the same neurons, 0 of them alike" in agreed["items"][0]
    assert differing["rows"][0][1]["text"] == "ada: valid; bo: spurious"
    assert verdicts.check().head in chain["items"][0]


def test_what_a_reviewer_saw_is_not_made_up(bundle, verdicts):
    """Whoever judged blind saw no label at all, whether the neuron has a reliable one or not."""
    neuron = lasting_id(bundle, NEURON)
    seen = {"method": "csp", "bundle": bundle.digest, "verdict": "valid"}
    verdicts.add(neuron, reviewer="cy", label="", **seen)
    verdicts.add(neuron, reviewer="di", label="red", **seen)
    table = sections(made(bundle, verdicts))["verdicts"][1]
    shown = {row[1]["text"]: row[-1]["text"] for row in table["rows"]}
    blind = "nothing: no label was shown"
    assert shown == {"ada": blind, "bo": blind, "cy": "no reliable label", "di": "red"}


# ------------------------------------------------------------------ bytes


@pytest.mark.slow
def test_two_runs_give_the_same_bytes_in_another_process_too(bundle, tmp_path):
    document = made(bundle)
    first = {name: report.as_bytes(document, name) for name in report.FORMATS}
    command = [sys.executable, "-m", "csp_engine", "report", str(bundle.path), "-o", str(tmp_path)]
    elsewhere = {**os.environ, "PYTHONHASHSEED": "77", "PYTHONPATH": str(ROOT), "TZ": "Asia/Tokyo",
                 "CSP_REVIEWS": str(tmp_path / "none.sqlite")}  # fmt: skip
    subprocess.run(command, check=True, env=elsewhere, capture_output=True)
    for name, content in first.items():
        assert (tmp_path / f"report.{name}").read_bytes() == content, name


@pytest.mark.parametrize("file_format", report.FORMATS)
@pytest.mark.parametrize("is_signed", [False, True], ids=["unsigned", "signed"])
def test_any_altered_byte_is_noticed(bundle, verdicts, tmp_path, file_format, is_signed):
    key, public = private_key(tmp_path / "key.pem")
    path = written(tmp_path, made(bundle, verdicts), file_format, key if is_signed else None)
    whole = path.read_bytes()
    given = public if is_signed else None
    assert report.verify(path, key=given).problems == ()
    rng = np.random.default_rng(0)
    start = whole.rfind(MARKS[file_format])
    places = [*rng.integers(0, start, 80).tolist(), *range(start, len(whole))]
    for at in places:
        altered = bytearray(whole)
        altered[at] ^= int(rng.integers(1, 256))
        path.write_bytes(altered)
        assert report.verify(path, key=given).problems, at
    for other in (whole[:-1], whole + b"\n", whole[:start], b"", whole[1:], whole + whole[start:]):
        path.write_bytes(other)
        assert report.verify(path, key=given).problems


def test_every_section_is_under_the_seal(bundle, verdicts, tmp_path):
    path = written(tmp_path, made(bundle, verdicts), "html")
    page = path.read_bytes()
    for name in sections(made(bundle, verdicts)):
        at = page.index(f'id="{name}"'.encode())
        path.write_bytes(page[: at + 4] + b"X" + page[at + 5 :])
        assert report.verify(path).problems, name


def test_a_signature_is_that_of_the_key_and_of_no_other(bundle, tmp_path):
    key, public = private_key(tmp_path / "key.pem")
    _, other = private_key(tmp_path / "other.pem")
    path = written(tmp_path, made(bundle), "json", key)
    assert report.verify(path).problems == ()
    assert "Signed with the key that was given." in report.verify(path, key=public).checked
    assert "another key" in report.verify(path, key=other).problems[0]
    # Whoever alters it and makes a new seal cannot sign it.
    content, seal = split(path.read_bytes(), "json")
    forged = sealed(content.replace(b"Audit", b"Other"), "json", seal)
    path.write_bytes(forged)
    assert report.verify(path).problems
    unsigned = written(tmp_path, made(bundle), "json")
    assert "not signed" in report.verify(unsigned, key=public).problems[0]


def test_keys_of_openssh_do_as_well_and_others_are_refused(bundle, tmp_path):
    private = Ed25519PrivateKey.generate()
    form = serialization.PrivateFormat.OpenSSH
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    key = tmp_path / "id_ed25519"
    key.write_bytes(private.private_bytes(pem, form, plain))
    ssh = serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    (tmp_path / "id_ed25519.pub").write_bytes(private.public_key().public_bytes(*ssh))
    path = written(tmp_path, made(bundle), "csv", key)
    found = report.verify(path, key=str(tmp_path / "id_ed25519.pub"))
    assert found.problems == ()
    locked = tmp_path / "locked.pem"
    locked.write_bytes(private.private_bytes(
        pem, serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret")))  # fmt: skip
    with pytest.raises(InputError, match="passphrase"):
        keys.sign(b"", locked)
    for content in (b"", b"no key", key.read_bytes()[:80], b"\x00" * 40):
        (tmp_path / "bad").write_bytes(content)
        with pytest.raises(InputError, match="openssl genpkey"):
            keys.sign(b"", tmp_path / "bad")
        with pytest.raises(InputError, match="openssl genpkey"):
            keys.public_key(str(tmp_path / "bad"))
    with pytest.raises(InputError, match="cannot be read"):
        keys.sign(b"", tmp_path / "none")


def test_without_the_package_signing_says_how_to_get_it(monkeypatch, tmp_path):
    key, _ = private_key(tmp_path / "key.pem")
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives", None)
    with pytest.raises(MissingModelError, match=r"csp-neuron-browser\[sign\]"):
        keys.sign(b"", key)


# ------------------------------------------------------------------ against the bundle


@pytest.mark.parametrize("file_format", report.FORMATS)
def test_made_again_from_the_bundle_it_is_the_same(bundle, verdicts, tmp_path, file_format):
    path = written(tmp_path, made(bundle, verdicts, "annex-iv"), file_format)
    # What was said later is not part of it.
    neuron = lasting_id(bundle, NEURON)
    verdicts.add(neuron, reviewer="ada", verdict="mixed", bundle=bundle.digest)
    found = report.verify(path, bundle.path)
    assert found.problems == ()
    assert "Made again from the bundle, it has the same bytes." in found.checked


def test_a_report_from_before_any_verdict_stays_the_same(bundle, verdicts, tmp_path):
    path = written(tmp_path, made(bundle), "json")
    assert report.verify(path, bundle.path).problems == ()


def test_a_figure_that_was_altered_and_sealed_again_is_named(bundle, tmp_path):
    document = made(bundle)
    path = written(tmp_path, document, "json")
    content, seal = split(path.read_bytes(), "json")
    said = json.loads(content + b"}")
    said["parts"][0]["sections"][3]["blocks"][0]["rows"][0][1]["value"] = -9.5
    forged = json.dumps(said, indent=1).removesuffix("}").rstrip("\n").encode()
    path.write_bytes(sealed(forged, "json", seal))
    assert report.verify(path).problems == ()  # nobody signed it
    problems = report.verify(path, bundle.path).problems
    assert "says something else" in problems[0]
    assert "rows[0][1].value is -9.5" in problems[1]


@pytest.mark.slow
def test_another_bundle_and_an_altered_file_are_noticed(bundle, tmp_path):
    path = written(tmp_path, made(bundle), "html")
    copy = Path(shutil.copytree(bundle.path, tmp_path / "copy.csp"))
    for file in copy.glob("intervention-*/thumbs.bin"):
        content = bytearray(file.read_bytes())
        content[-40] ^= 1
        file.write_bytes(content)
    with pytest.raises(Exception, match=r"thumbs\.bin|altered|damaged"):
        assert not report.verify(path, copy).problems
    pipeline.build(toys.request(tmp_path, tmp_path / "other.csp"))
    assert (
        "from a bundle with the sha256" in report.verify(path, tmp_path / "other.csp").problems[0]
    )


def test_a_concept_set_that_has_changed_since_is_named(bundle, tmp_path):
    document = dataclasses.replace(made(bundle), concepts="c" * 64)
    path = written(tmp_path, document, "csv")
    (problem,) = report.verify(path, bundle.path).problems
    assert f"a concept set of the sha256 {'c' * 64}" in problem
    assert "“melanoma” has" in problem


def test_missing_verdicts_are_asked_for(bundle, verdicts, tmp_path, monkeypatch):
    path = written(tmp_path, made(bundle, verdicts), "csv")
    monkeypatch.setenv("CSP_REVIEWS", str(tmp_path / "elsewhere.sqlite"))
    assert "CSP_REVIEWS" in report.verify(path, bundle.path).problems[0]


# ------------------------------------------------------------------ hostile texts


class Tags(HTMLParser):
    """Every tag of a page and every address in it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.addresses: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        for name, value in attrs:
            self.attributes.add(name)
            if name in ("src", "href"):
                self.addresses.add((value or "").partition(",")[0])

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_notes_and_names_are_text(text, tmp_path, tmp_path_factory, monkeypatch):
    home = hostile_bundle(tmp_path_factory, text)
    place = Place(file=tmp_path / "reviews.sqlite")
    database = open_reviews(place)
    database.add(
        lasting_id(home, NEURON), reviewer=f"x {text}", verdict="valid", note=text, label=text
    )
    document = made(home, database)
    page = Tags(report.as_bytes(document, "html").decode())
    assert page.tags <= {
        "html", "head", "meta", "title", "style", "body", "a", "header", "h1", "h2", "p", "nav",
        "ul", "li", "main", "section", "bdi", "div", "table", "caption", "thead", "tr", "th",
        "tbody", "td", "span", "figure", "img", "figcaption", "ol", "code", "footer",
    }  # fmt: skip
    assert not [name for name in page.attributes if name.startswith("on")]
    assert all(each.startswith(("#", "data:image/webp")) for each in page.addresses)
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00-\x08\x1b]", page.text)
    rows = list(csv.reader(io.StringIO(report.as_bytes(document, "csv").decode())))
    assert len({len(row) for row in rows}) == 1
    assert not [cell for row in rows for cell in row if cell.startswith(("=", "@", "\t"))]
    for file_format in report.FORMATS:
        path = written(tmp_path, document, file_format)
        assert report.verify(path).problems == ()


KEPT: dict[str, Bundle] = {}


def hostile_bundle(tmp_path_factory, text: str) -> Bundle:
    """A bundle whose artefact has a hostile name; names of files cannot hold all of them."""
    if "plain" not in KEPT:
        folder = tmp_path_factory.mktemp("plain")
        pipeline.build(toys.request(folder, folder / "plain.csp"))
        KEPT["plain"] = Bundle.open(folder / "plain.csp")
    path = tmp_path_factory.mktemp("hostile") / "plain.csp"
    shutil.copytree(KEPT["plain"].path, path)
    pairs = toys.CornerPairs()
    pairs.table["artefact"] = text.encode("utf-8", "replace").decode()
    pairs.table["file"] = [f"{text.encode('utf-8', 'replace').decode()} {at}"
                           for at in range(len(pairs.table))]  # fmt: skip
    target = toys.target()
    asked = tuple(tap for tap in target.taps if str(tap.id) in KEPT["plain"].layers("small"))
    pipeline.add_interventions(path, pipeline.Target(target.model, asked), pairs, "red", n_random=2)
    return Bundle.open(path)


# ------------------------------------------------------------------ the command


def told(capsys, *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(["report", *arguments])
    return (stop.value.code or 0, *capsys.readouterr())


@pytest.mark.slow
def test_the_command_writes_checks_and_refuses(bundle, verdicts, tmp_path, capsys):
    source, out = str(bundle.path), tmp_path / "out"
    key, public = private_key(tmp_path / "key.pem")
    code, said, _ = told(capsys, source, "--output", str(out), "--sign", str(key))
    assert code == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "report.csv", "report.html", "report.json", "report.pdf"]  # fmt: skip
    assert said.count("MB") == 4
    pdf = str(out / "report.pdf")
    code, said, _ = told(capsys, pdf, "--verify", "--bundle", source, "--key", public)
    assert code == 0
    assert "same bytes" in said
    (out / "report.pdf").write_bytes((out / "report.pdf").read_bytes().replace(b"Title", b"Titel"))
    code, said, _ = told(capsys, pdf, "--verify")
    assert code == 1
    assert "not to be trusted" in said
    notes = tmp_path / "notes.html"
    notes.write_text("mine", "utf-8")
    for arguments, words in (
        ((source,), "--output"),
        ((source, "-o", str(notes)), "no report that this program wrote"),
        ((source, "-o", "x.docx"), ".html"),
        ((source, "-o", str(out), "--formats", "pdf,docx"), "docx"),
        ((source, "-o", "x.pdf", "--formats", "csv"), "one file"),
        ((source, "-o", "x.pdf", "--model", "nobody"), "small"),
        ((source, "-o", "x.pdf", "--method", "guess"), "semanticlens"),
        ((source, "-o", "x.pdf", "--sign", str(notes)), "openssl"),
        ((source, "-o", "x.pdf", "--key", public), "--verify"),
        ((source, "--verify"), "folder"),
        ((pdf, "--verify", "--output", "x"), "--output"),
        ((str(tmp_path / "none.pdf"), "--verify"), "cannot be read"),
        ((str(key), "--verify"), "html"),
    ):
        code, _, said = told(capsys, *arguments)
        assert code == 2, arguments
        assert words in said, said
        assert said.count("\n") == 1
    assert notes.read_text("utf-8") == "mine"
    assert not Path("x.pdf").exists()
