"""Networks as people have them: what is read from them is right, or refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from csp_engine.cli.selftest import NotHeldError, kind, refused, require
from csp_engine.cli.selftest.world import Network, World, model, network

AREA = "networks"


def _images(n: int = 6) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, 3, 32, 32)).astype(np.float32)


class _OneRowShort(Network):
    """A layer of it loses a row in batches of seventeen."""

    def forward(self, pixels: torch.Tensor) -> Any:
        maps = self.second(self.first(pixels).relu()[: 16 if len(pixels) == 17 else None])
        return self.head(maps.mean((2, 3)))


@kind(AREA, "A: a batch with a row too few is refused")
def rows(_: World) -> str:
    """The last short batch."""
    from csp_engine.networks.activations import ActivationRecorder
    from csp_engine.networks.layers import select_layers

    target = model(_OneRowShort())
    with ActivationRecorder(target, select_layers(target, ["second"])) as record:
        record(_images(4))
        return refused(lambda: record(_images(17)), "rows cannot be told apart")


class _Noisy(Network):
    """Dropout that stays on."""

    def forward(self, pixels: torch.Tensor) -> Any:
        return super().forward(nn.functional.dropout(pixels, 0.5, training=True))


class _Mixing(Network):
    """Each image minus the mean of its batch."""

    def forward(self, pixels: torch.Tensor) -> Any:
        return super().forward(pixels - pixels.mean(0))


def _built(world: World, net: nn.Module) -> Any:
    from csp_engine.networks.layers import select_layers
    from csp_engine.pipeline import Target, build

    target = model(net)
    taps = tuple(select_layers(target, ["second"]))
    return build(world.request(world.folder / "b.csp", targets=(Target(target, taps),)))


@kind(AREA, "B: dropout that stays on is switched off, and the build says so")
def dropout(world: World) -> str:
    """Functional dropout with training=True."""
    said = _built(world, _Noisy()).manifest.inputs["models"]["small"].get("notices", [])
    return require(any("dropout" in each for each in said), "; ".join(said) or "nothing was said")


@kind(AREA, "B: an activation that depends on its neighbours is refused")
def neighbours(world: World) -> str:
    """The mean of the batch taken off."""
    return refused(lambda: _built(world, _Mixing()), "other images in the batch")


class _Transformer(nn.Module):
    """A class token and three more under a name of their own."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patch_embed = nn.Conv2d(3, 16, 8, 8)
        self.cls_token = nn.Parameter(3 * torch.randn(1, 1, 16))
        self.extra = nn.Parameter(3 * torch.randn(1, 3, 16))
        self.block = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
        self.head = nn.Linear(16, 4)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        tokens = self.patch_embed(pixels).flatten(2).transpose(1, 2)
        first = [each.expand(len(tokens), -1, -1) for each in (self.cls_token, self.extra)]
        return self.head(self.block(torch.cat([*first, tokens], 1))[:, 0])


@kind(AREA, "C: tokens before the patches are counted")
def tokens(_: World) -> str:
    """Registers that are called otherwise."""
    from csp_engine.networks.activations import ActivationRecorder
    from csp_engine.networks.layers import select_layers

    target = model(_Transformer())
    taps = select_layers(target, ["block@token_mean"])
    kept: dict[str, torch.Tensor] = {}
    hook: Callable[..., None] = lambda _, __, out: kept.update(out=out.detach())  # noqa: E731
    with ActivationRecorder(target, taps) as record:
        handle = target.network.get_submodule("block").register_forward_hook(hook)
        found = record(_images())["block@token_mean"]
        handle.remove()
    expected = kept["out"][:, 4:].mean(1)
    far = float((torch.as_tensor(found) - expected).abs().max())
    return require(
        far < 1e-5, f"{taps[0].n_prefix_tokens} counted, mean of patches off by {far:.0e}"
    )


def _sae(world: World, **settings: Any) -> Any:
    import json

    from csp_engine.networks.autoencoders.sae import load_sae

    torch.manual_seed(1)
    tensors = {"W_enc": torch.randn(6, 12), "b_enc": torch.randn(12)}
    torch.save(tensors, world.folder / "sae.pt")
    (world.folder / "cfg.json").write_text(json.dumps(settings))
    return tensors, load_sae(world.folder / "sae.pt")


@kind(AREA, "D: autoencoder latents follow the library's own rule")
def codes(world: World) -> str:
    """Top-k, against a sort."""
    tensors, sae = _sae(world, k=3, activation="topk")
    x = torch.randn(5, 6)
    pre = x @ tensors["W_enc"] + tensors["b_enc"]
    slow = torch.zeros_like(pre)
    for row, values in enumerate(pre):
        for at in values.argsort(descending=True)[:3]:
            slow[row, at] = values[at].clamp(min=0)
    far = float((sae(x) - slow).abs().max())
    return require(far < 1e-5, f"off by {far:.0e}")


@kind(AREA, "D: an autoencoder's unknown setting is refused")
def unknown_setting(world: World) -> str:
    """A setting of no library."""
    return refused(lambda: _sae(world, k=3, activation="topk", sparkle=2), "sparkle")


@kind(AREA, "D: an autoencoder's settings are read strictly")
def strict_settings(world: World) -> str:
    """No JSON, another type, no number, a key twice, two places that contradict each other."""
    import json

    from safetensors.torch import save_file

    from csp_engine.networks.autoencoders.sae import load_sae

    path, beside = world.folder / "sae.safetensors", world.folder / "cfg.json"
    tensors = {"W_enc": torch.eye(4)[:3].contiguous(), "b_enc": torch.zeros(4)}
    cases: dict[str, tuple[dict[str, str], str]] = {
        "no JSON": ({"k": '{"k": 2'}, "{}"),
        "a text": ({}, '{"k": "2"}'),
        "true": ({}, '{"k": true}'),
        "NaN": ({}, '{"k": NaN}'),
        "twice": ({}, '{"k": 2, "k": 3}'),
        "contradiction": ({"k": "3"}, '{"k": 2}'),
    }
    for name, (metadata, settings) in cases.items():
        save_file(tensors, path, metadata=metadata)
        beside.write_text(settings)
        try:
            refused(lambda: load_sae(path))
        except NotHeldError as error:
            raise NotHeldError(f"{name}: {error}") from None
    save_file(tensors, path, metadata={"k": "2"})
    beside.write_text(json.dumps({"k": 2, "activation": "topk"}))
    return require(load_sae(path).k == 2, f"{len(cases)} refused, and k = 2 where both agree")


@kind(AREA, "D: settings that change latents are understood or refused, one by one")
def latents(world: World) -> str:
    """Batch top-k without its threshold, groups, signs, normalisation, scaling, a missing k."""
    settings: list[tuple[str, dict[str, Any]]] = [
        ("batch_topk", {"k": 3, "activation": "batch_topk"}),
        ("n_groups", {"activation": "groupmax", "n_groups": 3}),
        ("signed", {"k": 3, "activation": "topk", "signed": True}),
        (
            "normalisation",
            {"activation": "relu", "normalize_activations": "expected_average_only_in"},
        ),
        ("decoder_norm", {"activation": "relu", "rescale_acts_by_decoder_norm": True}),
        ("lacks k", {"activation": "topk"}),
        ("threshold", {"activation": "jumprelu"}),
    ]
    for about, given in settings:
        refused(lambda given=given: _sae(world, **given), about)
    return f"{len(settings)} refused by name"


@kind(AREA, "E: checkpoints are read as trainers save them")
def trainers(world: World) -> str:
    """A prefix, a nesting, a counter, a criterion beside the network, an averaged copy."""
    from csp_engine.networks.loading.checkpoints import read_checkpoint
    from csp_engine.networks.loading.fitting import fit_weights

    wanted = network().state_dict()
    saved = {
        "epoch": 3,
        "state_dict": {
            **{f"module.{key}": value for key, value in wanted.items()},
            "criterion.weight": torch.ones(3),
        },
        "state_dict_ema": {key: value * 0 for key, value in wanted.items()},
        "optimizer": {"param_groups": [1]},
    }
    torch.save(saved, world.folder / "last.pth")
    empty = Network()
    notices = fit_weights(empty, read_checkpoint(world.folder / "last.pth"), "last.pth")
    same = all(torch.equal(value, wanted[key]) for key, value in empty.state_dict().items())
    return require(same and notices, "; ".join(notices) or "nothing was said")


class _Several(Network):
    """Features first, logits in a dictionary."""

    def forward(self, pixels: torch.Tensor) -> Any:
        maps = self.second(self.first(pixels).relu()).relu()
        features = maps.mean((2, 3))
        return features, {"logits": self.head(features)}


@kind(AREA, "F: logits are found among several outputs")
def logits(_: World) -> str:
    """A tuple with features and a dictionary."""
    target = model(_Several(), class_names=("red", "green", "blue"))
    with torch.inference_mode():
        out = target.network(torch.from_numpy(_images()))
        found = target.logits(out)
    return require(found is not None and torch.equal(found, out[1]["logits"]), "the 3 of 8 columns")


@kind(AREA, "F: logits are taken from before a sigmoid or softmax that ends a network")
def probabilities(_: World) -> str:
    """Of probabilities a sign says nothing, and a certain one says nothing of its logit."""
    bare = network().eval()
    pixels = torch.from_numpy(_images())
    expected = 300 * bare(pixels).detach()
    off = 0.0
    for ending in (torch.sigmoid, lambda z: z.softmax(1), lambda z: 1 / (1 + (-z).exp())):
        target = model(_Ended(bare, ending))
        with torch.inference_mode():
            found = target.logits(target.run(pixels))
        off = max(off, 1.0 if found is None else float((found - expected).abs().max()))
    return require(off < 1e-2, f"off by {off:.0e}")


class _Ended(nn.Module):
    """Outputs of a network times 300, with something after them."""

    def __init__(self, body: nn.Module, ending: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.body = body
        self.times = nn.Linear(3, 3, bias=False)
        self.times.weight.data = 300 * torch.eye(3)
        self.ending = ending

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.ending(self.times(self.body(pixels)))


@kind(AREA, "F: class names: a byte order mark is ignored, too few are refused")
def class_names(world: World) -> str:
    """A list as Windows saves it."""
    from csp_engine.networks.models import read_class_names

    path = world.folder / "classes.txt"
    path.write_bytes("\ufeffred\r\ngrün\r\nblue\r\n".encode())
    require(read_class_names(path, 3) == ("red", "grün", "blue"), "read otherwise")
    return refused(lambda: read_class_names(path, 4), "3 class names for 4 outputs")


@kind(AREA, "J: a scripted network is refused, with the remedy")
def scripted(_: World) -> str:
    """TorchScript, whose layers cannot be listened to."""
    traced = torch.jit.trace(network().eval(), torch.zeros(1, 3, 32, 32))
    return refused(lambda: model(traced), "TorchScript")


@kind(AREA, "J: a bfloat16 network gives finite activations")
def half(_: World) -> str:
    """Weights of two bytes."""
    from csp_engine.networks.activations import ActivationRecorder
    from csp_engine.networks.layers import select_layers

    target = model(network().to(torch.bfloat16))
    with ActivationRecorder(target, select_layers(target, ["second"])) as record:
        (found,) = record(_images()).values()
    return require(bool(np.isfinite(np.asarray(found)).all()), "all finite")
