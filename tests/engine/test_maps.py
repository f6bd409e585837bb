"""Maps: places and crops against hand-made pictures, COCOA against loops and finite differences."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from csp_engine.errors import InputError
from csp_engine.evaluation.faithfulness.localisation import beaten, pointed
from csp_engine.networks.activations import ActivationRecorder
from csp_engine.networks.attributing import methods
from csp_engine.networks.attributing.cocoa import LayerSpace, Similarity, contrast_direction
from csp_engine.networks.attributing.geometry import Frame, frame_of, largest, onto_picture
from csp_engine.networks.attributing.neuron_maps import MAPS, NeuronMaps
from csp_engine.networks.attributing.places import activation_maps, grid_of
from csp_engine.networks.attributing.removing import removal_gap
from csp_engine.networks.layers import select_layers
from csp_engine.networks.loading.preprocessing import pixel_pipeline, pixel_recipe
from csp_engine.networks.models import target_model
from tests.engine.test_tokens import Vit
from tests.reference import cocoa_reference as slow

SIDE = 12
RECIPE = {"resize": [SIDE, SIDE], "crop": None, "interpolation": "bilinear", "mean": 0.5,
          "std": 0.5}  # fmt: skip


class Net(nn.Module):
    """A smooth convolution, a pooled vector and a head."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.conv = nn.Conv2d(3, 5, 3, stride=2)
        self.act = nn.Softplus()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flat = nn.Flatten()
        self.fc = nn.Linear(5, 3)

    def forward(self, x):
        return self.fc(self.flat(self.pool(self.act(self.conv(x)))))


def wrapped(network, side=SIDE, **options):
    return target_model(network.eval(), RECIPE | {"resize": [side, side]}, name="net", **options)


@pytest.fixture(scope="module")
def net():
    return Net()


@pytest.fixture(scope="module")
def model(net):
    return wrapped(net)


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return [rng.normal(size=(n, 3, SIDE, SIDE)).astype(np.float32) for n in (4, 3, 5)]


def tap_of(model, layer):
    (tap,) = select_layers(model, [layer])
    return tap


# ------------------------------------------------------------------ crops


RECIPES = [
    {"resize": [40, 56], "crop": None},
    {"resize": 48, "crop": [40, 40]},
    {"resize": 64, "crop": [32, 48], "crop_offset": "floor"},
    {"resize": None, "interpolation": None, "crop": [90, 130]},
    {"resize": 30, "crop": [44, 44]},
    {"resize": 48, "crop": [40, 40], "colour": "grey", "mean": [0.4], "std": [0.2]},
]


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("size", [(160, 120), (97, 131), (60, 60)])
def test_a_map_lands_on_the_pixel_that_it_is_of(recipe, size):
    """A white spot in a picture is found again where it was, through any resize, crop and pad."""
    width, height = size
    full = {"interpolation": "bilinear", "mean": [0.5] * 3, "std": [0.5] * 3} | recipe
    preprocess = pixel_pipeline(pixel_recipe(full))
    frame = frame_of(preprocess, width, height)
    scale = width / preprocess(Image.new("RGB", size)).shape[2]
    n_seen = 0
    for x, y in ((width // 2, height // 2), (width // 3, 2 * height // 3), (3, 4)):
        pixels = np.zeros((height, width, 3), np.uint8)
        pixels[y - 3 : y + 4, x - 3 : x + 4] = 255
        seen_hw = preprocess(Image.fromarray(pixels)).mean(0)
        if seen_hw.max() - seen_hw.min() < 0.5:
            continue  # cropped away
        found, is_seen = onto_picture(seen_hw - seen_hw.min(), frame)
        assert found.shape == is_seen.shape == (height, width)
        weight = found / found.sum()
        place_y, place_x = np.indices(found.shape)
        if x > 12:  # a spot at the edge may be cut
            assert (place_x * weight).sum() == pytest.approx(x, abs=0.8 + 0.1 * scale)
            assert (place_y * weight).sum() == pytest.approx(y, abs=0.8 + 0.1 * scale)
        n_seen += 1
    assert n_seen


def test_what_was_cropped_away_is_not_seen():
    preprocess = pixel_pipeline(
        pixel_recipe({"resize": 50, "crop": 50, "interpolation": "bilinear", "mean": [0.5] * 3,
                      "std": [0.5] * 3})
    )  # fmt: skip
    frame = frame_of(preprocess, 200, 100)
    assert (frame.left, frame.right) == pytest.approx((50, 150), abs=1)
    assert (frame.top, frame.bottom) == pytest.approx((0, 100), abs=1)
    assert frame.share_seen == pytest.approx(0.5, abs=0.02)
    found, is_seen = onto_picture(np.ones((5, 5), np.float32), frame)
    assert not is_seen[:, :48].any()
    assert not is_seen[:, 152:].any()
    assert is_seen[:, 52:148].all()
    assert (found == is_seen).all()


def test_cells_cover_equal_parts_and_their_centres_keep_their_values():
    value = np.arange(6, dtype=np.float32).reshape(2, 3)
    found, _ = onto_picture(value, Frame(0.0, 0.0, 90.0, 60.0, 90, 60))
    for row in range(2):
        for column in range(3):
            near = found[15 + 30 * row - 1 : 15 + 30 * row + 1, 15 + 30 * column - 1 :][:, :2]
            assert near.mean() == pytest.approx(value[row, column], abs=0.05)
    assert found[0, 0] == value[0, 0]  # nothing is invented beyond the last centres
    assert found[-1, -1] == value[-1, -1]


def test_a_mirroring_preprocessing_is_refused():
    def mirrored(image):
        return np.asarray(image, np.float32).transpose(2, 0, 1)[:, :, ::-1]

    with pytest.raises(InputError, match="mirrors"):
        frame_of(mirrored, 30, 20)
    with pytest.raises(InputError, match="nothing of black and white"):
        frame_of(lambda image: np.zeros((3, 5, 5), np.float32), 30, 20)


# ------------------------------------------------------------------ places


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_pooling_the_map_gives_the_neuron(model, images, pooling):
    tap = tap_of(model, f"act@{pooling}")
    map_nurc = activation_maps(model, tap, images[0], [4, 0])
    with ActivationRecorder(model, [tap]) as recorder:
        act_nu = recorder(images[0])[str(tap.id)]
    pooled = map_nurc.mean((2, 3)) if pooling == "mean" else map_nurc.max((2, 3))
    assert map_nurc.shape == (4, 2, *grid_of(tap, model.input_shape))
    np.testing.assert_allclose(pooled, act_nu[:, [4, 0]], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("is_tokens_first", [False, True])
def test_patches_lie_row_by_row_and_other_tokens_nowhere(is_tokens_first):
    network = Vit([("cls_token", 1)], [("tail", 2)], is_tokens_first)
    model = wrapped(network, 32)
    tap = tap_of(model, "norm@token_mean")
    x = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)
    map_nurc = activation_maps(model, tap, x, [3])
    patch_np = network.seen[:2, 1:17, 3].numpy()
    assert map_nurc.shape == (2, 1, 4, 4)
    for row in range(4):
        for column in range(4):
            np.testing.assert_allclose(map_nurc[:, 0, row, column], patch_np[:, 4 * row + column])


def test_a_layer_without_places_is_one_sentence(model, images):
    x = np.zeros((1, 3, 32, 32), np.float32)
    vit = wrapped(Vit([("cls_token", 1)]), 32)
    for network, layer, words in (
        (model, "fc", "one number for the whole image"),
        (model, "pool", "one place"),
        (vit, "norm@cls", "class token"),
    ):
        tap = tap_of(network, layer)
        pixels = images[0] if network is model else x
        with pytest.raises(InputError, match=words):
            NeuronMaps(network, tap, 0, pixels).of(pixels)
    with pytest.raises(InputError, match="no unit 9"):
        activation_maps(model, tap_of(model, "act"), images[0], [9])
    with pytest.raises(InputError, match="choose one of activation, gradient"):
        NeuronMaps(model, tap_of(model, "act"), 0, images[0]).of(images[0], "lime")


# ------------------------------------------------------------------ COCOA


@pytest.fixture(scope="module")
def neuron(model, images):
    return NeuronMaps(model, tap_of(model, "act@mean"), 1, images[1], images[2])


def rows_by_hand(net, pixels):
    with torch.no_grad():
        return net.act(net.conv(torch.tensor(pixels))).mean((2, 3)).numpy()


def test_the_value_is_the_difference_of_mean_cosines(neuron, net, images):
    corpus, foil = (rows_by_hand(net, each) for each in images[1:])
    found = neuron.similarity()(torch.tensor(images[0])).numpy()
    expected = [slow.value(row, corpus, foil) for row in rows_by_hand(net, images[0])]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_silent_rows_empty_sets_and_equal_sets():
    direction = contrast_direction(np.array([[3.0, 0], [0, 0]]), np.array([[0.0, 2]]))
    np.testing.assert_allclose(direction, [0.5, -1])
    with pytest.raises(InputError, match="corpus is empty"):
        contrast_direction(np.zeros((0, 3)), None)
    with pytest.raises(InputError, match="do not differ"):
        contrast_direction(np.ones((3, 2)), np.ones((4, 2)))
    alone = contrast_direction(np.array([[0.0, 5]]), np.zeros((0, 2)))
    np.testing.assert_allclose(alone, [0, 1])


def test_gradients_equal_finite_differences_and_hooks_are_gone(neuron, net, images):
    value, image = neuron.similarity(), images[0][:1]
    x = torch.tensor(image, dtype=torch.float64).requires_grad_()
    double = Similarity(lambda p: net.double().act(net.conv(p)).mean((2, 3)), value.direction_d)
    try:
        (grad,) = torch.autograd.grad(double(x.double()).sum(), x)

        def at(flat):
            given = torch.tensor(np.array(flat).reshape(image.shape))
            with torch.no_grad():
                return float(double(given))

        expected = slow.finite_differences(at, image.astype(np.float64).ravel().tolist(), 1e-4)
    finally:
        net.float()
    np.testing.assert_allclose(grad.numpy().ravel(), expected, rtol=2e-2, atol=1e-7)
    beyond = image - image.mean((2, 3), keepdims=True)
    products = (np.array(expected).reshape(image.shape) * beyond).sum(1)
    found = methods.attributed("gradient", value, image, torch.device("cpu"))
    np.testing.assert_allclose(found, products.clip(min=0), rtol=2e-2, atol=1e-6)
    assert not any(module._forward_hooks for module in net.modules())


def test_integrated_gradients_equal_a_loop_and_add_up(neuron, images):
    value, image = neuron.similarity(), torch.tensor(images[0][:1])
    base = methods.plain(image)

    def gradient(flat):
        x = torch.tensor(np.array(flat, np.float32).reshape(image.shape)).requires_grad_()
        return torch.autograd.grad(value(x).sum(), x)[0].numpy().ravel().tolist()

    found = methods.integrated_gradients(value, image, 0, lambda *_: None)
    args = (image.numpy().ravel().tolist(), base.numpy().ravel().tolist(), 64)
    expected = np.array(slow.integrated(gradient, *args)).reshape(image.shape).sum(1)
    np.testing.assert_allclose(found.detach().numpy(), expected, atol=2e-5)
    whole = float(value(image) - value(base))
    assert float(found.sum()) == pytest.approx(whole, rel=0.02)


def test_occlusion_equals_a_loop(neuron, images):
    value, image = neuron.similarity(), torch.tensor(images[0][:2])
    base, window = methods.plain(image), 3
    total, count = np.zeros((2, SIDE, SIDE)), np.zeros((SIDE, SIDE))
    whole = value(image).detach().numpy()
    starts = sorted({min(s, SIDE - window) if s < SIDE else s for s in range(0, SIDE, 1)})
    for top in starts:
        for left in starts:
            covered = image.clone()
            place = (..., slice(top, top + window), slice(left, left + window))
            covered[place] = base[place]
            total[place] += (whole - value(covered).detach().numpy())[:, None, None]
            count[place] += 1
    found = methods.attributed("occlusion", value, image.numpy(), torch.device("cpu"))
    np.testing.assert_allclose(found, (total / count).clip(min=0), rtol=1e-3, atol=1e-5)


def test_rise_finds_the_place_that_counts_and_masks_are_as_promised():
    bank = methods.mask_bank(30, 44, 400, 3)
    assert bank.shape == (400, 30, 44)
    assert float(bank.min()) >= 0
    assert float(bank.max()) <= 1 + 1e-6
    assert float(bank.mean()) == pytest.approx(methods.KEPT, abs=0.02)
    assert torch.equal(bank, methods.mask_bank(30, 44, 400, 3))
    assert not torch.equal(bank[0], methods.mask_bank(30, 44, 400, 4)[0])
    image = torch.rand(2, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    image[:, :, 4:10, 16:24] += 3
    told = []
    found = methods.attributed(
        "rise", lambda x: x[:, :, 4:10, 16:24].mean((1, 2, 3)), image.numpy(),
        torch.device("cpu"), progress=lambda *given: told.append(given),
    )  # fmt: skip
    for each in found:
        row, column = np.unravel_index(each.argmax(), each.shape)
        assert 2 <= row <= 12
        assert 13 <= column <= 26
    assert told[-1] == ("RISE", 2 * methods.N_MASKS, 2 * methods.N_MASKS)


@pytest.mark.parametrize("name", [name for name in MAPS if name != "rise"])
def test_maps_are_repeatable_nonnegative_and_leave_chance_alone(neuron, images, name):
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    expected = torch.rand(1), np.random.rand()  # noqa: NPY002
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    first = neuron.of(images[0], name, seed=2)
    assert (torch.rand(1), np.random.rand()) == expected  # noqa: NPY002
    np.testing.assert_array_equal(first, neuron.of(images[0], name, seed=2))
    assert len(first) == len(images[0])
    assert name == "activation" or (first.min() >= 0 and first.max() > 0)
    alone = neuron.of(images[0][2:3], name, seed=2)
    np.testing.assert_allclose(alone[0], first[2], rtol=1e-3, atol=1e-5)


def test_a_pass_that_fails_leaves_the_network_as_it_was(net, images):
    class Broken(Net):
        is_broken = False

        def forward(self, x):
            found = super().forward(x)
            if self.is_broken:
                raise RuntimeError("out of luck")
            return found

    broken = Broken()
    model = wrapped(broken)
    tap = tap_of(model, "act@mean")
    maps = NeuronMaps(model, tap, 0, images[1], images[2])
    before = {name: value.clone() for name, value in broken.state_dict().items()}
    value = maps.similarity()
    broken.is_broken = True
    for name in ("activation", "gradient", "occlusion"):
        attribute = partial(methods.attributed, name, value, images[0], torch.device("cpu"))
        with pytest.raises(RuntimeError, match="out of luck"):
            (attribute if name != "activation" else partial(maps.of, images[0]))()
    assert not any(module._forward_hooks for module in broken.modules())
    assert not any(p.requires_grad or p.grad is not None for p in broken.parameters())
    assert all(torch.equal(before[name], now) for name, now in broken.state_dict().items())
    assert torch.is_grad_enabled()


def test_a_value_without_gradient_is_said_so(images):
    with pytest.raises(InputError, match="No gradient reaches"):
        methods.attributed(
            "gradient", lambda x: x.detach().mean((1, 2, 3)), images[0], torch.device("cpu")
        )


def test_the_network_itself_may_change_its_output_in_place(images):
    class InPlace(Net):
        def __init__(self):
            super().__init__()
            self.act = nn.ReLU(inplace=True)

    model = wrapped(InPlace())
    x = torch.tensor(images[0])
    found = LayerSpace(model, tap_of(model, "conv@mean"))(x)
    with torch.no_grad():
        expected = model.network.conv(x).mean((2, 3))
    np.testing.assert_allclose(found.detach().numpy(), expected.numpy(), atol=1e-6)


# ------------------------------------------------------------------ checks


def compared(map_hw, mask_hw, tolerance=0.0):
    height, width = map_hw.shape
    return pointed(
        map_hw,
        mask_hw,
        largest(map_hw, Frame(0.0, 0.0, float(width), float(height), width, height)),
        tolerance,
    )


def test_pointing_and_overlap_by_hand():
    mask = np.zeros((4, 5), bool)
    mask[1:3, 1:3] = True
    value = np.zeros((4, 5), np.float32)
    value[1, 1], value[1, 2], value[0, 0], value[3, 3] = 9, 8, 7, 6
    found = compared(value, mask)
    assert (found.hit, found.base) == (1.0, 0.2)
    assert found.overlap == pytest.approx(2 / 6)
    value[0, 0] = 9  # a tie, half of which is on the thing
    assert compared(value, mask).hit == 0.5
    flat = compared(np.ones((4, 5), np.float32), mask)
    assert flat.hit == pytest.approx(flat.base)
    assert flat.overlap == pytest.approx(0.8 / 7.2)
    assert compared(mask.astype(np.float32), mask).overlap == 1.0
    far = np.zeros((4, 5), np.float32)
    far[0, 1] = 1
    assert (compared(far, mask).hit, compared(far, mask, 1.0).hit) == (0.0, 1.0)
    assert compared(far, mask, 1.0).base == 12 / 20


def test_random_maps_hit_by_their_base_and_differences_have_intervals():
    rng = np.random.default_rng(0)
    mask = np.zeros((20, 20), bool)
    mask[3:9, 4:14] = True
    found = [compared(rng.random((20, 20)).astype(np.float32), mask) for _ in range(1000)]
    base = mask.mean()
    corners = np.zeros((96, 96), bool)
    corners[:24, :24] = corners[-24:, -24:] = True
    frame = Frame(0.0, 0.0, 96.0, 96.0, 96, 96)
    coarse = [rng.random((8, 8)).astype(np.float32) for _ in range(800)]
    hit = [
        pointed(onto_picture(each, frame)[0], corners, largest(each, frame)).hit for each in coarse
    ]
    assert np.mean(hit) == pytest.approx(corners.mean(), abs=0.04)  # not drawn to the border
    assert np.mean([each.hit for each in found]) == pytest.approx(base, abs=0.03)
    assert np.mean([each.overlap for each in found]) == pytest.approx(base / (2 - base), abs=0.005)
    hit_n = np.array([1.0] * 20)
    assert beaten(hit_n, np.array([0.0, 0.5] * 10), np.arange(20)).is_better
    for n_groups in (1, 9):  # however many photographs: too few groups for an interval
        of_few = beaten(hit_n, np.zeros(20), np.arange(20) % n_groups)
        assert (of_few.rate.value, of_few.difference.value) == (1, 1)
        assert np.isnan([of_few.rate.low, of_few.difference.high]).all()
        assert not of_few.is_better
    assert beaten(hit_n, np.zeros(20), np.arange(20) % 10).is_better
    assert not beaten(np.array([1.0, 0.0] * 10), np.full(20, 0.5), np.arange(20)).is_better


def test_removal_tells_a_right_map_from_a_random_one():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6, 3, 32, 32)).astype(np.float32)
    x[:, :, 8:16, 20:28] += 4

    def value(pixels):
        return pixels[:, :, 8:16, 20:28].mean((1, 2, 3))

    right = np.zeros((6, 16, 16), np.float32)
    right[:, 4:8, 10:14] = 1
    gap_n = removal_gap(value, x, right, torch.device("cpu"))
    random_n = np.mean(
        [removal_gap(value, x, rng.random((6, 16, 16)).astype(np.float32), torch.device("cpu"))
         for _ in range(30)], axis=0,
    )  # fmt: skip
    assert (gap_n > 2).all()
    assert np.abs(random_n).max() < 0.7
    np.testing.assert_allclose(removal_gap(value, x, -right, torch.device("cpu")), -gap_n, rtol=0.3)


@pytest.mark.parametrize("side", ["top", "bottom"])
def test_a_map_that_is_the_same_everywhere_is_worth_nothing_wherever_the_thing_lies(side):
    """Places that tie were taken from the top, which told a blind map of what lies there for right.

    One that shows one place is worth what it is worth on average over orders of the others.
    """
    rng = np.random.default_rng(0)
    x = rng.random((3, 3, 64, 48)).astype(np.float32)
    counts_hw = torch.zeros(64, 48)
    rows = slice(16) if side == "top" else slice(48, 64)
    x[:, :, rows] += 2
    counts_hw[rows] = 1

    def value(pixels: torch.Tensor) -> torch.Tensor:
        return (pixels.mean(1) * counts_hw).sum((1, 2)) / counts_hw.sum()

    cpu = torch.device("cpu")
    constant = np.full((3, 8, 6), 0.3, np.float32)
    np.testing.assert_allclose(removal_gap(value, x, constant, cpu), 0, atol=1e-5)
    one = np.zeros((3, 16, 16), np.float32)
    one[:, 2, 5] = 1
    drawn = [
        removal_gap(value, x, one + 1e-4 * rng.random(one.shape, np.float32), cpu)
        for _ in range(150)
    ]
    np.testing.assert_allclose(removal_gap(value, x, one, cpu), np.mean(drawn, 0), atol=0.1)
