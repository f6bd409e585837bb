"""How often classifiers are right, stored with their bundle."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from csp_engine.bundle import verify
from csp_engine.errors import InputError
from csp_engine.pipeline import add_performance, build, relabel
from csp_engine.pipeline.recipe import Recipe
from tests.worlds import toys


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("performance")
    return build(toys.request(folder, folder / "a.csp"))


@pytest.mark.slow
def test_slices_are_kept_as_given_and_outlive_other_labels(bundle):
    assert bundle.performance("small") is None
    table = toys.slices().assign(scenario=["a", "b"])
    stored = add_performance(bundle.path, {"small": table})
    pd.testing.assert_frame_equal(stored.performance("small"), table)
    recipe = Recipe.from_json(stored.manifest.recipe)
    done = relabel(bundle.path, replace(recipe, gamma=0.5))
    pd.testing.assert_frame_equal(done.performance("small"), table)
    assert verify(done) == []
    again = build(toys.request(bundle.path.parent, bundle.path))
    assert again.performance("small") is not None
    before = again.digest
    assert add_performance(bundle.path, {"small": table}).digest == before


def test_tables_that_do_not_fit_are_refused(bundle):
    with pytest.raises(InputError, match="no model 'large'"):
        add_performance(bundle.path, {"large": toys.slices()})
    with pytest.raises(InputError, match="have no low"):
        add_performance(bundle.path, {"small": toys.slices().drop(columns="low")})
    with pytest.raises(InputError, match="have no row"):
        add_performance(bundle.path, {"small": toys.slices()[:0]})
