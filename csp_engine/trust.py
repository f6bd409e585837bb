"""Which Python code may run that a bundle or a form names: none that nobody trusts."""

from __future__ import annotations

import os

from csp_engine.errors import MissingModelError
from csp_engine.printable import shown_spec

TRUST = "CSP_TRUST_PYTHON"
"""Environment variable: ``1`` lets all code run that bundles on this machine name."""
_DEMO = "python:csp_engine.demo.dermoscopy"
OWN_MODELS = (
    f"{_DEMO}.classifiers:biased",
    f"{_DEMO}.classifiers:retrained",
    f"{_DEMO}.planted:target_model",
)
"""Python code that comes with this project and needs no trust: the models of the demo."""


def may_run(spec: str) -> bool:
    """Whether a model or encoder brings no code, or code that is trusted on this machine."""
    is_code = spec.startswith("python:") and spec not in OWN_MODELS
    return not is_code or os.environ.get(TRUST) == "1"


def require_trust(what: str, spec: str, instead: str = "") -> None:
    """Refuse Python code that a bundle names, unless it is trusted.

    Args:
        what: what is to be loaded, to begin a sentence with.
        spec: how the bundle names it.
        instead: what else the user can do, as ``name it with --encoder …``.

    Raises:
        MissingModelError: if it is Python code that nobody trusts.
    """
    if not may_run(spec):
        raise MissingModelError(
            f"{what} is Python code ({shown_spec(spec)}), which runs only if you trust it: "
            f"{f'{instead}, or ' if instead else ''}set {TRUST}=1 before you start csp."
        )
