"""The audit plot of SemanticLens written slowly: plain loops, formulas as in audits/alignment.

Dreyer et al., Nature Machine Intelligence 2025, Fig. 4 and their code for labelling:
align(k, t) = cos(theta_k, e_t) - cos(theta_k, e_empty). Never imports csp_engine.
"""

from __future__ import annotations

import math


def cosine(a, b):
    dot = sum(float(x) * float(y) for x, y in zip(a, b, strict=True))
    length = math.sqrt(sum(float(x) ** 2 for x in a)) * math.sqrt(sum(float(y) ** 2 for y in b))
    return dot / length


def best_alignment(vectors, texts, empty):
    found = []
    for z in vectors:
        if not any(float(x) for x in z):
            found.append((math.nan, 0))
            continue
        base = 0.0 if empty is None else cosine(z, empty)
        values = [cosine(z, t) - base for t in texts]
        found.append((max(values), values.index(max(values))))
    return found


def fewest_that_carry(effects, share):
    """Largest first, equal ones by number, until the share is reached."""
    total = sum(abs(e) for e in effects)
    kept, carried = set(), 0.0
    for unit in sorted(range(len(effects)), key=lambda u: (-abs(effects[u]), u)):
        if carried >= share * total * (1 - 1e-12) or effects[unit] == 0:
            break
        kept.add(unit)
        carried += abs(effects[unit])
    return kept


def kind(valid, spurious, valid_bar, spurious_bar):
    if math.isnan(valid) or (valid <= valid_bar and spurious <= spurious_bar):
        return "unexpected"
    return "valid" if valid - valid_bar >= spurious - spurious_bar else "spurious"


def kind_of_three(valid, spurious, neutral, bars):
    """The same where there are neutral concepts too; ``bars`` by kind."""
    above = {
        "valid": valid - bars["valid"],
        "spurious": spurious - bars["spurious"],
        "neutral": neutral - bars["neutral"],
    }
    best = max(above.values())
    if best <= 0:
        return "unexpected"
    return next(name for name, value in above.items() if value == best)
