"""A concept set of one's own: the file that is written, the link that carries it, the report."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import tomllib
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from csp_engine.bundle import Bundle
from csp_engine.cli import main
from csp_engine.errors import InputError
from csp_engine.exports import report
from csp_engine.exports.report.seal import Seal, sealed, split
from csp_engine.printable import one_line
from csp_engine.reading.tables import singular_key
from csp_engine.views.audit import associations
from csp_engine.views.audit.concepts import choices, columns_of, outputs_of, reach
from csp_engine.views.case.audit import _no_output
from csp_engine.words.concepts import MOST_BYTES, SHIPPED, parse_concept_set
from csp_engine.words.own_concepts import LONGEST_LINK, as_link, from_link, written

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "assets" / "demo" / "dermoscopy.csp"
OWN = {
    "valid": ["ruler", "colour patch"],
    "spurious": ["streaks", "Hairs", "no such thing"],
    "neutral": ["dots"],
}
NAMES = st.text(min_size=1, max_size=30).filter(
    lambda text: text.strip() and one_line(text) == text and text.isprintable()
)


@pytest.mark.slow
@settings(max_examples=40)
@given(st.lists(NAMES, min_size=1, max_size=12, unique_by=singular_key), st.data())
def test_what_is_written_is_read_again(names, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(names)), min_size=2, max_size=2)))
    chosen = {"valid": names[: cuts[0]], "spurious": names[cuts[0] : cuts[1]],
              "neutral": names[cuts[1] :]}  # fmt: skip
    content = written('a "title" \\ of it', ["an output"], chosen)
    held = tomllib.loads(content.decode())
    assert held["title"] == 'a "title" \\ of it'
    for tag, own in chosen.items():
        assert [n for g in held[tag] for names in g["concepts"] for n in names] == own
    found = from_link(as_link(content))
    assert found.sha256 == hashlib.sha256(content).hexdigest()
    assert found.content == content


def test_the_shipped_set_is_carried_by_its_name():
    content = SHIPPED["melanoma"].read_bytes()
    assert as_link(content) == "melanoma"
    assert from_link("").content == from_link("melanoma").content == content
    assert from_link(as_link(content + b"\n")).content == content + b"\n"


def packed(content: bytes) -> str:
    return base64.urlsafe_b64encode(zlib.compress(content)).decode().rstrip("=")


@pytest.mark.parametrize(
    ("link", "said"),
    [
        ("nonsense", "cut off or altered"),
        ("<script>", "cut off or altered"),
        ("A" * 50_000, "cut off or altered"),
        (as_link(written("t", [], OWN))[:-9], "cut off or altered"),
        (packed(b"#" * 5_000_000), f"at most {MOST_BYTES:,}"),
        (packed(b"title = 3"), "has no 'valid'"),
        (packed(b"\xff\xfe"), "is not TOML"),
    ],
)
def test_a_link_that_was_altered_is_a_sentence(link, said):
    with pytest.raises(InputError, match=said):
        from_link(link)


@pytest.mark.parametrize("text", ["\\u001b[31m", "two\\nlines", "x" * 301, " ", "\\u202egnp.exe"])
def test_a_text_that_is_no_name_is_refused(text):
    content = f'title = "t"\noutputs = []\nvalid = []\nspurious = [{{name = "a", source = "b", ' \
        f'concepts = [["{text}"]]}}]\n'  # fmt: skip
    with pytest.raises(InputError, match="wrong kind"):
        parse_concept_set(content.encode(), "own.toml")


PLAIN = 'title = "t"\noutputs = ["cat"]\nvalid = []\nspurious = []\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (PLAIN.replace('["cat"]', '"cat"'), "outputs and searches are lists"),
        (PLAIN.replace('["cat"]', "{cat = 1}"), "outputs and searches are lists"),
        (f'searches = "snow"\n{PLAIN}', "outputs and searches are lists"),
        (PLAIN.replace("valid = []", 'valid = ""', 1), "wrong kind"),
        (PLAIN.replace("valid = []", "valid = {}", 1), "wrong kind"),
        (f'{PLAIN}[[neutrals]]\nname = "n"\nsource = "s"\nconcepts = [["x"]]\n',
         "has 'neutrals', which no concept set has; its parts are title, outputs, valid"),
        (f'{PLAIN}[[neutral]]\nname = "n"\nsource = "s"\nconcepts = [["x"]]\nconcept = [["y"]]\n',
         "has 'concept', which no group of concepts has; its parts are name, source, concepts"),
        (f'{PLAIN}[models."a"]\nabout = "a"\nweights = "b"\n', "has 'weights', which no model"),
        (f'{PLAIN}[models]\na = "b"\n', "wrong kind"),
        (f'{PLAIN.replace("valid = []", "valid = [1]", 1)}', "wrong kind"),
    ],
)  # fmt: skip
def test_what_would_be_read_as_something_else_is_refused(text, said):
    """A text in place of a list was read as a list of its letters, a misspelt part not at all."""
    with pytest.raises(InputError, match=said):
        parse_concept_set(text.encode(), "own.toml")


def test_blanks_and_forms_of_letters_do_not_hide_a_concept():
    """Vocabularies are kept without them, so such a concept was found in no bundle."""
    given = 'title = "t"\noutputs = []\nvalid = []\n[[spurious]]\nname = "n"\nsource = "s"\n' \
        'concepts = [[" cafe\u0301 "]]\n'  # fmt: skip
    found = parse_concept_set(given.encode(), "own.toml")
    assert found.texts("spurious", {"caf\u00e9": 3}.get) == {"caf\u00e9": 3}


def test_a_file_with_a_mark_of_its_encoding_is_read():
    content = b"\xef\xbb\xbf" + PLAIN.encode()
    found = parse_concept_set(content, "own.toml")
    assert (found.title, found.sha256) == ("t", hashlib.sha256(content).hexdigest())


def test_the_largest_file_fits_a_link():
    """As full as can be of what cannot be packed: signs drawn at random."""
    rng = random.Random(0)
    room = MOST_BYTES - len(PLAIN) - 60
    letters = [chr(at) for at in range(0x21, 0x7F) if chr(at) not in '"\\']
    texts = ["".join(rng.choice(letters) for _ in range(280)) for _ in range(room // 285)]
    group = ", ".join(f'["{text}"]' for text in texts)
    body = f'[[neutral]]\nname = "n"\nsource = "s"\nconcepts = [{group}]\n'
    content = f"{PLAIN}{body}".encode()
    assert MOST_BYTES * 0.95 < len(content) <= MOST_BYTES
    assert from_link(as_link(content)).content == content
    most = base64.urlsafe_b64encode(zlib.compress(rng.randbytes(MOST_BYTES), 9))
    assert len(most) <= LONGEST_LINK


def test_one_name_has_one_tag():
    with pytest.raises(InputError, match="calls 'Rulers' both valid and spurious"):
        written("t", [], {"valid": ["ruler"], "spurious": ["Rulers"]})


def test_what_a_set_finds_in_a_bundle():
    bundle = Bundle.open(DEMO)
    concepts = parse_concept_set(
        written("t", ["melanoma"], {**OWN, "valid": ["ruler", "snow"]}), ""
    )
    found = reach(bundle, "biased", concepts)
    assert found.named["spurious"] == ("streaks", "hair", "no such thing")
    assert "no such thing" in found.lacking
    assert found.n == 6
    columns = columns_of(bundle, "biased")
    assert found.n_columns == 4  # all but snow and no such thing
    assert set(choices(bundle, "biased")) >= {*columns, *list(bundle.label_ids)}
    assert outputs_of(bundle, "biased")[0] == bundle.intervention("biased").output


def test_what_is_listed_twice_counts_once():
    """Of one concept, two were marked in the images."""
    names = {"spurious": ["ruler", "rulers", "ruler", "no such thing", "no such thing"]}
    found = reach(Bundle.open(DEMO), "biased", parse_concept_set(written("t", [], names), ""))
    assert found.named["spurious"] == ("ruler", "no such thing")
    assert (found.n, found.n_columns, found.n_words) == (2, 1, 1)
    assert found.lacking == ("no such thing",)


def test_a_set_for_another_network_is_said_to_be_by_the_name_of_its_output():
    concepts = parse_concept_set(written("Cats", ["cat"], {"spurious": ["ruler"]}), "")
    said = _no_output(Bundle.open(DEMO), concepts, "biased")
    assert said.startswith("biased has no output called cat; its outputs are melanoma, ")


def run(*arguments: object) -> None:
    with pytest.raises(SystemExit) as end:
        main([str(each) for each in arguments])
    assert end.value.code == 0


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("own") / "own.toml"
    path.write_bytes(written("own list", ["melanoma"], OWN))
    return path


@pytest.mark.slow
def test_command_and_report_say_the_same_by_ones_own_set(own, tmp_path, capsys):
    made = tmp_path / "report.json"
    run("report", DEMO, "-o", made, "--concepts", own)
    capsys.readouterr()
    run("audit", DEMO, "--concepts", own, "--model", "biased", "--json")
    told = json.loads(capsys.readouterr().out)
    said = json.loads(made.read_text())
    sha256 = hashlib.sha256(own.read_bytes()).hexdigest()
    assert said["options"]["concepts_sha256"] == said["seal"]["concepts_sha256"] == sha256
    assert told["concepts"]["sha256"] == sha256
    held = {s["name"]: s["blocks"] for part in said["parts"] for s in part["sections"]}
    bundle, concepts = Bundle.open(DEMO), from_link(said["seal"]["concepts"])
    for each in told["associations"]:
        (table,) = [b for b in held["association"]
                    if b.get("caption", "").startswith(f"{each['layer']}: what was")]  # fmt: skip
        rows = associations.sought_in(bundle, "biased", each["layer"], concepts)
        names = [c["column"] + (" (class)" if c["kind"] == "class" else "")
                 for c in each["columns"]]  # fmt: skip
        assert [row[0]["text"] for row in table["rows"]] == names
        assert [row.name for row in rows] == [c["column"] for c in each["columns"]]
        assert [row[4].get("value") for row in table["rows"]] == [
            c["best"]["value"] if c["best"] else None for c in each["columns"]
        ]
        tags = {c["column"]: c["tag"] for c in each["columns"] if c["kind"] == "concept"}
        assert (tags["ruler"], tags["streaks"], tags["hair"], tags["dots"]) == (
            "valid", "spurious", "spurious", "neutral",
        )  # fmt: skip
    captions = " ".join(b.get("caption", "") for b in held["association"])
    assert "blue-white veil: suspects" in captions  # valid by the shipped set
    assert "colour patch: suspects" not in captions  # spurious there
    counts = next(b for b in held["resemblance"] if b.get("caption", "").startswith("What influ"))
    for row in counts["rows"]:
        assert row[1]["value"] == sum(f["kind"] == row[0]["text"] for f in told["found"])
    listed = next(b for b in held["data"] if "own list" in b.get("caption", ""))
    assert [row[1]["text"] for row in listed["rows"]] == [
        "melanoma", "ruler, colour patch", "streaks, Hairs, no such thing", "dots", sha256,
    ]  # fmt: skip
    checked = report.verify(made, DEMO)
    assert checked.problems == ()
    assert "Made again from the bundle, it has the same bytes." in checked.checked


def seal_of(**changes: str) -> Seal:
    link = as_link(written("t", [], OWN))
    held = {"sha256": "", "document": "a" * 64, "bundle": "b" * 64, "engine": "1", "model": "m",
            "method": "csp", "headings": "audit", "until": 0, "concepts": link,
            "concepts_sha256": from_link(link).sha256}  # fmt: skip
    return Seal(**(held | changes))


@pytest.mark.parametrize("file_format", report.FORMATS)
def test_the_seal_holds_the_set_and_notices_another(file_format):
    data = sealed(b"what a report says", file_format, seal_of())
    _, seal = split(data, file_format)
    assert from_link(seal.concepts).sha256 == seal.concepts_sha256
    for name in ("concepts", "concepts_sha256"):
        value = getattr(seal, name).encode()
        other = value[:8] + (b"0" if value[8:9] != b"0" else b"1") + value[9:]
        with pytest.raises(InputError, match="altered"):
            split(data.replace(value, other), file_format)


@pytest.mark.parametrize("file_format", report.FORMATS)
def test_a_seal_from_before_there_were_sets_is_still_one(file_format):
    data = sealed(b"what a report says", file_format, seal_of(concepts="", concepts_sha256=""))
    assert b"concepts" not in data
    content, seal = split(data, file_format)
    assert content == b"what a report says"
    assert seal.concepts_sha256 == ""
    assert seal.is_own
