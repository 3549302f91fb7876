# SPDX-License-Identifier: MIT
"""Tables of a record's own page: every row with the claims it rests on, every claim with its section and its command."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from refhv import basis, clock, environment, identity, tables
from refhv.page import HTML, anchor, badge, cost, escape, folded, verdict
from refhv.progress import number
from refhv.record import VERDICTS, Record
from refhv.table import Line, cell, table
from refhv.tables import Run

MOST_WORDS = 120  # of a value in the tables of provenance


class NoSuchRecord(Exception):
    """No record of that launch; one line."""


def load(sources: Sequence[str] | None, launch: str | None) -> Run:
    """The run of one record, `launch` by its run_id; None: the first. Raises NoSuchRecord."""
    run = tables.load(sources, "all")
    found = [rec for rec in run.records if launch in (None, identity.key(rec))][:1]
    if not found:
        raise NoSuchRecord(f"no record of launch {launch}" if launch else "no record")
    return replace(run, records=found, whole=found, problems=[])


def of_page(run: Run, page: str | None) -> Run:
    """The run with the rows of one page of a run (tables.PAGES; None: those of none)."""
    return replace(run, records=[tables.part(rec, page) for rec in run.records])


def heading(run: Run) -> HTML:
    rec = run.records[0]
    return HTML(f'<p class="lead"><strong>{escape(identity.title(rec))}</strong> {badge(rec)} {escape(identity.full_title(rec))}</p>')


def _claims_of(row: Mapping[str, Any], verdicts: Mapping[str, str]) -> str:
    return basis.claims_of(row["claims"], {name: verdict(word) for name in row["claims"] if (word := verdicts.get(name, "not run")) != "PASS"})


def _alone(rec: Record, row: Mapping[str, Any]) -> str:
    return basis.alone(basis.row_command(rec["target"]["name"], basis.operation(row), row["mode"]))


def rows(run: Run, passed: bool) -> HTML:
    """The rows that have a number, folded by family, or those that have none, the worst first."""
    rec = run.records[0]
    verdicts = {claim["name"]: claim["verdict"] for claim in rec["claims"]}
    found = [row for row in rec["benchmarks"] if (row["verdict"] == "PASS") == passed]
    if not passed:
        lost = [row for row in found if row["verdict"] != "SKIP"]
        skipped = [row for row in found if row["verdict"] == "SKIP"]
        return HTML(_lost_rows(rec, lost, verdicts) + folded(f"{len(skipped)} rows that do not apply here (SKIP)", _lost_rows(rec, skipped, verdicts)))
    families = list(dict.fromkeys(row["family"] for row in found))
    return HTML("".join(folded(f"{family}: {len(mine)} rows", _passed_rows(rec, mine, verdicts), opened=family == "exit")
                        for family in families if (mine := [row for row in found if row["family"] == family])))


def _lost_rows(rec: Record, found: list[dict], verdicts: Mapping[str, str]) -> str:
    heads = [cell(text, "", "th") for text in ("row", "verdict", "reason", "rests on", "run it")]
    order = sorted(found, key=lambda row: -VERDICTS.index(row["verdict"]))
    return table([heads], [Line([
        cell(escape(row["name"]), "name"), cell(verdict(row["verdict"])), cell(escape(row["reason"] or ""), "reason"),
        cell(_claims_of(row, verdicts), "name"), cell(_alone(rec, row))], anchor("row", row["name"])) for row in order],
        name="rows-without-a-number").data


def _passed_rows(rec: Record, found: list[dict], verdicts: Mapping[str, str]) -> str:
    unit = rec["target"]["unit"]
    heads = [cell(text, kind, "th") for text, kind in (
        ("row", "sticky"), (f"p50 [p90], {unit}", "number"), ("95 % interval", "number"), ("min", "number"), ("p99", "number"), ("max", "number"),
        ("MAD", "number"), ("exit", "number group"), ("handler", "number"), ("between", "number"), ("entry", "number"), ("n:2n slope", "number group"),
        ("samples", "number"), ("dropped", "number"), ("exits counted", ""), ("flags", ""), ("rests on", ""), ("run it", ""))]
    body = []
    for row in found:
        summary, parts, exits, interval = row["summary"], row["parts"], row["exits"], row["p50_interval"]
        flags = "; ".join([*(["an exit to the hypervisor underneath"] if row["hypervisor_exit"] else []), *row["flags"], *filter(None, [row["reason"]])])
        body.append(Line([
            cell(escape(row["name"]), "name sticky"), cell(cost(rec, row), "number"),
            cell(f"{number(interval[0])}–{number(interval[1])}" if interval else "", "number"),
            *(cell(number(summary[key]), "number") for key in ("min", "p99", "max", "mad")),
            *(cell("" if parts.get(part) is None else number(parts[part]), "number group" if part == "exit" else "number")
              for part in ("exit", "handler", "between", "entry")),
            cell("" if row["slope"] is None else number(row["slope"]), "number group"), cell(str(len(row["samples"])), "number"),
            cell(str(row["disturbed"] or ""), "number"),
            cell(escape(f"{exits['counted']} of {exits['expected']} {exits['reason'] or ''}") if exits else "", "name"),
            cell(escape(flags), "flags"), cell(_claims_of(row, verdicts), "name"), cell(_alone(rec, row))],
            anchor("row", row["name"])))
    return table([heads], body, name=f"rows-{found[0]['family']}" if found[0]["family"].isalnum() else "rows").data


def claims(run: Run) -> HTML:
    """Every claim: what did not hold first, what does not apply and what holds folded."""
    rec = run.records[0]
    groups = {"": [], "known departures of this emulator": [], "claims that do not apply here (SKIP)": [], "claims that hold": []}
    for claim in rec["claims"]:
        word = claim["verdict"]
        groups["claims that hold" if word == "PASS" else "claims that do not apply here (SKIP)" if word == "SKIP" else
               "" if tables.news(run, rec, claim) else "known departures of this emulator"].append(claim)
    used = Counter(name for row in rec["benchmarks"] for name in row["claims"])
    news = _claims(run, rec, groups.pop(""), used)
    return HTML(news + "".join(folded(f"{len(found)} {words}", _claims(run, rec, found, used)) for words, found in groups.items() if found))


def _claims(run: Run, rec: Record, found: list[dict], used: Mapping[str, int]) -> str:
    heads = [cell(text, "", "th") for text in ("claim", "verdict", "manual section", "what happened", "known departure", "rows on it", "run it")]
    body = []
    for claim in found:
        known = run.departure(rec, claim["name"]) if claim["verdict"] in ("FAIL", "MISS") else None
        body.append(Line([
            cell(escape(claim["name"]), "name"), cell(verdict(claim["verdict"], known is not None)), cell(basis.section(claim["section"])),
            cell(escape(claim["detail"] or ""), "reason" if claim["detail"] else ""), cell(escape(known["instead"]) if known else "", "reason" if known else ""),
            cell(str(used[claim["name"]] or ""), "number"), cell(basis.alone(basis.claim_command(rec, claim)))], anchor("claim", claim["name"])))
    return table([heads], body, name="claims").data


def _pairs(found: Mapping[str, object], name: str) -> str:
    """A table of what a record says in so many words."""
    def words(value: object) -> str:
        said = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        return escape(said) if len(said) <= MOST_WORDS else folded(said[:MOST_WORDS - 20] + " …", escape(said))
    body = [[cell(escape(key), "name"), cell(words(value), "reason")] for key, value in found.items() if value not in (None, "", [], {})]
    return table([[cell(name, "", "th"), cell("value", "", "th")]], body, name=name).data


def doctor(run: Run) -> HTML:
    """What the doctor said before anything was measured, what stands against the numbers first."""
    findings = (run.records[0].get("doctor") or {}).get("findings", [])
    heads = [cell(text, "", "th") for text in ("finding", "state", "what", "what mends it")]

    def lines(wanted: bool) -> str:
        return table([heads], [[cell(escape(one["name"]), "name"), cell(escape(one["state"]), f"word-{'good' if one['state'] == 'OK' else 'bad'}"),
                                cell(escape(one["text"]), "reason"), cell(escape(one["mend"] or ""), "reason")]
                               for one in findings if (one["state"] == "OK") == wanted], name="doctor").data
    good = sum(one["state"] == "OK" for one in findings)
    return HTML(lines(False) + folded(f"{good} findings are in order", lines(True) if good else ""))


def provenance(run: Run) -> HTML:
    """Where the record comes from: launch, target, environment; CPUID and capabilities folded."""
    rec = run.records[0]
    machine = dict(rec["machine"] or {})
    cpuid, virtualization = machine.pop("cpuid", None) or [], dict(machine.pop("virtualization", None) or {})
    capabilities = virtualization.pop("capabilities", None) or []
    launch = {"run_id": identity.key(rec), "started": rec["started"]} | rec["target"]
    step = {} if rec["target"]["emulated"] else {"TSC step": f"{clock.step(rec):g} cycles"}
    states = rec["environment"].get("mitigations") or {}
    leaves = [{**{k: f"{leaf[k]:#x}" for k in ("leaf", "subleaf")}, **{k: f"{leaf[k]:08x}" for k in ("eax", "ebx", "ecx", "edx")}} for leaf in cpuid]
    msrs = [{"msr": f"{one['msr']:#x}", "value": "#GP" if one["value"] is None else f"{one['value']:#018x}"} for one in capabilities]
    return HTML(_pairs(launch, "launch") + _pairs(environment.words(rec) | environment.others(rec), "environment") + _pairs(machine | virtualization | step, "machine")
                + folded(f"mitigations: what the kernel says of {len(states)} faults", _pairs(states, "mitigations") if states else "")
                + _pairs(between(rec), "disturbances")
                + folded(f"CPUID: {len(leaves)} leaves", _raw(leaves, "cpuid")) + folded(f"{len(msrs)} capability MSRs", _raw(msrs, "capabilities")))


def between(rec: Record) -> dict[str, object]:
    """What came between while the rows were measured; of what could not be read, why."""
    found = rec.get("disturbances") or {"reason": None}  # records of before lack it
    if "counters" not in found:
        return {"none": found["reason"]}
    lacking = {name: f"not read: {one['reason']}" for name, one in found["counters"].items() if one["reason"]}
    told = {name: value for name, value in found["between"].items() if value not in (None, [])}
    return {"CPU": found["cpu"]} | told | lacking


def _raw(lines: list[dict[str, str]], name: str) -> str:
    return table([[cell(key, "", "th") for key in lines[0]]], [[cell(escape(value), "name") for value in line.values()] for line in lines],
                 name=name).data if lines else ""
