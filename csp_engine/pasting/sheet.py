"""A contact sheet of pairs, for the eye: what a paste looks like before it is believed."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from csp_engine.errors import UnreadableImageError
from csp_engine.pasting.pairs import ImagePairs

TILE, GAP, HEAD = 160, 6, 18
N_SHOWN = 6


def contact_sheet(pairs: ImagePairs, n_shown: int = N_SHOWN) -> Image.Image:
    """The first pairs of every artefact: photographs above, with it below, neutral between.

    Pairs come in the order in which photographs were drawn by chance, so the first are not picked.

    Args:
        pairs: what to show.
        n_shown: of each artefact, at most.
    """
    artefacts = list(dict.fromkeys(pairs.table["artefact"]))
    width = n_shown * (TILE + GAP) + GAP
    block = HEAD + 3 * (TILE + GAP) + GAP
    sheet = Image.new("RGB", (width, block * len(artefacts)), "white")
    pen = ImageDraw.Draw(sheet)
    for at, artefact in enumerate(artefacts):
        top = at * block
        name = artefact.encode("ascii", "replace").decode()  # the font knows no more
        pen.text((GAP, top + 3), f"{name}: without, neutral, with", fill="black")
        rows = np.flatnonzero((pairs.table["artefact"] == artefact).to_numpy())[:n_shown]
        for column, row in enumerate(rows):
            try:
                without, with_it, neutral = pairs.images(int(row))
            except (UnreadableImageError, OSError):
                continue  # told where its effect is measured
            for line, image in enumerate((without, neutral, with_it)):
                if image is not None:
                    tile = ImageOps.contain(image, (TILE, TILE))
                    left = GAP + column * (TILE + GAP)
                    sheet.paste(tile, (left, top + HEAD + line * (TILE + GAP)))
    return sheet
