"""An encoder of open_clip's own parts is loaded without libraries that it never uses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from csp_engine.bundle import Bundle
from csp_engine.encoders.open_clip_alone import COMPILER, LEFT_OUT, is_alone
from csp_engine.search import bundle_encoder, encoder_description, query_vector
from csp_engine.trust import TRUST

DEMO = Path(__file__).parents[2] / "assets" / "demo" / "dermoscopy.csp"
TEXTS = ["a thing with stripes", "τ — “x”"]
ASKS = """
import json, sys
from csp_engine.encoders import open_clip_alone
from csp_engine.serving.encoder_process import answer

_, body = answer(json.loads(sys.argv[1]), b"", {})
names = (*open_clip_alone.LEFT_OUT, open_clip_alone.COMPILER, "open_clip")
held = {name: sys.modules.get(name) is not None for name in names}
open_clip_alone.prepare(None)
import open_clip
from open_clip import hf_model, timm_model
again = {"timm": timm_model.timm is not None, "transformers": hf_model.transformers is not None}
import torch._dynamo.utils
align = sys.modules["torchvision.ops.roi_align"]
ask = torch._dynamo.utils.is_compile_supported
is_real = type(sys.modules[open_clip_alone.COMPILER]) is type(sys)
again["compiler"] = is_real and ask("cpu") == align.is_compile_supported("cpu")
print(json.dumps({"body": body.hex(), "held": held, "again": again}))
"""
PLAIN = {"vision_cfg": {"width": 64}, "text_cfg": {"width": 64}}


@pytest.mark.slow
def test_the_encoder_of_the_demo_comes_alone_and_says_the_same():
    bundle = Bundle.open(DEMO)
    question = {"bundle": str(DEMO), "digest": bundle.digest, TRUST: "", "texts": TEXTS}
    command = [sys.executable, "-c", ASKS, json.dumps(question)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = json.loads(told.splitlines()[-1])
    assert found["held"] == {**dict.fromkeys((*LEFT_OUT, COMPILER), False), "open_clip": True}
    # All is there for an encoder that has parts of them, and for whoever aligns regions.
    assert found["again"] == dict.fromkeys((*LEFT_OUT, "compiler"), True)
    encoder = bundle_encoder(bundle)
    expected = [query_vector(bundle, text, encoder) for text in TEXTS]
    vector_td = np.frombuffer(bytes.fromhex(found["body"]), np.float32).reshape(len(TEXTS), -1)
    # There one thread encodes a text, here as many as there are: the last digits differ.
    np.testing.assert_allclose(vector_td, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("described", "is_so"),
    [
        ({"kind": "open_clip", "architecture": PLAIN}, True),
        ({"kind": "transformers", "architecture": PLAIN}, False),
        ({"kind": "open_clip"}, False),
        ({"kind": "open_clip", "architecture": {**PLAIN, "multimodal_cfg": {}}}, False),
        (
            {
                "kind": "open_clip",
                "architecture": {**PLAIN, "vision_cfg": {"timm_model_name": "vit"}},
            },
            False,
        ),
        (
            {"kind": "open_clip", "architecture": {**PLAIN, "text_cfg": {"hf_model_name": "bert"}}},
            False,
        ),
        ({"kind": "open_clip", "architecture": {**PLAIN, "text_cfg": "hostile"}}, False),
    ],
)
def test_what_has_parts_of_other_libraries_is_not_alone(described, is_so):
    assert is_alone(described) == is_so


def test_what_is_known_of_an_encoder_counts_only_where_its_fingerprint_says_so():
    bundle = Bundle.open(DEMO)
    assert is_alone(encoder_description(bundle))
    bundle.manifest.inputs["encoder"]["description"]["dim"] = 97
    assert encoder_description(bundle) is None


@pytest.mark.slow
def test_a_search_from_the_command_line_loads_it_alone():
    asks = (
        "import contextlib, sys\n"
        "from csp_engine.cli import main\n"
        "with contextlib.suppress(SystemExit):\n"
        "    main(['search', sys.argv[1], 'an odd thing'])\n"
        "held = [name for name in sys.argv[2:] if sys.modules.get(name) is not None]\n"
        "print('held:', *held)\n"
    )
    command = [sys.executable, "-c", asks, str(DEMO), *LEFT_OUT, COMPILER, "open_clip"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert told.splitlines()[-1] == "held: open_clip"
