# SPDX-License-Identifier: MIT
"""Tables and figures of paging.html."""

from collections import defaultdict

import numpy
from matplotlib import pyplot
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from refhv import identity, plots, sweep
from refhv.page import HTML, called, escape, figure, verdict
from refhv.record import Record
from refhv.table import cell, table
from refhv.tables import Run

COLORS = {"4k": "#b3261e", "2m": "#31688e", "1g": "#4c9f70"}


def _with_numbers(run: Run) -> list[Record]:
    return [rec for rec in run.records if any(row["verdict"] == "PASS" and row["mode"] == "user" for row in rec["benchmarks"])]


def _pages(rec: Record) -> list[str]:
    return [page for page in sweep.PAGES if len(sweep.curve(rec, page).lines)]


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def where(run: Run) -> HTML:
    """Says above all numbers whether walks are two-dimensional, and what the pages underneath seem to be."""
    notices = []
    for rec in _with_numbers(run):
        name = escape(identity.title(rec))
        if not sweep.in_vm(rec):
            notices.append(f"<strong>{name}: no hypervisor underneath.</strong> Walks are one-dimensional.")
            continue
        text = (f"<strong>{name}: inside a virtual machine ({escape(rec['machine']['hypervisor'])}). Page walks here are "
                "two-dimensional</strong> if it uses nested paging: each entry of this system's page tables is itself translated by "
                "the hypervisor's. Page sizes below are this system's own; the hypervisor's are not visible from inside.")
        if sweep.splintered(rec):
            text += (" The curves give them away, though: 2M pages leave the first-level TLB after as few lines as 4K pages do, so "
                     "it seems to hold them in small pieces; an entry covers no more than the smaller of the two pages. <strong>This "
                     "points to a hypervisor that backs this memory with small pages</strong>: the 2M rows miss TLBs too.")
        notices.append(text)
    return HTML("".join(f'<div class="notice">{text}</div>' for text in notices))


def miss_costs(run: Run) -> HTML:
    """A row per machine and page size: inside, beyond, their difference, and the references a walk has to make."""
    heads = [cell(text, kind, "th") for text, kind in [
        ("machine", "sticky"), ("page", ""), ("lines", ""), ("inside", "number"), ("beyond", "number"),
        ("cost of a miss [range]", "number group"), ("per doubling", "number"), ("A/A floor", "number"),
        ("references, nothing cached", "number group"), ("cycles a reference", "number"), ("walks counted", "number group")]]
    body, uncounted = [], {}
    for rec in _with_numbers(run):
        for page in _pages(rec):
            found = sweep.miss_cost(rec, page)
            if found is None:
                continue
            references = sweep.references(rec, page)
            guest = sweep.GUEST_LEVELS[page]
            how = f"{references} <small>({guest} × {sweep.NESTED_LEVELS})</small>" if sweep.in_vm(rec) else f"{references} <small>({guest})</small>"
            body.append([
                cell(called(rec), "name sticky"), cell(page),
                cell(f"{found.lines[0]}–{found.lines[-1]}"), cell(_figure(found.inside), "number"),
                cell(_figure(found.beyond), "number"),
                cell(f"<strong>{_figure(found.cost)}</strong> <small>[{_figure(found.low)}, {_figure(found.high)}]</small>", "number group"),
                cell(_figure(found.slope.value if found.slope else None), "number"),
                cell(_figure(sweep.floor(rec, page)), "number"), cell(how, "number group"),
                cell(_figure(found.cost / references), "number"), cell(_walks(rec, page, uncounted), "number group")])
    notes = "".join(f"<p>No walks counted on {escape(name)}: {escape(why)}.</p>" for name, why in uncounted.items())
    return HTML(table([heads], body).data + notes)


def _walks(rec: Record, page: str, uncounted: dict[str, str]) -> str:
    """What the performance counter said for the longest row; why it said nothing goes into `uncounted`."""
    rows = [row for row in rec["benchmarks"] if row["name"].startswith(f"tlb.{page}.") and row["verdict"] == "PASS"]
    chase = max((row["chase"] for row in rows), key=lambda chase: chase["lines"])
    if chase["walks_per_access"] is None:
        uncounted[identity.title(rec)] = chase["walks_missing"]
        return "–"
    return f"{chase['walks_per_access']:.2f} an access <small>({escape(chase['walks_event'])})</small>"


def _axes(title: str):
    drawing, axes = pyplot.subplots(figsize=(plots.WIDTH, 4.6))
    drawing.subplots_adjust(left=0.06, right=0.985, bottom=0.19, top=0.86)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}\n{_bytes(value * 4096)}"))
    axes.grid(axis="both")
    axes.set_title(title, loc="left", fontsize=11.5, fontweight="bold")
    axes.set_ylabel("cycles of the TSC per access")
    axes.set_xlabel("lines, and the address space that the spread rows take")
    return drawing, axes


def _bytes(count: float) -> str:
    return f"{count / 1024:.0f} KB" if count < 1 << 20 else f"{count / (1 << 20):.0f} MB"


def _title(rec: Record) -> str:
    words = ", ".join([plots.title(rec), identity.cpu(rec)])
    return f"{words}, INSIDE A VM (two-dimensional walks)" if sweep.in_vm(rec) else words


def _range_words(lines, values) -> str:
    """Of a curve its ends: 4 at 16 lines, 80 at 65,536."""
    return f"{_figure(values[0])} at {lines[0]:,.0f} lines, {_figure(values[-1])} at {lines[-1]:,.0f}"


def _sweep_words(rec: Record) -> str:
    """What the sweep came to, by page size."""
    said = []
    for page in _pages(rec):
        spread, cost = sweep.curve(rec, page), sweep.miss_cost(rec, page)
        said.append(f"{page} pages: {_range_words(spread.lines, spread.p50)}" + (f", a miss costs {_figure(cost.cost)}" if cost else ""))
    return "; ".join(said)


def _excess_words(rec: Record) -> str:
    """What translation adds, and where it begins to."""
    said = []
    for page in _pages(rec):
        difference, knees = sweep.excess(rec, page), sweep.find(rec, page)
        if len(difference.lines):
            at = ", ".join(f"{knee.inside:,} lines (+{knee.rise:.1f})" for knee in knees)
            said.append(f"{page} pages: {_range_words(difference.lines, difference.p50)}; {f'knees at {at}' if at else 'no knee'}")
    return "; ".join(said)


def sweeps(run: Run) -> HTML:
    """A figure per machine: time per access over the working set, by page size; knees marked; the model behind."""
    pieces = []
    for rec in _with_numbers(run):
        drawing, axes = _axes(f"{_title(rec)}: one access")
        handles = []
        for page in _pages(rec):
            color, spread, inside = COLORS[page], sweep.curve(rec, page), sweep.curve(rec, page, "inside")
            expected = sweep.model(rec, page)
            if expected is not None:
                axes.plot(expected.lines, expected.p50, color=color, lw=9, alpha=0.16, solid_capstyle="round")
            axes.fill_between(spread.lines, spread.low, spread.high, color=color, alpha=0.3, lw=0)
            axes.plot(spread.lines, spread.p50, "o-", color=color, ms=3.8, lw=1.5)
            axes.plot(inside.lines, inside.p50, "--", color=color, lw=1.2)
            handles += [Line2D([], [], color=color, marker="o", ms=4, label=f"{page} pages, one line a 4 KB"),
                        Line2D([], [], color=color, ls="--", label=f"{page} pages, as many lines inside the TLB")]
        handles.append(Line2D([], [], color=plots.SOFT, lw=9, alpha=0.2, label="walk model through the knees found"))
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.legend(handles=handles, loc="upper left", frameon=False, fontsize=9, ncol=2)
        pieces.append(figure(drawing, f"TLB sweep on {_title(rec)}, cycles an access. {_sweep_words(rec)}.",
                             "Medians; the band is the 95 % interval of a median. Solid less dashed is translation. Steps that both "
                             "have are the data caches'. The broad pale line is the walk model with one cache for each knee found "
                             "below, for orientation.").data)
    return HTML("".join(pieces))


def excesses(run: Run) -> HTML:
    """A figure per machine: spread less inside, with its knees."""
    pieces = []
    for rec in _with_numbers(run):
        drawing, axes = _axes(f"{_title(rec)}: what translation adds")
        handles = []
        for place, page in enumerate(_pages(rec)):
            difference, found = sweep.excess(rec, page), sweep.find(rec, page)
            if not len(difference.lines):
                continue
            color = COLORS[page]
            axes.fill_between(difference.lines, difference.low, difference.high, color=color, alpha=0.25, lw=0)
            axes.plot(difference.lines, difference.p50, "o-", color=color, ms=3.8, lw=1.5)
            handles.append(Line2D([], [], color=color, marker="o", ms=4, label=f"{page} pages"))
            for knee in found:
                height = float(numpy.interp(knee.inside, difference.lines, difference.p50))
                axes.axvline(knee.inside, color=color, ls=":", lw=1.2)
                axes.annotate(f"{knee.inside:,} lines\n+{knee.rise:.1f}", (knee.inside, height),
                              xytext=(-6, 34 - 26 * place), textcoords="offset points", ha="right", color=color, fontsize=9, fontweight="bold")
        axes.legend(handles=handles, loc="upper left", frameon=False, fontsize=9)
        pieces.append(figure(drawing, f"What translation adds to an access on {_title(rec)}, cycles. {_excess_words(rec)}.",
                             "A dotted line is a knee: the largest working set that still fits, and what the next plateau costs more. "
                             "The inside rows take a sixteenth of the pages; once even those leave the first-level TLB, its small "
                             "miss is in both curves and no longer in the difference.").data)
    return HTML("".join(pieces))


def knee_table(run: Run) -> HTML:
    """Every knee, beside the TLBs that CPUID tells of."""
    heads = [cell(text, kind, "th") for text, kind in [
        ("machine", "sticky"), ("page", ""), ("fits up to, lines", "number"), ("next plateau from, lines", "number"),
        ("rise, cycles", "number"), ("data TLBs by CPUID, entries", "")]]
    body = []
    for rec in _with_numbers(run):
        told = sweep.cpuid_tlbs(rec)
        for page in _pages(rec):
            words = ", ".join(f"{level} {entries}" for level, entries in told.get(page, [])) or "not told"
            for knee in sweep.find(rec, page) or [None]:
                figures = (f"{knee.inside:,}", f"{knee.full:,}", f"{knee.rise:.1f}") if knee else ("none found", "", "")
                body.append([cell(called(rec), "name sticky"), cell(page),
                             *(cell(text, "number") for text in figures), cell(words)])
    return table([heads], body)


def without_numbers(run: Run, named: bool = False) -> HTML:
    """Rows that have no number, put together by reason; `named`: each by its name."""
    groups: dict[tuple, list[str]] = defaultdict(list)
    for rec in run.records:
        for row in rec["benchmarks"]:
            if row["verdict"] != "PASS":
                groups[called(rec), row["verdict"], row["reason"]].append(row["name"])
    heads = [cell(text, "", "th") for text in ("machine", "verdict", "rows", "reason")]
    body = [[cell(name, "name"), cell(verdict(word)),
             cell(escape(f"{rows[0]} to {rows[-1]}, {len(rows)} rows" if len(rows) > 1 and not named else ", ".join(rows)),
                  "reason" if named else "name"),
             cell(escape(reason or ""), "reason")] for (name, word, reason), rows in groups.items()]
    return table([heads], body)
