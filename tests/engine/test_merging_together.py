"""Several processes that merge together: the bundle is that of one, whoever makes what."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from csp_engine import pipeline
from csp_engine.bundle import (
    Bundle,
    merging_lock,
    orders_in,
    parts_folder,
    remove_parts,
    verify,
)
from csp_engine.bundle.passing.pieces import keep_arrays, kept_arrays
from csp_engine.cli import main
from csp_engine.errors import BundleError, StaleError
from csp_engine.pipeline import BuildRequest
from csp_engine.pipeline.sharding.measuring import measure_shard
from csp_engine.pipeline.sharding.merging import merge
from csp_engine.pipeline.sharding.shards import Shard
from csp_engine.pipeline.sharing import alike, dividing, helping, orders, tasks
from csp_engine.pipeline.sharing.helping import merging_alone
from csp_engine.pipeline.sharing.orders import Order, Shared, work_on
from csp_engine.types import silent
from tests.worlds import launched, toys

ROOT = Path(__file__).resolve().parents[2]
N_IMAGES = 140


def request(folder: Path, out: Path, **changes: Any) -> BuildRequest:
    """Two layers, latents of one among them; four methods, CSP+ in front."""
    recipe = replace(toys.SMALL, methods=("csp_plus", "csp"), n_null=70)
    targets = (toys.sparse_target(folder),)
    return toys.request(
        folder, out, recipe=recipe, targets=targets, n_influence_images=0, **changes
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Images, the bundle that one process makes of them, and shards to merge."""
    folder = tmp_path_factory.mktemp("together")
    toys.draw_images(folder / "images", N_IMAGES)
    pipeline.build(request(folder, folder / "whole.csp"))
    return folder


@pytest.fixture(autouse=True)
def everything_pays(monkeypatch):
    monkeypatch.setattr(dividing, "LEAST_PRODUCTS", 0)


@pytest.fixture
def out(world, tmp_path) -> Path:
    """Where a bundle is to be; its two shards are measured."""
    path = tmp_path / "a.csp"
    for number in (1, 2):
        measure_shard(request(world, path), Shard(number, 2))
    return path


@contextlib.contextmanager
def helpers(path: Path, n: int, made: list[str], ran: list[threading.Thread]) -> Generator[None]:
    """Threads that compute for the merge until it is over."""

    def run() -> None:
        with merging_alone(path, lambda what, *_: made.append(what), helps=True) as is_mine:
            if is_mine:
                made.append("the merge")

    ran += [threading.Thread(target=run) for _ in range(n)]
    for thread in ran:
        thread.start()
    yield


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 2, 7])
def test_the_bundle_is_that_of_one_process(world, out, n, monkeypatch):
    made, ran = list[str](), list[threading.Thread]()

    def after_the_others(*given: Any) -> Iterator[Any]:
        """The one that merges begins when others have made something, if there are others."""
        until = time.monotonic() + 60
        while n > 1 and not made and time.monotonic() < until:
            time.sleep(0.02)
        yield from work_on(*given)

    monkeypatch.setattr(orders, "work_on", after_the_others)
    with merging_alone(out, helps=False) as is_mine:
        assert is_mine
        merge(request(world, out), silent, n, lambda: helpers(out, n - 1, made, ran))
    for thread in ran:
        thread.join(60)
        assert not thread.is_alive()
    assert len(ran) == n - 1
    assert toys.content(out) == toys.content(world / "whole.csp")
    assert verify(Bundle.open(out)) == []
    assert not parts_folder(out).exists()
    assert "the merge" not in made
    assert bool(made) == (n > 1)


@pytest.mark.slow
def test_a_merge_that_is_stopped_uses_the_pieces_that_are_whole(world, out, monkeypatch):
    counted: list[str] = []
    for name, task in list(tasks.TASKS.items()):

        def count(bench: Any, order: Order, name: str = name, task: Any = task) -> Any:
            make = task(bench, order)

            def counting(number: int) -> Any:
                counted.append(name)
                return make(number)

            return counting

        monkeypatch.setitem(tasks.TASKS, name, count)

    class StopHereError(Exception):
        pass

    def stop(stage: str, done: int, total: int) -> None:
        if stage.startswith("contrast images") and done == 3:
            raise StopHereError

    with pytest.raises(StopHereError):
        merge(request(world, out), stop, 2)
    assert counted == ["neighbours"] * 2 + ["contrast"] * 3
    whole = [p for p in parts_folder(out).glob(".piece-*") if p.suffix != ".lock"]
    assert len(whole) == 5
    whole[0].write_bytes(whole[0].read_bytes()[:-40] + bytes(40))
    whole[1].write_bytes(b"")
    counted.clear()
    merge(request(world, out), silent, 2)
    assert toys.content(out) == toys.content(world / "whole.csp")
    assert Counter(counted)["contrast"] <= 2 * 8 - 3 + 2  # eight runs of units in each layer
    assert Counter(counted)["scores"] == 2 + 2  # random image sets in two blocks, units in one
    assert not parts_folder(out).exists()


def test_a_piece_is_made_once_and_not_after_its_order_is_done(tmp_path):
    order, made = Order("some", {"needs": {}}, 40), list[int]()

    def make(number: int) -> dict[str, np.ndarray]:
        made.append(number)
        time.sleep(0.002)
        return {"n": np.array([number])}

    order.write(tmp_path)
    assert orders_in(tmp_path) == [order.place(tmp_path)]
    found = Order.read(order.place(tmp_path))
    assert found == order

    def work() -> None:
        while not order.is_made(tmp_path):
            list(work_on(order, tmp_path, make))

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == list(range(40))
    shared = Shared(order, tmp_path, make, silent, "some")
    assert [int(each["n"][0]) for each in shared.pieces()] == list(range(40))
    made.clear()
    late: Iterator[Any] = work_on(order, tmp_path, make)
    shared.dismiss()
    assert list(late) == []
    assert made == []
    assert list(tmp_path.iterdir()) == [] or all(p.suffix == ".lock" for p in tmp_path.iterdir())


def test_orders_are_deleted_before_their_pieces_which_somebody_would_make_again(
    tmp_path, monkeypatch
):
    order, gone, unlink = Order("some", {"needs": {}}, 20), list[str](), Path.unlink
    for number in range(order.n_pieces):
        keep_arrays(order.piece(tmp_path, number), {"n": np.arange(3)}, {})
    order.write(tmp_path)

    def unlinking(path: Path, **given: Any) -> None:
        gone.append(path.name)
        unlink(path, **given)

    monkeypatch.setattr(Path, "unlink", unlinking)
    remove_parts(tmp_path, {})
    assert gone[0] == order.place(tmp_path).name
    assert len(gone) == 21
    assert not tmp_path.exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"task": "contrast"}', b"\xff" * 40])
def test_what_is_no_order_or_no_piece_is_none(tmp_path, content):
    path = tmp_path / ".order-0123456789ab"
    path.write_bytes(content)
    assert Order.read(path) is None
    assert kept_arrays(path) is None
    keep_arrays(path, {"a": np.arange(3)}, {"b": 1})
    arrays, about = kept_arrays(path) or ({}, {})
    assert (arrays["a"].tolist(), about) == ([0, 1, 2], {"b": 1})
    path.write_bytes(path.read_bytes()[:-1])
    assert kept_arrays(path) is None


def test_who_runs_other_code_does_not_help(tmp_path, monkeypatch):
    out = tmp_path / "a.csp"
    with merging_alone(out, helps=False):
        order = Order("contrast", {"needs": {}, "code": {"numpy": "1.0"}}, 2)
        order.write(parts_folder(out))
        with (
            pytest.raises(StaleError, match=r"The merge runs with numpy 1\.0 and this process"),
            merging_alone(out, helps=True),
        ):
            pass
        monkeypatch.setattr(helping, "PATIENCE_S", 0.1)
        with (
            pytest.raises(BundleError, match=r"Another process merges a\.csp; wait for it"),
            merging_alone(out, helps=False),
        ):
            pass
        order.place(parts_folder(out)).unlink()
    assert not parts_folder(out).exists()


def test_whose_last_digits_would_differ_leaves_scores_to_others(world, out, monkeypatch):
    order = Order("scores", {"needs": {}, "instructions": "those of another processor"}, 2)
    made = []
    monkeypatch.setitem(tasks.TASKS, "scores", lambda *_: lambda n: made.append(n) or {})
    with merging_alone(out, helps=False):
        order.write(parts_folder(out))
        bench = tasks.Bench(parts_folder(out))
        assert not helping._make_pieces(world / "whole.csp", bench, silent)
        order = replace(order, about={**order.about, "instructions": alike.instructions()})
        order.write(parts_folder(out))
        assert helping._make_pieces(world / "whole.csp", bench, silent)
    assert made == [0, 1]


def test_a_process_scores_on_as_many_threads_as_the_one_that_merges():
    before = alike.n_threads()
    for n in (1, 2):
        with alike.on_threads(n):
            assert alike.n_threads() == n
    assert alike.n_threads() == before


def test_who_was_asked_for_something_else_does_not_help(tmp_path):
    out, theirs = tmp_path / "a.csp", {"--vocabulary": "a.txt", "--set": "gamma=1"}
    with merging_alone(out, helps=False, asked=theirs):
        for mine in ({**theirs, "--vocabulary": "b.txt"}, {"--set": "gamma=1"}):
            with (
                pytest.raises(StaleError, match=r"--vocabulary a\.txt and .* (b\.txt|none); start"),
                merging_alone(out, helps=True, asked=mine),
            ):
                pass
    assert not parts_folder(out).exists()
    with merging_alone(out, helps=True, asked=mine) as is_mine:  # nobody merges any more
        assert is_mine
    assert not parts_folder(out).exists()


def test_the_folder_may_go_just_when_somebody_comes(tmp_path, monkeypatch):
    out, take = tmp_path / "a.csp", helping._take

    def taken(*given: Any) -> bool:
        is_mine = take(*given)
        shutil.rmtree(parts_folder(out))  # by another, who has found that all is merged
        return is_mine

    monkeypatch.setattr(helping, "_take", taken)
    with merging_alone(out, helps=True, asked={"--set": "gamma=1"}) as is_mine:
        assert is_mine


MERGE = """
import sys
from csp_engine.pipeline.sharing import dividing
dividing.LEAST_PRODUCTS = 0
from csp_engine.cli import main
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_of_two_commands_one_merges_and_the_other_goes_on_when_it_is_killed(tmp_path, capsys):
    world, out = launched.world(tmp_path / "world"), tmp_path / "a.csp"
    given = launched.arguments(world, out)
    for command in (
        ["build", *launched.arguments(world, tmp_path / "whole.csp")],
        *(["build", *given, "--shard", f"{number}/2"] for number in (1, 2)),
    ):
        with pytest.raises(SystemExit, match="0"):
            main(command)
    lock = merging_lock(parts_folder(out))
    run = [sys.executable, "-c", MERGE, "merge", *given, "--shard"]
    first = subprocess.Popen([*run, "1/2"], cwd=ROOT, stdin=subprocess.DEVNULL)
    until = time.monotonic() + 300
    while not lock.exists():
        assert time.monotonic() < until
        time.sleep(0.05)
    second = subprocess.Popen(
        [*run, "2/2", "--json"], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    while not (out / "manifest.json").exists():
        assert time.monotonic() < until
        time.sleep(0.05)
    first.kill()
    assert first.wait() == -9
    told, _ = second.communicate(timeout=300)
    assert second.returncode == 0
    assert b'"images": 28' in told
    assert toys.content(out) == toys.content(tmp_path / "whole.csp")
    assert not parts_folder(out).exists()
