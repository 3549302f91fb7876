# SPDX-License-Identifier: MIT
"""Known departures: claims on which an emulator is known to differ from the manual (docs/adding.md has the rule).

conformance/departures.json is {"tried": {emulator: [versions]}, "departures": [entries]}. An entry counts on the targets of
its family, with the emulator and in the range of versions that it names. A listed claim must come out as listed; one that
passes has gone, and the entry's range must end before that version, unless the entry says "sometimes": true, of departures
that come and go with the emulator's own scheduling.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from refhv import paths, versions
from refhv.versions import Emulator

FAMILIES = ("bochs-intel", "bochs-amd", "qemu-amd")  # each of them also with two CPUs, as FAMILY-smp
LISTED = {*FAMILIES, *(f"{name}-smp" for name in FAMILIES)}  # a target of another kind has no known departures


@dataclass(frozen=True)
class Departure:
    emulator: str
    versions: str  # a range (refhv.versions)
    target: str  # a family of targets
    claim: str
    section: str
    instead: str
    verdict: str = "FAIL"
    sometimes: bool = False
    models: tuple[str, ...] = ()  # targets of the family, where not all of its CPU models depart


@dataclass(frozen=True)
class Claim:
    name: str
    verdict: str
    section: str | None
    detail: str | None


class DeparturesError(Exception):
    """The list itself is wrong; one line."""


def family(target: str) -> str:
    """The name under which departures are listed: the same emulator by the clock, or with another CPU, departs alike."""
    for name in FAMILIES:
        if target == f"{name}-smp":
            return target
        if target == name or target.startswith(f"{name}-"):
            return name
    return target


def _departure(where: str, entry: object) -> Departure:
    if not isinstance(entry, dict):
        raise DeparturesError(f"{where} is no object")
    try:
        departure = Departure(**entry | {"models": tuple(entry.get("models", ()))})
    except TypeError:
        raise DeparturesError(f"{where} must have emulator, versions, target, claim, section, instead "
                              "(and may have verdict, sometimes and models)") from None
    if departure.verdict not in ("FAIL", "MISS"):
        raise DeparturesError(f"{where}: verdict must be FAIL or MISS, not {departure.verdict}")
    if not isinstance(departure.sometimes, bool):
        raise DeparturesError(f"{where}: sometimes must be true or false")
    if not (departure.section and departure.instead):
        raise DeparturesError(f"{where}: section and instead must not be empty")
    if departure.target.removesuffix("-smp") not in FAMILIES or not departure.target.startswith(f"{departure.emulator}-"):
        raise DeparturesError(f"{where}: {departure.target} is no family of targets of {departure.emulator}")
    if any(family(model) != departure.target for model in departure.models):
        raise DeparturesError(f"{where}: models must be names of targets of {departure.target}")
    try:
        if not versions.overlap(departure.versions, departure.versions):
            raise ValueError(f"no version lies in {departure.versions!r}")
    except ValueError as error:
        raise DeparturesError(f"{where}: {error}") from None
    return departure


def _by_claim(entry: object) -> list[object]:
    """An entry may name several claims that one fault makes fail."""
    if isinstance(entry, dict) and isinstance(entry.get("claim"), list):
        return [entry | {"claim": name} for name in entry["claim"]]
    return [entry]


def _read(path: Path) -> dict:
    try:
        whole = json.loads(path.read_text())
    except FileNotFoundError:
        return {"tried": {}, "departures": []}
    except ValueError as error:
        raise DeparturesError(f"{path}: not JSON ({error})") from None
    if not isinstance(whole, dict) or set(whole) != {"tried", "departures"}:
        raise DeparturesError(f"{path}: must be an object of tried and departures")
    return whole


def load(path: Path = paths.DEPARTURES) -> list[Departure]:
    """Every entry, of all versions. Raises DeparturesError."""
    found = [_departure(f"{path}: entry {index}", one)
             for index, entry in enumerate(_read(path)["departures"]) for one in _by_claim(entry)]
    for index, one in enumerate(found):
        for other in found[:index]:
            apart = one.models and other.models and not set(one.models) & set(other.models)
            if (one.target, one.claim) == (other.target, other.claim) and not apart and versions.overlap(one.versions,
                                                                                                         other.versions):
                raise DeparturesError(f"{path}: {one.claim} on {one.target} is listed twice for the same version")
    return found


def load_tried(path: Path = paths.DEPARTURES) -> dict[str, list[str]]:
    """The versions that the list has been held against, by emulator. Raises DeparturesError."""
    return _read(path)["tried"]


def note(emulator: Emulator | None, tried: dict[str, list[str]]) -> str | None:
    """What to tell, once, of a version that the list has not been checked against; None where there is nothing to tell."""
    if emulator is None or (emulator.version and any(versions.within(emulator.version, one)
                                                     for one in tried.get(emulator.name, ()))):
        return None
    known = " and ".join(tried.get(emulator.name, ())) or "no version"
    if emulator.version is None:
        return f"{emulator}: judged by the departures of every version"
    return f"departures.json was held against {emulator.name} {known}, not {emulator.version}: judged by the ranges that hold it"


def applying(target: str, emulator: Emulator | None, departures: list[Departure]) -> list[Departure]:
    """Those that count on this target. Where no version is known, those of every version do."""
    def counts(departure: Departure) -> bool:
        if departure.target != family(target) or (departure.models and target not in departure.models):
            return False
        if emulator is None:
            return True
        return departure.emulator == emulator.name and (not emulator.version
                                                        or versions.within(emulator.version, departure.versions))
    return [departure for departure in departures if counts(departure)]


def is_known(target: str, claim: Claim, departures: list[Departure], emulator: Emulator | None = None) -> bool:
    return any((d.claim, d.verdict) == (claim.name, claim.verdict) for d in applying(target, emulator, departures))


def judge(target: str, claims: list[Claim], departures: list[Departure], complete: bool = True,
          emulator: Emulator | None = None) -> list[str]:
    """What is wrong with the claims of one target, one line each.

    `complete` says that every claim of the family ran, so that a listed claim that is not there is an error.
    """
    listed: dict[str, list[Departure]] = {}
    for departure in applying(target, emulator, departures):
        listed.setdefault(departure.claim, []).append(departure)
    on = f"{target} ({emulator})" if emulator else target
    wrong = []
    for claim in claims:
        entries = listed.pop(claim.name, [])
        detail = f": {claim.detail}" if claim.detail else ""
        if not entries:
            if claim.verdict not in ("PASS", "SKIP"):
                wrong.append(f"{claim.name} {claim.verdict} on {on} ({claim.section or 'no section'}){detail}")
        elif claim.verdict == "PASS" and any(entry.sometimes for entry in entries):
            continue
        elif claim.verdict == "PASS":
            wrong.append(f"{claim.name} passes on {on}: the departure has gone, end its versions in departures.json")
        elif claim.verdict not in {entry.verdict for entry in entries}:
            wrong.append(f"{claim.name} is {claim.verdict} on {on}, but listed as {entries[0].verdict}{detail}")
        elif claim.section not in {entry.section for entry in entries}:
            wrong.append(f"{claim.name} cites {claim.section}, but departures.json cites {entries[0].section}")
        if claim.verdict in ("PASS", "FAIL") and not claim.section:
            wrong.append(f"{claim.name} names no manual section")
    if complete:
        wrong += [f"{name} is listed as a departure of {on}, but no such claim ran" for name in sorted(listed)]
    return wrong
