"""Labels of several methods beside each other: what means the same is not told as two stories."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from csp_engine.bundle import Bundle
from csp_engine.methods import method_title
from csp_engine.views.conclusion.meaning import same_meaning
from csp_engine.views.confidence import Trust
from csp_engine.views.memo import Memo
from csp_engine.views.neuron.candidates import CandidateLabels


def beside_one_another(
    bundle: Bundle, memo: Memo, found: Sequence[CandidateLabels], trusted: Sequence[Trust]
) -> list[Trust]:
    """What stands beside each method's best label where all are shown together.

    How likely a label is right was learnt for each method alone: labels like one of SemanticLens
    may be wrong seven times in ten, while this one says in other words what CSP+ says, and that is
    right 49 times in 50. Beside a label that is likely right, such a one is told to mean the same.
    """
    pairs = list(zip(found, trusted, strict=True))
    likely = [(each, trust) for each, trust in pairs if each.rows and trust.is_good]
    likely = [(each, trust) for each, trust in likely if trust.is_learnt]
    if not likely:
        return list(trusted)
    same = same_meaning(bundle, memo)
    told = []
    for each, trust in pairs:
        of = [
            other.method
            for other, _ in likely
            if trust.doubts and each.rows and same(each.rows[0].text, other.rows[0].text)
        ]
        words = f"means what {method_title(of[0])} says" if of else trust.words
        told.append(replace(trust, words=words))
    return told
