# SPDX-License-Identifier: MIT
"""Tables and figures of interrupts.html: families inject, ipi, timer and wake. Each says so where a run has none of a family."""

from collections.abc import Callable
from dataclasses import replace

import numpy
from matplotlib import pyplot
from matplotlib.ticker import FuncFormatter, MaxNLocator

from refhv import basis, identity, plots, shadowcost
from refhv.page import HTML, called, cost, escape, figure, verdict
from refhv.progress import number
from refhv.record import Record, counts_instructions
from refhv.table import cell, table
from refhv.tables import Run

IRET = "_iret"  # of a row that goes into the guest's handler and back
MODES = ("native", "nested", "user", "kvm")
COLORS = ("#31688e", "#b3261e", "#4c9f70", "#e0a030", "#7b4fa3", "#5a6675", "#1d8ba0")

Wanted = Callable[[dict], bool]


def only(run: Run, wanted: Wanted) -> Run:
    """The run with those rows, and without the machines that have none of them."""
    kept = [rec | {"benchmarks": [row for row in rec["benchmarks"] if wanted(row)]} for rec in run.records]
    return replace(run, records=[rec for rec in kept if rec["benchmarks"]])


def family(run: Run, name: str) -> Run:
    return only(run, lambda row: row["family"] == name)


def units(run: Run) -> HTML:
    """Says above all numbers which of them are no time at all, and which are a process's."""
    def names(wanted: Callable[[Record], bool]) -> str:
        return ", ".join(escape(identity.title(rec)) for rec in run.records if wanted(rec))
    counting = names(lambda rec: rec["target"]["emulated"] and counts_instructions(rec["target"]))
    own_time = names(lambda rec: rec["target"]["emulated"] and not counts_instructions(rec["target"]))
    processes = names(lambda rec: any(row["mode"] == "user" for row in rec["benchmarks"]))
    texts = []
    if counting:
        texts.append(f"<strong>{counting}: EMULATED.</strong> A tick is one instruction. Exits, deliveries and interrupt controllers cost "
                     "no instruction at all there: what is left is the software's own part, to the instruction, and nothing here is time.")
    if own_time:
        texts.append(f"<strong>{own_time}: EMULATED.</strong> The emulator's own time, at its own prices and not the hardware's.")
    if processes:
        texts.append(f"<strong>{processes}: rows of mode <em>user</em> are a process's.</strong> No guest is involved; the kernel, its "
                     "scheduler and the hypervisor underneath, where there is one, are in every number. They are here for scale.")
    return HTML("".join(f'<div class="notice">{text}</div>' for text in texts))


def mechanisms(rec: Record) -> dict[str, tuple[dict | None, dict | None]]:
    """By mechanism: its row to the handler, and the one to the instruction after the handler's IRET."""
    found: dict[str, list] = {}
    for row in rec["benchmarks"]:
        if row["family"] == "inject":
            name = row["name"].rpartition("/")[0].partition(".")[2]
            found.setdefault(name.removesuffix(IRET), [None, None])[name.endswith(IRET)] = row
    return {name: (there, back) for name, (there, back) in found.items()}


def exits_on_the_way(row: dict) -> float | None:
    """Exits per event, from the counts of the row's run; None where it says nothing."""
    return row["exits"]["counted"] / row["n"] if row["verdict"] == "PASS" and row["exits"] else None


def surplus(row: dict) -> float | None:
    """The parts' sum less the round trip that they were taken from, in the row's unit; None where it was not split."""
    if row["verdict"] != "PASS" or row["stamped_p50"] is None or None in row["parts"].values():
        return None
    return sum(row["parts"].values()) - row["stamped_p50"]


def adds_up(row: dict) -> bool:
    """Whether the parts are the whole within what a pair of stamps costs, or there are none."""
    difference = surplus(row)
    return difference is None or abs(difference) <= max(1.0, row["stamp_cost"])


def plain_entries(run: Run) -> dict[str, float]:
    """By record, the part `entry` of exit.cpuid/nested, which takes the same way without an event."""
    found = {}
    for rec in run.whole:
        for row in rec["benchmarks"]:
            if row["name"] == "exit.cpuid/nested" and row["parts"]["entry"] is not None:
                found[identity.key(rec)] = row["parts"]["entry"]
    return found


def _part(row: dict | None, part: str) -> str:
    return "" if row is None or row["parts"].get(part) is None else number(row["parts"][part])


def injection(run: Run) -> HTML:
    """A line per mechanism and machine: to the handler, to after IRET, parts of the former (else of the latter), exits."""
    by_machine = [(rec, mechanisms(rec)) for rec in family(run, "inject").records]
    twice = any((row["parts"].get("between") is not None) for _, rows in by_machine for pair in rows.values() for row in pair if row)
    heads = [cell(text, kind, "th") for text, kind in [
        ("mechanism", "sticky"), ("machine", ""), ("to handler", "number group"), ("to after IRET", "number"), ("exits", "number"),
        ("exit", "number group"), ("host", "number"), *([("between", "number")] if twice else []), ("entry", "number"),
        ("delivery", "number"), ("sum [measured]", "number group")]]
    entries, body, astray = plain_entries(run), [], []
    for name in dict.fromkeys(name for _, rows in by_machine for name in rows):
        for rec, rows in by_machine:
            if name not in rows:
                continue
            unit = rec["target"]["unit"]
            there, back = rows[name]
            told = next((row for row in (there, back) if row and row["verdict"] == "PASS"), None)
            exits = exits_on_the_way(told) if told else None
            split = told if told and surplus(told) is not None else None
            if told and not adds_up(told):
                astray.append(f"{told['name']} on {identity.title(rec)}: {surplus(told):+g} {unit}")
            plain = entries.get(identity.key(rec))
            delivery = number(split["parts"]["entry"] - plain) if split and plain is not None else ""
            body.append([cell(basis.to(basis.operation(there or back), name), "name sticky"), cell(f"{called(rec)} <small>{unit}</small>", "name"),
                         cell(cost(rec, there), "number group"), cell(cost(rec, back), "number"),
                         cell("" if exits is None else f"{exits:g}", "number"), cell(_part(split, "exit"), "number group"),
                         cell(_part(split, "handler"), "number"), *([cell(_part(split, "between"), "number")] if twice else []),
                         cell(_part(split, "entry"), "number"), cell(delivery, "number"),
                         cell(f"{number(sum(split['parts'].values()))} <small>[{number(split['stamped_p50'])}]</small>" if split else "",
                              "number group")])
    if not body:
        return HTML("")
    words = (f'<div class="notice problem">Parts that do not add up within the cost of a stamp: {escape("; ".join(astray))}.</div>'
             if astray else "<p>Parts add up to what was measured within the cost of a stamp, in every row that was split.</p>"
             if any(row for _, rows in by_machine for pair in rows.values() for row in pair if row and surplus(row) is not None) else "")
    return HTML(table([heads], body).data + words)


def bars(run: Run, name: str) -> HTML:
    """The family's rows as stacked bars, machine by machine."""
    return HTML("".join(plots.split(group).data for group in plots.groups(family(run, name))))


def _varies(row: dict) -> bool:
    return row["verdict"] == "PASS" and len(set(row["samples"])) > 1


def strips(run: Run, name: str, wanted: Wanted = lambda row: True) -> HTML:
    """Every sample of those rows of a family whose samples are not all alike; how many were, in words."""
    rows = only(family(run, name), lambda row: wanted(row) and row["verdict"] == "PASS")
    steady = sum(not _varies(row) for rec in rows.records for row in rec["benchmarks"])
    words = f"<p>{steady} rows took the same in every sample.</p>" if steady else ""
    return HTML("".join(plots.distribution(group).data for group in plots.groups(only(rows, _varies))) + words)


def costs(run: Run, name: str) -> HTML:
    """A row per operation of a family, a column per machine and mode: p50 of one. Rows of lateness are not costs."""
    found = only(family(run, name), lambda row: not _is_late(row))
    if not found.records:
        return HTML("")
    modes = {row["mode"] for rec in found.records for row in rec["benchmarks"]}
    return shadowcost.operations(found, lambda row: True, tuple(mode for mode in MODES if mode in modes))


def _is_late(row: dict) -> bool:
    return bool(row.get("due"))


def lateness(run: Run) -> HTML:
    """A line per row of lateness and machine: what was asked for, and how far from it the timer was."""
    heads = [cell(text, kind, "th") for text, kind in [
        ("row", "sticky"), ("machine", ""), ("due after", "number group"), ("step", "number"), ("min", "number group"),
        ("p50", "number"), ("p90", "number"), ("p99", "number"), ("max", "number")]]
    body = []
    for rec in run.records:
        for row in filter(_is_late, rec["benchmarks"]):
            due, passed = row["due"], row["verdict"] == "PASS"
            body.append([
                cell(f'{basis.to(basis.operation(row), row["name"])}<br><small>{escape(due["timer"])}</small>', "name sticky"),
                cell(f"{called(rec)} <small>{rec['target']['unit']}</small>", "name"), cell(number(due["ticks"]), "number group"),
                cell(number(due["step"]) if due["step"] else "–", "number"),
                *(cell((number(row["summary"][key]) if passed else verdict(row["verdict"], title=row["reason"] or "") if key == "min" else ""),
                       "number group" if key == "min" else "number") for key in ("min", "p50", "p90", "p99", "max"))])
    return table([heads], body)


def _late_words(row: dict) -> str:
    summary = row["summary"]
    return (f"{row['name']}: half of the firings by {number(summary['p50'])} after they were due, 99 % by {number(summary['p99'])}, "
            f"the last by {number(summary['max'])}")


def late_shares(run: Run) -> HTML:
    """A figure per machine: the share of firings that were no later than so much. Machines that never vary have none."""
    pieces = []
    for rec in only(run, lambda row: _is_late(row) and row["verdict"] == "PASS").records:
        rows = rec["benchmarks"]
        if not any(map(_varies, rows)):
            continue
        drawing, axes = pyplot.subplots(figsize=(plots.WIDTH, 3.6))
        drawing.subplots_adjust(left=0.06, right=0.985, bottom=0.15, top=0.88)
        axes.grid(axis="both")
        for index, row in enumerate(rows):
            values = numpy.sort(numpy.asarray(row["samples"], float) - row["stamp_cost"])
            axes.step(values, 100 * numpy.arange(1, len(values) + 1) / len(values), where="post", lw=1.7,
                      color=COLORS[index % len(COLORS)], label=f"{row['name']}: {row['due']['timer']}")
        axes.set_xscale("symlog", linthresh=100)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.set_ylim(0, 102)
        axes.set_ylabel("firings no later, %")
        axes.set_xlabel(f"{plots.axis_label(rec['target'])} after the time it was due; linear up to 100")
        axes.set_title(f"{plots.title(rec)}: how late", loc="left", fontsize=11.5, fontweight="bold")
        axes.legend(loc="lower right", frameon=False, fontsize=9)
        pieces.append(figure(drawing, f"How late timers are on {plots.title(rec)}, {rec['target']['unit']}. {'; '.join(map(_late_words, rows))}.", "Every firing counts; none is dropped as disturbed, "
                             "since being late is the subject.").data)
    return HTML("".join(pieces))
