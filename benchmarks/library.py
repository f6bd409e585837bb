"""A whole build against bare forward passes and against the SemanticLens library, in one run.

Four things are done in turn with the same photographs, the same target and encoder (random weights,
which cost as much as trained ones), on one thread: bare eager forward passes with one decode of an
image and the texts; a build that runs the target as it is given; a build that runs it faster where
that says the same; and what the library offers of this: its exemplars, their embeddings, the same
prompts searched, and its three scores. Models are loaded before the clock starts. Medians count, of
the clock and of processor time. Needs the packages semanticlens, einops and crp beside the others.

    python -m benchmarks.library [--images N] [--repeats R]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from benchmarks.build import PREPROCESSING, RESULTS, bare_seconds, write_inputs
from csp_engine.encoders import load_encoder
from csp_engine.networks.layers import select_layers
from csp_engine.networks.models import load_model
from csp_engine.pipeline import BuildRequest, Target, build
from csp_engine.pipeline.recipe import Recipe
from csp_engine.probe.listing import read_probe_set
from csp_engine.words.templates import TEMPLATES
from csp_engine.words.vocabularies import read_vocabulary

TARGETS = {
    "mobilenet_v2": ("python:benchmarks.build:mobilenet", "features.18"),
    "resnet50": ("python:benchmarks.build:resnet50", "layer4"),
}


class Photographs(torch.utils.data.Dataset):
    """Images of a folder with a transform, as the library takes them."""

    def __init__(self, folder: Path, transform: Callable[[Image.Image], Any], name: str) -> None:
        self.paths, self.transform, self.name = sorted(folder.glob("*.jpg")), transform, name

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, at: int) -> tuple[Any, int]:
        return self.transform(Image.open(self.paths[at]).convert("RGB")), 0


def by_library(request: BuildRequest, folder: Path, layer: str) -> Callable[[], object]:
    """What does with the library what it offers of a build."""
    from semanticlens import Lens
    from semanticlens.component_visualization import ActivationComponentVisualizer
    from semanticlens.foundation_models import OpenClip

    model = request.targets[0].model
    lens = Lens(OpenClip(f"local-dir:{folder / 'encoder'}"))

    def target_input(image: Image.Image) -> torch.Tensor:
        return torch.from_numpy(model.preprocess(image))

    def work() -> object:
        shown = ActivationComponentVisualizer(
            model.network,
            Photographs(folder / "images", target_input, "target"),
            Photographs(folder / "images", lambda image: image, "encoder"),
            [layer],
            num_samples=request.recipe.n_exemplars,
        )
        held = lens.compute_concept_db(shown, batch_size=request.batch_size)
        mean = {name: each.mean(dim=1) for name, each in held.items()}
        texts = request.vocabulary.table["text"].tolist()
        found = lens.text_probing(texts, mean, list(request.recipe.templates), batch_size=256)
        scores = (lens.eval_clarity(held), lens.eval_polysemanticity(held))
        return found, scores, lens.eval_redundancy(mean)

    return work


def measure(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Every way in turn, and medians."""
    factory, layer = TARGETS[name]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_inputs(folder, args.images, args.labels)
        model = load_model(factory, preprocessing=PREPROCESSING, name=name)
        request = BuildRequest(
            out=folder / "a.csp",
            probe=read_probe_set(folder / "images"),
            targets=(Target(model, tuple(select_layers(model, [layer]))),),
            encoder=load_encoder(f"open_clip/{folder / 'encoder'}"),
            vocabulary=read_vocabulary([str(folder / "words.txt")]),
            recipe=Recipe(templates=TEMPLATES["paper"]),
            batch_size=32,
        )

        def built(is_quick: bool) -> Callable[[], object]:
            def work() -> object:
                shutil.rmtree(request.out, ignore_errors=True)
                return build(replace(request, is_quick=is_quick))

            return work

        ways: dict[str, Callable[[], object]] = {
            "bare": lambda: bare_seconds(request),
            "as given": built(is_quick=False),
            "faster": built(is_quick=True),
            "library": by_library(request, folder, layer),
        }
        clock: dict[str, list[float]] = {way: [] for way in ways}
        processor: dict[str, list[float]] = {way: [] for way in ways}
        loads = []
        bare_seconds(request)  # warm caches and allocators
        for turn in range(args.repeats):
            for way, work in ways.items():
                start, own = time.perf_counter(), time.process_time()
                done = work()
                spent = time.process_time() - own
                if way == "bare":
                    # Preparing its tensors is no part of it: what is timed inside counts.
                    clock[way].append(sum(done.values()))
                    spent *= clock[way][-1] / (time.perf_counter() - start)
                else:
                    clock[way].append(time.perf_counter() - start)
                processor[way].append(spent)
                loads.append(os.getloadavg()[0])
                print(f"{name} {turn} {way}: {clock[way][-1]:.1f} s, {spent:.1f} s", flush=True)
        found = {
            kind: {way: round(statistics.median(times), 2) for way, times in held.items()}
            for kind, held in (("clock_s", clock), ("processor_s", processor))
        }
        own = found["clock_s"]
        return {
            "target": name,
            "images": args.images,
            "threads": torch.get_num_threads(),
            **found,
            "faster_to_bare": round(own["faster"] / own["bare"], 3),
            "faster_to_library": round(own["faster"] / own["library"], 3),
            "load": round(statistics.median(loads), 1),
        }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--labels", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--targets", nargs="+", choices=list(TARGETS), default=list(TARGETS))
    parser.add_argument("--out", type=Path, default=RESULTS / "library.json")
    args = parser.parse_args()
    if importlib.util.find_spec("semanticlens") is None:
        sys.exit("The library is not installed: pip install semanticlens einops")
    torch.set_num_threads(1)
    found = []
    for name in args.targets:
        found.append(measure(name, args))
        print(json.dumps(found[-1]), flush=True)
        args.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
