# SPDX-License-Identifier: MIT
"""Records as data frames and as the tables of the report."""

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas

from refhv import basis, clock, departures, identity, paths, record, versions
from refhv.page import HTML, anchor, called, cost, escape, verdict
from refhv.progress import number
from refhv.table import Line, cell, table

PAGES = {  # families with a page of their own, in reports/; the rest stand in report.html
    "paging": frozenset({"tlb", "shadow", "fault", "flush"}),
    "interrupts": frozenset({"inject", "ipi", "timer", "wake"}),
    "ladder": frozenset({"ladder"}),
}
MODES = ("nested", "shadow", "vtlb", "user", "kvm", "native")


@dataclass(frozen=True)
class Run:
    """Records that are shown together, hardware first, each with its title (`identity.tell_apart`); what `refhv run` wrote
    beside them (run.json) is `problems`, one line each, and `departures`. `whole`: the records with all their rows."""

    records: list[record.Record]
    problems: list[str] = field(default_factory=list)
    departures: list[dict[str, str]] = field(default_factory=list)
    whole: list[record.Record] = field(default_factory=list)

    def __post_init__(self) -> None:
        object.__setattr__(self, "records", identity.tell_apart(self.records))

    def departure(self, rec: record.Record, claim: str) -> dict[str, str] | None:
        """The listed departure of this record's target, and emulator's version, from that claim."""
        target, emulator = rec["target"]["name"], versions.emulator_of(rec["target"])

        def counts(entry: dict[str, str]) -> bool:
            known = emulator is None or emulator.version is None or "versions" not in entry
            return ((entry["target"], entry["claim"]) == (departures.family(target), claim)
                    and target in (entry.get("models") or [target])
                    and (known or versions.within(emulator.version, entry["versions"])))
        return next(filter(counts, self.departures), None)


def read(sources: Sequence[Path]) -> tuple[list[record.Record], list[str]]:
    """The records of `sources`, told apart, and a line for each that cannot be used. Read once as long as the files are the same: the
    pages of a report read them one after the other. Raises identity.SameRecordError."""
    found = []
    for path in record.files_of(sources):
        try:
            state = path.stat()
        except OSError:
            state = None  # to be said when it is read
        found.append((path, state and (state.st_mtime_ns, state.st_size)))
    return _read(tuple(found))


@functools.lru_cache(maxsize=2)
def _read(found: tuple[tuple[Path, Any], ...]) -> tuple[list[record.Record], list[str]]:
    records, unusable = record.load_all([path for path, _ in found])
    return identity.tell_apart(records), unusable


def load(sources: str | Path | Sequence[str | Path] | None = None, page: str | None = None) -> Run:
    """The records of `sources` (files, folders), else of the latest run. Unusable records become problems.
    Of the rows, those of the page's families (None: those of no page, "all": all); of the claims, those that the rows kept rest
    on or, for None, that no dropped row does. Raises identity.SameRecordError."""
    found = places(sources)
    records, unusable = read(found)
    problems, listed = notes(found)
    problems += [p for p in unusable if not any(Path(p.split(":")[0]).stem in line for line in problems)]
    return Run([part(rec, page) for rec in records], problems, listed, records)


def places(sources: str | Path | Sequence[str | Path] | None) -> list[Path]:
    """Files and folders of records; None: the latest run."""
    if sources is None:
        return [paths.OUT / "latest"]
    return [Path(source) for source in ([sources] if isinstance(sources, (str, Path)) else sources)]


def notes(sources: Sequence[Path]) -> tuple[list[str], list[dict[str, str]]]:
    """What the runs that these records come from said: problems and departures, each once."""
    problems: dict[str, None] = {}
    listed: dict[str, dict[str, str]] = {}
    for folder in dict.fromkeys(path.parent for path in (*record.files_of(sources), *(source / "x" for source in sources))):
        try:
            notes = json.loads((folder / "run.json").read_text())
            problems |= dict.fromkeys(map(str, notes.get("problems", [])))
            listed |= {json.dumps(entry, sort_keys=True): entry for entry in notes.get("departures", [])
                       if isinstance(entry, dict) and all(isinstance(entry.get(name), str) for name in ("target", "claim", "instead"))}
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
            problems[f"{folder}/run.json: not what ./suite run writes ({type(error).__name__})"] = None
    return list(problems), list(listed.values())


def page_of(row: dict[str, Any]) -> str | None:
    """The page that a row stands in; None: report.html."""
    return next((page for page, families in PAGES.items() if row["family"] in families), None)


def part(rec: record.Record, page: str | None) -> record.Record:
    """The record with the rows of a page, and their claims (`load`)."""
    if page == "all":
        return rec
    kept = [row for row in rec["benchmarks"] if page_of(row) == page]
    used = {claim for row in kept for claim in row["claims"]}
    other = {claim for row in rec["benchmarks"] for claim in row["claims"]} - used
    return rec | {"benchmarks": kept, "claims": [claim for claim in rec["claims"] if claim["name"] in used
                                                 or (page is None and claim["name"] not in other)]}


def rows(run: Run) -> pandas.DataFrame:
    """One line per benchmark: times in the target's own unit, net of the stamp cost; NaN where there is none.

    Columns: record (identity.key), title, target, emulated, unit, exit (name without mode), mode, verdict, reason, min … mad,
    exit_part, handler_part, entry_part, and the record's own entry as `row`.
    """
    lines = []
    for rec in run.records:
        target = rec["target"]
        for row in rec["benchmarks"]:
            lines.append({
                "record": identity.key(rec), "title": identity.title(rec), "target": target["name"], "emulated": target["emulated"], "unit": row["unit"],
                "exit": row["name"].rpartition("/")[0], "mode": row["mode"], "verdict": row["verdict"],
                "reason": row["reason"], **row["summary"],
                **{f"{part}_part": value for part, value in row["parts"].items()}, "row": row,
            })
    frame = pandas.DataFrame(lines)
    numeric = [c for c in frame.columns if c in ("min", "p50", "p90", "p99", "max", "mad") or c.endswith("_part")]
    frame[numeric] = frame[numeric].astype(float) if len(frame) else frame[numeric]
    return frame


def exit_order(run: Run) -> list[str]:
    """Names of exits in the order of declaration, the longest record leading."""
    longest_first = sorted(run.records, key=lambda rec: -len(rec["benchmarks"]))
    return list(dict.fromkeys(row["name"].rpartition("/")[0] for rec in longest_first for row in rec["benchmarks"]))


def machines(run: Run) -> HTML:
    """A card per target: what it is, and whether its numbers are time at all."""
    cards = []
    for rec in run.records:
        target, machine = rec["target"], rec["machine"]
        facts = {"CPU": identity.cpu(rec)}
        if machine:
            facts["signature"] = (f"{machine['vendor']}, family {machine['family']:#x}, model {machine['model']:#x}, "
                                  f"stepping {machine['stepping']}")
            if machine["brand"]:
                facts["brand string"] = machine["brand"]
            virtualization = machine["virtualization"]
            facts["virtualization"] = f"{target['backend']}, {virtualization['status']}"
            if target["kind"] == "kvm":  # which one answers the exits
                facts["virtualization"] = virtualization["note"].partition(";")[0]
            facts["hypervisor underneath"] = machine["hypervisor"] or "none found"
            if not target["emulated"] and machine["tsc_hz"]:
                facts["TSC"] = f"{machine['tsc_hz'] / 1e9:.3f} GHz ({machine['tsc_source']})"
                step = clock.step(rec)
                if step > 1:
                    facts["TSC step"] = f"{step:g} cycles: a median is no finer, and below {step * clock.STEPS_THAT_MATTER:.0f} cycles the slope tells more"
        facts["unit"] = ("cycles of the TSC" if not target["emulated"] else
                         "ticks: instructions executed by the emulator, neither cycles nor time"
                         if record.counts_instructions(target) else
                         "ticks: the emulator's own time; it shows a method, not what hardware does")
        verdicts = [row["verdict"] for row in rec["benchmarks"]]
        facts["rows"] = ", ".join(f"{verdicts.count(v)} {v}" for v in record.VERDICTS if v in verdicts) or "none"
        facts["launched"] = identity.date(rec)
        facts["launch"] = identity.key(rec)
        facts["refhv"] = identity.revision(rec) or "revision not told"
        body = "".join(f"<dt>{escape(k)}</dt><dd>{escape(str(v))}</dd>" for k, v in facts.items())
        cards.append(f'<div class="card is-{identity.nature(rec).value}"><h3>{called(rec)}</h3><dl>{body}</dl></div>')
    problems = "".join(f'<div class="notice problem">{escape(p)}</div>' for p in run.problems)
    return HTML(problems + f'<div class="cards">{"".join(cards)}</div>' + _conditions(run))


def _conditions(run: Run) -> str:
    """What the doctor found wrong with the machine under hardware's numbers; an emulator that counts does not mind."""
    notices = {}
    for rec in run.records:
        found = (rec.get("doctor") or {}).get("findings", [])  # records of before have none
        wrong = [one for one in found if one["state"] != "OK"]
        if wrong and not rec["target"]["emulated"]:
            lines = "".join(f"<li><strong>{escape(one['state'])} {escape(one['name'])}</strong>: {escape(one['text'])}"
                            + (f"<br><small>{escape(one['mend'])}</small>" if one["mend"] else "") + "</li>" for one in wrong)
            notices.setdefault(lines, []).append(identity.title(rec))
    return "".join(f'<div class="notice"><strong>What stands against the numbers of {escape(", ".join(names))}</strong>'
                   f"<ul>{lines}</ul></div>" for lines, names in notices.items())


def side_by_side(run: Run) -> HTML:
    """A row per exit, a group of columns per machine, a column per mode: p50 [p90]."""
    frame = rows(run)
    if frame.empty:
        return HTML('<div class="notice problem">No benchmark in any record.</div>')
    columns = [(rec, [m for m in MODES if m in set(frame[frame.record == identity.key(rec)]["mode"])]) for rec in run.records]
    columns = [(rec, modes) for rec, modes in columns if modes]
    found = {(line.record, line.exit, line.mode): line.row for line in frame.itertuples()}
    top, second = [cell("", "sticky", "th")], [cell("exit", "sticky", "th")]
    for rec, modes in columns:
        top.append(cell(f"{called(rec)}<br><small>{rec['target']['unit']}, p50 [p90]</small>",
                        "group", "th", len(modes)))
        second += [cell(mode, "number group" if i == 0 else "number", "th") for i, mode in enumerate(modes)]
    body = []
    for name in exit_order(run):
        line = [cell(escape(name), "name sticky")]
        for rec, modes in columns:
            for i, mode in enumerate(modes):
                row = found.get((identity.key(rec), name, mode))
                line.append(cell(cost(rec, row), "number group" if i == 0 else "number"))
        body.append(line)
    return table([top, second], body)


def every_row(run: Run) -> HTML:
    """A row per exit, machine and mode, with the reason where there is no number."""
    heads = [cell(t, k, "th") for t, k in [
        ("exit", "sticky"), ("machine", ""), ("mode", ""), ("verdict", ""), ("unit", ""), ("p50 [p90]", "number"),
        ("min", "number"), ("p99", "number"), ("max", "number"), ("MAD", "number"), ("exit", "number group"),
        ("handler", "number"), ("entry", "number"), ("n:2n slope", "number group"), ("samples", "number"),
        ("dropped", "number"), ("exits counted", ""), ("reason, flags", ""),
    ]]
    body = []
    frame = rows(run)
    records = {identity.key(rec): rec for rec in run.records}
    for name in exit_order(run):
        for line in frame[frame["exit"] == name].itertuples():
            row, passed = line.row, line.verdict == "PASS"
            figures = [number(row["summary"][k]) if passed else "" for k in ("min", "p99", "max", "mad")]
            parts = [number(row["parts"][k]) if passed else "" for k in ("exit", "handler", "entry")]
            exits = row["exits"]
            counted = f"{exits['counted']} of {exits['expected']} {exits['reason'] or ''}" if exits else ""
            words = "; ".join(filter(None, [row["reason"], *row["flags"]]))
            if row["hypervisor_exit"]:
                words = "; ".join(filter(None, ["an exit to the hypervisor underneath", words]))
            body.append([
                cell(escape(name), "name sticky"), cell(called(records[line.record]), "name"),
                cell(line.mode), cell(verdict(line.verdict)), cell(line.unit),
                cell(cost(records[line.record], row) if passed else "", "number"), *(cell(f, "number") for f in figures),
                cell(parts[0], "number group"), *(cell(p, "number") for p in parts[1:]),
                cell(number(row["slope"]) if passed else "", "number group"),
                cell(str(len(row["samples"])) if passed else "", "number"),
                cell(str(row["disturbed"]) if passed else "", "number"), cell(escape(counted), "name"),
                cell(escape(words), "reason"),
            ])
    return table([heads], body)


def news(run: Run, rec: record.Record, claim: dict[str, Any]) -> bool:
    """Whether a claim did not hold, or could not be told, and that is no known departure of the target."""
    return claim["verdict"] not in ("PASS", "SKIP") and not (
        claim["verdict"] in ("FAIL", "MISS") and run.departure(rec, claim["name"]) is not None)


def conformance(run: Run) -> HTML:
    """Claims × targets. A known departure of an emulator is marked as such; a FAIL that is not, is news."""
    names = list(dict.fromkeys(c["name"] for rec in run.records for c in rec["claims"]))
    heads = [cell("claim", "sticky", "th"), cell("manual section", "", "th")]
    heads += [*(cell(called(rec), "", "th") for rec in run.records), cell("run it", "", "th")]
    by_target = [{c["name"]: c for c in rec["claims"]} for rec in run.records]
    body = []
    for name in names:
        sections = dict.fromkeys(claims[name]["section"] for claims in by_target if name in claims)
        line = [cell(escape(name), "name sticky"), cell(" · ".join(basis.section(s) for s in sections if s) or "–")]
        for rec, claims in zip(run.records, by_target):
            claim = claims.get(name)
            if claim is None:
                line.append(cell("", "verdict"))
                continue
            known = run.departure(rec, name) is not None and claim["verdict"] in ("FAIL", "MISS")
            word = f"{claim['verdict']} (known)" if known else claim["verdict"]
            line.append(cell(verdict(word, known, claim["detail"] or ""), f"verdict {'known' if known else claim['verdict']}"))
        command = next(basis.claim_command(rec, claims[name]) for rec, claims in zip(run.records, by_target) if name in claims)
        body.append(Line([*line, cell(basis.alone(command))], anchor("claim", name)))
    return table([heads], body, "matrix")


def not_passed(run: Run) -> HTML:
    """Every claim that did not pass, with what happened instead."""
    heads = [cell(t, "", "th") for t in ("claim", "machine", "verdict", "manual section", "known departure", "what happened")]
    lost = [(rec, claim) for rec in run.records for claim in rec["claims"] if claim["verdict"] != "PASS"]
    lost.sort(key=lambda pair: pair[1]["verdict"] == "SKIP")  # what failed comes before what does not apply
    body = []
    for rec, claim in lost:
        departure = run.departure(rec, claim["name"]) if claim["verdict"] in ("FAIL", "MISS") else None
        body.append([
            cell(escape(claim["name"]), "name"), cell(called(rec), "name"),
            cell(verdict(claim["verdict"], departure is not None)), cell(escape(claim["section"] or "–")),
            cell(escape(departure["instead"]) if departure else "", "reason"),
            cell(escape(claim["detail"] or ""), "reason"),
        ])
    return table([heads], body)
