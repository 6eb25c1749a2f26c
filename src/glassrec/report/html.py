"""Pages as one HTML file that needs no network and escapes every name.

Templates escape what they print, except `Markup` from here, whose texts are escaped already.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections.abc import Collection, Mapping
from functools import cache
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import jinja2
import yaml
from markupsafe import Markup
from matplotlib.figure import Figure

from glassrec.report import style
from glassrec.report.formatting import DASH, shorten
from glassrec.spelling import counted

SVG_TEXT: dict[str, Any] = {"svg.fonttype": "none", "svg.hashsalt": "glassrec"}
"""Settings for SVG whose letters stay text, and whose text is equal for equal figures."""

PIXEL = 0.85 * 96 / style.DPI
"""CSS pixels for a pixel of a figure on a narrow screen: letters of 8 points are 9 pixels tall."""

SVG, HREF, TIE = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href", "of:"
"""Names in a drawing; a gid that starts with `TIE` ties an artist to a setting."""


def render(template: str, script: str | None = None, **values: Any) -> str:
    """The page of a template of the package, such as `compare/page.html.j2`.

    No other script than `script`, a file of the package, runs in it. A name in the template that
    is not among `values` is an error.
    """
    code = _packed(script) if script else ""
    return _environment().get_template(template).render(code=code, allowed=_hash(code), **values)


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("glassrec", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"packed": _packed, "style": style, "DASH": DASH}
    environment.filters |= {"counted": counted, "png": png, "shorten": shorten}
    return environment


def _packed(path: str) -> Markup:
    """The text of a file of the package, such as a style sheet, as it is."""
    loader = _environment().loader
    assert loader is not None
    return Markup(loader.get_source(_environment(), path)[0])


def _hash(code: str) -> str:
    if not code:
        return "'none'"
    return f"'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}'"


@cache
def _all_texts() -> dict[str, Any]:
    return yaml.safe_load(_packed("report/texts.yaml"))


def texts(part: str) -> dict[str, Any]:
    """A part of the fixed texts in `texts.yaml`, by key."""
    return _all_texts()[part]


def png(content: bytes, described: str) -> Markup:
    """A PNG inside the page, with its alternative text, and the width in CSS pixels at which its
    text is readable where the screen is narrower.
    """
    data = base64.b64encode(content).decode()
    width = round(PIXEL * int.from_bytes(content[16:20]))  # where PNG has its width
    image = Markup('<img src="data:image/png;base64,{}" width="{}" alt="{}">')
    return image.format(data, width, described)


def svg(
    figure: Figure, prefix: str, described: str, tips: Mapping[str, str] | None = None
) -> Markup:
    """A figure drawn under `SVG_TEXT`, as large as its place in the page, with letters as text.

    An artist whose gid is `of:KEY` becomes a group with the attribute `data-of="KEY"`, and with the
    tooltip that `tips` has for the key. `prefix` is unique in the page and keeps the ids of figures
    apart; `described` is the alternative text.
    """
    buffer = io.StringIO()
    no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(buffer, format="svg", metadata=no_metadata, transparent=True)
    drawing = ElementTree.fromstring(buffer.getvalue())
    used = {name for each in drawing.iter() for name in _references(each)}
    for element in drawing.iter():
        _rename(element, prefix, used)
        _tie(element, tips or {})
    for size in ("width", "height"):  # the page sets the size
        del drawing.attrib[size]
    drawing.attrib |= {"role": "img", "aria-label": described}
    return Markup(ElementTree.tostring(drawing, encoding="unicode"))


def _references(element: Element) -> list[str]:
    linked = element.get(HREF, "").removeprefix("#")
    clipped = re.findall(r"url\(#([^)]+)\)", element.get("clip-path", ""))
    return [name for name in (linked, *clipped) if name]


def _rename(element: Element, prefix: str, used: Collection[str]) -> None:
    element.tag = element.tag.removeprefix(SVG)
    if (name := element.get("id")) in used:
        element.set("id", f"{prefix}-{name}")
    elif name is not None and not name.startswith(TIE):
        del element.attrib["id"]
    if HREF in element.attrib:
        element.set("href", f"#{prefix}-{element.attrib.pop(HREF)[1:]}")
    if "style" in element.attrib:  # the page sets the font
        element.set("style", re.sub(r"font-family: [^;]*; ?", "", element.attrib["style"]))
    if "clip-path" in element.attrib:
        element.set("clip-path", element.attrib["clip-path"].replace("(#", f"(#{prefix}-"))


def _tie(element: Element, tips: Mapping[str, str]) -> None:
    """Turn the gid of a group into a data attribute and a tooltip."""
    if not element.get("id", "").startswith(TIE):
        return
    key = element.attrib.pop("id").removeprefix(TIE)
    element.set("data-of", key)
    if key in tips:
        title = Element("title")
        title.text = tips[key]
        element.insert(0, title)
