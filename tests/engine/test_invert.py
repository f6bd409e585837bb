"""INVERT against slow references, scikit-learn, SciPy, and units that mean nothing."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import kstest, mannwhitneyu
from sklearn.metrics import roc_auc_score

from csp_engine.bundle import Bundle, copy_slim, verify
from csp_engine.errors import BundleError, InputError
from csp_engine.evidence.evidence import ConceptColumns
from csp_engine.methods import label_layer, resolve_params
from csp_engine.methods.formulas.atoms import Atoms, atoms_of_columns, atoms_of_labels
from csp_engine.methods.formulas.beam import Bounds, Search
from csp_engine.methods.formulas.formula import Formula
from csp_engine.methods.formulas.ranks import auc, doubled_ranks, p_above
from csp_engine.methods.invert import INVERT, prepare, worth_their_length
from csp_engine.pipeline import build, relabel
from csp_engine.pipeline.recipe import changed
from csp_engine.probe.listing import read_probe_set
from csp_engine.types import NeuronRef
from csp_engine.views.neuron.candidates import stored
from csp_engine.views.neuron.label import heading_of
from tests.reference import invert_reference as reference
from tests.worlds import small_layers, toys

LITERAL = {False: "IS", True: "NOT"}


def nested(formula):
    """Our formula as the reference writes it."""
    parts = [nested(formula.inner)] if formula.inner else []
    parts += [(LITERAL[denied], atom) for atom, denied in formula.literals]
    found = parts[0]
    for part in parts[1:]:
        found = (formula.operator, found, part)
    return found


def columns_of(rng, n, q, missing=0.0):
    value_nc = (rng.random((n, q)) < rng.uniform(0.1, 0.6, q)).astype(np.float32)
    value_nc[rng.random((n, q)) < missing] = np.nan
    return ConceptColumns(tuple(f"c{c}" for c in range(q)), value_nc)


def by_image(columns):
    return [[None if np.isnan(v) else bool(v) for v in row] for row in columns.value_nc]


def layer_of(activation_un, columns=None, seed=0, copy_of_n=None, **params):
    """A layer's labels, with the columns or without any, and with copies or without."""
    activation_un = np.asarray(activation_un, np.float32)
    rng = np.random.default_rng(seed)
    image_nd = small_layers.unit_rows(rng, activation_un.shape[1], 6)
    evidence = small_layers.mined(activation_un, image_nd)
    null = small_layers.noise(rng, image_nd, 5)
    if columns is not None:
        evidence.given.sources["columns"] = lambda _: columns
    if copy_of_n is not None:
        evidence.given.sources["copies"] = lambda _: copy_of_n
    label_td = small_layers.unit_rows(rng, 8, 6)
    return label_layer(INVERT, evidence, null, label_td, params)


# ---------------------------------------------------------------- ranks


@pytest.mark.parametrize("digits", [0, 1, 9])
def test_auc_is_that_of_scikit_learn_with_ties(digits):
    rng = np.random.default_rng(digits)
    for n1 in (1, 2, 30, 99):
        value_n = np.round(rng.standard_normal(100), digits)
        shown_n = rng.permutation(100) < n1
        found = auc(doubled_ranks(value_n), shown_n)
        assert found == pytest.approx(roc_auc_score(shown_n, value_n), abs=1e-12)


def test_auc_does_not_saturate_at_large_activations():
    """The published code sends activations through a sigmoid: at this scale all of them are 1."""
    value_n = np.float32(50) * np.arange(1, 101, dtype=np.float32)
    shown_n = np.arange(100) % 3 == 0
    assert auc(doubled_ranks(value_n), shown_n) == pytest.approx(roc_auc_score(shown_n, value_n))


@pytest.mark.parametrize("digits", [0, 1, 9])
def test_p_is_that_of_scipy_with_ties(digits):
    rng = np.random.default_rng(digits)
    for n1 in (1, 2, 30, 79):
        value_n = np.round(rng.standard_normal(80), digits)
        shown_n = rng.permutation(80) < n1
        expected = mannwhitneyu(
            value_n[shown_n], value_n[~shown_n], alternative="greater", method="asymptotic"
        )
        assert p_above(doubled_ranks(value_n), shown_n) == pytest.approx(expected.pvalue, rel=1e-9)


def test_where_nothing_can_be_said_p_is_one():
    rank_n = doubled_ranks(np.arange(9.0))
    assert p_above(rank_n, np.zeros(9, bool)) == p_above(rank_n, np.ones(9, bool)) == 1
    assert p_above(doubled_ranks(np.zeros(9)), np.arange(9) < 3) == 1
    assert auc(rank_n, np.zeros(9, bool)) == 0.5


# ---------------------------------------------------------------- formulas


def chains(n_atoms, length):
    """Every formula that joining literals one by one can give, with its truth table."""
    rows = list(itertools.product((False, True), repeat=n_atoms))
    literals = [(q, denied) for q in range(n_atoms) for denied in (False, True)]
    for chain in itertools.permutations(literals, length):
        if len({q for q, _ in chain}) < length:
            continue
        for operators in itertools.product(("AND", "OR"), repeat=length - 1):
            formula = Formula((chain[0],))
            plain = (LITERAL[chain[0][1]], chain[0][0])
            for operator, (q, denied) in zip(operators, chain[1:], strict=True):
                formula = formula.joined(operator, (q, denied))
                plain = (operator, plain, (LITERAL[denied], q))
            yield formula, tuple(reference.holds(plain, row) for row in rows)


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_formulas_are_equal_only_where_they_mean_the_same(length):
    found = list(chains(4, length))
    assert len({f for f, _ in found}) == len({table for _, table in found}) == len(set(found))


def test_formulas_in_words():
    names = ["ruler", "pen", "hair"]
    either = Formula(((2, True),)).joined("OR", (0, False))
    assert either.text(names) == "ruler OR NOT hair"
    assert either.joined("AND", (1, True)).text(names) == "(ruler OR NOT hair) AND NOT pen"
    assert either.joined("OR", (1, False)).text(names) == "ruler OR pen OR NOT hair"


def test_truth_with_unknown_values_is_kleenes():
    rng = np.random.default_rng(0)
    columns = columns_of(rng, 60, 4, missing=0.4)
    atoms = atoms_of_columns(columns)
    for formula, _ in list(chains(4, 3))[::37]:
        holds_n, fails_n = formula.truth(atoms)
        expected = [reference.holds(nested(formula), row) for row in by_image(columns)]
        assert holds_n.tolist() == [one is True for one in expected]
        assert fails_n.tolist() == [one is False for one in expected]


# ---------------------------------------------------------------- search


@pytest.mark.parametrize("missing", [0.0, 0.3])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_wide_beam_finds_the_best_of_all_formulas(seed, missing):
    rng = np.random.default_rng(seed)
    columns = columns_of(rng, 40, 4, missing)
    activation_un = np.round(rng.standard_normal((2, 40)), 1).astype(np.float32)
    search = Search(atoms_of_columns(columns), Bounds(4, 20), length=3, beam=10_000)
    for activation_n, beams in zip(activation_un, search.best(activation_un), strict=True):
        bar = 0.0
        for length in (1, 2, 3):
            ours = max([f.auc for own in beams[:length] for f in own], default=0.0)
            # What a shorter formula shows already is not said again by a longer one.
            expected = reference.best(activation_n, by_image(columns), 4, length, 4, 20) or 0.0
            bar = max(bar, expected)
            assert ours == pytest.approx(bar, abs=1e-12)


@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_every_formula_has_its_auc_its_size_and_its_own_images(missing):
    """In a block of units, with more concepts than one tile holds."""
    rng = np.random.default_rng(3)
    columns = columns_of(rng, 120, 700, missing)
    activation_un = rng.standard_normal((5, 120)).astype(np.float32)
    activation_un[1] = np.round(activation_un[1])
    bounds = Bounds(6, 60)
    rows = by_image(columns)
    for activation_n, beams in zip(
        activation_un,
        Search(atoms_of_columns(columns), bounds, length=3, beam=4).best(activation_un),
        strict=True,
    ):
        assert [len(own) for own in beams] == [4, 4, 4]
        images = set()
        for length, own in enumerate(beams, start=1):
            assert [f.auc for f in own] == sorted((f.auc for f in own), reverse=True)
            for found in own:
                assert len(found.formula.atoms) == length
                shown = [reference.holds(nested(found.formula), row) is True for row in rows]
                assert shown == found.shown_s.tolist()
                assert bounds.least <= sum(shown) <= bounds.most
                assert found.auc == pytest.approx(roc_auc_score(shown, activation_n), abs=1e-12)
                images.add(found.shown_s.tobytes())
        assert len(images) == 12


def test_each_step_of_the_beam_takes_the_best_of_its_extensions():
    rng = np.random.default_rng(4)
    columns = columns_of(rng, 80, 6)
    atoms = atoms_of_columns(columns)
    activation_un = rng.standard_normal((3, 80)).astype(np.float32)
    found = Search(atoms, Bounds(5, 40), length=3, beam=2).best(activation_un)
    for activation_n, beams in zip(activation_un, found, strict=True):
        for shorter, longer in itertools.pairwise(beams):
            known = {f.shown_s.tobytes() for own in beams for f in own if own is not longer}
            tried = []
            for one in shorter:
                for q, denied, operator in itertools.product(
                    range(6), (False, True), ("AND", "OR")
                ):
                    if q in one.formula.atoms:
                        continue
                    shown_n = one.formula.joined(operator, (q, denied)).truth(atoms)[0]
                    alone_n = Formula(((q, denied),)).truth(atoms)[0]
                    is_new = shown_n.tobytes() not in known and (shown_n != alone_n).any()
                    if 5 <= shown_n.sum() <= 40 and is_new:
                        tried.append((roc_auc_score(shown_n, activation_n), shown_n.tobytes()))
            best = sorted({value for value, _ in set(tried)}, reverse=True)[0]
            assert longer[0].auc == pytest.approx(best, abs=1e-12)


def test_a_longer_formula_must_gain_over_all_shorter_ones():
    rng = np.random.default_rng(5)
    columns = columns_of(rng, 200, 8)
    activation_un = rng.standard_normal((1, 200)).astype(np.float32)
    atoms = atoms_of_columns(columns)
    (beams,) = Search(atoms, Bounds(10, 100), length=3, beam=3).best(activation_un)
    for gain in (0.0, 0.01, 0.04, 0.5):
        kept = worth_their_length(beams, gain)
        assert [f.auc for f in kept] == sorted((f.auc for f in kept), reverse=True)
        for found in kept:
            length = len(found.formula.atoms)
            shorter = [f.auc for f in kept if len(f.formula.atoms) < length]
            assert found.auc > max([0.5, *(value + gain for value in shorter)]) - 1e-12
    assert {len(f.formula.atoms) for f in worth_their_length(beams, 0.5)} == {1}


# ---------------------------------------------------------------- the whole method


def test_the_test_knows_nothing_of_the_choice_and_p_is_uniform_on_noise():
    rng = np.random.default_rng(6)
    columns = columns_of(rng, 600, 30)
    done = layer_of(rng.standard_normal((300, 600)), columns, gain=0.0)
    assert done.scores.count_u.all()
    assert kstest(done.arrays["p"], "uniform").pvalue > 0.01
    assert not done.scores.reliable_u.any()
    # On the half that chose it, the same test would call nearly all of them a discovery.
    assert np.median(done.scores.score_uk[:, 0]) > 0.6
    assert np.median(done.arrays["held_out"]) == pytest.approx(0.5, abs=0.02)


def test_a_copy_of_an_image_tests_no_formula_that_it_has_chosen():
    """Copies in the other half would bear out whatever noise had chosen."""
    rng = np.random.default_rng(3)
    columns = columns_of(rng, 120, 25)
    activation_un = rng.standard_normal((60, 120))
    once = layer_of(activation_un, columns)
    image_n = np.repeat(np.arange(120), 3)
    thrice = ConceptColumns(columns.names, columns.value_nc[image_n])
    done = layer_of(activation_un[:, image_n], thrice, copy_of_n=3 * image_n)
    np.testing.assert_array_equal(done.arrays["p"], once.arrays["p"])
    np.testing.assert_array_equal(done.arrays["held_out"], once.arrays["held_out"])
    np.testing.assert_array_equal(done.scores.score_uk, once.scores.score_uk)
    assert done.texts == once.texts
    assert not done.scores.reliable_u.any()
    np.testing.assert_array_equal(done.arrays["n_shown"], 3 * once.arrays["n_shown"])
    # Nobody knows of the copies: one in five units of noise would have a reliable formula.
    unknown = layer_of(activation_un[:, image_n], thrice)
    assert unknown.scores.reliable_u.mean() > 0.1


def test_figures_of_the_test_are_those_of_the_other_half():
    """Images where the formula is unknown take no part."""
    rng = np.random.default_rng(7)
    columns = columns_of(rng, 300, 5, missing=0.15)
    value_nc = np.nan_to_num(columns.value_nc)
    activation_un = (value_nc[:, :3] * 2 + rng.standard_normal((300, 3))).T.astype(np.float32)
    done = layer_of(activation_un, columns, length=1)
    evidence = small_layers.mined(activation_un, small_layers.unit_rows(rng, 300, 6))
    evidence.given.sources["columns"] = lambda _: columns
    asked = evidence.asked_by("a test", INVERT.needs_here(("columns",)))
    layer = prepare(asked, np.eye(6, dtype=np.float32), resolve_params(INVERT, {}))
    both = np.sort(np.concatenate([layer.chosen_s, layer.tested_s]))
    assert both.tolist() == list(range(300))
    assert abs(len(layer.chosen_s) - len(layer.tested_s)) <= 1
    for u in range(3):
        assert done.texts[done.scores.label_uk[u, 0]] == f"c{u}"
        known = [i for i in layer.tested_s if not np.isnan(columns.value_nc[i, u])]
        shown, value = columns.value_nc[known, u] == 1, activation_un[u, known]
        expected = mannwhitneyu(
            value[shown], value[~shown], alternative="greater", method="asymptotic"
        )
        assert done.arrays["p"][u] == pytest.approx(expected.pvalue, rel=1e-9)
        assert done.arrays["held_out"][u] == pytest.approx(roc_auc_score(shown, value), abs=1e-6)
        assert done.arrays["n_shown"][u] == np.nansum(columns.value_nc[:, u])
    assert done.arrays["from_columns"].all()
    assert done.scores.reliable_u.all()


def test_reliable_are_the_discoveries_of_the_whole_layer_in_blocks_of_any_size():
    """By hand: the largest k with p_(k) <= .05 k / m, over all units at once."""
    rng = np.random.default_rng(8)
    columns = columns_of(rng, 400, 12)
    strength_u = np.repeat([0.0, 0.5, 1.5], 20)[:, None]
    shown_un = columns.value_nc.T[np.arange(60) % 12]
    activation_un = strength_u * shown_un + rng.standard_normal((60, 400))
    done = layer_of(activation_un, columns)
    p_u = done.arrays["p"]
    ordered = np.sort(p_u)
    passing = np.flatnonzero(ordered <= 0.05 * np.arange(1, 61) / 60)
    expected_u = p_u <= ordered[passing[-1]]
    assert 0 < expected_u.sum() < 60
    np.testing.assert_array_equal(done.scores.reliable_u, expected_u)
    np.testing.assert_allclose(done.scores.best_percentile_u, 1 - p_u, atol=1e-6)
    assert (done.scores.best_percentile_u < 1).all()
    blocks = replace(INVERT, unit_block=7)
    evidence = small_layers.mined(activation_un, small_layers.unit_rows(rng, 400, 6))
    evidence.given.sources["columns"] = lambda _: columns
    null = small_layers.noise(rng, evidence.image_nd, 5)
    again = label_layer(blocks, evidence, null, np.eye(6, dtype=np.float32), {})
    assert again.texts == done.texts
    np.testing.assert_array_equal(again.scores.label_uk, done.scores.label_uk)
    np.testing.assert_array_equal(again.scores.score_uk, done.scores.score_uk)
    np.testing.assert_array_equal(again.scores.reliable_u, done.scores.reliable_u)


def test_columns_that_can_say_nothing_are_never_in_a_formula():
    rng = np.random.default_rng(9)
    columns = columns_of(rng, 200, 6)
    columns.value_nc[:, 0] = 0
    columns.value_nc[:, 1] = 1
    columns.value_nc[:, 2] = np.nan
    columns.value_nc[:, 3] = 0
    columns.value_nc[5, 3] = 1  # fewer than the bound
    done = layer_of(rng.standard_normal((20, 200)), columns, smallest=0.05, gain=0.0)
    assert done.scores.count_u.all()
    assert not {name for text in done.texts for name in ("c0", "c1", "c2", "c3") if name in text}
    nothing = layer_of(rng.standard_normal((4, 200)), columns, smallest=0.45, largest=0.45)
    assert not nothing.scores.count_u.any()
    assert not nothing.scores.reliable_u.any()
    for array in (nothing.scores.best_percentile_u, *nothing.arrays.values()):
        assert np.isfinite(np.asarray(array, float)).all()


def test_a_unit_that_is_constant_where_formulas_are_chosen_has_none():
    rng = np.random.default_rng(10)
    columns = columns_of(rng, 100, 4)
    activation_un = np.zeros((3, 100))
    half = np.sort(np.random.default_rng(0).permutation(100)[50:])
    activation_un[1, half] = rng.random(50)
    activation_un[2] = rng.random(100)
    assert layer_of(activation_un, columns).scores.count_u.tolist()[:2] == [0, 0]


def test_labels_take_the_place_of_columns_where_there_are_none_or_where_asked():
    rng = np.random.default_rng(11)
    columns = columns_of(rng, 200, 4)
    activation_un = rng.standard_normal((3, 200))
    for held, params, word in (
        (columns, {}, "c"),
        (None, {}, "word"),
        (columns, {"atoms": "labels"}, "word"),
    ):
        done = layer_of(activation_un, held, **params)
        assert all(word in text for text in done.texts)
        assert done.arrays["from_columns"].all() == (word == "c")


def test_labels_are_shown_above_otsus_threshold_and_joined_ones_left_out():
    rng = np.random.default_rng(12)
    shows_n = np.arange(300) < 60
    image_nd = np.stack([shows_n + 0.0, rng.random(300), np.ones(300)], 1).astype(np.float32)
    image_nd /= np.linalg.norm(image_nd, axis=1, keepdims=True)
    texts = ["ruler", "hair", "ruler and hair"]
    atoms = atoms_of_labels(image_nd, np.eye(3, dtype=np.float32), texts)
    assert atoms.names == ("ruler", "hair")
    np.testing.assert_array_equal(atoms.shown_qn[0], shows_n)


def test_names_of_columns_are_words():
    columns = ConceptColumns(("dark_hair",), np.zeros((2, 1), np.float32))
    assert atoms_of_columns(columns).names == ("dark hair",)


def test_bounds_that_leave_nothing_are_refused():
    with pytest.raises(InputError, match=r"smallest 0\.6 is above largest 0\.5"):
        resolve_params(INVERT, {"smallest": 0.6})


def test_no_images_are_no_error():
    atoms = Atoms(("a",), np.zeros((1, 0), bool))
    found = Search(atoms, Bounds(0, 0), length=2, beam=1).best(np.zeros((2, 0), np.float32))
    assert found == [[], []]


# ---------------------------------------------------------------- in a bundle


def bundle_of(folder, *, has_columns):
    """A small layer labelled by INVERT."""
    recipe = changed(toys.SMALL, {"methods": "csp,invert", "invert.smallest": 0.1})
    if not has_columns:
        return build(toys.request(folder, folder / "a.csp", recipe=recipe))
    images = toys.draw_images(folder / "images", 60)
    rows = [f"{path.relative_to(images)},{int(path.parent.name == 'red')}"
            for path in sorted(images.rglob("*.png"))]  # fmt: skip
    (images / "table.csv").write_text("\n".join(["file,is_red", *rows]))
    probe = read_probe_set(images / "table.csv")
    return build(toys.request(folder, folder / "a.csp", probe=probe, recipe=recipe))


@pytest.mark.slow
@pytest.mark.parametrize("has_columns", [True, False])
def test_a_bundle_holds_formulas_and_says_how_they_were_tested(tmp_path, has_columns):
    bundle = bundle_of(tmp_path, has_columns=has_columns)
    assert verify(bundle) == []
    words = {"is red"} if has_columns else set(toys.WORDS)
    for layer in bundle.layers("small"):
        stage = f"scores:small/{layer}/invert"
        assert bundle.array(stage, "from_columns").all() == has_columns
        scores = bundle.scores("small", layer, "invert")
        texts = bundle.method_labels("small", layer, "invert")["text"].tolist()
        assert all(any(word in text for word in words) for text in texts)
        for unit in np.flatnonzero(scores.count_u).tolist():
            neuron = NeuronRef("small", layer, unit)
            passes = bool(scores.reliable_u[unit])
            sentence = stored(bundle, neuron, "invert").verdict
            assert sentence.word == ("reliable" if passes else "not reliable")
            verdict = str(sentence)
            assert ("passes its test on the images that did not choose it" in verdict) == passes
            assert "random image sets" not in verdict
            reasons = " ".join(map(str, heading_of(bundle, neuron, "invert").reasons))
            assert ("does not pass its test on the images" in reasons) != passes
            assert "random image sets" not in reasons


@pytest.mark.slow
def test_a_slim_copy_names_what_is_missing(tmp_path):
    bundle = bundle_of(tmp_path, has_columns=False)
    slim = copy_slim(bundle, tmp_path / "slim.csp")
    held = Bundle.open(slim.path).scores("small", slim.layers("small")[0], "invert")
    assert held.count_u.any()
    recipe = changed(toys.SMALL, {"methods": "csp,invert", "invert.length": 2})
    with pytest.raises(BundleError, match=r"'invert' needs activations over .*leaves out"):
        relabel(slim.path, recipe)
