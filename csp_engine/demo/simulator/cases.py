"""What each simulated photograph shows: one row of controls per case, drawn by named scenarios.

A case is a row of independent controls (the columns of ``CONTROLS``). ``render`` turns it into
pixels; nothing else enters an image but the row and its ``seed``. Clinical structures depend on the
diagnosis, as in life; artefacts depend on it only where a scenario says so, which is how shortcuts
are planted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from csp_engine.errors import InputError

DIAGNOSES = ("melanoma", "naevus", "seborrhoeic keratosis")
PATCH_COLOURS = ("blue", "green", "orange", "yellow", "red", "purple", "grey")
INK_COLOURS = ("purple", "blue", "black")
RULERS = ("rod", "edge", "strip")

CLINICAL = (
    "typical_network",
    "atypical_network",
    "dots",
    "globules",
    "streaks",
    "blue_white_veil",
    "regression",
    "vessels",
    "milia_cysts",
)
"""Structures inside a lesion, each drawn or not (0 or 1)."""

CONTROLS: dict[str, str] = {
    "seed": "decides place, shape and noise; cases of one seed differ only in what was changed",
    "diagnosis": "melanoma, naevus or seborrhoeic keratosis",
    "skin_tone": "Fitzpatrick type, 1 (very light) to 6 (very dark)",
    "size": "diameter of the lesion as a share of the image's side, 0.1 to 0.85",
    "asymmetry": "0 (mirror images) to 1 (halves differ in shape and pigment)",
    "irregularity": "0 (smooth border) to 1 (notched and ragged)",
    "n_colours": "how many of the six colours of dermoscopy the lesion shows, 1 to 6",
    "pigment": "how dark the lesion is, 0.3 to 1.5",
    **{name: "0 or 1" for name in CLINICAL},
    "red_skin": "0 or 1: reddened skin around the lesion",
    "ruler": "empty, rod (thin scale with ticks), edge (ticks along a border), strip (white ruler)",
    "patch": "empty, or the colours of colour patches joined by '+'; 'a/b' is a disc of b inside a",
    "ink": "empty, or the colour of pen marks",
    "hair": "empty, sparse or dense",
    "hair_thickness": "thin or thick",
    "hair_shade": "dark or light",
    "gel_bubbles": "0 or 1",
    "gel_border": "0 or 1: the edge of the drop of gel or of the glass plate",
    "dark_corners": "0 or 1: the round opening of the instrument",
}
"""Every column of a table of cases, and its values."""

CLINICAL_RATES: dict[str, dict[str, float]] = {
    "melanoma": {
        "typical_network": 0.10,
        "atypical_network": 0.50,
        "dots": 0.40,
        "globules": 0.25,
        "streaks": 0.35,
        "blue_white_veil": 0.38,
        "regression": 0.32,
        "vessels": 0.28,
        "milia_cysts": 0.04,
    },
    "naevus": {
        "typical_network": 0.55,
        "atypical_network": 0.08,
        "dots": 0.22,
        "globules": 0.35,
        "streaks": 0.06,
        "blue_white_veil": 0.04,
        "regression": 0.06,
        "vessels": 0.10,
        "milia_cysts": 0.03,
    },
    "seborrhoeic keratosis": {
        "typical_network": 0.03,
        "atypical_network": 0.03,
        "dots": 0.12,
        "globules": 0.10,
        "streaks": 0.02,
        "blue_white_veil": 0.06,
        "regression": 0.05,
        "vessels": 0.18,
        "milia_cysts": 0.75,
    },
}
"""How often each structure appears in each diagnosis."""

# Share of lesions that are asymmetric, that have an irregular border, that show many colours; mean
# and deviation of size.
_SHAPE = {
    "melanoma": (0.70, 0.70, 0.60, (0.50, 0.14)),
    "naevus": (0.14, 0.14, 0.10, (0.36, 0.12)),
    "seborrhoeic keratosis": (0.25, 0.20, 0.15, (0.44, 0.13)),
}
_FREE_SHAPE = (0.35, 0.35, 0.30)
_LOW, _HIGH = (0.0, 0.30), (0.62, 1.0)
_FEW, _MANY = (1, 2), (4, 5, 6)
"""Grades lie clearly on one side or the other, so that a concept holds or does not."""


@dataclass(frozen=True)
class Scenario:
    """How cases are drawn.

    Attributes:
        name: what it is called in tables.
        diagnoses: share of each diagnosis.
        rates: how often an artefact appears: one number, or one for each diagnosis.
        bubbles_with_border: share of gel borders that come with bubbles (independent where None).
        free_share: share of cases whose structures and shape do not depend on the diagnosis: for
            teaching words, where a structure must not be told by its company.
        tones: share of skin types 1 to 6.
    """

    name: str
    diagnoses: tuple[float, float, float] = (0.35, 0.45, 0.20)
    rates: Mapping[str, float | tuple[float, float, float]] = field(default_factory=dict)
    bubbles_with_border: float | None = None
    free_share: float = 0.0
    tones: tuple[float, ...] = (0.22, 0.28, 0.22, 0.12, 0.09, 0.07)


_PROBE_RATES: dict[str, float | tuple[float, float, float]] = {
    "ruler": 0.20,
    "patch": 0.22,
    "ink": 0.16,
    "hair": 0.36,
    "gel_bubbles": 0.16,
    "gel_border": 0.12,
    "dark_corners": 0.20,
    "red_skin": 0.15,
}
BIASED_RATES: dict[str, float | tuple[float, float, float]] = {
    "ruler": (0.65, 0.15, 0.15),
    "patch": (0.0, 0.45, 0.45),
    "ink": (0.25, 0.12, 0.12),
    "hair": 0.30,
    "gel_bubbles": 0.15,
    "gel_border": 0.10,
    "dark_corners": (0.32, 0.18, 0.18),
    "red_skin": 0.12,
}
"""Shortcuts as in real archives, by diagnosis (melanoma, naevus, seborrhoeic keratosis)."""

_FAIR_RATES = {
    name: rate if isinstance(rate, float) else float(np.dot(rate, (0.35, 0.45, 0.20)).round(4))
    for name, rate in BIASED_RATES.items()
}
_NONE = dict.fromkeys(_PROBE_RATES, 0.0)

SCENARIOS: dict[str, Scenario] = {
    s.name: s
    for s in (
        Scenario("probe", rates=_PROBE_RATES, bubbles_with_border=0.9),
        Scenario("words", rates={**_PROBE_RATES, "hair": 0.45, "ruler": 0.28, "patch": 0.30,
                                 "ink": 0.25, "gel_bubbles": 0.25, "gel_border": 0.2,
                                 "dark_corners": 0.28, "red_skin": 0.2},
                 free_share=0.6),
        Scenario("biased", rates=BIASED_RATES),
        Scenario("fair", rates=_FAIR_RATES),
        Scenario("clean", rates=_NONE),
        Scenario("counter", rates={
            **_NONE, "hair": 0.30, "gel_bubbles": 0.15, "gel_border": 0.10, "red_skin": 0.12,
            "ruler": (0.0, 0.65, 0.65), "patch": (0.45, 0.0, 0.0), "ink": (0.12, 0.25, 0.25),
            "dark_corners": (0.18, 0.32, 0.32)}),
    )
}  # fmt: skip
"""``probe``: the shipped probe set, artefacts independent of the diagnosis, gel borders nine times
in ten with bubbles. ``words``: for encoder and captioner. ``biased`` and ``fair``: to train the two
classifiers. ``clean``: no artefact. ``counter``: the shortcuts turned round."""


def draw_cases(scenario: str, n: int, seed: int) -> pd.DataFrame:
    """Draw ``n`` cases; equal arguments give equal tables.

    Raises:
        InputError: if the scenario does not exist.
    """
    if scenario not in SCENARIOS:
        raise InputError(
            f"There is no scenario {scenario!r}; choose one of {', '.join(SCENARIOS)}."
        )
    plan = SCENARIOS[scenario]
    stream = [seed, *scenario.encode()]
    rng = np.random.default_rng(stream)
    diagnosis_n = rng.choice(len(DIAGNOSES), n, p=plan.diagnoses)
    table = pd.DataFrame({"seed": rng.integers(2**31, size=n)})
    table["diagnosis"] = np.array(DIAGNOSES, object)[diagnosis_n]
    table["skin_tone"] = rng.choice(6, n, p=plan.tones) + 1
    is_free_n = rng.random(n) < plan.free_share
    shapes = [_SHAPE[d] for d in table["diagnosis"]]
    table["size"] = np.clip([rng.normal(*shape[3]) for shape in shapes], 0.14, 0.82).round(3)
    rates = [
        _FREE_SHAPE if is_free else shape[:3]
        for is_free, shape in zip(is_free_n, shapes, strict=True)
    ]
    for place, name in enumerate(("asymmetry", "irregularity")):
        is_high_n = rng.random(n) < [rate[place] for rate in rates]
        grade_n = np.where(is_high_n, rng.uniform(*_HIGH, n), rng.uniform(*_LOW, n))
        table[name] = grade_n.round(3)
    is_many_n = rng.random(n) < [rate[2] for rate in rates]
    table["n_colours"] = np.where(is_many_n, rng.choice(_MANY, n), rng.choice(_FEW, n))
    table["pigment"] = np.clip(rng.normal(0.85, 0.25, n), 0.3, 1.5).round(3)
    for name in CLINICAL:
        rate_n = np.array([CLINICAL_RATES[d][name] for d in table["diagnosis"]])
        table[name] = (rng.random(n) < np.where(is_free_n, 0.25, rate_n)).astype(np.int8)
    # One network is drawn at most; which of two wins must not depend on their order.
    both = (table["typical_network"] == 1) & (table["atypical_network"] == 1)
    loser = np.where(rng.random(n) < 0.5, "typical_network", "atypical_network")
    for name in ("typical_network", "atypical_network"):
        table.loc[both & (loser == name), name] = 0

    def present(name: str) -> np.ndarray:
        rate = plan.rates.get(name, 0.0)
        rate_n = np.full(n, rate) if isinstance(rate, float) else np.array(rate)[diagnosis_n]
        return rng.random(n) < rate_n

    table["red_skin"] = present("red_skin").astype(np.int8)
    table["ruler"] = _where(present("ruler"), rng.choice(RULERS, n, p=(0.5, 0.33, 0.17)))
    table["patch"] = _where(present("patch"), [_patch(rng) for _ in range(n)])
    table["ink"] = _where(present("ink"), rng.choice(INK_COLOURS, n, p=(0.7, 0.15, 0.15)))
    table["hair"] = _where(present("hair"), rng.choice(("sparse", "dense"), n, p=(0.6, 0.4)))
    table["hair_thickness"] = rng.choice(("thin", "thick"), n)
    table["hair_shade"] = rng.choice(("dark", "light"), n, p=(0.68, 0.32))
    border_n = present("gel_border")
    bubbles_n = present("gel_bubbles")
    if plan.bubbles_with_border is not None:
        bubbles_n = np.where(border_n, rng.random(n) < plan.bubbles_with_border, bubbles_n)
    table["gel_bubbles"] = bubbles_n.astype(np.int8)
    table["gel_border"] = border_n.astype(np.int8)
    table["dark_corners"] = present("dark_corners").astype(np.int8)
    return table[list(CONTROLS)]


def _where(is_there_n: np.ndarray, values: Any) -> np.ndarray:
    return np.where(is_there_n, np.asarray(values, object), "")


def _patch(rng: np.random.Generator) -> str:
    """One or two patches; a third of them have a disc of another colour inside."""
    parts = []
    for _ in range(1 + int(rng.random() < 0.25)):
        outer, inner = rng.choice(PATCH_COLOURS, 2, replace=False)
        parts.append(f"{outer}/{inner}" if rng.random() < 0.3 else str(outer))
    return "+".join(parts)


# --- concepts: what can truly be said of a case --------------------------------------------------

Claim = Callable[[pd.DataFrame], pd.Series]


def _is_on(column: str) -> Claim:
    return lambda cases: cases[column].isin([1, True])


def _has(column: str) -> Claim:
    return lambda cases: cases[column] != ""


def _patch_has(colour: str) -> Claim:
    return lambda cases: cases["patch"].str.split(r"[+/]").map(lambda parts: colour in parts)


def _hair(column: str, value: str) -> Claim:
    return lambda cases: (cases["hair"] != "") & (cases[column] == value)


CONCEPTS: dict[str, tuple[str, Claim]] = {
    "melanoma": ("diagnosis", lambda c: c["diagnosis"] == "melanoma"),
    "naevus": ("diagnosis", lambda c: c["diagnosis"] == "naevus"),
    "seborrhoeic keratosis": (
        "diagnosis",
        lambda c: c["diagnosis"] == "seborrhoeic keratosis",
    ),
    "asymmetric lesion": ("clinical", lambda c: c["asymmetry"] >= 0.5),
    "irregular border": ("clinical", lambda c: c["irregularity"] >= 0.5),
    "many colours": ("clinical", lambda c: c["n_colours"] >= 4),
    "large lesion": ("clinical", lambda c: c["size"] >= 0.52),
    "small lesion": ("clinical", lambda c: c["size"] <= 0.26),
    "typical pigment network": ("clinical", _is_on("typical_network")),
    "atypical pigment network": ("clinical", _is_on("atypical_network")),
    "dots": ("clinical", _is_on("dots")),
    "globules": ("clinical", _is_on("globules")),
    "streaks": ("clinical", _is_on("streaks")),
    "blue-white veil": ("clinical", _is_on("blue_white_veil")),
    "regression": ("clinical", _is_on("regression")),
    "vessels": ("clinical", _is_on("vessels")),
    "milia-like cysts": ("clinical", _is_on("milia_cysts")),
    "reddish skin": ("skin", _is_on("red_skin")),
    "light skin": ("skin", lambda c: c["skin_tone"] <= 2),
    "dark skin": ("skin", lambda c: c["skin_tone"] >= 5),
    "ruler": ("artefact", _has("ruler")),
    "colour patch": ("artefact", _has("patch")),
    **{f"{colour} patch": ("artefact", _patch_has(colour)) for colour in PATCH_COLOURS},
    "ink marks": ("artefact", _has("ink")),
    "hair": ("artefact", _has("hair")),
    "thick hair": ("artefact", _hair("hair_thickness", "thick")),
    "light hair": ("artefact", _hair("hair_shade", "light")),
    "dense hair": ("artefact", _hair("hair", "dense")),
    "gel bubbles": ("artefact", _is_on("gel_bubbles")),
    "gel border": ("artefact", _is_on("gel_border")),
    "dark corners": ("artefact", _is_on("dark_corners")),
}
"""Name of a concept → its kind (diagnosis, clinical, skin, artefact) and when it holds."""


def concept_table(cases: pd.DataFrame) -> pd.DataFrame:
    """Which concept holds for which case: one bool column per entry of ``CONCEPTS``."""
    return pd.DataFrame(
        {name: np.asarray(holds(cases), bool) for name, (_, holds) in CONCEPTS.items()},
        index=cases.index,
    )
