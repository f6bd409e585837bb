"""Images that drive suspects: against the arrays of the bundle, the command, hostile names."""

from __future__ import annotations

import io
import shutil

import numpy as np
import pandas as pd
import pytest

from csp_engine.bundle import Bundle
from csp_engine.cells import original
from csp_engine.views.audit import driving
from csp_engine.views.audit.associations import layers_with, look
from csp_engine.views.audit.interventions import audited
from csp_engine.views.memo import Memo
from csp_engine.words.concepts import find_concept_set
from tests.engine.test_cli import run
from tests.worlds import damage


@pytest.fixture(scope="module")
def demo(shipped_bundle):
    return Bundle.open(shipped_bundle)


CONCEPTS = find_concept_set("melanoma")


@pytest.mark.slow
def test_rows_are_the_strongest_images_of_the_suspects_of_a_column(demo):
    rows = driving.images_of_associated(
        demo, Memo(), "biased", ("layer2@max",), "csp", CONCEPTS, "colour patch"
    )
    found = look(demo, Memo(), "biased", "layer2@max", "colour patch", "csp", CONCEPTS)
    assert list(rows) == list(driving.COLUMNS)
    assert rows["unit"].unique().tolist() == [s.neuron.unit for s in found.suspects]
    image_uk = demo.array("neurons:biased/layer2@max", "exemplar_image")
    activation_uk = demo.array("neurons:biased/layer2@max", "exemplar_activation")
    probe = demo.table("probe", "probe")
    for each in found.suspects[:3]:
        own = rows[rows["unit"] == each.neuron.unit]
        image_k = image_uk[each.neuron.unit]
        assert own["file"].tolist() == probe["file"].iloc[image_k].tolist()
        assert own["shows"].tolist() == probe["colour patch"].iloc[image_k].tolist()
        assert own["class"].tolist() == probe["class"].iloc[image_k].tolist()
        np.testing.assert_array_equal(own["activation"], activation_uk[each.neuron.unit])
        assert own["rank"].tolist() == list(range(1, len(own) + 1))
        assert set(own["auroc"]) == {each.auroc.value}
        assert own["effect"].isna().all()


def test_carriers_bring_their_part_of_the_effect(demo):
    found = audited(demo, "biased", "colour patch", "csp")
    rows = driving.images_of_carriers(demo, found)
    told = rows.drop_duplicates("unit").set_index("unit")["effect"].to_dict()
    assert told == {each.neuron.unit: each.attribution for each in found.suspects}
    assert set(rows["layer"]) == {found.scope.layer}
    assert set(rows["evidence"]) == {"intervention"}
    withheld = audited(demo, "retrained", "gel bubbles", "csp")
    none = driving.images_of_carriers(demo, withheld)
    assert list(none) == list(driving.COLUMNS)


@pytest.mark.slow
def test_the_command_writes_what_the_page_does(demo, tmp_path, capsys):
    file = tmp_path / "images.csv"
    code, shown, said = run(capsys, "audit", demo.path, "--suspect-images", file)
    assert (code, said) == (0, "")
    rows = pd.read_csv(file)
    assert f"{len(rows):,} rows: {file}" in shown
    layers = layers_with(demo, "biased")
    table = driving.images_of_all(demo, Memo(), "biased", layers, "csp_plus", CONCEPTS)
    again = pd.read_csv(io.BytesIO(driving.images_csv(table)))
    pd.testing.assert_frame_equal(rows.drop(columns="label"), again.drop(columns="label"))
    # Carriers of signs of the disease are no suspects: whoever cleaned by them would take it out.
    carried = set(rows["of"][rows["evidence"] == "intervention"])
    assert "colour patch" in carried
    assert not carried & {"blue-white veil", "streaks"}
    patch = rows[(rows["of"] == "colour patch") & (rows["evidence"] == "association")]
    assert patch["shows"].mean() > 0.9
    code, _, said = run(capsys, "audit", demo.path, "--suspect-images", tmp_path / "images.xlsx")
    assert (code, "'images.xlsx' is no table; end --suspect-images with .csv" in said) == (2, True)


def test_names_of_files_run_in_no_spreadsheet(demo, tmp_path):
    path = tmp_path / "hostile.csp"
    shutil.copytree(demo.path, path)
    file = damage.place(path, "probe", "probe.parquet")
    probe = pd.read_parquet(file)
    named = [f"=cmd|' /C calc'!A{i}" for i in range(len(probe))]
    probe.assign(file=named).astype({"file": "string"}).to_parquet(file, index=False)
    damage.redo(path)
    hostile = Bundle.open(path)
    found = audited(hostile, "biased", "colour patch", "csp")
    text = driving.images_csv(driving.images_of_carriers(hostile, found))
    cells = pd.read_csv(io.BytesIO(text), dtype=str)["file"]
    assert all(cell.startswith("'=") for cell in cells)
    assert set(map(original, cells)) <= set(named)
