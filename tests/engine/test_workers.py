"""Launchers of shards: real processes, killed, refused, or started by a cluster's script."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from csp_engine.bundle import parts_folder
from csp_engine.bundle.checks import later
from csp_engine.cli import main
from csp_engine.cli.building.build import _copy
from csp_engine.encoders.threads import threads
from csp_engine.errors import InputError
from csp_engine.jobs.copies import copy
from csp_engine.jobs.options import OPTIONS
from csp_engine.jobs.workers import (
    THREADS,
    Ended,
    Watch,
    measure_here,
    shard_arguments,
    threads_each,
    worker_here,
)
from tests.worlds import launched, toys
from tests.worlds.launched import N_IMAGES, arguments, options

ROOT = Path(__file__).resolve().parents[2]
both_ways = pytest.mark.parametrize("begin", [worker_here, _copy], ids=["anew", "copied"])


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    return launched.world(tmp_path_factory.mktemp("workers"))


def ended(code: int, said: str, capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(command)
    assert stop.value.code == code
    assert said in "".join(capsys.readouterr())


def test_a_worker_is_told_what_the_build_was(world, tmp_path):
    import typer.main

    from csp_engine.cli import app

    build = typer.main.get_command(app).commands["build"]
    given = options(world, tmp_path / "a.csp")
    told = shard_arguments(given, 2, 5)
    heard = build.make_context("build", told[1:]).params
    assert heard.pop("shard") == "2/5"
    assert {**heard, "shard": None} == given
    many = given | {"images": "-odd", "weights": Path("w.pt"), "output": ["a", "3"], "limit": 9}
    heard = build.make_context("build", shard_arguments(many, 1, 1)[1:]).params
    assert heard | {"shard": None} == many | {"images": "./-odd"}
    assert {name for name in OPTIONS if not OPTIONS[name].parameter} <= set(heard)


def children() -> list[int]:
    """Processes that this one started and that still run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if parent == str(os.getpid()) and state not in "ZX":
            found.append(int(path.parent.name))
    return found


@both_ways
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes in /proc")
@pytest.mark.slow
def test_one_that_is_killed_is_started_again(world, tmp_path, monkeypatch, begin):
    monkeypatch.setenv("CSP_TEST_PAUSE", "0.4")
    out, before = tmp_path / "a.csp", set(children())
    seen: list[int] = []
    victims: list[int] = []

    def kill(stage: str, done: int, total: int) -> None:
        seen.append(done)
        if 0 < done < total and not victims:
            victims.extend(set(children()) - before)
            for victim in victims:  # one may have ended by itself
                os.kill(victim, signal.SIGKILL)

    told: list[str] = []
    measure_here(options(world, out), 2, Watch(out, 2, N_IMAGES, kill), told.append, begin)
    assert victims
    assert sorted(told)[0].startswith("The process of shard 1 of 2 was killed")
    assert seen == sorted(seen)  # what was measured before stays
    assert seen[-1] == N_IMAGES
    assert set(children()) <= before
    assert sorted(p.name[:6] for p in parts_folder(out).glob("[!.]*")) == ["1-of-2", "2-of-2"]


@pytest.mark.slow
def test_the_command_makes_the_bundle_that_one_process_makes(world, tmp_path, capsys):
    ended(0, "8 neurons, 28 images", capsys, ["build", *arguments(world, tmp_path / "whole.csp")])
    with_workers = [*arguments(world, tmp_path / "a.csp"), "--workers", "2"]
    ended(0, "8 neurons, 28 images", capsys, ["build", *with_workers])
    assert toys.content(tmp_path / "a.csp") == toys.content(tmp_path / "whole.csp")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.csp", "whole.csp"]
    ended(0, "8 neurons", capsys, ["build", *with_workers])  # and starts nobody for what is there
    both = [*with_workers, "--shard", "1/2"]
    ended(2, "--shard measures one share of the images and --workers all", capsys, ["build", *both])


@both_ways
@pytest.mark.slow
def test_what_stops_one_stops_all(world, tmp_path, begin):
    images = tmp_path / "images"
    toys.draw_images(images, N_IMAGES)
    (images / "red" / "0024.png").write_bytes(b"no picture")
    given = options(world, tmp_path / "a.csp")
    given |= {"images": str(images), "on_unreadable": "stop"}
    watch = Watch(tmp_path / "a.csp", 2, N_IMAGES, lambda *_: None)
    with pytest.raises(InputError, match=r"Shard 2 of 2 stopped: red/0024\.png cannot be read"):
        measure_here(given, 2, watch, lambda _: None, begin)


@both_ways
@pytest.mark.slow
def test_one_that_is_killed_at_every_start_is_given_up(world, tmp_path, begin):
    before, is_over = set(children()), threading.Event()

    def kill() -> None:
        while not is_over.wait(0.05):
            for victim in set(children()) - before:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    watch, said = Watch(tmp_path / "a.csp", 1, N_IMAGES, lambda *_: None), list[str]()
    try:
        with pytest.raises(InputError, match="Shard 1 of 1 was killed 3 times without finishing"):
            measure_here(options(world, tmp_path / "a.csp"), 1, watch, said.append, begin)
    finally:
        is_over.set()
        killer.join()
    assert len(said) == 2


def test_a_copy_of_who_ran_on_several_threads_does_not_wait_for_them():
    layer, pixels = torch.nn.Conv2d(3, 64, 7), torch.randn(4, 3, 128, 128)

    def run(arguments: list[str]) -> None:
        with threads(2), torch.inference_mode():
            layer(pixels)
        raise SystemExit(7 if [os.environ[THREADS], *arguments] == ["5", "x"] else 8)

    with threads(2), torch.inference_mode():
        layer(pixels)
    with copy(run, ["x"], 5) as ended, copy(lambda _: 1 / 0, [], 1) as fails:
        deadline = time.monotonic() + 60
        while (how := [ended(), fails()]).count(None):
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert [each.code for each in how if each is not None] == [7, 1]


def test_a_copy_does_not_wait_for_hashes_that_are_made_elsewhere():
    with later._lock, copy(lambda _: later.require_unaltered(), [], 1) as ended:
        deadline = time.monotonic() + 60
        while ended() is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert ended() == Ended(0, "")


@pytest.mark.skipif(sys.platform != "linux", reason="nobody is copied elsewhere")
@pytest.mark.parametrize(
    ("opened", "is_copied"),
    [("None", True), ("os.pipe()", True), ("open(os.devnull)", True), ("open(__file__)", False),
     ("socket.socket()", False), ("os.memfd_create('kept')", False),
     ("tempfile.TemporaryFile()", False)],
)  # fmt: skip
def test_who_has_files_or_connections_open_is_not_copied(tmp_path, opened, is_copied):
    """Two who have a tar open would each read what the other leaves."""
    script = tmp_path / "script.py"
    script.write_text(
        "import os, socket, tempfile\n"
        "from csp_engine.jobs.copies import can_copy\n"
        f"held = {opened}\n"
        "assert not can_copy('cuda:0')\n"
        "raise SystemExit(5 if can_copy('cpu') else 6)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, script], env=environment, check=False)
    assert done.returncode == (5 if is_copied else 6)


@pytest.mark.slow
def test_workers_end_with_whoever_started_them(world, tmp_path, monkeypatch):
    monkeypatch.setenv("CSP_TEST_PAUSE", "12")
    out = tmp_path / "a.csp"
    command = [sys.executable, "-m", "csp_engine", "build", *arguments(world, out)]
    driver = subprocess.Popen([*command, "--workers", "1"], cwd=ROOT, start_new_session=True)
    deadline = time.monotonic() + 400
    while not (parts_folder(out) / ".1-of-1" / "journal.jsonl").exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    driver.kill()
    driver.wait()
    monkeypatch.setenv("CSP_TEST_PAUSE", "0")
    again = subprocess.run([*command, "--shard", "1/1"], cwd=ROOT, check=False)
    assert again.returncode == 0  # nobody holds the shard any more


def script_of_page(beginning: str, world: Path, folder: Path, file: str) -> dict[str, str]:
    """Write a script of docs/scale.md that builds this world; the environment that it runs in."""
    page = (ROOT / "docs" / "scale.md").read_text("utf-8")
    (script,) = re.findall(rf"```bash\n({beginning}.*?)```", page, re.S)
    assert script.count("csp build ") == 1
    own = " ".join(["csp", "build", *arguments(world, folder / "a.csp")])
    (folder / file).write_text(re.sub(r"csp build .*?(?=--shard)", f"{own} ", script, flags=re.S))
    (folder / "csp").write_text(f'#!/bin/sh\nexec {sys.executable} -m csp_engine "$@"\n')
    (folder / "csp").chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}


def require_merged(world: Path, folder: Path) -> None:
    """Merge the shards, and compare with a build without."""
    with pytest.raises(SystemExit, match="0"):
        main(["merge", *arguments(world, folder / "a.csp")])
    with pytest.raises(SystemExit, match="0"):
        main(["build", *arguments(world, folder / "whole.csp")])
    assert toys.content(folder / "a.csp") == toys.content(folder / "whole.csp")


@pytest.mark.slow
def test_a_slurm_array_does_what_the_page_says(world, tmp_path):
    base = script_of_page("#!/bin/bash\n#SBATCH", world, tmp_path, "array.sh")
    tasks = []
    for number in (3, 1, 2):
        more = {"SLURM_ARRAY_TASK_ID": str(number), "SLURM_ARRAY_TASK_COUNT": "3"}
        environment = {**base, **more, "SLURM_CPUS_PER_TASK": "1"}
        command = ["bash", str(tmp_path / "array.sh")]
        tasks.append(subprocess.Popen(command, cwd=ROOT, env=environment))
    assert [task.wait(240) for task in tasks] == [0, 0, 0]
    require_merged(world, tmp_path)


@pytest.mark.slow
def test_torchrun_does_what_the_page_says(world, tmp_path):
    page = (ROOT / "docs" / "scale.md").read_text("utf-8")
    (asked,) = re.findall(r"^torchrun .*?(--no-python .*?)$", page, re.S | re.M)
    environment = script_of_page("#!/bin/bash\nexec csp", world, tmp_path, "shard.sh")
    here = ["--standalone", "--nproc-per-node", "2"]
    command = [sys.executable, "-m", "torch.distributed.run", *here, *asked.split()]
    command[-1] = str(tmp_path / command[-1])
    subprocess.run(command, cwd=ROOT, env={**environment, "OMP_NUM_THREADS": "1"}, check=True)
    parts = sorted(path.name[:6] for path in (tmp_path / "a.csp.parts").glob("[0-9]*"))
    assert parts == ["1-of-2", "2-of-2"]
    require_merged(world, tmp_path)


def test_threads_are_shared_out(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert [threads_each(n) for n in (1, 2, 3, 64)] == [8, 4, 2, 1]
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads_each(2) == 3
