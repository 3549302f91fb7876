# SPDX-License-Identifier: MIT
"""The parts of fleet.html: who is not done, who stands out, how far equal machines are apart."""

import base64
import csv
import io

from refhv import identity
from refhv.fleet import spread
from refhv.fleet.spread import Found, Group
from refhv.fleet.state import Stands
from refhv.page import HTML, badge, escape, figure
from refhv.progress import number
from refhv.table import Cell, cell, table

MOST_LINES, MOST_DRAWN = 100, 24


def _heads(*words: str) -> list[list[Cell]]:
    """A head of one line; words that end in # are of numbers."""
    return [[cell(escape(word.removesuffix("#")), "number" if word.endswith("#") else "sticky" if index == 0 else "", "th")
             for index, word in enumerate(words)]]


def _who(group: Group) -> str:
    """CPU, instance and target of a group, as finished HTML."""
    words = filter(None, (identity.cpu(group.example), identity.emulator(group.example) or identity.instance(group.example), group.target))
    return f"{escape(identity.SEPARATOR.join(words))} {badge(group.example)}"


def summary(found: Found, groups: list[Group]) -> HTML:
    """What a reader asks first, in sentences; what is missing before what is there."""
    notices = [f'<div class="notice problem">left out: {escape(problem)}</div>' for problem in found.problems]
    for host in found.hosts:
        if host.stands is not Stands.DONE or host.code:
            code = f", code {host.code}" if host.code else ""
            says = f": {escape(host.says)}" if host.says else ""
            notices.append(f'<div class="notice problem">{escape(host.name)} {escape(host.stands.value)}{code}, {host.fetched} launches here{says}</div>')
    several = [group for group in groups if len(group.records) >= spread.FEWEST]
    out = sorted({host for group in groups for host in group.out()})
    launches = sum(map(len, found.records.values()))
    words = f"{len(found.records)} hosts, {launches} records, kinds of machine and target: {len(groups)}, of which {len(several)} on three hosts or more. "
    if not several:
        words += "Nobody can stand out: that takes three equal machines."
    elif out:
        words += f"Standing out among their equals: {', '.join(out)}."
    else:
        words += "No host stands out among its equals."
    return HTML("".join(notices) + f'<p class="lead">{escape(words)}</p>')


def outliers(groups: list[Group]) -> HTML:
    """A line per host that stands out, with its farthest row."""
    lines = []
    for group in groups:
        for host, rows in group.out().items():
            worst = max(rows, key=lambda row: abs(row.out[host]))
            lines.append([cell(f"<strong>{escape(host)}</strong>", "name sticky"), cell(_who(group)), cell(f"{len(rows)} of {len(group.rows)}", "number"),
                          cell(escape(worst.benchmark), "name"), cell(number(worst.values[host]), "number"), cell(number(worst.middle), "number"),
                          cell(f"{worst.out[host]:+.1%}", "number")])
    if not lines:
        return HTML("<p>None.</p>")
    return table(_heads("host", "machine", "rows it stands out in#", "farthest in", "its median#", "its equals'#", "away#"), lines)


def kinds(groups: list[Group]) -> HTML:
    """A line per kind of machine."""
    lines = []
    for group in groups:
        ranges = sorted(row.range() for row in group.rows)
        lines.append([cell(_who(group), "sticky"), cell(escape(group.key), "name"), cell(str(len(group.records)), "number"),
                      cell(str(sum(map(len, group.records.values()))), "number"), cell(str(len(group.rows)), "number"),
                      cell(f"{ranges[len(ranges) // 2]:.1%}" if ranges else "", "number"), cell(f"{ranges[-1]:.1%}" if ranges else "", "number"),
                      cell(escape(", ".join(group.records)), "reason")])
    return table(_heads("machine", "machine key", "hosts#", "launches#", "rows#", "range, median row#", "range, widest#", "which"), lines)


def rows(groups: list[Group]) -> HTML:
    """Every row that several hosts have, the outliers' first."""
    lines = []
    for group in groups:
        for row in group.rows[:MOST_LINES]:
            low, high = min(row.values, key=row.values.get), max(row.values, key=row.values.get)
            out = ", ".join(f"{host} {by:+.1%}" for host, by in row.out.items())
            lines.append([cell(escape(row.benchmark), "name sticky"), cell(_who(group)), cell(str(len(row.values)), "number"),
                          cell(f"{number(row.values[low])}<br><small>{escape(low)}</small>", "number"), cell(number(row.middle), "number"),
                          cell(f"{number(row.values[high])}<br><small>{escape(high)}</small>", "number"), cell(f"{row.between:.1%}", "number"),
                          cell(f"{row.within:.1%}", "number"), cell(escape(out))])
    if not lines:
        return HTML("<p>No two of these hosts are equal.</p>")
    heads = _heads("benchmark", "machine", "hosts#", "least#", "median#", "most#", "between hosts#", "within a host#", "standing out")
    return HTML(download(groups) + table(heads, lines).data)


def download(groups: list[Group]) -> str:
    """A link that holds every host's value of every row. Cells that a spreadsheet would take for a formula begin with an apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("host", "cpu", "target", "emulated", "machine_key", "benchmark", "unit", "launches", "median", "group_median", "away", "stands_out"))
    for group in groups:
        target = group.example["target"]
        for row in group.rows:
            for host, value in row.values.items():
                cells = (host, identity.cpu(group.example), group.target, target["emulated"], group.key, row.benchmark, target["unit"],
                         row.launches[host], value, row.middle, row.away(host), host in row.out)
                writer.writerow([f"'{text}" if isinstance(text, str) and text[:1] in tuple("=+-@\t\r") else text for text in cells])
    data = base64.b64encode(out.getvalue().encode()).decode()
    return f'<p><a class="download" download="fleet.csv" href="data:text/csv;base64,{data}">CSV</a></p>'


def _drawing(group: Group) -> HTML:
    from matplotlib import pyplot

    shown = sorted(group.rows, key=lambda row: -row.range())[:MOST_DRAWN]
    drawing, axes = pyplot.subplots(figsize=(9, 1.2 + 0.28 * len(shown)), layout="constrained")
    for index, row in enumerate(shown):
        for host in row.values:
            out = host in row.out
            axes.plot(100 * row.away(host), index, "D" if out else "o", color="#c0392b" if out else "#2c6fbb", markersize=5, alpha=0.9 if out else 0.6)
            if out:
                axes.annotate(host.replace("$", r"\$"), (100 * row.away(host), index), xytext=(4, 4), textcoords="offset points", fontsize=7, color="#c0392b")
    axes.axvline(0, color="#888888", linewidth=0.8)
    axes.set_yticks(range(len(shown)), [row.benchmark.replace("$", r"\$") for row in shown], fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    unit = "EMULATED, ticks" if group.example["target"]["emulated"] else "hardware, cycles"
    axes.set_xlabel(f"away from the median of equal machines, % ({unit})")
    out = group.out()
    result = f"standing out: {', '.join(out)}" if out else "no host stands out"
    who = identity.cpu(group.example)
    return figure(drawing, f"{len(group.records)} hosts of {who}, target {group.target}: the widest row, {shown[0].benchmark}, has a range of "
                  f"{shown[0].range():.1%}; {result}", f"{who}, {group.target}: a dot is a host, a red diamond one that stands out. {len(shown)} widest rows.")


def drawings(groups: list[Group]) -> HTML:
    found = [group for group in groups if group.rows]
    return HTML("".join(_drawing(group).data for group in found) or "<p>No two of these hosts are equal.</p>")


def apart(groups: list[Group]) -> HTML:
    """Claims and the doctor's conditions that equal machines do not share."""
    lines = []
    for group in groups:
        for kind, told in (("claim", spread.verdicts_apart(group)), ("condition", spread.conditions_apart(group))):
            for name, by_host in told:
                words = "<br>".join(f"{escape(host)}: {escape(text)}" for host, text in by_host.items())
                lines.append([cell(escape(name), "name sticky"), cell(kind), cell(_who(group)), cell(words, "reason")])
    return table(_heads("what", "", "machine", "on which host"), lines) if lines else HTML("<p>Nothing.</p>")
