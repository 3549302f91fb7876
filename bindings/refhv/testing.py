# SPDX-License-Identifier: MIT
"""`refhv test`: every test there is, in parts, and one closing line."""

import os
import re
import subprocess
import sys
import tempfile
import textwrap
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from refhv import departures, gtest, paths
from refhv.child import watch
from refhv.run import last_words

PART_SECONDS = 1500
LINE_WIDTH = 360
LONG_SECONDS = 4 * 3600


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


def _call(argv: list[str], seconds: float, env: dict[str, str] | None = None) -> tuple[int, str]:
    """Exit code and combined output; a command past its time is ended, with all it started, and has code 124."""
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               errors="replace", cwd=paths.TOP, env=os.environ | (env or {}), start_new_session=True)
    try:
        return process.returncode or 0, process.communicate(timeout=seconds)[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        return 124, process.communicate()[0] + f"\nnot done after {seconds:g} s"
    finally:
        process.wait()


def ctest(scratch: Path) -> Tally:
    junit = scratch / "ctest.xml"
    code, text = _call(["ctest", "--test-dir", str(paths.build_dir()), "--output-on-failure", "--no-tests=error",
                        "--output-junit", str(junit)], PART_SECONDS)
    tally = from_junit(junit, code, "ctest")
    if tally.failed:
        (paths.build_dir() / "ctest.log").write_text(text)
        tally.lines.append(f"  output: {paths.build_dir() / 'ctest.log'}")
    return tally


_told: set[str] = set()  # what is to be said once, however many targets an emulator has


def conformance(target: str, scratch: Path, claims_wanted: str = "*") -> Tally:
    """The claims (a GoogleTest filter) on one target, held against the list of known departures."""
    tally = Tally()
    log, xml = scratch / f"{target}.log", scratch / f"{target}.xml"
    argv = [str(paths.tool("refhv-conformance")), f"--target={target}", f"--gtest_output=xml:{xml}",
            f"--gtest_filter={claims_wanted}"]
    ending = watch(argv, log, lambda event: None, silence=150, limit=1200)
    try:
        listed, tried = departures.load(), departures.load_tried()
        claims, emulator = gtest.read_claims(xml), gtest.read_emulator(xml)
    except (ValueError, departures.DeparturesError) as error:
        tally.fail(f"conformance on {target}: {ending.why() or error}; it said: {last_words(log)}")
        return tally
    wrong = departures.judge(target, claims, listed, emulator=emulator)
    known = sum(departures.is_known(target, claim, listed, emulator) for claim in claims)
    for line in wrong:
        tally.fail(line)
    tally.skipped = sum(claim.verdict == "SKIP" for claim in claims)
    tally.passed = max(len(claims) - tally.skipped - len(wrong), 0)
    if ending.why() or not claims:
        tally.fail(f"conformance on {target}: {ending.why() or 'no claims ran'}")
    if known:
        tally.lines.append(f"{known} known departures of {target} (conformance/departures.json)")
    if (told := departures.note(emulator, tried)) and told not in _told:
        _told.add(told)
        tally.lines.append(told)
    return tally


def python(scratch: Path) -> Tally:
    junit = scratch / "pytest.xml"
    code, text = _call([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={junit}", "bindings/tests"],
                       PART_SECONDS, {"PYTHONPATH": str(paths.TOP / "bindings"), "PYTHONDONTWRITEBYTECODE": "1"})
    tally = from_junit(junit, code, "pytest")
    if tally.failed:
        (paths.build_dir() / "pytest.log").write_text(text)
        tally.lines.append(f"  output: {paths.build_dir() / 'pytest.log'}")
    return tally


def check(script: Path, long_: bool) -> Tally:
    code, text = _call([str(script)], LONG_SECONDS if long_ else PART_SECONDS, {"REFHV_LONG": "1"} if long_ else None)
    tally = from_lines(text, code, script.name)
    if tally.failed:
        log = paths.build_dir() / f"{script.name}.log"
        log.write_text(text)
        tally.lines.append(f"  output: {log}")
    else:
        tally.lines += [line for line in text.splitlines() if line.startswith("NOTE ")]
    return tally


def parts(long_: bool, scratch: Path) -> dict[str, Callable[[], Tally]]:
    from refhv.checks import EMULATED_TARGETS, TWO_CPU_TARGETS

    found: dict[str, Callable[[], Tally]] = {"unit": lambda: ctest(scratch)}
    for target in ("self", *EMULATED_TARGETS):
        found[f"conformance {target}"] = lambda target=target: conformance(target, scratch)
    for target in TWO_CPU_TARGETS:  # what one CPU does is the business of the others
        found[f"conformance {target}"] = lambda target=target: conformance(target, scratch, "Peer.*:Exit.cpuid*")
    found["python"] = lambda: python(scratch)
    for script in sorted(paths.CI.glob("check-*")):
        found[script.name] = lambda script=script: check(script, long_)
    return found


def run(long_: bool, only: str | None, console: Console) -> int:
    """0 if nothing failed, else 1. The last line printed is `N passed, N failed`."""
    total = Tally()
    paths.build_dir().mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="refhv-test-") as scratch:
        for name, part in parts(long_, Path(scratch)).items():
            if only and not re.search(only, name):
                continue
            begin = time.monotonic()
            try:
                tally = part()
            except (OSError, subprocess.SubprocessError) as error:
                tally = Tally()
                tally.fail(f"{name}: {error}")
            style = "red" if tally.failed else "green"
            skipped = f", {tally.skipped} skipped" if tally.skipped else ""
            console.print(f"{name:26} {tally.passed:5} passed, {tally.failed} failed{skipped}  "
                          f"({time.monotonic() - begin:.0f} s)", style=style, highlight=False, markup=False, soft_wrap=True)
            for line in tally.lines:
                console.print(f"    {line}", highlight=False, markup=False, soft_wrap=True)
            total.passed += tally.passed
            total.failed += tally.failed
    print(f"{total.passed} passed, {total.failed} failed", flush=True)
    return 1 if total.failed or not total.passed else 0
