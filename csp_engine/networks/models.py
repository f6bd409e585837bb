"""Target models: from one line of text to a network, its preprocessing and its fingerprint."""

from __future__ import annotations

import importlib
import json
import logging
import re
import sys
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn
from torch.nn.parameter import is_lazy

from csp_engine.errors import InputError
from csp_engine.files import given_bytes
from csp_engine.networks.devices import copied, current, usable
from csp_engine.networks.loading.checkpoints import (
    read_checkpoint,
    short_reason,
)
from csp_engine.networks.loading.compiled import uncompiled
from csp_engine.networks.loading.fitting import fit_weights
from csp_engine.networks.loading.identity import code_sha256, model_fingerprint, state_sha256
from csp_engine.networks.loading.libraries import (
    Loaded,
    from_timm,
    from_torchvision,
    from_transformers,
    nearest,
)
from csp_engine.networks.loading.open_clip_tower import from_open_clip
from csp_engine.networks.loading.preprocessing import (
    Preprocess,
    pixel_pipeline,
    pixel_recipe,
    require_repeatable,
    whole_image,
)
from csp_engine.networks.outputs.reading import OutputReader
from csp_engine.networks.steadiness import Steadiness, calm, quieten, undisturbed
from csp_engine.reading.lengths import MOST_OF_NAME, require_short
from csp_engine.reading.names import read_names

logger = logging.getLogger(__name__)

__all__ = [
    "PRECISIONS",
    "TargetModel",
    "load_model",
    "read_class_names",
    "state_sha256",
    "target_model",
]

PRECISIONS = ("float32", "bfloat16", "float16")
"""What products of a pass may be computed in; weights stay as they are."""

SPECS = (
    "torchvision/NAME[:WEIGHTS], timm/NAME[.TAG], hf-hub:ORG/NAME, transformers/NAME_OR_FOLDER, "
    "open_clip/ARCHITECTURE/TAG, open_clip/FOLDER or python:package.module:factory"
)


@dataclass(frozen=True, eq=False)
class TargetModel:
    """The network under study, ready to run: evaluation mode, parameters without gradients.

    ``fingerprint`` is a sha256 over the architecture text, every parameter and buffer, and
    ``preprocessing``, the JSON-ready record that determines the pixels. ``n_prefix_tokens`` counts
    the class and register tokens that stand before the patch tokens (0 for convolutional networks);
    the first of them is the class token if ``has_class_token``. ``code`` is a sha256 over the files
    that define a network of the user's own, None for one of a library or where they cannot be read;
    it is no part of ``fingerprint``. With ``is_channels_last``, pixels are given with the channels
    of each side by side, which changes the last digits at most.
    """

    name: str
    spec: str
    network: nn.Module
    preprocess: Preprocess
    preprocessing: dict[str, Any]
    class_names: tuple[str, ...] | None
    fingerprint: str
    n_prefix_tokens: int = 0
    has_class_token: bool = False
    is_prefix_stated: bool = False
    precision: str = "float32"
    code: str | None = None
    is_channels_last: bool = False
    steadiness: Steadiness = field(default_factory=Steadiness, repr=False)

    def on(self, device: str) -> TargetModel:
        """A copy on another device; what is known of the network's conduct is shared.

        Raises:
            InputError: the network cannot be copied.
        """
        return replace(self, network=copied(self.network, device, self.name))

    @property
    def device(self) -> torch.device:
        """Where the network runs."""
        for tensor in chain(self.network.parameters(), self.network.buffers()):
            return tensor.device
        return torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        """The type of its first floating parameter, which pixels are given in."""
        for tensor in [*self.network.parameters(), *self.network.buffers()]:
            if tensor.is_floating_point():
                return tensor.dtype
        return torch.float32

    @property
    def resolution(self) -> float:
        """Relative rounding of the arithmetic that the network runs in."""
        steps = [torch.finfo(self.dtype).eps, torch.finfo(getattr(torch, self.precision)).eps]
        if self.device.type != "cpu":
            steps.append(2.0**-10)  # accelerators may round the factors of products to ten bits
        return max(steps)

    def run(self, pixels: torch.Tensor) -> Any:
        """What the network returns, in the precision and with the calm it was taken in with."""
        with ExitStack() as stack:
            stack.enter_context(current(self.device))
            stack.enter_context(calm(self.network, self.steadiness))
            if self.precision != "float32":
                kind = getattr(torch, self.precision)
                stack.enter_context(torch.autocast(self.device.type, dtype=kind))
            stack.enter_context(self.outputs.listening())
            form = torch.channels_last if self.is_channels_last else torch.preserve_format
            # A copy: the network may change what it is given in place, and it is given it again.
            return self.network(pixels.to(self.dtype).clone(memory_format=form))

    def logits(self, output: Any) -> torch.Tensor | None:
        """The ``(n, classes)`` tensor in what the network returns, or None where there is none."""
        return self.outputs.logits(output)

    @cached_property
    def outputs(self) -> OutputReader:
        """Where in the network's output its logits are."""
        return OutputReader(
            self.network,
            self.name,
            self.class_names,
            self.run,
            self.input_shape,
            tell=lambda notice: self.steadiness.remember([notice]),
        )

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one preprocessed image."""
        c, h, w = self.preprocess(Image.new("RGB", (96, 80))).shape
        return c, h, w


def _prefix_tokens(network: nn.Module) -> tuple[int, bool]:
    """Number of class and register tokens by what the network says, the first a class token?

    A statement only, by attributes and names; each layer's tokens are counted (``tokens``).
    """
    names = {name.rpartition(".")[2]: p for name, p in network.named_parameters()}
    has_class = any(n in names for n in ("cls_token", "class_token", "class_embedding"))
    stated = getattr(network, "num_prefix_tokens", None)
    if isinstance(stated, int):  # timm says it
        return stated, has_class and stated > 0
    count = int(has_class)
    count += any(n in names for n in ("distillation_token", "dist_token"))
    for key in ("register_tokens", "reg_token", "storage_tokens", "registers"):
        if key in names:
            count += names[key].shape[-2]
    return count, has_class


def _python(rest: str) -> TargetModel | Loaded:
    module_name, _, attribute = rest.partition(":")
    if not module_name or not attribute:
        raise InputError(
            f"'python:{rest}' does not name a factory; write python:package.module:factory."
        )
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        factory: Any = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # importing runs the user's code
        raise InputError(
            f"{module_name} cannot be imported ({type(error).__name__}: {short_reason(error)}); "
            "run from the folder that holds it, or install it."
        ) from error
    for part in attribute.split("."):
        if not hasattr(factory, part):
            names = [n for n in dir(factory) if not n.startswith("_")]
            raise InputError(f"{module_name} has no {attribute!r}; {nearest(part, names)}.")
        factory = getattr(factory, part)
    made = factory if isinstance(factory, nn.Module | TargetModel) else None
    if made is None:
        if not callable(factory):
            raise InputError(f"python:{rest} is not a function; it must return the network.")
        try:
            made = factory()
        except (Exception, SystemExit) as error:  # the user's code
            raise InputError(
                f"python:{rest} failed ({type(error).__name__}: {short_reason(error)}); "
                "call it in Python to see where."
            ) from error
    if isinstance(made, TargetModel):
        return made
    recipe: Any = None
    if isinstance(made, tuple) and len(made) == 2:
        made, recipe = made
    require_hooks(made, f"python:{rest}")
    if not isinstance(made, nn.Module) or not isinstance(recipe, Mapping | None):
        raise InputError(
            f"python:{rest} returned {type(made).__name__}; return a torch.nn.Module, or "
            "(module, preprocessing mapping), or a TargetModel."
        )
    why = f"python:{rest} returns no preprocessing"
    return Loaded(made, pixel_recipe(recipe) if recipe is not None else None, why_no_recipe=why)


# --- the front door ---------------------------------------------------------------------------


def read_class_names(source: Path | Sequence[str], n_outputs: int) -> tuple[str, ...]:
    """Class names from a list, or from a file as ``csp_engine.reading.names`` reads it.

    A first line ``background`` is dropped when there is exactly one name too many.

    Raises:
        InputError: the file is missing, or there are more or fewer names than outputs.
    """
    if isinstance(source, str | Path):
        path = Path(source)
        if not path.is_file():
            raise InputError(
                f"The class names {path} cannot be read (there is no such file); "
                "give a text file with one name a line."
            )
        names = [name.text for name in read_names(path, what="List of class names")]
    else:
        names = [str(name) for name in source]
    if len(names) == n_outputs + 1 and names[0].lower() == "background":
        names = names[1:]
    if len(names) != n_outputs:
        raise InputError(
            f"There are {len(names)} class names for {n_outputs} outputs; give --class-names a "
            "file with one name per output."
        )
    if "" in names:
        raise InputError(
            f"Class name {names.index('') + 1} of {n_outputs} is empty; name it in the file of "
            "--class-names."
        )
    for at, name in enumerate(names, start=1):
        require_short(name, MOST_OF_NAME, f"Class name {at} of {n_outputs}")
    return tuple(unicodedata.normalize("NFC", name) for name in names)


def require_hooks(network: Any, name: str) -> None:
    """Refuse programs whose inner layers cannot be listened to.

    Raises:
        InputError: with the way to give the same network in another form.
    """
    kind = ""
    if isinstance(network, torch.jit.ScriptModule):
        kind = "TorchScript"
    elif isinstance(network, torch.export.ExportedProgram):
        kind = "an exported program"
    if kind:
        raise InputError(
            f"{name} is {kind}, whose layers cannot be listened to; return the torch.nn.Module it "
            "was made from, with its weights loaded by load_state_dict(program.state_dict())."
        )


def _require_weights(network: nn.Module, name: str) -> None:
    """Refuse networks that have no weights yet.

    Raises:
        InputError: with the first weight that is missing and what to do.
    """
    for key, held in (*network.named_parameters(), *network.named_buffers()):
        if is_lazy(held):
            raise InputError(
                f"{name} has lazy layers without weights (first: {key}); run it once on an image "
                "before you return it, then load its weights."
            )
        if held.is_meta:
            raise InputError(
                f"{name} has weights on the meta device, which holds no numbers (first: {key}); "
                "make the network on the CPU and load its weights."
            )


def target_model(
    network: nn.Module,
    preprocessing: Mapping[str, Any],
    *,
    name: str,
    spec: str = "python",
    class_names: Sequence[str] | None = None,
    preprocess: Preprocess | None = None,
    n_prefix_tokens: int | None = None,
    has_class_token: bool | None = None,
    precision: str = "float32",
) -> TargetModel:
    """Make a TargetModel from a network at hand.

    ``preprocessing`` is a recipe (see ``csp_engine.networks.loading.preprocessing``); with
    ``preprocess`` given, any JSON-ready record that determines what that does. How many class and
    register tokens stand before the patch tokens is by default decided by what parameters are
    called (``cls_token``, ``register_tokens``, …).
    """
    network = uncompiled(network)
    require_hooks(network, name)
    _require_weights(network, name)
    if precision not in PRECISIONS:
        raise InputError(
            f"Precision {precision!r:.60} does not exist; choose one of {', '.join(PRECISIONS)} "
            "with --precision."
        )
    if preprocess is None:
        preprocessing = pixel_recipe(preprocessing)
        preprocess = pixel_pipeline(preprocessing)
    else:
        require_repeatable(preprocess, name)
    notices = quieten(network)
    extras = [*notices, *([precision] if precision != PRECISIONS[0] else [])]
    network.requires_grad_(False)
    n_prefix, has_class = _prefix_tokens(network)
    code = code_sha256(network) if spec.startswith("python") else None
    model = TargetModel(
        name=name,
        spec=spec,
        network=network,
        preprocess=preprocess,
        preprocessing=dict(preprocessing),
        class_names=tuple(class_names) if class_names is not None else None,
        fingerprint=model_fingerprint(network, preprocessing, extras),
        n_prefix_tokens=n_prefix if n_prefix_tokens is None else n_prefix_tokens,
        has_class_token=has_class if has_class_token is None else has_class_token,
        is_prefix_stated=n_prefix_tokens is not None,
        precision=precision,
        code=code or None,
        steadiness=Steadiness(notices=notices),
    )
    if code == "":
        model.steadiness.remember(
            ["The code of its forward pass cannot be read, so a change of it goes unnoticed."]
        )
    return model


def _read_override(preprocessing: Mapping[str, Any] | Path | str | None) -> dict[str, Any]:
    if preprocessing is None or isinstance(preprocessing, Mapping):
        return dict(preprocessing or {})
    path = Path(preprocessing)
    try:
        content = json.loads(given_bytes(path).decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"The preprocessing {path} cannot be read as JSON ({short_reason(error)}); give "
            '--preprocessing a JSON file, such as {"resize": 256}.'
        ) from None
    if not isinstance(content, dict):
        raise InputError(
            f"The preprocessing {path} is not a JSON object; give --preprocessing one such as "
            '{"resize": 256}.'
        )
    return content


def _short_name(spec: str) -> str:
    body = spec.partition("/")[2] or spec.partition(":")[2] or spec
    if spec.startswith("python:"):
        body = spec.rpartition(":")[2]
    elif spec.startswith("transformers/"):
        body = body.rstrip("/").rpartition("/")[2] or body
    elif spec.startswith("torchvision/"):
        body = body.partition(":")[0]
    return re.sub(r"[^\w.-]+", "-", body).strip("-.") or "model"


_KINDS: dict[str, Callable[..., Any]] = {
    "torchvision/": from_torchvision,
    "timm/": from_timm,
    "hf-hub:": from_timm,
    "open_clip/": from_open_clip,
    "transformers/": from_transformers,
    "python:": _python,
}


def load_model(
    spec: str,
    *,
    weights: Path | None = None,
    name: str | None = None,
    preprocessing: Mapping[str, Any] | Path | str | None = None,
    class_names: Path | Sequence[str] | None = None,
    n_classes: int | None = None,
    device: str = "cpu",
    weights_key: str | None = None,
    precision: str = "float32",
) -> TargetModel:
    """Load a target model with the preprocessing its weights were trained with.

    Args:
        spec: ``torchvision/NAME[:WEIGHTS]``, ``timm/NAME[.TAG]``, ``hf-hub:ORG/NAME``,
            ``transformers/NAME_OR_FOLDER``, ``open_clip/ARCHITECTURE/TAG``, ``open_clip/FOLDER`` or
            ``python:package.module:factory``.
        weights: a local checkpoint for the architecture that ``spec`` names (safetensors, or a
            PyTorch file of tensors); nothing is downloaded then. A local checkpoint of a
            torchvision architecture gets the preprocessing of its IMAGENET1K_V1 weights.
        name: what the model is called in neuron ids; by default the last part of ``spec``.
        preprocessing: a mapping or JSON file that overrides keys of the recipe
            (``csp_engine.networks.loading.preprocessing``), or ``whole`` for the whole image
            without a crop.
        class_names: a list, or a file with one name a line; by default those of the weights.
        n_classes: number of outputs of the architecture; by default what the checkpoint has.
        device: ``cpu``, ``cuda``, ``cuda:1``, …
        weights_key: what to take of a checkpoint that holds several networks: an entry's name, dots
            for nested ones, or a prefix of names.
        precision: ``float32``, ``bfloat16`` or ``float16`` for the products of a pass; another
            precision counts as another model.

    Raises:
        InputError: the spec, weights, names or preprocessing cannot be used.
        MissingModelError: weights would have to be downloaded and cannot be.
    """
    prefix = next((p for p in _KINDS if spec.startswith(p) and len(spec) > len(p)), None)
    if prefix is None:
        raise InputError(f"{spec!r} does not name a model; write {SPECS}.")
    if name is not None and not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)*", name):
        raise InputError(f"{name!r} is not a model name; use letters, digits, '.', '_' and '-'.")
    place = usable(device)
    is_whole = isinstance(preprocessing, str | Path) and str(preprocessing) == "whole"
    override = {} if is_whole else _read_override(preprocessing)
    rest = spec.removeprefix(prefix)
    weights = Path(weights) if weights is not None else None
    if weights_key is not None and weights is None:
        raise InputError(f"--weights-key {weights_key!r} names a part of a file; add --weights.")

    stated: dict[str, Any] = {}
    if prefix == "python:":
        loaded = _python(rest)
        if n_classes is not None:
            raise InputError(f"n_classes={n_classes} has no effect on {spec}; the factory decides.")
        if isinstance(loaded, TargetModel):
            stated = {
                "n_prefix_tokens": loaded.n_prefix_tokens,
                "has_class_token": loaded.has_class_token,
            }
            name = name or loaded.name
            loaded = Loaded(
                loaded.network, loaded.preprocessing, loaded.class_names, loaded.preprocess
            )
        if weights is not None:
            tensors = read_checkpoint(weights, weights_key)
            loaded.notices += tensors.notices + fit_weights(loaded.network, tensors, weights.name)
    elif prefix == "transformers/":
        loaded = from_transformers(
            rest, weights, n_classes, weights_key, own=_is_complete(override)
        )
    else:
        source = spec if prefix == "hf-hub:" else rest
        loaded = _KINDS[prefix](source, weights, n_classes, weights_key)

    record, preprocess = _pixels(loaded, override, is_whole)
    _require_weights(loaded.network, spec)
    model = target_model(
        loaded.network.to(place),
        record,
        name=name or _short_name(spec),
        spec=spec,
        class_names=loaded.class_names,
        preprocess=preprocess,
        precision=precision,
        **stated,
    )
    model.steadiness.remember(loaded.notices)
    if class_names is None:
        return model
    with torch.inference_mode(), undisturbed(model.network):
        zeros = torch.zeros(1, *model.input_shape, device=model.device)
        logits = model.logits(model.run(zeros))
    if logits is None:
        raise InputError(f"{spec} is not a classifier, so it takes no class names; leave them out.")
    return replace(model, class_names=read_class_names(class_names, logits.shape[1]))


def _pixels(
    loaded: Loaded, override: Mapping[str, Any], is_whole: bool
) -> tuple[dict[str, Any], Preprocess | None]:
    """The preprocessing of a network as asked for: its own, changed, or without its crop."""
    record, preprocess = loaded.recipe, loaded.preprocess
    if override or record is None:
        base = record if preprocess is None or set(record or ()) >= {"mean", "std"} else None
        try:
            record, preprocess = pixel_recipe(override, base), None
        except InputError as error:
            if record is None and loaded.why_no_recipe:
                raise InputError(f"{loaded.why_no_recipe}. {error}") from None
            raise
    assert record is not None
    return (whole_image(record), None) if is_whole else (record, preprocess)


def _is_complete(override: Mapping[str, Any]) -> bool:
    try:
        pixel_recipe(override)
    except InputError:
        return False
    return True
