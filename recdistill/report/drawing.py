"""A figure as SVG inside a page: in the colours of its theme, text as text, ids of its own, words for who listens."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = {
    "ink": "#0a0b01",
    "muted": "#0a0b02",
    "line": "#0a0b03",
    "teacher": "#0a0b11",
    "student": "#0a0b12",
    "control": "#0a0b13",
    "champion": "#0a0b14",
}
"""Variable of page.css -> the colour that stands for it while matplotlib draws."""
MARKERS = {"teacher": "s", "student": "o", "control": "^", "champion": "D"}
_INCHES = 5.0
_STYLE: Any = {
    "svg.hashsalt": "recdistill",
    "svg.fonttype": "none",
    "font.size": 11,
    "axes.edgecolor": COLOURS["line"],
    "axes.labelcolor": COLOURS["ink"],
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": COLOURS["line"],
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "text.color": COLOURS["ink"],
    "xtick.color": COLOURS["muted"],
    "ytick.color": COLOURS["muted"],
    "xtick.labelcolor": COLOURS["ink"],
    "ytick.labelcolor": COLOURS["ink"],
}
_NOTHING = dict.fromkeys(("Creator", "Date", "Format", "Type"))


class Drawing:
    """Axes that were drawn on, and the SVG element that they make."""

    def __init__(self, axes: Axes) -> None:
        self.axes = axes
        self._file = ""

    def save(self, figure: Figure) -> None:
        """Turn what was drawn into text; called once, in the style it was drawn in."""
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata=_NOTHING)
        self._file = out.getvalue()

    def svg(self, name: str, words: str) -> str:
        """The element. name: unique in the page. words: what it shows, for a reader who does not see it."""
        return inline(self._file, name, words)


@contextmanager
def drawing(height: float = 3.4) -> Iterator[Drawing]:
    """One pair of axes to draw on; after the block it can be had as SVG. height: inches, of a width of 5."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_INCHES, height), layout="constrained", facecolor="none")
        drawn = Drawing(figure.subplots())
        drawn.axes.set_facecolor("none")
        yield drawn
        drawn.save(figure)


def inline(svg: str, name: str, words: str) -> str:
    """An SVG file of matplotlib as an element of a page, without prolog, addresses, fonts and colours of its own.

    >>> inline('<?xml?><svg xmlns="http://a.b" width="3pt"><path id="p" fill="#0a0b12"/></svg>', "f", "a < b")
    '<svg role="img" aria-label="a &lt; b"><path id="f-p" fill="var(--student)"/></svg>'
    """
    head, body = svg[svg.index("<svg") + len("<svg") :].strip().split(">", 1)
    head = re.sub(r'\s*\b(xmlns(:\w+)?|version|width|height)="[^"]*"', "", head)
    body = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", body, count=1, flags=re.DOTALL)
    body = re.sub(r"font-family: [^;\"]*;? ?", "", body)
    body = re.sub(r"\s*\n\s*", " ", body)
    body = body.replace("xlink:href", "href").replace('id="', f'id="{name}-')
    body = body.replace("url(#", f"url(#{name}-").replace('href="#', f'href="#{name}-')
    for variable, colour in COLOURS.items():
        body = body.replace(colour, f"var(--{variable})")
    return f'<svg role="img" aria-label="{html.escape(words)}"{head}>{body}'
