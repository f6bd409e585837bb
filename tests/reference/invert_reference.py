"""INVERT as slow loops: AUC over pairs of images, formulas by enumeration (Bykov et al., 2023).

A formula is a nested tuple: ("IS", q), ("NOT", q), ("AND", a, b) or ("OR", a, b). On an image, a
concept is True, False or None (unknown), and so is a formula, by Kleene's tables.
"""

from __future__ import annotations

import itertools


def holds(formula, shown):
    """``shown[q]`` is True, False or None for one image."""
    kind = formula[0]
    if kind == "IS":
        return shown[formula[1]]
    if kind == "NOT":
        known = shown[formula[1]]
        return None if known is None else not known
    a, b = (holds(part, shown) for part in formula[1:])
    stops = kind == "OR"
    if a is stops or b is stops:
        return stops
    return None if a is None or b is None else not stops


def auc(activation, is_shown):
    """Share of pairs in which the image that shows it is ahead; ties count one half."""
    won = n_pairs = 0
    for a, shows in zip(activation, is_shown, strict=True):
        for b, other in zip(activation, is_shown, strict=True):
            if shows and not other:
                n_pairs += 1
                won += 1 if a > b else 0.5 if a == b else 0
    return won / n_pairs if n_pairs else None


def formulas(n_atoms, length):
    """Every chain of ``length`` literals of different concepts."""
    literals = [(kind, q) for q in range(n_atoms) for kind in ("IS", "NOT")]
    for chain in itertools.permutations(literals, length):
        if len({q for _, q in chain}) < length:
            continue
        for operators in itertools.product(("AND", "OR"), repeat=length - 1):
            formula = chain[0]
            for operator, literal in zip(operators, chain[1:], strict=True):
                formula = (operator, formula, literal)
            yield formula


def best(activation, shown_by_image, n_atoms, length, least, most):
    """The largest AUC of any formula of that length that ``least`` to ``most`` images show.

    An image where the formula is unknown counts as one that does not show it. What a formula is
    built up from, literal by literal, must be shown by as many too, as in any beam search; and
    every concept must be shown by ``least`` images and lacking on as many.
    """
    counts = [[sum(row[q] is is_shown for row in shown_by_image) for is_shown in (True, False)]
              for q in range(n_atoms)]  # fmt: skip
    rare = {q for q in range(n_atoms) if min(counts[q]) < max(least, 1)}

    def atoms(formula):
        if formula[0] in ("IS", "NOT"):
            return {formula[1]}
        return atoms(formula[1]) | atoms(formula[2])

    def fits(formula):
        n = sum(holds(formula, shown) is True for shown in shown_by_image)
        inner = formula[0] not in ("AND", "OR") or fits(formula[1])
        return inner and least <= n <= most and 0 < n < len(shown_by_image)

    found = []
    for formula in formulas(n_atoms, length):
        if not atoms(formula) & rare and fits(formula):
            is_shown = [holds(formula, shown) is True for shown in shown_by_image]
            found.append(auc(activation, is_shown))
    return max(found, default=None)
