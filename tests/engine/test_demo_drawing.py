"""Photographs drawn into a folder of the user's: exact, resumable, whole or not there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock
from PIL import Image
from typer.testing import CliRunner

from csp_engine.cli import app
from csp_engine.demo.simulator import cases, drawing, photographs, render
from csp_engine.errors import InputError

N = 5


def drawn(out: Path, **given) -> bool:
    return drawing.draw(out, **({"scenario": "counter", "n": N, "seed": 3} | given))


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("drawn") / "lesions"
    assert drawn(out, with_masks=True)
    return out


def test_masks_and_pixels_are_those_of_the_renderer(whole):
    table = cases.draw_cases("counter", N, 3)
    for number, case in enumerate(table.to_dict("records")):
        shown = render.render(case)
        with Image.open(whole / f"images/{number:05d}.png") as image:
            assert np.array_equal(np.asarray(image), shown.image_hwc)
        named = {p.stem: p for p in (whole / f"masks/{number:05d}").iterdir()}
        assert set(named) == {name for name, mask_hw in shown.masks.items() if mask_hw.any()}
        for name, path in named.items():
            with Image.open(path) as mask:
                assert np.array_equal(np.asarray(mask) > 0, shown.masks[name])


def test_the_tables_are_those_of_the_controls_and_of_what_is_seen(whole):
    table = cases.draw_cases("counter", N, 3)
    assert (whole / "cases.csv").read_text() == table.to_csv(index=False)
    expected = photographs.probe_table(table, photographs.shares_of(table))
    assert (whole / "probe.csv").read_text() == expected.to_csv(index=False)
    probe = pd.read_csv(whole / "probe.csv")
    assert all((whole / file).is_file() for file in probe["file"])


def test_stopped_in_the_middle_it_goes_on_and_ends_alike(whole, tmp_path, monkeypatch):
    out, asked = tmp_path / "lesions", []

    def stopped(case):
        asked.append(case["seed"])
        if len(asked) == 4:
            raise KeyboardInterrupt
        return real(case)

    real = render.render
    monkeypatch.setattr(render, "render", stopped)
    with pytest.raises(KeyboardInterrupt):
        drawn(out, with_masks=True)
    assert not out.exists()
    assert drawn(out, with_masks=True)
    assert len(asked) == 4 + (N - 3)  # three were kept
    assert content(out) == content(whole)
    assert not out.with_name("lesions.part").exists()
    assert not drawn(out, with_masks=True)  # nothing left to do


def test_bad_places_and_settings_get_one_sentence(whole, tmp_path):
    with pytest.raises(InputError, match="is not empty; choose another folder"):
        drawn(whole)  # drawn with masks before
    with pytest.raises(InputError, match=r"no scenario 'dark'; choose one of probe, .*counter\."):
        drawn(tmp_path / "a", scenario="dark")
    begun = tmp_path / "b.part"
    begun.mkdir()
    (begun / drawing.RECORD).write_text('{"scenario": "clean"}')
    with pytest.raises(InputError, match="begun with other settings"):
        drawn(tmp_path / "b")
    busy = tmp_path / "c.part"
    busy.mkdir()
    with (
        FileLock(busy / ".lock"),
        pytest.raises(InputError, match="Another process is drawing in"),
    ):
        drawn(tmp_path / "c")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.part", "c.part"]


def test_the_command_says_where_they_are(whole):
    given = ["--scenario", "counter", "--count", str(N), "--seed", "3", "--masks"]
    result = CliRunner().invoke(app, ["demo", "draw", str(whole), *given])
    assert result.exit_code == 0, result.output
    assert f"{whole} is complete." in result.output.replace("\n", "")
