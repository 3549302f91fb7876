# SPDX-License-Identifier: MIT
"""Family `shadow` as tables and figures: what a guest's own paging costs by mode, and where the modes cross."""

from collections.abc import Callable
from dataclasses import dataclass

from matplotlib import pyplot
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter

from refhv import basis, plots
from refhv.page import HTML, called, cost, escape, figure, verdict
from refhv.progress import number
from refhv.record import Record, counts_instructions
from refhv.table import cell, table
from refhv.tables import Run

MODES = ("native", "nested", "shadow", "vtlb")
COLORS = {"native": plots.SOFT, "nested": "#31688e", "shadow": "#b3261e", "vtlb": "#e0a030"}
# Neutral reasons in a reader's words.
REASONS = {"exception": "#PF", "invlpg": "INVLPG", "cr3_write": "MOV to CR3", "cr3_read": "MOV from CR3", "cr0_read": "MOV from CR0", "cr0_write": "MOV to CR0",
           "cr4_read": "MOV from CR4", "cr4_write": "MOV to CR4", "cr_other": "CLTS, LMSW", "invpcid": "INVPCID"}


@dataclass(frozen=True)
class Point:
    """`share` percent of updates; p50 and its 95 % interval, of one operation, in the target's unit."""

    share: int
    p50: float
    low: float
    high: float


def mix(rec: Record, mode: str) -> list[Point]:
    """The rows shadow.mix_<share> of a mode that have a number, by rising share."""
    found = []
    for row in rec["benchmarks"]:
        name = row["name"].rpartition("/")[0]
        if name.startswith("shadow.mix_") and row["mode"] == mode and row["verdict"] == "PASS":
            found.append(Point(int(name.removeprefix("shadow.mix_")), row["summary"]["p50"], *row["p50_interval"]))
    return sorted(found, key=lambda point: point.share)


def crossing(rec: Record, mode: str) -> float | None:
    """The share of updates, in percent, up to which `mode` costs no more than nested paging, linearly between the shares
    measured; None without two curves, or where it never does."""
    nested = {point.share: point.p50 for point in mix(rec, "nested")}
    gaps = [(point.share, point.p50 - nested[point.share]) for point in mix(rec, mode) if point.share in nested]
    last = None
    for (before, low), (after, high) in zip(gaps, gaps[1:]):
        if low <= 0 < high:
            last = before + (after - before) * -low / (high - low)
    if last is None and gaps and gaps[-1][1] <= 0:
        return float(gaps[-1][0])
    return last


def break_even(rec: Record, mode: str) -> list[tuple[int, float]]:
    """(share, what each touch would have to cost more under nested paging for `mode` to cost the same)."""
    nested = {point.share: point.p50 for point in mix(rec, "nested")}
    return [(point.share, (point.p50 - nested[point.share]) / (1 - point.share / 100))
            for point in mix(rec, mode) if point.share in nested and point.share < 100]


def _with_mix(run: Run) -> list[Record]:
    return [rec for rec in run.records if mix(rec, "nested") and (mix(rec, "shadow") or mix(rec, "vtlb"))]


def _share_axis(axes, label: str, most: float) -> None:
    axes.set_xscale("symlog", linthresh=1, linscale=0.6)
    axes.xaxis.set_major_locator(FixedLocator([share for share in (0, 1, 5, 10, 25, 50, 100) if share < most and (share < 100 or most > 120)]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
    axes.xaxis.set_minor_locator(FixedLocator([]))
    axes.set_xlim(-0.15, most)
    axes.set_xlabel("share of page-table updates")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}"))
    axes.set_ylabel(label)
    axes.grid(axis="both")


def _crossing_words(rec: Record, mode: str) -> str:
    share = crossing(rec, mode)
    if share is None:
        return f"{mode} is never as cheap as nested"
    if share == 0:
        return f"{mode} and nested cross at 0 %: a tie without updates, dearer with any"
    return f"{mode} is cheaper up to {share:.1f} %"


def crossings(run: Run) -> HTML:
    """A figure per machine: an operation's cost by mode over the share of updates; beside it, the break-even cost of a miss."""
    pieces = []
    for rec in _with_mix(run):
        target = rec["target"]
        drawing, (left, right) = pyplot.subplots(1, 2, figsize=(plots.WIDTH, 4.4), width_ratios=[3, 2])
        drawing.subplots_adjust(left=0.06, right=0.985, bottom=0.13, top=0.9, wspace=0.19)
        _share_axis(left, f"{plots.axis_label(target, 2)} per operation", 130)
        _share_axis(right, f"{target['unit']} per touch", 110)
        left.set_title(f"{plots.title(rec)}: one operation", loc="left", fontsize=11.5, fontweight="bold")
        right.set_title("break-even: a touch dearer under nested by", loc="left", fontsize=11.5, fontweight="bold")
        handles = []
        for mode in MODES:
            points = mix(rec, mode)
            if not points:
                continue
            shares = [point.share for point in points]
            left.fill_between(shares, [point.low for point in points], [point.high for point in points], color=COLORS[mode],
                              alpha=0.25, lw=0)
            left.plot(shares, [point.p50 for point in points], "o-", color=COLORS[mode], ms=4, lw=1.6)
            handles.append(Line2D([], [], color=COLORS[mode], marker="o", ms=4, label=mode))
            if mode not in ("shadow", "vtlb"):
                continue
            share = crossing(rec, mode)
            if share is not None:
                left.axvline(share, color=COLORS[mode], ls=":", lw=1.4)
                handles[-1].set_label(f"{mode}; {'cross' if share else 'tie'} at {share:.3g} %")
            needed = [(s, gap) for s, gap in break_even(rec, mode) if gap > 0]
            right.plot([s for s, _ in needed], [gap for _, gap in needed], "o-", color=COLORS[mode], ms=4, lw=1.6)
            for s, gap in needed[-1:]:
                right.annotate(number(gap), (s, gap), xytext=(6, 4 if mode == "shadow" else -10), textcoords="offset points",
                               color=COLORS[mode], fontsize=9, fontweight="bold")
        left.legend(handles=handles, loc="upper left", bbox_to_anchor=(0.05, 1.0), frameon=False, fontsize=9.5)
        words = "; ".join(_crossing_words(rec, mode) for mode in ("shadow", "vtlb") if mix(rec, mode))
        limits = ("On an emulator that counts instructions a TLB miss costs nothing, so nested paging is never charged for its walks: "
                  "the left side shows what shadow paging pays in software, and the two meet where it has nothing to do. The right side "
                  "says how much dearer than a native one a touch would have to be under nested paging to make up for it."
                  if counts_instructions(target) else
                  "The emulator's own time: nested walks are charged, at the emulator's prices and not the hardware's."
                  if target["emulated"] else "A nested walk is charged where a touch misses the TLB.")
        pieces.append(figure(drawing, f"Shadow against nested paging on {plots.title(rec)}: {words}",
                             f"{words[0].upper()}{words[1:]}. {limits}").data)
    return HTML("".join(pieces))


Wanted = Callable[[dict], bool]


def _rows(rec: Record, wanted: Wanted) -> dict[tuple[str, str], dict]:
    return {(row["name"].rpartition("/")[0], row["mode"]): row for row in rec["benchmarks"] if wanted(row)}


def _is_shadow(row: dict) -> bool:
    return row["family"] == "shadow"


def _cost(rec: Record, row: dict | None) -> str:
    return cost(rec, row, p90=False) + (" <small>flagged</small>" if row and row["verdict"] == "PASS" and row["flags"] else "")


def operations(run: Run, wanted: Wanted = _is_shadow, modes: tuple[str, ...] = MODES) -> HTML:
    """A row per operation, a group of columns per machine, a column per mode: p50 of one operation."""
    return _by_mode(run, wanted, modes, "p50 of one", _cost)


def _exits(_rec: Record, row: dict | None) -> str:
    rates = row and row.get("exits_per_operation")
    if row is None or (row["verdict"] == "PASS" and not rates):
        return ""
    if row["verdict"] != "PASS":
        return verdict(row["verdict"], title=row["reason"] or "")
    parts = sorted(rates["by_reason"].items(), key=lambda item: -item[1])
    words = ", ".join(f"{REASONS.get(reason, reason)} {rate:.3g}" for reason, rate in parts)
    return f"<strong>{rates['total']:.3g}</strong>" + (f"<br><small>{escape(words)}</small>" if parts else "")


def exits(run: Run, wanted: Wanted = _is_shadow) -> HTML:
    """Likewise, exits per operation and by reason."""
    return _by_mode(run, wanted, ("nested", "shadow", "vtlb"), "exits per operation", _exits)


def faults(run: Run) -> HTML:
    return operations(run, lambda row: row["family"] == "fault", ("native", "nested"))


def guest_flushes(run: Run) -> HTML:
    names = _names_of_guest_flushes(run)
    return operations(run, lambda row: row["name"].rpartition("/")[0] in names)


def host_flushes(run: Run) -> HTML:
    names = _names_of_guest_flushes(run)
    return operations(run, lambda row: row["family"] == "flush" and row["name"].rpartition("/")[0] not in names, ("nested",))


def _names_of_guest_flushes(run: Run) -> set[str]:
    """Of family flush, what a guest does itself runs natively too."""
    return {row["name"].rpartition("/")[0] for rec in run.records for row in rec["benchmarks"]
            if row["family"] == "flush" and row["mode"] == "native"}


def _by_mode(run: Run, wanted: Wanted, modes: tuple[str, ...], what: str, content: Callable[[Record, dict | None], str]) -> HTML:
    """Rows that have a number nowhere are left to the table of rows without one."""
    records = [rec for rec in run.records if _rows(rec, wanted)]
    names = list(dict.fromkeys(name for rec in records for (name, _), row in _rows(rec, wanted).items()))
    names = [name for name in names if any(found[0] == name and row["verdict"] not in ("SKIP", "MISS")
                                           for rec in records for found, row in _rows(rec, wanted).items())]
    if not names:
        return HTML("")
    top, second = [cell("", "sticky", "th")], [cell("operation", "sticky", "th")]
    for rec in records:
        target = rec["target"]
        unit = f"{target['unit']}, {what}" if content is _cost else what
        top.append(cell(f"{called(rec)}<br><small>{unit}</small>", "group", "th", len(modes)))
        second += [cell(mode, "number group" if i == 0 else "number", "th") for i, mode in enumerate(modes)]
    body = []
    for name in names:
        line = [cell(basis.to(name, name.partition(".")[2]), "name sticky")]
        for rec in records:
            found = _rows(rec, wanted)
            line += [cell(content(rec, found.get((name, mode))), "number group" if i == 0 else "number") for i, mode in enumerate(modes)]
        body.append(line)
    return table([top, second], body)
