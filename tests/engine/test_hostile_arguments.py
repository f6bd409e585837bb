"""Arguments that nobody means well, or anybody may mistype: one sentence each, and nothing done.

Everything here is refused before a network is run, so that there can be many.
"""

from __future__ import annotations

import json
import os
import re
import socket
import stat
from pathlib import Path

import pytest

from csp_engine.cli import main
from csp_engine.cli.serving import _free_port
from csp_engine.errors import InputError
from tests.worlds import toys

DEEP = "[" * 100_000 + "]" * 100_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    toys.draw_images(folder / "images")
    toys.words(folder)
    (folder / "pixels.json").write_text(json.dumps(toys.PREPROCESSING))
    (folder / "deep.json").write_text(DEEP)
    (folder / "deep.jsonl").write_text(f'{{"layer": "first", "unit": 0, "description": {DEEP}}}\n')
    (folder / "deep.toml").write_text(f"a = {DEEP}\n")
    os.mkfifo(folder / "pipe")
    (folder / "inner.csp").mkdir()
    (folder / "inner.csp" / "manifest.json").write_text("{}")
    return folder


def refused(capsys, *arguments: object) -> str:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert stop.value.code == 2, line
    assert not re.search("unexpected|images, fewer than", line)
    assert re.fullmatch(r"csp: .{10,1000}", line), line
    return line


def build(folder: Path, **changes: object) -> list[object]:
    options: dict[str, object] = {
        "model": "python:tests.worlds.toys:network",
        "preprocessing": folder / "pixels.json",
        "layer": "first",
        "encoder": "python:tests.worlds.toys:ColourEncoder",
        "vocabulary": folder / "words.txt",
        "out": folder / "out.csp",
        "exemplars": 6,
        "set": "n_null=30",
        **changes,
    }
    given = [part for name, value in options.items() for part in (f"--{name}", value)]
    return ["build", folder / "images", *given]


@pytest.mark.parametrize("command", ["serve", "demo"])
@pytest.mark.parametrize("port", ["-1", "0", "65536", "99999999999999999999", "x", "80.5", ""])
def test_a_port_that_is_none(capsys, command, port):
    assert "--port" in refused(capsys, command, "--port", port)


@pytest.mark.parametrize(
    "host",
    ["\udcff", "", "no such host", "256.1.1.1", "localhost:8501", "http://localhost", "a" * 300,
     "192.0.2.1", "ü" * 80, "..", "host/../x"],
)  # fmt: skip
def test_a_host_that_is_none(capsys, host):
    assert "--host" in refused(capsys, "serve", "--host", host)


def test_ports_end_with_the_last_one():
    busy = socket.socket()
    busy.bind(("127.0.0.1", 65535))
    try:
        with pytest.raises(InputError, match=r"from 65535 to 65535"):
            _free_port("127.0.0.1", 65535)
    finally:
        busy.close()


@pytest.mark.parametrize(
    "spec",
    ["hf-hub:a/b/c", "hf-hub:", "hf-hub:a", "hf-hub:../x", "hf-hub:a b/c", "hf-hub:/a", "hf-hub:a/",
     "timm/hf-hub:a/b/c", "hf-hub:" + "x" * 200 + "/y", "hf-hub:\udcff/x", "hf-hub:a/b\n", "timm/",
     "torchvision/", "torchvision/../x", "transformers//dev/zero", "python::", "python:..:x", "/",
     "\udcff", ""],
)  # fmt: skip
def test_a_model_that_is_none(capsys, monkeypatch, spec):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    refused(capsys, "layers", spec)


@pytest.mark.parametrize(
    "device",
    ["foo", "meta", "privateuseone", "cuda:99", "cuda:-1", "", "/dev/null", "\udcff", "xla",
     "cuda:98,cuda:99", "cuda:0,cuda:0,", "cpu,", ",", "cpu:x", "cpu,cpu:x", "mps,cuda", "cpu,cuda",
     "mps,mps", "cuda,cuda:0", "meta,meta:1", "cpu;cpu"],
)  # fmt: skip
def test_a_device_that_is_none(folder, capsys, device):
    assert "device" in refused(capsys, *build(folder, device=device))


@pytest.mark.parametrize("option", ["preprocessing", "class-names", "vocabulary", "weights", "sae"])
@pytest.mark.parametrize("what", ["/dev/zero", "/dev/full", "pipe", "images", "deep.json"])
def test_a_file_that_is_none_or_never_ends(folder, capsys, option, what):
    path = Path(what) if what.startswith("/") else folder / what
    refused(capsys, *build(folder, **{option: f"first={path}" if option == "sae" else path}))
    assert not (folder / "out.csp").exists()


def test_what_is_nested_too_deep(folder):
    from csp_engine.exchange import read_label_table
    from csp_engine.words.concepts import read_concept_set

    with pytest.raises(InputError, match=r"deep\.jsonl'? cannot be read"):
        read_label_table(folder / "deep.jsonl")
    with pytest.raises(InputError, match=r"deep\.toml"):
        read_concept_set(folder / "deep.toml")


@pytest.mark.parametrize(
    "out",
    [".csp", "x/.csp", "a\nb.csp", "\udcff.csp", "a\x1b[31m.csp", "\u202epsc.csp", "images",
     "inner.csp/x.csp", "inner.csp/deep/x.csp", "/dev/null", "pipe", "pipe/x.csp",
     "x" * 300 + ".csp"],
)  # fmt: skip
def test_an_output_that_is_none(folder, capsys, out):
    before = sorted(folder.rglob("*"))
    refused(capsys, *build(folder, out=Path(out) if out.startswith("/") else folder / out))
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    "name", ["../x", "", "a/../b", "..", ".", "/x", "x/", "\udcff", "a\nb", " ", "a\x1b[31m", "a:b"]
)
def test_a_model_name_that_is_none(folder, capsys, name):
    assert "name" in refused(capsys, *build(folder, name=name))


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl"])
@pytest.mark.parametrize("what", ["link", "dangling", "pipe", "device"])
def test_what_is_written_replaces_files_only(tmp_path, kind, what):
    """A link planted where the file, or the unfinished file beside it, would be."""
    import pandas as pd

    from csp_engine.exchange import label_tables

    precious = tmp_path / "precious"
    precious.write_text("precious")
    rows = pd.DataFrame({"layer": ["fc"], "unit": [0], "description": ["red"], "score": [1.0]})
    for planted in (tmp_path / f"t.{kind}", tmp_path / f".t.{kind}.partial"):
        is_target = not planted.name.startswith(".")
        if what == "pipe":
            os.mkfifo(planted)
        elif what == "device":
            planted.symlink_to("/dev/full")
        else:
            planted.symlink_to(precious if what == "link" else tmp_path / "not there")
        try:
            with label_tables.replacing(
                tmp_path / f"t.{kind}", tmp_path / f".t.{kind}.partial"
            ) as temporary:
                label_tables._WRITERS[kind](rows, temporary)
            assert not is_target
            assert stat.S_ISREG((tmp_path / f"t.{kind}").lstat().st_mode)
            (tmp_path / f"t.{kind}").unlink()
        except OSError:
            assert is_target
            planted.unlink()
        assert precious.read_text() == "precious"
        assert not (tmp_path / "not there").exists()
