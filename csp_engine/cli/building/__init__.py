"""``csp build``, ``csp merge`` and ``csp label``."""
