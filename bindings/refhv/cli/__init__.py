# SPDX-License-Identifier: MIT
"""The command line behind ./suite. Every error is one line on standard error; exit codes as in refhv.run."""

import contextlib
import sys

import click

from refhv import departures, files, identity, launches, paths, run, signals, store
from refhv.cli import fleet, history, judge, measure, pages  # noqa: F401  (they add their verbs to the group)
from refhv.cli.group import cli
from refhv.fleet.state import FleetError

for _verb in (*cli.commands.values(), *fleet.fleet_group.commands.values()):  # their examples
    _verb.help = (_verb.help or "").replace("./suite", paths.COMMAND)

JUDGES_USAGE = 3  # a gate's harness error


def _fail(message: str, code: int) -> int:
    with contextlib.suppress(OSError):  # of a terminal that has gone
        click.echo(f"refhv: {message}", err=True)
    return code


def _usage_code(arguments: list[str] | None) -> int:
    """What a mistake of the caller's is: a gate's codes have another use for 2."""
    verb = next(iter(sys.argv[1:] if arguments is None else arguments), "")
    return JUDGES_USAGE if verb in ("gate", "selftest") else run.USAGE


def _dispatch(arguments: list[str] | None) -> int:
    from refhv.report import ReportError

    usage = _usage_code(arguments)

    try:
        return cli.main(arguments, prog_name=paths.COMMAND, standalone_mode=False) or run.OK
    except signals.Interrupted as interrupt:
        return _fail(str(interrupt), 128 + interrupt.number)
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except click.ClickException as error:
        return _fail(f"{error.format_message()} (try --help)", usage)
    except (run.UsageError, departures.DeparturesError, paths.NotBuilt, identity.SameRecordError,
            launches.PlanError, store.StoreError, FleetError) as error:
        return _fail(str(error), usage)
    except ReportError as error:
        return _fail(f"no report: {error}", usage if usage == JUDGES_USAGE else run.FAILED)
    except OSError as error:
        return _fail(files.told(error), usage)
    except Exception as error:  # Python's own code for it, 1, would say that there is a regression
        if usage != JUDGES_USAGE:
            raise
        return _fail(f"the gate itself failed: {type(error).__name__}: {' '.join(str(error).split())}", usage)


def execute(arguments: list[str] | None = None) -> int:
    """The exit code of one command line."""
    with signals.raised() as caught:
        try:
            code = _dispatch(arguments)
        except BaseException:
            if caught.number is None:
                raise
        # What goes wrong while we clean up after a signal, such as writing to a terminal that has gone, is no news.
        return code if caught.number is None else 128 + caught.number
