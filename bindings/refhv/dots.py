# SPDX-License-Identifier: MIT
"""Round trips as dots on a logarithmic axis: what each exit costs, and the same instruction without virtualization."""

from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator

from refhv import overview, plots
from refhv.page import HTML, figure
from refhv.progress import number

LEAST = 1.0  # the axis begins there: what is no longer than the stamps is drawn on its edge


def _rows(rec: dict) -> dict[str, dict]:
    """By exit, the row of the exit that costs most to explain: nested before shadow."""
    found: dict[str, dict] = {}
    for row in overview.exits(rec):
        if row["family"] == "exit":
            found.setdefault(row["name"].rpartition("/")[0], row)
    return found


def _dot(axes, y: int, row: dict, color: str) -> float:
    """One row; returns where it ends."""
    p50, p90 = max(row["summary"]["p50"], LEAST), max(row["summary"]["p90"], LEAST)
    low, high = (max(end, LEAST) for end in row["p50_interval"] or (p50, p50))
    axes.plot([p50, p90], [y, y], color=color, lw=4.5, alpha=0.3, solid_capstyle="butt")
    axes.plot([low, high], [y, y], color=color, lw=1.6)
    axes.plot(p50, y, "o", ms=5.5, color=color, zorder=3)
    return max(p90, high)


def exits(group: list[dict]) -> HTML:
    """A panel per record of a group (plots.groups): p50, its interval, and p90 of every exit."""
    shown = [(rec, found) for rec in group if (found := _rows(rec))]
    if not shown:
        return HTML("")
    group = [rec for rec, _ in shown]
    names = plots.order([found for _, found in shown])
    color = "#c98a1b" if group[0]["target"]["emulated"] else plots.HYPERVISOR
    drawing, panels = plots.panelled(group, [name.removeprefix("exit.") for name in names], 0.22)
    ends = []
    for axes, (rec, found) in zip(panels, shown):
        native = plots.by_exit(rec)[1]
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(10))
        for y, name in enumerate(names):
            if name not in found:
                continue
            end = _dot(axes, y, found[name], color)
            axes.annotate(number(found[name]["summary"]["p50"]), (end, y), xytext=(6, 0), textcoords="offset points", va="center", fontsize=8)
            ends.append(end)
            if name in native and native[name]["verdict"] == "PASS":
                axes.plot(max(native[name]["summary"]["p50"], LEAST), y, marker="D", ms=4, color=plots.NATIVE, mec="white", mew=0.7, ls="",
                          clip_on=False)
        plots.plain_numbers(axes)
    panels[0].set_xlim(LEAST * 0.9, max(ends) * 2.2)
    plots.legend(drawing, [Line2D([], [], marker="o", ms=5.5, color=color, lw=1.6, label="p50 and its 95 % interval"),
                           Line2D([], [], color=color, lw=4.5, alpha=0.3, label="to p90"),
                           Line2D([], [], marker="D", ms=4.5, color=plots.NATIVE, ls="", label="the instruction without virtualization")])
    return figure(drawing, f"What each exit costs. {plots.told(group)}",
                  "Round trip from guest instruction to guest instruction, net of the stamps; logarithmic.")
