"""The stage that asks which outputs each unit drives: gradients on a sample of the images."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

import numpy as np
import pandas as pd

from csp_engine.bundle import kinds
from csp_engine.errors import InputError
from csp_engine.hashing import sha256_json
from csp_engine.networks.influence import influence
from csp_engine.pipeline.image_pass import Target
from csp_engine.pipeline.request import BuildRequest
from csp_engine.pipeline.run import Run
from csp_engine.probe.decoding import decode


def require_telling_names(request: BuildRequest) -> None:
    """Refuse image classes that are the name of several outputs: which is meant cannot be told.

    Raises:
        InputError: as above, with the name and the outputs.
    """
    table = request.probe.table
    if request.n_influence_images == 0 or "class" not in table:
        return
    classes = set(table["class"].dropna().astype(str).map(_composed))
    for target in request.targets:
        names = [_composed(name) for name in target.model.class_names or ()]
        if not classes <= set(names):
            continue
        for name in sorted(classes):
            if names.count(name) > 1:
                places = " and ".join(str(i) for i, other in enumerate(names) if other == name)
                raise InputError(
                    f"Outputs {places} of {target.model.name} are all called {name!r}, so images "
                    "of that class belong to none for certain; give different names with "
                    "--class-names FILE, or build with --influence-images 0."
                )


def _composed(name: str) -> str:
    """A name in the one Unicode form that equal names share."""
    return unicodedata.normalize("NFC", name)


def influences(run: Run, request: BuildRequest) -> None:
    """Which outputs each unit drives, from gradients on a sample of the images."""
    if request.n_influence_images == 0:
        return
    bundle = run.bundle
    probe_rows = bundle.table("probe", "probe")
    for target in request.targets:
        model = target.model
        if model.class_names is None and not request.outputs:
            continue
        names = list(model.class_names or ())
        known = {_composed(name) for name in names}
        labelled = (
            "class" in probe_rows
            and set(probe_rows["class"].astype(str).map(_composed, na_action="ignore")) <= known
        )
        taps = [tap for tap in target.taps if tap.sae is None]
        identities = {}
        for tap in taps:
            name = kinds.INFLUENCE.name(model.name, str(tap.id))
            identities[name] = run.key(
                name,
                {
                    "n_images": request.n_influence_images,
                    "seed": run.recipe.seed,
                    "is_predicted_class": not labelled,
                    "outputs": list(request.outputs),
                },
                [kinds.ACTIVATIONS.name(model.name, str(tap.id)), "probe"],
                {"class_names": sha256_json(names)},
            )
        missing = [name for name in identities if not run.is_fresh(name)]
        if not missing:
            continue
        found = influence(
            model,
            [t for t in taps if kinds.INFLUENCE.name(model.name, str(t.id)) in missing],
            _influence_batches(run, request, target, probe_rows, labelled),
            request.outputs or None,
        )
        for name in missing:
            _, layer = kinds.INFLUENCE.parts(name)
            if layer not in found:
                run.keys.pop(name)
                continue
            values = found[layer]
            with run.writing(name, identities[name]) as folder:
                folder.table("outputs", pd.DataFrame({"name": list(values.output_names)}))
                folder.array("gradient_activation", values.gradient_activation_cu)
                folder.array("n_image", values.n_image_c)
                if values.direct_weight_cu is not None:
                    folder.array("direct_weight", values.direct_weight_cu)
                folder.facts.update(
                    is_predicted_class=not labelled, n_images=int(values.n_image_c.sum())
                )


def _influence_batches(
    run: Run, request: BuildRequest, target: Target, probe_rows: pd.DataFrame, labelled: bool
) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    model = target.model
    listed = run.bundle.table("images", "images")["listed"].to_numpy()
    classes = probe_rows["class"].astype(str).map(_composed).to_numpy() if labelled else None
    chosen = _balanced_sample(len(probe_rows), classes, request.n_influence_images, run.recipe.seed)
    number = {_composed(name): i for i, name in enumerate(model.class_names or ())}
    size = request.batch_size
    for first in range(0, len(chosen), size):
        images = chosen[first : first + size]
        pixels = np.stack(
            [model.preprocess(decode(request.probe.read(int(listed[i])))) for i in images]
        )
        known = None if classes is None else np.array([number[classes[i]] for i in images])
        yield pixels, known
        run.progress(f"influence in {model.name}", first + len(images), len(chosen))


def _balanced_sample(
    n_images: int, classes: np.ndarray | None, n_wanted: int, seed: int
) -> np.ndarray:
    """Up to ``n_wanted`` image ids in random order, classes taking turns where they are known."""
    order = np.random.default_rng(seed).permutation(n_images)
    if classes is not None:
        turn = pd.Series(classes[order]).groupby(classes[order]).cumcount().to_numpy()
        order = order[np.argsort(turn, kind="stable")]
    return np.sort(order[:n_wanted])
