# SPDX-License-Identifier: MIT
"""What a user sees while targets run: rows as they are measured and, on a terminal, a bar below them."""

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

STYLES = {"PASS": "green", "FAIL": "bold red", "INVALID": "red", "SKIP": "yellow", "ERROR": "bold magenta",
          "MISS": "bold red"}
NAME_WIDTH = 34


def number(value: float | None) -> str:
    """Whole from 100 on, one decimal below unless whole; a dash where there is none."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:,.1f}"


class Live:
    """Prints the events of one target at a time."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bar: Progress | None = None
        self._task = None
        self._target: dict[str, Any] = {}
        self._claims_done = 0

    def __enter__(self) -> "Live":
        if self.console.is_terminal:
            self._bar = Progress(
                SpinnerColumn(), TextColumn("[bold]{task.description}"), BarColumn(), MofNCompleteColumn(),
                TimeElapsedColumn(), console=self.console, transient=True,
            )
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def line(self, text: str | Text = "", style: str = "") -> None:
        self.console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)

    def begin(self, target: str, words: str) -> None:
        """Opens the part of one target; `words` say whether it is emulated."""
        self._target = {"name": target}
        self.line()
        self.line(f"{target}: {words}", "bold")
        if self._bar:
            self._task = self._bar.add_task(target, total=None)

    def end(self) -> None:
        if self._bar and self._task is not None:
            self._bar.remove_task(self._task)
            self._task = None

    def event(self, event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind == "start":
            total = event.get("claims", 0) + event.get("benchmarks", 0)
            if self._bar and self._task is not None:
                self._bar.update(self._task, total=total or None)
        elif kind == "hello":
            self.line(f"  {event.get('machine', '?')}, up after {event.get('seconds', 0):.2f} s")
            self._claims_done = 0
        elif kind == "claim":
            self._claim(event)
        elif kind == "benchmark":
            self._benchmark(event)
        if kind in ("claim", "benchmark") and self._bar and self._task is not None:
            self._bar.advance(self._task)

    def _claim(self, event: dict[str, Any]) -> None:
        verdict = event.get("verdict", "ERROR")
        self._claims_done += 1
        if verdict in ("PASS", "SKIP"):
            return
        section = f" ({event['section']})" if event.get("section") else ""
        row = Text("  claim ") + Text(f"{verdict:8}", STYLES.get(verdict, ""))
        self.line(row + Text(f"{event.get('name')}{section}: {event.get('detail') or 'no detail'}"))

    def _benchmark(self, event: dict[str, Any]) -> None:
        if not self._target.get("headed"):
            self._target["headed"] = True
            unit = event.get("unit", "")
            self.line(f"  {'':8}{'benchmark':{NAME_WIDTH}}{'p50':>9}{'exit':>9}{'handler':>9}{'entry':>9}  {unit}", "dim")
        verdict = event.get("verdict", "ERROR")
        row = Text("  ") + Text(f"{verdict:8}", STYLES.get(verdict, "")) + Text(f"{event.get('name', '?'):{NAME_WIDTH}}")
        if verdict == "PASS":
            row += Text("".join(f"{number(event.get(key)):>9}" for key in ("p50", "exit", "handler", "entry")))
        else:
            row += Text(f"  {event.get('reason') or 'no reason given'}")
        self.line(row)
