"""Launchers of shards whose processes are killed at random moments, again and again.

Each round builds the same small bundle, kills whoever is at work, and starts again who was killed,
until all is done or the bundle has had its share of kills. It is then compared with a bundle that
nobody disturbed. Processes are forked from one that has imported everything, so each takes a second
and not twenty; apart from that they run the commands that a person types. Victims and moments are
those of the seed, but not what happens then.

    python -m tests.worlds.kills [--seed N] [--kills N] [--minutes M]
        [--launcher local|array|shared|ray] [--counts FILE]

Of a shared merge, shards are measured undisturbed, and the processes that merge are killed; it has
CSP+ too, and everything is shared, however small. Ray has a part in it where it is named: a cluster
of this machine is started for it, and its tasks start Python anew. Counts of several runs are added
up in a file, if one is named.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from csp_engine.bundle import Bundle, verify
from csp_engine.pipeline.sharing import dividing
from tests.worlds import launched, toys

N_SHARDS = 3
LAUNCHERS = ("local", "array", "shared", "ray")
USUAL = LAUNCHERS[:3]
WITH_CSP_PLUS = ("--set", "methods=csp_plus,csp", "--set", "n_null=150")
"""So its scores are several pieces: one of units, three of random image sets."""
SHARE_OF_DRIVER = 0.4
REFUSED = 2
"""How a command ends that says why it cannot go on, as when a worker was killed thrice."""
_NAMES = "KILLS_MODULES"
"""Environment variable: where a command writes which modules it has imported at its end."""
_SUMS = ("bundles", "kills")
_INTERVAL_S = 0.02
AT_ONCE = 2
"""Tasks of an array that run at the same time."""


def command(arguments: list[str]) -> None:
    """Run ``csp`` in this process, which ends with it, silently."""
    from csp_engine.cli import main

    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    try:
        main(arguments)
    except SystemExit as stop:
        if (names := os.environ.get(_NAMES)) is not None:
            Path(names).write_text("\n".join(sys.modules))
        os._exit(int(stop.code or 0))
    except BaseException:
        os._exit(99)
    os._exit(0)


def started(arguments: list[str]) -> int:
    """The process id of a command."""
    pid = os.fork()
    if pid == 0:
        command(arguments)
    return pid


def children_of(parent: int) -> list[int]:
    """Living processes that a process started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, owner = path.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if owner == str(parent) and state not in "ZX":
            found.append(int(path.parent.name))
    return sorted(found)


def tasks_on(out: str) -> dict[int, str]:
    """Processes that measure a shard of a bundle and those that started them, and what they are."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().decode(errors="replace").split("\0")
            parent = (path.parent / "stat").read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue
        if "--shard" in command and out in command:
            found[int(path.parent.name)] = "process of a task"
            if _is_of_ray(int(parent)):
                found[int(parent)] = "task"
    return found


def _is_of_ray(pid: int) -> bool:
    """Whether a process is one of Ray's; that of a task that was lost has another parent."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::")
    except OSError:
        return False


_CLUSTER = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": int(sys.argv[1])})
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


@contextlib.contextmanager
def ray_cluster(n_tasks: int) -> Generator[str]:
    """The address of a Ray cluster of this machine, on which some tasks run at the same time."""
    command = [sys.executable, "-c", _CLUSTER, str(n_tasks)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        yield child.stdout.readline().decode().strip()


class Round:
    """One bundle, and the kills that it takes to make it."""

    def __init__(self, arguments: list[str], rng: random.Random, n_kills: int) -> None:
        self.arguments = arguments
        self.rng = rng
        self.left = n_kills
        self.killed: Counter[str] = Counter()

    def local(self, lasts: float) -> None:
        """``csp build --workers``: the command, or one of its workers, is killed."""
        self._driven([], lasts, lambda driver: dict.fromkeys(children_of(driver), "worker"))

    def ray(self, lasts: float, address: str) -> None:
        """The same on a Ray cluster: the command, a task, or the process that a task started."""
        out = self.arguments[-1]
        self._driven(["--engine", "ray", "--address", address], lasts, lambda _: tasks_on(out))

    def _driven(
        self, more: list[str], lasts: float, victims: Callable[[int], Mapping[int, str]]
    ) -> None:
        whole = ["build", *self.arguments, "--workers", str(N_SHARDS), *more]
        while True:
            driver = started(whole)
            while self.left:
                time.sleep(self.rng.uniform(0, lasts))
                workers = victims(driver)
                is_driver = not workers or self.rng.random() < SHARE_OF_DRIVER
                if _has_ended(driver):
                    break
                victim = driver if is_driver else self.rng.choice(sorted(workers))
                with contextlib.suppress(ProcessLookupError):  # a worker that just ended
                    os.kill(victim, signal.SIGKILL)
                    self._count("command" if is_driver else workers[victim])
                if is_driver:
                    break
            code = _wait(driver)
            if code == 0:
                return
            if code not in (REFUSED, -signal.SIGKILL):
                raise AssertionError(f"the command ended with {code}")

    def array(self, lasts: float, task_lasts: float) -> None:
        """Tasks of an array, which their scheduler starts again; then the merge."""
        waiting = self.rng.sample(range(1, N_SHARDS + 1), N_SHARDS)
        running: dict[int, int] = {}
        for_merge = self.left // (N_SHARDS + 1)
        while waiting or running:
            while waiting and len(running) < AT_ONCE:
                number = waiting.pop(0)
                task = ["build", *self.arguments, "--shard", f"{number}/{N_SHARDS}"]
                running[number] = started(task)
            number = self.rng.choice(sorted(running))
            if self.left > for_merge:
                time.sleep(self.rng.uniform(0, task_lasts))
                os.kill(running[number], signal.SIGKILL)
            code = _wait(running.pop(number))
            if code == -signal.SIGKILL:
                self._count("task")
                waiting.append(number)
            elif code:
                raise AssertionError(f"a task ended with {code}")
        while True:
            merge = started(["merge", *self.arguments])
            if self.left:
                time.sleep(self.rng.uniform(0, lasts))
                os.kill(merge, signal.SIGKILL)
            code = _wait(merge)
            if code == 0:
                return
            if code != -signal.SIGKILL:
                raise AssertionError(f"the merge ended with {code}")
            self._count("merge")

    def shared(self, lasts: float, parts: Path) -> None:
        """A merge by several processes, after shards that nobody disturbed."""
        shutil.copytree(parts, f"{self.arguments[-1]}.parts")

        def begun(number: int) -> int:
            return started(["merge", *self.arguments, "--shard", f"{number}/{N_SHARDS}"])

        running = {number: begun(number) for number in range(1, N_SHARDS + 1)}
        while running:
            if self.left > 0:
                time.sleep(self.rng.uniform(0, lasts))
                os.kill(running[self.rng.choice(sorted(running))], signal.SIGKILL)
            time.sleep(_INTERVAL_S)
            for number in [each for each in running if _has_ended(running[each])]:
                code = _wait(running.pop(number))
                if code == -signal.SIGKILL:
                    self._count("merging process")
                    running[number] = begun(number)
                elif code:
                    raise AssertionError(f"a process that merges ended with {code}")

    def _count(self, whom: str) -> None:
        self.killed[whom] += 1
        self.left -= 1


def _has_ended(pid: int) -> bool:
    """Whether a process has ended; how is left for ``_wait`` to say."""
    flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
    return os.waitid(os.P_PID, pid, flags) is not None


def _wait(pid: int) -> int:
    """How a process ended."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def lasting(arguments: list[str]) -> float:
    """Seconds that a command takes when nobody kills it."""
    start = time.monotonic()
    code = _wait(started(arguments))
    assert code == 0, f"{arguments[0]} ended with {code}"
    return time.monotonic() - start


def import_all(arguments: list[str], folder: Path) -> None:
    """Import what a command imports; it runs in another process, so that no thread starts here."""
    os.environ[_NAMES] = str(folder / "modules.txt")
    lasting(arguments)
    for name in Path(os.environ.pop(_NAMES)).read_text().splitlines():
        with contextlib.suppress(Exception):  # some are no modules but stand for their values
            importlib.import_module(name)


def wrong_with(out: Path, clean: Path) -> list[str]:
    """What a bundle has that one of an undisturbed build has not, and what was left behind."""
    found = []
    bundle, whole = Bundle.open(out), Bundle.open(clean)
    if bundle.n_images < whole.n_images:
        found.append(f"{whole.n_images - bundle.n_images} images are lost")
    if bundle.n_images > whole.n_images:
        found.append(f"{bundle.n_images - whole.n_images} images are there twice")
    if toys.content(out) != toys.content(clean):
        found.append("the digests differ")
    found += [str(each) for each in verify(bundle)]
    left = {path.name for path in out.parent.iterdir()} - {out.name}
    left |= {path.name for path in out.iterdir() if path.name.startswith(".")} - {".lock"}
    return found + [f"{name} was left behind" for name in sorted(left)]


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def _added(counts: Path | None, found: dict[str, Any]) -> dict[str, Any]:
    """Counts of this run, and of those before it that the file holds."""
    if counts is None:
        return found
    total = json.loads(counts.read_text()) if counts.exists() else {"seeds": [], "launchers": {}}
    total["seeds"] += found["seeds"]
    for name, row in found["launchers"].items():
        held = Counter(total["launchers"].get(name, {}))
        total["launchers"][name] = dict(held + Counter(row))
    total["wrong"] = total.get("wrong", []) + found["wrong"]
    counts.write_text(json.dumps(total, indent=1) + "\n")
    return total


def main() -> None:
    """Run rounds until there are as many kills as asked for, or time is up; print what came out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--each", type=int, default=20, help="kills of a bundle at most")
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--launcher", choices=LAUNCHERS, default=None)
    parser.add_argument("--counts", type=Path, default=None, help="file that runs are added up in")
    args = parser.parse_args()
    rng, end = random.Random(args.seed), time.monotonic() + 60 * args.minutes
    names = [args.launcher] if args.launcher else USUAL
    found: dict[str, Counter[str]] = {name: Counter() for name in names}
    wrong = list[str]()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        world = launched.world(folder / "world")

        def arguments(place: str, name: str = "") -> list[str]:
            given = launched.arguments(world, folder / place / "a.csp")
            return [*given[:-2], *WITH_CSP_PLUS, *given[-2:]] if name == "shared" else given

        import_all(["build", *arguments("shared", "shared")], folder)
        dividing.LEAST_PRODUCTS = 0
        clean = {name: folder / "clean" / "a.csp" for name in names}
        clean["shared"] = folder / "shared" / "a.csp"
        timed = ["build", *arguments("timed")]
        lasting(["build", *arguments("clean")])
        task_lasts = lasting([*timed, "--shard", f"1/{N_SHARDS}"])
        lasts = lasting(timed)
        for number in range(1, N_SHARDS + 1) if "shared" in names else ():
            lasting(["build", *arguments("shards", "shared"), "--shard", f"{number}/{N_SHARDS}"])
        address = ""
        if "ray" in names:
            address = stack.enter_context(ray_cluster(AT_ONCE))
            by_ray = ["build", *arguments("ray"), "--workers", str(N_SHARDS)]
            lasts = lasting([*by_ray, "--engine", "ray", "--address", address])
        n_rounds = 0
        while sum(each["kills"] for each in found.values()) < args.kills:
            if time.monotonic() > end:
                break
            name = names[n_rounds % len(names)]
            place = f"{name}-{n_rounds}"
            out = folder / place / "a.csp"
            each = Round(arguments(place, name), rng, args.each)
            play = {
                "local": partial(each.local, lasts),
                "array": partial(each.array, lasts, task_lasts),
                "shared": partial(each.shared, lasts, folder / "shards" / "a.csp.parts"),
                "ray": partial(each.ray, lasts, address),
            }
            play[name]()
            found[name] += each.killed
            found[name].update(bundles=1, kills=each.killed.total())
            n_rounds += 1
            wrong += [f"{place}: {what}" for what in wrong_with(out, clean[name])]
    counts = {name: dict(each) for name, each in found.items()}
    total = _added(args.counts, {"seeds": [args.seed], "launchers": counts, "wrong": wrong})
    for name, row in total["launchers"].items():
        parts = [f"{n} of a {whom}" for whom, n in sorted(row.items()) if whom not in _SUMS]
        n_bundles, n_kills = (row.get(each, 0) for each in _SUMS)
        _say(f"{name}: {n_bundles} bundles, {n_kills} kills ({', '.join(parts)})")
    _say(f"undisturbed: {lasts:.1f} s, a task {task_lasts:.1f} s; seeds {total['seeds']}")
    _say("\n".join(total["wrong"]) or "0 images lost, 0 doubled, the same digests every time")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
