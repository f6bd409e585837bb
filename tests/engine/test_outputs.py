"""Where the logits are among a network's outputs, and whose names they bear."""

from __future__ import annotations

import dataclasses

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


ENDINGS = {
    "softmax": lambda y: y.softmax(1),
    "softmax by hand": lambda y: y.exp() / y.exp().sum(1, keepdim=True),
    "module": nn.Softmax(1),
    "sigmoid": lambda y: y.sigmoid(),
    "sigmoid module, shaped": lambda y: nn.Sigmoid()(y).squeeze().reshape(y.shape),
}


def ending(form, outputs, of=lambda y: y):
    network = Net(lambda f, y: y, 6)
    noise = torch.randn(64, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        network.fc.weight.mul_(6)
        network.fc.bias.sub_(network(noise).median(0).values)
    network.form = lambda f, y: of(form(y[:, :outputs]))
    return target_model(network, RECIPE, name="net")


@pytest.mark.parametrize("of", [lambda y: y, lambda y: (y[:, :, None], {"logits": y})])
@pytest.mark.parametrize(("name", "outputs"), [*((n, 4) for n in ENDINGS), ("sigmoid", 1)])
def test_logits_are_taken_back_from_probabilities(x, name, outputs, of):
    """Beside the same network without its ending: the same log-odds, decisions and gradients."""
    bare, ended = ending(lambda y: y, outputs), ending(ENDINGS[name], outputs, of)
    found = {}
    for model in (bare, ended):
        runs = PairRuns(model, select_layers(model, ["conv"]), 0)
        scores, is_called = runs.scores(x)
        effects = runs.attributed(x, np.zeros_like(x))["conv"].effect_nu
        found[model] = scores, is_called, effects
    np.testing.assert_allclose(found[ended][0], found[bare][0], rtol=1e-4, atol=1e-5)
    assert 0 < found[bare][1].sum() < len(x) or outputs > 1
    np.testing.assert_array_equal(found[ended][1], found[bare][1])
    np.testing.assert_allclose(found[ended][2], found[bare][2], rtol=1e-3, atol=1e-5)
    assert any("ends in a s" in each for each in ended.steadiness.notices)
    assert not any("ends in" in each for each in bare.steadiness.notices)


def test_logits_that_lie_between_zero_and_one_are_logits(x):
    model = ending(lambda y: y * 0.001 + 0.5, 1)
    given = model.run(torch.from_numpy(x))
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
