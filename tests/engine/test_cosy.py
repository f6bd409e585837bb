"""CoSy: the formula, makers of images, and labels of a bundle shown to its networks."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from scipy.stats import mannwhitneyu
from sklearn.metrics import roc_auc_score

from csp_engine import pipeline
from csp_engine.bundle import Bundle
from csp_engine.demo.simulator.cases import concept_table, draw_cases
from csp_engine.demo.simulator.making import DRAWN, SimulatorMaker
from csp_engine.encoders.making import load_maker
from csp_engine.errors import InputError, MissingModelError
from csp_engine.evaluation.faithfulness.cosy import cosy
from csp_engine.views.benchmark.cosy import cosy_benchmark
from tests.engine.test_cli import run
from tests.reference import faithfulness_reference as slow
from tests.worlds import toys


@pytest.mark.parametrize("kind", ["plain", "ties", "dead", "constant control"])
def test_cosy_is_its_formula_and_counts_ties_half(kind):
    rng = np.random.default_rng(0)
    made_m, control_n = rng.normal(1, 1, 12), rng.normal(0, 1, 30)
    if kind == "ties":
        made_m, control_n = np.round(made_m), np.round(control_n)
    elif kind == "dead":
        made_m, control_n = np.zeros(12), np.zeros(30)
    elif kind == "constant control":
        control_n = np.zeros(30)
    made_m, control_n = made_m.astype(np.float32), control_n.astype(np.float32)
    found = cosy(made_m, control_n)
    values = [*made_m.tolist(), *control_n.tolist()]
    truth = [1.0] * 12 + [0.0] * 30
    assert found.auroc == pytest.approx(slow.auroc(values, truth))
    assert found.auroc == pytest.approx(roc_auc_score(truth, values))
    assert found.auroc == pytest.approx(mannwhitneyu(made_m, control_n).statistic / 360)
    assert found.mad == pytest.approx(slow.mad(values, truth), abs=1e-5)
    assert found.auroc_low <= found.auroc <= found.auroc_high
    if kind == "dead":
        assert (found.auroc, found.mad) == (0.5, 0)


def test_one_image_is_too_few():
    with pytest.raises(InputError, match="CoSy compares 1 images of a label with 5 others"):
        cosy(np.ones(1, np.float32), np.ones(5, np.float32))


def test_the_simulator_draws_what_the_label_names():
    maker = SimulatorMaker()
    assert maker.concepts("Bubbles") == ("gel bubbles",)
    assert maker.concepts("ruler and dense hair") == ("ruler", "dense hair")
    assert maker.concepts("ruler and cat") == ()
    assert maker.images("cat", 3, seed=1) == []
    one, two = (maker.images("ruler", 2, seed=1) for _ in range(2))
    assert [np.array_equal(a, b) for a, b in zip(one, two, strict=True)] == [True, True]
    cases = draw_cases("words", DRAWN, 1)
    assert concept_table(cases)["ruler"].sum() >= 20  # as many images as CoSy asks for


class ColourMaker:
    """Plain pictures of a colour; knows no other word."""

    name = "colours"

    def images(self, text, n, seed):
        if text not in toys.COLOURS:
            return []
        rng = np.random.default_rng(seed)
        pixels = np.array(toys.COLOURS[text]) + rng.normal(0, 20, (n, 40, 40, 3))
        return [Image.fromarray(each) for each in pixels.clip(0, 255).astype(np.uint8)]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    folder = tmp_path_factory.mktemp("cosy")
    return pipeline.build(toys.request(folder, folder / "a.csp"))


def test_labels_that_excite_come_out_ahead(bundle):
    model = toys.target().model
    found = cosy_benchmark(bundle, ColourMaker(), {"small": model}, n_images=6, n_control=28)
    told = [row for row in found["neurons"] if not np.isnan(row["auroc"])]
    assert told
    from csp_engine.networks.activations import ActivationRecorder
    from csp_engine.networks.layers import select_layers

    for row in told[:4]:
        _, layer, unit = row["neuron"].split("/")
        with ActivationRecorder(model, select_layers(model, [layer])) as recorder:
            images = ColourMaker().images(row["label"], 6, 0)
            acts_nu = recorder(np.stack([model.preprocess(image) for image in images]))[layer]
        quiet = bundle.activations("small", layer)[int(unit)]
        own = (acts_nu[:, int(unit)][:, None] > quiet[None]).mean()
        # Thumbnails lose little of a plain picture.
        assert row["auroc"] == pytest.approx(own, abs=0.15)
    assert set(found["methods"]) == {"csp", "semanticlens", "clip_dissect"}
    total = sum(own["n"] + own["n_not_made"] for own in found["methods"].values())
    assert total == len(found["neurons"])


def test_another_network_and_a_maker_that_knows_no_label_are_refused(bundle):
    other = replace(toys.target(name="small").model, fingerprint="x")
    with pytest.raises(InputError, match="small is not the network that a was built with"):
        cosy_benchmark(bundle, ColourMaker(), {"small": other}, n_images=2)
    with pytest.raises(InputError, match="simulator can show none of the"):
        cosy_benchmark(bundle, SimulatorMaker(), {"small": toys.target().model}, n_images=2)


def test_a_maker_is_named_and_needs_its_package(monkeypatch, tmp_path):
    with pytest.raises(InputError, match="'dalle/x' makes no images; name simulator"):
        load_maker("dalle/x")
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(MissingModelError, match="needs the package diffusers"):
        load_maker("diffusers/some/model")


def test_any_pipeline_of_diffusers_makes_images_from_seeds_of_their_own(monkeypatch, tmp_path):
    """The package itself is large; this has the two calls that are used of it."""
    (tmp_path / "diffusers.py").write_text(
        "import numpy as np\n"
        "from types import SimpleNamespace\n"
        "from PIL import Image\n"
        "class AutoPipelineForText2Image:\n"
        "    @classmethod\n"
        "    def from_pretrained(cls, source):\n"
        "        if source == 'lost': raise OSError('lost is not there.')\n"
        "        return cls()\n"
        "    def to(self, device): return self\n"
        "    def set_progress_bar_config(self, disable): pass\n"
        "    def __call__(self, prompt, generator, height, width, num_inference_steps):\n"
        "        assert prompt == 'realistic photo of a close up of a ruler'\n"
        "        level = generator.initial_seed() % 256\n"
        "        pixels = np.full((height, width, 3), level, np.uint8)\n"
        "        return SimpleNamespace(images=[Image.fromarray(pixels)])\n",
        "utf-8",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "diffusers", raising=False)
    with pytest.raises(MissingModelError, match=r"lost is not there\); give the name"):
        load_maker("diffusers/lost")
    images = load_maker("diffusers/any").images("a ruler", 3, seed=7)
    assert [np.asarray(image)[0, 0, 0] for image in images] == [7, 8, 9]
    sys.modules.pop("diffusers")


def test_csp_evaluate_with_cosy(capsys, bundle):
    code, _, err = run(capsys, "evaluate", bundle.path, "--cosy", "simulator", "--units", 3)
    assert (code, "--cosy goes alone" in err) == (2, True)
    code, _, err = run(capsys, "evaluate", bundle.path, "--cosy", "other")
    assert (code, "name simulator, or diffusers/NAME_OR_FOLDER" in err) == (2, True)
