"""Which tokens are patches, against loops that know how each network was put together."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from csp_engine.errors import InputError
from csp_engine.networks.activations import ActivationRecorder
from csp_engine.networks.layers import list_layers, select_layers
from csp_engine.networks.models import target_model

RECIPE = {"resize": [32, 32], "crop": None, "interpolation": "bilinear", "mean": 0.5, "std": 0.5}


def wrapped(network, side=32, **options):
    return target_model(network, RECIPE | {"resize": [side, side]}, name="net", **options)


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).normal(size=(5, 3, 32, 32)).astype(np.float32)


def recorded(model, x, layer, **options):
    (tap,) = select_layers(model, [layer], **options)
    with ActivationRecorder(model, [tap]) as recorder:
        return tap, np.concatenate([recorder(x[:3])[str(tap.id)], recorder(x[3:])[str(tap.id)]])


class Vit(nn.Module):
    """Tokens by name and number, before or after the 16 patches; one attention block."""

    def __init__(self, before=(), after=(), is_tokens_first=False):
        super().__init__()
        torch.manual_seed(0)
        self.before, self.after = [name for name, _ in before], [name for name, _ in after]
        self.patch = nn.Conv2d(3, 16, 8, 8)
        for name, n in (*before, *after):
            setattr(self, name, nn.Parameter(3 * torch.randn(1, n, 16)))
        self.is_tokens_first = is_tokens_first
        self.attention = nn.MultiheadAttention(16, 2, batch_first=not is_tokens_first)
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, 4)

    def forward(self, x):
        t = self.patch(x).flatten(2).transpose(1, 2)
        parts = [getattr(self, name).expand(len(t), -1, -1) for name in self.before]
        parts += [t, *(getattr(self, name).expand(len(t), -1, -1) for name in self.after)]
        t = torch.cat(parts, 1)
        if self.is_tokens_first:
            t = t.transpose(0, 1)
        t = self.norm(t + self.attention(t, t, t, need_weights=False)[0])
        self.seen = t.detach().transpose(0, 1) if self.is_tokens_first else t.detach()
        return self.head(t.mean(0 if self.is_tokens_first else 1))


@pytest.mark.parametrize("is_tokens_first", [False, True])
@pytest.mark.parametrize(
    ("before", "after", "n_before", "has_class"),
    [
        ([], [], 0, False),
        ([("cls_token", 1)], [], 1, True),
        ([("cls", 1), ("storage_tokens", 4)], [], 5, True),
        ([("class_tokens", 3), ("anything", 2)], [], 5, True),
        ([("cls_token", 1), ("summary", 7)], [], 8, True),
        ([("register_tokens", 4)], [], 4, False),
        ([("memory", 2), ("cls_token", 1)], [], 3, False),  # the class token is not the first
        ([("cls_token", 1)], [("detection_tokens", 9)], 1, True),
        ([], [("prompts", 2)], 0, False),
    ],
)
def test_patch_tokens_are_found_by_any_name(before, after, n_before, has_class, is_tokens_first, x):
    network = Vit(before, after, is_tokens_first)
    model = wrapped(network)
    tap, got = recorded(model, x, "norm@token_mean")
    assert (tap.n_prefix_tokens, tap.has_class_token) == (n_before, has_class)
    assert tap.tokens_first is is_tokens_first
    with torch.no_grad():
        rows = []
        for image in torch.from_numpy(x):
            network(image[None])
            patches = [network.seen[0, n_before + p] for p in range(16)]
            rows.append(torch.stack(patches).mean(0))
    np.testing.assert_allclose(got, torch.stack(rows).numpy(), atol=1e-5)
    if has_class:
        tap, got = recorded(model, x, "norm")
        assert tap.id.pooling == "cls"
        with torch.no_grad():
            network(torch.from_numpy(x))
        np.testing.assert_allclose(got, network.seen[:, 0].numpy(), atol=1e-5)
    elif n_before > 1:
        with pytest.raises(InputError, match="has no class token"):
            select_layers(model, ["norm@cls"])


def test_a_class_token_parameter_is_put_back_after_the_count():
    network = Vit([("memory", 2), ("cls_token", 1)])
    before = {k: v.clone() for k, v in network.state_dict().items()}
    list_layers(wrapped(network))
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key])


def test_one_pass_with_another_class_token_serves_every_layer():
    network = nn.Sequential(Vit([("cls_token", 1), ("more", 3)]))
    calls = []
    network[0].patch.register_forward_hook(lambda *a: calls.append(1))
    taps = list_layers(wrapped(network))
    assert len([t for t in taps if t.n_prefix_tokens == 4 and t.has_class_token]) >= 2
    assert len(calls) <= 6


def test_patches_alone_are_told_without_a_feature_map():
    class Linear(nn.Module):
        """Patches by slicing and a linear layer; four registers join them afterwards."""

        num_prefix_tokens = 4

        def __init__(self):
            super().__init__()
            self.embed, self.norm = nn.Linear(192, 16), nn.LayerNorm(16)
            self.reg_token = nn.Parameter(torch.randn(1, 4, 16))

        def forward(self, x):
            assert x.shape[-2:] == (32, 32)
            t = x.unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 1, 4, 5).reshape(-1, 16, 192)
            t = self.embed(t)
            return self.norm(torch.cat([self.reg_token.expand(len(t), -1, -1), t], 1))

    embed, norm = select_layers(wrapped(Linear()), ["embed", "norm"])
    assert (embed.shape[0], embed.n_prefix_tokens) == (16, 0)
    assert (norm.shape[0], norm.n_prefix_tokens) == (20, 4)


def test_token_mixing_layers_need_no_answer():
    class Mixer(nn.Module):
        def __init__(self):
            super().__init__()
            self.patch, self.mix = nn.Conv2d(3, 12, 8, 8), nn.Linear(16, 10)

        def forward(self, x):
            return self.mix(self.patch(x).flatten(2))

    (tap,) = select_layers(wrapped(Mixer()), ["mix"])
    assert (tap.shape, tap.n_prefix_tokens, tap.id.pooling) == ((12, 10), 0, "token_mean")


def test_tokens_among_the_patches_are_asked_for(x):
    class Middle(Vit):
        def forward(self, x):
            t = self.patch(x).flatten(2).transpose(1, 2)
            t = torch.cat([t[:, :8], self.cls_token.expand(len(t), -1, -1), t[:, 8:]], 1)
            return self.head(self.norm(t + self.attention(t, t, t)[0]).mean(1))

    model = wrapped(Middle([("cls_token", 1)]))
    for layer in ("norm", "norm@cls", "norm@token_mean"):
        with pytest.raises(InputError, match=r"stand among them; .*--prefix-tokens N"):
            select_layers(model, [layer])
    assert select_layers(model, ["norm@mean"])[0].n_units == 16
    assert "norm" not in [t.id.module for t in select_layers(model, ["*"])]
    (tap,) = select_layers(model, ["norm@token_mean"], prefix_tokens=3)
    assert tap.n_prefix_tokens == 3


def test_a_statement_that_contradicts_the_count_is_asked_about():
    network = Vit([("cls_token", 1), ("storage_tokens", 4)])
    network.num_prefix_tokens = 1
    with pytest.raises(InputError, match=r"5 of them before 16 patches.*num_prefix_tokens=1"):
        select_layers(wrapped(network), ["norm"])
    (tap,) = select_layers(wrapped(network), ["norm@token_mean"], prefix_tokens=5)
    assert tap.n_prefix_tokens == 5


def test_numbers_that_nothing_explains_are_asked_for():
    class Blind(nn.Module):
        """Patches by slicing, tokens mixed before any module sees them, one image size."""

        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.extra = nn.Parameter(torch.randn(1, 3, 192))
            self.mix = nn.Linear(192, 192)

        def forward(self, x):
            assert x.shape[-2:] == (32, 32)
            t = x.unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 1, 4, 5).reshape(-1, 16, 192)
            t = torch.cat([self.extra.expand(len(t), -1, -1), t], 1)
            return self.mix(t + t.mean(1, keepdim=True))

    model = wrapped(Blind())
    with pytest.raises(InputError, match=r"19 tokens, which do not make a grid.*--prefix-tokens N"):
        select_layers(model, ["mix"])
    (tap,) = select_layers(model, ["mix@token_mean"], prefix_tokens=3)
    assert tap.n_prefix_tokens == 3


def test_a_pooled_vector_before_its_patches_is_seen_by_the_grid():
    import transformers

    torch.manual_seed(0)
    config = transformers.DINOv3ConvNextConfig(
        hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], image_size=64
    )
    network = transformers.DINOv3ConvNextModel(config).eval()
    model = wrapped(network, 64)
    x = np.random.default_rng(1).normal(size=(5, 3, 64, 64)).astype(np.float32)
    with torch.no_grad():
        tokens = network(torch.from_numpy(x)).last_hidden_state
    tap, got = recorded(model, x, "layer_norm")
    assert (tap.id.pooling, tap.n_prefix_tokens) == ("token_mean", 1)
    np.testing.assert_allclose(got, tokens[:, 1:].mean(1).numpy(), atol=1e-5)
    _, got = recorded(model, x, "layer_norm@cls")
    np.testing.assert_allclose(got, tokens[:, 0].numpy(), atol=1e-5)


@pytest.mark.parametrize("place", ["first", "last", "among", "two"])
def test_a_pooled_vector_is_found_where_it_stands_or_asked_for(place):
    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.conv = nn.Conv2d(3, 8, 8, 8)
            self.norm = nn.LayerNorm(8)

        def forward(self, x):
            t = self.conv(x).flatten(2).transpose(1, 2)
            p = t.mean(1, keepdim=True)
            parts = {
                "first": [p, t],
                "last": [t, p],
                "among": [t[:, :3], p, t[:, 3:]],
                "two": [p, t.amax(1, keepdim=True), t],
            }
            self.patches = nn.functional.layer_norm(t, (8,)).detach()
            return self.norm(torch.cat(parts[place], 1))

    network = Pooled()
    model = wrapped(network)
    x = np.random.default_rng(1).normal(size=(5, 3, 32, 32)).astype(np.float32)
    if place in ("among", "two"):
        with pytest.raises(InputError, match=r"more than its grid of 16.*--prefix-tokens N"):
            select_layers(model, ["norm"])
        return
    _, got = recorded(model, x, "norm")
    with torch.no_grad():
        network(torch.from_numpy(x))
    np.testing.assert_allclose(got, network.patches.mean(1).numpy(), atol=1e-5)


def test_names_that_tell_too_little_are_asked_about():
    class Hidden(nn.Module):
        """Registers under a name that tells nothing, put in and mixed where no module sees it."""

        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.patch = nn.Conv2d(3, 8, 8, 8)
            self.cls_token = nn.Parameter(torch.randn(1, 1, 8))
            self.more = nn.Parameter(torch.randn(1, 4, 8))
            self.norm = nn.LayerNorm(8)

        def forward(self, x):
            t = self.patch(x).flatten(2).transpose(1, 2)
            t = torch.cat([p.expand(len(t), -1, -1) for p in (self.cls_token, self.more)] + [t], 1)
            return self.norm(t + t.mean(1, keepdim=True))

    model = wrapped(Hidden())
    with pytest.raises(InputError, match=r"5 more than a grid of 16 patches, where .* tell of 1"):
        select_layers(model, ["norm"])
    (tap,) = select_layers(model, ["norm@token_mean"], prefix_tokens=5)
    assert tap.n_prefix_tokens == 5


def transformers_models():
    import transformers

    small = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "image_size": 32,
        "patch_size": 8,
    }
    t = transformers
    yield "deit", t.DeiTModel(t.DeiTConfig(**small)), "layernorm", 2, 0
    yield (
        "dinov2 registers",
        t.Dinov2WithRegistersModel(t.Dinov2WithRegistersConfig(**small, num_register_tokens=3)),
        "layernorm",
        4,
        0,
    )
    yield (
        "dinov3",
        t.DINOv3ViTModel(t.DINOv3ViTConfig(**small, num_register_tokens=4)),
        "norm",
        5,
        0,
    )
    yield "clip", t.CLIPVisionModel(t.CLIPVisionConfig(**small)), "encoder.layers.0", 1, 0
    yield "siglip", t.SiglipVisionModel(t.SiglipVisionConfig(**small)), "post_layernorm", 0, 0
    detection = t.YolosConfig(**small | {"image_size": [32, 32]}, num_detection_tokens=6)
    yield "yolos", t.YolosModel(detection), "layernorm", 1, 6


def test_transformers_against_their_own_configurations(x):
    for name, network, layer, n_before, n_after in transformers_models():
        model = wrapped(network.eval())
        (path,) = [n for n, _ in network.named_modules() if n.endswith(layer)][:1]
        tap = next(t for t in list_layers(model) if t.id.module == path)
        assert (tap.n_prefix_tokens, tap.n_suffix_tokens) == (n_before, n_after), name
        assert tap.shape[0] == n_before + 16 + n_after, name
        assert tap.has_class_token is (n_before > 0), name


@pytest.mark.slow
def test_timm_against_its_own_count():
    import timm

    for name, n in (
        ("vit_tiny_patch16_224", 1),
        ("vit_small_patch14_reg4_dinov2", 5),
        ("deit_tiny_distilled_patch16_224", 2),
        ("vit_base_patch16_siglip_224", 0),
        ("eva02_tiny_patch14_224", 1),
        ("cait_xxs24_224", 1),
    ):
        small: dict = {"depth": 2, "img_size": 56 if "14" in name else 64}
        if name.startswith(("vit_base", "eva")):
            small |= {"embed_dim": 48, "num_heads": 3}
        network = timm.create_model(name, pretrained=False, num_classes=3, **small)
        model = wrapped(network.eval(), small["img_size"])
        taps = {t.id.module: t for t in list_layers(model)}
        assert taps["norm"].n_prefix_tokens == n, name
        bare = 0 if name.startswith("cait") else n  # CaiT puts its class token in late
        assert taps["blocks.0"].n_prefix_tokens == bare, name


def test_open_clip_towers_in_both_orders():
    from open_clip.transformer import VisionTransformer

    torch.manual_seed(0)
    tower = VisionTransformer(32, 8, 16, 2, 2, 2.0, output_dim=12).eval()
    taps = {t.id.module: t for t in list_layers(wrapped(tower))}
    for path in ("ln_pre", "transformer.resblocks.0", "transformer.resblocks.1.ln_1"):
        assert (taps[path].n_prefix_tokens, taps[path].has_class_token) == (1, True), path


def test_layouts_that_do_not_fit_the_images_axis_are_not_taken(x):
    model = wrapped(Vit([("cls_token", 1)], is_tokens_first=True))
    for layout in (None, "tnc", "ntc", "nct"):
        (tap,) = select_layers(model, ["norm"], layout=layout)
        assert (tap.tokens_first, tap.shape, tap.n_units) == (True, (17, 16), 16)


def test_what_does_not_follow_the_number_of_images_is_no_layer():
    class Prompts(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 8)
            self.prompts = nn.Embedding(2, 8)  # two rows, as many as a batch of two images

        def forward(self, x):
            return self.fc(x.mean((2, 3))) @ self.prompts(torch.arange(2)).T

    assert [t.id.module for t in list_layers(wrapped(Prompts()))] == ["fc"]


def test_patterns_with_classes_of_characters():
    names = [f"block{i}" for i in range(4)]
    network = nn.Sequential()
    for name in names:
        network.add_module(name, nn.Conv2d(3, 3, 1))
    model = wrapped(network)

    def chosen(pattern):
        return [t.id.module for t in select_layers(model, [pattern])]

    assert chosen("block[0-2]") == names[:3]
    assert chosen("block[13]") == [names[1], names[3]]
    assert chosen("bl?ck[!0]") == names[1:]
    with pytest.raises(InputError, match="cannot be read"):
        select_layers(model, ["block[3-0]"])
