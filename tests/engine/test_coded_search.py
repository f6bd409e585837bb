"""Search by codes: what it finds, what it says of itself, and what is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import csp_engine.search as search
from csp_engine.bundle import Bundle, copy_slim, verify
from csp_engine.cli import app
from csp_engine.errors import BundleError
from csp_engine.pipeline import build
from csp_engine.search import index as index_of
from csp_engine.types import NeuronRef
from csp_engine.vectors import coded
from csp_engine.views.finding import index as finding_index
from csp_engine.views.finding.index import listing_note, search_sentences
from csp_engine.views.finding.query import Query
from csp_engine.views.finding.standing import judged
from csp_engine.views.lists import found_neurons
from csp_engine.views.memo import Memo
from csp_engine.views.overview.provenance import provenance
from tests.worlds import toys
from tests.worlds.damage import edit, place, renumber

N, WIDTH = 6000, 24


def clustered(seed: int = 0, n: int = N, width: int = WIDTH) -> np.ndarray:
    """Unit rows in clusters; every seventh is zero."""
    rng = np.random.default_rng(seed)
    centre = rng.standard_normal((60, width))
    vectors = centre[rng.integers(0, 60, n)] + 0.7 * rng.standard_normal((n, width))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[::7] = 0
    return vectors.astype(np.float32)


def nearest(vectors: np.ndarray, query: np.ndarray, n: int) -> list[int]:
    """Rows of the largest inner products, by sorting all of them in double precision."""
    score = vectors.astype(np.float64) @ query.astype(np.float64)
    score[~vectors.any(axis=1)] = -np.inf
    return np.argsort(-score, kind="stable")[:n].tolist()


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return clustered()


@pytest.fixture(scope="module")
def built(vectors: np.ndarray) -> search.BuiltIndex:
    return search.build_index(vectors, "codes")


def test_the_recall_it_states_is_what_sorting_everything_gives(vectors, built):
    assert built.kind == "codes"
    assert built.recall >= 0.99
    queries = coded.asked(vectors[vectors.any(axis=1)], None)[0]
    for n, stated in ((20, built.recall), (200, built.recall_listed)):
        found = [
            len({*nearest(vectors, q, n)} & {*search.rank(built.index, q, n).row_m.tolist()}) / n
            for q in queries
        ]
        assert np.mean(found) == pytest.approx(stated, abs=0.002)


def test_scores_are_those_of_the_vectors_and_dead_neurons_are_never_found(vectors, built):
    query = np.random.default_rng(5).standard_normal(WIDTH).astype(np.float32)
    found = search.rank(built.index, query, 50)
    exact = (vectors[found.row_m].astype(np.float64) @ query.astype(np.float64)).tolist()
    assert found.score_m.tolist() == pytest.approx(exact, abs=1e-6)
    assert (np.diff(found.score_m) <= 0).all()
    assert vectors[found.row_m].any(axis=1).all()


def test_among_few_allowed_rows_every_one_is_looked_at(vectors, built):
    query = np.random.default_rng(6).standard_normal(WIDTH).astype(np.float32)
    allowed = np.zeros(N, bool)
    allowed[100:900] = True
    among = np.where(allowed[:, None], vectors, 0)
    found = search.rank(built.index, query, 30, allowed_u=allowed)
    assert found.row_m.tolist() == nearest(among, query, 30)


def test_among_many_allowed_rows_only_those_are_found(vectors, built, monkeypatch):
    monkeypatch.setattr(index_of, "EXACT_UP_TO", 100)
    shallow = replace(built.index, depth=200)
    query = vectors[8]
    allowed = np.random.default_rng(1).random(N) < 0.5
    found = search.rank(shallow, query, 20, allowed_u=allowed)
    assert len(found) == 20
    assert allowed[found.row_m].all()
    true = nearest(np.where(allowed[:, None], vectors, 0), query, 20)
    assert len({*true} & {*found.row_m.tolist()}) >= 18


@pytest.mark.parametrize("share", [0.5, 0.9, 0.98])
def test_what_is_far_is_found_where_nothing_near_is_allowed(vectors, built, monkeypatch, share):
    """As of one network, where the query lies among the neurons of another."""
    monkeypatch.setattr(index_of, "EXACT_UP_TO", 100)
    shallow = replace(built.index, depth=200)
    for query in vectors[1:6]:
        score = vectors @ query
        allowed = score < np.quantile(score, share)
        found = search.rank(shallow, query, 20, allowed_u=allowed)
        true = nearest(np.where(allowed[:, None], vectors, 0), query, 20)
        assert found.row_m.tolist() == true


@pytest.mark.parametrize("n_shut_out", [0, 10, 29])
def test_where_some_of_the_nearest_are_shut_out_more_is_ranked_anew(n_shut_out):
    """As if they were listed as well: the next stand that much further down by their codes."""
    rng = np.random.default_rng(2)
    own = rng.normal(size=(5000, 16)).astype(np.float32)
    codes = coded.coded(own, np.arange(5000), 1)
    ranked: list[np.ndarray] = []

    def read(row_m: np.ndarray) -> np.ndarray:
        ranked.append(row_m)
        return own[row_m]

    index = coded.CodedIndex(codes, read, 300)
    query = rng.normal(size=16).astype(np.float32)
    by_code = codes.search(query[None], 1000)[1][0]
    allowed = np.ones(5000, bool)
    allowed[by_code[:n_shut_out]] = False
    index.candidates(query, 200, allowed, 0)
    wanted = 300 * (200 + n_shut_out) // 200 - n_shut_out  # of them, so many are allowed
    assert wanted <= len(ranked[-1]) < 1.1 * wanted
    assert allowed[ranked[-1]].all()


def test_asked_for_all_it_gives_all_in_order(vectors, built):
    query = vectors[9]
    n_alive = int(vectors.any(axis=1).sum())
    assert search.rank(built.index, query, N).row_m.tolist() == nearest(vectors, query, n_alive)


def test_a_neuron_is_like_its_twin_and_a_dead_one_like_nobody(vectors):
    twins = vectors.copy()
    twins[40] = twins[41]
    index = search.build_index(twins, "codes").index
    assert search.rank_like(index, 41, 1).row_m.tolist() == [40]
    assert len(search.rank_like(index, 0, 3)) == 0


def test_where_codes_miss_too_many_the_index_is_exact(vectors, monkeypatch):
    monkeypatch.setattr(index_of, "EXACT_UP_TO", 100)
    monkeypatch.setattr(index_of, "DEPTHS", (200,))
    monkeypatch.setattr(index_of, "NUMBERS", (2,))
    built = search.build_index(vectors)
    assert built.kind == "flat"
    assert search.build_index(vectors, "codes").recall_listed < 0.99


def test_longer_codes_are_taken_where_shorter_ones_miss_too_many(vectors, monkeypatch):
    monkeypatch.setattr(index_of, "DEPTHS", (400,))
    index = search.build_index(vectors, "codes").index
    assert faiss.downcast_index(index.codes.index).pq.M == WIDTH


@pytest.mark.parametrize("width", [1, 3, 5])
def test_odd_widths_have_codes_too(width):
    vectors = clustered(2, 2000, width)
    index = search.build_index(vectors, "codes").index
    query = np.ones(width, np.float32)
    scores = search.rank(index, query, 5).score_m
    best = vectors[nearest(vectors, query, 5)] @ query
    assert scores.tolist() == pytest.approx(best.tolist(), abs=1e-6)


# ------------------------------------------------------------------ in a bundle


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("coded")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_of, "EXACT_UP_TO", 8)
        return build(toys.request(folder, folder / "a.csp")).path


@pytest.fixture
def path(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "a.csp"))


def _with_facts(path: Path, **facts: Any) -> None:
    edit(path, lambda body: body["stages"]["index:csp"]["facts"].update(facts))


def test_a_bundle_with_codes_says_so_and_is_verified(whole):
    bundle = Bundle.open(whole)
    facts = bundle.stage("index:csp").facts
    assert facts["kind"] == "codes"
    assert verify(bundle) == []
    said = dict(provenance(bundle))["Search"]
    assert said in search_sentences(bundle)
    assert "finds 100 % of the 20 nearest" in said
    told = CliRunner().invoke(app, ["info", str(whole)])
    assert "finds 100 % of the 20 nearest" in told.output


def test_a_search_by_codes_gives_what_an_exact_one_gives(whole, tmp_path):
    exact = Bundle.open(build(toys.request(tmp_path, tmp_path / "b.csp")).path)
    assert exact.stage("index:csp").facts["kind"] == "flat"
    assert search_sentences(exact) == []
    query_d = np.array(exact.label_vectors()[0])
    for method in ("csp", "semanticlens"):
        rankings = []
        for bundle in (Bundle.open(whole), exact):
            index, _ = search.open_index(bundle, method)
            rankings.append(search.rank(index, query_d, 9))
        assert rankings[0].row_m.tolist() == rankings[1].row_m.tolist()
        np.testing.assert_array_equal(rankings[0].score_m, rankings[1].score_m)


@pytest.fixture
def both(whole: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[Bundle, Bundle]:
    """A bundle with codes of which five neurons are listed, and the same with an exact index."""
    monkeypatch.setattr(finding_index, "LISTED", 5)
    exact = build(toys.request(tmp_path, tmp_path / "a.csp")).path
    return Bundle.open(whole), Bundle.open(exact)


def test_the_neurons_listed_are_the_first_of_the_exact_list(both):
    by_codes, exact = both
    for within in (None, [1]):
        for label in range(3):
            query = Query("text", "it", np.array(exact.label_vectors()[label]))
            few = found_neurons(by_codes, Memo(), "csp", query, within=within)
            every = found_neurons(exact, Memo(), "csp", query, within=within)
            assert len(few) == 5
            # Twins are as good as one another.
            best = every["match"].nlargest(5).to_numpy()
            np.testing.assert_allclose(np.sort(few["match"])[::-1], best, atol=1e-6)
            columns = ["model", "layer", "unit", "match", "match_null"]
            pd.testing.assert_frame_equal(few[columns], every.loc[few.index, columns])


def test_what_stands_out_among_those_listed_stands_out_among_all(both):
    by_codes, exact = both
    for label in range(4):
        query = Query("text", "it", np.array(exact.label_vectors()[label]))
        few = found_neurons(by_codes, Memo(), "csp", query)
        found = judged(by_codes, Memo(), query, "csp", few)
        among_all = judged(exact, Memo(), query, "csp", found_neurons(exact, Memo(), "csp", query))
        assert found is not None
        assert among_all is not None
        order = ("none", "unsure", "clear")
        for row, standing in found.standing.items():
            assert order.index(standing) <= order.index(among_all.standing[row])


def test_neurons_like_one_are_as_many_and_not_itself(both):
    by_codes, exact = both
    vector_d = np.asarray(exact.scores("small", "second@mean", "csp").vector_ud[3])
    query = Query("neuron", "it", vector_d, neuron=NeuronRef("small", "second@mean", 3))
    few = found_neurons(by_codes, Memo(), "csp", query)
    assert len(few) == 5
    assert not ((few["layer"] == "second@mean") & (few["unit"] == 3)).any()


def test_the_command_says_that_only_the_nearest_are_listed(both):
    by_codes, exact = both
    asked = ["search", "red", "--json", "-n", "50", "--layer", "second@mean"]
    texts = [CliRunner().invoke(app, [*asked[:1], str(b.path), *asked[1:]]) for b in both]
    few, every = (json.loads(each.output) for each in texts)
    assert few["note"] == listing_note(by_codes, "csp")
    assert "Only the 5 neurons" in few["note"]
    assert "note" not in every
    assert listing_note(exact, "csp") == ""
    named = [[(row["neuron"], row["score"]) for row in each["found"]] for each in (few, every)]
    assert named[0] == named[1][:5]


def test_a_slim_copy_keeps_the_codes(whole, tmp_path):
    slim = copy_slim(Bundle.open(whole), tmp_path / "slim.csp")
    assert slim.has_index_file("csp")
    assert isinstance(search.open_index(slim, "csp")[0], coded.CodedIndex)
    assert verify(slim) == []


def test_codes_under_other_numbers_are_told_when_opened(path):
    renumber(path)
    with pytest.raises(BundleError, match="holds another vector"):
        search.open_index(Bundle.open(path), "csp")
    assert any("index:csp" in problem for problem in verify(Bundle.open(path)))


def test_codes_that_are_called_exact_are_refused(path):
    _with_facts(path, kind="flat", recall_at_10=1.0)
    with pytest.raises(BundleError, match="of another kind than the bundle says"):
        search.open_index(Bundle.open(path), "csp")
    assert any("another kind" in problem for problem in verify(Bundle.open(path)))


def test_vectors_that_are_called_codes_are_refused(tmp_path):
    path = build(toys.request(tmp_path, tmp_path / "b.csp")).path
    facts = {"recall_at_20": 1.0, "recall_at_200": 1.0, "n_asked": 9, "n_reranked": 9}
    _with_facts(path, kind="codes", **facts)
    with pytest.raises(BundleError, match="of another kind than the bundle says"):
        search.open_index(Bundle.open(path), "csp")


def test_a_recall_that_codes_do_not_have_is_told(path):
    _with_facts(path, recall_at_20=0.9)
    assert any("another share of the nearest" in problem for problem in verify(Bundle.open(path)))


@pytest.mark.parametrize("facts", [{"n_reranked": 0}, {"recall_at_20": 1.2}, {"n_asked": "9"}])
def test_facts_that_cannot_be_are_refused(facts, path):
    _with_facts(path, **facts)
    with pytest.raises(BundleError, match=next(iter(facts))):
        Bundle.open(path)


def test_a_build_repairs_codes(path, whole):
    file = place(path, "index:csp", "index.faiss")
    before = file.read_bytes()
    file.write_bytes(before[:-9] + b"123456789")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_of, "EXACT_UP_TO", 8)
        build(toys.request(whole.parent, path))
    assert place(path, "index:csp", "index.faiss").read_bytes() == before
