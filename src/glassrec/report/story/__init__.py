"""The report of one run: what a reader is told who did not run it, from data to certificate."""

from __future__ import annotations

from collections.abc import Iterator

from glassrec.report.page import rendered
from glassrec.report.story.cut import cut
from glassrec.report.story.data import data, model, training
from glassrec.report.story.explanation import importance, neurons
from glassrec.report.story.found import Found
from glassrec.report.story.nutshell import nutshell, tiles
from glassrec.report.story.parts import Part, Story
from glassrec.report.story.repeat import repeat
from glassrec.report.story.words import TERMS, linked, used

SECTIONS = (data, model, training, importance, neurons, cut, repeat)
"""In the order in which they are told; a section of a stage that was not run is None."""


def story(found: Found) -> Story:
    """All that is told of a run."""
    sections = [section for tell in SECTIONS if (section := tell(found)) is not None]
    said = [*nutshell(found)]
    seed = found.config["seed"]
    lead = f"One run, of seed {seed}, told from its data to the certificate of its cut."
    texts = [
        *said,
        *(label for _, label in tiles(found)),
        *(text for section in sections for text in (section.finding, *_texts(section.parts))),
    ]
    return Story(
        title=f"{found.model} on {found.source}",
        lead=lead,
        nutshell=said,
        tiles=[*tiles(found)],
        sections=sections,
        words=[*used(texts)],
    )


def page(found: Found) -> str:
    """The report as one HTML file."""
    return rendered(
        "report/story/page.html.j2",
        story=story(found),
        linked=linked,
        meanings={term.lower(): meaning for term, meaning in TERMS.items()},
        ids={term.lower(): f"word-{number}" for number, term in enumerate(TERMS)},
        version=found.provenance.get("glassrec", ""),
    )


def _texts(parts: object) -> Iterator[str]:
    """All words of some parts, those that are folded away too."""
    if isinstance(parts, str):
        yield parts
    elif isinstance(parts, (list, tuple)):
        for part in parts:
            yield from _texts(part)
    elif isinstance(parts, Part):
        yield from _texts([*vars(parts).values()])
