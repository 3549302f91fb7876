# SPDX-License-Identifier: MIT
"""SIGINT, SIGTERM and SIGHUP: each ends what was started, says what is kept, and is exit code 128 + its number."""

import contextlib
import signal
import threading
from collections.abc import Iterator

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """One of them came. `kept` is for the user: what was measured and where it is, a sentence without its full stop.

    Not a KeyboardInterrupt: click and asyncio would make something else of that.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number
        self.kept = "nothing was kept"

    def __str__(self) -> str:
        return f"ended by {signal.Signals(self.number).name}; {self.kept}"


class Caught:
    """Which signal has come while `raised` holds: None, or the first."""

    number: int | None = None


@contextlib.contextmanager
def raised() -> Iterator[Caught]:
    """The first of these signals is raised in the main thread as Interrupted; what comes while we clean up changes nothing.

    One that was ignored before (nohup) stays ignored. In any other thread than the main one this does nothing.
    """
    caught = Caught()

    def on_signal(number: int, _frame: object) -> None:
        if caught.number is None:
            caught.number = number
            raise Interrupted(number)

    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in ENDING}
    try:
        for number, handler in before.items():
            if handler not in (signal.SIG_IGN, None):
                signal.signal(number, on_signal)
        yield caught
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)
