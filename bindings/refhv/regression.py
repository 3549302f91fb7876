# SPDX-License-Identifier: MIT
"""Tables and figures of regression.html: one set of launches held to another, as the gate judges it (docs/gate.md)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import pyplot
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from refhv import gate, plots, tables
from refhv.gate import output
from refhv.gate.model import Finding, Verdict, Word
from refhv.page import HTML, Valued, badge, escape, figure, folded
from refhv.progress import number
from refhv.table import cell, table

CLASSES = {Word.BROKEN: "bad", Word.CHANGED: "bad", Word.WORSE: "bad", Word.LOST: "bad", Word.UNDECIDED: "open", Word.BETTER: "good"}
COLORS = {"bad": "#b3261e", "open": "#8a6d1a", "good": "#2b7a4b", "": plots.SOFT}
MOST_DRAWN = 40


def compare(base: Sequence[str], candidate: Sequence[str], rule: Mapping[str, Any]) -> tuple[Verdict, list[dict], list[str]]:
    """The gate's verdict, the records of both sides, and a line for each record that cannot be used. Raises gate.UnlikeError,
    identity.SameRecordError."""
    (before, lost), (after, more) = (tables.read([Path(one) for one in side]) for side in (base, candidate))
    return gate.compare(before, after, gate.Rule(**rule)), [*before, *after], [*lost, *more]


def headline(verdict: Verdict, records: Sequence[dict], problems: Sequence[str]) -> HTML:
    """The verdict, what was compared with what, and whether the numbers are time at all."""
    bad = "" if verdict.code == gate.Code.PASS else " problem"
    kinds = "".join(dict.fromkeys(badge(rec) for rec in records))
    sides = "".join(f"<li>{escape(line)}</li>" for line in output.side_lines(verdict))
    left = "".join(f'<div class="notice problem">left out: {escape(line)}</div>' for line in problems)
    ticks = ("<p>EMULATED: ticks are instructions or an emulator's own time, neither cycles nor ns.</p>"
             if any(rec["target"]["emulated"] for rec in records) else "")
    unlike = "<p>Machines may differ, and then these are no times of one machine.</p>" if verdict.rule.unlike else ""
    return HTML(f'{left}<div class="notice{bad}"><strong>{escape(output.headline(verdict))}</strong> {kinds}<ul>{sides}</ul>{ticks}{unlike}</div>')


def _value(value: float | None, ns: float | None, unit: str) -> str:
    if value is None:
        return ""
    out = Valued(f"{number(value)} {escape(unit)}" + ("" if ns is None else f"<br><small>{number(ns)} ns</small>"))
    out.values = {"p50": value} | ({} if ns is None else {"p50 ns": ns})
    return out


def _change(finding: Finding) -> str:
    if finding.change is None:
        return ""
    interval = finding.interval
    words = f"{finding.change:+.1%}" + (f" <small>[{interval[0]:+.1%}, {interval[1]:+.1%}]</small>" if interval else "")
    out = Valued(words)
    out.values = {"relative": finding.change} | ({"low": interval[0], "high": interval[1]} if interval else {})
    return out


def _findings(found: Sequence[Finding], name: str) -> str:
    heads = [cell(text, kind, "th") for text, kind in (
        ("", "sticky"), ("what", ""), ("target", ""), ("base", "number"), ("candidate", "number"), ("change [95 %]", "number"), ("p", "number"),
        ("A/A floor", "number"), ("could show", "number"), ("words", ""))]
    body = [[cell(f'<span class="word-{CLASSES.get(f.word, "")}">{escape(f.word.text)}</span>', "sticky"), cell(escape(f"{f.kind} {f.name}"), "name"),
             cell(escape(f.target)), cell(_value(f.base, f.base_ns, f.unit), "number"), cell(_value(f.candidate, f.candidate_ns, f.unit), "number"),
             cell(_change(f), "number"), cell("" if f.p is None else f"{f.p:.2g}", "number"), cell(output.percent(f.floor, False), "number"),
             cell(output.percent(f.shows, False), "number"), cell(escape(f.text), "reason" if f.text else "")] for f in found]
    return table([heads], body, name=name).data


def differs(verdict: Verdict) -> HTML:
    """What is not the same, the worst first."""
    return HTML(_findings(output.shown(verdict), "differs"))


def same(verdict: Verdict) -> HTML:
    """What is, folded by kind."""
    found = verdict.of(Word.SAME)
    return HTML("".join(folded(f"{kind}: {len(mine)} the same", _findings(mine, f"same-{kind}"))
                        for kind in dict.fromkeys(f.kind for f in found) if (mine := [f for f in found if f.kind == kind])))


def changes(verdict: Verdict) -> HTML:
    """A figure per target: the relative change of each time with its interval, the largest first, and what would not count."""
    return HTML("".join(_drawn(verdict, target) for target in verdict.sides))


def _drawn(verdict: Verdict, target: str) -> str:
    found = sorted((f for f in verdict.findings if f.target == target and f.kind == "time" and f.change is not None), key=lambda f: -abs(f.change or 0))
    shown = found[:MOST_DRAWN]
    if not shown:
        return ""
    height = 0.24 * len(shown) + 1.1
    drawing, axes = pyplot.subplots(figsize=(plots.WIDTH, height))
    drawing.subplots_adjust(left=0.24, right=0.97, bottom=0.55 / height, top=1 - 0.5 / height)
    for y, f in enumerate(shown):
        bound = max(verdict.rule.least, f.floor or 0) * 100
        color = COLORS[CLASSES.get(f.word, "")]
        axes.barh(y, 2 * bound, left=-bound, height=0.8, color="#e6eaee", zorder=1)
        if f.interval:
            axes.plot([100 * end for end in f.interval], [y, y], color=color, lw=2, zorder=2)
        axes.plot(100 * (f.change or 0), y, "o", color=color, ms=5, zorder=3)
    axes.axvline(0, color=plots.NATIVE, lw=1)
    axes.set_yticks(range(len(shown)), [f.name for f in shown])
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+g} %"))
    axes.set_xlabel("change of the median launch; right is slower")
    axes.set_title(f"{target}: change of times", loc="left", fontsize=11.5, fontweight="bold")
    worse = [f"{f.name} {f.change:+.1%}" for f in found if f.word == Word.WORSE]
    alt = f"{target}: {len(found)} times, {len(worse)} worse{': ' + ', '.join(worse[:5]) if worse else ''}; the largest change is {shown[0].name}, {shown[0].change:+.1%}."
    rest = f" The {len(shown)} largest of {len(found)}." if len(found) > len(shown) else ""
    axes.legend(handles=[Line2D([], [], marker="o", color=plots.SOFT, lw=2, ms=5, label="change and its 95 % interval"),
                         Line2D([], [], color="#e6eaee", lw=7, label="would not count")], loc="lower right", frameon=False, fontsize=9)
    return figure(drawing, alt, f"Grey: the rule's least change or the benchmark's own A/A floor.{rest}").data


def judged(verdict: Verdict) -> HTML:
    return HTML(f"<p>{escape(output.rule_line(verdict))}</p><p>{escape(output.power_line(verdict))}</p>"
                "<p>The interval of a change holds those that the rank sum does not refuse; it is of one benchmark, while the verdict "
                "is adjusted for all of them. docs/gate.md has the rule in full.</p>")
