from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from csp_engine.errors import InputError
from csp_engine.evidence import exemplars


def rows(*values):
    return np.array(values, np.float32)


def test_strongest_first_ties_to_the_lower_image():
    found = exemplars.rank_exemplars(rows([1, 5, 3, 5, 0]), 3)
    assert found.image_uk.tolist() == [[1, 3, 2]]
    assert found.activation_uk.tolist() == [[5, 5, 3]]
    assert found.count_u.tolist() == [3]


def test_ties_across_the_last_rank_take_the_lowest_images():
    found = exemplars.rank_exemplars(rows([2, 7, 2, 2, 0, 2, 2]), 3)
    assert found.image_uk.tolist() == [[1, 0, 2]]


def test_a_unit_of_negative_values_has_its_least_negative_images():
    found = exemplars.rank_exemplars(rows([-3, -1, -2]), 2)
    assert found.image_uk.tolist() == [[1, 2]]
    assert found.activation_uk.tolist() == [[-1, -2]]


def test_only_images_above_the_minimum_qualify():
    found = exemplars.rank_exemplars(rows([0, 0, 4, 0], [3, 3, 3, 3], [-0.0, 0.0, 0.0, -0.0]), 3)
    assert found.count_u.tolist() == [1, 0, 0]
    assert found.image_uk[0].tolist() == [2, 0, 0]
    assert not found.activation_uk[1:].any()


def test_fewer_images_than_ranks():
    found = exemplars.rank_exemplars(rows([1, 2]), 5)
    assert found.image_uk.shape == (1, 5)
    assert found.count_u.tolist() == [1]


def test_float32_neighbours_are_told_apart():
    high = np.nextafter(np.float32(5), np.float32(6))
    assert exemplars.rank_exemplars(rows([5, high, 5]), 1).image_uk.tolist() == [[1]]


def test_blocks_change_nothing(monkeypatch):
    acts = np.random.default_rng(0).integers(0, 4, (7, 11)).astype(np.float32)
    whole = exemplars.rank_exemplars(acts, 4)
    monkeypatch.setattr(exemplars, "_BLOCK_VALUES", 22)
    cut = exemplars.rank_exemplars(acts, 4)
    np.testing.assert_array_equal(whole.image_uk, cut.image_uk)
    np.testing.assert_array_equal(whole.count_u, cut.count_u)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "function",
    [
        lambda acts: exemplars.rank_exemplars(acts, 2, first_unit=40),
        lambda acts: exemplars.unit_statistics(acts, first_unit=40),
        lambda acts: exemplars.stratified_samples(acts, seed=0, first_unit=40),
    ],
)
def test_values_that_are_not_finite_are_refused_by_unit(function, bad):
    with pytest.raises(InputError, match="non-finite values in unit 41;"):
        function(rows([1, 2, 3], [1, bad, 3]))


def test_large_but_finite_values_are_fine():
    big = float(np.finfo(np.float32).max)
    found = exemplars.unit_statistics(rows([big, -big, big, 0]))
    assert found.max_u[0] == np.float32(big)
    assert found.mean_u[0] == np.float32(big / 4)


@pytest.mark.parametrize(
    "call",
    [
        lambda acts: exemplars.rank_exemplars(acts, 1),
        lambda acts: exemplars.unit_statistics(acts),
        lambda acts: exemplars.stratified_samples(acts, seed=0),
        lambda acts: exemplars.random_samples(acts, seed=0),
    ],
)
def test_no_images_is_refused(call):
    with pytest.raises(InputError, match="no images"):
        call(np.empty((2, 0), np.float32))


def test_counts_below_one_are_refused():
    acts = rows([1, 2])
    with pytest.raises(InputError, match="0 exemplars"):
        exemplars.rank_exemplars(acts, 0)
    with pytest.raises(InputError, match="0 bins"):
        exemplars.unit_statistics(acts, n_bins=0)
    with pytest.raises(InputError, match="3 images from 0 bands"):
        exemplars.stratified_samples(acts, n_strata=0, seed=0)
    with pytest.raises(InputError, match="0 random images"):
        exemplars.random_samples(acts, n_random=0, seed=0)


def test_statistics_by_hand():
    found = exemplars.unit_statistics(rows([0, 0, 4, 8]), n_bins=4)
    assert found.n_image == 4
    assert found.mean_u[0] == 3
    assert found.std_u[0] == pytest.approx(np.sqrt(11))
    assert (found.min_u[0], found.max_u[0]) == (0, 8)
    assert found.density_u[0] == 0.5
    assert found.histogram_ub.tolist() == [[2, 0, 1, 1]]
    median = exemplars.QUANTILE_LEVELS.index(0.5)
    assert found.quantile_uq[0, [0, median, -1]].tolist() == [0, 2, 8]


def test_odd_units_are_marked():
    found = exemplars.unit_statistics(
        rows([0, 0, 0], [2, 2, 2], [1e-7, 0, -1e-7], [-1, -2, -3], [1, 2, 3], [0, 1, 2])
    )
    assert found.is_dead_u.tolist() == [True, False, True, False, False, False]
    assert found.is_constant_u.tolist() == [True, True, False, False, False, False]
    assert found.never_positive_u.tolist() == [True, False, False, True, False, False]
    assert found.is_dense_u.tolist() == [False, True, False, False, True, False]
    assert found.std_u[1] == 0
    assert found.histogram_ub[1].tolist() == [3] + [0] * 31


def test_an_awkward_constant_keeps_its_value():
    found = exemplars.unit_statistics(np.full((1, 7), 0.1, np.float32))
    assert found.mean_u[0] == np.float32(0.1)
    assert found.std_u[0] == 0


def test_dense_at_its_share():
    acts = rows([0, *[1] * 9])
    assert exemplars.unit_statistics(acts, dense_at=0.9).is_dense_u[0]
    assert not exemplars.unit_statistics(acts, dense_at=0.91).is_dense_u[0]


def test_samples_come_from_their_bands():
    acts = np.random.default_rng(3).permuted(np.tile(np.arange(100), (4, 1)), axis=1)
    image_us, activation_us, stratum_s = exemplars.stratified_samples(
        acts.astype(np.float32), seed=1
    )
    assert image_us.shape == (4, 30)
    assert stratum_s.tolist() == [band for band in range(10) for _ in range(3)]
    np.testing.assert_array_equal(activation_us // 10, np.tile(stratum_s, (4, 1)))
    np.testing.assert_array_equal(activation_us, np.take_along_axis(acts, image_us, 1))
    assert all(len(set(row)) == 30 for row in image_us.tolist())


def test_samples_of_a_silent_unit_are_not_the_first_images():
    acts = np.zeros((1, 1000), np.float32)
    acts[0, 900:] = 1
    image_us, activation_us, stratum_s = exemplars.stratified_samples(acts, seed=0)
    silent = image_us[0, stratum_s < 9]
    assert len(set(silent.tolist())) == 27
    # By id, the first band would lie below 100.
    assert silent[:3].max() > 100
    assert activation_us[0, stratum_s == 9].tolist() == [1, 1, 1]


def test_few_images_give_fewer_samples_and_none_twice():
    for n in (1, 2, 5, 13, 29):
        acts = np.arange(n, dtype=np.float32)[None]
        image_us, _, stratum_s = exemplars.stratified_samples(acts, seed=0)
        assert len(set(image_us[0].tolist())) == image_us.shape[1] == len(stratum_s) >= n // 3
    random_us, _ = exemplars.random_samples(acts, seed=0)
    assert sorted(random_us[0].tolist()) == list(range(29))


def test_draws_belong_to_the_unit_not_to_the_block():
    acts = np.random.default_rng(0).integers(0, 5, (6, 80)).astype(np.float32)
    whole = exemplars.stratified_samples(acts, seed=7)[0]
    part = exemplars.stratified_samples(acts[4:], seed=7, first_unit=4)[0]
    np.testing.assert_array_equal(whole[4:], part)
    whole_random = exemplars.random_samples(acts, seed=7)[0]
    part_random = exemplars.random_samples(acts[4:], seed=7, first_unit=4)[0]
    np.testing.assert_array_equal(whole_random[4:], part_random)
    assert (exemplars.random_samples(acts, seed=8)[0] != whole_random).any()
    assert (whole_random[0] != whole_random[1]).any()


def test_memory_mapped_rows_are_read_as_they_are(tmp_path):
    acts = np.random.default_rng(0).standard_normal((3, 20), dtype=np.float32)
    np.save(tmp_path / "acts.npy", acts)
    mapped = np.load(tmp_path / "acts.npy", mmap_mode="r")
    np.testing.assert_array_equal(
        exemplars.rank_exemplars(mapped, 4).image_uk, exemplars.rank_exemplars(acts, 4).image_uk
    )
    assert type(exemplars.random_samples(mapped, seed=0)[1]) is np.ndarray


def test_no_torch_comes_along():
    code = (
        "import sys, csp_engine.evidence.exemplars, csp_engine.evidence.contrast; "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
