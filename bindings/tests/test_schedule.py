# SPDX-License-Identifier: MIT
import threading
import time

import pytest

from refhv import parts, schedule
from refhv.schedule import Part, Runs
from refhv.tally import Tally


class Watcher:
    """Bodies that write down what ran at the same time."""

    def __init__(self):
        self.running, self.together, self.order, self.lock = set(), {}, [], threading.Lock()

    def part(self, name, runs, seconds=0.05):
        def body(stop):
            with self.lock:
                self.order.append(name)
                self.running.add(name)
                for one in self.running:
                    self.together.setdefault(one, set()).update(self.running)
            stop.wait(seconds)
            with self.lock:
                self.running.discard(name)
            return Tally(passed=1)
        return Part(name, runs, body)


def test_what_goes_beside_and_what_goes_alone():
    seen, done = Watcher(), []
    of = [seen.part("a1", Runs.ALONE), seen.part("b1", Runs.BESIDE, 0.2), seen.part("w1", Runs.WIDE), seen.part("b2", Runs.BESIDE, 0.2),
          seen.part("a2", Runs.ALONE), seen.part("w2", Runs.WIDE), seen.part("b3", Runs.BESIDE)]
    schedule.run(of, 2, {}, done.append)
    assert sorted(one.part.name for one in done) == ["a1", "a2", "b1", "b2", "b3", "w1", "w2"]
    for name in ("a1", "a2", "w1", "w2"):
        assert seen.together[name] == {name}
    assert seen.together["b1"] >= {"b1", "b2"}
    assert all(len(names & {"b1", "b2", "b3"}) == len(names) for name, names in seen.together.items() if name[0] == "b")


def test_never_more_than_there_are_workers():
    seen = Watcher()
    most = []
    def count(done):
        most.append(len(seen.running))
    schedule.run([seen.part(str(i), Runs.BESIDE, 0.02) for i in range(12)], 3, {}, count)
    assert len(most) == 12 and max(most) <= 3


def test_the_longest_first_and_the_unknown_before_it():
    of = [Part(name, Runs.BESIDE, lambda stop: Tally()) for name in ("short", "long", "new", "middle")]
    assert [part.name for part in schedule.ordered(of, {"short": 1, "middle": 5, "long": 9})] == ["new", "long", "middle", "short"]


def test_a_part_that_breaks_is_a_failure_and_the_rest_goes_on():
    def breaks(_stop):
        raise ValueError("odd")
    done = []
    schedule.run([Part("bad", Runs.BESIDE, breaks), Part("good", Runs.ALONE, lambda stop: Tally(passed=1))], 2, {}, done.append)
    bad, good = done
    assert bad.tally.failed == 1 and "bad: ValueError: odd" in bad.tally.lines[0] and good.tally.passed == 1


def test_an_interrupt_ends_what_runs_and_starts_nothing_more():
    seen = Watcher()
    def interrupted(_done):
        raise KeyboardInterrupt
    of = [seen.part("quick", Runs.BESIDE, 0.01), seen.part("slow", Runs.BESIDE, 30), *(seen.part(f"later{i}", Runs.BESIDE, 30) for i in range(3)),
          seen.part("alone", Runs.ALONE, 30)]
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        schedule.run(of, 2, {"quick": 9, "slow": 8} | {f"later{i}": 1 for i in range(3)}, interrupted)
    assert time.monotonic() - begin < 10 and "alone" not in seen.order and len(seen.order) <= 3 + 2


def test_a_call_past_its_time_is_ended():
    begin = time.monotonic()
    code, text = parts.call(["/bin/sh", "-c", "echo early; sleep 60 & wait"], 1, threading.Event())
    assert code == 124 and "early" in text and "not done after 1 s" in text and time.monotonic() - begin < 20


def test_a_call_that_is_interrupted_is_ended():
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    begin = time.monotonic()
    code, text = parts.call(["/bin/sh", "-c", "sleep 60"], 60, stop)
    assert code == 124 and text.endswith("interrupted") and time.monotonic() - begin < 20


def test_a_call_has_the_code_of_the_command():
    assert parts.call(["/bin/sh", "-c", "echo x; exit 3"], 60, threading.Event()) == (3, "x\n")
