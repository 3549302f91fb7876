# SPDX-License-Identifier: MIT
"""compare.html: keyed by record, sortable and searchable in a browser, and nothing of a record is markup in it."""

import base64
import csv
import io
import json
import re
import time

import fixture_microbench as fixture
import pytest
import synthetic

from refhv import browser, cli, comparison, leaks, report

EVIL = "<img src=x onerror=alert(1)>\"'&</script>"


def launched(rec, minute, name=None):
    rec |= {"run_id": f"{rec['run_id']}-{minute}", "started": f"2026-01-02T03:{minute:02}:05Z"}
    if name:
        rec["machine"]["name"] = name
    return rec


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three launches of one CPU's `self`, with other numbers, one of another with a hostile name, and two emulators."""
    path = tmp_path_factory.mktemp("compare")
    found = [launched(synthetic.record(n, 6, 30), n) for n in (1, 2, 3)]
    found += [launched(synthetic.record(4, 6, 30, machine=9), 4, EVIL), fixture.record("bochs-intel"),
              fixture.break_claim(fixture.record("qemu-amd"), "Exit.rdmsr_exits_when_intercepted", EVIL)]
    for index, rec in enumerate(found):
        (path / f"{index}.json").write_text(json.dumps(rec))
    return path


@pytest.fixture(scope="module")
def page(folder):
    return report.write_compare(folder, [folder])


def body(page, emulated=False):
    return page.partition("data-overview")[2].split("<tbody>")[2 if emulated else 1].partition("</table>")[0]


def test_a_row_a_record_titled_by_cpu_instance_and_date(page):
    text = page.read_text()
    assert body(text).count("<tr") == 4 and body(text, True).count("<tr") == 2
    for minute in (1, 2, 3):
        assert f"KVM (fixture) · 2026-01-02 03:0{minute}:05 UTC" in text
    values = re.findall(r'data-v="([\d.]+)">([\d,]+)<br/?><small>([\d,.]+) ns', body(text))
    assert len(values) == 4 * 6 and len({value for value, _, _ in values}) == 24, "each record its own numbers"


def test_nothing_of_a_record_is_markup(page):
    text = page.read_text()
    assert "<img src=x" not in text and text.count("<script>") == 1 and "&lt;img src=x onerror" in text


def test_it_asks_for_nothing_and_runs_its_own_script_only(page):
    text = page.read_text()
    assert leaks.requests_in(text) == [] and browser.requests(page) == []
    assert re.search(r"script-src 'sha256-[\w+/=]+'", text) and "unsafe-inline'; script" not in text


def acted(page, tmp_path, script):
    """The text of the table's rows that are seen after a script has played the reader."""
    copy = tmp_path / "acted.html"
    text = re.sub(r"<meta[^>]*Content-Security-Policy[^>]*>", "", page.read_text())
    end = "document.querySelectorAll('[hidden]').forEach((e) => e.remove())"
    copy.write_text(text.replace("</html>", f"<script>{script};{end}</script></html>"))
    found = browser.text(copy)
    return found.partition("A click on a column")[0]


def test_a_reader_sorts(page, tmp_path):
    column = "document.querySelectorAll('[data-sort]')[1].click()"
    for clicks, order in ((1, 1), (2, -1)):
        text = acted(page, tmp_path, ";".join([column] * clicks))
        values = [float(value.replace(",", "")) for value in re.findall(r"VIRTUAL\s+self\s+([\d,.]+)", text)]
        assert len(values) == 4 and values == sorted(values)[::order]
        assert text.rindex("VIRTUAL ") < text.index("EMULATED: ticks"), "never among each other"


def test_a_reader_searches(page, tmp_path):
    def search(kind, words):
        return (f"const i = document.querySelector('[data-filter={kind}]'); i.value = '{words}';"
                "i.dispatchEvent(new Event('input'))")
    text = acted(page, tmp_path, search("rows", "03:02"))
    assert text.count("VIRTUAL ") == 1 and "1 of 6 records" in text and "03:02:05" in text
    text = acted(page, tmp_path, search("columns", "synthetic_3"))
    assert "exit.synthetic_3" in text and "exit.synthetic_2" not in text and "1 of 39" not in text.partition("records")[0]


def test_the_csv_is_in_the_page_and_safe_in_a_spreadsheet(page, folder, tmp_path, capfd):
    data = re.search(r'href="data:text/csv;base64,([\w+/=]+)"', page.read_text())[1]
    lines = list(csv.DictReader(io.StringIO(base64.b64decode(data).decode())))
    assert len({line["record"] for line in lines}) == 6 and len(lines) == sum(
        len(json.loads(path.read_text())["benchmarks"]) for path in folder.glob("?.json"))
    one = next(line for line in lines if line["benchmark"] == "exit.synthetic_0/user")
    assert float(one["p50_ns"]) == pytest.approx(float(one["p50"]) / 2.1)
    evil = launched(fixture.record("self"), 9, "=cmd|' /C calc'!A0")
    (tmp_path / "e.json").write_text(json.dumps(evil))
    assert cli.execute(["compare", str(tmp_path), "--no-page", f"--csv={tmp_path / 'e.csv'}"]) == 0
    assert ",'=cmd" in (tmp_path / "e.csv").read_text()


def test_the_terminal_has_changes(folder, capfd):
    assert cli.execute(["compare", "--no-page", str(folder / "0.json"), str(folder / "1.json")]) == 0
    out = capfd.readouterr().out
    assert "synthetic_0" in out and re.search(r"[+-]\d+\.\d%", out) and "ns" in out


def test_what_cannot_be_used_is_left_out_and_said(folder, tmp_path, capfd):
    (tmp_path / "bad.json").write_text("{")
    assert cli.execute(["compare", "--no-page", str(folder), str(tmp_path)]) == 1
    assert capfd.readouterr().err.count("left out: ") == 1
    assert cli.execute(["compare", "--no-page", str(tmp_path)]) == 2
    assert cli.execute(["compare", "--no-page", str(folder), str(folder)]) == 2


def test_spread_is_of_one_machine(folder):
    shown = comparison.spread(comparison.load([folder])).data
    assert ">3<" in shown and EVIL not in shown


def test_twenty_machines_of_200_times_1000(tmp_path):
    for machine in range(20):
        synthetic.write(tmp_path / str(machine), range(1, 2), machine)
    begin = time.monotonic()
    assert cli.execute(["compare", f"--out={tmp_path}", str(tmp_path)]) == 0
    assert time.monotonic() - begin < 30
