"""``csp audit``, ``evaluate``, ``intervene``: what a network rests on, and how sure that is."""
