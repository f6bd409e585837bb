"""docs/own-networks.md says what the readers of networks and autoencoders really do."""

from __future__ import annotations

import json
import re
from pathlib import Path

import torch
from safetensors.torch import save_file

from csp_engine.jobs.options import OPTIONS
from csp_engine.networks.autoencoders import families as sae_families
from csp_engine.networks.autoencoders.files import WEIGHT_FILES
from csp_engine.networks.autoencoders.sae import load_sae

PAGE = (Path(__file__).parents[2] / "docs" / "own-networks.md").read_text("utf-8")


def test_every_library_is_named():
    readers = [name for name in vars(sae_families) if re.fullmatch(r"_[a-z_]+", name)]
    for library in ("saev", "dictionary_learning", "sparsify", "overcomplete", "openai"):
        assert f"_{library}" in readers
        assert library in PAGE.lower()
    for other in ("SAELens", "Prisma", "MSAE"):
        assert other in PAGE
    named = set(re.findall(r"`(\w+\.(?:pt|safetensors))`", PAGE))
    assert named
    assert named <= set(WEIGHT_FILES)


def test_the_example_of_settings_is_understood(tmp_path):
    (example,) = re.findall(r"```json\n(.+?)\n```", PAGE)
    (tmp_path / "cfg.json").write_text(example)
    weight = torch.eye(40)
    save_file({"W_enc": weight, "b_enc": torch.zeros(40)}, tmp_path / "x.safetensors")
    sae = load_sae(tmp_path / "x.safetensors")
    told = json.loads(example)
    assert (sae.name, sae.rule, sae.k) == (told["name"], told["activation"], told["k"])


def test_the_options_exist():
    spelled = {flag for option in OPTIONS.values() for flag in option.spelled}
    named = set(re.findall(r"--[a-z][a-z-]+", PAGE))
    assert named
    assert named <= spelled
