# SPDX-License-Identifier: MIT
"""Verbs over a folder of many records: index, trend."""

import dataclasses
from pathlib import Path

import click
from rich.table import Table
from rich.text import Text

from refhv import run
from refhv.cli import answer
from refhv.cli.group import LEFT_OUT, cli, code_of, leave_out
from refhv.progress import number

_FOLDER = click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="RECORDS")
BARS = "▁▂▃▄▅▆▇█"
MOST_BARS = 40


@cli.command("index", epilog=LEFT_OUT)
@_FOLDER
@click.option("--rebuild", is_flag=True, help="Forget the index and read every record.")
@answer.OPTION
def index_command(folder: Path, rebuild: bool, json_: str | None) -> int:
    """Bring the index of a folder of RECORDS up to date: RECORDS/.refhv-index.sqlite, made from them and nothing else.

    Example: ./suite index out
    """
    from refhv.store import Store

    with Store(folder) as store:
        done = store.rebuild() if rebuild else store.update()
        leave_out(done.problems)
        records = store.records()
    machines = {rec["machine_key"] for rec in records}
    out = answer.Answer(json_)
    out.say(f"{len(records)} records of {len(machines)} machines; read {done.read}, unchanged {done.kept}, gone {done.gone}: {store.path}")
    out.give(lambda: {"kind": "refhv index", "index": str(store.path), "machines": len(machines), "read": done.read, "unchanged": done.kept,
                      "gone": done.gone, "left_out": done.problems, "records": records})
    return code_of(done.problems)


def bars(values: list[float]) -> str:
    """The last values as a line of bars from the least to the most."""
    shown = values[-MOST_BARS:]
    low, high = min(shown), max(shown)
    return "".join(BARS[int((value - low) / (high - low) * (len(BARS) - 1))] if high > low else BARS[0] for value in shown)


@cli.command("trend", epilog="Exit codes: 0 no benchmark got slower, 1 one did, or a record is left out, 2 usage.")
@_FOLDER
@click.option("--cpu", help="Words in the CPU's name.")
@click.option("--target", help="A target's name.")
@click.option("--benchmark", help="Benchmarks, with * and ?: exit.*")
@click.option("--since", help="Beginning of a date: 2026-01.")
@click.option("--until", help="Beginning of a date, included.")
@click.option("--all", "all_", is_flag=True, help="Benchmarks without a change as well.")
@answer.OPTION
def trend_command(folder: Path, cpu: str | None, target: str | None, benchmark: str | None, since: str | None, until: str | None,
                  all_: bool, json_: str | None) -> int:
    """Show how benchmarks in a folder of RECORDS went over time, and where they changed for good.

    Example: ./suite trend out --benchmark='exit.*' --since=2026-01
    """
    from refhv import trend
    from refhv.store import Store

    with Store(folder) as store:
        done = store.update()
        leave_out(done.problems)
        found = trend.trends(store, cpu=cpu, target=target, benchmark=benchmark, since=since, until=until)
    shown = [one for one in found if all_ or one.changes]
    out = answer.Answer(json_)
    _print(shown, out)
    out.say(f"{len(found)} benchmarks over time, {sum(bool(one.changes) for one in found)} of them changed")
    out.give(lambda: [dataclasses.asdict(one) for one in shown])
    slower = any(change.change > 0 for one in found for change in one.changes)
    return run.FAILED if slower or done.problems else run.OK


def _print(shown: list, out: answer.Answer) -> None:
    table = Table(box=None, pad_edge=False)
    for head in ("benchmark", "target, CPU", "launches", "over time", "from", "before", "after", "change", "p"):
        table.add_column(head)
    for one in shown:
        who = (one.benchmark, f"{one.target}, {one.cpu}", str(len(one.values)), bars(one.values))
        lines = [(one.points[change.index].started, number(change.before), f"{number(change.after)} {one.unit}", f"{change.change:+.1%}",
                  f"{change.p:.2g}") for change in one.changes] or [("", "", "", "", "")]
        for index, line in enumerate(lines):
            table.add_row(*map(Text, (who if index == 0 else ("",) * 4) + line))
    if shown:
        out.wide().print(table)
