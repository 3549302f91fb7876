# SPDX-License-Identifier: MIT
"""Verbs that judge: gate, selftest."""

import dataclasses
from pathlib import Path

import click

from refhv import files, record, run
from refhv.cli import answer
from refhv.cli.group import SOURCE, cli, leave_out, records_of

GATE_CODES = ("Exit codes: 0 pass, 1 a regression, 2 a claim broke or a row became INVALID, 3 the harness: usage, or a record or row is "
              "missing or cannot be used, 4 inconclusive.")
FILE = click.Path(dir_okay=False, path_type=Path)


class TwoSides(answer.Verb):
    """Takes BASE... -- CANDIDATE...; click itself would forget where the dashes stood."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            where = args.index("--")
            ctx.meta["candidate"] = [SOURCE.convert(arg, None, ctx) for arg in args[where + 1:]]
            args = args[:where]
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return ["[OPTIONS]", "BASE...", "--", "CANDIDATE..."]


def _side(sources: list[Path] | tuple[Path, ...], left_out: list[str]) -> list[record.Record]:
    """The records of a side; a line for each that cannot be used goes into `left_out`. Raises identity.SameRecordError."""
    records, problems = record.load_all(sources)
    if not records and not problems:
        problems = [f"{', '.join(map(str, sources))}: no record in it"]
    left_out += problems
    return records


@cli.command("gate", cls=TwoSides, epilog=GATE_CODES)
@click.argument("base", type=SOURCE, nargs=-1, metavar="RECORDS...")
@click.option("--launches", type=click.IntRange(2), default=10, show_default=True,
              help="Launches a side that a time needs; with fewer it is undecided, and the gate inconclusive.")
@click.option("--must-show", type=click.FloatRange(0, 1000, min_open=True), metavar="PERCENT",
              help="A time that could not have shown a slowdown of so many percent is undecided.")
@click.option("--unlike", is_flag=True, help="Compare unlike machines all the same.")
@click.option("--markdown", type=FILE, help="Write Markdown for a pull request.")
@click.option("--junit", type=FILE, help="Write JUnit XML.")
@answer.OPTION
@click.option("--page", type=FILE, help="Write a page (HTML) with figures and intervals.")
@click.pass_context
def gate_command(ctx: click.Context, base: tuple[Path, ...], launches: int, must_show: float | None, unlike: bool,
                 markdown: Path | None, junit: Path | None, json_: str | None, page: Path | None) -> int:
    """Hold one set of RECORDS to another: gate BASE... -- CANDIDATE..., both records and folders of them.

    Exact facts first, then times: docs/gate.md has the rule.

    Example: ./suite gate --markdown=gate.md out/before -- out/after
    """
    from refhv import gate
    from refhv.gate import output

    candidate = ctx.meta.get("candidate", [])
    if not base or not candidate:
        raise run.UsageError("a gate has two sides: gate BASE... -- CANDIDATE... (try --help)")
    left_out: list[str] = []
    try:
        sides = [_side(base, left_out), _side(candidate, left_out)]
        rule = gate.Rule(launches=launches, must_show=must_show and must_show / 100, unlike=unlike)
        verdict = gate.compare(*sides, rule)
    except gate.UnlikeError as error:
        raise run.UsageError(str(error)) from None
    leave_out(left_out)
    for problem in left_out:
        verdict.findings.append(gate.Finding("records", "records", problem.partition(":")[0], gate.Word.LOST, problem))
    if left_out:
        verdict.sides.setdefault("records", (gate.Side(0, [], [], []), gate.Side(0, [], [], [])))
    out = answer.Answer(json_)
    output.terminal(verdict, out.wide())
    for path, text in ((markdown, output.markdown), (junit, output.as_junit)):
        if path is not None:
            files.write_whole(path, text(verdict))
    if page is not None:
        from refhv import report

        report.write_one(page, report.regression(base, candidate, **dataclasses.asdict(rule)))
    out.give(lambda: output.as_document(verdict, left_out))
    return verdict.code


@cli.command("selftest", epilog="Exit codes: 0 the rates are as docs/gate.md has them, 1 they are not, 3 the harness: usage, or too few launches.")
@click.argument("sources", type=SOURCE, nargs=-1, required=True, metavar="RECORDS...")
@click.option("--pairs", type=click.IntRange(1, 100_000), default=200, show_default=True, help="Pairs to draw.")
@click.option("--launches", type=click.IntRange(2), default=10, show_default=True, help="Launches a side.")
@answer.OPTION
def selftest_command(sources: tuple[Path, ...], pairs: int, launches: int, json_: str | None) -> int:
    """Prove the gate on real launches of one target: RECORDS against each other pass, and slowed down they do not.

    Example: ./suite run --target=self --launches=40, and then ./suite selftest out/latest
    """
    from refhv.gate import Rule, selftest

    records, left_out = records_of(sources)
    if len({(rec["target"]["name"], record.identity.machine_key(rec)) for rec in records}) > 1:
        raise run.UsageError("these records are of several targets or machines: a proof takes launches of one")
    out = answer.Answer(json_)
    console = out.console
    try:
        with console.status("") as status:
            result = selftest.run(records, pairs, Rule(launches=launches),
                                  progress=lambda done: status.update(f"{done} of {pairs} pairs") if console.is_terminal else None)
    except selftest.TooFewError as error:
        raise run.UsageError(str(error)) from None

    def line(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)
    line(f"{result.launches} launches of {records[0]['target']['name']} on {record.identity.cpu(records[0])}, {result.benchmarks} benchmarks, "
         f"{pairs} pairs of {launches} x {launches} launches")
    line(f"A/A: false alarms {result.false_alarms}; at most {selftest.MOST_FALSE:.0%}")
    for by in selftest.SLOWDOWNS:
        least = f"; at least {selftest.LEAST_CAUGHT:.0%}" if by == selftest.AT else ""
        line(f"+{by:.0%} on all benchmarks: caught {result.caught[by]}{least}; on one of them: named {result.alone[by]}")
    for name, rates in result.named.items():
        line(f"  {name}: " + ", ".join(f"+{by:.0%} {rate}" for by, rate in rates.items()))
    out.give(lambda: {"kind": "refhv selftest", "good": result.good(), "pairs": pairs, "left_out": left_out} | dataclasses.asdict(result))
    return run.OK if result.good() and not left_out else run.FAILED
