# SPDX-License-Identifier: MIT
"""docs/conformance.md: which claims cover which section of the manuals, and where emulators depart.

Made from GoogleTest's XML of refhv-conformance, one file a target, from departures.json and from conformance/sections.json,
which lists the sections in scope and says of those without a claim why there is none.
"""

import json
import re
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from refhv import departures, paths

SECTIONS = paths.TOP / "conformance" / "sections.json"
PAGE = paths.TOP / "docs" / "conformance.md"


class StatementError(Exception):
    """One line."""


@dataclass(frozen=True)
class Made:
    """A claim as one target had it."""

    target: str
    name: str
    verdict: str
    section: str
    combinations: int


def read(files: Sequence[Path]) -> list[Made]:
    """Of `--gtest_output=xml:FILE`. Raises StatementError."""
    found = []
    for path in files:
        try:
            root = ElementTree.parse(path).getroot()
        except (OSError, ElementTree.ParseError) as error:
            raise StatementError(f"{path}: {error}") from None
        whole = root.attrib | {one.get("name"): one.get("value") for one in root.findall("properties/property")}
        target = whole.get("target")
        if not target:
            raise StatementError(f"{path}: names no target; make it by refhv-conformance --gtest_output=xml:FILE")
        for case in root.iter("testcase"):
            said = {one.get("name"): one.get("value") for one in case.iter("property")}
            if "verdict" in said:
                found.append(Made(target, f"{case.get('classname')}.{case.get('name')}", said["verdict"], said.get("section") or "",
                                  int(said.get("combinations") or 1)))
    return found


def citations(section: str) -> list[tuple[str, str]]:
    """("SDM 3C", "28.3.4") of "SDM 3C 28.3.4, 25.4.2; SDM 3A 6.8.3": the manual holds until another is named."""
    manual, found = "", []
    for part in re.split(r"[;,]", section):
        match = re.match(r"\s*((?:SDM|APM) \w+)?\s*(?:table |appendix )?([0-9A-Z][0-9.]*)?", part)
        manual = match[1] or manual
        if match[2]:
            found.append((manual, match[2].rstrip(".")))
    return found


def within(number: str, section: str) -> bool:
    return number == section or number.startswith(f"{section}.")


def _coverage(made: list[Made], scope: dict, manual: str) -> list[tuple[str, str, set[str]]]:
    claims: dict[str, set[str]] = {number: set() for number in scope[manual]}
    for one in made:
        for cited, number in citations(one.section):
            if cited == manual:
                for section in claims:
                    if within(number, section):
                        claims[section].add(one.name)
    return [(number, scope[manual][number], claims[number]) for number in scope[manual]]


def check_scope(made: list[Made], scope: dict) -> list[str]:
    """Sections that sections.json says have no claim, and have one, or the other way round."""
    wrong = []
    for manual in (name for name in scope if name != "none"):
        for number, _title, claims in _coverage(made, scope, manual):
            if bool(claims) == (f"{manual} {number}" in scope["none"]):
                wrong.append(f"{manual} {number}: " + (f"{len(claims)} claims, but sections.json says why there is none" if claims
                                                       else "no claim, and sections.json does not say why"))
    return wrong


def _families(claims: Iterable[str]) -> str:
    by: dict[str, int] = defaultdict(int)
    for name in claims:
        by[name.split(".")[0]] += 1
    return ", ".join(f"{family} {count}" for family, count in sorted(by.items()))


def render(made: list[Made], scope: dict, listed: list[departures.Departure], tried: dict[str, list[str]]) -> str:
    targets = sorted({one.target for one in made})
    names = {one.name for one in made}
    out = ["<!-- SPDX-License-Identifier: MIT -->", "# What is claimed, and where it does not hold", "",
           "Made by `ci/conformance-statement`; do not edit. Editions of the manuals: [manuals.md](manuals.md). A claim is one test "
           "with the section that it is about; a probe is one combination of a claim that tries a table. What a departure is, and how "
           "one is listed: [adding.md](adding.md#a-claim).", "",
           f"{len(names)} claims.", "", "| target | hold | do not | skipped | probes |", "| --- | --- | --- | --- | --- |"]
    for target in targets:
        mine = [one for one in made if one.target == target]
        count = {word: sum(one.verdict == word for one in mine) for word in ("PASS", "SKIP")}
        probes = sum(one.combinations for one in mine if one.verdict in ("PASS", "FAIL"))
        out.append(f"| `{target}` | {count['PASS']} | {len(mine) - count['PASS'] - count['SKIP']} | {count['SKIP']} | {probes} |")
    for manual in (name for name in scope if name != "none"):
        out += ["", f"## {manual}", "", "| section | about | claims, by family |", "| --- | --- | --- |"]
        for number, title, claims in _coverage(made, scope, manual):
            why = scope["none"].get(f"{manual} {number}")
            out.append(f"| {number} | {title} | {_families(claims) if claims else f'none: {why}'} |")
    out += ["", "## Departures", "", "Each line is one fault of an emulator: what the manual has it do is the claim, what it does instead "
            "stands beside it. One claim by itself: `build/bin/refhv-conformance --target=TARGET --gtest_filter=CLAIM`.", "",
            "Held against: " + "; ".join(f"{name} {' and '.join(seen)}" for name, seen in sorted(tried.items())) + "."]
    groups: dict[tuple[str, str], dict[tuple[str, str, str], list[str]]] = defaultdict(lambda: defaultdict(list))
    for one in listed:
        groups[one.emulator, one.target][one.versions, one.section, one.instead].append(one.claim)
    for (emulator, target), faults in sorted(groups.items()):
        out += ["", f"### {emulator}, target `{target}`: {len(faults)} faults", "", "| versions | section | what it does | claims |",
                "| --- | --- | --- | --- |"]
        for (versions_, section, instead), claims in faults.items():
            shown = f"`{claims[0]}`" + (f" and {len(claims) - 1} more" if len(claims) > 1 else "")
            out.append(f"| {versions_} | {section} | {instead} | {shown} |")
    return "\n".join(out) + "\n"


def counted_claims(page: Path = PAGE) -> int:
    """How many claims the page was made of. Raises StatementError."""
    match = re.search(r"^(\d+) claims\.$", page.read_text(), re.MULTILINE)
    if not match:
        raise StatementError(f"{page}: does not say of how many claims it was made; make it by ci/conformance-statement")
    return int(match[1])


def write(files: Sequence[Path], page: Path = PAGE) -> list[str]:
    """Writes the page; what is wrong with sections.json. Raises StatementError, departures.DeparturesError, OSError."""
    made, scope = read(files), json.loads(SECTIONS.read_text())
    page.write_text(render(made, scope, departures.load(), departures.load_tried()))
    return check_scope(made, scope)
