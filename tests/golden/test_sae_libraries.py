"""Codes of every library's files against that library's own rule, input by input."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from csp_engine.errors import InputError
from csp_engine.networks.autoencoders.families import encoding_of
from csp_engine.networks.autoencoders.files import SaeFile
from csp_engine.networks.autoencoders.sae import load_sae
from tests.reference import sae_libraries as rules

N_INPUTS, N_LATENTS = 6, 12


@pytest.fixture
def rng():
    return np.random.default_rng(3)


@pytest.fixture
def x(rng):
    return (2 * rng.normal(size=(9, N_INPUTS)) + 0.5).astype(np.float32)


def arrays(rng, **shapes):
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def tensors(given):
    return {k: torch.as_tensor(np.asarray(v)).clone() for k, v in given.items()}


def listed(given):
    return {k: np.asarray(v, np.float64).tolist() for k, v in given.items()}


def agree(sae, x, rule):
    want = np.array([rule([float(v) for v in row]) for row in x])
    got = sae(torch.from_numpy(x)).numpy()
    assert 0 < (want != 0).mean() < 1
    np.testing.assert_allclose(got, want, atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(
        sae(torch.from_numpy(x[None])).numpy()[0], want, atol=1e-5, rtol=1e-5
    )


def enc_dec(rng):
    """Names of saev and SAELens; biases far from zero, so that leaving one out shows."""
    return arrays(
        rng,
        W_enc=(N_INPUTS, N_LATENTS),
        b_enc=(N_LATENTS,),
        W_dec=(N_LATENTS, N_INPUTS),
        b_dec=(N_INPUTS,),
    )


# --- saev -----------------------------------------------------------------------------------------

SIZES = {"d_vit": N_INPUTS, "exp_factor": 2, "seed": 1, "n_reinit_samples": 7}
NEW = {"d_model": N_INPUTS, "d_sae": N_LATENTS, "reinit_blend": 0.8, "normalize_w_dec": True}


def act(kind, **params):
    return {"cls": kind, "params": params}


SAEV = {
    "none": ({**SIZES, "l1_coeff": 1e-4, "use_ghost_grads": False}, "Relu", None),
    "1a relu": ({"schema": 1, "cls": "Relu", "cfg": SIZES}, "Relu", None),
    "1a topk": ({"schema": 1, "cls": "TopK", "cfg": {**SIZES, "top_k": 3}}, "TopK", 3),
    "1a default": ({"schema": 1, "cls": "TopK", "cfg": {**SIZES}}, "TopK", 32),
    "1b": (
        {
            "schema": 1,
            "cls": "SparseAutoencoderConfig",
            "cfg": {**SIZES, "activation": act("BatchTopK", top_k=2)},
        },
        "BatchTopK",
        2,
    ),
    "2": ({"schema": 2, "cfg": {**SIZES, "activation": act("TopK", top_k=4)}}, "TopK", 4),
    "3": ({"schema": 3, "cfg": {**NEW, "activation": act("Relu")}}, "Relu", None),
    "4": (
        {"schema": 4, "cfg": {**NEW, "seed": 3, "activation": act("TopK", key="top-k", top_k=5)}},
        "TopK",
        5,
    ),
    "5": (
        {
            "schema": 5,
            "cfg": {
                **NEW,
                "activation": act(
                    "TopK",
                    key="top-k",
                    top_k=2,
                    sparsity=act("NoSparsity", key="no-sparsity"),
                    aux=act("AuxK", key="auxk", k_aux=512, alpha=0.03),
                ),
            },
        },
        "TopK",
        2,
    ),
}


def saev_file(path, header, content):
    with path.open("wb") as file:
        file.write((json.dumps(header) + "\n").encode())
        torch.save(tensors(content), file)
    return path


@pytest.mark.parametrize("version", SAEV)
def test_saev(version, rng, x, tmp_path):
    header, kind, k = SAEV[version]
    content = enc_dec(rng)
    path = saev_file(tmp_path / "sae.pt", header, content)
    if k is not None and k > N_LATENTS:
        with pytest.raises(InputError, match="k=32; use a number from 1 to 12"):
            load_sae(path)
        return
    agree(load_sae(path), x, lambda row: rules.saev(row, listed(content), kind, k))


@pytest.mark.parametrize("threshold", [0.0, -1.0, 0.7])
def test_saev_batch_top_k_uses_what_training_kept(threshold, rng, x, tmp_path):
    content = {**enc_dec(rng), "activation.threshold": np.float32(threshold)}
    header = {"schema": 5, "cfg": {**NEW, "activation": act("BatchTopK", top_k=2, momentum=0.1)}}
    sae = load_sae(saev_file(tmp_path / "sae.pt", header, content))
    agree(sae, x, lambda row: rules.saev(row, listed(content), "BatchTopK", 2, threshold))


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"schema": 6, "cfg": {}}, "header of version 6"),
        ({"schema": 4, "cfg": {}}, "which activation it has"),
        ({"schema": 5, "cfg": {"activation": act("Softplus")}}, "activation 'Softplus'"),
        ({"schema": 5, "cfg": {"activation": act("TopK", top_k=2, curve=3)}}, "curve='3'"),
        ({"schema": 5, "cfg": {"whiten": True, "activation": act("Relu")}}, "whiten='True'"),
        ({"schema": 5, "cfg": {"activation": act("BatchTopK", top_k=2)}}, "which threshold"),
    ],
)
def test_saev_refusals(header, words, rng, tmp_path):
    path = saev_file(tmp_path / "sae.pt", header, enc_dec(rng))
    with pytest.raises(InputError, match=words):
        load_sae(path)


# --- SAELens and Prisma ---------------------------------------------------------------------------


def lens_folder(folder, content, settings, weights="sae_weights.safetensors", name="cfg.json"):
    folder.mkdir(exist_ok=True)
    if weights.endswith(".pt"):
        torch.save(tensors(content), folder / weights)
    else:
        save_file(tensors(content), folder / weights)
    base = {"d_in": N_INPUTS, "d_sae": N_LATENTS, "dtype": "float32", "device": "cpu"}
    base |= {"hook_name": "blocks.9.hook_resid_post", "l1_coefficient": 5, "lr": 1e-4}
    (folder / name).write_text(json.dumps({**base, **settings}))
    return folder


LENS = [
    ("standard", {}, {}),
    ("standard", {"apply_b_dec_to_input": False}, {"apply_b_dec": False}),
    ("standard", {"normalize_activations": "layer_norm"}, {"norm": "layer_norm"}),
    (
        "standard",
        {"normalize_activations": "constant_norm_rescale"},
        {"norm": "constant_norm_rescale"},
    ),
    ("standard", {"activation_fn_str": "tanh-relu"}, {"activation": "tanh-relu"}),
    (
        "standard",
        {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 3}},
        {"activation": "topk", "k": 3},
    ),
    ("topk", {"k": 4}, {"k": 4}),
    ("topk", {"k": 4, "rescale_acts_by_decoder_norm": True}, {"k": 4, "rescale": True}),
    ("jumprelu", {"activation_fn": "relu"}, {}),
    ("jumprelu", {"apply_b_dec_to_input": False}, {"apply_b_dec": False}),
    ("gated", {}, {}),
    ("transcoder", {"apply_b_dec_to_input": False, "d_out": 5}, {}),
    ("skip_transcoder", {"apply_b_dec_to_input": False, "d_out": 5}, {}),
    ("jumprelu_transcoder", {"apply_b_dec_to_input": False, "d_out": 5}, {}),
]


@pytest.mark.parametrize(("architecture", "settings", "told"), LENS)
def test_saelens_folders(architecture, settings, told, rng, x, tmp_path):
    content = enc_dec(rng)
    if "jumprelu" in architecture:
        content["threshold"] = rng.uniform(0, 1.5, N_LATENTS).astype(np.float32)
    if "transcoder" in architecture:
        content |= arrays(rng, b_dec=(5,), W_dec=(N_LATENTS, 5))
    if "skip" in architecture:
        content |= arrays(rng, W_skip=(5, N_INPUTS))
    if architecture == "gated":
        del content["b_enc"]
        content |= arrays(rng, b_gate=(N_LATENTS,), b_mag=(N_LATENTS,), r_mag=(N_LATENTS,))
    folder = lens_folder(tmp_path / "layer 9", content, {"architecture": architecture, **settings})
    sae = load_sae(folder)
    assert sae.name == "layer-9"
    agree(sae, x, lambda row: rules.saelens(row, listed(content), architecture, **told))
    beside = load_sae(folder / "sae_weights.safetensors")
    assert beside.fingerprint == sae.fingerprint


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"architecture": "temporal"}, "architecture 'temporal'"),
        ({"architecture": "batchtopk", "k": 3}, "architecture 'batchtopk'.*saved as jumprelu"),
        ({"architecture": "standard", "activation_fn": "gelu"}, "activation 'gelu'"),
        ({"architecture": "topk"}, "how many latents are kept"),
        ({"architecture": "standard", "normalize_activations": True}, "normalisation True"),
        ({"architecture": "standard", "reshape_activations": "hook_q"}, "reshapes its inputs"),
        ({"architecture": "standard", "shrink": 0.5}, "shrink='0.5'"),
        ({"architecture": "jumprelu"}, "lacks its threshold"),
    ],
)
def test_saelens_refusals(settings, words, rng, tmp_path):
    with pytest.raises(InputError, match=words):
        load_sae(lens_folder(tmp_path / "s", enc_dec(rng), settings))


@pytest.mark.parametrize("norm", ["none", "layer_norm", "constant_norm_rescale"])
@pytest.mark.parametrize(
    ("architecture", "settings", "told"),
    [
        ("standard", {"activation_fn_str": "relu", "activation_fn_kwargs": {}}, {}),
        (
            "standard",
            {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 2}},
            {"activation": "topk", "k": 2},
        ),
        ("gated", {"activation_fn_str": "relu"}, {}),
    ],
)
def test_prisma_folders(norm, architecture, settings, told, rng, x, tmp_path):
    content = enc_dec(rng)
    if architecture == "gated":
        content |= arrays(rng, b_gate=(N_LATENTS,), b_mag=(N_LATENTS,), r_mag=(N_LATENTS,))
    settings = settings | {
        "architecture": architecture,
        "normalize_activations": norm,
        "cls_token_only": True,
        "expansion_factor": 2,
        "n_batches_in_buffer": 20,
        "image_size": 224,
        "use_ghost_grads": False,
        "hook_point_layer": 9,
        "total_training_images": 130000,
    }
    folder = lens_folder(tmp_path / "p", content, settings, "weights.pt", "config.json")
    agree(
        load_sae(folder),
        x,
        lambda row: rules.saelens(row, listed(content), architecture, norm=norm, **told),
    )


# --- dictionary_learning --------------------------------------------------------------------------


def dictionary(rng, kind):
    if kind in ("JumpReluAutoEncoder", "MatryoshkaBatchTopKSAE"):
        content = enc_dec(rng)
        if kind.startswith("Jump"):
            content["threshold"] = rng.uniform(0, 1.5, N_LATENTS).astype(np.float32)
        else:
            content |= {"k": np.int32(3), "threshold": np.float32(0.6)}
            content["group_sizes"] = np.array([4, 8])
        return content
    content = arrays(
        rng, **{"encoder.weight": (N_LATENTS, N_INPUTS), "decoder.weight": (N_INPUTS, N_LATENTS)}
    )
    if kind == "GatedAutoEncoder":
        return content | arrays(
            rng,
            decoder_bias=(N_INPUTS,),
            r_mag=(N_LATENTS,),
            gate_bias=(N_LATENTS,),
            mag_bias=(N_LATENTS,),
        )
    content |= arrays(rng, **{"encoder.bias": (N_LATENTS,)})
    bias = {"AutoEncoder": "bias", "AutoEncoderNew": "decoder.bias"}.get(kind, "b_dec")
    content |= arrays(rng, **{bias: (N_INPUTS,)})
    if "TopK" in kind:
        content |= {"k": np.int32(3), "threshold": np.float32(0.8)}
    return content


DICTIONARIES = [
    "AutoEncoder",
    "AutoEncoderNew",
    "GatedAutoEncoder",
    "JumpReluAutoEncoder",
    "AutoEncoderTopK",
    "BatchTopKSAE",
    "MatryoshkaBatchTopKSAE",
]


@pytest.mark.parametrize("kind", DICTIONARIES)
def test_dictionary_learning(kind, rng, x, tmp_path):
    content = dictionary(rng, kind)
    torch.save(tensors(content), tmp_path / "ae.pt")
    trainer = {"dict_class": kind, "trainer_class": "T", "steps": 100, "layer": 3, "k": 3}
    trainer |= {"activation_dim": N_INPUTS, "dict_size": N_LATENTS, "lm_name": "m", "lr": 1e-3}
    (tmp_path / "config.json").write_text(json.dumps({"trainer": trainer, "buffer": {"d": 1}}))
    values = {k: v if np.ndim(v) else float(v) for k, v in listed(content).items()}
    if "k" in values:
        values["k"] = int(values["k"])
    agree(load_sae(tmp_path), x, lambda row: rules.dictionary_learning(row, values, kind))


def test_dictionaries_of_equal_names_and_other_rules_are_asked_about(rng, tmp_path):
    torch.save(tensors(dictionary(rng, "BatchTopKSAE")), tmp_path / "ae.pt")
    with pytest.raises(InputError, match="'dict_class' as AutoEncoderTopK or BatchTopKSAE"):
        load_sae(tmp_path / "ae.pt")


# --- sparsify -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"activation": "topk", "transcode": False},
        {"activation": "groupmax"},
        {"transcode": True, "skip_connection": True},
        {"signed": True},
    ],
)
def test_sparsify(settings, rng, x, tmp_path):
    content = arrays(
        rng,
        **{"encoder.weight": (N_LATENTS, N_INPUTS), "encoder.bias": (N_LATENTS,)},
        W_dec=(N_LATENTS, N_INPUTS),
        b_dec=(N_INPUTS,),
    )
    if settings.get("skip_connection"):
        content |= arrays(rng, W_skip=(N_INPUTS, N_INPUTS))
    save_file(tensors(content), tmp_path / "sae.safetensors")
    base = {"k": 4, "d_in": N_INPUTS, "num_latents": 0, "expansion_factor": 2}
    base |= {"normalize_decoder": True, "multi_topk": False}
    (tmp_path / "cfg.json").write_text(json.dumps({**base, **settings}))
    told = {k: v for k, v in settings.items() if k != "skip_connection"}
    agree(load_sae(tmp_path), x, lambda row: rules.sparsify(row, listed(content), 4, **told))


# --- Overcomplete ---------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
@pytest.mark.parametrize(
    ("kind", "settings", "told"),
    [
        ("SAE", {"activation": "relu"}, {}),
        ("TopKSAE", {"top_k": 3}, {"k": 3}),
        ("BatchTopKSAE", {"top_k": 3, "running_threshold": 0.5}, {"threshold": 0.5}),
        ("JumpSAE", {}, {}),
    ],
)
def test_overcomplete(norm, kind, settings, told, rng, x, tmp_path):
    final = "encoder.final_block."
    shapes = {f"{final}0.weight": (N_LATENTS, N_INPUTS), f"{final}0.bias": (N_LATENTS,)}
    shapes |= {"dictionary._weights": (N_LATENTS, N_INPUTS)}
    if norm != "none":
        shapes |= {f"{final}1.weight": (N_LATENTS,), f"{final}1.bias": (N_LATENTS,)}
    if norm == "batch":
        shapes |= {f"{final}1.running_mean": (N_LATENTS,)}
    if kind == "JumpSAE":
        shapes |= {"thresholds": (N_LATENTS,)}
    content = arrays(rng, **shapes)
    if norm == "batch":
        content[f"{final}1.running_var"] = rng.uniform(0.5, 4, N_LATENTS).astype(np.float32)
        content[f"{final}1.num_batches_tracked"] = np.int64(3)
    torch.save(tensors(content), tmp_path / "sae.pt")
    (tmp_path / "cfg.json").write_text(json.dumps(settings))
    agree(
        load_sae(tmp_path / "sae.pt"),
        x,
        lambda row: rules.overcomplete(row, listed(content), kind, **told),
    )


def test_overcomplete_without_its_rule_is_asked_about(rng, tmp_path):
    content = {"encoder.final_block.0.weight": (4, 3), "encoder.final_block.0.bias": (4,)}
    torch.save(tensors(arrays(rng, **content)), tmp_path / "sae.pt")
    with pytest.raises(InputError, match="how its codes are made sparse"):
        load_sae(tmp_path / "sae.pt")


# --- MSAE and OpenAI ------------------------------------------------------------------------------


@pytest.mark.parametrize("cap", [0, 3.0, 30.0])
@pytest.mark.parametrize(
    "activation", ["ReLU", "TopK_3", "TopKReLU_3", "TopKabs_3", "TopKabsReLU_3", "JumpReLU"]
)
def test_msae(activation, cap, rng, x, tmp_path):
    content = arrays(
        rng,
        encoder=(N_INPUTS, N_LATENTS),
        decoder=(N_LATENTS, N_INPUTS),
        pre_bias=(N_INPUTS,),
        latent_bias=(N_LATENTS,),
    )
    content["latents_activation_frequency"] = np.zeros(N_LATENTS, np.int64)
    if activation == "JumpReLU":
        content |= arrays(rng, **{"activation.log_threshold": (N_LATENTS,)})
    torch.save({"model": tensors(content), "epoch": 3}, tmp_path / "m.pth")
    settings = {"activation": activation, "latent_soft_cap": cap, "normalize": False}
    (tmp_path / "cfg.json").write_text(json.dumps(settings))
    agree(
        load_sae(tmp_path / "m.pth"),
        x,
        lambda row: rules.msae(row, listed(content), activation, cap),
    )


def test_msae_takes_the_largest_of_its_nested_numbers(rng, x, tmp_path):
    content = arrays(
        rng, encoder=(N_INPUTS, N_LATENTS), pre_bias=(N_INPUTS,), latent_bias=(N_LATENTS,)
    )
    torch.save(tensors(content), tmp_path / "m.pt")
    settings = {"activation": "TopKReLU", "nesting_list": [2, 5], "latent_soft_cap": 30.0}
    (tmp_path / "cfg.json").write_text(json.dumps(settings))
    agree(
        load_sae(tmp_path / "m.pt"),
        x,
        lambda row: rules.msae(row, listed(content), "TopKReLU_5", 30.0),
    )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "mostly top-k"),
        ({"activation": "BatchTopKReLU_4", "latent_soft_cap": 0}, "depend on the batch"),
        ({"activation": "ReLU"}, "where its codes are capped"),
        ({"activation": "ReLU", "latent_soft_cap": 0, "normalize": True}, "asks for 'normalize'"),
        ({"activation": "ReLU", "latent_soft_cap": 0, "mean": [1.0]}, "has 'mean' of its inputs"),
    ],
)
def test_msae_refusals(settings, words, rng, tmp_path):
    content = arrays(rng, encoder=(3, 4), pre_bias=(3,), latent_bias=(4,))
    content["latents_activation_frequency"] = np.zeros(4, np.int64)
    torch.save(tensors(content), tmp_path / "m.pt")
    (tmp_path / "cfg.json").write_text(json.dumps(settings))
    with pytest.raises(InputError, match=words):
        load_sae(tmp_path / "m.pt")


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize(("activation", "k"), [("ReLU", None), ("TopK", 3)])
def test_openai(activation, k, normalize, rng, x, tmp_path):
    content = arrays(
        rng,
        **{"encoder.weight": (N_LATENTS, N_INPUTS), "decoder.weight": (N_INPUTS, N_LATENTS)},
        pre_bias=(N_INPUTS,),
        latent_bias=(N_LATENTS,),
        stats_last_nonzero=(N_LATENTS,),
    )
    told = {"activation": activation, "normalize": normalize}
    if k:
        told["activation_state_dict"] = {"k": k}
    torch.save({**tensors(content), **told}, tmp_path / "5.pt")
    agree(
        load_sae(tmp_path / "5.pt"),
        x,
        lambda row: rules.openai(row, listed(content), activation, k, normalize),
    )


# --- files ----------------------------------------------------------------------------------------


LIBRARIES = {
    "saev": ({"W_enc": 0, "W_dec": 0}, {}, {"schema": 0}),
    "SAELens": ({"W_enc": 0, "W_dec": 0}, {"architecture": "standard"}, None),
    "Prisma": ({"W_enc": 0, "W_dec": 0}, {"activation_fn_str": "relu"}, None),
    "dictionary_learning": ({"encoder.weight": 0}, {"dict_class": "AutoEncoder"}, None),
    "sparsify": ({"encoder.weight": 0, "W_dec": 0}, {"k": 2}, None),
    "Overcomplete": ({"encoder.final_block.0.weight": 0, "encoder.final_block.0.bias": 0},
                     {"top_k": 2}, None),
    "MSAE": ({"encoder": 0, "latent_bias": 0}, {"activation": "ReLU"}, None),
    "OpenAI": ({"encoder.weight": 0, "latent_bias": 0}, {"activation": "ReLU"}, None),
    "own": ({"weight": 0}, {"activation": "relu"}, None),
}  # fmt: skip
UNKNOWN = ("rotate", "num_groups", "max_active_latents", "eval_threshold", "l1_normalize",
           "clip_inputs", "jumprelu_threshold", "train_k", "log_transform", "layer_scale",
           "model_topk", "ema_thresholds", "data_transform", "input_scale")  # fmt: skip
"""Names that would change codes, most beginning as settings of training do."""
OF_TRAINING = {"max_grad_norm": 1.0, "clip_grad_norm": True, "jumprelu_init_threshold": 0.01,
               "jumprelu_bandwidth": 0.05, "jumprelu_tanh_scale": 4.0, "num_workers": 2,
               "log_feature_sparsity_path": "x", "l0_coefficient": 1.0, "eval_every": 5,
               "max_epochs": 3, "train_batch_size_tokens": 4096, "decoder_init_norm": 0.1,
               "checkpoint_path": "x", "sparsity_warm_up_steps": 9}  # fmt: skip


@pytest.mark.parametrize("library", LIBRARIES)
def test_one_unknown_setting_is_refused_by_name_whatever_the_library(library):
    names, settings, header = LIBRARIES[library]
    held = {name: torch.ones(2, 2) for name in names}

    def read(more):
        if header is not None:
            return encoding_of(SaeFile("sae.pt", "sae", held, settings, {**header, "cfg": more}))
        return encoding_of(SaeFile("sae.pt", "sae", held, {**settings, **more}))

    read({}), read(OF_TRAINING)
    for key in UNKNOWN:
        with pytest.raises(InputError, match=rf"sae\.pt have {key}=.*not understood"):
            read({key: 4})


def test_pickled_objects_are_refused(tmp_path):
    torch.save({"cfg": tmp_path, "state_dict": {"W_enc": torch.ones(2, 3)}}, tmp_path / "p.pt")
    with pytest.raises(InputError, match="holds pickled Python objects"):
        load_sae(tmp_path / "p.pt")


def test_folders_and_files_that_are_none(tmp_path):
    with pytest.raises(InputError, match="holds no autoencoder"):
        load_sae(tmp_path)
    (tmp_path / "x.npz").write_bytes(b"PK")
    with pytest.raises(InputError, match="is not a file of an autoencoder"):
        load_sae(tmp_path / "x.npz")
    (tmp_path / "y.pt").write_bytes(b"{no json\n1")
    with pytest.raises(InputError, match=r"first line of y.pt is not JSON"):
        load_sae(tmp_path / "y.pt")
    (tmp_path / "cfg.json").write_text("[1]")
    save_file({"W_enc": torch.ones(2, 3)}, tmp_path / "z.safetensors")
    with pytest.raises(InputError, match="is not a JSON object"):
        load_sae(tmp_path / "z.safetensors")
