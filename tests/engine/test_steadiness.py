"""An activation is a function of its image: random and batch-dependent networks, one kind each."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from csp_engine.errors import InputError
from csp_engine.networks.activations import ActivationRecorder
from csp_engine.networks.driving.influence import influence
from csp_engine.networks.layers import select_layers
from csp_engine.networks.models import target_model
from csp_engine.pipeline import Target, build
from tests.worlds import toys

RECIPE = {"resize": [16, 16], "crop": None, "interpolation": "bilinear", "mean": 0.5, "std": 0.5}


def wrapped(network):
    return target_model(network, RECIPE, name="net")


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).normal(size=(7, 3, 16, 16)).astype(np.float32)


class Net(nn.Module):
    """A convolution, then ``middle`` of the features ``(n, 8)``, then a linear layer."""

    def __init__(self, middle):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 8, 3)
        self.middle = middle if isinstance(middle, nn.Module) else nn.Identity()
        self.step = None if isinstance(middle, nn.Module) else middle
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        z = self.middle(self.conv(x).relu().mean((2, 3)))
        return self.fc(z if self.step is None else self.step(z))


def by_hand(network, x):
    """The fc layer without anything between: one image after the other, in double precision."""
    weights = {k: v.double().numpy() for k, v in network.state_dict().items()}
    rows = []
    for image in x.astype(np.float64):
        patches = np.lib.stride_tricks.sliding_window_view(image, (3, 3), axis=(1, 2))
        maps = np.einsum("cyxij,ocij->oyx", patches, weights["conv.weight"])
        maps += weights["conv.bias"][:, None, None]
        z = np.maximum(maps, 0).mean((1, 2))
        rows.append(weights["fc.weight"] @ z + weights["fc.bias"])
    return np.array(rows)


def recorded(model, x, layer="fc", size=4):
    taps = select_layers(model, [layer])
    with ActivationRecorder(model, taps) as recorder:
        parts = [recorder(x[i : i + size]) for i in range(0, len(x), size)]
    return np.concatenate([part[str(taps[0].id)] for part in parts])


class AlwaysDrops(nn.Module):
    def forward(self, z):
        return nn.Dropout(0.5)(z)  # a new module is in training mode


class Attends(nn.Module):
    def forward(self, z):
        q = z.reshape(len(z), 1, 1, 8)
        return functional.scaled_dot_product_attention(q, q, q, dropout_p=0.5).reshape(len(z), 8)


class KeepsTraining(nn.Module):
    """Refuses to leave training mode, as some partly frozen networks do."""

    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def train(self, mode=True):
        super().train(mode)
        self.drop.training = True
        return self

    def forward(self, z):
        return self.drop(z)


@pytest.mark.parametrize(
    "middle",
    [
        lambda z: functional.dropout(z, 0.5),
        lambda z: torch.dropout(z, 0.5, True),
        lambda z: functional.alpha_dropout(z, 0.5, training=True),
        lambda z: functional.dropout1d(z[..., None], 0.5)[..., 0],
        lambda z: functional.rrelu(-z, training=True) / -(1 / 16 + 1 / 6),
        AlwaysDrops(),
        Attends(),
        KeepsTraining(),
    ],
)
def test_what_drops_in_evaluation_is_switched_off_and_said(middle, x):
    model = wrapped(Net(middle))
    np.testing.assert_allclose(recorded(model, x), by_hand(model.network, x), atol=1e-5)
    (notice,) = model.steadiness.notices
    assert "switched off" in notice


def test_influence_is_measured_without_what_drops_behind_the_layer(x):
    plain, dropping = (wrapped(Net(f)) for f in (nn.Identity(), lambda z: nn.Dropout(0.5)(z)))
    classes = np.arange(7) % 4
    want, got = (
        influence(m, select_layers(m, ["conv"]), [(x, classes)])["conv@mean"].gradient_activation_cu
        for m in (plain, dropping)
    )
    np.testing.assert_allclose(got, want, atol=1e-7)
    assert dropping.steadiness.notices


def test_batch_statistics_give_way_to_running_ones_and_buffers_stay(x):
    class Norm(nn.BatchNorm1d):
        def forward(self, z):
            return functional.batch_norm(
                z, self.running_mean, self.running_var, self.weight, self.bias, True, 0.1, self.eps
            )

    model = wrapped(Net(Norm(8)))
    with torch.no_grad():
        model.network.middle.running_mean.copy_(torch.linspace(-1, 1, 8))
        model.network.middle.running_var.copy_(torch.linspace(1, 2, 8))
    before = {k: v.clone() for k, v in model.network.state_dict().items()}
    got = recorded(model, x)
    for key, value in before.items():
        assert torch.equal(model.network.state_dict()[key], value), key
    plain = Net(nn.BatchNorm1d(8))
    plain.load_state_dict(before)
    with torch.no_grad():
        want = torch.cat([plain.eval()(torch.from_numpy(x[i : i + 1])) for i in range(7)])
    np.testing.assert_allclose(got, want.numpy(), atol=1e-5)
    assert "batch statistics" in model.steadiness.notices[0]


class Remembers(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("sum", torch.zeros(8))

    def forward(self, z):
        self.sum += z.mean(0)
        return z + self.sum


class DropPath(nn.Module):
    def forward(self, z):
        return z * z.new_empty(len(z), 1).bernoulli_(0.5)


@pytest.mark.parametrize(
    ("middle", "words"),
    [
        (lambda z: z + 0.1 * torch.randn_like(z), r"second run \(it calls randn_like\)"),
        (lambda z: z[:, torch.randperm(8)], r"it calls randperm"),
        (DropPath(), r"it calls bernoulli_"),
        (Remembers(), r"other images in the batch"),
        (nn.BatchNorm1d(8, track_running_stats=False), r"'middle' keeps no running statistics"),
        (lambda z: z - z.mean(0), r"other images in the batch"),
        (lambda z: z - z[:1], r"other images in the batch"),
        (lambda z: z / z.abs().max(), r"other images in the batch"),
        (lambda z: z.softmax(0), r"other images in the batch"),
        (lambda z: (z @ z.T).softmax(1) @ z, r"other images in the batch"),
        (lambda z: functional.group_norm(z.T[None], 2)[0].T, r"other images in the batch"),
    ],
)
def test_what_is_no_function_of_its_image_is_refused_by_name(middle, words, x):
    model = wrapped(Net(middle))
    assert recorded(model, x, "conv").shape == (7, 8)  # before it, all is well
    with pytest.raises(InputError, match=rf"Layer 'fc' \(Linear\) of net.*{words}") as caught:
        recorded(model, x)
    assert "\n" not in str(caught.value)


class Scaled(nn.Module):
    """Pixels through ``step``, then a convolution."""

    def __init__(self, step):
        super().__init__()
        torch.manual_seed(0)
        self.step, self.conv = step, nn.Conv2d(3, 8, 3)

    def forward(self, x):
        return self.conv(self.step(x))


@pytest.mark.parametrize("scale", [[1, 3], [3, 1], [1, 1]])
@pytest.mark.parametrize(
    "step",
    [
        lambda x: x / x.max(),
        lambda x: x - x.min(),
        lambda x: (x - x.min()) / (x.max() - x.min()),
        lambda x: x / x.abs().max(),
        lambda x: x if x.mean() > 0.5 * x.max() else 2 * x,
        lambda x: x if x.std() > 0.25 * x.max() else 2 * x,
    ],
)
def test_scaling_by_the_whole_batch_is_refused_whichever_image_decides_it(step, scale, x):
    shape = np.float32(scale)[:, None, None, None] / 3
    few = (np.clip(x[:2] / 4 + 0.5, 0, 1) * shape * 2).astype(np.float32)
    with pytest.raises(InputError, match=r"'conv'.*other images in the batch"):
        recorded(wrapped(Scaled(step)), few, "conv")


def test_branches_of_each_image_are_its_own(x):
    step = lambda x: torch.where(x.amax((1, 2, 3), keepdim=True) > 1, x, 2 * x)  # noqa: E731
    model = wrapped(Scaled(step))
    with torch.no_grad():
        want = model.network(torch.from_numpy(x)).mean((2, 3)).numpy()
    np.testing.assert_allclose(recorded(model, x, "conv"), want, atol=1e-5)


@pytest.mark.parametrize(
    "step",
    [
        lambda x: x.sub_(0.5).mul_(2),
        lambda x: x.__setitem__((slice(None), 0), 2 * x[:, 0]) or x,
        lambda x: x.relu_(),
    ],
)
def test_a_network_that_changes_its_pixels_in_place_is_given_them_whole_each_time(step, x):
    own = x[:5].copy()
    in_place, apart = wrapped(Scaled(step)), wrapped(Scaled(lambda x: step(x.clone())))
    got, want = (recorded(model, own, "conv", size=5) for model in (in_place, apart))
    np.testing.assert_allclose(got, want, atol=1e-6)
    np.testing.assert_array_equal(own, x[:5])


class Drifts(nn.Module):
    """Keeps what it has seen, in a buffer that it changes or replaces."""

    def __init__(self, step, is_replacing):
        super().__init__()
        self.step, self.is_replacing = step, is_replacing
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, z):
        if self.is_replacing:
            self.seen = self.seen + self.step
        else:
            self.seen += self.step
        return z * (1 + self.seen)


@pytest.mark.parametrize("is_replacing", [False, True])
@pytest.mark.parametrize("step", [1.0, 1e-5])
def test_buffers_that_a_pass_changes_are_put_back(step, is_replacing, x):
    """The first pass after loading is that of every image, however many went before."""
    model = wrapped(Net(Drifts(step, is_replacing)))
    with torch.no_grad():
        want = by_hand(model.network, x)
        bias = model.network.fc.bias.double().numpy()
    want = (want - bias) * (1 + step) + bias
    many = np.tile(x, (200, 1, 1, 1))
    got = recorded(model, many, size=2)
    np.testing.assert_allclose(got, np.tile(want, (200, 1)), atol=2e-5)
    assert model.steadiness.notices == [
        "Buffers that a pass changes are put back after each: middle.seen."
    ]
    assert float(model.network.middle.seen) == 0


class Count:
    n = 0


class Creeps(nn.Module):
    """Scales by a number that it keeps outside of its buffers and that grows with every pass."""

    def __init__(self, kind):
        super().__init__()
        self.kind, self.n, self.own = kind, 0, Count()
        self.mean = torch.zeros(8)
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, z):
        if self.kind == "number":
            self.n += 1
            return z * (1 + 1e-5 * self.n)
        if self.kind == "object":
            self.own.n += 1
            return z * (1 + 1e-5 * self.own.n)
        if self.kind == "mean":
            self.mean = 0.9995 * self.mean + 0.0005 * z.mean(0)
            return z - self.mean
        with torch.no_grad():
            self.scale.mul_(1 + 1e-5)
        return z * self.scale


@pytest.mark.parametrize(
    ("kind", "kept"),
    [
        ("number", r" \(it keeps middle\.n\)"),
        ("mean", r" \(it keeps middle\.mean\)"),
        ("weight", r" \(it keeps middle\.scale\)"),
        ("object", ""),
    ],
)
def test_what_creeps_from_pass_to_pass_is_refused_however_slowly(kind, kept, x):
    """Two passes differ by less than float noise may; after ten thousand, by a tenth and more."""
    model = wrapped(Net(Creeps(kind)))
    assert recorded(model, x, "conv").shape == (7, 8)
    with pytest.raises(InputError, match=rf"'fc'.* other values with every pass{kept}, by \d"):
        recorded(model, x)


def test_noise_in_the_last_digits_does_not_creep(x):
    plain, noisy = (wrapped(Net(f)) for f in (nn.Identity(), Noisy()))
    np.testing.assert_allclose(recorded(noisy, x), recorded(plain, x), atol=1e-5)


class Noisy(nn.Module):
    """Sums in another order every time, as some devices do."""

    def forward(self, z):
        return z * (1 + 1e-7 * torch.rand_like(z))


def test_a_dynamically_quantised_layer_is_named_with_its_remedy(x):
    net = torch.ao.quantization.quantize_dynamic(Net(nn.Identity()).eval(), {nn.Linear})
    with pytest.raises(InputError, match=r"'fc' is quantised dynamically, by the .* before it was"):
        recorded(wrapped(net), x)


def test_attention_over_the_batch_axis_is_refused(x):
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.patch = nn.Conv2d(3, 8, 4, 4)
            self.attention = nn.MultiheadAttention(8, 2)  # reads (tokens, images, channels)
            self.fc = nn.Linear(8, 2)

        def forward(self, x):
            t = self.patch(x).flatten(2).transpose(1, 2)
            return self.fc(self.attention(t, t, t)[0].mean(1))

    with pytest.raises(InputError, match=r"'fc'.*other images in the batch"):
        recorded(wrapped(Mixed()), x)


@pytest.mark.slow
def test_float_noise_of_a_deep_network_is_no_dependence(x):
    torch.manual_seed(0)
    blocks = [nn.Sequential(nn.Linear(512, 512), nn.LayerNorm(512), nn.GELU()) for _ in range(30)]
    network = nn.Sequential(nn.Flatten(), nn.Linear(768, 512), *blocks)
    for kind in (torch.float32, torch.bfloat16, torch.float64):
        model = wrapped(network.to(kind))
        assert recorded(model, x, "31").shape == (7, 512)
        assert not model.steadiness.notices


def test_one_image_alone_keeps_its_axis(x):
    model = wrapped(Net(lambda z: z.squeeze()))
    got = recorded(model, x, size=3)  # the last batch has one image
    np.testing.assert_allclose(got, by_hand(model.network, x), atol=1e-5)
    classes = np.arange(7) % 4
    batches = [(x[i : i + 3], classes[i : i + 3]) for i in range(0, 7, 3)]
    got, want = (
        influence(m, select_layers(m, ["conv"]), batches)["conv@mean"].gradient_activation_cu
        for m in (model, wrapped(Net(nn.Identity())))
    )
    np.testing.assert_allclose(got, want, atol=1e-7)


def test_a_layer_that_takes_large_batches_in_pieces_is_refused_with_its_shapes(x):
    class Pieces(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3)

        def forward(self, x):
            return torch.cat([self.conv(part) for part in x.split(4)]).mean((2, 3))

    with pytest.raises(InputError, match=r"'conv' gave 4x8x14x14 for a batch of 7 .* 7x8x14x14"):
        recorded(wrapped(Pieces()), x, "conv", size=7)


def test_a_layer_whose_shape_follows_the_image_is_refused(x):
    class Chosen(nn.Module):
        def __init__(self):
            super().__init__()
            self.keep = nn.Identity()

        def forward(self, x):
            pooled = x.mean((2, 3)).repeat(1, 4)
            return self.keep(pooled[:, : 6 if x.max() > 100 else 12])

    model = wrapped(Chosen())
    assert recorded(model, x, "keep").shape == (7, 12)
    with pytest.raises(InputError, match="'keep' gave 4x6 for a batch of 4 images where 4x12"):
        recorded(model, x + 1000, "keep")


def test_masked_autoencoders_see_every_patch(x):
    import transformers

    config = transformers.ViTMAEConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=16,
        patch_size=4,
    )
    torch.manual_seed(0)
    network = transformers.ViTMAEModel(config).eval()
    model = wrapped(network)
    got = recorded(model, x, "layernorm@token_mean")
    assert "Random masking of patches in embeddings" in model.steadiness.notices[0]
    # By the parts of the network, with every patch in place.
    with torch.no_grad():
        parts = network.embeddings
        t = parts.patch_embeddings(torch.from_numpy(x)) + parts.position_embeddings[:, 1:]
        cls = (parts.cls_token + parts.position_embeddings[:, :1]).expand(7, -1, -1)
        t = torch.cat([cls, t], 1)
        for layer in network.layers:
            t = layer(t)
            t = t[0] if isinstance(t, tuple) else t
        want = network.layernorm(t)[:, 1:].mean(1)
    np.testing.assert_allclose(got, want.numpy(), atol=1e-5)


def test_masking_by_an_argument_is_switched_off_too(x):
    class Masked(nn.Module):
        """As the first public masked autoencoder does it."""

        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.patch = nn.Conv2d(3, 8, 4, 4)
            self.norm = nn.LayerNorm(8)

        def random_masking(self, t, mask_ratio):
            n, length, d = t.shape
            order = torch.rand(n, length).argsort(1)[:, : int(length * (1 - mask_ratio))]
            return t.gather(1, order[..., None].expand(-1, -1, d))

        def forward(self, x, mask_ratio=0.75):
            t = self.patch(x).flatten(2).transpose(1, 2)
            return self.norm(self.random_masking(t, mask_ratio))

    model = wrapped(Masked())
    got = recorded(model, x, "norm@mean")
    with torch.no_grad():
        t = model.network.patch(torch.from_numpy(x)).flatten(2).transpose(1, 2)
        want = model.network.norm(t).mean(1)
    np.testing.assert_allclose(got, want.numpy(), atol=1e-5)


def test_the_check_runs_once_and_leaves_the_random_state_alone(x):
    model = wrapped(Net(lambda z: functional.dropout(z, 0.5)))
    torch.manual_seed(5)
    before = torch.get_rng_state()
    recorded(model, x)
    assert torch.equal(torch.get_rng_state(), before)
    calls = []
    model.network.conv.register_forward_hook(lambda *a: calls.append(1))
    taps = select_layers(model, ["fc"])
    calls.clear()
    with ActivationRecorder(model, taps) as recorder:
        recorder(x)
    assert len(calls) == 1


def test_a_build_says_what_was_switched_off(tmp_path):
    model = wrapped(Net(lambda z: functional.dropout(z, 0.5)))
    target = Target(model, tuple(select_layers(model, ["fc"])))
    request = toys.request(tmp_path, tmp_path / "b.csp", targets=(target,))
    (described,) = build(request).manifest.inputs["models"].values()
    assert described["notices"] == ["What stayed on in evaluation was switched off: dropout."]
    again = build(request)  # nothing is measured again, and it is still said
    assert again.manifest.inputs["models"]["net"] == described


# --- precision and code ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_networks_of_another_type_get_pixels_of_theirs(kind, x):
    model = wrapped(Net(nn.Identity()).to(kind))
    want = by_hand(Net(nn.Identity()), x)
    step = torch.finfo(kind).eps
    np.testing.assert_allclose(recorded(model, x), want, atol=max(1e-5, 4 * step))
    got = recorded(wrapped(Net(nn.Identity()).to(kind)), x, "conv@max")
    assert got.dtype == np.float32


def test_mixed_precision_is_another_model_with_nearly_the_same_numbers(x):
    plain = wrapped(Net(nn.Identity()))
    mixed = target_model(Net(nn.Identity()), RECIPE, name="net", precision="bfloat16")
    assert mixed.fingerprint != plain.fingerprint
    assert mixed.network.conv.weight.dtype == torch.float32
    a, b = recorded(plain, x), recorded(mixed, x)
    assert 1e-6 < np.abs(a - b).max() < 0.05
    classes = np.arange(7) % 4
    found = influence(mixed, select_layers(mixed, ["conv"]), [(x, classes)])["conv@mean"]
    assert np.isfinite(found.gradient_activation_cu).all()
    with pytest.raises(InputError, match="Precision 'int8' does not exist; choose one of float32"):
        target_model(Net(nn.Identity()), RECIPE, name="net", precision="int8")


CODE = """
import torch
from torch import nn
class Own(nn.Module):
    def __init__(self):
        super().__init__(); torch.manual_seed(0); self.conv = nn.Conv2d(3, 8, 3)
    def forward(self, x):
        return self.conv(x).{rule}()
def make():
    return Own(), {recipe}
"""


@pytest.mark.slow
def test_other_code_with_the_same_weights_is_noticed(tmp_path, monkeypatch):
    import sys

    from csp_engine.errors import StaleError
    from csp_engine.networks.models import load_model

    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def bundled(rule):
        (tmp_path / "own_net.py").write_text(CODE.format(rule=rule, recipe=RECIPE))
        sys.modules.pop("own_net", None)
        model = load_model("python:own_net:make")
        target = Target(model, tuple(select_layers(model, ["conv"])))
        return build(toys.request(tmp_path, tmp_path / "b.csp", targets=(target,)))

    first = bundled("relu")
    assert bundled("relu").manifest.inputs == first.manifest.inputs
    with pytest.raises(StaleError, match=r"code of make changed since b.csp was measured"):
        bundled("abs")
    sys.modules.pop("own_net", None)


def test_code_that_cannot_be_read_is_said():
    space = {}
    exec("from torch import nn\nclass Typed(nn.Conv2d): pass\n", space)
    space["Typed"].__module__ = "typed_into_a_console"
    model = wrapped(space["Typed"](3, 4, 1))
    assert model.code is None
    assert "cannot be read, so a change of it goes unnoticed" in model.steadiness.notices[0]
    assert not wrapped(nn.Sequential(nn.Conv2d(3, 4, 1))).steadiness.notices
