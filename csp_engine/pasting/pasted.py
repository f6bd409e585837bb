"""Pairs of a user's own photographs: without an artefact, with it, and with plain skin."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from csp_engine.errors import InputError, UnreadableImageError
from csp_engine.hashing import sha256_array, sha256_json
from csp_engine.pasting.cutouts import CutOut, read_cutouts
from csp_engine.pasting.gate import NAMES
from csp_engine.pasting.lesion import find_lesion
from csp_engine.pasting.pairs import Triple
from csp_engine.pasting.paste import (
    LEAST_SIDE,
    VERSION,
    NoPlaceError,
    Pasted,
    Place,
    draw,
    place,
    require_known,
)
from csp_engine.probe import ProbeSet
from csp_engine.probe.decoding import decode
from csp_engine.probe.decoding.mask import decode_mask
from csp_engine.reading.groups import names_of_groups
from csp_engine.reading.tables import singular_key
from csp_engine.types import Progress, silent

logger = logging.getLogger(__name__)


class PastedPairs:
    """One artefact at a time into photographs of a probe set, one photograph for each group.

    The same photographs serve all artefacts as far as they can: those that have one already are
    left out for that one, and so are those with no place for it. What was left out is counted in a
    warning.
    """

    def __init__(
        self,
        probe: ProbeSet,
        artefacts: Sequence[str],
        n_pairs: int,
        seed: int,
        cutouts: Path | None = None,
        *,
        progress: Progress = silent,
    ) -> None:
        """Choose the photographs and the places.

        Args:
            probe: the photographs. A column of masks with "lesion" in its name says where the
                lesions are; else they are looked for.
            artefacts: what to paste, by the names of ``ARTEFACTS`` or of the cut-outs.
            n_pairs: pairs of each artefact, fewer where there are no more photographs.
            seed: chooses photographs, places and shades.
            cutouts: a folder of one's own artefacts, see ``read_cutouts``.
            progress: called for each photograph.

        Raises:
            InputError: if an artefact is unknown, or no photograph can take one.
        """
        if n_pairs < 1:
            raise InputError(f"{n_pairs} pairs show nothing; give 1 or more.")
        self._cutouts: dict[str, list[CutOut]] = {} if cutouts is None else read_cutouts(cutouts)
        self._artefacts = list(dict.fromkeys(artefacts))
        if not self._artefacts:
            raise InputError("No artefact to paste is named; name one, such as 'ruler'.")
        for artefact in self._artefacts:
            require_known(artefact, self._cutouts)
        self.photos = probe
        self._seed = seed
        self._masks = next((name for name in probe.masks if "lesion" in name.casefold()), None)
        self._lesion_sha256: dict[int, str] = {}
        self._lost: dict[str, Counter[str]] = {a: Counter() for a in self._artefacts}
        chosen = self._choose(n_pairs, progress)
        self._rows = [row for _, row, _ in chosen]
        self._attempts = [attempt for *_, attempt in chosen]
        table = probe.table.iloc[self._rows]
        groups = table["group"].tolist() if "group" in table else [None] * len(table)
        self.table = pd.DataFrame(
            {
                "artefact": [artefact for artefact, *_ in chosen],
                "file": table["file"].tolist(),
                "group": [None if pd.isna(group) else str(group) for group in groups],
                "sha256": table["sha256"].tolist(),
            },
            dtype=object,
        )
        self.name = f"{', '.join(self._artefacts)} pasted into photographs of {probe.name}"
        self._tell()
        self.fingerprint = sha256_json(
            {
                "version": VERSION,
                "seed": seed,
                "cutouts": {
                    name: [cutout.sha256 for cutout in self._cutouts.get(name, ())]
                    for name in self._artefacts
                },
                "pairs": [
                    [artefact, sha256, attempt, self._lesion_sha256[row]]
                    for (artefact, row, attempt), sha256 in zip(
                        chosen, table["sha256"], strict=True
                    )
                ],
            }
        )

    def images(self, row: int) -> Triple:
        """The photograph, with the artefact, and with plain skin in its place."""
        made = self.pasted(row)
        return made.without, made.with_it, made.neutral

    def pasted(self, row: int) -> Pasted:
        """The same with the masks of what was pasted.

        Raises:
            UnreadableImageError: if the file has gone since.
        """
        image = decode(self.photos.read(self._rows[row]))
        at = Place(self._attempts[row], self._lesion(self._rows[row], image))
        return draw(image, self.table["artefact"][row], self._seed, at, self._cutouts)

    def _choose(self, n_pairs: int, progress: Progress) -> list[tuple[str, int, int]]:
        """Artefact, row of the probe set and place of each pair, artefact by artefact."""
        found: dict[str, list[tuple[str, int, int]]] = {a: [] for a in self._artefacts}
        groups = self._groups()
        used: dict[str, set[object]] = {a: set() for a in self._artefacts}
        shown = {a: _shown(self.photos, a) for a in self._artefacts}
        n_wanted = n_pairs * len(self._artefacts)
        for row in self._order():
            wanted = [
                artefact
                for artefact in self._artefacts
                if len(found[artefact]) < n_pairs and groups[row] not in used[artefact]
            ]
            for artefact in wanted:
                self._lost[artefact]["have it already"] += int(shown[artefact][row])
            wanted = [artefact for artefact in wanted if not shown[artefact][row]]
            if not wanted:
                continue
            try:
                image = decode(self.photos.read(row))
            except UnreadableImageError:
                for artefact in wanted:
                    self._lost[artefact]["cannot be read"] += 1
                continue
            for artefact, at in self._places_in(row, image, wanted):
                found[artefact].append((artefact, row, at))
                used[artefact].add(groups[row])
            progress("paste artefacts", sum(map(len, found.values())), n_wanted)
            if all(len(pairs) == n_pairs for pairs in found.values()):
                break
        return [pair for artefact in self._artefacts for pair in found[artefact]]

    def _places_in(
        self, row: int, image: Image.Image, wanted: Sequence[str]
    ) -> Iterator[tuple[str, int]]:
        if min(image.size) < LEAST_SIDE:
            for artefact in wanted:
                self._lost[artefact][f"have fewer than {LEAST_SIDE} pixels on a side"] += 1
            return
        lesion_hw = self._lesion(row, image)
        for artefact in wanted:
            own = self._cutouts.get(artefact, ())
            if own and not any(c.width <= image.width and c.height <= image.height for c in own):
                self._lost[artefact]["are smaller than the cut-out"] += 1
                continue
            try:
                at = place(image, artefact, self._seed, self._cutouts, lesion_hw)
            except NoPlaceError:
                self._lost[artefact]["have no place that leaves the lesion free"] += 1
                continue
            self._lesion_sha256[row] = sha256_array(lesion_hw)
            yield artefact, at.attempt

    def _lesion(self, row: int, image: Image.Image) -> np.ndarray:
        """The lesion: as a mask says, else as it is found."""
        file = None if self._masks is None else self.photos.table[self._masks].iloc[row]
        if not isinstance(file, str):
            return find_lesion(image)
        try:
            mask_hw = decode_mask((self.photos.root / file).read_bytes())
        except (OSError, UnreadableImageError) as error:
            logger.warning("The lesion is looked for, as %s cannot be used: %s", file, error)
            return find_lesion(image)
        mask = Image.fromarray(mask_hw)
        if mask.size != image.size:
            mask = mask.resize(image.size, Image.Resampling.NEAREST)
        return np.asarray(mask, bool)

    def _order(self) -> list[int]:
        return np.random.default_rng(self._seed).permutation(len(self.photos)).tolist()

    def _groups(self) -> list[object]:
        return names_of_groups(self.photos.table).tolist()

    def _tell(self) -> None:
        """Warn of what was left out; refuse where nothing is left."""
        n_found = Counter(self.table["artefact"])
        for artefact, reasons in self._lost.items():
            said = ", ".join(f"{n} {reason}" for reason, n in reasons.items() if n)
            if not n_found[artefact]:
                raise InputError(
                    f"No photograph of {self.photos.name!r} can take {artefact!r}: "
                    f"{said or 'there is none'}; give others, or leave {artefact!r} out."
                )
            if said:
                logger.warning(
                    "%s: pasted into %d photographs; left out of those looked at: %s.",
                    *(artefact, n_found[artefact], said),
                )


def columns_of(probe: ProbeSet, artefact: str) -> list[str]:
    """The columns of concepts that say which photographs have an artefact."""
    names = {singular_key(name) for name in (artefact, *NAMES.get(artefact, ()))}
    return [column for column in probe.concepts if singular_key(column) in names]


def _shown(probe: ProbeSet, artefact: str) -> np.ndarray:
    """Which photographs are known to have the artefact."""
    return (probe.table[columns_of(probe, artefact)] > 0).any(axis=1).to_numpy()
