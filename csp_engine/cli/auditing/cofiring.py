"""``csp cofiring``: neurons of a layer that fire together, whatever they are called."""

from __future__ import annotations

from typing import Annotated

import typer

from csp_engine.cli.auditing.intervening import named_method, named_model
from csp_engine.cli.declared import AsJson, BundlePath, ModelName
from csp_engine.cli.shown import write_json, write_lines, write_table


def cofiring(
    bundle: BundlePath,
    layer: Annotated[str, typer.Option("--layer", "-l", help="Layer, as 'csp info' names it.")],
    artefact: Annotated[
        str | None,
        typer.Option(
            help="Rank groups by the part of this artefact's effect that is attributed to them "
            "(see csp intervene); the largest come first without it."
        ),
    ] = None,
    model: ModelName = None,
    method: Annotated[
        str | None, typer.Option(help="Method that names the neurons; the first without it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Find groups of neurons that fire together, whatever they are called.

    What one neuron carries little of, a group may carry. Groups are found on half of the probe
    images and shown where they hold on the other half; 'csp intervene --swap' and 'csp fix --units'
    take them by their names.

    Example:
        csp cofiring skin.csp --layer layer2@max --artefact "colour patch"
    """
    from csp_engine.bundle import Bundle
    from csp_engine.views.audit import groups
    from csp_engine.views.memo import Memo

    opened = Bundle.open(bundle)
    name, chosen = named_model(opened, model), named_method(opened, method)
    (found,) = groups.firings(opened, Memo(), name, chosen, layer, artefact or "")
    if as_json:
        write_json(groups.firing_json(found))
        return
    write_lines([found.sentence])
    if not found.groups:
        return
    write_lines([""])
    has_share, has_truth = found.groups[0].share is not None, any(g.truths for g in found.groups)
    write_table(
        ("group", "neurons", "rank correlation (95 % interval)",
         *(["part of the effect"] if has_share else []), "for example",
         *(["truly respond to"] if has_truth else [])),
        [
            (
                each.name, len(each.unit_k), each.together.share,
                *([each.part] if has_share else []),
                ", ".join(f"{ref.unit} {label.title}" for ref, label in each.members),
                *([each.answers] if has_truth else []),
            )
            for each in found.groups
        ],
    )  # fmt: skip
