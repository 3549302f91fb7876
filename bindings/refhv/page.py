# SPDX-License-Identifier: MIT
"""Small pieces of HTML that tables and plots share."""

import base64
import hashlib
import html
import io
import re
from collections.abc import Mapping
from typing import Any

from IPython.display import HTML

from refhv import clock, identity
from refhv.progress import number

escape = html.escape

BADGES = {identity.Nature.EMULATED: "EMULATED", identity.Nature.VIRTUAL: "VIRTUAL", identity.Nature.METAL: "METAL",
          identity.Nature.UNTOLD: "virtual or metal: not told"}


def badge(rec: dict[str, Any]) -> str:
    """What a record's numbers are of, as it stands beside every title."""
    nature = identity.nature(rec)
    return f'<span class="badge {nature.value}">{BADGES[nature]}</span>'


def called(rec: dict[str, Any]) -> str:
    """A record's title and what its numbers are of, as finished HTML."""
    return f"{escape(identity.title(rec))} {badge(rec)}"


def verdict(word: str, known: bool = False, title: str = "") -> str:
    kind = "known" if known else word
    tip = f' title="{escape(title, quote=True)}"' if title else ""
    return f'<span class="verdict {kind}"{tip}>{escape(word)}</span>'


class Valued(str):
    """Finished HTML, and the numbers behind it for a table's CSV, by name."""

    values: Mapping[str, float | None]


def cost(rec: dict[str, Any], row: dict[str, Any] | None, p90: bool = True) -> str:
    """p50 [p90] of a row, and p50 in ns where the TSC's rate is known; the verdict where there is no number, nothing for no row."""
    if row is None:
        return ""
    if row["verdict"] != "PASS":
        return verdict(row["verdict"], title=row["reason"] or "")
    value = row["summary"]["p50"]
    ns = clock.nanoseconds(rec, value)
    words = number(value) + (f" <small>[{number(row['summary']['p90'])}]</small>" if p90 else "")
    out = Valued(words + (f"<br><small>{number(ns)} ns</small>" if ns is not None else ""))
    out.values = {"p50": value} | ({"p90": row["summary"]["p90"]} if p90 else {}) | ({"p50 ns": ns} if ns is not None else {})
    return out


def anchor(kind: str, name: str) -> str:
    """An id in a page: the name where it is plain, else what of it is and a hash."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "-", name)[:100]
    same = re.fullmatch(r"[A-Za-z0-9._-]{1,100}", name.replace("/", "-", 1))
    return f"{kind}-{plain}" if same else f"{kind}-{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def link(to: str, words: str) -> str:
    """A link to an id of this page, or to an address. `words` are text."""
    return f'<a href="{escape(to, quote=True)}">{escape(words)}</a>'


def folded(summary: str, body: str, opened: bool = False) -> str:
    """Finished HTML that a reader unfolds. `summary` is text."""
    return f'<details{" open" if opened else ""}><summary>{escape(summary)}</summary>{body}</details>' if body else ""


def figure(drawing: Any, alt: str, caption: str) -> HTML:
    """A matplotlib figure as an image inside the page, and closes it. `alt` says what it shows, result included."""
    from matplotlib import pyplot

    buffer = io.BytesIO()
    drawing.savefig(buffer, format="svg", dpi=200, metadata={"Date": None})
    pyplot.close(drawing)
    data = base64.b64encode(buffer.getvalue()).decode()
    return HTML(f'<figure><div class="scroll plain"><img alt="{escape(alt, quote=True)}" src="data:image/svg+xml;base64,{data}"></div>'
                f"<figcaption>{escape(caption)}</figcaption></figure>")
