# SPDX-License-Identifier: MIT
"""A folder of records, indexed: queries by CPU, date, target and benchmark, and trends over time.

The index is SQLite, <folder>/.refhv-index.sqlite, made from the records and from nothing else: it may be deleted at any time.
A file is read again only when its size or time of change differs. Times in it are of the record's own unit.
"""

import concurrent.futures
import functools
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refhv import clock, identity, record

NAME = ".refhv-index.sqlite"
VERSION = 1
SCHEMA = f"""
PRAGMA user_version = {VERSION};
CREATE TABLE files (path TEXT PRIMARY KEY, size INTEGER, changed INTEGER, problem TEXT);
CREATE TABLE records (run_id TEXT PRIMARY KEY, path TEXT UNIQUE REFERENCES files ON DELETE CASCADE, started TEXT, target TEXT,
                      cpu TEXT, instance TEXT, machine_key TEXT, revision TEXT, emulated INTEGER, unit TEXT);
CREATE TABLE rows (run_id TEXT REFERENCES records ON DELETE CASCADE, benchmark TEXT, verdict TEXT, p50 REAL, p90 REAL, slope REAL,
                   p50_ns REAL, PRIMARY KEY (run_id, benchmark)) WITHOUT ROWID;
CREATE INDEX by_benchmark ON rows (benchmark);
CREATE INDEX by_machine ON records (machine_key, target, started);
"""
BATCH = 16


class StoreError(Exception):
    """A folder that cannot be indexed; one line."""


@dataclass(frozen=True)
class Indexed:
    """What `Store.update` did: records read anew, left as they were, gone; a line for each file that cannot be used."""

    read: int
    kept: int
    gone: int
    problems: list[str]


@dataclass(frozen=True)
class Point:
    """A benchmark in one launch: p50 in the record's unit, in ns where its rate is known."""

    run_id: str
    started: str
    target: str
    cpu: str
    instance: str
    machine_key: str
    revision: str
    benchmark: str
    verdict: str
    unit: str
    p50: float | None
    p90: float | None
    slope: float | None
    p50_ns: float | None


def _digest(folder: str, path: str) -> tuple[str, tuple | None, list[tuple], str | None]:
    """What the index keeps of one file: path, record, rows, or the problem. In a process of its own: reading takes the time."""
    try:
        rec = record.load(Path(folder, path))
    except record.RecordError as error:
        return path, None, [], str(error)
    rows = [(rec["run_id"], row["name"], row["verdict"], row["summary"]["p50"], row["summary"]["p90"], row["slope"],
             clock.nanoseconds(rec, row["summary"]["p50"])) for row in rec["benchmarks"]]
    told = (rec["run_id"], path, rec["started"], rec["target"]["name"], identity.cpu(rec), identity.instance(rec),
            identity.machine_key(rec), identity.revision(rec), rec["target"]["emulated"], rec["target"]["unit"])
    return path, told, rows, None


class Store:
    """An index over a folder of records, at any depth. A context manager. Raises StoreError, OSError."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder).absolute()
        if not self.folder.is_dir():
            raise StoreError(f"{folder}: no folder of records")
        self.path = self.folder / NAME
        self._open()

    def _open(self) -> None:
        """Opens the index; one that is of another version, or broken, is made anew."""
        for attempt in (1, 2):
            try:
                self._sql = sqlite3.connect(self.path)
                self._sql.execute("PRAGMA foreign_keys = ON")
                self._sql.execute("PRAGMA synchronous = OFF")  # it can be made again
                version = self._sql.execute("PRAGMA user_version").fetchone()[0]
                if version == VERSION:
                    self._sql.execute("SELECT count(*) FROM files").fetchone()
                    return
                if version == 0 and not self._sql.execute("SELECT name FROM sqlite_master").fetchall():
                    self._sql.executescript(SCHEMA)
                    return
            except sqlite3.DatabaseError as error:
                if attempt == 2 or isinstance(error, sqlite3.OperationalError) and "open" in str(error):
                    raise StoreError(f"{self.path}: {error}; make the folder writable for this user") from None
            self._sql.close()
            self.path.unlink(missing_ok=True)

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._sql.close()

    def rebuild(self) -> Indexed:
        """Forgets everything and reads every record."""
        self.close()
        self.path.unlink(missing_ok=True)
        self._open()
        return self.update()

    def update(self, workers: int | None = None) -> Indexed:
        """Brings the index up to date with the folder. `workers`: processes that read; default: one a CPU."""
        known = {path: (size, changed, problem) for path, size, changed, problem in self._sql.execute("SELECT * FROM files")}
        there = {str(path.relative_to(self.folder)): path.stat() for path in record.files_of([self.folder])}
        gone = [path for path in known if path not in there]
        fresh = [path for path, stat in there.items() if known.get(path, ())[:2] != (stat.st_size, stat.st_mtime_ns)]
        problems = [problem for path, (_, _, problem) in known.items() if problem and path in there and path not in fresh]
        with self._sql:
            self._sql.executemany("DELETE FROM files WHERE path = ?", [(path,) for path in (*gone, *fresh)])
        for path, told, rows, problem in _digests(self.folder, fresh, workers or os.cpu_count() or 1):
            problem = problem or self._same(told)
            with self._sql:
                self._sql.execute("INSERT INTO files VALUES (?, ?, ?, ?)", (path, there[path].st_size, there[path].st_mtime_ns, problem))
                if problem:
                    problems.append(problem)
                    continue
                self._sql.execute(f"INSERT INTO records VALUES ({', '.join('?' * 10)})", told)
                self._sql.executemany(f"INSERT INTO rows VALUES ({', '.join('?' * 7)})", rows)
        return Indexed(len(fresh), len(there) - len(fresh), len(gone), problems)

    def _same(self, told: tuple) -> str | None:
        first = self._sql.execute("SELECT path FROM records WHERE run_id = ?", told[:1]).fetchone()
        return f"{told[1]}: the same launch as {first[0]}, {told[0]}: one is a copy" if first else None

    def points(self, *, cpu: str | None = None, target: str | None = None, benchmark: str | None = None, since: str | None = None,
               until: str | None = None, machine_key: str | None = None) -> list[Point]:
        """Benchmarks in launches, by time. `cpu`: words in its name; `benchmark`: SQLite GLOB, exit.*; `since`, `until`: beginnings
        of RFC 3339 dates, 2026-01, the latter included."""
        wanted = {"instr(lower(cpu), lower(?)) > 0": cpu, "target = ?": target, "benchmark GLOB ?": benchmark, "started >= ?": since,
                  "machine_key = ?": machine_key}
        clauses = [clause for clause, value in wanted.items() if value is not None]
        values: list[Any] = [value for value in wanted.values() if value is not None]
        if until is not None:
            clauses.append("substr(started, 1, ?) <= ?")
            values += [len(until), until]
        where = f"WHERE {' AND '.join(clauses)}" if clauses else ""
        query = ("SELECT run_id, started, target, cpu, instance, machine_key, revision, benchmark, verdict, unit, p50, p90, slope, p50_ns "
                 f"FROM records JOIN rows USING (run_id) {where} ORDER BY started, run_id, benchmark")
        return [Point(*line) for line in self._sql.execute(query, values)]

    def records(self) -> list[dict[str, Any]]:
        """A line per record: run_id, path, started, target, cpu, instance, machine_key, revision, emulated, unit."""
        self._sql.row_factory = sqlite3.Row
        try:
            return [dict(line) for line in self._sql.execute("SELECT * FROM records ORDER BY started, run_id")]
        finally:
            self._sql.row_factory = None

    def frame(self, **wanted: str):
        """`points` as a pandas DataFrame, a column per field of Point."""
        import pandas

        return pandas.DataFrame([vars(point) for point in self.points(**wanted)], columns=list(Point.__dataclass_fields__))


def _digests(folder: Path, found: list[str], workers: int) -> Iterator[tuple]:
    one = functools.partial(_digest, str(folder))
    if len(found) < BATCH or workers == 1:
        yield from map(one, found)
        return
    with concurrent.futures.ProcessPoolExecutor(workers) as pool:
        yield from pool.map(one, found, chunksize=BATCH)


def import_benchmark_json(path: Path) -> dict[str, float]:
    """Benchmark to `real_time` of a Google Benchmark JSON file, in ns; rows that are marked as errors and aggregates are left out.
    Raises StoreError."""
    units = {"ns": 1.0, "us": 1e3, "ms": 1e6, "s": 1e9}
    try:
        whole = record.parse(path.read_text(encoding="utf-8"))
        return {row["name"]: float(row["real_time"]) * units[row.get("time_unit", "ns")] for row in whole["benchmarks"]
                if not row.get("error_occurred") and row.get("run_type", "iteration") == "iteration"}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{path}: no JSON of Google Benchmark ({type(error).__name__}: {str(error)[:80]})") from None
