# SPDX-License-Identifier: MIT
import fixture_microbench as fixture
import numpy
import pytest

from refhv import clock

DICE = numpy.random.default_rng(1)


@pytest.mark.parametrize(("values", "step"), [
    (DICE.integers(40, 60, 500), 1), (DICE.integers(1, 999, 500), 1), (26 * DICE.integers(1, 9, 500), 26),
    (2 * DICE.integers(10, 40, 500), 2), ((24.45 * DICE.integers(1, 20, 500)).astype(int), 24.45), (numpy.array([49, 73]), 1),
    (numpy.array([], int), 1), (numpy.array([47, 50, 53]), 1), (numpy.array([46, 47, 49, 51, 53, 55]), 1), (numpy.array([-24, 0, 49]), 1)])
def test_the_step_is_the_lattice_that_samples_stand_on(values, step):
    assert clock.step_of(values) == pytest.approx(step, abs=0.1)


def test_ticks_have_no_step():
    rec = fixture.record("bochs-intel")
    assert clock.step(rec) == 1


def test_nanoseconds_need_cycles_and_a_rate():
    rec = fixture.record("self")
    assert clock.nanoseconds(rec, 2100) == pytest.approx(1000)
    assert clock.nanoseconds(fixture.record("bochs-intel"), 2100) is None and clock.nanoseconds(rec, None) is None
    rec["machine"]["tsc_hz"] = None
    assert clock.nanoseconds(rec, 2100) is None
    rec["machine"] = None
    assert clock.nanoseconds(rec, 2100) is None
