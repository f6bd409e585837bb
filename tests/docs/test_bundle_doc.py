"""docs/bundle.md is the authority on the format: held against bundles the engine writes."""

from __future__ import annotations

import dataclasses
import re

import pytest

from csp_engine import pipeline
from csp_engine.bundle import SCHEMA, Bundle, FileRecord, Manifest, StageRecord
from csp_engine.bundle.kinds import KINDS, stage_kind
from csp_engine.captioners import load_captioner
from csp_engine.exchange import import_labels
from csp_engine.search import index as search_index
from tests.worlds import toys
from tests.worlds.everything import everything
from tests.worlds.loopback import colours, loopback
from tools import bundle_tables

DOC = bundle_tables.BUNDLE_PATH.read_text("utf-8")

HERE = {prefix: kind for prefix, kind in KINDS.items() if prefix != "statistic"}
"""All kinds but the one that only statistics of extensions have; another test adds such a one."""


def table_rows(heading: str) -> list[list[str]]:
    """Cells of the first table after a heading or sentence."""
    lines = DOC[DOC.index(heading) :].splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("|---"))
    rows = []
    for line in lines[start + 1 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def names(heading: str) -> set[str]:
    return {name for row in table_rows(heading) for name in re.findall(r"`(\w+)`", row[0])}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    folder = tmp_path_factory.mktemp("doc")
    bundle = everything(folder, probe=toys.with_columns(folder))
    table = folder / "sums.csv"
    table.write_text("layer,unit,weight0,concept0,similarity\nfirst,0,-0.5,red,0.25\n", "utf-8")
    import_labels(table, bundle.path, model="small")
    return toys.with_faithfulness(Bundle.open(bundle.path))


@pytest.fixture(scope="module")
def pictured(tmp_path_factory) -> Bundle:
    """Latents kept sparsely, a captioner that is shown pictures, and a search by codes."""
    folder = tmp_path_factory.mktemp("pictured")
    with pytest.MonkeyPatch.context() as patched, loopback(colours) as running:
        patched.setattr(search_index, "EXACT_UP_TO", 8)
        patched.setenv("CSP_ANSWERS", str(folder / "answers"))
        captioner = load_captioner(running.spec("timeout=60"))
        more = {"captioner": captioner, "targets": (toys.sparse_target(folder, 20),)}
        return pipeline.build(toys.request(folder, folder / "shown.csp", **more))


def stages_of(*bundles: Bundle):
    """All stages of some bundles: the bundle, the name, the record."""
    return [(b, name, record) for b in bundles for name, record in b.manifest.stages.items()]


def test_schema_number():
    assert f"schema {SCHEMA}" in DOC.splitlines()[0]


def test_manifest_fields():
    fields = {field.name for field in dataclasses.fields(Manifest)}
    assert names("## manifest.json") == fields | {"self_sha256"}


def test_stage_record_fields():
    assert names("A stage record:") == {field.name for field in dataclasses.fields(StageRecord)}
    for field in dataclasses.fields(FileRecord):
        assert f"`{field.name}`" in DOC


def documented() -> dict[tuple[str, str], tuple[str, list[str], str]]:
    found = {}
    for stage, file, dtype, axes, meaning in table_rows(bundle_tables.FILES_HEAD):
        kind = stage.strip("`").removesuffix(":*")
        found[kind, file.strip("`")] = (dtype, axes.split(), meaning)
    return found


def test_the_tables_are_what_make_docs_writes():
    assert bundle_tables.render(DOC) == DOC, "docs/bundle.md is out of date; run: make docs"


@pytest.mark.slow
def test_a_bundle_holds_stages_of_every_kind_as_declared(bundle, pictured):
    stages = stages_of(bundle, pictured)
    assert {stage_kind(name) for _, name, _ in stages} == set(HERE)
    for _, name, record in stages:
        kind = KINDS[stage_kind(name)]
        assert kind.name(*kind.parts(name)) == name
        assert record.version == kind.version
        assert {stage_kind(need) for need in record.needs} <= set(kind.needs), name
        needed = {file.name for file in kind.files if not file.is_optional}
        assert needed <= set(record.files) <= {file.name for file in kind.files}, name
        assert set(record.facts) <= set(kind.facts), name
    for kind in HERE.values():
        own = [record for _, name, record in stages if kind.is_of(name)]
        assert {file.name for file in kind.files} == {file for r in own for file in r.files}
        assert set(kind.facts) <= {fact for r in own for fact in r.facts}, kind.prefix


def test_files_both_ways(bundle, pictured):
    written = {}
    for _, name, record in stages_of(bundle, pictured):
        for file, entry in record.files.items():
            written.setdefault((name.partition(":")[0], file), []).append(entry)
    assert set(written) == {key for key in documented() if key[0] in HERE}
    for key, entries in written.items():
        dtype, axes, _ = documented()[key]
        for entry in entries:
            if entry.dtype is not None:
                assert (dtype, len(axes)) == (entry.dtype, len(entry.shape or ())), key


def test_axes_of_one_letter_have_one_length(bundle):
    """Within a stage (and across stages for images, width and labels) a letter is one length."""
    lengths: dict[tuple[str, str], set[int]] = {}
    for name, record in bundle.manifest.stages.items():
        for file, entry in record.files.items():
            _, axes, _ = documented()[name.partition(":")[0], file]
            for letter, length in zip(axes, entry.shape or (), strict=False):
                scope = "" if letter in "nt" or (letter == "d" and length) else name
                lengths.setdefault((scope, letter), set()).add(length)
    for (scope, letter), found in lengths.items():
        if letter != "s":  # stratified and random samples differ in number
            assert len(found) == 1, (scope, letter, found)


def test_columns_of_tables(bundle, pictured):
    for of, name, record in stages_of(bundle, pictured):
        for file in record.files:
            if not file.endswith(".parquet"):
                continue
            _, _, meaning = documented()[name.partition(":")[0], file]
            columns = set(of.table(name, file.removesuffix(".parquet")).columns)
            mentioned = set(re.findall(r"`(\w+)`", meaning))
            own = set(toys.CONCEPTS) if file == "probe.parquet" else set()  # columns of the user
            assert columns - own <= mentioned, (file, columns - mentioned)
