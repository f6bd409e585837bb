"""NeuroLens' files, written here in its layout with the formulas of its code, then read."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest
import zarr

from csp_engine.errors import InputError
from csp_engine.exchange import read_neurolens

N_IMAGES, N_UNITS, WIDTH, N_RANKED = 23, 6, 5, 4
LISTED = [4, 0, 3]  # NeuroLens lists units by falling mean of their top activations, not in order
TEMPLATES = ["{}", "an image of a {}", "{}-like_thing"]


def write_array(path, values, zarr_format=3, n_written=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    array = zarr.create_array(
        store=path,
        shape=values.shape,
        dtype=values.dtype,
        chunks=(4, values.shape[1]),
        zarr_format=zarr_format,
    )
    n_written = len(values) if n_written is None else n_written
    array[:n_written] = values[:n_written]


def sample_tables(acts_nu, image_nd):
    """The two tables as NeuroLens fills them: top images, and for each its nearest quiet image."""
    tables = {"positive": [], "negative": []}
    for unit in LISTED:
        mean = acts_nu[:, unit].mean()
        quiet = np.flatnonzero(acts_nu[:, unit] < mean)
        for rank, image in enumerate(np.argsort(-acts_nu[:, unit], kind="stable")[:N_RANKED]):
            similarity = image_nd[quiet] @ image_nd[image]
            partner = quiet[similarity.argmax()]
            tables["positive"].append((unit, rank, image, acts_nu[image, unit], 1.0, mean))
            tables["negative"].append(
                (unit, rank, partner, acts_nu[partner, unit], similarity.max(), mean)
            )
    columns = ["neuron_idx", "sample_rank", "img_idx", "activation_value", "similarity_value"]
    columns.append("probe_dataset_overall_mean")
    return {
        kind: pd.DataFrame(rows, columns=columns).assign(sample_type=kind)
        for kind, rows in tables.items()
    }


class Run:
    """One NeuroLens folder and the numbers in it."""

    def __init__(self, folder, zarr_format=3, target="resnet50", encoder="clip_b32"):
        rng = np.random.default_rng(5)
        self.folder = folder
        self.acts_nu = rng.normal(size=(N_IMAGES, N_UNITS)).astype(np.float32)
        image_nd = rng.normal(size=(N_IMAGES, WIDTH)).astype(np.float32)
        self.image_nd = image_nd / np.linalg.norm(image_nd, axis=1, keepdims=True)
        self.text_ktd = rng.normal(size=(len(TEMPLATES), 7, WIDTH)).astype(np.float32)
        precomputed = folder / "data_precomp"
        encoder_path = precomputed / "img_text_models" / encoder
        self.activations_path = (
            precomputed / "target_models" / target / "activations" / "val_activations.zarr"
        )
        self.image_path = encoder_path / "img_embds" / "val_img_embds.zarr"
        self.text_path = encoder_path / "text_embds"
        self.results_path = folder / "data_results" / target / "val"
        write_array(self.activations_path, self.acts_nu, zarr_format)
        write_array(self.image_path, self.image_nd, zarr_format)
        for template, text_td in zip(TEMPLATES, self.text_ktd, strict=True):
            write_array(
                self.text_path / f"some_words_{template}_text_embds.zarr", text_td, zarr_format
            )
        self.results_path.mkdir(parents=True)
        self.tables = sample_tables(self.acts_nu, self.image_nd)
        self.encoder = encoder
        self.save_tables()

    def csv_path(self, kind):
        return self.results_path / f"{self.encoder}_{kind}_neuron_data.csv"

    def save_tables(self):
        for kind, table in self.tables.items():
            table.to_csv(self.csv_path(kind), index=False)

    def rewrite(self, path, values, **kwargs):
        shutil.rmtree(path)
        write_array(path, values, **kwargs)


@pytest.fixture
def run(tmp_path) -> Run:
    return Run(tmp_path / "out")


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_arrays_and_pairs_arrive_as_they_were_written(tmp_path, zarr_format):
    run = Run(tmp_path / "out", zarr_format)
    found = read_neurolens(run.folder)
    assert (found.target, found.image_set, found.encoder) == ("resnet50", "val", "clip_b32")
    assert (found.n_images, found.n_units) == (N_IMAGES, N_UNITS)
    assert np.array_equal(found.image_nd, run.image_nd)
    assert found.unit_m.tolist() == sorted(LISTED)
    for row, unit in enumerate(found.unit_m):
        activation_n = run.acts_nu[:, unit]
        order = np.argsort(-activation_n, kind="stable")[:N_RANKED]
        assert found.exemplars.count_u[row] == N_RANKED
        assert found.exemplars.image_uk[row].tolist() == order.tolist()
        assert np.array_equal(found.exemplars.activation_uk[row], activation_n[order])
        assert found.contrast.pool_u[row] == (activation_n < activation_n.mean()).sum()
        assert found.contrast.threshold_u[row] == pytest.approx(activation_n.mean(), rel=1e-6)
        for rank in range(N_RANKED):
            partner = found.contrast.image_ukj[row, rank, 0]
            cosine = run.image_nd[order[rank]] @ run.image_nd[partner]
            assert activation_n[partner] < activation_n.mean()
            assert found.contrast.activation_ukj[row, rank, 0] == activation_n[partner]
            assert found.contrast.similarity_ukj[row, rank, 0] == pytest.approx(cosine, abs=1e-6)
    assert (found.contrast.n_partner_uk == 1).all()


def test_activations_come_in_runs_of_images_in_order(run):
    found = read_neurolens(run.folder)
    blocks = list(found.activation_blocks(block_bytes=4 * 8 * N_UNITS))
    assert [len(b) for b in blocks] == [8, 8, 7]
    assert np.array_equal(np.concatenate(blocks), run.acts_nu)


def test_negative_rows_pair_by_rank_whatever_their_order_in_the_file(run):
    run.tables["negative"] = run.tables["negative"].iloc[::-1]
    expected = read_neurolens(run.folder)
    run.save_tables()
    assert np.array_equal(
        read_neurolens(run.folder).contrast.image_ukj, expected.contrast.image_ukj
    )


def test_text_vectors_are_the_mean_over_templates(run):
    found = read_neurolens(run.folder)
    assert set(found.text_paths["some_words"]) == set(TEMPLATES)
    assert found.text_vectors("some_words") == pytest.approx(run.text_ktd.mean(0), abs=1e-6)
    with pytest.raises(InputError, match="some_words"):
        found.text_vectors("words")


def test_text_sets_are_told_apart_by_their_plain_template(run):
    for name in ("some", "other_{}-like"):
        write_array(run.text_path / f"{name}_text_embds.zarr", run.text_ktd[0])
    write_array(run.text_path / "some_{}_text_embds.zarr", run.text_ktd[0])
    assert {k: set(v) for k, v in read_neurolens(run.folder).text_paths.items()} == {
        "some_words": set(TEMPLATES),
        "some": {"{}"},
        "other": {"{}-like"},
    }


def test_a_folder_with_several_results_asks_which(run):
    Run(run.folder.parent / "second", target="vgg")
    shutil.copytree(run.folder.parent / "second", run.folder, dirs_exist_ok=True)
    with pytest.raises(InputError, match=r"several results .*target resnet50.*target vgg"):
        read_neurolens(run.folder)
    assert read_neurolens(run.folder, target="vgg").target == "vgg"
    with pytest.raises(InputError, match=r"no such result table .*target vgg"):
        read_neurolens(run.folder, target="alexnet")


@pytest.mark.parametrize(
    ("part", "named"),
    [
        ("data_precomp", "has no data_precomp"),
        ("data_results", "has no data_results"),
    ],
)
def test_a_folder_that_is_not_neurolens_is_refused(run, part, named):
    shutil.rmtree(run.folder / part)
    with pytest.raises(InputError, match=named):
        read_neurolens(run.folder)


def test_each_missing_piece_is_named(run):
    for path in (run.activations_path, run.image_path):
        kept = path.rename(path.with_suffix(".away"))
        with pytest.raises(InputError, match=f"{path.name} is missing"):
            read_neurolens(run.folder)
        kept.rename(path)
    run.csv_path("negative").unlink()
    with pytest.raises(InputError, match=r"clip_b32_negative_neuron_data\.csv is missing"):
        read_neurolens(run.folder)
    run.csv_path("positive").unlink()
    with pytest.raises(InputError, match="run NeuroLens to its end"):
        read_neurolens(run.folder)


def test_a_store_whose_metadata_is_damaged_is_refused(run):
    (run.image_path / "zarr.json").write_text("{", "utf-8")
    with pytest.raises(InputError, match=r"val_img_embds\.zarr cannot be read"):
        read_neurolens(run.folder)


def test_unfinished_arrays_are_refused(run):
    # Stopped after two of six chunks: NeuroLens itself takes such an array as finished.
    run.rewrite(run.image_path, run.image_nd, n_written=8)
    with pytest.raises(InputError, match=r"val_img_embds\.zarr is unfinished: row 8"):
        read_neurolens(run.folder)
    run.rewrite(run.image_path, run.image_nd)
    run.rewrite(run.activations_path, run.acts_nu, n_written=12)
    with pytest.raises(InputError, match=r"val_activations\.zarr is unfinished: row 12"):
        read_neurolens(run.folder)


def test_an_image_that_excites_nothing_is_no_sign_of_an_unfinished_array(tmp_path):
    run = Run(tmp_path / "out")
    silent = next(
        i for i in range(N_IMAGES) if i not in set(pd.concat(run.tables.values())["img_idx"])
    )
    run.acts_nu[silent] = 0
    run.rewrite(run.activations_path, run.acts_nu)
    assert read_neurolens(run.folder).n_images == N_IMAGES


def test_values_that_are_not_finite_are_refused(run):
    run.acts_nu[3, 2] = np.nan
    run.rewrite(run.activations_path, run.acts_nu)
    with pytest.raises(InputError, match=r"Row 3 of val_activations\.zarr"):
        read_neurolens(run.folder)


def change(kind, row, column, value):
    def apply(run):
        run.tables[kind][column] = run.tables[kind][column].astype(object)
        run.tables[kind].loc[row, column] = value

    return apply


def drop_rank(run):
    run.tables["positive"] = run.tables["positive"].drop(index=1)
    run.tables["negative"] = run.tables["negative"].drop(index=1)


def drop_partner(run):
    run.tables["negative"] = run.tables["negative"].iloc[:-1]


def drop_column(run):
    del run.tables["positive"]["img_idx"]


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (change("positive", 0, "img_idx", N_IMAGES), f"img_idx {N_IMAGES}"),
        (change("positive", 0, "neuron_idx", N_UNITS), f"neuron_idx {N_UNITS}"),
        (change("negative", 2, "img_idx", -1), "img_idx .*from 0 up"),
        (change("negative", 2, "img_idx", 1.5), "img_idx .*whole numbers"),
        (change("negative", 2, "similarity_value", np.nan), "not a finite number"),
        (change("negative", 2, "similarity_value", 5.0), "Similarities .*different runs"),
        (change("positive", 2, "activation_value", 9.0), "Activations .*different runs"),
        (change("negative", 2, "activation_value", 9.0), "Activations .*different runs"),
        (change("positive", 0, "sample_type", "negative"), "positive rows only"),
        (drop_rank, "ranks of neuron"),
        (drop_partner, "do not list the same"),
        (drop_column, "lacks the columns img_idx"),
    ],
)
def test_tables_that_do_not_fit_are_refused(run, damage, named):
    damage(run)
    run.save_tables()
    with pytest.raises(InputError, match=named):
        read_neurolens(run.folder)


def test_arrays_of_different_image_sets_are_refused(run):
    run.rewrite(run.image_path, run.image_nd[:-1])
    with pytest.raises(InputError, match="different image sets"):
        read_neurolens(run.folder)
