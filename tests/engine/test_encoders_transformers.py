"""CLIP, SigLIP and SigLIP 2 of transformers, from tiny checkpoints made here."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file

from csp_engine.encoders import encoder_availability, load_encoder
from csp_engine.errors import InputError, MissingModelError
from tests.worlds.tiny_checkpoints import save_word_tokenizer

TOWER = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
TEXT = {**TOWER, "vocab_size": 40, "max_position_embeddings": 10}
IDS = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 1}
TEXTS = ["red dog", "a photo of a small blue cat", "cat", "dog " * 30, "unknownword"]


def photo(width: int = 57, height: int = 41, seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (9, 11, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def save_clip(folder: Path) -> None:
    config = transformers.CLIPConfig(
        text_config={**TEXT, **IDS},
        vision_config={**TOWER, "image_size": 32, "patch_size": 16},
        projection_dim=12,
    )
    _save(transformers.CLIPModel(config), folder)
    transformers.CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    ).save_pretrained(folder)


def save_siglip(folder: Path) -> None:
    config = transformers.SiglipConfig(
        text_config={**TEXT, **IDS}, vision_config={**TOWER, "image_size": 32, "patch_size": 16}
    )
    _save(transformers.SiglipModel(config), folder)
    transformers.SiglipImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)


def save_siglip2(folder: Path) -> None:
    config = transformers.Siglip2Config(
        text_config={**TEXT, **IDS}, vision_config={**TOWER, "num_patches": 16, "patch_size": 8}
    )
    _save(transformers.Siglip2Model(config), folder)
    transformers.Siglip2ImageProcessorPil(patch_size=8, max_num_patches=16).save_pretrained(folder)


def _save(network: Any, folder: Path) -> None:
    torch.manual_seed(0)
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    network.save_pretrained(folder)
    save_word_tokenizer(folder)


SAVERS = {"clip": save_clip, "siglip": save_siglip, "siglip2": save_siglip2}


@pytest.fixture(scope="module", params=list(SAVERS))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("transformers") / request.param
    SAVERS[request.param](made)
    return made


def library_rows(folder: Path, images: list[Image.Image]) -> tuple[np.ndarray, np.ndarray]:
    """What transformers itself gives, one image and one text at a time."""
    network = transformers.AutoModel.from_pretrained(folder).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    image_rows, text_rows = [], []
    with torch.inference_mode():
        for image in images:
            made = processor(images=image, return_tensors="pt")
            image_rows.append(network.get_image_features(**made).pooler_output)
        for text in TEXTS:
            tokens = tokenizer(
                text.lower() if folder.name == "siglip2" else text,
                padding="max_length",
                truncation=True,
                max_length=10,
                return_tensors="pt",
            )
            if folder.name != "clip":
                del tokens["attention_mask"]
            text_rows.append(network.get_text_features(**tokens).pooler_output)
    rows = [torch.nn.functional.normalize(torch.cat(r), dim=-1) for r in (image_rows, text_rows)]
    return rows[0].numpy(), rows[1].numpy()


def test_rows_equal_transformers(folder: Path) -> None:
    encoder = load_encoder(f"transformers/{folder}")
    # Wide, square and tall: SigLIP 2 takes each in its own grid of patches.
    images = [photo(57, 41), photo(32, 32, 1), photo(20, 90, 2), photo(300, 200, 3)]
    pixels = np.stack([encoder.preprocess(image) for image in images])
    assert pixels.dtype == np.float32
    image_nd, text_td = library_rows(folder, images)
    assert encoder.dim == image_nd.shape[1]
    np.testing.assert_allclose(encoder.embed_images(pixels), image_nd, atol=1e-6)
    np.testing.assert_allclose(encoder.embed_texts(TEXTS), text_td, atol=1e-5)
    assert not np.allclose(image_nd[0], image_nd[1], atol=1e-3)
    assert not np.allclose(text_td[0], text_td[2], atol=1e-3)


@pytest.mark.parametrize("size", [(57, 41), (32, 32), (20, 90)])
def test_preprocessing_equals_the_pillow_processor(folder: Path, size: tuple[int, int]) -> None:
    image = photo(*size)
    pixels = load_encoder(f"transformers/{folder}").preprocess(image)
    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    expected = processor(images=image, return_tensors="np")
    if folder.name == "siglip2":
        np.testing.assert_array_equal(pixels[0, 0, :2], expected["spatial_shapes"][0])
        np.testing.assert_array_equal(pixels[0, 1:], expected["pixel_values"][0])
    else:
        np.testing.assert_array_equal(pixels, expected["pixel_values"][0])


def test_siglip_texts_do_not_depend_on_their_batch(folder: Path) -> None:
    encoder = load_encoder(f"transformers/{folder}")
    alone = np.concatenate([encoder.embed_texts([text]) for text in TEXTS])
    np.testing.assert_allclose(encoder.embed_texts(TEXTS), alone, atol=1e-5)
    assert encoder.embed_texts([]).shape == (0, encoder.dim)


def test_siglip2_lowers_its_texts_and_clip_does_not(folder: Path) -> None:
    encoder = load_encoder(f"transformers/{folder}")
    upper, lower = encoder.embed_texts(["Red", "red"])
    assert np.allclose(upper, lower, atol=1e-6) == (folder.name == "siglip2")
    assert encoder.description["tokenizer"]["is_lowered"] == (folder.name == "siglip2")


def test_fingerprint_follows_every_part_not_the_place(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    original = load_encoder(f"transformers/{folder}").fingerprint
    assert load_encoder(f"transformers/{copy}").fingerprint == original

    path = copy / "preprocessor_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "image_mean": [0.1, 0.5, 0.5]}))
    assert load_encoder(f"transformers/{copy}").fingerprint != original
    path.write_text(json.dumps(config))

    save_word_tokenizer(copy, extra=["zebra"])
    assert load_encoder(f"transformers/{copy}").fingerprint != original
    save_word_tokenizer(copy)

    state = load_file(copy / "model.safetensors")
    state[min(state)].view(-1)[0] += 1e-3
    save_file(state, copy / "model.safetensors", metadata={"format": "pt"})
    assert load_encoder(f"transformers/{copy}").fingerprint != original


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("preprocessor_config.json", "lacks preprocessing"),
        ("tokenizer.json", "lacks a tokenizer"),
        ("model.safetensors", "lacks weights"),
        ("config.json", "lacks config.json"),
    ],
)
def test_a_missing_part_is_refused(folder: Path, tmp_path: Path, name: str, words: str) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / name).unlink()
    with pytest.raises(MissingModelError, match=words):
        load_encoder(f"transformers/{copy}")
    assert words in encoder_availability(f"transformers/{copy}")


def test_weights_that_leave_tensors_unset_are_refused(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    state = load_file(copy / "model.safetensors")
    dropped = next(name for name in state if name.startswith("text_model") and "mlp" in name)
    del state[dropped]
    save_file(state, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"leave 1 tensors .*mlp"):
        load_encoder(f"transformers/{copy}")


def test_preprocessing_of_another_size_is_refused(tmp_path: Path) -> None:
    save_siglip(tmp_path / "siglip")
    path = tmp_path / "siglip" / "preprocessor_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "size": {"height": 48, "width": 48}}))
    with pytest.raises(InputError, match=r"makes images of 48×48 .* takes 32×32"):
        load_encoder(f"transformers/{tmp_path / 'siglip'}")


def test_other_model_types_and_missing_folders_are_refused(tmp_path: Path) -> None:
    save_siglip(tmp_path / "siglip")
    path = tmp_path / "siglip" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_type": "blip"}))
    with pytest.raises(InputError, match=r"'blip' model; .*clip, siglip, siglip2"):
        load_encoder(f"transformers/{tmp_path / 'siglip'}")
    with pytest.raises(MissingModelError, match="no folder"):
        load_encoder(f"transformers/{tmp_path / 'nothing'}")
    with pytest.raises(InputError, match="neither a folder here nor a name"):
        load_encoder("transformers/a/b/c/d", offline=True)


def test_names_not_in_the_cache_fail_at_once_offline(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    spec = "transformers/openai/clip-vit-base-patch32"
    with pytest.raises(MissingModelError, match=r"not on this machine.*HF_HUB_OFFLINE"):
        load_encoder(spec, offline=True)
    assert encoder_availability(spec) == "needs download of openai/clip-vit-base-patch32"
