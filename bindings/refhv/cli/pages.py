# SPDX-License-Identifier: MIT
"""Verbs that show records: report, picture."""

from pathlib import Path

import click

from refhv import files, paths, run, signals
from refhv.cli.group import LEFT_OUT, SOURCE, cli, records_of

_OUT = click.option("--out", type=click.Path(file_okay=False, path_type=Path),
                    help="Folder for the pages; default: the folder given, where it is one, else a new one in out/.")


def folder_for(sources: tuple[Path, ...], out: Path | None) -> Path:
    """Where pages about these records go; made if it is not there. Raises OSError."""
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        return out
    if len(sources) == 1 and sources[0].is_dir():
        return sources[0]
    return run.new_directory(paths.TOP / "out" / "pages")


@cli.command("report", epilog=LEFT_OUT)
@click.argument("sources", type=SOURCE, nargs=-1, required=True, metavar="RECORDS...")
@_OUT
def report_command(sources: tuple[Path, ...], out: Path | None) -> int:
    """Write report.html and the other pages from RECORDS: records and folders of them."""
    from refhv import report

    _, code = records_of(sources)
    try:
        click.echo(report.write(folder_for(sources, out), sources))
    except signals.Interrupted as interrupt:
        interrupt.kept = f"the records in {', '.join(map(str, sources))} are as they were"
        raise
    return code


@cli.command("picture")
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("png", type=click.Path(dir_okay=False, path_type=Path))
def picture_command(directory: Path, png: Path) -> int:
    """Write the exit, handler and entry split of the emulated targets in DIRECTORY as a picture, for the README."""
    from refhv import plots, tables

    groups = [group for group in plots.groups(tables.load(directory)) if group[0]["target"]["emulated"]]
    drawings = plots.split_drawings(groups[0]) if groups else []
    if not drawings:
        raise run.UsageError(f"{directory}: no emulated target with a number in it")
    with files.named(png):
        drawings[0][0].savefig(png, dpi=110, facecolor="white", metadata={"Software": None})
    click.echo(png)
    return run.OK
