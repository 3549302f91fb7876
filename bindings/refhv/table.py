# SPDX-License-Identifier: MIT
"""Tables of the pages: cells are finished HTML, columns that hold nothing are left out, and each table holds itself as CSV."""

import base64
import csv
import html
import io
import re
from collections.abc import Iterable, Mapping, Sequence

from refhv.page import HTML, Valued, escape

NOTHING = ("", "–")


class Cell(str):
    """A finished cell, and what it was made of."""

    content: str
    kind: str
    tag: str
    span: int


def cell(content: str, kind: str = "", tag: str = "td", span: int = 1) -> Cell:
    out = Cell(_html(content, kind, tag, span))
    out.content, out.kind, out.tag, out.span = content, kind, tag, span
    return out


class Line(list):
    """The cells of a row that has an id."""

    def __init__(self, cells: Iterable[Cell], name: str) -> None:
        super().__init__(cells)
        self.name = name


def _html(content: str, kind: str, tag: str, span: int, label: str = "") -> str:
    attributes = (f' class="{kind}"' if kind else "") + (f' colspan="{span}"' if span != 1 else "")
    attributes += f' data-label="{escape(label, quote=True)}"' if label else ""
    return f"<{tag}{attributes}>{content}</{tag}>"


def plain(content: str) -> str:
    """The words of finished HTML."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", "", re.sub(r"<br>|</li>|</p>", " ", content))).split())


def _kept(rows: Sequence[Sequence[Cell]]) -> list[bool]:
    """By column, whether a row has something in it."""
    width = max(map(len, rows), default=0)
    return [any(index < len(row) and row[index].content not in NOTHING for row in rows) for index in range(width)]


def _narrowed(head: Sequence[Cell], kept: Sequence[bool]) -> list[Cell]:
    """A line of heads over the columns that are left."""
    out, column = [], 0
    for one in head:
        span = sum(kept[column:column + one.span])
        column += one.span
        if span:
            out.append(one if span == one.span else cell(one.content, one.kind, one.tag, span))
    return out


def _labels(heads: Sequence[Sequence[Cell]]) -> list[str]:
    """By column, the words of all heads over it."""
    lines = [[plain(one.content) for one in head for _ in range(one.span)] for head in heads]
    return [", ".join(dict.fromkeys(filter(None, words))) for words in zip(*lines)]


def _for_csv(one: Cell) -> str:
    words = plain(one.content)
    bare = words.replace(",", "").replace("−", "-")
    return bare if "number" in one.kind.split() and re.fullmatch(r"[+-]?\d+(\.\d+)?%?", bare) else words


def safe(text: object) -> object:
    """What a spreadsheet would take for a formula begins with an apostrophe."""
    if not isinstance(text, str) or text[:1] not in tuple("=+-@\t\r") or re.fullmatch(r"[+-]?\d+(\.\d+)?%?", text):
        return text
    return f"'{text}"


def as_csv(labels: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """A line per row. A column with numbers behind it becomes one for each of them, unrounded."""
    columns: list[tuple[str, list[object]]] = []
    for index, label in enumerate(labels):
        cells = [row[index] if index < len(row) else cell("") for row in rows]
        values: list[Mapping[str, object]] = [one.content.values if isinstance(one.content, Valued) else {} for one in cells]
        names = list(dict.fromkeys(name for found in values for name in found))
        if not names or any(not found and one.content not in NOTHING for one, found in zip(cells, values)):
            columns.append((label, ["" if found else _for_csv(one) for one, found in zip(cells, values)]))
        columns += [(f"{label}: {name}", [found.get(name) for found in values]) for name in names]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([safe(label) for label, _ in columns])
    writer.writerows([[safe(text) for text in line] for line in zip(*(cells for _, cells in columns))])
    return out.getvalue()


def download(text: str, name: str) -> str:
    """A link that holds a CSV itself."""
    data = base64.b64encode(text.encode()).decode()
    return f'<a class="download" download="{escape(name, quote=True)}.csv" href="data:text/csv;base64,{data}">CSV</a>'


def table(heads: Sequence[Sequence[Cell]], rows: Iterable[Sequence[Cell]], kind: str = "", name: str = "") -> HTML:
    """A table that scrolls by itself when it is wider than the page, and on a phone is a list where it has reasons to read. Cells are
    `cell`s; nothing at all where there is no row. `name`: of its CSV, else what the first column is called."""
    lines = list(rows)
    if not lines:
        return HTML("")
    kept = _kept(lines)
    heads = [_narrowed(head, kept) for head in heads]
    lines = [(line, [one for one, keep in zip(line, kept) if keep]) for line in lines]
    labels = _labels(heads)
    reads = any("reason" in one.kind.split() for _, cells in lines for one in cells)
    body = "".join(
        (f'<tr id="{escape(line.name, quote=True)}">' if isinstance(line, Line) else "<tr>")
        + "".join(_html(one.content, one.kind, one.tag, one.span, label) if reads else one for one, label in zip(cells, labels))
        + "</tr>" for line, cells in lines)
    head = "".join(f"<tr>{''.join(line)}</tr>" for line in heads)
    kinds = " ".join(filter(None, (kind, "reads" if reads else "")))
    opening = f'<table class="{kinds}">' if kinds else "<table>"
    link = download(as_csv(labels, [cells for _, cells in lines]), name or re.sub(r"\W+", "-", labels[0]).strip("-") or "table")
    return HTML(f'<div class="data">{link}<div class="scroll">{opening}<thead>{head}</thead><tbody>{body}</tbody></table></div></div>')
