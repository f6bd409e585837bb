"""The stages of a build, in order, and the ways to run them.

Names are imported when they are first used: the recipe must be readable without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from csp_engine.pipeline.added.curves import add_curves
    from csp_engine.pipeline.added.faithfulness import add_faithfulness, add_trust
    from csp_engine.pipeline.added.fixes import add_fix
    from csp_engine.pipeline.added.gating import gate_pastes
    from csp_engine.pipeline.added.judging import judge_held_out, judge_probe
    from csp_engine.pipeline.added.map_checks import add_map_checks
    from csp_engine.pipeline.added.performance import add_performance
    from csp_engine.pipeline.added.truth import add_truth
    from csp_engine.pipeline.building import build, needs_texts, relabel
    from csp_engine.pipeline.intervening.measuring import add_interventions
    from csp_engine.pipeline.passing.image_pass import Target
    from csp_engine.pipeline.request import BuildRequest, require_enough_images
    from csp_engine.pipeline.stages.candidates import (
        bundle_captioner,
        bundle_speaker,
        lacks_answers,
        needs_captions,
    )

_HOMES = {
    "BuildRequest": "request",
    "Target": "passing.image_pass",
    "add_curves": "added.curves",
    "add_faithfulness": "added.faithfulness",
    "add_fix": "added.fixes",
    "add_interventions": "intervening.measuring",
    "add_map_checks": "added.map_checks",
    "add_performance": "added.performance",
    "add_trust": "added.faithfulness",
    "add_truth": "added.truth",
    "build": "building",
    "bundle_captioner": "stages.candidates",
    "bundle_speaker": "stages.candidates",
    "gate_pastes": "added.gating",
    "judge_held_out": "added.judging",
    "judge_probe": "added.judging",
    "lacks_answers": "stages.candidates",
    "needs_captions": "stages.candidates",
    "needs_texts": "building",
    "relabel": "building",
    "require_enough_images": "request",
}

__all__ = [
    "BuildRequest",
    "Target",
    "add_curves",
    "add_faithfulness",
    "add_fix",
    "add_interventions",
    "add_map_checks",
    "add_performance",
    "add_trust",
    "add_truth",
    "build",
    "bundle_captioner",
    "bundle_speaker",
    "gate_pastes",
    "judge_held_out",
    "judge_probe",
    "lacks_answers",
    "needs_captions",
    "needs_texts",
    "relabel",
    "require_enough_images",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'csp_engine.pipeline' has no attribute {name!r}")
    return getattr(importlib.import_module(f"csp_engine.pipeline.{_HOMES[name]}"), name)
