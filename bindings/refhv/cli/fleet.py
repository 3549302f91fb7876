# SPDX-License-Identifier: MIT
"""Verbs over many machines: fleet run, check, clean, report."""

import dataclasses
import json
from pathlib import Path

import click

from refhv import files, launches, paths, report, run, signals, targets
from refhv.cli import answer
from refhv.cli.group import LEFT_OUT, cli, code_of, leave_out, regex
from refhv.fleet import play, rounds, state, watch

FLEET_CODES = ("Exit codes: 0 every host is done and well, 1 a test or claim failed on one, 2 usage, 3 a host has not made all its launches, "
               "128 + the number of the signal that ended it; the hosts go on.")
_INVENTORY = click.option("-i", "--inventory", required=True, metavar="INVENTORY", help="Ansible's: a file, a folder, or host,host,")
_LIMIT = click.option("--limit", metavar="PATTERN", help="Of the inventory's hosts those that this pattern of Ansible's takes.")
_SET = click.option("-e", "set_", multiple=True, metavar="NAME=VALUE", help="A variable of the roles: docs/fleet.md has them.")
_PACKAGE = click.option("--package", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="refhv_*.deb to install first.")


@cli.group("fleet", cls=answer.Verbs)
def fleet_group() -> None:
    """Measure on many machines by Ansible, and say which of equal ones are not: docs/fleet.md."""


def _numbers(_context, _parameter, value: str | None) -> list[int | str] | None:
    """Callback: batch sizes as Ansible has them. Raises click.BadParameter."""
    if value is None:
        return None
    sizes = value.split(",")
    if not all(size.removesuffix("%").isdecimal() and int(size.removesuffix("%")) > 0 for size in sizes):
        raise click.BadParameter(f"{value!r}: sizes of batches, such as 1,10 or 1,25%")
    return [int(size) if size.isdecimal() else size for size in sizes]


def _known(variables: tuple[str, ...]) -> list[str]:
    """Raises run.UsageError for what is no NAME=VALUE, which Ansible would take for something else."""
    for one in variables:
        name, equals, _ = one.partition("=")
        if not equals or not name.isidentifier():
            raise run.UsageError(f"-e {one}: a variable is NAME=VALUE")
    return list(variables)


@fleet_group.command("run", epilog=FLEET_CODES)
@_INVENTORY
@_LIMIT
@_PACKAGE
@click.option("--target", help="As of `run`.")
@click.option("--filter", "pattern", callback=regex, help="As of `run`.")
@click.option("--samples", type=click.IntRange(1, targets.MOST_SAMPLES), help="As of `run`.")
@click.option("--launches", "count", type=click.IntRange(2, launches.MOST), default=10, show_default=True, help="Launches of each target on each host.")
@click.option("--require", help="Comma-separated conditions of the doctor that have to be OK on a host, or it does not measure.")
@click.option("--serial", callback=_numbers, metavar="N,N", help="Hosts at a time, the last again and again; default: 1,10.")
@click.option("--poll", type=click.IntRange(1), help="Seconds between two looks at a host that measures; default: 60.")
@click.option("--wait", type=click.FloatRange(0), default=60, show_default=True, help="Seconds before hosts that are left are tried again.")
@click.option("--patience", type=click.IntRange(1), default=3, show_default=True, help="Rounds in a row that may finish no host.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=paths.OUT / "fleet", show_default=True, help="Where runs are kept.")
@click.option("--resume", type=click.Path(exists=True, file_okay=False, path_type=Path),
              help="Go on with a run that was interrupted, or whose hosts were down: its folder. What was measured how is as it was.")
@click.option("--page/--no-page", default=True, help="Whether to write fleet.html.")
@_SET
@answer.OPTION
def run_command(inventory: str, limit: str | None, package: Path | None, target: str | None, pattern: str | None, samples: int | None,
                count: int, require: str | None, serial: list | None, poll: int | None, wait: float, patience: int, out: Path,
                resume: Path | None, page: bool, set_: tuple[str, ...], json_: str | None) -> int:
    """Install, check, run and fetch on every host of an inventory, and end in fleet.html.

    Example: ./suite fleet run -i hosts.ini --package=refhv_0.1_amd64.deb --target=self
    """
    more = _known(set_)
    hosts = play.hosts_of(inventory, limit)
    if resume is not None:
        fleet = state.load(resume.absolute())
        fleet.inventory = inventory
        fleet.hosts |= {name: state.Host(name) for name in hosts if name not in fleet.hosts}
    else:
        files.expect_folder(out.absolute())
        fleet = state.Fleet(run.new_directory(out.absolute()), inventory, {name: state.Host(name) for name in hosts})
        asked = {"--target": target, "--filter": pattern, "--samples": samples, "--launches": count}
        chosen = {
            "refhv_fleet_name": fleet.directory.name, "refhv_fleet_out": str(fleet.directory / "fetched"),
            "refhv_fleet_run": [f"{option}={value}" for option, value in asked.items() if value is not None],
            "refhv_fleet_package": package and str(package.absolute()), "refhv_fleet_require": require and require.split(","),
            "refhv_fleet_serial": serial, "refhv_fleet_poll": poll,
        }
        files.write_whole(rounds.vars_file(fleet.directory), json.dumps({name: value for name, value in chosen.items() if value}, indent=1) + "\n")
        fleet.write()
    told = answer.Answer(json_)
    try:
        with watch.Watch(fleet, told.console) as view:
            rounds.measure(fleet, [f"@{rounds.vars_file(fleet.directory)}", *more], wait, patience, view.say)
    except signals.Interrupted as interrupt:
        fleet.write()
        interrupt.kept = (f"hosts that measure go on; {paths.COMMAND} fleet run -i {inventory} --resume={fleet.directory} goes on, "
                          f"{paths.COMMAND} fleet clean -i {inventory} {fleet.directory} ends them")
        raise
    written = report.write_fleet(fleet.directory) if page and any(host.fetched for host in fleet.hosts.values()) else None
    _end(fleet, written, told)
    return fleet.code()


def _end(fleet: state.Fleet, page: Path | None, told: answer.Answer) -> None:
    told.wide().print(watch.table(fleet))
    told.say(f"records: {fleet.directory / state.RECORDS}")
    if page is not None:
        told.say(f"report: {page}")
    told.give(lambda: {"kind": "refhv fleet run", "code": fleet.code(), "directory": str(fleet.directory), "page": page and str(page),
                       "hosts": [dataclasses.asdict(host) | {"stands": host.stands.name} for host in fleet.hosts.values()]})
    if fleet.left():
        click.echo(f"refhv: {len(fleet.left())} of {len(fleet.hosts)} hosts have not made all their launches; "
                   f"{paths.COMMAND} fleet run -i {fleet.inventory} --resume={fleet.directory} goes on", err=True)


def _each(book: str, inventory: str, limit: str | None, variables: list[str], last: str, json_: str | None) -> int:
    """Plays a book of one round; a line for each host that is not well, and of the rest what task `last` said."""
    hosts = {name: state.Host(name) for name in play.hosts_of(inventory, limit)}

    def on_event(event: play.Event) -> None:
        host = hosts[event.host]
        if event.state == "unreachable" or (event.task == "reach" and event.state != "ok"):
            host.to(state.Stands.UNREACHABLE, event.says)
        elif event.state == "failed":
            host.to(state.Stands.FAILED, f"{event.task}: {event.says}")
        elif event.task == last and host.stands is state.Stands.LEFT:
            host.stands, host.says = state.Stands.DONE, watch.doctor_line(event.says) if book == "check" else ""
    code, word = play.play(book, inventory, list(hosts), variables, on_event)
    if code and all(host.stands is state.Stands.LEFT for host in hosts.values()):
        raise state.FleetError(f"ansible-playbook ended with code {code}: {word}")
    told = answer.Answer(json_)
    for host in hosts.values():
        told.say(f"{host.name}: {host.stands.value}" + (f": {host.says}" if host.says else ""))
    told.give(lambda: [{"host": host.name, "stands": host.stands.name, "says": host.says} for host in hosts.values()])
    return run.OK if all(host.stands is state.Stands.DONE for host in hosts.values()) else run.MISS


@fleet_group.command("check", epilog="Exit codes: 0 every host was looked at, 2 usage, 3 one was not.")
@_INVENTORY
@_LIMIT
@_PACKAGE
@_SET
@answer.OPTION
def check_command(inventory: str, limit: str | None, package: Path | None, set_: tuple[str, ...], json_: str | None) -> int:
    """Install, and say what stands against trustworthy numbers on each host.

    Example: ./suite fleet check -i hosts.ini
    """
    more = _known(set_) + ([f"refhv_fleet_package={package.absolute()}"] if package else [])
    return _each("check", inventory, limit, more, "check", json_)


@fleet_group.command("clean", epilog="Exit codes: 0 every host is clean, 2 usage, 3 one is not.")
@_INVENTORY
@_LIMIT
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="RUN")
@click.option("--purge", is_flag=True, help="Remove the package too.")
@_SET
@answer.OPTION
def clean_command(inventory: str, limit: str | None, directory: Path, purge: bool, set_: tuple[str, ...], json_: str | None) -> int:
    """End what RUN, a folder of `fleet run`, still has running on the hosts, and remove what it left there.

    Example: ./suite fleet clean -i hosts.ini out/fleet/20260102T030405Z
    """
    fleet = state.load(directory.absolute())
    more = [f"@{rounds.vars_file(fleet.directory)}", *_known(set_), f"refhv_fleet_purge={str(purge).lower()}"]
    return _each("clean", inventory, limit, more, "clean", json_)


@fleet_group.command("report", epilog=LEFT_OUT)
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="RUN")
@answer.OPTION
def report_command(directory: Path, json_: str | None) -> int:
    """Write fleet.html of RUN, a folder of `fleet run`, again.

    Example: ./suite fleet report out/fleet/20260102T030405Z
    """
    from refhv.fleet import spread

    found, told = spread.load(directory.absolute()), answer.Answer(json_)
    leave_out(found.problems)
    page = report.write_fleet(directory.absolute())
    told.say(page)
    told.give(lambda: {"kind": "refhv fleet report", "page": str(page), "left_out": found.problems,
                       "hosts": [{"host": host, "launches": len(records)} for host, records in found.records.items()],
                       "groups": list(map(spread.as_document, spread.groups(found)))})
    return code_of(found.problems)
