# SPDX-License-Identifier: MIT
"""Result records: load them, and hold them to docs/record.schema.json and to themselves."""

import functools
import json
import statistics
from pathlib import Path
from typing import Any

import jsonschema

from refhv import paths

Record = dict[str, Any]



def counts_instructions(target: dict[str, Any]) -> bool:
    """Whether a tick of this target is an instruction; on other emulators it is the emulator's own time."""
    return target.get("counts_instructions", target["emulated"])


VERDICTS = ("PASS", "FAIL", "INVALID", "SKIP", "ERROR", "MISS")


class RecordError(Exception):
    """A record that cannot be used. The message is one line: which file, where in it, what is wrong."""


@functools.cache
def validator() -> jsonschema.Draft202012Validator:
    schema = json.loads(paths.SCHEMA.read_text())
    return jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())


def _newer(record: Any) -> str | None:
    """Says so if a later refhv wrote this record: what else is unknown in it follows from that."""
    known = validator().schema["properties"]["schema_version"]["const"]
    version = record.get("schema_version") if isinstance(record, dict) else None
    if isinstance(version, int) and version > known:
        return (f"schema version {version} is newer than version {known}, the last that this refhv knows: "
                "use the refhv that wrote it, or update this one")
    return None


def _schema_faults(record: Record) -> list[str]:
    if newer := _newer(record):
        return [newer]
    faults = []
    for error in validator().iter_errors(record):
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
    cost, samples = row["stamp_cost"], sorted(row["samples"])
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
    deviation = statistics.median(abs(s - statistics.median(samples)) for s in samples)
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


def load(path: Path) -> Record:
    """Reads and validates one record. Raises RecordError."""
    try:
        record = json.loads(path.read_text())
    except FileNotFoundError:
        raise RecordError(f"{path}: there is no record") from None
    except OSError as error:
        raise RecordError(f"{path}: {error.strerror}; make it readable for this user") from None
    except ValueError as error:
        raise RecordError(f"{path}: not JSON, or cut short ({error})") from None
    found = faults(record)
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise RecordError(f"{path}: {found[0]}{more}")
    return record


def is_record(path: Path) -> bool:
    """Whether a file in a run's directory is meant as a record: Google Benchmark's own output and run.json are not."""
    return path.suffix == ".json" and not path.name.endswith(".benchmark.json") and path.name != "run.json"


def load_run(directory: Path) -> tuple[list[Record], list[str]]:
    """All records of one run, hardware first, and one line for each that cannot be used."""
    records, problems = [], []
    for path in sorted(filter(is_record, directory.glob("*.json"))):
        try:
            records.append(load(path))
        except RecordError as error:
            problems.append(str(error))
    records.sort(key=lambda r: (r["target"]["emulated"], r["target"]["name"]))
    return records, problems
