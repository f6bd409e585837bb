"""Gradient times activation where it is known, and direct weights only where they are real."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from csp_engine.errors import InputError
from csp_engine.networks.driving.influence import influence
from csp_engine.networks.layers import select_layers
from csp_engine.networks.models import target_model

RECIPE = {"resize": [6, 6], "crop": None, "interpolation": "bilinear", "mean": 0.5, "std": 0.5}


class Net(nn.Module):
    """Branches, an in-place ReLU after each tapped layer, a smooth middle, a linear head."""

    def __init__(self, bias=True):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.left = nn.Conv2d(4, 5, 1)
        self.right = nn.Conv2d(3, 5, 1)
        self.relu2 = nn.ReLU(inplace=True)
        self.act = nn.Tanh()
        self.fc = nn.Linear(5, 3, bias=bias)

    def tail(self, joined):
        return self.fc(self.act(self.relu2(joined)).mean((2, 3)))

    def forward(self, x):
        return self.tail(self.left(self.relu(self.conv(x))) + self.right(x))


@pytest.fixture
def pixels():
    return np.random.default_rng(0).normal(size=(9, 3, 6, 6)).astype(np.float32)


CLASSES = np.array([0, 1, 2, 0, 0, 1, 2, 2, 0])


def wrapped(network, names=None):
    return target_model(network, RECIPE, name="net", class_names=names)


def test_bias_free_head_units_add_up_to_the_mean_logit(pixels):
    model = wrapped(Net(bias=False))
    taps = select_layers(model, ["act@mean", "act@max"])
    result = influence(model, taps, [(pixels[:5], CLASSES[:5]), (pixels[5:], CLASSES[5:])])
    with torch.no_grad():
        logits = model.network(torch.from_numpy(pixels)).numpy()
    for c in range(3):
        expected = logits[c == CLASSES, c].mean()
        for layer in ("act@mean", "act@max"):
            given = result[layer].gradient_activation_cu[c].sum()
            np.testing.assert_allclose(given, expected, rtol=1e-4)
    np.testing.assert_array_equal(result["act@mean"].n_image_c, [4, 2, 3])
    assert result["act@mean"].gradient_activation_cu.dtype == np.float32
    assert result["act@mean"].output_names == ("0", "1", "2")
    assert result["act@mean"].is_predicted is False


def test_a_linear_network_has_its_product_of_weights_as_influence():
    class Linear(nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden, self.fc = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
            self.hidden.weight.data = torch.tensor([[1.0, 2.0], [0.0, -1.0]])
            self.fc.weight.data = torch.tensor([[3.0, 1.0], [-1.0, 2.0]])

        def forward(self, x):
            return self.fc(self.hidden(x[:, :2, 0, 0]))

    model = wrapped(Linear())
    x = np.zeros((3, 3, 6, 6), np.float32)
    x[:, :2, 0, 0] = [[1, 1], [2, 0], [0, 3]]  # hidden: (3, -1), (2, 0), (6, -3)
    taps = select_layers(model, ["hidden"])
    result = influence(model, taps, [(x, np.array([0, 0, 1]))])["hidden@none"]
    np.testing.assert_allclose(
        result.gradient_activation_cu, [[3 * 2.5, 1 * -0.5], [-1 * 6, 2 * -3]], rtol=1e-6
    )
    np.testing.assert_array_equal(result.direct_weight_cu, [[3, 1], [-1, 2]])


def test_several_taps_in_one_pass_each_get_their_own_finite_differences(pixels):
    network = Net().double()
    alone = {}
    reference = Net().double().eval()
    paths = ["conv", "left", "right"]  # upstream, downstream of it, and a parallel branch
    x = torch.from_numpy(pixels).double()
    kept: dict[str, torch.Tensor] = {}
    moved: dict[str, torch.Tensor] = {}

    def hook_for(path):
        def hook(module, args, output):
            if path in moved:
                return output + moved[path]
            kept[path] = output.detach().clone()
            return None

        return hook

    for path in paths:
        getattr(reference, path).register_forward_hook(hook_for(path))
    with torch.no_grad():
        reference(x)
        for path in paths:
            act = kept[path]
            n_units = act.shape[1]
            product_nu = np.zeros((len(x), n_units))
            for u in range(n_units):
                # Along the activation itself the derivative is sum over positions of g * a.
                logits = []
                for step in (1e-5, -1e-5):
                    change = torch.zeros_like(act)
                    change[:, u] = step * act[:, u]
                    moved.clear()
                    moved[path] = change
                    logits.append(reference(x).numpy())
                moved.clear()
                slope = (logits[0] - logits[1]) / 2e-5
                product_nu[:, u] = slope[np.arange(len(x)), CLASSES]
            alone[path] = np.stack([product_nu[c == CLASSES].mean(0) for c in range(3)])

    class Cast(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = network

        def forward(self, x):
            return self.body(x.double())

    model = wrapped(Cast())
    taps = select_layers(model, [f"body.{path}" for path in paths])
    result = influence(model, taps, [(pixels, CLASSES)])
    for path in paths:
        np.testing.assert_allclose(
            result[f"body.{path}@mean"].gradient_activation_cu, alone[path], atol=1e-5, rtol=1e-4
        )


class Keeping(Net):
    """Keeps a tensor that its first pass made: as an attribute, as a weight, or in a list."""

    def __init__(self, how):
        super().__init__()
        self.how, self.kept, self.more = how, None, []

    def forward(self, x):
        if self.how == "cast" and not self.more:
            self.more.append(True)
            self.fc.weight = nn.Parameter(self.fc.weight.double().float())
        if self.how == "attribute" and self.kept is None:
            self.kept = self.left.weight * 1.0
        if self.how == "list" and not self.more:
            self.more.append(self.left.weight * 1.0)
        weight = self.more[0] if self.how == "list" else self.kept
        weight = self.left.weight if weight is None else weight
        left = nn.functional.conv2d(self.relu(self.conv(x)), weight, self.left.bias)
        return self.tail(left + self.right(x))


@pytest.mark.parametrize("how", ["cast", "attribute"])
def test_what_a_network_kept_of_a_pass_before_bars_no_gradient(pixels, how):
    taps = ["conv@mean", "act@mean"]
    plain, keeping = wrapped(Net()), wrapped(Keeping(how))
    want = influence(plain, select_layers(plain, taps), [(pixels, CLASSES)])
    found = influence(keeping, select_layers(keeping, taps), [(pixels, CLASSES)])
    for layer in taps:
        np.testing.assert_allclose(
            found[layer].gradient_activation_cu, want[layer].gradient_activation_cu, atol=1e-7
        )


def test_a_tensor_kept_where_none_looks_is_one_sentence(pixels):
    model = wrapped(Keeping("list"))
    with pytest.raises(InputError, match="net goes on with a tensor that it kept from an earlier"):
        influence(model, select_layers(model, ["conv@mean"]), [(pixels, CLASSES)])


def test_parameters_hooks_and_batches_leave_no_trace(pixels):
    model = wrapped(Net())
    taps = select_layers(model, ["conv", "act"])
    with torch.inference_mode():  # even when the caller forbids gradients
        influence(model, taps, [(pixels, CLASSES)])
    assert all(p.grad is None and not p.requires_grad for p in model.network.parameters())
    assert not any(m._forward_hooks for m in model.network.modules())


def test_the_order_and_size_of_batches_do_not_matter(pixels):
    model = wrapped(Net())
    taps = select_layers(model, ["conv"])
    whole = influence(model, taps, [(pixels, CLASSES)])["conv@mean"]
    order = np.array([8, 3, 1, 0, 2, 7, 4, 6, 5])
    parts = [(pixels[order[i : i + 4]], CLASSES[order[i : i + 4]]) for i in range(0, 9, 4)]
    split = influence(model, taps, parts)["conv@mean"]
    np.testing.assert_allclose(
        split.gradient_activation_cu, whole.gradient_activation_cu, atol=1e-6
    )
    np.testing.assert_array_equal(split.n_image_c, whole.n_image_c)


def test_without_classes_the_predicted_ones_count_and_it_says_so(pixels):
    model = wrapped(Net())
    taps = select_layers(model, ["act"])
    with torch.no_grad():
        predicted = model.network(torch.from_numpy(pixels)).argmax(1).numpy()
    free = influence(model, taps, [(pixels, None)])["act@mean"]
    told = influence(model, taps, [(pixels, predicted)])["act@mean"]
    np.testing.assert_array_equal(free.gradient_activation_cu, told.gradient_activation_cu)
    assert (free.is_predicted, told.is_predicted) == (True, False)


def test_chosen_outputs_by_name_or_number(pixels):
    model = wrapped(Net(), names=["cat", "dog", "owl"])
    taps = select_layers(model, ["act"])
    whole = influence(model, taps, [(pixels, CLASSES)])["act@mean"]
    some = influence(model, taps, [(pixels, CLASSES)], outputs=["owl", 0])["act@mean"]
    assert some.output_names == ("owl", "cat")
    np.testing.assert_array_equal(some.n_image_c, [3, 4])
    np.testing.assert_allclose(
        some.gradient_activation_cu, whole.gradient_activation_cu[[2, 0]], rtol=1e-6
    )
    np.testing.assert_array_equal(some.direct_weight_cu, whole.direct_weight_cu[[2, 0]])
    one = influence(model, taps, [(pixels, None)], outputs=["dog"])["act@mean"]
    assert one.n_image_c.tolist() == [9]  # the only choice takes every image


def test_an_output_no_image_belongs_to_is_zero_with_count_zero(pixels):
    model = wrapped(Net())
    result = influence(model, select_layers(model, ["act"]), [(pixels, CLASSES * 0)])["act@mean"]
    np.testing.assert_array_equal(result.n_image_c, [9, 0, 0])
    assert not result.gradient_activation_cu[1:].any()


def test_direct_weights_need_agreement_in_numbers_not_in_shapes(pixels):
    model = wrapped(Net())
    patterns = ["act@mean", "act@max", "left@mean", "relu2@mean", "conv@mean", "fc"]
    result = influence(model, select_layers(model, patterns), [(pixels, CLASSES)])
    weight = model.network.fc.weight.numpy()
    np.testing.assert_array_equal(result["act@mean"].direct_weight_cu, weight)
    for layer in ("act@max", "left@mean", "relu2@mean", "conv@mean", "fc@none"):
        assert result[layer].direct_weight_cu is None


def test_silent_units_prove_nothing_about_the_head():
    network = Net()
    with torch.no_grad():
        for layer in (network.left, network.right):
            layer.weight.zero_()
            layer.bias.fill_(-1.0)
    model = wrapped(network)
    x = np.ones((2, 3, 6, 6), np.float32)
    result = influence(model, select_layers(model, ["act"]), [(x, None)])["act@mean"]
    assert result.direct_weight_cu is None


def test_a_layer_beside_the_path_to_the_logits_has_no_influence(pixels):
    class Side(Net):
        def __init__(self):
            super().__init__()
            self.side = nn.Conv2d(3, 2, 1)

        def forward(self, x):
            self.side(x)
            return super().forward(x)

    model = wrapped(Side())
    result = influence(model, select_layers(model, ["side", "act"]), [(pixels, CLASSES)])
    assert not result["side@mean"].gradient_activation_cu.any()
    assert result["act@mean"].gradient_activation_cu.any()
    only = influence(model, select_layers(model, ["side"]), [(pixels, CLASSES)])
    assert not only["side@mean"].gradient_activation_cu.any()


class NoGradient(nn.Module):
    """A frozen body, as fine-tuning recipes write it."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3)
        self.beside = nn.Conv2d(3, 4, 3)
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        with torch.no_grad():
            feature = self.conv(x).relu().mean((2, 3))
        self.beside(x)
        return self.fc(feature)


@pytest.mark.parametrize("n", [1, 9])
def test_a_layer_that_no_gradient_reaches_has_unknown_influence_and_not_none(pixels, caplog, n):
    model = wrapped(NoGradient())
    taps = select_layers(model, ["conv@mean", "beside@mean", "fc"])
    result = influence(model, taps, [(pixels[:n], CLASSES[:n])])
    assert set(result) == {"beside@mean", "fc@none"}
    assert not result["beside@mean"].gradient_activation_cu.any()
    assert "no influence for conv@mean: the outputs depend on it" in caplog.text


def test_autoencoder_latents_are_left_out(pixels, tmp_path, caplog):
    model = wrapped(Net())
    save_file({"W_enc": torch.randn(4, 6)}, tmp_path / "s.safetensors")
    taps = select_layers(model, ["conv"], saes={"conv": tmp_path / "s.safetensors"})
    assert list(influence(model, taps, [(pixels, CLASSES)])) == ["conv@mean"]
    assert "no influence for conv+s@mean" in caplog.text
    assert influence(model, taps[1:], [(pixels, CLASSES)]) == {}


def test_token_layers_of_transformers_whose_blocks_give_tuples(pixels):
    import transformers

    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=6,
        patch_size=3,
        num_labels=3,
    )
    model = wrapped(transformers.ViTForImageClassification(config))
    head, block = "vit.layernorm@cls", "vit.layers.0@token_mean"
    taps = select_layers(model, [head, block, "vit.layers.0.attention", "vit@cls"])
    result = influence(model, taps, [(pixels, CLASSES)])
    weight = model.network.classifier.weight.numpy()
    np.testing.assert_array_equal(result[head].direct_weight_cu, weight)
    assert result[block].direct_weight_cu is None
    with torch.no_grad():
        logits = model.network(torch.from_numpy(pixels)).logits.numpy()
    bias = model.network.classifier.bias.numpy()
    for c in range(3):
        expected = (logits[c == CLASSES, c] - bias[c]).mean()
        for layer in (head, "vit@cls"):
            np.testing.assert_allclose(
                result[layer].gradient_activation_cu[c].sum(), expected, atol=1e-5
            )
    assert result["vit.layers.0.attention@cls"].gradient_activation_cu.any()


def test_bad_input_is_one_sentence(pixels):
    model = wrapped(Net(), names=["cat", "dog", "owl"])
    taps = select_layers(model, ["act"])
    with pytest.raises(InputError, match="no output called 'bat'"):
        influence(model, taps, [(pixels, CLASSES)], outputs=["bat"])
    with pytest.raises(InputError, match="no output 3; it has 0 to 2"):
        influence(model, taps, [(pixels, CLASSES)], outputs=[3])
    with pytest.raises(InputError, match="name one twice"):
        influence(model, taps, [(pixels, CLASSES)], outputs=[1, "dog"])
    with pytest.raises(InputError, match="no output 5; it has 0 to 2"):
        influence(model, taps, [(pixels, CLASSES + 5)])
    with pytest.raises(InputError, match="no output -1"):
        influence(model, taps, [(pixels, CLASSES - 1)])
    with pytest.raises(InputError, match="one whole number per image"):
        influence(model, taps, [(pixels, CLASSES[:3])])
    with pytest.raises(InputError, match="classes for all or for none"):
        influence(model, taps, [(pixels, CLASSES), (pixels, None)])
    with pytest.raises(InputError, match="at least one batch"):
        influence(model, taps, [])
    bare = wrapped(nn.Sequential(nn.Conv2d(3, 4, 1)))
    with pytest.raises(InputError, match="not a classifier"):
        influence(bare, select_layers(bare, ["0"]), [(pixels, None)])
