"""All metrics: those of this room, and those of extensions."""

from __future__ import annotations

from csp_engine.evaluation.metrics.metric import Metric
from csp_engine.registry import discover

METRICS: dict[str, Metric] = discover("csp_engine.evaluation.metrics", Metric, "metric")
