"""What every part of a build shares: the bundle being written and the keys that are current."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from csp_engine.bundle import Bundle, BundleWriter, StageFolder, StageRecord, kinds, stage_key
from csp_engine.bundle.kinds import stage_kind
from csp_engine.captioners import Captioner, generators
from csp_engine.errors import BundleError, InputError
from csp_engine.pipeline.recipe import Recipe
from csp_engine.search.projection import LayingOut, MapLayout, laid_out_later
from csp_engine.types import Encoder, Progress
from csp_engine.words.vocabularies import Vocabulary, label_table

if TYPE_CHECKING:
    from csp_engine.pipeline.passing.image_pass import Target
    from csp_engine.pipeline.sharing.dividing import Sharing

log = logging.getLogger(__name__)

MEASURED = [kind.prefix for kind in kinds.KINDS.values() if kind.is_measured]
"""Kinds of stages that come from images."""


@dataclass(frozen=True, slots=True, eq=False)
class Words:
    """Labels before candidates join them, and the hash they are known by."""

    vocabulary: Vocabulary
    sha256: str


class Keys:
    """The keys of the stages that are part of a build."""

    def __init__(self) -> None:
        self.keys: dict[str, str] = {}

    def key(
        self,
        name: str,
        params: Mapping[str, Any],
        needs: Sequence[str] = (),
        inputs: Mapping[str, str] | None = None,
        version: int | None = None,
    ) -> dict[str, Any]:
        """Register a stage as part of this build and return the arguments that identify it.

        The version is that of its kind, which a stage of an extension brings.

        Raises:
            InputError: if it needs what is not part of this build.
        """
        if lacking := [need for need in needs if need not in self.keys]:
            raise InputError(
                f"Stage {name!r} needs {lacking[0]!r}, which this build does not make."
            )
        identity = {
            "version": kinds.KINDS[stage_kind(name)].version if version is None else version,
            "params": dict(params),
            "needs": {need: self.keys[need] for need in needs},
            "inputs": dict(inputs or {}),
        }
        self.keys[name] = stage_key(name, **identity)
        return identity


class Run(Keys):
    """One run over the stages of one bundle; keeps the keys of the stages that are current."""

    def __init__(self, writer: BundleWriter, recipe: Recipe, progress: Progress) -> None:
        super().__init__()
        self.writer = writer
        self.recipe = recipe
        self.progress = progress
        self.layers: list[tuple[str, str]] = []
        self.described: dict[str, Any] = {}
        self.probe_root: Path | None = None  # where image files are, in a build from images
        self.words = Words(Vocabulary("", label_table([], [])), "")
        self.encoder: Encoder | None = None
        self.captioner: Captioner | generators.Generator | None = None
        self.targets: dict[str, Target] = {}  # networks at hand, by name
        self.dense_at = 0.99
        self.lay_out: LayingOut = laid_out_later  # where the map of neurons is laid out
        self.maps: dict[str, Callable[[], MapLayout]] = {}  # by method, what has been begun
        self.sharing: Sharing | None = None  # with others who compute for this run
        self.common: dict[str, dict[Any, Any]] = {}  # by method, what all layers share

    def is_fresh(self, name: str) -> bool:
        """Whether the registered stage is already committed."""
        return self.writer.is_fresh(name, self.keys[name])

    @contextmanager
    def writing(
        self, name: str, identity: Mapping[str, Any], describe: Mapping[str, Any] | None = None
    ) -> Generator[StageFolder]:
        """Write one registered stage; ``describe`` enters the manifest's inputs with it."""
        log.info("stage %s", name)
        self.writer.begin()
        with self.writer.stage(name, **identity, describe=describe) as folder:
            yield folder

    @property
    def bundle(self) -> Bundle:
        """What is committed so far."""
        return Bundle(self.writer.path, self.writer.manifest, "")

    def held_params(self, kind: str) -> Mapping[str, Any]:
        """Parameters of some committed stage of a kind."""
        for name, record in self.writer.manifest.stages.items():
            if stage_kind(name) == kind:
                return record.params
        return {}

    def adopt(self) -> None:
        """Take the measured stages of the bundle as they are."""
        for name, record in self.writer.manifest.stages.items():
            if stage_kind(name) in MEASURED:
                self.keys[name] = record.key
        self.layers += [(model, layer) for model, layer in kinds.ACTIVATIONS.among(self.keys)]
        missing = [n for n in ("images", "probe", "embeddings") if n not in self.keys]
        if missing or not self.layers:
            raise BundleError(
                f"Bundle {self.writer.path.name} is not finished (it lacks "
                f"{', '.join(missing or ['activations'])}); run 'csp build' again first."
            )

    def finish(self) -> None:
        """Drop stages that no longer belong and write down what the bundle was made from.

        Separation, concept columns, associations, influence, circuits, ground truth, performance,
        interventions, fixes, checks of maps, factors, curves, imported labels, faithfulness and
        what extensions made do not come from every kind of build; they stay while what they were
        made from does.
        """
        held = self.writer.manifest.stages
        kept = dict(self.keys)
        for name, record in held.items():
            of_models = (kinds.PERFORMANCE, kinds.SEEN, kinds.INTERVENTION, kinds.FIX)
            is_of_model = any(kind.is_of(name) for kind in of_models)
            if is_of_model and self._is_of_held_model(name, record):
                kept[name] = record.key
        own = (
            kinds.SEPARATION,
            kinds.COLUMNS,
            kinds.ASSOCIATION,
            kinds.INFLUENCE,
            kinds.CIRCUIT,
            kinds.TRUTH,
            kinds.STATISTIC,
            kinds.SCORES,
            kinds.INDEX,
            kinds.FAITHFULNESS,
            kinds.TRUST,
            kinds.MAPS,
            kinds.FACTORS,
            kinds.CURVES,
        )
        unknown = sorted({stage_kind(name) for name in held} - set(kinds.KINDS))
        for prefix in (*(kind.prefix for kind in own), *unknown):
            for name, record in held.items():
                is_current = all(kept.get(need) == key for need, key in record.needs.items())
                is_made_anew = prefix in (kinds.SCORES.prefix, kinds.INDEX.prefix)
                is_guest = not is_made_anew or record.params.get("imported")
                if stage_kind(name) == prefix and is_guest and is_current:
                    kept[name] = record.key
        self.writer.drop([name for name in held if name not in kept])
        self.writer.describe(recipe=self.recipe.to_json(), inputs=self.described)
        self.writer.end()

    def _is_of_held_model(self, name: str, record: StageRecord) -> bool:
        model, *_ = kinds.KINDS[stage_kind(name)].parts(name)
        described = {
            **self.writer.manifest.inputs.get("models", {}),
            **self.described.get("models", {}),
        }
        return record.inputs["model"] == described.get(model, {}).get("fingerprint")
