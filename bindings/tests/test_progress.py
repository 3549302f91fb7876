# SPDX-License-Identifier: MIT
import io

from rich.console import Console

from refhv.progress import Live, TargetView


def shown(*events):
    screen = io.StringIO()
    with Live(Console(file=screen, width=200)) as live:
        view = TargetView(live, "bochs-intel", "an emulator", set())
        for event in events:
            view.event({"event": "benchmark", "unit": "ticks", **event})
        view.close()
    return [line.split() for line in screen.getvalue().splitlines()]


def skipped(name, reason="no TLB cost"):
    return {"name": name, "verdict": "SKIP", "reason": reason}


def test_rows_skipped_for_one_reason_are_one_row_and_a_count():
    lines = shown(skipped("tlb.4k.8"), skipped("tlb.4k.16"), skipped("tlb.4k.32"), {"name": "exit.cpuid", "verdict": "PASS", "p50": 26})
    assert lines[2:] == [["bochs-intel", "SKIP", "tlb.4k.8", "no", "TLB", "cost"], ["bochs-intel", "and", "2", "more:", "no", "TLB", "cost"],
                         ["bochs-intel", "PASS", "exit.cpuid", "26", "–", "–", "–"]]


def test_another_reason_is_told():
    lines = shown(skipped("flush.invpcid_all", "no INVPCID"), skipped("tlb.4k.8"), skipped("tlb.4k.16"))
    assert [line[-3:] for line in lines[2:]] == [["flush.invpcid_all", "no", "INVPCID"], ["no", "TLB", "cost"], ["no", "TLB", "cost"]]
    assert lines[-1][:4] == ["bochs-intel", "and", "1", "more:"]
