# SPDX-License-Identifier: MIT
"""Figures of the report. One axis never holds two units, and an emulator's axis says what a tick is."""

from typing import Any

import matplotlib

matplotlib.use("agg")

import numpy
from matplotlib import pyplot
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from refhv import identity, record
from refhv.page import BADGES, HTML, figure
from refhv.progress import number
from refhv.tables import Run

PART_COLORS = {"exit": "#31688e", "handler": "#e0a030", "between": "#9a7fb8", "entry": "#4c9f70"}
WHOLE, HYPERVISOR, NATIVE, SOFT = "#8e99a6", "#7b4fa3", "#1c2430", "#5a6675"
WORD_COLORS = {"SKIP": "#8a6d1a", "INVALID": "#b3261e", "MISS": "#b3261e", "ERROR": "#7b3fa0"}
WIDTH = 12.0  # inches

pyplot.rcParams.update({
    "font.family": "DejaVu Sans", "font.size": 9.5, "axes.spines.top": False, "axes.spines.right": False,
    "axes.edgecolor": "#9aa5b1", "axes.labelcolor": "#1c2430", "xtick.color": "#1c2430", "ytick.color": "#1c2430",
    "axes.grid": True, "axes.grid.axis": "x", "grid.color": "#e6eaee", "axes.axisbelow": True, "svg.hashsalt": "refhv",
    "text.parse_math": False,  # a dollar in a name is a dollar
})


def axis_label(target: dict, panels: int = 1) -> str:
    if not target["emulated"]:
        return "cycles of the TSC"
    if not record.counts_instructions(target):
        return "ticks (the emulator's own time, not the hardware's)" if panels == 1 else "ticks (emulator's time)"
    return "ticks (instructions executed by the emulator; neither cycles nor time)" if panels == 1 else "ticks (instructions, not time)"


def title(rec: dict) -> str:
    return f"{identity.title(rec)}, {BADGES[identity.nature(rec)]}"


def _panel_title(rec: dict) -> str:
    """What tells a record apart may be long: it goes below the target's name."""
    return title(rec).replace(identity.SEPARATOR, "\n", 1)


def groups(run: Run) -> list[list[dict]]:
    """Records that may stand in one figure: those that count instructions together, every other by itself."""
    alike = [rec for rec in run.records if record.counts_instructions(rec["target"])]
    return [[rec] for rec in run.records if rec not in alike] + [alike[i:i + 3] for i in range(0, len(alike), 3)]


def panelled(group: list[dict], labels: list[str], row_height: float):
    """One panel per record, with common rows and a common unit."""
    units = {rec["target"]["unit"] for rec in group}
    assert len(units) == 1, "one axis never holds two units"
    lines = max(_panel_title(rec).count("\n") + 1 for rec in group)
    height = row_height * len(labels) + 1.15 + 0.2 * (lines - 1)
    drawing, grid = pyplot.subplots(1, len(group), figsize=(WIDTH, height), sharex=True, sharey=True, squeeze=False)
    drawing.subplots_adjust(left=0.17, right=0.985, bottom=0.55 / height, top=1 - (0.6 + 0.2 * (lines - 1)) / height, wspace=0.06)
    for axes, rec in zip(grid[0], group):
        axes.set_title(_panel_title(rec), loc="left", fontsize=11 if lines == 1 else 9, fontweight="bold", pad=7)
        axes.set_xlabel(axis_label(rec["target"], len(group)))
        axes.tick_params(axis="y", length=0)
    grid[0][0].set_yticks(range(len(labels)), labels)
    grid[0][0].set_ylim(len(labels) - 0.4, -0.6)
    return drawing, list(grid[0])


def legend(drawing, handles) -> None:
    drawing.legend(handles=handles, loc="upper left", bbox_to_anchor=(0.163, 1.0), ncol=len(handles), frameon=False,
                   handlelength=1.3, columnspacing=1.6, fontsize=9)


def plain_numbers(axes) -> None:
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_formatter(FuncFormatter(lambda value, _: ""))


def by_exit(rec: dict) -> tuple[dict[str, dict], dict[str, dict]]:
    """Rows of one record that exit, and their native counterparts, by the exit's name."""
    virtual, native = {}, {}
    for row in rec["benchmarks"]:
        (native if row["mode"] == "native" else virtual)[row["name"].rpartition("/")[0]] = row
    return virtual, native


def order(rows_of: list[dict[str, dict]]) -> list[str]:
    """Exits with a number somewhere, the cheapest on the first machine first."""
    names = dict.fromkeys(name for found in rows_of for name in found)

    def key(name: str) -> tuple[float, ...]:
        return tuple(found[name]["summary"]["p50"] if name in found and found[name]["verdict"] == "PASS" else 1e18
                     for found in rows_of)
    return sorted((name for name in names if min(key(name)) < 1e18), key=key)


def _split_row(axes, y: int, row: dict, kinds: set[str]) -> float:
    """One bar; returns where it ends."""
    if row["verdict"] != "PASS":
        axes.text(0.008, y, row["verdict"], transform=axes.get_yaxis_transform(), va="center", fontsize=8,
                  color=WORD_COLORS.get(row["verdict"], SOFT), fontweight="bold")
        return 0.0
    left = 0.0
    if None not in row["parts"].values():
        for part, color in PART_COLORS.items():
            width = row["parts"].get(part, 0)  # `between` only where an operation exits twice
            kinds |= {"between"} if width and part == "between" else set()
            axes.barh(y, width, left=left, height=0.68, color=color)
            left += width
        p50 = row["summary"]["p50"]
        if left > p50:  # what the stamps on the host's side cost, which is in the parts
            axes.barh(y, left - p50, left=p50, height=0.68, facecolor="none", edgecolor="white", hatch="////", lw=0)
            kinds.add("stamps")
        axes.plot([p50, p50], [y - 0.44, y + 0.44], color=NATIVE, lw=1.8, solid_capstyle="butt", zorder=3)
        kinds.add("parts")
    else:
        kind = "hypervisor" if row["hypervisor_exit"] else "whole"
        left = row["summary"]["p50"]
        axes.plot(left, y, "o", ms=7, color=HYPERVISOR if kind == "hypervisor" else WHOLE, zorder=3)
        kinds.add(kind)
    return left


def _clusters(names: list[str], rows_of: list[dict[str, dict]]) -> list[list[str]]:
    """Cuts a list of exits in two where their costs jump by a factor of three or more, so that short bars stay legible."""
    cost = {name: max(found[name]["summary"]["p50"] for found in rows_of
                      if name in found and found[name]["verdict"] == "PASS") for name in names}
    ordered = sorted(names, key=lambda name: cost[name])
    jumps = [(cost[b] / max(cost[a], 5.0), i + 1) for i, (a, b) in enumerate(zip(ordered, ordered[1:]))]
    factor, cut = max(jumps, default=(1, 0))
    if factor < 3:
        return [names]
    cheap = set(ordered[:cut])
    return [[name for name in names if name in cheap], [name for name in names if name not in cheap]]


def is_about_exits(row: dict) -> bool:
    """Whether a row is about an exit at all: passed-through instructions and the control are not."""
    passed_through = row["mode"] == "nested" and row["exits"] is not None and row["exits"]["expected"] == 0
    return not row["name"].startswith("control.") and not passed_through


def split_drawings(group: list[dict]) -> list[tuple[Any, set[str]]]:
    """The figures of `split`, each with the kinds of bars that it has; none if no row has a number."""
    pairs = [by_exit(rec) for rec in group]
    pairs = [({name: row for name, row in virtual.items() if is_about_exits(row)}, native) for virtual, native in pairs]
    virtuals = [virtual for virtual, _ in pairs]
    names = order(virtuals)
    if not group[0]["target"]["emulated"]:
        return [_split_drawing(group, pairs, names)] if names else []
    return [_split_drawing(group, pairs, cluster) for cluster in _clusters(names, virtuals)] if names else []


def _split_drawing(group: list[dict], pairs: list, names: list[str]) -> tuple[Any, set[str]]:
    drawing, panels = panelled(group, [name.removeprefix("exit.") for name in names], 0.27)
    kinds: set[str] = set()
    ends, smallest = [], 1e18
    for axes, (virtual, native) in zip(panels, pairs):
        for y, name in enumerate(names):
            if name not in virtual:
                continue
            end = _split_row(axes, y, virtual[name], kinds)
            if end and name in native and native[name]["verdict"] == "PASS":
                cost = native[name]["summary"]["p50"]
                axes.plot(cost, y, marker="D", ms=4.2, color=NATIVE, mec="white", mew=0.8, ls="", zorder=4, clip_on=False)
                kinds.add("native")
                end = max(end, cost)
            if end:
                p50 = virtual[name]["summary"]["p50"]
                axes.annotate(number(p50), (end, y), xytext=(6, 0), textcoords="offset points", va="center", fontsize=8.2)
                ends.append(end)
                smallest = min(smallest, max(p50, 1))
    if not group[0]["target"]["emulated"] and "parts" not in kinds and max(ends) > 50 * smallest:
        panels[0].set_xscale("log")
        panels[0].set_xlim(max(smallest * 0.6, 1), max(ends) * 2)
    else:
        panels[0].set_xlim(0, max(ends) * 1.12)
    for axes in panels:
        plain_numbers(axes)
    legends = {"whole": Line2D([], [], marker="o", ms=7, color=WHOLE, ls="", label="not split"),
              "hypervisor": Line2D([], [], marker="o", ms=7, color=HYPERVISOR, ls="", label="exit to the hypervisor underneath"),
              "stamps": Patch(facecolor=SOFT, edgecolor="white", hatch="////", lw=0, label="cost of those stamps"),
              "native": Line2D([], [], marker="D", ms=5, color=NATIVE, ls="", label="without virtualization")}
    handles = [Patch(color=c, label=p) for p, c in PART_COLORS.items() if p != "between" or p in kinds] if "parts" in kinds else []
    if "parts" in kinds:
        handles.append(Line2D([], [], color=NATIVE, marker="|", ms=10, mew=1.8, ls="", label="p50, host-side stamps off"))
    legend(drawing, handles + [handle for kind, handle in legends.items() if kind in kinds])
    return drawing, kinds


def _stamp_surplus(group: list[dict]) -> str:
    """What the host-side stamps add at the median, for a caption."""
    words = []
    for rec in group:
        surplus = [row["stamped_p50"] - row["summary"]["p50"] for row in rec["benchmarks"]
                   if row["verdict"] == "PASS" and row["stamped_p50"] is not None]
        if surplus:
            words.append(f"{number(float(numpy.median(surplus)))} {rec['target']['unit']} on {identity.title(rec)}")
    return ", ".join(words)


def told(group: list[dict]) -> str:
    """What figures of round trips show, in words: by record the cheapest and the dearest, and the one in the middle."""
    words = []
    for rec in group:
        rows = sorted((row for row in by_exit(rec)[0].values() if row["verdict"] == "PASS" and is_about_exits(row)),
                      key=lambda row: row["summary"]["p50"])
        if rows:
            low, middle, high = (f"{number(row['summary']['p50'])} ({row['name']})" for row in (rows[0], rows[len(rows) // 2], rows[-1]))
            words.append(f"{title(rec)}: {len(rows)} rows, p50 in {rec['target']['unit']} from {low} to {high}, in the middle {middle}.")
    return " ".join(words)


def split(group: list[dict]) -> HTML:
    """What of a round trip is exit, handler and entry, as stacked bars, and a dot where it was not split; the same instruction without
    virtualization beside."""
    drawings = split_drawings(group)
    if not drawings:
        return HTML("")
    pieces = []
    for index, (drawing, kinds) in enumerate(drawings):
        caption = "The number is the p50 of the round trip."
        if "parts" in kinds and index == 0:
            caption = ("The number at the end of a bar, and the line in it, is the p50 of the round trip. The parts come from a "
                       "second run with host-side stamps on, which are work of their own: the bar is longer than the round trip "
                       f"by what those stamps cost, hatched ({_stamp_surplus(group)}).")
        elif index:
            caption = "The same for the exits that take several times as long; note the other scale."
        pieces.append(figure(drawing, f"Round trips split into exit, handler and entry. {told(group)}", caption).data)
    return HTML("".join(pieces))


def _strip(axes, y: int, row: dict, color: str) -> None:
    values, counts = numpy.unique((numpy.asarray(row["samples"], float) - row["stamp_cost"]) / row.get("batch", 1), return_counts=True)
    summary = row["summary"]
    axes.plot([summary["min"], summary["max"]], [y, y], color=color, lw=0.9, alpha=0.5, solid_capstyle="butt")
    axes.plot([summary["p50"], summary["p90"]], [y, y], color=color, lw=5, alpha=0.35, solid_capstyle="butt")
    axes.scatter(values, numpy.full(len(values), y), s=6 + 50 * counts / counts.sum(), color=color, alpha=0.45,
                 lw=0, rasterized=len(values) > 200)  # thousands of circles would make the page heavy
    axes.plot(summary["p50"], y, "|", color=NATIVE, ms=10, mew=1.8)
    axes.plot(summary["p99"], y, "|", color=SOFT, ms=7, mew=1.1)


def distribution(group: list[dict]) -> HTML:
    """Every sample of every row that has a number: a dot grows with how often its value came."""
    pairs = [by_exit(rec)[0] for rec in group]
    names = order(pairs)
    if not names:
        return HTML("")
    emulated = group[0]["target"]["emulated"]
    clusters = _clusters(names, pairs) if emulated else [names]
    return HTML("".join(_distribution_figure(group, pairs, cluster).data for cluster in clusters))


def _distribution_figure(group: list[dict], pairs: list[dict[str, dict]], names: list[str]) -> HTML:
    drawing, panels = panelled(group, [name.removeprefix("exit.") for name in names], 0.22)
    emulated = group[0]["target"]["emulated"]
    color = "#c98a1b" if emulated else "#1d8ba0"
    steady = total = 0
    for axes, found in zip(panels, pairs):
        for y, name in enumerate(names):
            if name in found and found[name]["verdict"] == "PASS":
                _strip(axes, y, found[name], color)
                total += 1
                steady += len(set(found[name]["samples"])) == 1
    if not emulated:
        panels[0].set_xscale("symlog", linthresh=100)
    else:
        panels[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[0].margins(x=0.03)
    for axes in panels:
        plain_numbers(axes)
    legend(drawing, [Line2D([], [], marker="o", color=color, alpha=0.5, ls="", label="samples"),
                      Line2D([], [], marker="|", color=NATIVE, ms=10, mew=1.8, ls="", label="p50"),
                      Line2D([], [], color=color, lw=5, alpha=0.4, label="p50 to p90"),
                      Line2D([], [], marker="|", color=SOFT, ms=8, ls="", label="p99")])
    caption = (f"{steady} of {total} rows took exactly the same number of ticks in every sample: here the TSC counts "
               "instructions." if emulated else "Linear up to 100 cycles, logarithmic beyond.")
    return figure(drawing, f"Every sample of every row. {told(group)}", caption)
