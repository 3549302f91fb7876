# SPDX-License-Identifier: MIT
import json

import fixture_microbench as fixture
import pytest

from refhv import anchors, browser, leaks, notebook, plots, published, report, tables

TARGETS = ("self", "bochs-intel", "qemu-amd")
FAILING = "Exit.rdmsr_exits_when_intercepted"


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    path = tmp_path_factory.mktemp("run")
    for target in TARGETS:
        rec = fixture.record(target)
        if target == "qemu-amd":
            fixture.break_claim(rec, FAILING, "a <b>bold</b> detail & more")
        (path / f"{target}.json").write_text(json.dumps(rec))
    (path / "bochs-amd.json").write_text('{"cut": ')
    departure = {"target": "qemu-amd", "claim": FAILING, "section": "APM 2 15.5", "instead": "does something else"}
    (path / "run.json").write_text(json.dumps({"problems": ["MISS bochs-amd: its record is cut short"], "departures": [departure]}))
    return path


@pytest.fixture(scope="module")
def page(directory):
    return report.write(directory).with_name("report.html")


@pytest.fixture
def run_(directory):
    return tables.load(str(directory))


def test_page_asks_for_nothing(page):
    text = page.read_text()
    assert leaks.requests_in(text) == []
    assert "<script" not in text
    assert browser.requests(page) == []


LEAKS = {
    "<script src='http://127.0.0.1:9/x.js'></script>": "http://127.0.0.1:9/x.js",
    '<link rel="stylesheet" href="file:///usr/share/x.css">': "file:///usr/share/x.css",
    "<img alt=a src=//host.invalid/x.png>": "//host.invalid/x.png",
    "<style>@import 'http://127.0.0.1:9/y.css';</style>": "http://127.0.0.1:9/y.css",
    "<p style='background:url(http://127.0.0.1:9/z.png)'>": "http://127.0.0.1:9/z.png",
}


@pytest.mark.parametrize("leak", LEAKS)
def test_a_leak_would_be_found(leak):
    assert leaks.requests_in(f"<html>{leak}</html>") == [LEAKS[leak]]


def test_chromium_would_see_a_leak(tmp_path):
    page = tmp_path / "a.html"
    page.write_text('<html><head><meta http-equiv="Content-Security-Policy" content="default-src \'none\'"></head>'
                    '<img src="http://127.0.0.1:9/x.png"></html>')
    assert browser.requests(page) == ["http://127.0.0.1:9/x.png"]


def test_page_shows_what_it_must(page):
    text = browser.text(page)
    assert all(target in text for target in TARGETS)
    assert text.count("EMULATED") > 20
    assert "MISS bochs-amd: its record is cut short" in text
    assert f"claim {FAILING} failed" in text
    assert "does something else" in text and "FAIL (known)" in text
    assert "SVM has no preemption timer" in text
    assert "a &lt;b&gt;bold&lt;/b&gt; detail &amp; more" in page.read_text()


def test_what_the_doctor_found_stands_beside_hardware_only(run_):
    text = tables.machines(run_).data
    notice = text.partition("What stands against the numbers of self</strong>")[2]
    assert "<strong>WARN turbo</strong>: on &lt;fixture&gt;<br><small>echo 1 &gt; no_turbo</small>" in notice
    assert "BLOCKED virtualization" in notice and "invariant" not in notice
    assert text.count("What stands against") == 1
    for rec in run_.records:
        rec["doctor"] = None
    assert "What stands against" not in tables.machines(run_).data


def test_no_number_of_a_row_without_one(run_):
    frame = tables.rows(run_)
    lost = frame[frame.verdict != "PASS"]
    assert len(lost) == 3
    assert lost[["min", "p50", "p90", "p99", "max", "mad", "exit_part", "handler_part", "entry_part"]].isna().all(axis=None)


def test_a_row_per_exit_and_machine(run_):
    body = tables.every_row(run_).data.partition("<tbody>")[2]
    assert body.count("<tr>") == sum(len(rec["benchmarks"]) for rec in run_.records)


def test_ticks_and_cycles_never_share_a_figure(run_):
    for group in plots.groups(run_):
        assert len({rec["target"]["unit"] for rec in group}) == 1
    with pytest.raises(AssertionError):
        plots.panelled(run_.records, ["a"], 1.0)


def test_emulated_axes_name_ticks(run_):
    for rec in run_.records:
        label = plots.axis_label(rec["target"])
        assert ("ticks" in label) == rec["target"]["emulated"]
        assert ("EMULATED" in plots.title(rec)) == rec["target"]["emulated"]


def test_published_numbers_stand_beside_hardware_only(run_):
    assert "exit.cpuid" in published.against_published(run_).data
    emulated = tables.Run([r for r in run_.records if r["target"]["emulated"]])
    assert published.against_published(emulated).data == ""
    assert all(anchor.source for anchor in anchors.ANCHORS)


def test_a_run_without_any_record_still_has_a_report(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"problems": ["MISS self: it died"], "departures": []}))
    assert "MISS self: it died" in report.write(tmp_path).read_text()


def test_a_broken_notebook_is_one_line_and_the_right_one(tmp_path):
    import nbformat

    for name, source in (("sound", "1"), ("broken", "raise KeyError('p50')"), ("after", "2")):
        nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)]), tmp_path / f"{name}.ipynb")
    with pytest.raises(notebook.ReportError, match="broken.ipynb: KeyError") as error:
        notebook.execute_all(tmp_path, [notebook.Job(tmp_path / f"{name}.ipynb") for name in ("sound", "broken", "after")])
    assert "\n" not in str(error.value)


def test_hostile_names_give_a_page_and_stay_text(tmp_path):
    evil = "<img src=x onerror=alert(1)>$\\frac{$ \"'& \x00\x1b[2J</script></style>"
    for number, target in enumerate(("self", "self", "bochs-intel", "bochs-intel")):
        rec = fixture.record(target)
        rec["machine"] |= {"name": f"{evil}{number}", "brand": evil, "hypervisor": evil}
        rec["environment"] |= {"revision": evil, "instance": evil}
        rec |= {"run_id": f"{evil}{number}"}
        rec["claims"][0] |= {"verdict": "FAIL", "detail": evil, "section": evil}
        rec["benchmarks"] = [fixture.without_number(row, "INVALID", evil) if rec["claims"][0]["name"] in row["claims"] else row
                             for row in rec["benchmarks"]]
        (tmp_path / f"{number}.json").write_text(json.dumps(rec))
    (tmp_path / "run.json").write_text(json.dumps({"problems": [evil], "departures": [3]}))
    report.write(tmp_path)
    found = sorted(tmp_path.glob("*.html"))
    assert len(found) == 7 and {page.name.partition("-")[0] for page in found} == {"compare.html", "index.html", "machine", "report.html"}
    for page in found:
        text = page.read_text()
        assert "<img src=x" not in text and "&lt;img src=x" in text and leaks.requests_in(text) == []
