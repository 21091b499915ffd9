"""What a page is made of: sections of figures and tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """A drawn figure. svg: the element. caption: how to read it."""

    svg: str
    caption: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """rows of cells under headings. words: how many columns from the left hold words; the others hold numbers.

    folded: shown when the reader asks for it.
    """

    caption: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int = 1
    folded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """Lines as they are, such as a config; folded under its caption."""

    caption: str
    lines: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A heading and what stands below it. name: its address in the page. said: what it shows, in a sentence or two."""

    name: str
    title: str
    said: str
    plots: Sequence[Plot] = ()
    tables: Sequence[Table] = ()
    texts: Sequence[Text] = ()
