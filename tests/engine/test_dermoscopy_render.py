"""Rendered photographs: equal bytes everywhere, and controls that change their own pixels only."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from csp_engine.demo.simulator.cases import CLINICAL, RULERS, draw_cases
from csp_engine.demo.simulator.render import MASKS, VERSION, Photograph, render
from csp_engine.pasting.canvas import SIDE

KNOWN = {2: "31d2ad193b123d312e2ce97eb52bf6576155a9199a37050555ce4463a56b8e04"}
"""Render version → digest of the pixels and masks of ``portraits``. Other pixels without another
version would leave stale pictures in every work folder."""

Case = dict[str, Any]

OFF = {
    **dict.fromkeys(CLINICAL, 0),
    "red_skin": 0, "ruler": "", "patch": "", "ink": "", "hair": "",
    "gel_bubbles": 0, "gel_border": 0, "dark_corners": 0,
}  # fmt: skip
"""Every control that has a mask, switched off."""

SWITCHES = [
    *[(name, {name: 1}) for name in (*CLINICAL, "red_skin")],
    *[("ruler", {"ruler": kind}) for kind in RULERS],
    ("patch", {"patch": "blue"}),
    ("patch", {"patch": "orange/grey+red"}),
    ("ink", {"ink": "purple"}),
    ("ink", {"ink": "black"}),
    *[
        ("hair", {"hair": density, "hair_thickness": thickness, "hair_shade": shade})
        for density, thickness, shade in (
            ("sparse", "thin", "dark"), ("dense", "thick", "dark"), ("dense", "thin", "light"),
            ("sparse", "thick", "light"),
        )
    ],
    *[(name, {name: 1}) for name in ("gel_bubbles", "gel_border", "dark_corners")],
]  # fmt: skip

REACH = {
    # Strokes and spots: the lens spreads them by a pixel; faint rims lie below the mask's share.
    **dict.fromkeys(("dots", "globules", "streaks", "vessels", "milia_cysts"), 5),
    **dict.fromkeys(("ruler", "gel_bubbles"), 3),
    "hair": 5,  # thick hair throws a shadow, light hair a dark rim
    "patch": 12,  # the shadow of its edge
    # Regions that fade out: below 12 % they are changed but not counted as covered.
    **dict.fromkeys(("typical_network", "atypical_network", "blue_white_veil", "regression"), 24),
    "ink": 24,  # ink bleeds into the skin
    "red_skin": 48,
}
"""How many pixels beyond its mask a thing may change the picture by more than ``SEEN``.

Two reach further by nature and have tests of their own: outside the gel all skin changes tone, and
towards dark corners light falls off.
"""
SEEN = 3
"""Steps of 255; fainter changes are not seen."""


def portraits() -> list[Case]:
    """24 cases in which every control is on and off, and every kind of thing occurs."""
    cases = draw_cases("words", 24, 11).to_dict("records")
    for i, (_, on) in enumerate(SWITCHES):
        cases[i % 24].update(on)
    for case in cases:  # one network at most, as in tables
        case["atypical_network"] *= 1 - case["typical_network"]
    return cases


def digest(photographs: list[Photograph]) -> list[str]:
    return [
        hashlib.sha256(
            b"".join([p.image_hwc.tobytes(), *(p.masks[name].tobytes() for name in MASKS)])
        ).hexdigest()[:16]
        for p in photographs
    ]


def elsewhere(**environment: str) -> list[str]:
    """Digests of the portraits rendered by a fresh process with other settings."""
    script = (
        "import json; from tests.engine.test_dermoscopy_render import *; "
        "print(json.dumps(digest([render(c) for c in portraits()])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


def dispatched_features() -> str:
    """What numpy may use beyond the least that it needs on this kind of processor."""
    from numpy._core import _multiarray_umath as compiled

    found: dict[str, bool] = compiled.__cpu_features__
    return " ".join(name for name in compiled.__cpu_dispatch__ if found.get(name))


@pytest.fixture(scope="module")
def rendered() -> list[Photograph]:
    return [render(case) for case in portraits()]


@pytest.fixture(scope="module")
def bases() -> list[Case]:
    return draw_cases("words", 2, 5).to_dict("records")


def test_portraits_show_everything_on_and_off():
    cases = portraits()
    for name, off in OFF.items():
        assert {case[name] == off for case in cases} == {True, False}, name


def test_the_same_case_gives_the_same_bytes(rendered):
    assert digest([render(case) for case in portraits()[:6]]) == digest(rendered[:6])


def test_pixels_are_those_of_the_render_version(rendered):
    whole = hashlib.sha256("".join(digest(rendered)).encode()).hexdigest()
    assert whole == KNOWN.get(VERSION), "pixels changed: raise render.VERSION and note the digest"


@pytest.mark.slow
@pytest.mark.parametrize("numpy_uses", ["no AVX-512", "the least"])
def test_other_processors_give_the_same_bytes(rendered, numpy_uses):
    """numpy chooses its loops, and the C library its sines, by what the processor can do.

    Both are told here to do without; that a sine of the C library does change is checked below.
    """
    features = dispatched_features().split()
    if not features:
        pytest.skip("numpy uses nothing on this processor that can be switched off")
    if numpy_uses == "no AVX-512":
        features = [name for name in features if "512" in name or name.endswith("V4")]
        assert elsewhere(NPY_DISABLE_CPU_FEATURES=" ".join(features)) == digest(rendered)
        return
    plain = "glibc.cpu.hwcaps=-AVX2,-FMA,-FMA4,-AVX512F,-AVX2_Usable,-FMA_Usable"
    assert digest(rendered) == elsewhere(
        NPY_DISABLE_CPU_FEATURES=" ".join(features), GLIBC_TUNABLES=plain
    )


def changes(before: Photograph, after: Photograph) -> np.ndarray:
    """Largest change of a channel at every pixel."""
    return np.abs(before.image_hwc.astype(int) - after.image_hwc).max(2)


def far_from(mask_hw: np.ndarray) -> np.ndarray:
    return ndimage.distance_transform_edt(~mask_hw)


def pair(base: Case, name: str, on: Case) -> tuple[Photograph, Photograph]:
    off = {**base, **on, name: OFF[name]}
    if name in ("typical_network", "atypical_network"):
        off |= {"typical_network": 0, "atypical_network": 0}
    return render(off), render({**off, name: on[name]})


@pytest.mark.slow
@pytest.mark.parametrize(("name", "on"), SWITCHES, ids=[str(on) for _, on in SWITCHES])
def test_a_control_changes_its_own_mask_and_the_pixels_there(bases, name, on):
    for base in bases:
        before, after = pair(base, name, on)
        for other in MASKS:
            if other != name:
                assert np.array_equal(before.masks[other], after.masks[other]), other
        assert not before.masks[name].any()
        assert after.masks[name].any()
        change_hw = changes(before, after)
        in_mask = change_hw[after.masks[name]]
        assert (in_mask > 0).mean() > 0.6  # the rest lies under something else, or is as dark
        if name in REACH:
            # A hair may pass just outside of the picture and throw its shadow in.
            at_edge = np.ones((SIDE, SIDE), bool)
            at_edge[5:-5, 5:-5] = False
            is_near = far_from(after.masks[name]) <= REACH[name]
            is_near |= at_edge if name == "hair" else False
            assert change_hw[~is_near].max(initial=0) <= SEEN


def test_dark_corners_leave_the_middle_alone(bases):
    x, y = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
    is_middle = np.hypot(x - SIDE / 2, y - SIDE / 2) < 50
    for base in bases:
        before, after = pair(base, "dark_corners", {"dark_corners": 1})
        assert changes(before, after)[is_middle].max() == 0
        assert not after.masks["dark_corners"][is_middle].any()
        covered = after.image_hwc[after.masks["dark_corners"]].mean()
        assert covered < before.image_hwc[after.masks["dark_corners"]].mean() - 10


def test_gel_changes_the_skin_on_one_side_of_its_border(bases):
    for base in bases:
        before, after = pair(base, "gel_border", {"gel_border": 1})
        line_hw = far_from(after.masks["gel_border"]) <= 4
        sides_hw, n = ndimage.label(~line_hw)
        changed = [float((changes(before, after)[sides_hw == i + 1] > 0).mean())
                   for i in range(n) if (sides_hw == i + 1).sum() > 200]  # fmt: skip
        assert all(c < 0.01 or c > 0.5 for c in changed), changed
        assert min(changed) < 0.01 < 0.5 < max(changed)


def test_shades_and_numbers_move_no_mask(bases):
    base = {**bases[0], "skin_tone": 3, "pigment": 0.8, "n_colours": 1}
    before = render(base)
    for name, value in (("skin_tone", 6), ("skin_tone", 1), ("pigment", 1.4), ("n_colours", 6)):
        after = render({**base, name: value})
        assert changes(before, after).max() > SEEN
        for mask in MASKS:
            assert np.array_equal(before.masks[mask], after.masks[mask])


def test_the_lesions_shape_moves_no_artefact(bases):
    artefacts = MASKS[MASKS.index("red_skin") :]
    base = {**bases[1], "ruler": "rod", "patch": "green", "ink": "blue", "hair": "dense",
            "gel_bubbles": 1, "gel_border": 1, "dark_corners": 1, "red_skin": 1}  # fmt: skip
    for name, value in (("size", 0.75), ("asymmetry", 1.0), ("irregularity", 1.0)):
        before, after = render({**base, name: 0.2}), render({**base, name: value})
        assert not np.array_equal(before.masks["lesion"], after.masks["lesion"])
        for mask in artefacts:
            assert np.array_equal(before.masks[mask], after.masks[mask])


def test_larger_darker_more_uneven(bases):
    """The controls of shape and shade do what their names say."""
    small, large = (render({**bases[0], "size": s}).masks["lesion"].mean() for s in (0.2, 0.6))
    assert large > 4 * small
    bare = {**bases[0], **OFF}
    light, dark = (render({**bare, "pigment": p}) for p in (0.4, 1.4))
    inside = light.masks["lesion"]
    assert dark.image_hwc[inside].mean() < light.image_hwc[inside].mean() - 20
    fair, brown = (render({**bare, "skin_tone": t}) for t in (1, 6))
    assert brown.image_hwc[~inside].mean() < fair.image_hwc[~inside].mean() - 50

    def roughness(mask_hw: np.ndarray) -> float:
        """Length of the border over that of a circle of equal area."""
        border = mask_hw & ~ndimage.binary_erosion(mask_hw)
        return border.sum() / np.sqrt(4 * np.pi * mask_hw.sum())

    smooth, ragged = (
        np.mean([roughness(render({**b, "irregularity": i, "asymmetry": 0.2}).masks["lesion"])
                 for b in bases])
        for i in (0.0, 1.0)
    )  # fmt: skip
    assert ragged > smooth


def test_masks_are_empty_where_nothing_was_asked_for(rendered):
    for case, photograph in zip(portraits(), rendered, strict=True):
        for name, off in OFF.items():
            if case[name] == off:
                assert not photograph.masks[name].any(), name


def test_grid_and_shares_follow_from_the_masks(rendered):
    for photograph in rendered[:5]:
        grid = photograph.grid(8)
        shares = photograph.shares()
        assert grid.shape == (len(MASKS), 8, 8)
        for i, name in enumerate(MASKS):
            mask_hw = photograph.masks[name]
            blocks = mask_hw.reshape(8, SIDE // 8, 8, SIDE // 8).any((1, 3))
            assert np.array_equal(grid[i], blocks)
            assert shares[name] == pytest.approx(mask_hw.mean())
    assert rendered[0].grid().shape == (len(MASKS), 10, 10)
