"""All statistics of a neuron: those of this room, and those of extensions."""

from __future__ import annotations

from csp_engine.audits.statistic import Statistic
from csp_engine.registry import discover

AUDITS: dict[str, Statistic] = discover("csp_engine.audits", Statistic, "statistic")
