# SPDX-License-Identifier: MIT
"""JUnit XML as other people's readers want it: what is known and expected is skipped, with its reason."""

import xml.etree.ElementTree as xml
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from refhv import departures, versions
from refhv.record import Record

OUTCOMES = {"failure": "failures", "error": "errors", "skipped": "skipped"}


@dataclass(frozen=True)
class Case:
    """`outcome`: failure, error, skipped; None is passed. `message`: one line."""

    classname: str
    name: str
    outcome: str | None = None
    message: str = ""


def clean(text: str) -> str:
    """Without what XML 1.0 cannot hold."""
    return "".join(c if c in "\t\n" or (c >= " " and not "\ud800" <= c <= "\udfff" and c not in "\ufffe\uffff") else "�" for c in text)


def document(name: str, suites: Mapping[str, Iterable[Case]]) -> str:
    """A whole XML file; suites by name."""
    root = xml.Element("testsuites", name=clean(name))
    for title, cases in suites.items():
        found = list(cases)
        suite = xml.SubElement(root, "testsuite", name=clean(title), tests=str(len(found)),
                               **{word: str(sum(case.outcome == outcome for case in found)) for outcome, word in OUTCOMES.items()})
        for case in found:
            element = xml.SubElement(suite, "testcase", classname=clean(case.classname), name=clean(case.name))
            if case.outcome:
                xml.SubElement(element, case.outcome, message=clean(case.message))
    xml.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + xml.tostring(root, encoding="unicode") + "\n"


def _of_claim(rec: Record, claim: dict, listed: list[departures.Departure]) -> Case:
    name = claim["name"].partition(".")
    where, what = f"{rec['target']['name']}.{name[0]}", name[2]
    told = departures.Claim(**claim)
    message = f"{claim['verdict']} ({claim['section'] or 'no section'}): {claim['detail']}"
    if claim["verdict"] == "PASS":
        return Case(where, what)
    if departures.is_known(rec["target"]["name"], told, listed, versions.emulator_of(rec["target"])):
        return Case(where, what, "skipped", f"a known departure of this emulator: {message}")
    return Case(where, what, {"FAIL": "failure", "SKIP": "skipped"}.get(claim["verdict"], "error"), message)


def of_record(rec: Record, listed: list[departures.Departure]) -> str:
    """A record's claims and rows. Known departures, and the rows that rest on them, are skipped with the reason."""
    claims = {claim["name"]: _of_claim(rec, claim, listed) for claim in rec["claims"]}
    rows = []
    for row in rec["benchmarks"]:
        name, mode = row["name"].rpartition("/")[::2]
        message = f"{row['verdict']}: {row['reason']}"
        rests = [claims[one] for one in row["claims"] if one in claims and claims[one].outcome]
        outcome = {"PASS": None, "SKIP": "skipped", "INVALID": "failure"}.get(row["verdict"], "error")
        if row["verdict"] == "INVALID" and rests:  # the claim's story, told above
            outcome = "skipped"
        rows.append(Case(f"{rec['target']['name']}.{row['family']}", f"{name}/{mode}", outcome, message if outcome else ""))
    return document(f"refhv on {rec['target']['name']}", {"claims": claims.values(), "benchmarks": rows})
