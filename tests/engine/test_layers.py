"""Which layers can be read as neurons, along which axis, and how they are named."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from csp_engine.errors import InputError
from csp_engine.networks.activations import ActivationRecorder
from csp_engine.networks.layers import list_layers, select_layers
from csp_engine.networks.models import require_hooks, target_model
from tests.worlds import toys


def wrapped(network, side=32, **options):
    recipe = {"resize": [side, side], "crop": None, "interpolation": "bilinear"}
    return target_model(network, recipe | {"mean": 0.5, "std": 0.5}, name="net", **options)


def by_path(model):
    return {tap.id.module: tap for tap in list_layers(model)}


class Small(nn.Module):
    """Convolutions, a shared activation, a channels-last middle, a head, an unused module."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(inplace=True))
        self.relu = nn.ReLU()
        self.block = nn.Sequential(nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8))
        self.norm = nn.LayerNorm(8)
        self.fc1 = nn.Linear(8, 16)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(16, 4)
        self.unused = nn.Linear(3, 3)

    def forward(self, x):
        x = self.relu(self.block(self.relu(self.stem(x))))
        x = self.fc1(self.norm(x.permute(0, 2, 3, 1)))
        return self.head(self.pool(x.permute(0, 3, 1, 2)).flatten(1))


def test_lists_what_runs_once_in_call_order_with_shapes_and_poolings():
    taps = list_layers(wrapped(Small(), side=16))
    assert [(str(t.id), t.kind, t.channels_last, t.n_units, t.shape) for t in taps] == [
        ("stem.0@mean", "map", False, 8, (8, 16, 16)),
        ("stem.1@mean", "map", False, 8, (8, 16, 16)),
        ("stem@mean", "map", False, 8, (8, 16, 16)),
        ("block.0@mean", "map", False, 8, (8, 8, 8)),
        ("block.1@mean", "map", False, 8, (8, 8, 8)),
        ("block@mean", "map", False, 8, (8, 8, 8)),
        ("norm@mean", "map", True, 8, (8, 8, 8)),  # all sides 8: no shape tells the axes apart
        ("fc1@mean", "map", True, 16, (8, 8, 16)),
        ("pool@mean", "map", False, 16, (16, 1, 1)),
        ("head@none", "vector", True, 4, (4,)),
    ]
    assert taps[0].type_name == "Conv2d"


def test_a_list_leaves_no_hooks_and_no_gradients_behind():
    model = wrapped(Small())
    list_layers(model)
    assert not any(m._forward_hooks for m in model.network.modules())
    assert not model.network.training


class FixedCube(nn.Module):
    """Accepts one image size; its outputs are cubes, so only data flow can tell the axes."""

    def __init__(self, middle):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)
        self.middle = middle
        self.act = nn.GELU()
        self.head = nn.Linear(512, 2)

    def forward(self, x):
        assert x.shape[-2:] == (8, 8)
        return self.head(self.act(self.middle(self.conv(x))).flatten(1))


class Last(nn.Module):
    def forward(self, x):
        return x.permute(0, 2, 3, 1).contiguous()


class Mystery(nn.Module):
    def forward(self, x):
        return x * 2


def test_flow_tells_the_axes_of_a_cube():
    first = by_path(wrapped(FixedCube(nn.BatchNorm2d(8)), side=8))
    assert not first["middle"].channels_last
    assert not first["act"].channels_last
    last = by_path(wrapped(FixedCube(nn.Sequential(Last(), nn.LayerNorm(8))), side=8))
    assert last["middle.0"].channels_last  # the object the layer norm reads
    assert last["middle"].channels_last  # the object the layer norm gives
    assert last["act"].channels_last  # elementwise on it


def test_axes_nothing_tells_are_asked_for():
    model = wrapped(FixedCube(Mystery()), side=8)
    assert "middle" not in by_path(model)
    with pytest.raises(InputError, match=r"8x8x8 output of 'middle'.*--layout nchw or nhwc"):
        select_layers(model, ["middle"])
    for layout, is_last in (("nchw", False), ("nhwc", True)):
        (tap,) = select_layers(model, ["middle"], layout=layout)
        assert tap.channels_last is is_last
    with pytest.raises(InputError, match="Layout 'chw' does not exist"):
        select_layers(model, ["middle"], layout="chw")


def test_layout_overrides_what_was_observed_of_outputs_with_that_many_axes():
    model = wrapped(Small(), side=16)
    conv, head = select_layers(model, ["stem.0", "head"], layout="nhwc")
    assert (conv.channels_last, conv.n_units) == (True, 16)
    assert (head.kind, head.n_units) == ("vector", 4)


class Attention(nn.Module):
    def forward(self, x):
        t = x.flatten(2).transpose(1, 2)
        return (t @ t.transpose(1, 2)).unsqueeze(1)


def test_an_attention_matrix_is_no_map():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.attention = nn.Conv2d(3, 4, 4, stride=4), Attention()

        def forward(self, x):
            return self.attention(self.conv(x)).mean((2, 3))

    assert "attention" not in by_path(wrapped(Net()))


# --- real architectures -----------------------------------------------------------------------


def test_torchvision_swin_is_channels_last_inside():
    from torchvision.models import SwinTransformer

    taps = by_path(
        wrapped(SwinTransformer([4, 4], 8, [1, 1], [2, 2], [4, 4], num_classes=3), side=64)
    )
    assert taps["features.0.0"].channels_last is False
    for path in ("features.1.0", "features.1.0.mlp.0", "features.1.0.attn", "norm"):
        assert (taps[path].kind, taps[path].channels_last) == ("map", True)
    assert taps["features.1.0"].n_units == 8
    assert taps["permute"].channels_last is False


def test_torchvision_vit_has_a_class_token_and_fixed_size():
    from torchvision.models import VisionTransformer

    model = wrapped(VisionTransformer(16, 4, 2, 2, 16, 24, num_classes=3), side=16)
    taps = by_path(model)
    block = taps["encoder.layers.encoder_layer_0"]
    assert (str(block.id), block.kind, block.n_units) == (
        "encoder.layers.encoder_layer_0@cls",
        "tokens",
        16,
    )
    assert block.shape == (17, 16)
    assert block.n_prefix_tokens == 1
    assert taps["encoder.layers.encoder_layer_0.self_attention"].kind == "tokens"
    assert taps["conv_proj"].kind == "map"


def timm_vit(**options):
    from timm.models.vision_transformer import VisionTransformer

    shape = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2}
    return VisionTransformer(**shape, num_classes=3, **options)


def test_timm_fixed_size_transformers_are_seen_through_a_resized_copy():
    vit = timm_vit()
    before = {k: v.clone() for k, v in vit.state_dict().items()}
    taps = by_path(wrapped(vit))
    with pytest.raises(AssertionError):
        vit(torch.zeros(1, 3, 96, 160))
    block = taps["blocks.0"]  # 16 patches and a class token of 16 channels
    assert (str(block.id), block.kind, block.shape) == ("blocks.0@cls", "tokens", (17, 16))
    bare = taps["patch_embed"]  # a square of 16 patches by 16 channels
    assert (str(bare.id), bare.kind, bare.shape) == ("patch_embed@token_mean", "tokens", (16, 16))
    assert (bare.n_prefix_tokens, bare.has_class_token) == (0, False)
    for key, value in vit.state_dict().items():
        assert torch.equal(value, before[key])


def test_register_tokens_without_class_token_have_no_cls_pooling():
    model = wrapped(timm_vit(class_token=False, reg_tokens=3, global_pool="avg"))
    tap = by_path(model)["blocks.0"]
    assert tap.n_prefix_tokens == model.n_prefix_tokens == 3
    assert tap.id.pooling == "token_mean"
    with pytest.raises(InputError, match="has no class token; use token_mean or mean"):
        select_layers(model, ["blocks.0@cls"])


def test_transformers_outputs_are_read_by_their_first_tensor():
    import transformers

    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=16,
        patch_size=4,
    )
    taps = by_path(wrapped(transformers.ViTForImageClassification(config), side=16))
    for path in ("vit", "vit.layers.0", "vit.layers.0.attention"):
        assert (taps[path].kind, taps[path].shape) == ("tokens", (17, 16))


class Branches(nn.Module):
    """Gives several tensors side by side, as CrossViT and HRNet do, or what stands for one."""

    def __init__(self, kind):
        super().__init__()
        self.coarse = nn.Conv2d(3, 4, 4, 4)
        self.fine = nn.Conv2d(3, 6, 2, 2)
        self.kind = kind

    def forward(self, x):
        found = [self.fine(x), self.coarse(x)]
        return {"list": found, "tuple": tuple(found), "one": found[:1]}[self.kind]


class Joined(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.branches = Branches(kind)
        self.head = nn.Linear(6, 5)

    def forward(self, x):
        return self.head(self.branches(x)[0].mean((2, 3)))


def test_a_list_of_branches_is_no_layer_and_its_branches_are():
    model = wrapped(Joined("list"))
    taps = by_path(model)
    assert "branches" not in taps
    assert {path: taps[path].n_units for path in ("branches.fine", "branches.coarse")} == {
        "branches.fine": 6, "branches.coarse": 4,
    }  # fmt: skip
    with pytest.raises(InputError, match=r"'branches' of .* does not give one tensor with one row"):
        select_layers(model, ["branches"])
    for kind in ("tuple", "one"):
        assert by_path(wrapped(Joined(kind)))["branches"].n_units == 6


# --- selecting --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small():
    return wrapped(Small(), side=16)


def paths(taps):
    return [str(tap.id) for tap in taps]


@pytest.mark.slow
@pytest.mark.parametrize(
    "wrap",
    [
        lambda net: torch.compile(net, backend="eager"),
        nn.DataParallel,
        lambda net: nn.DataParallel(torch.compile(net, backend="eager")),
    ],
)
def test_layers_of_a_wrapped_network_go_by_their_own_names(wrap):
    net = nn.Sequential()
    net.add_module("stem", nn.Conv2d(3, 4, 3))
    net.add_module("blocks", nn.Sequential(nn.Conv2d(4, 5, 3), nn.Conv2d(5, 6, 3)))
    model = target_model(wrap(net).eval(), dict(toys.PREPROCESSING), name="m")
    listed = [tap.id.module for tap in list_layers(model)]
    for name in ("stem", "blocks.1"):
        (tap,) = select_layers(model, [name])
        assert tap.id.module in listed
        assert tap.id.module.endswith(name)
        assert [again.id for again in select_layers(model, [tap.id.module])] == [tap.id]
    assert [tap.n_units for tap in select_layers(model, ["blocks.*"])] == [5, 6]
    with pytest.raises(InputError, match=r"has no layer 'blocks\.2'"):
        select_layers(model, ["blocks.2"])


def _compiled(net, backend="eager"):
    net.compile(backend=backend)
    return net


def _inside(net):
    net.blocks = torch.compile(net.blocks, backend="eager")
    net.stem.compile(backend="eager")
    return net


def _ran_before(net):
    net = torch.compile(net, backend="eager")
    for n in (2, 3, 1):
        net(torch.zeros(n, 3, 32, 32))
    return net


@pytest.mark.slow
@pytest.mark.parametrize(
    "wrap", [lambda net: torch.compile(net, backend="eager"), _compiled, _inside, _ran_before]
)
def test_a_compiled_network_is_heard_as_it_was_before(wrap):
    """Compiled code keeps to the hooks that it was compiled with, and drops them after a while."""

    def made():
        torch.manual_seed(0)
        net = nn.Sequential()
        net.add_module("stem", nn.Conv2d(3, 4, 3))
        net.add_module("blocks", nn.Sequential(nn.Conv2d(4, 5, 3), nn.ReLU(), nn.Conv2d(5, 6, 3)))
        return net.eval()

    x = np.random.default_rng(0).normal(size=(9, 3, 32, 32)).astype(np.float32)
    plain, model = (
        target_model(net, dict(toys.PREPROCESSING), name="m") for net in (made(), wrap(made()))
    )
    assert model.fingerprint == plain.fingerprint
    assert paths(list_layers(model)) == paths(list_layers(plain))
    for n in (9, 1, 4, 2, 7):
        rows = []
        for each in (plain, model):
            with ActivationRecorder(each, select_layers(each, ["**"])) as recorder:
                rows.append(recorder(x[:n]))
        assert rows[0].keys() == rows[1].keys()
        for layer in rows[0]:
            np.testing.assert_array_equal(rows[0][layer], rows[1][layer])


def test_globs_stay_within_a_part_unless_doubled(small):
    assert paths(select_layers(small, ["stem.*"])) == ["stem.0@mean", "stem.1@mean"]
    assert paths(select_layers(small, ["*"]))[0] == "stem@mean"
    assert not any("." in p for p in paths(select_layers(small, ["*"])))
    assert len(select_layers(small, ["**"])) == 10
    assert paths(select_layers(small, ["bl?ck.1@max"])) == ["block.1@max"]


def test_order_as_asked_and_each_neuron_once(small):
    taps = select_layers(small, ["head", "block@max", "block", "b*", "stem.0@absmax"])
    assert paths(taps) == ["head@none", "block@max", "block@mean", "stem.0@absmax"]
    assert paths(select_layers(small, ["block", "stem@max"], pooling="absmax")) == [
        "block@absmax",
        "stem@max",
    ]


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("blok", r"has no layer 'blok'; the nearest are block"),
        ("stem.9", r"nearest are .*stem\.[01]"),
        ("x*", "No layer of net matches 'x[*]'"),
        ("relu", r"'relu' of net runs 2 times in one pass"),
        ("unused", "'unused' of net does not give one tensor"),
        ("block@median", "Pooling 'median' does not exist"),
        ("block@cls", "'cls' does not fit 'block', which gives a map; use mean or max or absmax"),
        ("head@mean", "gives a vector; use none"),
        ("block@none", "gives a map"),
        ("", "has no layer ''"),
    ],
)
def test_what_cannot_be_selected_is_explained_in_a_sentence(small, pattern, words):
    with pytest.raises(InputError, match=words) as caught:
        select_layers(small, [pattern])
    assert "\n" not in str(caught.value)


def test_choosing_nothing_is_an_error(small):
    with pytest.raises(InputError, match="No layer is chosen"):
        select_layers(small, [])


def test_a_network_that_cannot_run_on_its_own_preprocessing_says_so():
    model = wrapped(nn.Sequential(nn.Flatten(), nn.Linear(7, 2)), side=8)
    with pytest.raises(InputError, match=r"net cannot run on an image of 3x8x8.*preprocessing"):
        list_layers(model)


def test_autoencoder_taps_stand_beside_the_layer(small, tmp_path):
    path = tmp_path / "dict.safetensors"
    save_file({"W_enc": torch.randn(8, 20), "b_enc": torch.zeros(20)}, path)
    taps = select_layers(small, ["block"], saes={"block@max": path, "norm": path})
    assert paths(taps) == ["block@mean", "block+dict@max", "norm+dict@mean"]
    assert [t.n_units for t in taps] == [8, 20, 20]
    assert taps[0].sae is None
    assert paths(select_layers(small, [], saes={"norm": path})) == ["norm+dict@mean"]
    with pytest.raises(InputError, match="reads 8 channels, but layer 'fc1' has 16"):
        select_layers(small, [], saes={"fc1": path})
    with pytest.raises(InputError, match="Two autoencoders are called 'dict'"):
        select_layers(small, [], saes={"block": path, "bloc?": path})


def test_programs_without_modules_inside_are_refused_with_their_remedy():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    x = torch.zeros(1, 3, 8, 8)
    exported = torch.export.export(network, (x,))
    for program in (torch.jit.script(network), torch.jit.trace(network, x), exported):
        with pytest.raises(InputError, match=r"cannot be listened to; return the torch.nn.Module"):
            require_hooks(program, "net")
    with pytest.raises(
        InputError, match=r"No module inside net \(.*\) can be listened to|cannot run"
    ):
        list_layers(wrapped(exported.module(), side=8))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_network_with_a_scripted_part_has_its_other_layers():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()))
            self.head = nn.Linear(4, 2)

        def forward(self, x):
            return self.head(self.body(x).mean((2, 3)))

    recipe = {"resize": [8, 8], "crop": None, "interpolation": "bilinear", "mean": 0.5, "std": 0.5}
    model = target_model(Mixed(), recipe, name="mixed")
    assert [tap.id.module for tap in list_layers(model)] == ["head"]
    with pytest.raises(InputError, match=r"Layer 'body' of mixed is TorchScript, .* head"):
        select_layers(model, ["body"])
