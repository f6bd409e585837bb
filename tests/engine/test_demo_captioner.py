"""The demo's captioner: simulated neurons are what they claim, and training is repeatable."""

from __future__ import annotations

import numpy as np
import pytest

from csp_engine.captioners import load_captioner
from csp_engine.demo.training.captioner import NOTHING, measure_captioner, train_captioner
from csp_engine.demo.training.simulated_neurons import KINDS, NeuronSimulator
from csp_engine.errors import InputError

PHRASES = {
    "ruler": ["ruler", "scale bar", "Measuring_Scale"],
    "hair": ["hair", "dark hairs"],
    "patch": ["colour patch", "coloured sticker"],
    "veil": ["blue-white veil"],
}


def planted(n_images: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Four concepts on orthogonal directions; most rulers come with hair."""
    rng = np.random.default_rng(seed)
    truth_nc = rng.random((n_images, 4)) < 0.25
    truth_nc[:, 1] |= truth_nc[:, 0] & (rng.random(n_images) < 0.8)
    image_nd = rng.normal(0, 0.2, (n_images, 12))
    image_nd[:, :4] += truth_nc
    image_nd[:, 11] += 1
    image_nd /= np.linalg.norm(image_nd, axis=1, keepdims=True)
    return image_nd.astype(np.float32), truth_nc


@pytest.fixture(scope="module")
def simulator():
    return NeuronSimulator(*planted())


@pytest.mark.parametrize("kind", list(KINDS))
def test_simulated_neurons_are_what_they_claim(simulator, kind):
    rng = np.random.default_rng(1)
    truth = simulator.truth_nc
    quiet_shares = []
    for _ in range(40):
        neuron = simulator.draw(rng, kind, noise=0.25, n_images=20, company=0.9)
        assert neuron.kind == kind
        shown = truth[neuron.activating_m]
        assert not set(neuron.activating_m) & set(neuron.contrast_c)
        assert len(set(neuron.contrast_c)) == len(neuron.contrast_c)
        if kind == "nothing":
            assert neuron.concepts == ()
            continue
        columns = list(neuron.concepts)
        means = shown[:, columns].any(axis=1) if kind == "either" else shown[:, columns].all(axis=1)
        assert means.sum() >= 15
        quiet = truth[neuron.contrast_c][:, columns]
        quiet_shares.append(np.mean(quiet.any(1) if kind == "either" else quiet.all(1)))
        if kind == "accompanied":
            assert neuron.companion not in columns
            assert (shown[:, neuron.companion] & means).sum() >= 13
            if len(neuron.contrast_c) > 3:
                assert truth[neuron.contrast_c, neuron.companion].mean() > 0.5
    if quiet_shares:
        assert np.mean(quiet_shares) < 0.2


def test_without_pairs_every_neuron_is_single():
    image_nd, truth_nc = planted()
    truth_nc[:, 1:] = False
    simulator = NeuronSimulator(image_nd, truth_nc)
    for kind in ("accompanied", "both", "either"):
        neuron = simulator.draw(np.random.default_rng(0), kind)
        assert (neuron.kind, neuron.concepts) == ("single", (0,))


@pytest.mark.slow
def test_training_is_repeatable_and_measured(tmp_path):
    image_nd, truth_nc = planted()
    made = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train_captioner(
            tmp_path / name, image_nd, truth_nc, PHRASES,
            encoder_fingerprint="e" * 64, seed=seed, n_steps=2,
        )  # fmt: skip
        made.append(load_captioner(tmp_path / name))
    assert made[0].fingerprint == made[1].fingerprint != made[2].fingerprint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]
    assert sum(path.stat().st_size for path in (tmp_path / "a").iterdir()) < 6e6
    rows = measure_captioner(made[0], *planted(seed=1), PHRASES, n_sets=8)
    assert [(row["kind"], row["mode"]) for row in rows] == [
        (kind, mode) for kind in KINDS for mode in ("exemplars", "contrast")
    ]
    for row in rows:
        assert 0 <= row["top1_low"] <= row["top1"] <= row["top1_high"] <= 1
        assert row["top1"] <= row["top5"] <= 1


def test_interrupted_training_leaves_nothing(tmp_path):
    def stop(stage: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_captioner(
            tmp_path / "a", *planted(), PHRASES,
            encoder_fingerprint="e" * 64, n_steps=3, progress=stop,
        )  # fmt: skip
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("phrases", "sentence"),
    [
        ({"ruler": ["ruler"]}, "400 images and 1 concepts need"),
        ({**PHRASES, "hair": []}, "each needs one or more"),
        ({**PHRASES, "hair": ["hair", " "]}, "each needs one or more"),
        ({**PHRASES, "hair": [NOTHING]}, "each needs one or more"),
    ],
)
def test_phrases_that_do_not_fit_are_one_sentence(tmp_path, phrases, sentence):
    with pytest.raises(InputError, match=sentence):
        train_captioner(tmp_path / "a", *planted(), phrases, encoder_fingerprint="e" * 64)


def test_concepts_that_never_vary_teach_nothing(tmp_path):
    image_nd, truth_nc = planted()
    with pytest.raises(InputError, match="No concept shows on at least"):
        train_captioner(
            tmp_path / "a", image_nd, np.ones_like(truth_nc), PHRASES, encoder_fingerprint="e" * 64
        )
