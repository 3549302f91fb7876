# SPDX-License-Identifier: MIT
"""Known departures: claims on which an emulator is known to differ from the manual.

conformance/departures.json is a list of {target, claim, section, instead}, and, where the claim does not merely FAIL but
takes the emulator down, "verdict": "MISS". A listed claim must come out as listed; one that passes has gone, and the
list must lose it, unless it says "sometimes": true, of departures that come and go with the emulator's own scheduling.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from refhv import paths


@dataclass(frozen=True)
class Departure:
    target: str
    claim: str
    section: str
    instead: str
    verdict: str = "FAIL"
    sometimes: bool = False


@dataclass(frozen=True)
class Claim:
    name: str
    verdict: str
    section: str | None
    detail: str | None


class DeparturesError(Exception):
    """The list itself is wrong; one line."""


def load(path: Path = paths.DEPARTURES) -> list[Departure]:
    try:
        entries = json.loads(path.read_text())
    except FileNotFoundError:
        return []
    except ValueError as error:
        raise DeparturesError(f"{path}: not JSON ({error})") from None
    found = []
    for index, entry in enumerate(entries):
        try:
            departure = Departure(**entry)
        except TypeError:
            raise DeparturesError(
                f"{path}: entry {index} must have target, claim, section, instead (and may have verdict and sometimes)"
            ) from None
        if departure.verdict not in ("FAIL", "MISS"):
            raise DeparturesError(f"{path}: entry {index}: verdict must be FAIL or MISS, not {departure.verdict}")
        if not isinstance(departure.sometimes, bool):
            raise DeparturesError(f"{path}: entry {index}: sometimes must be true or false")
        if not (departure.section and departure.instead):
            raise DeparturesError(f"{path}: entry {index}: section and instead must not be empty")
        found.append(departure)
    keys = [(d.target, d.claim) for d in found]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise DeparturesError(f"{path}: {twice[0][1]} on {twice[0][0]} is listed twice")
    return found


def machine(target: str) -> str:
    """The target under whose name departures are listed: the same emulator by the clock, or with another CPU, departs alike."""
    return target.removesuffix("-clock").removesuffix("-tigerlake")


def is_known(target: str, claim: Claim, departures: list[Departure]) -> bool:
    return any((d.target, d.claim, d.verdict) == (machine(target), claim.name, claim.verdict) for d in departures)


def judge(target: str, claims: list[Claim], departures: list[Departure], complete: bool = True) -> list[str]:
    """What is wrong with the claims of one target, one line each.

    `complete` says that every claim of the family ran, so that a listed claim that is not there is an error.
    """
    listed = {d.claim: d for d in departures if d.target == machine(target)}
    wrong = []
    for claim in claims:
        departure = listed.pop(claim.name, None)
        detail = f": {claim.detail}" if claim.detail else ""
        if departure is None:
            if claim.verdict not in ("PASS", "SKIP"):
                wrong.append(f"{claim.name} {claim.verdict} on {target} ({claim.section or 'no section'}){detail}")
        elif claim.verdict == "PASS" and departure.sometimes:
            continue
        elif claim.verdict == "PASS":
            wrong.append(f"{claim.name} passes on {target}: the departure has gone, take it out of departures.json")
        elif claim.verdict != departure.verdict:
            wrong.append(f"{claim.name} is {claim.verdict} on {target}, but listed as {departure.verdict}{detail}")
        elif claim.section != departure.section:
            wrong.append(f"{claim.name} cites {claim.section}, but departures.json cites {departure.section}")
        if claim.verdict in ("PASS", "FAIL") and not claim.section:
            wrong.append(f"{claim.name} names no manual section")
    if complete:
        wrong += [f"{name} is listed as a departure of {target}, but no such claim ran" for name in sorted(listed)]
    return wrong
