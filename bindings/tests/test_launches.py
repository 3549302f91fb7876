# SPDX-License-Identifier: MIT
"""run --launches: one record each, in shuffled order, and an interrupted run goes on where it stopped."""

import json
import re

import pytest

from refhv import cli, departures, launches, record, run, signals

FAST = ["--silence=1", "--limit=20", "--no-report"]


@pytest.fixture
def out(fixture_tools, tmp_path, monkeypatch):
    monkeypatch.setattr(departures, "load", lambda path=None: [])
    monkeypatch.setenv("FIXTURE_MODE", "ok")
    return tmp_path / "out"


def call(out, *arguments):
    return cli.execute(["run", f"--out={out}", "--target=self,qemu-amd", "--samples=9", *FAST, *arguments])


def test_a_record_a_launch_and_target_in_shuffled_order(out, capfd):
    assert call(out, "--launches=4") == 0
    found = sorted(str(path.relative_to(out / "latest")) for path in record.files_of([out / "latest"]))
    assert found == sorted(f"launch-{n:03}/{target}.json" for n in range(1, 5) for target in ("self", "qemu-amd"))
    plan = launches.load(out / "latest")
    assert sorted(plan.order) == sorted((n, target) for n in range(1, 5) for target in ("self", "qemu-amd"))
    assert list(plan.done) == plan.order and not plan.left()
    assert re.search(r"; 7 left, \d+ s\n", capfd.readouterr().out)


def test_orders_differ(out):
    orders = set()
    for _ in range(3):
        call(out, "--launches=6")
        orders.add(tuple(launches.load(out / "latest").order))
    assert len(orders) > 1


def test_one_launch_lies_as_ever(out):
    assert call(out) == 0
    assert (out / "latest" / "self.json").exists() and not (out / "latest" / launches.PLAN).exists()


def test_an_interrupted_run_goes_on_where_it_stopped(out, monkeypatch, capfd):
    real, calls = run.run_targets, []

    def interrupted(options, directory, *rest):
        calls.append((directory.name, *options.targets))
        if len(calls) == 3:
            (directory / f"{options.targets[0]}.json").write_text('{"cut": ')  # as a launch that was cut short leaves it
            raise signals.Interrupted(2)
        real(options, directory, *rest)
    monkeypatch.setattr(run, "run_targets", interrupted)
    assert call(out, "--launches=3") == 130
    folder = next(path for path in out.iterdir() if path.is_dir())
    assert f"2 of 6 launches are kept in {folder}; ./suite run --resume={folder} goes on" in capfd.readouterr().err
    assert cli.execute(["run", f"--resume={folder}"]) == 0
    assert len(calls) == 3 + 4 and len(set(calls)) == 6 and calls[3] == calls[2]
    assert all(record.load(path) for path in record.files_of([folder]))


def test_a_launch_that_dies_is_not_made_again_and_is_said(out, monkeypatch):
    monkeypatch.setenv("FIXTURE_MODE", "die")
    monkeypatch.setenv("FIXTURE_TARGET", "self")
    assert call(out, "--launches=2") == run.MISS
    folder = (out / "latest").resolve()
    assert "MISS self" in json.loads((folder / "run.json").read_text())["problems"][0]
    assert cli.execute(["run", f"--resume={folder}"]) == run.MISS
    assert not launches.load(folder).left()


def test_what_a_launch_that_was_cut_short_left_is_not_taken_for_its_record(out, monkeypatch):
    real = run.run_targets

    def interrupted(options, directory, *rest):
        real(options, directory, *rest)
        raise signals.Interrupted(2)
    monkeypatch.setattr(run, "run_targets", interrupted)
    assert cli.execute(["run", f"--out={out}", "--target=self", *FAST, "--launches=2"]) == 130
    (left,) = record.files_of([out])
    monkeypatch.setattr(run, "run_targets", real)
    monkeypatch.setenv("FIXTURE_MODE", "hang_at_start")
    folder = next(path for path in out.iterdir() if path.is_dir())
    assert cli.execute(["run", f"--resume={folder}"]) == run.MISS
    assert not left.exists()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 1, "options": 3}', '{"version": 9}', "[" * 100_000])
def test_a_broken_plan_is_one_line(tmp_path, text, capfd):
    (tmp_path / launches.PLAN).write_text(text)
    assert cli.execute(["run", f"--resume={tmp_path}"]) == 2
    assert capfd.readouterr().err.count("\n") == 1


def test_a_folder_without_a_plan_is_one_line(tmp_path):
    with pytest.raises(launches.PlanError, match="it is not a run of --launches"):
        launches.load(tmp_path)
