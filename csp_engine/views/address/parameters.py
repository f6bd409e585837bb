"""Every parameter of an address, declared once: reading, writing and docs/urls.md follow."""

from __future__ import annotations

from dataclasses import dataclass

from csp_engine.reviews import DISAGREE, VERDICTS

VERSION = "1"
ALL_LAYERS = "all"
RESULT_COUNTS = (12, 24, 48, 96)
SHOWS = ("contrast", "exemplars", "groups", "stratified", "random")
FINDS = ("neurons", "families", "layers", "images")
COPIES = ("show", "hide")
LOOKS = ("none", "activation", "gradient")
CARDS = ("no", "yes")
SCOPES = ("all", "layer")
ONLY = ("all", "reliable", "unclear", "unsaid", "disagree", "live", "dead", "dense", "flagged")
FIRST = "first"
"""The order in which a table opens: what one came for first."""
REVIEWS = ("all", "reviewed", "unreviewed", *VERDICTS, DISAGREE)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter.

    Attributes:
        name: as the address writes it.
        pages: those that use it, by the names of docs/urls.md; on others it is harmless.
        meaning: a phrase for docs/urls.md, in Markdown.
        default: the value that an address leaves out.
        otherwise: what is taken where the address says nothing, if that depends; in words.
        choices: values that it may take, its default first.
        noun: what one of the choices is, for the note where another was asked for.
        field: of ``View``, where that has another name.
    """

    name: str
    pages: tuple[str, ...]
    meaning: str
    default: str = ""
    otherwise: str = ""
    choices: tuple[str, ...] = ()
    noun: str = ""
    field: str = ""

    @property
    def shown_default(self) -> str:
        """The default in words, for the table of docs/urls.md."""
        return self.otherwise or (f"`{self.default}`" if self.default else "")


ALL = ("all",)
LISTS = ("search", "table", "neuron")
ASKING = ("search", "table", "map", "neuron")
LAYERED = ("search", "table", "map", "compare", "labels", "neuron", "audit", "melanoma")


def _choice(
    name: str, pages: tuple[str, ...], choices: tuple[str, ...], noun: str, meaning: str
) -> Parameter:
    return Parameter(name, pages, meaning, choices[0], choices=choices, noun=noun)


OF_VIEW = (
    Parameter(
        "bundle",
        ALL,
        "name of a bundle of this server",
        otherwise="the last one seen, or else the first",
    ),
    Parameter("model", LAYERED, "target model", otherwise="the first"),
    Parameter(
        "layer",
        LAYERED,
        "`module[+sae]@pooling`, or `all`",
        otherwise="neuron and compare: the first; others: all",
    ),
    Parameter(
        "unit",
        ("neuron", "map", "compare", "audit"),
        "unit of the layer; map: ringed; compare: shown large beside its match; audit: whose "
        "images are there to be marked first",
        otherwise="neuron: 0",
    ),
    Parameter("method", ("overview", *LAYERED), "label method", otherwise="the first"),
    Parameter("q", ASKING, "texts to look for, separated by commas"),
    Parameter("not", ASKING, "texts to avoid", field="but_not"),
    Parameter("like", ASKING, "instead of `q`: a neuron, `model/layer/unit`"),
    Parameter("image", ASKING, "instead of `q`: number of a probe image"),
    Parameter(
        "vec", ASKING, "instead of `q`: the encoder's vector of an uploaded image, see below"
    ),
    Parameter(
        "column",
        (*ASKING, "audit"),
        "concept column of the probe set: its figures are shown, and neurons come by its AUROC "
        "unless `q` or `sort` says otherwise; audit: the column whose suspects are shown",
    ),
    _choice(
        "find",
        ("search",),
        FINDS,
        "kind of result",
        "what to show: `neurons`, `families` (those that mean the same together), `layers` or "
        "`images`",
    ),
    Parameter("page", ("search",), "page of the results", "1"),
    _choice(
        "k",
        ("search", "neuron"),
        tuple(map(str, RESULT_COUNTS)),
        "number of results",
        "results or pairs shown: `12`, `24`, `48` or `96`",
    ),
    _choice(
        "show",
        ("neuron",),
        SHOWS,
        "sample",
        "images shown: `contrast`, `exemplars`, `groups`, `stratified` or `random`",
    ),
    _choice(
        "copies",
        ("neuron",),
        COPIES,
        "way to treat near-duplicates",
        "near-duplicate images: `show` or `hide`",
    ),
    _choice(
        "look",
        ("neuron",),
        LOOKS,
        "map",
        "map over the images: `none`, `activation` (the neuron's own) or `gradient` (what sets "
        "its exemplars apart)",
    ),
    Parameter(
        "gamma",
        ("neuron",),
        "γ at which candidate labels are ranked, 0 to 1",
        otherwise="the bundle's",
    ),
    _choice(
        "scope",
        ("neuron",),
        SCOPES,
        "scope",
        "what `q` or a filter searches: `all` layers or this `layer`",
    ),
    _choice(
        "card",
        ("neuron",),
        CARDS,
        "choice for card",
        "`yes` shows the neuron alone, for a frame in another page; `no` the whole page",
    ),
)
"""What a ``View`` holds."""

OF_NARROWING = (
    Parameter("has", LISTS, "text that the best label contains"),
    Parameter("network", LISTS, "only neurons of this target model"),
    Parameter("family", LISTS, "only neurons of this family, by its name"),
    _choice(
        "only",
        (*LISTS, "compare"),
        ONLY,
        "choice",
        "state: `all`, `reliable`, `unclear`, `unsaid` (no word fits), `disagree` "
        "(two methods are reliable and mean "
        "different things), `live`, `dead`, `dense` or `flagged` (any of these); "
        "compare: `all`, `mutual`, `oneway`, `unmatched` or `differ`",
    ),
    Parameter(
        "class",
        LISTS,
        "a class that is more frequent among the exemplars than in the probe set",
        field="of",
    ),
    _choice(
        "review",
        LISTS,
        REVIEWS,
        "verdict",
        "verdicts: `all`, `reviewed`, `unreviewed`, or what reviewers agree on: `valid`, "
        "`spurious`, `mixed`, `unclear`; `disagree` if they do not",
    ),
    Parameter(
        "where",
        LISTS,
        "ranges, `column:low..high`, separated by commas; either bound may be left out",
    ),
    Parameter(
        "sort",
        LISTS,
        "column to sort by; `-` before it puts the largest first. `layer` is the order of the "
        "bundle; `first` puts likely labels first, and of these the neurons that move an output "
        "most",
        otherwise="the best for what is asked, else table: `first`, neuron: `layer`",
    ),
)
"""What a ``Narrowing`` holds."""

OF_PAGES = (
    _choice(
        "queue",
        ("neuron",),
        ("none", "suspects", "disputed"),
        "queue",
        "list that *previous* and *next* step through: `suspects` that you have not judged, those "
        "that matter most first, or `disputed` neurons, on which reviewers differ; `none`: the "
        "list that the rest of the address names",
    ),
    _choice(
        "blind",
        ("neuron", "audit"),
        ("no", "yes"),
        "answer to “blind”",
        "`yes`: labels, scores and what others said are not shown, so that a verdict rests on the "
        "images alone; `no`: they are",
    ),
    Parameter(
        "changed",
        ("neuron",),
        "probe image, by number, that is shown flipped, cropped, recoloured and blurred",
    ),
    Parameter("why", ("neuron",), "the label whose score is explained, pair by pair"),
    Parameter(
        "colour",
        ("map",),
        "column that colours the points",
        otherwise="`match` with a query, else `family`, or `layer` where there is none",
    ),
    Parameter(
        "area",
        ("map",),
        "lasso: corners `x-y-x-y-x-y…` in steps of 1/65535 of the map, y upwards",
    ),
    Parameter(
        "bundle2",
        ("compare",),
        "bundle of the other side",
        otherwise="that of the same layer in another model, or else of the next layer",
    ),
    Parameter("model2", ("compare",), "its target model", otherwise="likewise"),
    Parameter("layer2", ("compare",), "its layer", otherwise="likewise"),
    Parameter(
        "output",
        ("labels",),
        "output of the network whose circuit is shown, by name",
        otherwise="the first that has images",
    ),
    Parameter(
        "artefact",
        ("audit",),
        "what is added to photographs, of which the carriers are shown",
        otherwise="the one with the largest effect",
    ),
    Parameter(
        "hold",
        ("audit",),
        "neurons that *Test the fix* is to hold still, `LAYER:3,14`, `LAYER:FAMILY` or "
        "`LAYER:firing with 14`; several with semicolons between them",
        otherwise="those that carry the largest effect of an artefact",
    ),
    Parameter(
        "fix",
        ("audit",),
        "what was held still in the network, by name",
        otherwise="the first that the bundle keeps",
    ),
    Parameter(
        "factors",
        ("audit",),
        "layer whose factors are shown",
        otherwise="the first that the bundle holds factors of",
    ),
    Parameter(
        "curves",
        ("audit",),
        "layer whose ablation curves are shown",
        otherwise="the first that the bundle holds curves of",
    ),
    Parameter(
        "concepts",
        ("audit", "neuron"),
        "concept set that says what should matter and what should not: `melanoma`, or a file of "
        "one as compressed text, see below; neuron: that of its queue",
        "melanoma",
    ),
    Parameter(
        "headings",
        ("audit",),
        "order of the report's sections: `audit` (its own), `annex-iv` or `model-card`",
        "audit",
    ),
    Parameter("word", ("glossary",), "the term to show first, or text that terms hold"),
    Parameter("job", ("build",), "the build to watch, named by its bundle"),
    Parameter("v", ALL, "version of this table", VERSION),
)
"""What single pages read, and the version."""

PARAMETERS = {p.name: p for p in (*OF_VIEW, *OF_NARROWING, *OF_PAGES)}
CHOSEN_OF_VIEW = tuple(p for p in OF_VIEW if p.choices)
CHOSEN_OF_PAGES = tuple(p for p in OF_PAGES if p.choices)
