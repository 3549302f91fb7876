# SPDX-License-Identifier: MIT
"""`refhv run`: every target in turn, a record each, one report."""

import concurrent.futures
import dataclasses
import datetime
import json
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from refhv import departures, files, junit, paths, record, report, versions
from refhv.child import Ending, watch
from refhv.progress import Live, TargetView
from refhv.signals import Interrupted

OK, FAILED, USAGE, MISS = 0, 1, 2, 3  # exit codes of every tool here

SILENCE_SECONDS = 60.0
LIMIT_SECONDS = 1800.0


NOTHING_SELECTED = "selects no row"  # refhv-microbench's words for a filter that leaves it nothing to do


class UsageError(Exception):
    """The caller's error; one line."""


@dataclass(frozen=True)
class Options:
    targets: list[str]
    filter: str | None = None
    samples: int | None = None
    claims: str = "needed"
    silence: float = SILENCE_SECONDS
    limit: float = LIMIT_SECONDS
    report: bool = True


@dataclass
class TargetResult:
    target: str
    code: int
    problem: str | None = None  # one line
    rec: record.Record | None = None
    known: list[str] = field(default_factory=list)  # claims that fail as departures.json says
    wrong: list[str] = field(default_factory=list)  # anything else that failed, one line each


@dataclass(frozen=True)
class Outcome:
    """What a run left. `results`: by launch, where there are several, what became of each target."""

    code: int
    directory: Path
    page: Path | None
    results: list[tuple[int | None, TargetResult]]

    def document(self) -> dict[str, Any]:
        """For JSON (docs/json.md)."""
        def one(launch: int | None, result: TargetResult) -> dict[str, Any]:
            path = (self.directory if launch is None else folder(self.directory, launch)) / f"{files.stem(result.target)}.json"
            return {"launch": launch, "target": result.target, "code": result.code, "problem": result.problem,
                    "record": str(path) if path.is_file() else None, "known": result.known, "wrong": result.wrong}
        return {"kind": "refhv run", "code": self.code, "directory": str(self.directory), "page": self.page and str(self.page),
                "launches": [one(*each) for each in self.results]}


def folder(directory: Path, launch: int) -> Path:
    """Of one launch of several."""
    return directory / f"launch-{launch:03}"


def new_directory(out: Path) -> Path:
    """out/<UTC time>, a second one in the same second gets a suffix. Raises OSError."""
    stamp = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    for suffix in ("", *(f"-{n}" for n in range(2, 100))):
        directory = out / f"{stamp}{suffix}"
        try:
            directory.mkdir(parents=True)
            return directory
        except FileExistsError:
            continue
    raise FileExistsError(17, "too many runs within one second", str(out))


def point_latest(directory: Path) -> None:
    """Makes out/latest name this run; at no moment does it name nothing."""
    fresh = directory.parent / f".latest-{os.getpid()}"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(directory.name)
    fresh.replace(directory.parent / "latest")


def command(options: Options, target: str, directory: Path) -> list[str]:
    stem = directory / files.stem(target)
    argv = [
        str(paths.tool("refhv-microbench")),
        f"--target={target}",
        f"--record={stem}.json",
        f"--claims={options.claims}",
        f"--departures={paths.DEPARTURES}",
        f"--benchmark_out={stem}.benchmark.json",
        "--benchmark_out_format=json",
        f"--gtest_output=xml:{stem}.xml",
    ]
    if options.filter is not None:
        argv.append(f"--benchmark_filter={options.filter}")
    if options.samples is not None:
        argv.append(f"--samples={options.samples}")
    return argv


def last_words(log: Path) -> str:
    """The last line that a child printed, for use in one line of ours."""
    try:
        lines = log.read_bytes()[-4096:].decode(errors="replace").split("\n")
    except OSError:
        return ""
    lines = [" ".join("".join(c if c.isprintable() else " " for c in line).split()) for line in lines]
    return next((line[:300] for line in reversed(lines) if line), "")


def judge(target: str, rec: record.Record, listed: list[departures.Departure]) -> tuple[list[str], list[str]]:
    """Splits what is not well in a record into known departures and the rest."""
    claims = [departures.Claim(**claim) for claim in rec["claims"]]
    emulator = versions.emulator_of(rec["target"])
    known = [c.name for c in claims if departures.is_known(target, c, listed, emulator)]
    # One that passes has gone, which is for `refhv test` to notice: a run on a better emulator is no failure.
    wrong = departures.judge(target, [c for c in claims if c.verdict != "PASS"], listed, complete=False,
                             emulator=emulator)
    failed = {c["name"] for c in rec["claims"] if c["verdict"] not in ("PASS", "SKIP")}
    for row in rec["benchmarks"]:
        broken = failed.intersection(row["claims"])
        if row["verdict"] in ("ERROR", "MISS") or (row["verdict"] == "INVALID" and not broken):
            wrong.append(f"{row['name']} {row['verdict']} on {target}: {row['reason']}")
        # An INVALID row whose claim failed is that claim's story, told above.
    return known, wrong


def conclude(target: str, directory: Path, ending: Ending, listed: list[departures.Departure]) -> TargetResult:
    """Puts together how the child ended and what it left behind."""
    stem = files.stem(target)
    log, kept_record = directory / f"{stem}.log", directory / f"{stem}.json"
    died = ending.why()
    if ending.returncode == USAGE and died is None:
        if NOTHING_SELECTED in last_words(log):  # the other targets may have such rows; `run` sees when none has
            return TargetResult(target, OK, f"{target}: the filter selects no row that this target has")
        told = last_words(log) or f"refhv-microbench refused its command line; see {log}"
        if kept_record.exists():  # such as a disk that has filled up since
            told += f"; what was measured before is kept in {directory}"
        return TargetResult(target, USAGE, told)
    try:
        rec = record.load(kept_record)
    except record.RecordError as error:
        hint = last_words(log)
        return TargetResult(target, MISS, f"MISS {target}: {died or error}" + (f"; it said: {hint}" if hint else ""))
    if rec["target"]["name"] != target:
        return TargetResult(target, MISS, f"MISS {target}: its record is of {rec['target']['name']}")
    result = TargetResult(target, OK, rec=rec)
    result.known, result.wrong = judge(target, rec, listed)
    missing = [row["name"] for row in rec["benchmarks"] if row["verdict"] == "MISS"]
    missing += [c["name"] for c in rec["claims"] if c["verdict"] == "MISS" and c["name"] not in result.known]
    if died or missing or ending.returncode == MISS:
        result.code = MISS
        cause = died or last_words(log) or "the target did not answer"
        result.problem = f"MISS {target}: {cause}; kept what was measured before"
    elif result.wrong:
        result.code = FAILED
    elif ending.returncode not in (OK, FAILED):
        result.code = FAILED
        result.problem = f"{target}: refhv-microbench ended with code {ending.returncode}; see {log}"
    elif ending.returncode == FAILED:
        result.code = FAILED
        result.problem = f"{target}: refhv-microbench says that something failed, its record does not; see {log}"
    return result


def run_target(options: Options, target: str, words: str, directory: Path, live: Live,
               listed: list[departures.Departure], stop: threading.Event) -> TargetResult:
    view = TargetView(live, target, words, {d.claim for d in departures.applying(target, None, listed)})
    log = directory / f"{files.stem(target)}.log"
    try:
        ending = watch(command(options, target, directory), log, view.event, options.silence, options.limit, stop)
    finally:
        view.close()
    result = conclude(target, directory, ending, listed)
    if result.rec:
        files.write_whole(directory / f"{files.stem(target)}.junit.xml", junit.of_record(result.rec, listed))
    if result.problem:
        live.line(result.problem, "bold red")
    return result


def waves(targets: list[str], descriptions: dict[str, str]) -> list[list[str]]:
    """Which targets run together: hardware one by one; emulated ones beside each other, for the clock of an emulator
    counts instructions and does not notice what else this machine does. One that runs by the clock does."""
    emulated = [target for target in targets if "emulated" in descriptions.get(target, "")
                and "by the clock" not in descriptions[target]]
    return [[target] for target in targets if target not in emulated] + ([emulated] if emulated else [])


def run_targets(options: Options, directory: Path, descriptions: dict[str, str], live: Live,
                listed: list[departures.Departure], found: dict[str, TargetResult]) -> None:
    """Fills `found` with the result of each target. Whatever is raised ends what runs, which keeps its records, and the
    results of that are in `found` too."""
    stop = threading.Event()
    futures: dict[str, concurrent.futures.Future] = {}
    try:
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            try:
                for wave in waves(options.targets, descriptions):
                    for target in wave:
                        futures[target] = pool.submit(run_target, options, target, descriptions.get(target, ""), directory,
                                                      live, listed, stop)
                    if USAGE in [futures[target].result().code for target in wave]:
                        break
            except BaseException:
                stop.set()
                raise
    finally:
        found |= {target: futures[target].result() for target in options.targets
                  if target in futures and futures[target].done() and not futures[target].exception()}


def exit_code(results: list[TargetResult]) -> int:
    """MISS tells more than FAILED; a usage error more than either."""
    codes = {result.code for result in results}
    return next((code for code in (USAGE, MISS, FAILED) if code in codes), OK)


def closing_lines(results: list[TargetResult]) -> list[str]:
    lines = []
    tried = departures.load_tried()
    emulators = {versions.emulator_of(result.rec["target"]) for result in results
                 if result.rec and departures.family(result.target) in departures.LISTED}
    for result in results:
        if result.rec is None:
            continue
        rows = [row["verdict"] for row in result.rec["benchmarks"]]
        claims = [claim["verdict"] for claim in result.rec["claims"]]
        counts = ", ".join(f"{rows.count(v)} {v}" for v in record.VERDICTS if v in rows)
        lines.append(f"{result.target}: benchmarks {counts or 'none'}; claims {claims.count('PASS')} of {len(claims)} PASS"
                     + (f", {len(result.known)} known departures" if result.known else ""))
        lines += [f"  {line}" for line in result.wrong]
    notes = [departures.note(emulator, tried) for emulator in emulators]
    return lines + sorted(told for told in notes if told)


def write_notes(directory: Path, results: list[TargetResult], listed: list[departures.Departure]) -> None:
    """run.json: what the report needs to know and no record can say, so that a run's directory explains itself."""
    counted = [d for result in results for d in departures.applying(
        result.target, versions.emulator_of(result.rec["target"]) if result.rec else None, listed)]
    notes = {
        "problems": list(dict.fromkeys(result.problem for result in results if result.problem)),
        "departures": [dataclasses.asdict(d) for d in listed if d in counted],
    }
    files.write_whole(directory / "run.json", json.dumps(notes, indent=1) + "\n")


def kept(directory: Path) -> str:
    """What an interrupted run leaves, for Interrupted.kept."""
    names = sorted(path.name for path in directory.glob("*.json") if record.is_record(path))
    if not names:
        return f"nothing was measured yet ({directory} has the logs)"
    return f"kept in {directory}: {', '.join(names)} ({paths.COMMAND} report {directory} makes the pages)"


def run(options: Options, out: Path, descriptions: dict[str, str], console: Console) -> Outcome:
    """Runs every target and writes the report. Raises UsageError, OSError, departures.DeparturesError, Interrupted."""
    paths.tool("refhv-microbench")
    listed = departures.load()
    directory = new_directory(out)
    found: dict[str, TargetResult] = {}
    try:
        return _run_in(directory, options, descriptions, console, listed, found)
    except Interrupted as interrupt:
        interrupt.kept = kept(directory)
        if any(result.rec for result in found.values()):
            write_notes(directory, list(found.values()), listed)
            point_latest(directory)
        raise


def _run_in(directory: Path, options: Options, descriptions: dict[str, str], console: Console,
            listed: list[departures.Departure], found: dict[str, TargetResult]) -> Outcome:
    with Live(console) as live:
        run_targets(options, directory, descriptions, live, listed, found)
        results = [found[target] for target in options.targets if target in found]
        live.line()
        for line in closing_lines(results):
            live.line(line)
    code = exit_code(results)
    if code == OK and not any(result.rec["benchmarks"] for result in results if result.rec):
        raise UsageError(f"no target has a benchmark that matches {options.filter!r}")
    page = None
    if code != USAGE:
        write_notes(directory, results, listed)
        point_latest(directory)
        if options.report:
            page = report.write(directory)
            console.print(f"report: {page}", highlight=False, markup=False, soft_wrap=True)
    return Outcome(code, directory, page, [(None, result) for result in results])
