"""Any image-text-to-text model of transformers, by name or from a folder, by its chat template.

Only the person who builds can name one; a bundle cannot. Code that comes with a model is refused,
and weights are read from safetensors only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from csp_engine.captioners.generators.asking import Question
from csp_engine.captioners.generators.kept import Answer
from csp_engine.captioners.generators.naming import Named
from csp_engine.captioners.generators.prompts import N_SHOWN
from csp_engine.encoders.base import freeze, plain, read_json
from csp_engine.errors import InputError, MissingModelError
from csp_engine.hashing import sha256_unescaped_json
from csp_engine.networks.loading.checkpoints import downloading, is_offline, short_reason
from csp_engine.networks.loading.settings import refuse_adapter, refuse_code
from csp_engine.networks.models import state_sha256

_NOTES = ("_name_or_path", "transformers_version", "dtype", "torch_dtype")
"""What a configuration holds though no answer depends on it."""


class Local:
    """A generator that runs here."""

    n_images = N_SHOWN

    def __init__(self, named: Named, network: Any, processor: Any, device: str) -> None:
        self.spec = named.spec
        self.named = named
        self.network = freeze(network, device)
        self.processor = processor
        self._device = device
        settings = plain(network.config.to_dict())
        self.description: dict[str, Any] = {
            "kind": "transformers",
            "model": named.what,
            "tokens": named.whole("tokens"),
            "architecture": {k: v for k, v in settings.items() if k not in _NOTES},
            "weights_sha256": state_sha256(network),
            "chat_template": processor.chat_template,
            "image_processor": plain(processor.image_processor.to_dict()),
            "tokenizer_sha256": sha256_unescaped_json(
                sorted(processor.tokenizer.get_vocab().items())
            ),
        }
        decisive = {k: v for k, v in self.description.items() if k != "model"}
        self.fingerprint = sha256_unescaped_json(decisive)
        self.n_at_once = named.whole("batch")

    def answer(self, questions: Sequence[Question], keep: Callable[[int, Answer], None]) -> None:
        """See ``Generator``.

        Raises:
            InputError: if the model cannot take the questions, or there is too little memory.
        """
        by_grids: dict[int, list[int]] = {}
        for place, question in enumerate(questions):
            by_grids.setdefault(len(question.grids), []).append(place)
        for places in by_grids.values():
            for place, answer in zip(
                places, self._answers([questions[place] for place in places]), strict=True
            ):
                keep(place, answer)

    def _answers(self, questions: Sequence[Question]) -> list[Answer]:
        """Questions with the same number of grids, in one batch, greedily decoded."""
        try:
            given = self._given(questions)
            with torch.inference_mode():
                ids = self.network.generate(
                    **given,
                    do_sample=False,
                    num_beams=1,
                    max_new_tokens=self.named.whole("tokens"),
                )
        except torch.OutOfMemoryError:
            raise InputError(
                f"{self.named.what} needs more memory than there is for "
                f"{len(questions)} questions together; end its name with #batch="
                f"{max(1, len(questions) // 2)}, or take a smaller model."
            ) from None
        except (ValueError, IndexError, RuntimeError, TypeError) as error:
            raise InputError(
                f"{self.named.what} cannot be asked about {len(questions[0].grids)} images "
                f"({short_reason(error)}); choose a model that takes several images and a text."
            ) from error
        n_given = given["input_ids"].shape[1]
        found = []
        for row, mask in zip(ids, given["attention_mask"], strict=True):
            said = row[n_given:]
            text = self.processor.tokenizer.decode(said, skip_special_tokens=True)
            found.append(Answer(text, "", int(mask.sum()), self._n_said(said)))
        return found

    def _n_said(self, said: torch.Tensor) -> int:
        """Tokens of an answer, up to where it ends."""
        padding = self.processor.tokenizer.pad_token_id
        return int((said != padding).sum()) if padding is not None else len(said)

    def _given(self, questions: Sequence[Question]) -> Any:
        chats = [
            [
                {
                    "role": "user",
                    "content": [
                        *({"type": "image"} for _ in question.grids),
                        {"type": "text", "text": question.prompt},
                    ],
                }
            ]
            for question in questions
        ]
        texts = [
            self.processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
            for chat in chats
        ]
        return self.processor(
            text=texts,
            images=[list(question.grids) for question in questions],
            padding=True,
            return_tensors="pt",
        ).to(self._device)


def load_local(named: Named, *, device: str = "cpu") -> Local:
    """Load ``transformers/NAME_OR_FOLDER``.

    Raises:
        InputError: if it is no model that is shown images and answers in words, has no chat
            template, or asks for code of its own.
        MissingModelError: if it is not on this machine and cannot be fetched.
    """
    import transformers

    folder = _own_folder(named.what)
    source = named.what if folder is None else str(folder)
    options: dict[str, Any] = {
        "local_files_only": folder is not None or is_offline(),
        "trust_remote_code": False,
    }
    what = f"The files of the captioner transformers/{named.what}"
    next_step = (
        f"fetch it where there is a network with 'hf download {named.what}', or give a folder "
        "written by save_pretrained()"
    )
    try:
        with downloading(what, next_step):
            config = transformers.AutoConfig.from_pretrained(source, **options)
            refuse_code(config.to_dict(), f"config.json of transformers/{named.what}")
            _require_shown(transformers, config, named.what)
            processor = transformers.AutoProcessor.from_pretrained(source, **options)
            _require_chat(processor, named.what)
            read: Any = transformers.AutoModelForImageTextToText.from_pretrained(
                source,
                config=config,
                dtype="auto" if device != "cpu" else torch.float32,
                use_safetensors=True,
                output_loading_info=True,
                **options,
            )
            network, report = read
    except MissingModelError as error:
        if folder is None:
            raise
        raise InputError(
            f"The captioner {named.what} cannot be used ({short_reason(error.__cause__ or error)})"
            "; copy the folder again, or write it with save_pretrained()."
        ) from error
    wrong = sorted(str(key) for name in ("missing_keys", "mismatched_keys") for key in report[name])
    if wrong:
        raise InputError(
            f"The weights of the captioner {named.what} do not fit its configuration, such as "
            f"{wrong[0]}; copy it again."
        )
    return Local(named, network, processor, device)


def _own_folder(rest: str) -> Path | None:
    """The folder that a spec names, its files looked at, or None where it names a repository."""
    folder = Path(rest).expanduser()
    if not folder.is_dir():
        if rest.startswith((".", "/", "~")):
            raise MissingModelError(
                f"There is no captioner at {rest}; give a folder written by save_pretrained()."
            )
        return None
    refuse_adapter(folder)
    if not (folder / "config.json").is_file():
        raise InputError(f"The folder {rest} has no config.json; save_pretrained() writes one.")
    for path in sorted(folder.glob("*.json")):
        if path.name.endswith("config.json"):
            refuse_code(read_json(path), str(path))
    return folder


def _require_shown(transformers: Any, config: Any, name: str) -> None:
    known = transformers.models.auto.modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    if type(config) not in known:
        raise InputError(
            f"The captioner {name} is a {config.model_type!r} model, which is not shown images and "
            "asked in words; choose an image-text-to-text model, such as LLaVA or SmolVLM."
        )


def _require_chat(processor: Any, name: str) -> None:
    """Refuse what cannot be asked in a chat, and have answers begin at one place in a batch."""
    parts = [hasattr(processor, part) for part in ("tokenizer", "image_processor")]
    if not all(parts) or not getattr(processor, "chat_template", None):
        raise InputError(
            f"The captioner {name} has no chat template, so it cannot be asked a question; choose "
            "a model made for instructions or chat."
        )
    processor.tokenizer.padding_side = "left"
    if processor.tokenizer.pad_token is None:
        processor.tokenizer.pad_token = processor.tokenizer.eos_token
