"""Latents kept sparsely: what is made of them is, file for file, what is made of every value."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from csp_engine import pipeline
from csp_engine.bundle import Bundle, StageFolder, sparse_rows, verify, write_activations
from csp_engine.bundle.passing import sparse
from csp_engine.bundle.passing.journal import PassJournal
from csp_engine.bundle.passing.sparse import SparseActivations
from csp_engine.errors import BundleError, InputError
from csp_engine.evidence.ascending import ascending
from csp_engine.networks.activations import ActivationRecorder
from csp_engine.pipeline import BuildRequest
from csp_engine.pipeline.sharding.measuring import measure_shard
from csp_engine.pipeline.sharding.merging import merge
from csp_engine.pipeline.sharding.shards import Shard
from csp_engine.probe.decoding import decode
from tests.worlds import toys
from tests.worlds.damage import edit, place, redo

LAYER = "first+latents@mean"
STAGE = f"activations:small/{LAYER}"


def request(folder: Path, out: Path, **changes) -> BuildRequest:
    """A layer, and 60 latents of another, with concept columns."""
    asked = {"probe": toys.with_columns(folder), "batch_size": 3, **changes}
    return toys.request(folder, out, targets=(toys.sparse_target(folder),), **asked)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Images, two of them the same, and one bundle that is sparse and one that is not."""
    folder = tmp_path_factory.mktemp("sparse")
    images = toys.draw_images(folder / "images")
    shutil.copyfile(images / "red" / "0000.png", images / "red" / "copy.png")
    pipeline.build(request(folder, folder / "sparse.csp"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sparse, "LEAST_GAIN", 1e9)
        pipeline.build(request(folder, folder / "dense.csp"))
    return folder


def test_only_what_is_not_zero_is_kept(world):
    held, dense = Bundle.open(world / "sparse.csp"), Bundle.open(world / "dense.csp")
    assert LAYER in held.layers("small"), held.layers("small")
    assert held.is_sparse("small", LAYER)
    assert not held.is_sparse("small", "second@mean")
    assert set(dense.stage(STAGE).files) == {"activation.npy"}
    values_un = dense.activations("small", LAYER)
    share_u = (values_un != 0).mean(axis=1)
    assert (share_u == 0).sum() >= 4
    assert (share_u == 1).any()
    assert 0.02 < share_u.mean() < 0.25
    assert held.stage(STAGE).files["nonzero_value.npy"].shape == ((values_un != 0).sum(),)
    np.testing.assert_array_equal(np.asarray(held.activations("small", LAYER)), values_un)


def test_the_values_are_those_that_the_network_gives(world):
    asked = request(world, world / "unused.csp")
    (target,) = asked.targets
    recorder = ActivationRecorder(target.model, list(target.taps))
    listed = range(len(asked.probe.table))
    pixels = [target.model.preprocess(decode(asked.probe.read(row))) for row in listed]
    fresh = [recorder(np.stack(pixels[i : i + 3]))[LAYER] for i in range(0, len(pixels), 3)]
    held = Bundle.open(world / "sparse.csp").activations("small", LAYER)
    np.testing.assert_array_equal(held[:].T, np.concatenate(fresh))


def test_every_other_stage_is_the_same_to_the_byte(world):
    held, dense = toys.content(world / "sparse.csp"), toys.content(world / "dense.csp")
    assert held.pop(STAGE)[0] == dense.pop(STAGE)[0]  # the same key, another form
    assert held == dense
    kinds = {name.partition(":")[0] for name in held if LAYER in name}
    assert kinds >= {"neurons", "contrast", "scores", "audit", "columns", "association"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "recipe",
    [
        {"threshold": "quantile:0.4", "exclude_near_duplicates": False},
        {"threshold": "max:0.3", "reuse": False},
        {"threshold": "mean", "exclude_near_duplicates": True, "n_exemplars": 20, "n_score": 9},
    ],
)
def test_other_rules_too(world, recipe):
    made = []
    for name in ("sparse", "dense"):
        out = world / f"{name}-{'-'.join(map(str, recipe.values()))}.csp".replace(":", "")
        shutil.copytree(world / f"{name}.csp", out)
        pipeline.build(request(world, out, recipe=replace(toys.SMALL, methods=("csp",), **recipe)))
        made.append(toys.content(out))
    assert made[0].pop(STAGE) != made[1].pop(STAGE)
    assert made[0] == made[1]


def test_verify_finds_it_whole(world):
    assert verify(Bundle.open(world / "sparse.csp")) == []


@pytest.mark.slow
def test_shards_make_the_same(world, tmp_path):
    out = tmp_path / "a.csp"
    for number in (3, 1, 2):
        measure_shard(request(world, out), Shard(number, 3))
    merge(request(world, out))
    assert toys.content(out) == toys.content(world / "sparse.csp")


@pytest.mark.slow
def test_an_interrupted_pass_goes_on(world, tmp_path):
    out = tmp_path / "a.csp"

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "images" and done > 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipeline.build(request(world, out), stop)
    assert PassJournal.n_listed_in(out / ".pass") > 0
    pipeline.build(request(world, out))
    assert toys.content(out) == toys.content(world / "sparse.csp")


ROWS = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=12),
    elements=st.sampled_from([0, 0, 0, 0, 0, 0, 0, 0, -0.0, 1, 1, 2.5, -3, 1e-30]),
)


def written(folder: Path, values_nu: np.ndarray, block: int = 1 << 25) -> StageFolder:
    folder.mkdir()
    source = folder.with_name(f"{folder.name}.part")
    source.write_bytes(sparse_rows(values_nu[:5]) + sparse_rows(values_nu[5:]))
    stage = StageFolder(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sparse, "_MOST_VALUES", block)
        patch.setattr(sparse, "_DENSE_VALUES", block)
        write_activations(stage, values_nu.shape[::-1], source)
    return stage


@given(ROWS, st.integers(1, 9))
def test_rows_come_back_as_columns(tmp_path_factory, values_nu, block):
    folder = tmp_path_factory.mktemp("rows") / "stage"
    written(folder, values_nu, block)
    is_sparse = 4 * np.count_nonzero(values_nu) <= values_nu.size
    assert (folder / "activation.npy").exists() is not is_sparse
    assert {p.name for p in folder.iterdir()} <= {
        "activation.npy",
        *(f"nonzero_{name}.npy" for name in ("start", "image", "value")),
    }
    if not is_sparse:
        np.testing.assert_array_equal(np.load(folder / "activation.npy"), values_nu.T)
        return
    held = of_folder(folder, len(values_nu))
    assert held.shape == values_nu.T.shape
    assert held.size == values_nu.size
    np.testing.assert_array_equal(held[:], values_nu.T)
    np.testing.assert_array_equal(held[-1], values_nu.T[-1])
    np.testing.assert_array_equal(held[::-2], values_nu.T[::-2])
    some = np.arange(0, len(values_nu), 2)
    np.testing.assert_array_equal(held[:, some], values_nu.T[:, some])
    np.testing.assert_array_equal(held[0, some], values_nu.T[0, some])
    np.testing.assert_array_equal(np.asarray(held, np.float64), values_nu.T)
    with pytest.raises(IndexError):
        held[len(held)]


def of_folder(folder: Path, n_images: int) -> SparseActivations:
    arrays = (np.load(folder / f"nonzero_{name}.npy") for name in ("start", "image", "value"))
    return SparseActivations("a stage", n_images, *arrays)


MOSTLY_ZERO = hnp.arrays(
    np.float32,
    st.integers(1, 60),
    elements=st.sampled_from([0] * 12 + [0.5, 1, 1, -2, 3]),
)


@given(MOSTLY_ZERO)
def test_zeros_set_aside_change_no_order(acts_n):
    np.testing.assert_array_equal(ascending(acts_n), np.sort(acts_n))


@pytest.mark.parametrize(
    "damage",
    [
        lambda body: body[:-4],
        lambda body: body + b"\0\0\0\0",
        lambda body: np.int32(-1).tobytes() + body[4:],
        lambda body: np.int32(1 << 30).tobytes() + body[4:],
        lambda body: body[:4] + np.array([3, 3], np.int32).tobytes() + body[12:],
        lambda body: body[:4] + np.array([0, 99], np.int32).tobytes() + body[12:],
        lambda body: b"",
    ],
)
def test_rows_that_a_pass_did_not_write_are_refused(tmp_path, damage):
    values_nu = np.zeros((6, 20), np.float32)
    values_nu[:, :2] = 1
    source = tmp_path / "sparse-0-0.part"
    source.write_bytes(damage(sparse_rows(values_nu)))
    (tmp_path / "stage").mkdir()
    with pytest.raises(InputError, match="not what the pass over the images wrote; delete"):
        write_activations(StageFolder(tmp_path / "stage"), (20, 6), source)


def test_a_whole_layer_that_fits_no_memory_is_refused():
    held = SparseActivations(
        "Stage x",
        1_000_000,
        np.zeros(131_073, np.int64),
        np.zeros(0, np.int32),
        np.zeros(0, np.float32),
    )
    with pytest.raises(InputError, match=r"131,072 units × 1,000,000 images.* 524 GB"):
        np.asarray(held)
    assert held[131_071].shape == (1_000_000,)


def forged(world: Path, to: Path, name: str, change) -> Bundle:
    """A copy in which one array is another, and the manifest agrees."""
    shutil.copytree(world / "sparse.csp", to)
    path = place(to, STAGE, f"{name}.npy")
    np.save(path, change(np.load(path)))
    redo(to)
    return Bundle.open(to)


def shifted(start_v):
    start_v = start_v.copy()
    start_v[7] = start_v[-1] + 1
    return start_v


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("nonzero_start", shifted, "does not divide"),
        ("nonzero_start", lambda v: np.append(v[:-1], v[-2:]), "62 along 'u'"),
        ("nonzero_image", lambda v: v + 1000, "names image"),
        ("nonzero_image", lambda v: v[::-1].copy(), "are not in order, each once"),
        ("nonzero_value", lambda v: v * np.float32(np.nan), "not numbers"),
        ("nonzero_value", lambda v: v[:-1], "along 'm'"),
    ],
)
def test_what_cannot_be_activations_is_refused(world, tmp_path, name, change, says):
    with pytest.raises(BundleError, match=says):
        _ = forged(world, tmp_path / "a.csp", name, change).activations("small", LAYER)[:]


def test_unordered_images_are_found(world, tmp_path):
    bundle = forged(world, tmp_path / "a.csp", "nonzero_image", lambda v: v[::-1].copy())
    assert any("are not in order, each once" in fault for fault in verify(bundle))


def test_other_values_are_found(world, tmp_path):
    bundle = forged(world, tmp_path / "a.csp", "nonzero_value", lambda v: v * 2)
    assert any("activations" in fault for fault in verify(bundle))


def test_a_stage_without_either_form_is_refused(world, tmp_path):
    to = tmp_path / "a.csp"
    shutil.copytree(world / "sparse.csp", to)
    edit(to, lambda body: body["stages"][STAGE]["files"].pop("nonzero_start.npy"))
    with pytest.raises(BundleError, match=r"has no file 'activation\.npy'"):
        _ = Bundle.open(to).activations("small", LAYER)
    assert any("activation.npy" in fault for fault in verify(Bundle.open(to)))
