"""The captioner's numbers and ranking against slow loops over tokens and over all phrases."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from csp_engine.captioners import ImageSet
from csp_engine.captioners.set_captioner import EOS, PAD, SPECIAL
from tests.reference import captioning_reference as reference
from tests.worlds.small_captioner import small_captioner

WORDS = ["red", "and", "blue"]


@pytest.fixture(scope="module")
def captioner(tmp_path_factory):
    """Three words and no letters, so that all phrases can be written down."""
    pieces = [*SPECIAL, *WORDS]
    tokenizer = Tokenizer(
        models.WordPiece(vocab={p: i for i, p in enumerate(pieces)}, unk_token=SPECIAL[2])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    folder = tmp_path_factory.mktemp("captioner")
    return small_captioner(
        folder / "c",
        tokenizer=tokenizer,
        phrases=["red and blue", "blue", "red"],
        n_tokens=3,
        nothing="and and and",
    )


def images(seed: int, n_activating: int = 4, n_contrast: int = 3) -> ImageSet:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n_activating + n_contrast, 16)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return ImageSet(rows[:n_activating], rows[n_activating:])


def next_token(captioner, image_set: ImageSet | None) -> reference.Next:
    """One run of the whole network per token, on an unpadded set."""
    network = captioner.network
    if image_set is None:
        parts, roles = np.zeros((0, 16), np.float32), []
    else:
        parts = np.concatenate([image_set.activating_md, image_set.contrast_cd])
        roles = [0] * len(image_set.activating_md) + [1] * len(image_set.contrast_cd)
    shown = torch.ones(1, len(roles), dtype=torch.bool)
    with torch.no_grad():
        rows, mask = network.rows(
            torch.from_numpy(parts)[None], torch.tensor([roles], dtype=torch.long), shown
        )

    def after(tokens):
        with torch.no_grad():
            logits = network(
                inputs_embeds=rows,
                attention_mask=mask,
                decoder_input_ids=torch.tensor([[PAD, *tokens]]),
            ).logits
        return logits[0, -1].double().softmax(-1).tolist()

    return after


@pytest.mark.parametrize("seed", range(3))
def test_log_probabilities_are_the_sum_over_tokens(captioner, seed):
    shown = images(seed, 1 + seed, seed)
    texts = ["red", "blue and red", "and", "red red red red"]
    given, alone = next_token(captioner, shown), next_token(captioner, None)
    for i, text in enumerate(texts):
        tokens = [*captioner.tokenizer.encode(text).ids, EOS]
        assert captioner.log_p(shown, texts)[i] == pytest.approx(
            reference.log_probability(given, tokens), abs=1e-4
        )
        assert captioner.log_prior(texts)[i] == pytest.approx(
            reference.log_probability(alone, tokens), abs=1e-4
        )


@pytest.mark.slow
@pytest.mark.parametrize("weight", [0.0, 0.2, 0.7, 1.0])
@pytest.mark.parametrize("seed", range(2))
def test_the_ranking_is_that_of_all_phrases(captioner, seed, weight):
    """With a beam wide enough to hold every phrase, reranking finds the best by the formula."""
    shown = images(seed)
    (found,) = captioner.describe([shown], n_phrases=6, n_beams=120, prior_weight=weight)
    words = [captioner.tokenizer.token_to_id(word) for word in WORDS]
    ranked = reference.rerank(
        next_token(captioner, shown),
        next_token(captioner, None),
        reference.all_phrases(words, 3),
        EOS,
        weight,
    )
    expected = [
        (" ".join(captioner.tokenizer.id_to_token(t) for t in phrase), *numbers)
        for *numbers, phrase in ranked
    ]
    expected = [row for row in expected if row[0] != "and and and"]
    assert [c.text for c in found.phrases] == [text for text, *_ in expected[:6]]
    for caption, (_, score, log_p, log_prior) in zip(found.phrases, expected, strict=False):
        assert (caption.pmi, caption.log_p, caption.log_prior) == pytest.approx(
            (score, log_p, log_prior), abs=1e-4
        )


def test_probability_of_nothing_in_common_is_that_of_its_phrase(captioner):
    shown = images(5)
    (found,) = captioner.describe([shown], n_beams=8)
    assert found.p_nothing == pytest.approx(
        float(np.exp(captioner.log_p(shown, ["and and and"])[0])), rel=1e-4
    )
