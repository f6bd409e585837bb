"""The images among which contrast images are looked for, and how those are stored."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from csp_engine.bundle import Bundle, kinds
from csp_engine.evidence.contrast import ContrastRule
from csp_engine.reading.groups import group_numbers
from csp_engine.types import ContrastSet


def mining_among(bundle: Bundle, rule: ContrastRule) -> dict[str, Any]:
    """The contrast rule and the image groups that it keeps apart.

    Where the probe set has no group ids, every image is a group of its own, so the rule that
    images of one group are never paired has nothing to do.
    """
    groups: dict[str, Any] = {"duplicate_group_n": None, "group_n": None}
    if rule.exclude_near_duplicates:
        column = bundle.table(kinds.IMAGES.name(), "images")["duplicate_group"]
        groups["duplicate_group_n"] = column.to_numpy(np.int32)
    if rule.exclude_same_group:
        probe = bundle.table(kinds.PROBE.name(), "probe")
        if "group" in probe:
            groups["group_n"] = group_numbers(probe["group"])
        else:
            rule = replace(rule, exclude_same_group=False)
    return {"rule": rule, **groups}


def has_copies(bundle: Bundle) -> bool:
    """Whether some images have the same content."""
    return bool(bundle.stage(kinds.IMAGES.name()).facts.get("n_exact_duplicates"))


def contrast_arrays(mined: ContrastSet) -> dict[str, np.ndarray]:
    """Contrast images under the names they are stored by."""
    return {
        "contrast_image": mined.image_ukj,
        "contrast_similarity": mined.similarity_ukj,
        "contrast_activation": mined.activation_ukj,
        "n_partner": mined.n_partner_uk,
        "pool": mined.pool_u,
        "threshold": mined.threshold_u,
    }
