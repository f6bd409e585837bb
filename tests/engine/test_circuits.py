"""Which neurons feed which: equal to what follows from weights and from finite differences."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from csp_engine import pipeline
from csp_engine.bundle import Bundle, verify
from csp_engine.errors import BundleError, InputError
from csp_engine.networks.driving.circuits import circuits
from csp_engine.networks.layers import select_layers
from csp_engine.networks.models import target_model
from csp_engine.pipeline.passing.image_pass import Target
from csp_engine.types import NeuronRef
from csp_engine.views.neuron.circuit import circuit, outputs_of
from csp_engine.views.neuron.influence import driven_outputs
from tests.engine.test_cli import run
from tests.worlds import damage, toys

RECIPE = {"resize": [6, 6], "crop": None, "interpolation": "bilinear", "mean": 0.5, "std": 0.5}
CLASSES = np.array([0, 1, 0, 0, 1, 1, 0])


class Net(nn.Module):
    """Two smooth convolutions in a row, a branch beside the second, a head on both."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.first = nn.Conv2d(3, 4, 3)
        self.relu = nn.ReLU(inplace=True)
        self.second = nn.Conv2d(4, 5, 2)
        self.act = nn.Tanh()
        self.beside = nn.Conv2d(3, 5, 4)
        self.fc = nn.Linear(5, 2)

    def tail(self, joined):
        return self.fc(self.act(joined).mean((2, 3)))

    def forward(self, x):
        return self.tail(self.second(self.relu(self.first(x))) + self.beside(x))


@pytest.fixture
def pixels():
    return np.random.default_rng(0).normal(size=(7, 3, 6, 6)).astype(np.float32)


def wrapped(network):
    return target_model(network.eval(), RECIPE, name="net", class_names=["no", "yes"])


def test_linear_layers_feed_by_their_weights():
    class Linear(nn.Module):
        def __init__(self):
            super().__init__()
            self.low, self.high = nn.Linear(2, 2, bias=False), nn.Linear(2, 3, bias=False)
            self.fc = nn.Linear(3, 2, bias=False)
            self.low.weight.data = torch.tensor([[1.0, 2.0], [0.0, -1.0]])
            self.high.weight.data = torch.tensor([[3.0, 1.0], [-1.0, 2.0], [0.5, 0.0]])

        def forward(self, x):
            return self.fc(self.high(self.low(x[:, :2, 0, 0])))

    model = wrapped(Linear())
    x = np.zeros((3, 3, 6, 6), np.float32)
    x[:, :2, 0, 0] = [[1, 1], [2, 0], [0, 3]]  # low: (3, -1), (2, 0), (6, -3)
    taps = select_layers(model, ["high", "low"])  # the order is that of the network
    units = {"low@none": np.array([[0, 1], [1, 0]]), "high@none": np.array([[0, 2], [1, 0]])}
    measured = circuits(model, taps, [(x, np.array([0, 0, 1]))], units)
    (found,) = measured.pairs
    assert (found.source, found.target) == ("low@none", "high@none")
    np.testing.assert_allclose(
        found.effect_cji,
        [[[3 * 2.5, 1 * -0.5], [0.5 * 2.5, 0]], [[2 * -3, -1 * 6], [1 * -3, 3 * 6]]],
        rtol=1e-6,
    )
    np.testing.assert_array_equal(measured.n_image_c, [2, 1])
    assert measured.layers == ("low@none", "high@none")


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_effects_are_those_of_finite_differences(pixels, pooling):
    model = wrapped(Net())
    taps = select_layers(model, ["first@mean", f"second@{pooling}"])
    units = {
        "first@mean": np.array([[2, 0], [1, 3]]),
        f"second@{pooling}": np.array([[4, 1, 0], [0, 2, 3]]),
    }
    batches = [(pixels[:4], CLASSES[:4]), (pixels[4:], CLASSES[4:])]
    (found,) = circuits(model, taps, batches, units).pairs
    network, x = Net().double().eval(), torch.from_numpy(pixels).double()
    with torch.no_grad():
        first = network.first(x)
        wanted = np.zeros((2, 3, 2))
        for c in range(2):
            for i, unit in enumerate(units["first@mean"][c]):
                ends = []
                for step in (1e-6, -1e-6):  # along the activation itself
                    moved = first.clone()
                    moved[:, unit] *= 1 + step
                    second = network.second(torch.relu(moved)).flatten(2)
                    ends.append(second.mean(-1) if pooling == "mean" else second.amax(-1))
                slope_nu = ((ends[0] - ends[1]) / 2e-6).numpy()
                wanted[c, :, i] = slope_nu[c == CLASSES][:, units[f"second@{pooling}"][c]].mean(0)
    np.testing.assert_allclose(found.effect_cji, wanted, rtol=2e-4, atol=1e-6)


def test_branches_feed_what_comes_after_and_not_one_another(pixels):
    model = wrapped(Net())
    taps = select_layers(model, ["second", "beside", "act", "first"])
    units = {str(tap.id): np.array([[0, 1], [1, 2]]) for tap in taps}
    found = circuits(model, taps, [(pixels, CLASSES)], units)
    assert [(each.source, each.target) for each in found.pairs] == [
        ("first@mean", "second@mean"),
        ("second@mean", "act@mean"),
        ("beside@mean", "act@mean"),
    ]
    # The tangent of a sum is flat in the same way from either side, for the unit itself alone.
    network, x = Net().eval(), torch.from_numpy(pixels)
    with torch.no_grad():
        sides = {"second": network.second(network.relu(network.first(x)))}
        sides["beside"] = network.beside(x)
        slope = 1 - torch.tanh(sides["second"] + sides["beside"]) ** 2
        for name, side in sides.items():
            own_nu = (side * slope).mean((2, 3)).numpy()
            (pair,) = [each for each in found.pairs if each.source == f"{name}@mean"]
            for c, chosen in enumerate(units["act@mean"]):
                wanted = np.diag(own_nu[c == CLASSES][:, chosen].mean(0))
                np.testing.assert_allclose(pair.effect_cji[c], wanted, rtol=1e-4, atol=1e-7)


def test_what_runs_between_and_leads_nowhere_cuts_no_way(pixels):
    class Aside(Net):
        def forward(self, x):
            first = self.relu(self.first(x))
            self.beside(x)  # runs, and nothing uses it
            return self.fc(self.act(self.second(first)).mean((2, 3)))

    model = wrapped(Aside())
    taps = select_layers(model, ["first", "beside", "second"])
    units = {str(tap.id): np.array([[0], [1]]) for tap in taps}
    found = circuits(model, taps, [(pixels, CLASSES)], units)
    assert [(each.source, each.target) for each in found.pairs] == [("first@mean", "second@mean")]


def test_one_image_at_a_time_gives_the_same(pixels):
    model = wrapped(Net())
    taps = select_layers(model, ["first", "act"])
    units = {str(tap.id): np.array([[0, 1, 2], [3, 1, 0]]) for tap in taps}
    (whole,) = circuits(model, taps, [(pixels, CLASSES)], units).pairs
    batches = [(pixels[i : i + 1], CLASSES[i : i + 1]) for i in range(7)]
    (singly,) = circuits(model, taps, batches, units).pairs
    np.testing.assert_allclose(whole.effect_cji, singly.effect_cji, rtol=1e-5, atol=1e-7)


def test_no_batch_is_refused():
    model = wrapped(Net())
    with pytest.raises(InputError, match="at least one batch"):
        circuits(model, select_layers(model, ["first", "act"]), [], {})


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("circuits")
    targets = (toys.target(["second", "first", "last"]),)
    asked = toys.request(folder, folder / "a.csp", targets=targets, n_circuit_images=20)
    return pipeline.build(asked)


def test_a_built_circuit_is_what_gradients_say(built):
    network = toys.network().eval()
    model = toys.target(["first"]).model
    probe = built.table("probe", "probe")
    found = circuit(built, "small", "red", "csp")
    rows = np.random.default_rng(toys.SMALL.seed).permutation(len(probe))
    classes = probe["class"].to_numpy()
    turn = pd.Series(classes[rows]).groupby(classes[rows]).cumcount().to_numpy()
    rows = np.sort(rows[np.argsort(turn, kind="stable")][:20])
    rows = rows[classes[rows] == "red"]
    assert found.n_images == len(rows) == 5
    pixels = [model.preprocess(Image.open(built.path.parent / "images" / probe["file"][i]))
              for i in rows]  # fmt: skip
    first = network.first(torch.tensor(np.stack(pixels))).detach().requires_grad_()
    second = network.second(torch.relu(first))
    for node in found.nodes:
        if node.neuron.layer != "second@mean":
            continue
        (slope,) = torch.autograd.grad(
            second[:, node.neuron.unit].mean((1, 2)).sum(), first, retain_graph=True
        )
        effect_u = (first * slope).sum((2, 3)).mean(0).detach().numpy()
        assert len(node.fed_by) == 5
        for each in node.fed_by:
            source = found.nodes[each.node].neuron
            assert source.layer == "first@mean"
            assert each.effect == pytest.approx(effect_u[source.unit], rel=1e-3, abs=1e-6)
    assert [layer for layer, _ in found.layers] == ["last@mean", "second@mean", "first@mean"]
    influence = built.influence("small", "last@mean")
    red = influence.output_names.index("red")
    for place in found.layers[0][1]:
        node = found.nodes[place]
        assert node.effect == influence.gradient_activation_cu[red, node.neuron.unit]
    assert verify(Bundle.open(built.path)) == []


class Branched(nn.Module):
    """A stem and two branches that only meet in the head, as in an Inception block."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(2)
        self.stem = nn.Conv2d(3, 4, 3)
        self.left, self.right = nn.Conv2d(4, 3, 1), nn.Conv2d(4, 3, 3)
        self.fc = nn.Linear(6, len(toys.COLOURS))

    def forward(self, x):
        stem = torch.relu(self.stem(x))
        sides = [torch.relu(side(stem)).mean((2, 3)) for side in (self.left, self.right)]
        return self.fc(torch.cat(sides, 1))


@pytest.mark.slow
def test_outputs_of_one_name_are_told_apart(tmp_path, capsys):
    """ImageNet has two cranes, the bird and the machine."""
    of = toys.target(("first", "second"), factory="lively")
    model = replace(of.model, class_names=("crane", "green", "crane", "red"))
    target = Target(model, tuple(select_layers(model, ["first", "second"])))
    request = toys.request(tmp_path, tmp_path / "b.csp", targets=(target,), n_circuit_images=28)
    bundle = pipeline.build(replace(request, n_influence_images=28))
    stored = bundle.circuit("small")
    shown = outputs_of(bundle, "small")
    names = {0: "crane (1 of 2)", 1: "green", 2: "crane (2 of 2)", 3: "red"}
    assert {0, 2} <= set(stored.nodes["output"])
    assert set(shown) == {names[c] for c in set(stored.nodes["output"])}
    for at in (0, 2):
        own = stored.nodes[stored.nodes["output"] == at]
        found = circuit(bundle, "small", names[at], "csp")
        wanted = sorted(zip(own["unit"], own["effect"], strict=True))
        assert sorted((each.neuron.unit, each.effect) for each in found.nodes) == wanted
    assert circuit(bundle, "small", "crane", "csp") is None
    for unit in range(8):
        driven = driven_outputs(bundle, NeuronRef("small", "first@mean", unit))
        held = np.asarray(bundle.influence("small", "first@mean").gradient_activation_cu)[:, unit]
        assert {each.name: each.effect for each in driven}.items() <= {
            names[c]: float(held[c]) for c in names
        }.items()
    code, said, _ = run(capsys, "circuit", bundle.path, "--output", "crane (2 of 2)")
    assert code == 0
    assert said.startswith("crane (2 of 2) of small")


def test_branches_at_the_end_all_go_on_to_the_output(tmp_path, capsys):
    names = sorted(toys.COLOURS)
    model = target_model(Branched().eval(), toys.PREPROCESSING, name="branched", class_names=names)
    targets = (Target(model, tuple(select_layers(model, ["right", "stem", "left"]))),)
    asked = toys.request(tmp_path, tmp_path / "a.csp", targets=targets, n_circuit_images=20)
    bundle = pipeline.build(asked)
    found = circuit(bundle, "branched", "red", "csp")
    assert [layer for layer, _ in found.layers] == ["right@mean", "left@mean", "stem@mean"]
    assert found.last_layers == {"right@mean", "left@mean"}
    fed = {found.nodes[each.node].neuron.layer for node in found.nodes for each in node.fed_by}
    assert fed == {"stem@mean"}
    assert verify(bundle) == []
    code, out, _ = run(capsys, "circuit", bundle.path)
    assert code == 0
    assert "right@mean" in out


def test_a_neuron_fed_by_several_layers_names_them(built, tmp_path):
    copy = Path(shutil.copytree(built.path, tmp_path / "a.csp"))
    nodes, edges = (built.table("circuit:small", name) for name in ("nodes", "edges"))
    red = list(built.circuit("small").outputs["name"]).index("red")
    own = nodes[nodes["output"] == red]
    last, second = (own.index[own["layer"] == f"{name}@mean"][0] for name in ("last", "second"))
    at = edges.index[edges["target"] == second][0]  # the others come from the first layer
    _change(copy, "edges", "source", int(last), at)
    node = next(
        each
        for each in circuit(Bundle.open(copy), "small", "red", "csp").nodes
        if each.neuron.layer == "second@mean" and each.neuron.unit == own["unit"][second]
    )
    assert {each.name.split(" / ")[0] for each in node.fed_by} == {"first@mean", "last@mean"}


def test_the_command_prints_and_refuses(built, capsys):
    code, out, _ = run(capsys, "circuit", built.path, "--output", "blue", "--json")
    assert code == 0
    said = json.loads(out)
    wanted = circuit(built, "small", "blue", said["method"])
    assert [each["effect"] for each in said["neurons"]] == [
        wanted.nodes[place].effect for _, places in wanted.layers for place in places
    ]
    code, out, _ = run(capsys, "circuit", built.path)
    assert code == 0
    assert "last@mean" in out
    code, _, err = run(capsys, "circuit", built.path, "--output", "purple")
    assert code == 2
    assert "'purple'" in err
    assert "blue, green, grey, red" in err


def test_without_circuits_the_command_says_how_to_get_them(tmp_path, capsys):
    bundle = pipeline.build(toys.request(tmp_path, tmp_path / "a.csp"))
    code, _, err = run(capsys, "circuit", bundle.path)
    assert code == 2
    assert "--circuit-images 64" in err


@pytest.mark.parametrize(
    ("table", "column", "value", "said"),
    [
        ("nodes", "unit", 99, "names unit 99"),
        ("nodes", "output", 9, "names output 9"),
        ("nodes", "effect", np.nan, "not a number"),
        ("edges", "effect", np.inf, "not a number"),
        ("edges", "source", 9999, "names node 9999"),
    ],
)
def test_a_table_that_cannot_be_is_refused(built, tmp_path, table, column, value, said):
    copy = Path(shutil.copytree(built.path, tmp_path / "a.csp"))
    _change(copy, table, column, value)
    with pytest.raises(BundleError, match=said):
        circuit(Bundle.open(copy), "small", "red", "csp")


def test_forged_effects_are_told(built, tmp_path):
    copy = Path(shutil.copytree(built.path, tmp_path / "a.csp"))
    _change(copy, "nodes", "effect", 0.5)
    assert any("drive" in sentence for sentence in verify(Bundle.open(copy)))


def _change(bundle, table, column, value, row=0):
    """Another value in one row of a table, with all hashes redone."""
    path = damage.place(bundle, "circuit:small", f"{table}.parquet")
    rows = pd.read_parquet(path)
    rows.loc[row, column] = value
    rows.to_parquet(path)
    damage.redo(bundle)
