# SPDX-License-Identifier: MIT
"""Guests from Python: code, memory, controls, runs."""

import operator
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Union

from refhv import names, native
from refhv.assembler import assemble
from refhv.errors import Refused

if TYPE_CHECKING:
    from refhv import _native
else:
    _native = native.load()

Code = Union[str, "_native.Buffer"]  # assembler text, or machine code


def machine_code(code: Code, origin: int | None = None) -> bytes:
    """Assembler text becomes machine code; bytes are taken as they are."""
    if isinstance(code, str):
        return assemble(code, origin=origin)
    try:
        return bytes(memoryview(code))  # type: ignore[arg-type]  # NumPy's stubs know no buffers
    except TypeError:
        raise TypeError(f"guest code is assembler text or bytes, not {type(code).__name__}") from None


# Of instructions that have one form without prefixes, for CPUs that do not tell (APM 2 15.7.1: nRIP where CPUID offers it).
LENGTHS = {"cpuid": 2, "hlt": 1, "invd": 2, "wbinvd": 2, "rdpmc": 2, "rdtsc": 2, "rdtscp": 3, "hypercall": 3, "rdmsr": 2, "wrmsr": 2,
           "mwait": 3, "monitor": 3, "pause": 2, "xsetbv": 3}


def policy_entries(policy: Mapping[Any, Any]) -> list[Any]:
    """From {reason: action} or {reason: (action, instruction length)}; a PolicyEntry goes as it is, whatever its key."""
    if not isinstance(policy, Mapping):
        raise TypeError(f"policy is a mapping of reasons to actions, not {type(policy).__name__}")
    entries = []
    for reason, action in policy.items():
        if isinstance(action, _native.PolicyEntry):
            entries.append(action)
            continue
        entry = _native.PolicyEntry(reason=reason)
        length = LENGTHS.get(getattr(entry.reason, "name", ""), 0)
        entry.action, entry.length = action if isinstance(action, tuple) else (action, length)
        entries.append(entry)
    return entries


def _msr_intercepts(msrs: Mapping[Any, str]) -> list[Any]:
    if not isinstance(msrs, Mapping) or not set(map(str, msrs.values())) <= {"", "r", "w", "rw"}:
        raise ValueError('msrs is a mapping of MSRs to "r", "w", "rw" or ""')
    return [_native.MsrIntercept(msr=names.msr(msr), read="r" in how, write="w" in how) for msr, how in msrs.items()]


def _io_intercepts(ports: Iterable[Any]) -> list[Any]:
    ranges = [(port, 1) if not isinstance(port, tuple) else port for port in ports]
    return [_native.IoIntercept(first=first, count=count, on=1) for first, count in ranges]


class Fields:
    """The fields of a guest's VMCS or VMCB by their manual names, or by encoding or offset.

    Reading tells what is in the VM now: what the last run left, with what was written here since. A write is in place for
    the next run, behind the guest's state. Raises KeyError for a name that is not known, with those that are near.
    """

    def __init__(self, guest: "Guest", waiting: dict[tuple[int, int], int]) -> None:
        self._guest = guest
        self._waiting = waiting

    def _place(self, name: str | int) -> tuple[int, int]:
        backend = self._guest.target.hello().backend
        if backend == "vmx":
            return names.vmcs_field(name), 8
        if backend == "svm":
            return names.vmcb_field(name)
        raise Refused(f"{self._guest.target.name}: has neither a VMCS nor a VMCB")

    def __getitem__(self, name: str | int) -> int:
        field, width = self._place(name)
        if self._waiting:
            self.send()
            self._guest.settle(True)
        return self._guest.read_field(field, width)

    def __setitem__(self, name: str | int, value: int) -> None:
        field, width = self._place(name)
        number = operator.index(value)
        if not 0 <= number < 1 << 8 * width:
            raise ValueError(f"{name}: {number:#x} does not fit {8 * width} bits")
        self._waiting[field, width] = number

    def __iter__(self) -> Iterator[str]:
        """The names that are known for this target's vendor."""
        backend = self._guest.target.hello().backend
        return iter(names.vmcs() if backend == "vmx" else names.vmcb() if backend == "svm" else ())

    def send(self) -> None:
        """Queues what was written, for the next run or the next settle(True)."""
        for (field, width), value in self._waiting.items():
            self._guest.write_field(field, width, value)

    def sent(self) -> None:
        self._waiting.clear()


class Guest(_native.Guest):
    """A guest in a VM of a target, with the memory of refhv.Layout: page tables, GDT, IDT, exception handlers that write down
    what they saw, a stack, and the code, behind which a jump to the stop stub stands.

    It starts in long mode, ring 0, interrupts off, at Layout.code; `state` may be changed before run(). The VM is made here;
    what is written afterwards goes out with the next run(), settle() or read(), which tells what the target refuses.

    code: assembler text (AT&T syntax) or machine code.
    mode: a Mode; nested, or user where the target is a process, or kvm where it is KVM.
    policy: what is done with exits, {reason: action}; those not named end the run.
    intercepts: what is asked to exit, a set of Intercept; the builder adds hlt, by which a guest stops.
    exceptions: vectors that are asked to exit.
    msrs: {MSR: "r", "w", "rw" or ""}, what of them exits (of those not named: everything); ports: I/O ports, or (first, count), that exit.
    arena_pages: 4-KByte pages at Layout.arena, mapped one to one; more_pages: behind them, in no page table of the guest.
    nested_page_size: a PageSize, of the nested tables' leaves; tag_policy: a TagPolicy. stop: "hlt", or "port" where HLT is
    the subject. osxsave: CR4.OSXSAVE. slot: the VM slot; None: one that no other guest holds.
    """

    def __init__(self, target: Any, code: Code = b"", *, mode: Any = None, policy: Mapping[Any, Any] | None = None,
                 intercepts: Any = (), exceptions: Any = (), msrs: Mapping[Any, str] | None = None, ports: Iterable[Any] = (),
                 arena_pages: int = 0, more_pages: int = 0, nested_page_size: Any = "k4", tag_policy: Any = "tagged",
                 stop: str = "hlt", osxsave: bool = False, slot: int | None = None) -> None:
        text = machine_code(code)
        plan = {"mode": mode, "policy": policy_entries(policy or {}), "intercepts": intercepts, "exceptions": exceptions,
                "msrs": _msr_intercepts(msrs or {}), "ports": _io_intercepts(ports), "arena_pages": arena_pages,
                "more_pages": more_pages, "nested_page_size": nested_page_size, "tag_policy": tag_policy, "stop": stop,
                "osxsave": bool(osxsave)}
        super().__init__(target, plan, slot)
        self._waiting: dict[tuple[int, int], int] = {}  # fields, for the next run
        self._stops_by_hlt = stop == "hlt" and self.mode != _native.Mode.user and self.mode != _native.Mode.native
        if text:
            super().load(text)

    @property
    def fields(self) -> Fields:
        """The fields of the VMCS or VMCB by name."""
        return Fields(self, self._waiting)

    def load(self, code: Code, copies: int = 1, tail: Code = b"") -> None:
        """Other code for the next run, `copies` times in a row, then `tail`, then a jump to the stop stub."""
        super().load(machine_code(code), copies, machine_code(tail))

    def run(self, *, patience: float = 20.0, **options: Any) -> "_native.RunResult":  # type: ignore[override]  # options by name
        """Runs the guest and returns a RunResult; the GIL is released meanwhile, and Ctrl-C ends it.

        patience: seconds to wait for the answer.
        rounds: of a sample loop, `samples` if not said; samples: how many it leaves to be read back.
        repeats: ends the run after so many handled exits. exits: how many to log, and the one that ends the run.
        stamps: host time stamps to make room for; none are taken if 0.
        handler_advance: what the guest's exception handlers add to the saved RIP; 0: an exception ends the run.
        deadline: TSC ticks; 0: about a second or a few.
        preemption_timer: VMX, its value at every entry. cpu: which. extras: of the cost ladder, a set of Extra, with extra_count.
        peer: a Peer, what another CPU does meanwhile. set_state: False goes on where the last run stopped.

        Raises Refused (the core refused a part of it), TargetMiss (no answer), GuestGone, TargetClosed.
        """
        self.fields.send()
        result = super().run(options, patience)
        self.fields.sent()
        return result

    def _ask(self, op: str, data: Any = None, **body: Any) -> Any:
        self.settle()
        reply = _native.send(self.target, _native.Batch().add(op, data, vm=self.slot, **body))[0]
        if reply.outcome != _native.Outcome.ok:
            refused = Refused(f"{op}: {reply.outcome.name}: {reply.text}")
            refused.outcome = reply.outcome
            raise refused
        return reply.body

    def intercept(self, intercepts: Any = (), exceptions: Iterable[int] = ()) -> Any:
        """What exits from now on, in place of what did: a set of Intercept, and vectors. Returns an InterceptReply."""
        wanted = _native.InterceptSet(set=intercepts)
        wanted.set = wanted.set | ({_native.Intercept.hlt} if self._stops_by_hlt else set())
        return self._ask("intercept", set=wanted.set, exceptions=sum(1 << vector for vector in set(exceptions)))

    def intercept_msr(self, msr: str | int, how: str = "rw") -> None:
        """Whether reading ("r") and writing ("w") this MSR exits from now on; "": neither."""
        self._ask("msr_intercept", msr=names.msr(msr), read="r" in how, write="w" in how)

    def intercept_ports(self, first: int, count: int = 1, on: bool = True) -> None:
        """Whether these I/O ports exit from now on."""
        self._ask("io_intercept", first=first, count=count, on=bool(on))

    def set_policy(self, policy: Mapping[Any, Any]) -> None:
        """What is done with exits from now on, {reason: action}, in place of what was said before."""
        entries = b"".join(map(bytes, policy_entries(policy)))
        self._ask("policy", entries or None, count=len(entries) // 8)

    def machine_state(self) -> Any:
        """The GuestState in the VM now, as the last run left it."""
        return self._ask("state_get")
