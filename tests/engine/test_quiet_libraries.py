"""What libraries draw while they load does not run through the output of the command."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.slow
def test_no_bar_of_a_library_reaches_stderr(tmp_path):
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    settings = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        image_size=32, patch_size=8, num_labels=4,
    )  # fmt: skip
    ViTForImageClassification(settings).save_pretrained(tmp_path)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "csp_engine", "layers", f"transformers/{tmp_path}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "vit" in done.stdout
    assert "%|" not in done.stderr
    assert "it/s" not in done.stderr


def test_a_bar_that_any_library_makes_is_silent():
    code = """
import sys
from csp_engine.cli import main
try:
    main(["--help"])
except SystemExit:
    pass
from tqdm import tqdm
from tqdm.auto import tqdm as other
list(tqdm(range(3))); list(other(range(3)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_who_asks_for_bars_gets_them():
    code = """
import os
os.environ["TQDM_DISABLE"] = ""
from csp_engine.cli import main
try:
    main(["--help"])
except SystemExit:
    pass
from tqdm import tqdm
list(tqdm(range(3)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "3/3" in done.stderr
