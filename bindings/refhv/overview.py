# SPDX-License-Identifier: MIT
"""Tables of index.html: what one exit costs on each machine, of what kind its numbers are, and what does not hold."""

from collections.abc import Mapping

from refhv import clock, identity
from refhv.identity import Nature
from refhv.page import HTML, Valued, badge, escape, link, verdict
from refhv.progress import number
from refhv.record import VERDICTS, Record
from refhv.table import cell, table
from refhv.tables import Run, news

EXIT = "exit.cpuid"  # no control keeps it from exiting: every hypervisor answers it
PARTS = ("exit", "handler", "between", "entry")


def is_exit(row: dict) -> bool:
    """Whether a row with a number is of exits, each counted or known: on target `self`, what the kernel does is none."""
    if row["verdict"] != "PASS" or row["family"] == "control" or row["mode"] == "native":
        return False
    if row["mode"] == "user":
        return row["hypervisor_exit"] is True
    return bool(row["exits"] and row["exits"]["counted"])


def exits(rec: Record) -> list[dict]:
    return [row for row in rec["benchmarks"] if is_exit(row)]


def one_exit(rec: Record) -> dict | None:
    """The row that stands for an exit on this machine: CPUID's, answered by the hypervisor that was measured."""
    found = {row["mode"]: row for row in exits(rec) if row["name"].startswith(f"{EXIT}/")}
    return next((found[mode] for mode in ("nested", "kvm", "user", "shadow", "vtlb") if mode in found), None)


def against_kvm(run: Run, rec: Record) -> float | None:
    """How many times as long as under KVM an exit of this record takes; None without a record of target kvm of the same machine."""
    mine = one_exit(rec)
    for other in run.records:
        row = one_exit(other)
        if (other["target"]["kind"] == "kvm" != rec["target"]["kind"] and mine and row and row["summary"]["p50"] > 0
                and identity.machine_key(other) == identity.machine_key(rec) and other["target"]["unit"] == rec["target"]["unit"]):
            return mine["summary"]["p50"] / row["summary"]["p50"]
    return None


def shares(row: dict) -> dict[str, float]:
    """What of a split round trip each part is, 0 to 1; empty where it was not split."""
    parts = {part: row["parts"].get(part) or 0.0 for part in PARTS}
    whole = sum(parts.values())
    return {part: value / whole for part, value in parts.items() if value} if None not in row["parts"].values() and whole > 0 else {}


def _split(row: dict) -> str:
    found = shares(row)
    if not found:
        return ""
    surplus = max(0.0, 1 - row["summary"]["p50"] / sum(row["parts"][part] for part in found))
    bar = f'<span class="stamps" style="width:{surplus:.2%}"></span>' + "".join(f'<span class="part-{part}" style="width:{share:.2%}"></span>' for part, share in found.items())
    words = ", ".join(f"{part} {number(row['parts'][part])}" for part in found)
    more = sum(row["parts"][part] for part in found) - row["summary"]["p50"]
    words += f", of which stamps {number(more)}" if more > 0 else ""
    out = Valued(f'<span class="split" aria-hidden="true">{bar}</span><small>{escape(words)}</small>')
    out.values = {part: row["parts"][part] for part in found}
    return out


def _range(rec: Record) -> str:
    """The exits that cost least and most."""
    found = sorted((row for row in exits(rec) if row["family"] == "exit"), key=lambda row: row["summary"]["p50"])
    if len(found) < 2:
        return ""
    words = [f"{number(row['summary']['p50'])} <small>{escape(row['name'].partition('.')[2])}</small>" for row in (found[0], found[-1])]
    return f"{words[0]}<br>{words[1]}"


def _unit(rec: Record) -> str:
    return escape(rec["target"]["unit"])


def costs(run: Run, pages: Mapping[str, str]) -> HTML:
    """A row per machine: what one exit costs, in its unit and in ns, against KVM, where the time goes. Hardware first; a table for what
    is emulated. `pages`: by record, the page about it."""
    groups = (("hardware", [rec for rec in run.records if not rec["target"]["emulated"]]),
              ("EMULATED: ticks, neither cycles nor time", [rec for rec in run.records if rec["target"]["emulated"]]))
    return HTML("".join(_costs(run, words, records, pages) for words, records in groups if records))


def _costs(run: Run, words: str, records: list[Record], pages: Mapping[str, str]) -> str:
    heads = [cell(text, kind, "th") for text, kind in (
        (f"machine, {escape(words)}", "sticky"), ("one exit: CPUID, p50", "number"), ("against KVM", "number"), ("where it goes", ""),
        ("cheapest and dearest exit", "number"), ("without virtualization", "number"), ("rows of exits", "number"))]
    body = []
    for rec in records:
        row, ratio = one_exit(rec), against_kvm(run, rec)
        native = next((one for one in rec["benchmarks"] if one["name"] == f"{EXIT}/native" and one["verdict"] == "PASS"), None)
        title = link(pages[identity.key(rec)], identity.title(rec)) if identity.key(rec) in pages else escape(identity.title(rec))
        body.append([
            cell(f"{title} {badge(rec)}<br><small>{escape(identity.cpu(rec))}</small>", "sticky"),
            cell(_cost(rec, row) if row else _why_none(rec), "number" if row else "reason"),
            cell("" if ratio is None else f"{ratio:.2f}×", "number"), cell(_split(row) if row else ""), cell(_range(rec), "number"),
            cell(_cost(rec, native) if native and row else "", "number"), cell(str(len(exits(rec))), "number")])
    return table([heads], body, "first", "exits").data


def _cost(rec: Record, row: dict) -> str:
    """With the unit, since it is a reader's first number."""
    ns, value = clock.nanoseconds(rec, row["summary"]["p50"]), row["summary"]["p50"]
    out = Valued(f"<strong>{number(value)}</strong> {_unit(rec)}"
                 + (f"<br><small>{number(ns)} ns</small>" if ns is not None else "") + f"<br><small>{escape(row['mode'])}</small>")
    out.values = {"p50": value} | ({} if ns is None else {"p50 ns": ns})
    return out


def _why_none(rec: Record) -> str:
    """What stands in place of a number."""
    rows = [row for row in rec["benchmarks"] if row["name"].startswith(f"{EXIT}/") and row["mode"] != "native"]
    if not rows:
        return f"<small>{EXIT} was not run</small>"
    lost = next((row for row in rows if row["verdict"] != "PASS"), None)
    if lost is not None:
        return f"{verdict(lost['verdict'])} <small>{escape(lost['reason'] or '')}</small>"
    return "<small>CPUID is no exit here: no hypervisor underneath answers it</small>"


def tally(run: Run) -> HTML:
    """The first sentence: how many machines of each kind, and how many exits were measured on hardware at all."""
    by_nature = {nature: [rec for rec in run.records if identity.nature(rec) == nature] for nature in Nature}

    def machines(nature: Nature, words: str) -> str:
        found = len(by_nature[nature])
        return f"{found} {words}" if found else ""
    kinds = ", ".join(filter(None, (machines(Nature.METAL, "on metal"), machines(Nature.VIRTUAL, "in a virtual machine"),
                                    machines(Nature.UNTOLD, "that did not say what is underneath"), machines(Nature.EMULATED, "emulated"))))
    rows = [(rec, row) for rec in run.records if not rec["target"]["emulated"] for row in exits(rec)]
    samples = sum(len(row["samples"]) for _, row in rows)
    metal = sum(identity.nature(rec) == Nature.METAL for rec, _ in rows)
    hardware = (f"<strong>{len(rows)} row{'s' * (len(rows) != 1)} of hardware exits</strong>, {samples:,} samples: {metal} on metal, {len(rows) - metal} to or under "
                "a hypervisor underneath" if rows else "<strong>No exit was measured on hardware</strong>")
    emulated = sum(len(exits(rec)) for rec in by_nature[Nature.EMULATED])
    more = f"; {emulated} rows of exits are an emulator's" if emulated else ""
    count = len(run.records)
    return HTML(f'<p class="lead">{count} record{"s" * (count != 1)}{f": {kinds}" if kinds else ""}. {hardware}{more}.</p>')


def against(run: Run, pages: Mapping[str, str]) -> HTML:
    """What a reader must know before a number: targets that gave no record, claims that failed and are not known to, rows without a
    number that are no SKIP."""
    lines = [f"<li>{escape(problem)}</li>" for problem in run.problems]
    for rec in run.records:
        failed = [claim for claim in rec["claims"] if news(run, rec, claim)]
        lost = [row for row in rec["benchmarks"] if row["verdict"] not in ("PASS", "SKIP")]
        page = pages.get(identity.key(rec))
        for what, place, found in (("claim{} did not hold, and not as a known departure", "claims", failed), ("row{} without a number", "without-a-number", lost)):
            if found:
                words = ", ".join(f"{sum(one['verdict'] == v for one in found)} {v}" for v in VERDICTS if any(one["verdict"] == v for one in found))
                named = ", ".join(escape(one["name"]) for one in found[:3]) + (", …" if len(found) > 3 else "")
                more = f' {link(f"{page}#{place}", "all")}' if page else ""
                plural = "s" * (len(found) != 1)
                lines.append(f"<li>{escape(identity.title(rec))} {badge(rec)}: {len(found)} {what.format(plural)} ({words}): {named}.{more}</li>")
    return HTML(f'<div class="notice problem"><strong>What does not hold</strong><ul>{"".join(lines)}</ul></div>' if lines else "")


def records(run: Run, pages: Mapping[str, str]) -> HTML:
    """A row per record: of what kind, when, rows and claims by verdict."""
    heads = [cell(text, kind, "th") for text, kind in (
        ("record", "sticky"), ("kind", ""), ("CPU", ""), ("underneath", ""), ("unit", ""), ("rows", ""), ("claims", ""), ("launched", ""), ("refhv", ""))]
    body = []
    for rec in run.records:
        def counted(kind: str) -> str:
            words = [one["verdict"] for one in rec[kind]]
            return ", ".join(f"{words.count(v)} {v}" for v in VERDICTS if v in words)
        title = link(pages[identity.key(rec)], identity.title(rec)) if identity.key(rec) in pages else escape(identity.title(rec))
        under = identity.emulator(rec) or identity.instance(rec)
        body.append([cell(title, "sticky"), cell(badge(rec)), cell(escape(identity.cpu(rec))), cell(escape(under)), cell(_unit(rec)),
                     cell(counted("benchmarks")), cell(counted("claims")), cell(escape(identity.date(rec))), cell(escape(identity.revision(rec)))])
    return table([heads], body)


def ways(pages: Mapping[str, str], run: Run) -> HTML:
    """Says what to do where there are too many records for a page each."""
    if pages or not run.records:
        return HTML("")
    return HTML(f"<p>{len(run.records)} records: too many for a page each. <code>refhv report RECORD</code> makes that of one.</p>")
