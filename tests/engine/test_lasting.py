"""Networks and encoders that change only after some batches of a pass."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from csp_engine.errors import InputError
from csp_engine.networks.activations import ActivationRecorder
from csp_engine.networks.layers import select_layers
from csp_engine.pipeline import Target, build
from tests.engine.test_steadiness import Net, wrapped
from tests.worlds import toys


class Tires(nn.Module):
    """Counts its passes, and after some of them answers otherwise."""

    def __init__(self, after: float = float("inf"), how=lambda z, late: z * 1.5):
        super().__init__()
        self.n_passes, self.after, self.how = 0, after, how

    def forward(self, z):
        self.n_passes += 1
        late = self.n_passes - self.after
        return self.how(z, late) if late > 0 else z


class ColourEncoder(toys.ColourEncoder):
    """Turns its vectors after some batches of images."""

    n_batches, after = 0, float("inf")

    def embed_images(self, pixels):
        self.n_batches += 1
        vectors = super().embed_images(pixels)
        return np.roll(vectors, 1, axis=1) if self.n_batches > self.after else vectors


def request_with(folder, out, tires: Tires, **changes):
    model = wrapped(Net(tires))
    target = Target(model, tuple(select_layers(model, ["fc"])))
    # No second pass over the images, so that the last calls are those of the pass.
    changes = {"targets": (target,), "n_influence_images": 0, "batch_size": 4, **changes}
    return toys.request(folder, folder / out, **changes)


def passes_of_a_build(folder) -> int:
    tires = Tires()
    build(request_with(folder, "whole.csp", tires))
    return tires.n_passes


@pytest.mark.parametrize("how", [
    lambda z, late: z * 1.5,
    lambda z, late: z + 0.01 * late * z.abs().mean(),  # begins to creep
    lambda z, late: z.flip(1),
])  # fmt: skip
def test_a_network_that_changes_late_is_refused_and_nothing_of_it_is_kept(tmp_path, how):
    n = passes_of_a_build(tmp_path)
    for n_left in (2, 4):  # of the last two batches, or the last three or four
        request = request_with(tmp_path, f"b{n_left}.csp", Tires(n - n_left, how))
        with pytest.raises(InputError, match=r"'fc' of net gives the first images other values"):
            build(request)
        sane = build(request_with(tmp_path, f"b{n_left}.csp", Tires()))
        whole = build(request_with(tmp_path, "whole.csp", Tires()))
        layer = sane.layers("net")[0]
        both = [bundle.activations("net", layer) for bundle in (sane, whole)]
        np.testing.assert_array_equal(*map(np.asarray, both))


def test_an_encoder_that_changes_late_is_refused(tmp_path):
    encoder = ColourEncoder()
    build(request_with(tmp_path, "whole.csp", Tires(), encoder=encoder))
    n = encoder.n_batches
    late = ColourEncoder()
    late.after = n - 3
    with pytest.raises(InputError, match=r"Encoder .* gives the first images other values"):
        build(request_with(tmp_path, "b.csp", Tires(), encoder=late))


def test_a_steady_network_costs_few_passes_more(tmp_path, monkeypatch):
    """Two images at the start, after batches 1, 2 and 4 of 7, and at the end."""
    seen = []
    outline = ActivationRecorder.outline
    monkeypatch.setattr(
        ActivationRecorder, "outline", lambda self, x: seen.append(len(x)) or outline(self, x)
    )
    build(request_with(tmp_path, "b.csp", Tires()))
    assert seen == [2] * 5


def test_batch_statistics_that_are_put_back_do_not_count_as_change(tmp_path):
    class Remembers(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("sum", torch.zeros(8))

        def forward(self, z):
            out = z + self.sum
            self.sum += z.mean(0)
            return out

    bundle = build(request_with(tmp_path, "b.csp", Remembers()))
    (described,) = bundle.manifest.inputs["models"].values()
    assert "put back after each: middle.sum" in described["notices"][0]
