"""Every parameter between activations and labels, in one record that the manifest keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from types import MappingProxyType
from typing import Any

from csp_engine.captioners.captions import MODES
from csp_engine.errors import InputError
from csp_engine.evidence.contrast import ContrastRule
from csp_engine.methods import METHODS, find_method, resolve_params
from csp_engine.types import TextRecipe
from csp_engine.words.templates import TEMPLATES


@dataclass(frozen=True, slots=True)
class Recipe:
    """How exemplars, contrast images and labels are made.

    Attributes:
        n_exemplars: images kept per neuron, strongest first.
        n_score: how many of them CSP and SemanticLens average.
        threshold: below what activation an image counts as quiet: ``mean`` (of the probe set),
            ``quantile:q`` or ``max:f`` (fraction of the neuron's maximum).
        n_partners: contrast images per exemplar.
        reuse: whether one image may be the partner of several exemplars of a neuron.
        exclude_near_duplicates: never pair an exemplar with a near copy of itself, and count exact
            copies of an image once among the exemplars.
        exclude_same_group: never pair images of the same group id (lesion, patient).
        gamma: share of the contrast projection that CSP removes, in [0, 1].
        weighting: of exemplars in CSP: ``none``, ``raw`` (activation), ``clamp0`` or ``rank``.
        templates: prompts that each label is embedded in.
        renormalise: whether averaged label vectors return to unit length.
        subtract_empty: whether the vector of the empty template is taken away first.
        prior: of CLIP-Dissect: ``null`` (random image sets), ``layer`` (paper), ``none``.
        methods: label methods to run, the one that pages show first in front.
        n_labels: labels kept per neuron and method.
        n_null: random image sets behind the percentiles.
        seed: of samples and random image sets.
        n_candidates: phrases kept per neuron and mode of the captioner, where there is one.
        caption_modes: what the captioner is shown of each neuron: ``contrast`` (exemplars and
            contrast images), ``exemplars`` alone, or both; () for what is usual for its kind.
        caption_crops: whether a captioner that is shown pictures sees of exemplars only what
            excites the neuron, in layers that have places.
        n_beams: width of the captioner's search.
        prior_weight: λ of log p(text | images) − λ log p(text), by which phrases are ranked.
        parameters: of label methods, where no field above sets them: ``METHOD.PARAMETER`` and its
            value. ``changed`` takes them under that name.
    """

    n_exemplars: int = 100
    n_score: int = 30
    threshold: str = "mean"
    n_partners: int = 5
    reuse: bool = True
    exclude_near_duplicates: bool = True
    exclude_same_group: bool = True
    gamma: float = 1.0
    weighting: str = "none"
    templates: tuple[str, ...] = TEMPLATES["paper"]
    renormalise: bool = True
    subtract_empty: bool = False
    prior: str = "null"
    methods: tuple[str, ...] = ("csp_plus", "csp", "semanticlens", "clip_dissect")
    n_labels: int = 20
    n_null: int = 500
    seed: int = 0
    n_candidates: int = 5
    caption_modes: tuple[str, ...] = ()
    caption_crops: bool = False
    n_beams: int = 16
    prior_weight: float = 0.2
    parameters: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        whole = {
            "n_exemplars": 1,
            "n_score": 1,
            "n_partners": 1,
            "n_labels": 1,
            "n_null": 20,
            "seed": 0,
            "n_candidates": 1,
            "n_beams": self.n_candidates,
        }
        for name, least in whole.items():
            if getattr(self, name) < least:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least {least}.")
        if not 0 <= self.gamma <= 1:
            raise InputError(f"gamma is {self.gamma}; it must lie between 0 and 1.")
        if not 0 <= self.prior_weight <= 1:
            raise InputError(f"prior_weight is {self.prior_weight}; it must lie between 0 and 1.")
        for mode in self.caption_modes:
            if mode not in MODES:
                raise InputError(
                    f"caption_modes has {mode!r}; choose {' or '.join(MODES)}, or both."
                )
        if not self.methods:
            raise InputError(
                f"No label method is given; choose one or more of {', '.join(METHODS)}."
            )
        for method in self.methods:
            find_method(method)
            if self.methods.count(method) > 1:
                raise InputError(f"methods has {method!r} twice; give each method once.")
        if self.n_score > self.n_exemplars:
            raise InputError(
                f"n_score ({self.n_score}) is larger than n_exemplars ({self.n_exemplars}); "
                "methods can only average exemplars that are kept."
            )
        self.text_recipe()
        self.contrast_rule()
        for method in self.methods:
            self.method_params(method)

    def method_params(self, method: str) -> dict[str, Any]:
        """The parameters of a label method: its own defaults, with this recipe's on top."""
        declared = METHODS[method]
        if lost := [p for p in declared.parameters if p.recipe and not hasattr(self, p.recipe)]:
            raise InputError(
                f"Parameter {lost[0].name!r} of label method {method!r} is set by "
                f"{lost[0].recipe!r}, which is no field of the recipe; leave its recipe out."
            )
        own = {p.name: getattr(self, p.recipe) for p in declared.parameters if p.recipe}
        for name, value in self.parameters:
            owner, _, parameter = name.partition(".")
            if owner == method:
                own[parameter] = value
        return dict(resolve_params(declared, own))

    def contrast_rule(self) -> ContrastRule:
        """The part that contrast mining needs."""
        return ContrastRule(
            self.threshold,
            self.n_partners,
            self.reuse,
            self.exclude_near_duplicates,
            self.exclude_same_group,
        )

    def text_recipe(self) -> TextRecipe:
        """The part that embedding texts needs."""
        return TextRecipe(tuple(self.templates), self.renormalise, self.subtract_empty)

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready mapping, as kept in the manifest."""
        stored = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        del stored["parameters"]
        if not self.caption_crops:  # recipes from before it could be chosen stay as they are
            del stored["caption_crops"]
        return stored | dict(self.parameters)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Recipe:
        """The recipe a manifest keeps; unknown entries are refused."""
        return changed(cls(), stored)

    @classmethod
    def restated(cls, stored: Mapping[str, Any], changes: Mapping[str, Any]) -> Recipe:
        """The recipe a manifest keeps, with changes; nothing is left of methods that go.

        So a bundle that was labelled by an extension can be labelled again without it.
        """
        methods = _once({**stored, **changes}.get("methods", cls().methods))
        kept = {k: v for k, v in stored.items() if "." not in k or k.split(".")[0] in methods}
        return changed(cls(), {**kept, **changes})


def changed(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """A recipe with some parameters replaced, each converted to the type it has.

    Raises:
        InputError: for an unknown name or a value of the wrong type.
    """
    values = {k: _once(v) if k in ("methods", "caption_modes") else v for k, v in values.items()}
    types = {
        field.name: type(getattr(recipe, field.name))
        for field in fields(Recipe)
        if field.name != "parameters"
    }
    converted: dict[str, Any] = {}
    parameters = dict(recipe.parameters)
    for name, value in values.items():
        if "." in name:
            parameters[name] = _method_parameter(name, value)
        elif name not in types:
            raise InputError(f"{name!r} is not a parameter; there are {', '.join(types)}.")
        else:
            converted[name] = _of_type(name, value, types[name])
    return replace(recipe, **converted, parameters=tuple(sorted(parameters.items())))


def _once(names: Any) -> Any:
    """Names without blanks around them, each once; what is no list of names stays as it is."""
    given = names.split(",") if isinstance(names, str) else names
    if not isinstance(given, list | tuple) or not all(isinstance(name, str) for name in given):
        return names
    return tuple(dict.fromkeys(name.strip() for name in given if name.strip()))


def _method_parameter(name: str, value: Any) -> Any:
    """The value of ``METHOD.PARAMETER``, converted and checked.

    Raises:
        InputError: for an unknown method or parameter, one that a field of the recipe sets, or a
            value of the wrong type.
    """
    owner, _, parameter = name.partition(".")
    method = find_method(owner)
    declared = next((p for p in method.parameters if p.name == parameter), None)
    if declared is None:
        resolve_params(method, {parameter: value})
    elif declared.recipe:
        raise InputError(f"{name} is set as {declared.recipe}, for all methods that have it.")
    else:
        value = _of_type(name, value, type(declared.default))
        replace(declared, name=name).check(value)
    return value


_KINDS: dict[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    tuple: "names, with commas between them",
}


def _of_type(name: str, value: Any, to: type) -> Any:
    try:
        return _convert(value, to)
    except (TypeError, ValueError):
        raise InputError(f"{name} cannot be {value!r}; give {_KINDS[to]}.") from None


def _convert(value: Any, to: type) -> Any:
    if to is bool and isinstance(value, str):
        if value.lower() not in ("true", "false", "yes", "no", "1", "0"):
            raise ValueError(value)
        return value.lower() in ("true", "yes", "1")
    if to is tuple:
        return tuple(value.split(",")) if isinstance(value, str) else tuple(value)
    if to is int and isinstance(value, float) and value != int(value):
        raise ValueError(value)
    return to(value)


def _as_published(recipe: Recipe, chosen: Mapping[str, Any] = MappingProxyType({})) -> Recipe:
    """The recipe with its methods' published parameters, where nobody chose others."""
    published: dict[str, Any] = {}
    for method in map(find_method, recipe.methods):
        for parameter in method.parameters:
            if parameter.published is not None:
                name = parameter.recipe or f"{method.name}.{parameter.name}"
                published.setdefault(name, parameter.published)
    return changed(recipe, {k: v for k, v in published.items() if k not in chosen})


PRESETS: dict[str, Recipe] = {
    "default": Recipe(),
    # Contrastive Semantic Projection as its authors published it.
    "paper": _as_published(
        Recipe(
            n_exemplars=100,
            n_score=30,
            threshold="mean",
            n_partners=1,
            reuse=True,
            exclude_near_duplicates=False,
            exclude_same_group=False,
            templates=TEMPLATES["paper"],
            renormalise=False,
            methods=("csp", "semanticlens", "clip_dissect"),
        )
    ),
}
"""Named recipes; ``paper`` reproduces the published methods, ``default`` departs by name only."""


def named_recipe(name: str, n_exemplars: int | None, values: Mapping[str, Any]) -> Recipe:
    """A preset with another number of exemplars and other parameters, as a build is asked for it.

    Raises:
        InputError: for an unknown preset, an unknown parameter or a value of the wrong type.
    """
    if name not in PRESETS:
        raise InputError(f"Preset {name!r} does not exist; choose one of {', '.join(PRESETS)}.")
    recipe = PRESETS[name]
    fewer: dict[str, Any] = {}
    if n_exemplars is not None:
        fewer = {"n_exemplars": n_exemplars, "n_score": min(n_exemplars, recipe.n_score)}
    recipe = changed(recipe, {**fewer, **values})
    return _as_published(recipe, values) if name == "paper" else recipe
