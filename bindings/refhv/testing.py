# SPDX-License-Identifier: MIT
"""`refhv test`: the parts that are asked for, what each came to and how long it took, and one closing line."""

import os
import re
import tempfile
import time
from pathlib import Path

from rich.console import Console

from refhv import budget, parts, paths, schedule
from refhv.schedule import Done
from refhv.tally import Tally


def workers() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0))


def _say(console: Console, text: str, style: str = "") -> None:
    console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)


def _tell(console: Console, done: Done) -> None:
    """One part, at once: whatever else runs, its lines stand together."""
    tally = done.tally
    skipped = f", {tally.skipped} skipped" if tally.skipped else ""
    _say(console, f"{done.part.name:26} {tally.passed:5} passed, {tally.failed} failed{skipped}  ({done.seconds:.0f} s)",
         "red" if tally.failed else "green")
    for line in tally.lines:
        _say(console, f"    {line}")


def _table(console: Console, ended: list[Done], budgets: dict[str, budget.Budget], seconds: float) -> None:
    """Where the time went, the longest part first."""
    _say(console, "")
    _say(console, f"{'part':26} {'runs':7} {'time':>7} {'budget':>7}")
    for done in sorted(ended, key=lambda one: -one.seconds):
        most = f"{budgets[done.part.name].most:.0f} s" if done.part.name in budgets else "none"
        _say(console, f"{done.part.name:26} {done.part.runs.value:7} {done.seconds:5.0f} s {most:>7}",
             "red" if done.tally.failed else "")
    _say(console, f"{'all, on the clock':26} {'':7} {seconds:5.0f} s")


def run(long_: bool, only: str | None, console: Console, quick: bool = False) -> int:
    """0 if nothing failed, else 1. The last line printed is `N passed, N failed`."""
    total = Tally()
    ended: list[Done] = []
    budgets = budget.load()
    paths.build_dir().mkdir(exist_ok=True)
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="refhv-test-") as scratch:
        everything = parts.all_parts(long_, quick, Path(scratch), workers())
        chosen = [part for part in everything if not only or re.search(only, part.name)]

        def on_done(done: Done) -> None:
            late = None if long_ or quick else budget.note(done.part.name, done.seconds, budgets)
            if late:
                done.tally.lines.append(late)
            _tell(console, done)
            ended.append(done)
            total.passed += done.tally.passed
            total.failed += done.tally.failed

        schedule.run(chosen, workers(), {name: one.measured for name, one in budgets.items() if one.measured is not None}, on_done)
    if len(ended) > 1:
        _table(console, ended, budgets, time.monotonic() - begin)
    if quick:
        _say(console, "Left out by --quick: claims other than " + parts.QUICK_CLAIMS + ", every other target, the Python tests, "
             "clang-tidy, clang++, fuzzing, what measures time or runs whole rows. ./suite test has them.")
    print(f"{total.passed} passed, {total.failed} failed", flush=True)
    return 1 if total.failed or not total.passed else 0
