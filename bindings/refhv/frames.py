# SPDX-License-Identifier: MIT
"""Records as tidy tables (pandas) and back. docs/python.md has every column."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from refhv import record
from refhv.record import RecordError

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import]  # Debian has no stubs of it

KINDS = ("benchmarks", "samples", "claims")
_SUMMARY = ("min", "p50", "p90", "p99", "max", "mad")
_MARK = "refhv"  # in DataFrame.attrs: what of the record no table holds


class Record(dict[str, Any]):
    """A validated record (docs/record.md), with its tables. Otherwise a dict like any other."""

    def frame(self, kind: str = "benchmarks") -> "pd.DataFrame":
        """A table of this record.

        "benchmarks": one row a benchmark. "samples": one row a sample. "claims": one row a claim. Every row begins with the
        target and the machine, so that tables of several records can be put together (pandas.concat).
        """
        if kind not in KINDS:
            raise ValueError(f"there are the tables {', '.join(KINDS)}, and not {kind!r:.60}")
        return {"benchmarks": _benchmarks, "samples": _samples, "claims": _claims}[kind](self)


def load(path: str | Path) -> Record:
    """A record's file. Raises RecordError with one line."""
    return Record(record.load(Path(path)))


def _pandas() -> Any:
    import pandas

    return pandas


def _key(rec: dict[str, Any]) -> dict[str, Any]:
    return {"target": rec["target"]["name"], "machine": rec["machine"]["name"], "machine_key": rec["machine"]["machine_key"]}


def _flat(row: dict[str, Any], path: str = "") -> dict[str, Any]:
    """Leaves by dotted path; lists are leaves, as tuples."""
    flat: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{path}{key}.")
        else:
            flat[f"{path}{key}"] = tuple(value) if isinstance(value, list) else value
    return flat


def _benchmarks(rec: Record) -> "pd.DataFrame":
    pandas = _pandas()
    rows, empty = [], {}
    for row in rec["benchmarks"]:
        flat = _flat(row)
        # What is null, or an empty object, is told apart from what is not there at all.
        empty[row["name"]] = {path: value for path, value in flat.items() if value is None or value == {}}
        rows.append(_key(rec) | {path.removeprefix("summary."): value for path, value in flat.items()})
    table = pandas.DataFrame(rows).rename(columns={"name": "benchmark"}).convert_dtypes(convert_string=False)
    head = {key: value for key, value in rec.items() if key != "benchmarks"}
    table.attrs[_MARK] = {"head": head, "empty": empty}
    return table


def _samples(rec: Record) -> "pd.DataFrame":
    pandas = _pandas()
    rows = [_key(rec) | {"benchmark": row["name"], "unit": row["unit"], "index": index, "value": value,
                         "net": value - row["stamp_cost"] if row["stamp_cost"] is not None else None}
            for row in rec["benchmarks"] for index, value in enumerate(row["samples"])]
    columns = [*_key(rec), "benchmark", "unit", "index", "value", "net"]
    return pandas.DataFrame(rows, columns=columns)


def _claims(rec: Record) -> "pd.DataFrame":
    pandas = _pandas()
    rows = [_key(rec) | {"claim": one["name"]} | {key: value for key, value in one.items() if key != "name"} for one in rec["claims"]]
    return pandas.DataFrame(rows, columns=[*_key(rec), "claim", "verdict", "section", "detail"])


def _plain(value: Any) -> Any:
    """As JSON has it."""
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    value = value.item() if hasattr(value, "item") else value
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _absent(value: Any) -> bool:
    return not isinstance(value, tuple | list) and bool(_pandas().isna(value))


def _row(values: dict[str, Any], empty: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    leaves = {path: _plain(value) for path, value in values.items() if not _absent(value)}
    for path, value in ({path: value for path, value in empty.items() if path not in leaves} | leaves).items():
        *above, last = path.split(".") if path.startswith(("summary.", "parts.", "exits.", "exits_per", "chase.", "due.", "part_samples.")) else [path]
        at = row
        for key in above:
            at = at.setdefault(key, {})
        at[last] = value
    return row


def to_record(table: "pd.DataFrame") -> Record:
    """The record of a table of benchmarks, of which rows may have been dropped or changed. Raises RecordError.

    The table is one that Record.frame() made, or a part of one: what else is in the record (machine, claims) came along with it.
    """
    mark = getattr(table, "attrs", {}).get(_MARK)
    if mark is None:
        raise RecordError("not a table that frame() made, or put together from several: what else is in a record has not come along")
    rows = []
    for values in table.to_dict("records"):
        name = values.pop("benchmark", None)
        for key in ("target", "machine", "machine_key"):
            values.pop(key, None)
        named = {f"summary.{key}" if key in _SUMMARY else key: value for key, value in values.items()}
        rows.append({"name": name} | _row(named, mark["empty"].get(name, {})))
    rec = Record(mark["head"] | {"benchmarks": rows})
    if found := record.faults(rec):
        raise RecordError(f"the table gives no record: {found[0]}")
    return rec
