"""What is added in one file is found by every front; what cannot be added is told in a sentence."""

from __future__ import annotations

import importlib
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from csp_engine import cli
from csp_engine.audits.measuring import measure_units
from csp_engine.audits.registered import AUDITS
from csp_engine.audits.statistic import Statistic
from csp_engine.bundle import Bundle, KeptScores, copy_slim, kinds
from csp_engine.errors import BundleError, InputError
from csp_engine.evaluation.metrics.metric import Columns, Judged, Metric
from csp_engine.evidence.evidence import NEEDS, UndeclaredNeedError, require_needs
from csp_engine.methods import (
    METHODS,
    Method,
    OwnLabel,
    Parameter,
    Scored,
    Stores,
    Written,
    label_layer,
)
from csp_engine.pipeline import build, deriving, relabel
from csp_engine.pipeline.recipe import Recipe, changed, named_recipe
from csp_engine.pipeline.registered import STAGES
from csp_engine.pipeline.sharing import held
from csp_engine.pipeline.stage import Made, Stage
from csp_engine.pipeline.stages.statistics import require_own_columns
from csp_engine.registry import blamed, discover
from csp_engine.types import NeuronRef
from csp_engine.views.memo import Memo
from csp_engine.views.neuron.label import best_label
from csp_engine.views.table.rows import neuron_table
from tests.worlds import small_layers, toys

ROOT = Path(__file__).resolve().parents[2]
LAYER = "first@mean"


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """An extension in a folder of its own, and what a process that is given it says."""
    folder = tmp_path_factory.mktemp("extension")
    shutil.copytree(ROOT / "tests" / "worlds" / "extension", folder / "mine")
    settings = {"CSP_EXTENSIONS": str(folder / "mine"), "CSP_BUNDLES": str(folder)}
    settings["CSP_REVIEWS"] = str(folder / "reviews.sqlite")
    done = subprocess.run(
        [sys.executable, "-m", "tests.worlds.extended", str(folder)],
        cwd=ROOT,
        env={**os.environ, **settings, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, json.loads(done.stdout)


# ---------------------------------------------------------------- what is found


@pytest.mark.slow
def test_a_method_of_an_extension_is_in_command_line_bundle_and_table(extended):
    _, said = extended
    assert f"scores:small/{LAYER}/toy_rule" in said["stages"]
    assert "index:toy_rule" not in said["stages"]  # it has no concept vectors
    assert said["info"]["recipe"]["methods"] == ["csp", "toy_rule"]
    assert said["info"]["recipe"]["toy_rule.n_kept"] == 2
    assert said["params"]["n_kept"] == 2
    assert set(said["labels"]) == {"is red", "is blue"}


def test_a_statistic_of_an_extension_has_a_stage_and_a_column(extended):
    folder, said = extended
    assert f"statistic:small/{LAYER}/toy_reach" in said["stages"]
    assert "toy_reach" in said["info"]["layers"][0]["statistics"]
    activation_un = np.asarray(Bundle.open(folder / "a.csp").activations("small", LAYER))
    expected = activation_un.max(axis=1) - activation_un.mean(axis=1)
    np.testing.assert_allclose(said["toy_reach"], expected, rtol=1e-5)


def test_a_metric_of_an_extension_is_in_ground_truth_and_table(extended):
    _, said = extended
    assert said["truth_metrics"] == {"toy_gap": 1}
    assert said["info"]["layers"][0]["metrics"] == ["pearson", "auroc", "auprc", "toy_gap"]
    assert said["columns"] == ["toy_reach", "toy_gap"]
    assert any(said["toy_gap"])


def test_a_stage_of_an_extension_is_made_and_can_be_read_without_it(extended):
    folder, said = extended
    assert f"toy_count:small/{LAYER}" in said["stages"]
    bundle = Bundle.open(folder / "a.csp")
    count_u = bundle.exemplars("small", LAYER).count_u
    np.testing.assert_array_equal(bundle.array(f"toy_count:small/{LAYER}", "count"), count_u)


def test_a_page_of_an_extension_is_in_the_navigation(extended):
    _, said = extended
    assert said["page"] == ["Toy page", "toy_page", ["A page of an extension."]]


def test_the_documents_of_an_extension_are_checked_like_ours(extended):
    _, said = extended
    assert "passed" in said["documents"], said["documents"]
    assert "failed" not in said["documents"]


def test_the_stage_keys_of_a_build_do_not_know_that_an_extension_is_there(extended, tmp_path):
    """All but those that hold what it adds: the same images and settings, without it."""
    folder, _ = extended
    held = Bundle.open(folder / "a.csp").manifest.stages
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("CSP_EXTENSIONS", raising=False)
        recipe = named_recipe("default", 6, {"n_null": "30", "methods": "csp"})
        probe = toys.read_probe_set(folder / "images" / "table.csv")
        request = toys.request(
            folder,
            tmp_path / "b.csp",
            probe=probe,
            recipe=recipe,
            targets=(toys.target(("first",)),),
        )
        ours = build(request).manifest.stages
    same = [name for name in ours if name.split(":")[0] not in ("influence",)]
    assert {name: ours[name].key for name in same} == {name: held[name].key for name in same}


# ---------------------------------------------------------------- what an absent one leaves


def test_labels_of_a_method_that_is_not_here_are_shown_as_they_are(extended):
    folder, said = extended
    assert "toy_rule" not in METHODS
    bundle = Bundle.open(folder / "a.csp")
    kept = KeptScores(bundle, "small", LAYER, "toy_rule")
    assert (kept.method, kept.has_halves, kept.gamma, kept.null_vectors()) == (
        None,
        False,
        None,
        None,
    )
    assert neuron_table(bundle, Memo(), "toy_rule")["label"].tolist() == said["labels"]
    assert best_label(bundle, NeuronRef("small", LAYER, 0), "toy_rule").text == said["labels"][0]
    assert "toy_reach" in bundle.units("small", LAYER)


def test_labelling_again_without_the_extension_names_the_method_that_is_missing(extended):
    folder, _ = extended
    recipe = Bundle.open(folder / "a.csp").manifest.recipe
    with pytest.raises(InputError, match="'toy_rule' does not exist; choose one of csp"):
        Recipe.from_json(recipe)
    again = Recipe.restated(recipe, {"methods": "csp"})
    assert (again.methods, again.n_exemplars, again.parameters) == (("csp",), 6, ())


# ---------------------------------------------------------------- what a method declares


def written(needs, read, **changes):
    """A method that reads something and calls every neuron by it."""

    def score(evidence, label_td, params):
        read(evidence)
        return Written([[OwnLabel("same", 1.0)] for _ in range(evidence.n_units)])

    arguments = {"name": "reader", "title": "Reader", "summary": "Reads.", "version": 1}
    return Method(
        **arguments | changes,
        parameters=(Parameter("n_score", 3, "exemplars", low=1),),
        needs=needs,
        writes=True,
        score=score,
    )


@pytest.mark.parametrize("need", ["activations", "columns", "masks", "texts", "null", "candidates"])
def test_reading_the_undeclared_names_the_method_and_the_need(need):
    attribute = {"activations": "activation_un"}.get(need, need)
    method = written(("exemplars",), lambda evidence: getattr(evidence, attribute))
    rng = np.random.default_rng(0)
    evidence = small_layers.awkward(rng, 5, 30, 6, 4, 1)
    null = small_layers.noise(rng, evidence.image_nd, 20)
    asked = evidence.asked_by("Method 'reader'", method.needs, {need: lambda units: units})
    with pytest.raises(UndeclaredNeedError, match=rf"'reader' reads {NEEDS[need]}.*'{need}'"):
        label_layer(method, asked, null, np.eye(6, dtype=np.float32), {})


def test_what_is_needed_is_given_for_the_units_of_the_block_and_loaded_once():
    """Any block size: every unit sees its own activations, and shared things are asked for once."""
    rng = np.random.default_rng(1)
    evidence = small_layers.awkward(rng, 7, 30, 6, 4, 1)
    null = small_layers.noise(rng, evidence.image_nd, 20)
    activation_un = rng.standard_normal((7, 30)).astype(np.float32)
    asked = []

    def read(block):
        seen.append(block.activation_un.copy())
        assert block.texts == ["a"]

    def texts(units):
        asked.append(units)
        return ["a"]

    for unit_block in (1, 3, 100):
        seen, asked = [], []
        method = written(("activations", "texts"), read, has_null=False)
        sources = {"activations": lambda units: activation_un[units], "texts": texts}
        given = evidence.asked_by("Method 'reader'", method.needs, sources)
        label_layer(method, given, null, np.eye(6, dtype=np.float32), {}, unit_block=unit_block)
        alive = evidence.exemplars.count_u > 0
        rows = np.concatenate(seen)
        assert len(rows) == alive.sum()
        assert {row.tobytes() for row in rows} == {row.tobytes() for row in activation_un[alive]}
        assert len(asked) == 1


def test_methods_that_do_not_declare_contrast_images_do_not_look_at_them():
    rng = np.random.default_rng(2)
    evidence = small_layers.awkward(rng, 6, 40, 8, 10, 2)
    other = small_layers.awkward(rng, 6, 40, 8, 10, 2).contrast
    label_td = small_layers.unit_rows(rng, 12, 8)
    for method in METHODS.values():
        asked = evidence.asked_by("a test", method.needs)
        scrambled = replace(asked, contrast=other)
        one, two = (
            label_arrays(method.score(e, label_td, method.params)) for e in (asked, scrambled)
        )
        assert (one == two) == ("contrast" not in method.needs), method.name


def label_arrays(said):
    """What a method says of labels, to be compared."""
    return said.labels if isinstance(said, Written) else said.score_ut.tolist()


@pytest.fixture
def reader(monkeypatch):
    """A method in the registry that needs activations and concept columns."""
    method = written(("activations", "columns"), lambda e: (e.activation_un, e.columns))
    monkeypatch.setitem(METHODS, "reader", method)
    return method


@pytest.mark.usefixtures("reader")
def test_a_build_whose_probe_set_lacks_columns_refuses_before_it_measures(tmp_path):
    recipe = changed(toys.SMALL, {"methods": "csp,reader"})
    with pytest.raises(InputError, match="'reader' needs concept columns, and images has none"):
        build(toys.request(tmp_path, tmp_path / "a.csp", recipe=recipe))
    assert not (tmp_path / "a.csp").exists()


def test_a_slim_copy_refuses_methods_that_need_activations_and_keeps_all(
    reader, extended, tmp_path
):
    folder, _ = extended
    slim = copy_slim(Bundle.open(folder / "a.csp"), tmp_path / "slim.csp")
    held = slim.manifest.stages
    recipe = changed(named_recipe("default", 6, {"n_null": 30}), {"methods": "csp,reader"})
    with pytest.raises(BundleError, match=r"'reader' needs activations over .*leaves out"):
        relabel(slim.path, recipe)
    assert Bundle.open(slim.path).manifest.stages.keys() == held.keys()


def test_a_run_of_units_is_read_without_a_copy():
    array_un = np.arange(20.0).reshape(5, 4)
    assert np.shares_memory(held._rows(array_un, np.array([1, 2, 3])), array_un)
    np.testing.assert_array_equal(held._rows(array_un, np.array([3, 1])), array_un[[3, 1]])


# ---------------------------------------------------------------- parameters


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"clip_dissect.scale": "-1"}, r"^clip_dissect\.scale is -1"),
        ({"clip_dissect.scale": "much"}, r"^clip_dissect\.scale cannot be 'much'; give a number\."),
        ({"clip_dissect.n_images": "2.5"}, "cannot be '2.5'; give a whole number"),
        ({"n_null": "many"}, "n_null cannot be 'many'; give a whole number"),
        ({"renormalise": "perhaps"}, "renormalise cannot be 'perhaps'; give true or false"),
        ({"clip_dissect.skale": 2}, "Did you mean 'scale'"),
        ({"clip.scale": 2}, "'clip' does not exist"),
        ({"csp.gamma": 0.5}, "set as gamma"),
    ],
)
def test_parameters_of_methods_are_checked_by_name(values, words):
    with pytest.raises(InputError, match=words):
        changed(Recipe(), values)


@pytest.mark.parametrize("methods", ["csp", "semanticlens,csp"])
def test_published_parameters_come_with_the_preset(monkeypatch, methods):
    """Those of the recipe's fields, and those of methods that are named with the preset."""
    steps = Parameter("n_steps", 3, "steps", low=1, published=9)
    method = replace(written(("exemplars",), print), name="stepper", parameters=(steps,), depth="")
    monkeypatch.setitem(METHODS, "stepper", method)
    recipe = named_recipe("paper", None, {"methods": f"{methods},stepper"})
    assert (recipe.weighting, recipe.prior, recipe.gamma) == ("raw", "layer", 1.0)
    assert recipe.method_params("stepper") == {"n_steps": 9}
    chosen = {"methods": "csp,stepper", "stepper.n_steps": 4, "weighting": "rank"}
    recipe = named_recipe("paper", None, chosen)
    assert (recipe.weighting, recipe.method_params("stepper")["n_steps"]) == ("rank", 4)
    assert named_recipe("default", None, chosen | {"stepper.n_steps": 3}).weighting == "rank"


def test_parameters_of_methods_survive_the_manifest():
    recipe = changed(Recipe(), {"clip_dissect.scale": "20", "clip_dissect.n_images": 50})
    assert recipe.method_params("clip_dissect")["scale"] == 20.0
    again = Recipe.from_json(json.loads(json.dumps(recipe.to_json())))
    assert again == recipe
    assert "parameters" not in Recipe().to_json()


# ---------------------------------------------------------------- what cannot be added


ONE = """
from dataclasses import dataclass

@dataclass(frozen=True)
class Thing:
    name: str
    order: int = 100

ONE = Thing("one")
"""


@pytest.fixture
def room(tmp_path, monkeypatch):
    """A package with one thing, and a folder for an extension of it."""
    package = tmp_path / "methods"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "one.py").write_text(ONE)
    (tmp_path / "mine" / "methods").mkdir(parents=True)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("CSP_EXTENSIONS", str(tmp_path / "mine"))
    import methods

    yield methods, tmp_path / "mine" / "methods"
    for name in [n for n in sys.modules if n == "methods" or n.startswith("methods.")]:
        del sys.modules[name]


def found(room):
    return discover("methods", importlib.import_module("methods.one").Thing, "thing")


def test_things_are_found_once_and_in_their_order(room):
    text = "from methods.one import ONE, Thing\n\nTWO, AGAIN = Thing('two', 5), ONE\n"
    (room[1] / "two.py").write_text(text)
    assert list(found(room)) == ["two", "one"]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        (
            "two",
            "from methods.one import Thing\n\nX = Thing('one')\n",
            "Two things .* 'one'",
        ),
        ("one", "", r"one\.py has the name of .*one\.py; give the file another name"),
        ("two", "import no_such_module\n", r"two\.py cannot be loaded \(ModuleNotFoundError"),
        ("two", "1 / 0\n", r"cannot be loaded \(ZeroDivisionError"),
        ("two", "x =\n", r"cannot be loaded \(SyntaxError"),
        (
            "two",
            "from csp_engine.errors import InputError\nraise InputError('A is B; do C.')\n",
            r"two\.py cannot be loaded: A is B; do C\.$",
        ),
    ],
)
def test_what_cannot_be_added_is_told(room, name, text, words):
    (room[1] / f"{name}.py").write_text(text)
    with pytest.raises(InputError, match=words):
        found(room)


def test_a_module_that_adds_nothing_is_told_unless_it_is_a_helper(room):
    (room[1] / "_helper.py").write_text("HALF = 0.5\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(found(room)) == ["one"]
    (room[1] / "forgotten.py").write_text("def score():\n    return 1\n")
    with pytest.warns(UserWarning, match=r"forgotten\.py declares no thing, so it adds nothing"):
        assert list(found(room)) == ["one"]


def test_a_folder_in_a_room_is_told_to_add_nothing_unless_it_is_a_helper(room):
    for name in ("_helpers", "more"):
        (room[1] / name).mkdir()
        (room[1] / name / "two.py").write_text("1 / 0\n")
    with pytest.warns(UserWarning, match=r"more is a folder in a room, so it adds nothing") as said:
        assert list(found(room)) == ["one"]
    assert len(said) == 1


def test_a_folder_that_is_not_there_is_told(room, monkeypatch, tmp_path):
    monkeypatch.setenv("CSP_EXTENSIONS", str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="does not exist"):
        found(room)
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("CSP_EXTENSIONS", str(tmp_path / "empty"))
    with pytest.raises(InputError, match="has none of the folders methods"):
        found(room)


@pytest.mark.parametrize("text", ["1 / 0\n", "raise SystemExit(0)\n"])
def test_a_command_says_in_one_sentence_what_cannot_be_added(tmp_path, text):
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "broken.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "csp_engine", "info", "none.csp"],
        env=os.environ | {"CSP_EXTENSIONS": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "broken.py cannot be loaded" in done.stderr


def test_a_method_whose_depth_is_no_parameter_is_refused():
    with pytest.raises(InputError, match="depth 'n_score', which is not one of its parameters"):
        Method(name="deep", title="Deep", summary="Deep.", version=1, parameters=(), score=print)


# ---------------------------------------------------------------- what is declared wrongly


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "a/b"}, "called 'a/b'; a name is small letters"),
        ({"name": "../b"}, "called '../b'; a name"),
        ({"name": "My method"}, "called 'My method'; a name"),
        ({"name": ""}, "called ''; a name"),
        ({"title": " "}, "'reader' has the title ' '; give it words"),
        ({"summary": ""}, "'reader' has the summary ''"),
    ],
)
def test_a_name_that_can_stand_in_no_file_and_missing_words_are_refused(changes, words):
    with pytest.raises(InputError, match=words):
        written(("exemplars",), print, **changes)


DEPTH = Parameter("n_score", 3, "exemplars", low=1)


@pytest.mark.parametrize(
    ("parameter", "words"),
    [
        (Parameter("x", None, "text"), "'x' has the default None; give it a number, a text"),
        (Parameter("x", [1, 2], "text"), r"'x' has the default \[1, 2\]; give"),
        (Parameter("x.y z", 1, "text"), "parameter of label method 'reader' is called 'x.y z'"),
        (Parameter("x", 1, " "), "'x' has the meaning ' '; give it words"),
        (Parameter("x", 9, "text", low=1, high=5), "'x' refuses its own default: x is 9; give"),
        (Parameter("x", "z", "text", choices=("a", "b")), "refuses its own default: x is 'z'"),
        (Parameter("x", 1, "text", published="y"), "'x' refuses its own published: x is 'y'"),
    ],
)
def test_a_parameter_that_nobody_could_set_is_refused(parameter, words):
    with pytest.raises(InputError, match=words):
        replace(written(("exemplars",), print), parameters=(DEPTH, parameter))


@pytest.mark.parametrize(
    ("stores", "words"),
    [
        (Stores(arrays={"score_uk": "text"}), "'reader' stores 'score_uk', which every method has"),
        (Stores(arrays={"a/b": "text"}), "called 'a/b'; a name is"),
        (Stores(arrays={"mine": ""}), "'mine' has the meaning ''; give it words"),
        (Stores(signals=("mine",)), "the signal 'mine', which is none of the arrays .* nothing"),
    ],
)
def test_what_cannot_be_kept_is_refused(stores, words):
    with pytest.raises(InputError, match=words):
        replace(written(("exemplars",), print), stores=stores)


def test_figures_whose_bounds_leave_no_value_are_refused():
    words = "'mine' lies between 5 and 1; low must be less than high"
    said = {"name": "mine", "title": "Mine", "meaning": "Mine.", "low": 5, "high": 1}
    with pytest.raises(InputError, match=words):
        Statistic(**said, measure=lambda seen: {})
    with pytest.raises(InputError, match=words):
        Metric(**said, compute=lambda judged: np.ones((1, 1)))


MISTAKEN = """
from csp_engine.audits.statistic import Statistic
from csp_engine.errors import InputError
from csp_engine.evaluation.metrics.metric import Metric
from csp_engine.methods import Method, Stores
SAID = {"name": "mine", "title": "Mine", "meaning": "Mine."}
METHOD = {"name": "mine", "title": "Mine", "summary": "Mine.", "parameters": (), "depth": ""}
for make in (
    lambda: Statistic(**SAID, measure=print, version="one"),
    lambda: Metric(**SAID, compute=print, order="first"),
    lambda: Method(**METHOD, score=print, version=1.5),
    lambda: Statistic(**SAID, measure=print, kind="text"),
    lambda: Metric(**SAID, compute=print, kind="text"),
    lambda: Method(**METHOD, score=print, version=1, stores=Stores(vectors="mine")),
):
    try:
        make()
    except InputError as error:
        print(error)
    else:
        print("not refused")
"""


def test_what_type_checks_would_find_is_told_where_nobody_runs_them():
    """Tests check all types; a user's process does not."""
    done = subprocess.run(
        [sys.executable, "-c", MISTAKEN], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [
        "The statistic 'mine' has the version 'one'; give it a whole number.",
        "The metric 'mine' has the order 'first'; give it a whole number.",
        "The label method 'mine' has the version 1.5; give it a whole number.",
        "The statistic 'mine' has the kind 'text'; choose from number, figure, count, share.",
        "The metric 'mine' has the kind 'text'; choose from number, figure, count, share.",
        "Label method 'mine' stores the vectors 'mine'; choose from own, label, none.",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("room", ["audits", "metrics"])
def test_a_figure_called_as_another_column_is_refused_before_anything_is_built(tmp_path, room):
    """The table of neurons could show only one of them."""
    kind, measured = {
        "audits": ("audits.statistic import Statistic as Figure", "measure"),
        "metrics": ("evaluation.metrics.metric import Metric as Figure", "compute"),
    }[room]
    (tmp_path / room).mkdir()
    (tmp_path / room / "mine.py").write_text(
        f"from csp_engine.{kind}\n"
        f"X = Figure(name='label', title='Label', meaning='A label.', {measured}=print)\n"
    )
    out = tmp_path / "a.csp"
    toys.draw_images(tmp_path / "images", 4)
    command = ["build", tmp_path / "images", "--out", out, "--model", "torchvision/none"]
    done = subprocess.run(
        [sys.executable, "-m", "csp_engine", *command, "--layer", "x", "--encoder", "none"],
        env=os.environ | {"CSP_EXTENSIONS": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "'label' has the name of another column of the table of neurons" in done.stderr
    assert (done.stderr.count("\n"), out.exists()) == (1, False)


def test_needs_that_do_not_exist_are_refused():
    words = "needs 'magic'; what can be needed is exemplars, contrast, activations, layer"
    with pytest.raises(InputError, match=words):
        written(("magic",), print)
    with pytest.raises(InputError, match=words):
        Statistic(name="x", title="X", meaning="X.", measure=lambda seen: {}, needs=("magic",))
    with pytest.raises(InputError, match=r"has the needs 'masks'; write \('masks',\)"):
        require_needs("it", "masks")


def test_what_is_not_declared_is_not_at_hand_either():
    """Whoever takes the sources by hand instead of asking the evidence finds no others."""
    rng = np.random.default_rng(0)
    evidence = small_layers.awkward(rng, 5, 30, 6, 4, 1)
    sources = dict.fromkeys(NEEDS, lambda units: units)
    asked = evidence.asked_by("it", ("texts",), sources)
    assert list(asked.given.sources) == ["texts"]
    assert list(asked.asked_by("another", ()).given.sources) == []


def flat(n_units, n_labels):
    """Scores in which every label is as good as any other."""
    return np.zeros((n_units, n_labels), np.float32)


def all_of(n_units):
    return np.ones(n_units, bool)


@pytest.mark.parametrize(
    ("score", "words"),
    [
        (lambda e, t, p: None, "gives NoneType; .* must give Scored"),
        (lambda e, t, p: Written([]), "gives Written; it has writes=False and must give Scored"),
        (lambda e, t, p: Scored(flat(2, 9), all_of(2)), r"gives score_ut of shape \(2, 9\); it"),
        (
            lambda e, t, p: Scored(flat(e.n_units, len(t)), all_of(e.n_units), flat(e.n_units, 2)),
            r"gives vector_ud of shape \(\d+, 2\); it must be of shape \(\d+, 6\)",
        ),
        (
            lambda e, t, p: Scored(
                flat(e.n_units, len(t)), all_of(e.n_units), extra={"zz": all_of(e.n_units)}
            ),
            "stores nothing, and differs in zz",
        ),
        (
            lambda e, t, p: Scored(flat(e.n_units, len(t)) * np.nan, all_of(e.n_units)),
            "scores that are no finite numbers",
        ),
        (
            lambda e, t, p: Scored(flat(e.n_units, len(t)) - np.inf, all_of(e.n_units)),
            "scores that are no finite numbers",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_what_a_method_gives_wrongly_is_told_before_it_is_kept(score, words):
    rng = np.random.default_rng(0)
    evidence = small_layers.awkward(rng, 5, 30, 6, 4, 1)
    null = small_layers.noise(rng, evidence.image_nd, 20)
    method = replace(written(("exemplars",), print), writes=False, score=score)
    with pytest.raises(InputError, match=words):
        label_layer(method, evidence, null, np.eye(6, dtype=np.float32), {})


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([], r"gives labels of 0 units; it was given"),
        ([[OwnLabel("x", float("nan"))]] * 99, "gives the label 'x' the score nan"),
    ],
)
def test_labels_that_a_method_writes_wrongly_are_told(labels, words):
    rng = np.random.default_rng(0)
    evidence = small_layers.awkward(rng, 5, 30, 6, 4, 1)
    null = small_layers.noise(rng, evidence.image_nd, 20)
    method = replace(
        written(("exemplars",), print), score=lambda e, t, p: Written(labels[: e.n_units])
    )
    with pytest.raises(InputError, match=words):
        label_layer(method, evidence, null, np.eye(6, dtype=np.float32), {})


@pytest.mark.parametrize(
    ("measure", "words"),
    [
        (lambda seen: None, "gives no 'mine'; it gives nothing"),
        (lambda seen: {"other": all_of(seen.evidence.n_units)}, "gives no 'mine'; it gives other"),
        (
            lambda seen: {"mine": np.ones(1)},
            r"gives mine of shape \(1,\); it must be of shape \(5,",
        ),
        (lambda seen: {"mine": np.ones((5, 2))}, "gives mine of 2 axes; a column has one"),
        (lambda seen: {"mine": np.full(5, np.inf)}, "gives mine without bound; give NaN where"),
        (lambda seen: {"mine": np.full(5, "a")}, "gives mine of <U1; give numbers"),
    ],
)
def test_what_a_statistic_gives_wrongly_is_told(measure, words):
    evidence = small_layers.awkward(np.random.default_rng(0), 5, 30, 6, 4, 1)
    statistic = Statistic(name="mine", title="Mine", meaning="Mine.", measure=measure)
    with pytest.raises(InputError, match=words):
        measure_units([statistic], evidence)


@pytest.mark.parametrize("name", ["mean", "clarity"])
def test_a_statistic_of_the_name_of_another_column_is_refused(name):
    mine = Statistic(name=name, title="Mine", meaning="Mine.", measure=lambda seen: {}, order=200)
    with pytest.raises(InputError, match=f"'{name}' has the column '{name}', which"):
        require_own_columns([*AUDITS.values(), mine])


def test_a_metric_of_another_shape_is_told():
    metric = Metric(name="mine", title="Mine", meaning="Mine.", compute=lambda judged: np.ones(3))
    judged = Judged(np.ones((4, 9), np.float32), Columns(np.eye(9)[:, :2]))
    with pytest.raises(InputError, match=r"'mine' gives figures of shape \(3,\); .* \(4, 2\)"):
        metric.figures(judged)


NUMBERS = (kinds.StageFile("number.npy", "int32", "u", "a number"),)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"make": lambda run, *of: None}, "'mine' gives NoneType; it must give Made"),
        ({"params": lambda run, *of: {"x": print}}, "'mine' gives params that a manifest cannot"),
        (
            {"make": lambda run, *of: Made(facts={"x": np.int32(1)})},
            "'mine' gives facts that a manifest cannot hold .*int32.*; give numbers, texts",
        ),
        ({"make": lambda run, *of: Made()}, "declares number.npy and gives none"),
        (
            {"make": lambda run, *of: Made(arrays={"other": np.ones(2, np.int32)})},
            "gives other.npy; they differ in other.npy",
        ),
        (
            {"make": lambda run, *of: Made(arrays={"number": np.ones(2)})},
            "declares number.npy of int32 and gives float64",
        ),
        (
            {"needs": lambda run, *of: ["nothing"]},
            "needs 'nothing', which this build does not make",
        ),
    ],
)
def test_what_a_stage_gives_wrongly_is_told(tmp_path, monkeypatch, arguments, words):
    kind = kinds.StageKind("mine", "Mine.", of=("model", "layer"), files=NUMBERS)
    plain = {"params": lambda run, *of: {}, "needs": lambda run, *of: [], "make": print}
    monkeypatch.setattr(deriving, "STAGES", [*STAGES, Stage(kind=kind, **plain | arguments)])
    with pytest.raises(InputError, match=words):
        build(toys.request(tmp_path, tmp_path / "a.csp"))


def test_a_stage_of_something_else_says_how_its_places_are_found(tmp_path, monkeypatch):
    kind = kinds.StageKind("mine", "Mine.", of=("planet",))
    stage = Stage(kind=kind, params=print, needs=print, make=print)
    monkeypatch.setattr(deriving, "STAGES", [*STAGES, stage])
    with pytest.raises(InputError, match="'mine' is of planet; say by places"):
        build(toys.request(tmp_path, tmp_path / "a.csp"))


# ---------------------------------------------------------------- what fails while it runs


def failing(folder, text):
    """The error of a module that lies in an extension."""
    (folder / "methods").mkdir()
    file = folder / "methods" / "mine.py"
    file.write_text(f"def score():\n    {text}\n")
    try:
        runpy.run_path(str(file))["score"]()
    except (Exception, SystemExit) as error:
        return error


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("raise ValueError('one\\ntwo')", r"ValueError: one\)"),
        ("raise SystemExit(0)", r"SystemExit: 0\)"),
        ("import json; json.loads('no')", r"JSONDecodeError: Expecting value.*\)"),
    ],
)
def test_what_fails_in_an_extension_is_told_with_its_line(tmp_path, monkeypatch, text, reason):
    monkeypatch.setenv("CSP_EXTENSIONS", str(tmp_path))
    error = failing(tmp_path, text)
    file = re.escape(str(tmp_path / "methods" / "mine.py"))
    assert re.search(rf"Extension {file} fails in line 2 \({reason}; mend it", str(blamed(error)))
    monkeypatch.setenv("CSP_EXTENSIONS", str(tmp_path / "another"))
    assert blamed(error) is None


@pytest.mark.parametrize("text", ["raise ValueError('boom')", "raise SystemExit(0)"])
def test_a_command_blames_the_extension_and_not_itself(tmp_path, monkeypatch, capsys, text):
    monkeypatch.setenv("CSP_EXTENSIONS", str(tmp_path))
    error = failing(tmp_path, text)

    def stopped(*arguments, **named):
        raise error

    monkeypatch.setattr(cli, "app", stopped)
    with pytest.raises(SystemExit) as stop:
        cli.main(["info"])
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("csp: Extension ")
    assert said.count("\n") == 1


def test_a_file_that_cannot_be_imported_by_its_name_is_told(room):
    (room[1] / "my method.py").write_text("")
    with pytest.raises(InputError, match=r"my method\.py cannot be imported under its name"):
        found(room)
