"""FALCON (Kalibhat et al. 2023) image by image and word by word, from its description."""

from __future__ import annotations

import math


def cosines(image_d, label_td):
    out = []
    for label_d in label_td:
        length = math.sqrt(sum(float(x) ** 2 for x in label_d))
        product = sum(float(x) * float(y) for x, y in zip(image_d, label_d, strict=True))
        out.append(product / length if length else 0.0)
    return out


def captions_of(image_d, label_td, scale, n_captions):
    """Label numbers and probabilities of the likeliest captions."""
    logit = [scale * cosine for cosine in cosines(image_d, label_td)]
    power = [math.exp(x) for x in logit]
    total = sum(power)
    order = sorted(range(len(power)), key=lambda t: (-round(logit[t], 5), t))
    return [(t, power[t] / total) for t in order[:n_captions]]


def said_of(images, image_nd, label_td, words_of_label, scale, n_captions):
    """Word → mean over the images of the best probability of a caption that holds it."""
    total = {}
    for image in images:
        best = {}
        for t, probability in captions_of(image_nd[image], label_td, scale, n_captions):
            for word in words_of_label[t]:
                best[word] = max(best.get(word, 0.0), probability)
        for word, value in best.items():
            total[word] = total.get(word, 0.0) + value
    return {word: value / len(images) for word, value in total.items()}


def words_kept(shown, quiet, is_phrase, removed, most):
    """Words that are left, best first, with their support; ``most`` single ones and phrases."""
    left = {word: value for word, value in shown.items() if quiet.get(word, 0.0) < removed}
    single = sorted((w for w in left if not is_phrase(w)), key=lambda w: (-left[w], w))[:most]
    phrase = sorted((w for w in left if is_phrase(w)), key=lambda w: (-left[w], w))[:most]
    return {word: left[word] for word in (*single, *phrase)}


def near_in_the_model(unit, layer_wn, exemplars, near, most):
    """Quiet images nearest to the exemplars in the layer's own space without the unit."""
    n_units, n_images = len(layer_wn), len(layer_wn[0])
    row = []
    for image in range(n_images):
        length = math.sqrt(sum(float(layer_wn[w][image]) ** 2 for w in range(n_units))) or 1.0
        row.append([float(layer_wn[w][image]) / length for w in range(n_units)])
    others = [w for w in range(n_units) if w != unit]
    mean = [sum(row[image][w] for image in exemplars) / len(exemplars) for w in others]
    average = sum(float(x) for x in layer_wn[unit]) / n_images
    found = []
    for image in range(n_images):
        product = sum(row[image][w] * m for w, m in zip(others, mean, strict=True))
        if float(layer_wn[unit][image]) < average and product >= near:
            found.append((-product, image))
    return [image for _, image in sorted(found)[:most]]
