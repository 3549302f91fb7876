# SPDX-License-Identifier: MIT
"""Small pieces of HTML that tables and plots share."""

import base64
import html
import io
from collections.abc import Iterable, Sequence
from typing import Any

from IPython.display import HTML

from refhv import clock, identity
from refhv.progress import number

escape = html.escape


def badge(emulated: bool) -> str:
    return '<span class="badge emulated">EMULATED</span>' if emulated else '<span class="badge hardware">hardware</span>'


def called(rec: dict[str, Any]) -> str:
    """A record's title and whether its numbers are an emulator's, as finished HTML."""
    return f"{escape(identity.title(rec))} {badge(rec['target']['emulated'])}"


def verdict(word: str, known: bool = False, title: str = "") -> str:
    kind = "known" if known else word
    tip = f' title="{escape(title, quote=True)}"' if title else ""
    return f'<span class="verdict {kind}"{tip}>{escape(word)}</span>'


def cost(rec: dict[str, Any], row: dict[str, Any] | None, p90: bool = True) -> str:
    """p50 [p90] of a row, and p50 in ns where the TSC's rate is known; the verdict where there is no number, nothing for no row."""
    if row is None:
        return ""
    if row["verdict"] != "PASS":
        return verdict(row["verdict"], title=row["reason"] or "")
    value = row["summary"]["p50"]
    ns = clock.nanoseconds(rec, value)
    words = number(value) + (f" <small>[{number(row['summary']['p90'])}]</small>" if p90 else "")
    return words + (f"<br><small>{number(ns)} ns</small>" if ns is not None else "")


def cell(content: str, kind: str = "", tag: str = "td", span: int = 1) -> str:
    attributes = (f' class="{kind}"' if kind else "") + (f' colspan="{span}"' if span != 1 else "")
    return f"<{tag}{attributes}>{content}</{tag}>"


def table(heads: Sequence[Sequence[str]], rows: Iterable[Sequence[str]], kind: str = "") -> HTML:
    """A table that scrolls by itself when it is wider than the page. Cells are finished HTML (`cell`)."""
    head = "".join(f"<tr>{''.join(line)}</tr>" for line in heads)
    body = "".join(f"<tr>{''.join(line)}</tr>" for line in rows)
    opening = f'<div class="scroll"><table class="{kind}">' if kind else '<div class="scroll"><table>'
    return HTML(f"{opening}<thead>{head}</thead><tbody>{body}</tbody></table></div>")


def figure(drawing: Any, alt: str, caption: str) -> HTML:
    """A matplotlib figure as an image inside the page, and closes it."""
    from matplotlib import pyplot

    buffer = io.BytesIO()
    drawing.savefig(buffer, format="svg", dpi=200, metadata={"Date": None})
    pyplot.close(drawing)
    data = base64.b64encode(buffer.getvalue()).decode()
    return HTML(f'<figure><img alt="{escape(alt, quote=True)}" src="data:image/svg+xml;base64,{data}">'
                f"<figcaption>{escape(caption)}</figcaption></figure>")
