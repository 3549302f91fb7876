# SPDX-License-Identifier: MIT
"""What a machine was set to: fields of a record that the pages show, and that records of before go without."""

import json

import fixture_microbench as fixture
import pytest

from refhv import comparison, environment, machine, record, tables

TOLD = {"governor": "performance, powersave", "turbo": False, "smt": True, "cpu": 3, "cpu_siblings": "3,11", "isolated": "3",
        "mitigations": {"mds": "Mitigation: Clear CPU buffers", "l1tf": "Not affected", "retbleed": "Vulnerable", "x": "Unknown: <b>"},
        "huge_pages": {"transparent": "madvise", "reserved_2m": 16, "reserved_1g": None}, "clock_source": "tsc",
        "load_average": "0.10 0.20 0.30"}
WORDS = {"governor": "performance, powersave", "turbo": "off", "SMT": "on", "CPU used": "3, its core: 3,11", "isolated CPUs": "3",
         "mitigated": "1 of 4; vulnerable or not clear: retbleed, x", "huge pages": "transparent: madvise, 16 of 2 MByte",
         "clock source": "tsc", "load": "0.10 0.20 0.30"}


def told(target="self", **fields):
    rec = fixture.record(target, 20)
    rec["environment"] |= TOLD | fields
    return rec


def test_each_is_told_in_words():
    assert environment.words(told()) == WORDS
    assert set(TOLD) == set(environment.FIELDS)
    assert environment.words(told(cpu_siblings="3"))["CPU used"] == "3"


def test_a_record_of_before_has_none_and_loads():
    rec = fixture.record("self", 20)
    assert not record.faults(rec) and set(environment.words(rec).values()) == {""}


@pytest.mark.parametrize(("name", "value"), [
    ("governor", 3), ("turbo", "on"), ("smt", 1), ("cpu", -1), ("cpu", "3"), ("mitigations", {"mds": 1}), ("mitigations", []),
    ("huge_pages", {"transparent": None}), ("huge_pages", None), ("clock_source", {})])
def test_what_is_of_another_form_is_refused(name, value):
    assert not record.faults(told())
    found = record.faults(told(**{name: value}))
    assert found and name in found[0]


def test_a_record_s_page_has_them_and_compare_tells_hardware_s_apart(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(told()))
    page = str(machine.provenance(tables.load([tmp_path / "a.json"])).data)
    assert all(word in page for word in ("performance, powersave", "3, its core: 3,11", "what the kernel says of 4 faults"))
    assert "Unknown: <b>" not in page and "Unknown: &lt;b&gt;" in page
    other = told(governor="performance", turbo=True) | {"run_id": "other", "started": "2026-01-02T03:05:05Z"}
    (tmp_path / "b.json").write_text(json.dumps(other))
    (tmp_path / "c.json").write_text(json.dumps(told("bochs-intel", governor="of the emulator's host")))
    run = comparison.load([tmp_path])
    shown = comparison.provenance(run).data
    assert ">off</td>" in shown and ">on</td>" in shown and "of the emulator" not in shown
    assert [one["environment"]["turbo"] for one in comparison.as_document(run.records)["records"]] == [False, True, False]
