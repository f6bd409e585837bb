"""What goes with a column of the probe set, so that it could be what units answer to instead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float32, Float64, Int

MOST_LEVELS = 12
"""Texts of more kinds than this say too little of each image to compare by."""
STRONG = 0.1
"""Cramér's V from which a column counts as going with another."""
SAME = 0.9
"""Cramér's V from which these images cannot tell two columns apart."""
KIN = 0.95
"""Share of the images of one column that show another, for the first to be a kind of the second."""
_FEWEST = 5


@dataclass(frozen=True, slots=True)
class Together:
    """How strongly another column goes with one: Cramér's V, over images of which both are known.

    ``is_same``: these images cannot tell them apart.
    """

    name: str
    v: float
    n_images: int

    @property
    def is_same(self) -> bool:
        """Whether hardly any image shows one without the other."""
        return self.v >= SAME


def levels_of(
    images: pd.DataFrame,
    concepts: Sequence[str],
    left_out: Sequence[str],
    *,
    as_before: bool = False,
) -> dict[str, Int[np.ndarray, " n"]]:
    """What is known of images, as small numbers by column; negative where not known.

    Flags are 0 and 1; texts of 2 to ``MOST_LEVELS`` kinds their place, and so are whole numbers of
    as many, which may be codes of sites or devices; other numbers the third of the images that they
    lie in, or the side of the median. Columns that part nothing are left out, and so is what says
    how much of a concept there is, as its share of the picture does. ``as_before`` takes whole
    numbers for sizes, and leaves out what is mostly one number, as earlier versions did.
    """
    found = {}
    value_nc = images[list(concepts)].to_numpy(np.float64)
    for column in images.columns:
        if column in left_out:
            continue
        values = images[column]
        if column in concepts:
            code = values.fillna(-1).to_numpy(np.float64).astype(int)
        elif pd.api.types.is_bool_dtype(values):
            code = values.astype("float64").fillna(-1).to_numpy(np.float64).astype(int)
        elif pd.api.types.is_numeric_dtype(values):
            code = _of_numbers(values, value_nc, as_before=as_before)
        else:
            code, texts = pd.factorize(values.astype(object), sort=False)
            if len(texts) > MOST_LEVELS:
                continue
        if len(np.unique(code[code >= 0])) > 1:
            found[str(column)] = np.asarray(code, np.int64)
    return found


def _of_numbers(
    values: pd.Series, value_nc: Float64[np.ndarray, "n c"], *, as_before: bool
) -> Int[np.ndarray, " n"]:
    known = values.dropna().to_numpy(np.float64)
    n_kinds = len(np.unique(known))
    may_be_codes = not as_before and bool((known == np.round(known)).all())
    if n_kinds <= (MOST_LEVELS if may_be_codes else _FEWEST):
        return pd.factorize(values, sort=True)[0]
    code = pd.qcut(values, 3, labels=False, duplicates="drop").fillna(-1).to_numpy(int)
    if as_before or len(np.unique(code[code >= 0])) > 1:
        return code
    # Two thirds or more have one value, as counts of something rare have.
    middle = np.median(known)
    is_apart = values > middle if (known > middle).any() else values >= middle
    code = np.where(values.isna(), -1, is_apart.fillna(False).astype(int))
    return np.full(len(code), -1) if _is_amount(code, value_nc) else code


def _is_amount(code_n: Int[np.ndarray, " n"], value_nc: Float64[np.ndarray, "n c"]) -> bool:
    """Whether nearly all images that a number sets apart show one concept, and most others do not.

    Such a column is no further one: it says how much of that concept there is.
    """
    for value_n in value_nc.T:
        apart_n, others_n = (value_n[(code_n == side) & ~np.isnan(value_n)] for side in (1, 0))
        is_both = len(apart_n) > 0 and len(others_n) > 0
        if is_both and apart_n.mean() >= KIN and others_n.mean() < 1 / 2:
            return True
    return False


def cramers_v(first_n: Int[np.ndarray, " n"], second_n: Int[np.ndarray, " n"]) -> float:
    """How strongly two columns of small numbers go together, 0 to 1, without what chance adds.

    With φ² = χ² / n of the r x k table: ``φ̃² = max(0, φ² - (r - 1)(k - 1) / (n - 1))``, ``r̃ = r -
    (r - 1)² / (n - 1)``, likewise k̃, ``V = sqrt(φ̃² / min(r̃ - 1, k̃ - 1))`` (Bergsma, Journal of the
    Korean Statistical Society 42, 2013). Negative numbers are not known; 0 where nothing varies.
    """
    is_known_n = (first_n >= 0) & (second_n >= 0)
    n = int(is_known_n.sum())
    if n < 2:
        return 0.0
    row_n, column_n = (
        np.unique(each[is_known_n], return_inverse=True)[1].reshape(-1)
        for each in (first_n, second_n)
    )
    r, k = int(row_n.max()) + 1, int(column_n.max()) + 1
    if r < 2 or k < 2:
        return 0.0
    count_rk = np.bincount(row_n * k + column_n, minlength=r * k).reshape(r, k).astype(np.float64)
    expected_rk = np.outer(count_rk.sum(1), count_rk.sum(0)) / n
    phi2 = float(((count_rk - expected_rk) ** 2 / expected_rk).sum()) / n
    phi2 = max(0.0, phi2 - (r - 1) * (k - 1) / (n - 1))
    least = min(r - (r - 1) ** 2 / (n - 1), k - (k - 1) ** 2 / (n - 1)) - 1
    return float(np.sqrt(min(1.0, phi2 / least))) if least > 0 else 0.0


def kin(value_nc: Float32[np.ndarray, "n c"]) -> Bool[np.ndarray, "c c"]:
    """Which columns are of one kind: nearly all images of one show the other, rarer than half.

    A column is of its own kind. Both ways, and no further: blue and green patches are kinds of
    patch, not of one another.
    """
    known = ~np.isnan(value_nc)
    has = (value_nc == 1).astype(np.float64)
    both_cc = has.T @ has
    own_cc = has.T @ known.astype(np.float64)
    n_cc = known.astype(np.float64).T @ known.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        inside_cc = both_cc / own_cc  # share of those with the row's that show the column's
        usual_cc = own_cc.T / n_cc
    is_kind_cc = (inside_cc >= KIN) & (usual_cc <= 0.5)
    return is_kind_cc | is_kind_cc.T | np.eye(value_nc.shape[1], dtype=bool)


def what_goes_with(
    code_n: Int[np.ndarray, " n"],
    others: Mapping[str, Int[np.ndarray, " n"]],
) -> list[Together]:
    """The columns that go with one, the strongest first."""
    found = [
        Together(name, cramers_v(code_n, other_n), int(((code_n >= 0) & (other_n >= 0)).sum()))
        for name, other_n in others.items()
    ]
    return sorted((each for each in found if each.v >= STRONG), key=lambda each: -each.v)


def seen_without(
    image_nd: Float32[np.ndarray, "n d"],
    label_n: Bool[np.ndarray, " n"],
    group_n: Int[np.ndarray, " n"] | None = None,
    *,
    n_parts: int = 5,
    seed: int = 0,
) -> Float64[np.ndarray, " n"]:
    """How strongly each image seems to show a label, told by the encoder from other groups' images.

    Ridge regression on embeddings, ``w = (XᵀX + λ n I)⁻¹ Xᵀy`` with λ = 0.001 of the mean variance,
    fitted on the other parts of ``n_parts``; a group lies in one part.
    """
    members = (
        np.arange(len(label_n)) if group_n is None else np.unique(group_n, return_inverse=True)[1]
    )
    part_g = np.random.default_rng(seed).permutation(int(members.max(initial=-1)) + 1) % n_parts
    part_n = part_g[members]
    score_n = np.zeros(len(label_n))
    for part in range(n_parts):
        is_out_n = part_n == part
        x, y = image_nd[~is_out_n].astype(np.float64), label_n[~is_out_n].astype(np.float64)
        if not is_out_n.any() or not len(x):
            continue
        mean_d = x.mean(axis=0)
        x = x - mean_d
        gram = x.T @ x
        gram.flat[:: len(gram) + 1] += 1e-3 * float(np.trace(gram)) / len(gram) + 1e-12
        weight_d = np.linalg.solve(gram, x.T @ (y - y.mean()))
        score_n[is_out_n] = (image_nd[is_out_n] - mean_d) @ weight_d + y.mean()
    return score_n
