"""What a term means, from the glossary that the documents share: as a tooltip, and as a link."""

from __future__ import annotations

import re
from urllib.parse import quote

from csp_engine.methods import method_title
from csp_engine.views.glossary import as_text, meanings
from csp_engine.views.table.columns import NeuronColumn
from pages.ui.parts.cards import base_url, plain


def as_html(meaning: str) -> str:
    """A meaning as HTML: what is typed is set as code, and nothing in it is markup."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", plain(meaning))


def address(term: str) -> str:
    """The address of a term in the glossary."""
    return f"{base_url('glossary')}?word={quote(term)}"


def term(name: str, shown: str | None = None) -> str:
    """A term as HTML: its meaning on hover and on focus, the glossary behind it.

    Args:
        name: as the glossary writes it.
        shown: what stands on the page, where that is another form of the word.
    """
    meaning = as_text(meanings()[name])
    return (
        f"<a class='csp-term' href='{plain(address(name))}' target='_self' "
        # No label: it would be the name of the heading or of the column that the term stands in.
        f"data-meaning='{plain(meaning)}' aria-description='{plain(meaning)}'>"
        f"{plain(shown or name)}</a>"
    )


def method(name: str) -> str:
    """A label method as HTML, with its meaning where the glossary has one."""
    title = method_title(name)
    return term(title) if title in meanings() else plain(title)


def explained(*names: str) -> str:
    """Terms for the help of a widget, in its Markdown: a sentence each and a link."""
    lines = [f"**{name}**: {meanings()[name]} [Glossary]({address(name)})" for name in names]
    return "\n\n".join(lines)


def tooltip(meaning: str, name: str) -> str:
    """A sentence of one's own and a way to the glossary, for the help of a column or widget."""
    return f"{meaning} [Glossary]({address(name)})"


def about_column(column: NeuronColumn) -> str:
    """What a column of the table of neurons means, for its help."""
    return tooltip(column.meaning, column.term) if column.term else column.meaning
