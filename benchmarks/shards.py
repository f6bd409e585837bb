"""What it costs to take a build in shards, and how long the merge of many takes.

Overhead: processor time of all shards and their merge against that of one build of the same images,
in one process with the networks loaded, alternating; medians count. Digests of the two bundles are
compared. Merge: 100 shards of random rows of a given size are checked and put into one journal, the
step that a merge has and a build without shards does not.

    python -m benchmarks.shards [--images N] [--shards N] [--repeats R] [--rows N]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.build import PREPROCESSING, write_inputs
from csp_engine.bundle import Bundle, PassJournal, parts_in, seal
from csp_engine.encoders import load_encoder
from csp_engine.networks.layers import select_layers
from csp_engine.networks.models import load_model
from csp_engine.pipeline import BuildRequest, Target, build
from csp_engine.pipeline.recipe import Recipe
from csp_engine.pipeline.sharding.measuring import measure_shard
from csp_engine.pipeline.sharding.merging import merge
from csp_engine.pipeline.sharding.shards import Shard
from csp_engine.probe.listing import read_probe_set
from csp_engine.words.templates import TEMPLATES
from csp_engine.words.vocabularies import read_vocabulary

RESULTS = Path(__file__).parent / "results"
WIDTHS = {"layer-0-0": 2048, "embeddings": 512}
"""Numbers that an image has in each stream of the synthetic shards."""


def digests(path: Path) -> dict[str, list[str]]:
    """The hashes of all files of a bundle, by stage."""
    stages = Bundle.open(path).manifest.stages
    return {name: [f.sha256 for f in record.files.values()] for name, record in stages.items()}


def overhead(args: argparse.Namespace) -> dict[str, float | bool | int]:
    """Processor seconds of a build, and of the same in shards."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_inputs(folder, args.images, 100)
        model = load_model(
            "python:benchmarks.build:mobilenet", preprocessing=PREPROCESSING, name="mobilenet_v2"
        )
        request = BuildRequest(
            out=folder / "a.csp",
            probe=read_probe_set(folder / "images"),
            targets=(Target(model, tuple(select_layers(model, ["features.18"]))),),
            encoder=load_encoder(f"open_clip/{folder / 'encoder'}"),
            vocabulary=read_vocabulary([str(folder / "words.txt")]),
            recipe=Recipe(templates=TEMPLATES["paper"]),
            batch_size=32,
        )
        rows = []
        for repeat in range(args.repeats + 1):
            whole = replace(request, out=folder / f"whole-{repeat}.csp")
            sharded = replace(request, out=folder / f"sharded-{repeat}.csp")
            start = time.process_time()
            build(whole)
            middle = time.process_time()
            for number in range(1, args.shards + 1):
                measure_shard(sharded, Shard(number, args.shards))
            measured = time.process_time()
            merge(sharded)
            end = time.process_time()
            row = {"build": middle - start, "measuring": measured - middle, "merge": end - measured}
            row["ratio"] = (end - middle) / row["build"]
            row["is_same"] = digests(whole.out) == digests(sharded.out)
            rows.append(row)
        rows = rows[1:]  # the first warmed caches and allocators
        return {
            "images": args.images,
            "shards": args.shards,
            "threads": torch.get_num_threads(),
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
    parser.add_argument("--images", type=int, default=320)
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rows", type=int, default=50_000)
    args = parser.parse_args()
    found = {"overhead": overhead(args), "merge": merging(args)}
    for name, row in found.items():
        shown = (f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())
        print(f"{name}: {', '.join(shown)}", flush=True)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "shards.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
