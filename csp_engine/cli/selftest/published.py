"""Label tables in the forms that methods of this field publish."""

from __future__ import annotations

from csp_engine.cli.selftest import kind, require
from csp_engine.cli.selftest.world import World

AREA = "label tables"
TABLES: dict[str, tuple[str, list[tuple[int, str]]]] = {
    "MILAN": (
        "layer,unit,description\nsecond,0,red things\n",
        [(0, "red things")],
    ),
    "CLIP-Dissect": (
        "layer,unit,description,similarity\nsecond,0,red,0.2\nsecond,1,dark,0.1\n",
        [(0, "red"), (1, "dark")],
    ),
    "Describe-and-Dissect": (
        "Neuron ID,Label 1,Label 2\n0,red,dark\n1,blue,\n",
        [(0, "red"), (0, "dark"), (1, "blue")],
    ),
    "INVERT": (
        "neuron,concept,concept_id,metric\n0,(dog OR cat) AND NOT web,n02084071,0.89\n",
        [(0, "(dog OR cat) AND NOT web")],
    ),
    "FALCON": (
        "group,concept_set_words,concept_set_noun_phrases\n"
        "\"1,4\",\"[('gas', 0.2), ('flame', 0.1)]\",[]\n",
        [(1, "gas"), (1, "flame"), (4, "gas"), (4, "flame")],
    ),
    "Linear Explanations": (
        "layer,unit,val correlation,weight0,concept0,weight1,concept1,bias,sim correlation\n"
        "second,0,0.14,0.05,pantry,-0.04,aquarium,0.36,0.17\n",
        [(0, "pantry"), (0, "aquarium")],
    ),
    "PRISM": (
        "layer,unit,description,mean_activation,highlights\n"
        "second,7,places,11.2,[]\nsecond,7,names of people,16.3,[]\n",
        [(7, "names of people"), (7, "places")],
    ),
    "CoSy": ("neuron,concept\n0,crane\n3,crane\n", [(0, "crane"), (3, "crane")]),
    "Network Dissection": (
        "unit,category,label,score,color-label\n1,color,green-c,0.01,green-c\n",
        [(0, "green-c")],
    ),
    "SemanticLens": (
        "unit,label,score\n0,red,0.4\n0,dark,0.3\n",
        [(0, "red"), (0, "dark")],
    ),
}
"""A table as each writes it, and the units and labels that it says, in order."""


@kind(AREA, "tables of other methods are read as what they are")
def others(world: World) -> str:
    """A table of each: several labels, formulas, weights and groups are kept."""
    from csp_engine.exchange import read_label_table

    for name, (text, wanted) in TABLES.items():
        path = world.folder / "labels.csv"
        path.write_text(text)
        rows = read_label_table(path, layer="second")
        found = list(zip(rows["unit"].tolist(), rows["description"].tolist(), strict=True))
        require(found == wanted, f"{name}: {found}")
    return ", ".join(TABLES)
