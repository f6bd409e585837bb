"""Stages that look at images: thumbnails and hashes, embeddings, activations, the probe table."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from csp_engine.bundle import PassJournal, kinds, write_activations
from csp_engine.bundle.folders import places_of
from csp_engine.encoders import PrecomputedEncoder
from csp_engine.errors import InputError, StaleError
from csp_engine.networks.layers import LayerTap
from csp_engine.networks.loading.preprocessing import share_cut
from csp_engine.networks.models import TargetModel
from csp_engine.pipeline.passing.image_pass import (
    Pass,
    Target,
    first_changed,
    is_sparse,
    read_rows,
    require_none_left_out,
    run_as_tried,
    run_pass,
    stream_of,
    try_quick,
)
from csp_engine.pipeline.request import BuildRequest, require_enough_images
from csp_engine.pipeline.run import Keys, Run
from csp_engine.probe.images import near_duplicate_groups


def measure(run: Run, request: BuildRequest) -> None:
    """Images, probe table, embeddings and activations, by one pass over what is missing."""
    probe, encoder = request.probe, request.encoder
    run.probe_root = probe.root
    identities = identities_of(run, request, probe.content_sha256)
    _adopt_other_models(run, request)
    places = places_of(encoder.spec, run.writer.path)
    run.described["encoder"] = {
        "spec": encoder.spec,
        "fingerprint": encoder.fingerprint,
        "dim": encoder.dim,
        "description": encoder.description,
        **({"places": places} if places else {}),
    }
    files = getattr(encoder, "files", None)  # encoders of Python code may have none
    if files:
        run.described["encoder"]["files"] = files

    missing = [name for name in identities if not run.is_fresh(name)]
    of_pass = by_pass(request, missing)
    if of_pass:
        _pass(run, request, identities, of_pass)
    else:
        shutil.rmtree(run.writer.pass_folder, ignore_errors=True)
    if "embeddings" in missing and "embeddings" not in of_pass:
        _lookup_embeddings(run, request, identities["embeddings"])
    _probe_table(run, request)


def identities_of(keys: Keys, request: BuildRequest, images: str) -> dict[str, dict[str, Any]]:
    """What identifies each stage that is measured on the images, by its name.

    ``images`` is the hash that these are known by.
    """
    identities: dict[str, dict[str, Any]] = {}
    identities["images"] = keys.key(
        "images",
        {
            "thumbnail_side": request.thumbnail_side,
            "near_duplicate_distance": request.near_duplicate_distance,
        },
        inputs={"probe": images},
    )
    identities["embeddings"] = keys.key(
        "embeddings", {}, ["images"], {"encoder": request.encoder.fingerprint}
    )
    for target in request.targets:
        for tap in target.taps:
            name = kinds.ACTIVATIONS.name(target.model.name, str(tap.id))
            identities[name] = keys.key(
                name, _description(tap), ["images"], {"model": target.model.fingerprint}
            )
    return identities


def by_pass(request: BuildRequest, names: Iterable[str]) -> list[str]:
    """Those of some measured stages that come from pixels, so from the pass over the images."""
    from_pixels = not isinstance(request.encoder, PrecomputedEncoder)
    return [name for name in names if name != "embeddings" or from_pixels]


def pass_header(
    keys: Mapping[str, str], request: BuildRequest, names: Sequence[str]
) -> dict[str, Any]:
    """What a pass is known by that makes some of the measured stages, whose keys are given."""
    return {"stages": dict(keys), "batch_size": request.batch_size, "missing": list(names)}


def pass_of(
    request: BuildRequest, names: Sequence[str], images: range | None = None
) -> tuple[Pass, dict[str, str]]:
    """The pass that makes some measured stages, and the stream of each layer's stage.

    Streams follow the order of the names, which is that of the pass that was begun: a request may
    name the same layers in another one.
    """
    of = kinds.ACTIVATIONS.name
    place = {name: at for at, name in enumerate(names)}
    found: list[tuple[int, Target]] = []
    for target in request.targets:
        places = [place.get(of(target.model.name, str(tap.id)), -1) for tap in target.taps]
        kept = sorted(each for each in places if each >= 0)
        if kept:
            taps = tuple(target.taps[places.index(each)] for each in kept)
            found.append((kept[0], Target(target.model, taps)))
    targets = tuple(target for _, target in sorted(found, key=lambda each: each[0]))
    work = Pass(
        request.probe,
        targets,
        request.encoder if "embeddings" in names else None,
        request.thumbnail_side,
        request.batch_size,
        request.stop_on_unreadable,
        request.devices,
        images,
    )
    streams = {
        of(target.model.name, str(tap.id)): stream_of(tap, i, j)
        for i, target in enumerate(targets)
        for j, tap in enumerate(target.taps)
    }
    return work, streams


def _description(tap: LayerTap) -> dict[str, Any]:
    """What beside the model's weights decides the numbers of a layer."""
    return {
        "module": tap.id.module,
        "pooling": tap.id.pooling,
        "kind": tap.kind,
        "channels_last": tap.channels_last,
        "n_prefix_tokens": tap.n_prefix_tokens,
        "sae": None if tap.sae is None else tap.sae.fingerprint,
        # Later additions, left out where they say nothing, so that older keys stay the same.
        **({"n_suffix_tokens": tap.n_suffix_tokens} if tap.n_suffix_tokens else {}),
        **({"tokens_first": True} if tap.tokens_first else {}),
    }


def _adopt_other_models(run: Run, request: BuildRequest) -> None:
    """Layers of other models stay, as long as they were measured on the same images."""
    asked = {target.model.name for target in request.targets}
    asked_layers = {(t.model.name, str(tap.id)) for t in request.targets for tap in t.taps}
    described = dict(run.writer.manifest.inputs.get("models", {}))
    for target in request.targets:
        held = described.get(target.model.name)
        if held is not None and held["fingerprint"] == target.model.fingerprint:
            continue
        order = len(described) if held is None else held["order"]
        described[target.model.name] = {"layers": [], "order": order}
    for name, record in run.writer.manifest.stages.items():
        if not kinds.ACTIVATIONS.is_of(name):
            continue
        model, layer = kinds.ACTIVATIONS.parts(name)
        known = described.get(model, {}).get("fingerprint")
        same_images = record.needs.get("images") == run.keys["images"]
        if (model, layer) in asked_layers or record.inputs.get("model") != known:
            continue
        if not same_images:
            if model in asked:
                continue
            raise InputError(
                f"{run.writer.path.name} holds model {model!r} measured on other images; "
                "build into another output, or delete that bundle first."
            )
        run.keys[name] = record.key
        run.layers.append((model, layer))
    run.layers += sorted(asked_layers - set(run.layers))
    for target in request.targets:
        model = target.model
        held = run.writer.manifest.inputs.get("models", {}).get(model.name, {})
        is_same = held.get("fingerprint") == model.fingerprint
        if is_same:
            _require_same_code(run, model, held)
            model.steadiness.remember(held.get("notices", ()))
        order = [str(tap.id) for tap in target.taps]
        before = [la for la in described[model.name].get("layers", []) if la not in order]
        layers = [la for la in before if (model.name, la) in run.layers] + order
        passes = held.get("passes", {}) if is_same else {}
        passes = {la: passes[la] for la in layers if la in passes}
        described[model.name] = {
            "spec": model.spec,
            "fingerprint": model.fingerprint,
            "preprocessing": model.preprocessing,
            "class_names": None if model.class_names is None else list(model.class_names),
            "n_prefix_tokens": model.n_prefix_tokens,
            "order": described[model.name]["order"],
            "layers": layers,
            **({"code_sha256": model.code} if model.code else {}),
            **({"control_of": target.control_of} if target.control_of else {}),
            **({"share_cut": held["share_cut"]} if "share_cut" in held else {}),
            **({"passes": passes} if passes else {}),
        }
        describe_notices(model, described)
    run.described["models"] = described


def _require_same_code(run: Run, model: TargetModel, held: Mapping[str, Any]) -> None:
    """Refuse to add to numbers that other code measured with the same weights.

    Raises:
        StaleError: the code that defines the network changed since.
    """
    before = held.get("code_sha256")
    if before and model.code and before != model.code:
        raise StaleError(
            f"The code of {model.name} changed since {run.writer.path.name} was measured, with the "
            "same weights; build into another --out, or under another --name."
        )


def _median_cut(model: TargetModel, rows: list[Mapping[str, Any]]) -> float:
    """The share of a typical image that a model does not see, of the images that were read."""
    cuts = [
        share_cut(model.preprocessing, row["width"], row["height"])
        for row in rows
        if "reason" not in row
    ]
    return round(float(np.median(cuts)), 4) if cuts else 0.0


def describe_notices(model: TargetModel, described: dict[str, Any]) -> None:
    """What was found out about a network up to now, for everyone who reads its numbers."""
    if model.steadiness.notices:
        described[model.name]["notices"] = list(model.steadiness.notices)


def _describe_passes(target: Target, trials: Mapping[str, Any], described: dict[str, Any]) -> None:
    """How the layers were measured that this pass measured, if not in the plainest way."""
    model = described[target.model.name]
    measured = {str(tap.id) for tap in target.taps}
    passes = {la: trial for la, trial in model.pop("passes", {}).items() if la not in measured}
    if target.model.name in trials:
        passes |= dict.fromkeys(measured, trials[target.model.name])
    if passes:
        model["passes"] = {la: passes[la] for la in model["layers"] if la in passes}


def _pass(
    run: Run,
    request: BuildRequest,
    identities: Mapping[str, dict[str, Any]],
    missing: list[str],
) -> None:
    header = pass_header({name: run.keys[name] for name in identities}, request, missing)
    folder = run.writer.pass_folder
    held = PassJournal.header_of(folder)
    is_held = held is not None and _covers(held, header)
    if held is not None and is_held:
        header = held
    wanted = header["missing"]
    work, streams = pass_of(request, wanted)
    made, _ = try_quick(work) if not is_held and request.is_quick else ({}, {})
    if made:
        header["passes"] = {name: trial.to_json() for name, trial in made.items()}
    trials = header.get("passes", {})
    journal = PassJournal(folder, header, work.stream_names())
    try:
        if journal.n_listed < len(work.listed):
            work = run_as_tried(work, trials, made)
        run_pass(work, journal, run.progress)
    finally:
        journal.close()
    for target in work.targets:
        describe_notices(target.model, run.described["models"])
        _describe_passes(target, trials, run.described["models"])
    rows = read_rows(journal.path("rows"))
    # What the disk did not give is left out, and is reported.
    seen = (row for row in rows if row.get("sha256") != "")
    if (changed := first_changed(seen, request.probe)) is not None:
        journal.remove()  # else the same command would find the same row
        row, how = changed
        raise InputError(
            f"{request.probe.table['file'].iloc[row]} {how} it was measured; leave the images "
            "as they are, and run the same command again."
        )
    for target in request.targets:
        cut = _median_cut(target.model, rows)
        if cut:
            run.described["models"][target.model.name]["share_cut"] = cut
    if journal.n_rows == 0:
        n_listed = len(request.probe.table)
        raise InputError(
            f"None of the {n_listed} images of {request.probe.name} can be read (the first: "
            f"{rows[0]['reason']}); check that the folder holds undamaged image files."
        )
    require_enough_images(journal.n_rows, run.recipe, "has")
    _drop_outdated_layers(run, request)
    if not run.is_fresh("images"):
        _write_images(run, request, identities["images"], journal, rows)
    if "embeddings" in wanted and not run.is_fresh("embeddings"):
        shape = (journal.n_rows, request.encoder.dim)
        with run.writing("embeddings", identities["embeddings"], _of(run, "encoder")) as folder_:
            folder_.raw_array("image", shape, journal.path("embeddings"))
    for name, stream in streams.items():
        if run.is_fresh(name):
            continue
        shape = (work.streams[stream], journal.n_rows)
        with run.writing(name, identities[name], _of(run, "models")) as folder_:
            if is_sparse(stream):
                write_activations(folder_, shape, journal.path(stream))
            else:
                folder_.transposed_array("activation", shape, journal.path(stream))
            folder_.facts["n_units"] = shape[0]
    journal.remove()


def _of(run: Run, name: str) -> dict[str, Any]:
    """One entry of the manifest's inputs, to be committed with the stage it belongs to."""
    return {name: run.described[name]}


def _drop_outdated_layers(run: Run, request: BuildRequest) -> None:
    """Forget layers of the asked models that were measured with other weights or images."""
    asked = {target.model.name for target in request.targets}
    run.writer.drop(
        [
            name
            for name in run.writer.manifest.stages
            if kinds.ACTIVATIONS.is_of(name)
            and kinds.ACTIVATIONS.parts(name)[0] in asked
            and name not in run.keys
        ]
    )


def _write_images(
    run: Run,
    request: BuildRequest,
    identity: Mapping[str, Any],
    journal: PassJournal,
    rows: list[Mapping[str, Any]],
) -> None:
    whole = [row for row in rows if "reason" not in row]
    listed = np.array([row["listed"] for row in whole])
    sha256 = request.probe.table["sha256"].to_numpy()[listed]
    hashes = np.array([row["hash"] for row in whole], np.uint64)
    groups = near_duplicate_groups(hashes, list(sha256), request.near_duplicate_distance)
    table = pd.DataFrame(
        {
            "sha256": sha256,
            "listed": listed.astype(np.int32),
            "width": np.array([row["width"] for row in whole], np.int32),
            "height": np.array([row["height"] for row in whole], np.int32),
            "perceptual_hash": hashes,
            "duplicate_of": _first_of_content(sha256),
            "duplicate_group": groups,
        }
    )
    failed = [row for row in rows if "reason" in row]
    skipped = pd.DataFrame(
        {
            "listed": np.array([row["listed"] for row in failed], np.int32),
            "reason": np.array([row["reason"] for row in failed], object),
        }
    )
    offsets = np.concatenate([[0], np.cumsum([row["thumb_bytes"] for row in whole])])
    with run.writing("images", identity) as folder:
        folder.table("images", table)
        folder.table("skipped", skipped.astype({"reason": "string"}))
        folder.array("thumb_offset", offsets.astype(np.int64))
        shutil.copyfile(journal.path("thumbs"), folder.path / "thumbs.bin")
        folder.facts.update(
            n_images=len(whole),
            n_skipped=len(failed),
            n_exact_duplicates=int((table["duplicate_of"] != table.index).sum()),
            n_near_duplicates=int((table["duplicate_group"] != table.index).sum()),
        )


def _lookup_embeddings(run: Run, request: BuildRequest, identity: Mapping[str, Any]) -> None:
    assert isinstance(request.encoder, PrecomputedEncoder)
    listed = run.bundle.table("images", "images")["listed"].to_numpy()
    chosen = request.probe.table.iloc[listed]
    listed_files = list(request.probe.table["file"])
    vectors = request.encoder.lookup_images(
        list(chosen["file"]), list(chosen["sha256"]), listed_files
    )
    with run.writing("embeddings", identity, _of(run, "encoder")) as folder:
        folder.array("image", np.asarray(vectors, np.float32))


def _probe_table(run: Run, request: BuildRequest) -> None:
    identity = run.key("probe", {}, ["images"], {"table": request.probe.metadata_sha256})
    table, left_out = request.probe.table, request.probe.left_out
    images = run.writer.manifest.stages["images"]
    run.described["probe"] = {
        "name": request.probe.name,
        "n_listed": len(table),
        "n_images": images.facts["n_images"],
        "n_skipped": images.facts["n_skipped"],
        "content_sha256": request.probe.content_sha256,
        "metadata_sha256": request.probe.metadata_sha256,
        "concepts": list(request.probe.concepts),
        "masks": list(request.probe.masks),
        **({"notice": request.notice} if request.notice else {}),
        **({"left_out": [asdict(row) for row in left_out]} if left_out else {}),
    }
    skipped = run.bundle.table("images", "skipped")
    left = zip(table["file"].to_numpy()[skipped["listed"]], skipped["reason"], strict=True)
    require_none_left_out(request.stop_on_unreadable, left)
    if run.is_fresh("probe"):
        return
    held = run.bundle.table("images", "images")
    kept = table.iloc[held["listed"].to_numpy()].reset_index(drop=True)
    files = table["file"].to_numpy()[skipped["listed"].to_numpy()]
    classes = pd.DataFrame({"name": [], "n_images": []}).astype(
        {"name": "string", "n_images": "int32"}
    )
    if "class" in kept:
        counts = kept["class"].value_counts().sort_index()
        classes = pd.DataFrame(
            {
                "name": pd.array([str(c) for c in counts.index], "string"),
                "n_images": counts.to_numpy(np.int32),
            }
        )
    with run.writing("probe", identity, _of(run, "probe")) as folder:
        folder.table("probe", kept)
        folder.table(
            "skipped",
            pd.DataFrame(
                {"file": pd.array(files, "string"), "reason": skipped["reason"].to_numpy()}
            ).astype({"reason": "string"}),
        )
        folder.table("classes", classes)


def _covers(held: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether an interrupted pass produced (or was producing) all that is wanted now."""
    return (
        held["batch_size"] == wanted["batch_size"]
        and held["stages"] == wanted["stages"]
        and set(wanted["missing"]) <= set(held["missing"])
    )


def _first_of_content(sha256: np.ndarray) -> np.ndarray:
    """For each image the lowest image id with the same bytes."""
    _, first, inverse = np.unique(sha256.astype(str), return_index=True, return_inverse=True)
    return first[inverse].astype(np.int32)
