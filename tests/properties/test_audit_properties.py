from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from csp_engine.audits.registered import AUDITS
from csp_engine.types import Exemplars
from tests.worlds import small_layers

EVERYDAY = settings(max_examples=40, deadline=None)


@st.composite
def layers(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    u, k, d = draw(st.integers(1, 6)), draw(st.integers(1, 12)), draw(st.integers(2, 8))
    image_nd = small_layers.unit_rows(rng, 10, d)
    image_nd[1] = image_nd[0]
    image_nd[2] = -image_nd[0]
    return (
        Exemplars(
            rng.integers(0, 10, (u, k)).astype(np.int32),
            np.zeros((u, k), np.float32),
            rng.integers(0, k + 1, u).astype(np.int32),
        ),
        image_nd,
    )


@EVERYDAY
@given(layers(), st.integers(1, 14))
def test_ranges_and_counts(layer, n_score):
    exemplars, image_nd = layer
    columns, arrays = small_layers.audited(exemplars, image_nd, n_score)
    m_u = np.minimum(exemplars.count_u, n_score)
    np.testing.assert_array_equal(columns["cluster_0"] + columns["cluster_1"], m_u)
    assert (columns["cluster_0"] >= columns["cluster_1"]).all()
    np.testing.assert_array_equal(arrays["image_group"].sum(axis=1), columns["cluster_1"])
    np.testing.assert_array_equal(np.isnan(columns["clarity"]), m_u < 2)
    np.testing.assert_array_equal(np.isnan(columns["polysemanticity"]), m_u < 2)
    for u in np.flatnonzero(m_u >= 2):
        assert -1 / (m_u[u] - 1) - 1e-5 <= columns["clarity"][u] <= 1 + 1e-5
        assert -1e-5 <= columns["polysemanticity"][u] <= 2 + 1e-5
    defined = ~np.isnan(columns["redundancy"])
    assert (np.abs(columns["redundancy"][defined]) <= 1 + 1e-5).all()
    assert (columns["nearest_unit"][defined] != np.flatnonzero(defined)).all()
    for name in set(AUDITS) & set(columns):
        known = columns[name][~np.isnan(columns[name])]
        low, high = AUDITS[name].low, AUDITS[name].high
        assert (known >= (-np.inf if low is None else low - 1e-5)).all(), name
        assert (known <= (np.inf if high is None else high + 1e-5)).all(), name


@EVERYDAY
@given(layers(), st.integers(1, 6))
def test_results_do_not_depend_on_the_block(layer, unit_block):
    exemplars, image_nd = layer
    whole, groups = small_layers.audited(exemplars, image_nd)
    parts, part_groups = small_layers.audited(exemplars, image_nd, unit_block=unit_block)
    for name in whole:
        np.testing.assert_allclose(parts[name], whole[name], atol=1e-5)
    np.testing.assert_array_equal(part_groups["image_group"], groups["image_group"])


@EVERYDAY
@given(layers())
def test_a_rotation_of_the_embedding_space_changes_nothing(layer):
    exemplars, image_nd = layer
    rng = np.random.default_rng(0)
    rotation, _ = np.linalg.qr(rng.standard_normal((image_nd.shape[1],) * 2))
    first, _ = small_layers.audited(exemplars, image_nd)
    second, _ = small_layers.audited(exemplars, (image_nd @ rotation).astype(np.float32))
    for name in ("clarity", "redundancy"):
        np.testing.assert_allclose(second[name], first[name], atol=1e-4)
