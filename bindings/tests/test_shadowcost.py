# SPDX-License-Identifier: MIT
"""Shadow against nested paging in paging.html: crossings and break-even costs with known answers, and what the page shows."""

import copy
import html
import json

import fixture_microbench as fixture
import pytest

from refhv import browser, leaks, paging, record, report, shadowcost, tables

SHARES = (0, 1, 5, 10, 25, 50, 100)
CLAIM = "Paging.paging_shadow_takes_no_exits_once_warm"


def row(name, mode, value, reasons, batch=1):
    found = fixture.benchmark(f"shadow.{name}/{mode}", "ticks", value * batch, [CLAIM], n=8)
    found["summary"] = {key: number / batch for key, number in found["summary"].items()}
    found |= {"slope": value, "p50_interval": [value, value], "exits": {"reason": None, "expected": 0, "counted": 0},
              "exits_per_operation": {"total": sum(reasons.values()), "by_reason": reasons}}
    return found | ({"batch": batch} if batch > 1 else {})


def with_shadow(nested, shadow):
    """A record whose mixed rows cost nested(share) and shadow(share)."""
    rec = fixture.record("bochs-intel")
    rec["claims"].append(fixture.claim(CLAIM))
    rec["benchmarks"] += [row("map", "nested", 2, {}), row("map", "shadow", 1571, {"exception": 1})]
    for share in SHARES:
        rec["benchmarks"] += [row(f"mix_{share}", "nested", nested(share), {}, 500),
                              row(f"mix_{share}", "shadow", shadow(share), {"invlpg": share / 100} if share else {}, 500)]
    return rec


@pytest.fixture(scope="module")
def tied():
    return with_shadow(lambda share: 1, lambda share: 1 + 8 * share)


def test_the_fixture_is_a_record(tied):
    assert record.faults(tied) == []


def test_exits_under_nested_paging_are_a_fault(tied):
    wrong = copy.deepcopy(tied)
    next(r for r in wrong["benchmarks"] if r["name"] == "shadow.map/nested")["exits_per_operation"] = {
        "total": 1, "by_reason": {"exception": 1}}
    assert any("under nested paging" in fault for fault in record.faults(wrong))


def test_a_total_that_is_no_sum_is_a_fault(tied):
    wrong = copy.deepcopy(tied)
    next(r for r in wrong["benchmarks"] if r["name"] == "shadow.map/shadow")["exits_per_operation"]["total"] = 2
    assert any("not the sum" in fault for fault in record.faults(wrong))


def test_a_summary_is_of_one_operation_of_its_batch(tied):
    wrong = copy.deepcopy(tied)
    next(r for r in wrong["benchmarks"] if r["name"] == "shadow.mix_5/shadow")["summary"]["p50"] *= 500
    assert any("summary.p50" in fault for fault in record.faults(wrong))


@pytest.mark.parametrize(("nested", "expected"), [
    (lambda share: 1, 0),             # a tie without updates, then dearer
    (lambda share: 41, 5),            # exactly at a share that was measured
    (lambda share: 61, 7.5),          # between two of them
    (lambda share: 10_000, 100),      # cheaper everywhere
    (lambda share: 0.5, None),        # cheaper nowhere
])
def test_crossing(nested, expected):
    rec = with_shadow(nested, lambda share: 1 + 8 * share)
    assert shadowcost.crossing(rec, "shadow") == (None if expected is None else pytest.approx(expected))
    assert shadowcost.crossing(rec, "vtlb") is None


def test_break_even_is_spread_over_the_touches(tied):
    assert dict(shadowcost.break_even(tied, "shadow")) == pytest.approx({0: 0, 1: 8 / 0.99, 5: 40 / 0.95, 10: 80 / 0.9, 25: 200 / 0.75,
                                                                         50: 400 / 0.5})


def test_a_row_without_number_is_no_point(tied):
    less = copy.deepcopy(tied)
    at = next(i for i, r in enumerate(less["benchmarks"]) if r["name"] == "shadow.mix_5/shadow")
    less["benchmarks"][at] = fixture.without_number(less["benchmarks"][at], "INVALID", "because")
    assert [point.share for point in shadowcost.mix(less, "shadow")] == [0, 1, 10, 25, 50, 100]
    assert "because" in shadowcost.operations(tables.Run([less])).data


def test_page(tied, tmp_path):
    (tmp_path / "bochs-intel.json").write_text(json.dumps(tied))
    page = report.write(tmp_path, only=("paging.html", "report.html")).with_name("paging.html")
    text = " ".join(html.unescape(browser.text(page)).split())
    assert leaks.requests_in(page.read_text()) == []
    assert "1,571" in text and "1 #PF 1" in text and "Shadow and nested cross at 0 %" in text
    assert "What a TLB miss costs" not in text, "no section that says only that there is nothing"
    assert "shadow." not in (tmp_path / "report.html").read_text()
    assert paging.miss_costs(tables.Run([tied])).data == ""


def test_flushes_are_parted_by_who_does_them():
    rec = fixture.record("bochs-intel")
    rec["claims"].append(fixture.claim(CLAIM))
    flush = [row("x", mode, value, {}) | {"name": f"flush.{name}/{mode}", "family": "flush"} for name, mode, value in (
        ("invlpg", "native", 11), ("invlpg", "nested", 12), ("invlpg", "shadow", 1313), ("invept_single", "nested", 909))]
    rec["benchmarks"] += [*flush, row("x", "nested", 227, {}) | {"name": "fault.violation/nested", "family": "fault"}]
    run = tables.Run([rec])
    guest, host, faults = (made(run).data for made in (shadowcost.guest_flushes, shadowcost.host_flushes, shadowcost.faults))
    assert "1,313" in guest and "invept" not in guest
    assert "909" in host and "invlpg" not in host
    assert "227" in faults and "flush" not in faults


def test_a_row_with_a_number_nowhere_has_no_line():
    rec = fixture.record("bochs-intel")
    rec["benchmarks"].append(fixture.without_number(row("gone", "nested", 1, {}), "SKIP", "not here"))
    assert shadowcost.operations(tables.Run([rec])).data == ""
