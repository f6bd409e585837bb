"""Reading bundles: every array memory-mapped, every table on demand, nothing computed."""

from __future__ import annotations

import json
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from csp_engine.bundle.manifest import MANIFEST_NAME, Manifest, StageRecord, read_manifest
from csp_engine.errors import BundleError, MissingModelError
from csp_engine.hashing import sha256_file
from csp_engine.types import ContrastSet, Exemplars, LabelScores


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Images of each unit not chosen for being strongest: by activation band, and at random.

    ``stratum_s`` is the band of each stratified column, 0 for the weakest.
    """

    stratified_image_us: np.ndarray
    stratified_activation_us: np.ndarray
    stratum_s: np.ndarray
    random_image_us: np.ndarray
    random_activation_us: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class StoredInfluence:
    """Which outputs each unit drives: mean gradient x activation and direct weight, per output."""

    output_names: tuple[str, ...]
    gradient_activation_cu: np.ndarray
    n_image_c: np.ndarray
    direct_weight_cu: np.ndarray | None
    is_predicted_class: bool


@dataclass(frozen=True, slots=True, eq=False)
class StoredTruth:
    """What the units of a layer really answer to, on ``n_image`` images with known concepts.

    ``concepts`` has one row per concept, ``units`` one per unit (docs/bundle.md names the columns);
    ``rule`` says when a concept counts as the true one of a unit, and where the images came from.
    ``n_group`` counts what the images are grouped by, and equals ``n_image`` where they are not.
    ``more`` holds the figures of other metrics by name, ``(u, c)``.
    """

    concepts: pd.DataFrame
    units: pd.DataFrame
    pearson_uc: np.ndarray
    auroc_uc: np.ndarray
    auprc_uc: np.ndarray
    n_image: int
    n_group: int
    rule: Mapping[str, Any]
    more: Mapping[str, np.ndarray]

    def wordings(self) -> dict[str, tuple[str, ...]]:
        """Concept name → the texts that count as naming it, the usual one first."""
        return {
            name: tuple(json.loads(texts))
            for name, texts in zip(self.concepts["name"], self.concepts["wordings"], strict=True)
        }


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """A flat map of the concept vectors of one method.

    ``kind`` is ``umap`` or ``pca``; ``rows`` is model, layer and unit of every row of ``xy_u2``,
    which is NaN for neurons without evidence. ``neighbour_recall`` is the share of the ten nearest
    in the original space that are nearest on the map, or None where there are too few.
    """

    method: str
    kind: str
    rows: pd.DataFrame
    xy_u2: np.ndarray
    neighbour_recall: float | None


class StreamedArray(np.memmap):
    """A memory-mapped array whose reads are copies that leave no mapped pages behind.

    Pages that were read stay in a process's resident memory until the system wants them back; over
    a large array that looks like, and on a small machine is, memory that grows with the probe set.
    """

    def __getitem__(self, key: Any) -> Any:
        values = np.array(super().__getitem__(key))
        pages = getattr(self, "_mmap", None)
        if pages is not None and hasattr(mmap, "MADV_DONTNEED"):
            pages.madvise(mmap.MADV_DONTNEED)
        return values


class Bundle:
    """A finished bundle on disk, read-only.

    Opening reads the manifest and nothing else; arrays are memory-mapped when first asked for.
    Instances may be shared between threads.
    """

    def __init__(self, path: Path, manifest: Manifest, digest: str) -> None:
        self.path = path
        self.manifest = manifest
        self.digest = digest
        self._cache: dict[tuple[str, ...], Any] = {}

    @classmethod
    def open(cls, path: Path | str) -> Bundle:
        """Open a bundle.

        Raises:
            BundleError: if it is missing, damaged or of another schema.
        """
        path = Path(path)
        manifest = read_manifest(path)
        digest = sha256_file(path / MANIFEST_NAME)
        return cls(path, manifest, digest)

    @property
    def name(self) -> str:
        """The folder's name without ``.csp``."""
        return self.path.resolve().name.removesuffix(".csp")

    # ---------------------------------------------------------------- what there is

    def has(self, stage: str) -> bool:
        """Whether a stage is committed."""
        return stage in self.manifest.stages

    @property
    def omitted(self) -> tuple[str, ...]:
        """Stages whose files this copy of the bundle leaves out."""
        return tuple(name for name, record in self.manifest.stages.items() if record.omitted)

    @property
    def notice(self) -> str:
        """What everyone who looks at the probe images must know; empty where nobody said so."""
        return str(self.manifest.inputs.get("probe", {}).get("notice", ""))

    def beside(self, spec: str) -> str:
        """A model spec in which ``./`` stands for the folder that holds the bundle.

        ``open_clip/./encoder`` of ``demo/a.csp`` is ``open_clip//…/demo/encoder``; a spec without
        such a part comes back as it is.

        Raises:
            MissingModelError: if nothing lies there.
        """
        kind, slash, rest = ("", "", spec) if spec.startswith("./") else spec.partition("/")
        if not rest.startswith("./"):
            return spec
        place = self.path.resolve().parent / rest.removeprefix("./")
        if not place.exists():
            raise MissingModelError(
                f"{place} belongs beside bundle {self.name} and is not there; restore it from "
                "where the bundle came from."
            )
        return f"{kind}{slash}{place}"

    def stage(self, name: str) -> StageRecord:
        """The record of a stage.

        Raises:
            BundleError: if the bundle lacks it; the sentence names what it has.
        """
        try:
            return self.manifest.stages[name]
        except KeyError:
            kind = name.partition(":")[0]
            same = [s for s in self.manifest.stages if s.partition(":")[0] == kind]
            have = ", ".join(same or sorted({s.partition(":")[0] for s in self.manifest.stages}))
            raise BundleError(
                f"Bundle {self.name} has no stage {name!r}; it has {have or 'none yet'}. "
                "Run 'csp build' with the same output to complete it."
            ) from None

    @cached_property
    def model_names(self) -> tuple[str, ...]:
        """Names of the target models, in the order they were added."""
        described = self.manifest.inputs.get("models", {})
        return tuple(
            m
            for m in sorted(described, key=lambda m: described[m].get("order", 0))
            if self.layers(m)
        )

    def layers(self, model: str) -> tuple[str, ...]:
        """Layer ids of a model that have exemplars, in the order they were asked for."""
        prefix = f"neurons:{model}/"
        found = [s.removeprefix(prefix) for s in self.manifest.stages if s.startswith(prefix)]
        order = self.manifest.inputs.get("models", {}).get(model, {}).get("layers", [])
        rank = {layer: place for place, layer in enumerate(order)}
        return tuple(sorted(found, key=lambda layer: (rank.get(layer, len(rank)), layer)))

    def methods(self, model: str, layer: str) -> tuple[str, ...]:
        """Names of the label methods that scored a layer: those of the recipe first."""
        prefix = f"scores:{model}/{layer}/"
        found = [s.removeprefix(prefix) for s in self.manifest.stages if s.startswith(prefix)]
        order = list(self.manifest.recipe.get("methods", []))
        return tuple(sorted(found, key=lambda m: (order.index(m) if m in order else 99, m)))

    @property
    def n_images(self) -> int:
        """Number of probe images that could be read."""
        return int(self.stage("images").facts["n_images"])

    def n_units(self, model: str, layer: str) -> int:
        """Number of units of a layer."""
        return int(self.stage(f"neurons:{model}/{layer}").facts["n_units"])

    # ---------------------------------------------------------------- files

    def file(self, stage: str, name: str) -> Path:
        """The path of one file of a stage, checked to be whole in size.

        Raises:
            BundleError: if the manifest does not list it, this copy leaves it out, or it is missing
                or cut off.
        """
        record = self.stage(stage)
        if record.omitted:
            raise BundleError(self.left_out(stage))
        entry = record.files.get(name)
        if entry is None:
            raise BundleError(
                f"Stage {stage!r} of bundle {self.name} has no file {name!r}; "
                f"it has {', '.join(record.files)}."
            )
        path = self.path / record.directory / name
        size = path.stat().st_size if path.is_file() else None
        if size != entry.bytes:
            what = "is missing" if size is None else f"has {size} bytes instead of {entry.bytes}"
            raise BundleError(
                f"Bundle {self.name} is damaged: {record.directory}/{name} {what}; "
                "run 'csp build' with the same inputs to repair it."
            )
        return path

    def left_out(self, stage: str) -> str:
        """The sentence for whoever needs an omitted stage."""
        return (
            f"This copy of bundle {self.name} leaves out {stage} to stay small; measure it again "
            "by 'csp build' with the same images, models and output, or ask for a whole copy."
        )

    def array(self, stage: str, name: str) -> np.ndarray:
        """A memory-mapped, read-only array of a stage."""
        key = (stage, name)
        if key not in self._cache:
            path = self.file(stage, f"{name}.npy")
            entry = self.stage(stage).files[f"{name}.npy"]
            try:
                values = np.load(path, mmap_mode="r", allow_pickle=False)
            except ValueError:
                values = None
            if values is None or (str(values.dtype), values.shape) != (entry.dtype, entry.shape):
                raise BundleError(
                    f"Bundle {self.name} is damaged: {path.name} of stage {stage!r} is not the "
                    "array the manifest lists; run 'csp verify' to see what else is."
                )
            self._cache[key] = values
        return self._cache[key]

    def table(self, stage: str, name: str) -> pd.DataFrame:
        """A table of a stage, kept after the first reading; do not change it."""
        key = (stage, name)
        if key not in self._cache:
            path = self.file(stage, f"{name}.parquet")
            try:
                self._cache[key] = pd.read_parquet(path)
            except (OSError, ValueError) as error:
                raise BundleError(
                    f"Bundle {self.name} is damaged: {path.name} of stage {stage!r} cannot be read "
                    f"({type(error).__name__}); run 'csp verify' to see what else is."
                ) from None
        return self._cache[key]

    def streamed(self, stage: str, name: str) -> np.ndarray:
        """The same array, for reading large parts of it once: see ``StreamedArray``."""
        return self.array(stage, name).view(StreamedArray)

    # ---------------------------------------------------------------- images

    def images(self) -> pd.DataFrame:
        """One row per probe image: file, metadata, size, hashes and near-duplicate group."""
        if ("images",) not in self._cache:
            probe, pixels = self.table("probe", "probe"), self.table("images", "images")
            extra = [c for c in pixels.columns if c not in probe.columns]
            self._cache[("images",)] = pd.concat([probe, pixels[extra]], axis=1)
        return self._cache[("images",)]

    def skipped(self) -> pd.DataFrame:
        """The listed files that could not be read: file and reason."""
        return self.table("probe", "skipped")

    def thumbnail(self, image: int) -> bytes:
        """The WebP thumbnail of an image.

        Raises:
            IndexError: if there is no such image.
        """
        if not 0 <= image < self.n_images:
            raise IndexError(f"image {image} is not among 0..{self.n_images - 1}")
        offsets = self.array("images", "thumb_offset")
        start, end = int(offsets[image]), int(offsets[image + 1])
        if ("thumbs",) not in self._cache:
            path = self.file("images", "thumbs.bin")
            self._cache[("thumbs",)] = np.memmap(path, np.uint8, "r")
        return self._cache[("thumbs",)][start:end].tobytes()

    def image_vectors(self) -> np.ndarray:
        """Unit rows of the encoder for every probe image, ``(n, d)``."""
        return self.array("embeddings", "image")

    # ---------------------------------------------------------------- labels

    def labels(self) -> pd.DataFrame:
        """The vocabulary: text and source of every label."""
        return self.table("vocabulary", "labels")

    @cached_property
    def label_ids(self) -> dict[str, int]:
        """The number of each label of the vocabulary, by its text."""
        found: dict[str, int] = {}
        for at, text in enumerate(self.labels()["text"].tolist()):
            found.setdefault(text, at)
        return found

    def label_vectors(self) -> np.ndarray:
        """Vectors of the labels, ``(t, d)``, averaged over templates as the manifest says."""
        return self.array("vocabulary", "text")

    def empty_text_vector(self) -> np.ndarray | None:
        """The unit vector of the templates without a text, or None where the encoder has none."""
        has_it = "empty.npy" in self.stage("vocabulary").files
        return self.array("vocabulary", "empty") if has_it else None

    def method_labels(self, model: str, layer: str, method: str) -> pd.DataFrame:
        """The texts ``label_uk`` of a method counts in: its own if imported, else ``labels()``."""
        stage = f"scores:{model}/{layer}/{method}"
        if "labels.parquet" in self.stage(stage).files:
            return self.table(stage, "labels")
        return self.labels()

    def candidates(self, model: str, layer: str) -> pd.DataFrame | None:
        """What a captioner proposed for each unit, or None if none was asked.

        Columns unit, mode, rank, text, log_p, log_prior, pmi; see docs/bundle.md.
        """
        stage = f"candidates:{model}/{layer}"
        return self.table(stage, "candidates") if self.has(stage) else None

    # ---------------------------------------------------------------- one layer

    def activations(self, model: str, layer: str) -> np.ndarray:
        """All activations of a layer, ``(u, n)``."""
        return self.array(f"activations:{model}/{layer}", "activation")

    def units(self, model: str, layer: str) -> pd.DataFrame:
        """One row per unit: statistics, flags, and the columns of audits where they exist."""
        key = ("units", model, layer)
        if key not in self._cache:
            rows = self.table(f"neurons:{model}/{layer}", "units")
            own = f"statistic:{model}/{layer}/"
            audits = [
                f"audit:{model}/{layer}",
                *(s for s in self.manifest.stages if s.startswith(own)),
            ]
            for audit in filter(self.has, audits):
                rows = pd.concat([rows, self.table(audit, "units")], axis=1)
            self._cache[key] = rows
        return self._cache[key]

    def histograms(self, model: str, layer: str) -> np.ndarray:
        """Counts of activations in equal-width bins between each unit's min and max, ``(u, b)``."""
        return self.array(f"neurons:{model}/{layer}", "histogram")

    def quantiles(self, model: str, layer: str) -> np.ndarray:
        """Activation quantiles ``(u, q)``; the levels are in the stage's facts."""
        return self.array(f"neurons:{model}/{layer}", "quantile")

    def exemplars(self, model: str, layer: str) -> Exemplars:
        """The strongest images of every unit."""
        stage = f"neurons:{model}/{layer}"
        return Exemplars(
            self.array(stage, "exemplar_image"),
            self.array(stage, "exemplar_activation"),
            self.array(stage, "exemplar_count"),
        )

    def samples(self, model: str, layer: str) -> Samples:
        """Stratified and random images of every unit."""
        stage = f"neurons:{model}/{layer}"
        return Samples(
            self.array(stage, "stratified_image"),
            self.array(stage, "stratified_activation"),
            self.array(stage, "stratum"),
            self.array(stage, "random_image"),
            self.array(stage, "random_activation"),
        )

    def contrast(self, model: str, layer: str) -> ContrastSet:
        """The contrast images of every exemplar."""
        return read_contrast(self, f"contrast:{model}/{layer}")

    def scores(self, model: str, layer: str, method: str) -> LabelScores:
        """The best labels of every unit by one method."""
        stage = f"scores:{model}/{layer}/{method}"
        names = LabelScores.__dataclass_fields__
        return LabelScores(**{name: self.array(stage, name) for name in names})

    def score_array(self, model: str, layer: str, method: str, name: str) -> np.ndarray:
        """An extra array of a method, such as ``anchor`` and ``projection`` of CSP."""
        return self.array(f"scores:{model}/{layer}/{method}", name)

    def performance(self, model: str) -> pd.DataFrame | None:
        """How often a target model is right on each test slice; None where nobody measured it."""
        stage = f"performance:{model}"
        return self.table(stage, "slices") if self.has(stage) else None

    def influence(self, model: str, layer: str) -> StoredInfluence | None:
        """Which outputs the units drive, or None where the model is no classifier."""
        stage = f"influence:{model}/{layer}"
        if not self.has(stage):
            return None
        record = self.stage(stage)
        direct = "direct_weight.npy" in record.files
        return StoredInfluence(
            tuple(self.table(stage, "outputs")["name"]),
            self.array(stage, "gradient_activation"),
            self.array(stage, "n_image"),
            self.array(stage, "direct_weight") if direct else None,
            bool(record.facts["is_predicted_class"]),
        )

    def truth(self, model: str, layer: str) -> StoredTruth | None:
        """What the units really answer to, or None where nobody has measured it."""
        stage = f"truth:{model}/{layer}"
        if not self.has(stage):
            return None
        record = self.stage(stage)
        return StoredTruth(
            self.table(stage, "concepts"),
            self.table(stage, "units"),
            self.array(stage, "pearson_uc"),
            self.array(stage, "auroc_uc"),
            self.array(stage, "auprc_uc"),
            int(record.facts["n_images"]),
            int(record.facts["n_groups"]),
            record.params,
            {name: self.array(stage, f"{name}_uc") for name in record.params.get("metrics", {})},
        )

    def classes(self) -> pd.DataFrame:
        """Class names of the probe set and how many images carry each; empty without classes."""
        return self.table("probe", "classes")

    def class_counts(self, model: str, layer: str) -> pd.DataFrame:
        """How many exemplars of each unit carry each class: unit, class (row of classes), count."""
        return self.table(f"neurons:{model}/{layer}", "class_counts")

    def index_path(self, method: str) -> Path:
        """The FAISS index over concept vectors of one method."""
        return self.file(f"index:{method}", "index.faiss")

    def index_rows(self, method: str) -> pd.DataFrame:
        """Model, layer and unit of each row of the index."""
        return self.table(f"index:{method}", "rows")

    def projection(self) -> Projection | None:
        """The flat map of concept vectors, or None where the bundle has none."""
        found = [name for name in self.manifest.stages if name.startswith("projection:")]
        if not found:
            return None
        facts = self.stage(found[0]).facts
        return Projection(
            found[0].removeprefix("projection:"),
            str(facts["kind"]),
            self.table(found[0], "rows"),
            self.array(found[0], "xy"),
            facts.get("neighbour_recall"),
        )


def read_contrast(bundle: Bundle, stage: str) -> ContrastSet:
    """Contrast arrays of a stage, shared by ``contrast`` and ``null`` stages."""
    return ContrastSet(
        bundle.array(stage, "contrast_image"),
        bundle.array(stage, "contrast_similarity"),
        bundle.array(stage, "contrast_activation"),
        bundle.array(stage, "n_partner"),
        bundle.array(stage, "pool"),
        bundle.array(stage, "threshold"),
    )
