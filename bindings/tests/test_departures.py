# SPDX-License-Identifier: MIT
import json

import pytest

from refhv import departures, gtest
from refhv.departures import Claim, Departure

LISTED = [Departure("qemu-amd", "Exit.a", "APM 2 15.5", "stores it zero-extended")]


def claim(name="Exit.a", verdict="FAIL", section="APM 2 15.5"):
    return Claim(name, verdict, section, "detail")


def test_a_known_departure_is_expected():
    assert departures.judge("qemu-amd", [claim()], LISTED) == []
    assert departures.is_known("qemu-amd", claim(), LISTED)


def test_the_same_failure_elsewhere_is_new():
    assert "Exit.a FAIL on bochs-amd" in departures.judge("bochs-amd", [claim()], LISTED)[0]


def test_one_that_passes_has_gone():
    assert "has gone" in departures.judge("qemu-amd", [claim(verdict="PASS")], LISTED)[0]


def test_one_that_comes_and_goes_may_pass():
    listed = [Departure("qemu-amd", "Exit.a", "APM 2 15.5", "by its own scheduling", sometimes=True)]
    assert departures.judge("qemu-amd", [claim(verdict="PASS")], listed) == []
    assert departures.judge("qemu-amd", [claim()], listed) == []
    assert departures.judge("qemu-amd", [claim(verdict="MISS")], listed)


@pytest.mark.parametrize("verdict", ["SKIP", "ERROR", "MISS"])
def test_one_that_is_neither_is_no_departure(verdict):
    assert departures.judge("qemu-amd", [claim(verdict=verdict)], LISTED)


def test_one_that_never_ran_is_told_only_of_a_complete_run():
    assert "no such claim ran" in departures.judge("qemu-amd", [], LISTED)[0]
    assert departures.judge("qemu-amd", [], LISTED, complete=False) == []


def test_a_claim_must_cite_the_manual():
    assert "no manual section" in departures.judge("self", [claim("Exit.b", "PASS", None)], [])[0]
    assert departures.judge("self", [claim("Exit.b", "SKIP", None)], []) == []


def test_list_and_claim_must_cite_the_same_section():
    assert "cites" in departures.judge("qemu-amd", [claim(section="APM 2 15.6")], LISTED)[0]


def test_a_listed_miss_is_a_miss():
    listed = [Departure("bochs-amd", "Exit.a", "APM 2 15.5", "the emulator ends", "MISS")]
    assert departures.judge("bochs-amd", [claim(verdict="MISS")], listed) == []
    assert departures.judge("bochs-amd", [claim(verdict="FAIL")], listed)


@pytest.mark.parametrize("entries", [
    [{"target": "a"}], [{"target": "a", "claim": "b", "section": "", "instead": "d"}],
    [{"target": "a", "claim": "b", "section": "c", "instead": "d", "verdict": "PASS"}],
    [{"target": "a", "claim": "b", "section": "c", "instead": "d", "sometimes": "yes"}],
    [{"target": "a", "claim": "b", "section": "c", "instead": "d"}] * 2,
])
def test_a_wrong_list_is_refused(tmp_path, entries):
    path = tmp_path / "departures.json"
    path.write_text(json.dumps(entries))
    with pytest.raises(departures.DeparturesError):
        departures.load(path)


def test_the_projects_own_list_loads():
    departures.load()


def test_xml(tmp_path):
    path = tmp_path / "a.xml"
    path.write_text("""<testsuites><testsuite name="Exit">
      <testcase name="a" classname="Exit" status="run" result="completed"><properties>
        <property name="verdict" value="MISS"/><property name="section" value="APM 2 15.5"/></properties>
        <failure message="died&#x0A;twice"/></testcase>
      <testcase name="b" classname="Exit" status="run" result="completed"/>
      <testcase name="c" classname="Exit" status="run" result="skipped"><skipped message="no VMX"/></testcase>
      <testcase name="d" classname="Exit" status="notrun" result="suppressed"/>
    </testsuite></testsuites>""")
    assert gtest.read_claims(path) == [
        Claim("Exit.a", "MISS", "APM 2 15.5", "died twice"),
        Claim("Exit.b", "ERROR", None, "the test states no verdict"),
        Claim("Exit.c", "SKIP", None, "no VMX"),
    ]
    path.write_text("<testsuites>")
    with pytest.raises(ValueError, match="cut short"):
        gtest.read_claims(path)
