"""How people name what a photograph shows: wordings of every concept, and captions made of them.

``WORDINGS`` are learnt from; ``HELD_OUT`` are never seen in training and measure whether the
encoder understands a concept or only remembers phrases. Their single words do occur in training, in
other company: no encoder can know a word that it never met. Captions state what is there and never
what is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from csp_engine.demo.simulator.cases import PATCH_COLOURS

_COLOUR_WORDS = {
    "blue": ("blue", "azure", "bright blue"),
    "green": ("green", "turquoise", "teal"),
    "orange": ("orange", "bright orange"),
    "yellow": ("yellow", "lemon yellow", "golden"),
    "red": ("red", "coral", "salmon red"),
    "purple": ("purple", "violet", "lavender"),
    "grey": ("grey", "gray", "silver"),
}

WORDINGS: dict[str, tuple[str, ...]] = {
    "melanoma": (
        "melanoma", "malignant melanoma", "malignant lesion", "skin cancer", "malignant tumour",
    ),
    "naevus": ("naevus", "nevus", "mole", "benign mole", "melanocytic naevus", "common mole"),
    "seborrhoeic keratosis": (
        "seborrhoeic keratosis", "seborrheic keratosis", "benign keratosis", "waxy keratosis",
        "keratosis", "stuck-on waxy growth",
    ),
    "asymmetric lesion": (
        "asymmetric lesion", "asymmetry", "asymmetrical shape", "lopsided lesion", "uneven halves",
        "asymmetric spot",
    ),
    "irregular border": (
        "irregular border", "ragged edge", "notched border", "jagged outline", "uneven border",
        "irregular outline",
    ),
    "many colours": (
        "many colours", "several colours", "multicoloured lesion", "colour variegation",
        "variegated pigment", "mixed colours",
    ),
    "large lesion": ("large lesion", "big lesion", "wide lesion", "large diameter", "large spot"),
    "small lesion": (
        "small lesion", "tiny lesion", "little lesion", "small diameter", "small spot",
    ),
    "typical pigment network": (
        "typical pigment network", "regular pigment network", "fine brown mesh", "regular network",
        "delicate honeycomb network", "even brown grid",
    ),
    "atypical pigment network": (
        "atypical pigment network", "irregular pigment network", "thick dark mesh",
        "broken network", "coarse irregular network", "uneven dark net",
    ),
    "dots": ("dots", "tiny brown dots", "small dark points", "fine speckles", "pinpoint dots"),
    "globules": (
        "globules", "brown globules", "round brown clods", "brown blobs", "cobblestone globules",
    ),
    "streaks": (
        "streaks", "radial streaks", "pseudopods", "radial lines at the edge", "starburst lines",
        "finger-like projections",
    ),
    "blue-white veil": (
        "blue-white veil", "bluish veil", "blue haze", "milky blue area", "blue-grey veil",
        "whitish blue film",
    ),
    "regression": (
        "regression", "white scar-like area", "regression area", "scar-like depigmentation",
        "peppering", "white scar",
    ),
    "vessels": (
        "vessels", "blood vessels", "red vessels", "red winding lines", "vascular structures",
        "tiny veins in the lesion",
    ),
    "milia-like cysts": (
        "milia-like cysts", "milia cysts", "small white cysts", "bright white spots",
        "whitish round cysts", "milia",
    ),
    "reddish skin": (
        "reddish skin", "red skin", "erythema", "inflamed skin", "skin redness", "flushed skin",
    ),
    "light skin": ("light skin", "fair skin", "pale skin", "white skin", "very light complexion"),
    "dark skin": (
        "dark skin", "brown skin", "deeply pigmented skin", "black skin", "dark complexion",
    ),
    "ruler": (
        "ruler", "scale bar", "measuring scale", "tick marks", "measuring tape", "millimetre scale",
        "ruler marks",
    ),
    "colour patch": (
        "colour patch", "color patch", "coloured sticker", "calibration sticker", "coloured disc",
        "round sticker", "coloured plaster", "band-aid",
    ),
    **{
        f"{colour} patch": tuple(
            f"{word} {thing}"
            for word in _COLOUR_WORDS[colour]
            for thing in ("patch", "sticker", "disc")
        )
        for colour in PATCH_COLOURS
    },
    "ink marks": (
        "ink marks", "pen marks", "surgical ink", "skin marker", "marker ink", "ink lines",
        "drawn pen lines",
    ),
    "hair": (
        "hair", "hairs", "body hair", "hairs across the lesion", "hairy skin", "strands of hair",
    ),
    "thick hair": ("thick hair", "coarse hair", "thick hairs", "bold hair strands"),
    "light hair": ("light hair", "blond hair", "white hair", "pale hairs", "fair hairs"),
    "dense hair": ("dense hair", "many hairs", "lots of hair", "thickly covered with hair"),
    "gel bubbles": (
        "gel bubbles", "air bubbles", "bubbles", "bubbles in the gel", "immersion bubbles",
        "small air bubbles",
    ),
    "gel border": (
        "gel border", "edge of the gel", "gel edge", "rim of the gel drop", "fluid edge",
        "contact plate edge",
    ),
    "dark corners": (
        "dark corners", "black corners", "vignette", "black frame", "dark vignetting",
        "round black border", "microscope opening",
    ),
}  # fmt: skip
"""Concept → wordings that captions use; the first is the concept's own name."""

HELD_OUT: dict[str, tuple[str, ...]] = {
    "melanoma": ("malignant mole", "melanoma tumour"),
    "naevus": ("benign naevus", "common nevus"),
    "seborrhoeic keratosis": ("waxy lesion", "benign waxy keratosis"),
    "asymmetric lesion": ("lopsided shape", "asymmetrical lesion"),
    "irregular border": ("ragged border", "jagged edge"),
    "many colours": ("multicoloured pigment", "variegated colours"),
    "large lesion": ("big spot", "wide diameter"),
    "small lesion": ("tiny spot", "little diameter"),
    "typical pigment network": ("regular brown mesh", "fine honeycomb network"),
    "atypical pigment network": ("thick irregular network", "coarse dark mesh"),
    "dots": ("tiny dark dots", "fine points"),
    "globules": ("round brown globules", "brown cobblestone blobs"),
    "streaks": ("radial pseudopods", "starburst streaks"),
    "blue-white veil": ("bluish haze", "milky blue veil"),
    "regression": ("white regression", "depigmentation scar"),
    "vessels": ("red blood vessels", "winding vessels"),
    "milia-like cysts": ("white milia", "bright round cysts"),
    "reddish skin": ("inflamed red skin", "flushed red skin"),
    "light skin": ("pale complexion", "fair white skin"),
    "dark skin": ("black complexion", "dark brown skin"),
    "ruler": ("millimetre ruler", "measuring marks"),
    "colour patch": ("round coloured patch", "calibration disc"),
    **{
        f"{colour} patch": (f"round {colour} sticker", f"{_COLOUR_WORDS[colour][1]} plaster")
        for colour in PATCH_COLOURS
    },
    "ink marks": ("surgical marker", "pen ink"),
    "hair": ("hairy lesion", "strands of body hair"),
    "thick hair": ("coarse hairs", "thick strands"),
    "light hair": ("pale blond hair", "fair hair"),
    "dense hair": ("many strands of hair", "dense hairs"),
    "gel bubbles": ("immersion air bubbles", "small bubbles"),
    "gel border": ("gel drop edge", "edge of the fluid"),
    "dark corners": ("black vignette", "dark round border"),
}
"""Concept → wordings that training never uses."""

UNRELATED = (
    "cat", "dog", "car", "tree", "house", "face", "water", "grass", "wood", "metal", "letter",
    "flower", "bird", "food", "sky", "road", "book", "chair", "lamp", "cloud",
)  # fmt: skip
"""Words of other worlds; they are in the vocabulary so that a label can be wrong in plain sight."""

FILLERS = (
    "skin photograph", "dermoscopy", "dermoscopic image", "close-up of skin", "clinic photograph",
    "polarised light", "magnified skin", "archive photograph",
)  # fmt: skip
"""True of every photograph, so they say nothing."""

FRAMES = (
    "{}", "{}", "{}", "a {}", "{}-like", "an image of a {}", "a photo of a {}",
    "a close up of a {}",
    "an image of close up of a {}", "dermoscopy of {}", "a dermoscopic image showing {}",
    "a lesion with {}", "skin with {}", "a picture with {}", "{} in a skin photograph",
)  # fmt: skip
_JOINTS = (" and ", ", ", " with ", " beside ", " together with ", " next to ")


@dataclass(frozen=True)
class Caption:
    """A text and the concepts that must all hold for it to be true of a photograph."""

    text: str
    concepts: tuple[str, ...]


def caption(
    shown: Sequence[str], rng: np.random.Generator, wordings: dict[str, tuple[str, ...]] = WORDINGS
) -> Caption:
    """Say part of what a photograph shows: one to four of its concepts, in some wording.

    Args:
        shown: names of the concepts that hold, see ``CONCEPTS``.
        rng: decides what is said and how.
        wordings: which words may be used.
    """
    if not shown:
        return Caption(str(rng.choice(FILLERS)), ())
    n = min(len(shown), int(rng.choice([1, 2, 3, 4], p=(0.62, 0.24, 0.09, 0.05))))
    said = tuple(str(name) for name in rng.choice(list(shown), n, replace=False))
    text = wordings[said[0]][int(rng.integers(len(wordings[said[0]])))]
    for name in said[1:]:
        word = wordings[name][int(rng.integers(len(wordings[name])))]
        text += _JOINTS[int(rng.integers(len(_JOINTS)))] + word
    text = FRAMES[int(rng.integers(len(FRAMES)))].replace("{}", text)
    if rng.random() < 0.12:
        filler = FILLERS[int(rng.integers(len(FILLERS)))]
        text = f"{filler}, {text}" if rng.random() < 0.5 else f"{text}, {filler}"
    return Caption(text, said)


def vocabulary() -> list[str]:
    """The demo's candidate labels: every wording that captions use, and unrelated words."""
    words = [word for name in WORDINGS for word in WORDINGS[name]]
    return list(dict.fromkeys([*words, *FILLERS, *UNRELATED]))
