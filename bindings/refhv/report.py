# SPDX-License-Identifier: MIT
"""Which pages a set of records has, and writes them beside each other, each linked to the others (reports/)."""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from refhv import files, identity, leaks, notebook, paths, record, tables
from refhv.notebook import ReportError

MOST_MACHINES = 16  # records that have a page each; of more, `report` makes that of one on its own
GENERATOR = '<meta name="generator" content="refhv">'  # in pages of ours, which may be replaced or go
TITLES = {"paging": "Paging", "interrupts": "Interrupts", "ladder": "Ladder"}


@dataclass(frozen=True)
class Page:
    """A page that is to be written: its file, what links to it say, its notebook and that one's parameters."""

    name: str
    words: str
    notebook: str
    parameters: dict[str, Any] = field(default_factory=dict)


def _named(sources: Iterable[Path]) -> list[str]:
    return [str(source.resolve()) for source in sources]


def machine_pages(records: Sequence[record.Record]) -> dict[str, str]:
    """By record, the file of its own page; of more than MOST_MACHINES none."""
    if len(records) > MOST_MACHINES:
        return {}
    count = Counter(rec["target"]["name"] for rec in records)

    def name(rec: record.Record) -> str:
        target = rec["target"]["name"]
        launch = f"-{hashlib.sha256(identity.key(rec).encode()).hexdigest()[:8]}" if count[target] > 1 else ""
        return f"machine-{files.stem(target)}{launch}.html"
    return {identity.key(rec): name(rec) for rec in records}


def pages(sources: Sequence[Path], base: Sequence[Path] = ()) -> list[Page]:
    """The pages that these records have, the index first. `base`: records that they are held to, for regression.html. Raises
    identity.SameRecordError."""
    records, _ = tables.read(sources)
    named = {"sources": _named(sources)}
    due = {tables.page_of(row) for rec in records for row in rec["benchmarks"]}
    machines = machine_pages(records)
    found = [Page("index.html", "Overview", "index", named | {"pages": machines}), Page("report.html", "Exits", "compare", named)]
    found += [Page(f"{name}.html", TITLES[name], name, named) for name in tables.PAGES if name in due]
    if len(records) > 1:
        found.append(Page("compare.html", "Machines side by side", "machines", named))
    if base:
        found.append(regression(base, sources))
    return found + [Page(machines[identity.key(rec)], identity.title(rec), "machine", named | {"launch": identity.key(rec)})
                    for rec in records if identity.key(rec) in machines]


def regression(base: Sequence[Path], candidate: Sequence[Path], **rule: Any) -> Page:
    """The page of one set of launches held to another. `rule`: fields of gate.Rule."""
    return Page("regression.html", "Regression", "regression", {"base": _named(base), "candidate": _named(candidate), "rule": rule})


def _write_all(directory: Path, wanted: Sequence[Page]) -> None:
    """Executes and writes pages that link to each other. Raises ReportError, OSError."""
    jobs = [notebook.Job(paths.REPORTS / f"{page.notebook}.ipynb", page.parameters) for page in wanted]
    for page, executed in zip(wanted, notebook.execute_all(directory, jobs)):
        executed.metadata["pages"] = [{"href": one.name, "words": one.words, "here": one is page} for one in wanted] if len(wanted) > 1 else []
        text = notebook.render(executed)
        asked = leaks.requests_in(text)
        if asked:
            raise ReportError(f"{page.name} would ask for {asked[0]}")
        files.write_whole(directory / page.name, text)


def write_one(path: Path, page: Page) -> Path:
    """Writes a page by itself, without links to others. Raises ReportError, OSError."""
    _write_all(path.parent, [Page(path.name, page.words, page.notebook, page.parameters)])
    return path


def write_compare(directory: Path, sources: Sequence[Path]) -> Path:
    """Writes directory/compare.html of the records of `sources` (files, folders). Raises ReportError, OSError."""
    return write_one(directory / "compare.html", Page("compare.html", "Machines side by side", "machines", {"sources": _named(sources)}))


def write_fleet(directory: Path) -> Path:
    """Writes directory/fleet.html of the fleet's run in that directory. Raises ReportError, OSError."""
    return write_one(directory / "fleet.html", Page("fleet.html", "A fleet", "fleet", {"directory": str(directory.resolve())}))


def write(directory: Path, sources: Sequence[Path] = (), base: Sequence[Path] = (), only: Collection[str] = ()) -> Path:
    """Writes the pages of the records of `sources` (files, folders), else of those in `directory`, beside each other in `directory`;
    returns the index. Pages that were made of other records go. `only`: the files that are wanted, where that is not all. Raises
    ReportError, OSError, identity.SameRecordError."""
    due = pages(list(sources) or [directory], base)
    _write_all(directory, [page for page in due if not only or page.name in only])
    names = {page.name for page in due}
    ours = [path for path in directory.glob("machine-*.html") if GENERATOR in path.read_text(errors="replace")[:2000]]
    for path in (*(directory / f"{name}.html" for name in tables.PAGES), *ours):
        if path.name not in names:
            path.unlink(missing_ok=True)
    return directory / "index.html"
