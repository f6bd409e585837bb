"""A damaged or forged bundle ends in one sentence, never in a traceback or a wrong number."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from csp_engine.bundle import Bundle, copy_slim, kinds, verify
from csp_engine.bundle.checks.later import settle
from csp_engine.cli import main
from csp_engine.errors import BundleError, CspError
from csp_engine.exchange import export_labels
from csp_engine.pipeline import build
from csp_engine.search import open_index
from csp_engine.search.query import text_recipe
from csp_engine.serving.store import Store
from csp_engine.views.memo import Memo
from tests.worlds import toys
from tests.worlds.damage import body_of, change_array, edit, place, redo, renumber

LAYER = "small/second@mean"
SCORES = f"scores:{LAYER}/csp"
NEURONS = f"neurons:{LAYER}"
AUDIT = f"audit:{LAYER}"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    return build(toys.request(folder, folder / "whole.csp")).path


@pytest.fixture
def path(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "a.csp"))


def read_all(bundle: Bundle) -> None:
    """Read every file of a bundle as pages and commands do."""
    for stage, record in bundle.manifest.stages.items():
        for file in record.files:
            name, _, ending = file.rpartition(".")
            if ending == "npy":
                bundle.array(stage, name)
            elif ending == "parquet":
                bundle.table(stage, name)
    for model in bundle.model_names:
        for layer in bundle.layers(model):
            bundle.units(model, layer)
            for method in bundle.methods(model, layer):
                bundle.scores(model, layer, method)
                open_index(bundle, method)
    for image in range(bundle.n_images):
        bundle.thumbnail(image)


@pytest.mark.slow
def test_a_whole_bundle_is_read_and_verified(path: Path) -> None:
    read_all(Bundle.open(path))
    assert verify(Bundle.open(path)) == []
    redo(path)
    assert verify(Bundle.open(path)) == []


# ------------------------------------------------------------------ the manifest

DEEP = "[" * 100_000
MALFORMED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "inputs null": lambda body: body.update(inputs=None),
    "recipe null": lambda body: body.update(recipe=None),
    "stages null": lambda body: body.update(stages=None),
    "stages a list": lambda body: body.update(stages=[]),
    "models null": lambda body: body["inputs"].update(models=None),
    "a model null": lambda body: body["inputs"]["models"].update(small=None),
    "a model without spec": lambda body: body["inputs"]["models"]["small"].pop("spec"),
    "layers a text": lambda body: body["inputs"]["models"]["small"].update(layers="ab"),
    "order a text": lambda body: body["inputs"]["models"]["small"].update(order="first"),
    "encoder null": lambda body: body["inputs"].update(encoder=None),
    "a fingerprint that is none": lambda body: body["inputs"]["encoder"].update(fingerprint=3),
    "templates a number": lambda body: body["inputs"]["vocabulary"].update(templates=3),
    "methods a number": lambda body: body["recipe"].update(methods=3),
    "a record null": lambda body: body["stages"].update(images=None),
    "bytes as text": lambda body: _file(body).update(bytes="12"),
    "bytes below zero": lambda body: _file(body).update(bytes=-1),
    "bytes yes": lambda body: _file(body).update(bytes=True),
    "a hash that is none": lambda body: _file(body).update(sha256="x"),
    "a shape of text": lambda body: _file(body).update(shape="ab"),
    "a shape below zero": lambda body: _file(body).update(shape=[-1, 12]),
    "another shape": lambda body: _file(body).update(shape=[3]),
    "another type": lambda body: _file(body).update(dtype="float64"),
    "a directory that is a number": lambda body: _record(body).update(directory=3),
    "an absolute directory": lambda body: _record(body).update(directory="/etc"),
    "a directory above": lambda body: _record(body).update(directory="../other.csp"),
    "a directory of dots": lambda body: _record(body).update(directory=".."),
    "a directory within": lambda body: _record(body).update(directory="a/b"),
    "one directory twice": lambda body: _record(body).update(
        directory=body["stages"]["images"]["directory"]
    ),
    "a file above": lambda body: _record(body)["files"].update({"../x.npy": _file(body)}),
    "params null": lambda body: _record(body).update(params=None),
    "no gamma": lambda body: body["stages"][SCORES]["params"].pop("gamma"),
    "gamma a text": lambda body: body["stages"][SCORES]["params"].update(gamma="much"),
    "needs null": lambda body: _record(body).update(needs=None),
    "needs a number": lambda body: _record(body).update(needs={"images": 3}),
    "facts null": lambda body: _record(body).update(facts=None),
    "units a text": lambda body: body["stages"][NEURONS]["facts"].update(n_units="many"),
    "more units": lambda body: body["stages"][NEURONS]["facts"].update(n_units=13),
    "more random sets": lambda body: body["stages"]["null"]["params"].update(n_draws=31),
    "more images": lambda body: body["stages"]["images"]["facts"].update(n_images=29),
    "levels null": lambda body: body["stages"][NEURONS]["facts"].update(quantile_levels=None),
    "omitted a text": lambda body: _record(body).update(omitted="yes"),
    "an unknown field": lambda body: _record(body).update(hook="x"),
    "no files": lambda body: _record(body).pop("files"),
    "schema a list": lambda body: body.update(schema=[1]),
    "schema yes": lambda body: body.update(schema=True),
}


def _record(body: dict[str, Any]) -> dict[str, Any]:
    return body["stages"][NEURONS]


def _file(body: dict[str, Any]) -> dict[str, Any]:
    return _record(body)["files"]["exemplar_count.npy"]


@pytest.mark.parametrize("fault", MALFORMED)
def test_a_manifest_that_cannot_be_one(fault: str, path: Path) -> None:
    edit(path, MALFORMED[fault])
    with pytest.raises(BundleError) as caught:
        Bundle.open(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("name", ["templates", "renormalise", "subtract_empty"])
def test_a_bundle_that_does_not_say_how_texts_are_embedded_says_so(name: str, path: Path) -> None:
    edit(path, lambda body: body["inputs"]["vocabulary"].pop(name))
    with pytest.raises(BundleError, match=f"{name}.*run 'csp build' again"):
        text_recipe(Bundle.open(path))


@pytest.mark.parametrize("text", ["", "null", "3", "[]", "{", DEEP, '{"schema":1}', "\x00"])
def test_a_manifest_that_is_no_manifest(text: str, path: Path) -> None:
    (path / "manifest.json").write_text(text)
    with pytest.raises(BundleError):
        Bundle.open(path)


@pytest.mark.parametrize("kind", ["pipe", "folder", "link", "bytes"])
def test_a_manifest_that_is_no_text_file(kind: str, path: Path, tmp_path: Path) -> None:
    manifest = path / "manifest.json"
    outside = manifest.rename(tmp_path / "outside.json")
    if kind == "pipe":
        os.mkfifo(manifest)
    elif kind == "folder":
        manifest.mkdir()
    elif kind == "link":
        manifest.symlink_to(outside)
    else:
        manifest.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BundleError, match="damaged"):
        Bundle.open(path)


# ------------------------------------------------------------------ files


def _npz(file: Path) -> None:
    with file.open("wb") as handle:
        np.savez(handle, np.zeros(3))


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def _objects(file: Path) -> None:
    with file.open("wb") as handle:
        np.save(handle, np.array([{}] * 3, dtype=object), allow_pickle=True)


BROKEN: dict[str, Callable[[Path], Any]] = {
    "missing": lambda file: file.unlink(),
    "empty": lambda file: file.write_bytes(b""),
    "half": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "one byte more": lambda file: file.write_bytes(file.read_bytes() + b"\0"),
    "one bit": _flip,
    "an archive": _npz,
    "objects": _objects,
    "a head alone": lambda file: file.write_bytes(b"\x93NUMPY\x01\x00"),
    "a pipe": lambda file: (file.unlink(), os.mkfifo(file)),
    "a folder": lambda file: (file.unlink(), file.mkdir()),
    "a link": lambda file: file.rename(file.parent.parent / "x") and file.symlink_to("../x"),
    "a device": lambda file: (file.unlink(), file.symlink_to("/dev/zero")),
}
FILES = {
    "array": (NEURONS, "exemplar_image.npy"),
    "table": (NEURONS, "units.parquet"),
    "index": ("index:csp", "index.faiss"),
    "thumbs": ("images", "thumbs.bin"),
}


@pytest.mark.parametrize("redone", [False, True])
@pytest.mark.parametrize("fault", BROKEN)
@pytest.mark.parametrize("what", FILES)
def test_a_file_that_is_not_what_it_was(what: str, fault: str, redone: bool, path: Path) -> None:
    stage, name = FILES[what]
    BROKEN[fault](place(path, stage, name))
    if redone:
        redo(path)
    if redone and (what, fault) in (("thumbs", "one bit"), ("index", "one byte more")):
        return  # the manifest says so, and nothing in the bundle contradicts it
    with pytest.raises(CspError) as caught:
        _read_twice(path)
    assert "\n" not in str(caught.value)
    assert _problems(path)


def _read_twice(path: Path) -> None:
    """A large file is hashed while it is read, and its second reader is told."""
    bundle = Bundle.open(path)
    read_all(bundle)
    assert settle(60.0)
    read_all(bundle)


def _problems(path: Path) -> list[str]:
    try:
        return verify(Bundle.open(path))
    except BundleError as error:
        return [str(error)]


def test_a_stage_folder_that_is_a_link_is_not_followed(path: Path, tmp_path: Path) -> None:
    folder = place(path, NEURONS, "x").parent
    folder.rename(tmp_path / "outside")
    folder.symlink_to(tmp_path / "outside")
    with pytest.raises(BundleError, match="a link to another place"):
        Bundle.open(path).exemplars("small", "second@mean")
    assert "link" in " ".join(_problems(path))


# ------------------------------------------------------------------ meaning, hashes redone


def _set(at: Any, value: Any) -> Callable[[np.ndarray], None]:
    def change(values: np.ndarray) -> None:
        values[at] = value

    return change


READ: dict[str, tuple[str, str, Callable[[np.ndarray], Any]]] = {
    "label -1": (SCORES, "label_uk", _set((0, 0), -1)),
    "label too high": (SCORES, "label_uk", _set((0, 0), 10)),
    "labels as floats": (SCORES, "label_uk", lambda values: values.astype(np.float32)),
    "count too high": (SCORES, "count_u", _set(0, 99)),
    "count below zero": (SCORES, "count_u", _set(0, -1)),
    "vectors not numbers": (SCORES, "vector_ud", _set((0, 0), np.nan)),
    "vectors endless": (SCORES, "vector_ud", _set((0, 0), np.inf)),
    "vectors too long": (SCORES, "vector_ud", lambda values: values * 2),
    "scores not numbers": (SCORES, "score_uk", _set((0, 0), np.nan)),
    "a share above one": (SCORES, "percentile_uk", _set((0, 0), 1.5)),
    "fewer units": (SCORES, "score_uk", lambda values: values[:-1]),
    "narrower vectors": (SCORES, "vector_ud", lambda values: values[:, :-1].copy()),
    "image -1": (NEURONS, "exemplar_image", _set((0, 0), -1)),
    "image too high": (NEURONS, "exemplar_image", _set((0, 0), 28)),
    "images as int64": (NEURONS, "exemplar_image", lambda values: values.astype(np.int64)),
    "contrast image": (f"contrast:{LAYER}", "contrast_image", _set((0, 0, 0), 28)),
    "embeddings": ("embeddings", "image", _set((0, 0), np.nan)),
    "labels' vectors": ("vocabulary", "text", _set((0, 0), np.nan)),
    "offsets": ("images", "thumb_offset", _set(1, 1 << 40)),
    "activations": (f"activations:{LAYER}", "activation", _set((0, 0), np.nan)),
}


@pytest.mark.parametrize("fault", READ)
def test_what_an_array_cannot_mean_is_refused_when_it_is_read(fault: str, path: Path) -> None:
    change_array(path, *READ[fault])
    with pytest.raises(BundleError):
        read_all(Bundle.open(path))
    assert _problems(path)


def _rows(path: Path, stage: str, name: str, change: Callable[[pd.DataFrame], Any]) -> None:
    file = place(path, stage, f"{name}.parquet")
    rows = pd.read_parquet(file)
    changed = change(rows)
    (rows if changed is None else changed).to_parquet(file, index=False)
    redo(path)


TABLES: dict[str, tuple[str, str, Callable[[pd.DataFrame], Any]]] = {
    "unit -1": ("index:csp", "rows", lambda rows: rows.assign(unit=[-1, *rows["unit"][1:]])),
    "unit too high": ("index:csp", "rows", lambda rows: rows.assign(unit=rows["unit"] + 1)),
    "unit twice": ("index:csp", "rows", lambda rows: rows.assign(unit=0)),
    "another layer": ("index:csp", "rows", lambda rows: rows.assign(layer="third@mean")),
    "units as text": ("index:csp", "rows", lambda rows: rows.astype({"unit": str})),
    "rows the other way": ("index:csp", "rows", lambda rows: rows.iloc[::-1]),
    "fewer rows": ("index:csp", "rows", lambda rows: rows[:-1]),
    "no column": (NEURONS, "units", lambda rows: rows.drop(columns="is_dead")),
    "fewer units": (NEURONS, "units", lambda rows: rows[:-1]),
    "means as text": (NEURONS, "units", lambda rows: rows.astype({"mean": str})),
    "groups as text": (AUDIT, "units", lambda rows: rows.astype({"cluster_0": str})),
    "a group missing": (
        AUDIT,
        "units",
        lambda rows: rows.astype({"cluster_1": object}).assign(cluster_1=None),
    ),
    "labels missing": ("vocabulary", "labels", lambda rows: rows.assign(text=None)),
    "fewer labels": ("vocabulary", "labels", lambda rows: rows[:-1]),
    "fewer images": ("probe", "probe", lambda rows: rows[:-1]),
    "classes": (NEURONS, "class_counts", lambda rows: rows.assign(**{"class": 99})),
}


@pytest.mark.parametrize("fault", TABLES)
def test_what_a_table_cannot_mean_is_refused_when_it_is_read(fault: str, path: Path) -> None:
    _rows(path, *TABLES[fault])
    with pytest.raises(BundleError):
        read_all(Bundle.open(path))
    assert _problems(path)


# ------------------------------------------------------------------ forgeries, hashes redone


def _rolled(values: np.ndarray) -> np.ndarray:
    return np.roll(values, 1, axis=0)


FORGED: dict[str, tuple[str, str, Callable[[np.ndarray], Any]]] = {
    "labels of other neurons": (SCORES, "label_uk", _rolled),
    "labels in another order": (SCORES, "label_uk", lambda values: values[:, ::-1].copy()),
    "higher scores": (SCORES, "score_uk", lambda values: values + np.float32(0.1)),
    "higher percentiles": (SCORES, "percentile_uk", lambda values: np.ones_like(values)),
    "all reliable": (SCORES, "reliable_u", lambda values: ~values),
    "larger margins": (SCORES, "margin_uk", lambda values: values + np.float32(0.1)),
    "other raw scores": (SCORES, "raw_uk", lambda values: values + np.float32(0.1)),
    "another reuse": (SCORES, "reuse_u", lambda values: 1 - values),
    "other quantiles": (NEURONS, "quantile", _rolled),
    "another histogram": (NEURONS, "histogram", lambda values: values[:, ::-1].copy()),
    "vectors of other neurons": (SCORES, "vector_ud", _rolled),
    "anchors of other neurons": (SCORES, "anchor", _rolled),
    "SemanticLens scores": (f"scores:{LAYER}/semanticlens", "score_uk", _rolled),
    "CLIP-Dissect labels": (f"scores:{LAYER}/clip_dissect", "label_uk", _rolled),
    "exemplars of other neurons": (NEURONS, "exemplar_image", _rolled),
    "stronger exemplars": (NEURONS, "exemplar_activation", lambda values: values + 1),
    "exemplars the other way": (NEURONS, "exemplar_image", lambda values: values[:, ::-1].copy()),
    "alike contrast": (f"contrast:{LAYER}", "contrast_similarity", lambda v: np.ones_like(v)),
    "other contrast": (f"contrast:{LAYER}", "contrast_image", _rolled),
    "a higher threshold": (f"contrast:{LAYER}", "threshold", lambda values: values + 1),
    "a larger pool": (f"contrast:{LAYER}", "pool", lambda values: values + 1),
    "vectors of other images": ("embeddings", "image", _rolled),
    "vectors of other labels": ("vocabulary", "text", _rolled),
    "activations of other neurons": (f"activations:{LAYER}", "activation", _rolled),
}


@pytest.mark.parametrize("fault", FORGED)
def test_a_forgery_whose_hashes_agree_is_told_by_verify(fault: str, path: Path) -> None:
    change_array(path, *FORGED[fault])
    assert _problems(path)


@pytest.mark.parametrize("to", [0.5, 30 / 31])
def test_a_percentile_forged_together_with_its_verdict_is_told(to: float, path: Path) -> None:
    def forged(values: np.ndarray) -> np.ndarray:
        return np.where(values > 0, to, values).astype(np.float32)

    change_array(path, SCORES, "best_percentile_u", forged)
    change_array(path, SCORES, "reliable_u", lambda values: np.full_like(values, to >= 0.95))
    assert any("best_percentile_u" in problem for problem in _problems(path))


@pytest.mark.parametrize("column", ["mean", "std", "min", "max", "density", "is_dense", "is_dead"])
def test_forged_statistics_are_told(column: str, path: Path) -> None:
    file = place(path, NEURONS, "units.parquet")
    units = pd.read_parquet(file)
    forged = ~units[column] if units[column].dtype == bool else units[column] * 0.9 - 0.01
    units.assign(**{column: forged.astype(units[column].dtype)}).to_parquet(file)
    redo(path)
    assert any(problem.startswith(f"{column} of") for problem in _problems(path))


def test_an_index_under_other_numbers_is_told_when_it_is_opened(path: Path) -> None:
    renumber(path)
    with pytest.raises(BundleError, match="holds another vector"):
        open_index(Bundle.open(path), "csp")
    assert _problems(path)


# ------------------------------------------------------------------ repair


@pytest.mark.parametrize("file", ["scores", "neurons", "images", "index"])
def test_build_repairs_what_verify_reports(file: str, path: Path, whole: Path) -> None:
    stage = {"scores": SCORES, "neurons": NEURONS, "images": "images", "index": "index:csp"}[file]
    name = {"images": "thumbs.bin", "index": "index.faiss"}.get(file, "")
    name = name or {"scores": "label_uk.npy", "neurons": "exemplar_image.npy"}[file]
    before = place(path, stage, name).read_bytes()
    _flip(place(path, stage, name))
    (problem,) = _problems(path)
    assert name in problem
    repaired = build(toys.request(whole.parent, path))
    assert place(path, stage, name).read_bytes() == before
    assert verify(repaired) == []


@pytest.mark.slow
def test_build_repairs_a_forgery(path: Path, whole: Path) -> None:
    change_array(path, SCORES, "label_uk", _rolled)
    assert verify(build(toys.request(whole.parent, path))) == []
    want, got = (Bundle.open(p).scores("small", "second@mean", "csp") for p in (whole, path))
    np.testing.assert_array_equal(got.label_uk, want.label_uk)


def test_an_unfinished_bundle_is_not_whole(path: Path) -> None:
    assert verify(Bundle.open(path)) == []

    def change(body: dict[str, Any]) -> None:
        for stage in [s for s in body["stages"] if s.startswith(("scores", "index", "projection"))]:
            del body["stages"][stage]

    edit(path, change)
    problems = verify(Bundle.open(path))
    assert problems
    assert all("has no labels by" in problem for problem in problems)
    (path / ".pass").mkdir()
    assert "interrupted" in verify(Bundle.open(path))[0]


# ------------------------------------------------------------------ changed while open


def test_a_file_that_shrinks_while_open_ends_in_a_sentence(path: Path) -> None:
    script = (
        "import sys, os; from csp_engine.bundle import Bundle; from csp_engine.errors import *\n"
        "b = Bundle.open(sys.argv[1]); b.thumbnail(0); os.truncate(sys.argv[2], 10)\n"
        "try: b.thumbnail(27); print('bytes')\n"
        "except BundleError as error: print(error)"
    )
    file = place(path, "images", "thumbs.bin")
    done = subprocess.run(
        [sys.executable, "-c", script, str(path), str(file)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "has changed while it was open" in done.stdout


def test_a_picture_overwritten_while_open_is_not_shown(path: Path) -> None:
    bundle = Bundle.open(path)
    first = bundle.thumbnail(0)
    file = place(path, "images", "thumbs.bin")
    with file.open("r+b") as handle:
        handle.write(b"\0" * 100)
    os.utime(file, ns=(1, 1))
    with pytest.raises(BundleError, match="has changed while it was open"):
        bundle.thumbnail(0)
    assert first[:4] == b"RIFF"


def test_a_large_array_that_changes_while_open_is_not_shown(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("csp_engine.bundle.files.IN_MEMORY", 0)
    bundle = Bundle.open(path)
    assert isinstance(bundle.image_vectors(), np.memmap)
    os.truncate(place(path, "embeddings", "image.npy"), 200)
    with pytest.raises(BundleError, match="has changed while it was open"):
        bundle.image_vectors()


def test_a_large_file_is_hashed_in_the_background(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("csp_engine.bundle.files.IN_MEMORY", 0)
    file = place(path, "embeddings", "image.npy")
    values = np.load(file)
    values[0] = values[1]
    np.save(file, values)
    bundle = Bundle.open(path)
    with suppress(BundleError):  # the background may be quicker than the first reader
        bundle.image_vectors()
    assert settle(60.0)
    with pytest.raises(BundleError, match="was altered"):
        bundle.image_vectors()


def test_a_command_that_read_an_altered_large_file_says_so_at_its_end(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("csp_engine.bundle.files.IN_MEMORY", 0)
    change_array(path, SCORES, "score_uk", lambda values: values + 1, redone=False)
    with pytest.raises(SystemExit) as stop:
        main(["export", str(path), str(path.parent / "labels.csv")])
    assert stop.value.code == 2
    assert "was altered" in capsys.readouterr().err


def test_a_bundle_replaced_at_the_same_time_and_size_is_noticed(path: Path, tmp_path: Path) -> None:
    store = Store([tmp_path], Memo())
    held = store.open("a")
    stat = (path / "manifest.json").stat()
    body = body_of(path)
    assert body["engine_version"] == "0.1.0"
    edit(path, lambda body: body.update(engine_version="0.1.9"))
    os.utime(path / "manifest.json", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (path / "manifest.json").stat().st_size == stat.st_size
    assert store.open("a").digest != held.digest


# ------------------------------------------------------------------ what is written


def test_exports_write_through_nothing(path: Path, tmp_path: Path) -> None:
    bundle, precious = Bundle.open(path), tmp_path / "precious.txt"
    precious.write_text("mine")
    (tmp_path / ".labels.csv.partial").symlink_to(precious)
    assert export_labels(bundle, tmp_path / "labels.csv")
    assert precious.read_text() == "mine"
    (tmp_path / "link.csv").symlink_to(precious)
    os.mkfifo(tmp_path / "pipe.csv")
    for name in ("link.csv", "pipe.csv"):
        with pytest.raises(CspError, match="not a file"):
            export_labels(bundle, tmp_path / name)
    assert precious.read_text() == "mine"


def test_a_slim_copy_stays_in_its_place(path: Path, tmp_path: Path) -> None:
    (tmp_path / "target.csp").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CspError, match="exists already"):
        copy_slim(Bundle.open(path), tmp_path / "target.csp")
    slim = copy_slim(Bundle.open(path), tmp_path / "slim.csp")
    assert verify(slim) == []


def test_a_bundle_needs_a_name(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(CspError, match="no name before the dot"):
        build(toys.request(whole.parent, tmp_path / ".csp"))


def _arrays_of_each_kind(path: Path) -> list[tuple[str, str, int]]:
    """One stage of each kind with its arrays, and their axes."""
    stages = body_of(path)["stages"]
    first = {kinds.stage_kind(stage): stage for stage in reversed(stages)}
    return [
        (stage, file.removesuffix(".npy"), axis)
        for stage in first.values()
        for file, entry in stages[stage]["files"].items()
        for axis in range(len(entry.get("shape") or ()))
        if axis or len(entry["shape"]) == 1  # rows are units or images, which others count
    ]


@pytest.mark.slow
def test_an_array_that_is_a_column_short_is_told(whole: Path, tmp_path: Path) -> None:
    """Whatever the array and the axis: by opening, by reading, or at least by verify."""
    silent = []
    for stage, name, axis in _arrays_of_each_kind(whole):
        path = Path(shutil.copytree(whole, tmp_path / "b.csp"))
        change_array(path, stage, name, lambda values, axis=axis: np.delete(values, -1, axis))
        try:
            bundle = Bundle.open(path)
            read_all(bundle)
            if not verify(bundle):
                silent.append(f"{name} of {stage}, axis {axis}")
        except BundleError:
            pass
        shutil.rmtree(path)
    assert not silent
