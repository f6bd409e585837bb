"""Label vectors as a slow loop over texts and templates.

v(text) = mean over templates p of [ e(p(text)) - s e(p("")) ], s in {0, 1}, then v / |v| if asked.
SemanticLens (Dreyer et al. 2025) uses s = 1; CSP uses s = 0 and leaves the length as it is.
"""

import math


def label_vector(embed_one, text, templates, renormalise, subtract_empty):
    """One text to one list of floats; ``embed_one`` takes a single prompt."""
    total = None
    for template in templates:
        before, _, after = template.partition("{}")
        vector = [float(v) for v in embed_one(before + text + after)]
        if subtract_empty:
            empty = embed_one(before + after)
            vector = [v - float(e) for v, e in zip(vector, empty, strict=True)]
        total = vector if total is None else [a + b for a, b in zip(total, vector, strict=True)]
    mean = [v / len(templates) for v in total]
    if renormalise:
        length = math.sqrt(sum(v * v for v in mean))
        if length > 0:
            mean = [v / length for v in mean]
    return mean
