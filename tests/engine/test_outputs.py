"""Where the logits are among a network's outputs, and whose names they bear."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from csp_engine.errors import InputError
from csp_engine.networks.activations import ActivationRecorder
from csp_engine.networks.driving.influence import influence
from csp_engine.networks.intervening.pairs import PairRuns
from csp_engine.networks.layers import select_layers
from csp_engine.networks.models import read_class_names, target_model
from csp_engine.pipeline import build
from tests.worlds import toys

RECIPE = {"resize": [16, 16], "crop": None, "interpolation": "bilinear", "mean": 0.5, "std": 0.5}


@dataclasses.dataclass
class Answer:
    features: torch.Tensor
    logits: torch.Tensor


class Net(nn.Module):
    """Features of a width, a head of four classes, and ``form`` to return them in."""

    def __init__(self, form, width):
        super().__init__()
        torch.manual_seed(0)
        self.form = form
        self.conv, self.emb, self.fc = nn.Conv2d(3, 8, 3), nn.Linear(8, width), nn.Linear(width, 4)

    def forward(self, x):
        features = self.emb(self.conv(x).relu().mean((2, 3)))
        return self.form(features, self.fc(features.relu()))


FORMS = {
    "logits": lambda f, y: y,
    "logits, features": lambda f, y: (y, f),
    "features, logits": lambda f, y: (f, y),
    "list": lambda f, y: [f, y],
    "nested": lambda f, y: ((f, f.relu()), {"deep": (y,)}),
    "dict": lambda f, y: {"features": f, "logits": y},
    "dict out": lambda f, y: {"features": f, "out": y},
    "dataclass": Answer,
    "map, logits": lambda f, y: (f[:, :, None, None], y),
    "normalised features": lambda f, y: (nn.functional.normalize(f), y),
    "features twice": lambda f, y: (f, f.relu(), y),
}


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).normal(size=(6, 3, 16, 16)).astype(np.float32)


@pytest.mark.parametrize("is_named", [False, True])
@pytest.mark.parametrize("width", [4, 6])
@pytest.mark.parametrize("form", FORMS)
def test_the_logits_are_found_in_every_form(form, width, is_named, x):
    network = Net(FORMS[form], width)
    names = ["a", "b", "c", "d"] if is_named else None
    model = target_model(network, RECIPE, name="net", class_names=names)
    with torch.no_grad():
        network.form = FORMS["logits"]
        want = network(torch.from_numpy(x))
        network.form = FORMS[form]
        got = model.logits(model.run(torch.from_numpy(x)))
    assert torch.equal(got, want)
    classes = np.arange(6) % 4
    found = influence(model, select_layers(model, ["conv"]), [(x, classes)])["conv@mean"]
    plain = target_model(Net(FORMS["logits"], width), RECIPE, name="net")
    want = influence(plain, select_layers(plain, ["conv"]), [(x, classes)])["conv@mean"]
    np.testing.assert_allclose(found.gradient_activation_cu, want.gradient_activation_cu, atol=1e-7)


@pytest.mark.parametrize(
    "form",
    [
        lambda f, y: {"features": f, "embedding": y},
        lambda f, y: {"features": f},
        lambda f, y: (f[:, None], f.tanh()),
        lambda f, y: (),
    ],
)
def test_features_under_another_name_are_no_logits(form, x):
    model = target_model(Net(form, 4), RECIPE, name="net")
    assert model.logits(model.run(torch.from_numpy(x))) is None


def test_two_heads_of_which_none_is_called_logits_are_asked_about(x):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.a, self.b = nn.Conv2d(3, 8, 3), nn.Linear(8, 4), nn.Linear(8, 4)

        def forward(self, x):
            z = self.conv(x).mean((2, 3))
            return self.a(z), self.b(z)

    model = target_model(Two(), RECIPE, name="net")
    with pytest.raises(InputError, match=r"cannot be told \(0: n x 4, 1: n x 4\).*'logits'"):
        model.logits(model.run(torch.from_numpy(x)))


class Attending(nn.Module):
    """Attention over places: weights that sum to one for each image, as probabilities do."""

    def __init__(self, form):
        super().__init__()
        torch.manual_seed(0)
        self.form = form
        self.conv, self.look, self.fc = nn.Conv2d(3, 8, 3, 4), nn.Linear(8, 1), nn.Linear(8, 5)

    def forward(self, x):
        place_npc = self.conv(x).relu().flatten(2).transpose(1, 2)
        weight_np = self.look(place_npc)[..., 0].softmax(1)
        return self.form(weight_np, (weight_np[..., None] * place_npc).sum(1), self.fc)


HEADS = {
    "weights, logits": lambda w, z, fc: (w, fc(z)),
    "logits, weights": lambda w, z, fc: (fc(z), w),
    "logits by a function": lambda w, z, fc: (nn.functional.linear(z, fc.weight, fc.bias), w),
    "weights, probabilities": lambda w, z, fc: (w, fc(z).softmax(1)),
    "probabilities of each, weights": lambda w, z, fc: (fc(z).sigmoid(), w),
    "features, probabilities of each": lambda w, z, fc: (z, fc(z).sigmoid()),
    "scaled cosines, features": lambda w, z, fc: (
        20 * nn.functional.normalize(z) @ nn.functional.normalize(fc.weight).T,
        z,
    ),
}


@pytest.mark.parametrize("form", HEADS)
def test_what_leads_to_the_logits_is_not_taken_for_them(form, x):
    """Beside the same network that returns its logits alone."""
    found = {}
    for name in (form, "alone"):
        bare = {
            "scaled cosines, features": lambda w, z, fc: HEADS["scaled cosines, features"](
                w, z, fc
            )[0]
        }.get(form, lambda w, z, fc: fc(z))
        model = target_model(Attending(HEADS.get(name, bare)), RECIPE, name="net")
        layers = select_layers(model, ["conv"])
        found[name] = influence(model, layers, [(x, np.arange(6) % 5)])["conv@mean"]
    got, want = (found[name].gradient_activation_cu for name in (form, "alone"))
    assert got.shape == want.shape == (5, 8)
    np.testing.assert_allclose(got, want, atol=1e-6)


@pytest.mark.parametrize(
    "form",
    [
        lambda w, z, fc: (w.detach(), fc(z)),
        lambda w, z, fc: {"age": {"logits": fc(z)}, "sex": {"logits": fc(z)[:, :2]}},
        lambda w, z, fc: (fc(z), fc(z).sigmoid()),
        lambda w, z, fc: (lambda y: (y, 0.1 * y - 1))(fc(z)),  # a logarithm of a variance
        lambda w, z, fc: (lambda y: (y.exp(), y))(fc(z)),
        lambda w, z, fc: (lambda y: {"a": y, "b": (y, -y)}["b"])(fc(z)),
    ],
)
def test_where_two_may_be_the_logits_it_is_asked(form, x):
    model = target_model(Attending(form), RECIPE, name="net")
    with pytest.raises(InputError, match=r"cannot be told \(.*n x 5.*'logits'"):
        model.logits(model.run(torch.from_numpy(x)))


def test_of_several_heads_names_tell_the_one(x):
    form = lambda w, z, fc: {"age": {"logits": fc(z)}, "sex": {"logits": fc(z)[:, 3:]}}  # noqa: E731
    model = target_model(Attending(form), RECIPE, name="net", class_names=["f", "m"])
    given = model.run(torch.from_numpy(x))
    assert torch.equal(model.logits(given), given["sex"]["logits"])


@pytest.mark.parametrize("names", [["background", "a", "b", "c", "d"], ["a", "b", "c"]])
def test_other_numbers_of_names_than_of_outputs_are_refused(names, x):
    model = target_model(Net(FORMS["logits"], 6), RECIPE, name="net", class_names=names)
    with pytest.raises(InputError, match=f"net gives 4 outputs and has {len(names)} class names"):
        model.logits(model.run(torch.from_numpy(x)))


@pytest.mark.parametrize(
    "content",
    [
        b"akiec\nbcc\nmel\nn\xc3\xa9vus\n",
        b"\xef\xbb\xbfakiec\r\nbcc\r\nmel\r\nn\xc3\xa9vus\r\n",
        "akiec\nbcc\nmel\nnévus\n".encode("utf-16"),
        "\ufeffakiec\nbcc\nmel\nnévus".encode("utf-16-be"),
        b"background\nakiec\nbcc\nmel\nne\xcc\x81vus\n\n",
    ],
)
def test_files_of_class_names_as_editors_save_them(content, tmp_path):
    path = tmp_path / "names.txt"
    path.write_bytes(content)
    assert read_class_names(path, 4) == ("akiec", "bcc", "mel", "névus")


def test_an_empty_class_name_is_refused(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("a\n\nb\n")
    with pytest.raises(InputError, match="2 class names for 3 outputs"):
        read_class_names(path, 3)


def test_a_name_that_two_outputs_bear_means_neither(tmp_path):
    target = toys.target(["first"])
    names = ("red", "green", "blue", "red")
    model = dataclasses.replace(target.model, class_names=names)
    request = toys.request(
        tmp_path, tmp_path / "b.csp", targets=(dataclasses.replace(target, model=model),)
    )
    table = request.probe.table
    request.probe.table["class"] = table["class"].replace("grey", "green")
    with pytest.raises(InputError, match=r"Outputs 0 and 3 of small are all called 'red'"):
        build(request)
    assert not (tmp_path / "b.csp").exists()
    pixels = np.zeros((2, 3, 32, 32), np.float32)
    with pytest.raises(InputError, match="Outputs 0 and 3 of small are both called 'red'; give"):
        influence(model, target.taps, [(pixels, None)], ["red"])
    # Where no image is of such a class, nothing is in doubt.
    table["class"] = pd.Series(["green", "blue"] * 14)
    assert build(request).stage("influence:small/first@mean").facts["is_predicted_class"] is False


def by_groups(y):
    """p(group) p(class | group), of two groups of two classes."""
    group = torch.stack([y[:, :2].logsumexp(1), y[:, 2:].logsumexp(1)], 1).softmax(1)
    return torch.cat([group[:, :1] * y[:, :2].softmax(1), group[:, 1:] * y[:, 2:].softmax(1)], 1)


ENDINGS = {
    "softmax": lambda y: y.softmax(1),
    "softmax by hand": lambda y: y.exp() / y.exp().sum(1, keepdim=True),
    "softmax by groups": by_groups,
    "softmax in per cent": lambda y: 100 * y.softmax(1),
    "softmax and a little": lambda y: y.softmax(1) + 1e-8,
    "module": nn.Softmax(1),
    "log-softmax": lambda y: y.log_softmax(1),
    "sigmoid": lambda y: y.sigmoid(),
    "sigmoid module, shaped": lambda y: nn.Sigmoid()(y).squeeze().reshape(y.shape),
    "sigmoid by hand": lambda y: 1 / (1 + torch.exp(-y)),
    "sigmoid by the hyperbolic tangent": lambda y: (torch.tanh(y / 2) + 1) / 2,
    "sigmoid of each half": lambda y: torch.cat([y[:, :2].sigmoid(), y[:, 2:].sigmoid()], 1),
    "sigmoid, bounded": lambda y: y.sigmoid().clamp(1e-6, 1 - 1e-6),
    "sigmoid in double": lambda y: y.double().sigmoid(),
    "sigmoid without a gradient": lambda y: y.detach().sigmoid(),
    "log-sigmoid": nn.functional.logsigmoid,
    "log-sigmoid, undone": lambda y: nn.functional.logsigmoid(y).exp(),
}


def ending(form, outputs, of=lambda y: y):
    network = Net(lambda f, y: y, 6)
    noise = torch.randn(64, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        network.fc.weight.mul_(6)
        network.fc.bias.sub_(network(noise).median(0).values)
    network.form = lambda f, y: of(form(y[:, :outputs]))
    if outputs < 4:
        head = nn.Linear(6, outputs)
        with torch.no_grad():
            head.weight.copy_(network.fc.weight[:outputs])
            head.bias.copy_(network.fc.bias[:outputs])
        network.fc = head
    return target_model(network, RECIPE, name="net")


def told(model):
    return [each for each in model.steadiness.notices if "ends in a" in each]


def same_as_bare(ended, bare, x, rtol=1e-4):
    """The same log-odds, decisions, attributions, influence and direct weights.

    Of a sigmoid for each of several outputs, as of logits that are said to be of several labels.
    """
    found = {}
    n_outputs = bare.network.fc.out_features
    ended.logits(ended.run(torch.from_numpy(x)))
    if ended.outputs.are_apart:
        bare.network.config = SimpleNamespace(problem_type="multi_label_classification")
    for model in (bare, ended):
        runs = PairRuns(model, select_layers(model, ["conv"]), 0)
        scores, is_called = runs.scores(x)
        effects = runs.attributed(x, np.zeros_like(x))["conv"].effect_nu
        of_class = influence(
            model, select_layers(model, ["conv", "emb"]), [(x, np.arange(len(x)) % n_outputs)]
        )
        of_decided = influence(model, select_layers(model, ["conv"]), [(x, None)])["conv@mean"]
        found[model] = (
            scores,
            effects,
            *(each.gradient_activation_cu for each in of_class.values()),
            of_decided.gradient_activation_cu,
        )
        found[model, "whole"] = is_called, of_decided.n_image_c
    for got, want in zip(found[ended], found[bare], strict=True):
        np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol * np.abs(want).max())
    for got, want in zip(found[ended, "whole"], found[bare, "whole"], strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.fixture(scope="module")
def varied(x):
    """Photographs of differing contrast and brightness, whose outputs differ well."""
    contrast, brightness = (
        np.float32([0.2, 3, 0.5, 1, 2, 0.1]),
        np.float32([1, -1, 0, 0.5, -0.5, 2]),
    )
    return x * contrast[:, None, None, None] + brightness[:, None, None, None]


@pytest.mark.parametrize(
    "of",
    [
        lambda y: y,
        lambda y: (y[:, :, None], {"logits": y}),
        lambda y: {"features": y[:, :1], "probs": y},
    ],
)
@pytest.mark.parametrize(
    ("name", "outputs"),
    [*((n, 4) for n in ENDINGS), ("sigmoid", 1), ("sigmoid by hand", 1), ("softmax", 2)],
)
def test_logits_are_taken_from_before_a_networks_ending(varied, name, outputs, of):
    """Beside the same network without its ending."""
    bare, ended = ending(lambda y: y, outputs), ending(ENDINGS[name], outputs, of)
    same_as_bare(ended, bare, varied)
    assert len(told(ended)) == 1
    assert "what goes into it" in told(ended)[0]
    assert not told(bare)


@pytest.mark.parametrize(
    "of", [lambda f, p: (f[:, :, None, None], p), lambda f, p: (f, p), lambda f, p: [p, f, f]]
)
def test_probabilities_of_classes_are_found_among_features(varied, of):
    ended = ending(lambda y: y, 4)
    ended.network.form = lambda f, y: of(f, y.softmax(1))
    same_as_bare(ended, ending(lambda y: y, 4), varied)
    assert "what goes into it" in told(ended)[0]


@pytest.mark.parametrize("name", ["softmax", "sigmoid"])
def test_a_temperature_is_part_of_the_logits(varied, name):
    class Cooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.temperature = nn.Parameter(torch.tensor(2.5))

        def forward(self, y):
            return ENDINGS[name](y / self.temperature)

    bare, ended = ending(lambda y: y / 2.5, 4), ending(Cooled(), 4)
    for model in (bare, ended):
        with torch.no_grad():
            model.network.fc.weight.mul_(5)
            model.network.fc.bias.mul_(5)
    same_as_bare(ended, bare, varied)


@pytest.mark.parametrize("name", ["softmax", "sigmoid", "sigmoid by hand"])
@pytest.mark.parametrize("times", [100, 300])
def test_certainty_loses_nothing(varied, name, times):
    """Probabilities that are exactly 0 and 1 in the arithmetic of the network."""
    bare, ended = (ending(form, 4) for form in (lambda y: y, ENDINGS[name]))
    for model in (bare, ended):
        with torch.no_grad():
            model.network.fc.weight.mul_(times)
            model.network.fc.bias.mul_(times)
    given = ended.run(torch.from_numpy(varied))
    assert ((given == 0) | (given == 1)).any()
    same_as_bare(ended, bare, varied)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["softmax", "sigmoid by hand", "log-softmax", "sigmoid in double"])
def test_in_half_precision_logits_keep_the_networks_own(varied, name, kind):
    bare, ended = (ending(form, 4) for form in (lambda y: y, ENDINGS[name]))
    for model in (bare, ended):
        model.network.to(kind)
    same_as_bare(ended, bare, varied, rtol=1e-3 if kind == torch.float16 else 1e-2)


@pytest.mark.parametrize(
    "flat",
    [
        lambda y: y.flatten(),
        lambda y: y.squeeze(),
        lambda y: y.sigmoid().flatten(),
        lambda y: y.sigmoid().squeeze(),
    ],
)
def test_one_number_for_each_image_is_one_output(varied, flat):
    same_as_bare(ending(flat, 1), ending(lambda y: y, 1), varied)


PLACES = {
    "bare": lambda f, y: y[:, :, None, None],
    "called logits": lambda f, y: {"features": f[:, :, None, None], "logits": y[:, :, None, None]},
    "among features": lambda f, y: (f[:, :, None, None], y[:, :, None, None]),
}


@pytest.mark.parametrize("form", PLACES)
def test_maps_of_one_place_are_outputs(form, x):
    """As a convolution for a head gives them, with the same influence as rows have."""
    network = Net(FORMS["logits"], 6)
    plain = target_model(network, RECIPE, name="net", class_names=["a", "b", "c", "d"])
    with torch.no_grad():
        want = plain.logits(plain.run(torch.from_numpy(x)))
    classes = np.arange(6) % 4
    influenced = influence(plain, select_layers(plain, ["conv"]), [(x, classes)])["conv@mean"]
    other = target_model(Net(PLACES[form], 6), RECIPE, name="net", class_names=["a", "b", "c", "d"])
    with torch.no_grad():
        assert torch.equal(other.logits(other.run(torch.from_numpy(x))), want)
    found = influence(other, select_layers(other, ["conv"]), [(x, classes)])["conv@mean"]
    np.testing.assert_allclose(
        found.gradient_activation_cu, influenced.gradient_activation_cu, atol=1e-7
    )
    assert any("maps of one place, (" in each for each in other.steadiness.notices)


@pytest.mark.parametrize(
    ("form", "is_named"),
    [
        (lambda f, y: {"logits": y[:, 0]}, False),
        (lambda f, y: {"loss": y[:, 1], "pred": y[:, 0]}, False),
        (lambda f, y: (f[:, :, None], y[:, 0]), True),
    ],
)
def test_one_number_for_each_image_is_one_output_among_others(form, is_named, x):
    names = ["melanoma"] if is_named else None
    model = target_model(Net(form, 6), RECIPE, name="net", class_names=names)
    plain = target_model(Net(FORMS["logits"], 6), RECIPE, name="net")
    with torch.no_grad():
        want = plain.logits(plain.run(torch.from_numpy(x)))[:, :1]
        assert torch.equal(model.logits(model.run(torch.from_numpy(x))), want)


@pytest.mark.parametrize(
    "form",
    [
        lambda f, y: (f[:, :, None, None], f.tanh()[:, :, None, None]),  # features of two stages
        lambda f, y: (f[:, :, None], y.square().mean(1)),  # and a loss of each image
        lambda f, y: y[:, :, None, None].expand(-1, -1, 2, 2),  # a map of two places
    ],
)
def test_what_may_be_features_or_losses_is_no_output(form, x):
    model = target_model(Net(form, 4), RECIPE, name="net")
    assert model.logits(model.run(torch.from_numpy(x))) is None


def test_without_a_layer_that_gives_them_logits_are_taken_back(varied):
    """Platt's scaling adds a number, so that no layer gives what goes into the sigmoid."""
    ended = ending(lambda y: (0.8 * y + 0.3).sigmoid(), 4)
    same_as_bare(ended, ending(lambda y: 0.8 * y + 0.3, 4), varied, rtol=1e-3)
    assert "taken back" in told(ended)[0]
    with torch.no_grad():
        ended.network.fc.weight.mul_(3000)
    with pytest.raises(InputError, match="so near to certain that its logit is lost"):
        ended.logits(ended.run(torch.from_numpy(varied)))


def test_influence_on_a_logarithm_is_called_that(varied):
    """Two columns of one sigmoid: probabilities of which no layer gives two logits."""
    ended = ending(lambda y: torch.cat([1 - y.sigmoid(), y.sigmoid()], 1), 1)
    logits = ended.logits(ended.run(torch.from_numpy(varied)))
    expected = ending(lambda y: y, 1).run(torch.from_numpy(varied))[:, 0]
    np.testing.assert_allclose(
        *((z).detach() for z in (logits[:, 1] - logits[:, 0], expected)), 1e-3
    )
    assert told(ended)[0].endswith("Influence is that on the logarithm of a class's probability.")


def test_what_may_be_probabilities_is_said(varied):
    ended = ending(nn.functional.hardsigmoid, 4)
    given = ended.run(torch.from_numpy(varied))
    assert torch.equal(ended.logits(given), given)
    assert any("between 0 and 1. It is taken for logits; if" in n for n in ended.steadiness.notices)


def test_a_layer_that_is_changed_changes_the_logits_that_it_gives(varied):
    """Replacing what a head gives, by hooks that begin before the pass."""
    ended = ending(ENDINGS["softmax"], 4)
    x = torch.from_numpy(varied)
    plain = ended.logits(ended.run(x))
    handle = ended.network.fc.register_forward_hook(lambda m, a, y: y + torch.eye(6, 4))
    np.testing.assert_allclose(
        (ended.logits(ended.run(x)) - plain).detach(), np.eye(6, 4), atol=1e-6
    )
    handle.remove()
    # What is changed behind it, is taken back from what the network returns.
    module = ending(nn.Softmax(1), 4)
    module.logits(module.run(x))
    shares = torch.full((6, 4), 0.25)
    module.network.form = lambda f, y: shares
    assert torch.equal(module.logits(module.run(x)), shares.log())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("sigmoid", "ends in a sigmoid; what goes into it is taken"),
        ("by a line", "between 0 and 1. It is taken for logits; if"),
    ],
)
def test_what_is_found_of_outputs_as_they_are_driven_is_in_the_bundle(tmp_path, name, said):
    """Without names of classes nobody looks at the outputs before."""
    network = toys.lively()
    network.head = nn.Sequential(
        network.head, {"sigmoid": nn.Sigmoid(), "by a line": nn.Hardsigmoid()}[name]
    )
    model = target_model(network, toys.PREPROCESSING, name="small")
    target = dataclasses.replace(toys.target(["first"]), model=model)
    target = dataclasses.replace(target, taps=tuple(select_layers(model, ["first"])))
    request = toys.request(tmp_path, tmp_path / "b.csp", targets=(target,), outputs=("0",))
    bundle = build(request)
    (notice,) = bundle.manifest.inputs["models"]["small"]["notices"]
    assert said in notice
    # A build that finds all of it made already keeps what was said.
    assert build(request).manifest.inputs["models"]["small"]["notices"] == [notice]


@pytest.mark.parametrize("outputs", [1, 4])
@pytest.mark.parametrize("times", [1e-9, 0.001, 0.02])
def test_logits_that_lie_between_zero_and_one_are_logits(varied, times, outputs):
    model = ending(lambda y: y * times + 0.5, outputs)
    given = model.run(torch.from_numpy(varied))
    assert ((given > 0) & (given < 1)).all()
    assert torch.equal(model.logits(given), given)


def test_a_first_image_without_an_answer_decides_nothing(x):
    model = ending(ENDINGS["sigmoid"], 1)
    lost = x.copy()
    lost[1] = np.nan
    for pixels in (lost[1:2], lost):
        with torch.inference_mode():
            found = model.logits(model.run(torch.from_numpy(pixels)))
    bare = ending(lambda y: y, 1)
    expected = bare.run(torch.from_numpy(x)).detach()
    np.testing.assert_allclose(np.delete(found, 1, 0), np.delete(expected, 1, 0), rtol=1e-4)
    assert found[1].isnan()


def test_shares_for_some_images_only_are_refused(x):
    model = ending(lambda y: torch.where(y[:, :1] > y[0, 0], y, y.softmax(1)), 4)
    model.logits(model.run(torch.from_numpy(x[:1])))
    with pytest.raises(InputError, match="for some images"):
        model.logits(model.run(torch.from_numpy(np.concatenate([x, 9 * x]))))


def test_who_listens_hears_nothing_of_the_trial(x):
    model = ending(ENDINGS["sigmoid"], 1)
    with ActivationRecorder(model, select_layers(model, ["conv"]), keep_logits=True) as recorder:
        found = recorder(x)["conv@mean"]
        logits = np.asarray(recorder.logits)
    direct = model.network.conv(torch.from_numpy(x)).mean((2, 3)).detach().numpy()
    np.testing.assert_allclose(found, direct, atol=1e-6)
    assert logits.min() < 0 or logits.max() > 1
