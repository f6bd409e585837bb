"""Captioners: sets without order, phrases without doubles, folders that are whole or refused."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from csp_engine.captioners import (
    Captioner,
    ImageSet,
    load_captioner,
    pmi,
    require_encoder,
)
from csp_engine.captioners.set_captioner import FILES, make_tokenizer
from csp_engine.errors import InputError, MissingModelError, StaleError
from tests.worlds.small_captioner import NOTHING, PHRASES, small_captioner


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("captioner") / "small"
    small_captioner(path)
    return path


@pytest.fixture(scope="module")
def captioner(folder):
    return load_captioner(folder)


@pytest.fixture
def own(folder, tmp_path):
    """A copy that the test may damage."""
    return shutil.copytree(folder, tmp_path / "own")


def images(seed: int, n_activating: int = 4, n_contrast: int = 3) -> ImageSet:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n_activating + n_contrast, 16)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return ImageSet(rows[:n_activating], rows[n_activating:])


def numbers(captions) -> np.ndarray:
    return np.array([(c.log_p, c.log_prior, c.pmi) for c in captions.phrases])


def texts(captions) -> list[str]:
    return [c.text for c in captions.phrases]


def test_it_is_a_captioner(captioner):
    assert isinstance(captioner, Captioner)
    assert (captioner.dim, captioner.n_images) == (16, 4)
    assert captioner.encoder_fingerprint == "e" * 64


def test_pmi_by_hand():
    assert pmi(-1.0, -5.0, 0.2) == pytest.approx(0.0)
    assert pmi(-1.0, -5.0, 0.0) == -1.0
    assert pmi(-1.0, -5.0, 1.0) == 4.0


# ---------------------------------------------------------------- sets


def test_order_of_images_does_not_matter(captioner):
    shown = images(1)
    rng = np.random.default_rng(0)
    (before,) = captioner.describe([shown])
    for _ in range(3):
        shuffled = ImageSet(
            shown.activating_md[rng.permutation(4)], shown.contrast_cd[rng.permutation(3)]
        )
        (after,) = captioner.describe([shuffled])
        assert texts(after) == texts(before)
        np.testing.assert_allclose(numbers(after), numbers(before), atol=1e-4)
        assert after.p_nothing == pytest.approx(before.p_nothing, rel=1e-4)


def test_which_images_and_in_which_role_does_matter(captioner):
    shown = images(1)
    reference = captioner.log_p(shown, ["red", "grey stripe"])
    other = [
        ImageSet(shown.contrast_cd, shown.activating_md),
        ImageSet(shown.activating_md, shown.contrast_cd[:0]),
        ImageSet(shown.activating_md[:3], shown.contrast_cd),
        images(2),
    ]
    for changed in other:
        assert np.abs(captioner.log_p(changed, ["red", "grey stripe"]) - reference).max() > 1e-3


def test_a_set_means_the_same_beside_larger_ones(captioner):
    small, large = images(3, 1, 0), images(4, 4, 4)
    (alone,) = captioner.describe([small])
    beside = captioner.describe([large, small, images(5, 2, 4)])[1]
    assert texts(alone) == texts(beside)
    np.testing.assert_allclose(numbers(alone), numbers(beside), atol=1e-4)


def test_no_contrast_images_is_the_positive_only_mode(captioner):
    shown = images(6, 3, 0)
    plain, explicit = captioner.describe([ImageSet.of(shown.activating_md), shown])
    assert plain == explicit


def test_only_the_first_images_are_looked_at(captioner):
    many = images(7, 9, 9)
    first = ImageSet(many.activating_md[:4], many.contrast_cd[:4])
    np.testing.assert_array_equal(captioner.log_p(many, ["red"]), captioner.log_p(first, ["red"]))


def test_repeated_calls_give_the_same_numbers(captioner, folder):
    """An earlier question must not change a later answer, or a resumed build would differ."""
    fresh = load_captioner(folder)
    asked = [images(8), images(9)]
    captioner.describe([images(10), images(11)])
    assert captioner.describe(asked) == fresh.describe(asked)


def test_no_sets(captioner):
    assert captioner.describe([]) == []


@pytest.mark.parametrize(
    "shown",
    [
        ImageSet.of(np.zeros((0, 16), np.float32)),
        ImageSet.of(np.ones((2, 7), np.float32)),
    ],
)
def test_sets_that_cannot_be_named_are_one_sentence(captioner, shown):
    with pytest.raises(InputError, match="one image or more with embeddings of width 16"):
        captioner.describe([images(0), shown])


# ---------------------------------------------------------------- phrases


def test_phrases_are_different_ranked_and_never_nothing(captioner):
    found = captioner.describe([images(seed) for seed in range(12)], n_phrases=8, n_beams=24)
    for captions in found:
        assert len(set(texts(captions))) == len(texts(captions)) > 0
        assert NOTHING not in texts(captions)
        assert "" not in texts(captions)
        score = numbers(captions)
        assert np.all(np.diff(score[:, 2]) <= 0)
        np.testing.assert_allclose(score[:, 2], score[:, 0] - 0.2 * score[:, 1], atol=1e-5)
        assert 0 <= captions.p_nothing <= 1


def test_phrases_are_as_many_as_asked_for(captioner):
    for n in (1, 3):
        (found,) = captioner.describe([images(0)], n_phrases=n)
        assert len(found.phrases) == n
    few, many = (captioner.describe([images(0)], n_phrases=n)[0].phrases for n in (2, 6))
    assert many[:2] == few


def test_every_word_of_the_phrases_is_one_token_and_any_text_has_some():
    tokenizer = make_tokenizer(PHRASES)
    for phrase in PHRASES:
        assert len(tokenizer.encode(phrase).ids) == len(phrase.split())
        assert tokenizer.decode(tokenizer.encode(phrase).ids, skip_special_tokens=False) == phrase
    spelt = tokenizer.encode("blue-white veil (II)")
    assert tokenizer.decode(spelt.ids, skip_special_tokens=False) == "blue-white veil (II)"
    assert "<unk>" not in spelt.tokens
    assert "<unk>" in tokenizer.encode("色").tokens
    assert make_tokenizer(PHRASES[::-1]).to_str() == tokenizer.to_str()


# ---------------------------------------------------------------- folders


def test_the_folder_holds_three_files_and_no_pickle(folder):
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)


@pytest.mark.slow
def test_the_fingerprint_is_that_of_the_content(folder, own, tmp_path):
    first = load_captioner(folder)
    assert load_captioner(own).fingerprint == first.fingerprint
    assert small_captioner(tmp_path / "again").fingerprint == first.fingerprint
    others = [
        small_captioner(tmp_path / "seed", seed=1),
        small_captioner(tmp_path / "encoder", encoder_fingerprint="f" * 64),
        small_captioner(tmp_path / "words", phrases=[p.upper() for p in PHRASES]),
    ]
    assert len({first.fingerprint, *(other.fingerprint for other in others)}) == 4


@pytest.mark.slow
def test_saving_again_replaces_the_folder(own):
    before = load_captioner(own).fingerprint
    assert small_captioner(own, seed=3).fingerprint != before
    assert [path.name for path in own.parent.iterdir()] == [own.name]


def test_a_missing_folder_or_file(own, tmp_path):
    with pytest.raises(MissingModelError, match="There is no captioner at"):
        load_captioner(tmp_path / "nowhere")
    for name in FILES:
        broken = shutil.copytree(own, tmp_path / f"without-{name}")
        (broken / name).unlink()
        with pytest.raises(MissingModelError, match=f"lacks {name}"):
            load_captioner(broken)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("keep", [0, 0.5])
def test_a_file_that_is_cut_off(own, name, keep):
    content = (own / name).read_bytes()
    (own / name).write_bytes(content[: int(keep * len(content))])
    with pytest.raises(InputError, match=r"damaged|not readable JSON") as caught:
        load_captioner(own)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("model_type", "t5", "a captioner is a 'csp-set-captioner'"),
        ("image_dim", 17, "damaged"),
        ("num_layers", 3, "do not fit its configuration"),
        ("num_layers", 1, "do not fit its configuration"),
        ("vocab_size", 50, "damaged"),
        ("encoder_fingerprint", "", "names no encoder"),
    ],
)
def test_files_that_do_not_belong_together(own, field, value, sentence):
    config = json.loads((own / "config.json").read_text("utf-8"))
    (own / "config.json").write_text(json.dumps({**config, field: value}), "utf-8")
    with pytest.raises(InputError, match=sentence) as caught:
        load_captioner(own)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["image_dim", "n_images", "n_tokens"])
@pytest.mark.parametrize("value", ["16", 0, -1, 2.0, True, [4], 10**9])
def test_sizes_that_no_captioner_has(own, name, value):
    config = json.loads((own / "config.json").read_text())
    (own / "config.json").write_text(json.dumps(config | {name: value}))
    with pytest.raises(InputError, match=rf"has {name} .*; it must be a whole number from 1 to"):
        load_captioner(own)


@pytest.mark.parametrize(
    ("name", "value"),
    [("decoder_start_token_id", None), ("decoder_start_token_id", "x"), ("pad_token_id", -1),
     ("eos_token_id", []), ("dropout_rate", float("nan")),
     ("relative_attention_max_distance", 0)],
)  # fmt: skip
def test_settings_with_which_it_cannot_speak(own, name, value):
    config = json.loads((own / "config.json").read_text())
    (own / "config.json").write_text(json.dumps(config | {name: value}))
    with pytest.raises(InputError, match=r"The captioner .* (says nothing of an image|is damaged)"):
        load_captioner(own)


def test_a_tokenizer_of_another_captioner(own):
    make_tokenizer(["entirely", "other", "words"]).save(str(own / "tokenizer.json"))
    with pytest.raises(InputError, match="its tokenizer has"):
        load_captioner(own)


def test_another_encoder_is_refused(captioner):
    require_encoder(captioner, "open_clip/x", "e" * 64)
    with pytest.raises(StaleError, match="made for the encoder with fingerprint eeeeeeeeeeee"):
        require_encoder(captioner, "open_clip/x", "f" * 64)
