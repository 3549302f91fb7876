# SPDX-License-Identifier: MIT
"""What a verb answers to machines: with --json one JSON document on standard output, with --json=FILE the same in a file (docs/json.md)."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from refhv import files

STDOUT = "-"
OPTION = click.option("--json", "json_", type=click.Path(dir_okay=False, allow_dash=True), metavar="[=FILE]",
                      help="One JSON document on standard output, and everything else on standard error; or into a file: docs/json.md.")


class Verb(click.Command):
    """--json takes its file behind an equals sign only: click would take the next argument, which is a record, and write to it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        return super().parse_args(ctx, [f"--json={STDOUT}" if arg == "--json" else arg for arg in args[:end]] + args[end:])


class Verbs(click.Group):
    command_class = Verb


def _finite(value: Any) -> Any:
    """JSON has no infinity: what is none is null."""
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Answer:
    """Where a verb's words go. `quiet`: standard output is the document's, so people have no table."""

    def __init__(self, json_: str | None) -> None:
        self._file = json_
        self.quiet = json_ == STDOUT
        self.console = Console(stderr=self.quiet)  # progress

    @property
    def wanted(self) -> bool:
        return self._file is not None

    def wide(self) -> Console:
        """For tables: lines of a file or a pipe need not be folded to 80 columns."""
        console = Console(quiet=self.quiet)
        return console if console.is_terminal else Console(width=200, quiet=self.quiet)

    def say(self, words: object) -> None:
        """A line for people, which a document has in another form."""
        if not self.quiet:
            click.echo(words)

    def give(self, document: Callable[[], Any]) -> None:
        """Writes the document, if there is to be one. Raises OSError."""
        if self._file is None:
            return
        text = json.dumps(_finite(document()), indent=1) + "\n"
        if self.quiet:
            click.echo(text, nl=False)
        else:
            files.write_whole(Path(self._file), text)
