"""Files that were there and are not among the images of a bundle, in words."""

from __future__ import annotations

from typing import Any

from csp_engine import numbers
from csp_engine.bundle import Bundle, kinds
from csp_engine.errors import shortened

MOST_NAMED = 5


def unused_files(bundle: Bundle) -> list[str]:
    """One sentence on images that could not be read, one on files that were left out; or none."""
    sentences: list[str] = []
    if not bundle.has(kinds.PROBE.name()):
        return sentences
    skipped = bundle.skipped()
    if len(skipped):
        named = [
            f"{shortened(file, 80)} ({str(reason).rstrip('.')})"
            for file, reason in zip(
                skipped["file"][:MOST_NAMED], skipped["reason"][:MOST_NAMED], strict=True
            )
        ]
        n_listed = bundle.n_images + len(skipped)
        sentences.append(
            f"{numbers.count(len(skipped))} of {numbers.count(n_listed)} images cannot be read: "
            f"{_listed(named, len(skipped))}."
        )
    left_out = bundle.manifest.inputs.get("probe", {}).get("left_out", [])
    if left_out:
        n_files = sum(row["n_files"] for row in left_out)
        named = [_kind(row) for row in left_out[:MOST_NAMED]]
        files = "file is" if n_files == 1 else "files are"
        sentences.append(
            f"{numbers.count(n_files)} {files} left out, not counted as "
            f"{'an image' if n_files == 1 else 'images'}: {_listed(named, len(left_out))}."
        )
    return sentences


def _kind(row: dict[str, Any]) -> str:
    """Files of one ending: how many, what they lack, and the first."""
    ending = row["ending"] or "without an ending"
    lacking = f", which {row['why']}" if row["why"] else ""
    first = ("such as " if row["n_files"] > 1 else "") + shortened(row["first"], 80)
    return f"{numbers.count(row['n_files'])} {ending}{lacking} ({first})"


def _listed(named: list[str], n_all: int) -> str:
    more = n_all - len(named)
    return "; ".join([*named, *([f"{numbers.count(more)} more"] if more > 0 else [])])
