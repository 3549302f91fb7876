# SPDX-License-Identifier: MIT
"""Result records: load them, and hold them to docs/record.schema.json and to themselves."""

import functools
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import fastjsonschema
import jsonschema
import numpy

from refhv import identity, paths, visible

Record = identity.Record
counts_instructions = identity.counts_instructions
MOST_BYTES = 1 << 28

VERDICTS = ("PASS", "FAIL", "INVALID", "SKIP", "ERROR", "MISS")


class RecordError(Exception):
    """A record that cannot be used. The message is one line: which file, where in it, what is wrong."""


@functools.cache
def validator() -> jsonschema.Draft202012Validator:
    schema = json.loads(paths.SCHEMA.read_text())
    return jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())


@functools.cache
def _quick_validator() -> Callable[[Any], Any]:
    """The same schema as generated code, which takes a tenth of the time and has no words for what it finds."""
    # The schema keeps to what drafts 7 and 2020-12 have in common.
    return fastjsonschema.compile(validator().schema | {"$schema": "http://json-schema.org/draft-07/schema#", "$id": ""})


def _fits_schema(record: Any) -> bool:
    try:
        _quick_validator()(record)
    except (fastjsonschema.JsonSchemaException, TypeError, AttributeError, OverflowError, RecursionError):
        return False
    return True


def _newer(record: Any) -> str | None:
    """Says so if a later refhv wrote this record: what else is unknown in it follows from that."""
    known = validator().schema["properties"]["schema_version"]["const"]
    version = record.get("schema_version") if isinstance(record, dict) else None
    if isinstance(version, int) and version > known:
        return (f"schema version {version} is newer than version {known}, the last that this refhv knows: "
                "use the refhv that wrote it, or update this one")
    return None


def _plain(samples: Any) -> bool:
    """Whether this is a list of whole numbers of 64 bits, as nearly every list of samples is."""
    return (isinstance(samples, list) and bool(samples) and set(map(type, samples)) == {int}
            and -(1 << 63) <= min(samples) and max(samples) < 1 << 63)


def _without_plain_samples(record: Any) -> Any:
    """The record with one of a row's samples where they are all in order: the schema would take seconds for each."""
    def less(row: Any) -> Any:
        if not isinstance(row, dict):
            return row
        row = row | {"samples": row["samples"][:1]} if _plain(row.get("samples")) else row
        parts = row.get("part_samples")
        if isinstance(parts, dict):
            row = row | {"part_samples": {part: samples[:1] if _plain(samples) else samples for part, samples in parts.items()}}
        return row
    if not isinstance(record, dict) or not isinstance(record.get("benchmarks"), list):
        return record
    return record | {"benchmarks": [less(row) for row in record["benchmarks"]]}


def _schema_faults(record: Record) -> list[str]:
    if newer := _newer(record):
        return [newer]
    short = _without_plain_samples(record)
    if _fits_schema(short):
        return []
    faults = []
    for error in validator().iter_errors(short):
        best = jsonschema.exceptions.best_match([error])
        where = best.json_path.removeprefix("$").lstrip(".") or "top level"
        if best.absolute_path and best.absolute_path[0] == "benchmarks" and len(best.absolute_path) > 1:
            row = record["benchmarks"][best.absolute_path[1]]
            where += f" ({row.get('name')})" if isinstance(row, dict) else ""
        message = best.message if len(best.message) < 160 else best.message[:157] + "..."
        faults.append(f"{where}: {message}")
    return faults


def _number_faults(row: dict[str, Any]) -> list[str]:
    """The summary must be what the raw samples say, whatever common definition of a quantile is used."""
    cost, samples = row["stamp_cost"], numpy.sort(numpy.asarray(row["samples"], numpy.int64)).astype(float)
    batch = row["chase"]["accesses"] if row.get("chase") else row.get("batch", 1)  # operations a sample; the summary is of one
    summary = {key: value * batch for key, value in row["summary"].items()}
    low, high = samples[(len(samples) - 1) // 2], samples[len(samples) // 2]
    expected = {"min": (samples[0], samples[0]), "p50": (low, high), "max": (samples[-1], samples[-1])}
    faults = [
        f"{row['name']}: summary.{key} is {summary[key]:g}, but its samples less the stamp cost give {a - cost:g}"
        for key, (a, b) in expected.items()
        if not a - cost - 0.51 <= summary[key] <= b - cost + 0.51
    ]
    ladder = [summary[key] for key in ("min", "p50", "p90", "p99", "max")]
    if ladder != sorted(ladder):
        faults.append(f"{row['name']}: min, p50, p90, p99, max are not in rising order")
    off = numpy.sort(abs(samples - (low + high) / 2))
    deviation = float(off[(len(off) - 1) // 2] + off[len(off) // 2]) / 2
    if abs(deviation - summary["mad"]) > 1.01:
        faults.append(f"{row['name']}: summary.mad is {summary['mad']:g}, but its samples give {deviation:g}")
    return faults


def _row_faults(row: dict[str, Any], verdicts: dict[str, str], target: dict[str, Any]) -> list[str]:
    faults = []
    name = row["name"]
    if row["unit"] != target["unit"]:
        faults.append(f"{name}: unit {row['unit']} on a target whose unit is {target['unit']}")
    if name.rpartition("/")[2] != row["mode"]:
        faults.append(f"{name}: mode is {row['mode']}")
    if name.partition(".")[0] != row["family"]:
        faults.append(f"{name}: family is {row['family']}")
    if row["verdict"] != "PASS":
        return faults
    for claim in row["claims"]:
        if verdicts.get(claim) != "PASS":
            faults.append(f"{name}: has numbers, but its claim {claim} is {verdicts.get(claim, 'not in the record')}")
    rates = row.get("exits_per_operation")
    if rates and abs(sum(rates["by_reason"].values()) - rates["total"]) > 1e-9:
        faults.append(f"{name}: exits_per_operation.total is not the sum of its reasons")
    if rates and row["mode"] == "nested" and rates["total"] != 0:
        faults.append(f"{name}: has numbers, but under nested paging the guest's own took exits")
    exits = row["exits"]
    # KVM's own count has the exits by interrupts in it.
    at_least = row["mode"] == "kvm" and exits and exits["reason"] == "counted by KVM"
    if exits and (exits["counted"] < exits["expected"] or (exits["counted"] != exits["expected"] and not at_least)):
        faults.append(f"{name}: has numbers, but {exits['counted']} exits where {exits['expected']} are due")
    return faults + _number_faults(row)


def _tick_faults(record: Record) -> list[str]:
    """Where ticks are instructions, a number needs a launch on which that was shown."""
    proofs = record["target"].get("tick_proofs")  # records of before lack it
    numbers = [row["name"] for row in record["benchmarks"] if row["verdict"] == "PASS"]
    if proofs is None or not numbers or any(proof["pairs"] and proof["wrong"] is None for proof in proofs):
        return []
    return [f"{numbers[0]}: has numbers, but no launch showed that a tick is an instruction"]


def faults(record: Any) -> list[str]:
    """What is wrong with a record, one line each; empty if nothing is."""
    found = _schema_faults(record)
    if found:
        return found
    verdicts = {claim["name"]: claim["verdict"] for claim in record["claims"]}
    for row in record["benchmarks"]:
        found += _row_faults(row, verdicts, record["target"])
    found += _tick_faults(record)
    for kind in ("claims", "benchmarks"):
        names = [item["name"] for item in record[kind]]
        found += [f"{kind}: {name} stands there twice" for name in sorted({n for n in names if names.count(n) > 1})]
    return found


def _read(path: Path) -> str:
    if path.is_file() and path.stat().st_size > MOST_BYTES:
        raise ValueError(f"larger than {MOST_BYTES >> 20} MBytes")
    return path.read_text(encoding="utf-8")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{text[:20]} is too large for a number")
    return value


def _whole(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise ValueError(f"{text[:20]}... is too large for a number")
    return int(text)


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no number")


MOST_DIGITS = 20
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def _has_long_number(text: str) -> bool:
    """Whether there are 20 digits in a row; a regular expression takes ten times as long."""
    found = numpy.frombuffer(text.encode(errors="surrogatepass"), numpy.uint8) - ord("0") <= 9
    for more in (1, 2, 4, 8, MOST_DIGITS - 16):  # where 2, 4, 8, 16 and 20 in a row begin
        found = found[:-more] & found[more:]
    return bool(found.any())


def parse(text: str) -> Any:
    """JSON of finite numbers, of at most 20 digits where they are whole. Raises ValueError, of one line."""
    hooks: dict[str, Any] = {"parse_int": _whole} if _has_long_number(text) else {}  # a hook for each sample takes time
    try:
        found = json.loads(text, parse_float=_finite, parse_constant=_no_constant, **hooks)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if "\\u" in text and _SURROGATE.search(text):
        try:
            json.dumps(found, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("text that is no Unicode") from None
    return found


def load(path: Path) -> Record:
    """Reads and validates one record. Raises RecordError."""
    try:
        record = visible.read(_read(path), parse)
    except FileNotFoundError:
        raise RecordError(f"{path}: there is no record") from None
    except OSError as error:
        raise RecordError(f"{path}: {error.strerror}; make it readable for this user") from None
    except ValueError as error:
        raise RecordError(_one_line(f"{path}: not JSON, or cut short ({error})")) from None
    found = faults(record)
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise RecordError(_one_line(f"{path}: {found[0]}{more}"))
    return record


def _one_line(text: str) -> str:
    """Without what would end the line, or speak to the terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)[:600]


def files_of(sources: Sequence[Path]) -> list[Path]:
    """Files that are meant as records: those named, and of each folder those in it, at any depth."""
    found: list[Path] = []
    for source in sources:
        if source.is_dir():
            found += sorted(path for path in source.rglob("*.json") if is_record(path) and not path.name.startswith("."))
        else:
            found.append(source)
    return found


def is_record(path: Path) -> bool:
    """Whether a file in a folder is meant as a record: Google Benchmark's own output is not, and neither are refhv's other files."""
    if path.suffix != ".json" or path.name.endswith(".benchmark.json") or path.name in ("run.json", "launches.json"):
        return False
    try:
        with path.open("rb") as file:
            return OF_REFHV not in file.read(64)
    except OSError:
        return True  # to be said when it is read


OF_REFHV = b'"kind": "refhv '  # how refhv's other JSON files begin


def load_all(sources: Sequence[Path]) -> tuple[list[Record], list[str]]:
    """The records of files and folders, hardware first, and one line for each that cannot be used.
    Raises identity.SameRecordError."""
    records, places, problems = [], [], []
    for path in files_of(sources):
        try:
            records.append(load(path))
            places.append(path)
        except RecordError as error:
            problems.append(str(error))
    identity.refuse_same(records, places)
    records.sort(key=lambda r: (r["target"]["emulated"], r["target"]["name"], r["started"]))
    return records, problems
