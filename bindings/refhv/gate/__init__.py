# SPDX-License-Identifier: MIT
"""The gate: did a change make it worse? METHOD.md's rule over two sets of records; docs/gate.md says it in full."""

from collections.abc import Sequence
from dataclasses import replace

from refhv import clock, identity
from refhv.gate import facts, times
from refhv.gate.model import Code, Finding, Rule, Side, Verdict, Word
from refhv.record import Record, counts_instructions

__all__ = ["Code", "Finding", "Rule", "Side", "UnlikeError", "Verdict", "Word", "compare"]


class UnlikeError(Exception):
    """Two sides that must not be compared; one line."""


def _side(records: Sequence[Record]) -> Side:
    def each(fact) -> list[str]:
        return list(dict.fromkeys(filter(None, map(fact, records))))
    return Side(len(records), each(identity.machine_key), each(identity.cpu), each(identity.revision))


def _pairs(base: Sequence[Record], candidate: Sequence[Record]) -> dict[str, tuple[list[Record], list[Record]]]:
    """Records by target. Where each side has one target only, those are compared whatever their names."""
    def grouped(records: Sequence[Record]) -> dict[str, list[Record]]:
        found: dict[str, list[Record]] = {}
        for rec in records:
            found.setdefault(rec["target"]["name"], []).append(rec)
        return found
    before, after = grouped(base), grouped(candidate)
    if len(before) == len(after) == 1:
        (one, first), (other, second) = *before.items(), *after.items()
        return {one if one == other else f"{one} against {other}": (first, second)}
    return {name: (before.get(name, []), after.get(name, [])) for name in dict.fromkeys((*before, *after))}


def _expect_alike(target: str, base: Sequence[Record], candidate: Sequence[Record], unlike: bool) -> None:
    units = {rec["target"]["unit"] for rec in (*base, *candidate)}
    if len(units) > 1:
        raise UnlikeError(f"{target}: {' and '.join(sorted(units))} are never compared")
    keys = [set(map(identity.machine_key, side)) - {""} for side in (base, candidate)]
    if len(keys[0] | keys[1]) > 1 and not unlike:
        named = ["; ".join(f"{key} ({next(identity.cpu(r) for r in side if identity.machine_key(r) == key)})" for key in sorted(one))
                 for one, side in zip(keys, (base, candidate))]
        raise UnlikeError(f"{target}: unlike machines: the base is of {named[0] or 'none'}, the candidate of {named[1] or 'none'}; "
                          "--unlike compares them all the same")


def compare(base: Sequence[Record], candidate: Sequence[Record], rule: Rule = Rule()) -> Verdict:
    """Holds `candidate` to `base`. Raises UnlikeError, identity.SameRecordError."""
    identity.refuse_same([*base, *candidate])
    verdict = Verdict(rule)
    for target, (before, after) in _pairs(base, candidate).items():
        verdict.sides[target] = _side(before), _side(after)
        if not before or not after:
            word, text = (Word.NEW, "the base has no record of it") if after else (Word.LOST, "the candidate has no record of it")
            verdict.findings.append(Finding(target, "records", target, word, text))
            continue
        _expect_alike(target, before, after, rule.unlike)
        verdict.findings += _compare_target(target, before, after, rule)
    return verdict


def _compare_target(target: str, base: list[Record], candidate: list[Record], rule: Rule) -> list[Finding]:
    before, after = facts.by_name(base, "benchmarks"), facts.by_name(candidate, "benchmarks")
    found = [*facts.claims(target, base, candidate), *facts.rows(target, before, after)]
    exact = all(counts_instructions(rec["target"]) for rec in (*base, *candidate))
    step = 0.0 if exact else max(map(clock.step, (*base, *candidate)))
    measured = []
    for name, launches in before.items():
        was, now = facts.passed(launches), facts.passed(after.get(name, []))
        if not was or not now:
            continue
        told = facts.exact_ticks(target, name, was, now) if exact else None
        if told is not None:
            found.append(told)
        elif (one := times.of_rows(name, was, now, step)) is not None:
            measured.append(one)
    return found + [_with_ns(finding, base[0]) for finding in times.judge(target, measured, rule)]


def _with_ns(finding: Finding, rec: Record) -> Finding:
    return replace(finding, base_ns=clock.nanoseconds(rec, finding.base), candidate_ns=clock.nanoseconds(rec, finding.candidate))
