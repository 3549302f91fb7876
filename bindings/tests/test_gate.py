# SPDX-License-Identifier: MIT
"""The gate's rule: exact facts first, then times; every exit code has a case that gives it."""

import copy
import json
import time
import xml.etree.ElementTree as xml

import fixture_microbench as fixture
import numpy
import pytest
import synthetic
from scipy import stats

from refhv import cli, gate, record
from refhv.gate import output, selftest, statistics
from refhv.gate.model import Code, Word

CPUID = "exit.cpuid/nested"


def emulated(count=1, first=0, **edits):
    """Launches of an emulator, alike but for their names, and edited."""
    found = []
    for launch in range(first, first + count):
        rec = fixture.record("bochs-intel") | {"run_id": f"e{launch}", "started": f"2026-01-02T03:{launch:02}:05Z"}
        for edit in edits.values():
            edit(rec)
        found.append(rec)
    return found


def row(rec, name=CPUID):
    return next(row for row in rec["benchmarks"] if row["name"] == name)


def slower(rec, by=1):
    one = row(rec)
    one["samples"] = [value + by for value in one["samples"]]
    one["summary"] = {key: value + (by if key != "mad" else 0) for key, value in one["summary"].items()}
    one["parts"]["handler"] += by


def drop(rec):
    rec["benchmarks"].remove(row(rec))


def claim(verdict, detail="why"):
    return lambda rec: rec["claims"][0].update(verdict=verdict, detail=None if verdict == "PASS" else detail)


def hardware(first, **options):
    return [synthetic.record(launch, 20, 60, **options) for launch in range(first, first + 10)]


def test_alike_emulators_pass():
    verdict = gate.compare(emulated(2), emulated(2, 10))
    assert verdict.code == Code.PASS and {f.word for f in verdict.findings} == {Word.SAME}
    assert sum(f.kind == "ticks" for f in verdict.findings) == len(fixture.record("bochs-intel")["benchmarks"])


CHANGES = {
    "a tick more": (slower, Code.REGRESSION, "ticks", "p50 39 to 40, handler 19 to 20 ticks"),
    "a tick less": (lambda rec: slower(rec, -1), Code.REGRESSION, "ticks", "if that is meant, make it the base"),
    "an exit more": (lambda rec: row(rec)["exits"].update(counted=400, expected=400), Code.REGRESSION, "exits",
                     "were 1 cpuid an operation, are 2 cpuid an operation"),
    "a claim fails": (claim("FAIL"), Code.CONFORMANCE, "claim", "was PASS, is FAIL: why"),
    "a claim is skipped": (claim("SKIP"), Code.REGRESSION, "claim", "was PASS, is SKIP: why"),
    "a claim misses": (claim("MISS"), Code.HARNESS, "claim", "was PASS, is MISS: why"),
    "a claim is gone": (lambda rec: rec["claims"].pop(0), Code.HARNESS, "claim", "is not there"),
    "a row is INVALID": (lambda rec: rec["benchmarks"].__setitem__(1, fixture.without_number(row(rec), "INVALID", "no exits")),
                         Code.CONFORMANCE, "row", "was PASS, is INVALID: no exits"),
    "a row is gone": (drop, Code.HARNESS, "row", "is not there"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_any_change_of_an_exact_fact_fails_and_is_named(what):
    edit, code, kind, words = CHANGES[what]
    verdict = gate.compare(emulated(2), emulated(2, 10, edit=edit))
    assert verdict.code == code
    found = [f for f in verdict.findings if f.word.code == code]
    assert found and found[0].kind == kind and any(words in f.text for f in found)


def test_what_is_better_or_new_is_said_and_never_fails():
    verdict = gate.compare(emulated(edit=claim("FAIL")), emulated(first=10))
    assert verdict.code == Code.PASS and "was FAIL, is PASS" in verdict.of(Word.BETTER)[0].text
    verdict = gate.compare(emulated(edit=drop), emulated(first=10))
    assert verdict.code == Code.PASS and verdict.of(Word.NEW)[0].name == CPUID


def test_ticks_on_which_the_base_itself_does_not_agree_are_no_fact():
    base = emulated(1) + emulated(1, 1, edit=slower)
    verdict = gate.compare(base, emulated(2, 10))
    assert [f.name for f in verdict.findings if f.kind == "time"] == [CPUID]


def test_what_is_proved_stands_whatever_else_went_wrong():
    def both(rec):
        claim("FAIL")(rec)
        drop(rec)
    assert gate.compare(emulated(), emulated(first=10, edit=both)).code == Code.CONFORMANCE


def test_alike_hardware_passes_and_a_slowdown_is_a_regression():
    assert gate.compare(hardware(1), hardware(11)).code == Code.PASS
    verdict = gate.compare(hardware(1), hardware(11, slower={3: 0.05}))
    assert verdict.code == Code.REGRESSION
    (found,) = verdict.of(Word.WORSE)
    assert found.name == "exit.synthetic_3/user" and found.change == pytest.approx(0.05, abs=0.015) and found.p < 0.01
    verdict = gate.compare(hardware(1, slower={3: 0.05}), hardware(11))
    assert verdict.code == Code.PASS and [f.name for f in verdict.of(Word.BETTER)] == ["exit.synthetic_3/user"]


def test_a_change_below_what_counts_is_none():
    assert gate.compare(hardware(1), hardware(11, slower={3: 0.008})).code == Code.PASS


def test_a_change_within_the_floor_is_none():
    wild = moody(hardware(1), [1.0, 1.3] * 5)
    verdict = gate.compare(wild, hardware(11, slower={3: 0.36}))
    (found,) = [f for f in verdict.findings if f.name == "exit.synthetic_3/user" and f.kind == "time"]
    assert found.floor > 0.2 and found.p < 0.01 and 0.02 < found.change < found.floor and found.word is Word.SAME


def moody(records, factors):
    """Benchmark 3 of each launch longer by a factor, as on a machine with two moods."""
    for rec, factor in zip(records, factors):
        one = row(rec, "exit.synthetic_3/user")
        one["summary"] = {key: value * factor for key, value in one["summary"].items()}
        one["slope"] *= factor
    return records


def test_a_median_that_moved_by_chance_is_no_regression():
    verdict = gate.compare(hardware(1), moody(hardware(11), [1.04] * 6 + [0.96] * 4))
    (found,) = [f for f in verdict.findings if f.name == "exit.synthetic_3/user" and f.kind == "time"]
    assert found.change > 0.025 > found.floor and found.p > 0.01 and found.word is Word.SAME


def test_fewer_launches_are_inconclusive_unless_asked_for():
    few = hardware(1)[:5], hardware(11)[:5]
    assert gate.compare(*few).code == Code.INCONCLUSIVE
    assert gate.compare(*few, gate.Rule(launches=5)).code == Code.PASS
    assert gate.compare(hardware(1), hardware(11), gate.Rule(must_show=0.001)).code == Code.INCONCLUSIVE


def test_power_is_what_an_injection_needs():
    base, candidate = hardware(1), hardware(11)
    shows = {f.name: f.shows for f in gate.compare(base, candidate).findings if f.kind == "time"}
    assert all(0.02 <= value < 0.05 for value in shows.values())
    assert gate.compare(base[:3], candidate[:3], gate.Rule(launches=3)).power()["blind"] == 20, "3 launches can show nothing"


def test_unlike_machines_are_refused_by_their_keys():
    other = hardware(11, machine=1)
    with pytest.raises(gate.UnlikeError, match=r"synthetic-0 \(synthetic CPU 0\).*synthetic-1 \(synthetic CPU 1\)"):
        gate.compare(hardware(1), other)
    assert gate.compare(hardware(1), other, gate.Rule(unlike=True)).code == Code.REGRESSION
    with pytest.raises(gate.UnlikeError, match="cycles and ticks are never compared"):
        gate.compare(hardware(1), emulated(), gate.Rule(unlike=True))


def test_a_target_that_only_the_base_has_is_lost():
    assert gate.compare([*hardware(1), *emulated()], hardware(11)).code == Code.HARNESS


def test_the_rank_test_is_scipys_and_exact_with_ties():
    dice = numpy.random.default_rng(3)
    a, b = dice.normal(0, 1, 10), dice.normal(0.7, 1, 10)
    assert statistics.slower(a, b) == pytest.approx(stats.mannwhitneyu(b, a, alternative="greater", method="exact").pvalue)
    a, b = dice.integers(0, 4, 6), dice.integers(1, 5, 6)
    drawn = [dice.permutation(numpy.concatenate([a, b])) for _ in range(20_000)]
    ranks = stats.rankdata(numpy.concatenate([a, b]))[6:].sum()
    by_chance = numpy.mean([stats.rankdata(one)[6:].sum() >= ranks for one in drawn])
    assert statistics.slower(a, b) == pytest.approx(by_chance, abs=0.015)
    assert statistics.slower(numpy.zeros(10), numpy.zeros(10)) == 1


def test_adjusted_as_published():
    # Benjamini & Hochberg 1995, section 4: 15 p values, of which four are rejected at 5 %.
    p = numpy.array([.0001, .0004, .0019, .0095, .0201, .0278, .0298, .0344, .0459, .3240, .4262, .5719, .6528, .7590, 1.0])
    assert (statistics.adjusted(p) <= 0.05).sum() == 4
    assert statistics.adjusted(p[::-1])[-1] == statistics.adjusted(p)[0]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    top = tmp_path_factory.mktemp("gate")
    for name, first, options in (("a", 1, {}), ("b", 11, {}), ("slow", 11, {"slower": {3: 0.05}}), ("other", 11, {"machine": 1})):
        synthetic.write(top / name, range(first, first + 10), benchmarks=20, samples=60, **options)
    return top


def call(folders, *arguments):
    return cli.execute(["gate", *(str(folders / a) if (folders / a).exists() else a for a in arguments)])


def test_codes_of_the_command(folders, capfd, tmp_path):
    assert call(folders, "a", "--", "b") == 0
    assert call(folders, "a", "--", "slow") == 1
    assert "WORSE  time exit.synthetic_3/user" in capfd.readouterr().out
    assert call(folders, "--launches=11", "a", "--", "b") == 4
    for wrong in (["a", "--", "other"], ["a"], ["--", "b"], ["a", "--", "a"], ["a", "--", "nowhere"], ["--bogus", "a", "--", "b"],
                  ["a", "--", str(tmp_path)]):
        capfd.readouterr()
        assert call(folders, *wrong) == 3, wrong
        assert "Traceback" not in capfd.readouterr().err
    assert call(folders, "--unlike", "a", "--", "other") == 1


def test_an_error_of_its_own_is_no_regression(folders, monkeypatch, capfd):
    def broken(*_):
        raise ZeroDivisionError("oh\nno")
    monkeypatch.setattr(gate, "compare", broken)
    assert call(folders, "a", "--", "b") == 3
    assert capfd.readouterr().err == "refhv: the gate itself failed: ZeroDivisionError: oh no\n"


def test_a_record_that_cannot_be_used_is_named_and_the_rest_is_judged(folders, tmp_path, capfd):
    (tmp_path / "x.json").write_text("{")
    assert call(folders, "a", "--", "b", str(tmp_path)) == 3
    assert "left out" in (said := capfd.readouterr()).err and "1 LOST, 22 same" in said.out
    assert call(folders, "a", "--", "slow", str(tmp_path)) == 1, "what is proved stands"


def test_files_that_it_leaves(folders, tmp_path):
    files = [tmp_path / name for name in ("g.md", "g.xml", "g.json")]
    assert call(folders, f"--markdown={files[0]}", f"--junit={files[1]}", f"--json={files[2]}", "a", "--", "slow") == 1
    assert "❌ refhv gate: REGRESSION" in files[0].read_text() and "exit.synthetic\\_3/user" in files[0].read_text()
    suite = xml.parse(files[1]).getroot()[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("22", "1", "0")
    assert "could have shown" in files[0].read_text()
    whole = json.loads(files[2].read_text())
    assert record.files_of([tmp_path]) == [], "a gate's own file beside records is none"
    assert whole["code"] == 1 and whole["power"]["times"] == 20 and whole["sides"]["self"]["base"]["machine_keys"] == ["synthetic-0"]
    found = next(f for f in whole["findings"] if f["word"] == "WORSE")
    assert found["base_ns"] == pytest.approx(found["base"] / 2.1)


def test_hostile_names_stay_text(folders):
    bad = "<script>|`@everyone`\x00\ud800"
    verdict = gate.compare(emulated(), emulated(first=10, edit=claim("FAIL", f"{bad}\n| a | b |")))
    text = output.markdown(verdict)
    assert "\\<script\\>\\|\\`\\@everyone\\`" in text and "\n| a" not in text
    xml.fromstring(output.as_junit(verdict))
    json.dumps(output.as_document(verdict))


def test_ten_by_ten_of_200_times_1000_in_seconds(tmp_path):
    synthetic.write(tmp_path / "a", range(1, 11))
    synthetic.write(tmp_path / "b", range(11, 21))
    begin = time.process_time()
    assert cli.execute(["gate", str(tmp_path / "a"), "--", str(tmp_path / "b")]) == 0
    assert time.process_time() - begin < 5


def test_the_proof_counts_false_alarms_and_catches_what_it_injects():
    records = [synthetic.record(launch, 12, 40) for launch in range(1, 25)]
    result = selftest.run(records, 30, gate.Rule())
    assert result.good() and result.false_alarms.share == 0 and result.caught[0.05].share == 1 and result.alone[0.10].share > 0.9
    shuffled = copy.deepcopy(records)
    for rec in shuffled[::2]:  # a machine with two moods, that the launches of one pair do not share alike
        for one in rec["benchmarks"]:
            one["summary"] = {key: value * 2 for key, value in one["summary"].items()}
            one["slope"] *= 2
    assert not selftest.run(shuffled, 30, gate.Rule()).good(), "what it cannot see is not called good"
    with pytest.raises(selftest.TooFewError, match="--launches=20"):
        selftest.run(records[:19], 3, gate.Rule())


def test_the_command_of_the_proof(folders, capfd, tmp_path):
    out = tmp_path / "rates.json"
    assert cli.execute(["selftest", "--pairs=20", f"--json={out}", str(folders / "a"), str(folders / "b")]) == 0
    said = capfd.readouterr().out
    assert "A/A: false alarms   0.0% (0 of 20)" in said and "+5% on all benchmarks: caught 100.0%" in said
    assert json.loads(out.read_text())["launches"] == 20
    assert cli.execute(["selftest", str(folders / "a")]) == 3
    assert cli.execute(["selftest", str(folders / "a"), str(folders / "other")]) == 3
