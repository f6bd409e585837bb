"""docs/glossary.md: one entry a line, each word once, and the words that pages and docs lean on."""

from __future__ import annotations

import re

from tools import cli_reference

TEXT = (cli_reference.ROOT / "docs" / "glossary.md").read_text("utf-8")
ENTRY = re.compile(r"^- \*\*(?P<term>[^*]+)\*\*: (?P<meaning>.+\.)$")
GLOSSARY = {
    match["term"]: match["meaning"] for line in TEXT.splitlines() if (match := ENTRY.match(line))
}
NEEDED_TEXT = """
    neuron, unit, layer, pooling, target model, activation, dead, dense, constant, density,
    probe set, probe image, exemplar, contrast image, pool size, reuse,
    encoder, embedding, label, vocabulary, template, concept vector, gamma, method, metric,
    score, margin, percentile, null, clarity, polysemanticity, redundancy,
    bundle, stage, manifest, audit, finding
"""
NEEDED = {term.strip() for term in NEEDED_TEXT.split(",")}


def test_every_line_that_starts_an_entry_is_a_whole_one():
    entries = [line for line in TEXT.splitlines() if line.startswith("-")]
    assert [line for line in entries if not ENTRY.match(line)] == []
    assert len(entries) == len(GLOSSARY), "a word has two entries"


def test_no_heading_repeats_and_no_term_differs_from_another_by_case_alone():
    headings = re.findall(r"^#+ (.+)$", TEXT, re.M)
    assert len(headings) == len(set(headings))
    assert len({term.casefold() for term in GLOSSARY}) == len(GLOSSARY)


def test_the_words_that_everything_else_uses_are_there():
    assert set(GLOSSARY) >= NEEDED


def test_an_entry_fits_a_tooltip():
    assert {term: meaning for term, meaning in GLOSSARY.items() if len(meaning) > 220} == {}
