# SPDX-License-Identifier: MIT
"""The parts of `refhv test`: unit tests, the claims on each target, the package's own tests, and each check in ci/."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from refhv import departures, gtest, paths
from refhv.checks import EMULATED_TARGETS, TWO_CPU_TARGETS
from refhv.child import watch
from refhv.run import last_words
from refhv.schedule import Part, Runs
from refhv.tally import Tally, from_junit, from_lines

PART_SECONDS = 1500
LONG_SECONDS = 4 * 3600
GRACE_SECONDS = 3.0  # between asking a part to end and ending it

# What `--quick` asks of one emulator a vendor: that it comes up, exits, injects, refuses entries, walks tables.
QUICK_TARGETS = ("bochs-intel", "qemu-amd")
QUICK_CLAIMS = "Exit.*:EntryFailure.*:Inject.*:Ept.*:Npt.*:Paging.*"
# What one CPU does is the business of the others.
TWO_CPU_CLAIMS = "Ticks.*:Peer.*:PeerSignals.*:ApicPosted.*:Exit.cpuid*"


def _end(process: subprocess.Popen) -> None:
    """Ends the session that a part leads. An interrupt first: what has started others ends those itself."""
    for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
            process.wait(GRACE_SECONDS)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def call(argv: list[str], seconds: float, stop: threading.Event, env: dict[str, str] | None = None) -> tuple[int, str]:
    """Exit code and combined output; a command past its time is ended, with all it started, and has code 124. What tests send signals
    finds them as they are by default, though whoever started us, such as nohup, may have them ignored."""
    process = subprocess.Popen(["env", "--default-signal=INT,QUIT,HUP", *argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               errors="replace", cwd=paths.TOP, env=os.environ | (env or {}), start_new_session=True)
    over = time.monotonic() + seconds
    try:
        while True:
            try:
                text = process.communicate(timeout=0.2)[0]
                return process.returncode, text
            except subprocess.TimeoutExpired:
                if stop.is_set() or time.monotonic() > over:
                    break
        _end(process)
        why = "interrupted" if stop.is_set() else f"not done after {seconds:g} s"
        return 124, process.communicate()[0] + f"\n{why}"
    finally:
        process.wait()


def _keep_output(tally: Tally, name: str, text: str) -> Tally:
    """A part that failed leaves what it said."""
    if tally.failed:
        log = paths.build_dir() / f"{name}.log"
        log.write_text(text)
        tally.lines.append(f"  output: {log}")
    return tally


def ctest(scratch: Path, workers: int, stop: threading.Event) -> Tally:
    junit = scratch / "ctest.xml"
    code, text = call(["ctest", "--test-dir", str(paths.build_dir()), "--output-on-failure", "--no-tests=error",
                       f"-j{workers}", "--output-junit", str(junit)], PART_SECONDS, stop)
    return _keep_output(from_junit(junit, code, "ctest"), "ctest", text)


def python(scratch: Path, stop: threading.Event) -> Tally:
    junit = scratch / "pytest.xml"
    code, text = call([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={junit}", "bindings/tests"],
                      PART_SECONDS, stop, {"PYTHONPATH": str(paths.TOP / "bindings"), "PYTHONDONTWRITEBYTECODE": "1"})
    return _keep_output(from_junit(junit, code, "pytest"), "pytest", text)


def check(script: Path, long_: bool, stop: threading.Event) -> Tally:
    code, text = call([str(script)], LONG_SECONDS if long_ else PART_SECONDS, stop, {"REFHV_LONG": "1"} if long_ else None)
    tally = _keep_output(from_lines(text, code, script.name), script.name, text)
    if not tally.failed:
        tally.lines += [line for line in text.splitlines() if line.startswith("NOTE ")]
    return tally


_told: set[str] = set()  # what is to be said once, however many targets an emulator has


def conformance(target: str, scratch: Path, claims_wanted: str, stop: threading.Event) -> Tally:
    """The claims (a GoogleTest filter) on one target, held against the list of known departures."""
    tally = Tally()
    log, xml = scratch / f"{target}.log", scratch / f"{target}.xml"
    argv = [str(paths.tool("refhv-conformance")), f"--target={target}", f"--gtest_output=xml:{xml}",
            f"--gtest_filter={claims_wanted}"]
    ending = watch(argv, log, lambda event: None, silence=150, limit=1200, stop=stop)
    try:
        listed, tried = departures.load(), departures.load_tried()
        claims, emulator = gtest.read_claims(xml), gtest.read_emulator(xml)
    except (ValueError, departures.DeparturesError) as error:
        tally.fail(f"conformance on {target}: {ending.why() or error}; it said: {last_words(log)}")
        return tally
    wrong = departures.judge(target, claims, listed, complete=claims_wanted == "*", emulator=emulator)
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


def declared(script: Path) -> tuple[Runs, str] | None:
    """How a check runs, and "quick" if `--quick` has it too, "long" if `--long` alone has it, as the check itself says: `# runs: beside`
    or `# runs: beside, quick`.

    None if it does not say so in exactly one line.
    """
    said = re.findall(r"^# runs: (\w+)(?:, (quick|long))?$", script.read_text(), re.M)
    if len(said) != 1 or said[0][0] not in [one.value for one in Runs]:
        return None
    return Runs(said[0][0]), said[0][1]


def all_parts(long_: bool, quick: bool, scratch: Path, workers: int) -> list[Part]:
    """Every part, or those of `--quick`. A check that does not say how it runs is given the machine for itself."""
    found = [Part("unit", Runs.WIDE, lambda stop: ctest(scratch, workers, stop), quick=True)]

    def claims(target: str, runs: Runs, wanted: str, in_quick: bool = False) -> None:
        found.append(Part(f"conformance {target}", runs, lambda stop: conformance(target, scratch, wanted, stop), in_quick))

    claims("self", Runs.ALONE, "*")
    for target in EMULATED_TARGETS:
        in_quick = target in QUICK_TARGETS
        claims(target, Runs.BESIDE, QUICK_CLAIMS if quick and in_quick else "*", in_quick)
    for target in TWO_CPU_TARGETS:
        claims(target, Runs.BESIDE, TWO_CPU_CLAIMS)
    found.append(Part("python", Runs.BESIDE, lambda stop: python(scratch, stop)))
    for script in sorted(paths.CI.glob("check-*")):
        runs, when = declared(script) or (Runs.ALONE, "")
        if long_ or when != "long":
            found.append(Part(script.name, runs, lambda stop, script=script: check(script, long_, stop), when == "quick"))
    return [part for part in found if part.quick or not quick]
