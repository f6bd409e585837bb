"""Take the labels of another tool into a finished bundle, as a label method of their own."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import numpy as np
import pandas as pd

from csp_engine.bundle import Bundle, BundleWriter, kinds
from csp_engine.bundle.names import layer_path
from csp_engine.errors import InputError
from csp_engine.exchange.label_nesting import IN_LIST
from csp_engine.exchange.label_reading import is_formula, read_label_table
from csp_engine.hashing import sha256_file
from csp_engine.search import build_index, require_same_encoder, text_recipe
from csp_engine.types import Encoder, LabelScores
from csp_engine.vectors import normalise_rows
from csp_engine.words.templates import embed_labels

logger = logging.getLogger(__name__)

MOST_LABELS = 1_000
"""Of one neuron; every neuron of a layer takes the room of the one that has most."""


def import_labels(
    table_path: Path,
    bundle_path: Path,
    *,
    name: str | None = None,
    model: str | None = None,
    layer: str | None = None,
    encoder: Encoder | None = None,
) -> int:
    """Add the labels of a table to a finished bundle, as method ``imported-NAME``.

    Imported labels carry the scores of their table, and no percentile: there is nothing to judge
    them against. With the encoder the best label's text vector becomes the neuron's concept vector,
    so that imported labels can be searched; without it, and for formulas, they are shown only.

    Args:
        table_path: see ``read_label_table``.
        bundle_path: an earlier import of the same name into the same layers is replaced.
        name: letters, digits, ``.``, ``_``, ``-``; by default the table's file name.
        model: the target model, where the table does not say and the bundle has several.
        layer: the layer of all rows, where the table does not say.
        encoder: the bundle's encoder.

    Returns:
        How many neurons got labels. A warning is logged where units seem to be counted from 1.

    Raises:
        InputError: if the table cannot be read or names a layer or unit the bundle lacks.
        StaleError: if the encoder is not the bundle's.
    """
    name = table_path.stem if name is None else name
    if not re.fullmatch(r"[\w-][\w.-]{0,99}", name):
        raise InputError(
            f"{name!r} is not a name for labels; give --name up to 100 letters, digits, '.', '_', "
            "'-'."
        )
    method = f"imported-{name}"
    bundle = Bundle.open(bundle_path)
    if encoder is not None:
        require_same_encoder(bundle, encoder)
    rows = read_label_table(table_path, layer=layer)
    targets = _match_layers(bundle, rows, table_path.name, model)
    sha256 = sha256_file(table_path)
    n_neurons = 0
    with BundleWriter(bundle_path) as writer:
        for (model_name, layer_id), own in targets.items():
            scores, labels, weight_uk = _scores_of(bundle, model_name, layer_id, own, encoder)
            neurons = kinds.NEURONS.name(model_name, layer_id)
            inputs = {"table": sha256} | ({"encoder": encoder.fingerprint} if encoder else {})
            with writer.stage(
                kinds.SCORES.name(model_name, layer_id, method),
                version=kinds.SCORES.version,
                params={"imported": True, "method": method},
                needs={neurons: writer.manifest.stages[neurons].key},
                inputs=inputs,
            ) as folder:
                for field in LabelScores.__dataclass_fields__:
                    folder.array(field, getattr(scores, field))
                if weight_uk is not None:
                    folder.array("weight_uk", weight_uk)
                labels["source"] = name
                folder.table("labels", labels.astype("string"))
                n_labelled = int((scores.count_u > 0).sum())
                folder.facts.update(
                    table=table_path.name,
                    n_units=len(scores.count_u),
                    n_reliable=0,
                    n_without_evidence=len(scores.count_u) - n_labelled,
                )
                if own["score_name"].iloc[0] != "score":
                    folder.facts["score_name"] = str(own["score_name"].iloc[0])
            n_neurons += n_labelled
        if encoder is not None:
            _index_imported(writer, method)
    return n_neurons


def _match_layers(
    bundle: Bundle, rows: pd.DataFrame, name: str, model: str | None
) -> dict[tuple[str, str], pd.DataFrame]:
    """Rows by model and layer id of the bundle."""
    if model is None and "model" not in rows.columns:
        if len(bundle.model_names) != 1:
            raise InputError(
                f"{name} does not say which model it is about; name one with --model: "
                f"{', '.join(bundle.model_names)}."
            )
        model = bundle.model_names[0]
    if model is not None:
        rows = rows.assign(model=model)
    if "pooling" not in rows.columns:
        rows = rows.assign(pooling="")
    found: dict[tuple[str, str], pd.DataFrame] = {}
    for _, own in rows.groupby(["model", "layer", "pooling"], sort=True):
        its_model, its_layer, pooling = own[["model", "layer", "pooling"]].iloc[0]
        if its_model not in bundle.model_names:
            raise InputError(
                f"{name} is about model {its_model!r}, which {bundle.name} lacks; "
                f"it has {', '.join(bundle.model_names)}."
            )
        known = bundle.layers(its_model)
        full = f"{its_layer}@{pooling}" if pooling else its_layer
        fitting = [layer for layer in known if full in (layer, layer_path(layer))]
        if len(fitting) != 1:
            raise InputError(
                f"{name} names layer {full!r}, and {bundle.name} has "
                + (
                    f"it with several poolings; write one of {', '.join(fitting)}."
                    if fitting
                    else f"only {', '.join(known)} for {its_model}."
                )
            )
        n_units = bundle.n_units(its_model, fitting[0])
        if own["unit"].max() >= n_units:
            raise InputError(
                f"{name} names unit {own['unit'].max()} of layer {fitting[0]}, which has units 0 "
                f"to {n_units - 1}; is it a table of another model?"
            )
        if IN_LIST in own.columns:
            n_in_list = own[IN_LIST].dropna()
            if len(n_in_list) and int(n_in_list.iloc[0]) != n_units:
                raise InputError(
                    f"{name} has a list of {int(n_in_list.iloc[0]):,} labels without units for "
                    f"layer {fitting[0]}, which has {n_units:,} units; give one for each unit "
                    '(null where there is none), or name the units, as {"7": "stripes"} does.'
                )
        if (its_model, fitting[0]) in found:
            raise InputError(f"{name} spells layer {fitting[0]} in two ways; keep one.")
        units = np.unique(own["unit"])
        if units[0] == 1 and units[-1] == len(units) > 2:  # all of them, but for 0
            logger.warning(
                "%s names units 1 to %d of layer %s and no unit 0. They are taken as counted from "
                "0; if the table counts from 1, subtract 1 from each and import it again.",
                name, len(units), fitting[0],
            )  # fmt: skip
        found[its_model, fitting[0]] = own
    return found


def _scores_of(
    bundle: Bundle, model: str, layer: str, rows: pd.DataFrame, encoder: Encoder | None
) -> tuple[LabelScores, pd.DataFrame, np.ndarray | None]:
    """Scores in the form of a method's, the labels they count in, and weights where there are."""
    n_units, width = bundle.n_units(model, layer), int(rows["rank"].max())
    if width > MOST_LABELS:
        raise InputError(
            f"The table has {width:,} labels for unit {rows['unit'][rows['rank'].idxmax()]} of "
            f"layer {layer}, and a neuron may have {MOST_LABELS:,}; keep the best of each."
        )
    said = list(zip(rows["description"], rows["group"], strict=True))
    each = list(dict.fromkeys(said))
    number = {one: at for at, one in enumerate(each)}
    texts = [text for text, _ in each]
    formula_t = np.array([is_formula(text) for text in texts])
    place = (rows["unit"].to_numpy(), rows["rank"].to_numpy() - 1)
    label_uk = np.zeros((n_units, width), np.int32)
    label_uk[place] = [number[one] for one in said]
    unknown_uk = np.full((n_units, width), np.nan, np.float32)
    score_uk, weight_uk, margin_uk = (unknown_uk.copy() for _ in range(3))
    score_uk[place] = rows["score"].to_numpy(np.float32)
    weight_uk[place] = rows["weight"].to_numpy(np.float32)
    has_weights = bool(np.isfinite(weight_uk).any())
    if not has_weights:  # concepts of a sum share the score of the whole
        margin_uk[:, :-1] = score_uk[:, :-1] - score_uk[:, 1:]
        margin_uk[margin_uk < 0] = np.nan  # not in the order of their scores
    count_u = np.bincount(rows["unit"], minlength=n_units).astype(np.int32)
    vector_ud = np.zeros((n_units, bundle.image_vectors().shape[1]), np.float32)
    if encoder is not None:
        vectors = embed_labels(encoder.embed_texts, texts, text_recipe(bundle))
        vector_td = normalise_rows(vectors)
        vector_td[formula_t] = 0  # "a AND NOT b" would lie beside b
        vector_ud = np.where(count_u[:, None] > 0, vector_td[label_uk[:, 0]], np.float32(0))
    none_u = np.zeros(n_units, np.int32)
    unknown_u = np.full(n_units, np.nan, np.float32)
    scores = LabelScores(
        label_uk=label_uk,
        score_uk=score_uk,
        raw_uk=score_uk.copy(),
        margin_uk=margin_uk,
        percentile_uk=unknown_uk,
        count_u=count_u,
        best_percentile_u=unknown_u,
        reliable_u=np.zeros(n_units, bool),
        vector_ud=vector_ud,
        n_exemplar_u=none_u,
        similarity_u=unknown_u,
        pool_u=none_u,
        reuse_u=unknown_u,
    )
    labels = pd.DataFrame({"text": texts, "source": ""})
    if formula_t.any():
        labels["form"] = np.where(formula_t, "formula", "")
    if any(group for _, group in each):
        labels["group"] = [group for _, group in each]
    return scores, labels, weight_uk if has_weights else None


def _index_imported(writer: BundleWriter, method: str) -> None:
    bundle = Bundle(writer.path, writer.manifest, "")
    names, rows, vectors = [], [], []
    for model in bundle.model_names:
        for layer in bundle.layers(model):
            if method in bundle.methods(model, layer):
                vector_ud = np.asarray(bundle.scores(model, layer, method).vector_ud)
                names.append(kinds.SCORES.name(model, layer, method))
                vectors.append(vector_ud)
                own = pd.DataFrame({"unit": np.arange(len(vector_ud), dtype=np.int32)})
                rows.append(own.assign(model=model, layer=layer)[["model", "layer", "unit"]])
    built = build_index(np.concatenate(vectors))
    with writer.stage(
        kinds.INDEX.name(method),
        version=kinds.INDEX.version,
        params={"imported": True, "kind": "auto"},
        needs={name: writer.manifest.stages[name].key for name in names},
        inputs={},
    ) as folder:
        built.write(folder.path / "index.faiss")
        table = pd.concat(rows, ignore_index=True)
        folder.table("rows", table.astype({"model": "string", "layer": "string"}))
        folder.facts.update(built.facts())
