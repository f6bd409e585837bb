"""Target models: from one line of text to a network, its preprocessing and its fingerprint."""

from __future__ import annotations

import codecs
import hashlib
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
from pathlib import Path
from typing import Any, cast

import torch
from PIL import Image
from torch import nn

from csp_engine.errors import InputError, MissingModelError
from csp_engine.networks.checkpoints import (
    NEXT_STEP,
    Checkpoint,
    downloading,
    is_cached_by_hub,
    is_cached_by_torch,
    is_offline,
    missing_model,
    read_checkpoint,
    short_reason,
)
from csp_engine.networks.fitting import fit_weights, n_outputs_in, take_head
from csp_engine.networks.outputs import OutputReader
from csp_engine.networks.preprocessing import (
    Preprocess,
    pixel_pipeline,
    pixel_recipe,
    timm_recipe,
    transformers_recipe,
)
from csp_engine.networks.settings import is_plain, refuse_code
from csp_engine.networks.steadiness import Steadiness, calm, quieten

logger = logging.getLogger(__name__)

SPECS = (
    "torchvision/NAME[:WEIGHTS], timm/NAME[.TAG], hf-hub:ORG/NAME, transformers/NAME_OR_FOLDER "
    "or python:package.module:factory"
)


@dataclass(frozen=True, eq=False)
class TargetModel:
    """The network under study, ready to run: evaluation mode, parameters without gradients.

    ``fingerprint`` is a sha256 over the architecture text, every parameter and buffer, and
    ``preprocessing``, the JSON-ready record that determines the pixels. ``n_prefix_tokens`` counts
    the class and register tokens that stand before the patch tokens (0 for convolutional networks);
    the first of them is the class token if ``has_class_token``.
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
    steadiness: Steadiness = field(default_factory=Steadiness, repr=False)

    @property
    def device(self) -> torch.device:
        """Where the network runs."""
        for tensor in [*self.network.parameters(), *self.network.buffers()]:
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
            stack.enter_context(calm(self.steadiness))
            if self.precision != "float32":
                kind = getattr(torch, self.precision)
                stack.enter_context(torch.autocast(self.device.type, dtype=kind))
            return self.network(pixels.to(self.dtype))

    def logits(self, output: Any) -> torch.Tensor | None:
        """The ``(n, classes)`` tensor in what the network returns, or None where there is none."""
        return self.outputs.logits(output)

    @cached_property
    def outputs(self) -> OutputReader:
        """Where in the network's output its logits are."""
        return OutputReader(self.network, self.name, self.class_names, self.run, self.input_shape)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one preprocessed image."""
        c, h, w = self.preprocess(Image.new("RGB", (96, 80))).shape
        return c, h, w


# --- identity ---------------------------------------------------------------------------------


def state_sha256(network: nn.Module) -> str:
    """A sha256 over name, type, shape and bytes of every parameter and buffer, in name order."""
    tensors: dict[str, torch.Tensor] = dict(network.named_parameters(remove_duplicate=False))
    tensors.update(network.named_buffers(remove_duplicate=False))
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        if tensor.numel():
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _architecture_text(network: nn.Module) -> str:
    text = re.sub(r"0x[0-9a-fA-F]+", "0x", repr(network))  # addresses differ from run to run
    config = getattr(network, "config", None)
    if hasattr(config, "to_dict"):
        settings = config.to_dict()
        for key in ("_name_or_path", "transformers_version", "dtype", "torch_dtype"):
            settings.pop(key, None)
        text += json.dumps(settings, sort_keys=True, default=str)
    for key in ("transform_input",):  # steps of torchvision's Inception that repr does not show
        if hasattr(network, key):
            text += f"|{key}={getattr(network, key)}"
    return text


def _fingerprint(
    network: nn.Module, preprocessing: Mapping[str, Any], notices: Sequence[str]
) -> str:
    digest = hashlib.sha256()
    recipe = json.dumps(preprocessing, sort_keys=True, separators=(",", ":"))
    # What was switched off changes what the network computes, and is no part of its weights.
    for part in (_architecture_text(network), state_sha256(network), recipe, *notices):
        digest.update(f"{len(part.encode())}:".encode() + part.encode())
    return digest.hexdigest()


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


# --- one function per kind of spec ------------------------------------------------------------


@dataclass
class _Loaded:
    """What a spec gave, before overrides: ``preprocess`` only where no recipe can say it."""

    network: nn.Module
    recipe: dict[str, Any] | None
    class_names: tuple[str, ...] | None = None
    preprocess: Preprocess | None = None
    why_no_recipe: str = ""
    notices: list[str] = field(default_factory=list)


def _fitted(
    build: Callable[[int | None], nn.Module],
    tensors: Checkpoint,
    source: str,
    n_classes: int | None,
) -> tuple[nn.Module, list[str]]:
    """An architecture with a checkpoint in it, its number of outputs as the weights have it."""
    network = build(n_classes)
    notices = list(tensors.notices)
    if n_classes is None:
        found = n_outputs_in(network, tensors)
        if found is not None:
            network = build(found)
            notices.append(f"{source} has {found} outputs.")
    notices += take_head(network, tensors)
    return network, notices + fit_weights(network, tensors, source)


def _nearest(name: str, known: Sequence[str]) -> str:
    import difflib

    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"the nearest names are {', '.join(near)}" if near else "see the library's list of names"


def _torchvision(
    rest: str, weights: Path | None, n_classes: int | None, weights_key: str | None
) -> _Loaded:
    from torchvision.models import get_model, get_model_weights, list_models
    from torchvision.transforms._presets import ImageClassification

    name, _, chosen = rest.partition(":")
    if name not in list_models():
        raise InputError(f"torchvision has no model {name!r}; {_nearest(name, list_models())}.")
    known = get_model_weights(name)
    if not chosen:
        wanted = "IMAGENET1K_V1" if weights else "DEFAULT"
        entry = known.__members__.get(wanted)
    elif chosen in known.__members__:
        entry = known[chosen]
    else:
        raise InputError(
            f"torchvision/{name} has no weights {chosen!r}; it has {', '.join(known.__members__)}."
        )
    recipe, why = None, f"torchvision/{name} has no image-classification preprocessing"
    preset = entry.transforms() if entry is not None else None
    if isinstance(preset, ImageClassification):
        size = preset.resize_size
        recipe = pixel_recipe(
            {
                "resize": int(size[0]) if len(size) == 1 else [int(s) for s in size],
                "interpolation": preset.interpolation.value.replace("nearest-exact", "nearest"),
                "crop": int(preset.crop_size[0]),
                "mean": [float(v) for v in preset.mean],
                "std": [float(v) for v in preset.std],
            }
        )
    if weights is not None:
        options: dict[str, Any] = {}
        if name in ("inception_v3", "googlenet"):
            # Their published weights expect this re-normalisation; it belongs to the preprocessing.
            options |= {"transform_input": True, "init_weights": False}

        def build(n: int | None) -> nn.Module:
            sized = {} if n is None else {"num_classes": n}
            return get_model(name, weights=None, **options, **sized)

        tensors = read_checkpoint(weights, weights_key)
        if name.startswith("densenet"):  # published files use names from before torch 0.4
            old = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..+)$")
            renamed = {old.sub(r"\1\2", k): v for k, v in tensors.items()}
            tensors = Checkpoint(renamed, tensors.notices)
        network, notices = _fitted(build, tensors, Path(weights).name, n_classes)
        return _Loaded(network, recipe, why_no_recipe=why, notices=notices)
    _no_other_head(n_classes)
    if entry is None:
        raise InputError(f"torchvision/{name} has no published weights; give a weights file.")
    what = f"The weights {entry.name} of torchvision/{name}"
    if is_offline() and not is_cached_by_torch(entry.url):
        raise missing_model(what, "and downloads are switched off", NEXT_STEP)
    with downloading(what):
        network = get_model(name, weights=entry, progress=False)
    return _Loaded(network, recipe, tuple(entry.meta.get("categories", ())) or None, None, why)


def _no_other_head(n_classes: int | None) -> None:
    if n_classes is not None:
        raise InputError(
            f"n_classes={n_classes} needs a weights file trained for it; published weights keep "
            "their own classes."
        )


def _require_known_to_timm(rest: str, weights: Path | None) -> None:
    import timm

    architecture, _, tag = rest.partition(".")
    if not timm.is_model(architecture):
        raise InputError(
            f"timm has no model {architecture!r}; {_nearest(architecture, timm.list_models())}."
        )
    known = timm.list_pretrained(f"{architecture}.*") + timm.list_pretrained(architecture)
    if tag and rest not in known:
        raise InputError(
            f"timm/{architecture} has no weights {tag!r}; it has "
            f"{', '.join(k.partition('.')[2] for k in known) or 'none'}."
        )
    if not known and weights is None:
        raise InputError(f"timm/{rest} has no published weights; give a weights file.")


def _timm(
    rest: str, weights: Path | None, n_classes: int | None, weights_key: str | None
) -> _Loaded:
    import timm
    from timm.data import ImageNetInfo, infer_imagenet_subset, resolve_data_config

    is_hub = rest.startswith("hf-hub:")
    if not is_hub:
        _require_known_to_timm(rest, weights)
    what = f"The weights of {rest if is_hub else f'timm/{rest}'}"
    repository = rest.removeprefix("hf-hub:")
    if is_hub and ("/" not in repository or repository[0] in "./~"):
        raise InputError(f"{rest} names no repository; write hf-hub:ORG/NAME.")
    create: Any = timm.create_model
    if is_offline():
        files, source = ["config.json"] if is_hub else [], repository
        url = ""
        if not is_hub and weights is None:
            entry: Any = timm.get_pretrained_cfg(rest)
            url, source = entry.url or "", entry.hf_hub_id or ""
            files = [entry.hf_hub_filename or "model.safetensors", "pytorch_model.bin"]
        if files and not (
            (source and is_cached_by_hub(source, files)) or (url and is_cached_by_torch(url))
        ):
            raise missing_model(what, "and downloads are switched off", NEXT_STEP)
    if is_hub:
        with downloading(f"The settings of {rest}"):
            settings = timm.models.load_model_config_from_hf(repository)
        refuse_code(list(settings), f"config.json of {repository}")
        if not is_plain(settings[2] or {}):
            raise InputError(f"config.json of {repository} has model_args that no network takes.")
    notices: list[str] = []
    network: Any
    if weights is not None:

        def build(n: int | None) -> nn.Module:
            sized = {} if n is None else {"num_classes": n}
            with downloading(f"The settings of {rest}"):
                return create(rest, pretrained=False, **sized)

        tensors = read_checkpoint(weights, weights_key)
        fitted, notices = _fitted(build, tensors, Path(weights).name, n_classes)
        network = fitted
    else:
        _no_other_head(n_classes)
        with downloading(what):
            network = create(rest, pretrained=True)
    config = resolve_data_config({}, model=network)
    recipe, preprocess = timm_recipe(config)
    names: tuple[str, ...] | None = None
    if weights is None:
        labels = getattr(network, "pretrained_cfg", {}).get("label_names")
        subset = infer_imagenet_subset(network)
        if labels:
            names = tuple(map(str, labels))
        elif subset:
            info, count = ImageNetInfo(subset), cast("int", network.num_classes)
            names = tuple(info.index_to_description(i) for i in range(count))
    loaded = _Loaded(network, recipe, names, preprocess, notices=notices)
    if recipe is None:
        loaded.recipe = {"timm": json.loads(json.dumps(config))}
    return loaded


def _own_folder(rest: str) -> Path | None:
    """The folder that a spec names, checked, or None where it names a repository."""
    folder = Path(rest).expanduser()
    if not folder.is_dir():
        if rest.startswith((".", "/", "~")):
            raise InputError(f"The folder {rest} does not exist; give one with a config.json.")
        return None
    if not (folder / "config.json").is_file():
        raise InputError(f"The folder {rest} has no config.json; save_pretrained() writes one.")
    for path in (folder / "config.json", folder / "preprocessor_config.json"):
        if path.is_file():
            refuse_code(_stated(path), str(path))
    return folder


def _transformers(
    rest: str, weights: Path | None, n_classes: int | None, weights_key: str | None, own: bool
) -> _Loaded:
    import transformers

    folder = _own_folder(rest)
    source = rest if folder is None else str(folder)
    # False, not None: asked nothing, transformers asks whoever sits at the standard input.
    offline: dict[str, Any] = {
        "local_files_only": folder is not None or is_offline(),
        "trust_remote_code": False,
    }
    what = f"The files of transformers/{rest}"
    next_step = "run once with a network, or give a folder written by save_pretrained()"

    try:
        with downloading(what, next_step):
            config = transformers.AutoConfig.from_pretrained(source, **offline)
    except MissingModelError as error:
        if folder is not None:
            raise InputError(
                f"transformers cannot use {rest}: {short_reason(error.__cause__ or error)}."
            ) from error
        raise
    refuse_code(config.to_dict(), f"config.json of transformers/{rest}")
    if n_classes is not None:
        if weights is None:
            _no_other_head(n_classes)
        config.num_labels = n_classes
    stated = " ".join(getattr(config, "architectures", None) or ())
    is_classifier = "ForImageClassification" in stated
    auto = transformers.AutoModelForImageClassification if is_classifier else transformers.AutoModel
    network: Any
    notices: list[str] = []
    try:
        if weights is not None:

            def build(n: int | None) -> nn.Module:
                if n is not None:
                    config.num_labels = n
                return auto.from_config(config)

            tensors = read_checkpoint(weights, weights_key)
            network, notices = _fitted(build, tensors, Path(weights).name, n_classes)
        else:
            with downloading(what, next_step):
                network = _whole(auto, source, {"config": config, **offline})
    except MissingModelError as error:
        if folder is not None:
            raise InputError(
                f"The weights in {rest} cannot be read ({short_reason(error.__cause__ or error)}); "
                "copy the folder again."
            ) from error
        raise
    if not is_classifier and hasattr(network, "vision_model"):
        network = network.vision_model  # CLIP and SigLIP: the text tower sees no images
    network = network.float()
    assert isinstance(network, nn.Module)
    names = _names_of_outputs(config) if is_classifier else None
    loaded = _Loaded(network, None, names, notices=notices)
    if own:
        return loaded
    try:
        processor = _image_processor(source, offline)
    except Exception as error:  # OSError, ValueError or KeyError, by what is missing
        loaded.why_no_recipe = f"transformers/{rest} has no image processor ({short_reason(error)})"
        return loaded
    loaded.recipe, loaded.preprocess = transformers_recipe(processor)
    return loaded


def _names_of_outputs(config: Any) -> tuple[str, ...] | None:
    labels = tuple(str(config.id2label[i]) for i in range(config.num_labels))
    is_named = not all(re.fullmatch(r"LABEL_\d+", label) for label in labels)
    return labels if is_named else None


def _image_processor(source: str, options: dict[str, Any]) -> Any:
    from transformers import AutoImageProcessor

    try:
        return AutoImageProcessor.from_pretrained(source, backend="pil", **options)
    except ImportError:
        return AutoImageProcessor.from_pretrained(source, **options)


def _stated(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not readable JSON: {short_reason(error)}.") from None


def _whole(auto: Any, source: str, options: dict[str, Any]) -> nn.Module:
    """Load weights and refuse a network of which a part would stay random."""
    options = {**options, "dtype": torch.float32, "output_loading_info": True}
    network, report = auto.from_pretrained(source, **options)
    missing = sorted(report["missing_keys"])
    if missing and all("pooler" in key for key in missing):
        network, report = auto.from_pretrained(source, add_pooling_layer=False, **options)
        missing = sorted(report["missing_keys"])
    mismatched = sorted(map(str, report.get("mismatched_keys", ())))
    if missing or mismatched:
        raise InputError(
            f"The weights of {source} do not fit {type(network).__name__}: {len(missing)} missing, "
            f"{len(mismatched)} of another shape ({', '.join((missing + mismatched)[:3])}); "
            "check 'architectures' in its config.json."
        )
    return network


def _python(rest: str) -> TargetModel | _Loaded:
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
    except Exception as error:  # importing runs the user's code
        raise InputError(
            f"{module_name} cannot be imported ({type(error).__name__}: {short_reason(error)}); "
            "run from the folder that holds it, or install it."
        ) from error
    for part in attribute.split("."):
        if not hasattr(factory, part):
            names = [n for n in dir(factory) if not n.startswith("_")]
            raise InputError(f"{module_name} has no {attribute!r}; {_nearest(part, names)}.")
        factory = getattr(factory, part)
    made = factory if isinstance(factory, nn.Module | TargetModel) else None
    if made is None:
        if not callable(factory):
            raise InputError(f"python:{rest} is not a function; it must return the network.")
        try:
            made = factory()
        except Exception as error:  # the user's code
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
    return _Loaded(made, pixel_recipe(recipe) if recipe is not None else None, why_no_recipe=why)


# --- the front door ---------------------------------------------------------------------------


def read_class_names(source: Path | Sequence[str], n_outputs: int) -> tuple[str, ...]:
    """Class names from a list or from a file with one name a line.

    A first line ``background`` is dropped when there is exactly one name too many.

    Raises:
        InputError: the file is missing, or there are more or fewer names than outputs.
    """
    if isinstance(source, str | Path):
        path = Path(source)
        try:
            names = [line.strip() for line in _text(path).splitlines()]
        except (OSError, UnicodeError) as error:
            raise InputError(
                f"The class names {path} cannot be read ({short_reason(error)}); "
                "give a text file with one name a line."
            ) from None
        while names and not names[-1]:
            names.pop()
    else:
        names = [str(name) for name in source]
    if len(names) == n_outputs + 1 and names[0].lower() == "background":
        names = names[1:]
    if len(names) != n_outputs:
        raise InputError(
            f"There are {len(names)} class names for {n_outputs} outputs; give one name per output."
        )
    if "" in names:
        raise InputError(f"Class name {names.index('') + 1} of {n_outputs} is empty; name it.")
    return tuple(unicodedata.normalize("NFC", name) for name in names)


def _text(path: Path) -> str:
    """A text file as editors save it: UTF-8 with or without its mark, or UTF-16 with one."""
    content = path.read_bytes()
    is_wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if is_wide else "utf-8-sig")


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
) -> TargetModel:
    """Make a TargetModel from a network at hand.

    ``preprocessing`` is a recipe (see ``csp_engine.networks.preprocessing``); with ``preprocess``
    given, any JSON-ready record that determines what that does. How many class and register tokens
    stand before the patch tokens is by default decided by what parameters are called
    (``cls_token``, ``register_tokens``, …).
    """
    require_hooks(network, name)
    if preprocess is None:
        preprocessing = pixel_recipe(preprocessing)
        preprocess = pixel_pipeline(preprocessing)
    notices = quieten(network)
    network.requires_grad_(False)
    n_prefix, has_class = _prefix_tokens(network)
    return TargetModel(
        name=name,
        spec=spec,
        network=network,
        preprocess=preprocess,
        preprocessing=dict(preprocessing),
        class_names=tuple(class_names) if class_names is not None else None,
        fingerprint=_fingerprint(network, preprocessing, notices),
        n_prefix_tokens=n_prefix if n_prefix_tokens is None else n_prefix_tokens,
        has_class_token=has_class if has_class_token is None else has_class_token,
        is_prefix_stated=n_prefix_tokens is not None,
        steadiness=Steadiness(notices=notices),
    )


def _read_override(preprocessing: Mapping[str, Any] | Path | None) -> dict[str, Any]:
    if preprocessing is None or isinstance(preprocessing, Mapping):
        return dict(preprocessing or {})
    path = Path(preprocessing)
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"The preprocessing {path} cannot be read as JSON ({short_reason(error)}); see the "
            "docs for its keys."
        ) from None
    if not isinstance(content, dict):
        raise InputError(f"The preprocessing {path} is not a JSON object; see the docs.")
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
    "torchvision/": _torchvision,
    "timm/": _timm,
    "hf-hub:": _timm,
    "transformers/": _transformers,
    "python:": _python,
}


def load_model(
    spec: str,
    *,
    weights: Path | None = None,
    name: str | None = None,
    preprocessing: Mapping[str, Any] | Path | None = None,
    class_names: Path | Sequence[str] | None = None,
    n_classes: int | None = None,
    device: str = "cpu",
    weights_key: str | None = None,
) -> TargetModel:
    """Load a target model with the preprocessing its weights were trained with.

    Args:
        spec: ``torchvision/NAME[:WEIGHTS]``, ``timm/NAME[.TAG]``, ``hf-hub:ORG/NAME``,
            ``transformers/NAME_OR_FOLDER`` or ``python:package.module:factory``.
        weights: a local checkpoint for the architecture that ``spec`` names (safetensors, or a
            PyTorch file of tensors); nothing is downloaded then. A local checkpoint of a
            torchvision architecture gets the preprocessing of its IMAGENET1K_V1 weights.
        name: what the model is called in neuron ids; by default the last part of ``spec``.
        preprocessing: a mapping or JSON file that overrides keys of the recipe
            (``csp_engine.networks.preprocessing``).
        class_names: a list, or a file with one name a line; by default those of the weights.
        n_classes: number of outputs of the architecture; by default what the checkpoint has.
        device: ``cpu``, ``cuda``, ``cuda:1``, …
        weights_key: what to take of a checkpoint that holds several networks: an entry's name, dots
            for nested ones, or a prefix of names.

    Raises:
        InputError: the spec, weights, names or preprocessing cannot be used.
        MissingModelError: weights would have to be downloaded and cannot be.
    """
    prefix = next((p for p in _KINDS if spec.startswith(p) and len(spec) > len(p)), None)
    if prefix is None:
        raise InputError(f"{spec!r} does not name a model; write {SPECS}.")
    if name is not None and not re.fullmatch(r"[\w.-]+(/[\w.-]+)*", name):
        raise InputError(f"{name!r} is not a model name; use letters, digits, '.', '_' and '-'.")
    try:
        place = torch.device(device)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(
            f"The device {device!r} cannot be used ({short_reason(error)}); use 'cpu'."
        ) from None
    override = _read_override(preprocessing)
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
            loaded = _Loaded(
                loaded.network, loaded.preprocessing, loaded.class_names, loaded.preprocess
            )
        if weights is not None:
            tensors = read_checkpoint(weights, weights_key)
            loaded.notices += tensors.notices + fit_weights(loaded.network, tensors, weights.name)
    elif prefix == "transformers/":
        loaded = _transformers(rest, weights, n_classes, weights_key, own=_is_complete(override))
    else:
        source = spec if prefix == "hf-hub:" else rest
        loaded = _KINDS[prefix](source, weights, n_classes, weights_key)

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
    model = target_model(
        loaded.network.to(place),
        record,
        name=name or _short_name(spec),
        spec=spec,
        class_names=loaded.class_names,
        preprocess=preprocess,
        **stated,
    )
    model.steadiness.remember(loaded.notices)
    if class_names is None:
        return model
    with torch.inference_mode():
        zeros = torch.zeros(1, *model.input_shape, device=model.device)
        logits = model.logits(model.run(zeros))
    if logits is None:
        raise InputError(f"{spec} is not a classifier, so it takes no class names; leave them out.")
    return replace(model, class_names=read_class_names(class_names, logits.shape[1]))


def _is_complete(override: Mapping[str, Any]) -> bool:
    try:
        pixel_recipe(override)
    except InputError:
        return False
    return True


def accelerators() -> dict[str, str]:
    """Devices that networks can run on beside the processor: name to description."""
    found = {
        f"cuda:{i}": torch.cuda.get_device_name(i)
        for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0)
    }
    if torch.backends.mps.is_available():
        found["mps"] = "Apple GPU"
    return found
