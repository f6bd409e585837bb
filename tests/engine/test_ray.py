"""Shards on a real Ray cluster of two nodes, one of which is lost; only where Ray is installed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from csp_engine.cli import main
from csp_engine.errors import InputError
from csp_engine.jobs import on_ray
from csp_engine.jobs.workers import Watch
from tests.worlds import launched, toys
from tests.worlds.launched import N_IMAGES, arguments, options


def test_without_ray_one_sentence_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install 'csp-neuron-browser\[ray\]'"):
        on_ray.measure({}, 2, Watch(tmp_path, 2, 1, lambda *_: None), print)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--address", "10.0.0.1:6379"], "--address is that of a Ray cluster; add --engine ray"),
        (["--engine", "ray"], "--engine ray runs --workers N tasks; say how many"),
        (["--engine", "dask"], "--engine is 'dask'; choose local or ray"),
    ],
)
def test_options_that_do_not_go_together(more, sentence, capsys):
    with pytest.raises(SystemExit):
        main(["build", "x", "-m", "m", "-l", "l", "-e", "e", "-o", "a.csp", *more])
    assert sentence in capsys.readouterr().err


@pytest.mark.slow
def test_two_nodes_one_of_which_is_lost(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("CSP_TEST_PAUSE", "1")
    world, out = launched.world(tmp_path / "world"), tmp_path / "a.csp"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        other = cluster.add_node(num_cpus=1)
        seen: list[int] = []
        told: list[str] = []
        lost: list[Path] = []

        def lose(stage: str, done: int, total: int) -> None:
            seen.append(done)
            if done and not lost:
                lost.append(out)
                cluster.remove_node(other, allow_graceful=False)

        given = options(world, out) | {"address": cluster.address}
        monkeypatch.setenv("OMP_NUM_THREADS", "9")
        with pytest.raises(InputError, match="No node of the Ray cluster has 9 processors"):
            on_ray.measure(given, 2, Watch(out, 2, N_IMAGES, lose), told.append)
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        on_ray.measure(given, 2, Watch(out, 2, N_IMAGES, lose), told.append)
    finally:
        cluster.shutdown()
    assert len(told) == 1
    assert seen == sorted(seen)  # what the lost node measured stays
    assert seen[-1] == N_IMAGES
    monkeypatch.setenv("CSP_TEST_PAUSE", "0")
    for command, bundle in (("merge", out), ("build", tmp_path / "whole.csp")):
        with pytest.raises(SystemExit, match="0"):
            main([command, *arguments(world, bundle)])
    assert toys.content(out) == toys.content(tmp_path / "whole.csp")


def test_a_cluster_that_is_not_there(tmp_path):
    pytest.importorskip("ray")
    for address in ("127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1:99999"):
        given = {"address": address, "device": "cpu"}
        with pytest.raises(InputError, match=f"Nobody answers at the address '{address}'"):
            on_ray.measure(given, 2, Watch(tmp_path, 2, 1, lambda *_: None), print)
