"""What a stage of a build is: what it is known by, and what it makes from what is there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from csp_engine.bundle.kinds import KINDS, StageKind
from csp_engine.errors import InputError
from csp_engine.pipeline.run import Run
from csp_engine.registry import require_declared

Of = tuple[str, ...]
"""What one stage is of, such as model and layer; see ``StageKind.of``."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Made:
    """What a stage holds, before it is written.

    Attributes:
        arrays: name without ending → values.
        tables: name without ending → rows.
        files: name → what writes a file of another kind to a path.
        facts: small results for the manifest.
        describe: entries of the manifest's ``inputs`` that belong to it.
    """

    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    files: Mapping[str, Callable[[Path], None]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    describe: Mapping[str, Any] | None = None


def everywhere(run: Run, kind: StageKind) -> Iterable[Of]:
    """All layers and methods of a build, as far as a stage of this kind is of them."""
    methods = run.recipe.methods
    if kind.of == ("model", "layer", "method"):
        return [(model, layer, method) for model, layer in run.layers for method in methods]
    whole: dict[Of, Iterable[Of]] = {
        (): [()],
        ("model",): dict.fromkeys((model,) for model, _ in run.layers),
        ("model", "layer"): run.layers,
        ("method",): [(method,) for method in methods],
    }
    if kind.of not in whole:
        raise InputError(
            f"Stage {kind.prefix!r} is of {', '.join(kind.of)}; say by places what its stages "
            "are of, or let it be of model, layer and method."
        )
    return whole[kind.of]


def nothing_to_refuse(run: Run) -> None:
    """For stages that can be made whenever what they need is there."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Stage:
    """One kind of stage that follows from measurements, and how it is made.

    All functions take the run, then the parts of ``kind.of`` one by one.

    Attributes:
        kind: what it is called, holds and may be made from.
        params: parameters that enter its key.
        needs: names of the stages it is made from.
        make: computes what it holds.
        begin: called before it, as soon as all that the stage is made from is there: has another
            process begin meanwhile.
        inputs: content hashes of outside inputs that enter its key.
        places: what the stages of a build are of; by default every layer, every method.
        require: refuses what could not be made later, before anything changes. All stages of the
            build are registered then.
        when_held: called where the bundle has the stage already.
    """

    kind: StageKind
    params: Callable[..., Mapping[str, Any]]
    needs: Callable[..., Sequence[str]]
    make: Callable[..., Made]
    begin: Callable[..., None] | None = None
    inputs: Callable[..., Mapping[str, str]] | None = None
    places: Callable[[Run], Iterable[Of]] | None = None
    require: Callable[[Run], None] = nothing_to_refuse
    when_held: Callable[[Run], None] = nothing_to_refuse

    def __post_init__(self) -> None:
        require_declared("stage", self.kind.prefix, meaning=self.kind.meaning)

    @property
    def name(self) -> str:
        """What names of its stages begin with."""
        return self.kind.prefix

    @property
    def order(self) -> int:
        """Its place in a build; stages of extensions come last."""
        prefixes = list(KINDS)
        return prefixes.index(self.name) if self.name in KINDS else len(prefixes)

    def of_build(self, run: Run) -> list[Of]:
        """What the stages of a build are of."""
        return list(everywhere(run, self.kind) if self.places is None else self.places(run))

    def register(self, run: Run, of: Of) -> dict[str, Any]:
        """Make a stage part of the build; what identifies it."""
        params = self.params(run, *of)
        self._require_json("params", params)
        return run.key(
            self.kind.name(*of),
            params,
            self.needs(run, *of),
            {} if self.inputs is None else self.inputs(run, *of),
            version=self.kind.version,
        )

    def ensure(self, run: Run, of: Of) -> None:
        """Make and write a stage, unless the bundle has it."""
        name, identity = self.kind.name(*of), self.register(run, of)
        if run.is_fresh(name):
            self.when_held(run)
            return
        made = self.make(run, *of)
        self._require_declared_files(made)
        with run.writing(name, identity, made.describe) as folder:
            for array, values in made.arrays.items():
                folder.array(array, values)
            for table, rows in made.tables.items():
                folder.table(table, rows)
            for file, write in made.files.items():
                write(folder.path / file)
            folder.facts.update(made.facts)

    def _require_json(self, what: str, values: Mapping[str, Any]) -> None:
        """Refuse what no manifest can hold.

        Raises:
            InputError: naming the stage.
        """
        try:
            json.dumps(values)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"Stage {self.name!r} gives {what} that a manifest cannot hold ({error}); give "
                "numbers, texts, lists and dictionaries."
            ) from error

    def _require_declared_files(self, made: object) -> None:
        """Refuse a stage that holds other files than its kind declares.

        Label methods and statistics bring arrays of their own, so only kinds of extensions, which
        have none, are held to their list.

        Raises:
            InputError: naming the first file.
        """
        if not isinstance(made, Made):
            raise InputError(f"Stage {self.name!r} gives {type(made).__name__}; it must give Made.")
        if self.name in KINDS:
            return
        self._require_json("facts", made.facts)
        held = [f"{name}.npy" for name in made.arrays]
        held += [f"{name}.parquet" for name in made.tables] + list(made.files)
        declared = {file.name: file.is_optional for file in self.kind.files}
        missing = [name for name, is_optional in declared.items() if not is_optional]
        differing = sorted(set(held) - set(declared)) + sorted(set(missing) - set(held))
        if differing:
            raise InputError(
                f"Stage {self.name!r} declares {', '.join(declared) or 'no files'} and gives "
                f"{', '.join(held) or 'none'}; they differ in {differing[0]}."
            )
        for file in self.kind.files:
            values = made.arrays.get(file.name.removesuffix(".npy"))
            if values is not None and values.dtype != file.holds:
                raise InputError(
                    f"Stage {self.name!r} declares {file.name} of {file.holds} and gives "
                    f"{values.dtype}."
                )
