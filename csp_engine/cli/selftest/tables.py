"""Tables of images with gaps, names of their own and other spellings; and other kinds of sets."""

from __future__ import annotations

import io
import json
import tarfile

import pandas as pd
from PIL import Image

from csp_engine.cli.selftest import kind, refused, require
from csp_engine.cli.selftest.world import World, draw, model, network
from csp_engine.probe.listing import read_probe_set

TABLES, OWN, NETWORKS = "tables", "own data", "networks"


@kind(TABLES, "G: the usual words for missing are missing, in every kind of column")
def missing(world: World) -> str:
    """A class, a group and a concept column with gaps in several spellings."""
    images = draw(world.folder / "images", 6)
    files = sorted(path.relative_to(images).as_posix() for path in images.rglob("*.png"))
    words = ("NA", "n/a", "", "null", "NaN")
    rows = [f"{file},{word},{word},{word}" for file, word in zip(files, words, strict=False)]
    head = "file,class,group,ruler"
    (images / "t.csv").write_text("\n".join([head, *rows, f"{files[-1]},mole,g1,1"]) + "\n")
    found = read_probe_set(images / "t.csv").table
    n_known = [int(found[name].notna().sum()) for name in ("class", "group", "ruler")]
    return require(n_known == [1, 1, 1], f"known in {n_known} of {len(found)} rows")


@kind(TABLES, "G: endings in capitals and composed letters find their files")
def spelt(world: World) -> str:
    """A name as another system writes it."""
    for name in ("a.png", "cafe\u0301.png"):
        Image.new("RGB", (8, 8), "red").save(world.folder / name)
    (world.folder / "t.csv").write_text("file,class\na.PNG,x\ncaf\u00e9.png,y\n", "utf-8")
    found = read_probe_set(world.folder / "t.csv").table
    return require(found["class"].tolist() == ["x", "y"], f"{len(found)} images")


@kind(TABLES, "G: columns with names that a bundle has itself are kept beside them")
def own_names(world: World) -> str:
    """A column called ``listed``."""
    from csp_engine.pipeline import build

    images = draw(world.folder / "images", 24)
    files = sorted(path.relative_to(images).as_posix() for path in images.rglob("*.png"))
    rows = [f"{file},{7 * i}" for i, file in enumerate(files)]
    (images / "t.csv").write_text("\n".join(["file,listed", *rows]) + "\n")
    bundle = build(world.request(world.folder / "b.csp", probe=read_probe_set(images / "t.csv")))
    found = bundle.table("probe", "probe")
    return require(
        found["table_listed"].tolist() == [7 * i for i in range(24)], "kept as table_listed"
    )


@kind(OWN, "Parquet with image bytes, JSON lines and tars are probe sets")
def sources(world: World) -> str:
    """The same four images in three forms."""
    contents = []
    for colour in ("red", "green", "blue", "white"):
        out = io.BytesIO()
        Image.new("RGB", (8, 8), colour).save(out, "PNG")
        contents.append(out.getvalue())
    records = [{"bytes": each, "path": f"{i}.png"} for i, each in enumerate(contents)]
    parquet, lines, tar = (world.folder / f"set.{end}" for end in ("parquet", "jsonl", "tar"))
    pd.DataFrame({"image": records, "class": list("abab")}).to_parquet(parquet)
    with tarfile.open(tar, "w") as archive:
        for i, each in enumerate(contents):
            (world.folder / f"{i}.png").write_bytes(each)
            archive.add(world.folder / f"{i}.png", f"{i}.png")
    lines.write_text("\n".join(json.dumps({"file": f"{i}.png"}) for i in range(4)))
    found = [read_probe_set(path) for path in (parquet, lines, tar)]
    same = all([each.read(i) for i in range(4)] == contents for each in found)
    return require(same and found[0].table["class"].tolist() == list("abab"), "12 images read")


@kind(OWN, "a table called metadata.csv beside images is used")
def metadata(world: World) -> str:
    """Classes that no folder tells."""
    images = draw(world.folder / "images", 6)
    for path in sorted(images.rglob("*.png")):
        path.rename(images / path.name)
    names = sorted(path.name for path in images.glob("*.png"))
    rows = [f"{name},{'ab'[i % 2]}" for i, name in enumerate(names)]
    (images / "metadata.csv").write_text("\n".join(["file_name,class", *rows]) + "\n")
    found = read_probe_set(images).table
    return require(sorted(set(found["class"])) == ["a", "b"], f"{len(found)} images, two classes")


@kind(NETWORKS, "F: two outputs of one name are refused")
def one_name(world: World) -> str:
    """A list of classes with the same twice, and images of that class."""
    from torch import nn

    from csp_engine.networks.layers import select_layers
    from csp_engine.pipeline import Target, build

    net = network()
    net.head = nn.Linear(8, 4)
    twice = model(net, class_names=("red", "green", "blue", "red"))
    target = Target(twice, tuple(select_layers(twice, ["second"])))
    request = world.request(world.folder / "b.csp", targets=(target,), n_influence_images=6)
    return refused(lambda: build(request), "all called 'red'")
