"""Tables, lists of names, image files and stored vectors as they come out of other programs."""

from __future__ import annotations

import io
import struct
import sys

import numpy as np
from PIL import Image

from csp_engine.cli.selftest import kind, refused, require
from csp_engine.cli.selftest.world import PIXELS, World, draw

TABLES, IMAGES, IDENTITY = "tables", "image files", "identity"
SPELLINGS = {
    "UTF-8 with a mark": "\ufefffile,class\na.png,1\n".encode(),
    "UTF-16": "file\tclass\na.png\t1\n".encode("utf-16"),
    "sep= line": b"sep=;\nfile;class\na.png;1\n",
    "semicolons": b"file;class\r\na.png;1\r\n",
    "trailing commas": b"file,class,\na.png,1,\n",
    "headers with spaces": b" File , class \na.png,1\n",
}


@kind(TABLES, "G: every usual spelling of a CSV gives the same cells")
def spellings(world: World) -> str:
    """Marks, encodings, separators."""
    from csp_engine.reading.tables import read_table

    for name, content in SPELLINGS.items():
        path = world.folder / "t.csv"
        path.write_bytes(content)
        rows = read_table(path).rows
        cells = [str(value) for value in rows.iloc[0]][:2]
        names = [str(column).strip().lower() for column in rows.columns][:2]
        require((names, cells) == (["file", "class"], ["a.png", "1"]), f"{name}: {names} {cells}")
    return f"{len(SPELLINGS)} spellings"


@kind(TABLES, "G: a stray quote is refused with its line")
def stray_quote(world: World) -> str:
    """A quote that would swallow the rows after it."""
    from csp_engine.reading.tables import read_table

    path = world.folder / "t.csv"
    path.write_text('file,class\na.png,1\nb.png,"2\nc.png,3\nd.png,4\n')
    return refused(lambda: read_table(path), "ine 3")


@kind(TABLES, "G: a vocabulary in JSON is read, an unknown form is refused")
def vocabulary(world: World) -> str:
    """A list, and an object of lists."""
    from csp_engine.words.vocabularies import read_vocabulary

    good, bad = world.folder / "good.json", world.folder / "bad.json"
    good.write_text('["red", "blue"]')
    bad.write_text('{"a": {"b": [1, {"c": 2}]}}')
    texts = list(read_vocabulary([str(good)]).texts)
    require(texts == ["red", "blue"], f"read as {texts}")
    return refused(lambda: read_vocabulary([str(bad)]))


@kind(TABLES, "G: our own export reads back unchanged")
def own_export(world: World) -> str:
    """Labels that begin like formulas among them."""
    import pandas as pd

    from csp_engine.cells import csv_text
    from csp_engine.exchange import read_label_table

    texts = ["=1+1", "'tis", "null", 'a "b", c', "-"]
    rows = pd.DataFrame({"layer": "fc", "unit": range(5), "description": texts, "score": 0.5})
    path = world.folder / "labels.csv"
    path.write_text(csv_text(rows), encoding="utf-8", newline="")
    found = read_label_table(path)["description"].tolist()
    return require(found == texts, f"{len(found)} labels")


def _decoded(image: Image.Image, form: str, **options: object) -> np.ndarray:
    from csp_engine.probe.decoding import decode

    out = io.BytesIO()
    image.save(out, form, **options)
    return np.asarray(decode(out.getvalue()))


@kind(IMAGES, "H: 16 bits are scaled, not cut")
def sixteen_bits(_: World) -> str:
    """A PNG whose brightest value is 65,535."""
    ramp = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    found = _decoded(Image.fromarray(ramp), "PNG")[..., 0]
    far = int(np.abs(found.astype(int) - np.rint(ramp / 257).astype(int)).max())
    return require(far <= 1, f"off by {far} of 255")


@kind(IMAGES, "H: a TIFF in which white is zero is inverted")
def white_is_zero(_: World) -> str:
    """Photometric interpretation 0, written by hand."""
    from csp_engine.probe.decoding import decode

    pixels = bytes([0, 255, 0, 255])
    tags = [(256, 3, 1, 2), (257, 3, 1, 2), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 0),
            (273, 4, 1, 8), (277, 3, 1, 1), (278, 3, 1, 2), (279, 4, 1, 4)]  # fmt: skip
    head = struct.pack("<2sHI", b"II", 42, 12) + pixels
    body = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
    found = np.asarray(decode(head + body + struct.pack("<I", 0)))[0, :, 0].tolist()
    return require(found == [255, 0], f"read as {found}")


@kind(IMAGES, "H: transparent images lie on white")
def transparent(_: World) -> str:
    """A PNG that is invisible throughout."""
    found = _decoded(Image.new("RGBA", (4, 4), (0, 0, 0, 0)), "PNG")
    return require(found.min() == 255, "white")


@kind(IMAGES, "H: files that are no images are counted and named")
def left_out(world: World) -> str:
    """Files of two other kinds beside images."""
    from csp_engine.probe.listing import read_probe_set

    images = draw(world.folder / "images", 6)
    for name in ("a.jxl", "b.jxl", "notes.txt"):
        (images / name).write_bytes(b"x")
    found = read_probe_set(images)
    n = sum(row.n_files for row in found.left_out)
    why = next(row.why for row in found.left_out if row.ending == ".jxl")
    holds = len(found) == 6 and n == 3 and "save it as PNG" in why
    return require(holds, f"{len(found)} images, {n} files left out; .jxl {why}")


@kind(IMAGES, "H: a damaged image is not shown as a picture")
def damaged(_: World) -> str:
    """A PNG cut in half."""
    from csp_engine.probe.decoding import decode

    out = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).save(out, "PNG")
    return refused(lambda: decode(out.getvalue()[: len(out.getvalue()) // 2]), "damaged")


@kind(IDENTITY, "I: a stored vector belongs to one image only")
def stored_twice(world: World) -> str:
    """The same name twice in a folder of stored vectors."""
    from csp_engine.encoders import load_encoder

    rng = np.random.default_rng(0)
    for role, names in (("image", ["a.png", "a.png"]), ("text", ["red", "blue"])):
        np.save(world.folder / f"{role}_vectors.npy", rng.normal(size=(2, 4)).astype(np.float32))
        (world.folder / f"{role}_names.txt").write_text("\n".join(names))
    return refused(lambda: load_encoder(f"precomputed/{world.folder}"), "twice")


@kind(IDENTITY, "I: another forward pass is another network")
def forward_pass(world: World) -> str:
    """The same weights, a factor changed in the code."""
    from csp_engine.networks.models import load_model

    code = (
        "import torch\nfrom torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        torch.manual_seed(0)\n"
        "        self.conv = nn.Conv2d(3, 4, 3)\n"
        "    def forward(self, x):\n"
        "        return self.conv(x) * {}\n"
    )
    found = []
    path = list(sys.path)
    try:
        for number, factor in enumerate((1, 2)):
            sys.modules.pop("csp_selftest_net", None)
            home = world.folder / "csp_selftest_net.py"
            home.write_text(code.format(factor) + "#" * number)
            import linecache

            linecache.clearcache()
            spec = "python:csp_selftest_net:Net"
            found.append(load_model(spec, preprocessing=PIXELS).code)
    finally:
        sys.path[:] = path
        sys.modules.pop("csp_selftest_net", None)
    return require(len(set(found)) == 2 and all(found), "the code's sha256 differs")
