# SPDX-License-Identifier: MIT
"""What came between while a launch measured: a record may have it, holds to its form, and its page tells it."""

import copy

import fixture_microbench as fixture
import pytest

from refhv import machine, record

BETWEEN = {"smis": 2, "interrupts": 40, "nmis": 0, "throttles": None, "frequency": 1.25, "tsc_hz": 2.1e9, "thermal": ["power limit"]}
COUNTERS = {"smis": {"before": 5, "after": 7, "reason": None}, "core_throttles": {"before": None, "after": None, "reason": "the kernel counts none"}}


def disturbed():
    rec = copy.deepcopy(fixture.record("self"))
    rec["disturbances"] = {"reason": None, "cpu": 3, "counters": copy.deepcopy(COUNTERS), "between": dict(BETWEEN)}
    rec["benchmarks"][0]["disturbances"] = dict(BETWEEN)
    return rec


def test_a_record_may_have_them_or_be_of_before():
    assert record.faults(disturbed()) == []
    assert record.faults(fixture.record("self")) == []


@pytest.mark.parametrize("spoil", [
    lambda rec: rec["disturbances"].pop("reason"),
    lambda rec: rec["disturbances"]["counters"]["smis"].pop("reason"),
    lambda rec: rec["disturbances"]["between"].update(smis=-1),
    lambda rec: rec["benchmarks"][0]["disturbances"].pop("thermal"),
    lambda rec: rec["benchmarks"][0]["disturbances"].update(heat=1),
])
def test_their_form_is_held(spoil):
    rec = disturbed()
    spoil(rec)
    assert record.faults(rec)


def test_the_page_tells_what_came_between_and_why_the_rest_is_not_known():
    told = machine.between(disturbed())
    assert told == {"CPU": 3, "smis": 2, "interrupts": 40, "nmis": 0, "frequency": 1.25, "tsc_hz": 2.1e9, "thermal": ["power limit"],
                    "core_throttles": "not read: the kernel counts none"}
    rec = disturbed()
    rec["disturbances"] = {"reason": "an emulator's ticks"}
    assert record.faults(rec) == [] and machine.between(rec) == {"none": "an emulator's ticks"}
    assert machine.between(fixture.record("self")) == {"none": None}
