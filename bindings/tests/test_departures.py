# SPDX-License-Identifier: MIT
import json

import pytest

from refhv import departures, gtest, versions
from refhv.departures import Claim, Departure
from refhv.versions import Emulator

LISTED = [Departure("qemu", ">=7.2 <10", "qemu-amd", "Exit.a", "APM 2 15.5", "stores it zero-extended")]


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
    listed = [Departure("qemu", ">=7.2", "qemu-amd", "Exit.a", "APM 2 15.5", "by its own scheduling", sometimes=True)]
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
    listed = [Departure("bochs", ">=2.7", "bochs-amd", "Exit.a", "APM 2 15.5", "the emulator ends", "MISS")]
    assert departures.judge("bochs-amd", [claim(verdict="MISS")], listed) == []
    assert departures.judge("bochs-amd", [claim(verdict="FAIL")], listed)


def test_one_that_a_newer_version_mended_is_expected_to_be_gone_there():
    old, new = Emulator("qemu", "7.2.22"), Emulator("qemu", "10.0.13")
    assert departures.judge("qemu-amd", [claim()], LISTED, emulator=old) == []
    assert "has gone" in departures.judge("qemu-amd", [claim(verdict="PASS")], LISTED, emulator=old)[0]
    assert departures.judge("qemu-amd", [claim(verdict="PASS")], LISTED, emulator=new) == []
    assert departures.judge("qemu-amd", [], LISTED, emulator=new) == []
    assert not departures.is_known("qemu-amd", claim(), LISTED, new)


def test_one_that_a_newer_version_has_again_or_anew_is_found():
    found = departures.judge("qemu-amd", [claim()], LISTED, emulator=Emulator("qemu", "10.0.13"))
    assert found == ["Exit.a FAIL on qemu-amd (qemu 10.0.13) (APM 2 15.5): detail"]


def test_versions_have_their_own_entries():
    both = [*LISTED, Departure("qemu", ">=10", "qemu-amd", "Exit.a", "APM 2 15.6", "ends itself", "MISS")]
    assert departures.judge("qemu-amd", [claim()], both, emulator=Emulator("qemu", "9.2")) == []
    assert departures.judge("qemu-amd", [claim(verdict="MISS", section="APM 2 15.6")], both, emulator=Emulator("qemu", "10.0")) == []
    assert departures.judge("qemu-amd", [claim()], both, emulator=Emulator("qemu", "10.0"))


def test_another_emulator_departs_in_its_own_way():
    assert departures.applying("qemu-amd", Emulator("bochs", "7.2"), LISTED) == []


def test_without_a_version_every_entry_counts():
    assert departures.applying("qemu-amd", None, LISTED) == LISTED
    assert departures.applying("qemu-amd", Emulator("qemu", None), LISTED) == LISTED


def test_an_unknown_newer_version_is_judged_by_the_open_ranges_and_says_so():
    tried = {"bochs": ["2.7", "3.0"]}
    listed = [Departure("bochs", ">=2.7", "bochs-amd", "Exit.open", "APM 2 15.5", "always"),
              Departure("bochs", "<3", "bochs-amd", "Exit.old", "APM 2 15.5", "mended"),
              Departure("bochs", "3.0", "bochs-amd", "Exit.new", "APM 2 15.5", "only there")]
    newer = Emulator("bochs", "3.1")
    assert [d.claim for d in departures.applying("bochs-amd", newer, listed)] == ["Exit.open"]
    assert "held against bochs 2.7 and 3.0, not 3.1" in departures.note(newer, tried)
    assert departures.note(Emulator("bochs", "3.0"), tried) is None
    assert departures.note(Emulator("bochs", "2.7.1"), tried) is None
    assert departures.note(None, tried) is None
    assert "every version" in departures.note(Emulator("bochs", None), tried)


def test_models_narrow_a_family():
    listed = [Departure("bochs", ">=2.7", "bochs-intel", "Exit.a", "SDM 3C 25", "x", models=("bochs-intel-tigerlake",))]
    assert departures.applying("bochs-intel-tigerlake", None, listed) == listed
    assert departures.applying("bochs-intel", None, listed) == []


@pytest.mark.parametrize(("target", "name"), [
    ("bochs-intel", "bochs-intel"), ("bochs-intel-tigerlake", "bochs-intel"), ("qemu-amd-clock", "qemu-amd"),
    ("bochs-amd-smp", "bochs-amd-smp"), ("self", "self"), ("bochs-intelligent", "bochs-intelligent")])
def test_families(target, name):
    assert departures.family(target) == name


@pytest.mark.parametrize(("version", "text", "inside"), [
    ("2.7", "2.7", True), ("2.7.1", "2.7", True), ("2.70", "2.7", False), ("3.0", "2.7", False),
    ("3.10", ">=3.9", True), ("3.9", ">=3.10", False), ("10.0.13", ">=7.2", True), ("7.2.22", ">7.2", False),
    ("7.2.22", "<=7.2", True), ("2.9", ">=2.7 <3", True), ("3", ">=2.7 <3", False), ("3.0", "<3", False), ("3", "3.0", True),
    ("2.6", ">=2.7 <3", False)])
def test_versions_compare_numerically(version, text, inside):
    assert versions.within(version, text) == inside


@pytest.mark.parametrize(("one", "other", "both"), [
    ("<3", ">=3", False), (">=2.7 <3", ">=3 <4", False), ("2.7", ">=2.7", True), ("<=3", ">=3.1", True), ("<3.1", ">3.0", False),
    (">2.7 <3", "2.8", True), (">=7.2 <10", ">=10.0", False), ("<10.0", ">9", False), ("<10.0", ">9.0", True)])
def test_ranges_overlap_or_not(one, other, both):
    assert versions.overlap(one, other) == versions.overlap(other, one) == both


ENTRY = {"emulator": "qemu", "versions": ">=7.2", "target": "qemu-amd", "claim": "b", "section": "c", "instead": "d"}


@pytest.mark.parametrize(("entries", "why"), [
    ([{"target": "a"}], "must have"), ([ENTRY | {"section": ""}], "must not be empty"),
    ([ENTRY | {"verdict": "PASS"}], "FAIL or MISS"), ([ENTRY | {"sometimes": "yes"}], "true or false"),
    ([ENTRY] * 2, "listed twice"), ([ENTRY, ENTRY | {"versions": "8.0"}], "listed twice"),
    ([ENTRY | {"versions": ""}], "empty"), ([ENTRY | {"versions": "7.x"}], "no condition"),
    ([ENTRY | {"versions": ">8 <7"}], "no version lies in"), ([ENTRY | {"emulator": "bochs"}], "no family"),
    ([ENTRY | {"target": "qemu-amd-clock"}], "no family"), ([ENTRY | {"models": ["bochs-amd"]}], "models"), (["text"], "no object"),
])
def test_a_wrong_list_is_refused(tmp_path, entries, why):
    path = tmp_path / "departures.json"
    path.write_text(json.dumps({"tried": {}, "departures": entries}))
    with pytest.raises(departures.DeparturesError, match=why):
        departures.load(path)


def test_ranges_apart_are_no_doubles(tmp_path):
    path = tmp_path / "departures.json"
    path.write_text(json.dumps({"tried": {"qemu": ["7.2"]}, "departures": [ENTRY | {"versions": "<10"}, ENTRY | {"versions": ">=10"}]}))
    assert len(departures.load(path)) == 2
    assert departures.load_tried(path) == {"qemu": ["7.2"]}
    path.write_text("[]")
    with pytest.raises(departures.DeparturesError, match="tried and departures"):
        departures.load(path)


def test_an_entry_may_name_several_claims(tmp_path):
    path = tmp_path / "departures.json"
    path.write_text(json.dumps({"tried": {}, "departures": [ENTRY | {"claim": ["A.b", "C.d"]}]}))
    assert [departure.claim for departure in departures.load(path)] == ["A.b", "C.d"]
    path.write_text(json.dumps({"tried": {}, "departures": [ENTRY | {"claim": ["A.b", "A.b"]}]}))
    with pytest.raises(departures.DeparturesError, match="listed twice"):
        departures.load(path)


def test_the_projects_own_list_loads():
    assert all(departures.load_tried()[departure.emulator] for departure in departures.load())


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
    assert gtest.read_emulator(path) is None
    path.write_text('<testsuites emulator="bochs" emulator_version="3.0"/>')
    assert gtest.read_emulator(path) == Emulator("bochs", "3.0")
    path.write_text("<testsuites>")
    with pytest.raises(ValueError, match="cut short"):
        gtest.read_claims(path)
