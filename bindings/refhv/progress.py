# SPDX-License-Identifier: MIT
"""What a user sees while targets run: rows as they are measured and, on a terminal, a bar below them."""

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

STYLES = {"PASS": "green", "FAIL": "bold red", "INVALID": "red", "SKIP": "yellow", "ERROR": "bold magenta",
          "MISS": "bold red"}
TARGET_WIDTH, NAME_WIDTH = 13, 34


def number(value: float | None) -> str:
    """Whole from 100 on, one decimal below unless whole; a dash where there is none."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:,.1f}"


class Live:
    """The screen that all targets of a run share. Targets may report from several threads."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._headed: str | None = None
        self.bar: Progress | None = None

    def __enter__(self) -> "Live":
        if self.console.is_terminal:
            self.bar = Progress(
                SpinnerColumn(), TextColumn("[bold]{task.description}"), BarColumn(), MofNCompleteColumn(),
                TimeElapsedColumn(), console=self.console, transient=True,
            )
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar:
            self.bar.stop()

    def line(self, text: str | Text = "", style: str = "") -> None:
        self.console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)

    def head(self, unit: str) -> None:
        """The table's head, again whenever the unit changes: columns never hold two units under one head."""
        if self._headed != unit:
            self._headed = unit
            self.line(f"{'':{TARGET_WIDTH}}{'':8}{'benchmark':{NAME_WIDTH}}{'p50':>9}{'exit':>9}{'handler':>9}{'entry':>9}  {unit}",
                      "dim")


class TargetView:
    """The lines and the bar of one target. `known` names the claims on which it is known to depart from the manual."""

    def __init__(self, live: Live, target: str, words: str, known: set[str]) -> None:
        self._live = live
        self._known = known
        self._target = f"{target:{TARGET_WIDTH - 1}} "
        self._task = live.bar.add_task(target, total=None) if live.bar else None
        live.line(f"{self._target}{words}", "bold")
        self._skipped: tuple[str, int] = ("", 0)  # the reason of the rows skipped last, and how many were not shown

    def close(self) -> None:
        self._tell_skipped()
        if self._live.bar and self._task is not None:
            self._live.bar.remove_task(self._task)

    def event(self, event: dict[str, Any]) -> None:
        bar, kind = self._live.bar, event["event"]
        if kind == "start" and bar:
            bar.update(self._task, total=event.get("claims", 0) + event.get("benchmarks", 0) or None)
        elif kind == "hello":
            self._live.line(f"{self._target}{event.get('machine', '?')}, up after {event.get('seconds', 0):.2f} s")
        elif kind == "claim":
            self._claim(event)
        elif kind == "benchmark":
            self._benchmark(event)
        if kind in ("claim", "benchmark") and bar:
            bar.advance(self._task)

    def _claim(self, event: dict[str, Any]) -> None:
        verdict = event.get("verdict", "ERROR")
        if verdict in ("PASS", "SKIP"):
            return
        section = f" ({event['section']})" if event.get("section") else ""
        known = event.get("name") in self._known
        row = Text(self._target) + Text(f"{verdict:8}", "yellow" if known else STYLES.get(verdict, ""))
        told = "a known departure of this emulator" if known else event.get("detail") or "no detail"
        self._live.line(row + Text(f"claim {event.get('name')}{section}: {told}"))

    def _tell_skipped(self) -> None:
        """Rows skipped one after the other for one reason are one row and a count."""
        reason, count = self._skipped
        self._skipped = ("", 0)
        if count:
            self._live.line(Text(f"{self._target}{'':8}and {count} more: {reason}", "dim"))

    def _benchmark(self, event: dict[str, Any]) -> None:
        verdict = event.get("verdict", "ERROR")
        reason = event.get("reason") or "no reason given"
        if verdict == "SKIP" and reason == self._skipped[0]:
            self._skipped = (reason, self._skipped[1] + 1)
            return
        self._tell_skipped()
        if verdict == "SKIP":
            self._skipped = (reason, 0)
        self._live.head(event.get("unit", ""))
        row = Text(self._target) + Text(f"{verdict:8}", STYLES.get(verdict, ""))
        row += Text(f"{event.get('name', '?'):{NAME_WIDTH}}")
        if verdict == "PASS":
            row += Text("".join(f"{number(event.get(key)):>9}" for key in ("p50", "exit", "handler", "entry")))
        else:
            row += Text(f"  {reason}")
        self._live.line(row)
