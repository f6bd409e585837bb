"""Sparse-autoencoder latents and pooling as slow loops, from the papers.

Standard: f = ReLU(W (x - b_dec) + b_enc) (Bricken et al. 2023).
JumpReLU: f = pre * [pre > theta] for theta >= 0 (Rajamanoharan et al. 2024, eq. 3).
TopK: all but the k largest pre-activations are set to zero, then ReLU (Gao et al. 2024, eq. 1).
"""

from __future__ import annotations


def latents(x, weight, bias, pre_bias=None, threshold=None, k=None):
    """Latents of one position; ``weight[l][i]`` is latent l, input i."""
    if pre_bias is not None:
        x = [a - b for a, b in zip(x, pre_bias, strict=True)]
    pre = [
        sum(w * a for w, a in zip(row, x, strict=True)) + b
        for row, b in zip(weight, bias, strict=True)
    ]
    out = [max(p, 0.0) for p in pre]
    if threshold is not None:
        out = [o if p > t else 0.0 for o, p, t in zip(out, pre, threshold, strict=True)]
    if k is not None:
        kept = sorted(range(len(pre)), key=lambda i: -pre[i])[:k]
        out = [o if i in kept else 0.0 for i, o in enumerate(out)]
    return out


def pooled(values, pooling, n_prefix=0):
    """One unit's positions to one number."""
    if pooling == "mean":
        return sum(values) / len(values)
    if pooling == "token_mean":
        return sum(values[n_prefix:]) / len(values[n_prefix:])
    if pooling == "max":
        return max(values)
    if pooling == "cls":
        return values[0]
    best = values[0]
    for value in values:
        if abs(value) > abs(best) or (abs(value) == abs(best) and value > best):
            best = value
    return best
