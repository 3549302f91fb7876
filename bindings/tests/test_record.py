# SPDX-License-Identifier: MIT
import copy
import json

import fixture_microbench as fixture
import pytest

from refhv import cli, record


@pytest.fixture
def good():
    return fixture.record("bochs-intel")


def row(rec, name="exit.cpuid/nested"):
    return next(r for r in rec["benchmarks"] if r["name"] == name)


@pytest.mark.parametrize("target", fixture.TARGETS)
def test_fixture_records_are_valid(target):
    assert record.faults(fixture.record(target)) == []


@pytest.mark.parametrize("key", ["schema_version", "run_id", "started", "target", "machine", "environment", "claims", "benchmarks"])
def test_every_top_level_name_is_required(good, key):
    del good[key]
    assert record.faults(good)


@pytest.mark.parametrize("key", sorted(fixture.record("bochs-intel")["benchmarks"][1]))
def test_every_benchmark_name_is_required(good, key):
    del row(good)[key]
    assert record.faults(good)


def broken(edit):
    rec = fixture.record("bochs-intel")
    edit(rec)
    return record.faults(rec)


EDITS = {
    "a number where ticks are no instructions": lambda r: r["target"].update(
        tick_proofs=[{"pairs": 144, "wrong": "100 jumps took 110 ticks, not 100"}]),
    "a number where no launch was proved": lambda r: r["target"].update(tick_proofs=[]),
    "emulated time in cycles": lambda r: r["target"].update(unit="cycles"),
    "a row in another unit": lambda r: row(r).update(unit="cycles"),
    "a sentinel for a missing value": lambda r: row(r)["summary"].update(p50="-"),
    "a number without PASS": lambda r: row(r).update(verdict="INVALID", reason="because"),
    "no number without a reason": lambda r: r["benchmarks"].__setitem__(
        1, fixture.without_number(row(r), "INVALID", "x") | {"reason": None}),
    "a number whose claim fails": lambda r: r["claims"][0].update(verdict="FAIL", detail="no exit"),
    "a number whose claim is not there": lambda r: r["claims"].pop(0),
    "a number without its exits": lambda r: row(r)["exits"].update(counted=199),
    "a summary that its samples do not give": lambda r: row(r)["summary"].update(p50=38, min=38),
    "a maximum that its samples do not give": lambda r: row(r)["summary"].update(max=70),
    "a spread that its samples do not give": lambda r: row(r)["summary"].update(mad=9),
    "quantiles out of order": lambda r: row(r)["summary"].update(p90=1000, p99=999, max=1000),
    "a row twice": lambda r: r["benchmarks"].append(copy.deepcopy(row(r))),
    "a claim twice": lambda r: r["claims"].append(copy.deepcopy(r["claims"][0])),
    "a claim that fails without detail": lambda r: r["claims"][0].update(verdict="FAIL", detail=None),
    "an unknown verdict": lambda r: row(r).update(verdict="OK"),
    "an unknown field": lambda r: row(r).update(mean=3),
    "a mode other than the name's": lambda r: row(r).update(mode="native"),
    "local time": lambda r: r.update(started="2026-01-02T03:04:05+01:00"),
    "a CPUID register of 33 bits": lambda r: r["machine"]["cpuid"][0].update(eax=1 << 32),
}


@pytest.mark.parametrize("what", EDITS)
def test_refuses(what):
    assert broken(EDITS[what])


def test_a_launch_that_was_proved_has_numbers(good):
    good["target"]["tick_proofs"] = [{"pairs": 144, "wrong": None}, {"pairs": 36, "wrong": "100 jumps took 110 ticks, not 100"}]
    assert record.faults(good) == []


def test_an_older_record_names_neither_emulator_nor_revision(good):
    del good["target"]["emulator"], good["environment"]["revision"]
    assert record.faults(good) == []


@pytest.mark.parametrize("version", ["", "2.7-rc1", "7.2.", "of today"])
def test_a_version_is_numbers_and_points(good, version):
    good["target"]["emulator"]["version"] = version
    assert record.faults(good)


def test_machine_may_be_missing_when_it_never_answered(good):
    good["machine"] = None
    good["benchmarks"] = [fixture.without_number(r, "MISS", "no hello") for r in good["benchmarks"]]
    assert record.faults(good) == []


def test_load_says_where_and_what(tmp_path, good):
    path = tmp_path / "a.json"
    with pytest.raises(record.RecordError, match="a.json: there is no record"):
        record.load(path)
    path.write_text(json.dumps(good)[:5000])
    with pytest.raises(record.RecordError, match="a.json: not JSON, or cut short"):
        record.load(path)
    row(good)["n"] = "many"
    path.write_text(json.dumps(good))
    with pytest.raises(record.RecordError, match=r"a.json: benchmarks\[1\].n \(exit.cpuid/nested\)") as error:
        record.load(path)
    assert "\n" not in str(error.value)


def test_a_newer_record_is_one_line_with_what_to_do(tmp_path, good, capfd):
    good["schema_version"] += 1
    good["news"] = good.pop("claims")  # nothing else of it need be known
    (tmp_path / "self.json").write_text(json.dumps(good))
    assert cli.execute(["report", str(tmp_path)]) == 2
    assert capfd.readouterr().err == (f"refhv: {tmp_path}/self.json: schema version 2 is newer than version 1, the last that this "
                                      "refhv knows: use the refhv that wrote it, or update this one\n")


def test_load_run_keeps_the_good_and_names_the_bad(tmp_path):
    (tmp_path / "bochs-intel.json").write_text(json.dumps(fixture.record("bochs-intel")))
    (tmp_path / "self.json").write_text(json.dumps(fixture.record("self")))
    (tmp_path / "qemu-amd.json").write_text("{")
    (tmp_path / "self.benchmark.json").write_text("not ours")
    (tmp_path / "run.json").write_text("{}")
    records, problems = record.load_all([tmp_path])
    assert [r["target"]["name"] for r in records] == ["self", "bochs-intel"]
    assert len(problems) == 1 and "qemu-amd.json" in problems[0]


@pytest.mark.parametrize("what", EDITS)
def test_the_quick_validator_says_the_same(what):
    rec = fixture.record("bochs-intel")
    assert record._fits_schema(rec) and record.validator().is_valid(rec)
    EDITS[what](rec)
    assert record._fits_schema(rec) == record.validator().is_valid(rec)


def hostile(**edits):
    return json.dumps(fixture.record("self") | edits)


HOSTILE = {
    "nested too deeply": "[" * 200_000,
    "NaN is no number": hostile(doctor=float("nan")),
    "Infinity is no number": hostile(doctor=float("inf")),
    "1e999 is too large": hostile(doctor=0).replace('"doctor": 0', '"doctor": 1e999'),
    "10000000000000000000... is too large": hostile(doctor=10**400),
    "not of type 'object'": "[1, 2]",
    "no Unicode": hostile(run_id="\ud800"),
    "cut short": hostile()[:-30],
}


@pytest.mark.parametrize("words", HOSTILE)
def test_a_hostile_record_is_one_line_and_the_rest_goes_on(words, tmp_path, capfd):
    (tmp_path / "a.json").write_text(HOSTILE[words])
    (tmp_path / "b.json").write_text(json.dumps(fixture.record("bochs-intel")))
    (tmp_path / "c.json").write_bytes(b"\xff\xfe")
    (tmp_path / "d.json").mkdir()
    records, problems = record.load_all([tmp_path])
    assert len(records) == 1 and len(problems) == 3
    assert words in problems[0] and "\n" not in problems[0] and len(problems[0]) < 400


def test_a_sample_of_more_than_64_bits_is_refused():
    rec = fixture.record("self")
    rec["benchmarks"][0]["samples"][3] = 1 << 63
    assert record.faults(rec)
    assert record._plain([1, 2]) and not record._plain([1, True]) and not record._plain([1.0]) and not record._plain([])


def test_a_name_does_not_speak_to_the_terminal(tmp_path):
    rec = fixture.record("self")
    rec["benchmarks"][0]["name"] = "\x1b[2J\nevil"
    (tmp_path / "a.json").write_text(json.dumps(rec))
    (problem,) = record.load_all([tmp_path])[1]
    assert "\x1b" not in problem and "\n" not in problem


ESCAPE = "\x1b[2J\x1b]0;title\x07CPU\u202e\x7f\x9b<b>"
SEEN = "?[2J?]0;title?CPU???<b>"


@pytest.mark.parametrize("ascii_", [True, False])
def test_nothing_of_a_record_speaks_to_the_terminal(ascii_, tmp_path, capfd):
    rec = fixture.record("self")
    rec["machine"]["name"] = rec["environment"]["revision"] = rec["environment"][ESCAPE] = ESCAPE
    rec["benchmarks"][1]["flags"] = [ESCAPE, "two\nlines"]
    (tmp_path / "a.json").write_text(json.dumps(rec, ensure_ascii=ascii_))
    found = record.load(tmp_path / "a.json")
    assert found["machine"]["name"] == found["environment"]["revision"] == found["environment"][SEEN] == SEEN
    assert found["benchmarks"][1]["flags"] == [SEEN, "two\nlines"] and found["benchmarks"][1]["samples"] == rec["benchmarks"][1]["samples"]
    rec |= {"run_id": "other", "started": "2026-01-02T03:05:05Z"}
    (tmp_path / "b.json").write_text(json.dumps(rec, ensure_ascii=ascii_))
    assert cli.execute(["gate", f"--markdown={tmp_path / 'gate.md'}", str(tmp_path / "a.json"), "--", str(tmp_path / "b.json")]) == 4
    said = capfd.readouterr().out + (tmp_path / "gate.md").read_text()
    assert SEEN in said and not any(character in said for character in "\x1b\x07\u202e\x9b")
