"""Files copied over and over: one image among the exemplars, and no fault of the weights."""

from __future__ import annotations

import io
import shutil
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from csp_engine import pipeline
from csp_engine.bundle import Bundle, verify
from csp_engine.errors import InputError
from csp_engine.evidence.contrast import ContrastRule, mine_contrast
from csp_engine.evidence.exemplars import rank_exemplars
from csp_engine.methods import csp_plus
from csp_engine.pipeline import copies
from csp_engine.pipeline.stages import contrast
from tests.worlds import toys


@pytest.fixture(scope="module")
def with_copies(tmp_path_factory):
    """A folder with 28 images, and 26 copies of the strongest for some neuron."""
    folder = tmp_path_factory.mktemp("copies")
    toys.draw_images(folder / "images")
    plain = pipeline.build(toys.request(folder, folder / "plain.csp"))
    strongest = plain.images()["file"][plain.exemplars("small", "first@mean").image_uk[0, 0]]
    content = (folder / "images" / strongest).read_bytes()
    for i in range(26):
        (folder / "images" / "red" / f"copy{i:02d}.png").write_bytes(content)
    bundle = pipeline.build(toys.request(folder, folder / "copies.csp"))
    return folder, plain, bundle


def shown(bundle: Bundle, layer: str = "first@mean") -> list[list[str]]:
    """Content hashes of the exemplars of each unit."""
    sha256 = bundle.images()["sha256"].to_numpy()
    exemplars = bundle.exemplars("small", layer)
    return [
        sha256[row[:count]].tolist()
        for row, count in zip(exemplars.image_uk, exemplars.count_u, strict=True)
    ]


@pytest.mark.parametrize("layer", ["first@mean", "second@mean"])
def test_the_exemplars_are_those_of_the_set_without_copies(with_copies, layer):
    _, plain, bundle = with_copies
    assert bundle.stage("images").facts["n_exact_duplicates"] == 26
    assert shown(bundle, layer) == shown(plain, layer)
    assert all(len(set(row)) == len(row) for row in shown(bundle, layer))


def test_random_image_sets_hold_no_copies_either(with_copies):
    _, _, bundle = with_copies
    sha256 = bundle.images()["sha256"].to_numpy()
    image_rk = bundle.array("null", "exemplar_image")
    assert image_rk.shape == (30, 6)
    assert all(len(set(sha256[row])) == 6 for row in image_rk)


@pytest.mark.parametrize("layer", ["first@mean", "second@mean"])
def test_no_exemplar_has_two_copies_for_partners(with_copies, layer):
    _, _, bundle = with_copies
    sha256 = bundle.images()["sha256"].to_numpy()
    for stage in (f"contrast:small/{layer}", "null"):
        partner_ukj = bundle.array(stage, "contrast_image")
        n_partner_uk = bundle.array(stage, "n_partner")
        assert n_partner_uk.max() == 2, stage
        first_n = bundle.images()["duplicate_of"].to_numpy()
        for unit, rank in zip(*np.nonzero(n_partner_uk), strict=True):
            own = partner_ukj[unit, rank, : n_partner_uk[unit, rank]]
            assert len(set(sha256[own])) == len(own), stage
            assert (first_n[own] == own).all(), stage


@pytest.mark.slow
@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.sampled_from([0, 10, 20, 33, 50, 70])),
        min_size=2,
        max_size=16,
    ),
    st.integers(1, 3),
    st.booleans(),
)
@settings(deadline=None)
def test_partners_are_those_of_the_set_without_copies(images, n_partners, reuse):
    """An image is its activation and its angle; images that agree in both are copies."""
    kept = list(dict.fromkeys(images))
    copy_of_n = np.array([images.index(image) for image in images], np.int32)

    def mined(images, **copies):
        acts = np.array([[value for value, _ in images]], np.float32)
        angles = np.deg2rad([angle for _, angle in images])
        image_nd = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
        strongest = rank_exemplars(acts, 2, copy_of_n=copies.get("copy_of_n"))
        rule = ContrastRule(n_partners=n_partners, reuse=reuse, threshold="max:0.5")
        found = mine_contrast(acts, strongest, image_nd, rule, **copies)
        n_k = found.n_partner_uk[0]
        return [
            [(images[i], round(float(s), 5)) for i, s in zip(row[:n], of[:n], strict=True)]
            for row, of, n in zip(found.image_ukj[0], found.similarity_ukj[0], n_k, strict=True)
        ]

    without, once = mined(kept), mined(images, copy_of_n=copy_of_n)
    total = [sum(s for row in found for _, s in row) for found in (without, once)]
    if reuse:
        assert once == without
    else:  # of assignments with equal totals any one is right
        assert total[0] == pytest.approx(total[1], abs=1e-4)
        assert [len(row) for row in once] == [len(row) for row in without]
        chosen = [image for row in once for image, _ in row]
        assert len(set(chosen)) == len(chosen)


@pytest.mark.slow
def test_labelled_again_an_older_bundle_keeps_its_partners(with_copies, tmp_path, monkeypatch):
    folder, _, _ = with_copies
    monkeypatch.setattr(copies, "partner_copies_params", lambda run: {})
    monkeypatch.setattr(contrast, "partner_copies_params", lambda run: {})
    older = pipeline.build(toys.request(folder, tmp_path / "older.csp"))
    monkeypatch.undo()
    names = ("contrast:small/first@mean", "null")
    assert all("partner_copies" not in older.stage(name).params for name in names)
    before = {name: older.stage(name).key for name in names}
    assert verify(older) == []
    again = pipeline.relabel(older.path, replace(toys.SMALL, gamma=0.5))
    assert {name: again.stage(name).key for name in names} == before
    rebuilt = pipeline.build(toys.request(folder, older.path))
    assert all(rebuilt.stage(name).params["partner_copies"] == "once" for name in names)
    assert (
        rebuilt.stage("neurons:small/first@mean").key == again.stage("neurons:small/first@mean").key
    )


def test_the_bundle_is_whole_and_only_copies_change_its_keys(with_copies):
    _, plain, bundle = with_copies
    assert verify(bundle) == []
    for stage in ("neurons:small/first@mean", "null"):
        assert "copies" not in plain.stage(stage).params
        assert bundle.stage(stage).params["copies"] == "once"
    for stage in ("contrast:small/first@mean", "null"):
        assert "partner_copies" not in plain.stage(stage).params
        assert bundle.stage(stage).params["partner_copies"] == "once"


@pytest.mark.slow
def test_labelled_again_the_exemplars_stay(with_copies):
    _, _, bundle = with_copies
    before = {name: record.key for name, record in bundle.manifest.stages.items()}
    again = pipeline.relabel(bundle.path, replace(toys.SMALL, gamma=0.5))
    for name in ("neurons:small/first@mean", "null"):
        assert again.manifest.stages[name].key == before[name]
    assert verify(again) == []


@pytest.mark.slow
def test_the_published_recipe_shows_every_copy(with_copies, tmp_path):
    folder, _, _ = with_copies
    recipe = replace(toys.SMALL, exclude_near_duplicates=False)
    bundle = pipeline.build(toys.request(folder, tmp_path / "paper.csp", recipe=recipe))
    assert len(set(shown(bundle)[0])) == 1
    assert verify(bundle) == []


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(-3, 3)), min_size=1, max_size=14),
    st.integers(1, 8),
)
def test_ranking_equals_taking_the_copies_out_by_hand(images, n):
    value_of: dict[int, int] = {}
    for content, value in images:
        value_of.setdefault(content, value)
    first: dict[int, int] = {}
    for place, (content, _) in enumerate(images):
        first.setdefault(content, place)
    copy_of_n = np.array([first[content] for content, _ in images], np.int32)
    acts_un = np.array([[value_of[content] for content, _ in images]], np.float32)
    found = rank_exemplars(acts_un, n, copy_of_n=copy_of_n)
    lowest = min(value_of.values())
    wanted = sorted(
        (place for content, place in first.items() if value_of[content] > lowest),
        key=lambda place: (-acts_un[0, place], place),
    )[:n]
    assert found.image_uk[0, : found.count_u[0]].tolist() == wanted
    assert found.activation_uk[0, : found.count_u[0]].tolist() == acts_un[0, wanted].tolist()


class TestOnlyCopies:
    def build(self, folder, contents, **changes):
        (folder / "images").mkdir()
        for i, content in enumerate(contents):
            (folder / "images" / f"{i:02d}.png").write_bytes(content)
        return pipeline.build(toys.request(folder, folder / "a.csp", **changes))

    def drawn(self, seed: int, **options) -> bytes:
        pixels = np.random.default_rng(seed).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG", **options)
        return buffer.getvalue()

    def test_one_image_thirty_times(self, tmp_path):
        with pytest.raises(InputError, match="30 readable files of images are copies of one"):
            self.build(tmp_path, [self.drawn(0)] * 30)

    def test_fewer_different_images_than_exemplars(self, tmp_path):
        with pytest.raises(InputError, match=r"copies of only 4 images.*--exemplars 4"):
            self.build(tmp_path, [self.drawn(i % 4) for i in range(30)])

    @pytest.mark.slow
    def test_unreadable_files_are_no_copies(self, tmp_path):
        contents = [self.drawn(i) for i in range(12)] + [b"broken"] * 9
        assert self.build(tmp_path, contents).n_images == 12

    @pytest.mark.parametrize(
        "recipe", [toys.SMALL, replace(toys.SMALL, exclude_near_duplicates=False)]
    )
    def test_one_picture_saved_in_thirty_ways_blames_the_images(self, tmp_path, recipe):
        contents = [self.drawn(0, compress_level=i % 10, dpi=(i + 1, 1)) for i in range(30)]
        with pytest.raises(InputError, match="images of images all look the same") as caught:
            self.build(tmp_path, contents, recipe=recipe)
        assert "weights" not in str(caught.value)

    def test_blank_pages_blame_the_images(self, tmp_path):
        blank = []
        for i in range(8):
            buffer = io.BytesIO()
            Image.new("RGB", (40, 40), "white").save(buffer, "PNG", dpi=(i + 1, 1))
            blank.append(buffer.getvalue())
        with pytest.raises(InputError, match="look the same"):
            self.build(tmp_path, blank)


@pytest.mark.slow
def test_what_is_tested_on_other_images_is_not_tested_on_copies(with_copies, tmp_path):
    """Where nothing is a copy, scores keep their keys."""
    _, plain, bundle = with_copies
    methods = ("csp_plus", "invert", "linear_explanations")
    shutil.copytree(bundle.path, tmp_path / "copies.csp")
    recipe = replace(toys.SMALL, methods=methods)
    again = pipeline.relabel(tmp_path / "copies.csp", recipe)
    assert verify(again) == []
    for method in methods:
        assert again.stage(f"scores:small/first@mean/{method}").params["copies"] == "once"
    for stage in plain.manifest.stages.values():
        assert "copies" not in stage.params
    seen, prepare = [], csp_plus.prepare

    def prepared(evidence, *given):
        seen.append(prepare(evidence, *given))
        return seen[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csp_plus, "prepare", prepared)
        shutil.rmtree(tmp_path / "copies.csp")
        shutil.copytree(bundle.path, tmp_path / "copies.csp")
        pipeline.relabel(tmp_path / "copies.csp", replace(recipe, methods=("csp_plus",)))
    copy_of_n = bundle.images()["duplicate_of"].to_numpy()
    half_n = seen[0].half_n
    np.testing.assert_array_equal(half_n, half_n[copy_of_n])
    assert 0 < half_n.sum() < len(half_n)
