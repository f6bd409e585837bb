"""A stage is one module: found, made after what it needs, kept, checked, and read by its name."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from csp_engine.bundle import Bundle, kinds, verify
from csp_engine.errors import InputError
from csp_engine.pipeline import build, relabel
from csp_engine.pipeline.recipe import changed
from csp_engine.pipeline.registered import STAGES, in_order
from csp_engine.search.projection import laid_out_later
from tests.worlds import toys

ROOT = Path(__file__).resolve().parents[2]
EXTENSION = """
import numpy as np

from csp_engine.bundle import kinds
from csp_engine.bundle.kinds import StageFile, StageKind
from csp_engine.pipeline.stage import Made, Stage

KIND = StageKind(
    "sparseness",
    "How many images carry half of each unit's activation.",
    of=("model", "layer"),
    needs=("activations", "scores"),
    files=(StageFile("n_half.npy", "int32", "u", "images that carry half"),),
    facts=("n_units",),
)


def make(run, model, layer):
    values_un = np.abs(run.bundle.activations(model, layer))
    sorted_un = -np.sort(-values_un, axis=1)
    share_un = np.cumsum(sorted_un, axis=1) >= 0.5 * values_un.sum(axis=1, keepdims=True)
    n_half_u = (share_un.argmax(axis=1) + 1).astype(np.int32)
    return Made(arrays={"n_half": n_half_u}, facts={"n_units": len(n_half_u)})


STAGE = Stage(
    kind=KIND,
    params=lambda run, model, layer: {"share": 0.5},
    needs=lambda run, model, layer: [kinds.ACTIVATIONS.name(model, layer)],
    make=make,
)
"""
BUILD = """
import sys
from pathlib import Path

from csp_engine.pipeline import build
from tests.worlds import toys

folder = Path(sys.argv[1])
for _ in range(2):
    build(toys.request(folder, folder / "own.csp", n_influence_images=0))
"""


def run_python(code: str, *arguments: str, extensions: str = "") -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CSP_EXTENSIONS": extensions}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_stage_of_an_extension_is_made_kept_and_read(tmp_path):
    (tmp_path / "more" / "stages").mkdir(parents=True)
    (tmp_path / "more" / "stages" / "sparseness.py").write_text(EXTENSION)
    run_python(BUILD, str(tmp_path), extensions=str(tmp_path / "more"))
    bundle = Bundle.open(tmp_path / "own.csp")
    names = {f"sparseness:small/{layer}" for layer in bundle.layers("small")}
    assert names == {name for name in bundle.manifest.stages if name.startswith("sparseness")}
    assert verify(bundle) == []
    for layer in bundle.layers("small"):
        name = f"sparseness:small/{layer}"
        n_half_u = bundle.array(name, "n_half")
        activation_un = abs(bundle.activations("small", layer))
        for unit, n_half in enumerate(n_half_u.tolist()):
            carried = sum(sorted(activation_un[unit].tolist(), reverse=True)[:n_half])
            assert carried >= 0.499 * activation_un[unit].sum()
        assert bundle.stage(name).facts == {"n_units": len(n_half_u)}
    # Where the extension is not loaded, its stages stay while what they were made from does.
    again = relabel(bundle.path, changed(toys.SMALL, {"gamma": 0.5}))
    assert names <= set(again.manifest.stages)
    assert verify(again) == []


def test_stages_come_after_what_they_need():
    names = [stage.name for stage in STAGES]
    assert names == [name for name in kinds.KINDS if name in names]
    for stage in STAGES:
        assert stage.kind is kinds.KINDS[stage.name]
    backwards = in_order(reversed(STAGES))
    for place, stage in enumerate(backwards):
        assert not {later.name for later in backwards[place + 1 :]} & set(stage.kind.needs)


def test_stages_that_need_one_another_are_refused():
    first, second = STAGES[:2]
    circle = [
        replace(first, kind=replace(first.kind, prefix="a", needs=("b",))),
        replace(second, kind=replace(second.kind, prefix="b", needs=("a",))),
    ]
    with pytest.raises(InputError, match="stages a, b need one another"):
        in_order(circle)


def test_the_map_is_begun_before_methods_that_it_does_not_show(tmp_path):
    """It is laid out elsewhere meanwhile; CSP+ comes first on all layers, as it reads activations.

    A stage that is not asked for again is not begun either.
    """
    methods = ("csp_plus", "csp", "semanticlens")
    recipe = changed(toys.SMALL, {"methods": methods})
    bundle = build(toys.request(tmp_path, tmp_path / "a.csp", recipe=recipe))
    order, begun = [], []

    def lay_out(vector_ud, **settings):
        begun.append((len(vector_ud), list(order)))
        return laid_out_later(vector_ud, **settings)

    def told(stage, *_):
        if " of " in stage and stage not in order:
            order.append(stage)

    new = toys.words(tmp_path / "new", [*toys.WORDS[:-1], "edge"])
    relabel(bundle.path, recipe, new, toys.ColourEncoder(), told, lay_out=lay_out)
    layers = bundle.layers(*bundle.model_names)
    (size, before), *others = begun
    assert not others
    assert size == len(Bundle.open(bundle.path).table("projection:csp_plus", "rows"))
    assert before == [f"csp_plus of {layer}" for layer in layers]
    assert {f"{method} of {layer}" for method in methods for layer in layers} <= set(order)
    begun.clear()
    relabel(bundle.path, changed(recipe, {"gamma": 0.5}), lay_out=lay_out)
    assert not begun
