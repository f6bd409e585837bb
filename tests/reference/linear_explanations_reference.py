"""Linear Explanations on the columns themselves (Oikarinen and Weng, ICML 2024), step by step.

Concepts and activation are standardised; an elastic net (λ = .05, α = .99) ranks the concepts by
the size of their weights; then, of the first ten that are left, the one joins with which least
squares correlates most on the images that choose, while it gains .02. What gains less is not tried
again.
"""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import ElasticNet, LinearRegression


def objective(x, y, w, penalty=0.05, share=0.99):
    """What the elastic net makes least; columns of x, and y, have mean 0 and spread 1."""
    square = ((y - x @ w) ** 2).sum() / (2 * len(y))
    return square + penalty * (share * np.abs(w).sum() + (1 - share) * (w**2).sum() / 2)


def net(x, y, penalty=0.05, share=0.99):
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    y = (y - y.mean()) / y.std()
    solver = ElasticNet(alpha=penalty, l1_ratio=share, tol=1e-9, max_iter=200_000)
    return x, y, solver.fit(x, y).coef_


def explained(x, y, fit, choose, length=10, tolerance=0.02, width=10):
    """Every step: the concepts, their weights per spread, and the correlation that chose them."""
    *_, weights = net(x[fit], y[fit])
    candidates = [q for q in np.argsort(-np.abs(weights), kind="stable") if weights[q] != 0]
    chosen, poor, steps = [], [], []
    while len(chosen) < length:
        best = None
        left = [q for q in candidates if q not in chosen and q not in poor][:width]
        for q in left:
            own = [*chosen, q]
            line = LinearRegression().fit(x[fit][:, own], y[fit])
            r = np.corrcoef(line.predict(x[choose][:, own]), y[choose])[0, 1]
            if steps and r < steps[-1][2] + tolerance:
                poor.append(q)
            elif r > 0 and (best is None or r > best[2]):
                best = (own, line.coef_ * x[fit][:, own].std(axis=0) / y[fit].std(), r)
        if best is None:
            break
        steps.append(best)
        chosen = best[0]
    return steps
