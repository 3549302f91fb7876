# SPDX-License-Identifier: MIT
"""`refhv run --launches N`: independent launches in shuffled order, a record each in <run>/launch-<nnn>/.

launches.json beside them holds the plan and what of it is done, so that a run that was interrupted goes on where it stopped:
{"version": 1, "options": {…}, "order": [[launch, target], …], "done": [[launch, target, code, problem], …]}. A launch that was
cut short is made again from its beginning; one that ended, however it ended, is not.
"""

import dataclasses
import json
import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from refhv import departures, files, paths, record, report, run
from refhv.progress import Live
from refhv.signals import Interrupted

MOST = 999
PLAN = "launches.json"
VERSION = 1

Slot = tuple[int, str]  # launch, from 1 on; target


class PlanError(Exception):
    """A folder whose run cannot go on; one line."""


@dataclass
class Plan:
    directory: Path
    options: run.Options
    order: list[Slot]
    done: dict[Slot, tuple[int, str | None]] = field(default_factory=dict)  # exit code and problem, one line

    def left(self) -> list[Slot]:
        return [slot for slot in self.order if slot not in self.done]

    def write(self) -> None:
        """Raises OSError."""
        whole = {"version": VERSION, "options": dataclasses.asdict(self.options), "order": self.order,
                 "done": [[*slot, *told] for slot, told in self.done.items()]}
        files.write_whole(self.directory / PLAN, json.dumps(whole, indent=1) + "\n")


def load(directory: Path) -> Plan:
    """The plan of a run of launches. Raises PlanError."""
    def make(whole: dict[str, Any]) -> Plan:
        order = [(int(launch), str(target)) for launch, target in whole["order"]]
        done = {(int(launch), str(target)): (int(code), problem) for launch, target, code, problem in whole["done"]}
        return Plan(directory, run.Options(**whole["options"]), order, done)
    return files.load_state(directory / PLAN, VERSION, "a run of --launches", make, PlanError)


def plan(options: run.Options, count: int, out: Path) -> Plan:
    """A new plan, in a new folder of `out`. Raises OSError, paths.NotBuilt."""
    paths.tool("refhv-microbench")
    order = [(launch, target) for launch in range(1, count + 1) for target in options.targets]
    random.SystemRandom().shuffle(order)  # so that what drifts in the machine falls on all targets alike
    made = Plan(run.new_directory(out), options, order)
    made.write()
    return made


def go_on(plan: Plan, descriptions: dict[str, str], console: Console) -> run.Outcome:
    """Carries out what is left of a plan; what became of all of it. Raises as run.run does."""
    listed = departures.load()
    begin, measured = time.monotonic(), 0
    try:
        for slot in plan.left():
            code = _launch(plan, slot, descriptions, listed)
            measured += 1
            _tell(plan, slot, console, (time.monotonic() - begin) / measured)
            if code == run.USAGE:
                raise run.UsageError(plan.done[slot][1] or f"{slot[1]} refused its command line")
    except Interrupted as interrupt:
        interrupt.kept = (f"{len(plan.done)} of {len(plan.order)} launches are kept in {plan.directory}; "
                          f"{paths.COMMAND} run --resume={plan.directory} goes on")
        raise
    if run.exit_code(_results(plan)) == run.OK and not record.files_of([plan.directory]):
        raise run.UsageError(f"no target has a benchmark that matches {plan.options.filter!r}")
    run.write_notes(plan.directory, _results(plan), listed)
    run.point_latest(plan.directory)
    console.print(f"records: {plan.directory}", highlight=False, markup=False, soft_wrap=True)
    page = report.write(plan.directory) if plan.options.report else None
    if page is not None:
        console.print(f"report: {page}", highlight=False, markup=False, soft_wrap=True)
    results = _results(plan)
    ended = sorted(zip((launch for launch, _ in plan.done), results), key=lambda pair: pair[0])
    return run.Outcome(run.exit_code(results), plan.directory, page, list(ended))


def _launch(plan: Plan, slot: Slot, descriptions: dict[str, str], listed: list[departures.Departure]) -> int:
    launch, target = slot
    directory = run.folder(plan.directory, launch)
    directory.mkdir(exist_ok=True)
    for left in directory.glob(f"{files.stem(target)}.*"):  # of a launch that was cut short
        left.unlink()
    found: dict[str, run.TargetResult] = {}
    with Live(Console(quiet=True)) as live:
        run.run_targets(dataclasses.replace(plan.options, targets=[target]), directory, descriptions, live, listed, found)
    result = found[target]
    plan.done[slot] = (result.code, result.problem or (result.wrong[0] if result.wrong else None))
    plan.write()
    run.write_notes(directory, _results(plan, launch), listed)
    return result.code


def _results(plan: Plan, launch: int | None = None) -> list[run.TargetResult]:
    """What ended so far, of one launch or of all."""
    return [run.TargetResult(target, code, problem) for (number, target), (code, problem) in plan.done.items()
            if launch in (None, number)]


def _tell(plan: Plan, slot: Slot, console: Console, seconds: float) -> None:
    launch, target = slot
    code, problem = plan.done[slot]
    left = len(plan.order) - len(plan.done)
    words = f"launch {launch:03} {target}: {'done' if code == run.OK else problem}"
    console.print(f"{words}; {left} left, {left * seconds:.0f} s" if left else words, highlight=False, markup=False, soft_wrap=True)
