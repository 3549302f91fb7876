# SPDX-License-Identifier: MIT
"""Verbs that measure or test, or prepare it: run, test, list, targets, doctor, load, unload."""

import json
import re
import subprocess
from pathlib import Path

import click
from rich.console import Console

from refhv import files, kernel_module, launches, paths, run, targets
from refhv.cli import answer
from refhv.cli.group import CODES, cli, on_terminal, parse_only, regex


@cli.command("run", epilog=CODES)
@click.option("--target", "names", default="", help="Comma-separated; default: self, before it linux where the module is loaded, after it kvm where KVM uses VMX or SVM; where neither does, bochs-intel and qemu-amd.")
@click.option("--filter", "pattern", callback=regex, help="Benchmarks to run, a regular expression.")
@click.option("--samples", type=click.IntRange(1, targets.MOST_SAMPLES), help="Samples of each benchmark.")
@click.option("--claims", type=click.Choice(["needed", "all"]), default="needed", show_default=True,
              help="Which claims to run first: those the benchmarks rest on, or all.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=paths.OUT, show_default=True,
              help="Where runs are kept.")
@click.option("--silence", type=click.FloatRange(min=0, min_open=True), default=run.SILENCE_SECONDS, show_default=True,
              help="Seconds without progress after which a target is ended: MISS.")
@click.option("--limit", type=click.FloatRange(min=0, min_open=True), default=run.LIMIT_SECONDS, show_default=True,
              help="Seconds that one target may take.")
@click.option("--report/--no-report", default=True, help="Whether to write index.html and the other pages.")
@click.option("--yes", is_flag=True, help="Where the CPU has VMX or SVM: load the kernel module for this run, unasked.")
@click.option("--launches", "count", type=click.IntRange(1, launches.MOST), default=1, show_default=True,
              help="Independent launches of each target, in shuffled order, one record each: what a gate compares.")
@click.option("--resume", type=click.Path(exists=True, file_okay=False, path_type=Path),
              help="Go on with a run of --launches that was interrupted: its folder. Its own options count.")
@answer.OPTION
def run_command(names: str, pattern: str | None, samples: int | None, claims: str, out: Path, silence: float,
                limit: float, report: bool, yes: bool, count: int, resume: Path | None,
                json_: str | None) -> int:
    """Measure on each target, check its claims, and leave a record each and one report.

    Example: ./suite run --target=bochs-intel,qemu-amd --filter='exit.*'
    """
    plan = launches.load(resume) if resume else None
    targets.choose(names, targets.NAMES)
    if plan is None:
        files.expect_folder(out.absolute())
    if parse_only():
        return run.OK
    loaded = not names and plan is None and kernel_module.offer(yes, on_terminal())
    try:
        known = targets.table()
        told = answer.Answer(json_)
        if plan is None:
            options = run.Options(targets.choose(names, known), pattern, samples, claims, silence, limit, report)
            plan = launches.plan(options, count, out.absolute()) if count > 1 else None
        outcome = launches.go_on(plan, known, told.console) if plan else run.run(options, out.absolute(), known, told.console)
    finally:
        if loaded:
            kernel_module.unload()
    told.give(outcome.document)
    return outcome.code


# Not offered by an installed refhv, which has no tests with it.
@(cli.command("test", epilog=CODES) if paths.IN_SOURCE_TREE else click.command("test"))
@click.option("--long", "long_", is_flag=True, help="Longer fuzzing.")
@click.option("--quick", is_flag=True, help="A few minutes: unit tests, some claims on one emulator a vendor, format.")
@click.option("--only", callback=regex, help="Parts to run, a regular expression.")
def test_command(long_: bool, quick: bool, only: str | None) -> int:
    """Run every test: unit, conformance, Python, and the checks in ci/.

    Example: ./suite test --quick
    """
    if long_ and quick:
        raise run.UsageError("--quick and --long ask for opposite things")
    if parse_only():
        return run.OK
    from refhv import testing

    return testing.run(long_, only, Console(), quick)


@cli.command("list")
@click.option("--claims", is_flag=True, help="Claims, in place of benchmarks.")
@click.option("--filter", "pattern", callback=regex, help="Those whose name has this regular expression in it.")
@answer.OPTION
def list_command(claims: bool, pattern: str | None, json_: str | None) -> int:
    """List benchmarks or claims, of all targets, by name.

    Example: ./suite list --claims --filter=cpuid
    """
    if parse_only():
        return run.OK
    names = [name for name in _listed(claims) if re.search(pattern or "", name)]
    told = answer.Answer(json_)
    told.say("\n".join(names))
    told.give(lambda: names)
    return run.OK


def _listed(claims: bool) -> list[str]:
    """Full names, in the tools' own order."""
    command = [paths.tool("refhv-conformance"), "--gtest_list_tests"] if claims else [paths.tool("refhv-microbench"), "--benchmark_list_tests"]
    lines = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True).stdout.splitlines()
    if not claims:
        return lines
    suite, names = "", []
    for line in lines:  # "Suite." and below it "  claim"
        if not line.startswith(" "):
            suite = line.strip()
        else:
            names.append(suite + line.strip())
    return names


@cli.command("targets")
@answer.OPTION
def targets_command(json_: str | None) -> int:
    """List every target, usable or not, and why not.

    Example: ./suite targets --json
    """
    if parse_only():
        return run.OK
    told = answer.Answer(json_)
    if not told.quiet:
        code = subprocess.run([paths.tool("refhv-microbench"), "--target=list"], check=False).returncode
        if code:
            return code
    told.give(lambda: [{"name": name, "usable": not words.startswith(targets.NOT_USABLE), "emulated": "emulated" in words,
                        "text": words.removeprefix(targets.NOT_USABLE).strip()} for name, words in targets.table().items()])
    return run.OK


@cli.command("doctor", epilog="Exit codes: 0 nothing is BLOCKED, 1 something is, 2 usage.")
@answer.OPTION
def doctor_command(json_: str | None) -> int:
    """Say what on this machine stands against trustworthy numbers, and what mends it.

    Example: ./suite doctor --json
    """
    if parse_only():
        return run.OK
    told = answer.Answer(json_)
    if not told.quiet:
        code = subprocess.run([paths.tool("refhv-doctor")], check=False).returncode
        if not told.wanted:
            return code
    done = subprocess.run([paths.tool("refhv-doctor"), "--json"], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode in (run.OK, run.FAILED):
        told.give(lambda: json.loads(done.stdout))
    return done.returncode


@cli.command("load")
@click.option("--cpu", type=click.IntRange(0), help="CPU that guests run on; default: the last.")
@click.option("--permit", type=str, help="What clients may do that can bring the system down: a bit mask, see docs/linux.md.")
def load_command(cpu: int | None, permit: str | None) -> int:
    """Build the kernel module for the running kernel and load it; target `linux` is there from then on.

    Example: sudo ./suite load --cpu=3
    """
    if parse_only():
        return run.OK
    kernel_module.load(*([f"cpu={cpu}"] if cpu is not None else []), *([f"permit={permit}"] if permit else []))
    click.echo(f"{kernel_module.DEVICE} is there; {paths.COMMAND} run --target=linux, and {paths.COMMAND} unload at the end")
    return run.OK


@cli.command("unload")
def unload_command() -> int:
    """Unload the kernel module.

    Example: sudo ./suite unload
    """
    if parse_only():
        return run.OK
    kernel_module.unload()
    return run.OK
