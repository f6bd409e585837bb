"""Where the logits are in what a classifier returns: a tensor, a tuple, a mapping, or nested.

Some classifiers end in a softmax or a sigmoid and return probabilities; their logits are taken back
from these.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from csp_engine.errors import InputError

LOGIT_NAMES = ("logits", "logit", "class_logits", "cls_logits", "y_logits", "pred_logits")
OUTPUT_NAMES = ("out", "output", "outputs", "pred", "preds", "prediction", "predictions", "scores")

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
        self._ending: str | None = None

    def logits(self, output: Any) -> torch.Tensor | None:
        """The ``(n, classes)`` tensor of an output, or None if the network is no classifier.

        Of several tensors with a row per image the one called logits counts, then the one that has
        as many columns as there are class names, then what the network's last linear layer gave.

        Probabilities p of a softmax become log p, which differs from the logits by one number for
        each image and so has the same log-odds; those of a sigmoid become log p - log(1 - p).

        Raises:
            InputError: it cannot be told which of several tensors holds the logits, or rows are
                probabilities of classes for some images only.
        """
        tensor = self._tensor(output)
        if tensor is None:
            return None
        known = tensor[tensor.isfinite().all(1)]  # who uses the others says of which image they are
        if not len(known):
            return tensor
        if self._ending is None:
            self._ending = self._how_it_ends(known)
            if self._ending:
                self._tell(
                    f"{self._name} ends in a {self._ending}; logits are taken back from its "
                    "probabilities."
                )
        if self._ending == "softmax":
            if not _are_shares(known):
                raise InputError(
                    f"{self._name} gives probabilities of classes for some images and other "
                    "numbers for others; return its logits from a python: factory."
                )
            return tensor.float().log()
        if self._ending == "sigmoid":
            p = tensor.float()
            return p.log() - torch.log1p(-p)
        return tensor

    def _how_it_ends(self, tensor: torch.Tensor) -> str:
        """By its name, what turns logits into the probabilities that a network gives, if any."""
        if _are_shares(tensor):
            return "softmax"
        # A logit may lie between 0 and 1, too, so that here the last operation decides.
        if not ((tensor >= 0) & (tensor <= 1)).all():
            return ""
        given = self._tensor(self._of_noise())
        step = None if given is None else given.grad_fn
        while step is not None and step.name().startswith(_RESHAPING):
            step = next((before for before, _ in step.next_functions if before is not None), None)
        return "sigmoid" if step is not None and step.name().startswith("Sigmoid") else ""

    def _tensor(self, output: Any) -> torch.Tensor | None:
        if isinstance(output, torch.Tensor):
            return next(iter(_rows({(): output}).values()), None)
        rows = _rows(tensors_in(output))
        if self._path not in rows:
            self._path = self._find(output, rows)
        return None if self._path is None else rows[self._path]

    def _find(self, output: Any, rows: Mapping[Path, torch.Tensor]) -> Path | None:
        for names in (LOGIT_NAMES, OUTPUT_NAMES):
            for name in names:
                called = [path for path in rows if path[-1] == name]
                if called:
                    return min(called, key=len)
        if isinstance(output, Mapping) or hasattr(output, "__dataclass_fields__"):
            return None  # named outputs of which none is called logits: features, a pooled vector
        if list(rows) in ([], [(0,)]):
            return next(iter(rows), None)
        fitting = [path for path, t in rows.items() if t.shape[1] == self._n_names]
        if len(fitting) == 1:
            return fitting[0]
        found = self._of_last_linear()
        if found in rows or len(rows) == 1:
            return found
        shapes = ", ".join(f"{'.'.join(map(str, p))}: n x {t.shape[1]}" for p, t in rows.items())
        raise InputError(
            f"Which output of {self._name} holds the logits cannot be told ({shapes}); return "
            "the logits alone, or a dict with 'logits', from a python: factory; or leave out "
            "--output and --class-names and add --influence-images 0."
        )

    def _of_last_linear(self) -> Path | None:
        """The tensor that the linear layer gives that runs last, unless there are two heads."""
        given: list[torch.Tensor] = []

        def listening() -> list[Any]:
            return [
                module.register_forward_hook(lambda m, a, output: given.append(output))
                for module in self._network.modules()
                if isinstance(module, nn.Linear)
            ]

        rows = _rows(tensors_in(self._of_noise(listening)))
        heads = {
            path: tensor
            for tensor in given
            for path, t in rows.items()
            if t.shape == tensor.shape and torch.equal(t, tensor)
        }
        if not heads:
            return None
        last, logits = list(heads.items())[-1]
        for path in heads:
            if path != last and not _leads_to(rows[path], logits):
                return None  # an auxiliary head, not features that the last one reads
        return last

    def _of_noise(self, listening: Callable[[], list[Any]] = list) -> Any:
        """What the network gives for two images of noise, with gradients; other hooks see nothing.

        Args:
            listening: registers hooks, and gives their handles.
        """
        noise = torch.Generator().manual_seed(0)
        place = next(self._network.parameters(), torch.zeros(0)).device
        with _unheard(self._network), torch.inference_mode(False), torch.enable_grad():
            handles = listening()
            try:
                x = torch.randn(2, *self._input_shape, generator=noise).to(place)
                return self._run(x.requires_grad_(True))
            finally:
                for handle in handles:
                    handle.remove()


_RESHAPING = ("View", "UnsafeView", "Reshape", "Squeeze", "Unsqueeze", "Select", "Slice",
              "ToCopy", "Clone", "Alias", "AsStrided", "Transpose", "Permute")  # fmt: skip
"""Operations that move or copy numbers and leave them as they are."""


def _are_shares(tensor: torch.Tensor) -> bool:
    """Whether each row of two numbers or more is nowhere below 0 and sums to 1."""
    loss = max(1e-4, 2 * torch.finfo(tensor.dtype).eps)
    sums = tensor.float().sum(1)
    return tensor.shape[1] > 1 and bool((tensor >= 0).all() and ((sums - 1).abs() <= loss).all())


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
    with torch.inference_mode(False), torch.enable_grad():
        (gradient,) = torch.autograd.grad(
            target.sum(), [source], allow_unused=True, retain_graph=True
        )
    return gradient is not None
