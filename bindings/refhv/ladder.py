# SPDX-License-Identifier: MIT
"""Tables and figures of ladder.html: what each thing that a hypervisor does at an exit adds to it."""

from collections.abc import Iterator

from matplotlib import pyplot
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter

from refhv import basis, identity, plots
from refhv.page import HTML, called, cost, escape, figure, verdict
from refhv.progress import number
from refhv.record import Record, counts_instructions
from refhv.table import cell, table
from refhv.tables import Run

BARE, REGISTERS = "bare", "general_registers"
# The steps of the waterfall: what one hypervisor may do all together. Alternatives to one of them stand in the table only.
STEPS = (BARE, REGISTERS, "xsave_all", "msr_by_hand_4", "spec_ctrl", "ibpb", "verw", "l1d_flush", "rsb_fill", "retpoline",
         "vmcs_switch", "vmload_vmsave")
LISTS = {"msr_areas_": ("the CPU's areas: stored and loaded at exit, loaded at entry", "#31688e"),
         "msr_by_hand_": ("by RDMSR and WRMSR: stored and loaded at exit, loaded at entry", "#b3261e")}
# What a pair of rungs tells: its words, the rungs that are subtracted, and what the difference is divided by.
PER_ONE = (("an MSR in the CPU's three areas", "msr_areas_512", "msr_areas_1", 511),
           ("an MSR by hand, in a loop", "msr_by_hand_512", "msr_by_hand_1", 511),
           ("a VMREAD and its loop", "vmread_16", "vmread_1", 15),
           ("a VMWRITE and its loop", "vmwrite_16", "vmwrite_1", 15),
           ("a retpoline in place of an indirect CALL", "retpoline", "indirect_call", 1),
           ("clean bits all 0 in place of all ones", "vmcb_clean_none", "vmcb_clean_all", 1),
           ("VMLOAD of the host and of the guest, beside VMSAVE", "vmload_vmsave", "vmsave", 1),
           ("AVX-512 state beside AVX's", "xsave_avx_512", "xsave_avx", 1),
           ("AVX state beside SSE's", "xsave_avx", "xsave_sse", 1))


def rungs(rec: Record) -> dict[str, dict]:
    """Rows of the ladder by rung, in order."""
    return {row["name"].rpartition("/")[0].partition(".")[2]: row for row in rec["benchmarks"] if row["family"] == "ladder"}


def p50(found: dict[str, dict], rung: str) -> float | None:
    row = found.get(rung)
    return row["summary"]["p50"] if row is not None and row["verdict"] == "PASS" else None


def added(found: dict[str, dict], rung: str) -> float | None:
    """What a rung adds to the exit that saves and restores all registers; that one's own is over the bare exit. None: no number."""
    base = p50(found, BARE if rung == REGISTERS else REGISTERS)
    value = p50(found, rung)
    return None if base is None or value is None or rung == BARE else value - base


def per_one(found: dict[str, dict], more: str, less: str, of: int) -> float | None:
    values = p50(found, more), p50(found, less)
    return None if None in values else (values[0] - values[1]) / of


def _machines(run: Run) -> list[tuple[Record, dict[str, dict]]]:
    return [(rec, found) for rec in run.records if (found := rungs(rec))]


def _head(text: str, rec: Record, span: int) -> str:
    return cell(f"{called(rec)}<br><small>{rec['target']['unit']}{text}</small>",
                "group", "th", span)


def units(run: Run) -> HTML:
    """Says above all numbers what those of an emulator are."""
    counting = [escape(identity.title(rec)) for rec, _ in _machines(run) if counts_instructions(rec["target"])]
    if not counting:
        return HTML("")
    return HTML(f'<div class="notice"><strong>{", ".join(counting)}: EMULATED.</strong> A tick is one instruction: a rung is exactly as '
                "long as its code, XSAVE and WRMSR are one tick each, and what the CPU does by itself (areas of MSRs, clean bits) is "
                "none. These rungs show what is executed, not what it costs.</div>")


def costs(run: Run) -> HTML:
    """A line per rung: round trip p50 [p90] and what it adds, by machine."""
    machines = _machines(run)
    if not machines:
        return HTML("")
    top, second = [cell("", "sticky", "th")], [cell("rung", "sticky", "th")]
    for rec, _ in machines:
        top.append(_head(", p50 [p90]", rec, 2))
        second += [cell("round trip", "number group", "th"), cell("adds", "number", "th")]
    body = []
    for rung in dict.fromkeys(rung for _, found in machines for rung in found):
        line = [cell(basis.to(f"ladder.{rung}", rung), "name sticky")]
        for rec, found in machines:
            row = found.get(rung)
            if row is None or row["verdict"] != "PASS":
                line += [cell("" if row is None else verdict(row["verdict"], title=row["reason"] or ""), "number group"), cell("", "number")]
                continue
            more = added(found, rung)
            line += [cell(cost(rec, row), "number group"),
                     cell("" if more is None else f"{'+' if more >= 0 else '−'}{number(abs(more))}", "number")]
        body.append(line)
    return table([top, second], body)


def singles(run: Run) -> HTML:
    """What one of a kind costs, from rungs that differ in their number or in one thing."""
    machines = _machines(run)
    if not machines:
        return HTML("")
    heads = [cell("one", "sticky", "th"), *(_head("", rec, 1) for rec, _ in machines), cell("from", "", "th")]
    body = []
    for words, more, less, of in PER_ONE:
        values = [per_one(found, more, less, of) for _, found in machines]
        if all(value is None for value in values):
            continue
        how = f"({more} − {less}) / {of}" if of != 1 else f"{more} − {less}"
        body.append([cell(escape(words), "name sticky"), *(cell(number(value), "number group") for value in values),
                     cell(f"<small>{escape(how)}</small>")])
    return table([heads], body)


def steps(found: dict[str, dict]) -> Iterator[tuple[str, float, float]]:
    """Rung, where its bar begins and how long it is; a rung without a number has none."""
    level = 0.0
    for rung in STEPS:
        length = p50(found, BARE) if rung == BARE else added(found, rung)
        if length is not None:
            yield rung, level, length
            level += length


def waterfalls(run: Run) -> HTML:
    """A figure per machine: the bare exit, and each rung's own addition on top of those before."""
    pieces = []
    for rec, found in _machines(run):
        bars = list(steps(found))
        if not bars or bars[0][0] != BARE:
            continue
        height = 0.34 * len(bars) + 1.2
        drawing, axes = pyplot.subplots(figsize=(plots.WIDTH, height))
        drawing.subplots_adjust(left=0.17, right=0.985, bottom=0.55 / height, top=1 - 0.45 / height)
        for y, (rung, left, length) in enumerate(bars):
            below = length < 0
            axes.barh(y, abs(length), left=left + min(length, 0), height=0.66,
                      color=plots.WHOLE if rung == BARE else "#b3261e" if below else "#31688e")
            axes.annotate(number(length) if rung == BARE else f"{'−' if below else '+'}{number(abs(length))}",
                          (left + max(length, 0), y), xytext=(5, 0), textcoords="offset points", va="center", fontsize=8.5)
            if y + 1 < len(bars):
                axes.plot([left + length] * 2, [y - 0.33, y + 1.33], color=plots.SOFT, lw=0.8)
        end = bars[-1][1] + bars[-1][2]
        axes.set_yticks(range(len(bars)), [rung for rung, _, _ in bars])
        axes.set_ylim(len(bars) - 0.4, -0.6)
        axes.set_xlim(0, max(left + max(length, 0) for _, left, length in bars) * 1.1)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(plots.axis_label(rec["target"]))
        axes.set_title(f"{plots.title(rec)}: end to end {number(end)} {rec['target']['unit']}", loc="left", fontsize=11.5,
                       fontweight="bold")
        axes.legend(handles=[Patch(color=plots.WHOLE, label="the bare exit and entry"), Patch(color="#31688e", label="what the rung adds")],
                    loc="lower left", frameon=False, fontsize=9)
        missing = [rung for rung in STEPS if rung in found and p50(found, rung) is None]
        without = f" Not here: {', '.join(missing)}; the reasons stand below." if missing else ""
        pieces.append(figure(drawing, f"Cost ladder on {plots.title(rec)}, {rec['target']['unit']}: " + ", ".join(
                                 f"{rung} {number(length)}" for rung, _, length in bars) + f"; end to end {number(end)}.",
                             "Each rung was measured by itself on top of the general registers; the bars are put end to end. A CPU that "
                             f"overlaps their work may do all together for less.{without}").data)
    return HTML("".join(pieces))


def lists(run: Run) -> HTML:
    """A figure per machine: what lists of MSRs add, over their length."""
    pieces = []
    for rec, found in _machines(run):
        drawing, axes = pyplot.subplots(figsize=(plots.WIDTH, 3.8))
        drawing.subplots_adjust(left=0.07, right=0.985, bottom=0.16, top=0.88)
        handles, said = [], []
        for prefix, (words, color) in LISTS.items():
            points = sorted((int(rung.removeprefix(prefix)), more) for rung in found
                            if rung.startswith(prefix) and (more := added(found, rung)) is not None)
            if points:
                axes.plot(*zip(*points), "o-", color=color, ms=4, lw=1.6)
                handles.append(Line2D([], [], color=color, marker="o", ms=4, label=words))
                said.append(f"{words.partition(':')[0]}: " + ", ".join(f"{number(more)} for {count}" for count, more in (points[0], points[-1])))
        if not handles:
            pyplot.close(drawing)
            continue
        axes.set_xscale("log", base=2)
        axes.set_yscale("symlog", base=10, linthresh=10)
        axes.set_ylim(-1, axes.get_ylim()[1] * 2)
        axes.set_xticks([2**power for power in range(10)])
        axes.minorticks_off()
        axes.grid(axis="both")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.set_xlabel("MSRs in the list")
        axes.set_ylabel(f"added, {rec['target']['unit']}")
        axes.set_title(f"{plots.title(rec)}: switching MSRs", loc="left", fontsize=11.5, fontweight="bold")
        axes.legend(handles=handles, loc="upper left", frameon=False, fontsize=9)
        pieces.append(figure(drawing, f"What lists of MSRs add on {plots.title(rec)}, {rec['target']['unit']}. {'; '.join(said)}.",
                             "Over the exit that saves and restores all general registers. Linear up to 10, logarithmic beyond.").data)
    return HTML("".join(pieces))
