"""The images of a neuron: chosen several ways, without copies, with what is known about each."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import stats

from csp_engine.bundle import Bundle, copy_slim
from csp_engine.exports.html import of_neurons, write_folder
from csp_engine.pipeline import build
from csp_engine.probe.listing import read_probe_set
from csp_engine.types import NeuronRef, silent
from csp_engine.views import address as state
from csp_engine.views.conclusion.claims import conclusion_of
from csp_engine.views.images.facts import ActivationFacts
from csp_engine.views.images.pairs import exemplar_images
from csp_engine.views.memo import Memo
from csp_engine.views.neuron.shared import shared
from pages.ui.parts.cards import plain
from tests.pages.conftest import component, html, open_page
from tests.worlds import toys

LAYER, UNIT = "second@mean", 5


@pytest.fixture(scope="module")
def bundle(small_bundle):
    return Bundle.open(small_bundle)


@pytest.fixture(scope="module")
def marked_bundle(tmp_path_factory):
    """A bundle with flags, groups, a column of text, and every image twice."""
    folder = tmp_path_factory.mktemp("marked")
    images = toys.draw_images(folder / "images", 16)
    for path in sorted(images.rglob("*.png")):
        # Saved again: files that are equal byte for byte count once among exemplars already.
        with Image.open(path) as image:
            image.save(path.parent / f"copy_{path.name}", compress_level=0)
    files = sorted(p.relative_to(images).as_posix() for p in images.rglob("*.png"))
    stems = [name.rsplit("_", 1)[-1].rsplit("/", 1)[-1] for name in files]
    columns = {
        "class": [name.split("/")[0] for name in files],
        "group": [f"lesion {stem}" for stem in stems],
        "dark_corner": [int(name.startswith(("grey", "blue"))) for name in files],
        "site": ["<b>back</b>" if i % 3 else "arm" for i in range(len(files))],
        "age": list(range(30, 30 + len(files))),
    }
    table = toys.as_table(images, **columns)
    build(toys.request(folder, folder / "marked.csp", probe=read_probe_set(table)))
    return folder / "marked.csp"


def tiles(at) -> list[dict]:
    found = []
    for element in at.get("bidi_component"):
        if element.proto.component_name.endswith("csp_tiles"):
            found += json.loads(element.proto.json)["tiles"]
    return found


def image_of(tile: dict) -> int:
    return tile["images"][0]["image"]


def test_all_exemplars_are_shown_strongest_first(serve, small_bundle, bundle):
    serve(small_bundle)
    at = open_page("neuron", layer=LAYER, unit=str(UNIT), show="exemplars")
    exemplars = bundle.exemplars("small", LAYER)
    n = int(exemplars.count_u[UNIT])
    assert [image_of(tile) for tile in tiles(at)] == exemplars.image_uk[UNIT, :n].tolist()


def test_the_two_groups_are_those_of_the_audit(serve, small_bundle, bundle):
    serve(small_bundle)
    at = open_page("neuron", layer=LAYER, unit=str(UNIT), show="groups")
    assert not at.exception
    group_k = np.asarray(bundle.array(f"audit:small/{LAYER}", "image_group")[UNIT])
    sizes = bundle.units("small", LAYER)[["cluster_0", "cluster_1"]].iloc[UNIT]
    ranks = np.arange(int(sizes.sum()))
    image_k = np.asarray(bundle.exemplars("small", LAYER).image_uk[UNIT])
    expected = [int(image_k[r]) for g in (0, 1) for r in ranks if group_k[r] == g]
    assert [image_of(tile) for tile in tiles(at)] == expected
    assert f"{int(sizes.iloc[0])} exemplar" in html(at)
    assert "set apart by: " in html(at)


def test_copies_are_hidden_when_asked_and_counted(serve, marked_bundle):
    serve(marked_bundle)
    bundle = Bundle.open(marked_bundle)
    group_n = bundle.images()["duplicate_group"].to_numpy()
    place = {"layer": LAYER, "unit": str(UNIT), "show": "exemplars"}
    every = [image_of(tile) for tile in tiles(open_page("neuron", **place))]
    at = open_page("neuron", **place, copies="hide")
    kept = [image_of(tile) for tile in tiles(at)]
    assert len(kept) < len(every)
    assert len({group_n[i] for i in kept}) == len(kept) == len({group_n[i] for i in every})
    assert kept == [i for at_, i in enumerate(every) if group_n[i] not in group_n[every[:at_]]]
    assert f"{len(every) - len(kept)} near-duplicates hidden" in html(at)


def test_the_toggle_puts_it_in_the_url(serve, marked_bundle):
    serve(marked_bundle)
    at = open_page("neuron", layer=LAYER, unit=str(UNIT))
    at.toggle(key="_hide").set_value(True).run()
    assert at.query_params["copies"] == "hide"
    at.toggle(key="_hide").set_value(False).run()
    assert "copies" not in at.query_params


def test_an_image_says_what_it_is_and_how_strong(marked_bundle):
    bundle = Bundle.open(marked_bundle)
    view = state.read_view({"layer": LAYER, "unit": str(UNIT)}, "marked", bundle)
    activation_n = np.asarray(bundle.activations("small", LAYER)[UNIT])
    image = int(np.argsort(activation_n)[len(activation_n) // 2])
    facts = dict(ActivationFacts(bundle, Memo(), view.neuron).of(image, float(activation_n[image])))
    row = bundle.images().iloc[image]
    assert facts["class"] == row["class"]
    assert facts["group"] == row["group"]
    assert facts["site"] == row["site"]
    assert facts["age"] == str(row["age"])
    assert facts["file"] == row["file"]
    assert facts["shows"] == (
        "dark corner" if row["dark_corner"] else "none of the concepts in the table"
    )
    below = int(np.sum(activation_n < activation_n[image]))
    assert facts["stronger than"].startswith(f"{100 * below / len(activation_n):.1f} %")
    strongest = int(np.argmax(activation_n))
    highest = float(activation_n.max())
    facts = dict(ActivationFacts(bundle, Memo(), view.neuron).of(strongest, highest))
    n_alike = int(np.sum(activation_n == activation_n.max()))
    assert (facts["stronger than"] == "all other images") is (n_alike == 1)


def test_a_slim_copy_tells_roughly_how_strong_an_image_is(marked_bundle, serve, tmp_path):
    whole = Bundle.open(marked_bundle)
    slim = copy_slim(whole, tmp_path / "slim.csp")
    view = state.read_view({"layer": LAYER, "unit": str(UNIT)}, "slim", slim)
    activation_n = np.asarray(whole.activations("small", LAYER)[UNIT])
    image = int(np.argsort(activation_n)[len(activation_n) // 2])
    said = dict(ActivationFacts(slim, Memo(), view.neuron).of(image, float(activation_n[image])))
    exact = 100 * float(np.mean(activation_n < activation_n[image]))
    found = re.fullmatch(r"about (\d+) % of (\d+) images", said["stronger than"])
    assert found
    # Few quantiles are kept, and the 32 images are 16 pairs of equal ones.
    assert abs(int(found[1]) - exact) <= 10
    strongest = int(np.argmax(activation_n))
    said = dict(ActivationFacts(slim, Memo(), view.neuron).of(strongest, float(activation_n.max())))
    assert said["stronger than"] == "nearly all of 32 images"
    serve(slim.path)
    at = open_page("neuron", layer=LAYER, unit=str(UNIT))
    assert not at.exception
    assert "csp-problem" not in html(at)


def test_the_breakdown_counts_one_image_of_each_group(marked_bundle):
    """Exemplars come in pairs of copies; a copy is no second piece of evidence."""
    bundle = Bundle.open(marked_bundle)
    view = state.read_view({"layer": LAYER, "unit": str(UNIT)}, "marked", bundle)
    rows = {row.name: row for row in shared(bundle, Memo(), view.neuron).rows}
    table = bundle.images()
    images = exemplar_images(bundle, view.neuron)
    once = pd.Series(images).groupby(table["group"].iloc[images].to_numpy()).first()
    for row in rows.values():
        assert row.n_chosen == len(once) < len(images)
        assert row.n_images == 32
    for name in ("red", "blue", "grey", "green"):
        n_here = int((table["class"].iloc[once] == name).sum())
        assert (f"class: {name}" in rows) is bool(n_here)
        if n_here:
            row = rows[f"class: {name}"]
            assert row.n_here == n_here
            expected = stats.hypergeom.sf(n_here - 1, 32, row.n_all, row.n_chosen)
            assert row.p == pytest.approx(expected, rel=1e-6)
    assert not any(name.startswith(("group", "age", "file")) for name in rows)


def test_metadata_is_text(serve, marked_bundle):
    serve(marked_bundle)
    at = open_page("neuron", layer=LAYER, unit=str(UNIT))
    assert not at.exception
    assert "<b>back" not in html(at)
    assert "What the exemplars share" in html(at)


def test_an_image_of_the_box_can_be_searched_with(serve, small_bundle, bundle):
    serve(small_bundle)
    at = open_page("neuron", layer=LAYER, unit=str(UNIT))
    data = component(at, "csp_tiles")
    exemplars = bundle.exemplars("small", LAYER)
    assert data["tiles"][0]["images"][0]["image"] == int(exemplars.image_uk[UNIT, 0])


def test_a_card_shows_one_neuron_and_a_way_in(serve, small_bundle):
    serve(small_bundle)
    at = open_page("neuron", layer=LAYER, unit=str(UNIT), card="yes", q="red")
    assert not at.exception
    assert not at.selectbox
    assert not at.button
    assert 0 < len(tiles(at)) <= 6
    shown = html(at)
    assert f"small / {LAYER} / {UNIT}" in shown
    assert "card=" not in shown.split("<a href='")[1].split("'")[0]
    assert "target='_blank'" in shown


def test_only_named_origins_may_frame_the_pages(monkeypatch):
    from pages.ui.shell import server

    monkeypatch.setenv("CSP_FRAME_ANCESTORS", "https://wiki.example.org:8443 *; script-src http:")
    assert server.framing_origins() == " https://wiki.example.org:8443"
    assert server.content_policy().endswith("frame-ancestors 'self' https://wiki.example.org:8443")
    monkeypatch.delenv("CSP_FRAME_ANCESTORS")
    assert server.content_policy().endswith("frame-ancestors 'self'")


@pytest.mark.parametrize("page", ["overview", "search", "layer", "neuron"])
def test_every_page_has_a_link_to_copy_that_names_the_bundle(serve, small_bundle, page):
    serve(small_bundle)
    at = open_page(page)
    assert component(at, "csp_share")["params"] == {"bundle": "small", "v": "1"}


@pytest.mark.slow
def test_the_page_and_its_export_say_the_same_conclusion(serve, shipped_bundle, tmp_path):
    serve(shipped_bundle)
    bundle = Bundle.open(shipped_bundle)
    neuron = NeuronRef("biased", "layer2@max", 50)
    claims = conclusion_of(bundle, Memo(), neuron, "csp_plus")
    where = {"model": neuron.model, "layer": neuron.layer, "unit": str(neuron.unit)}
    selection = of_neurons(bundle, [neuron], title="One", about="one")
    write_folder(bundle, selection, tmp_path / "site", silent)
    (page,) = (tmp_path / "site").rglob("50.html")
    for text in (html(open_page("neuron", **where)), page.read_text("utf-8")):
        bare = re.sub(r"</?bdi[^>]*>", "", text)
        for claim in claims:
            assert plain(str(claim)) in bare
