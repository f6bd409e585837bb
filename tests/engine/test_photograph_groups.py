"""Copies of a photograph are one case, whichever groups list them: in pairs, halves and gates."""

from __future__ import annotations

import csv
import shutil

import networkx as nx
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from csp_engine import pipeline
from csp_engine.errors import InputError
from csp_engine.evaluation.directions import concept_direction
from csp_engine.pasting.listed import ListedPairs
from csp_engine.pasting.pasted import PastedPairs
from csp_engine.pipeline.added.fixing import Trials
from csp_engine.pipeline.added.photographs import listed_photographs
from csp_engine.pipeline.intervening.measuring import measure_pairs
from csp_engine.probe import read_probe_set
from csp_engine.reading.groups import group_numbers, known_groups, names_of_groups, numbers_over
from tests.engine.test_cli import run
from tests.engine.test_pasting import skin
from tests.worlds import toys


def parts(labels) -> set[frozenset[int]]:
    labels = pd.Series(list(labels))
    return {frozenset(np.flatnonzero(labels == each)) for each in labels.unique()}


@pytest.mark.parametrize("seed", range(20))
def test_groups_are_the_components_of_files_groups_and_bytes(seed):
    rng = np.random.default_rng(seed)
    n = 40
    table = pd.DataFrame(
        {
            "file": [f"{each}.png" for each in rng.integers(0, 36, n)],
            "group": [f"g{each}" if each < 20 else None for each in rng.integers(0, 30, n)],
            "sha256": [f"{each:x}" if each < 30 else None for each in rng.integers(0, 40, n)],
        }
    )
    graph = nx.Graph()
    graph.add_nodes_from(range(n))
    for i in range(n):
        for j in range(i):
            here, there = table.iloc[i], table.iloc[j]
            same_group = here["group"] == there["group"]  # never of what is missing
            alone = pd.isna(here["group"]) and pd.isna(there["group"])
            same_bytes = here["sha256"] == there["sha256"]
            if same_group or same_bytes or (alone and here["file"] == there["file"]):
                graph.add_edge(i, j)
    expected = {frozenset(each) for each in nx.connected_components(graph)}
    assert table.isna().any().tolist() == [False, True, True]
    assert parts(names_of_groups(table)) == expected
    assert parts(group_numbers(names_of_groups(table))) == expected
    first, second = numbers_over(table.iloc[:25], table.iloc[25:].drop(columns="sha256"))
    known = table.assign(sha256=table["sha256"].where(np.arange(n) < 25, None))
    assert parts([*first, *second]) == parts(names_of_groups(known))


def test_without_copies_numbers_are_those_of_files_and_groups():
    table = pd.DataFrame({"file": ["a", "b", "c", "d"], "group": ["x", None, "x", "y"]})
    assert group_numbers(names_of_groups(table)).tolist() == [0, 1, 0, 2]
    table["sha256"] = list("abcd")
    assert group_numbers(names_of_groups(table)).tolist() == [0, 1, 0, 2]
    assert known_groups(table.drop(columns="group")) is None
    copied = table.assign(sha256=list("abbd")).drop(columns="group")
    assert known_groups(copied).tolist() == [0, 1, 1, 2]


@pytest.fixture
def copies(tmp_path):
    """Twelve photographs and three copies of each, every file of a patient of its own."""
    rows = []
    for at in range(12):
        skin((64, 64), seed=at).save(tmp_path / f"{at}.png")
        for copy in range(4):
            file = f"{at}-{copy}.png"
            shutil.copyfile(tmp_path / f"{at}.png", tmp_path / file)
            rows.append([file, ("red", "blue")[at % 2], f"patient {file}"])
    with (tmp_path / "table.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows([["file", "class", "group"], *rows])
    return tmp_path


def test_halves_of_a_fix_share_no_photograph(copies):
    shots = listed_photographs(copies / "table.csv")
    table = shots.table.assign(photograph=shots.table["file"].str.split("-").str[0])
    assert table["group"].nunique() == 12
    assert table.groupby("photograph")["is_choosing"].nunique().max() == 1
    with pytest.raises(InputError, match="are of 12 groups"):
        Trials(toys.target(["first"], factory="lively"), shots, "red")


def test_one_paste_for_a_photograph_and_its_copies(copies):
    pairs = PastedPairs(read_probe_set(copies / "table.csv"), ["ruler"], 48, seed=0)
    assert len(pairs.table) == 12
    assert pairs.table["sha256"].is_unique


def test_a_probe_learns_from_no_copy_of_what_is_pasted_into(copies):
    probe = read_probe_set(copies / "table.csv")
    pairs = PastedPairs(probe, ["ruler"], 5, seed=0)
    group_n, group_p = numbers_over(probe.table, pairs.table)
    used = set(pairs.table["file"].str.split("-").str[0])
    left = probe.table["file"][~np.isin(group_n, group_p)]
    assert len(left) == 4 * 7
    assert not used & set(left.str.split("-").str[0])


def test_pairs_of_copies_are_of_one_photograph(copies):
    rows = [["artefact", "without", "with", "group"]]
    for at in range(12):
        spotted = Image.open(copies / f"{at}.png").copy()
        spotted.paste((250, 0, 0), (4, 4, 20, 20))
        spotted.save(copies / f"{at}-red.png")
        rows += [["spot", f"{at}-{c}.png", f"{at}-red.png", f"p{at}-{c}"] for c in range(4)]
    with (copies / "pairs.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows(rows)
    pairs = ListedPairs(copies / "pairs.csv")
    target = toys.target(["first"], factory="lively")
    with pytest.raises(InputError, match="spot has 48 pairs that can be read, of 12 groups"):
        measure_pairs(target, pairs, "red", n_random=2)


def test_a_direction_is_judged_on_no_copy_of_what_it_was_fitted_to(tmp_path, capsys, monkeypatch):
    images = toys.draw_images(tmp_path / "images", 24)
    rows = []
    for at, path in enumerate(sorted(images.rglob("*.png"))):
        flag = at % 2
        for copy in range(2):
            file = path.with_name(f"{path.stem}-{copy}.png")
            shutil.copyfile(path, file)
            name = str(file.relative_to(images))
            rows.append({"file": name, "class": "x", "flag": flag, "group": name})
    pd.DataFrame(rows).to_csv(images / "images.csv", index=False)
    probe = read_probe_set(images / "images.csv")
    bundle = pipeline.build(toys.request(tmp_path, tmp_path / "small.csp", probe=probe))
    given = []

    def spy(activation_un, flag_n, group_n, *rest):
        given.append(group_n)
        return concept_direction(activation_un, flag_n, group_n, *rest)

    monkeypatch.setattr("csp_engine.evaluation.directions.concept_direction", spy)
    layer = bundle.layers("small")[0]
    code, _, said = run(
        capsys, "directions", bundle.path, "--layer", layer, "--column", "flag", "--json"
    )
    assert code == 0, said
    files = bundle.table("probe", "probe")["file"].str.rsplit("-", n=1).str[0]
    assert parts(given[0]) == parts(files)
    assert len(parts(files)) == 24
