"""The glossary of a report: definitions of the terms that occur in its text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from glassrec.report.html import texts

TERMS: dict[str, str] = texts("glossary")
"""In the order in which they are listed."""

ANY_TERM = re.compile(
    rf"(?<![\w/@])({'|'.join(map(re.escape, sorted(TERMS, key=len, reverse=True)))})(?!\w)",
    re.IGNORECASE,
)


def used_terms(texts: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The terms that occur in any of the texts."""
    found = {term for text in texts for _, term in linked(text)}
    return ((term, meaning) for term, meaning in TERMS.items() if term.lower() in found)


def linked(text: str) -> Iterator[tuple[str, str]]:
    """The pieces of a text, each with its term, or with nothing."""
    last = 0
    for match in ANY_TERM.finditer(text):
        yield text[last : match.start()], ""
        yield match[0], match[0].lower()
        last = match.end()
    yield text[last:], ""
