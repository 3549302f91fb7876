# SPDX-License-Identifier: MIT
"""Exact facts: verdicts of claims and rows, exit counts, ticks where they are instructions. Any change is one."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from refhv.gate.model import Finding, Word
from refhv.record import Record

Rows = dict[str, list[dict[str, Any]]]  # by name, one of each launch that has it


def by_name(records: Sequence[Record], kind: str) -> Rows:
    """Claims or benchmarks of all launches, by name, in their order."""
    found: Rows = {}
    for rec in records:
        for item in rec[kind]:
            found.setdefault(item["name"], []).append(item)
    return found


def _words(values: set[Any]) -> str:
    return " or ".join(sorted(map(str, values)))


def claims(target: str, base: Sequence[Record], candidate: Sequence[Record]) -> Iterator[Finding]:
    """A claim that passed and does not, or failed to answer, is conformance lost; one that passes now is better."""
    before, after = by_name(base, "claims"), by_name(candidate, "claims")
    for name, launches in before.items():
        was = {claim["verdict"] for claim in launches}
        now = {claim["verdict"] for claim in after.get(name, [])}
        detail = next((claim["detail"] for claim in after.get(name, []) if claim["verdict"] not in was and claim["detail"]), None)
        text = f"was {_words(was)}, is {_words(now) or 'not there'}" + (f": {detail}" if detail else "")
        if not now:
            yield Finding(target, "claim", name, Word.LOST, text)
        elif now <= was:
            yield Finding(target, "claim", name, Word.SAME)
        elif now == {"PASS"}:
            yield Finding(target, "claim", name, Word.BETTER, text)
        elif now & {"ERROR", "MISS"} - was:
            yield Finding(target, "claim", name, Word.LOST, text)
        else:
            yield Finding(target, "claim", name, Word.BROKEN if "FAIL" in now - was else Word.CHANGED, text)
    for name in after.keys() - before.keys():
        now = {claim["verdict"] for claim in after[name]}
        yield Finding(target, "claim", name, Word.NEW, f"is {_words(now)}, and the base does not have it")


def _exit_facts(row: dict[str, Any]) -> tuple | None:
    """Exits by reason an operation, as counted; None where nobody counted."""
    counted = row["exits"] and (row["exits"]["reason"], (row["exits"]["counted"] or 0) / row["n"])
    rates = row.get("exits_per_operation")
    return (counted or None, rates and tuple(sorted(rates["by_reason"].items()))) if counted or rates else None


def _exit_words(facts: tuple | None) -> str:
    if facts is None:
        return "not counted"
    counted, rates = facts
    words = [f"{counted[1]:g} {counted[0] or 'exits'} an operation"] if counted else []
    words += [f"{rate:g} {reason}" for reason, rate in rates or ()]
    return ", ".join(words) or "none"


def _tick_facts(row: dict[str, Any]) -> tuple:
    return (row["summary"]["p50"], *(row["parts"][part] for part in ("exit", "handler", "entry")))


def _new_among(facts: Callable[[dict], Any], before: list[dict], after: list[dict]) -> tuple[Any, Any] | None:
    """A fact of the base, and one that only the candidate has; None where there is none."""
    known = {facts(row) for row in before}
    fresh = [fact for fact in map(facts, after) if fact not in known]
    return (facts(before[0]), fresh[0]) if fresh else None


def rows(target: str, before: Rows, after: Rows) -> Iterator[Finding]:
    """Verdicts of rows, and the exit counts of those that have a number on both sides."""
    for name, launches in before.items():
        was = {row["verdict"] for row in launches}
        there = after.get(name, [])
        now = {row["verdict"] for row in there}
        reason = next((row["reason"] for row in there if row["verdict"] not in was and row["reason"]), None)
        text = f"was {_words(was)}, is {_words(now) or 'not there'}" + (f": {reason}" if reason else "")
        if not now or now & {"ERROR", "MISS"} - was:
            yield Finding(target, "row", name, Word.LOST, text)
        elif not now <= was and now != {"PASS"}:
            # INVALID in some launches of many is a machine that was disturbed: its other launches are judged.
            sometimes = "PASS" in now and "INVALID" in now - was
            yield Finding(target, "row", name, Word.UNDECIDED if sometimes else
                          Word.BROKEN if "INVALID" in now - was else Word.CHANGED, text)
        elif not now <= was:
            yield Finding(target, "row", name, Word.BETTER, text)
        change = _new_among(_exit_facts, passed(launches), passed(there)) if passed(launches) and passed(there) else None
        if change:
            yield Finding(target, "exits", name, Word.CHANGED, f"were {_exit_words(change[0])}, are {_exit_words(change[1])}")
    for name in after.keys() - before.keys():
        yield Finding(target, "row", name, Word.NEW, "the base does not have it")


def passed(launches: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in launches if row["verdict"] == "PASS"]


def exact_ticks(target: str, name: str, before: list[dict], after: list[dict]) -> Finding | None:
    """A row's ticks as a fact; None where the base's launches do not agree among themselves, so that it is none."""
    if len({_tick_facts(row) for row in before}) > 1:
        return None
    was, now = before[0]["summary"]["p50"], after[0]["summary"]["p50"]
    change = _new_among(_tick_facts, before, after)
    if change is None:
        return Finding(target, "ticks", name, Word.SAME, base=was, candidate=now, unit="ticks", change=0.0)
    moved = [f"{word} {a:g} to {b:g}" for word, a, b in zip(("p50", "exit", "handler", "entry"), *change)
             if a != b and None not in (a, b)]
    now = change[1][0]
    fewer = "; if that is meant, make it the base" if now < was else ""
    return Finding(target, "ticks", name, Word.CHANGED, f"{', '.join(moved)} ticks{fewer}", was, now, "ticks",
                   now / was - 1 if was else None)
