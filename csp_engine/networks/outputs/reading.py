"""Where the logits are in what a classifier returns: a tensor, a tuple, a mapping, or nested.

Some classifiers end in a softmax or a sigmoid and return probabilities; their logits are taken from
before it, or back from these (``endings``).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from csp_engine.errors import InputError
from csp_engine.networks.drifting import gradients_through
from csp_engine.networks.outputs.endings import (
    SIGMOID,
    SOFTMAX,
    Ending,
    Listener,
    Source,
    are_shares,
    ends_in,
    logits_from,
    possible,
    source_of,
)
from csp_engine.networks.steadiness import undisturbed
from csp_engine.types import APART

LOGIT_NAMES = ("logits", "logit", "class_logits", "cls_logits", "y_logits", "pred_logits")
OUTPUT_NAMES = ("out", "output", "outputs", "pred", "preds", "prediction", "predictions", "scores",
                "probs", "probabilities")  # fmt: skip

Path = tuple[Any, ...]
"""Keys and places that lead from an output to one of its tensors."""


def tensors_in(output: Any) -> dict[Path, torch.Tensor]:
    """Every tensor of a nested output by the way to it, in order."""
    if isinstance(output, torch.Tensor):
        return {(): output}
    items: Any = ()
    if isinstance(output, Mapping):  # a transformers ModelOutput is one, too
        items = output.items()
    elif isinstance(output, Sequence) and not isinstance(output, str):
        items = enumerate(output)
    elif hasattr(output, "__dataclass_fields__"):
        items = ((key, getattr(output, key)) for key in output.__dataclass_fields__)
    return {(key, *rest): t for key, value in items for rest, t in tensors_in(value).items()}


def _rows(tensors: Mapping[Path, torch.Tensor]) -> dict[Path, torch.Tensor]:
    return {path: t for path, t in tensors.items() if t.ndim == 2 and t.is_floating_point()}


def _as_rows(tensors: Mapping[Path, torch.Tensor], n_names: int | None) -> dict[Path, torch.Tensor]:
    """Tensors of one number for each image, ``(n,)``, or of maps of one place, ``(n, c, 1, 1)``.

    As rows; from among several only those that are called as logits are, or of as many columns as
    there are class names, for such are features and losses too.
    """
    found = {}
    for path, t in tensors.items():
        if not t.is_floating_point() or t.ndim == 0 or math.prod(t.shape[2:]) != 1:
            continue
        rows = t[:, None] if t.ndim == 1 else t.flatten(1)
        is_named = bool(path) and path[-1] in (*LOGIT_NAMES, *OUTPUT_NAMES)
        if not path or is_named or rows.shape[1] == n_names:
            found[path] = rows
    return found


class OutputReader:
    """Finds a network's logits in its outputs, once, and takes them from the same place after."""

    def __init__(
        self,
        network: nn.Module,
        name: str,
        class_names: Sequence[str] | None,
        run: Callable[[torch.Tensor], Any],
        input_shape: tuple[int, int, int],
        tell: Callable[[str], object] = lambda notice: None,
    ) -> None:
        """Prepare to look.

        Args:
            network: what runs.
            name: how errors call it.
            class_names: names of its outputs, where they are known.
            run: pixels to output.
            input_shape: of one image's pixels.
            tell: called with a sentence where the network returns probabilities.
        """
        self._network = network
        self._name = name
        self._n_names = None if class_names is None else len(class_names)
        self._run = run
        self._input_shape = input_shape
        self._tell = tell
        self._path: Path | None = None
        self._is_known = False
        self._ending: Ending | None = None
        self._source: Source | None = None
        self._before = Listener()

    @contextmanager
    def listening(self) -> Generator[None]:
        """Hears, in the pass inside, what goes into the softmax or sigmoid that ends it."""
        if self._is_known and self._source is None:
            yield
            return
        with self._before.on(self._network, self._source.module if self._source else None):
            yield

    @property
    def are_apart(self) -> bool:
        """Whether each output is a yes or no of its own, not one class of several.

        So it is where a network says so: by its last step, a sigmoid of each, known once an output
        was read; or by its configuration, as those of transformers do.
        """
        return self._is_stated_apart or (self._ending is not None and not self._ending.is_shared)

    @property
    def _is_stated_apart(self) -> bool:
        config = getattr(self._network, "config", None)
        return getattr(config, "problem_type", None) == "multi_label_classification"

    def logits(self, output: Any) -> torch.Tensor | None:
        """The ``(n, classes)`` tensor of an output, or None if the network is no classifier.

        Of several tensors with a row per image the one called logits counts, then the one that has
        as many columns as there are class names, then the one that the others lead to, then
        probabilities of classes or what the network's last linear layer gave.

        Of a network that ends in a softmax, a sigmoid or the logarithm of either, logits are what
        goes into it, where that is what a layer gives. Elsewhere probabilities p of a softmax
        become log p, which differs from the logits by one number for each image and so has the
        same log-odds, but another gradient; those of a sigmoid become log p - log(1 - p).

        Raises:
            InputError: it cannot be told which of several tensors holds the logits, there are more
                or fewer of them than class names, or rows are probabilities of classes for some
                images only.
        """
        tensor = self._tensor(output)
        if tensor is None:
            return None
        if self._n_names not in (None, tensor.shape[1]):
            raise InputError(
                f"{self._name} gives {tensor.shape[1]} outputs and has {self._n_names} class "
                "names; give one name per output."
            )
        known = tensor[tensor.isfinite().all(1)]  # who uses the others says of which image they are
        if not len(known):
            return tensor
        if not self._is_known:
            self._look_at_the_end(tensor, known)
        if self._ending is None:
            return tensor
        heard = None if self._source is None else self._before.given.get(self._source.module)
        if self._source is not None and heard is not None:
            # Something may have been changed in between, as by whoever tries a layer's effects.
            before = logits_from(heard, self._source, tensor, self._ending)
            if before is not None:
                return before
        if self._ending is SOFTMAX and not are_shares(known):
            raise InputError(
                f"{self._name} gives probabilities of classes for some images and other "
                "numbers for others; return its logits from a python: factory."
            )
        logits = self._ending.undone(tensor.float())
        if not self._ending.is_shared and (logits.isinf() & tensor.isfinite()).any():
            raise InputError(
                f"What {self._name} returns for an image is so near to certain that its logit is "
                "lost; return its logits from a python: factory."
            )
        return logits

    def _look_at_the_end(self, tensor: torch.Tensor, known: torch.Tensor) -> None:
        """Find what turns logits into what the network returns, if anything, and say so."""
        self._is_known = True
        if self._is_stated_apart and tensor.shape[1] > 1:
            self._tell(f"{self._name} is configured for several labels at once. {APART}")
        ending = possible(known)
        if ending is None:
            return
        self._source = source_of(tensor, self._before.given, ending)
        if self._source is None and not ending.is_shared:
            given = self._tensor(self._of_noise())
            if given is None or not ends_in(given, ending):
                if ending is SIGMOID:
                    self._tell(
                        f"All that {self._name} returned for the first images lies between 0 and "
                        "1. It is taken for logits; if these are probabilities, return the logits "
                        "from a python: factory."
                    )
                return
        self._ending = ending
        told = "what goes into it is taken for its logits."
        if self._source is None:
            told = "logits are taken back from what it returns."
            if ending.is_shared:
                told += " Influence is that on the logarithm of a class's probability."
        if self.are_apart and not self._is_stated_apart and tensor.shape[1] > 1:
            told += f" {APART}"
        self._tell(f"{self._name} ends in a {ending.name}; {told}")

    def _tensor(self, output: Any) -> torch.Tensor | None:
        tensors = tensors_in(output)
        rows = _rows(tensors) or _as_rows(tensors, self._n_names)
        if self._path not in rows:
            is_one = isinstance(output, torch.Tensor)
            self._path = next(iter(rows), None) if is_one else self._find(output, rows)
        if self._path is None:
            return None
        shape = tuple(tensors[self._path].shape)
        if len(shape) > 2 and not self._is_known:
            self._tell(
                f"{self._name} gives its outputs as maps of one place, {shape}; they are taken for "
                "its logits."
            )
        return rows[self._path]

    def _find(self, output: Any, rows: Mapping[Path, torch.Tensor]) -> Path | None:
        for names in (LOGIT_NAMES, OUTPUT_NAMES):
            for name in names:
                called = [path for path in rows if path[-1] == name]
                least = min(map(len, called), default=0)
                called = [path for path in called if len(path) == least]
                fitting = [path for path in called if rows[path].shape[1] == self._n_names]
                for found in (called, fitting):
                    if len(found) == 1:
                        return found[0]
                if called:  # several heads
                    raise self._cannot_be_told({path: rows[path] for path in called})
        if isinstance(output, Mapping) or hasattr(output, "__dataclass_fields__"):
            return None  # named outputs of which none is called logits: features, a pooled vector
        if list(rows) in ([], [(0,)]):
            return next(iter(rows), None)
        fitting = [path for path, t in rows.items() if t.shape[1] == self._n_names]
        if len(fitting) == 1:
            return fitting[0]
        found = self._last_of(rows)
        if found is not None or len(rows) == 1:
            return found
        raise self._cannot_be_told(rows)

    def _cannot_be_told(self, rows: Mapping[Path, torch.Tensor]) -> InputError:
        shapes = ", ".join(f"{'.'.join(map(str, p))}: n x {t.shape[1]}" for p, t in rows.items())
        return InputError(
            f"Which output of {self._name} holds the logits cannot be told ({shapes}); return "
            "the logits alone, or a dict with 'logits', from a python: factory; or leave out "
            "--output and --class-names and add --influence-images 0."
        )

    def _last_of(self, rows: Mapping[Path, torch.Tensor]) -> Path | None:
        """The tensor that a classifier computes last, by a pass over noise; None if unclear.

        Features lead to logits and so do the weights of attention, which look like probabilities;
        logits lead to probabilities.
        """
        given: list[torch.Tensor] = []

        def listening() -> list[Any]:
            return [
                module.register_forward_hook(lambda m, a, output: given.append(output))
                for module in self._network.modules()
                if isinstance(module, nn.Linear)
            ]

        found = _rows(tensors_in(self._of_noise(listening)))
        found = {path: tensor for path, tensor in found.items() if path in rows}
        last = [
            path
            for path, tensor in found.items()
            if not any(_leads_to(tensor, other) for other in found.values() if other is not tensor)
        ]
        linear = {p for p, each in found.items() if any(torch.equal(each, t) for t in given)}
        answers = [
            path
            for path in last
            if _are_probabilities(rows[path]) or ends_in(found[path], SIGMOID) or path in linear
        ]
        is_fed = len({id(tensor) for tensor in found.values()}) > 1
        if is_fed and len({id(found[path]) for path in last}) == 1:
            # What is worked out from logits, such as a variance for each, is as wide as these.
            before = [found[path] for path in linear if path not in last]
            is_like = any(tensor.shape == found[last[0]].shape for tensor in before)
            return last[0] if answers or not is_like else None
        return answers[0] if len(answers) == 1 else None

    def _of_noise(self, listening: Callable[[], list[Any]] = list) -> Any:
        """What the network gives for two images of noise, with gradients; other hooks see nothing.

        Args:
            listening: registers hooks, and gives their handles.
        """
        noise = torch.Generator().manual_seed(0)
        place = next(self._network.parameters(), torch.zeros(0)).device
        heard = dict(self._before.given)  # of the pass that is looked at
        with (
            undisturbed(self._network),
            _unheard(self._network),
            gradients_through(self._network, self._name),
        ):
            handles = listening()
            try:
                x = torch.randn(2, *self._input_shape, generator=noise).to(place)
                return self._run(x.requires_grad_(True))
            finally:
                for handle in handles:
                    handle.remove()
                self._before.given.clear()
                self._before.given.update(heard)


def _are_probabilities(tensor: torch.Tensor) -> bool:
    """Whether rows are what a softmax gives, which nothing else is."""
    known = tensor[tensor.isfinite().all(1)]
    ending = possible(known) if len(known) else None
    return ending is not None and ending.is_shared


@contextmanager
def _unheard(network: nn.Module) -> Generator[None]:
    """Nobody who listens to the network hears of what it does inside."""
    modules = list(network.modules())
    kept = [(module._forward_hooks, module._forward_pre_hooks) for module in modules]
    for module in modules:
        module._forward_hooks, module._forward_pre_hooks = OrderedDict(), OrderedDict()
    try:
        yield
    finally:
        for module, (after, before) in zip(modules, kept, strict=True):
            module._forward_hooks, module._forward_pre_hooks = after, before


def _leads_to(source: torch.Tensor, target: torch.Tensor) -> bool:
    if not (source.requires_grad and target.requires_grad):
        return False
    with torch.inference_mode(False), torch.enable_grad():
        (gradient,) = torch.autograd.grad(
            target.sum(), [source], allow_unused=True, retain_graph=True
        )
    return gradient is not None
