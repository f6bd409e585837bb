"""Reading bundles: what each kind of stage holds, by model, layer and method."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from csp_engine.bundle import kinds
from csp_engine.bundle.files import IN_MEMORY, StageFiles
from csp_engine.bundle.manifest import read_whole_manifest
from csp_engine.bundle.passing.sparse import IMAGE, START, VALUE, SparseActivations
from csp_engine.bundle.stored import (
    CURVES_TEXTS,
    FIX_TEXTS,
    Projection,
    Samples,
    StoredAssociation,
    StoredCircuit,
    StoredColumns,
    StoredCurves,
    StoredFactors,
    StoredFix,
    StoredInfluence,
    StoredIntervention,
    StoredMapChecks,
    StoredTruth,
)
from csp_engine.errors import MissingModelError
from csp_engine.types import ContrastSet, Exemplars, LabelScores


class Bundle(StageFiles):
    """A finished bundle on disk, read-only.

    Opening reads and checks the manifest and nothing else; files are checked when first asked for.
    Instances may be shared between threads.
    """

    @classmethod
    def open(cls, path: Path | str) -> Bundle:
        """Open a bundle.

        Raises:
            BundleError: if it is missing, damaged or of another schema.
        """
        path = Path(path)
        return cls(path, *read_whole_manifest(path))

    # ---------------------------------------------------------------- what there is

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
        held = kinds.NEURONS.among(self.manifest.stages)
        found = [layer for named, layer in held if named == model]
        order = self.manifest.inputs.get("models", {}).get(model, {}).get("layers", [])
        rank = {layer: place for place, layer in enumerate(order)}
        return tuple(sorted(found, key=lambda layer: (rank.get(layer, len(rank)), layer)))

    def methods(self, model: str, layer: str) -> tuple[str, ...]:
        """Names of the label methods that scored a layer: those of the recipe first."""
        # Asked many times for one neuron, so names are compared before they are taken apart.
        start = kinds.SCORES.name(model, layer, "")
        rests = [s.removeprefix(start) for s in self.manifest.stages if s.startswith(start)]
        found = [rest for rest in rests if "/" not in rest]  # with one, it is another model's
        order = list(self.manifest.recipe.get("methods", []))
        return tuple(sorted(found, key=lambda m: (order.index(m) if m in order else 99, m)))

    @property
    def n_images(self) -> int:
        """Number of probe images that could be read."""
        return int(self.fact(kinds.IMAGES.name(), "n_images"))

    def n_units(self, model: str, layer: str) -> int:
        """Number of units of a layer."""
        return int(self.fact(kinds.NEURONS.name(model, layer), "n_units"))

    # ---------------------------------------------------------------- images

    def images(self) -> pd.DataFrame:
        """One row per probe image: file, metadata, size, hashes and near-duplicate group."""
        if ("images",) not in self._cache:
            probe = self.table(kinds.PROBE.name(), "probe")
            pixels = self.table(kinds.IMAGES.name(), "images")
            extra = [c for c in pixels.columns if c not in probe.columns]
            self._cache[("images",)] = pd.concat([probe, pixels[extra]], axis=1)
        return self._cache[("images",)]

    def skipped(self) -> pd.DataFrame:
        """The listed files that could not be read: file and reason."""
        return self.table(kinds.PROBE.name(), "skipped")

    def thumbnail(self, image: int) -> bytes:
        """The WebP thumbnail of an image.

        Raises:
            IndexError: if there is no such image.
        """
        if not 0 <= image < self.n_images:
            raise IndexError(f"image {image} is not among 0..{self.n_images - 1}")
        return self._picture(kinds.IMAGES.name(), image)

    def _picture(self, stage: str, number: int) -> bytes:
        """One of the pictures that a stage keeps in ``thumbs.bin``."""
        offsets = self.array(stage, "thumb_offset")
        start, end = int(offsets[number]), int(offsets[number + 1])
        handle = self.kept_open(stage, "thumbs.bin")
        content = os.pread(handle.fileno(), end - start, start)
        self.kept_open(stage, "thumbs.bin")  # nothing was written meanwhile
        return content

    def image_vectors(self) -> np.ndarray:
        """Unit rows of the encoder for every probe image, ``(n, d)``."""
        return self.array(kinds.EMBEDDINGS.name(), "image")

    # ---------------------------------------------------------------- labels

    def labels(self) -> pd.DataFrame:
        """The vocabulary: text and source of every label."""
        return self.table(kinds.VOCABULARY.name(), "labels")

    @cached_property
    def label_ids(self) -> dict[str, int]:
        """The number of each label of the vocabulary, by its text."""
        found: dict[str, int] = {}
        for at, text in enumerate(self.labels()["text"].tolist()):
            found.setdefault(text, at)
        return found

    def label_vectors(self) -> np.ndarray:
        """Vectors of the labels, ``(t, d)``, averaged over templates as the manifest says."""
        return self.array(kinds.VOCABULARY.name(), "text")

    def empty_text_vector(self) -> np.ndarray | None:
        """The unit vector of the templates without a text, or None where the encoder has none."""
        has_it = "empty.npy" in self.stage(kinds.VOCABULARY.name()).files
        return self.array(kinds.VOCABULARY.name(), "empty") if has_it else None

    def method_labels(self, model: str, layer: str, method: str) -> pd.DataFrame:
        """The texts ``label_uk`` of a method counts in: its own if imported, else ``labels()``."""
        stage = kinds.SCORES.name(model, layer, method)
        if "labels.parquet" in self.stage(stage).files:
            return self.table(stage, "labels")
        return self.labels()

    def best_texts(self, model: str, layer: str, method: str) -> np.ndarray:
        """The best label of every unit by a method, ``(u,)``; empty where it has none."""
        if method not in self.methods(model, layer):
            return np.full(self.n_units(model, layer), "", object)
        scores = self.scores(model, layer, method)
        texts = self.method_labels(model, layer, method)["text"].to_numpy(object)
        has_u = np.asarray(scores.count_u) > 0
        best_u = np.full(len(has_u), "", object)
        best_u[has_u] = texts[np.asarray(scores.label_uk[:, 0])[has_u]]
        return best_u

    def imported_weights(self, model: str, layer: str, method: str) -> np.ndarray | None:
        """The weights of labels that are concepts of an imported sum, ``(u, l)``; else None."""
        stage = kinds.SCORES.name(model, layer, method)
        has_any = "weight_uk.npy" in self.stage(stage).files
        return self.array(stage, "weight_uk") if has_any else None

    def candidates(self, model: str, layer: str) -> pd.DataFrame | None:
        """What a captioner proposed for each unit, or None if none was asked.

        Columns unit, mode, rank, text, log_p, log_prior, pmi; see docs/bundle.md.
        """
        stage = kinds.CANDIDATES.name(model, layer)
        return self.table(stage, "candidates") if self.has(stage) else None

    def answers(self, model: str, layer: str) -> pd.DataFrame | None:
        """What a captioner that is shown pictures said of each unit, or None: docs/bundle.md."""
        stage = kinds.CANDIDATES.name(model, layer)
        has_any = self.has(stage) and "answers.parquet" in self.stage(stage).files
        return self.table(stage, "answers") if has_any else None

    # ---------------------------------------------------------------- one layer

    def activations(self, model: str, layer: str, *, once: bool = False) -> Any:
        """All activations of a layer, ``(u, n)``: an array, or what gives rows as one does.

        Those of an autoencoder's latents may be ``SparseActivations``.

        Args:
            model: name of a target model.
            layer: id of one of its layers.
            once: whether large parts are read once, as by ``streamed``.
        """
        stage = kinds.ACTIVATIONS.name(model, layer)
        read = self.streamed if once else self.array
        if not self.is_sparse(model, layer):
            return read(stage, "activation")
        start_v = self.array(stage, START)
        where = f"{stage} of bundle {self.name}"
        values = read(stage, IMAGE), read(stage, VALUE)
        return SparseActivations(where, self.n_images, start_v, *values)

    def is_sparse(self, model: str, layer: str) -> bool:
        """Whether only those activations of a layer are kept that are not zero."""
        return f"{START}.npy" in self.stage(kinds.ACTIVATIONS.name(model, layer)).files

    def units(self, model: str, layer: str) -> pd.DataFrame:
        """One row per unit: statistics, flags, and the columns of audits where they exist."""
        key = ("units", model, layer)
        if key not in self._cache:
            rows = self.table(kinds.NEURONS.name(model, layer), "units")
            statistics = kinds.STATISTIC.among(self.manifest.stages)
            audits = [
                kinds.AUDIT.name(model, layer),
                *(kinds.STATISTIC.name(*of) for of in statistics if of[:2] == (model, layer)),
            ]
            for audit in filter(self.has, audits):
                rows = pd.concat([rows, self.table(audit, "units")], axis=1)
            self._cache[key] = rows
        return self._cache[key]

    def histograms(self, model: str, layer: str) -> np.ndarray:
        """Counts of activations in equal-width bins between each unit's min and max, ``(u, b)``."""
        return self.array(kinds.NEURONS.name(model, layer), "histogram")

    def quantiles(self, model: str, layer: str) -> np.ndarray:
        """Activation quantiles ``(u, q)``; the levels are in the stage's facts."""
        return self.array(kinds.NEURONS.name(model, layer), "quantile")

    def exemplars(self, model: str, layer: str) -> Exemplars:
        """The strongest images of every unit."""
        stage = kinds.NEURONS.name(model, layer)
        return Exemplars(
            self.array(stage, "exemplar_image"),
            self.array(stage, "exemplar_activation"),
            self.array(stage, "exemplar_count"),
        )

    def random_sets(self) -> Exemplars:
        """The exemplars of units whose activations are noise."""
        names = ("exemplar_image", "exemplar_activation", "exemplar_count")
        return Exemplars(*(self.array(kinds.NULL.name(), name) for name in names))

    def samples(self, model: str, layer: str) -> Samples:
        """Stratified and random images of every unit."""
        stage = kinds.NEURONS.name(model, layer)
        return Samples(
            self.array(stage, "stratified_image"),
            self.array(stage, "stratified_activation"),
            self.array(stage, "stratum"),
            self.array(stage, "random_image"),
            self.array(stage, "random_activation"),
        )

    def contrast(self, model: str, layer: str) -> ContrastSet:
        """The contrast images of every exemplar."""
        return read_contrast(self, kinds.CONTRAST.name(model, layer))

    def scores(self, model: str, layer: str, method: str) -> LabelScores:
        """The best labels of every unit by one method."""
        stage = kinds.SCORES.name(model, layer, method)
        names = LabelScores.__dataclass_fields__
        return LabelScores(**{name: self.array(stage, name) for name in names})

    def score_array(self, model: str, layer: str, method: str, name: str) -> np.ndarray:
        """An extra array of a method, such as ``anchor`` and ``projection`` of CSP."""
        return self.array(kinds.SCORES.name(model, layer, method), name)

    def performance(self, model: str) -> pd.DataFrame | None:
        """How often a target model is right on each test slice; None where nobody measured it."""
        stage = kinds.PERFORMANCE.name(model)
        return self.table(stage, "slices") if self.has(stage) else None

    def seen(self, model: str) -> bytes | None:
        """A WebP picture of what a model and the encoder get of a few images, or None."""
        stage = kinds.SEEN.name(model)
        return self.content(stage, "sheet.webp") if self.has(stage) else None

    def influence(self, model: str, layer: str) -> StoredInfluence | None:
        """Which outputs the units drive, or None where the model is no classifier."""
        stage = kinds.INFLUENCE.name(model, layer)
        if not self.has(stage):
            return None
        record = self.stage(stage)
        direct = "direct_weight.npy" in record.files
        return StoredInfluence(
            tuple(self.table(stage, "outputs")["name"]),
            self.array(stage, "gradient_activation"),
            self.array(stage, "n_image"),
            self.array(stage, "direct_weight") if direct else None,
            bool(self.fact(stage, "is_predicted_class")),
        )

    def circuit(self, model: str) -> StoredCircuit | None:
        """Which neurons feed which, for each output; None where nobody measured it."""
        stage = kinds.CIRCUIT.name(model)
        if not self.has(stage):
            return None
        tables = (self.table(stage, name) for name in ("outputs", "nodes", "edges"))
        return StoredCircuit(*tables, bool(self.fact(stage, "is_predicted_class")))

    def intervention(self, model: str) -> StoredIntervention | None:
        """What adding things to photographs does to an output; None where nobody tried."""
        stage = kinds.INTERVENTION.name(model)
        if not self.has(stage):
            return None
        names = ("effects", "pairs", "units", "sets", "shown")
        return StoredIntervention(
            str(self.fact(stage, "output")),
            str(self.fact(stage, "images")),
            *(self.table(stage, name) for name in names),
            *(
                self.table(stage, name) if f"{name}.parquet" in self.stage(stage).files else None
                for name in ("gates", "given")
            ),
        )

    def map_checks(self, model: str, layer: str) -> StoredMapChecks | None:
        """How well maps of a layer point at things; None where nobody has tried."""
        stage = kinds.MAPS.name(model, layer)
        if not self.has(stage):
            return None
        names = ("photographs", "units")
        return StoredMapChecks(
            str(self.fact(stage, "images")), *(self.table(stage, name) for name in names)
        )

    def shown_pair(self, model: str, picture: int) -> bytes:
        """A WebP picture of a pair, by its row in ``shown``.

        Raises:
            IndexError: if there is no such picture.
        """
        stage = kinds.INTERVENTION.name(model)
        n_pictures = len(self.array(stage, "thumb_offset")) - 1
        if not 0 <= picture < n_pictures:
            raise IndexError(f"picture {picture} is not among 0..{n_pictures - 1}")
        return self._picture(stage, picture)

    def fixes(self, model: str) -> tuple[str, ...]:
        """Names of what was taken out of a model to see what becomes of its decisions."""
        return tuple(name for of, name in kinds.FIX.among(self.manifest.stages) if of == model)

    def fix(self, model: str, name: str) -> StoredFix:
        """One of them."""
        stage = kinds.FIX.name(model, name)
        tables = {each: self.table(stage, each) for each in ("photographs", "runs", "cuts")}
        shown = self.table(stage, "shown")
        return StoredFix(
            *(str(self.fact(stage, each)) for each in FIX_TEXTS),
            classes=tuple(map(str, self.fact(stage, "classes"))),
            **tables,
            score_wi=self.array(stage, "score"),
            called_vi=self.array(stage, "called"),
            shown=shown,
            thumbs=tuple(self._picture(stage, i) for i in range(len(shown))),
        )

    def factors(self, model: str, layer: str) -> StoredFactors | None:
        """Factors of a layer that push wrong decisions; None where nobody looked for them."""
        stage = kinds.FACTORS.name(model, layer)
        if not self.has(stage):
            return None
        shown = self.table(stage, "shown")
        return StoredFactors(
            str(self.fact(stage, "images")),
            tuple(map(str, self.fact(stage, "classes"))),
            int(self.fact(stage, "n_tried")),
            int(self.fact(stage, "n_random")),
            self.table(stage, "photographs"),
            self.table(stage, "factors"),
            *(self.array(stage, name) for name in ("direction", "push", "called")),
            shown,
            tuple(self._picture(stage, i) for i in range(len(shown))),
        )

    def curves(self, model: str, layer: str) -> StoredCurves | None:
        """Decisions while more and more of a layer is held still; None where nobody tried."""
        stage = kinds.CURVES.name(model, layer)
        if not self.has(stage):
            return None
        return StoredCurves(
            *(str(self.fact(stage, each)) for each in CURVES_TEXTS),
            words=tuple(map(str, self.fact(stage, "words"))),
            classes=tuple(map(str, self.fact(stage, "classes"))),
            seed=int(self.fact(stage, "seed")),
            **{each: self.table(stage, each) for each in ("photographs", "orders", "runs")},
            called_vi=self.array(stage, "called"),
        )

    def truth(self, model: str, layer: str) -> StoredTruth | None:
        """What the units really answer to, or None where nobody has measured it."""
        stage = kinds.TRUTH.name(model, layer)
        if not self.has(stage):
            return None
        record = self.stage(stage)
        return StoredTruth(
            self.table(stage, "concepts"),
            self.table(stage, "units"),
            self.array(stage, "pearson_uc"),
            self.array(stage, "auroc_uc"),
            self.array(stage, "auprc_uc"),
            int(self.fact(stage, "n_images")),
            int(self.fact(stage, "n_groups")),
            record.params,
            {name: self.array(stage, f"{name}_uc") for name in record.params.get("metrics", {})},
        )

    def columns(self, model: str, layer: str) -> StoredColumns | None:
        """How strongly the units go with each concept column, or None where there are none."""
        stage = kinds.COLUMNS.name(model, layer)
        if not self.has(stage):
            return None
        return StoredColumns(
            self.table(stage, "columns"),
            self.array(stage, "pearson_uc"),
            self.array(stage, "auroc_uc"),
            self.array(stage, "auprc_uc"),
        )

    def association(self, model: str, layer: str) -> StoredAssociation | None:
        """Which units excite for which column, how surely, or None where nobody has looked."""
        stage = kinds.ASSOCIATION.name(model, layer)
        if not self.has(stage):
            return None
        return StoredAssociation(
            self.table(stage, "columns"),
            self.table(stage, "found"),
            int(self.fact(stage, "n_tests")),
            int(self.fact(stage, "n_images")),
            int(self.fact(stage, "n_groups")),
            self.stage(stage).params,
        )

    def faithfulness(self, model: str, layer: str, method: str) -> pd.DataFrame | None:
        """How well each best label predicts its unit, or None where nobody has measured it."""
        stage = kinds.FAITHFULNESS.name(model, layer, method)
        return self.table(stage, "units") if self.has(stage) else None

    def trust(self) -> pd.DataFrame | None:
        """Which figures tell right labels from wrong ones, or None where nobody has tried it."""
        stage = kinds.TRUST.name()
        return self.table(stage, "metrics") if self.has(stage) else None

    def classes(self) -> pd.DataFrame:
        """Class names of the probe set and how many images carry each; empty without classes."""
        return self.table(kinds.PROBE.name(), "classes")

    def first_copies(self) -> np.ndarray:
        """For each image the lowest with the same content."""
        return self.table(kinds.IMAGES.name(), "images")["duplicate_of"].to_numpy(np.int32)

    def class_counts(self, model: str, layer: str) -> pd.DataFrame:
        """How many exemplars of each unit carry each class: unit, class (row of classes), count."""
        return self.table(kinds.NEURONS.name(model, layer), "class_counts")

    def has_index_file(self, method: str) -> bool:
        """Whether the index of a method is stored; else it is made of the concept vectors."""
        return kinds.INDEX_FILE in self.stage(kinds.INDEX.name(method)).files

    def index_path(self, method: str) -> Path:
        """The FAISS index over concept vectors of one method."""
        return self.file(kinds.INDEX.name(method), kinds.INDEX_FILE)

    def index(self, method: str, most: int = 1 << 28) -> Any:
        """That index as FAISS reads it; memory-mapped where it is too large to hold in memory.

        Raises:
            RuntimeError: if FAISS does not know it as an index; MemoryError and AttributeError too.
        """
        import faiss

        stage, name = kinds.INDEX.name(method), kinds.INDEX_FILE
        n_bytes = self.listed(stage, name).bytes
        if n_bytes <= IN_MEMORY:
            content = self.content(stage, name)
        else:
            handle = self.kept_open(stage, name)
            if n_bytes > most:
                return faiss.read_index(str(self.index_path(method)), faiss.IO_FLAG_MMAP)
            content = os.pread(handle.fileno(), n_bytes, 0)
        return faiss.deserialize_index(np.frombuffer(content, np.uint8))

    def index_rows(self, method: str) -> pd.DataFrame:
        """Model, layer and unit of each row of the index."""
        return self.table(kinds.INDEX.name(method), "rows")

    def projection(self) -> Projection | None:
        """The flat map of concept vectors, or None where the bundle has none."""
        method = next((method for (method,) in kinds.PROJECTION.among(self.manifest.stages)), None)
        if method is None:
            return None
        stage = kinds.PROJECTION.name(method)
        facts = self.stage(stage).facts
        return Projection(
            method,
            str(self.fact(stage, "kind")),
            self.table(stage, "rows"),
            self.array(stage, "xy"),
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
