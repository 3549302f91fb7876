# SPDX-License-Identifier: MIT
"""Verbs that show records: report, compare, picture."""

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from refhv import files, identity, paths, record, run, signals
from refhv.cli import answer
from refhv.cli.group import LEFT_OUT, SOURCE, cli, code_of, leave_out, records_of
from refhv.progress import number

_OUT = click.option("--out", type=click.Path(file_okay=False, path_type=Path),
                    help="Folder for the pages; default: the folder given, where it is one, else a new one in out/.")


def folder_for(sources: tuple[Path, ...], out: Path | None) -> Path:
    """Where pages about these records go; made if it is not there. Raises OSError."""
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        return out
    if len(sources) == 1 and sources[0].is_dir():
        return sources[0]
    return run.new_directory(paths.OUT.absolute() / "pages")


@cli.command("report", epilog=LEFT_OUT)
@click.argument("sources", type=SOURCE, nargs=-1, required=True, metavar="RECORDS...")
@_OUT
@click.option("--base", type=SOURCE, multiple=True, metavar="RECORDS", help="Hold RECORDS to these, in regression.html; may be given again.")
@answer.OPTION
def report_command(sources: tuple[Path, ...], out: Path | None, base: tuple[Path, ...], json_: str | None) -> int:
    """Write index.html and the other pages from RECORDS: records and folders of them.

    Example: ./suite report out/after --base=out/before
    """
    from refhv import gate, report

    records, left_out = records_of(sources)
    if base:
        before, missing = records_of(base)
        left_out += missing
        try:
            gate.compare(before, records)
        except gate.UnlikeError as error:
            raise run.UsageError(str(error)) from None
    told, folder = answer.Answer(json_), folder_for(sources, out)
    try:
        told.say(report.write(folder, sources, base))
    except signals.Interrupted as interrupt:
        interrupt.kept = f"the records in {', '.join(map(str, sources))} are as they were"
        raise
    told.give(lambda: {"kind": "refhv report", "directory": str(folder), "pages": [page.name for page in report.pages(sources, base)],
                       "records": list(map(identity.key, records)), "left_out": left_out})
    return code_of(left_out)


MOST_COLUMNS = 6  # of records in the terminal's table


def _print_lines(records: list[record.Record], console: Console) -> None:
    from refhv import comparison

    table = Table(box=None, pad_edge=False)
    table.add_column("benchmark")
    for index, rec in enumerate(records):
        unit = "ticks, EMULATED" if rec["target"]["emulated"] else "cycles, ns"
        table.add_column(Text(f"{identity.title(rec)}\n{unit}"), justify="right")
        if index:
            table.add_column("change", justify="right")
    for line in comparison.lines(records):
        cells = [line.name]
        for index, (value, ns, change) in enumerate(zip(line.values, line.ns, line.changes)):
            cells.append(number(value) + (f" {number(ns)} ns" if ns is not None else ""))
            if index:
                cells.append("" if change is None else f"{change:+.1%}")
        table.add_row(*map(Text, cells))
    console.print(table)


@cli.command("compare", epilog=LEFT_OUT)
@click.argument("sources", type=SOURCE, nargs=-1, required=True, metavar="RECORDS...")
@_OUT
@click.option("--csv", "csv_", type=click.Path(dir_okay=False, path_type=Path), help="Write the numbers as CSV.")
@click.option("--page/--no-page", default=True, help="Whether to write compare.html.")
@answer.OPTION
def compare_command(sources: tuple[Path, ...], out: Path | None, csv_: Path | None, page: bool, json_: str | None) -> int:
    """Put the machines of RECORDS, records and folders of them, side by side: compare.html, and up to six of them here.

    Example: ./suite compare out/here out/there
    """
    from refhv import comparison, report

    found = comparison.load(sources)
    if not found.records:
        raise run.UsageError(found.problems[0] if found.problems else f"{', '.join(map(str, sources))}: no record in it")
    leave_out(found.problems)
    told = answer.Answer(json_)
    if csv_ is not None:
        files.write_whole(csv_, comparison.as_csv(found))
    if 2 <= len(found.records) <= MOST_COLUMNS:
        _print_lines(found.records, told.wide())
    written = report.write_compare(folder_for(sources, out), sources) if page else None
    if written is not None:
        told.say(written)
    told.give(lambda: {"kind": "refhv compare", "page": written and str(written), "left_out": found.problems}
              | comparison.as_document(found.records))
    return code_of(found.problems)


@cli.command("picture")
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("png", type=click.Path(dir_okay=False, path_type=Path))
def picture_command(directory: Path, png: Path) -> int:
    """Write the exit, handler and entry split of the emulated targets in DIRECTORY as a picture, for the README.

    Example: ./suite picture out/latest split.png
    """
    from refhv import plots, tables

    groups = [group for group in plots.groups(tables.load(directory)) if group[0]["target"]["emulated"]]
    drawings = plots.split_drawings(groups[0]) if groups else []
    if not drawings:
        raise run.UsageError(f"{directory}: no emulated target with a number in it")
    with files.named(png):
        drawings[0][0].savefig(png, dpi=110, facecolor="white", metadata={"Software": None})
    click.echo(png)
    return run.OK
