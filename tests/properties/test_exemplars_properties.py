from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from csp_engine.evidence import exemplars

FLOATS = st.floats(-1000, 1000, width=32, allow_subnormal=False)
# Few distinct values, so that ties are the rule.
TIED = st.sampled_from([-2.0, -0.0, 0.0, 0.5, 1.0, 3.0])
ACTS = st.tuples(st.integers(1, 4), st.integers(1, 40)).flatmap(
    lambda shape: hnp.arrays(np.float32, shape, elements=st.one_of(FLOATS, TIED))
)


@given(ACTS, st.integers(1, 45))
def test_no_image_left_out_is_stronger(acts, n_exemplars):
    found = exemplars.rank_exemplars(acts, n_exemplars)
    for unit, acts_n in enumerate(acts):
        count = found.count_u[unit]
        image = found.image_uk[unit, :count]
        assert len(set(image.tolist())) == count
        assert (acts_n[image] > acts_n.min()).all()
        keys = [(-acts_n[i], i) for i in image]
        assert keys == sorted(keys)
        others = np.setdiff1d(np.flatnonzero(acts_n > acts_n.min()), image)
        assert len(others) == 0 or count == n_exemplars
        assert all((-acts_n[i], i) > keys[-1] for i in others)


@given(ACTS, st.randoms(use_true_random=False))
def test_reordering_images_leaves_the_statistics_exactly_alone(acts, random):
    order = list(range(acts.shape[1]))
    random.shuffle(order)
    before = exemplars.unit_statistics(acts)
    after = exemplars.unit_statistics(np.ascontiguousarray(acts[:, order]))
    for name in ("mean_u", "std_u", "min_u", "max_u", "density_u", "quantile_uq", "histogram_ub"):
        np.testing.assert_array_equal(getattr(before, name), getattr(after, name))


@given(ACTS)
def test_statistics_keep_their_bounds(acts):
    found = exemplars.unit_statistics(acts, n_bins=5)
    assert (found.histogram_ub.sum(axis=1) == acts.shape[1]).all()
    assert (np.diff(found.quantile_uq, axis=1) >= 0).all()
    np.testing.assert_array_equal(found.quantile_uq[:, 0], found.min_u)
    np.testing.assert_array_equal(found.quantile_uq[:, -1], found.max_u)
    assert ((found.min_u <= found.mean_u) & (found.mean_u <= found.max_u)).all()
    assert (found.is_constant_u == (found.std_u == 0)).all()


@settings(max_examples=50)
@given(ACTS, st.integers(1, 12), st.integers(1, 4), st.integers(0, 2**32))
def test_samples_lie_in_their_bands_and_never_repeat(acts, n_strata, per_stratum, seed):
    image_us, activation_us, stratum_s = exemplars.stratified_samples(
        acts, n_strata=n_strata, per_stratum=per_stratum, seed=seed
    )
    n_images, n_bands = acts.shape[1], stratum_s[-1] + 1
    for acts_n, image_s, activation_s in zip(acts, image_us, activation_us, strict=True):
        assert len(set(image_s.tolist())) == len(image_s)
        np.testing.assert_array_equal(acts_n[image_s], activation_s)
        ranked = np.sort(acts_n)
        low = stratum_s * n_images // n_bands
        high = (stratum_s + 1) * n_images // n_bands - 1
        assert ((ranked[low] <= activation_s) & (activation_s <= ranked[high])).all()
