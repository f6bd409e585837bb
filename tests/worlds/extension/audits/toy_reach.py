"""A toy statistic: how far the strongest activation is from the mean."""

from csp_engine.audits.statistic import Statistic


def measure(seen):
    activation_un = seen.evidence.activation_un
    return {"toy_reach": activation_un.max(axis=1) - activation_un.mean(axis=1)}


TOY_REACH = Statistic(
    name="toy_reach",
    title="Toy reach",
    meaning="How far the strongest activation is from the mean.",
    measure=measure,
    low=0,
    needs=("activations",),
)
