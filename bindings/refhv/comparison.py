# SPDX-License-Identifier: MIT
"""Machines side by side: compare.html, and the lines of `./suite compare`. Every record is known by its launch."""

import csv
import io
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refhv import clock, environment, identity, record, tables
from refhv.page import HTML, badge, cost, escape
from refhv.progress import number
from refhv.record import Record
from refhv.table import cell, download, safe, table

@dataclass(frozen=True)
class Line:
    """One benchmark: p50 by record in its own unit, in ns where a rate is known, and changes against the first record (0.05: 5 %);
    None where there is none."""

    name: str
    units: list[str]
    values: list[float | None]
    ns: list[float | None]
    changes: list[float | None]


def load(sources: Sequence[str | Path] | None = None) -> tables.Run:
    """As tables.load, with each record's samples left out as soon as it is read, so that hundreds fit in memory. Raises
    identity.SameRecordError."""
    found = tables.places(sources)
    records, places, problems = [], [], []
    for path in record.files_of(found):
        try:
            rec = record.load(path)
        except record.RecordError as error:
            problems.append(str(error))
            continue
        rec["environment"] |= {"tsc_step": clock.step(rec)}
        records.append(rec | {"benchmarks": [row | {"samples": [], "part_samples": None, "taken": len(row["samples"])}
                                             for row in rec["benchmarks"]]})
        places.append(path)
    identity.refuse_same(records, places)
    records.sort(key=lambda rec: (rec["target"]["emulated"], identity.cpu(rec), rec["started"]))
    told, listed = tables.notes(found)
    return tables.Run(records, told + [p for p in problems if p not in told], listed)


def _rows(rec: Record) -> dict[str, dict]:
    return {row["name"]: row for row in rec["benchmarks"]}


def operations(records: Sequence[Record]) -> list[str]:
    """Benchmarks with a number in some record: those that most records have first, the controls last."""
    count = Counter(row["name"] for rec in records for row in rec["benchmarks"] if row["verdict"] == "PASS")
    return sorted(count, key=lambda name: (name.startswith("control."), -count[name]))  # else in the order in which they ran


def _change(base: float | None, value: float | None) -> float | None:
    """(new - old) / old, as Google Benchmark's compare.py has it; None where one is missing, or the first is no longer than the stamps."""
    return None if base is None or value is None or base <= 0 else (value - base) / base


def lines(records: Sequence[Record]) -> list[Line]:
    """A line per operation. A change is of p50s in one unit: ns where both have them, else the target's if it is the same."""
    rows = [_rows(rec) for rec in records]
    out = []
    for name in operations(records):
        found = [one.get(name) for one in rows]
        values = [row["summary"]["p50"] if row else None for row in found]
        ns = [clock.nanoseconds(rec, value) for rec, value in zip(records, values)]
        units = [rec["target"]["unit"] for rec in records]
        changes = [_change(ns[0], ns[i]) if None not in (ns[0], ns[i]) else
                   _change(values[0], values[i]) if units[0] == units[i] == "ticks" else None for i in range(len(records))]
        out.append(Line(name, units, values, ns, changes))
    return out


def as_document(records: Sequence[Record]) -> dict[str, Any]:
    """What `lines` has, for JSON: who the records are, and a benchmark each with lists in their order."""
    who = [{"record": identity.key(rec), "title": identity.title(rec), "cpu": identity.cpu(rec), "instance": identity.instance(rec),
            "emulator": identity.emulator(rec), "started": rec["started"], "target": rec["target"]["name"], "emulated": rec["target"]["emulated"],
            "unit": rec["target"]["unit"], "revision": identity.revision(rec), "machine_key": identity.machine_key(rec),
            "environment": {name: rec["environment"].get(name) for name in environment.FIELDS}} for rec in records]
    return {"records": who, "benchmarks": [{"name": line.name, "p50": line.values, "p50_ns": line.ns, "change": line.changes}
                                           for line in lines(records)]}


def _cell(row: dict | None, rec: Record) -> str:
    if row is None:
        return '<td class="number"></td>'
    words = cost(rec, row, p90=False)
    if row["verdict"] != "PASS":
        return cell(words, "number")
    value = row["summary"]["p50"]
    ns = clock.nanoseconds(rec, value)
    return f'<td class="number" data-v="{value if ns is None else ns:.6g}">{words}</td>'


def _head_cells(names: Sequence[str]) -> list[str]:
    heads = ['<th class="sticky" data-sort>machine</th>']
    for name in names:
        what, _, mode = name.rpartition("/")
        heads.append(f'<th class="number" data-sort data-name="{escape(name, quote=True)}">{escape(what)}<br><small>{escape(mode)}</small></th>')
    return heads


def overview(run: tables.Run) -> HTML:
    """Hardware's table and that of what is emulated: a row per record, a column per operation, p50, and ns where the rate of the TSC
    is known. The page's script sorts and searches them; without it they stand."""
    problems = "".join(f'<div class="notice problem">left out: {escape(p)}</div>' for p in run.problems)
    groups = [(words, [rec for rec in run.records if rec["target"]["emulated"] == emulated]) for words, emulated in
              (("Hardware: cycles of the TSC, and ns", False), ("EMULATED: ticks, not time", True))]
    shown = [(words, records, operations(records)) for words, records in groups if records]
    if not any(names for _, _, names in shown):
        return HTML(problems + '<div class="notice problem">No benchmark of any record has a number.</div>')
    saved = download(as_csv(run), "compare")
    count = f"{len(run.records)} records, {sum(len(names) for _, _, names in shown)} operations"
    controls = ('<div class="controls"><label>machines <input type="search" data-filter="rows" placeholder="CPU, instance, date"></label> '
                '<label>operations <input type="search" data-filter="columns" placeholder="cpuid, nested"></label> '
                f"<span data-count>{count}</span> {saved}</div>")
    return HTML(problems + controls + "".join(_overview_table(*one) for one in shown if one[2]))


def _overview_table(words: str, records: Sequence[Record], names: Sequence[str]) -> str:
    rows = []
    for rec in records:
        found = _rows(rec)
        rows.append(f'<tr id="r-{escape(identity.key(rec), quote=True)}"><th class="sticky name" '
                    f'data-v="{escape(identity.full_title(rec), quote=True)}">{_title_html(rec)}<br>{badge(rec)} '
                    f"<small>{escape(rec['target']['name'])}</small></th>{''.join(_cell(found.get(name), rec) for name in names)}</tr>")
    return (f'<h3>{escape(words)}</h3><div class="scroll tall"><table class="overview" data-overview><thead><tr>'
            f"{''.join(_head_cells(names))}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>")


def _title_html(rec: Record) -> str:
    cpu, *rest = identity.full_title(rec).split(identity.SEPARATOR)
    return f"<strong>{escape(cpu)}</strong><br><small>{escape(identity.SEPARATOR.join(rest))}</small>"


CSV_COLUMNS = ("record", "cpu", "instance", "date", "target", "emulated", "revision", "machine_key", "benchmark", "verdict", "unit",
               "min", "p50", "p90", "p99", "max", "mad", "p50_ns", "reason")


def as_csv(run: tables.Run) -> str:
    """A line per record and benchmark. Cells that a spreadsheet would take for a formula begin with an apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for rec in run.records:
        who = (identity.key(rec), identity.cpu(rec), identity.instance(rec), rec["started"], rec["target"]["name"], rec["target"]["emulated"],
               identity.revision(rec), identity.machine_key(rec))
        for row in rec["benchmarks"]:
            summary = row["summary"]
            cells = (*who, row["name"], row["verdict"], row["unit"], *(summary[key] for key in CSV_COLUMNS[11:17]),
                     clock.nanoseconds(rec, summary["p50"]), row["reason"])
            writer.writerow(map(safe, cells))
    return out.getvalue()


def provenance(run: tables.Run) -> HTML:
    """A row per record: what it is, and under what it was measured."""
    heads = [cell(text, "sticky" if text == "record" else "", "th") for text in
             ("record", "CPU", "instance", "launched", "refhv", "machine key", "TSC", "step", *environment.WORDS, "rows", "doctor")]
    body = []
    for rec in run.records:
        machine, verdicts = rec["machine"] or {}, [row["verdict"] for row in rec["benchmarks"]]
        emulated = rec["target"]["emulated"]
        found = (rec.get("doctor") or {}).get("findings", [])
        wrong = "" if emulated else ", ".join(f"{one['state']} {one['name']}" for one in found if one["state"] != "OK")
        rate = machine.get("tsc_hz") if not emulated else None
        body.append([cell(escape(identity.key(rec)), "name sticky"), cell(escape(identity.cpu(rec))), cell(escape(identity.instance(rec))),
                     cell(escape(identity.date(rec))), cell(escape(identity.revision(rec))), cell(escape(identity.machine_key(rec)), "name"),
                     cell(f"{rate / 1e9:.3f} GHz" if rate else "", "number"),
                     cell("" if emulated else number(rec["environment"].get("tsc_step")), "number"),
                     *(cell("" if emulated else escape(words)) for words in environment.words(rec).values()),
                     cell(", ".join(f"{verdicts.count(v)} {v}" for v in record.VERDICTS if v in verdicts)), cell(escape(wrong), "reason")])
    return table([heads], body)


def spread(run: tables.Run) -> HTML:
    """Equal machines, by machine key, of several launches: how far the medians of their launches are apart."""
    groups: dict[tuple[str, str], list[Record]] = {}
    for rec in run.records:
        groups.setdefault((identity.machine_key(rec), rec["target"]["name"]), []).append(rec)
    body = []
    for (key, target), alike in groups.items():
        if len(alike) < 2:
            continue
        for line in lines(alike):
            values = [value for value in line.values if value is not None]
            middle = statistics.median(values)
            if len(values) > 1 and middle > 0 and max(values) > min(values):
                body.append(((max(values) - min(values)) / middle, [
                    cell(escape(line.name), "name sticky"), cell(escape(f"{identity.cpu(alike[0])}, {target}")), cell(escape(key), "name"),
                    cell(str(len(values)), "number"), cell(number(min(values)), "number"), cell(number(middle), "number"),
                    cell(number(max(values)), "number"), cell(f"{(max(values) - min(values)) / middle:.1%}", "number")]))
    heads = [cell(text, kind, "th") for text, kind in (("benchmark", "sticky"), ("machine", ""), ("machine key", ""), ("launches", "number"),
             ("least", "number"), ("median", "number"), ("most", "number"), ("range", "number"))]
    return table([heads], [line for _, line in sorted(body, key=lambda pair: -pair[0])[:100]])
