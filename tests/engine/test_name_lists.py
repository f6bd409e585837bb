"""Lists of names in the forms in which they circulate, for vocabularies and class names alike."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from csp_engine.errors import InputError
from csp_engine.networks.models import read_class_names
from csp_engine.reading.names import read_names
from csp_engine.words.vocabularies import read_vocabulary

NAMES = ["tench", "goldfish", "great white shark", "crane", "crane"]
IDS = ["n01440764", "n01443537", "n01484850", "n02012849", "n03126707"]

FORMS = {
    "lines.txt": "\n".join(NAMES),
    "comments.txt": "# ours\n\n" + "\n# more\n".join(NAMES) + "\n\n",
    "list.json": json.dumps(NAMES),
    "list.txt": json.dumps(NAMES, indent=1),
    "by number.json": json.dumps({str(i): name for i, name in reversed(list(enumerate(NAMES)))}),
    "python.txt": "{\n" + "".join(f" {i}: {n!r},\n" for i, n in enumerate(NAMES)) + "}\n",
    "class_index.json": json.dumps({str(i): [IDS[i], n] for i, n in enumerate(NAMES)}),
    "by synset.json": json.dumps(dict(zip(IDS, NAMES, strict=True))),
    "config.json": json.dumps({"id2label": {str(i): n for i, n in enumerate(NAMES)}, "a": 1}),
    "coco.json": json.dumps({"categories": [{"id": i, "name": n} for i, n in enumerate(NAMES)]}),
    "objects.json": json.dumps([{"id": i, "label": n} for i, n in enumerate(NAMES)]),
    "objects.jsonl": "\n".join(json.dumps({"text": n}) for n in NAMES),
    "header.csv": "label\n" + "\n".join(NAMES),
    "no header.csv": "\n".join(NAMES),
    "two columns.csv": "Index;Class Name\n" + "\n".join(f"{i};{n}" for i, n in enumerate(NAMES)),
    "in text.txt": "id,label\n" + "\n".join(f"{i},{n}" for i, n in enumerate(NAMES)),
    "turned.csv": "id,label\n" + "\n".join(f"{i},{NAMES[i]}" for i in (3, 0, 4, 2, 1)),
    "numbers only.csv": "\n".join(f"{i},{n}" for i, n in enumerate(NAMES)),
    "synsets.txt": "\n".join(f"{i} {n}" for i, n in zip(IDS, NAMES, strict=True)),
    "synsets.tsv": "\n".join(f"{i}\t{n}" for i, n in zip(IDS, NAMES, strict=True)),
    "numbered.txt": "\n".join(f"{i}: {n}" for i, n in enumerate(NAMES)),
    "quoted.txt": "\n".join(f"{i}\t{n}" for i, n in enumerate(NAMES, start=7)),
    "turned numbers.txt": "\n".join(f"{i}: {NAMES[i]}" for i in (3, 0, 4, 2, 1)),
    "turned numbers.csv": "\n".join(f"{i},{NAMES[i]}" for i in (3, 0, 4, 2, 1)),
    "points.txt": "\n".join(f"{i}. {n}" for i, n in enumerate(NAMES, start=1)),
    "brackets.txt": "\n".join(f"{i}) {n}" for i, n in enumerate(NAMES)),
    "dashes.txt": "\n".join(f"{i} - {n}" for i, n in enumerate(NAMES)),
    "properties.ini": "\n".join(f"{i}={n}" for i, n in enumerate(NAMES)),
    "bullets.txt": "\n".join(f"* {n}" for n in NAMES),
    "bullets.yml": "# ours\n" + "\n".join(f"- '{n}'" for n in NAMES),
    "quoted lines.txt": ",\n".join(f'"{n}"' for n in NAMES),
    "code.py": "CLASSES = [\n" + "".join(f"    {n!r},\n" for n in NAMES) + "]\n",
    "code.js": "const NAMES = " + json.dumps(NAMES) + ";\n",
    "data.yaml": f"path: ../x  # here\nnc: 5\nnames: {NAMES!r}\ntest: y\n",
    "data below.yaml": "nc: 5\nnames:\n" + "\n".join(f"  - {n}" for n in NAMES) + "\nval: x\n",
    "called label.csv": "label,name\n" + "\n".join(f"{i},{NAMES[i]}" for i in (3, 0, 4, 2, 1)),
    "no heading.csv": ",label\n" + "\n".join(f"{i},{NAMES[i]}" for i in (3, 0, 4, 2, 1)),
    "target.csv": "target;class_name\n" + "\n".join(f"{i},0;{NAMES[i]}" for i in (3, 0, 4, 2, 1)),
    "pairs.json": json.dumps([[i, NAMES[i]] for i in (3, 0, 4, 2, 1)]),
    "pairs turned.json": json.dumps([[NAMES[i], i] for i in (3, 0, 4, 2, 1)]),
    "yolo.yaml": "names:\n" + "\n".join(f"  {i}: {n}" for i, n in enumerate(NAMES)),
}


def save(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_names_in_their_order(tmp_path, form, encoding):
    path = save(tmp_path / form, FORMS[form], encoding)
    assert [name.text for name in read_names(path, what="List")] == NAMES
    assert read_class_names(path, len(NAMES)) == tuple(NAMES)
    assert read_vocabulary([str(path)]).texts == NAMES[:-1]  # a name said twice is one label


def test_numbers_set_the_order_and_not_the_lines(tmp_path):
    path = save(tmp_path / "to index.json", '{"dog": 1, "cat": 0, "eel": 2}')
    assert read_class_names(path, 3) == ("cat", "dog", "eel")
    path = save(tmp_path / "far.json", '{"10": "c", "9": "b", "0": "a"}')
    assert read_class_names(path, 3) == ("a", "b", "c")


PLACES = ["/a/airfield", "/a/airplane cabin", "b, c", "dog"]


@pytest.mark.parametrize("line", ["{name} {i}", "{name},{i}", "{name}: {i}", "{name}\t{i}"])
@pytest.mark.parametrize("first", [0, 1])
def test_numbers_behind_names_set_the_order_too(tmp_path, line, first):
    lines = [line.format(name=name, i=i) for i, name in enumerate(PLACES, start=first)]
    for ending in (".txt", ".csv"):
        path = save(tmp_path / f"v{ending}", "\n".join(lines[i] for i in (2, 0, 3, 1)))
        assert read_class_names(path, 4) == tuple(PLACES)


def test_to_index_inside_of_a_file_of_settings(tmp_path):
    path = save(tmp_path / "v.json", json.dumps({"class_to_idx": {"dog": 1, "cat": 0}, "a": "b"}))
    assert read_class_names(path, 2) == ("cat", "dog")


def test_a_flag_of_two_classes_is_no_order(tmp_path):
    path = save(tmp_path / "v.csv", "label,malignant\nmelanoma,1\nnaevus,0\n")
    assert read_class_names(path, 2) == ("melanoma", "naevus")


def test_parquet(tmp_path):
    pd.DataFrame({"id": range(5), "name": NAMES}).to_parquet(tmp_path / "v.parquet")
    assert [n.text for n in read_names(tmp_path / "v.parquet", what="List")] == NAMES


@pytest.mark.parametrize(
    "names",
    [
        ["golden retriever, a dog", "cat; feline", "eel"],
        ["7 dwarfs", "101 dalmatians", "12 monkeys"],
        ["1 euro", "2 euro", "3 euro"],
        ["0", "1", "2"],
        ["3d printer", "4x4", "1st place"],
        ["label", "text"],
        ["dog.n.o1", "n0144076", "night"],
        ["<b>bold</b>", "a {brace}", "50% [off]"],
        ["type 1", "type 2", "type 3"],
        ["apollo 11", "boeing 747", "airbus a380"],
        ["'s-Hertogenbosch", "'t Zand", "rock 'n' roll"],
        ["3.5 mm plug", "2.1 m door", "x = y"],
        ["-40 degrees", "+1", "* star"],
    ],
)
def test_what_only_looks_like_another_form_stays_as_it_is(tmp_path, names):
    path = save(tmp_path / "v.txt", "\n".join(names))
    assert [name.text for name in read_names(path, what="List")] == names


def test_wordnet_names_lose_their_part_of_speech(tmp_path):
    path = save(tmp_path / "v.txt", "dog.n.01\nwhite_shark.n.02\nrun.v.11\n")
    assert read_vocabulary([str(path)]).texts == ["dog", "white shark", "run"]


@pytest.mark.parametrize(
    ("name", "text", "named"),
    [
        ("v.txt", '["a", "b"', "begins like JSON but is not"),
        ("v.json", "a\nb\n", "begins like JSON but is not"),
        ("v.json", '{"cat": "a small animal", "dog": "a larger one"}', "not a list of names"),
        ("v.json", "[1, 2, 3]", "not a list of names"),
        ("v.json", "[" * 5000, "begins like JSON"),
        ("v.json", "{}", "not a list of names"),
        ("v.txt", "\n".join(IDS), "synset ids such as 'n01440764' without their words"),
        ("v.txt", "n01440764 tench\nn01443537 goldfish\nshark\n", r"Line 3 \('shark'\)"),
        ("v.txt", '"tench": 0,\n"goldfish": 1\n', "Line 1 .* is not a name"),
        ("v.csv", "made,colour\nx,red\ny,blue\n", "columns made, colour"),
        ("v.csv", "id,label\n0,1\n1,2\n", "columns id, label"),
        ("v.txt", "item {\n  id: 1\n  name: 'cat'\n}\n", r"Line 1 \('item {'\) is not a name"),
        ("v.txt", "| id | label |\n|---|---|\n| 0 | cat |\n", "Line 2 .* is not a name"),
        ("v.txt", "cat, dog, eel\n", "one line with commas"),
        ("v.yaml", "path: ../x\nnc: 2\n", "a .yaml file without a list of names"),
        ("v.json", json.dumps({each: i for i, each in enumerate(IDS)}), "without their words"),
        ("v.xml", "<?xml version='1.0'?><a>b</a>", "XML or HTML"),
        ("v.txt", "dog\0cat\n", "not a text file"),
    ],
)
def test_what_is_no_list_is_refused_in_one_sentence(tmp_path, name, text, named):
    path = save(tmp_path / name, text)
    for read in (lambda: read_vocabulary([str(path)]), lambda: read_class_names(path, 3)):
        with pytest.raises(InputError, match=named) as caught:
            read()
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 320


@pytest.mark.parametrize("wrong", [["a"], ["a", "b", "c"]])
def test_a_wrong_count_of_classes_is_refused(tmp_path, wrong):
    path = save(tmp_path / "c.json", json.dumps(wrong))
    with pytest.raises(InputError, match=f"{len(wrong)} class names for 2 outputs"):
        read_class_names(path, 2)


plain = st.text(st.characters(categories=["Ll"], max_codepoint=0x24F), min_size=1, max_size=9)


@settings(max_examples=60, deadline=None)
@given(st.lists(plain, min_size=2, max_size=7, unique=True), st.sampled_from(",;\t"))
def test_names_survive_every_writer(tmp_path_factory, names, separator):
    folder = tmp_path_factory.mktemp("n")
    out = io.StringIO()
    writer = csv.writer(out, delimiter=separator)
    writer.writerows([["id", "label"], *enumerate(names)])
    turned = list(enumerate(names))[::-1]
    for name, text in (
        ("a.csv", out.getvalue()),
        ("e.txt", "\n".join(f"{number}{separator}{each}" for number, each in turned)),
        ("f.txt", "\n".join(f"{each}{separator}{number}" for number, each in turned)),
        ("g.csv", f"{separator}name\n" + "\n".join(f"{i}{separator}{n}" for i, n in turned)),
        ("b.json", json.dumps(names)),
        ("c.json", json.dumps(dict(enumerate(names)))),
        ("d.txt", repr(dict(enumerate(names)))),
    ):
        found = read_names(save(folder / name, text), what="List")
        assert [each.text for each in found] == names


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("0 cat\n1 dog\n3 bird\n4 fish\n7 cow", ["cat", "dog", "bird", "fish", "cow"]),
        ("1 cat\n2 dog\n3\n4 bird", ["cat", "dog", "bird"]),
        ("1. cat\n2.\n3. dog\n4. bird", ["cat", "dog", "bird"]),
        ("0: cat\n1:\n2: dog", ["cat", "dog"]),
        ("cat,1\ndog,2\nbird,4\nfish,5\ncow,8", ["cat", "dog", "bird", "fish", "cow"]),
        # What may be meant stays.
        ("3 cats\n5 dogs\n8 birds\n9 fish\n12 cows", "3 cats,5 dogs,8 birds,9 fish,12 cows"),
        ("1 euro\n2 euro\n5 euro\n7 euro\n8 euro", "1 euro,2 euro,5 euro,7 euro,8 euro"),
        ("apollo 1\nsoyuz 3\nvostok 4\nluna 5\nzond 8", "apollo 1,soyuz 3,vostok 4,luna 5,zond 8"),
        ("cat\n7\ndog", "cat,7,dog"),
        ("1\n2\n3", "1,2,3"),
    ],
)
def test_numbers_with_gaps_are_no_part_of_the_names(tmp_path, text, names):
    path = tmp_path / "list.txt"
    path.write_text(text)
    wanted = names if isinstance(names, list) else names.split(",")
    assert [each.text for each in read_names(path, what="Vocabulary")] == wanted


def test_ids_with_marks_between_thousands_keep_the_order_of_ids(tmp_path):
    """As a spreadsheet saves 1,002 classes by name: the ids say which comes first."""
    names = {number: f"class {number}" for number in range(1002)}
    rows = [f'"{number:,}",{name}' for number, name in names.items()]
    (tmp_path / "c.csv").write_text("id,name\n" + "\n".join(sorted(rows)) + "\n", "utf-8")
    assert read_class_names(tmp_path / "c.csv", 1002) == tuple(names.values())
