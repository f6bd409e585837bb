"""What a label method is: everything that is said about it, and one scoring function.

A method declares its name, title, parameters, needs and what it stores. Recipes, command line,
bundles, pages and documents read the declaration, so that a new method is one new module.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, Float64

from csp_engine.errors import InputError
from csp_engine.evidence.evidence import Evidence, require_needs
from csp_engine.registry import require_declared, require_shapes, require_whole_numbers
from csp_engine.types import LabelScores

Params = Mapping[str, Any]

HALVES = ("anchor", "projection")
"""Arrays that together give the concept vector at any gamma: see ``scoring.halves``."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a method.

    Attributes:
        name: as written in manifests.
        default: decides the type as well.
        meaning: a phrase.
        low: smallest allowed number.
        high: largest allowed number; None for a whole number that has no limit.
        choices: allowed texts.
        recipe: the field of ``Recipe`` that sets it; without one, ``METHOD.PARAMETER`` sets it.
        published: what the authors use, where that is not the default.
        is_later: came when bundles had been made with the method. Its default must be what the
            method did before, and is not recorded, so that those bundles stay what they are.
    """

    name: str
    default: Any
    meaning: str
    low: int | float | None = None
    high: int | float | None = None
    choices: tuple[str, ...] = ()
    recipe: str = ""
    published: Any = None
    is_later: bool = False

    def require_declared(self, method: str) -> None:
        """Refuse a name that no command line can hold, no meaning, or a default it would refuse.

        Args:
            method: whose parameter it is.

        Raises:
            InputError: naming the method, the parameter and what is wrong.
        """
        what = f"parameter of label method {method!r}"
        require_declared(what, self.name, meaning=self.meaning)
        if not isinstance(self.default, bool | int | float | str):
            raise InputError(
                f"The {what} {self.name!r} has the default {self.default!r}; give it a number, a "
                "text, True or False."
            )
        for which, value in (("default", self.default), ("published", self.published)):
            try:
                if value is not None:
                    self.check(value)
            except InputError as error:
                raise InputError(
                    f"The {what} {self.name!r} refuses its own {which}: {error}"
                ) from None

    def check(self, value: Any) -> None:
        """Raise unless ``value`` is of the default's type and within the bounds.

        Raises:
            InputError: naming the value and what may be given.
        """
        if self.choices:
            if value not in self.choices:
                raise InputError(
                    f"{self.name} is {value!r}; choose one of {', '.join(self.choices)}."
                )
        elif isinstance(self.default, bool):
            if not isinstance(value, bool):
                raise InputError(f"{self.name} is {value!r}; give true or false.")
        elif isinstance(self.default, int | float):
            self._check_number(value)
        elif not isinstance(value, type(self.default)):
            raise InputError(
                f"{self.name} is {value!r}; give a value like {self.default!r} ({self.meaning})."
            )

    def _check_number(self, value: Any) -> None:
        low = -np.inf if self.low is None else self.low
        high = np.inf if self.high is None else self.high
        is_whole = isinstance(self.default, int)
        is_number = isinstance(value, int if is_whole else (int, float))
        if is_number and not isinstance(value, bool) and low <= value <= high:
            return
        kind = "a whole number" if is_whole else "a number"
        upwards = f", {low:g} or more" if np.isfinite(low) else ""
        between = f" from {low:g} to {high:g}" if np.isfinite(high) else upwards
        what = f" ({self.meaning})" if is_whole else ""
        raise InputError(f"{self.name} is {value!r}; give {kind}{between}{what}.")


@dataclass(frozen=True, slots=True)
class LabelPrior:
    """What is taken from every score of a label: how well it explains image sets in general.

    ``over``: ``null``, the random image sets; ``layer``, the other units of the call.
    """

    over: Literal["null", "layer"]
    weight: int | float


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """What a method says about a block of units.

    The score of a label is ``score_ut + offset_u`` (the offset is kept apart where adding it early
    would cost digits; ``None`` is 0). ``vector_ud`` holds the concept vectors, unit rows or zero,
    or is ``None`` when the concept vector is that of the best label. ``raw_vector_ud`` is the
    vector whose product with a label gives the score without contrast images; ``None`` where the
    method uses none. ``has_label_u`` is false where there is nothing to go by. ``may_rely_u`` is
    false where the method itself does not trust its best label, whatever the percentile. ``extra``
    are arrays with one row per unit to keep beside the scores.
    """

    score_ut: Float32[np.ndarray, "u t"]
    has_label_u: Bool[np.ndarray, " u"]
    vector_ud: Float32[np.ndarray, "u d"] | None = None
    raw_vector_ud: Float32[np.ndarray, "u d"] | None = None
    offset_u: Float64[np.ndarray, " u"] | None = None
    may_rely_u: Bool[np.ndarray, " u"] | None = None
    extra: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OwnLabel:
    """A label that a method writes itself, such as a formula or a phrase, and its score.

    ``raw`` is the score without contrast images, where the method has such a thing.
    """

    text: str
    score: float
    raw: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Written:
    """What a method that writes its own labels says about a block of units.

    ``labels`` holds each unit's labels, best first, none where there is nothing to go by.
    ``vector_ud`` are concept vectors in the encoder's space, for methods that have them.
    ``reliable_u`` and ``percentile_u`` are the method's own judgement of the best label; without
    them the random image sets judge, if the method goes through them (``Method.has_null``).
    ``p_u`` are p-values of the best labels, from images that did not choose them. Then a label is
    reliable if it is among the discoveries of the whole layer (Benjamini and Hochberg), and
    ``reliable_u`` may only take away from these.
    """

    labels: Sequence[Sequence[OwnLabel]]
    vector_ud: Float32[np.ndarray, "u d"] | None = None
    percentile_u: Float32[np.ndarray, " u"] | None = None
    reliable_u: Bool[np.ndarray, " u"] | None = None
    p_u: Float64[np.ndarray, " u"] | None = None
    extra: Mapping[str, np.ndarray] = field(default_factory=dict)


@runtime_checkable
class Kept(Protocol):
    """What a bundle keeps of one method's scores of one layer, read when asked for."""

    @property
    def params(self) -> Params:
        """Parameters that the scores were made with."""
        ...

    def array(self, name: str) -> np.ndarray:
        """An array that the method stores."""
        ...

    def has_array(self, name: str) -> bool:
        """Whether it is there; older bundles may lack some."""
        ...

    def null_vectors_of(self, n_images: int) -> Float32[np.ndarray, "r k d"] | None:
        """Image vectors of the strongest exemplars of the random image sets, if they are there."""
        ...


NEIGHBOURS = "neighbours"
"""Key of the lists of ``Method.lists`` among what is made ``once_for_all``."""

NULL_VECTOR = "null_vector"
"""Array of the concept vectors of the random image sets (``Stores.keeps_null_vectors``)."""


def kept_null_vectors(kept: Kept) -> Float32[np.ndarray, "r d"] | None:
    """Concept vectors of the random image sets as they are kept; None in older bundles."""
    return np.asarray(kept.array(NULL_VECTOR)) if kept.has_array(NULL_VECTOR) else None


@dataclass(frozen=True, slots=True)
class Stores:
    """What a method keeps beside its scores.

    Attributes:
        arrays: name → meaning, one row for each unit; ``null_NAME`` holds the same of the random
            image sets, and ``null_size`` the number of exemplars behind each of its rows.
        vectors: whose the concept vectors are: the method's ``own``, that of the best ``label``, or
            ``none``, so that neither search nor map has the method.
        null_vectors: concept vectors of the random image sets of full size, from what is kept;
            None where the method has no such thing.
        signals: those of the arrays, one number for each unit, that speak for or against the best
            label: how likely it is right is learnt from them too.
        keeps_null_vectors: whether these are kept themselves, because they do not follow from the
            arrays; ``kept_null_vectors`` reads them.
        null_of_size: the same of sets of so many images, for neurons with fewer exemplars; None
            where all are compared with sets of full size.
    """

    arrays: Mapping[str, str] = field(default_factory=dict)
    vectors: Literal["own", "label", "none"] = "own"
    null_vectors: Callable[[Kept], Float32[np.ndarray, "r d"] | None] | None = None
    signals: tuple[str, ...] = ()
    keeps_null_vectors: bool = False
    null_of_size: Callable[[Kept, int], Float32[np.ndarray, "r d"] | None] | None = None

    def require_kept(self, method: str) -> None:
        """Refuse vectors of nobody, and arrays that would take the place of others.

        Args:
            method: whose arrays they are.

        Raises:
            InputError: naming the method and what is wrong.
        """
        if self.vectors not in (choices := ("own", "label", "none")):
            raise InputError(
                f"Label method {method!r} stores the vectors {self.vectors!r}; choose from "
                f"{', '.join(choices)}."
            )
        for name, meaning in self.arrays.items():
            require_declared(f"stored array of label method {method!r}", name, meaning=meaning)
            if name in {each.name for each in fields(LabelScores)}:
                raise InputError(
                    f"Label method {method!r} stores {name!r}, which every method has; rename it."
                )
        if unknown := [name for name in self.signals if name not in self.arrays]:
            raise InputError(
                f"Label method {method!r} has the signal {unknown[0]!r}, which is none of the "
                f"arrays that it stores: {', '.join(self.arrays) or 'nothing'}."
            )

    @property
    def has_halves(self) -> bool:
        """Whether another gamma follows from what is kept."""
        return all(name in self.arrays for name in HALVES)


@dataclass(frozen=True, slots=True, eq=False)
class ScoreParts:
    """The score of one label, taken apart by the ranks of the exemplars.

    ``part_k`` sums to the score. ``exemplar_k`` is how well the label fits each exemplar by itself,
    ``contrast_k`` how well it fits its contrast images (their normalised mean); 0 without any.
    """

    part_k: Float32[np.ndarray, " k"]
    exemplar_k: Float32[np.ndarray, " k"]
    contrast_k: Float32[np.ndarray, " k"]


def no_more_checks(params: Params) -> None:
    """For methods whose parameters have nothing to do with one another."""


def lacks_nothing(stored: Mapping[str, float], params: Params) -> str:
    """For methods that ask for no more than a score above chance."""
    del stored, params
    return ""


def no_prior(params: Params) -> LabelPrior | None:
    """For methods that take no prior from their scores."""


def itself(text: str) -> tuple[str, ...]:
    """What a label says that is one concept."""
    return (text,)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Method:
    """One way to put labels on neurons.

    Attributes:
        name: in manifests, addresses and on the command line.
        title: as papers write it.
        summary: one sentence for people who do not know the method.
        paper: where it comes from; empty where it is our own.
        version: raise it when results change.
        order: place among the methods, lower numbers first.
        parameters: see ``Parameter``.
        needs: names from ``csp_engine.evidence.evidence.NEEDS``.
        uses: names of what it looks at where it is there (``Evidence.has``), and does without.
        stores: what it keeps beside its scores.
        score: from evidence, label vectors and parameters to scores of the labels (``Scored``), or
            to labels of the method's own (``Written``).
        depth: the parameter that says how many exemplars, from the strongest, it looks at; empty
            where it does not look at exemplars.
        check: raises ``InputError`` for parameters that do not go together.
        prior: what is taken from the scores.
        parts: takes the score of one label apart, by exemplars.
        writes: whether ``score`` gives labels of the method's own.
        has_null: whether random image sets go through the method too, to judge its scores.
        test: what its labels have to pass to be reliable, if it gives p-values (``Written.p_u``):
            what can stand after "passes its test", such as "on other images".
        lacks: what a label that scores above chance lacks to be reliable, where the method asks
            for more than that: from the numbers that it stores of the unit and its parameters to
            what can stand after "but"; empty where it asks for no more. Older bundles may lack
            numbers that are not in ``Stores.signals``.
        unsaid: from the arrays of ``Stores.signals``, which units follow something that can be read
            from the images and that no label says; None where the method cannot tell.
        says: the concepts in a label of its own that must be true of the unit for the label to be
            right: all that a formula does not deny, the foremost of a sum; none where even that is
            denied. By default the label itself.
        unit_block: how many units are worth scoring at once.
        lists: how many nearest images of every image it looks at, which are found once for all
            layers, as directions compare, by all processes that merge; 0 where it does not.
        coarse: how far its scores may lie apart on two machines, because it parts images at
            thresholds of similarities, whose last digits differ; 0 where it does not.
        section: heading of its section in docs/methods.md; by default its name.
    """

    name: str
    title: str
    summary: str
    version: int
    parameters: tuple[Parameter, ...]
    score: Callable[[Evidence, Float32[np.ndarray, "t d"], Params], Scored | Written]
    needs: tuple[str, ...] = ("exemplars",)
    uses: tuple[str, ...] = ()
    stores: Stores = field(default_factory=Stores)
    paper: str = ""
    order: int = 100
    depth: str = "n_score"
    check: Callable[[Params], None] = no_more_checks
    prior: Callable[[Params], LabelPrior | None] = no_prior
    parts: Callable[[Evidence, Float32[np.ndarray, " d"], Params], ScoreParts] | None = None
    writes: bool = False
    has_null: bool = True
    test: str = ""
    lacks: Callable[[Mapping[str, float], Params], str] = lacks_nothing
    unsaid: Callable[[Mapping[str, np.ndarray]], Bool[np.ndarray, " u"]] | None = None
    says: Callable[[str], tuple[str, ...]] = itself
    unit_block: int = 256
    lists: int = 0
    coarse: float = 0.0
    section: str = ""

    def __post_init__(self) -> None:
        require_declared("label method", self.name, title=self.title, summary=self.summary)
        require_whole_numbers("label method", self.name, version=self.version, order=self.order)
        require_needs(f"Label method {self.name!r}", self.needs)
        require_needs(f"Label method {self.name!r}", self.uses)
        if len(self.params) < len(self.parameters):
            raise InputError(
                f"Label method {self.name!r} has two parameters of one name; rename one."
            )
        self.stores.require_kept(self.name)
        for parameter in self.parameters:
            parameter.require_declared(self.name)
        if self.depth and self.depth not in self.params:
            raise InputError(
                f"Method {self.name!r} has depth {self.depth!r}, which is not one of its "
                "parameters; give it that parameter, or depth='' where it looks at no exemplars."
            )

    def said(self, evidence: Evidence, label_td: Float32[np.ndarray, "t d"], params: Params) -> Any:
        """What ``score`` says of a block of units: ``Scored``, or ``Written`` if it ``writes``.

        Raises:
            InputError: if it says something else.
        """
        what = f"Label method {self.name!r}"
        said = self.score(evidence, label_td, params)
        form = Written if self.writes else Scored
        if not isinstance(said, form):
            raise InputError(
                f"{what} gives {type(said).__name__}; it has writes={self.writes} and must give "
                f"{form.__name__}."
            )
        n, (t, d) = evidence.n_units, label_td.shape
        if isinstance(said, Written):
            wanted = {
                "vector_ud": (n, d),
                **dict.fromkeys(("percentile_u", "reliable_u", "p_u"), (n,)),
            }
            _require_labels(what, said, n)
        else:
            wanted = {"score_ut": (n, t), "has_label_u": (n,), "offset_u": (n,)}
            wanted |= {"vector_ud": (n, d), "raw_vector_ud": (n, d)}
        require_shapes(what, {name: getattr(said, name) for name in wanted}, wanted)
        require_shapes(what, said.extra, dict.fromkeys(said.extra, (n,)))
        if undeclared := sorted(set(said.extra) ^ set(self.stores.arrays)):
            kept = ", ".join(self.stores.arrays) or "nothing"
            raise InputError(
                f"{what} must give the arrays that it stores as extra; it stores {kept}, and "
                f"differs in {undeclared[0]}."
            )
        return said

    def needs_here(self, there: Collection[str]) -> tuple[str, ...]:
        """What it needs, and what it uses of what is there."""
        return (*self.needs, *(use for use in self.uses if use in there))

    @property
    def params(self) -> Params:
        """The default of each parameter."""
        return {parameter.name: parameter.default for parameter in self.parameters}

    def recorded(self, params: Params) -> Params:
        """What a bundle records of parameters: see ``Parameter.is_later``."""
        unsaid = {p.name for p in self.parameters if p.is_later and params[p.name] == p.default}
        return {name: value for name, value in params.items() if name not in unsaid}

    @property
    def published(self) -> Params:
        """The parameters with which the authors use the method, where those are not the default."""
        return {p.name: p.published for p in self.parameters if p.published is not None}

    @property
    def heading(self) -> str:
        """Of its section in docs/methods.md."""
        return self.section or self.name


def _require_labels(what: str, said: Written, n_units: int) -> None:
    """Refuse written labels that are not one list for each unit, or no texts with a score.

    Raises:
        InputError: as said.
    """
    if len(said.labels) != n_units:
        raise InputError(
            f"{what} gives labels of {len(said.labels)} units; it was given {n_units}."
        )
    for label in (label for labels in said.labels for label in labels):
        if not isinstance(label.text, str) or not np.isfinite(label.score):
            raise InputError(
                f"{what} gives the label {label.text!r:.80} the score {label.score}; give a text, "
                "and a number."
            )


def resolve_params(method: Method, params: Params) -> Params:
    """The method's defaults with ``params`` put over them, checked.

    Raises:
        InputError: for a parameter the method does not have, or a value outside its range.
    """
    for name in params:
        if name not in method.params:
            near = difflib.get_close_matches(name, method.params, n=1)
            raise InputError(
                f"Method {method.name!r} has no parameter {name!r}; it has "
                f"{', '.join(method.params)}.{f' Did you mean {near[0]!r}?' if near else ''}"
            )
    resolved = {**method.params, **params}
    for parameter in method.parameters:
        parameter.check(resolved[parameter.name])
    method.check(resolved)
    return MappingProxyType(resolved)
