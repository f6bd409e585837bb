"""One neuron where the last line of a notebook's cell stands: the page that opens from disk."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from html import escape

from csp_engine.bundle import Bundle
from csp_engine.exports.html.selection import of_neurons
from csp_engine.exports.html.site import TEMPLATES, Site, image_path
from csp_engine.types import NeuronRef
from csp_engine.views.conclusion.claims import conclusion_of
from csp_engine.views.neuron.label import heading_of

HEIGHT_PX = 760
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""The page carries its pictures and its style, and may load nothing."""
_LOADED = re.compile(
    r'<link rel="stylesheet"[^>]*>|<noscript>.*?</noscript>|<script[^>]*></script>'
)
_STATED = re.compile(r'content="default-src[^"]*"')
_ALONE = "header nav, .skip, footer { display: none }"


@dataclass(frozen=True, slots=True, eq=False)
class ShownNeuron:
    """A neuron that shows itself in a notebook, and says what it is elsewhere."""

    bundle: Bundle
    neuron: NeuronRef

    def __repr__(self) -> str:
        site = self._site()
        heading = heading_of(self.bundle, self.neuron, site.method)
        claims = conclusion_of(self.bundle, site.memo, self.neuron, site.method)
        return " ".join([f"{self.neuron}: {heading.label.heading}.", *map(str, claims)])

    def _repr_html_(self) -> str:
        """The page in a frame of its own, which neither runs scripts nor shares styles."""
        page = escape(self.page(), quote=True)
        look = f"width:100%;height:{HEIGHT_PX}px;border:0"
        name = escape(str(self.neuron), quote=True)
        return f'<iframe sandbox srcdoc="{page}" title="{name}" style="{look}"></iframe>'

    def page(self) -> str:
        """The page with its style and pictures inside.

        Raises:
            BundleError: if a file of the bundle is missing or damaged.
        """
        site = self._site()
        path, content = next(
            (path, content) for path, content in site.files() if path.startswith("neurons/")
        )
        style = (TEMPLATES / "style.css").read_text("utf-8") + _ALONE
        markup = _LOADED.sub("", content.decode("utf-8"))
        markup = _STATED.sub(f'content="{_POLICY}"', markup, count=1)
        markup = markup.replace("</head>", f"<style>{style}</style></head>", 1)
        up = "../" * path.count("/")

        def inside(found: re.Match[str]) -> str:
            image = int(found["image"])
            if found["path"] != f"{up}{image_path(image)}":
                return found[0]
            body = base64.b64encode(self.bundle.thumbnail(image)).decode()
            return f'src="data:image/webp;base64,{body}"'

        return re.sub(r'src="(?P<path>[^"]*/(?P<image>[0-9]+)\.webp)"', inside, markup)

    def _site(self) -> Site:
        chosen = of_neurons(self.bundle, [self.neuron], title="Neuron", about=str(self.neuron))
        return Site(self.bundle, chosen)


def show_neuron(bundle: Bundle, neuron: NeuronRef | str) -> ShownNeuron:
    """One neuron to look at in a notebook: pairs of images, labels and figures, as on its page.

    Args:
        bundle: an open bundle.
        neuron: a ``NeuronRef``, or ``model/layer/unit``.

    Raises:
        InputError: if the text names no neuron, or the bundle does not have it.
    """
    ref = NeuronRef.parse(neuron) if isinstance(neuron, str) else neuron
    shown = ShownNeuron(bundle, ref)
    shown._site()  # raises the sentence that fits here, not where a notebook draws it
    return shown
