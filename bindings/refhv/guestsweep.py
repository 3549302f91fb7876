# SPDX-License-Identifier: MIT
"""Family `tlb` inside guests: guest page × nested page × mode, as a heat map and a table."""

from dataclasses import dataclass

import numpy
from matplotlib import pyplot
from matplotlib.ticker import FuncFormatter

from refhv import identity, plots, sweep, walkmodel
from refhv.page import HTML, called, escape, figure
from refhv.progress import number
from refhv.record import Record, counts_instructions
from refhv.table import cell, table
from refhv.tables import Run

PAGES = sweep.PAGES
MODES = ("native", "shadow", "nested")


@dataclass(frozen=True)
class Place:
    """Where a guest's chase ran; `nested` is the nested page's size, None outside mode nested."""

    mode: str
    guest: str
    nested: str | None = None

    @property
    def page(self) -> str:
        """The part of a row's name between "tlb." and the number of lines."""
        return self.guest if self.nested is None else f"{self.guest}_on_{self.nested}"

    @property
    def references(self) -> int:
        """Entries that a walk reads with nothing cached, (g+1)(h+1)-1; shadow tables are walked like native ones, with the
        smaller of the guest's page and 2M for a page."""
        levels = sweep.GUEST_LEVELS
        if self.mode == "shadow":
            return walkmodel.references(max(levels[self.guest], levels["2m"]), 0)
        return walkmodel.references(levels[self.guest], levels[self.nested] if self.nested else 0)


def places() -> list[Place]:
    return ([Place(mode, guest) for mode in ("native", "shadow") for guest in PAGES]
            + [Place("nested", guest, nested) for guest in PAGES for nested in PAGES])


def miss_cost(rec: Record, place: Place) -> sweep.MissCost | None:
    return sweep.miss_cost(rec, place.page, place.mode)


def with_numbers(run: Run) -> list[Record]:
    return [rec for rec in run.records if any(miss_cost(rec, place) for place in places())]


def _grid(rec: Record) -> tuple[numpy.ndarray, list[str]]:
    """Costs of a miss, guest pages by columns; rows are the nested pages, then shadow and native."""
    labels = [f"nested {page}" for page in PAGES] + ["shadow", "native"]
    rows = []
    for label in labels:
        mode, _, nested = label.partition(" ")
        found = [miss_cost(rec, Place(mode, guest, nested or None)) for guest in PAGES]
        rows.append([cost.cost if cost else numpy.nan for cost in found])
    return numpy.array(rows, float), labels


def heat_maps(run: Run) -> HTML:
    """A figure per machine: the cost of a miss by guest page and what is under it, the computed references in each field."""
    pieces = []
    for rec in with_numbers(run):
        costs, labels = _grid(rec)
        drawing, axes = pyplot.subplots(figsize=(plots.WIDTH * 0.62, 4.3))
        drawing.subplots_adjust(left=0.15, right=0.98, bottom=0.13, top=0.88)
        image = axes.imshow(numpy.clip(costs, 0, None), cmap="YlOrRd", aspect="auto", vmin=0)
        axes.set_xticks(range(len(PAGES)), [f"guest {page}" for page in PAGES])
        axes.set_yticks(range(len(labels)), labels)
        axes.tick_params(length=0)
        axes.grid(False)
        dark = 0.6 * (numpy.nanmax(costs) if numpy.isfinite(costs).any() else 1)
        for y, label in enumerate(labels):
            mode, _, nested = label.partition(" ")
            for x, guest in enumerate(PAGES):
                references = Place(mode, guest, nested or None).references
                value = "–" if numpy.isnan(costs[y, x]) else number(costs[y, x])
                color = "white" if costs[y, x] > dark else "#1c2430"
                axes.text(x, y - 0.12, value, ha="center", va="center", color=color, fontsize=12, fontweight="bold")
                axes.text(x, y + 0.24, f"{references} references", ha="center", va="center", color=color, fontsize=8.5)
        drawing.colorbar(image, ax=axes, label=plots.axis_label(rec["target"], 2), pad=0.02)
        axes.set_title(f"{plots.title(rec)}: cost of a miss", loc="left", fontsize=11.5, fontweight="bold")
        said = "; ".join(f"{label}: " + ", ".join(f"{number(value)} for guest pages of {page}" for page, value in zip(PAGES, values) if not numpy.isnan(value))
                         for label, values in zip(labels, costs) if not numpy.isnan(values).all())
        pieces.append(figure(drawing, f"Cost of a TLB miss on {plots.title(rec)}, {rec['target']['unit']}. {said or 'No cost was found'}.",
                             "Spread less inside, per access, the median over the sweep's last octave. References are computed: what a "
                             "walk reads with nothing cached." + (
                                 " This is the emulator's own time, with the TLB that it keeps in software and resizes as it likes: the "
                                 "method can be seen in it, the hardware cannot." if rec["target"]["emulated"] else "")).data)
    return HTML("".join(pieces))


def costs(run: Run) -> HTML:
    """A row per machine, mode and pages: inside, beyond, their difference, references, and the cost of one."""
    heads = [cell(text, kind, "th") for text, kind in [
        ("machine", "sticky"), ("mode", ""), ("guest page", ""), ("nested page", ""), ("inside", "number group"), ("beyond", "number"),
        ("cost of a miss [range]", "number group"), ("references, nothing cached", "number group"), ("a reference", "number")]]
    body = []
    for rec in with_numbers(run):
        for place in places():
            found = miss_cost(rec, place)
            if found is None:
                continue
            body.append([
                cell(called(rec), "name sticky"), cell(place.mode),
                cell(place.guest), cell(place.nested or ""), cell(number(found.inside), "number group"), cell(number(found.beyond), "number"),
                cell(f"<strong>{number(found.cost)}</strong> <small>[{number(found.low)}, {number(found.high)}]</small>", "number group"),
                cell(str(place.references), "number group"), cell(number(found.cost / place.references), "number")])
    return table([heads], body)


COLORS = {"native": plots.SOFT, "shadow": "#b3261e", "4k": "#1f4e79", "2m": "#31688e", "1g": "#5ba3cf"}


def curves(run: Run) -> HTML:
    """A figure per machine, a panel per guest page: time per access over the working set, by mode and nested page."""
    pieces = []
    for rec in with_numbers(run):
        drawing, panels = pyplot.subplots(1, len(PAGES), figsize=(plots.WIDTH, 4.2), sharey=True)
        drawing.subplots_adjust(left=0.06, right=0.985, bottom=0.13, top=0.8, wspace=0.06)
        handles: dict[str, object] = {}
        said = []
        for axes, guest in zip(panels, PAGES):
            for place in (place for place in places() if place.guest == guest):
                found = sweep.curve(rec, place.page, mode=place.mode)
                if not len(found.lines):
                    continue
                color = COLORS[place.nested or place.mode]
                label = place.mode + (f" on {place.nested}" if place.nested else "")
                said.append(f"{guest} pages {label}: {number(found.p50[0])} at {found.lines[0]:,.0f} lines, {number(found.p50[-1])} at {found.lines[-1]:,.0f}")
                axes.fill_between(found.lines, found.low, found.high, color=color, alpha=0.2, lw=0)
                handles[label], = axes.plot(found.lines, found.p50, "--" if place.mode == "native" else "-", marker="o", ms=3,
                                            color=color, lw=1.5, label=label)
            axes.set_xscale("log", base=2)
            axes.set_yscale("log")
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
            axes.grid(axis="both")
            axes.set_xlabel("lines, one a 4 KB")
            axes.set_title(f"guest pages of {guest}", loc="left", fontsize=10.5)
        panels[0].set_ylabel(f"{plots.axis_label(rec['target'], 2)} per access")
        drawing.suptitle(f"{plots.title(rec)}: one access", x=0.06, ha="left", fontsize=11.5, fontweight="bold")
        drawing.legend(handles=list(handles.values()), loc="upper right", ncol=len(handles), frameon=False, fontsize=9)
        pieces.append(figure(drawing, f"TLB sweep in guests on {plots.title(rec)}, {rec['target']['unit']} an access. {'; '.join(said)}.", "Medians; bands are 95 % intervals.").data)
    return HTML("".join(pieces))
