"""What it costs to take a build in shards, and how long the merge of many takes.

Overhead: processor time of the commands that people type, on one thread each, with all processes
that they start, in turns: a build; the same by ``--workers``; the same as ``--shard I/N`` each and
a merge. Digests of the bundles are compared. Merge: 100 shards of random rows of a given size are
checked and put into one journal, the step that a merge has and a build without shards does not.

    python -m benchmarks.shards [--each K,K,...] [--shards N] [--repeats R] [--rows N]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.build import PREPROCESSING, write_inputs
from csp_engine.bundle import Bundle, PassJournal, parts_in, seal
from csp_engine.jobs.workers import THREADS

RESULTS = Path(__file__).parent / "results"
WIDTHS = {"layer-0-0": 2048, "embeddings": 512}
"""Numbers that an image has in each stream of the synthetic shards."""


def digests(path: Path) -> dict[str, list[str]]:
    """The hashes of all files of a bundle, by stage."""
    stages = Bundle.open(path).manifest.stages
    return {name: [f.sha256 for f in record.files.values()] for name, record in stages.items()}


def processor_seconds(arguments: list[str]) -> float:
    """Processor time of ``csp`` with some arguments, and of the processes that it waits for."""
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "csp_engine", *arguments],
            env={**os.environ, THREADS: "1"},
            stdout=log,
            stderr=log,
        )
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            log.seek(0)
            sys.exit(log.read().decode())
    return used.ru_utime + used.ru_stime


def overhead(n_each: int, args: argparse.Namespace) -> dict[str, float | bool | int]:
    """Processor seconds of a build, of the same by workers, and of the same in shards.

    Args:
        n_each: photographs of each shard.
        args: how many shards, and how many turns.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder, of = Path(scratch), args.shards
        write_inputs(folder, n_each * of, 100)
        (folder / "preprocessing.json").write_text(json.dumps(PREPROCESSING))
        given = [
            *(str(folder / "images"), "-l", "features.18"),
            *("-m", "python:benchmarks.build:mobilenet", "--name", "mobilenet_v2"),
            *("--preprocessing", str(folder / "preprocessing.json")),
            *("-e", f"open_clip/{folder / 'encoder'}", "-v", str(folder / "words.txt")),
        ]
        rows = []
        for turn in range(args.repeats):
            whole, worked, sharded = (folder / f"{name}-{turn}.csp" for name in "abc")
            row = {"build": processor_seconds(["build", *given, "-o", str(whole)])}
            workers = ["--workers", str(of), "-o", str(worked)]
            row["workers"] = processor_seconds(["build", *given, *workers])
            shard = ["build", *given, "-o", str(sharded), "--shard"]
            each = [processor_seconds([*shard, f"{number + 1}/{of}"]) for number in range(of)]
            row |= {"first_shard": each[0], "other_shard": statistics.median(each[1:])}
            row["merge"] = processor_seconds(["merge", *given, "-o", str(sharded)])
            row["workers_ratio"] = row["workers"] / row["build"]
            row["shards_ratio"] = (sum(each) + row["merge"]) / row["build"]
            row["is_same"] = digests(whole) == digests(worked) == digests(sharded)
            rows.append(row)
            print(f"  {n_each} each: {row}", flush=True)
        return {
            "each": n_each,
            "shards": of,
            **{k: statistics.median(r[k] for r in rows) for k in rows[0] if k != "is_same"},
            "is_same": all(row["is_same"] for row in rows),
        }


def merging(args: argparse.Namespace) -> dict[str, float | int]:
    """Seconds to check 100 shards and put them one after the other."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        n_rows, n_bytes, header = args.rows // 100, 0, {"stages": {}}
        for number in range(1, 101):
            journal = PassJournal(folder / f".{number}-of-100", {}, list(WIDTHS))
            content = {
                name: rng.random((n_rows, width), np.float32).tobytes()
                for name, width in WIDTHS.items()
            }
            n_bytes += sum(map(len, content.values()))
            journal.append(content, n_listed=n_rows, n_rows=n_rows)
            first = (number - 1) * n_rows
            seal(journal, number=number, of=100, header=header, first=first, conditions={})
        start = time.perf_counter()
        journal = PassJournal(folder / "pass", {}, list(WIDTHS))
        for part in parts_in(folder):
            files = {name: (part.file(name), sha) for name, (_, sha) in part.streams.items()}
            assert journal.take(files, n_listed=n_rows, n_rows=part.n_rows) is None
        journal.close()
        seconds = time.perf_counter() - start
        assert journal.n_rows == 100 * n_rows
    return {"shards": 100, "rows": 100 * n_rows, "megabytes": n_bytes / 1e6, "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--each", default="32,96,256", help="photographs of a shard")
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--rows", type=int, default=50_000)
    args = parser.parse_args()
    rows = [overhead(int(n_each), args) for n_each in args.each.split(",")]
    found = {"overhead": rows, "merge": merging(args)}
    for row in [*rows, found["merge"]]:
        print(
            ", ".join(
                f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()
            )
        )
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "shards.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
