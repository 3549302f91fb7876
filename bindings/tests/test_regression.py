# SPDX-License-Identifier: MIT
"""regression.html: the gate's verdict with intervals, and nothing of a record is markup in it."""

import re

import numpy
import pytest
import synthetic
from scipy import stats

from refhv import browser, cli, gate, leaks, regression
from refhv.gate import statistics

EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def sides(tmp_path_factory):
    """Ten launches a side of one machine; benchmark 3 is 8 % slower."""
    folder = tmp_path_factory.mktemp("sides")
    synthetic.write(folder / "base", range(1, 11), benchmarks=6, samples=40)
    synthetic.write(folder / "candidate", range(11, 21), benchmarks=6, samples=40, slower={3: 0.08})
    return folder


def test_the_page_is_the_gates(sides, capfd):
    page = sides / "r.html"
    assert cli.execute(["gate", f"--page={page}", str(sides / "base"), "--", str(sides / "candidate")]) == gate.Code.REGRESSION
    told = capfd.readouterr().out.splitlines()[-1]
    text = page.read_text()
    seen = " ".join(browser.text(page).split())
    assert told in seen and leaks.requests_in(text) == []
    found = re.search(r"WORSE time exit.synthetic_3/user.*?(\+\d+\.\d%) \[(\+\d+\.\d%), (\+\d+\.\d%)\]", seen)
    change, low, high = (float(word.rstrip("%")) for word in found.groups())
    assert low <= 8 <= high and low < change < high and "5 the same" in seen
    assert 'alt="self: 6 times, 1 worse: exit.synthetic_3/user +' in text


def test_unlike_sides_are_refused(sides, tmp_path, capfd):
    synthetic.write(tmp_path / "other", range(30, 33), machine=5, benchmarks=6, samples=40)
    assert cli.execute(["report", str(tmp_path / "other"), f"--base={sides / 'base'}"]) == 2
    assert "unlike machines" in capfd.readouterr().err and not list(tmp_path.rglob("*.html"))


def test_words_of_a_record_stay_text():
    finding = gate.Finding(EVIL, "claim", EVIL, gate.Word.BROKEN, EVIL)
    verdict = gate.Verdict(gate.Rule(), [finding], {EVIL: (gate.Side(1, [EVIL], [EVIL], [EVIL]),) * 2})
    shown = regression.headline(verdict, [], [EVIL]).data + regression.differs(verdict).data + regression.judged(verdict).data
    assert "<img" not in shown and shown.count("&lt;img") >= 6


def test_an_interval_holds_the_change_as_often_as_it_says():
    dice = numpy.random.default_rng(5)
    held = 0
    for _ in range(400):
        base, candidate = 100 * (1 + 0.01 * dice.standard_normal(10)), 103 * (1 + 0.01 * dice.standard_normal(10))
        low, high = statistics.interval(base, candidate)
        held += low <= 0.03 <= high
    assert 0.93 <= held / 400 <= 0.985


def test_an_interval_and_the_rank_sum_agree():
    dice = numpy.random.default_rng(6)
    for _ in range(60):
        base, candidate = 100 + dice.standard_normal(8), 100.9 + dice.standard_normal(9)
        low, high = statistics.interval(base, candidate)
        p = stats.mannwhitneyu(base, candidate, method="exact").pvalue
        assert (low > 0 or high < 0) == (p <= 0.05)


def test_too_few_launches_have_none():
    assert statistics.interval(numpy.array([1.0, 2.0, 3.0]), numpy.array([4.0, 5.0, 6.0])) is None
