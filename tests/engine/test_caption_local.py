"""An image-text-to-text model of transformers as captioner: a tiny one, built here."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from csp_engine.captioners import load_captioner
from csp_engine.captioners.generators.asking import Generator, Question
from csp_engine.captioners.generators.prompts import grid, prompt
from csp_engine.errors import InputError, MissingModelError
from tests.worlds.tiny_vlm import tiny_vlm


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_vlm(tmp_path_factory.mktemp("vlm") / "tiny")


@pytest.fixture(scope="module")
def local(folder):
    return load_captioner(f"transformers/{folder}#tokens=6,batch=3")


def picture(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 255, 3) + rng.normal(0, 20, (20, 30, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def questions() -> list[Question]:
    """With two grids, with one, and with words of other lengths."""
    made = []
    for i in range(7):
        grids = [grid([picture(10 * i + k) for k in range(1 + i % 9)])]
        if i % 3:
            grids.append(grid([picture(1000 + i)]))
        words = prompt("contrast" if i % 3 else "exemplars", 3)
        made.append(Question(tuple(grids), words + " blue veil" * (i % 4), 0))
    return made


def asked_alone(folder, question: Question) -> str:
    """The slow way: one question, no padding, and greedy decoding by hand."""
    network = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(folder)
    text = "USER: " + "<image> " * len(question.grids) + question.prompt + " ASSISTANT:"
    given = processor(text=[text], images=list(question.grids), return_tensors="pt")
    ids = given["input_ids"]
    said: list[int] = []
    with torch.inference_mode():
        for _ in range(6):
            mask = torch.ones_like(ids)
            logits = network(
                input_ids=ids, attention_mask=mask, pixel_values=given["pixel_values"]
            ).logits
            said.append(int(logits[0, -1].argmax()))
            if said[-1] == 2:
                break
            ids = torch.cat([ids, torch.tensor([[said[-1]]])], dim=1)
    return processor.tokenizer.decode(said, skip_special_tokens=True)


def test_answers_in_a_batch_are_those_of_each_question_alone(folder, local):
    assert isinstance(local, Generator)
    found: dict[int, str] = {}
    asked = questions()
    local.answer(asked, lambda place, answer: found.__setitem__(place, answer.text))
    assert found == {i: asked_alone(folder, question) for i, question in enumerate(asked)}
    assert len(set(found.values())) > 1  # the pictures are looked at


def test_the_fingerprint_is_that_of_weights_and_settings_not_of_the_place(folder, local, tmp_path):
    same = load_captioner(f"transformers/{tiny_vlm(tmp_path / 'same')}#tokens=6")
    assert same.fingerprint == local.fingerprint
    other = load_captioner(f"transformers/{tiny_vlm(tmp_path / 'other', seed=1)}#tokens=6")
    assert other.fingerprint != local.fingerprint
    assert load_captioner(f"transformers/{folder}#tokens=7").fingerprint != local.fingerprint


def test_what_cannot_be_used_is_refused_in_words(tmp_path, folder, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(MissingModelError, match=r"There is no captioner at \./nowhere"):
        load_captioner("transformers/./nowhere")
    with pytest.raises(MissingModelError, match=r"not on this machine.*hf download org/model"):
        load_captioner("transformers/org/model")
    silent = tiny_vlm(tmp_path / "silent", template=None)
    with pytest.raises(InputError, match="has no chat template"):
        load_captioner(f"transformers/{silent}")
    with pytest.raises(InputError, match=rf"holds a 'llava' model.*write transformers/{folder}"):
        load_captioner(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"has no config.json"):
        load_captioner(f"transformers/{tmp_path / 'empty'}")


def changed(folder, file, **settings):
    path = folder / file
    stated = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(stated | settings))
    return f"transformers/{folder}"


CODE = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model", "AutoProcessor": "evil.Processor"}


@pytest.mark.parametrize(
    ("file", "settings"),
    [
        ("config.json", {"auto_map": CODE}),
        ("processor_config.json", {"auto_map": CODE}),
        ("tokenizer_config.json", {"auto_map": CODE}),
        ("generation_config.json", {"custom_generate": "org/evil"}),
        ("config.json", {"quantization_config": {"quant_method": "gptq"}}),
        ("config.json", {"attn_implementation": "org/evil-kernel"}),
    ],
)
def test_code_that_comes_with_a_model_is_never_run(tmp_path, file, settings):
    made = tiny_vlm(tmp_path / "evil")
    (made / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(InputError, match="asks for code to be run"):
        load_captioner(changed(made, file, **settings))
    assert not (tmp_path / "ran").exists()


def test_damage_is_said_in_one_sentence(tmp_path):
    made = tiny_vlm(tmp_path / "cut")
    weights = made / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    with pytest.raises(InputError, match=r"cut cannot be used .*copy the folder again"):
        load_captioner(f"transformers/{made}")
    other = tiny_vlm(tmp_path / "clip")
    with pytest.raises(InputError, match="'bert' model, which is not shown images"):
        load_captioner(changed(other, "config.json", model_type="bert"))
