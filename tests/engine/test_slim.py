"""Slim copies of bundles, and models that lie beside their bundle."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import csp_engine.search as search
from csp_engine.bundle import Bundle, BundleWriter, copy_slim, verify
from csp_engine.bundle import slim as slim_copies
from csp_engine.bundle.verifying.whole import altered
from csp_engine.encoders import load_encoder
from csp_engine.errors import BundleError, InputError, MissingModelError, StaleError
from csp_engine.pipeline import build, bundle_captioner, relabel
from csp_engine.pipeline.recipe import Recipe
from tests.engine.test_cli import run
from tests.worlds import toys
from tests.worlds.damage import edit
from tests.worlds.small_captioner import small_captioner

LAYER = "activations:small/first@mean"


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Bundle:
    folder = tmp_path_factory.mktemp("whole")
    return toys.with_truth(build(toys.request(folder, folder / "a.csp", notice="Only <toys>.")))


@pytest.fixture
def slim(whole, tmp_path) -> Bundle:
    return copy_slim(whole, tmp_path / "slim.csp")


def without_exact_indices(path: Path) -> dict:
    """What a slim copy must agree in with the whole bundle."""
    return {
        name: (key, {file: digest for file, digest in files.items() if file != "index.faiss"})
        for name, (key, files) in toys.content(path).items()
    }


def shared_files(bundle: Bundle) -> list[tuple[str, str]]:
    """Stage and name of the files that another stage keeps."""
    return [
        (name, file)
        for name, record in bundle.manifest.stages.items()
        for file, entry in record.files.items()
        if entry.kept_in is not None
    ]


def test_a_slim_copy_is_the_bundle_without_activations(whole, slim):
    # Records stay, omitted or not.
    assert toys.content(slim.path) == without_exact_indices(whole.path)
    assert slim.omitted == ("activations:small/first@mean", "activations:small/second@mean")
    assert whole.omitted == ()
    written = {p.relative_to(slim.path).as_posix() for p in slim.path.rglob("*") if p.is_file()}
    expected = {"manifest.json"} | {
        f"{record.directory}/{file}"
        for name, record in whole.manifest.stages.items()
        if not name.startswith("activations:")
        for file in record.files
        if file != "index.faiss"
    }
    kept_once = shared_files(slim)
    assert written == expected - {
        f"{slim.stage(stage).directory}/{file}" for stage, file in kept_once
    }
    assert verify(slim) == []
    np.testing.assert_array_equal(
        slim.scores("small", "first@mean", "csp").score_uk,
        whole.scores("small", "first@mean", "csp").score_uk,
    )
    manifest = json.loads((slim.path / "manifest.json").read_text())
    marked = {name for name, record in manifest["stages"].items() if "omitted" in record}
    assert marked == set(slim.omitted)
    assert not list(slim.path.parent.glob(".tmp-*"))


def test_a_search_in_a_slim_copy_finds_what_one_in_the_whole_bundle_does(whole, slim):
    assert whole.has_index_file("csp")
    assert not slim.has_index_file("csp")
    query_d = np.random.default_rng(0).normal(size=whole.label_vectors().shape[1])
    found = []
    for bundle in (whole, slim):
        index, rows = search.open_index(bundle, "csp")
        ranking = search.rank(index, query_d.astype(np.float32), 9)
        like = search.rank_like(index, int(ranking.row_m[0]), 5)
        found.append((index.ntotal, rows, ranking, like))
    (n, rows, *rankings), (n_slim, rows_slim, *again) = found
    assert n == n_slim
    pd.testing.assert_frame_equal(rows, rows_slim)
    for one, other in zip(rankings, again, strict=True):
        np.testing.assert_array_equal(one.row_m, other.row_m)
        np.testing.assert_array_equal(one.score_m, other.score_m)


def test_an_index_that_is_not_exact_stays_in_a_slim_copy(whole, tmp_path):
    stages = dict(whole.manifest.stages)
    record = stages["index:csp"]
    stages["index:csp"] = replace(record, facts={**record.facts, "kind": "hnsw"})
    other = Bundle(whole.path, replace(whole.manifest, stages=stages), whole.digest)
    assert copy_slim(other, tmp_path / "slim.csp").has_index_file("csp")


def test_rows_that_name_nobody_are_damage(slim, monkeypatch):
    rows = slim.index_rows("csp").assign(unit=np.int32(99))
    monkeypatch.setattr(Bundle, "index_rows", lambda *_: rows)
    with pytest.raises(BundleError, match=r"rows\.parquet of method csp names neurons that small/"):
        search.open_index(slim, "csp")


def test_whoever_needs_an_omitted_file_gets_one_sentence(slim):
    with pytest.raises(BundleError, match=r"leaves out activations:small/first@mean.*csp build"):
        slim.activations("small", "first@mean")


def test_a_copy_of_a_copy_still_says_what_is_omitted(slim, tmp_path):
    again = copy_slim(slim, tmp_path / "again.csp", omit=("influence",))
    assert set(again.omitted) > set(slim.omitted)
    assert verify(again) == []


# ---------------------------------------------------------------- equal files, kept once


@pytest.fixture
def shared(whole, tmp_path, monkeypatch) -> Bundle:
    """A slim copy whose files are too small to be worth it otherwise."""
    monkeypatch.setattr(slim_copies, "LEAST_SHARED", 1)
    bundle = copy_slim(whole, tmp_path / "shared.csp")
    assert len(shared_files(bundle)) > 20
    return bundle


def test_no_two_files_of_a_slim_copy_are_equal_and_all_read_as_in_the_whole(whole, shared):
    on_disk = [p for p in shared.path.rglob("*") if p.is_file()]
    assert len({p.read_bytes() for p in on_disk}) == len(on_disk)
    assert toys.content(shared.path) == without_exact_indices(whole.path)
    assert verify(shared) == []
    for name, record in shared.manifest.stages.items():
        for file in record.files if not record.omitted else ():
            assert shared.content(name, file) == whole.content(name, file)
            assert shared.file(name, file).read_bytes() == whole.content(name, file)
    for stage, file in shared_files(shared):
        if file.endswith(".npy"):
            mine, theirs = (b.array(stage, file.removesuffix(".npy")) for b in (shared, whole))
            np.testing.assert_array_equal(mine, theirs)


def test_small_equal_files_are_not_worth_it(whole, slim):
    sizes = [entry.bytes for record in whole.manifest.stages.values()
             for entry in record.files.values()]  # fmt: skip
    assert min(sizes) < slim_copies.LEAST_SHARED
    for stage, file in shared_files(slim):
        assert slim.stage(stage).files[file].bytes >= slim_copies.LEAST_SHARED


def test_a_copy_of_a_copy_parts_and_shares_anew(whole, shared, monkeypatch):
    holder = shared.stage(*{shared.stage(s).files[f].kept_in for s, f in shared_files(shared)
                            if s.startswith("neurons:small/second")})  # fmt: skip
    assert holder is shared.stage("neurons:small/first@mean")
    again = copy_slim(shared, shared.path.with_name("again.csp"), omit=("neurons",))
    assert verify(again) == []
    assert toys.content(again.path) == toys.content(shared.path)
    monkeypatch.setattr(slim_copies, "LEAST_SHARED", 1 << 40)
    parted = copy_slim(shared, shared.path.with_name("parted.csp"))
    assert shared_files(parted) == []
    assert verify(parted) == []
    assert toys.content(parted.path) == toys.content(shared.path)


def test_whoever_changes_a_copy_parts_its_files_first(whole, shared):
    holders = {shared.stage(s).files[f].kept_in for s, f in shared_files(shared)}
    for kind in ("neurons", "scores"):
        name = min(name for name in holders if name.startswith(kind))
        copy = Path(shutil.copytree(shared.path, shared.path.with_name(f"{kind}.csp")))
        with BundleWriter(copy) as writer:
            writer.drop([name])
        left = Bundle.open(copy)
        assert not left.has(name)
        assert (name, shared_files(left), altered(left)) == (name, [], [])


def test_new_labels_on_a_copy_are_those_of_the_whole_bundle(whole, shared, tmp_path):
    recipe = replace(Recipe.from_json(shared.manifest.recipe), gamma=0.5)
    own = Path(shutil.copytree(whole.path, tmp_path / "own.csp"))
    done = [toys.content(relabel(path, recipe).path) for path in (shared.path, own)]
    without = [{n: k for n, (k, _) in each.items()} for each in done]
    assert without[0] == without[1]
    assert verify(Bundle.open(shared.path)) == []


def gone_for_many(bundle: Bundle) -> tuple[str, str]:
    """An array that a stage reads from another stage's folder."""
    return next((s, f) for s, f in shared_files(bundle) if f == "null_projection.npy")


def test_a_file_that_stands_for_others_is_missed_and_told_once_for_each(shared):
    stage, file = gone_for_many(shared)
    path = shared.path.joinpath(*shared.manifest.place(stage, file))
    where = "/".join(path.parts[-2:])
    before = path.read_bytes()
    path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    told = verify(Bundle.open(shared.path))
    assert told == [f"{where} was altered: its sha256 does not match the manifest."] * len(told)
    assert len(told) >= 2
    with pytest.raises(BundleError, match=rf"{where} was altered"):
        Bundle.open(shared.path).array(stage, file.removesuffix(".npy"))
    path.unlink()
    with pytest.raises(BundleError, match=rf"{where} is missing"):
        Bundle.open(shared.path).array(stage, file.removesuffix(".npy"))
    assert verify(Bundle.open(shared.path)) == [f"{where} is missing."] * len(told)


@pytest.mark.slow
def test_a_build_repairs_a_copy_whose_shared_file_is_gone(whole, shared):
    stage, file = gone_for_many(shared)
    shared.path.joinpath(*shared.manifest.place(stage, file)).unlink()
    again = build(toys.request(whole.path.parent, shared.path, notice="Only <toys>."))
    assert verify(again) == []
    assert shared_files(again) == []
    assert without_exact_indices(again.path) == without_exact_indices(whole.path)


HOSTILE = {
    "../../secret": "has no files here|cannot be",
    "/etc/passwd": "has no files here",
    "images": "does not hold it",
    "activations:small/first@mean": "has no files here",
    "": "has no files here",
    3: "kept_in '3'",
    None: "kept_in 'None'",
    ("a",): "kept_in",
}


@pytest.mark.parametrize("said", HOSTILE, ids=str)
def test_a_manifest_that_keeps_a_file_where_it_is_not_is_refused(said, shared):
    stage, file = shared_files(shared)[0]
    edit(shared.path, lambda body: body["stages"][stage]["files"][file].update(kept_in=said))
    with pytest.raises(BundleError, match=HOSTILE[said]) as caught:
        Bundle.open(shared.path)
    assert "\n" not in str(caught.value)


def test_files_that_stand_for_one_another_are_refused(shared):
    stage, file = shared_files(shared)[0]
    holder = shared.stage(stage).files[file].kept_in

    def circle(body):
        for name, entry in body["stages"][holder]["files"].items():
            if entry["sha256"] == body["stages"][stage]["files"][file]["sha256"]:
                body["stages"][holder]["files"][name]["kept_in"] = stage

    edit(shared.path, circle)
    with pytest.raises(BundleError, match="does not hold it"):
        Bundle.open(shared.path)


def test_no_link_is_followed_when_files_are_parted(shared, tmp_path):
    stage, _ = shared_files(shared)[0]
    outside = tmp_path / "outside"
    outside.mkdir()
    folder = shared.path / shared.stage(stage).directory
    if folder.exists():
        shutil.rmtree(folder)
    folder.symlink_to(outside)
    with BundleWriter(shared.path) as writer:
        writer.drop(["index:csp"])
    assert list(outside.iterdir()) == []


def test_damage_is_still_found_in_a_slim_copy(slim):
    record = slim.stage("embeddings")
    path = slim.path / record.directory / "image.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert [p for p in verify(slim) if "image.npy was altered" in p]
    assert len(verify(slim)) == 1


def test_a_damaged_bundle_is_not_copied(whole, tmp_path):
    damaged = Path(shutil.copytree(whole.path, tmp_path / "a.csp"))
    path = damaged / whole.stage("embeddings").directory / "image.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(BundleError, match=r"image\.npy was altered"):
        copy_slim(Bundle.open(damaged), tmp_path / "slim.csp")
    assert [p.name for p in tmp_path.iterdir()] == ["a.csp"]


def test_requests_that_cannot_be_met(whole, slim):
    with pytest.raises(InputError, match="exists already"):
        copy_slim(whole, slim.path)
    with pytest.raises(InputError, match="no stages of kind 'pictures'"):
        copy_slim(whole, slim.path.with_name("b.csp"), omit=("pictures",))


def test_other_gammas_and_words_work_on_a_slim_copy(whole, slim):
    recipe = Recipe.from_json(slim.manifest.recipe)
    done = relabel(slim.path, replace(recipe, gamma=0.5))
    assert done.omitted == slim.omitted
    assert done.manifest.recipe["gamma"] == 0.5
    words = toys.words(slim.path.parent, ["red", "crimson"])
    done = relabel(slim.path, recipe, words, toys.ColourEncoder())
    assert list(done.labels()["text"]) == ["red", "crimson"]
    assert done.has("truth:small/first@mean")
    assert verify(done) == []


@pytest.mark.parametrize(
    "change", [{"threshold": "quantile:0.3"}, {"n_exemplars": 5}, {"n_partners": 1}]
)
def test_what_needs_activations_is_refused_before_anything_changes(slim, change):
    before = (slim.path / "manifest.json").read_bytes()
    recipe = replace(Recipe.from_json(slim.manifest.recipe), **change)
    with pytest.raises(BundleError, match=r"leaves out activations:small/first@mean"):
        relabel(slim.path, recipe)
    assert (slim.path / "manifest.json").read_bytes() == before
    assert verify(Bundle.open(slim.path)) == []


@pytest.mark.slow
def test_build_measures_omitted_stages_again(whole, slim):
    again = build(toys.request(whole.path.parent, slim.path, notice="Only <toys>."))
    assert again.omitted == ()
    assert toys.content(again.path) == without_exact_indices(whole.path)
    np.testing.assert_array_equal(
        again.activations("small", "first@mean"), whole.activations("small", "first@mean")
    )


def test_the_command_line_says_what_is_left_out(slim, capsys):
    code, out, _ = run(capsys, "verify", slim.path)
    assert code == 0
    assert "leaves out activations (2 stages" in out
    code, out, _ = run(capsys, "verify", slim.path, "--json")
    answer = json.loads(out)
    assert (code, answer["problems"], len(answer["omitted"])) == (0, [], 2)
    code, out, _ = run(capsys, "info", slim.path)
    assert "left out    activations (2 stages" in out
    assert "notice      Only <toys>." in out
    on_disk = sum(p.stat().st_size for p in slim.path.rglob("*") if p.name != "manifest.json")
    folders = sum(p.stat().st_size for p in slim.path.iterdir() if p.is_dir())
    _, out, _ = run(capsys, "info", slim.path, "--json")
    assert json.loads(out)["bytes"] == on_disk - folders
    code, _, err = run(capsys, "label", slim.path, "--set", "n_partners=1")
    assert code == 2
    assert "leaves out activations" in err


# ---------------------------------------------------------------- what lies beside a bundle


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("open_clip/./encoder", "open_clip/HERE/encoder"),
        ("./captioner", "HERE/captioner"),
        ("open_clip/ViT-B-32/openai", "open_clip/ViT-B-32/openai"),
        ("open_clip//abs/./encoder", "open_clip//abs/./encoder"),
        ("open_clip/../encoder", "open_clip/../encoder"),
        ("open_clip/models./encoder", "open_clip/models./encoder"),
        ("python:tests.worlds.toys:ColourEncoder", "python:tests.worlds.toys:ColourEncoder"),
    ],
)
def test_where_a_spec_points(slim, spec, expected):
    here = str(slim.path.resolve().parent)
    for name in ("encoder", "captioner"):
        (slim.path.parent / name).mkdir()
    assert slim.beside(spec) == expected.replace("HERE", here)


@pytest.mark.slow
def test_an_encoder_beside_its_bundle_moves_with_it(toy_world, tmp_path, monkeypatch, capsys):
    home = tmp_path / "home"
    shutil.copytree(toy_world / "encoder", home / "encoder")
    loaded = load_encoder(f"open_clip/{home / 'encoder'}")
    loaded.spec = "open_clip/./encoder"
    bundle = build(toys.request(tmp_path, home / "a.csp", encoder=loaded))
    moved = Path(shutil.move(home, tmp_path / "moved"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    bundle = Bundle.open(moved / "a.csp")
    found = search.bundle_encoder(bundle)
    assert found.fingerprint == loaded.fingerprint
    vector = search.query_vector(bundle, "a word of nobody", found)
    assert vector.shape == (bundle.label_vectors().shape[1],)
    code, out, _ = run(capsys, "search", moved / "a.csp", "a word of nobody", "--json")
    assert code == 0
    assert json.loads(out)["found"]
    words = toys.words(tmp_path, ["red", "a new word"]).table
    (tmp_path / "new.txt").write_text("\n".join(words["text"]))
    code, _, _ = run(capsys, "label", moved / "a.csp", "--vocabulary", tmp_path / "new.txt")
    assert code == 0
    shutil.rmtree(moved / "encoder")
    with pytest.raises(MissingModelError, match=f"{moved / 'encoder'} belongs beside bundle a"):
        search.bundle_encoder(bundle)
    code, _, err = run(capsys, "search", moved / "a.csp", "another word of nobody")
    assert code == 2
    assert "belongs beside" in err
    assert "--encoder" in err


@pytest.mark.slow
def test_a_captioner_beside_its_bundle_moves_with_it(tmp_path):
    captioner = small_captioner(
        tmp_path / "home" / "captioner", encoder_fingerprint=toys.ColourEncoder().fingerprint
    )
    captioner.spec = "./captioner"
    build(toys.request(tmp_path, tmp_path / "home" / "a.csp", captioner=captioner))
    moved = Path(shutil.move(tmp_path / "home", tmp_path / "moved"))
    bundle = Bundle.open(moved / "a.csp")
    assert bundle_captioner(bundle).fingerprint == captioner.fingerprint
    slim = copy_slim(bundle, moved / "slim.csp")
    done = relabel(slim.path, replace(Recipe.from_json(slim.manifest.recipe), gamma=0.5))
    assert done.candidates("small", "first@mean") is not None
    shutil.rmtree(moved / "captioner")
    with pytest.raises(MissingModelError, match="belongs beside bundle a"):
        bundle_captioner(bundle)


def test_another_encoder_beside_a_bundle_is_refused(toy_world, slim):
    shutil.copytree(toy_world / "encoder", slim.path.parent / "encoder")
    encoder = {**slim.manifest.inputs["encoder"], "spec": "open_clip/./encoder"}
    inputs = {**slim.manifest.inputs, "encoder": encoder}
    other = Bundle(slim.path, replace(slim.manifest, inputs=inputs), slim.digest)
    with pytest.raises(StaleError, match="did not make"):
        search.bundle_encoder(other)


@pytest.mark.slow
def test_a_copy_without_any_kind_of_stage_is_whole(whole, tmp_path):
    """What was left out is no damage, whichever kind it is."""
    kinds = sorted({name.split(":")[0] for name in whole.manifest.stages})
    assert len(kinds) >= 10, kinds
    for kind in kinds:
        copy = copy_slim(whole, tmp_path / f"{kind}.csp", omit=(kind,))
        assert (kind, verify(copy)) == (kind, [])
