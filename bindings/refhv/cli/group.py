# SPDX-License-Identifier: MIT
"""The command group, and what verbs share: options, checks of arguments, codes."""

import os
import re
import sys
from pathlib import Path

import click

from refhv import record, run
from refhv.cli import answer

CODES = ("Exit codes: 0 all well, 1 a test or claim failed, 2 usage, 3 a target did not come up or died (MISS), 128 + the "
         "number of the signal that ended it.")
LEFT_OUT = "Exit codes: 0 all well, 1 a record could not be used and is left out, 2 usage or no record at all."
SOURCE = click.Path(exists=True, path_type=Path)  # a record or a folder of records


def regex(_context, _parameter, value: str | None) -> str | None:
    """Callback of an option that is a regular expression. Raises click.BadParameter."""
    try:
        re.compile(value or "")
    except re.error as error:
        raise click.BadParameter(f"{value!r} is no regular expression: {error}") from None
    return value


def parse_only() -> bool:
    """Whether ./suite only asks, before it builds, if it would have to build for nothing."""
    return bool(os.environ.get("REFHV_PARSE_ONLY"))


def records_of(sources: tuple[Path, ...]) -> tuple[list[record.Record], list[str]]:
    """The records that can be used, told apart, and of the rest a line each, which stands on standard error too. Raises run.UsageError
    where there is no record, identity.SameRecordError."""
    records, problems = record.load_all(sources)
    if not records:
        raise run.UsageError(problems[0] if problems else f"{', '.join(map(str, sources))}: no record in it")
    leave_out(problems)
    return records, problems


def leave_out(problems: list[str]) -> None:
    """A line each for what cannot be used."""
    for problem in problems:
        click.echo(f"left out: {problem}", err=True)


def code_of(problems: list[str]) -> int:
    """Of a verb that leaves records out."""
    return run.FAILED if problems else run.OK


def on_terminal() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


@click.group(cls=answer.Verbs, context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """refhv: what virtualization costs on this machine, and whether it behaves as the manuals say."""
