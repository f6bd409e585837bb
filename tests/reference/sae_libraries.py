"""How each library encodes one input, as slow loops written from its published code.

Every function takes one input ``x`` (a list of numbers) and the arrays and settings that the
library saves, and gives the list of codes.
"""

from __future__ import annotations

import math


def matvec(rows, x):
    return [sum(w * a for w, a in zip(row, x, strict=True)) for row in rows]


def plus(a, b):
    return [p + q for p, q in zip(a, b, strict=True)]


def minus(a, b):
    return [p - q for p, q in zip(a, b, strict=True)]


def transposed(rows):
    return [list(column) for column in zip(*rows, strict=True)]


def length(row):
    return math.sqrt(sum(v * v for v in row))


def largest(values, k):
    """The places of the k largest."""
    return set(sorted(range(len(values)), key=lambda i: -values[i])[:k])


def relu(values):
    return [max(v, 0.0) for v in values]


def normalised(x, kind):
    """SAELens' and Prisma's ``run_time_activation_norm_fn_in``."""
    if kind == "layer_norm":
        mean = sum(x) / len(x)
        x = [v - mean for v in x]
        middle = sum(x) / len(x)
        std = math.sqrt(sum((v - middle) ** 2 for v in x) / (len(x) - 1))
        return [v / (std + 1e-5) for v in x]
    if kind == "constant_norm_rescale":
        return [v * math.sqrt(len(x)) / length(x) for v in x]
    return list(x)


def saev(x, t, kind, top_k=None, threshold=None):
    """``h = x W_enc + b_enc``; ReLU, the raw largest, or in evaluation all above a threshold."""
    h = plus(matvec(transposed(t["W_enc"]), x), t["b_enc"])
    if kind == "Relu":
        return relu(h)
    if kind == "BatchTopK" and threshold is not None:
        if threshold <= 0:
            return [v if v > 0 else 0.0 for v in h]
        return [v if v > threshold else 0.0 for v in h]
    kept = largest(h, top_k)
    return [v if i in kept else 0.0 for i, v in enumerate(h)]


def saelens(
    x, t, architecture, apply_b_dec=True, norm="none", k=None, rescale=False, activation="relu"
):
    """``process_sae_in``, ``W_enc`` and the architecture's own end."""
    x = normalised(x, norm)
    if apply_b_dec and "transcoder" not in architecture:
        x = minus(x, t["b_dec"])
    pre = matvec(transposed(t["W_enc"]), x)
    if architecture == "gated":
        on = [p + g > 0 for p, g in zip(pre, t["b_gate"], strict=True)]
        codes = [
            max(p * math.exp(r) + m, 0.0)
            for p, r, m in zip(pre, t["r_mag"], t["b_mag"], strict=True)
        ]
        return [c if o else 0.0 for c, o in zip(codes, on, strict=True)]
    pre = plus(pre, t["b_enc"])
    if rescale:
        pre = [p * length(row) for p, row in zip(pre, t["W_dec"], strict=True)]
    if "jumprelu" in architecture:
        return [
            max(p, 0.0) if p > theta else 0.0 for p, theta in zip(pre, t["threshold"], strict=True)
        ]
    if architecture == "topk" or activation == "topk":
        kept = largest(pre, k)
        return [max(p, 0.0) if i in kept else 0.0 for i, p in enumerate(pre)]
    if activation == "tanh-relu":
        return [math.tanh(v) for v in relu(pre)]
    return relu(pre)


def dictionary_learning(x, t, kind):
    """The classes of saprmarks' dictionary_learning."""
    if kind in ("AutoEncoder", "AutoEncoderNew", "AutoEncoderTopK", "BatchTopKSAE"):
        bias = {"AutoEncoder": "bias", "AutoEncoderNew": None}.get(kind, "b_dec")
        inputs = minus(x, t[bias]) if bias else x
        codes = relu(plus(matvec(t["encoder.weight"], inputs), t["encoder.bias"]))
        if kind == "AutoEncoderTopK":
            kept = largest(codes, t["k"])
            return [c if i in kept else 0.0 for i, c in enumerate(codes)]
        if kind == "BatchTopKSAE":
            return [c if c > t["threshold"] else 0.0 for c in codes]
        return codes
    if kind == "MatryoshkaBatchTopKSAE":
        inputs = minus(x, t["b_dec"])
        codes = relu(plus(matvec(transposed(t["W_enc"]), inputs), t["b_enc"]))
        return [c if c > t["threshold"] else 0.0 for c in codes]
    if kind == "JumpReluAutoEncoder":
        pre = plus(matvec(transposed(t["W_enc"]), x), t["b_enc"])
        return [max(p, 0.0) if p > h else 0.0 for p, h in zip(pre, t["threshold"], strict=True)]
    assert kind == "GatedAutoEncoder"
    pre = matvec(t["encoder.weight"], minus(x, t["decoder_bias"]))
    columns = transposed(t["decoder.weight"])
    return [
        (max(math.exp(r) * p + m, 0.0) if p + g > 0 else 0.0) * length(column)
        for p, r, m, g, column in zip(
            pre, t["r_mag"], t["mag_bias"], t["gate_bias"], columns, strict=True
        )
    ]


def sparsify(x, t, k, activation="topk", transcode=False, signed=False):
    """``fused_encoder``, and the signed form of its first versions."""
    inputs = x if transcode else minus(x, t["b_dec"])
    pre = plus(matvec(t["encoder.weight"], inputs), t["encoder.bias"])
    if signed:
        kept = largest([abs(p) for p in pre], k)
        return [p if i in kept else 0.0 for i, p in enumerate(pre)]
    pre = relu(pre)
    if activation == "topk":
        kept = largest(pre, k)
    else:
        size = len(pre) // k
        groups = [range(g * size, (g + 1) * size) for g in range(k)]
        kept = {max(group, key=lambda i: (pre[i], -i)) for group in groups}
    return [p if i in kept else 0.0 for i, p in enumerate(pre)]


def overcomplete(x, t, kind, k=None, threshold=None):
    """Linear, batch or layer norm over the latents, ReLU; then the SAE's own end."""
    final = "encoder.final_block."
    pre = plus(matvec(t[f"{final}0.weight"], x), t[f"{final}0.bias"])
    if f"{final}1.running_mean" in t:
        pre = [
            (p - m) / math.sqrt(v + 1e-5) * w + b
            for p, m, v, w, b in zip(
                pre,
                *(t[f"{final}1.{n}"] for n in ("running_mean", "running_var", "weight", "bias")),
                strict=True,
            )
        ]
    elif f"{final}1.weight" in t:
        mean = sum(pre) / len(pre)
        var = sum((p - mean) ** 2 for p in pre) / len(pre)
        pre = [
            (p - mean) / math.sqrt(var + 1e-5) * w + b
            for p, w, b in zip(pre, t[f"{final}1.weight"], t[f"{final}1.bias"], strict=True)
        ]
    codes = relu(pre)
    if kind == "JumpSAE":
        floors = [math.exp(v) for v in t["thresholds"]]
        return [0.0 if c < f else c for c, f in zip(codes, floors, strict=True)]
    if kind == "BatchTopKSAE":
        return [c if c >= threshold else 0.0 for c in codes]
    if kind == "TopKSAE":
        kept = largest(codes, k)
        return [c if i in kept else 0.0 for i, c in enumerate(codes)]
    return codes


def msae(x, t, activation, soft_cap):
    """``activation(encoder(x - pre_bias) + latent_bias)``, then ``cap * tanh(codes / cap)``."""
    pre = plus(matvec(transposed(t["encoder"]), minus(x, t["pre_bias"])), t["latent_bias"])
    kind, _, number = activation.partition("_")
    if kind == "ReLU":
        codes = relu(pre)
    elif kind == "JumpReLU":
        floors = [math.exp(v) for v in t["activation.log_threshold"]]
        codes = [p if p > f else 0.0 for p, f in zip(relu(pre), floors, strict=True)]
    else:
        values = [abs(p) for p in pre] if "abs" in kind else pre
        kept = largest(values, int(number))
        last = relu(values) if kind.endswith("ReLU") else values
        codes = [v if i in kept else 0.0 for i, v in enumerate(last)]
    return [soft_cap * math.tanh(c / soft_cap) for c in codes] if soft_cap else codes


def openai(x, t, activation, k=None, normalize=False):
    """OpenAI's autoencoder: LN with eps 1e-5 if so asked, TopK with a ReLU behind it."""
    x = normalised(x, "layer_norm" if normalize else "none")
    pre = plus(matvec(t["encoder.weight"], minus(x, t["pre_bias"])), t["latent_bias"])
    if activation == "ReLU":
        return relu(pre)
    kept = largest(pre, k)
    return [max(p, 0.0) if i in kept else 0.0 for i, p in enumerate(pre)]
