"""Label lists: cleaning, merging, the refusals, and what the shipped ones hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from csp_engine.errors import InputError
from csp_engine.words.vocabularies import (
    MAX_LABEL_LENGTH,
    SHIPPED,
    Vocabulary,
    clean_label,
    label_table,
    read_vocabulary,
    with_candidates,
)


def write(folder: Path, name: str, text: str, encoding: str = "utf-8") -> str:
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return str(path)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("golden_retriever", "golden retriever"),
        ("  Fire   Truck\t", "fire truck"),
        ("GOLDEN RETRIEVER", "golden retriever"),
        ("TV", "TV"),
        ("LCD Screen", "LCD screen"),
        ("DNA", "DNA"),
        ("old TVs", "old TVs"),
        ("T-shirt", "t-shirt"),
        ("iPhone", "iphone"),
        ("BMW_Z4", "bmw z4"),
        ("- dog", "dog"),
        ("* Dog", "dog"),
        ("• dog", "dog"),
        ("3. dog", "dog"),
        ("12) dog", "dog"),
        ("3D shape", "3d shape"),
        ("7-point checklist", "7-point checklist"),
        ("-shaped", "-shaped"),
        ('"dog"', "dog"),
        ("“dog”", "dog"),
        ("'dog',", "dog"),
        ('"a" or "b"', '"a" or "b"'),
        ("dog's ear", "dog's ear"),
        ('12" ruler', '12" ruler'),
        ("and/or", "and/or"),
        ("Cafe\u0301", "caf\u00e9"),
        ("zero\u200bwidth", "zerowidth"),
        ("\ufeffdog", "dog"),
        ("no\u00a0break", "no break"),
        ("bell\a", "bell"),
        ("", ""),
        ("   ", ""),
        ("<b>{x}</b>", "<b>{x}</b>"),
        ("{0.__class__}", "{0. class }"),
    ],
)
def test_clean_label(given, wanted):
    assert clean_label(given) == wanted


def test_lists_merge_in_order_and_join_their_sources(tmp_path):
    one = write(tmp_path, "one.txt", "# animals\nDog\ncat\n\n  # more\nred_fox\n")
    two = write(tmp_path, "two.txt", "CAT\nhouse\ndog\n")
    vocabulary = read_vocabulary([one, two])
    assert vocabulary.name == "one+two"
    assert vocabulary.texts == ["dog", "cat", "red fox", "house"]
    assert vocabulary.table["source"].tolist() == [
        "one.txt;two.txt",
        "one.txt;two.txt",
        "one.txt",
        "two.txt",
    ]


def test_the_first_spelling_stays(tmp_path):
    source = write(tmp_path, "v.txt", "TV\ntv\nTv\nradio\n")
    assert read_vocabulary([source]).texts == ["TV", "radio"]


def test_a_source_given_twice_counts_once(tmp_path):
    source = write(tmp_path, "v.txt", "a dog\na cat\n")
    vocabulary = read_vocabulary([source, source])
    assert vocabulary.name == "v"
    assert vocabulary.table["source"].tolist() == ["v.txt", "v.txt"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends(tmp_path, encoding, line_end):
    source = write(tmp_path, "v.txt", line_end.join(["café", "# no", "naïve art", ""]), encoding)
    assert read_vocabulary([source]).texts == ["café", "naïve art"]


def test_hash_depends_on_labels_sources_and_order(tmp_path):
    sources = [
        write(tmp_path, "a.txt", "dog\ncat\n"),
        write(tmp_path, "b.txt", "dog\ncat\n"),
        write(tmp_path, "c.txt", "cat\ndog\n"),
        write(tmp_path, "d.txt", "dog\ncow\n"),
    ]
    hashes = [read_vocabulary([source]).sha256 for source in sources]
    assert len(set(hashes)) == 4
    (tmp_path / "sub").mkdir()
    again = write(tmp_path / "sub", "a.txt", "# comment\n- Dog\ncat")
    assert read_vocabulary([again]).sha256 == hashes[0]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "no label"),
        ("# only\n\n", "no label"),
        ("dog\nDog\n", "only the label 'dog'"),
        ("dog\n" + "x" * (MAX_LABEL_LENGTH + 1) + "\n", "Line 2 .* 201 characters"),
        ("dog\0cat\n", "not a text file"),
    ],
)
def test_unusable_lists_are_refused_in_one_sentence(tmp_path, text, match):
    source = write(tmp_path, "v.txt", text)
    with pytest.raises(InputError, match=match) as caught:
        read_vocabulary([source])
    assert "\n" not in str(caught.value)


def test_the_longest_label_allowed(tmp_path):
    source = write(tmp_path, "v.txt", "dog\n" + "x" * MAX_LABEL_LENGTH)
    assert len(read_vocabulary([source])) == 2


def test_unknown_sources_name_the_shipped_ones(tmp_path):
    with pytest.raises(InputError, match=r"general, textures, colours, dermoscopy.*mean 'colours'"):
        read_vocabulary(["colors"])
    with pytest.raises(InputError, match="not a text file"):
        read_vocabulary([str(tmp_path)])
    with pytest.raises(InputError, match="No vocabulary was given"):
        read_vocabulary([])


def test_a_missing_shipped_file_says_where_it_should_be(tmp_path, monkeypatch):
    monkeypatch.setitem(SHIPPED, "general", tmp_path / "general.txt")
    with pytest.raises(InputError, match="install csp-neuron-browser again"):
        read_vocabulary(["general"])


@pytest.mark.parametrize(
    ("name", "least"),
    [("general", 5000), ("textures", 150), ("colours", 150), ("dermoscopy", 200)],
)
def test_shipped_vocabularies_are_large_clean_and_say_where_they_are_from(name, least):
    lines = SHIPPED[name].read_text(encoding="utf-8").splitlines()
    head = "\n".join(line for line in lines if line.startswith("#"))
    assert "# Source:" in head
    assert "# Licence:" in head
    labels = [line.split("\t")[0] for line in lines if line and not line.startswith("#")]
    labels = labels[1:] if lines[len(head.splitlines())] == "label\tparents" else labels
    assert [clean_label(label) for label in labels] == labels
    vocabulary = read_vocabulary([name])
    assert vocabulary.texts == labels
    assert len(vocabulary) >= least
    assert f"`{name}.txt`" in (SHIPPED[name].parent / "README.md").read_text(encoding="utf-8")


def test_general_covers_the_kinds_it_promises():
    labels = set(read_vocabulary(["general"]).texts)
    kinds = {
        "animals": {"dog", "sparrow", "lizard", "butterfly"},
        "plants": {"oak", "rose", "fern", "mushroom"},
        "artefacts": {"bicycle", "hammer", "violin", "traffic light"},
        "food": {"bread", "cheese", "pizza", "strawberry"},
        "parts": {"wheel", "window", "beak", "petal"},
        "materials": {"wood", "brass", "granite", "silk"},
        "scenes": {"beach", "forest", "kitchen", "street"},
        "weather": {"fog", "lightning", "rainbow", "storm"},
        "shapes": {"circle", "spiral", "triangle", "zigzag"},
        "colours": {"red", "navy blue", "olive green", "beige"},
        "textures": {"striped", "rough", "furry", "translucent"},
        "people": {"child", "firefighter", "crowd", "bride"},
        "both spellings": {"colorful", "colourful", "checkered", "chequered"},
    }
    missing = {kind: sorted(words - labels) for kind, words in kinds.items() if words - labels}
    assert not missing


def test_general_names_no_one_and_insults_no_one():
    labels = read_vocabulary(["general"]).texts
    coarse = {"bitch", "cock", "ass", "tit", "faggot", "dyke", "brothel", "homo", "savage"}
    names = {"george", "mary", "john", "london", "jack", "victoria"}
    assert not (coarse | names) & set(labels)
    assert not [label for label in labels if label.endswith("'s")]


# ---------------------------------------------------------------- candidates


def plain_vocabulary(tmp_path, *lines):
    path = tmp_path / "own.txt"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return read_vocabulary([str(path)])


def test_candidates_are_cleaned_and_join_what_is_there(tmp_path):
    before = plain_vocabulary(tmp_path, "Ruler", "blue-white veil")
    after, n_new = with_candidates(
        before,
        {
            "exemplars": ["a_hair", "RULER ", "", "x" * 201, " "],
            "contrast": ["Blue-White Veil", "ruler,", "a hair", "- dark corner"],
        },
    )
    assert after.table.to_dict("list") == {
        "text": ["ruler", "blue-white veil", "a hair", "dark corner"],
        "source": [
            "own.txt;captioner: exemplars;captioner: contrast",
            "own.txt;captioner: contrast",
            "captioner: exemplars;captioner: contrast",
            "captioner: contrast",
        ],
    }
    assert n_new == 2
    assert list(before.table["source"]) == ["own.txt", "own.txt"]


def test_the_order_of_neurons_does_not_change_the_vocabulary(tmp_path):
    before = plain_vocabulary(tmp_path, "one", "two")
    phrases = ["TV", "tv", "café", "cafe\u0301", "zebra", "Ärmel", "apple"]
    first, _ = with_candidates(before, {"exemplars": phrases})
    second, _ = with_candidates(before, {"exemplars": phrases[::-1]})
    assert first.sha256 == second.sha256
    assert len(first) == len({text.casefold() for text in first.texts})


def test_no_candidates_change_nothing(tmp_path):
    before = plain_vocabulary(tmp_path, "one", "two")
    after, n_new = with_candidates(before, {"exemplars": [], "contrast": ["ONE"][:0]})
    assert (after.sha256, n_new) == (before.sha256, 0)


def test_a_candidate_that_names_a_thing_twice_says_it_once():
    held = Vocabulary("own", label_table(["ruler", "hair"], ["list", "list"]))
    whole, n_new = with_candidates(
        held, {"contrast": ["ruler and ruler", "dots and dots", "hair and ruler"]}
    )
    assert list(whole.table["text"]) == ["ruler", "hair", "dots", "hair and ruler"]
    assert n_new == 2
    assert "captioner: contrast" in whole.table["source"][0]
