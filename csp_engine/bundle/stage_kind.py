"""What a kind of stage is: its name, what it is made from, and the files that it holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StageFile:
    """One file of a stage.

    Attributes:
        name: with its ending: ``.npy``, ``.parquet``, or any other.
        holds: dtype of an array, ``table``, or ``bytes``.
        axes: letters of ``csp_engine.types``, with a blank between.
        meaning: as docs/bundle.md says it; names the columns of a table in backticks.
        is_optional: whether a stage may do without it.
    """

    name: str
    holds: str
    axes: str
    meaning: str
    is_optional: bool = False


@dataclass(frozen=True, slots=True)
class StageKind:
    """One kind of stage.

    Attributes:
        prefix: what names of its stages begin with.
        meaning: one sentence.
        of: what one stage is of, and its name goes on with: ``model``, ``layer``, ``method``; empty
            where a bundle holds one stage of the kind.
        needs: kinds that it may be made from.
        files: what it holds.
        facts: small results that the manifest keeps of it.
        version: of the algorithm; raise it when results change.
        is_measured: whether it comes from images; new labels leave it as it is.
        is_left_out: whether slim copies leave its files out, because no page reads them.
    """

    prefix: str
    meaning: str
    of: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    files: tuple[StageFile, ...] = ()
    facts: tuple[str, ...] = ()
    version: int = 1
    is_measured: bool = False
    is_left_out: bool = False

    def name(self, *of: str) -> str:
        """The name of one stage: ``contrast:resnet/layer4@mean`` of model and layer."""
        if len(of) != len(self.of):
            wanted = ", ".join(self.of) or "nothing"
            raise TypeError(f"a stage of kind {self.prefix} is of {wanted}; got {of}")
        return f"{self.prefix}:{'/'.join(of)}" if of else self.prefix

    def parts(self, name: str) -> tuple[str, ...]:
        """The reverse of ``name``; the model's name may itself hold slashes."""
        ending = name.partition(":")[2]
        return tuple(ending.rsplit("/", len(self.of) - 1)) if self.of else ()

    def is_of(self, name: str) -> bool:
        """Whether a stage is of this kind."""
        return stage_kind(name) == self.prefix

    def among(self, names: Iterable[str]) -> Iterator[tuple[str, ...]]:
        """What the stages of this kind are of, among the names of any."""
        return (self.parts(name) for name in names if self.is_of(name))


def stage_kind(name: str) -> str:
    """The part before the colon: ``contrast`` of ``contrast:resnet/layer4@mean``."""
    return name.partition(":")[0]
