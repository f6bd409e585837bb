"""Where a network has no answer for an image it decides nothing: every pass names that image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from csp_engine import pipeline
from csp_engine.bundle import Bundle
from csp_engine.errors import InputError, UnansweredError
from csp_engine.networks.attributing.neuron_maps import NeuronMaps
from csp_engine.networks.driving.circuits import circuits
from csp_engine.networks.driving.gradients import rows_of_outputs
from csp_engine.networks.driving.influence import influence
from csp_engine.networks.intervening.pairs import PairRuns
from csp_engine.networks.layers import select_layers
from csp_engine.networks.models import target_model
from csp_engine.pipeline.added.fixes import Piece
from csp_engine.pipeline.added.fixing import Trials, try_fix
from csp_engine.pipeline.added.photographs import listed_photographs
from csp_engine.pipeline.mapping.changes import CHANGES, versions
from csp_engine.pipeline.mapping.overlays import NeuronOverlays
from csp_engine.pipeline.passing.image_pass import Target
from tests.worlds import toys

LOST = [pytest.param(float("nan"), id="nan"), pytest.param(float("inf"), id="inf")]


def first_output(target: Target, image: Image.Image) -> float:
    pixels = torch.tensor(target.model.preprocess(image))[None]
    with torch.no_grad():
        return float(target.model.network(pixels)[0, 0])


def unwell(images: list[Image.Image], value: float, output: int = 2) -> tuple[Target, int]:
    """A network with ``value`` in one output for whichever image it finds most of class 0."""
    target = toys.target(factory="lively")
    found = [first_output(target, image) for image in images]
    least = sorted(set(found))[-1] - 1e-4

    def spoil(module: nn.Module, args: object, logits: torch.Tensor) -> torch.Tensor:
        is_lost = torch.zeros_like(logits, dtype=torch.bool)
        is_lost[:, output] = logits[:, 0] > least
        return logits.masked_fill(is_lost, value)

    target.model.network.head.register_forward_hook(spoil)
    return target, int(np.argmax(found))


@pytest.mark.parametrize("value", LOST)
def test_a_build_names_the_image(tmp_path: Path, value: float) -> None:
    files = sorted(toys.draw_images(tmp_path / "images").rglob("*.png"))
    target, worst = unwell([Image.open(file) for file in files], value)
    asked = toys.request(
        tmp_path, tmp_path / "a.csp", targets=(target,), n_influence_images=28, batch_size=5
    )
    with pytest.raises(UnansweredError, match=rf"not finite for \S*{files[worst].name};"):
        pipeline.build(asked)


def test_circuits_count_the_images_of_earlier_batches(tmp_path: Path) -> None:
    images = [Image.open(f) for f in sorted(toys.draw_images(tmp_path).rglob("*.png"))]
    target, worst = unwell(images, float("nan"))
    pixels = np.stack([target.model.preprocess(image) for image in images])
    batches = ((pixels[at : at + 5], None) for at in range(0, len(pixels), 5))
    units = {str(tap.id): np.zeros((4, 2), int) for tap in target.taps}
    with pytest.raises(UnansweredError) as caught:
        circuits(target.model, target.taps, batches, units)
    assert caught.value.row == worst


@pytest.mark.parametrize("value", LOST)
def test_interventions_name_the_photograph(tmp_path: Path, value: float) -> None:
    pairs = toys.CornerPairs()
    target, worst = unwell([i for row in range(len(pairs.table)) for i in pairs.images(row)], value)
    whole = toys.target(factory="lively")
    path = pipeline.build(toys.request(tmp_path, tmp_path / "a.csp", targets=(whole,))).path
    with pytest.raises(UnansweredError, match=rf"not finite for {worst // 3}\.png; check"):
        pipeline.add_interventions(path, target, pairs, "green", n_random=2)
    assert Bundle.open(path).intervention("small") is None


@pytest.mark.parametrize("is_choosing", [True, False])
@pytest.mark.parametrize("value", LOST)
def test_fixes_name_the_photograph(tmp_path: Path, value: float, is_choosing: bool) -> None:
    table = toys.photographs(tmp_path)
    shots = listed_photographs(table)
    target, worst = unwell([shots.image(row) for row in range(len(shots.table))], value)
    halves = (listed_photographs(table, seed) for seed in range(50))
    shots = next(s for s in halves if bool(s.table["is_choosing"].iloc[worst]) == is_choosing)
    trials = Trials(target, shots, "red")
    pieces = [Piece("first@mean", np.array([1]))]
    file = Path(shots.table["file"].iloc[worst]).name
    with pytest.raises(UnansweredError, match=rf"not finite for \S*{file}; check"):
        trials.influence() if is_choosing else try_fix(
            trials, pieces, "mean", chosen_on="a test", n_random=2
        )


class Shares(nn.Module):
    """Class scores from shares of the activation, which no activation at all has not."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4, 4)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        held = self.seen(pixels).abs().mean((2, 3))
        return self.head(held / held.sum(1, keepdim=True))


def test_where_only_the_cut_has_no_answer_it_is_said(tmp_path: Path) -> None:
    shots = listed_photographs(toys.photographs(tmp_path))
    torch.manual_seed(0)
    read = {"resize": 32, "crop": 32, "interpolation": "bilinear", "mean": 0.5, "std": 0.5}
    model = target_model(Shares().eval(), read, name="s", class_names=sorted(toys.COLOURS))
    trials = Trials(Target(model, tuple(select_layers(model, ["seen"]))), shots, "red")
    every = [Piece("seen@mean", np.arange(4))]
    with pytest.raises(UnansweredError, match=r"\.png with part of it held still; check"):
        try_fix(trials, every, "zero", chosen_on="a test", n_random=0)


def test_swaps_and_gradients_without_an_answer_are_told() -> None:
    """A root has no slope at 0, and a logarithm no value below it."""
    torch.manual_seed(1)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    read = {"resize": [8, 8], "crop": None, "interpolation": "bilinear", "mean": 0.5, "std": 0.5}

    class Root(nn.Module):
        def forward(self, value: torch.Tensor) -> torch.Tensor:
            return (value - value.amin(1, keepdim=True)).sqrt()

    net.extend([Root(), nn.Linear(4, 3)])
    model = target_model(net.eval(), read, name="root", class_names=["a", "b", "c"])
    runs = PairRuns(model, select_layers(model, ["0"]), "b")
    pixels = np.random.default_rng(0).normal(size=(4, 3, 8, 8)).astype(np.float32)
    assert np.isfinite(runs.scores(pixels)[0]).all()
    with pytest.raises(UnansweredError, match="image 1 of those given in the gradient at layer"):
        runs.attributed(pixels, -pixels)


def test_a_changed_image_without_an_answer_is_told(tmp_path: Path) -> None:
    picture = Image.open(next(toys.draw_images(tmp_path / "images").rglob("*.png"))).convert("RGB")
    target, worst = unwell([change(picture) for change in CHANGES.values()], float("nan"))
    whole = toys.target(factory="lively")
    bundle = pipeline.build(toys.request(tmp_path, tmp_path / "a.csp", targets=(whole,)))
    (tap,) = select_layers(target.model, ["first"])
    overlays = NeuronOverlays(bundle, target.model, tap, 1)
    with pytest.raises(UnansweredError, match=f"for the image {list(CHANGES)[worst]};"):
        versions(overlays, picture)


def test_a_class_that_is_ruled_out_hinders_nothing(tmp_path: Path) -> None:
    """An output of minus infinity: it is never decided for, and the others are as they were."""
    pairs = toys.CornerPairs()
    images = [i for row in range(len(pairs.table)) for i in pairs.images(row)]
    target, _ = unwell(images, -float("inf"), output=3)
    pixels = np.stack([target.model.preprocess(image) for image in images])
    score_n, _ = PairRuns(target.model, target.taps, 1).scores(pixels)
    assert np.isfinite(score_n).all()
    with pytest.raises(InputError, match="not finite"):
        PairRuns(target.model, target.taps, 3).scores(pixels)
    pipeline.build(toys.request(tmp_path, tmp_path / "a.csp", targets=(target,)))


class Rooted(nn.Module):
    """Roots that are 0 where a place is cut, so that their slope has no value there."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = nn.Conv2d(3, 4, 3)
        self.after = nn.Conv2d(4, 5, 3)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        held = self.seen(pixels)
        return self.after((held * (held > 0)).sqrt()).mean((2, 3))


@pytest.mark.parametrize("name", ["activation", "gradient", "integrated", "shap", "occlusion"])
def test_no_map_is_drawn_of_values_that_are_not_finite(name: str) -> None:
    torch.manual_seed(0)
    read = {"resize": [12, 12], "crop": None, "interpolation": "bilinear", "mean": 0.5, "std": 0.5}
    model = target_model(Rooted().eval(), read, name="rooted")
    (tap,) = select_layers(model, ["after"])
    pixels = np.random.default_rng(0).normal(size=(5, 3, 12, 12)).clip(-1, 1).astype(np.float32)
    maps = NeuronMaps(model, tap, 1, pixels[:2], pixels[2:4])
    if name in ("activation", "occlusion"):
        assert np.isfinite(maps.of(pixels[4:], name)).all()
        pixels[4, 0, 3, 3] = np.nan
    with pytest.raises(InputError, match=r"not finite|without bound"):
        maps.of(pixels[3:], name)


class Masked(nn.Module):
    """Scores that are ruled out at some places, and the strongest of the others."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = nn.Conv2d(3, 6, 3)
        self.masked = nn.Identity()
        self.head = nn.Linear(6, 4)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        held = self.seen(pixels)
        is_out = torch.zeros_like(held, dtype=torch.bool)
        is_out[:, :, :4] = True
        return self.head(self.masked(held.masked_fill(is_out, -torch.inf)).amax((2, 3)))


def test_what_the_strongest_place_hides_is_no_influence() -> None:
    """Nothing times minus infinity has no value; the layer before it has one."""
    torch.manual_seed(0)
    read = {"resize": [12, 12], "crop": None, "interpolation": "bilinear", "mean": 0.5, "std": 0.5}
    model = target_model(Masked().eval(), read, name="masked")
    pixels = np.random.default_rng(0).normal(size=(6, 3, 12, 12)).astype(np.float32)
    with pytest.raises(InputError, match="Layer 'masked' gives values that are not finite at some"):
        influence(model, select_layers(model, ["masked@max"]), [(pixels, None)])
    found = influence(model, select_layers(model, ["seen@max"]), [(pixels, None)])["seen@max"]
    # By hand: the strongest place that is left times the weight of the class decided for.
    with torch.no_grad():
        top_nu = model.network.seen(torch.tensor(pixels))[:, :, 4:].amax((2, 3))
        called_n = model.network.head(top_nu).argmax(1)
        wanted_cu = np.zeros((4, 6))
        for c in range(4):
            if (called_n == c).any():
                wanted_cu[c] = (top_nu[called_n == c] * model.network.head.weight[c]).mean(0)
    assert np.allclose(found.gradient_activation_cu, wanted_cu, atol=1e-6)


def test_where_every_class_is_ruled_out_none_is_decided_for() -> None:
    logits = torch.tensor([[0.5, -torch.inf, 1.0], [0.2, -torch.inf, -torch.inf]])
    model = toys.target().model
    row_n, _ = rows_of_outputs(model, logits, None, [0, 2], 7)
    assert row_n.tolist() == [1, 0]
    with pytest.raises(UnansweredError) as caught:
        rows_of_outputs(model, logits, None, [1, 2], 7)
    assert caught.value.row == 8
