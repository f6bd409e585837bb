"""Folders of our own that hold what was found harmless, for libraries to read instead.

A library that is pointed at a stranger's folder reads every file that it knows, and reads it after
we have looked. So each gets a new folder: the settings that were approved, vocabularies as they
are, and links to the weights.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from csp_engine.encoders.base import read_json
from csp_engine.encoders.transformers_settings import require_tokenizer_class, tokenizer_config
from csp_engine.networks.loading.settings import refuse_code

VOCABULARY_FILES = (
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "spiece.model",
    "tokenizer.model",
    "sentencepiece.bpe.model",
    "spm.model",
    "bpe.codes",
)
"""Tables of tokens; the libraries that read them know nothing else in them."""

_TOKEN_FILES = ("special_tokens_map.json", "added_tokens.json")
FILES_OF_TOKENIZERS = (
    "config.json",
    "tokenizer_config.json",
    *_TOKEN_FILES,
    *VOCABULARY_FILES,
)
"""All that ``tokenizer_files`` looks at."""


@contextmanager
def approved_folder(
    settings: Mapping[str, Any], links: Mapping[str, Path] | None = None
) -> Generator[Path]:
    """A temporary folder with JSON files of these settings and links to these files."""
    with tempfile.TemporaryDirectory(prefix="csp-approved-") as made:
        folder = Path(made)
        for name, value in settings.items():
            (folder / name).write_text(json.dumps(value), "utf-8")
        for name, source in (links or {}).items():
            _link(source.resolve(), folder / name)
        yield folder


def _link(source: Path, target: Path) -> None:
    try:
        target.symlink_to(source)
    except (OSError, NotImplementedError):  # Windows asks for a right that few have
        shutil.copyfile(source, target)


def tokenizer_files(folder: Path) -> tuple[dict[str, Any], dict[str, Path]]:
    """Approved settings and the vocabulary files of a tokenizer's folder.

    Raises:
        InputError: if a setting is not allowed.
    """
    settings: dict[str, Any] = {}
    path = folder / "tokenizer_config.json"
    if path.is_file():
        settings[path.name] = tokenizer_config(read_json(path), str(path))
    for name in _TOKEN_FILES:
        if (folder / name).is_file():
            settings[name] = read_json(folder / name)
            refuse_code(settings[name], str(folder / name))
    about = folder / "config.json"
    if about.is_file():
        kind = _kind_of_network(about, settings.get(path.name, {}))
        if kind:
            settings[about.name] = kind
    links = {name: folder / name for name in VOCABULARY_FILES if (folder / name).is_file()}
    return settings, links


def _kind_of_network(path: Path, tokenizer: Mapping[str, Any]) -> dict[str, Any]:
    """The little of a network's configuration by which transformers chooses a tokenizer's class."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    stated = read_json(path)
    if not tokenizer.get("tokenizer_class") or "AutoTokenizer" in str(stated.get("auto_map")):
        refuse_code(stated, str(path))
    kept = {}
    if stated.get("model_type") in CONFIG_MAPPING_NAMES:
        kept["model_type"] = stated["model_type"]
    if stated.get("tokenizer_class") is not None:
        require_tokenizer_class(stated["tokenizer_class"], str(path))
        kept["tokenizer_class"] = stated["tokenizer_class"]
    return kept if "model_type" in kept else {}
