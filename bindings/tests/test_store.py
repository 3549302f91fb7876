# SPDX-License-Identifier: MIT
"""The index is made from records and nothing else; trends find what changed, and nothing where nothing did."""

import json
import sqlite3
import time

import fixture_microbench as fixture
import numpy
import pytest
import synthetic

from refhv import cli, record, store, trend


@pytest.fixture
def folder(tmp_path):
    """20 launches on one machine, of which the last 8 have benchmark 2 slower by 8 %, and one of another."""
    synthetic.write(tmp_path / "a", range(1, 13), benchmarks=5, samples=40)
    synthetic.write(tmp_path / "a", range(13, 21), benchmarks=5, samples=40, slower={2: 0.08})
    synthetic.write(tmp_path / "b", range(1, 2), 1, benchmarks=5, samples=40)
    return tmp_path


def test_queries(folder):
    with store.Store(folder) as index:
        assert index.update() == store.Indexed(21, 0, 0, [])
        assert len(index.records()) == 21 and len(index.points()) == 21 * 5
        assert len(index.points(benchmark="exit.*_2/user")) == 21
        assert {point.cpu for point in index.points(cpu="cpu 1")} == {"synthetic CPU 1"}
        assert len(index.points(target="self", since="2026-01-01T20", benchmark="*_0/*")) == 1
        assert len(index.points(until="2026-01-01T02", benchmark="*_0/*")) == 3
        assert index.points(target="no'such") == []
        one = index.points(benchmark="*_0/*")[0]
        assert one.p50_ns == pytest.approx(one.p50 / 2.1) and one.unit == "cycles"
        frame = index.frame(benchmark="*_0/*")
        assert list(frame.columns)[:2] == ["run_id", "started"] and len(frame) == 21


def test_only_what_changed_is_read_again(folder):
    with store.Store(folder) as index:
        index.update()
        assert index.update() == store.Indexed(0, 21, 0, [])
        (folder / "b" / "launch-001" / "self.json").unlink()
        synthetic.write(folder / "c", range(30, 31), 2, benchmarks=5, samples=40)
        (folder / "bad.json").write_text("{")
        done = index.update()
        assert (done.read, done.kept, done.gone) == (2, 20, 1) and len(done.problems) == 1
        assert index.update().problems == done.problems, "what cannot be used is said every time"
        assert len(index.records()) == 21
    rebuilt = store.Store(folder)
    assert rebuilt.rebuild().read == 22 and len(rebuilt.points()) == 21 * 5


def test_a_copy_is_no_second_record(folder):
    (folder / "copy.json").write_text((folder / "b" / "launch-001" / "self.json").read_text())
    with store.Store(folder) as index:
        (problem,) = index.update().problems
        assert "the same launch as" in problem and len(index.records()) == 21


@pytest.mark.parametrize("spoil", [lambda path: path.write_bytes(b"no database" * 100),
                                   lambda path: sqlite3.connect(path).executescript("PRAGMA user_version = 99").close()])
def test_a_broken_index_is_made_anew(folder, spoil):
    store.Store(folder).update()
    spoil(folder / store.NAME)
    with store.Store(folder) as index:
        assert index.update().read == 21


def test_change_points_with_known_answers():
    dice = numpy.random.default_rng(5)
    steady = 1000 * (1 + 0.01 * dice.standard_normal(60))
    assert trend.change_points(steady) == []
    stepped = steady * numpy.repeat([1, 1.06, 0.9], [25, 15, 20])
    found = trend.change_points(stepped)
    assert [change.index for change in found] == pytest.approx([25, 40], abs=1)
    assert [change.change for change in found] == pytest.approx([0.06, 0.9 / 1.06 - 1], abs=0.01)
    outlier = steady.copy()
    outlier[30] *= 5
    assert trend.change_points(outlier) == []
    assert trend.change_points([20.0] * 30) == [] and trend.change_points([20.0] * 8 + [21.0] * 8)[0].index == 8
    assert trend.change_points([1.0] * 4 + [2.0] * 4) == [], "too few"


def test_false_alarms_are_rare():
    dice = numpy.random.default_rng(6)
    assert sum(bool(trend.change_points(dice.lognormal(5, 0.05, 30))) for _ in range(200)) <= 1


def test_a_regression_that_nobody_gated_is_seen(folder, capfd):
    assert cli.execute(["trend", str(folder), "--json"]) == 1
    (found,) = json.loads(capfd.readouterr().out)
    assert found["benchmark"] == "exit.synthetic_2/user" and found["changes"][0]["index"] == 12
    assert found["changes"][0]["change"] == pytest.approx(0.08, abs=0.02)
    assert cli.execute(["trend", str(folder), "--until=2026-01-01T12"]) == 0
    capfd.readouterr()
    assert cli.execute(["trend", str(folder)]) == 1
    assert "10 benchmarks over time, 1 of them changed" in (out := capfd.readouterr().out) and "+7.1%" in out and "▁" in out


def test_the_verbs_say_what_they_leave_out(folder, capfd):
    assert cli.execute(["index", str(folder)]) == 0
    assert "21 records of 2 machines; read 21" in capfd.readouterr().out
    (folder / "bad.json").write_text("[")
    assert cli.execute(["index", str(folder)]) == 1
    assert "left out: " in capfd.readouterr().err
    assert cli.execute(["index", "--rebuild", str(folder)]) == 1
    assert cli.execute(["index", str(folder / "nowhere")]) == 2


def test_google_benchmarks_json_comes_in(tmp_path):
    path = tmp_path / "g.json"
    path.write_text(json.dumps({"context": {}, "benchmarks": [
        {"name": "a", "run_type": "iteration", "real_time": 2.5, "time_unit": "us"}, {"name": "b", "error_occurred": True, "real_time": 0},
        {"name": "a_mean", "run_type": "aggregate", "real_time": 2.5, "time_unit": "us"}]}))
    assert store.import_benchmark_json(path) == {"a": 2500}
    for text in ("", "[]", '{"benchmarks": [{"name": 1}]}', '{"benchmarks": 3}'):
        path.write_text(text)
        with pytest.raises(store.StoreError):
            store.import_benchmark_json(path)


def test_a_record_of_200_times_1000_is_indexed_in_a_thousandth_of_a_minute_of_two_cpus(tmp_path):
    synthetic.write(tmp_path, range(1, 9))
    begin = time.process_time()
    with store.Store(tmp_path) as index:
        index.update(workers=1)
    assert (time.process_time() - begin) / 8 < 0.120
    assert record.faults(fixture.record("self")) == []
