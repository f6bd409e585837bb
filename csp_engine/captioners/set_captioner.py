"""A captioner on top of T5: image embeddings go in where words would, in no order.

The encoder side reads one row per image, a linear map of its embedding plus a learned vector for
its role (activating or contrast). T5 knows places only by a bias on attention; the encoder's is
taken out, so a set is a set. The decoder speaks the phrase. Shown no image, the same network reads
one learned row instead and gives the prior p(text).
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, no_type_check

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from torch import nn
from transformers import T5Config, T5ForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput

from csp_engine.captioners.captions import Caption, Captions, ImageSet, pmi
from csp_engine.encoders.approved import approved_folder
from csp_engine.encoders.base import first_line, freeze, plain, read_json
from csp_engine.encoders.transformers_settings import network_config, settings_of
from csp_engine.errors import InputError, MissingModelError
from csp_engine.hashing import sha256_unescaped_json
from csp_engine.networks.models import state_sha256

MODEL_TYPE = "csp-set-captioner"
FILES = ("config.json", "model.safetensors", "tokenizer.json")
PAD, EOS, UNKNOWN = 0, 1, 2
SPECIAL = ("<pad>", "</s>", "<unk>")
_MOST = {"image_dim": 1 << 16, "n_images": 1000, "n_tokens": 1000}
"""Of what its configuration adds to T5's: more would keep a machine busy for hours, or fill it."""
_SETS_PER_BATCH = 64
_DERIVED = {"dense_act_fn", "is_gated_act", "scale_decoder_outputs"}
"""What T5's configuration writes down though it follows from the rest."""
_NOTES = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures")


@no_type_check  # transformers makes it a dataclass that takes more arguments than it has fields
class SetCaptionerConfig(T5Config):
    """T5's configuration and what the captioner was made for.

    ``image_dim`` and ``encoder_fingerprint`` belong to the encoder of the images; ``n_images`` is
    the most images of one role it looks at, ``n_tokens`` the length of the longest phrase it was
    trained on, ``nothing`` the phrase by which it says that a set has nothing in common.
    """

    model_type = MODEL_TYPE

    image_dim: int = 1
    encoder_fingerprint: str = ""
    n_images: int = 30
    n_tokens: int = 16
    nothing: str = ""
    decoder_start_token_id: int | None = PAD


class SetCaptionerNetwork(T5ForConditionalGeneration):
    """T5 with images instead of words on the encoder side.

    ``mean`` and ``scale`` (buffers) bring embeddings to zero mean and unit variance first.
    """

    config_class = SetCaptionerConfig
    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, config: SetCaptionerConfig) -> None:
        super().__init__(config)
        # Without a table of relative places, T5's attention adds zeros: no place is told apart.
        attention: Any = self.encoder.block[0].get_submodule("layer.0.SelfAttention")
        attention.has_relative_attention_bias = False
        del attention.relative_attention_bias
        self.register_buffer("mean", torch.zeros(config.image_dim))
        self.register_buffer("scale", torch.ones(()))
        self.project = nn.Linear(config.image_dim, config.d_model)
        self.project_mean = nn.Linear(config.image_dim, config.d_model)
        self.role = nn.Embedding(4, config.d_model)
        self.no_image = nn.Parameter(torch.zeros(config.d_model))
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, SetCaptionerNetwork) and hasattr(module, "no_image"):
            for linear in (module.project, module.project_mean):
                nn.init.normal_(linear.weight, std=module.config.image_dim**-0.5)
                nn.init.zeros_(linear.bias)
            nn.init.normal_(module.role.weight)
            nn.init.normal_(module.no_image)

    def rows(
        self,
        image_bmd: Float[torch.Tensor, "b m d"],
        role_bm: Int64[torch.Tensor, "b m"],
        is_shown_bm: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What the encoder reads, and its attention mask.

        Three rows come before those of the images: ``no image``, shown if the set is empty; the
        mean of the activating images; and that mean minus the mean of the contrast images, shown
        if there are any.

        Args:
            image_bmd: embeddings, padded with anything finite.
            role_bm: 0 for activating images, 1 for contrast images.
            is_shown_bm: which rows are images.
        """
        plain_bmd = (image_bmd - self.mean) * self.scale
        is_role_b2m = is_shown_bm[:, None] & (
            role_bm[:, None] == torch.arange(2, device=role_bm.device)[:, None]
        )
        n_b2 = is_role_b2m.sum(dim=2)
        mean_b2d = is_role_b2m.to(plain_bmd.dtype) @ plain_bmd / n_b2.clamp(min=1)[..., None]
        mean_b2d = torch.stack([mean_b2d[:, 0], mean_b2d[:, 0] - mean_b2d[:, 1]], dim=1)
        row_bme = torch.cat(
            [
                self.no_image.expand(len(image_bmd), 1, -1),
                self.project_mean(3 * mean_b2d) + self.role.weight[2:],
                self.project(plain_bmd) + self.role(role_bm),
            ],
            dim=1,
        )
        is_none_b1 = ~is_shown_bm.any(dim=1, keepdim=True)
        is_mean_b2 = torch.stack([n_b2[:, 0] > 0, (n_b2 > 0).all(dim=1)], dim=1)
        return row_bme, torch.cat([is_none_b1, is_mean_b2, is_shown_bm], dim=1).long()


def make_tokenizer(phrases: Sequence[str]) -> Tokenizer:
    """One token for each word of the phrases; other words are spelt in letters.

    Words are what white space separates, in their own case. Characters that are neither printable
    ASCII nor in the phrases become ``<unk>``.
    """
    words = sorted({word for phrase in phrases for word in phrase.split()})
    letters = sorted({*(chr(c) for c in range(33, 127)), *"".join(words)})
    pieces = dict.fromkeys([*SPECIAL, *words, *letters, *(f"##{letter}" for letter in letters)])
    tokenizer = Tokenizer(
        models.WordPiece(
            vocab={piece: i for i, piece in enumerate(pieces)},
            unk_token=SPECIAL[UNKNOWN],
            continuing_subword_prefix="##",
        )
    )
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    return tokenizer


class SetCaptioner:
    """The captioner that ``load_captioner`` returns: a network and its tokenizer, ready to use."""

    def __init__(
        self, spec: str, network: SetCaptionerNetwork, tokenizer: Tokenizer, device: str = "cpu"
    ) -> None:
        config = network.config
        self.spec = spec
        self.dim = int(config.image_dim)
        self.n_images = int(config.n_images)
        self.encoder_fingerprint = str(config.encoder_fingerprint)
        self.nothing = str(config.nothing)
        self.network = freeze(network, device)
        self.tokenizer = tokenizer
        self.description: dict[str, Any] = {
            "kind": MODEL_TYPE,
            "architecture": {k: v for k, v in plain(config.to_dict()).items() if k not in _NOTES},
            "weights_sha256": state_sha256(network),
            "tokenizer_sha256": sha256_unescaped_json(tokenizer.to_str()),
        }
        self.fingerprint = sha256_unescaped_json(self.description)
        self._device = device
        self._prior: dict[str, float] = {}

    def describe(
        self,
        sets: Sequence[ImageSet],
        *,
        n_phrases: int = 5,
        n_beams: int = 16,
        prior_weight: float = 0.2,
    ) -> list[Captions]:
        """Name each image set; see ``Captioner``.

        Of each role the first ``n_images`` rows are looked at.

        Raises:
            InputError: for sets without activating images or with embeddings of another width.
        """
        found: list[Captions] = []
        with torch.inference_mode():
            for start in range(0, len(sets), _SETS_PER_BATCH):
                batch = sets[start : start + _SETS_PER_BATCH]
                found += self._describe(batch, n_phrases, n_beams, prior_weight)
        return found

    def log_p(self, images: ImageSet, texts: Sequence[str]) -> Float32[np.ndarray, " t"]:
        """Log p(text | images) of any texts: the sum over their tokens and the end mark."""
        with torch.inference_mode():
            state, mask = self._encoded([images])
            return self._scored(state, mask, [list(texts)])[0].astype(np.float32)

    def log_prior(self, texts: Sequence[str]) -> Float32[np.ndarray, " t"]:
        """Log p(text) of any texts, from the same network shown no image."""
        # One at a time: a text's prior must not depend, by a rounding, on what it is asked with.
        for text in dict.fromkeys(texts):
            if text not in self._prior:
                with torch.inference_mode():
                    shown = torch.zeros(1, 0, dtype=torch.bool, device=self._device)
                    row, mask = self.network.rows(
                        torch.zeros(1, 0, self.dim, device=self._device), shown.long(), shown
                    )
                    state = self.network.encoder(inputs_embeds=row, attention_mask=mask)[0]
                    self._prior[text] = float(self._scored(state, mask, [[text]])[0][0])
        return np.array([self._prior[text] for text in texts], np.float32)

    def _describe(
        self, sets: Sequence[ImageSet], n_phrases: int, n_beams: int, prior_weight: float
    ) -> list[Captions]:
        state, mask = self._encoded(sets)
        proposed = self._beams(state, mask, n_beams)
        asked = [[*texts, self.nothing] for texts in proposed]
        log_ps = self._scored(state, mask, asked)
        captions = []
        for texts, log_p_t in zip(proposed, log_ps, strict=True):
            prior_t = self.log_prior(texts)
            ranked = [
                Caption(text, log_p, log_prior, pmi(log_p, log_prior, prior_weight))
                for text, log_p, log_prior in zip(
                    texts, log_p_t[:-1].tolist(), prior_t.tolist(), strict=True
                )
            ]
            ranked.sort(key=lambda caption: (-caption.pmi, caption.text))
            captions.append(Captions(tuple(ranked[:n_phrases]), math.exp(log_p_t[-1])))
        return captions

    def _encoded(self, sets: Sequence[ImageSet]) -> tuple[torch.Tensor, torch.Tensor]:
        """Encoder states and mask of a batch of sets."""
        rows = []
        for one in sets:
            kept = one.activating_md[: self.n_images], one.contrast_cd[: self.n_images]
            if not len(kept[0]) or any(part.shape[1] != self.dim for part in kept):
                raise InputError(
                    f"The captioner {self.spec} names sets of one image or more with embeddings "
                    f"of width {self.dim}; got {len(kept[0])} of width {kept[0].shape[1]}."
                )
            rows.append(kept)
        longest = max(len(a) + len(c) for a, c in rows)
        image_bmd = np.zeros((len(sets), longest, self.dim), np.float32)
        role_bm = np.zeros((len(sets), longest), np.int64)
        shown_bm = np.zeros((len(sets), longest), bool)
        for b, (activating_md, contrast_cd) in enumerate(rows):
            n_activating, n_shown = len(activating_md), len(activating_md) + len(contrast_cd)
            image_bmd[b, :n_shown] = np.concatenate([activating_md, contrast_cd])
            role_bm[b, n_activating:] = 1
            shown_bm[b, :n_shown] = True
        row_bme, mask_bm = self.network.rows(
            torch.from_numpy(image_bmd).to(self._device),
            torch.from_numpy(role_bm).to(self._device),
            torch.from_numpy(shown_bm).to(self._device),
        )
        return self.network.encoder(inputs_embeds=row_bme, attention_mask=mask_bm)[0], mask_bm

    def _beams(self, state: torch.Tensor, mask: torch.Tensor, n_beams: int) -> list[list[str]]:
        """Different phrases that a beam search ends with, for each set."""
        ids = self.network.generate(
            encoder_outputs=BaseModelOutput(last_hidden_state=state),
            attention_mask=mask,
            num_beams=n_beams,
            num_return_sequences=n_beams,
            max_new_tokens=int(self.network.config.n_tokens) + 1,
            length_penalty=0.0,
            do_sample=False,
            suppress_tokens=[PAD, UNKNOWN],
        )
        texts = [self._spoken(row) for row in ids.tolist()]
        return [
            [
                text
                for text in dict.fromkeys(texts[start : start + n_beams])
                if text and text != self.nothing
            ]
            for start in range(0, len(texts), n_beams)
        ]

    def _spoken(self, ids: Sequence[int]) -> str:
        """The text of a token sequence that came to its end; empty if it did not."""
        body = list(ids[1:])
        if EOS not in body:
            return ""
        return self.tokenizer.decode(body[: body.index(EOS)], skip_special_tokens=False)

    def _scored(
        self, state_bme: torch.Tensor, mask_bm: torch.Tensor, texts: Sequence[Sequence[str]]
    ) -> list[np.ndarray]:
        """Log-probabilities of some texts for each set, in float64."""
        owner_t = torch.tensor([b for b, own in enumerate(texts) for _ in own])
        id_tl = token_rows(self.tokenizer, [text for own in texts for text in own])
        logits = self.network(
            encoder_outputs=BaseModelOutput(last_hidden_state=state_bme[owner_t]),
            attention_mask=mask_bm[owner_t],
            labels=id_tl.to(self._device),
        ).logits
        log_t = token_log_p(logits, id_tl.to(self._device)).sum(dim=1).double().cpu().numpy()
        return np.split(log_t, np.cumsum([len(own) for own in texts])[:-1])


def token_rows(tokenizer: Tokenizer, texts: Sequence[str]) -> Int64[torch.Tensor, "t l"]:
    """Token ids of texts, each ended by its end mark, padded with -100."""
    rows = [[*encoding.ids, EOS] for encoding in tokenizer.encode_batch(list(texts))]
    id_tl = torch.full((len(rows), max(map(len, rows))), -100)
    for t, row in enumerate(rows):
        id_tl[t, : len(row)] = torch.tensor(row)
    return id_tl


def token_log_p(
    logits_tlv: Float[torch.Tensor, "t l v"], id_tl: Int64[torch.Tensor, "t l"]
) -> Float[torch.Tensor, "t l"]:
    """Log-probability of each token given those before it; 0 where padded."""
    log_tlv = logits_tlv.log_softmax(dim=-1)
    log_tl = log_tlv.gather(-1, id_tl.clamp(min=0)[..., None])[..., 0]
    return log_tl * (id_tl >= 0)


def save_set_captioner(folder: Path, network: SetCaptionerNetwork, tokenizer: Tokenizer) -> None:
    """Write a captioner; the folder appears whole or not at all, in place of one that was there."""
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=".tmp-", dir=folder.parent))
    try:
        network.save_pretrained(made)
        (made / "generation_config.json").unlink(missing_ok=True)
        tokenizer.save(str(made / FILES[2]))
        made.chmod(0o755)
        if folder.exists():
            old = Path(tempfile.mkdtemp(prefix=".tmp-", dir=folder.parent))
            folder.rename(old / "old")
            made.rename(folder)
            shutil.rmtree(old)
        else:
            made.rename(folder)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise


def load_set_captioner(folder: Path, *, device: str = "cpu") -> SetCaptioner:
    """See ``load_captioner``."""
    folder = folder.expanduser()
    if not folder.is_dir():
        raise MissingModelError(
            f"There is no captioner at {folder}; give the folder that holds {', '.join(FILES)}."
        )
    lacking = [name for name in FILES if not (folder / name).is_file()]
    if lacking:
        raise MissingModelError(
            f"The captioner {folder} lacks {', '.join(lacking)}; copy or train it again."
        )
    stated = read_json(folder / FILES[0])
    if stated.get("model_type") != MODEL_TYPE:
        raise InputError(
            f"{folder} holds a {stated.get('model_type')!r} model; a captioner is a "
            f"{MODEL_TYPE!r}, and for a model that is shown images write transformers/{folder}."
        )
    try:
        tokenizer = Tokenizer.from_file(str(folder / FILES[2]))
    except Exception as error:  # the library raises nothing more special
        raise InputError(
            f"The tokenizer of the captioner {folder} is damaged ({first_line(error)}); copy it "
            "again."
        ) from None
    own = settings_of(SetCaptionerConfig) | _DERIVED
    settings = network_config(stated, own, str(folder / FILES[0]))
    for name, most in _MOST.items():
        value = settings.get(name, 1)
        if type(value) is not int or not 1 <= value <= most:
            raise InputError(
                f"{folder / FILES[0]} has {name} {value!r:.40}; it must be a whole number from 1 "
                f"to {most}, so copy the captioner again."
            )
    try:
        with approved_folder({FILES[0]: settings}, {FILES[1]: folder / FILES[1]}) as approved:
            config = SetCaptionerConfig.from_pretrained(approved, local_files_only=True)
            read: Any = SetCaptionerNetwork.from_pretrained(
                approved,
                config=config,
                local_files_only=True,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
            )
            network, loaded = read
    except Exception as error:  # safetensors, huggingface_hub and torch each raise their own
        raise InputError(
            f"The captioner {folder} is damaged ({first_line(error)}); copy or train it again."
        ) from None
    keys = ("missing_keys", "unexpected_keys", "mismatched_keys")
    wrong = sorted(str(key) for name in keys for key in loaded[name])
    n_tokens = tokenizer.get_vocab_size()
    fault = ""
    if wrong:
        fault = f"its weights do not fit its configuration, such as {wrong[0]}"
    elif n_tokens != config.vocab_size:
        fault = f"its tokenizer has {n_tokens} tokens instead of {config.vocab_size}"
    elif not config.encoder_fingerprint:
        fault = "its configuration names no encoder"
    if fault:
        raise InputError(f"The captioner {folder} is damaged: {fault}; copy or train it again.")
    captioner = SetCaptioner(os.fspath(folder), network, tokenizer, device)
    _require_words(captioner, folder)
    return captioner


def _require_words(captioner: SetCaptioner, folder: Path) -> None:
    """Refuse one that loads and cannot speak: many settings are looked at no sooner.

    Raises:
        InputError: as said.
    """
    try:
        captioner.describe([ImageSet.of(np.eye(1, captioner.dim, dtype=np.float32))], n_beams=2)
        captioner.log_p(ImageSet.of(np.eye(1, captioner.dim, dtype=np.float32)), ["a"])
    except Exception as error:  # whatever a network and a search raise on settings that do not fit
        raise InputError(
            f"The captioner {folder} says nothing of an image ({first_line(error)}); copy or "
            "train it again."
        ) from error
