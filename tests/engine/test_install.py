"""tools/install.py: which wheels of torch it takes, from package indexes that lie in folders."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pip
import pytest

from tools import install

TORCH, VISION = (install._pinned(install.REQUIREMENTS.read_text("utf-8").splitlines())[name]
                 for name in install.PAIR)  # fmt: skip
CUDA = {"nvidia-cublas": "13.1", "cuda-toolkit": "13.0.2", "triton": "3.7.0"}


def put(index: Path, name: str, version: str) -> None:
    """A wheel with nothing in it."""
    folder = index / name
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{name.replace('-', '_')}-{version}"
    about = f"{stem}.dist-info"
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(
            f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        wheel.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{about}/RECORD", "")
    links = "".join(f"<a href='{each.name}'>{each.name}</a>" for each in folder.glob("*.whl"))
    (folder / "index.html").write_text(f"<!doctype html><body>{links}", "utf-8")


class Place:
    """An environment with pip and nothing else, its indexes, and requirements of a few packages."""

    def __init__(self, folder: Path) -> None:
        self.usual, self.second = folder / "usual", folder / "second"
        self.second.mkdir()
        venv.create(folder / "venv", symlinks=True, with_pip=False)
        paths = {"base": str(folder / "venv"), "platbase": str(folder / "venv")}
        self.packages = Path(sysconfig.get_path("purelib", "venv", paths))
        (self.packages / "pip").symlink_to(Path(pip.__file__).parent)
        self.python = Path(sysconfig.get_path("scripts", "venv", paths)) / "python"
        root = folder / "checkout"
        (root / "tools").mkdir(parents=True)
        self.script = root / "tools" / "install.py"
        self.script.write_text(Path(install.__file__).read_text("utf-8"), "utf-8")
        pinned = {"torch": TORCH, "torchvision": VISION, "numpy": "9.9", **CUDA}
        for name, version in pinned.items():
            put(self.usual, name, version)
        lines = [
            f"{name}=={version}" + (" ; sys_platform == 'linux'" if name in CUDA else "")
            for name, version in pinned.items()
        ]
        (root / "requirements.txt").write_text("\n    # via torch\n".join(lines) + "\n", "utf-8")

    def run(self, *options: str, code: int = 0, **more: str) -> str:
        """What installing says; it must end with this code."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "PYTHON"))}
        environment = {
            **inherited,
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_INDEX_URL": self.usual.as_uri(),
            "PIP_NO_CACHE_DIR": "1",
            **more,
        }
        done = subprocess.run(
            [self.python, self.script, *options],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def installed(self) -> dict[str, str]:
        """Versions by name."""
        stems = [each.name.removesuffix(".dist-info") for each in self.packages.glob("*.dist-info")]
        return {
            re.sub("_", "-", stem.rpartition("-")[0]): stem.rpartition("-")[2] for stem in stems
        }


@pytest.fixture
def place(tmp_path: Path) -> Place:
    if install.has_gpu() or sys.platform != "linux":
        pytest.skip("wheels without CUDA are looked for on Linux without a GPU alone")
    return Place(tmp_path)


LIGHT = {"torch": f"{TORCH}+cpu", "torchvision": f"{VISION}+cpu", "numpy": "9.9"}
HEAVY = {"torch": TORCH, "torchvision": VISION, "numpy": "9.9", **CUDA}


@pytest.mark.slow
def test_an_index_that_has_wheels_without_cuda_gives_them_and_nothing_of_cuda(place):
    for name in install.PAIR:
        put(place.usual, name, LIGHT[name])
    assert "came without CUDA" in place.run()
    assert place.installed() == LIGHT
    place.run(PIP_NO_INDEX="1")  # all is there, so nothing is fetched again
    assert place.installed() == LIGHT


@pytest.mark.slow
def test_a_second_index_gives_torch_and_nothing_else(place):
    for name, version in {**LIGHT, "numpy": "99"}.items():
        put(place.second, name, version)
    assert "came without CUDA" in place.run(CPU_INDEX=place.second.as_uri())
    assert place.installed() == LIGHT


@pytest.mark.slow
@pytest.mark.parametrize("second", ["http://127.0.0.1:9/simple", "half"])
def test_where_no_index_has_both_the_ordinary_wheels_come_and_that_is_said(place, second):
    put(place.second, "torch", LIGHT["torch"])  # without its torchvision, it would be of no use
    said = place.run(CPU_INDEX=place.second.as_uri() if second == "half" else second)
    assert "no package index that was asked has" in said
    assert place.installed() == HEAVY


def test_where_there_is_a_gpu_the_second_index_is_not_asked(place, tmp_path):
    for name in install.PAIR:
        put(place.second, name, LIGHT[name])
    command = tmp_path / "bin" / "nvidia-smi"
    command.parent.mkdir()
    command.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA H200'\n", "utf-8")
    command.chmod(0o755)
    path = f"{command.parent}{os.pathsep}{os.environ['PATH']}"
    assert "GPU" not in place.run(PATH=path, CPU_INDEX=place.second.as_uri())
    assert place.installed() == HEAVY


def test_an_image_is_not_made_where_no_index_has_wheels_without_cuda(place):
    said = place.run("--without-cuda", code=1)
    assert f"has torch=={TORCH}+cpu; name one that has by CPU_INDEX" in said
    assert place.installed() == {}


@pytest.mark.slow
def test_torch_that_is_there_already_stays(place):
    place.run()
    for name in install.PAIR:
        put(place.usual, name, LIGHT[name])
    place.run(PIP_NO_INDEX="1")
    assert place.installed() == HEAVY


def test_the_lines_left_out_are_those_that_only_cuda_needs():
    lines = install.REQUIREMENTS.read_text("utf-8").splitlines()
    left_out = {line.partition("==")[0] for line in lines if install.CUDA.match(line)}
    assert {"triton", "cuda-toolkit", "nvidia-cudnn-cu13"} <= left_out
    for at, line in enumerate(lines):
        if line.partition("==")[0] in left_out:
            wanted_by = []
            for below in lines[at + 1 :]:
                if not below.startswith("    #"):
                    break
                wanted_by += re.findall(r"[\w-]+", below.replace("# via", ""))
            assert set(wanted_by) <= left_out | {"torch"}, line
