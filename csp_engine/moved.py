"""Modules under the names they had before they moved, so that old programs and bundles go on.

``import csp_engine.layers`` gives ``csp_engine.networks.layers`` and warns once. Those of the demo
do not warn: bundles name its models by them (``python:csp_engine.demo.dermoscopy.planted:...``).
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
import types
import warnings
from typing import Any

MOVED = {
    "activations": "networks.activations",
    "alignment": "audits.alignment",
    "audit": "audits.measuring",
    "chance": "stats.query_null",
    "checkpoints": "networks.loading.checkpoints",
    "concepts": "words.concepts",
    "contrast": "evidence.contrast",
    "embeddings": "words.templates",
    "encoder_process": "serving.encoder_process",
    "enrichment": "stats.enrichment",
    "evaluation.intervals": "stats.intervals",
    "exemplars": "evidence.exemplars",
    "images": "probe.images",
    "influence": "networks.influence",
    "isic2017": "probe.isic2017",
    "labels": "words.vocabularies",
    "layers": "networks.layers",
    "matching": "search.matching",
    "models": "networks.models",
    "neighbours": "evidence.neighbours",
    "preprocessing": "networks.loading.preprocessing",
    "projection": "search.projection",
    "recipe": "pipeline.recipe",
    "sae": "networks.sae",
    "scoring": "methods",
    "static_pages": "exports.html",
}
STUDIES = {f"benchmarks.{name}": f"studies.{name}" for name in ("dermoscopy_models", "surrogate")}
"""Addresses of models and encoders outside the engine; bundles hold them too."""
QUIETLY = {
    "demo.dermoscopy": "demo",
    "demo.dermoscopy.classifiers": "demo.training.classifiers",
    "demo.dermoscopy.planted": "demo.training.planted",
}


class _Loader(importlib.abc.Loader):
    """Hands out the module that a former name stands for."""

    def __init__(self, home: str) -> None:
        self.home = home

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        module = importlib.import_module(self.home)
        self.own_spec = module.__spec__
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        module.__spec__ = self.own_spec  # it has run already, under its own name


class _Finder(importlib.abc.MetaPathFinder):
    """Finds modules by their former names."""

    def find_spec(
        self, fullname: str, path: Any, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        former = fullname.removeprefix("csp_engine.")
        if former == fullname:
            home = STUDIES.get(fullname)
        else:
            home = MOVED.get(former) or QUIETLY.get(former)
            home = home and f"csp_engine.{home}"
        if home is None:
            return None
        if former not in QUIETLY:
            message = f"{fullname} is now {home}; import it from there."
            warnings.warn(message, FutureWarning, stacklevel=2)
        return importlib.machinery.ModuleSpec(fullname, _Loader(home))


def install() -> None:
    """Let former names be imported; asked after all others, so that no real module is hidden."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
