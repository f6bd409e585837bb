"""An encoder's folder, a captioner's and a target model's are data: nothing in them can run code.

Each fault is planted in a folder that works, with a module beside it that leaves a mark when it is
imported. Whatever the outcome, the mark must not be there; and the user gets one sentence.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from csp_engine.captioners import load_captioner
from csp_engine.encoders import load_encoder
from csp_engine.errors import CspError, InputError, StaleError
from csp_engine.files import ROOT
from csp_engine.networks.models import load_model
from tests.engine.test_encoders_open_clip import CONFIG, save_encoder
from tests.engine.test_encoders_transformers import SAVERS
from tests.worlds.tiny_checkpoints import WORDS, save_word_tokenizer
from tests.worlds.tiny_vlm import tiny_vlm

CODE = """
import os, pathlib, transformers
pathlib.Path(os.environ["CSP_TEST_MARK"]).write_text("ran")
class Bad(transformers.PreTrainedTokenizerFast): pass
class BadConfig(transformers.CLIPConfig): pass
class BadModel(transformers.CLIPModel): config_class = BadConfig
class BadProcessor(transformers.CLIPImageProcessor): pass
"""


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that code of a folder would write, were it run."""
    path = tmp_path / "mark"
    monkeypatch.setenv("CSP_TEST_MARK", str(path))
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    return path


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    content = json.loads(path.read_text()) if path.is_file() else {}
    change(content)
    path.write_text(json.dumps(content))


def siglip_like(folder: Path) -> Path:
    """An open_clip folder whose tokenizer is one of transformers."""
    config = json.loads(json.dumps(CONFIG))
    config["model_cfg"]["custom_text"] = True
    config["model_cfg"]["text_cfg"].update(
        context_length=10, vocab_size=3 + len(WORDS), no_causal_mask=True, pool_type="last"
    )
    config["model_cfg"]["text_cfg"].update(
        hf_tokenizer_name="some/siglip", tokenizer_kwargs={"clean": "canonicalize"}
    )
    save_encoder(folder, config)
    save_word_tokenizer(folder)
    return folder


def text(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: edit(
        folder / "open_clip_config.json", lambda c: c["model_cfg"]["text_cfg"].update(changes)
    )


def vision(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: edit(
        folder / "open_clip_config.json", lambda c: c["model_cfg"]["vision_cfg"].update(changes)
    )


def file(name: str, **changes: Any) -> Callable[[Path], None]:
    return lambda folder: edit(folder / name, lambda c: c.update(changes))


AUTO_TOKENIZER = {"AutoTokenizer": ["code.Bad", "code.Bad"]}
TRUSTING = {"clean": "canonicalize", "trust_remote_code": True}

OPEN_CLIP: dict[str, list[Callable[[Path], None]]] = {
    "trusted tokenizer": [
        text(tokenizer_kwargs=TRUSTING),
        file("tokenizer_config.json", auto_map=AUTO_TOKENIZER),
    ],
    "auto_map alone": [file("tokenizer_config.json", auto_map=AUTO_TOKENIZER)],
    "auto_map of an own class": [
        file("tokenizer_config.json", auto_map=AUTO_TOKENIZER, tokenizer_class="Bad")
    ],
    "auto_map in the network's file": [
        lambda folder: (folder / "tokenizer_config.json").unlink(),
        file("config.json", auto_map=AUTO_TOKENIZER, model_type="clip"),
    ],
    "trust in the tokenizer's file": [file("tokenizer_config.json", trust_remote_code=True)],
    "a class that is no tokenizer": [file("tokenizer_config.json", tokenizer_class="AutoModel")],
    "a class by path": [file("tokenizer_config.json", tokenizer_class="code.Bad")],
    "another folder's vocabulary": [text(tokenizer_kwargs={"tokenizer_file": "/etc/passwd"})],
    "an unknown option": [text(tokenizer_kwargs={"cache_dir": "/tmp/x"})],
    "a hub path in the tokenizer's file": [
        file("tokenizer_config.json", bos_token="hf-hub:evil/tokenizer")
    ],
    "an unknown setting": [file("tokenizer_config.json", custom_generate="code.Bad")],
    "a text network by path": [text(hf_model_name="./here", hf_pooler_type="mean_pooler")],
    "a text network elsewhere": [text(hf_model_name="/tmp/evil")],
    "a text network out of the folder": [text(hf_model_name="a/../../evil")],
    "a tokenizer of the hub": [text(hf_tokenizer_name="hf-hub:evil/tokenizer")],
    "a timm network by path": [vision(timm_model_name="local-dir:/tmp/evil")],
    "a timm network of the hub": [vision(timm_model_name="hf-hub:evil/model")],
    "a timm network that is none": [vision(timm_model_name="os.system")],
    "an activation with options": [text(act_kwargs={"approximate": "__import__('os')"})],
    "a norm with options": [vision(norm_kwargs={"device": "meta"})],
    "a custom text tower": [
        lambda folder: edit(
            folder / "open_clip_config.json",
            lambda c: c["model_cfg"].update(custom_text="code.Bad"),
        )
    ],
    "an unknown part": [
        lambda folder: edit(
            folder / "open_clip_config.json", lambda c: c["model_cfg"].update(factory="code:make")
        )
    ],
    "preprocessing by name": [
        lambda folder: edit(
            folder / "open_clip_config.json", lambda c: c["preprocess_cfg"].update(mode="code.Bad")
        )
    ],
}


@pytest.mark.parametrize("fault", OPEN_CLIP)
def test_an_open_clip_folder_runs_nothing(fault: str, tmp_path: Path, mark: Path) -> None:
    folder = siglip_like(tmp_path / "encoder")
    (folder / "code.py").write_text(CODE)
    for change in OPEN_CLIP[fault]:
        change(folder)
    with pytest.raises(CspError) as caught:
        load_encoder(f"open_clip/{folder}", offline=True)
    assert not mark.exists()
    assert "\n" not in str(caught.value)


def test_the_folder_the_faults_are_planted_in_works(tmp_path: Path) -> None:
    encoder = load_encoder(f"open_clip/{siglip_like(tmp_path / 'encoder')}", offline=True)
    assert encoder.embed_texts(["a red dog"]).shape == (1, encoder.dim)


def test_another_encoder_is_refused_before_its_tokenizer_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = load_encoder(f"open_clip/{siglip_like(tmp_path / 'encoder')}", offline=True)
    monkeypatch.setattr(
        "open_clip.tokenizer.HFTokenizer", lambda *_, **__: pytest.fail("a tokenizer was made")
    )
    other = tmp_path / "other"
    for change, held, part in (
        (text(heads=1), None, "architecture"),
        (file("tokenizer_config.json", pad_token="dog"), wanted.files, "tokenizer_config.json"),
        (
            lambda f: save_encoder(f, json.loads((f / "open_clip_config.json").read_text()), 5),
            None,
            "weights",
        ),
    ):
        shutil.rmtree(other, ignore_errors=True)
        shutil.copytree(tmp_path / "encoder", other)
        change(other)
        with pytest.raises(StaleError, match=part):
            load_encoder(f"open_clip/{other}", expected=wanted.description, files=held)


AUTO = {"AutoConfig": "code.BadConfig", "AutoModel": "code.BadModel"}
TRANSFORMERS: dict[str, list[Callable[[Path], None]]] = {
    "auto_map of the network": [file("config.json", auto_map=AUTO)],
    "auto_map of the tokenizer": [file("tokenizer_config.json", auto_map=AUTO_TOKENIZER)],
    "auto_map of the processor": [
        file("preprocessor_config.json", auto_map={"AutoImageProcessor": "code.BadProcessor"})
    ],
    "an own processor": [
        file(
            "preprocessor_config.json",
            image_processor_type="BadProcessor",
            auto_map={"AutoImageProcessor": "code.BadProcessor"},
        )
    ],
    "trust": [file("config.json", trust_remote_code=True)],
    "a kernel for attention": [file("config.json", attn_implementation="evil/kernel")],
    "a kernel in a part": [
        lambda folder: edit(
            folder / "config.json",
            lambda c: c["text_config"].update(_attn_implementation="evil/kernel"),
        )
    ],
    "a quantiser": [file("config.json", quantization_config={"quant_method": "bitsandbytes"})],
    "a setting that no such network has": [file("config.json", hook="code.Bad")],
    "weights out of the folder": [
        lambda folder: (folder / "model.safetensors").unlink(),
        file("model.safetensors.index.json", metadata={}, weight_map={"a": "../x.safetensors"}),
    ],
}


@pytest.mark.parametrize("fault", TRANSFORMERS)
def test_a_transformers_folder_runs_nothing(fault: str, tmp_path: Path, mark: Path) -> None:
    folder = tmp_path / "encoder"
    SAVERS["clip"](folder)
    (folder / "code.py").write_text(CODE)
    for change in TRANSFORMERS[fault]:
        change(folder)
    with pytest.raises(CspError) as caught:
        load_encoder(f"transformers/{folder}", offline=True)
    assert not mark.exists()
    assert "\n" not in str(caught.value)


def save_target(folder: Path) -> None:
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=32,
    )
    transformers.ViTModel(config).save_pretrained(folder)
    transformers.ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)


TAKES_FOLDERS: dict[str, tuple[Callable[[Path], Any], Callable[[str], Any]]] = {
    "encoder": (SAVERS["clip"], load_encoder),
    "target": (save_target, load_model),
    "captioner": (tiny_vlm, load_captioner),
}


@pytest.mark.parametrize("what", TAKES_FOLDERS)
@pytest.mark.parametrize("is_alone", [False, True])
def test_an_adapter_is_neither_followed_nor_left_out(
    what: str, is_alone: bool, tmp_path: Path
) -> None:
    """transformers would load the base model that it names, or say nothing where peft is not."""
    folder = tmp_path / "model"
    save, load = TAKES_FOLDERS[what]
    save(folder)
    load(f"transformers/{folder}")
    (folder / "adapter_config.json").write_text(
        json.dumps({"base_model_name_or_path": "/nowhere", "peft_type": "LORA"})
    )
    if is_alone:  # as peft saves it
        (folder / "config.json").unlink()
    with pytest.raises(InputError, match=r"holds an adapter .*merge_and_unload\(\) in peft"):
        load(f"transformers/{folder}")


class _Bomb:
    def __init__(self, mark: Path) -> None:
        self._mark = str(mark)

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (f"touch {self._mark}",))


@pytest.mark.parametrize("kind", ["open_clip", "transformers"])
def test_pickled_weights_run_nothing(kind: str, tmp_path: Path, mark: Path) -> None:
    folder = tmp_path / "encoder"
    if kind == "open_clip":
        save_encoder(folder)
        (folder / "open_clip_model.safetensors").unlink()
        torch.save({"state_dict": _Bomb(mark)}, folder / "open_clip_pytorch_model.bin")
    else:
        SAVERS["clip"](folder)
        (folder / "model.safetensors").unlink()
        torch.save({"logit_scale": _Bomb(mark)}, folder / "pytorch_model.bin")
    with pytest.raises(CspError):
        load_encoder(f"{kind}/{folder}", offline=True)
    assert not mark.exists()


def test_stored_vectors_are_plain_arrays(tmp_path: Path, mark: Path) -> None:
    names = [f"n{i}" for i in range(3)]
    for role in ("image", "text"):
        (tmp_path / f"{role}_names.txt").write_text("\n".join(names))
        np.save(tmp_path / f"{role}_vectors.npy", np.eye(3, dtype=np.float32))
    path = tmp_path / "text_vectors.npy"
    assert load_encoder(f"precomputed/{tmp_path}").dim == 3
    np.save(path, np.array([_Bomb(mark)] * 3, dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match=r"not an array in \.npy format"):
        load_encoder(f"precomputed/{tmp_path}")
    for content in (b"", b"\x93NUMPY", b"PK\x03\x04"):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"not an array in \.npy format"):
            load_encoder(f"precomputed/{tmp_path}")
    np.savez(tmp_path / "archive.npz", np.eye(3))
    (tmp_path / "archive.npz").replace(path)
    with pytest.raises(InputError, match=r"not an array in \.npy format"):
        load_encoder(f"precomputed/{tmp_path}")
    assert not mark.exists()


CAPTIONER: dict[str, dict[str, Any]] = {
    "auto_map": {"auto_map": {"AutoConfig": "code.BadConfig"}},
    "kernel": {"_attn_implementation": "evil/kernel"},
    "quantiser": {"quantization_config": {"quant_method": "awq"}},
    "unknown": {"pre_hook": "code.Bad"},
}


@pytest.mark.parametrize("fault", CAPTIONER)
def test_a_captioner_runs_nothing(fault: str, tmp_path: Path, mark: Path) -> None:
    folder = tmp_path / "captioner"
    shutil.copytree(ROOT / "assets" / "demo" / "captioner", folder)
    load_captioner(folder)
    (folder / "code.py").write_text(CODE)
    edit(folder / "config.json", lambda c: c.update(CAPTIONER[fault]))
    with pytest.raises(InputError):
        load_captioner(folder)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
def test_a_target_model_of_transformers_runs_nothing(name: str, tmp_path: Path, mark: Path) -> None:
    folder = tmp_path / "model"
    save_target(folder)
    load_model(f"transformers/{folder}")
    (folder / "code.py").write_text(CODE)
    auto = {"AutoConfig": "code.BadConfig", "AutoImageProcessor": "code.BadProcessor"}
    edit(folder / name, lambda c: c.update(auto_map=auto, model_type="bad"))
    with pytest.raises(InputError, match="only data"):
        load_model(f"transformers/{folder}")
    assert not mark.exists()


@pytest.mark.slow
def test_nobody_is_asked(tmp_path: Path) -> None:
    """transformers asks a terminal whether to run code; an answer in the pipe must not count."""
    folder = siglip_like(tmp_path / "encoder")
    (folder / "code.py").write_text(CODE)
    edit(folder / "tokenizer_config.json", lambda c: c.update(auto_map=AUTO_TOKENIZER))
    script = "import sys; from csp_engine.encoders import load_encoder; load_encoder(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", script, f"open_clip/{folder}"],
        input="y\n" * 20,
        text=True,
        capture_output=True,
        env={**os.environ, "CSP_TEST_MARK": str(tmp_path / "mark"), "HF_HUB_OFFLINE": "1"},
        timeout=120,
        check=False,
    )
    assert "InputError" in done.stderr
    assert not (tmp_path / "mark").exists()
