"""Find out what the neurons of a vision model respond to, and what to call it.

The few names most programs need::

    import csp_engine as csp

    request = csp.BuildRequest(out=..., probe=csp.read_probe_set("photos"), ...)
    bundle = csp.build(request)
    bundle = csp.Bundle.open("resnet50.csp")

Nothing heavy is imported until a name that needs it is used.
"""

from __future__ import annotations

import importlib
from typing import Any

from csp_engine import moved

moved.install()

_HOMES = {
    "BuildRequest": "csp_engine.pipeline",
    "Bundle": "csp_engine.bundle",
    "NeuronRef": "csp_engine.types",
    "PRESETS": "csp_engine.pipeline.recipe",
    "Recipe": "csp_engine.pipeline.recipe",
    "Target": "csp_engine.pipeline",
    "build": "csp_engine.pipeline",
    "export_labels": "csp_engine.exchange",
    "import_labels": "csp_engine.exchange",
    "import_neurolens": "csp_engine.exchange",
    "list_layers": "csp_engine.networks.layers",
    "load_captioner": "csp_engine.captioners",
    "load_encoder": "csp_engine.encoders",
    "load_model": "csp_engine.networks.models",
    "read_neurolens": "csp_engine.exchange",
    "read_probe_set": "csp_engine.probe",
    "read_vocabulary": "csp_engine.words.vocabularies",
    "relabel": "csp_engine.pipeline",
    "search": "csp_engine.search",
    "select_layers": "csp_engine.networks.layers",
    "show_neuron": "csp_engine.exports.html.notebook",
    "verify": "csp_engine.bundle",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'csp_engine' has no attribute {name!r}")
    home = importlib.import_module(_HOMES[name])
    return home if name == "search" else getattr(home, name)
