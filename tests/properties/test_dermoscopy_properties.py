"""Any legal combination of controls renders, and its masks say what was asked for."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from csp_engine.demo.simulator.cases import (
    CLINICAL,
    CONTROLS,
    DIAGNOSES,
    INK_COLOURS,
    PATCH_COLOURS,
    RULERS,
)
from csp_engine.demo.simulator.render import MASKS, render
from csp_engine.pasting.canvas import SIDE

BIT = st.sampled_from([0, 1])
COLOUR = st.sampled_from(PATCH_COLOURS)
ONE_PATCH = st.one_of(COLOUR, st.tuples(COLOUR, COLOUR).map("/".join))
CASE = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**31 - 1),
        "diagnosis": st.sampled_from(DIAGNOSES),
        "skin_tone": st.integers(1, 6),
        "size": st.floats(0.1, 0.85),
        "asymmetry": st.floats(0, 1),
        "irregularity": st.floats(0, 1),
        "n_colours": st.integers(1, 6),
        "pigment": st.floats(0.3, 1.5),
        **dict.fromkeys(CLINICAL, BIT),
        "red_skin": BIT,
        "ruler": st.sampled_from(["", *RULERS]),
        "patch": st.one_of(st.just(""), st.lists(ONE_PATCH, min_size=1, max_size=3).map("+".join)),
        "ink": st.sampled_from(["", *INK_COLOURS]),
        "hair": st.sampled_from(["", "sparse", "dense"]),
        "hair_thickness": st.sampled_from(["thin", "thick"]),
        "hair_shade": st.sampled_from(["dark", "light"]),
        "gel_bubbles": BIT,
        "gel_border": BIT,
        "dark_corners": BIT,
    }
)
ALL_AT_ONCE = {
    "seed": 2**31 - 1, "diagnosis": "seborrhoeic keratosis", "skin_tone": 6, "size": 0.85,
    "asymmetry": 1.0, "irregularity": 1.0, "n_colours": 6, "pigment": 1.5,
    **dict.fromkeys(CLINICAL, 1), "red_skin": 1, "ruler": "strip",
    "patch": "blue/red+green+grey/yellow", "ink": "black", "hair": "dense",
    "hair_thickness": "thick", "hair_shade": "light", "gel_bubbles": 1, "gel_border": 1,
    "dark_corners": 1,
}  # fmt: skip
NOTHING = {
    **ALL_AT_ONCE, **dict.fromkeys(CLINICAL, 0), "seed": 0, "size": 0.1, "asymmetry": 0.0,
    "irregularity": 0.0, "n_colours": 1, "pigment": 0.3, "red_skin": 0, "ruler": "", "patch": "",
    "ink": "", "hair": "", "gel_bubbles": 0, "gel_border": 0, "dark_corners": 0,
}  # fmt: skip


@given(CASE)
@example(ALL_AT_ONCE)
@example(NOTHING)
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
def test_any_legal_case_renders(case):
    assert set(case) == set(CONTROLS)
    photograph = render(case)
    assert photograph.image_hwc.shape == (SIDE, SIDE, 3)
    assert photograph.image_hwc.dtype == np.uint8
    assert photograph.image_hwc.std() > 1  # never one flat colour
    assert tuple(photograph.masks) == MASKS
    for name, mask_hw in photograph.masks.items():
        assert mask_hw.shape == (SIDE, SIDE)
        assert mask_hw.dtype == bool
        if name != "lesion" and case[name] in (0, ""):
            assert not mask_hw.any()
    assert photograph.masks["lesion"].any()
    assert all(0 <= share <= 1 for share in photograph.shares().values())


@given(CASE, st.sampled_from(["hair", "ink", "patch", "ruler"]))
@settings(deadline=None, max_examples=6, suppress_health_check=[HealthCheck.too_slow])
def test_what_lies_on_the_skin_changes_no_mask_of_what_is_in_it(case, name):
    before = render({**case, name: ""})
    after = render({**case, name: {"hair": "dense", "ink": "blue", "patch": "red",
                                   "ruler": "rod"}[name]})  # fmt: skip
    for other in MASKS:
        if other != name:
            assert np.array_equal(before.masks[other], after.masks[other])
