"""Checkpoints as trainers save them go in whole, or a sentence says why not."""

from __future__ import annotations

import argparse

import numpy as np
import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import nn
from torch.nn.utils import prune

from csp_engine.errors import InputError
from csp_engine.networks.loading.checkpoints import read_checkpoint
from csp_engine.networks.loading.fitting import fit_weights
from csp_engine.networks.models import load_model


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn, self.fc = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 4)

    def forward(self, x):
        return self.fc(self.bn(self.conv(x)).relu().mean((2, 3)))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False)
        self.last.weight = self.first.weight


def made(kind=Net, seed=1):
    torch.manual_seed(seed)
    network = kind()
    for buffer in network.buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 1)
    return network


def under(prefix, network):
    return {prefix + key: value for key, value in network.state_dict().items()}


def averaged(network):
    return torch.optim.swa_utils.AveragedModel(network).state_dict()


FILES = {
    **{
        f"prefix {p!r}": lambda n, p=p: under(p, n)
        for p in (
            *("", "module.", "_orig_mod.", "model.", "module._orig_mod.", "_orig_mod.module."),
            *("model.module.", "net.", "backbone.", "encoder.base.", "a.b.c.d."),
        )
    },
    "compiled inside": lambda n: {
        k.replace("fc.", "fc._orig_mod."): v for k, v in under("model.", n).items()
    },
    "sharded": lambda n: under("_fsdp_wrapped_module.", n),
    "lightning": lambda n: {
        "state_dict": {**under("model.", n), "criterion.pos_weight": torch.ones(4)},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(3)}}}],
        "epoch": 3,
    },
    "averaged by torch": averaged,
    "counters": lambda n: {
        **n.state_dict(),
        "total_ops": torch.zeros(1),
        "conv.total_params": torch.zeros(1),
    },
    "no batch counters": lambda n: {
        k: v for k, v in n.state_dict().items() if "num_batches" not in k
    },
    "options and scores beside": lambda n: {
        "state_dict": n.state_dict(),
        "args": argparse.Namespace(lr=0.1, name="x"),
        "best": np.float64(0.5),
        "epoch": np.int64(3),
    },
    "only averaged": lambda n: {"state_dict_ema": n.state_dict(), "epoch": 1},
    "deep": lambda n: {"checkpoint": {"model": {"state_dict": n.state_dict()}}, "step": 7},
    "optimiser beside": lambda n: {
        "weights": n.state_dict(),
        "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}},
    },
    "optimiser in the open": lambda n: {
        "anything": n.state_dict(),
        "optimizer_state": {"exp_avg": torch.ones(3)},
    },
    "criterion at the top": lambda n: {**n.state_dict(), "criterion.weight": torch.ones(4)},
    "same twice": lambda n: {**under("student.", n), **under("teacher.", n)},
    "plain and averaged entries": lambda n: {
        "model": n.state_dict(),
        "model_ema": made(seed=9).state_dict(),
    },
    "plain and averaged names": lambda n: {
        **under("model.", n),
        **under("ema_model.", made(seed=9)),
    },
}


def same(one, other):
    return all(torch.equal(a, other.state_dict()[k]) for k, a in one.state_dict().items())


@pytest.mark.parametrize("kind", FILES)
def test_the_weights_of_the_file_are_in_the_network(kind, tmp_path):
    source, network = made(), made(seed=2)
    name = "x.pth.tar" if kind == "deep" else "x.pt"
    torch.save(FILES[kind](source), tmp_path / name)
    network.bn.num_batches_tracked.zero_()
    source.bn.num_batches_tracked.zero_()
    tensors = read_checkpoint(tmp_path / name)
    notices = tensors.notices + fit_weights(network, tensors, "x.pt")
    assert same(source, network)
    assert bool(notices) == (kind in {"lightning", "criterion at the top"} or "plain" in kind)


@pytest.mark.parametrize("beside", ["0.mean", "normalizer.new_mean", "normalize.std", "pixel_std"])
def test_what_normalises_images_before_the_network_is_said(beside, tmp_path):
    """It is no weight of the network, and without it the network sees other images."""
    plain = made()
    path = tmp_path / "w.pt"
    torch.save({**under("1.", plain), beside: torch.ones(1, 3, 1, 1)}, path)
    notices = fit_weights(made(seed=2), read_checkpoint(path), "w.pt")
    assert notices[0].startswith(f"w.pt holds {beside} beside the network, three numbers each")
    assert "--preprocessing FILE" in notices[0]


@pytest.mark.parametrize("beside", ["meter.mean", "normalizer.weight"])
def test_other_tensors_beside_the_network_are_left_out_as_before(beside, tmp_path):
    path = tmp_path / "w.pt"
    torch.save({**under("1.", made()), beside: torch.ones(4)}, path)
    (notice,) = fit_weights(made(seed=2), read_checkpoint(path), "w.pt")
    assert notice.startswith("Left out of w.pt")


def test_entries_may_be_numbered(tmp_path):
    plain = made()
    torch.save({0: plain.state_dict()}, tmp_path / "w.pt")
    network = made(seed=2)
    assert fit_weights(network, read_checkpoint(tmp_path / "w.pt"), "w.pt") == []
    torch.testing.assert_close(network.state_dict(), plain.state_dict())


def test_tied_tensors_may_be_stored_once(tmp_path):
    source, network = made(Tied), made(Tied, 2)
    save_model(source, tmp_path / "x.safetensors")
    fit_weights(network, read_checkpoint(tmp_path / "x.safetensors"), "x")
    assert same(source, network)
    assert network.last.weight is network.first.weight


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda n: torch.compile(n, backend="eager")])
def test_a_wrapped_network_takes_plain_names(wrap, tmp_path):
    source, network = made(), made(seed=2)
    torch.save(source.state_dict(), tmp_path / "x.pt")
    fit_weights(wrap(network), read_checkpoint(tmp_path / "x.pt"), "x")
    assert same(source, network)


def test_an_averaged_copy_is_taken_on_request(tmp_path):
    plain, average = made(seed=1), made(seed=9)
    for content, key in (
        ({"model": plain.state_dict(), "model_ema": average.state_dict()}, "model_ema"),
        ({**under("model.", plain), **under("ema_model.", average)}, "ema_model"),
        ({"state_dict": {**under("student.", plain), **under("teacher.", average)}}, "teacher"),
        ({"a": {"b": {"ema": average.state_dict()}}, "model": plain.state_dict()}, "a.b.ema"),
    ):
        torch.save(content, tmp_path / "x.pt")
        network = made(seed=2)
        fit_weights(network, read_checkpoint(tmp_path / "x.pt", key), "x")
        assert same(average, network)
    with pytest.raises(InputError, match="nothing under 'other'; it has a, model"):
        read_checkpoint(tmp_path / "x.pt", "other")


def test_two_networks_of_which_neither_is_the_plain_one_are_asked_about(tmp_path):
    torch.save({**under("student.", made()), **under("teacher.", made(seed=9))}, tmp_path / "x.pt")
    with pytest.raises(InputError, match=r"2 sets of weights that fit .*--weights-key NAME"):
        fit_weights(made(seed=2), read_checkpoint(tmp_path / "x.pt"), "x.pt")
    torch.save({"g": made().state_dict(), "d": made(seed=9).state_dict()}, tmp_path / "x.pt")
    with pytest.raises(InputError, match=r"several sets of tensors \(g, d\); choose one"):
        read_checkpoint(tmp_path / "x.pt")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("fc.bias"), r"1 missing \(fc.bias\)"),
        (lambda s: s.update({"fc2.weight": torch.ones(2)}), r"1 unexpected \(fc2.weight\)"),
        (
            lambda s: s.update({"conv.weight": torch.ones(2)}),
            r"conv.weight is 2 instead of 8x3",
        ),
        (lambda s: s.pop("bn.running_mean"), r"1 missing \(bn.running_mean\)"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "model."])
def test_nothing_goes_in_partly(change, words, prefix, tmp_path):
    state = dict(made().state_dict())
    change(state)
    torch.save({prefix + k: v for k, v in state.items()}, tmp_path / "x.pt")
    network = made(seed=2)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    where = " under 'model'" if prefix else ""
    with pytest.raises(InputError, match=rf"x.pt does not fit Net{where}: .*{words}"):
        fit_weights(network, read_checkpoint(tmp_path / "x.pt"), "x.pt")
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key])


def _in_parts(kind):
    """A small network as its libraries leave it."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 2))
    if kind == "normalised":
        torch.nn.utils.parametrizations.weight_norm(net[2])
    elif kind == "normalised before":
        torch.nn.utils.weight_norm(net[2])
    elif kind == "pruned":
        prune.l1_unstructured(net[2], "weight", 0.5)
    state = net.state_dict()
    if kind == "adapters":  # as PEFT calls them
        state = {f"base_model.model.{k}".replace("2.", "2.base_layer."): state[k] for k in state}
        state["base_model.model.2.lora_A.default.weight"] = torch.ones(1, 4)
        state["base_model.model.2.lora_B.default.weight"] = torch.ones(2, 1)
    return state


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("normalised", r"normalised weights: make them plain .*remove_parametrizations"),
        ("normalised before", r"normalised weights: make them plain .*remove_weight_norm"),
        ("pruned", r"pruned weights: make that permanent .*prune\.remove"),
        ("adapters", r"adapters: merge them into the weights \(merge_and_unload"),
    ],
)
def test_weights_in_parts_are_refused_with_how_to_join_them(kind, words, tmp_path):
    torch.save(_in_parts(kind), tmp_path / "a.pt")
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(InputError, match=rf"it holds {words}"):
        fit_weights(net, read_checkpoint(tmp_path / "a.pt", None), "a.pt")


def test_another_network_is_named_by_what_it_has(tmp_path):
    torch.save({"encoder.layer.0.w": torch.ones(2)}, tmp_path / "x.pt")
    with pytest.raises(InputError, match=r"8 missing \(conv.weight.*1 unexpected \(encoder"):
        fit_weights(made(), read_checkpoint(tmp_path / "x.pt"), "x.pt")


def test_a_scripted_archive_is_named_with_its_remedy(tmp_path):
    torch.jit.script(nn.Linear(2, 2)).save(str(tmp_path / "x.pt"))
    with pytest.raises(InputError, match=r"TorchScript archive; save its weights alone"):
        read_checkpoint(tmp_path / "x.pt")


# --- fine-tuned heads -----------------------------------------------------------------------------


def fine_tuned(spec, tmp_path, change=lambda n: n, n=3):
    """A checkpoint of a network of three classes, through the loader without saying so."""
    library, _, name = spec.partition("/")
    torch.manual_seed(4)
    if library == "timm":
        import timm

        network = timm.create_model(name, num_classes=n)
    else:
        from torchvision.models import get_model

        network = get_model(name, num_classes=n)
    network = change(network)
    torch.save({"state_dict": under("model.", network)}, tmp_path / "fine.ckpt")
    model = load_model(spec, weights=tmp_path / "fine.ckpt", class_names=["a", "b", "c"])
    x = torch.randn(2, *model.input_shape)
    with torch.inference_mode():
        want, got = network.eval()(x), model.run(x)
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)
    assert got.shape == (2, 3)
    return model


@pytest.mark.parametrize(
    "spec", ["torchvision/squeezenet1_1", "torchvision/shufflenet_v2_x0_5", "timm/test_vit"]
)
def test_the_number_of_classes_is_read_off_the_weights(spec, tmp_path):
    model = fine_tuned(spec, tmp_path)
    assert any("has 3 outputs" in notice for notice in model.steadiness.notices)


def test_a_linear_layer_inside_a_sequence_is_a_head(tmp_path):
    def change(network):
        width = network.fc.in_features
        network.fc = nn.Sequential(nn.Dropout(0.3), nn.Linear(width, 3))
        return network

    model = fine_tuned("torchvision/shufflenet_v2_x0_5", tmp_path, change)
    assert any("taken for dropout" in notice for notice in model.steadiness.notices)


HEADS = {
    "in place of a sequence": lambda n: setattr(n, "classifier", nn.Linear(n.last_channel, 3)),
    "alone in a sequence": lambda n: setattr(
        n, "classifier", nn.Sequential(nn.Linear(n.last_channel, 3))
    ),
    "without a bias": lambda n: setattr(n.classifier, "1", nn.Linear(n.last_channel, 3, False)),
    "inside of its place": lambda n: setattr(
        n.classifier, "1", nn.Sequential(nn.Dropout(), nn.Linear(n.last_channel, 3))
    ),
}


@pytest.mark.parametrize("change", HEADS)
def test_one_linear_layer_is_a_head_wherever_recipes_put_it(change, tmp_path):
    def changed(network):
        HEADS[change](network)
        return network

    model = fine_tuned("torchvision/mobilenet_v2", tmp_path, changed)
    assert any(notice.startswith("The head 'classifier") for notice in model.steadiness.notices)


def test_a_head_kept_apart_from_its_body(tmp_path):
    network = made(seed=3)
    own = network.state_dict()
    apart = {("head." if k.startswith("fc") else "backbone.") + k: v for k, v in own.items()}
    torch.save({"meta": {}, "state_dict": apart}, tmp_path / "w.pth")
    other = made(seed=4)
    notices = fit_weights(other, read_checkpoint(tmp_path / "w.pth"), "w.pth")
    assert all(torch.equal(v, own[k]) for k, v in other.state_dict().items())
    assert notices == ["The head of w.pth is the one under 'head'."]
    second = {f"teacher.{k}": v + 1 for k, v in own.items()}
    body = {k: v for k, v in apart.items() if not k.startswith("head.")}
    torch.save(body | second, tmp_path / "w.pth")  # whose head is another network's
    fit_weights(other, read_checkpoint(tmp_path / "w.pth"), "w.pth")
    assert torch.equal(other.conv.weight, own["conv.weight"] + 1)


def test_a_body_without_a_head_is_said_to_be_one(tmp_path):
    body = {k: v for k, v in made().state_dict().items() if not k.startswith("fc")}
    torch.save(body, tmp_path / "w.pt")
    with pytest.raises(InputError, match=r"it has no head, so build the network without one"):
        fit_weights(made(), read_checkpoint(tmp_path / "w.pt"), "w.pt")


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda t: (100 * t).to(torch.int8), "int8"),
        (lambda t: t.to(torch.complex64), "complex64"),
        (lambda t: torch.quantize_per_tensor(t, 0.01, 0, torch.qint8), "qint8"),
        (lambda t: t > 0, "bool"),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_weights_of_another_kind_do_not_go_in(change, kind, tmp_path):
    state = made().state_dict() | {"conv.weight": change(made().conv.weight.detach())}
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(InputError, match=f"holds conv.weight as {kind}, and the network"):
        fit_weights(made(), read_checkpoint(tmp_path / "w.pt"), "w.pt")


@pytest.mark.parametrize(
    ("change", "how"),
    [
        (lambda t: t.to("meta"), "without its values"),
        (lambda t: t.to_sparse(), "as a sparse tensor"),
        (lambda t: t.flatten(1).to_sparse_csr(), "as a sparse tensor"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_weights_that_are_not_there_in_full_do_not_go_in(change, how, tmp_path):
    own = made().state_dict()
    name = "fc.weight" if own["fc.weight"].ndim == 2 else "conv.weight"
    torch.save(own | {name: change(own[name])}, tmp_path / "w.pt")
    with pytest.raises(InputError, match=f"holds {name} {how}"):
        fit_weights(made(), read_checkpoint(tmp_path / "w.pt"), "w.pt")


def test_a_head_whose_middle_the_weights_do_not_tell_is_refused(tmp_path):
    def change(network):
        width = network.fc.in_features
        network.fc = nn.Sequential(nn.Linear(width, 7), nn.ReLU(), nn.Linear(7, 3))
        return network

    with pytest.raises(InputError, match=r"its head has several layers.*python:module:function"):
        fine_tuned("torchvision/shufflenet_v2_x0_5", tmp_path, change)


def test_a_fine_tuned_transformers_folder_with_other_weights(tmp_path):
    import transformers

    small = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "image_size": 16,
        "patch_size": 4,
    }
    torch.manual_seed(3)
    transformers.ViTForImageClassification(
        transformers.ViTConfig(**small, num_labels=5)
    ).save_pretrained(tmp_path / "base")
    fine = transformers.ViTForImageClassification(transformers.ViTConfig(**small, num_labels=3))
    save_file(under("net.", fine), tmp_path / "fine.safetensors")
    recipe = {"resize": [16, 16], "crop": None, "interpolation": "bilinear"}
    model = load_model(
        f"transformers/{tmp_path}/base",
        weights=tmp_path / "fine.safetensors",
        preprocessing=recipe | {"mean": 0.5, "std": 0.5},
    )
    x = torch.randn(2, 3, 16, 16)
    with torch.inference_mode():
        torch.testing.assert_close(model.logits(model.run(x)), fine.eval()(x).logits)
    assert model.class_names is None


def test_a_key_needs_a_file():
    with pytest.raises(InputError, match="--weights-key 'ema' names a part of a file"):
        load_model("torchvision/resnet18", weights_key="ema")
