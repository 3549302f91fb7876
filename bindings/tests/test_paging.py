# SPDX-License-Identifier: MIT
"""paging.html, from records whose sweep comes out of the walk model: what it shows must be what was put in."""

import copy
import html
import json

import fixture_microbench as fixture
import pytest

from refhv import browser, leaks, paging, record, report, sweep, tables, walkmodel
from refhv.walkmodel import Cache

SIZES = [size for power in range(3, 15) for size in (1 << power, 3 << (power - 1))] + [1 << 15]
ACCESSES, COST = 2048, 40
DATA = [Cache(768, 6), Cache(12288, 24)]
FIRST, SECOND = Cache(64, 5), Cache(1536, 60)  # of 4K pages
CLAIMS = ["Tlb.chase_visits_every_page_once", "Tlb.pages_of_4k_have_the_size_asked_for"]


def row(page, layout, lines, cycles):
    """A row whose every sample is `cycles` an access, to the cycle."""
    name = f"tlb.{page}{'_inside' if layout == 'inside' else ''}.{lines}/user"
    net = round(cycles * ACCESSES)
    found = fixture.benchmark(name, "cycles", net, list(CLAIMS), n=9)
    found["samples"] = [net + COST] * 9
    found |= {"stamp_cost": COST, "summary": dict.fromkeys(found["summary"], net / ACCESSES) | {"mad": 0},
              "p50_interval": [net / ACCESSES] * 2, "slope": net / ACCESSES}
    found["chase"] = {"page_bytes": 4096 if page == "4k" else 1 << 21, "layout": layout, "lines": lines, "accesses": ACCESSES,
                      "memory": "the fixture's", "contiguous_groups": None, "walks_event": "none", "walks_per_access": None,
                      "walks_missing": "the fixture <counts> no walks"}
    return found


def with_sweep(translations):
    """A record of `self` with a sweep; `translations`: page size to the TLBs that it misses."""
    rec = fixture.record("self")
    rec["claims"] += [fixture.claim(name) for name in CLAIMS]
    for page, caches in translations.items():
        for layout, extra in (("spread", caches), ("inside", [])):
            values = walkmodel.expected(SIZES, [*DATA, *extra], 4)
            rec["benchmarks"] += [row(page, layout, lines, value) for lines, value in zip(SIZES, values)]
    return rec


@pytest.fixture(scope="module")
def rec():
    return with_sweep({"4k": [FIRST, SECOND], "2m": []})


@pytest.fixture(scope="module")
def directory(rec, tmp_path_factory):
    path = tmp_path_factory.mktemp("paging")
    skipped = fixture.record("bochs-intel")
    skipped["benchmarks"] += [fixture.without_number(row("4k", "spread", lines, 1) | {
        "name": f"tlb.4k.{lines}/nested", "mode": "nested", "unit": "ticks"}, "SKIP", "instruction-counting emulator: no TLB cost")
        for lines in (8, 12)]
    (path / "self.json").write_text(json.dumps(rec))
    (path / "bochs-intel.json").write_text(json.dumps(skipped))
    return path


def test_the_fixture_is_a_record(rec):
    assert record.faults(rec) == []


def test_samples_are_held_against_a_summary_of_one_access(rec):
    wrong = copy.deepcopy(rec)
    wrong["benchmarks"][-1]["summary"]["p50"] *= 1.01
    assert any("summary.p50" in fault for fault in record.faults(wrong))


def test_a_chase_without_its_accesses_is_no_record(rec):
    wrong = copy.deepcopy(rec)
    del wrong["benchmarks"][-1]["chase"]["accesses"]
    assert any("'accesses' is a required property" in fault for fault in record.faults(wrong))


def test_cost_of_a_miss_is_what_was_put_in(rec):
    found = sweep.miss_cost(rec, "4k")
    assert found.lines == (16384, 24576, 32768)
    assert found.cost == pytest.approx(FIRST.cost + SECOND.cost, abs=0.01)
    assert (found.inside, found.beyond) == pytest.approx((34, 99), abs=0.01)
    assert sweep.miss_cost(rec, "2m").cost == 0
    assert sweep.miss_cost(rec, "1g") is None


def test_no_cost_without_three_sizes(rec):
    less = copy.deepcopy(rec)
    less["benchmarks"] = [r for r in less["benchmarks"] if r["name"] != "tlb.4k_inside.24576/user"]
    assert sweep.miss_cost(less, "4k") is None


def test_knees_are_the_translations_not_the_data_caches(rec):
    assert [(knee.inside, round(knee.rise)) for knee in sweep.find(rec, "4k")] == [(64, 5), (1536, 60)]
    assert sweep.find(rec, "2m") == []
    assert not sweep.splintered(rec)


def test_the_model_drawn_is_the_model_put_in(rec):
    drawn, measured = sweep.model(rec, "4k"), sweep.curve(rec, "4k")
    assert drawn.p50 == pytest.approx(measured.p50, rel=0.02)
    assert sweep.model(rec, "2m") is None


def test_small_pages_underneath_are_noticed():
    assert sweep.splintered(with_sweep({"4k": [FIRST, SECOND], "2m": [FIRST, Cache(1536, 30)]}))


def test_a_difference_where_there_must_be_none_is_the_floor(rec):
    assert sweep.floor(rec, "4k") == 0
    off = copy.deepcopy(rec)
    next(r for r in off["benchmarks"] if r["name"] == "tlb.4k.32/user")["summary"]["p50"] += 0.75
    assert sweep.floor(off, "4k") == pytest.approx(0.75)


@pytest.mark.parametrize(("page", "inside", "native"), [("4k", 24, 4), ("2m", 19, 3), ("1g", 14, 2)])
def test_references(rec, page, inside, native):
    bare = copy.deepcopy(rec)
    bare["machine"]["hypervisor"] = None
    assert (sweep.references(rec, page), sweep.references(bare, page)) == (inside, native)


def test_tlbs_of_cpuid(rec):
    amd, intel = copy.deepcopy(rec), copy.deepcopy(rec)
    amd["machine"] |= {"vendor": "AuthenticAMD", "cpuid": [
        {"leaf": 0x80000005, "subleaf": 0, "eax": 0xFF60FF40, "ebx": 0xFF48FF40, "ecx": 0, "edx": 0},
        {"leaf": 0x80000006, "subleaf": 0, "eax": 0x4C006040, "ebx": 0x6C006040, "ecx": 0, "edx": 0}]}
    assert sweep.cpuid_tlbs(amd) == {"4k": [("L1", 72), ("L2", 3072)], "2m": [("L1", 96), ("L2", 3072)], "1g": []}
    intel["machine"] |= {"vendor": "GenuineIntel", "cpuid": [
        {"leaf": 0x18, "subleaf": 1, "eax": 0, "ebx": 0x60001, "ecx": 16, "edx": 0x4024},
        {"leaf": 0x18, "subleaf": 2, "eax": 0, "ebx": 0x80001, "ecx": 32, "edx": 0x4022},
        {"leaf": 0x18, "subleaf": 5, "eax": 0, "ebx": 0x80003, "ecx": 128, "edx": 0x4043}]}
    assert sweep.cpuid_tlbs(intel) == {"4k": [("L1", 96), ("L2", 1024)], "2m": [("L2", 1024)], "1g": []}


def test_page_and_report_part_the_rows(directory):
    page = report.write(directory, only=("paging.html", "report.html")).with_name("paging.html")
    text = " ".join(html.unescape(browser.text(page)).split())
    assert leaks.requests_in(page.read_text()) == [] and browser.requests(page) == []
    assert "inside a virtual machine (KVM (fixture))" in text and "two-dimensional" in text
    assert "65.0" in text and "24 (4 × 4)" in text and "the fixture <counts> no walks" in text
    assert "instruction-counting emulator: no TLB cost" in text and "tlb.4k.8/nested to tlb.4k.12/nested, 2 rows" in text
    assert "<title>refhv: what paging costs" in page.read_text()
    other = (directory / "report.html").read_text()
    assert "tlb." not in other and "Tlb." not in other and "exit.cpuid" in other


def test_no_page_without_such_rows(tmp_path):
    (tmp_path / "self.json").write_text(json.dumps(fixture.record("self")))
    (tmp_path / "paging.html").write_text("of an earlier run")
    report.write(tmp_path, only=("report.html",))
    assert not (tmp_path / "paging.html").exists()


def test_bare_metal_is_labelled_so(rec, tmp_path):
    bare = copy.deepcopy(rec)
    bare["machine"]["hypervisor"] = None
    run = tables.Run([bare])
    assert "one-dimensional" in paging.where(run).data
    assert "INSIDE A VM" not in paging.sweeps(run).data
    assert "INSIDE A VM" in paging.sweeps(tables.Run([rec])).data
