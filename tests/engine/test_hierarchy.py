"""Labels that are kinds of others: read, merged, refused, kept in a bundle, given to methods."""

from __future__ import annotations

import json
from dataclasses import replace

import networkx
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from csp_engine.bundle import Bundle
from csp_engine.errors import InputError
from csp_engine.evidence.evidence import Evidence
from csp_engine.methods import METHODS
from csp_engine.methods.method import Method, Parameter, Scored
from csp_engine.pipeline import build, relabel
from csp_engine.pipeline.recipe import changed
from csp_engine.words.hierarchy import kinds_of, levels_of
from csp_engine.words.vocabularies import (
    Vocabulary,
    label_table,
    parents_in,
    read_vocabulary,
    with_candidates,
)
from tests.worlds import toys

ROWS = [("animal", []), ("Dog", ["animal", "pet"]), ("poodle", ["dog"]), ("pet", []), ("TV", [])]


def written(folder, form, rows=ROWS):
    path = folder / f"own.{form}"
    if form in ("csv", "txt", "tsv"):
        mark = {"csv": ",", "txt": "\t", "tsv": "\t"}[form]
        lines = [mark.join([label, "; ".join(above)]) for label, above in rows]
        path.write_text("\n".join([mark.join(["label", "parents"]), *lines]) + "\n", "utf-8")
    elif form == "json":
        path.write_text(json.dumps([{"label": a, "parents": b} for a, b in rows]), "utf-8")
    elif form == "jsonl":
        lines = [json.dumps({"label": a, "parents": b}) for a, b in rows]
        path.write_text("\n".join(lines), "utf-8")
    else:
        pd.DataFrame(rows, columns=["label", "parents"]).to_parquet(path)
    return str(path)


@pytest.mark.parametrize("form", ["csv", "txt", "tsv", "json", "jsonl", "parquet"])
def test_parents_are_read_from_every_kind_of_table(tmp_path, form):
    table = read_vocabulary([written(tmp_path, form)]).table
    assert table["text"].tolist() == ["animal", "dog", "poodle", "pet", "TV"]
    assert table["parents"].tolist() == ["", "animal;pet", "dog", "", ""]


def test_rows_in_another_order_keep_their_parents(tmp_path):
    path = tmp_path / "own.csv"
    path.write_text("id,label,parents\n1,dog,animal\n2,poodle,dog\n0,animal,\n", "utf-8")
    table = read_vocabulary([str(path)]).table
    assert table["text"].tolist() == ["animal", "dog", "poodle"]
    assert table["parents"].tolist() == ["", "animal", "dog"]


def test_parents_of_several_lists_are_joined_and_may_lie_in_another(tmp_path):
    (tmp_path / "a.csv").write_text("label,parents\npoodle,dog\ncat,\n", "utf-8")
    (tmp_path / "b.csv").write_text("label,parents\nPoodle,pet\npet,\n", "utf-8")
    (tmp_path / "c.txt").write_text("dog\n", "utf-8")
    merged = read_vocabulary([str(tmp_path / name) for name in ("a.csv", "b.csv", "c.txt")])
    assert dict(zip(merged.texts, parents_in(merged.table), strict=True)) == {
        "poodle": "dog;pet", "cat": "", "pet": "", "dog": "",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([("dog", ["animal"]), ("cat", [])], ["Row 1 of 'own.csv'", "'animal'", "no label"]),
        ([("dog", ["dog"]), ("cat", [])], ["'dog'", "kind of itself"]),
        ([("a", ["b"]), ("b", ["c"]), ("c", ["a"])], ["kind of itself", "'parents'"]),
    ],
)
def test_links_that_cannot_be_are_refused_with_their_place(tmp_path, rows, words):
    with pytest.raises(InputError) as error:
        read_vocabulary([written(tmp_path, "csv", rows)])
    assert all(word in str(error.value) for word in words), str(error.value)


def test_a_vocabulary_without_parents_is_what_it_was(tmp_path):
    path = tmp_path / "plain.txt"
    path.write_text("dog\ncat\n", "utf-8")
    plain = read_vocabulary([str(path)])
    assert list(plain.table) == ["text", "source"]
    # The hash by which bundles of earlier versions know such a list.
    assert plain.sha256 == "b3dc60363244a5c9dc5675072d9893f91fed1dc4fa5a0420cb48bc8cc6ec7b1f"


def test_links_are_part_of_what_a_vocabulary_is_known_by():
    texts, sources = ["dog", "animal"], ["own", "own"]
    plain, linked = (
        Vocabulary("own", label_table(texts, sources, above)) for above in ([], ["animal", ""])
    )
    assert plain.sha256 != linked.sha256


def test_candidates_join_without_parents_and_the_others_keep_theirs():
    held = Vocabulary("own", label_table(["dog", "animal"], ["own", "own"], ["animal", ""]))
    after, _ = with_candidates(held, {"contrast": ["red dog"]})
    assert after.table["parents"].tolist() == ["animal", "", ""]


@given(st.integers(1, 9), st.data())
def test_kinds_are_all_that_lead_to_a_label(n, data):
    """Whatever a file claims, circles and strangers included; a graph library is the oracle."""
    names = [f"label {t}" for t in range(n)]
    above = [
        data.draw(st.lists(st.sampled_from([*names, "a stranger"]), max_size=3)) for _ in names
    ]
    graph = networkx.DiGraph()
    graph.add_nodes_from(range(n))
    graph.add_edges_from(
        (t, names.index(p)) for t, own in enumerate(above) for p in own if p in names
    )
    expected = {t: tuple(sorted(networkx.ancestors(graph, t) - {t})) for t in range(n)}
    found = kinds_of(names, [";".join(own) for own in above])
    assert found == {t: below for t, below in expected.items() if below}


@given(n=st.integers(0, 12), data=st.data())
def test_levels_are_the_shortest_ways_to_the_top(n, data):
    pairs = [(a, b) for b in range(n) for a in range(b)]
    some = st.lists(st.sampled_from(pairs), unique=True) if pairs else st.just([])
    graph = networkx.DiGraph(data.draw(some))
    texts = [f"w{i}" for i in range(n)]
    above = {i: graph.predecessors(i) if i in graph else () for i in range(n)}
    parents = [";".join(texts[a] for a in above[i]) for i in range(n)]
    tops = [i for i in graph if not graph.in_degree(i)]
    ways = networkx.multi_source_dijkstra_path_length(graph, tops) if tops else {}
    assert levels_of(texts, parents) == ways


def test_general_knows_what_is_a_kind_of_what():
    table = read_vocabulary(["general"]).table
    texts = table["text"].tolist()
    below = kinds_of(texts, parents_in(table))
    kinds = {texts[t]: {texts[b] for b in found} for t, found in below.items()}
    assert {"poodle", "terrier", "hunting dog"} <= kinds["dog"]
    assert "poodle" in kinds["carnivore"]
    assert not {"cat", "dog", "hot dog"} & kinds["dog"]
    assert "round" not in {word for below in kinds.values() for word in below}  # no ammunition
    assert max(map(len, kinds.values())) < len(texts) / 4


# ---------------------------------------------------------------- bundles and methods


@pytest.fixture
def looker(monkeypatch):
    """A method that looks at kinds where there are any, and what it saw."""
    seen = []

    def score(evidence: Evidence, label_td, params):
        seen.append(dict(evidence.kinds) if evidence.has("kinds") else None)
        n_units, n_labels = evidence.n_units, len(label_td)
        return Scored(np.ones((n_units, n_labels), np.float32), np.ones(n_units, bool))

    method = Method(
        name="looker",
        title="Looker",
        summary="Looks.",
        version=1,
        parameters=(Parameter("n_score", 3, "exemplars", low=1),),
        uses=("kinds",),
        score=score,
    )
    monkeypatch.setitem(METHODS, "looker", method)
    return seen


@pytest.mark.slow
def test_a_bundle_keeps_the_links_and_hands_them_to_methods(tmp_path, looker):
    recipe = changed(toys.SMALL, {"methods": "looker"})
    request = toys.request(tmp_path, tmp_path / "a.csp", recipe=recipe)
    build(request)
    assert set(map(str, looker)) == {"None"}
    looker.clear()
    texts = request.vocabulary.texts
    own = tmp_path / "own.csv"
    rows = [f"{text},{'' if text == texts[0] else texts[0]}" for text in texts]
    own.write_text("\n".join(["label,parents", *rows]), "utf-8")
    linked = replace(request, vocabulary=read_vocabulary([str(own)]))
    bundle = build(linked)
    assert looker[-1] == {0: tuple(range(1, len(texts)))}
    assert bundle.labels()["parents"].tolist() == ["", *[texts[0]] * (len(texts) - 1)]
    again = relabel(bundle.path, recipe)
    assert again.digest == bundle.digest  # what is held counts, links included
    assert Bundle.open(tmp_path / "a.csp").labels()["parents"][1] == texts[0]
