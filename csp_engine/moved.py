"""Modules under the names they had before they moved, so that old programs and bundles go on.

``import csp_engine.layers`` gives ``csp_engine.networks.layers`` and warns once. Where the contents
of a module went to several, its former name finds each thing where it is now. Those of the demo's
models do not warn: bundles name them (``python:csp_engine.demo.dermoscopy.planted:...``).
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
import warnings
from collections.abc import Sequence
from typing import Any

MOVED = {
    "activations": "networks.activations",
    "alignment": "audits.alignment",
    "assignment": "evidence.pairing",
    "audit": "audits.measuring audits.clarity audits.polysemanticity audits.redundancy",
    "bundle.verify": "bundle.verifying.whole",
    "chance": "stats.query_null",
    "checkpoints": "networks.loading.checkpoints",
    "concepts": "words.concepts",
    "contrast": "evidence.contrast",
    "demo.dermoscopy.artefacts": "pasting.artefacts",
    "demo.dermoscopy.bundling": "demo.shipping.bundling",
    "demo.dermoscopy.canvas": "pasting.canvas",
    "demo.dermoscopy.captioner": "demo.training.captioner",
    "demo.dermoscopy.captions": "demo.simulator.captions",
    "demo.dermoscopy.cases": "demo.simulator.cases",
    "demo.dermoscopy.drawing": "demo.simulator.drawing",
    "demo.dermoscopy.encoder": "demo.training.encoder",
    "demo.dermoscopy.lesion": "demo.simulator.lesion",
    "demo.dermoscopy.parts": "demo.shipping.parts",
    "demo.dermoscopy.photographs": "demo.simulator.photographs",
    "demo.dermoscopy.quality": "demo.shipping.quality",
    "demo.dermoscopy.render": "demo.simulator.render",
    "demo.dermoscopy.shipping": "demo.shipping.packing demo.shipping.verifying",
    "demo.dermoscopy.training": "demo.training.steps demo.training.pictures demo.workers",
    "demo.dermoscopy.world": "demo.shipping.world",
    "demo.shipped": "demo.shipping.opening",
    "demo.simulator.artefacts": "pasting.artefacts",
    "demo.simulator.canvas": "pasting.canvas",
    "diagnosis": "cli.installation",
    "embeddings": "words.templates",
    "encoder_process": "serving.encoder_process",
    "enrichment": "stats.enrichment",
    "evaluation.intervals": "stats.intervals",
    "exemplars": "evidence.exemplars",
    "image_facts": "views.images.facts views.neuron.shared",
    "images": "probe.images probe.decoding",
    "influence": "networks.driving.influence",
    "isic2017": "probe.isic2017",
    "labels": "words.vocabularies",
    "layers": "networks.layers networks.observing",
    "matching": "search.matching",
    "models": "networks.models",
    "named_layers": "bundle.names",
    "neighbours": "evidence.neighbours",
    "neuron_facts": "views.neuron.statistics views.neuron.label methods.registered",
    "pipeline.added.interventions": "pipeline.intervening.measuring",
    "pipeline.candidates": "pipeline.stages.candidates",
    "pipeline.derived": "pipeline.deriving pipeline.stages.contrast pipeline.stages.neurons",
    "pipeline.driven": "pipeline.stages.influence",
    "pipeline.labelled": "pipeline.stages.vocabulary pipeline.stages.concept_space",
    "pipeline.measured": "pipeline.stages.measured",
    "pipeline.performance": "pipeline.added.performance",
    "pipeline.truth": "pipeline.added.truth",
    "preprocessing": "networks.loading.preprocessing",
    "projection": "search.projection",
    "provenance": "views.overview.provenance",
    "recipe": "pipeline.recipe",
    "sae": "networks.autoencoders.sae",
    "scoring": "methods",
    "scoring.csp": "methods.csp methods.scoring.halves",
    "scoring.groups": "methods.scoring.group_labels",
    "scoring.labelling": "methods.scoring.labelling methods.registered",
    "scoring.mean_exemplar": "methods.semanticlens methods.scoring.exemplar_means",
    "scoring.null": "methods.scoring.random_sets",
    "scoring.one_gamma": "methods.scoring.moving_gamma",
    "scoring.parts": "methods.scoring.score_parts",
    "scoring.ranking": "methods.scoring.ranking",
    "scoring.soft_wpmi": "methods.clip_dissect methods.scoring.log_mean",
    "static_pages": "exports.html",
}
STUDIES = {f"benchmarks.{name}": f"studies.{name}" for name in ("dermoscopy_models", "surrogate")}
"""Addresses of models and encoders outside the engine; bundles hold them too."""
QUIETLY = {
    "demo.dermoscopy": "demo",
    "demo.dermoscopy.classifiers": "demo.training.classifiers",
    "demo.dermoscopy.planted": "demo.training.planted",
}


class _Facade(types.ModuleType):
    """A former package, or a former module whose contents are in several now."""

    def __init__(self, name: str, homes: Sequence[types.ModuleType]) -> None:
        super().__init__(name)
        self.__path__ = []
        self.__all__ = sorted({each for home in homes for each in dir(home) if each[0] != "_"})
        self._homes = homes

    def __getattr__(self, name: str) -> Any:
        if homes_of(f"{self.__name__}.{name}"):
            return importlib.import_module(f"{self.__name__}.{name}")
        for home in self.__dict__.get("_homes", ()):
            if hasattr(home, name):
                return getattr(home, name)
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")


class _Loader(importlib.abc.Loader):
    """Hands out what a former name stands for."""

    def __init__(self, homes: Sequence[str]) -> None:
        self.homes = homes

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        modules = [importlib.import_module(home) for home in self.homes]
        is_plain = len(modules) == 1 and not hasattr(modules[0], "__path__")
        module = modules[0] if is_plain else _Facade(spec.name, modules)
        self.own_spec = module.__spec__ or spec
        return module

    def get_code(self, fullname: str) -> types.CodeType | None:
        """What ``python -m`` runs under a former name."""
        home = importlib.util.find_spec(self.homes[0])
        loader: Any = None if home is None else home.loader
        return None if loader is None else loader.get_code(self.homes[0])

    def exec_module(self, module: types.ModuleType) -> None:
        module.__spec__ = self.own_spec  # it has run already, under its own name


class _Finder(importlib.abc.MetaPathFinder):
    """Finds modules by their former names."""

    def find_spec(
        self, fullname: str, path: Any, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        homes = homes_of(fullname)
        if not homes:
            return None
        if fullname.removeprefix("csp_engine.") not in QUIETLY:
            now = " and ".join(homes)
            message = f"{fullname} is now {now}; import it from there."
            warnings.warn(message, FutureWarning, stacklevel=2)
        home = importlib.util.find_spec(homes[0])
        origin = None if home is None else home.origin  # what ``python -m`` calls the program
        return importlib.machinery.ModuleSpec(fullname, _Loader(homes), origin=origin)


def homes_of(fullname: str) -> list[str]:
    """The modules that hold what ``fullname`` held; none where it is no former name."""
    if fullname in STUDIES:
        return [STUDIES[fullname]]
    former = fullname.removeprefix("csp_engine.")
    if former == fullname:
        return []
    if found := MOVED.get(former) or QUIETLY.get(former):
        return [f"csp_engine.{home}" for home in found.split()]
    package, _, leaf = former.rpartition(".")
    if package in MOVED and " " not in MOVED[package]:
        home = f"csp_engine.{MOVED[package]}.{leaf}"
        return [home] if importlib.util.find_spec(home) else []
    return []


def install() -> None:
    """Let former names be imported.

    Asked before all others: a package under its former name would otherwise find its own files and
    run them a second time, as other modules with other classes. Tests see that no name is real.
    """
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
