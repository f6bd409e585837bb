"""Run in a process of its own, with an extension: where its things turn up, as JSON."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from streamlit.testing.v1 import AppTest

from csp_engine.bundle import Bundle
from csp_engine.cli import main
from csp_engine.views.memo import Memo
from csp_engine.views.table.columns import COLUMNS
from csp_engine.views.table.rows import neuron_table
from tests.worlds import toys

ROOT = Path(__file__).resolve().parents[2]


def csp(*arguments: object) -> str:
    """What a command prints; stops where it fails."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as stop:
            if stop.code:
                raise RuntimeError(f"csp {arguments} failed") from None
    return printed.getvalue()


def build(folder: Path) -> Bundle:
    """A bundle by the command line, with ground truth."""
    images = toys.draw_images(folder / "images")
    toys.words(folder)
    (folder / "pixels.json").write_text(json.dumps(toys.PREPROCESSING))
    files = sorted(p.relative_to(images).as_posix() for p in images.rglob("*.png"))
    shown = {colour: [int(colour in file) for file in files] for colour in ("red", "blue")}
    csp(
        "build", toys.as_table(images, **shown), "--out", folder / "a.csp",
        "--model", "python:tests.worlds.toys:network", "--name", "small",
        "--preprocessing", folder / "pixels.json", "--layer", "first",
        "--encoder", "python:tests.worlds.toys:ColourEncoder",
        "--vocabulary", folder / "words.txt", "--exemplars", 6, "--set", "n_null=30",
        "--set", "methods=csp,toy_rule", "--set", "toy_rule.n_kept=2",
    )  # fmt: skip
    return toys.with_truth(Bundle.open(folder / "a.csp"))


def found(folder: Path) -> dict[str, Any]:
    """What the fronts say of the toy method, statistic, metric and page."""
    bundle = build(folder)
    rows = neuron_table(bundle, Memo(), "toy_rule")
    at = AppTest.from_file(str(ROOT / "pages" / "ui" / "main.py"), default_timeout=60)
    at.run()
    page = at.session_state["pages"]["toy_page"]
    shown = AppTest.from_file(str(page._page)).run()
    command = [sys.executable, "-m", "pytest", "-q", "-k", "toy", "-p", "no:cacheprovider"]
    documents = subprocess.run(
        [*command, "tests/docs/test_methods_doc.py"], cwd=ROOT, capture_output=True, text=True
    )
    return {
        "stages": sorted(bundle.manifest.stages),
        "info": json.loads(csp("info", bundle.path, "--json")),
        "params": dict(bundle.stage("scores:small/first@mean/toy_rule").params),
        "truth_metrics": bundle.stage("truth:small/first@mean").params["metrics"],
        "labels": rows["label"].tolist(),
        "toy_reach": rows["toy_reach"].tolist(),
        "toy_gap": np.isfinite(rows["toy_gap"]).tolist(),
        "columns": [name for name in COLUMNS if name.startswith("toy")],
        "csv": csp("export", bundle.path, folder / "labels.csv", "--method", "toy_rule"),
        "page": [page.title, page.url_path, [element.value for element in shown.text]],
        "documents": documents.stdout[-400:],
    }


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):
        answer = found(Path(sys.argv[1]))
    sys.stdout.write(json.dumps(answer))
