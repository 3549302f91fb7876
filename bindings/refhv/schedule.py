# SPDX-License-Identifier: MIT
"""In which order the parts of a test run go, and which of them at the same time."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from enum import Enum

from refhv.tally import Tally


class Runs(Enum):
    """What else may run while a part does. A script in ci/ says it in a line of its own: `# runs: beside`."""

    WIDE = "wide"  # keeps every CPU busy by itself; its time means nothing
    BESIDE = "beside"  # needs one CPU, or waits; its time means nothing
    ALONE = "alone"  # measures wall time, or looks at the whole machine


@dataclass(frozen=True)
class Part:
    """One part of a test run. `body` gets the event that tells it to end early."""

    name: str
    runs: Runs
    body: Callable[[threading.Event], Tally]
    quick: bool = False  # whether `--quick` has it


@dataclass(frozen=True)
class Done:
    part: Part
    tally: Tally
    seconds: float


def ordered(parts: list[Part], seconds: dict[str, float]) -> list[Part]:
    """Wide parts, then those that go beside each other, then those alone; the longest first, an unknown one before all."""
    turns = list(Runs)
    return sorted(parts, key=lambda part: (turns.index(part.runs), -seconds.get(part.name, float("inf"))))


def _one(part: Part, stop: threading.Event) -> Done:
    begin = time.monotonic()
    try:
        tally = part.body(stop)
    except Exception as error:  # of a part, whatever it is: the others still count
        tally = Tally()
        tally.fail(f"{part.name}: {type(error).__name__}: {error}")
    return Done(part, tally, time.monotonic() - begin)


def _side_by_side(parts: list[Part], workers: int, done: Callable[[Done], None]) -> None:
    """Runs `parts`, `workers` at a time; `done` is called in this thread, as each ends. An interrupt ends all of them."""
    stop = threading.Event()
    with ThreadPoolExecutor(workers) as pool:
        running: set[Future[Done]] = {pool.submit(_one, part, stop) for part in parts}
        try:
            while running:
                ended, running = wait(running, return_when=FIRST_COMPLETED)
                for future in ended:
                    done(future.result())
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise


def run(parts: list[Part], workers: int, seconds: dict[str, float], done: Callable[[Done], None]) -> None:
    """Runs all parts, each class of them after the one before.

    workers: CPUs, each of which may have a part of class `beside`.
    seconds: what each part took when it was measured, by name.
    done: called for each part as it ends, never twice at the same time.
    """
    turn = ordered(parts, seconds)
    for runs in Runs:
        of_class = [part for part in turn if part.runs is runs]
        if of_class:
            _side_by_side(of_class, workers if runs is Runs.BESIDE else 1, done)
