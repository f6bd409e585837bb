from __future__ import annotations

import numpy as np
import pytest

from csp_engine.errors import InputError
from csp_engine.evidence.contrast import ContrastRule
from csp_engine.methods.scoring.random_sets import (
    evidence_of_size,
    noise_activations,
    noise_evidence,
)
from tests.worlds import small_layers

RULE = ContrastRule(n_partners=2)


def images(n=50, d=6):
    return small_layers.unit_rows(np.random.default_rng(0), n, d)


def fields(evidence):
    for part in (evidence.exemplars, evidence.contrast):
        for name in part.__dataclass_fields__:
            yield name, getattr(part, name)


def test_the_seed_decides_and_nothing_else():
    draw = {"n_draws": 5, "n_exemplars": 7, "rule": RULE}
    first, again = (noise_evidence(images(), seed=3, **draw) for _ in range(2))
    other = noise_evidence(images(), seed=4, **draw)
    for (_, a), (_, b) in zip(fields(first), fields(again), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (first.exemplars.image_uk != other.exemplars.image_uk).any()


def test_draws_do_not_depend_on_how_they_are_cut_into_blocks():
    whole = noise_activations(30, 0, 6, seed=1)
    parts = np.concatenate([noise_activations(30, 0, 2, 1), noise_activations(30, 2, 4, 1)])
    np.testing.assert_array_equal(whole, parts)
    assert len(np.unique(whole)) == whole.size


def test_exemplars_are_the_largest_of_the_noise():
    drawn = noise_evidence(images(), n_draws=4, n_exemplars=5, rule=RULE, seed=1)
    noise_rn = noise_activations(50, 0, 4, 1)
    expected = np.argsort(-noise_rn, axis=1)[:, :5]
    np.testing.assert_array_equal(drawn.exemplars.image_uk, expected)
    below = noise_rn[np.arange(4)[:, None, None], drawn.contrast.image_ukj]
    assert (below < noise_rn.mean(axis=1)[:, None, None]).all()


def test_fewer_images_than_exemplars():
    drawn = noise_evidence(images(6), n_draws=3, n_exemplars=20, rule=RULE, seed=1)
    assert drawn.exemplars.count_u.tolist() == [5, 5, 5]


def test_pairing_only_the_first_exemplars_gives_them_the_same_partners():
    draw = {"n_draws": 4, "n_exemplars": 9, "seed": 2}
    whole = noise_evidence(images(), rule=RULE, **draw)
    part = noise_evidence(images(), rule=RULE, n_paired=3, **draw)
    np.testing.assert_array_equal(part.exemplars.image_uk, whole.exemplars.image_uk)
    np.testing.assert_array_equal(part.contrast.image_ukj[:, :3], whole.contrast.image_ukj[:, :3])
    assert part.contrast.image_ukj.shape == whole.contrast.image_ukj.shape
    assert part.contrast.n_partner_uk[:, 3:].sum() == 0
    assert (whole.contrast.n_partner_uk > 0).all()


def test_without_reuse_all_exemplars_are_paired_because_each_bears_on_the_others():
    rule = ContrastRule(reuse=False)
    drawn = noise_evidence(images(), n_draws=3, n_exemplars=9, rule=rule, seed=2, n_paired=3)
    assert (drawn.contrast.n_partner_uk == 1).all()


def test_evidence_of_a_size_keeps_the_strongest():
    drawn = noise_evidence(images(), n_draws=3, n_exemplars=9, rule=RULE, seed=2)
    small = evidence_of_size(drawn, 4)
    assert small.exemplars.count_u.tolist() == [4, 4, 4]
    assert evidence_of_size(drawn, 90).exemplars.count_u.tolist() == [9, 9, 9]


def test_no_draws_is_refused():
    with pytest.raises(InputError, match="n_draws is 0"):
        noise_evidence(images(), n_draws=0, n_exemplars=5, rule=RULE, seed=0)
