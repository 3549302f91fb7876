# SPDX-License-Identifier: MIT
"""What tells one record from another: CPU, instance, launch, revision and date, and never the target's name alone.

`key` is what tables and figures are keyed by; `title` is what a reader sees. The titles of records that are shown together
are made together (`tell_apart`): a target's name where no other record has it, and otherwise the facts that differ too.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

Record = dict[str, Any]
TITLE = "title"  # of a record in memory only: no file has it
SEPARATOR = " · "


class SameRecordError(Exception):
    """Two records that cannot be told apart; one line."""


class Nature(Enum):
    """What a record's numbers are of."""

    EMULATED = "emulated"
    VIRTUAL = "virtual"  # hardware, with a hypervisor underneath
    METAL = "metal"
    UNTOLD = "untold"  # hardware, and it never said hello


def nature(rec: Record) -> Nature:
    if rec["target"]["emulated"]:
        return Nature.EMULATED
    if not rec["machine"]:
        return Nature.UNTOLD
    return Nature.VIRTUAL if rec["machine"]["hypervisor"] else Nature.METAL


def counts_instructions(target: dict[str, Any]) -> bool:
    """Whether a tick of this target is an instruction; on other emulators it is the emulator's own time."""
    return target.get("counts_instructions", target["emulated"])


def key(rec: Record) -> str:
    """Names the launch: two records of one key are one."""
    return rec["run_id"]


def cpu(rec: Record) -> str:
    """The CPU in refhv's own words, or that it never said which."""
    return rec["machine"]["name"] if rec["machine"] else "never said hello"


def machine_key(rec: Record) -> str:
    """Hash of the machine's stable facts; empty where it never said hello."""
    return rec["machine"]["machine_key"] if rec["machine"] else ""


def instance(rec: Record) -> str:
    """What the machine is an instance of, else the hypervisor underneath, else nothing."""
    told = rec["environment"].get("instance") or (rec["machine"] or {}).get("hypervisor")
    return str(told or "")


def revision(rec: Record) -> str:
    """Of refhv's sources; empty where the record does not tell."""
    return rec["environment"].get("revision") or ""


def date(rec: Record) -> str:
    """When it was launched, for a reader: 2026-01-02 03:04:05 UTC."""
    return rec["started"].replace("T", " ").replace("Z", " UTC")


def emulator(rec: Record) -> str:
    """Its name and version; empty where the target is none."""
    told = rec["target"].get("emulator")
    return f"{told['name']} {told.get('version') or ''}".strip() if told else ""


# In the order in which a reader asks for them. The machine's key and the launch are for machines and moments alike in all else.
FACTS: tuple[Callable[[Record], str], ...] = (
    cpu, instance, emulator, revision, date, lambda rec: f"machine {machine_key(rec)}", lambda rec: f"launch {key(rec)}")


def title(rec: Record) -> str:
    """What a table or a figure calls this record."""
    return rec.get(TITLE) or rec["target"]["name"]


def full_title(rec: Record) -> str:
    """CPU, instance or emulator, and date: the title where machines are compared."""
    return SEPARATOR.join(filter(None, (cpu(rec), emulator(rec) if rec["target"]["emulated"] else instance(rec), date(rec))))


def _titles(alike: Sequence[Record]) -> list[str]:
    """Titles of records of one target name: facts that differ among them, until all differ."""
    found = [[rec["target"]["name"]] for rec in alike]
    for fact in FACTS:
        if len({tuple(words) for words in found}) == len(alike):
            break
        values = [fact(rec) for rec in alike]
        if len(set(values)) > 1:
            found = [words + [value] if value else words for words, value in zip(found, values)]
    return [SEPARATOR.join(words) for words in found]


def content(rec: Record) -> str:
    """A hash of all that a record says, its launch's name aside."""
    said = {name: value for name, value in rec.items() if name not in ("run_id", TITLE)}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _where(rec: Record, place: Path | None) -> str:
    return str(place) if place else key(rec)


def refuse_same(records: Sequence[Record], places: Sequence[Path] = ()) -> None:
    """Raises SameRecordError where two records are one launch, or say the same to the last sample where that cannot come twice:
    two launches of an emulator that counts instructions do say the same."""
    places = list(places) or [None] * len(records)
    launches: dict[str, Path | None] = {}
    contents: dict[str, tuple[Record, Path | None]] = {}
    moments = Counter((rec["started"], rec["target"]["name"]) for rec in records)
    for rec, place in zip(records, places):
        if key(rec) in launches:
            first = launches[key(rec)]
            both = f"{first} and {place} are" if place else "two records are"
            raise SameRecordError(f"{both} one launch, {key(rec)}: give it once")
        launches[key(rec)] = place
        if moments[rec["started"], rec["target"]["name"]] == 1 or counts_instructions(rec["target"]):
            continue  # of another second: not the same, and hashing samples takes time
        other, first = contents.setdefault(content(rec), (rec, place))
        if other is not rec:
            raise SameRecordError(f"{_where(other, first)} and {_where(rec, place)} have the same content under two names of a "
                                  "launch: one is a copy, give one of them")


def tell_apart(records: Sequence[Record]) -> list[Record]:
    """The records, each with its title; those that have one keep it. Raises SameRecordError."""
    refuse_same(records)
    if all(TITLE in rec for rec in records):
        return list(records)
    titles: dict[int, str] = {}
    for name in dict.fromkeys(rec["target"]["name"] for rec in records):
        alike = [rec for rec in records if rec["target"]["name"] == name]
        titles |= {id(rec): words for rec, words in zip(alike, _titles(alike))}
    return [rec | {TITLE: titles[id(rec)]} for rec in records]
