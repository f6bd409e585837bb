"""What label methods and statistics declare to need, found in a bundle and handed to them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from csp_engine.bundle import Bundle, kinds
from csp_engine.captioners.speaking import Likely, Speaking
from csp_engine.errors import BundleError, CspError, InputError
from csp_engine.evidence.evidence import NEEDS, Evidence, Masks, Source
from csp_engine.evidence.speaker import Speaker
from csp_engine.pipeline.run import Run
from csp_engine.pipeline.sharing.held import held_evidence, held_null, kinds_among
from csp_engine.pipeline.sharing.mining import has_copies
from csp_engine.probe.decoding.mask import decode_mask

MEASURED_NEEDS = ("activations", "layer")
"""What only a pass over the images brings, and small copies of a bundle leave out."""


def stages_for(needs: Sequence[str], model: str, layer: str) -> list[str]:
    """The stages that what is needed comes from, beside those that every method rests on."""
    homes = {
        "activations": kinds.ACTIVATIONS.name(model, layer),
        "layer": kinds.ACTIVATIONS.name(model, layer),
        "columns": "probe",
        "masks": "probe",
        "candidates": kinds.CANDIDATES.name(model, layer),
        "speaker": kinds.CANDIDATES.name(model, layer),
    }
    return list(dict.fromkeys(homes[need] for need in needs if need in homes))


def require_given(
    run: Run, what: str, needs: Sequence[str], model: str, layer: str, instead: str
) -> None:
    """Refuse what needs something that the bundle cannot give.

    Args:
        run: the build.
        what: who needs it, in words.
        needs: names from ``NEEDS``.
        model: of the layer.
        layer: its id.
        instead: how to do without it, in words.

    Raises:
        InputError: if the probe set has no such columns, or nobody proposed candidates.
        BundleError: if this copy of the bundle leaves something out.
    """
    for need in needs:
        reason = _why_not(run, need, model, layer)
        if reason is not None:
            kind, why = reason
            raise kind(f"{what} needs {NEEDS[need]}: {why} Or {instead}.")


def what_lacks(run: Run, needs: Sequence[str], model: str, layer: str) -> str:
    """What of these is not there, and why, in a sentence; empty where all is."""
    for need in needs:
        reason = _why_not(run, need, model, layer)
        if reason is not None:
            return f"it needs {NEEDS[need]}: {reason[1]}"
    return ""


def _why_not(run: Run, need: str, model: str, layer: str) -> tuple[type[CspError], str] | None:
    """Why something needed is not there, and what to do; None where it is."""
    stages = run.writer.manifest.stages
    described = run.described.get("probe") or run.writer.manifest.inputs.get("probe", {})
    name = described.get("name", "the probe set")
    if need in MEASURED_NEEDS:
        stage = kinds.ACTIVATIONS.name(model, layer)
        if stage not in stages:
            return BundleError, f"{stage} is not in the bundle; run 'csp build' again."
        if stages[stage].omitted:
            return BundleError, run.bundle.left_out(stage)
        if need == "layer" and run.bundle.is_sparse(model, layer):
            too_large = run.bundle.activations(model, layer).too_large
            return (InputError, too_large) if too_large else None
        return None
    if need == "columns" and not described.get("concepts"):
        return InputError, f"{name} has none; give a table with columns of 0 and 1."
    if need == "masks" and (not described.get("masks") or run.probe_root is None):
        why = "their files are known to 'csp build' only" if described.get("masks") else "has none"
        return InputError, f"{name}: {why}; build with a table that has a column of mask files."
    if need == "kinds" and not kinds_among(run.bundle):
        return InputError, "its vocabulary has no column 'parents'; give one that has."
    if need == "copies" and not has_copies(run.bundle):
        return InputError, "no two of its images have the same content."
    if need == "candidates" and kinds.CANDIDATES.name(model, layer) not in run.keys:
        return InputError, "nobody proposed any; name a captioner with --captioner."
    if need == "speaker" and not isinstance(run.captioner, Likely):
        spec = getattr(run.captioner, "spec", "")
        why = f"{spec} gives none" if spec else "none is at hand"
        return InputError, f"{why}; name the folder of one with --captioner."
    return None


def layer_evidence(run: Run, model: str, layer: str, asker: str, needs: Sequence[str]) -> Evidence:
    """A layer's units with what an asker needs, each loaded when it is first read."""
    bundle = run.bundle
    more: dict[str, Source] = {
        "masks": lambda _: _masks(bundle, run.probe_root),
        "speaker": lambda _: speaker_of(run),
    }
    if "null" in needs:
        more["null"] = lambda _: null_evidence(run, asker, needs)
    return held_evidence(bundle, model, layer, asker, needs, more)


def speaker_of(run: Run) -> Speaker:
    """The captioner of this build."""
    assert isinstance(run.captioner, Likely), "require_given came first"
    return Speaking(run.captioner)


def null_evidence(run: Run, asker: str, needs: Sequence[str]) -> Evidence:
    """Random image sets with what an asker needs; their activations are the noise itself."""
    bundle = run.bundle
    return held_null(bundle, asker, needs, {"masks": lambda _: _masks(bundle, run.probe_root)})


def _masks(bundle: Bundle, root: Path | None) -> Masks:
    assert root is not None, "require_given came first"
    names = tuple(bundle.manifest.inputs["probe"]["masks"])
    files = {name: bundle.table("probe", "probe")[name].tolist() for name in names}

    def read(image: int, name: str) -> np.ndarray | None:
        file = files[name][image]
        if not isinstance(file, str):
            return None
        return decode_mask((root / file).read_bytes())

    return Masks(names, read)
