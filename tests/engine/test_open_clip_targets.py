"""Image towers of open_clip as networks under study, against open_clip itself."""

from __future__ import annotations

import json

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from csp_engine.errors import InputError, MissingModelError
from csp_engine.networks.activations import ActivationRecorder
from csp_engine.networks.layers import list_layers, select_layers
from csp_engine.networks.models import load_model

MODEL = {
    "embed_dim": 12,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 16, "patch_size": 8, "head_width": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 40, "width": 16, "heads": 2, "layers": 1},
}
PIXELS = {
    "mean": [0.5, 0.4, 0.3],
    "std": [0.2, 0.3, 0.4],
    "interpolation": "bilinear",
    "resize_mode": "shortest",
}


def saved(folder, vision=None, pixels=None):
    folder.mkdir(exist_ok=True)
    model = {**MODEL, "vision_cfg": {**MODEL["vision_cfg"], **(vision or {})}}
    torch.manual_seed(2)
    network = open_clip.CLIP(**json.loads(json.dumps(model)))
    save_file(network.state_dict(), folder / "open_clip_model.safetensors")
    config = {"model_cfg": model, "preprocess_cfg": {**PIXELS, **(pixels or {})}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return network.eval()


@pytest.mark.parametrize("mode", ["shortest", "squash"])
@pytest.mark.parametrize(
    "vision", [{}, {"pool_type": "avg"}, {"ls_init_value": 0.1, "no_ln_pre": True}]
)
def test_tower_and_pixels_are_open_clips(tmp_path, mode, vision):
    network = saved(tmp_path / "m", vision, {"resize_mode": mode})
    _, _, transform = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'm'}")
    model = load_model(f"open_clip/{tmp_path / 'm'}")
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8))
    pixels = model.preprocess(image)
    np.testing.assert_allclose(pixels, transform(image).numpy(), atol=1e-6)
    x = torch.from_numpy(pixels)[None]
    with torch.inference_mode():
        torch.testing.assert_close(model.run(x), network.visual(x), atol=1e-6, rtol=1e-5)
    assert not model.steadiness.notices


@pytest.mark.slow
def test_every_block_of_the_tower_can_be_read(tmp_path):
    network = saved(tmp_path / "m")
    model = load_model(f"open_clip/{tmp_path / 'm'}", name="clip")
    taps = {t.id.module: t for t in list_layers(model)}
    for path in ("ln_pre", "transformer.resblocks.0", "transformer.resblocks.1"):
        assert (taps[path].kind, taps[path].n_prefix_tokens) == ("tokens", 1)
        assert taps[path].has_class_token
    x = np.random.default_rng(1).normal(size=(3, 3, 32, 32)).astype(np.float32)
    seen = []
    block = network.visual.transformer.resblocks[1]
    handle = block.register_forward_hook(lambda m, a, output: seen.append(output.detach()))
    with torch.no_grad():
        network.visual(torch.from_numpy(x))
    handle.remove()
    with ActivationRecorder(model, select_layers(model, ["transformer.resblocks.1"])) as r:
        (got,) = r(x).values()
    tokens = seen[0] if seen[0].shape[0] == 3 else seen[0].transpose(0, 1)
    np.testing.assert_allclose(got, tokens[:, 0].numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"vision_cfg": {**MODEL["vision_cfg"], "spin": 1}}, "have 'spin' for the image tower"),
        ({"vision_cfg": None}, "describe no image tower"),
        ({"vision_cfg": {**MODEL["vision_cfg"], "width": 24}}, "does not fit VisionTransformer"),
        (
            {"vision_cfg": {**MODEL["vision_cfg"], "timm_model_name": "hf-hub:a/b"}},
            "points to 'hf-hub:a/b'",
        ),
        ({"text_cfg": {"trust_remote_code": True}}, "asks for code to be run"),
    ],
)
def test_settings_are_data(tmp_path, change, words):
    saved(tmp_path / "m")
    path = tmp_path / "m" / "open_clip_config.json"
    config = json.loads(path.read_text())
    config["model_cfg"] |= change
    path.write_text(json.dumps(config))
    with pytest.raises(InputError, match=words):
        load_model(f"open_clip/{tmp_path / 'm'}")


def test_names_that_are_none(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match=r"no model 'ViT-B-33'.*nearest names are ViT-B-"):
        load_model("open_clip/ViT-B-33/openai")
    with pytest.raises(InputError, match=r"ViT-B-32 has no weights 'none'; it has"):
        load_model("open_clip/ViT-B-32/none")
    with pytest.raises(MissingModelError, match="downloads are switched off"):
        load_model("open_clip/ViT-B-32/laion2b_s34b_b79k")
    saved(tmp_path / "m")
    (tmp_path / "m" / "open_clip_model.safetensors").unlink()
    with pytest.raises(MissingModelError, match="holds no weights"):
        load_model(f"open_clip/{tmp_path / 'm'}")
