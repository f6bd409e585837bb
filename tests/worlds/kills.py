"""Launchers of shards whose processes are killed at random moments, again and again.

Each round builds the same small bundle, kills whoever is at work, and starts again who was killed,
until all is done or the bundle has had its share of kills. It is then compared with a bundle that
nobody disturbed. Processes are forked from one that has imported everything, so each takes a second
and not twenty; apart from that they run the commands that a person types. Victims and moments are
those of the seed, but not what happens then.

    python -m tests.worlds.kills [--seed N] [--kills N] [--minutes M] [--launcher local|array]
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from csp_engine.bundle import Bundle, verify
from csp_engine.jobs.workers import (
    ENDS_WITH_INPUT,
    Ended,
    Started,
    Watch,
    measure_all,
    shard_arguments,
)
from tests.worlds import launched, toys

N_SHARDS = 3
LAUNCHERS = ("local", "array")
SHARE_OF_DRIVER = 0.4
REFUSED = 2
"""How a command ends that says why it cannot go on, as when a worker was killed thrice."""
_NAMES = "KILLS_MODULES"
"""Environment variable: where a command writes which modules it has imported at its end."""
AT_ONCE = 2
"""Tasks of an array that run at the same time."""


def command(arguments: list[str]) -> None:
    """Run ``csp`` in this process, which ends with it, silently."""
    from csp_engine.cli import main
    from csp_engine.cli.building import build

    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    build.measure_here = _measure_by_forks
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


def _measure_by_forks(given: Mapping[str, Any], of: int, watch: Watch, told: Any) -> None:
    """``measure_here`` with workers that need not import anything."""
    held: list[int] = []

    def start(number: int) -> Started:
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            for each in [*held, write]:
                with contextlib.suppress(OSError):
                    os.close(each)
            os.dup2(read, 0)
            os.environ[ENDS_WITH_INPUT] = "1"
            command(shard_arguments(given, number, of))
        os.close(read)
        held.append(write)
        how: list[Ended] = []

        def ended() -> Ended | None:
            if not how and (status := os.waitpid(pid, os.WNOHANG))[0]:
                how.append(Ended(os.waitstatus_to_exitcode(status[1]), "refused"))
            return how[0] if how else None

        def end() -> None:
            held.remove(write)
            os.close(write)
            if ended() is None:
                how.append(Ended(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), ""))

        return ended, end

    measure_all(of, watch, told, start)


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


class Round:
    """One bundle, and the kills that it takes to make it."""

    def __init__(self, world: Path, out: Path, rng: random.Random, n_kills: int) -> None:
        self.arguments = launched.arguments(world, out)
        self.rng = rng
        self.left = n_kills
        self.killed: Counter[str] = Counter()

    def local(self, lasts: float) -> None:
        """``csp build --workers``: the command, or one of its workers, is killed."""
        whole = ["build", *self.arguments, "--workers", str(N_SHARDS)]
        while True:
            driver = started(whole)
            while self.left:
                time.sleep(self.rng.uniform(0, lasts))
                workers = children_of(driver)
                is_driver = not workers or self.rng.random() < SHARE_OF_DRIVER
                if _has_ended(driver):
                    break
                with contextlib.suppress(ProcessLookupError):  # a worker that just ended
                    os.kill(driver if is_driver else self.rng.choice(workers), signal.SIGKILL)
                    self._count("command" if is_driver else "worker")
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


def main() -> None:
    """Run rounds until there are as many kills as asked for, or time is up; print what came out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--each", type=int, default=20, help="kills of a bundle at most")
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--launcher", choices=LAUNCHERS, default=None)
    args = parser.parse_args()
    rng, end = random.Random(args.seed), time.monotonic() + 60 * args.minutes
    killed: dict[str, Counter[str]] = {name: Counter() for name in LAUNCHERS}
    rounds, wrong = Counter[str](), list[str]()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        world, clean = launched.world(folder / "world"), folder / "clean" / "a.csp"
        import_all(["build", *launched.arguments(world, clean)], folder)
        timed = ["build", *launched.arguments(world, folder / "timed" / "a.csp")]
        task_lasts = lasting([*timed, "--shard", f"1/{N_SHARDS}"])
        lasts = lasting(timed)
        while sum(each.total() for each in killed.values()) < args.kills:
            if time.monotonic() > end:
                break
            name = args.launcher or LAUNCHERS[sum(rounds.values()) % len(LAUNCHERS)]
            out = folder / f"{name}-{rounds[name]}" / "a.csp"
            each = Round(world, out, rng, args.each)
            if name == "local":
                each.local(lasts)
            else:
                each.array(lasts, task_lasts)
            killed[name] += each.killed
            rounds[name] += 1
            wrong += [f"{out.parent.name}: {what}" for what in wrong_with(out, clean)]
    for name in rounds:
        parts = ", ".join(f"{n} of a {whom}" for whom, n in sorted(killed[name].items()))
        _say(f"{name}: {rounds[name]} bundles, {killed[name].total()} kills ({parts})")
    _say(f"undisturbed: {lasts:.1f} s, a task {task_lasts:.1f} s; seed {args.seed}")
    _say("\n".join(wrong) or "0 images lost, 0 doubled, the same digests every time")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
