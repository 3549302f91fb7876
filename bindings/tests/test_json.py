# SPDX-License-Identifier: MIT
"""--json: each verb gives one JSON document on standard output, and nothing else there; with =FILE the words stay (docs/json.md)."""

import json
import re
from pathlib import Path

import pytest
import synthetic

from refhv import cli, departures, paths, report
from refhv.cli import answer, fleet

DOCUMENT = paths.TOP / "docs" / "json.md"
VERBS = {**cli.cli.commands, **{f"fleet {name}": verb for name, verb in fleet.fleet_group.commands.items()}}
WITHOUT = {"test", "picture", "load", "unload", "fleet"}  # a test run's last line is its answer; the others do and do not tell


@pytest.fixture
def records(tmp_path, monkeypatch):
    """Two launches of one machine, one of another, and a file that is no record."""
    folder = tmp_path / "records"
    for number, machine in ((1, 0), (2, 0), (3, 1)):
        synthetic.write(folder, range(number, number + 1), machine, benchmarks=3, samples=20)
    (folder / "broken.json").write_text("{")
    monkeypatch.setattr(report, "write", lambda directory, *_: directory / "index.html")  # the pages have tests of their own
    monkeypatch.setattr(report, "write_compare", lambda directory, _: directory / "compare.html")
    monkeypatch.setattr(report, "write_fleet", lambda directory: directory / "fleet.html")
    return folder


def document(capfd, code, *arguments):
    """What a verb leaves on standard output, which is one document; and what it says beside it."""
    assert cli.execute([*map(str, arguments), "--json"]) == code
    out, err = capfd.readouterr()

    def no_number(text):
        raise ValueError(f"{text} is no JSON")
    return json.loads(out, parse_constant=no_number), err


def test_report(records, capfd):
    found, err = document(capfd, 1, "report", records)
    assert found["directory"] == str(records) and found["pages"][0] == "index.html" and len(found["records"]) == 3
    assert len(found["left_out"]) == 1 and f"left out: {found['left_out'][0]}" in err


def test_compare(records, capfd):
    found, _ = document(capfd, 1, "compare", records)
    assert found["page"] == str(records / "compare.html") and len(found["left_out"]) == 1
    assert [one["machine_key"] for one in found["records"]] == ["synthetic-0", "synthetic-0", "synthetic-1"]
    line = next(one for one in found["benchmarks"] if one["name"] == "exit.synthetic_0/user")
    assert line["p50_ns"][0] == pytest.approx(line["p50"][0] / 2.1) and line["change"][0] == 0
    assert line["change"][2] == pytest.approx(line["p50"][2] / line["p50"][0] - 1)


def test_gate_and_its_file(records, tmp_path, capfd):
    sides = [records / "launch-001", "--", records / "launch-002"]
    assert cli.execute(["gate", "--json", *map(str, sides)]) == 4
    found = json.loads(capfd.readouterr().out)
    assert found["kind"] == "refhv gate" and found["word"] == "INCONCLUSIVE" and len([one for one in found["findings"] if one["kind"] == "time"]) == 3
    assert cli.execute(["gate", f"--json={tmp_path / 'gate.json'}", *map(str, sides)]) == 4
    assert "INCONCLUSIVE" in capfd.readouterr().out and json.loads((tmp_path / "gate.json").read_text()) == found


def test_a_record_behind_json_is_no_file_to_write(records, capfd):
    first = records / "launch-001" / "self.json"
    before = first.read_bytes()
    assert cli.execute(["gate", "--json", str(first), "--", str(records / "launch-002")]) == 4
    assert first.read_bytes() == before and json.loads(capfd.readouterr().out)["sides"]["self"]["base"]["launches"] == 1


def test_index_and_trend(records, capfd):
    found, _ = document(capfd, 1, "index", records)
    assert (found["read"], found["machines"], len(found["records"]), len(found["left_out"])) == (4, 2, 3, 1)
    found, _ = document(capfd, 1, "trend", "--all", records)
    assert {(one["benchmark"], one["machine_key"], len(one["values"])) for one in found} >= {("exit.synthetic_0/user", "synthetic-0", 2)}


def test_selftest(tmp_path, capfd):
    synthetic.write(tmp_path, range(1, 5), benchmarks=2, samples=20)
    assert cli.execute(["selftest", "--pairs=3", "--launches=2", "--json", str(tmp_path)]) == 1
    found = json.loads(capfd.readouterr().out)
    assert found["kind"] == "refhv selftest" and found["false_alarms"]["tried"] == found["pairs"] == 3 and not found["good"]


def test_run_of_one_launch_and_of_several(fixture_tools, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(departures, "load", lambda path=None: [])
    run = ["run", "--target=self,qemu-amd", f"--out={tmp_path}", "--samples=9", "--no-report"]
    found, err = document(capfd, 0, *run)
    assert [(one["launch"], one["target"], one["code"]) for one in found["launches"]] == [(None, "self", 0), (None, "qemu-amd", 0)]
    assert all(Path(one["record"]).is_file() for one in found["launches"]) and found["page"] is None and "exit.cpuid" in err
    found, err = document(capfd, 0, *run, "--launches=2")
    assert [one["launch"] for one in found["launches"]] == [1, 1, 2, 2] and "1 left" in err
    assert all(Path(one["record"]).is_file() for one in found["launches"])
    monkeypatch.setenv("FIXTURE_MODE", "miss")
    monkeypatch.setenv("FIXTURE_TARGET", "self")
    found, _ = document(capfd, 3, *run)
    assert found["code"] == 3 and [one["code"] for one in found["launches"]] == [3, 0] and "MISS" in found["launches"][0]["problem"]


def test_targets(fixture_tools, capfd):
    found, _ = document(capfd, 0, "targets")
    assert {(one["name"], one["usable"], one["emulated"]) for one in found} >= {("self", True, False), ("bochs-intel", True, True)}


def stand_in(folder, name, script):
    path = folder / name
    path.unlink(missing_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_list_and_doctor(fixture_tools, tmp_path, capfd):
    stand_in(fixture_tools, "refhv-microbench", "printf 'exit.cpuid/nested\\nexit.hlt/nested\\n'")
    assert document(capfd, 0, "list")[0] == ["exit.cpuid/nested", "exit.hlt/nested"]
    stand_in(fixture_tools, "refhv-doctor", 'if [ "$1" = --json ]; then echo \'{"findings": []}\'; else echo words; fi; exit 1')
    assert document(capfd, 1, "doctor") == ({"findings": []}, "")
    assert cli.execute(["doctor", f"--json={tmp_path / 'doctor.json'}"]) == 1
    assert capfd.readouterr().out == "words\n" and json.loads((tmp_path / "doctor.json").read_text()) == {"findings": []}
    stand_in(fixture_tools, "refhv-doctor", "exit 2")
    assert cli.execute(["doctor", "--json"]) == 2 and capfd.readouterr().out == ""


def test_fleet_report(records, tmp_path, capfd):
    for host in (1, 2):
        synthetic.write(tmp_path / "fleet" / "hosts" / f"h{host}", range(host, host + 1), benchmarks=2, samples=20)
    found, _ = document(capfd, 0, "fleet", "report", tmp_path / "fleet")
    assert [(one["host"], one["launches"]) for one in found["hosts"]] == [("h1", 1), ("h2", 1)]
    assert found["groups"][0]["machine_key"] == "synthetic-0" and set(found["groups"][0]["rows"][0]["values"]) == {"h1", "h2"}


def test_what_is_no_number_is_null(tmp_path):
    answer.Answer(str(tmp_path / "x.json")).give(lambda: {"a": (float("inf"), float("nan"), 1.5)})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": [None, None, 1.5]}


def test_a_mistake_of_the_caller_leaves_no_document(tmp_path, capfd):
    assert cli.execute(["compare", "--json", str(tmp_path)]) == 2
    out, err = capfd.readouterr()
    assert out == "" and err.count("\n") == 1


@pytest.mark.parametrize("name", sorted(VERBS))
def test_each_verb_has_it_with_an_example_and_a_place_in_the_docs(name):
    options = {word for one in VERBS[name].params for word in one.opts}
    assert ("--json" in options) == (name not in WITHOUT)
    if name != "fleet":
        example = VERBS[name].help.partition("Example: ")[2]
        assert f"{paths.COMMAND} {name} " in f"{' '.join(example.split())} ", "shows how it is called"
    if name not in WITHOUT:
        assert re.search(rf"^\| [^|]*`{name}`", DOCUMENT.read_text(), re.M), name


def test_completion_knows_verbs_and_options(monkeypatch):
    from click.shell_completion import BashComplete

    def completed(words, begun):
        return {one.value for one in BashComplete(cli.cli, {}, "refhv", "_REFHV_COMPLETE").get_completions(words, begun)}
    assert completed([], "co") == {"compare"}
    assert "--json" in completed(["gate"], "--j") and completed(["fleet"], "che") == {"check"}
