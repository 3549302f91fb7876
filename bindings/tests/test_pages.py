# SPDX-License-Identifier: MIT
"""The pages of a run: what they answer, that they lead to each other, and that nothing empty stands in them."""

import base64
import csv
import html.parser
import io
import json
import re

import fixture_microbench as fixture
import pytest
from nbformat import v4

from refhv import basis, browser, identity, leaks, machine, overview, plots, report, sections, tables
from refhv.table import Line, cell, table

FAILING = "Exit.rdmsr_exits_when_intercepted"


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    path = tmp_path_factory.mktemp("pages")
    for rec in (fixture.record("self"), fixture.record("bochs-intel"), fixture.break_claim(fixture.record("qemu-amd"), FAILING, "it <did> not")):
        (path / f"{rec['target']['name']}.json").write_text(json.dumps(rec))
    report.write(path)
    return path


class Ids(html.parser.HTMLParser):
    """Ids, and what links lead to."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.alts = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found["href"]] if tag == "a" else []
        self.alts += [found.get("alt", "")] if tag == "img" else []


def test_every_link_between_and_in_pages_leads_somewhere(directory):
    found = {path.name: Ids(path.read_text()) for path in directory.glob("*.html")}
    assert set(found) == {"index.html", "report.html", "compare.html", "machine-self.html", "machine-bochs-intel.html", "machine-qemu-amd.html"}
    for name, page in found.items():
        assert len(page.ids) == len(set(page.ids)), f"{name}: an id twice"
        for link in page.links:
            if link.startswith(("data:", "https://")):
                continue
            other, _, place = link.partition("#")
            assert (other or name) in found, f"{name}: {link}"
            assert not place or place in found[other or name].ids, f"{name}: {link}"
        assert set(found) <= {link.partition("#")[0] for link in page.links}, f"{name} does not lead to all"


def test_pages_ask_for_nothing(directory):
    for path in directory.glob("*.html"):
        assert leaks.requests_in(path.read_text()) == []
    assert browser.requests(directory / "machine-qemu-amd.html") == browser.requests(directory / "index.html") == []


def test_the_index_answers_first(directory):
    text = " ".join(browser.text(directory / "index.html").split())
    before = text.partition("One exit is CPUID")[0]
    assert "3 records: 1 in a virtual machine, 2 emulated" in before and "1 row of hardware exits , 200 samples: 0 on metal, 1 to or under" in before
    p50 = next(row for row in fixture.record("self")["benchmarks"] if row["name"] == "exit.cpuid/user")["summary"]["p50"]
    assert f"{p50:,.0f} cycles {p50 / 2.1:,.0f} ns user" in before
    assert f"1 claim did not hold, and not as a known departure (1 FAIL): {FAILING}" in before
    assert "1 row without a number (1 INVALID): exit.rdmsr/nested" in before
    emulated = before.partition("EMULATED: ticks, neither cycles nor time")[2].partition("What does not hold")[0]
    assert "ticks" in emulated and "cycles" not in emulated and " ns" not in emulated


def test_on_self_only_what_is_known_to_exit_counts():
    rec = fixture.record("self")
    assert [row["name"] for row in overview.exits(rec)] == ["exit.cpuid/user"]
    for row in rec["benchmarks"]:
        row["hypervisor_exit"] = None
    assert overview.exits(rec) == [] and overview.one_exit(rec) is None


def test_against_kvm_is_of_one_machine():
    rec, kvm = fixture.record("self"), fixture.record("self", seed=1)
    kvm["target"] |= {"kind": "kvm", "name": "kvm"}
    row = next(row for row in kvm["benchmarks"] if row["name"] == "exit.cpuid/user")
    row |= {"name": "exit.cpuid/kvm", "mode": "kvm", "exits": {"reason": "counted by KVM", "expected": 200, "counted": 200}}
    run = tables.Run([rec, kvm])
    mine = overview.one_exit(rec)["summary"]["p50"]
    assert overview.against_kvm(run, run.records[0]) == mine / row["summary"]["p50"] and overview.against_kvm(run, run.records[1]) is None
    kvm["machine"]["machine_key"] = "another"
    assert overview.against_kvm(tables.Run([rec, kvm]), rec) is None


def test_a_record_in_depth(directory):
    text = (directory / "machine-qemu-amd.html").read_text()
    lost, held = text.partition('id="without-a-number"')[2].partition('id="exits"')[0], text.partition('id="claims"')[2]
    assert f'<a href="#claim-{FAILING}">' in lost and 'id="row-exit.rdmsr-nested"' in lost
    assert f'id="claim-{FAILING}"' in held.partition("<details>")[0] or held.index(f"claim-{FAILING}") < held.index("claims that hold")
    assert "it &lt;did&gt; not" in held and "--gtest_filter=Exit.cpuid_leaves_registers" in held
    assert "APM 2 15.0</a>" in held and "./suite run --target=qemu-amd &#x27;--filter=^exit\\.cpuid/nested$&#x27;" in text
    assert "cycles of the TSC" not in text and not re.search(r"\d ns\b", text)


def test_commands_are_safe_in_a_shell():
    rec = fixture.record("self")
    rec["target"]["name"] = "cmd:x; rm -rf /"
    assert "'--target=cmd:x; rm -rf /'" in basis.claim_command(rec, rec["claims"][0])


def test_figures_say_their_result(directory):
    for name in ("index", "report", "machine-bochs-intel"):
        alts = Ids((directory / f"{name}.html").read_text()).alts
        assert alts and all(re.search(r"\d", alt) for alt in alts), alts


def test_many_records_have_no_page_each():
    few, many = ([fixture.record("self", 5, seed) for seed in range(count)] for count in (3, report.MOST_MACHINES + 1))
    assert len(set(report.machine_pages(few).values())) == 3 and report.machine_pages(many) == {}


def test_natures_are_told_apart():
    rec = fixture.record("self")
    found = [identity.nature(rec), identity.nature(fixture.record("qemu-amd"))]
    rec["machine"]["hypervisor"] = None
    found += [identity.nature(rec), identity.nature(rec | {"machine": None})]
    assert [one.value for one in found] == ["virtual", "emulated", "metal", "untold"]
    assert len({plots.title({"title": "x", **rec}), plots.title(fixture.record("qemu-amd")), plots.title(fixture.record("self"))}) == 3


def saved(text):
    data = re.search(r"base64,([\w+/=]+)", text)[1]
    return list(csv.reader(io.StringIO(base64.b64decode(data).decode())))


def test_a_table_leaves_out_what_is_empty_and_holds_itself():
    rec = fixture.record("self")
    heads = [[cell("", "", "th"), cell("A", "group", "th", 2), cell("B", "group", "th", 2)],
             [cell(text, "", "th") for text in ("what", "a", "b", "c", "d")]]
    from refhv.page import cost
    rows = [Line([cell("=x"), cell("1,234", "number"), cell(""), cell("–"), cell("")], "one"),
            [cell("y"), cell(cost(rec, rec["benchmarks"][1]), "number"), cell(""), cell(""), cell("")]]
    text = table(heads, rows).data
    assert "<th>b</th>" not in text and ">B<" not in text and 'colspan' not in text and '<tr id="one">' in text
    lines = saved(text)
    assert lines[0] == ["what", "A, a", "A, a: p50", "A, a: p90", "A, a: p50 ns"] and lines[1][:2] == ["'=x", "1234"]
    assert float(lines[2][2]) == rec["benchmarks"][1]["summary"]["p50"]


def markdown(text):
    return v4.new_markdown_cell(text)


def code(html=""):
    return v4.new_code_cell("x", outputs=[v4.new_output("display_data", {"text/html": html})] if html else [])


def test_sections_without_content_go_with_their_heading():
    cells = [code(), markdown("# Title"), code(), markdown("## Gone"), code(), markdown("### Gone too"), code(), markdown("## Kept"), code("x"),
             markdown("some words"), code(), markdown("## Parent"), markdown("### Gone"), code(), markdown("## Other"), code(),
             markdown("### Child"), code("y"), markdown("## Method")]
    assert [one.source for one in sections.kept(cells) if one.cell_type == "markdown"] == ["# Title", "## Kept", "## Other", "### Child", "## Method"]
    page = sections.arranged(v4.new_notebook(cells=cells))
    assert page.cells[2].source.count("<a ") == 3 and '<h3 id="child">Child</h3>' in [one.source.strip() for one in page.cells]
