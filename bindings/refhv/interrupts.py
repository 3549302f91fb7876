# SPDX-License-Identifier: MIT
"""Tables and figures of interrupts.html: families inject, ipi, timer and wake. Each says so where a run has none of a family."""

from collections.abc import Callable
from dataclasses import replace

from refhv import plots, shadowcost
from refhv.page import HTML, badge, cell, escape, table, verdict
from refhv.progress import number
from refhv.record import Record, counts_instructions
from refhv.tables import Run

IRET = "_iret"  # of a row that goes into the guest's handler and back
MODES = ("native", "nested", "user")

Wanted = Callable[[dict], bool]


def only(run: Run, wanted: Wanted) -> Run:
    """The run with those rows, and without the machines that have none of them."""
    kept = [rec | {"benchmarks": [row for row in rec["benchmarks"] if wanted(row)]} for rec in run.records]
    return replace(run, records=[rec for rec in kept if rec["benchmarks"]])


def family(run: Run, name: str) -> Run:
    return only(run, lambda row: row["family"] == name)


def units(run: Run) -> HTML:
    """Says above all numbers which of them are no time at all."""
    notices = []
    for rec in run.records:
        target = rec["target"]
        if target["emulated"]:
            what = ("counts instructions: a tick is one, an interrupt controller and a timer cost what the emulator's code says, and "
                    "nothing here is time" if counts_instructions(target) else
                    "tells its own time, at its own prices and not the hardware's")
            notices.append(f"<strong>{escape(target['name'])}: EMULATED.</strong> It {what}.")
    return HTML("".join(f'<div class="notice">{text}</div>' for text in notices))


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


def _figure(row: dict | None) -> str:
    if row is None:
        return ""
    if row["verdict"] != "PASS":
        return verdict(row["verdict"], title=row["reason"] or "")
    return f"{number(row['summary']['p50'])} <small>[{number(row['summary']['p90'])}]</small>"


def _part(row: dict | None, part: str) -> str:
    return "" if row is None or row["parts"][part] is None else number(row["parts"][part])


def injection(run: Run) -> HTML:
    """A line per machine and mechanism: to the handler, to after IRET, parts of the former (else of the latter), exits."""
    heads = [cell(text, kind, "th") for text, kind in [
        ("mechanism", "sticky"), ("machine", ""), ("unit", ""), ("to the handler, p50 [p90]", "number group"),
        ("to after IRET, p50 [p90]", "number"), ("exit", "number group"), ("handler", "number"), ("entry and delivery", "number"),
        ("exits an event", "number group")]]
    found = family(run, "inject")
    by_machine = [(rec["target"], mechanisms(rec)) for rec in found.records]
    body = []
    for name in dict.fromkeys(name for _, rows in by_machine for name in rows):
        for target, rows in by_machine:
            if name not in rows:
                continue
            there, back = rows[name]
            told = next((row for row in (there, back) if row and row["verdict"] == "PASS"), None)
            exits = exits_on_the_way(told) if told else None
            body.append([cell(escape(name), "name sticky"), cell(f"{escape(target['name'])} {badge(target['emulated'])}", "name"),
                         cell(target["unit"]), cell(_figure(there), "number group"), cell(_figure(back), "number"),
                         cell(_part(told, "exit"), "number group"), cell(_part(told, "handler"), "number"),
                         cell(_part(told, "entry"), "number"), cell("" if exits is None else f"{exits:g}", "number group")])
    return table([heads], body) if body else HTML("<p>No record of this run has rows of family inject.</p>")


def bars(run: Run, name: str) -> HTML:
    """The family's rows as stacked bars, machine by machine."""
    return HTML("".join(plots.split(group).data for group in plots.groups(family(run, name))))


def strips(run: Run, name: str) -> HTML:
    """Every sample of the family's rows."""
    return HTML("".join(plots.distribution(group).data for group in plots.groups(family(run, name))))


def costs(run: Run, name: str) -> HTML:
    """A row per operation of a family, a column per machine and mode: p50 of one."""
    found = family(run, name)
    if not found.records:
        return HTML(f"<p>No record of this run has rows of family {escape(name)}.</p>")
    return shadowcost.operations(found, lambda row: True, MODES)
