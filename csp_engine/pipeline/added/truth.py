"""Put into a finished bundle what its neurons really answer to: stages ``truth:MODEL/LAYER``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from csp_engine.bundle import Bundle, BundleWriter, stage_key
from csp_engine.bundle.kinds import ACTIVATIONS, NEURONS, TRUTH
from csp_engine.errors import InputError
from csp_engine.evaluation.ground_truth import Truth, TruthRule, association, true_concepts
from csp_engine.evaluation.metrics.registered import METRICS
from csp_engine.hashing import sha256_array, sha256_json
from csp_engine.reading.groups import group_numbers
from csp_engine.types import Progress, silent

PLANTED_COLUMNS = ("unit", "kind", "formula", "concepts")
"""What a table of planted units must say of each."""


def add_truth(
    path: Path,
    truth: Mapping[tuple[str, str], np.ndarray],
    truth_nc: np.ndarray,
    concept_names: Sequence[str],
    phrases: Mapping[str, Sequence[str]],
    provenance: Mapping[str, Any],
    *,
    kinds: Mapping[str, str] | None = None,
    groups: Sequence[Any] | None = None,
    planted: Mapping[tuple[str, str], pd.DataFrame] | None = None,
    rule: TruthRule | None = None,
    progress: Progress = silent,
) -> Bundle:
    """Measure every neuron against known concepts and store the result beside it.

    The images took no part in training the target models on these concepts. Best they are not in
    the bundle's probe set either; where they are, ``provenance`` says so with ``in_probe_set``,
    since a label was then chosen with the same images in view. The bundle keeps only the figures.
    A stage that is already there with the same content is kept. It leaves the bundle when the
    layer's activations are made anew.

    Args:
        path: a finished bundle, changed in place.
        truth: model and layer of the bundle → activations ``(u, n)`` on the n images.
        truth_nc: which of the images show which concept, ``(n, c)``, boolean.
        concept_names: of the c columns.
        phrases: concept name → the wordings that count as naming it, the usual one first.
        provenance: what the images and the truth are and where they come from, JSON-ready.
        kinds: concept name → kind, such as clinical, artefact, skin, diagnosis.
        groups: what each image belongs to (a lesion, a patient); None where images are independent.
        planted: model and layer → table of units that are exact by construction, with columns
            ``unit``, ``kind``, ``formula`` and ``concepts`` (a list of concept names).
        rule: when a concept counts as a unit's true one.
        progress: called with the units done.

    Raises:
        InputError: if a table does not fit the bundle or another table.
        BundleError: if the bundle lacks one of the layers, or another process is writing it.
    """
    rule, planted = rule or TruthRule(), planted or {}
    bundle = Bundle.open(path)
    truth_nc = np.asarray(truth_nc)
    concepts = _concepts(truth_nc, concept_names, phrases, kinds or {})
    group_n = None if groups is None else group_numbers(pd.Series(list(groups)))
    if group_n is not None and len(group_n) != len(truth_nc):
        raise InputError(
            f"Groups are given for {len(group_n)} images and the truth for {len(truth_nc)}."
        )
    strangers = [key for key in planted if key not in truth]
    if strangers:
        raise InputError(
            f"Planted units are given for {'/'.join(strangers[0])}, activations only for "
            f"{', '.join('/'.join(key) for key in truth)}."
        )
    shared = {"truth": sha256_array(truth_nc), "concepts": sha256_json(concepts.to_dict("records"))}
    if group_n is not None:
        shared["groups"] = sha256_array(group_n)
    more = [m for m in METRICS.values() if "truth" in m.takes and not m.is_always_kept]
    versions = {metric.name: metric.version for metric in more}
    exact = {}
    for key, activation_un in truth.items():
        _require_fit(bundle, *key, activation_un, truth_nc)
        if key in planted:
            exact[key] = _planted(planted[key], len(activation_un), concept_names)
    with BundleWriter(path) as writer:
        for key, given_un in truth.items():
            activation_un = np.ascontiguousarray(given_un, dtype=np.float32)
            inputs = {"activations": sha256_array(activation_un), **shared}
            if key in exact:
                inputs["planted"] = sha256_json(exact[key].fillna("").to_dict("records"))
            measured_on = ACTIVATIONS.name(*key)
            need = measured_on if bundle.has(measured_on) else NEURONS.name(*key)
            stage = TRUTH.name(*key)
            identity: dict[str, Any] = {
                "version": TRUTH.version,
                "params": {
                    **asdict(rule),
                    "provenance": dict(provenance),
                    **({"metrics": versions} if versions else {}),
                },
                "needs": {need: writer.manifest.stages[need].key},
                "inputs": inputs,
            }
            if writer.is_fresh(stage, stage_key(stage, **identity)):
                continue
            figures = association(activation_un, truth_nc, more=more, progress=progress)
            found = true_concepts(
                activation_un, truth_nc, group_n=group_n, rule=rule, more=more, progress=progress
            )
            units = _units(found, concept_names, exact.get(key))
            with writer.stage(stage, **identity) as folder:
                folder.table("concepts", concepts)
                folder.table("units", units)
                for name in ("pearson_uc", "auroc_uc", "auprc_uc"):
                    folder.array(name, getattr(figures, name))
                for name, figure_uc in figures.more.items():
                    folder.array(f"{name}_uc", figure_uc)
                folder.facts.update(
                    n_units=len(units),
                    n_images=len(truth_nc),
                    n_groups=len(truth_nc) if group_n is None else len(np.unique(group_n)),
                    n_concepts=len(concepts),
                    n_true=int(found.is_true_u.sum()),
                    n_planted=int(units["planted"].notna().sum()) if key in exact else 0,
                )
    return Bundle.open(path)


def _units(found: Truth, names: Sequence[str], exact: pd.DataFrame | None) -> pd.DataFrame:
    """One row per unit: its concept with the three figures, then what was planted."""
    name_u = np.array(names, dtype=object)[found.concept_u]
    columns: dict[str, Any] = {
        "true_concept": pd.array(np.where(found.is_true_u, name_u, None), dtype="string"),
        "concept": pd.array(np.where(found.has_concept_u, name_u, None), dtype="string"),
        "n_positive": found.n_positive_u,
    }
    for name in ("pearson", "auroc", "auprc"):
        figure_u3 = getattr(found, f"{name}_u3")
        for place, suffix in enumerate(("", "_low", "_high")):
            columns[name + suffix] = figure_u3[:, place]
    columns |= found.more
    units = pd.DataFrame(columns)
    return units if exact is None else pd.concat([units, exact], axis=1)


def _concepts(
    truth_nc: np.ndarray,
    names: Sequence[str],
    phrases: Mapping[str, Sequence[str]],
    kinds: Mapping[str, str],
) -> pd.DataFrame:
    if truth_nc.ndim != 2 or truth_nc.dtype != bool or truth_nc.shape[1] != len(names):
        raise InputError(
            f"The truth is a {truth_nc.dtype} array of shape {truth_nc.shape}; it must be boolean, "
            f"images by the {len(names)} concepts."
        )
    if len(set(names)) != len(names):
        raise InputError("A concept is named twice; names must differ.")
    missing = [name for name in names if not phrases.get(name)]
    if missing:
        raise InputError(f"Concept {missing[0]!r} has no wording; give at least one.")
    if any(isinstance(phrases[name], str) for name in names):
        raise InputError("The wordings of a concept must be a list of texts, not one text.")
    return pd.DataFrame(
        {
            "name": list(names),
            "wordings": [json.dumps(list(phrases[name]), ensure_ascii=False) for name in names],
            "kind": [kinds.get(name, "") for name in names],
            "n_positive": truth_nc.sum(axis=0).tolist(),
        }
    ).astype({"name": "string", "wordings": "string", "kind": "string", "n_positive": "int32"})


def _require_fit(
    bundle: Bundle, model: str, layer: str, activation_un: np.ndarray, truth_nc: np.ndarray
) -> None:
    n_units = bundle.n_units(model, layer)
    if activation_un.shape != (n_units, len(truth_nc)):
        raise InputError(
            f"Activations of {model}/{layer} have shape {activation_un.shape}; the bundle has "
            f"{n_units} units there and the truth is of {len(truth_nc)} images, so "
            f"({n_units}, {len(truth_nc)}) is needed."
        )


def _planted(table: pd.DataFrame, n_units: int, names: Sequence[str]) -> pd.DataFrame:
    """Columns ``planted`` (the formula), ``planted_kind`` and ``planted_concepts`` of all units."""
    missing = [column for column in PLANTED_COLUMNS if column not in table]
    if missing:
        raise InputError(
            f"The table of planted units has no column {missing[0]!r}; it needs "
            f"{', '.join(PLANTED_COLUMNS)}."
        )
    columns: dict[str, list[str | None]] = {
        name: [None] * n_units for name in ("planted", "planted_kind", "planted_concepts")
    }
    for unit, kind, formula, concepts in table[list(PLANTED_COLUMNS)].to_numpy(object):
        if not 0 <= unit < n_units:
            raise InputError(f"Planted unit {unit} is not among the {n_units} of the layer.")
        unknown = [concept for concept in concepts if concept not in names]
        if unknown:
            raise InputError(f"Planted unit {unit} names {unknown[0]!r}, which is not a concept.")
        columns["planted"][unit] = formula
        columns["planted_kind"][unit] = kind
        columns["planted_concepts"][unit] = json.dumps(list(concepts), ensure_ascii=False)
    return pd.DataFrame(columns, dtype="string")
