"""The shards of a build as tasks of a Ray cluster, each of which is ``csp build --shard``.

Ray says where a task runs and runs it again where its node is lost. It carries no image and no
activation: those are read and written by the tasks, in folders that all nodes see.
"""

from __future__ import annotations

import importlib
import os
import re
import socket
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from csp_engine.errors import InputError
from csp_engine.jobs.process import PACKAGE_ROOT
from csp_engine.jobs.workers import (
    INTERVAL_S,
    THREADS,
    Ended,
    Started,
    Watch,
    measure_all,
    merge_arguments,
    shard_arguments,
    threads_said,
    worker,
)

CONNECTS_WITHIN_S = 10.0
LOST = Ended(-9, "")
"""How a task ended whose node or process is gone."""


def measure(given: Mapping[str, Any], of: int, watch: Watch, told: Callable[[str], None]) -> None:
    """Measure all shards by one task each; see ``measure_all``.

    A task takes as many processors as ``OMP_NUM_THREADS`` says, one by default, and a GPU where
    ``--device`` names one. Tasks wait until there is room for them.

    Args:
        given: the options of the build by their names, the cluster's address among them.
        of: how many shards and tasks.
        watch: shows how far they are.
        told: called with a sentence when a task was lost.

    Raises:
        InputError: Ray is not installed, the cluster cannot be reached or does not fit, or as
            ``measure_all``.
    """
    ray = _ray()
    n_threads = threads_said() or 1
    needs = {"num_cpus": n_threads, "num_gpus": int(str(given["device"]).startswith("cuda"))}
    _join(ray, given["address"])
    try:
        _require_room(ray, needs)
        task = ray.remote(max_retries=0, **needs)(run_shard)
        folder = str(Path.cwd())

        def start(number: int) -> Started:
            reference = task.remote(shard_arguments(given, number, of), n_threads, folder)

            def ended() -> Ended | None:
                if not ray.wait([reference], timeout=0)[0]:
                    return None
                try:
                    return Ended(*ray.get(reference))
                except (ray.exceptions.RayTaskError, ray.exceptions.RuntimeEnvSetupError) as error:
                    return Ended(1, str(error).strip().splitlines()[-1])
                except ray.exceptions.RayError:
                    return LOST

            def end() -> None:
                with suppress(ray.exceptions.RayError, ValueError):
                    ray.cancel(reference, force=True)

            return ended, end

        measure_all(of, watch, told, start)
    finally:
        ray.shutdown()


@contextmanager
def helpers(given: Mapping[str, Any], of: int, told: Callable[[str], None]) -> Generator[None]:
    """Tasks that compute for the merge of this process while the block runs.

    One that is lost is not started again: what it had not finished, this process makes.

    Args:
        given: the options of the build by their names, the cluster's address among them.
        of: how many compute, this process among them.
        told: called with a sentence at the end when one could not go on.
    """
    ray, n_threads = _ray(), threads_said() or 1
    _join(ray, given["address"])
    try:
        task = ray.remote(max_retries=0, num_cpus=n_threads)(run_shard)
        folder = str(Path.cwd())
        started = [
            task.remote(merge_arguments(given, number, of), n_threads, folder)
            for number in range(2, of + 1)
        ]
        yield
        for reference in ray.wait(started, num_returns=len(started), timeout=0)[0]:
            with suppress(ray.exceptions.RayError):
                how = Ended(*ray.get(reference))
                if how.code > 0:
                    told(f"A task that was to help the merge stopped: {how.sentence}")
        for reference in started:
            with suppress(ray.exceptions.RayError, ValueError):
                ray.cancel(reference, force=True)
    finally:
        ray.shutdown()


def run_shard(arguments: list[str], n_threads: int, folder: str) -> tuple[int, str]:
    """What a task does: run the command in a process that ends with the task.

    Args:
        arguments: from ``shard_arguments``.
        n_threads: that the networks run on.
        folder: what relative paths start from, the same on all nodes.

    Returns:
        how it ended, as the two values of ``Ended``.
    """
    if not Path(folder).is_dir():
        return 2, f"There is no folder {folder} on {os.uname().nodename}; all nodes must see it."
    with worker(arguments, n_threads, folder) as ended:
        while (how := ended()) is None:
            time.sleep(INTERVAL_S)
    return how.code, how.sentence


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        return importlib.import_module("ray")
    except ImportError:
        raise InputError(
            "--engine ray needs Ray; install it with: pip install 'csp-neuron-browser[ray]'"
        ) from None


def _join(ray: Any, address: str | None) -> None:
    """Join a cluster, or start one of this machine alone.

    Raises:
        InputError: it cannot be reached, or has another version of Ray or Python.
    """
    _require_reachable(address)
    paths = [str(PACKAGE_ROOT), os.environ.get("PYTHONPATH", "")]
    passed = {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    try:
        ray.init(
            address=address,
            include_dashboard=False if address is None else None,
            logging_level="ERROR",
            log_to_driver=False,
            runtime_env={"env_vars": passed},
        )
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        (reason, *_) = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(
            f"The Ray cluster {address or 'of this machine'} cannot be joined ({reason:.200}); "
            "check --address, and that it runs the same versions of Ray and Python."
        ) from error


def _require_reachable(address: str | None) -> None:
    """Ray itself waits for minutes at an address where nobody is.

    Raises:
        InputError: nobody answers there.
    """
    found = re.fullmatch(r"(?:ray://)?\[?([^/\[\]]+)\]?:(\d{1,5})", address or "")
    if found is None:
        return
    try:
        socket.create_connection((found[1], int(found[2])), CONNECTS_WITHIN_S).close()
    except (OSError, OverflowError) as error:
        raise InputError(
            f"Nobody answers at the address {address!r:.60} of the Ray cluster ({error}); check "
            "--address, and that the cluster is started."
        ) from None


def _require_room(ray: Any, needs: Mapping[str, int]) -> None:
    """Refuse tasks for which no node is large enough: they would wait for ever.

    Raises:
        InputError: naming what a task needs.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    names = {"CPU": needs["num_cpus"], "GPU": needs["num_gpus"]}
    if not any(all(node.get(name, 0) >= n for name, n in names.items()) for node in nodes):
        raise InputError(
            f"No node of the Ray cluster has {names['CPU']} processors and {names['GPU']} GPUs, "
            f"which a task takes ({THREADS} and --device say so); ask for less."
        )
