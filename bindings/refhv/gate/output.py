# SPDX-License-Identifier: MIT
"""What a gate found, as a terminal's table, Markdown for a pull request, JUnit XML and a document for JSON."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from refhv import junit
from refhv.gate.model import Code, Finding, Verdict, Word
from refhv.progress import number

STYLES = {Word.WORSE: "bold red", Word.CHANGED: "bold red", Word.BROKEN: "bold red", Word.LOST: "bold magenta",
          Word.UNDECIDED: "yellow", Word.BETTER: "green", Word.NEW: "cyan", Word.SAME: "dim"}
WORDS = {Code.PASS: "pass", Code.REGRESSION: "REGRESSION", Code.CONFORMANCE: "CONFORMANCE FAILURE", Code.HARNESS: "HARNESS ERROR",
         Code.INCONCLUSIVE: "INCONCLUSIVE"}
SHOWN = (Word.BROKEN, Word.CHANGED, Word.WORSE, Word.LOST, Word.UNDECIDED, Word.BETTER, Word.NEW)  # what is not the same, worst first


def percent(value: float | None, sign: bool = True) -> str:
    if value is None:
        return ""
    return f"{value:{'+' if sign else ''}.1%}"


def _time(value: float | None, ns: float | None) -> str:
    return "" if value is None else number(value) + (f" ({number(ns)} ns)" if ns is not None else "")


def headline(verdict: Verdict) -> str:
    """One line: the word, and how many of what."""
    counts = [f"{len(found)} {word.text}" for word in (*SHOWN, Word.SAME) if (found := verdict.of(word))]
    return f"{WORDS[verdict.code]}: {', '.join(counts) or 'nothing to compare'}"


def side_lines(verdict: Verdict) -> Iterator[str]:
    """By target: the launches, machine keys and revisions of both sides."""
    for target, sides in verdict.sides.items():
        for name, side in zip(("base", "candidate"), sides):
            yield (f"{target}, {name}: {side.launches} launch{'es' * (side.launches != 1)} on {', '.join(side.titles) or 'no machine'} "
                   f"[machine {', '.join(side.machine_keys) or 'unknown'}], refhv {', '.join(side.revisions) or 'of no told revision'}")


def power_line(verdict: Verdict) -> str:
    """The smallest slowdowns that the times could have shown."""
    power = verdict.power()
    if not power["times"]:
        return "Every number is an exact fact: any change would have shown."
    words = [f"{power['times']} times"]
    if power["median"] is not None:
        words.append(f"the smallest slowdown that this data could have shown is {percent(power['median'], False)} at the median of them "
                     f"and {percent(power['largest'], False)} at most")
    if power["blind"]:
        words.append(f"{power['blind']} could have shown none")
    return "; ".join(words) + "."


def rule_line(verdict: Verdict) -> str:
    rule = verdict.rule
    return (f"Claims, exits and ticks: any change. Times: medians of launches, one-sided Mann-Whitney, Benjamini-Hochberg at {rule.level:.0%}, "
            f"and more than {rule.least:.0%} and the benchmark's own A/A floor; {rule.launches} launches a side at least.")


def shown(verdict: Verdict) -> list[Finding]:
    """What is not the same, the worst first."""
    return sorted(verdict.of(*SHOWN), key=lambda finding: SHOWN.index(finding.word))


def terminal(verdict: Verdict, console: Console) -> None:
    """What is not the same, as a table, and the lines around it."""
    def line(text: str, style: str = "") -> None:
        console.print(Text(text, style), soft_wrap=True)
    for text in side_lines(verdict):
        line(text, "dim")
    if verdict.rule.unlike:
        line("--unlike: machines may differ, and then these are no times of one machine", "yellow")
    table = Table(box=None, pad_edge=False)
    for head, justify in (("", "left"), ("what", "left"), ("base", "right"), ("candidate", "right"), ("change", "right"), ("p", "right"),
                          ("A/A", "right"), ("shows", "right"), ("", "left")):
        table.add_column(head, justify=justify, overflow="fold")
    for f in shown(verdict):
        cells = (f.word.text, f"{f.kind} {f.name}" + (f" on {f.target}" if len(verdict.sides) > 1 else ""), _time(f.base, f.base_ns),
                 _time(f.candidate, f.candidate_ns), percent(f.change), "" if f.p is None else f"{f.p:.2g}", percent(f.floor, False),
                 percent(f.shows, False), f.text)
        table.add_row(*(Text(cell, STYLES[f.word]) if i == 0 else Text(cell) for i, cell in enumerate(cells)))
    if table.row_count:
        console.print(table)
    line(rule_line(verdict), "dim")
    line(power_line(verdict), "dim")
    line(headline(verdict), "bold green" if verdict.code == Code.PASS else "bold")


def _plain(text: str) -> str:
    """Text that Markdown takes for text: no markup, no second line, no end of a cell."""
    escaped = "".join(f"\\{c}" if c in r"\`*_{}[]<>()#+!|~&@" else c for c in " ".join(text.split()))
    return escaped[:400]


def markdown(verdict: Verdict) -> str:
    """For a pull request: the headline, what is not the same, and how it was judged."""
    mark = {Code.PASS: "✅", Code.INCONCLUSIVE: "❔"}.get(verdict.code, "❌")
    out = [f"### {mark} refhv gate: {_plain(headline(verdict))}", ""]
    rows = shown(verdict)
    if rows:
        out += ["| | what | base | candidate | change | A/A floor | could show | |", "| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |"]
        out += [f"| {f.word.text} | {_plain(f'{f.kind} {f.name} on {f.target}')} | {_time(f.base, f.base_ns)} | "
                f"{_time(f.candidate, f.candidate_ns)} {f.unit} | {percent(f.change)} | {percent(f.floor, False)} | "
                f"{percent(f.shows, False)} | {_plain(f.text)} |" for f in rows[:100]]
        if len(rows) > 100:
            out.append(f"\n{len(rows) - 100} more are in the JSON.")
        out.append("")
    out += ["<details><summary>How this was judged</summary>", "", f"{_plain(rule_line(verdict))} {_plain(power_line(verdict))}", ""]
    out += [f"- {_plain(text)}" for text in side_lines(verdict)]
    return "\n".join([*out, "", "</details>", ""])


OUTCOMES = {Code.REGRESSION: "failure", Code.CONFORMANCE: "failure", Code.HARNESS: "error", Code.INCONCLUSIVE: "skipped"}


def as_junit(verdict: Verdict) -> str:
    """A suite a target, a case a finding: a regression is a failure, a harness error an error, undecided is skipped."""
    def case(f: Finding) -> junit.Case:
        outcome = OUTCOMES.get(f.word.code)
        return junit.Case(f"{f.target}.{f.kind}", f.name, outcome, f"{f.word.text}: {f.text}" if outcome else "")
    return junit.document("refhv gate", {target: [case(f) for f in verdict.findings if f.target == target] for target in verdict.sides})


def as_document(verdict: Verdict, left_out: Sequence[str] = ()) -> dict[str, Any]:
    """One object: code, word, rule, power, sides, findings (docs/gate.md)."""
    findings = [dataclasses.asdict(f) | {"word": f.word.text} for f in verdict.findings]
    sides = {target: dict(zip(("base", "candidate"), map(dataclasses.asdict, both))) for target, both in verdict.sides.items()}
    return {"kind": "refhv gate", "code": int(verdict.code), "word": WORDS[verdict.code], "rule": dataclasses.asdict(verdict.rule),
            "power": verdict.power(), "left_out": list(left_out), "sides": sides, "findings": findings}
