"""What a build started from elsewhere than a terminal is asked for, checked field by field."""

from __future__ import annotations

import itertools
import os
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from csp_engine.bundle import refuse_strangers
from csp_engine.captioners.generators.naming import is_generator
from csp_engine.errors import CspError, InputError
from csp_engine.jobs.allowed import Allowed
from csp_engine.jobs.options import BY_FIELD, expanded
from csp_engine.networks.devices import read_devices
from csp_engine.pipeline.recipe import PRESETS, named_recipe
from csp_engine.probe.beside import described_by
from csp_engine.probe.columnar import holds_images
from csp_engine.probe.columns import choose_columns
from csp_engine.probe.folders import walk_images
from csp_engine.probe.listing import TABLE_EXTENSIONS, list_images, read_table
from csp_engine.probe.lists import LIST_EXTENSIONS
from csp_engine.trust import TRUST, may_run
from csp_engine.words.vocabularies import SHIPPED, read_vocabulary

MODEL_KINDS = ("torchvision/", "timm/", "hf-hub:", "transformers/", "open_clip/", "python:")
ENCODER_KINDS = ("open_clip/", "transformers/", "precomputed/", "python:")
DEVICE = re.compile(r"cpu|mps|cuda(:[0-9]{1,3})?")
WHOLE = "whole"
"""Preprocessing that squeezes the whole image in."""
READ_FROM = (
    "images", "weights", "preprocessing", "class_names", "captioner", "image_root"
)  # fmt: skip
"""Fields that are paths to read from; vocabulary, model and encoder may be."""
TRIED = (
    "images", "encoder", "vocabulary", "path_column", "class_column", "image_root", "device"
)  # fmt: skip
"""Fields that a trial of the encoder takes."""
MOST_COUNTED = 50_000
"""Images of a folder that are counted before a build; a rough number is enough then."""


@dataclass(frozen=True, slots=True)
class ImagesSeen:
    """What a folder or table of images looks like from outside.

    ``n_images`` is at most ``MOST_COUNTED`` for a folder; ``columns`` is empty for a folder.
    """

    n_images: int
    n_classes: int
    columns: tuple[str, ...] = ()


def look_at_images(source: Path) -> ImagesSeen:
    """Count the images of a folder or the rows of a table, without reading any image.

    Raises:
        InputError: if there is nothing of the kind, or nothing in it.
    """
    if source.is_dir():
        files = list(itertools.islice(walk_images(source), MOST_COUNTED))
        if not files:
            return _seen_inside(source)
        classes = {file.partition("/")[0] for file in files if "/" in file}
        return ImagesSeen(len(files), len(classes))
    if not source.exists():
        raise InputError(f"There is no folder or table at {str(source)!r}; check the path.")
    is_packed = source.suffix.lower() == ".parquet" and holds_images(source)
    if is_packed or source.suffix.lower() in (*LIST_EXTENSIONS, ".tar", ".arrow"):
        return _seen_inside(source)
    if source.suffix.lower() not in TABLE_EXTENSIONS:
        raise InputError(
            f"{source.name!r} is neither a folder nor a table; give a folder of images, "
            f"or a file that ends in {', '.join(TABLE_EXTENSIONS)}."
        )
    given = read_table(source)
    return ImagesSeen(len(given), 0, tuple(given.columns))


def _seen_inside(source: Path) -> ImagesSeen:
    """The images of a list of paths, or inside of files."""
    listed = list_images(source)
    n_classes = listed.table["class"].nunique() if "class" in listed.table else 0
    return ImagesSeen(len(listed), n_classes)


@dataclass(frozen=True, slots=True)
class BuildOrder:
    """One ``csp build``: its options by name (``jobs.options``), empty where left to the default.

    Paths may start from the folder that the build runs in, or with ``~``.
    """

    images: str = ""
    model: str = ""
    layers: tuple[str, ...] = ()
    encoder: str = ""
    out: str = ""
    vocabulary: tuple[str, ...] = ("general",)
    weights: str = ""
    preprocessing: str = ""
    class_names: str = ""
    name: str = ""
    pooling: str = ""
    captioner: str = ""
    path_column: str = ""
    class_column: str = ""
    group_column: str = ""
    image_root: str = ""
    limit: int | None = None
    preset: str = "default"
    exemplars: int | None = None
    gamma: float | None = None
    batch_size: int | None = None
    influence_images: int | None = None
    device: str = ""

    def arguments(self) -> list[str]:
        """What comes after ``csp``."""
        return self._command("build", BY_FIELD)

    def trial(self) -> list[str]:
        """The same for ``csp try``, which tries the encoder on a few of the images."""
        return self._command("try", TRIED)

    def _command(self, name: str, asked: Iterable[str]) -> list[str]:
        (images,) = BY_FIELD["images"].written(self.images)
        arguments = [name, f"./{images}" if images.startswith("-") else images]
        for each in asked:
            if each != "images":
                arguments += BY_FIELD[each].written(getattr(self, each))
        return arguments

    def shown(self) -> str:
        """The command as one would type it; what is missing yet stands there in capitals."""
        missing: dict[str, Any] = {
            name: name.upper() for name in ("images", "model", "encoder", "out")
            if not getattr(self, name)
        }  # fmt: skip
        if not self.layers:
            missing["layers"] = ("LAYER",)
        return shlex.join(["csp", *replace(self, **missing).arguments()])

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready mapping."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> BuildOrder:
        """The order that a file keeps.

        Raises:
            InputError: if it holds anything else.
        """
        known = {field.name: str(field.type) for field in fields(cls)}
        order: dict[str, Any] = {}
        for name, value in stored.items():
            kind = known.get(name, "")
            if kind.startswith("tuple") and isinstance(value, list):
                value = tuple(value)
            if not _fits(kind, value):
                raise InputError(f"The build's record is damaged at {name!r}; start it again.")
            order[name] = value
        return cls(**order)

    def problems(self, folder: Path, allowed: Allowed | None = None) -> dict[str, str]:
        """A sentence for each field that cannot be right, by the field's name.

        What only the networks themselves can tell is left to the build: whether a model has a
        layer, or a name can be downloaded.

        Args:
            folder: where the build will run.
            allowed: what it may read; None for all that its account may.
        """
        found = {} if allowed is None else self._outside(folder, allowed)
        for name, option in BY_FIELD.items():
            try:
                if not option.is_many:
                    option.check(getattr(self, name))
            except CspError as error:
                found[name] = str(error)
        checks: tuple[tuple[str, Callable[[Path, str], None]], ...] = (
            ("images", self._check_images),
            ("model", self._check_model),
            ("layers", self._check_layers),
            ("encoder", self._check_encoder),
            ("vocabulary", self._check_vocabulary),
            ("out", self._check_out),
            ("weights", self._check_file),
            ("preprocessing", self._check_file),
            ("class_names", self._check_file),
            ("captioner", self._check_captioner),
            ("image_root", self._check_folder),
            ("name", self._check_name),
            ("device", self._check_device),
        )
        for name, check in checks:
            if name in found:
                continue  # what lies outside is not looked at
            try:
                check(folder, name)
            except CspError as error:
                found[name] = str(error)
        if not {"preset", "exemplars", "gamma"} & set(found):
            try:
                self._check_recipe()
            except CspError as error:
                found["exemplars"] = str(error)
        return found

    def _outside(self, folder: Path, allowed: Allowed) -> dict[str, str]:
        """A sentence for each field that names a place which may not be read."""
        found: dict[str, str] = {}
        for name, given, path in self._places(folder):
            try:
                is_of_a_bundle = name in ("model", "encoder") and given in allowed.specs
                if not is_of_a_bundle:
                    allowed.require(path, given)
            except CspError as error:
                found.setdefault(name, str(error))
        return found

    def _places(self, folder: Path) -> Iterator[tuple[str, str, Path]]:
        """Every place that the order reads: its field, as it was given, and where it is."""
        for name in READ_FROM:
            if getattr(self, name) and not self._is_word(name):
                yield name, getattr(self, name), self._at(folder, name)
        for given in self.vocabulary:
            if given not in SHIPPED:
                yield "vocabulary", given, folder / expanded(given)
        for name in ("model", "encoder"):
            spec = getattr(self, name)
            path = _named_place(spec, folder)
            if path is not None:
                yield name, spec, path

    def _at(self, folder: Path, name: str) -> Path:
        return folder / expanded(getattr(self, name))

    def _check_images(self, folder: Path, name: str) -> None:
        if not self.images:
            raise InputError("Choose a folder of images, or a table that lists them.")
        source = self._at(folder, name)
        seen = look_at_images(source)
        asked = {"path": self.path_column, "class": self.class_column, "group": self.group_column}
        if seen.columns:
            columns = {role: column or None for role, column in asked.items()}
            choose_columns(read_table(source), columns, source.name)
        elif self.image_root or (any(asked.values()) and described_by(source) is None):
            raise InputError(
                f"{self.images!r} is a folder, which has no columns and no image root; clear them."
            )
        n_used = seen.n_images if self.limit is None else min(seen.n_images, self.limit)
        n_exemplars = self.exemplars or PRESETS.get(self.preset, PRESETS["default"]).n_exemplars
        if n_used < n_exemplars:
            raise InputError(
                f"These are {n_used} images, fewer than the {n_exemplars} exemplars asked for per "
                f"neuron; add images, or ask for fewer exemplars, such as {max(1, n_used // 4)}."
            )

    def _check_model(self, folder: Path, name: str) -> None:
        if not self.model:
            raise InputError("Name a model, such as torchvision/resnet50.")
        _require_kind(self.model, MODEL_KINDS, "model")
        _require_trust(self.model)
        _require_named_folder(self.model, folder)

    def _check_layers(self, folder: Path, name: str) -> None:
        if not any(layer.strip() for layer in self.layers):
            raise InputError("Choose at least one layer, such as layer4.")

    def _check_encoder(self, folder: Path, name: str) -> None:
        if not self.encoder:
            raise InputError("Name an encoder, such as open_clip/ViT-B-32/laion2b_s34b_b79k.")
        _require_kind(self.encoder, ENCODER_KINDS, "encoder")
        _require_trust(self.encoder)
        _require_named_folder(self.encoder, folder)

    def _check_vocabulary(self, folder: Path, name: str) -> None:
        sources = [
            each if each in SHIPPED or not (folder / expanded(each)).is_file()
            else str(folder / expanded(each))
            for each in self.vocabulary
        ]  # fmt: skip
        read_vocabulary(sources)

    def _check_out(self, folder: Path, name: str) -> None:
        path = self._at(folder, name)
        if not self.out or path.suffix != ".csp" or path.stem.startswith("."):
            raise InputError("Give the bundle a name.")
        refuse_strangers(path)
        parent = next(each for each in path.parents if each.exists())
        if not parent.is_dir() or not os.access(parent, os.W_OK):
            raise InputError(f"Nothing can be written to {parent}; choose another folder.")

    def _is_word(self, name: str) -> bool:
        """Whether a field holds a word that stands for no file."""
        return name == "preprocessing" and self.preprocessing == WHOLE

    def _check_file(self, folder: Path, name: str) -> None:
        if self._is_word(name):
            return
        if getattr(self, name) and not self._at(folder, name).is_file():
            raise InputError(f"There is no file {getattr(self, name)!r}; check the path.")

    def _check_folder(self, folder: Path, name: str) -> None:
        if getattr(self, name) and not self._at(folder, name).is_dir():
            raise InputError(f"There is no folder {getattr(self, name)!r}; check the path.")

    def _check_captioner(self, folder: Path, name: str) -> None:
        """A visitor may name a folder; where images are sent is said by whoever has a terminal."""
        if is_generator(self.captioner):
            raise InputError(
                f"The captioner {self.captioner!r} is shown images, so it can be named only in a "
                "terminal, with csp build --captioner; give a folder here."
            )
        self._check_folder(folder, name)

    def _check_name(self, folder: Path, name: str) -> None:
        if self.name and not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)*", self.name):
            raise InputError(
                f"{self.name!r} is not a model name; use letters, digits, '.', '_' and '-'."
            )

    def _check_device(self, folder: Path, name: str) -> None:
        for device in read_devices(self.device) if self.device else ():
            if not DEVICE.fullmatch(device):
                raise InputError(f"{device!r} is not a device; write cpu, cuda, cuda:1 or mps.")

    def _check_recipe(self) -> None:
        values = {} if self.gamma is None else {"gamma": self.gamma}
        named_recipe(self.preset, self.exemplars, values)


def _fits(kind: str, value: Any) -> bool:
    if kind.startswith("tuple"):
        return isinstance(value, tuple) and all(isinstance(each, str) for each in value)
    if kind == "str":
        return isinstance(value, str)
    numbers = (int,) if kind.startswith("int") else (int, float)
    is_number = isinstance(value, numbers) and not isinstance(value, bool)
    return bool(kind) and (value is None or is_number)


def _require_kind(spec: str, kinds: tuple[str, ...], what: str) -> None:
    if not any(spec.startswith(kind) and len(spec) > len(kind) for kind in kinds):
        starts = f"{', '.join(kinds[:-1])} or {kinds[-1]}"
        raise InputError(f"{spec!r} does not name a{'n' * (what[0] == 'e')} {what}; it starts "
                         f"with {starts}.")  # fmt: skip


def _require_trust(spec: str) -> None:
    if not may_run(spec):
        raise InputError(
            f"{spec} is Python code, which is run from here only if the server was started with "
            f"{TRUST}=1; run the command below in a terminal instead."
        )


def _named_place(spec: str, folder: Path) -> Path | None:
    """The place that a spec names, or would if it were there; names of a hub look like none.

    Files count as well: transformers takes one for a configuration.
    """
    if spec.startswith(("python:", "torchvision/", "timm/")):
        return None
    rest = re.split("[/:]", spec, maxsplit=1)[-1]
    path = folder / expanded(rest)
    is_path = rest.startswith((".", "/", "~")) or spec.startswith("precomputed/")
    return path if is_path or ".." in path.parts or path.exists() else None


def _require_named_folder(spec: str, folder: Path) -> None:
    """Refuse a path in a spec that leads nowhere."""
    path = _named_place(spec, folder)
    if path is not None and not path.is_dir():
        raise InputError(f"There is no folder {spec.partition('/')[2]!r}; check the path.")
