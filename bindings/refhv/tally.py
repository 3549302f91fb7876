# SPDX-License-Identifier: MIT
"""What a part of `refhv test` came to, and how it is read from what the part left behind."""

import textwrap
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from pathlib import Path

LINE_WIDTH = 360


@dataclass
class Tally:
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    lines: list[str] = field(default_factory=list)  # what a person should read, one line each

    def fail(self, line: str) -> None:
        self.failed += 1
        self.lines.append(f"FAIL {textwrap.shorten(line, LINE_WIDTH, placeholder=' ...')}")


def from_junit(path: Path, returncode: int, what: str) -> Tally:
    """Counts a JUnit file (ctest, pytest). A run that failed without a failed test is a failure of its own."""
    tally = Tally()
    try:
        cases = list(ElementTree.parse(path).getroot().iter("testcase"))
    except (OSError, ElementTree.ParseError):
        tally.fail(f"{what}: ended with code {returncode} and left no results")
        return tally
    for case in cases:
        name = f"{case.get('classname') or what}.{case.get('name')}"
        bad = next((node for kind in ("failure", "error") for node in case.findall(kind)), None)
        skipped = case.find("skipped") is not None or case.get("status") in ("notrun", "disabled")
        if bad is not None or case.get("status") == "fail":
            tally.fail(f"{name}: {' '.join((bad.get('message') or bad.text or '').split())[:300] if bad is not None else ''}")
        elif skipped:
            tally.skipped += 1
        else:
            tally.passed += 1
    if returncode != 0 and not tally.failed:
        tally.fail(f"{what}: ended with code {returncode}")
    if not cases:
        tally.fail(f"{what}: no tests found")
    return tally


def from_lines(text: str, returncode: int, what: str) -> Tally:
    """Counts the PASS, FAIL and SKIP lines of a check. Silence, or a code that does not fit the lines, is a failure."""
    tally = Tally()
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        if word == "PASS":
            tally.passed += 1
        elif word == "FAIL":
            tally.fail(rest)
        elif word == "SKIP":
            tally.skipped += 1
            tally.lines.append(line)
    if returncode != 0 and not tally.failed:
        words = [line for line in text.splitlines() if line.strip()]
        tally.fail(f"{what}: ended with code {returncode}" + (f"; {words[-1][:300]}" if words else ""))
    elif tally.passed + tally.failed + tally.skipped == 0:
        tally.fail(f"{what}: said nothing")
    return tally
