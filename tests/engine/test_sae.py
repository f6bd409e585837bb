"""Reading autoencoders: names, orientations, and everything that is refused."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from csp_engine.errors import InputError
from csp_engine.networks.autoencoders.sae import load_sae

X = torch.tensor([[1.0, -2.0, 0.5], [0.0, 1.0, 3.0]])
W = torch.tensor([[1.0, 0, 2, -1], [0, 1, -1, 1], [1, 1, 0, 0.5]])  # inputs x latents
B = torch.tensor([0.5, 0.0, -1.0, 2.0])


def stored(tmp_path, tensors, metadata=None):
    path = tmp_path / "my sae.safetensors"
    save_file(
        {k: v.clone(memory_format=torch.contiguous_format) for k, v in tensors.items()},
        path,
        metadata=metadata,
    )
    return load_sae(path)


@pytest.mark.parametrize(
    "tensors",
    [
        {"W_enc": W, "b_enc": B},
        {"W_enc": W.T, "b_enc": B},
        {"encoder.weight": W.T, "encoder.bias": B},
        {"encoder.weight": W, "encoder.bias": B},
        {"encoder": W, "latent_bias": B, "W_dec": W.T},
        {"W_enc": W, "b_enc": B, "W_dec": W.T},
    ],
)
def test_both_orientations_of_every_name_give_the_same_latents(tmp_path, tensors):
    if "W_dec" in tensors:
        with pytest.raises(InputError, match="does not say its activation"):
            stored(tmp_path, tensors)
        told = {"activation": "relu"}
    else:
        told = None
    sae = stored(tmp_path, tensors, told)
    assert (sae.name, sae.n_inputs, sae.n_latents) == ("my-sae", 3, 4)
    torch.testing.assert_close(sae(X), (X @ W + B).relu())
    torch.testing.assert_close(sae(X[None].expand(5, 2, 3))[3], (X @ W + B).relu())


SQUARE = torch.tensor([[1.0, 2, 3], [0, 1, 0], [0, 0, 1]])


def test_a_square_weight_goes_by_its_name_or_metadata(tmp_path):
    bias = torch.zeros(3)
    inputs_first = (X @ SQUARE).relu()
    latents_first = (X @ SQUARE.T).relu()
    assert not torch.equal(inputs_first, latents_first)
    torch.testing.assert_close(stored(tmp_path, {"W_enc": SQUARE, "b_enc": bias})(X), inputs_first)
    torch.testing.assert_close(
        stored(tmp_path, {"encoder.weight": SQUARE, "encoder.bias": bias})(X), latents_first
    )
    torch.testing.assert_close(
        stored(tmp_path, {"W_enc": SQUARE, "b_enc": bias}, {"encoder_layout": "latents_inputs"})(X),
        latents_first,
    )
    with pytest.raises(InputError, match="does not say which axis of the 3x3 encoder"):
        stored(tmp_path, {"encoder": SQUARE, "b_enc": bias})


def test_input_bias_is_subtracted_unless_the_file_says_otherwise(tmp_path):
    pre = torch.tensor([1.0, 0.0, -1.0])
    tensors = {"W_enc": W, "b_enc": B, "b_dec": pre}
    subtracted = ((X - pre) @ W + B).relu()
    torch.testing.assert_close(stored(tmp_path, tensors)(X), subtracted)
    off = stored(tmp_path, tensors, {"apply_b_dec_to_input": "false"})
    torch.testing.assert_close(off(X), (X @ W + B).relu())
    assert off.description["subtracts_input_bias"] is False
    (tmp_path / "cfg.json").write_text(json.dumps({"apply_b_dec_to_input": False}))
    torch.testing.assert_close(stored(tmp_path, tensors)(X), (X @ W + B).relu())


@pytest.mark.parametrize("text", ["False", "false", "0", "FALSE"])
@pytest.mark.parametrize("more", [{}, {"architecture": "standard", "hook_name": "x"}])
def test_flags_written_as_text_are_flags(tmp_path, text, more):
    tensors = {"W_enc": W, "b_enc": B, "b_dec": torch.tensor([1.0, 2, 3]), "W_dec": W.T}
    told = {"apply_b_dec_to_input": text} | (more or {"activation": "relu"})
    torch.testing.assert_close(stored(tmp_path, tensors, told)(X), (X @ W + B).relu())
    told["apply_b_dec_to_input"] = "True"
    expected = ((X - tensors["b_dec"]) @ W + B).relu()
    torch.testing.assert_close(stored(tmp_path, tensors, told)(X), expected)
    told["apply_b_dec_to_input"] = "perhaps"
    with pytest.raises(InputError, match="apply_b_dec_to_input='perhaps'; use true or false"):
        stored(tmp_path, tensors, told)


def test_threshold_and_top_k(tmp_path):
    pre = X @ W + B
    theta = torch.tensor([0.1, 5.0, 0.0, 2.0])
    jump = stored(tmp_path, {"W_enc": W, "b_enc": B, "threshold": theta})
    torch.testing.assert_close(jump(X), pre.relu() * (pre > theta))
    log = stored(tmp_path, {"W_enc": W, "b_enc": B, "log_threshold": theta.clamp_min(0.1).log()})
    torch.testing.assert_close(log(X), pre.relu() * (pre > theta.clamp_min(0.1)))
    for top in (
        stored(tmp_path, {"W_enc": W, "b_enc": B, "k": torch.tensor(2)}),
        stored(tmp_path, {"W_enc": W, "b_enc": B}, {"k": "2"}),
    ):
        assert top.k == 2
        assert ((top(X) > 0).sum(-1) <= 2).all()
        torch.testing.assert_close(top(X).amax(-1), pre.relu().amax(-1))


def test_fingerprint_follows_content_not_name(tmp_path):
    base = stored(tmp_path, {"W_enc": W, "b_enc": B})
    assert stored(tmp_path, {"W_enc": W, "b_enc": B}, {"name": "x"}).fingerprint == base.fingerprint
    assert stored(tmp_path, {"W_enc": W, "b_enc": B + 1}).fingerprint != base.fingerprint
    assert stored(tmp_path, {"W_enc": W, "b_enc": B}, {"k": "1"}).fingerprint != base.fingerprint


@pytest.mark.parametrize(
    ("tensors", "metadata", "words"),
    [
        ({"b_enc": B}, None, "no encoder weight"),
        ({"W_enc": W, "encoder.weight": W.T}, None, "two encoder weight tensors"),
        ({"W_enc": W, "b_enc": torch.zeros(9)}, None, "contradict each other: W_enc is 3x4"),
        ({"W_enc": W, "b_enc": B}, {"encoder_layout": "latents_inputs"}, "contradict"),
        ({"W_enc": W, "b_enc": B}, {"encoder_layout": "up"}, "encoder_layout 'up'"),
        ({"W_enc": W, "b_enc": B, "W_gate": W}, None, "'W_gate' that may change"),
        (
            {"W_enc": W, "b_enc": B},
            {"normalize_activations": "expected_average_only_in"},
            "not supported",
        ),
        ({"W_enc": W, "b_enc": B}, {"activation": "gelu"}, "activation 'gelu'; use one of relu"),
        ({"W_enc": W, "b_enc": B}, {"rotate": "left"}, "rotate='left'.*not understood"),
        (
            {"W_enc": W, "b_enc": B, "threshold": B, "b_dec": torch.ones(3)},
            None,
            "does not say whether b_dec is taken off the input",
        ),
        ({"W_enc": W, "b_enc": B, "threshold": torch.zeros(3)}, None, "3 thresholds for 4"),
        ({"W_enc": W, "b_enc": B}, {"k": "0"}, "k=0; use a number from 1 to 4"),
        ({"W_enc": W, "b_enc": B}, {"k": "many"}, "k='many'"),
    ],
)
def test_what_is_not_understood_is_refused(tmp_path, tensors, metadata, words):
    with pytest.raises(InputError, match=words):
        stored(tmp_path, tensors, metadata)


PLAIN = {"W_enc": W, "b_enc": B}


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("k", '{"k": 3'),
        ("cfg", "{'k': 2}"),
        ("k", "[1, 2"),
        ("activation", '"relu'),
        ("k", "NaN"),
        ("k", "Infinity"),
        ("soft_cap", "-inf"),
        ("metadata", '{"a": NaN}'),
        ("lr", '{"a": 1, "a": 2}'),
    ],
)
def test_metadata_that_begins_as_json_and_is_none_is_refused(tmp_path, key, text):
    with pytest.raises(InputError, match=f"{key!r}"):
        stored(tmp_path, PLAIN, {"activation": "relu", key: text})


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("k", "2", "whole number"),
        ("k", True, "whole number"),
        ("k", [2], "whole number"),
        ("k", 2.5, "whole number"),
        ("k", {"value": 2}, "whole number"),
        ("activation", ["relu"], "a word"),
        ("activation", True, "a word"),
        ("activation", "RELU6", "activation 'RELU6'"),
        ("apply_b_dec_to_input", "maybe", "true or false"),
        ("apply_b_dec_to_input", [False], "true or false"),
        ("soft_cap", "10", "a number"),
        ("soft_cap", True, "a number"),
        ("encoder_layout", ["inputs_latents"], "a word"),
        ("normalize_activations", True, "not supported"),
        ("normalize_activations", ["layer_norm"], "not supported"),
        ("spin", 0, "not understood"),
        ("spin", "", "not understood"),
        ("spin", [], "not understood"),
        ("layer_norm", True, "not understood"),
        ("data_mean", [1.0], "not understood"),
        ("dataset_scale", 2.0, "not understood"),
        ("type", "BatchTopK", "not understood"),
        ("type", "jumprelu", "not understood"),
        ("trainer_class", "GatedSAETrainer", "not understood"),
    ],
)
def test_settings_of_another_type_are_refused(tmp_path, key, value, words):
    stated = {"activation": "relu", key: value}
    (tmp_path / "cfg.json").write_text(json.dumps(stated))
    with pytest.raises(InputError, match=words) as refused:
        stored(tmp_path, PLAIN)
    assert key.partition("_")[0][:7] in str(refused.value)


def test_settings_of_training_change_nothing(tmp_path):
    stated = {
        "activation": "relu", "type": "sae", "dataset_path": "x", "layer": 3, "max_grad_norm": 1.0,
        "jumprelu_init_threshold": 0.1, "data_path": "y", "total_training_tokens": 9,
        "model_name": "m",
        "scale_sparsity_penalty_by_decoder_norm": True, "normalize_sae_decoder": True,
        "decoder_init_norm": 0.1, "num_epochs": 3, "layer_norm": False, "dataset": "imagenet",
    }  # fmt: skip
    plain = stored(tmp_path, PLAIN, {"activation": "relu"})
    (tmp_path / "cfg.json").write_text(json.dumps(stated))
    assert stored(tmp_path, PLAIN).fingerprint == plain.fingerprint


def test_what_python_writes_for_true_and_false_is_understood(tmp_path):
    tensors = {**PLAIN, "b_dec": torch.ones(3)}
    x = torch.arange(6.0).reshape(2, 3)
    for text, taken in (("False", 0), ("false", 0), ("True", 1), ("true", 1), ("None", 1)):
        found = stored(tmp_path, tensors, {"activation": "relu", "apply_b_dec_to_input": text})
        torch.testing.assert_close(found(x), ((x - taken) @ W + B).relu())


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("cfg.json", '{"k": 2, "k": 3}'),
        ("config.json", '{"activation": "topk", "k": NaN}'),
        ("cfg.json", '{"activation": "topk", "k": 1e999}'),
        ("cfg.json", '{"k": 2'),
        ("cfg.json", "[2]"),
        ("config.yaml", "k: 2\nk: 3\n"),
        ("cfg.yml", "k: [2\n"),
        ("cfg.yaml", "- k\n"),
        ("cfg.yaml", "k: !!python/object/apply:os.getcwd []\n"),
        ("config.yaml", "k: .nan\n"),
        ("config.yaml", "k: '2'\n"),
    ],
)
def test_settings_beside_the_weights_are_read_strictly(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError):
        stored(tmp_path, PLAIN)


@pytest.mark.parametrize("name", ["cfg.json", "config.json", "cfg.yaml", "config.yml"])
def test_two_places_may_state_the_same_and_nothing_else(tmp_path, name):
    stated = {"k": 2, "activation": "topk", "seed": 1, "device": "cpu"}
    (tmp_path / name).write_text(json.dumps(stated))  # JSON is YAML, too
    alone = stored(tmp_path, PLAIN)
    assert (alone.k, alone.rule) == (2, "topk")
    assert stored(tmp_path, PLAIN, {"k": "2", "seed": "7"}).fingerprint == alone.fingerprint
    for key, text in (("k", "3"), ("k", "true"), ("k", "null"), ("activation", "relu")):
        with pytest.raises(InputError, match="Two places state the settings"):
            stored(tmp_path, PLAIN, {key: text})
    torch.save({**PLAIN, "k": 3}, tmp_path / "other.pt")
    with pytest.raises(InputError, match="Two places state the settings"):
        load_sae(tmp_path / "other.pt")


def test_two_files_beside_the_weights_must_agree(tmp_path):
    (tmp_path / "cfg.json").write_text('{"k": 2}')
    (tmp_path / "config.yaml").write_text("k: 3\n")
    with pytest.raises(InputError, match=r"k=2.*k=3"):
        stored(tmp_path, PLAIN)


def test_a_header_that_states_a_key_twice_is_refused(tmp_path):
    stored(tmp_path, PLAIN, {"activation": "topk", "k": "1"})
    path = tmp_path / "my sae.safetensors"
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    head = content[8 : 8 + size].replace(b'"k":"1"', b'"k":"1","k":"2"')
    assert len(head) > size
    path.write_bytes(len(head).to_bytes(8, "little") + head + content[8 + size :])
    with pytest.raises(InputError, match="'k' twice"):
        load_sae(path)


def test_missing_and_damaged_files(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        load_sae(tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"1234567890")
    with pytest.raises(InputError, match="cannot be read as safetensors"):
        load_sae(tmp_path / "bad.safetensors")
