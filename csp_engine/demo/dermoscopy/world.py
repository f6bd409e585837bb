"""All parts of the demo, in order, each made once: ``csp demo build``.

Parts live in a work folder; a part is recorded in ``world.json`` only when it is whole, so an
interrupted build goes on where it stopped (inside a part too: pictures and training steps resume).
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image

from csp_engine import pipeline
from csp_engine.activations import ActivationRecorder
from csp_engine.bundle import Bundle, sha256_file
from csp_engine.captioners import load_captioner
from csp_engine.demo.dermoscopy import captioner, captions, classifiers, encoder, planted, render
from csp_engine.demo.dermoscopy.cases import (
    CONCEPTS,
    PATCH_COLOURS,
    concept_table,
    draw_cases,
)
from csp_engine.demo.dermoscopy.training import Pictures, keep_freed_memory, pictures, workers
from csp_engine.encoders import load_encoder
from csp_engine.errors import InputError
from csp_engine.evaluation.label_accuracy import (
    label_accuracy,
    recall_summary,
    search_recall,
)
from csp_engine.labels import read_vocabulary
from csp_engine.layers import select_layers
from csp_engine.models import TargetModel
from csp_engine.probe import read_probe_set
from csp_engine.recipe import Recipe
from csp_engine.types import Progress, silent

VERSION = 1
RECORD = "world.json"
BUNDLE = "dermoscopy.csp"
CONTROL_COLUMNS = ("skin_tone", "size", "asymmetry", "irregularity", "n_colours", "pigment")


@dataclass(frozen=True)
class Plan:
    """How much of everything; all of it follows from ``seed``."""

    seed: int = 0
    n_probe: int = 4000
    n_held_out: int = 1500
    n_words: int = 10000
    n_lessons: int = 5000
    n_slice: int = 1000
    encoder_steps: int = 3600
    classifier_steps: int = 1100
    captioner_steps: int = 1600
    n_exemplars: int = 40
    n_partners: int = 3
    thumbnail_side: int = 144


FULL = Plan()
QUICK = Plan(
    n_probe=120, n_held_out=80, n_words=96, n_lessons=64, n_slice=24,
    encoder_steps=3, classifier_steps=3, captioner_steps=5, n_exemplars=10, n_partners=2,
)  # fmt: skip
"""For tests: every part is made, none knows much."""


class World:
    """The work folder of one demo build: which parts are done, and where they lie."""

    def __init__(self, folder: Path, plan: Plan = FULL, progress: Progress = silent) -> None:
        """Open the folder, or begin it.

        Raises:
            InputError: if it holds files that are not of a demo build, or cannot be written.
        """
        self.folder = folder
        self.plan = plan
        self.progress = progress
        settings = {"version": VERSION, "render": render.VERSION, **asdict(plan)}
        record_path = folder / RECORD
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not record_path.exists() and any(folder.iterdir()):
                raise InputError(
                    f"{folder} is not empty and not of a demo build; choose another folder."
                )
        except OSError as error:
            raise InputError(
                f"Cannot write to {folder} ({error.strerror}); choose another folder."
            ) from None
        held: dict[str, Any] = {}
        if record_path.exists():
            try:
                held = json.loads(record_path.read_text(encoding="utf-8"))
            except ValueError:
                held = {}  # cut off or altered: every part is made again
        self.record: dict[str, Any] = {"settings": settings, "parts": {}}
        if held.get("settings") == settings:
            self.record["parts"] = held["parts"]
        self._write()

    def path(self, part: str) -> Path:
        """Where a part lies."""
        return self.folder / part

    def make(self, part: str, write: Callable[[Path], None]) -> Path:
        """Make a part unless it is there; ``write`` fills a path that is then renamed."""
        target, temporary = self.path(part), self.folder / f".tmp-{part}"
        held = self.record["parts"].get(part)
        if held is not None and target.exists() and held["sha256"] == content_sha256(target):
            return target
        _remove(temporary)
        started = time.monotonic()
        write(temporary)
        _remove(target)
        temporary.rename(target)
        self.record["parts"][part] = {
            "seconds": round(time.monotonic() - started, 1),
            "sha256": content_sha256(target),
        }
        self._write()
        return target

    def checkpoint(self, name: str) -> Path:
        """The file for the state of an unfinished training."""
        return self.folder / f"{name}.checkpoint"

    def pictures(self, scenario: str, n: int, lesson: int, side: int) -> Pictures:
        """Rendered pictures of a scenario, see ``training.pictures``; kept in ``pictures/``."""
        seed = self.plan.seed * 1000 + lesson
        return pictures(self.folder / "pictures", scenario, n, seed, side, self.progress)

    def _write(self) -> None:
        temporary = self.folder / f".tmp-{RECORD}"
        temporary.write_text(json.dumps(self.record, indent=1) + "\n", encoding="utf-8")
        temporary.replace(self.folder / RECORD)


def content_sha256(path: Path) -> str:
    """One hash over a file, or over names and contents of all files of a folder."""
    if path.is_file():
        return sha256_file(path)
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()}|{sha256_file(file)}\n".encode())
    return digest.hexdigest()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


# --- the probe set -----------------------------------------------------------------------------


def probe_cases(plan: Plan) -> pd.DataFrame:
    """The cases of the shipped probe set."""
    return draw_cases("probe", plan.n_probe, plan.seed)


def probe_table(cases: pd.DataFrame, shares: pd.DataFrame) -> pd.DataFrame:
    """The table a bundle is built from: file, class, 0/1 concepts, controls, visible shares.

    Args:
        cases: of the probe set.
        shares: share of each picture that every mask covers.
    """
    files = [f"images/{i:05d}.png" for i in range(len(cases))]
    table = pd.DataFrame({"file": files, "class": cases["diagnosis"].to_numpy()})
    concepts = concept_table(cases).astype(np.int8)
    concepts = concepts[[name for name in concepts if CONCEPTS[name][0] != "diagnosis"]]
    controls = cases[list(CONTROL_COLUMNS)].add_prefix("control_")
    seen = shares.round(5).add_prefix("share_")
    parts = [table, *(p.reset_index(drop=True) for p in (concepts, controls, seen))]
    return pd.concat(parts, axis=1)


def write_photographs(
    target: Path, cases: pd.DataFrame, progress: Progress = silent, *, with_masks: bool = False
) -> None:
    """Render cases into a folder.

    Writes ``images/NUMBER.png``; ``cases.csv`` with every control; ``probe.csv`` with what a bundle
    is built from (see ``probe_table``); and with masks ``masks/NUMBER/NAME.png``, white where the
    thing is seen, for each thing that a photograph shows.

    Args:
        target: a new folder.
        cases: from ``draw_cases``.
        progress: called with stage ``"photographs"``.
        with_masks: whether masks are written.
    """
    (target / "images").mkdir(parents=True)
    shares = []
    write = partial(_write_photograph, folder=str(target), with_masks=with_masks)
    with workers() as run:
        for share in run(write, list(enumerate(cases.to_dict("records")))):
            shares.append(share)
            progress("photographs", len(shares), len(cases))
    probe_table(cases, pd.DataFrame(shares)).to_csv(target / "probe.csv", index=False)
    cases.to_csv(target / "cases.csv", index=False)


def _write_photograph(
    job: tuple[int, Mapping[str, Any]], folder: str, with_masks: bool
) -> dict[str, float]:
    number, case = job
    photograph = render.render(case)
    photograph.image().save(Path(folder) / f"images/{number:05d}.png", compress_level=1)
    if with_masks:
        home = Path(folder) / f"masks/{number:05d}"
        home.mkdir(parents=True)
        for name, mask_hw in photograph.masks.items():
            if mask_hw.any():
                Image.fromarray(mask_hw).save(home / f"{name}.png")
    return photograph.shares()


# --- all parts ---------------------------------------------------------------------------------


def build_world(folder: Path, plan: Plan = FULL, progress: Progress = silent) -> World:
    """Make every part that is missing, and the bundle.

    Raises:
        InputError: if the folder cannot be used.
    """
    world = World(folder, plan, progress)
    keep_freed_memory()
    with one_order_of_sums():
        world.make("probe", lambda path: write_photographs(path, probe_cases(plan), progress))
        world.make("encoder", partial(_write_encoder, world))
        for number, name in enumerate(classifiers.MODELS):
            world.make(f"{name}.safetensors", partial(_write_classifier, world, name, number))
        world.make("slices.csv", partial(_write_slices, world))
        world.make("captioner", partial(_write_captioner, world))
        world.make("planted", partial(_write_planted, world))
        world.make("vocabulary.txt", _write_vocabulary)
        _build_bundle(world)
        world.make("quality.json", partial(_write_quality, world))
    return world


@contextmanager
def one_order_of_sums() -> Iterator[None]:
    """Two threads whatever the machine, so that sums run in the same order everywhere."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _lessons(world: World) -> Pictures:
    """What the encoder and the captioner learn from."""
    return world.pictures("words", world.plan.n_words, 1, encoder.SIDE)


def _write_encoder(world: World, target: Path) -> None:
    encoder.train_encoder(
        target,
        _lessons(world),
        seed=world.plan.seed,
        n_steps=world.plan.encoder_steps,
        checkpoint=world.checkpoint("encoder"),
        progress=world.progress,
    )


def _write_classifier(world: World, name: str, number: int, target: Path) -> None:
    scenario = classifiers.MODELS[name]
    classifiers.train_classifier(
        target,
        world.pictures(scenario, world.plan.n_lessons, 2 + number, classifiers.SIDE),
        seed=world.plan.seed,
        n_steps=world.plan.classifier_steps,
        checkpoint=world.checkpoint(name),
        progress=world.progress,
    )


def _write_slices(world: World, target: Path) -> None:
    slices = {
        name: world.pictures(scenario, world.plan.n_slice, 4 + i, classifiers.SIDE)
        for i, (name, scenario) in enumerate(classifiers.SLICES.items())
    }
    tables = []
    for name in classifiers.MODELS:
        network = classifiers.load_network(world.path(f"{name}.safetensors"))
        tables.append(classifiers.accuracy_by_slice(network, slices).assign(model=name))
    pd.concat(tables, ignore_index=True).to_csv(target, index=False)


def held_out(world: World) -> Pictures:
    """Photographs that no network learnt from and no bundle shows."""
    return world.pictures("probe", world.plan.n_held_out, 7, render.SIDE)


def load_demo_encoder(folder: Path) -> Any:
    """The demo encoder, named so that a bundle beside it finds it."""
    loaded = load_encoder(f"open_clip/{folder.resolve()}")
    loaded.spec = f"open_clip/./{folder.name}"
    return loaded


def embed_pictures(loaded: Any, image_nhwc: np.ndarray, size: int = 100) -> np.ndarray:
    """Unit embeddings of pictures by an encoder."""
    parts = []
    for i in range(0, len(image_nhwc), size):
        block = [loaded.preprocess(Image.fromarray(image)) for image in image_nhwc[i : i + size]]
        parts.append(loaded.embed_images(np.stack(block)))
    return np.concatenate(parts)


def _write_captioner(world: World, target: Path) -> None:
    loaded = load_demo_encoder(world.path("encoder"))
    lessons = _lessons(world)
    captioner.train_captioner(
        target,
        embed_pictures(loaded, lessons.image_nhwc),
        concept_table(lessons.cases).to_numpy(bool),
        captions.WORDINGS,
        encoder_fingerprint=loaded.fingerprint,
        seed=world.plan.seed,
        n_steps=world.plan.captioner_steps,
        progress=world.progress,
    )


def _write_vocabulary(target: Path) -> None:
    head = (
        "# Words of simulated dermoscopy: wordings of every concept, and words of other worlds.\n"
    )
    target.write_text(head + "\n".join(captions.vocabulary()) + "\n", encoding="utf-8")


# --- planted units -----------------------------------------------------------------------------

STRENGTHS: dict[str, str] = {
    "asymmetric lesion": "asymmetry",
    "irregular border": "irregularity",
    "many colours": "n_colours",
    "large lesion": "size",
    "light skin": "lightness",
    "dark skin": "skin_tone",
    "small lesion": "smallness",
    "typical pigment network": "share_typical_network",
    "atypical pigment network": "share_atypical_network",
    "dots": "share_dots",
    "globules": "share_globules",
    "streaks": "share_streaks",
    "blue-white veil": "share_blue_white_veil",
    "regression": "share_regression",
    "vessels": "share_vessels",
    "milia-like cysts": "share_milia_cysts",
    "reddish skin": "share_red_skin",
    "ruler": "share_ruler",
    "colour patch": "share_patch",
    **{f"{colour} patch": "share_patch" for colour in PATCH_COLOURS},
    "ink marks": "share_ink",
    "hair": "share_hair",
    "thick hair": "share_hair",
    "light hair": "share_hair",
    "dense hair": "share_hair",
    "gel bubbles": "share_gel_bubbles",
    "gel border": "share_gel_border",
    "dark corners": "share_dark_corners",
}
"""Concept → what says how much of it a photograph shows: a control, or the share of its mask."""


def strengths(cases: pd.DataFrame, shares: pd.DataFrame) -> pd.DataFrame:
    """How much of each concept every case shows, at least 0; diagnoses have no grade."""
    known = pd.concat(
        [cases.reset_index(drop=True), shares.reset_index(drop=True).add_prefix("share_")], axis=1
    )
    known["lightness"] = 7 - known["skin_tone"]
    known["smallness"] = 1 - known["size"]
    return pd.DataFrame({name: known[source].astype(float) for name, source in STRENGTHS.items()})


def _shares_of(case: Mapping[str, Any]) -> dict[str, float]:
    return render.render(case).shares()


def _all_shares(cases: pd.DataFrame, progress: Progress) -> pd.DataFrame:
    rows = []
    with workers() as run:
        for share in run(_shares_of, cases.to_dict("records")):
            rows.append(share)
            progress("masks", len(rows), len(cases))
    return pd.DataFrame(rows)


def _write_planted(world: World, target: Path) -> None:
    """Units that read the record of the probe set and of the held-out photographs."""
    probe = pd.read_csv(world.path("probe") / "probe.csv")
    held = held_out(world)
    cases = pd.concat([probe_cases(world.plan), held.cases], ignore_index=True)
    seen = probe.filter(like="share_").rename(columns=lambda name: name.removeprefix("share_"))
    shares = pd.concat([seen, _all_shares(held.cases, world.progress)], ignore_index=True)
    shown = classifiers.pixel_preprocess()
    files = [world.path("probe") / file for file in probe["file"]]
    prints = [
        planted.fingerprint(np.stack([shown(image) for image in block]))
        for block in _blocks([*files, *held.image_nhwc])
    ]
    memory = planted.plant(
        strengths(cases, shares),
        concept_table(cases),
        np.concatenate(prints),
        world.plan.seed,
        beside={"gel border": "gel bubbles"},
    )
    planted.save(target, memory, classifiers.DIAGNOSES, classifiers.PIXELS)


def _blocks(sources: list[Any], size: int = 100) -> Iterator[list[Image.Image]]:
    """Images of files or arrays, some at a time."""
    for i in range(0, len(sources), size):
        yield [
            Image.open(source).convert("RGB")
            if isinstance(source, Path)
            else Image.fromarray(source)
            for source in sources[i : i + size]
        ]


# --- the bundle --------------------------------------------------------------------------------


def demo_targets(folder: Path) -> dict[str, tuple[TargetModel, tuple[str, ...]]]:
    """The three target models of a folder of parts, and the layers that are browsed."""
    found = {
        name: (classifiers.target_model(folder / f"{name}.safetensors", name), classifiers.LAYERS)
        for name in classifiers.MODELS
    }
    found["planted"] = (planted.target_model(folder / "planted"), (f"{planted.LAYER}@none",))
    return found


def _build_bundle(world: World) -> None:
    """Build or complete the bundle, then add what is known of its neurons and networks."""
    plan = world.plan
    targets = demo_targets(world.folder)
    taps = {name: tuple(select_layers(model, list(layers)))
            for name, (model, layers) in targets.items()}  # fmt: skip
    request = pipeline.BuildRequest(
        out=world.path(BUNDLE),
        probe=read_probe_set(world.path("probe") / "probe.csv"),
        targets=tuple(pipeline.Target(targets[name][0], taps[name]) for name in targets),
        encoder=load_demo_encoder(world.path("encoder")),
        captioner=load_captioner(world.path("captioner")),
        vocabulary=read_vocabulary([str(world.path("vocabulary.txt"))]),
        recipe=Recipe(
            n_exemplars=plan.n_exemplars,
            n_score=min(30, plan.n_exemplars),
            n_partners=plan.n_partners,
            seed=plan.seed,
        ),
        thumbnail_side=plan.thumbnail_side,
    )
    pipeline.build(request, world.progress)
    held = held_out(world)
    concepts = concept_table(held.cases)
    truth = {}
    for name, (model, _) in targets.items():
        found = activations_of(model, taps[name], held.image_nhwc, world.progress)
        truth.update({(name, layer): act_un for layer, act_un in found.items()})
    pipeline.add_truth(
        world.path(BUNDLE),
        truth,
        concepts.to_numpy(bool),
        list(concepts),
        {name: captions.WORDINGS[name] + captions.HELD_OUT[name] for name in CONCEPTS},
        {
            "images": f"{plan.n_held_out} simulated photographs, scenario 'probe', not in the "
            "probe set and not trained on",
            "truth": "controls of the simulator",
            "render_version": render.VERSION,
        },
        kinds={name: kind for name, (kind, _) in CONCEPTS.items()},
        planted={("planted", f"{planted.LAYER}@none"): planted.read_units(world.path("planted"))},
        progress=world.progress,
    )
    slices = pd.read_csv(world.path("slices.csv"))
    pipeline.add_performance(
        world.path(BUNDLE),
        {name: rows.drop(columns="model") for name, rows in slices.groupby("model", sort=False)},
    )


def activations_of(
    model: TargetModel, taps: tuple[Any, ...], image_nhwc: np.ndarray, progress: Progress
) -> dict[str, np.ndarray]:
    """Pooled activations of some layers on pictures, ``(u, n)`` by layer id."""
    parts: dict[str, list[np.ndarray]] = {str(tap.id): [] for tap in taps}
    done = 0
    with ActivationRecorder(model, taps) as recorder:
        for block in _blocks(list(image_nhwc)):
            for layer, act_nu in recorder(np.stack([model.preprocess(i) for i in block])).items():
                parts[layer].append(act_nu)
            done += len(block)
            progress(f"held-out images ({model.name})", done, len(image_nhwc))
    return {layer: np.concatenate(found).T for layer, found in parts.items()}


# --- how good it is ----------------------------------------------------------------------------


def _write_quality(world: World, target: Path) -> None:
    text = json.dumps(quality(world), indent=1, allow_nan=False) + "\n"
    target.write_text(text, encoding="utf-8")


def quality(world: World) -> dict[str, Any]:
    """Every figure the cards quote, measured on held-out photographs and on the bundle."""
    held = held_out(world)
    concepts = concept_table(held.cases)
    loaded = load_demo_encoder(world.path("encoder"))
    image_nd = embed_pictures(loaded, held.image_nhwc)
    zero_shot = {
        kind: encoder.zero_shot_auroc(loaded, image_nd, concepts, wordings)
        for kind, wordings in {
            "names": {name: (name,) for name in CONCEPTS},
            "wordings": captions.WORDINGS,
            "held_out_wordings": captions.HELD_OUT,
        }.items()
    }
    bundle = Bundle.open(world.path(BUNDLE))
    recall = search_recall(bundle, "csp", loaded, progress=world.progress)
    return {
        "n_held_out": len(held.cases),
        "zero_shot": {
            kind: {
                "mean": round(float(np.mean(list(found.values()))), 4),
                "lowest": min(found, key=found.__getitem__),
                "by_concept": {name: round(value, 4) for name, value in found.items()},
            }
            for kind, found in zero_shot.items()
        },
        "accuracy": pd.read_csv(world.path("slices.csv")).round(4).to_dict("records"),
        "captioner": captioner.measure_captioner(
            load_captioner(world.path("captioner")),
            image_nd,
            concepts.to_numpy(bool),
            captions.WORDINGS,
        ),
        "labels": _plain(label_accuracy(bundle)),
        "search": _plain(recall_summary(recall)),
        "search_missed": recall.loc[~recall["is_found"], ["concept", "wording"]].to_dict("records"),
        "neurons": {
            f"{model}/{layer}": bundle.stage(f"truth:{model}/{layer}").facts
            for model in bundle.model_names
            for layer in bundle.layers(model)
        },
    }


def _plain(value: Any) -> Any:
    """JSON-ready: numbers of numpy become Python's, NaN becomes None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value
