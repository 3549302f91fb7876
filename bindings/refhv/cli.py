# SPDX-License-Identifier: MIT
"""The command line behind ./suite. Every error is one line on standard error; exit codes as in refhv.run."""

import contextlib
import os
import re
import subprocess
import sys
from pathlib import Path

import click
from rich.console import Console

from refhv import departures, files, kernel_module, paths, run, signals, targets

# Hosted work only: how long a child may say nothing, and how long a target may take.
_SILENCE = click.option("--silence", type=click.FloatRange(min=0, min_open=True), default=run.SILENCE_SECONDS,
                        show_default=True, help="Seconds without progress after which a target is ended: MISS.")


def _regex(_context, _parameter, value: str | None) -> str | None:
    try:
        re.compile(value or "")
    except re.error as error:
        raise click.BadParameter(f"{value!r} is no regular expression: {error}") from None
    return value


CODES = ("Exit codes: 0 all well, 1 a test or claim failed, 2 usage, 3 a target did not come up or died (MISS), 128 + the "
         "number of the signal that ended it.")


def _parse_only() -> bool:
    """Whether ./suite only asks, before it builds, if it would have to build for nothing."""
    return bool(os.environ.get("REFHV_PARSE_ONLY"))


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """refhv: what virtualization costs on this machine, and whether it behaves as the manuals say."""


@cli.command("run", epilog=CODES)
@click.option("--target", "names", default="", help="Comma-separated; default: self, before it linux where the module is loaded, after it kvm where KVM uses VMX or SVM; where neither does, bochs-intel and qemu-amd.")
@click.option("--filter", "pattern", callback=_regex, help="Benchmarks to run, a regular expression.")
@click.option("--samples", type=click.IntRange(1, targets.MOST_SAMPLES), help="Samples of each benchmark.")
@click.option("--claims", type=click.Choice(["needed", "all"]), default="needed", show_default=True,
              help="Which claims to run first: those the benchmarks rest on, or all.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=paths.OUT, show_default=True,
              help="Where runs are kept.")
@_SILENCE
@click.option("--limit", type=click.FloatRange(min=0, min_open=True), default=run.LIMIT_SECONDS, show_default=True,
              help="Seconds that one target may take.")
@click.option("--report/--no-report", default=True, help="Whether to write report.html.")
@click.option("--yes", is_flag=True, help="Where the CPU has VMX or SVM: load the kernel module for this run, unasked.")
def run_command(names: str, pattern: str | None, samples: int | None, claims: str, out: Path, silence: float,
                limit: float, report: bool, yes: bool) -> int:
    """Measure on each target, check its claims, and leave a record each and one report."""
    targets.choose(names, targets.NAMES)
    files.expect_folder(out.absolute())
    if _parse_only():
        return run.OK
    loaded = not names and kernel_module.offer(yes, sys.stdin.isatty() and sys.stderr.isatty())
    try:
        known = targets.table()
        options = run.Options(targets.choose(names, known), pattern, samples, claims, silence, limit, report)
        code, _ = run.run(options, out.absolute(), known, Console())
    finally:
        if loaded:
            kernel_module.unload()
    return code


# Not offered by an installed refhv, which has no tests with it.
@(cli.command("test", epilog=CODES) if paths.IN_SOURCE_TREE else click.command("test"))
@click.option("--long", "long_", is_flag=True, help="Longer fuzzing.")
@click.option("--quick", is_flag=True, help="A few minutes: unit tests, some claims on one emulator a vendor, format.")
@click.option("--only", callback=_regex, help="Parts to run, a regular expression.")
def test_command(long_: bool, quick: bool, only: str | None) -> int:
    """Run every test: unit, conformance, Python, and the checks in ci/."""
    if long_ and quick:
        raise run.UsageError("--quick and --long ask for opposite things")
    if _parse_only():
        return run.OK
    from refhv import testing

    return testing.run(long_, only, Console(), quick)


@cli.command("report")
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
def report_command(directory: Path) -> int:
    """Write DIRECTORY/report.html and the other pages from the records in DIRECTORY."""
    from refhv import record, report

    records, problems = record.load_run(directory)
    if not records:
        raise run.UsageError(problems[0] if problems else f"{directory}: no record in it")
    for problem in problems:
        click.echo(problem, err=True)
    try:
        click.echo(report.write(directory))
    except signals.Interrupted as interrupt:
        interrupt.kept = f"the records in {directory} are as they were"
        raise
    return run.OK


@cli.command("picture")
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("png", type=click.Path(dir_okay=False, path_type=Path))
def picture_command(directory: Path, png: Path) -> int:
    """Write the exit, handler and entry split of the emulated targets in DIRECTORY as a picture, for the README."""
    from refhv import plots, tables

    groups = [group for group in plots.groups(tables.load(str(directory))) if group[0]["target"]["emulated"]]
    drawings = plots.split_drawings(groups[0]) if groups else []
    if not drawings:
        raise run.UsageError(f"{directory}: no emulated target with a number in it")
    with files.named(png):
        drawings[0][0].savefig(png, dpi=110, facecolor="white", metadata={"Software": None})
    click.echo(png)
    return run.OK


@cli.command("targets")
def targets_command() -> int:
    """List every target, usable or not, and why not."""
    if _parse_only():
        return run.OK
    return subprocess.run([paths.tool("refhv-microbench"), "--target=list"], check=False).returncode


@cli.command("doctor", epilog="Exit codes: 0 nothing is BLOCKED, 1 something is, 2 usage.")
@click.option("--json", "json_", is_flag=True, help="One JSON object: the `doctor` of a record.")
def doctor_command(json_: bool) -> int:
    """Say what on this machine stands against trustworthy numbers, and what mends it."""
    if _parse_only():
        return run.OK
    return subprocess.run([paths.tool("refhv-doctor"), *(["--json"] if json_ else [])], check=False).returncode


@cli.command("load")
@click.option("--cpu", type=click.IntRange(0), help="CPU that guests run on; default: the last.")
@click.option("--permit", type=str, help="What clients may do that can bring the system down: a bit mask, see docs/linux.md.")
def load_command(cpu: int | None, permit: str | None) -> int:
    """Build the kernel module for the running kernel and load it; target `linux` is there from then on."""
    if _parse_only():
        return run.OK
    kernel_module.load(*([f"cpu={cpu}"] if cpu is not None else []), *([f"permit={permit}"] if permit else []))
    click.echo(f"{kernel_module.DEVICE} is there; {paths.COMMAND} run --target=linux, and {paths.COMMAND} unload at the end")
    return run.OK


@cli.command("unload")
def unload_command() -> int:
    """Unload the kernel module."""
    if _parse_only():
        return run.OK
    kernel_module.unload()
    return run.OK


def _fail(message: str, code: int) -> int:
    with contextlib.suppress(OSError):  # of a terminal that has gone
        click.echo(f"refhv: {message}", err=True)
    return code


def _dispatch(arguments: list[str] | None) -> int:
    from refhv.report import ReportError

    try:
        return cli.main(arguments, prog_name=paths.COMMAND, standalone_mode=False) or run.OK
    except signals.Interrupted as interrupt:
        return _fail(str(interrupt), 128 + interrupt.number)
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except click.ClickException as error:
        return _fail(f"{error.format_message()} (try --help)", run.USAGE)
    except (run.UsageError, departures.DeparturesError, paths.NotBuilt) as error:
        return _fail(str(error), run.USAGE)
    except ReportError as error:
        return _fail(f"no report: {error}", run.FAILED)
    except OSError as error:
        return _fail(files.told(error), run.USAGE)


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
