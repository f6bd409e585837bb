"""The reason for contrast images: an attribute neuron whose exemplars mostly show one object."""

from __future__ import annotations

import pytest

from studies import planted_geometry


def found(setting, co_occurrence, n_partners):
    world = planted_geometry.plant(setting, co_occurrence, seed=0, n_images=4000, width=256)
    return planted_geometry.measure(world, n_partners)


@pytest.mark.parametrize("n_partners", [1, 5])
def test_csp_names_the_attribute_where_semanticlens_names_the_object(n_partners):
    result = found(planted_geometry.Setting("clear"), 0.9, n_partners)
    assert result["semanticlens"]["attribute"] <= 0.05
    assert result["semanticlens"]["object"] >= 0.9
    assert result["csp 1"]["attribute"] >= 0.9
    assert result["csp 0"] == result["semanticlens"]


def test_without_co_occurrence_all_methods_are_right():
    result = found(planted_geometry.Setting("clear"), 0.0, 1)
    for name in ("semanticlens", "clip_dissect", "csp 0", "csp 0.5", "csp 1"):
        assert result[name]["attribute"] >= 0.95


def test_several_contrast_images_help_at_a_smaller_gamma():
    one, five = (found(planted_geometry.Setting("clear"), 0.9, n) for n in (1, 5))
    assert five["csp 0.5"]["attribute"] >= one["csp 0.5"]["attribute"] + 0.1


def test_without_look_alikes_csp_is_wrong_too_and_the_similarity_says_so():
    with_them = found(planted_geometry.Setting("clear"), 0.9, 1)
    without = found(planted_geometry.Setting("none", objects_alone=False), 0.9, 1)
    assert without["csp 1"]["attribute"] <= 0.1
    drop = with_them["evidence"]["partner_similarity"] - without["evidence"]["partner_similarity"]
    assert drop > 0.2
