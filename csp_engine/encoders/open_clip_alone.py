"""The library open_clip without what most encoders never use of it.

Where timm and transformers are installed it imports both; where they are not, it does without, and
so it does here. Torchvision, which it needs, imports torch's compiler to ask one thing of it, which
nobody does who only encodes. All this takes longer than the encoder of the demo and its text.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

LEFT_OUT = ("timm", "transformers")
COMPILER = "torch._dynamo.utils"


def prepare(described: Mapping[str, Any] | None) -> None:
    """Import open_clip as the encoder needs it that will be loaded next.

    For a process that loads no network but encoders: where open_clip was imported for another
    encoder, without what this one needs, it will be imported a second time.

    Args:
        described: the ``description`` of the encoder; None where nothing is known of it.
    """
    if described is not None and is_alone(described):
        if "open_clip" not in sys.modules:
            with _left_out():
                import open_clip  # noqa: F401
    elif _lacks_something():
        for name in [each for each in sys.modules if each.partition(".")[0] == "open_clip"]:
            del sys.modules[name]


def is_alone(described: Mapping[str, Any]) -> bool:
    """Whether an encoder consists of open_clip's own parts."""
    architecture = described.get("architecture", {})
    vision, text = (architecture.get(part) for part in ("vision_cfg", "text_cfg"))
    return (
        described.get("kind") == "open_clip"
        and isinstance(vision, Mapping)
        and isinstance(text, Mapping)
        and not vision.get("timm_model_name")
        and not text.get("hf_model_name")
        and "multimodal_cfg" not in architecture
    )


def _lacks_something() -> bool:
    held = (("open_clip.timm_model", "timm"), ("open_clip.hf_model", "transformers"))
    return any(name in sys.modules and getattr(sys.modules[name], of) is None for name, of in held)


@contextmanager
def _left_out() -> Generator[None]:
    """Within the block, importing what is left out fails, unless it has been imported before."""
    held: dict[str, Any] = sys.modules
    names = [name for name in LEFT_OUT if name not in held]
    held.update(dict.fromkeys(names))
    later = _Later(COMPILER)
    sys.modules.setdefault(COMPILER, later)
    try:
        yield
    finally:
        for name in names:
            del held[name]
        later.leave()


class _Later(ModuleType):
    """A part of torch's compiler that is imported as soon as anything is done with it."""

    def is_compile_supported(self, device: Any) -> Any:
        """What torchvision takes from it as it is imported, and calls to align regions."""
        return self._real().is_compile_supported(device)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # whoever walks all modules asks for their files
            raise AttributeError(name)
        return getattr(self._real(), name)

    def _real(self) -> ModuleType:
        self.leave()
        from torch._dynamo import utils

        return utils

    def leave(self) -> None:
        """Stand in the way no longer."""
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
