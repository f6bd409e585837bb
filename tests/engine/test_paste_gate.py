"""The gate of a paste: open for vectors that move as the real artefact does, else shut."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score

from csp_engine.errors import InputError
from csp_engine.pasting.gate import Gate, _Probe, gate, least_of

D, N, P = 24, 160, 60


def _ask(along: float, across: float = 0.0, name: str = "ruler", n: int = N) -> Gate:
    """Pairs that moved along the artefact's direction, and across it."""
    rng = np.random.default_rng(3)
    towards, aside = np.eye(D)[0], np.eye(D)[1]
    has = np.arange(n) % 3 == 0
    real = rng.normal(size=(n, D)) + 3.0 * has[:, None] * towards
    without = rng.normal(size=(P, D))
    pasted = without + along * towards + across * aside
    neutral = without + 0.1 * rng.normal(size=(P, D))
    groups = np.arange(n)
    return gate(name, real, has, groups, without, pasted, neutral,
                np.arange(n, n + P))  # fmt: skip


def test_it_opens_for_what_looks_like_the_real_thing_alone() -> None:
    like, unlike, opposite = _ask(3.0), _ask(0.0, across=3.0), _ask(-3.0)
    assert like.is_open
    assert like.pasted.auroc > 0.9
    assert like.pasted.low < like.pasted.auroc < like.pasted.high
    assert like.real.auroc > 0.9
    assert not unlike.is_open
    assert not opposite.is_open
    assert opposite.pasted.auroc < 0.1
    assert abs(like.neutral.auroc - 0.5) < 0.1


def test_the_threshold_is_that_of_the_artefact() -> None:
    assert _ask(1.8, name="ink marks").pasted == _ask(1.8, name="colour patch").pasted
    assert _ask(1.8, name="ink marks").is_open
    assert not _ask(1.8, name="colour patch").is_open


def test_photographs_that_were_pasted_into_teach_nothing() -> None:
    """Real photographs of the pairs' groups may carry any flag: nothing changes."""
    rng = np.random.default_rng(0)
    real, has = rng.normal(size=(90, D)), np.arange(90) % 2 == 0
    real[has] += 1.0
    pairs = [rng.normal(size=(30, D)) for _ in range(3)]
    groups, of_pairs = np.arange(90), np.arange(60, 90)
    first = gate("hair", real, has, groups, *pairs, of_pairs)
    turned = has.copy()
    turned[60:] = ~turned[60:]
    real[60:] *= 50
    assert gate("hair", real, turned, groups, *pairs, of_pairs) == first


@pytest.mark.parametrize("n", [15, 90])  # fewer and more than there are dimensions
def test_the_probe_is_ridge_regression(n: int) -> None:
    rng = np.random.default_rng(n)
    real, has, asked = rng.normal(2, 3, (n, D)), np.arange(n) % 3 == 0, rng.normal(size=(20, D))
    mean, spread = real.mean(0), real.std(0)
    oracle = Ridge(alpha=0.3 * n).fit((real - mean) / spread, has.astype(float))
    expected = oracle.predict((asked - mean) / spread) - oracle.intercept_
    np.testing.assert_allclose(_Probe(real, has, 0.3).scores(asked), expected, atol=1e-9)


def test_areas_are_those_of_scikit_learn() -> None:
    from csp_engine.pasting.gate import _auroc

    rng = np.random.default_rng(1)
    score, flag = rng.integers(0, 6, 50), rng.random(50) < 0.4
    assert _auroc(score[flag], score[~flag]) == pytest.approx(roc_auc_score(flag, score))


def test_too_few_real_photographs() -> None:
    with pytest.raises(InputError, match="9 have 'ruler' and 18 have not"):
        _ask(1.0, n=27)


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("colour patch", 0.95),
        ("Colour patches", 0.95),
        ("patches", 0.95),
        ("sticker", 0.95),
        ("black corners", 0.95),
        ("air bubbles", 0.90),
        ("Hairs", 0.90),
        ("scale bar", 0.80),
        ("ink", 0.70),
        ("plaster", 0.80),
    ],
)
def test_a_cut_out_passes_no_easier_gate_by_another_name(name, least):
    assert least_of(name) == least
