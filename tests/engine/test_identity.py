"""A stored vector is of one image, and a network is known by the code that it runs."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from torch import nn

from csp_engine.encoders import load_encoder
from csp_engine.errors import InputError
from csp_engine.networks.loading.identity import code_sha256

TEXTS = ["red", "dark"]


def encoder(folder, names, texts=TEXTS, text_vectors=None):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    np.save(folder / "image_vectors.npy", rng.normal(size=(len(names), 5)).astype(np.float32))
    if text_vectors is None:
        text_vectors = rng.normal(size=(len(texts), 5))
    np.save(folder / "text_vectors.npy", np.asarray(text_vectors, np.float32))
    (folder / "image_names.txt").write_text("\n".join(names) + "\n")
    (folder / "text_names.txt").write_text("\n".join(texts) + "\n")
    return load_encoder(f"precomputed/{folder}")


class TestStoredVectors:
    @pytest.mark.parametrize(
        ("names", "files", "sha256"),
        [
            (["1.png"], ["a/1.png", "b/1.png"], ["x", "y"]),
            (["1"], ["1.png", "1.jpg"], ["x", "y"]),
            (["1.png"], ["1.png", "1.jpg"], ["x", "y"]),
            (["1.png"], ["1.png", "b/1.png"], ["x", "y"]),
            (["old/1.png"], ["a/1.png", "b/1.jpeg"], ["x", "y"]),
            (["1.png"], ["a/1.png", "b/1.png"], None),
        ],
    )
    def test_one_name_for_two_images_is_refused(self, tmp_path, names, files, sha256):
        stored = encoder(tmp_path / "v", names)
        with pytest.raises(InputError, match="which are different images; name vectors by") as said:
            stored.lookup_images(files, sha256)
        assert all(repr(file) in str(said.value) for file in files)

    def test_an_unreadable_image_of_the_name_counts(self, tmp_path):
        stored = encoder(tmp_path / "v", ["1.png", "b/2.png", "2.png"])
        with pytest.raises(InputError, match=r"'a/1\.png' and 'b/1\.png'"):
            stored.lookup_images(["a/1.png"], ["x"], ["a/1.png", "b/1.png"])
        # By its whole path there is no doubt.
        stored.lookup_images(["b/2.png", "2.png"], ["x", "y"], ["2.png", "b/2.png", "c/2.png"])

    def test_copies_share_a_vector_and_hashes_decide(self, tmp_path):
        stored = encoder(tmp_path / "v", ["1.png", "ab" * 32])
        copies = stored.lookup_images(["a/1.png", "b/1.png"], ["x", "x"])
        assert np.array_equal(copies[0], copies[1])
        found = stored.lookup_images(["q/7.png", "a/1.png"], ["ab" * 32, "x"])
        assert not np.array_equal(found[0], found[1])

    def test_a_text_that_stands_twice_is_refused(self, tmp_path):
        with pytest.raises(InputError, match="'red' stands twice"):
            encoder(tmp_path / "v", ["1.png"], ["red", "red"])
        same = encoder(tmp_path / "w", ["1.png"], ["red", "red"], np.ones((2, 5)))
        assert same.embed_texts(["Red"]).shape == (1, 5)

    def test_a_spelling_between_two_texts_is_not_guessed(self, tmp_path):
        stored = encoder(tmp_path / "v", ["1.png"], ["Turkey", "turkey"])
        exact = stored.embed_texts(["Turkey", "turkey"])
        assert not np.array_equal(exact[0], exact[1])
        with pytest.raises(InputError, match="no stored vector for the text 'TURKEY'"):
            stored.embed_texts(["TURKEY"])


NET = """
from torch import nn
import own_helpers
from own_settings import FACTOR
class Net(nn.Module):
    def __init__(self, factor=FACTOR):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.factor = factor
    def forward(self, x):
        return own_helpers.squash(self.conv(x)) * self.factor
def make():
    return Net()
"""
FILES = {
    "own_net": NET,
    "own_helpers": "from own_deeper import twice\ndef squash(x): return twice(x.relu())\n",
    "own_deeper": "def twice(x): return x + x\n",
    "own_settings": "FACTOR = 2.0\n",
}


@pytest.fixture
def code_of(tmp_path, monkeypatch):
    """Hashes the code of a network made of these files, freshly imported."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def hashed(change=lambda network: network, **files):
        for name, text in (FILES | files).items():
            sys.modules.pop(name, None)
            (tmp_path / f"{name}.py").write_text(text)
        sys.path_importer_cache.clear()
        import own_net

        network = own_net.make()
        return code_sha256(change(network) or network)

    yield hashed
    for name in FILES:
        sys.modules.pop(name, None)


class TestCode:
    def test_equal_code_is_equal(self, code_of):
        assert code_of() == code_of()
        assert len(code_of()) == 64

    @pytest.mark.parametrize(
        "files",
        [
            {"own_net": NET.replace("* self", "+ self")},
            {"own_helpers": FILES["own_helpers"].replace("relu", "abs")},
            {"own_deeper": "def twice(x): return 2 * x * x\n"},
            {"own_settings": "FACTOR = 3.0\n"},
        ],
        ids=["the class", "a helper", "a helper of the helper", "a constant elsewhere"],
    )
    def test_a_change_anywhere_in_own_files_is_seen(self, code_of, files):
        assert code_of() != code_of(**files)

    def test_settings_outside_of_tensors_count_and_paths_do_not(self, code_of):
        assert code_of(lambda net: setattr(net, "factor", 5.0)) != code_of()
        assert code_of(lambda net: setattr(net, "cache", "/tmp/a")) == code_of()
        assert code_of(lambda net: net.eval()) == code_of()

    def test_a_forward_pass_put_in_its_place_or_a_hook_counts(self):
        def other(x):
            return x

        plain = nn.Sequential(nn.Conv2d(3, 4, 1))
        assert code_sha256(plain) is None
        plain[0].forward = other
        assert len(code_sha256(plain) or "") == 64
        hooked = nn.Sequential(nn.Conv2d(3, 4, 1))
        hooked.register_forward_hook(lambda module, given, out: out.abs())
        assert len(code_sha256(hooked) or "") == 64

    def test_code_nobody_can_read_is_said_to_be_unknown(self):
        space: dict = {"__name__": "typed_in"}
        exec("def other(x): return x\n", space)
        patched = nn.Conv2d(3, 4, 1)
        patched.forward = space["other"]
        assert code_sha256(patched) == ""
