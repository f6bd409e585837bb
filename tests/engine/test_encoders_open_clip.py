"""open_clip encoders from tiny checkpoints made here."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from csp_engine.encoders import encoder_availability, load_encoder
from csp_engine.errors import InputError, MissingModelError
from csp_engine.types import Encoder
from tests.worlds.tiny_checkpoints import save_word_tokenizer

CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
CLIP_STD = [0.26862954, 0.26130258, 0.27577711]
CONFIG: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 12,
        "vision_cfg": {
            "image_size": 32,
            "layers": 1,
            "width": 16,
            "head_width": 8,
            "patch_size": 16,
        },
        "text_cfg": {
            "context_length": 20,
            "vocab_size": 49408,
            "width": 8,
            "heads": 2,
            "layers": 2,
        },
    },
    "preprocess_cfg": {
        "size": [32, 32],
        "mode": "RGB",
        "mean": [0.5, 0.4, 0.3],
        "std": [0.2, 0.3, 0.4],
        "interpolation": "bilinear",
        "resize_mode": "shortest",
        "fill_color": 0,
    },
}
TEXTS = ["dog", "a photo of a small brown dog", "", "Straße & 東京!", "a " * 40, "cat"]


def photo(width: int = 57, height: int = 41, seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (9, 11, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def save_encoder(folder: Path, config: dict[str, Any] = CONFIG, seed: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    cfg = dict(config["model_cfg"])
    custom = cfg.pop("custom_text", False)
    network = (open_clip.CustomTextCLIP if custom else open_clip.CLIP)(**cfg)
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    save_file(network.state_dict(), folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder


def edited(folder: Path, **changes: Any) -> None:
    """Change or (with None) remove fields of preprocess_cfg."""
    path = folder / "open_clip_config.json"
    config = json.loads(path.read_text())
    for name, value in changes.items():
        config["preprocess_cfg"][name] = value
        if value is None:
            del config["preprocess_cfg"][name]
    path.write_text(json.dumps(config))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_encoder(tmp_path_factory.mktemp("open_clip") / "encoder")


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Encoder:
    return load_encoder(f"open_clip/{folder}")


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("size", [(57, 41), (32, 32), (20, 90), (400, 300)])
def test_preprocessing_is_bit_equal_to_open_clip(
    folder: Path, tmp_path: Path, mode: str, size: tuple[int, int]
) -> None:
    copy = shutil.copytree(folder, tmp_path / "encoder")
    edited(copy, resize_mode=mode, interpolation="bicubic")
    _, _, expected = open_clip.create_model_and_transforms(f"local-dir:{copy}")
    image = photo(*size)
    pixels = load_encoder(f"open_clip/{copy}").preprocess(image)
    assert pixels.dtype == np.float32
    assert pixels.flags.c_contiguous
    np.testing.assert_array_equal(pixels, expected(image).numpy())


def test_rows_equal_open_clip(folder: Path, encoder: Encoder) -> None:
    network, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    images = [photo(seed=seed) for seed in range(3)]
    with torch.inference_mode():
        image_nd = network.eval().encode_image(
            torch.stack([transform(i) for i in images]), normalize=True
        )
        # One text at a time, over the full context: the slow way.
        text_td = torch.cat([network.encode_text(tokenizer([t]), normalize=True) for t in TEXTS])
    pixels = np.stack([encoder.preprocess(i) for i in images])
    np.testing.assert_allclose(encoder.embed_images(pixels), image_nd, atol=1e-6)
    np.testing.assert_allclose(encoder.embed_texts(TEXTS), text_td, atol=1e-5)


def test_rows_are_unit_float32_in_the_order_asked(encoder: Encoder) -> None:
    texts = [f"{'very ' * (i % 7)}word{i}" for i in range(300)]  # more than one batch
    rows = encoder.embed_texts(texts)
    assert rows.shape == (300, 12)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    some = [299, 3, 120]
    np.testing.assert_allclose(encoder.embed_texts([texts[i] for i in some]), rows[some], atol=1e-5)
    assert encoder.embed_texts([]).shape == (0, 12)


def test_preprocessing_from_many_threads_gives_the_same(encoder: Encoder) -> None:
    images = [photo(seed=seed) for seed in range(24)]
    alone = [encoder.preprocess(image) for image in images]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(encoder.preprocess, images))
    np.testing.assert_array_equal(together, alone)


def test_grey_images_are_taken_as_rgb(encoder: Encoder) -> None:
    grey = photo().convert("L")
    np.testing.assert_array_equal(encoder.preprocess(grey), encoder.preprocess(grey.convert("RGB")))


def test_siglip_like_text_tower_with_a_local_tokenizer(tmp_path: Path) -> None:
    config = json.loads(json.dumps(CONFIG))
    config["model_cfg"]["custom_text"] = True
    config["model_cfg"]["text_cfg"] |= {
        "vocab_size": 64,
        "context_length": 9,
        "hf_tokenizer_name": "nobody/has-this",
        "tokenizer_kwargs": {"clean": "canonicalize"},
        "no_causal_mask": True,
        "pool_type": "last",
        "proj_bias": True,
    }
    folder = save_encoder(tmp_path / "siglip", config)
    with pytest.raises(MissingModelError, match=r"tokenizer of .*tokenizer\.json"):
        load_encoder(f"open_clip/{folder}")
    save_word_tokenizer(folder)
    encoder = load_encoder(f"open_clip/{folder}")
    network, _, _ = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    texts = ["Red dog.", "cat", "a photo of a red cat"]
    with torch.inference_mode():
        expected = torch.cat(
            [network.eval().encode_text(tokenizer([t]), normalize=True) for t in texts]
        )
    np.testing.assert_allclose(encoder.embed_texts(texts), expected, atol=1e-5)
    before = encoder.fingerprint
    save_word_tokenizer(folder, extra=["zebra"])
    assert load_encoder(f"open_clip/{folder}").fingerprint != before


def test_custom_text_tower_with_causal_mask_is_cut_correctly(tmp_path: Path) -> None:
    config = json.loads(json.dumps(CONFIG))
    config["model_cfg"]["custom_text"] = True
    folder = save_encoder(tmp_path / "custom", config)
    network, _, _ = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    with torch.inference_mode():
        expected = network.eval().encode_text(tokenizer(TEXTS), normalize=True)
    rows = load_encoder(f"open_clip/{folder}").embed_texts(TEXTS)
    np.testing.assert_allclose(rows, expected, atol=1e-5)


@pytest.mark.parametrize("more", [{}, {"custom_text": True, "init_logit_bias": -10.0}])
def test_every_number_comes_from_the_file(tmp_path: Path, more: dict[str, Any]) -> None:
    """Networks are made without numbers; here memory that nobody wrote to holds none."""
    config = json.loads(json.dumps(CONFIG))
    config["model_cfg"] |= more
    folder = save_encoder(tmp_path / "a", config)
    held = load_file(folder / "open_clip_model.safetensors")
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.isnan(torch.empty(9)).all()
        network = load_encoder(f"open_clip/{folder}").network
    finally:
        torch.use_deterministic_algorithms(False)
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(tensor, held.pop(name), rtol=0, atol=0)
    assert not held
    assert not any(torch.isnan(each).any() for each in network.buffers())


def test_fingerprint_follows_weights_and_preprocessing_not_place(
    folder: Path, encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copytree(folder, tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path)
    assert load_encoder("open_clip/elsewhere").fingerprint == encoder.fingerprint
    state = load_file(copy / "open_clip_model.safetensors")
    torch.save(state, copy / "open_clip_pytorch_model.bin")
    (copy / "open_clip_model.safetensors").unlink()
    assert load_encoder(f"open_clip/{copy}").fingerprint == encoder.fingerprint
    edited(copy, mean=[0.5, 0.4, 0.31])
    assert load_encoder(f"open_clip/{copy}").fingerprint != encoder.fingerprint
    edited(copy, mean=[0.5, 0.4, 0.3])
    state["visual.proj"][0, 0] += 1e-3
    torch.save(state, copy / "open_clip_pytorch_model.bin")
    assert load_encoder(f"open_clip/{copy}").fingerprint != encoder.fingerprint


def test_fingerprint_follows_the_activation_function(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "quick")
    config = json.loads((copy / "open_clip_config.json").read_text())
    config["model_cfg"]["quick_gelu"] = True  # same weights, other network
    (copy / "open_clip_config.json").write_text(json.dumps(config))
    plain, quick = load_encoder(f"open_clip/{folder}"), load_encoder(f"open_clip/{copy}")
    assert not np.allclose(plain.embed_texts(["dog"]), quick.embed_texts(["dog"]), atol=1e-4)
    assert plain.fingerprint != quick.fingerprint


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mean": None}, "states no preprocessing"),
        ({"std": None}, "states no preprocessing"),
        ({"resize_mode": None}, "resize_mode None"),
        ({"interpolation": None}, "interpolation None"),
        ({"interpolation": "random"}, "interpolation 'random'"),
        ({"std": [0.2, 0.0, 0.2]}, "must be positive"),
        ({"mean": [0.5, 0.5]}, "three numbers"),
        ({"size": 64}, "size 64.*network takes"),
    ],
)
def test_wrong_or_missing_preprocessing_is_refused(
    folder: Path, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    copy = shutil.copytree(folder, tmp_path / "encoder")
    edited(copy, **changes)
    with pytest.raises(InputError, match=words):
        load_encoder(f"open_clip/{copy}")


def test_early_clip_files_without_resize_fields_are_read_as_clip(
    folder: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(folder, tmp_path / "encoder")
    edited(copy, mean=CLIP_MEAN, std=CLIP_STD, interpolation=None, resize_mode=None)
    record = load_encoder(f"open_clip/{copy}").description["preprocessing"]
    assert (record["interpolation"], record["resize_mode"]) == ("bicubic", "shortest")


def test_no_preprocess_cfg_no_config_no_weights(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "encoder")
    config = json.loads((copy / "open_clip_config.json").read_text())
    del config["preprocess_cfg"]
    (copy / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="states no preprocessing"):
        load_encoder(f"open_clip/{copy}")
    (copy / "open_clip_config.json").write_text("{")
    with pytest.raises(InputError, match="not readable JSON"):
        load_encoder(f"open_clip/{copy}")
    (copy / "open_clip_config.json").unlink()
    with pytest.raises(MissingModelError, match=r"no open_clip_config\.json"):
        load_encoder(f"open_clip/{copy}")
    shutil.copy(folder / "open_clip_config.json", copy)
    (copy / "open_clip_model.safetensors").unlink()
    with pytest.raises(MissingModelError, match="holds no weights"):
        load_encoder(f"open_clip/{copy}")
    assert encoder_availability(f"open_clip/{copy}").startswith("missing: ")


def test_a_checkpoint_given_by_file_is_refused(folder: Path) -> None:
    weights = folder / "open_clip_model.safetensors"
    with pytest.raises(InputError, match="weights alone"):
        load_encoder(f"open_clip/ViT-B-32/{weights}")


def test_weights_of_another_network_are_refused(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "encoder")
    config = json.loads((copy / "open_clip_config.json").read_text())
    config["model_cfg"]["vision_cfg"]["width"] = 24
    (copy / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="does not fit the network"):
        load_encoder(f"open_clip/{copy}")
    (copy / "open_clip_model.safetensors").write_bytes(b"not weights")
    with pytest.raises(InputError, match="does not fit the network"):
        load_encoder(f"open_clip/{copy}")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("open_clip/ViT-B-32/no_such_tag", "no weights tagged.*laion2b_s34b_b79k"),
        ("open_clip/ViT-B-33/openai", "neither a folder nor.*ViT-B-32"),
        ("open_clip/", "cannot be understood"),
        ("clip/ViT-B-32", "cannot be understood; write open_clip"),
        ("python:", "cannot be understood"),
    ],
)
def test_unknown_names_are_refused_with_what_exists(spec: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        load_encoder(spec)
    assert encoder_availability(spec).startswith("missing: ")


def test_tags_not_in_the_cache_fail_at_once_offline(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for spec in ("open_clip/ViT-B-32/laion2b_s34b_b79k", "open_clip/hf-hub:nobody/nothing"):
        with pytest.raises(MissingModelError, match=r"not on this machine.*open_clip/FOLDER"):
            load_encoder(spec, offline=True)
        assert encoder_availability(spec).startswith("needs download of ")


def test_a_cached_tag_gets_its_own_preprocessing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A tag of a SigLIP kind, in a cache made here: its mean is 0.5 and images are squashed."""
    config = json.loads(json.dumps(CONFIG["model_cfg"]))
    (tmp_path / "tiny-test-arch.json").write_text(json.dumps(config))
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIGS", dict(open_clip.factory._MODEL_CONFIGS))
    monkeypatch.setattr(
        open_clip.factory, "_MODEL_CONFIG_PATHS", [*open_clip.factory._MODEL_CONFIG_PATHS]
    )
    open_clip.add_model_config(tmp_path / "tiny-test-arch.json")
    tag = {
        "hf_hub": "nobody/tiny/",
        "url": "",
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
        "interpolation": "bicubic",
        "resize_mode": "squash",
        "quick_gelu": True,
    }
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny-test-arch", {"webli": tag})
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    repo = tmp_path / "hub" / "models--nobody--tiny"
    save_encoder(repo / "snapshots" / "abc")
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("abc")
    spec = "open_clip/tiny-test-arch/webli"
    assert encoder_availability(spec) == "ready"
    encoder = load_encoder(spec, offline=True)
    record = encoder.description["preprocessing"]
    assert (record["resize_mode"], record["mean"]) == ("squash", [0.5, 0.5, 0.5])
    assert encoder.preprocess(photo()).shape == (3, 32, 32)
    # open_clip only warns when a tag was trained with QuickGELU and the architecture says GELU.
    assert encoder.description["architecture"]["quick_gelu"] is True
    assert "QuickGELU" in repr(encoder.network)


def test_a_tag_whose_tokenizer_is_not_cached_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    spec = "open_clip/ViT-B-16-SigLIP/webli"
    repo = tmp_path / "hub" / "models--timm--ViT-B-16-SigLIP"
    (repo / "snapshots" / "abc").mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("abc")
    (repo / "snapshots" / "abc" / "open_clip_model.safetensors").write_bytes(b"")
    assert encoder_availability(spec) == "needs download of timm/ViT-B-16-SigLIP"
    save_word_tokenizer(repo / "snapshots" / "abc")
    assert encoder_availability(spec) == "ready"
