"""A toy bundle in which every name that comes from outside tries to be more than text."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from csp_engine.pipeline import build
from csp_engine.probe.listing import read_probe_set
from tests.worlds import toys

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "![x](http://evil.example/x.png)",
    ":red[shout] :smile: :material/home:",
    "\"quotes' & ampersands",
    "אדום \u202egnp.exe",
    "../../etc/passwd",
    "$x^2$ **bold** [link](javascript:alert(1))",
    "🩺👩🏽‍⚕️ emoji",
]
"""Labels, queries, remarks about images and values in addresses."""

LONG = "<i>long</i> " + "x" * 10_000
CLASSES = ("<b>bold & co", "![x](http:evil)", ":red[class]", "a'\"quote")


def make(folder: Path, name: str = "hostile") -> Path:
    """The bundle: labels, files, folders, classes, columns and remarks are all hostile."""
    images = toys.draw_images(folder / "images", 28)
    for each, named in zip(sorted(images.iterdir()), CLASSES, strict=True):
        renamed = each.rename(each.parent / named)
        for image in list(renamed.iterdir()):
            image.rename(renamed / f"<img src=x onerror=alert(1)>{image.name}")
    files = sorted(path.relative_to(images).as_posix() for path in images.rglob("*.png"))
    remarks = [*HOSTILE, LONG]
    table = folder / "table.csv"
    pd.DataFrame(
        {
            "file": files,
            "class": [file.partition("/")[0] for file in files],
            "<u>remark</u>": [remarks[i % len(remarks)] for i in range(len(files))],
        }
    ).to_csv(table, index=False)
    request = toys.request(
        folder,
        folder / f"{name}.csp",
        probe=read_probe_set(table, image_root=images),
        vocabulary=toys.words(folder, HOSTILE),
        n_influence_images=0,
    )
    build(request)
    return folder / f"{name}.csp"
