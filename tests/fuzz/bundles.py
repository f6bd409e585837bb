"""Mutates a small bundle by a seed and tries every way to read it: nothing may be silently wrong.

    python -m tests.fuzz.bundles --n 10000 --seed 0
    python -m tests.fuzz.bundles --first 1234 --n 1 --seed 0

The second line tries one of these again. Each case copies a toy bundle that holds labels of several
methods, answers of a model that is shown pictures, circuits, interventions with gates, a fix,
ablation curves, factors, checks of maps, suspects by column, ground truth, concept columns and what
was measured of labels, changes its manifest or one or two of its files (``mutations``), redoes the
hashes in half of the cases, and then opens it and runs what people run (``readings``). What each
gives is compared with
the same of the undamaged bundle; a reading that looks at nothing that was altered is not run again
(``watching``), and neither are such parts of ``verify``. Counted are tracebacks (any exception that
is no ``CspError``), deaths of the process, hangs, and *wrong*: results that differ with no error.
Where hashes were redone the bundle says of itself that it is whole, so results that differ are
looked up in ``verify``: those that it tells of are counted as *forged, told by verify*, the others
as *forged, told by nobody*: nothing else in the bundle determines them, such as a text of a label.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from csp_engine.bundle import Bundle, verify
from csp_engine.bundle.verifying import crosscheck
from csp_engine.captioners.generators.asking import Question
from csp_engine.captioners.generators.kept import Answer
from csp_engine.errors import CspError
from csp_engine.pipeline import (
    add_curves,
    add_fix,
    add_interventions,
    add_map_checks,
    add_performance,
    build,
)
from csp_engine.pipeline.added.deleting import random_orders, try_orders
from csp_engine.pipeline.added.fixing import Trials
from csp_engine.pipeline.added.photographs import listed_photographs
from csp_engine.pipeline.factoring.finding import find_factors
from csp_engine.pipeline.factoring.keeping import add_factors
from csp_engine.pipeline.recipe import changed
from csp_engine.words.word_kinds import units_by_label
from tests.fuzz.mutations import mutate
from tests.fuzz.readings import READINGS
from tests.fuzz.watching import Thing, altered, watching
from tests.worlds import misled, toys

SECONDS = 60
"""A reading that computes for longer hangs; the whole of them takes a second."""
WAITS = 600
"""So does one that takes longer by the clock, however busy the machine is."""


class _Late(BaseException):
    pass


@contextmanager
def _limited() -> Iterator[None]:
    def late(*_: Any) -> None:
        raise _Late

    signals = (signal.SIGALRM, signal.SIGPROF)
    before = [signal.signal(each, late) for each in signals]
    signal.setitimer(signal.ITIMER_REAL, WAITS)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        for each, handler in zip(signals, before, strict=True):
            signal.signal(each, handler)


def tried(reading: Callable[[Path], Any], bundle: Path) -> tuple[str, Any]:
    """How it failed, if it did, and what it gave or what is to be said of the failure."""
    try:
        with _limited():
            return "", reading(bundle)
    except CspError as error:
        return "told", str(error)
    except _Late:
        return "hang", "late"
    except Exception:
        last = traceback.format_exc().strip().splitlines()
        return "traceback", f"{last[-1][:200]} {last[-3][:150]}"


@dataclass(frozen=True, slots=True)
class World:
    """The undamaged bundle, what every reading gives of it, and what that looks at.

    ``checks`` is the same of what ``verify`` computes again.
    """

    path: Path
    truth: dict[str, str]
    readings: dict[str, set[Thing]]
    checks: dict[tuple[Any, ...], set[Thing]]

    def looking(self, bundle: Path) -> dict[str, Callable[[Path], str]]:
        """The readings that can give something else of an altered copy.

        One that looks at nothing that was altered gives the same, as long as the copy opens.
        """
        changes = self._changes(bundle)
        return {
            name: reading
            for name, reading in READINGS.items()
            if changes is None or self.readings[name] & changes
        }

    def problems(self, bundle: Path) -> list[str]:
        """What ``verify`` tells of an altered copy, of the checks that look at what was altered.

        All hashes are compared, and where one is wrong, nothing is computed again.
        """
        changes, real = self._changes(bundle), crosscheck._guarded

        def some(stage: str, check: Any, *about: Any) -> Any:
            looks_at = self.checks.get((stage, check, *about[1:]))
            if changes is None or looks_at is None or looks_at & changes:
                yield from real(stage, check, *about)

        with mock.patch.object(crosscheck, "_guarded", some):
            return verify(Bundle.open(bundle))

    def _changes(self, bundle: Path) -> set[Thing] | None:
        if tried(lambda path: Bundle.open(path), bundle)[0]:
            return None
        return altered(self.path, bundle)


def looked_at(whole: Path) -> World:
    """Run every reading and every check of a bundle once, and see what each looks at."""
    truth, readings, checks = {}, {}, {}
    for name, reading in READINGS.items():
        with watching() as readings[name]:
            truth[name] = reading(whole)

    def some(stage: str, check: Any, *about: Any) -> Any:
        with watching() as seen:  # of a bundle that has read nothing yet
            found = list(check(Bundle.open(whole), *about[1:]))
        assert not found, found
        checks[stage, check, *about[1:]] = seen
        return iter(())

    with mock.patch.object(crosscheck, "_guarded", some):
        assert not verify(Bundle.open(whole))
    return World(whole, truth, readings, checks)


def one_case(world: World, seed: int, number: int) -> list[tuple[str, str]]:
    """Kinds of outcome of one case, each with what to look at."""
    rng = np.random.default_rng([seed, number])
    found: list[tuple[str, str]] = []
    with tempfile.TemporaryDirectory(prefix="csp-fuzz-") as folder:
        bundle = Path(shutil.copytree(world.path, Path(folder) / "a.csp"))
        done, is_redone = mutate(bundle, rng)
        about = f"case {number}: {done}{' (redone)' if is_redone else ''}"
        differs = []
        looking = world.looking(bundle)
        found += [("same", "")] * (len(READINGS) - len(looking))
        for name, reading in looking.items():
            failure, result = tried(reading, bundle)
            if failure == "told":
                found.append(("told", ""))
            elif failure:
                found.append((failure, f"{about}: {name}: {result}"))
            elif result == world.truth[name]:
                found.append(("same", ""))
            else:
                differs.append(name)
        failure, problems = tried(world.problems, bundle)
        if failure in ("hang", "traceback"):
            found.append((failure, f"{about}: verify: {problems}"))
        kind = "wrong"
        if is_redone:
            kind = "forged, told by verify" if problems else "forged, told by nobody"
        found += [(kind, f"{about}: {name}") for name in differs]
    return found


# ------------------------------------------------------------------ many cases


class Speaking:
    """A model that is shown pictures and says the same of all."""

    spec, fingerprint, description = "transformers/said", "5" * 64, {"kind": "toy"}
    n_images, n_at_once = 9, 8

    def answer(self, questions: Sequence[Question], keep: Callable[[int, Answer], None]) -> None:
        for place in range(len(questions)):
            keep(place, Answer('["deep red", "noisy pixels"]', "", 5, 7))


METHODS = "csp,csp_plus,invert,falcon,linear_explanations"


def make_world(folder: Path) -> World:
    """The undamaged bundle, and what every reading gives of it."""
    os.environ["CSP_ANSWERS"] = str(folder / "answers")
    toys.draw_images(folder / "images", 48)  # so many that units are compared with columns
    recipe = changed(replace(toys.SMALL, n_candidates=2), {"methods": METHODS})
    more = {"probe": toys.with_columns(folder), "captioner": Speaking(), "recipe": recipe}
    request = toys.request(folder, folder / "whole.csp", n_circuit_images=8, **more)
    built = toys.with_truth(build(request), planted_layer="second@mean")
    whole = add_performance(toys.with_faithfulness(built).path, {"small": toys.slices()}).path
    asked = {"gates": toys.open_gate(), "n_random": 4}
    add_interventions(whole, toys.target(), toys.CornerPairs(), "red", **asked)
    fix = toys.tried_fix(folder, toys.target(), ("second@mean", "first@mean"))
    add_fix(whole, "small", "two neurons", fix)
    add_map_checks(whole, toys.target(), toys.CornerPairs(), maps=["activation"])
    shots = listed_photographs(toys.photographs(folder / "decided", 200))
    trials = Trials(toys.target(["second"]), shots, "red")
    units = range(Bundle.open(whole).n_units("small", "second@mean"))
    texts = Bundle.open(whole).best_texts("small", "second@mean", "csp")
    named = units_by_label(texts, [texts[0].casefold()])["words"]
    orders = {
        "random": random_orders(units, 2),
        "influence": [np.array(units)],
        "words": [np.array(named)],
    }
    asked = {"method": "csp", "words": [texts[0].casefold()]}
    curves = try_orders(trials, "second@mean", orders, [1, 3], "mean", **asked)
    add_curves(whole, "small", "second@mean", curves)
    _add_factors(whole, folder)
    return looked_at(whole)


def _add_factors(whole: Path, folder: Path) -> None:
    """Factors of a network that a shortcut misleads, as if they were of units of the small one."""
    shots = listed_photographs(misled.photographs(folder))
    found = find_factors(Trials(misled.target(), shots, "red"), "seen@mean", 3, n_random=2)
    n_units = Bundle.open(whole).n_units("small", "second@mean")
    direction_uk = np.zeros((n_units, 3), np.float32)
    direction_uk[: len(found.direction_uk)] = found.direction_uk
    assert found.pictured
    found = replace(found, direction_uk=direction_uk)
    add_factors(whole, "small", "second@mean", found, 0)


def _chunk(world: World, seed: int, numbers: range, out: Any) -> None:
    for number in numbers:
        out.put((number, one_case(world, seed, number)))
    out.close()
    out.join_thread()


def fuzz(n: int, seed: int, first: int = 0, chunk: int = 100) -> Counter[str]:
    """Run many cases in processes of their own, so that one that dies is counted.

    Prints what to look at as it is found.
    """
    counts: Counter[str] = Counter()
    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory(prefix="csp-fuzz-") as folder:
        world = make_world(Path(folder))
        start, stop = first, first + n
        while start < stop:
            numbers = range(start, min(stop, start + chunk))
            results = context.Queue()
            worker = context.Process(target=_chunk, args=(world, seed, numbers, results))
            worker.start()
            done = _collect(worker, results, counts, numbers)
            start += done
            if done < len(numbers):
                counts["death"] += 1
                _print(f"death: case {start}")
                start += 1
            sys.stderr.write(f"{start}/{stop} {dict(counts)}\n")
    return counts


def _collect(worker: Any, results: Any, counts: Counter[str], numbers: range) -> int:
    done = 0
    while done < len(numbers):
        try:
            _, found = results.get(timeout=2)
        except Exception:
            if not worker.is_alive():
                break
            continue
        done += 1
        counts["cases"] += 1
        for kind, about in found:
            counts[kind] += 1
            if about and kind != "forged, told by verify":
                _print(f"{kind}: {about}")
    worker.join()
    return done


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    """Print the counts, and what to look at."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="case to begin with")
    options = parser.parse_args()
    counts = fuzz(options.n, options.seed, options.first)
    _print(json.dumps(dict(sorted(counts.items())), indent=1))
    bad = sum(counts[kind] for kind in ("traceback", "hang", "death", "wrong"))
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
