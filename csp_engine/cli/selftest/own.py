"""Labels of others, and a build from own images."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
from PIL import Image

from csp_engine.cli.selftest import kind, refused, require
from csp_engine.cli.selftest.world import PIXELS, World, draw, network

LABELS, OWN = "label tables", "own data"


@kind(LABELS, "imported labels without percentiles are shown and exported")
def imported(world: World) -> str:
    """The whole way: import, table, export, import again."""
    from csp_engine.bundle import Bundle
    from csp_engine.exchange import export_labels, import_labels
    from csp_engine.views.memo import Memo
    from csp_engine.views.table.rows import neuron_table

    path, out = world.folder / "milan.csv", world.folder / "out.csv"
    path.write_text("layer,unit,description\nsecond,0,red things\nsecond,1,a corner\n")
    bundle = world.bundle()
    import_labels(path, bundle.path, name="milan")
    opened = Bundle.open(bundle.path)
    rows = neuron_table(opened, Memo(), "imported-milan")
    require(rows["label"].tolist()[:2] == ["red things", "a corner"], "shown otherwise")
    export_labels(opened, out, methods=["imported-milan"])
    n = import_labels(out, bundle.path, name="again")
    return require(n == 2, f"{n} neurons imported again")


@kind(LABELS, "a unit that the layer lacks is refused")
def no_such_unit(world: World) -> str:
    """A table of another model."""
    from csp_engine.exchange import import_labels

    path = world.folder / "milan.csv"
    path.write_text("layer,unit,description\nsecond,99,red\n")
    return refused(lambda: import_labels(path, world.bundle().path), "99")


@kind(OWN, "a build from a folder of images gives labels")
def build(world: World) -> str:
    """Images, vectors, labels: the whole way."""
    bundle = world.bundle()
    layer = bundle.layers("small")[0]
    methods = bundle.methods("small", layer)
    n = sum(len(bundle.method_labels("small", layer, each)) for each in methods)
    return require(n > 0, f"{bundle.n_images} images, {bundle.n_units('small', layer)} neurons")


@kind(OWN, "columns are compared with neurons as loops would")
def columns(_: World) -> str:
    """AUROC of one neuron and one column, counted pair by pair."""
    from csp_engine.evaluation.column_fit import column_fit

    rng = np.random.default_rng(0)
    activation_un = rng.normal(size=(2, 40)).round(1).astype(np.float32)
    value_nc = (rng.random((40, 1)) < 0.4).astype(np.float32)
    found = column_fit(activation_un, value_nc)
    on, off = activation_un[0][value_nc[:, 0] == 1], activation_un[0][value_nc[:, 0] == 0]
    pairs = [(a > b) + (a == b) / 2 for a in on for b in off]
    far = abs(float(found.auroc_uc[0, 0]) - float(np.mean(pairs)))
    return require(far < 1e-6, f"off by {far:.0e}")


@kind(OWN, "a fine-tuned head tells its number of classes")
def fine_tuned(_: World) -> str:
    """Seven outputs where the architecture has three."""
    import torch

    from csp_engine.networks.loading.heads import n_outputs_in

    tensors = {
        **network().state_dict(),
        "head.weight": torch.zeros(7, 8),
        "head.bias": torch.zeros(7),
    }
    n = n_outputs_in(network(), tensors)
    return require(n == 7, f"{n} classes")


@kind(OWN, "the whole image is one word")
def whole_image(_: World) -> str:
    """``--preprocessing whole`` cuts nothing off."""
    from csp_engine.networks.loading.preprocessing import whole_image as without_crop

    given = without_crop({**PIXELS, "resize": 64, "colour": "rgb", "scale": 1 / 255})
    return require(given["crop"] is None, f"resized to {given['resize']}, no crop")


@kind(OWN, "train and val are splits, not classes")
def splits(world: World) -> str:
    """Folders of a split with folders of classes in them."""
    from csp_engine.probe.listing import read_probe_set

    for split in ("train", "val"):
        draw(world.folder / "data" / split, 6)
    table = read_probe_set(world.folder / "data").table
    found = sorted(set(table["class"])), sorted(set(table["split"]))
    return require(found == (["blue", "green", "red"], ["train", "val"]), f"{found}")


@kind(OWN, "exact copies of an image count once")
def copies(world: World) -> str:
    """Six copies of one image among the others."""
    import shutil

    from csp_engine.pipeline import build as run_build
    from csp_engine.probe.listing import read_probe_set

    images = draw(world.folder / "images", 24)
    first = next((images / "red").glob("*.png"))
    for number in range(6):
        shutil.copy(first, images / "red" / f"copy{number}.png")
    bundle = run_build(world.request(world.folder / "copies.csp", probe=read_probe_set(images)))
    sha = bundle.table("probe", "probe")["sha256"].to_numpy()
    exemplars = bundle.exemplars("small", bundle.layers("small")[0])
    rows = np.asarray(exemplars.image_uk)
    count = np.asarray(exemplars.count_u)
    most = max(len(r[:n]) - len(set(sha[r[:n]])) for r, n in zip(rows, count, strict=True))
    contrast = bundle.contrast("small", bundle.layers("small")[0])
    pairs = zip(
        contrast.image_ukj.reshape(-1, contrast.image_ukj.shape[2]),
        contrast.n_partner_uk.ravel(),
        strict=True,
    )
    again = max(len(r[:n]) - len(set(sha[r[:n]])) for r, n in pairs)
    found = f"{most} among the exemplars of a neuron, {again} among the partners of one"
    return require(most == again == 0, found)


@kind(OWN, "images at an address are a probe set")
def address(_: World) -> str:
    """A folder in memory, as ``s3://`` would be."""
    import fsspec

    from csp_engine.probe.listing import read_probe_set

    memory = fsspec.filesystem("memory")
    out = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(out, "PNG")
    try:
        for name in ("cat/1.png", "cat/2.png", "dog/1.png"):
            memory.pipe(f"/csp-self-test/{name}", out.getvalue())
        found = read_probe_set("memory://csp-self-test")
        classes = found.table["class"].tolist()
    finally:
        memory.rm("/csp-self-test", recursive=True)
    return require(classes == ["cat", "cat", "dog"], f"{len(found)} images of {classes}")


@kind(OWN, "a long value is shortened where a message repeats it")
def long_values(_: World) -> str:
    """A path of 5,000 characters."""
    from csp_engine.errors import InputError

    said = str(InputError(f"{'/folder' * 700} is no folder of images; check --image-root."))
    is_whole = said.endswith(" is no folder of images; check --image-root.")
    return require(is_whole and len(said) < 250, f"{len(said)} characters")


@kind(OWN, "advice names the option that helps")
def advice(_: World) -> str:
    """A network that says nothing about its pixels."""
    from csp_engine.networks.loading.preprocessing import pixel_recipe

    return refused(lambda: pixel_recipe({"resize": 8}), "--preprocessing FILE")


@kind(OWN, "an encoder that knows nothing of the images is noticed")
def separation(_: World) -> str:
    """Images around the texts that they show, and around nothing; with names and without."""
    from csp_engine.evaluation.lean import lean
    from csp_engine.evaluation.separation import is_separated, naming

    rng = np.random.default_rng(0)
    class_n = rng.integers(0, 60, 400)
    value_nc = (class_n[:, None] == np.arange(4)).astype(np.float32)
    text_td = _unit(rng.normal(size=(60, 64)))
    is_other_tc = np.arange(60)[:, None] != np.arange(4)
    verdicts = []
    for near in (1.0, 0.0):
        image_nd = _unit(rng.normal(size=(400, 64)) / 8 + near * text_td[class_n])
        leaning = lean(image_nd, text_td, n_draws=39)
        for n_named in (4, 0):
            of = slice(n_named)
            named = naming(image_nd, text_td, value_nc[:, of], is_other_tc[:, of])
            verdicts.append(is_separated(leaning, named))
    return require(verdicts == [True, True, False, False], f"separated: {verdicts}")


@kind(OWN, "several devices give the digests of one")
def devices(world: World) -> str:
    """Two copies on one processor, and the bundle of one network."""
    from csp_engine.pipeline import build as run_build

    request = world.request(world.folder / "two.csp", devices=("cpu", "cpu"), batch_size=4)
    two, one = (
        run_build(each)
        for each in (request, replace(request, devices=(), out=world.folder / "one.csp"))
    )
    digests = [
        {
            f"{name}/{file}": entry.sha256
            for name, record in bundle.manifest.stages.items()
            for file, entry in record.files.items()
        }
        for bundle in (one, two)
    ]
    return require(digests[0] == digests[1], f"{len(digests[0])} files of one digest each")


def _unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
