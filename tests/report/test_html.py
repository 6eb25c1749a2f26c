"""What all pages rest on: names stay text, parts of drawings stay apart, one script runs."""

from __future__ import annotations

import base64
import hashlib
import re
from html import unescape
from math import inf, nan
from xml.etree import ElementTree

import matplotlib as mpl
import pytest
from jinja2 import UndefinedError
from matplotlib.figure import Figure

from glassrec.report import html
from glassrec.report.formatting import fixed, percent, whole
from glassrec.report.style import STYLE

EVIL = '"><img src=x onerror=alert(1)>&'


def _drawn(prefix: str) -> str:
    with mpl.rc_context(STYLE | html.SVG_TEXT):
        figure = Figure(figsize=(4, 3), layout="constrained")
        axes = figure.subplots()
        axes.plot([1, 2, 3], [3, 1, 2], "o-", gid="of:7")
        axes.set_title(EVIL)
        return str(html.svg(figure, prefix, EVIL, {"7": EVIL}))


def test_a_drawing_says_names_as_text_and_ties_its_parts_to_what_they_are_of() -> None:
    drawing = ElementTree.fromstring(_drawn("a"))
    assert drawing.get("aria-label") == EVIL
    assert [tip.text for tip in drawing.iter("title")] == [EVIL]
    assert EVIL in [text.text for text in drawing.iter("text")]
    assert next(drawing.iter("title")) in list(next(drawing.iterfind(".//g[@data-of='7']")))
    assert not list(drawing.iter("img"))
    assert {"width", "height"}.isdisjoint(drawing.attrib)


def test_two_drawings_share_no_id_and_find_their_own_parts() -> None:
    found = [_drawn(prefix) for prefix in ("one", "two")]
    ids = [{*re.findall(r' id="([^"]+)"', text)} for text in found]
    assert ids[0]
    assert not ids[0] & ids[1]
    for text, own in zip(found, ids, strict=True):
        used = {*re.findall(r'href="#([^"]+)"', text), *re.findall(r"url\(#([^)]+)\)", text)}
        assert used == own
    assert found[0].replace("one-", "two-") == found[1]


def test_the_policy_of_a_page_allows_its_own_script_and_no_other() -> None:
    environment = html._environment()
    code = environment.globals["packed"]("compare/page.js")  # type: ignore[operator]
    told = environment.get_template("report/page.html.j2").render(
        code=code, allowed=html._hash(code)
    )
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', told)
    script = re.search(r"<script>(.*?)</script>", told, re.DOTALL)
    assert policy is not None
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in unescape(policy[1])
    assert "default-src 'none'" in policy[1]
    assert html._hash("") == "'none'"


def test_a_name_that_a_template_does_not_know_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="title"):
        html.render("compare/page.html.j2")


@pytest.mark.parametrize(
    ("form", "value", "told"),
    [
        (whole, 1234567.0, "1,234,567"), (whole, None, "–"), (whole, nan, "–"),
        (percent, 0.1234, "12.3 %"), (percent, -0.5, "−50.0 %"),
        (percent, inf, "–"), (fixed, 0.5, "0.5000"), (fixed, -1e-9, "0.0000"),
        (fixed, -2.0, "−2.0000"),
    ],
)  # fmt: skip
def test_numbers_are_told(form: object, value: float, told: str) -> None:
    assert callable(form)
    assert form(value) == told


def test_counts_are_told_with_their_names() -> None:
    assert [html.counted(n, "run") for n in (0, 1, 1200)] == ["0 runs", "1 run", "1,200 runs"]
