"""What the configuration beside weights may ask of a library: allowed keys, allowed kinds of value.

A folder of weights is data, and so is the configuration in it. The libraries that read such files
do more on request: import a module of the folder, fetch another repository, swap in a kernel. So
what they get is not the file but what is left of it here, key by key; see ``encoders.approved``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from csp_engine.errors import InputError

Check = Callable[[Any], bool]

ASKS_FOR_CODE = frozenset(
    {
        "auto_map",
        "trust_remote_code",
        "code_revision",
        "custom_pipelines",
        "custom_generate",
        "quantization_config",
        "compression_config",
        "kernel_config",
        "use_kernels",
        "adapter_config",
        "generator",
    }
)
"""Settings by which a library imports what lies in a folder or a repository, or loads another."""

ADAPTER = "adapter_config.json"
_ELSEWHERE = re.compile(r"(hf-hub|local-dir|file|https?|s3):", re.IGNORECASE)
_MOST_NESTED = 12


def refuse_code(settings: Any, where: str, depth: int = 0) -> None:
    """Refuse settings that would run code or load something from another place.

    Raises:
        InputError: naming the setting.
    """
    if depth > _MOST_NESTED:
        raise InputError(f"{where} is nested more than {_MOST_NESTED} deep; restore the file.")
    if isinstance(settings, Mapping):
        for key, value in settings.items():
            name = str(key)
            if name in ASKS_FOR_CODE and value not in (None, False):
                raise _refused(where, name)
            if "attn_implementation" in name and "/" in str(value):
                raise _refused(where, name)
            refuse_code(value, where, depth + 1)
    elif isinstance(settings, list | tuple):
        for value in settings:
            refuse_code(value, where, depth + 1)
    elif isinstance(settings, str) and _ELSEWHERE.match(settings):
        raise InputError(
            f"{where} points to {settings[:80]!r}; an encoder's files must all lie in its folder, "
            "so put them there."
        )


def refuse_adapter(folder: Path) -> None:
    """Refuse a folder with weights to be put on top of others, which would be left out, or fetched.

    Libraries apply an adapter where another package is installed, and say nothing where it is not;
    its configuration names the network below it, which may lie anywhere.

    Raises:
        InputError: as said.
    """
    if (folder / ADAPTER).exists():
        raise InputError(
            f"{folder} holds an adapter ({ADAPTER}), which is not applied here; merge it into the "
            "weights (merge_and_unload() in peft), save the whole model and give its folder."
        )


def _refused(where: str, name: str) -> InputError:
    return InputError(
        f"{where} asks for code to be run ({name}), but such a folder is only data; if you trust "
        "its code, write a function that loads it and name that as python:module:function."
    )


def checked(settings: Mapping[str, Any], rules: Mapping[str, Check], where: str) -> dict[str, Any]:
    """The same settings, every one known and of an allowed kind; None counts as not stated.

    Raises:
        InputError: for any other, naming it.
    """
    refuse_code(settings, where)
    unknown = sorted(str(key) for key in settings if key not in rules)
    if unknown:
        raise InputError(
            f"{where} has the setting {unknown[0]!r}, which is not known here; known are "
            f"{', '.join(sorted(rules))}."
        )
    for key, value in settings.items():
        if value is not None and not rules[key](value):
            raise InputError(
                f"{where} has {key} {str(value)[:80]!r}, which it cannot be; correct the file."
            )
    return dict(settings)


# ------------------------------------------------------------------ kinds of value


def flag(value: Any) -> bool:
    """True or False."""
    return isinstance(value, bool)


def count(value: Any) -> bool:
    """A whole number that something can have so many of."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 10_000_000


def number(value: Any) -> bool:
    """Any finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e30


def counts(value: Any) -> bool:
    """One whole number, or a few."""
    return count(value) or (
        isinstance(value, list) and 1 <= len(value) <= 16 and all(map(count, value))
    )


def name(value: Any) -> bool:
    """A word that names something a library has; no path."""
    return isinstance(value, str) and re.fullmatch(r"[\w.-]{0,100}", value) is not None


def repository(value: Any) -> bool:
    """``name`` or ``organisation/name``: no path, here or anywhere."""
    return (
        isinstance(value, str)
        and re.fullmatch(r"(\w[\w.-]*/)?\w[\w.-]*", value) is not None
        and ".." not in value
    )


def one_of(*known: str) -> Check:
    """One of these words."""
    return lambda value: value in known


def each_of(rules: Mapping[str, Check]) -> Check:
    """An object of these settings alone."""

    def passes(value: Any) -> bool:
        return isinstance(value, dict) and all(
            key in rules and rules[key](each) for key, each in value.items()
        )

    return passes


def is_plain(value: Any, depth: int = 0) -> bool:
    """Whether a value is text, numbers and flags, in lists and objects a few deep."""
    if value is None or isinstance(value, bool | int | float):
        return True
    if isinstance(value, str):
        return len(value) < 10_000
    if depth >= 4:
        return False
    if isinstance(value, list):
        return all(is_plain(each, depth + 1) for each in value)
    return isinstance(value, dict) and all(is_plain(each, depth + 1) for each in value.values())
