# SPDX-License-Identifier: MIT
"""Targets from Python."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from refhv import assembler, native, tools
from refhv.errors import SampleError
from refhv.guest import Code, Guest

if TYPE_CHECKING:
    from refhv import _native
    from refhv.frames import Record
    from refhv.departures import Claim
else:
    _native = native.load()


@dataclass(frozen=True)
class Samples:
    """What `sample` measured, in the target's unit (TSC ticks). A value is the time from one stamp of the guest's to the next."""

    operation: "_native.RunResult"
    control: "_native.RunResult"  # the same loop without the operation
    operations: int  # in a round

    @property
    def stamp_cost(self) -> float:
        """Median of the control: what everything but the operation costs."""
        import numpy

        return float(numpy.median(self.control.elapsed))

    @property
    def net(self) -> Any:
        """Of each round one operation's cost, float64: undisturbed rounds only, less the stamp cost."""
        kept = self.operation.elapsed[self.operation.samples["es"] != 0]
        return (kept - self.stamp_cost) / self.operations

    def histogram(self) -> dict[float, int]:
        """How often each net value came."""
        import numpy

        values, counts = numpy.unique(self.net, return_counts=True)
        return dict(zip(values.tolist(), counts.tolist(), strict=True))


def _whole(run: Any) -> Any:
    """A run of a sample loop that reached its end. Raises SampleError."""
    if run.exceptions.count:
        raise SampleError(f"the text raised exception vector {run.exceptions.vector} at RIP {run.exceptions.rip:#x}")
    if not run.samples["end"].all():
        raise SampleError(f"the text ended the run ({run.outcome.name}, last exit {getattr(run.exit.reason, 'name', run.exit.reason)}): "
                          "say in `policy` what is done with its exits")
    return run


class Target(_native.Target):
    """A machine that runs guests. A context manager: at its end the machine is ended.

    One caller at a time: other threads wait. Ctrl-C ends a run; the KeyboardInterrupt's note says whether the machine and its
    VMs are there still. Not for use across fork.
    """

    def __enter__(self) -> "Target":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<refhv.Target {self.name}{', closed' if self.closed else ''}>"

    def guest(self, code: Code = b"", **plan: Any) -> Guest:
        """A guest with this code; see Guest for what it may have."""
        return Guest(self, code, **plan)

    def send(self, batch: "_native.Batch", patience: float = 20.0) -> "list[_native.Reply]":
        """Sends a Batch of the contract's operations; a Reply for each. Waits at most `patience` seconds."""
        if not isinstance(batch, _native.Batch):
            raise TypeError(f"send takes a Batch, not {type(batch).__name__}")
        return _native.send(self, batch, patience)

    def sample(self, operation: str, *, setup: str = "", prepare: str = "", samples: int = 256, operations: int = 1,
               policy: Mapping[Any, Any] | None = None, patience: float = 20.0, **plan: Any) -> Samples:
        """Measures assembler text in the sample loop of the suite, with its control.

        operations: copies of the text in a round. What exits is stepped over where `policy` does not say otherwise.
        These are bare numbers: no claim has been checked. run_benchmark has those that were. Raises SampleError.
        """
        repeated = "\n".join([operation] * operations)
        every = {reason: "advance" for reason in ("cpuid", "rdtsc", "rdtscp", "rdpmc", "pause", "invlpg", "hypercall", "wbinvd",
                                                  "invd", "mwait", "monitor", "xsetbv")}

        def run(text: str) -> Any:
            guest = self.guest(text, policy=every | dict(policy or {}), **plan)
            found = _whole(guest.run(samples=samples, patience=patience))
            guest.drop()
            return found
        measured, control = map(run, assembler.sampled(repeated, setup, prepare))
        return Samples(measured, control, operations)

    def run_benchmark(self, name: str, samples: int | None = None, progress: Callable[[dict[str, Any]], None] | None = None) -> "Record":
        """Runs benchmarks of the suite by name ("exit.cpuid/nested"; * stands for anything) and the claims they rest on.

        The suite's own tool measures them, in a machine of its own. progress is called with each of its events.
        Returns a Record. Raises ToolError.
        """
        self._give_way()
        return tools.run_benchmark(self.name, name, samples, progress)

    def check(self, claims: str, progress: Callable[[dict[str, Any]], None] | None = None) -> "list[Claim]":
        """Checks claims of the suite by GoogleTest's pattern ("Exit.cpuid*"), in a machine of its own.

        Returns a Claim each: name, verdict, section, detail. A FAIL is a result. Raises ToolError.
        """
        self._give_way()
        return tools.check(self.name, claims, progress)

    def _give_way(self) -> None:
        """Where there is one machine for all, it is let go of; the next call takes it again."""
        if self.info.kind == "module" or self.name.startswith(("serial:", "unix:", "cmd:")):
            self.stop()


def open_target(name: str) -> Target:
    if not isinstance(name, str):
        raise TypeError(f"a target's name is a str, not {type(name).__name__}")
    if "\0" in name:
        raise ValueError("a target's name has no NUL character")
    return Target(name)
