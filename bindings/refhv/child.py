# SPDX-License-Identifier: MIT
"""One child process that reports by events, watched for silence."""

import json
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refhv import files

GRACE_SECONDS = 3.0  # between asking a child to end and ending it


@dataclass(frozen=True)
class Ending:
    """How the child ended. `killed` says why we ended it; `noise` counts event lines that were not events."""

    returncode: int
    killed: str | None
    noise: int
    seconds: float

    def why(self) -> str | None:
        """What went wrong with the process itself, in words; None if it ended by itself."""
        if self.killed:
            return self.killed
        if self.returncode < 0:
            return f"it died of {signal.Signals(-self.returncode).name}"
        return None


class _Lines:
    """Cuts a byte stream into lines; an endless line without a break is noise, not memory."""

    LONGEST = 1 << 20

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > self.LONGEST:
            lines.append(self._rest)
            self._rest = b""
        return lines


def end_session(process: subprocess.Popen) -> None:
    """Ends the session that the child leads: it was started by us and holds nothing else."""
    for sign, patience in ((signal.SIGTERM, GRACE_SECONDS), (signal.SIGKILL, GRACE_SECONDS)):
        try:
            os.killpg(process.pid, sign)
        except ProcessLookupError:
            pass
        try:
            process.wait(patience)
            if sign == signal.SIGKILL:
                return
        except subprocess.TimeoutExpired:
            continue


def watch(
    argv: list[str],
    log: Path,
    on_event: Callable[[dict[str, Any]], None],
    silence: float,
    limit: float,
    stop: threading.Event | None = None,
) -> Ending:
    """Runs argv with `--events-fd=N` added; standard output and error go to `log`.

    silence: seconds without an event after which the child is ended, however much else it prints.
    limit: seconds after which it is ended in any case.
    stop: once set, by another thread, the child is ended.
    Raises OSError if the child cannot be started or the log not be written.
    """
    with open(log, "wb", buffering=0) as log_file:
        events_in, events_out = os.pipe()
        output_in, output_out = os.pipe()
        try:
            process = subprocess.Popen(
                [*argv, f"--events-fd={events_out}"], stdin=subprocess.DEVNULL, stdout=output_out, stderr=output_out,
                pass_fds=(events_out,), start_new_session=True,
            )
        except OSError:
            os.close(events_in)
            os.close(output_in)
            raise
        finally:
            os.close(events_out)
            os.close(output_out)
        watched = _Watched(process, events_in, output_in, log_file, on_event)
        try:
            killed = watched.until_over(silence, limit, stop or threading.Event())
        except BaseException:
            end_session(process)
            raise
        finally:
            os.close(events_in)
            os.close(output_in)
        if killed:
            end_session(process)
        return Ending(process.wait(), killed, watched.noise, time.monotonic() - watched.begin)


class _Watched:
    LOG_BYTES = 64 << 20  # a child that prints rubbish without end does not fill the disk

    def __init__(self, process, events, output, log_file, on_event) -> None:
        self.noise = 0
        self.begin = time.monotonic()
        self._process, self._events, self._output = process, events, output
        self._log_file, self._on_event = log_file, on_event
        self._lines = _Lines()
        self._last_event = self.begin

    def until_over(self, silence: float, limit: float, stop: threading.Event) -> str | None:
        """None once the child has ended, else why it must be."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._events, selectors.EVENT_READ)
            selector.register(self._output, selectors.EVENT_READ)
            while True:
                ended = self._process.poll() is not None
                ready = selector.select(0 if ended else 0.2) if selector.get_map() else []
                for key, _ in ready:
                    if not self._read(key.fd):
                        selector.unregister(key.fd)
                if ended and not ready:
                    return None  # a grandchild may still hold the pipes; the child itself is what counts
                if ended:
                    continue
                if not selector.get_map():
                    time.sleep(0.02)
                now = time.monotonic()
                if stop.is_set():
                    return "it was interrupted"
                if now - self._last_event > silence:
                    return f"it reported nothing for {silence:g} s and was ended"
                if now - self.begin > limit:
                    return f"it was not done after {limit:g} s and was ended"

    def _read(self, fd: int) -> bool:
        data = os.read(fd, 1 << 16)
        if fd == self._output:
            if self._log_file.tell() < self.LOG_BYTES:
                with files.named(Path(self._log_file.name)):
                    self._log_file.write(data)
            return bool(data)
        for line in self._lines.feed(data):
            self._dispatch(line)
        return bool(data)

    def _dispatch(self, line: bytes) -> None:
        try:
            event = json.loads(line)
            if not isinstance(event.get("event"), str):
                raise ValueError
        except (ValueError, AttributeError):
            self.noise += 1
            return
        self._last_event = time.monotonic()
        self._on_event(event)
