# SPDX-License-Identifier: MIT
"""What nobody should ask for, from Python: one clear line each, and nothing ends."""

import os

import numpy as np
import pytest

import native_module  # noqa: F401: skips where there is no module
import refhv
from refhv import Layout


@pytest.fixture(scope="module")
def target():
    with refhv.open("self") as opened:
        yield opened


@pytest.fixture
def guest(target):
    return target.guest("nop")


@pytest.mark.parametrize(("options", "kind", "words"), [
    ({"samples": -1}, ValueError, "samples is -1"),
    ({"samples": 2**63}, ValueError, "samples is 9223372036854775808"),
    ({"samples": 2**64}, ValueError, "must lie in 0 to"),
    ({"samples": "3"}, TypeError, "samples takes an integer"),
    ({"samples": 1.5}, TypeError, "samples takes an integer"),
    ({"samples": None}, TypeError, "samples takes an integer, not None"),
    ({"exits": 2**32}, ValueError, "exits is"),
    ({"exits": 2**32 - 1}, refhv.Refused, "no log of exits"),
    ({"stamps": 2**31}, refhv.Refused, "run: "),
    ({"patience": float("nan")}, ValueError, "patience"),
    ({"patience": -1}, ValueError, "patience"),
    ({"patience": float("inf")}, ValueError, "patience"),
    ({"extras": {"xsav"}}, ValueError, "did you mean 'xsave'"),
    ({"extras": object()}, TypeError, "extras takes words of Extra"),
    ({"peer": 3}, TypeError, "peer takes a Peer"),
    ({"roundz": 3}, TypeError, "a run has no 'roundz'; did you mean 'rounds'"),
])
def test_runs(guest, options, kind, words):
    with pytest.raises(kind, match=words) as told:
        guest.run(**options)
    assert "\n" not in str(told.value)
    assert guest.run().entries, "it is as usable as before"


@pytest.mark.parametrize(("code", "plan", "kind", "words"), [
    (None, {}, TypeError, "assembler text or bytes, not NoneType"),
    (7, {}, TypeError, "assembler text or bytes, not int"),
    ("nop\0", {}, refhv.AssemblyError, "NUL"),
    ("nop\n mov %rax", {}, refhv.AssemblyError, "line 2: number of operands mismatch"),
    ("nop\n\n  foo %eax", {}, refhv.AssemblyError, "line 3: no such instruction.*foo"),
    ("jmp nowhere", {}, refhv.AssemblyError, "undefined reference to `nowhere'"),
    (bytes(70000), {}, ValueError, "70000 bytes does not fit"),
    ("nop", {"mode": "nestd"}, ValueError, "did you mean 'nested'"),
    ("nop", {"arena_pages": -1}, ValueError, "arena_pages is -1"),
    ("nop", {"arena_pages": 2**27}, ValueError, "does not fit the layout"),
    ("nop", {"arena_pages": 2**70}, ValueError, "arena_pages is"),
    ("nop", {"intercepts": {"cpuidd"}}, ValueError, "did you mean 'cpuid'"),
    ("nop", {"exceptions": [32]}, ValueError, "vector is 32"),
    ("nop", {"policy": {"cpuid": "advanc"}}, ValueError, "did you mean 'advance'"),
    ("nop", {"policy": [1]}, TypeError, "policy is a mapping"),
    ("nop", {"msrs": {"pat": "x"}}, ValueError, "msrs is a mapping"),
    ("nop", {"stop": "cli"}, ValueError, "stop is"),
    ("nop", {"slot": 4}, ValueError, "slot is 4"),
    ("nop", {"mode": "nested"}, refhv.Refused, "unsupported"),
])
def test_guests(target, code, plan, kind, words):
    with pytest.raises(kind, match=words) as told:
        target.guest(code, **plan)
    assert "\n" not in str(told.value)


def test_the_line_that_as_refused():
    with pytest.raises(refhv.AssemblyError) as told:
        refhv.assemble("nop\nbar\nnop")
    assert (told.value.line, told.value.text) == (2, "bar")
    assert refhv.assemble("mov $REFHV_ARENA, %esi") == b"\xbe" + int(Layout.arena).to_bytes(4, "little")
    assert refhv.assemble("mov eax, 1", intel=True) == b"\xb8\1\0\0\0"


def test_memory(target):
    guest = target.guest("nop")
    with pytest.raises(refhv.Refused, match="the range is not inside"):
        guest.read(Layout.guest_base, 2**60)
    for gpa, size in ((-1, 1), (0, -1), (2**64, 1), (2**64 - 1, 8)):
        with pytest.raises(ValueError, match="must lie in"):
            guest.read(gpa, size)
    for data, kind in ((None, TypeError), ("text", TypeError), (np.arange(8)[::2], ValueError)):
        with pytest.raises(kind, match="data"):
            guest.write(Layout.scratch, data)
    guest.write(2**62, b"x")
    with pytest.raises(refhv.Refused, match="mem_write"):
        guest.run()
    big = np.arange(1 << 18, dtype=np.uint64)  # 2 MBytes: more than one request may hold
    guest.write(Layout.samples, big)
    assert (guest.read(Layout.samples, big.nbytes).view(np.uint64) == big).all()


def test_state(guest):
    for name, value, kind in (("rip", -1, ValueError), ("rip", "a", TypeError), ("rax", 2**64, ValueError), ("cs", None, TypeError),
                              ("gpr", [1, 2], ValueError), ("gpr", 3, TypeError), ("segment", [], TypeError)):
        with pytest.raises(kind, match=name):
            setattr(guest.state, name, value)
    with pytest.raises(AttributeError):
        guest.state.rpi = 1
    with pytest.raises(TypeError, match="takes a GuestState"):
        guest.state = None
    guest.state.gpr[refhv.Gpr.rbx] = 7
    assert guest.state.rbx == 7


def test_structures():
    with pytest.raises(TypeError, match="no field 'limi'; did you mean 'limit'"):
        refhv.Segment(limi=3)
    with pytest.raises(ValueError, match=r"Segment.limit is 8589934592"):
        refhv.Segment(limit=2**33)
    with pytest.raises(ValueError, match="did you mean 'cpuid'"):
        refhv.Exit(reason="cpuidd")
    assert refhv.Exit(reason=999).reason == 999, "a word that is not known is a number"
    assert refhv.Exit(reason="cpuid") == refhv.Exit(reason=refhv.Reason.cpuid) != refhv.Exit()


def test_requests(target):
    with pytest.raises(TypeError, match="takes a Batch"):
        target.send(None)
    with pytest.raises(ValueError, match="split it"):
        target.send(refhv.Batch().add("mem_write", bytes(2 << 20), vm=0, gpa=0, size=2 << 20))
    with pytest.raises(TypeError, match="mem_read takes no data"):
        refhv.Batch().add("mem_read", b"x")
    with pytest.raises(TypeError, match="MemRange has no field 'gpaa'; did you mean 'gpa'"):
        refhv.Batch().add("mem_read", gpaa=1)


def test_names_of_targets():
    for name, kind, words in (("nope", refhv.BadTargetName, "no target is named 'nope'"), (None, TypeError, "is a str"),
                              ("self\0", ValueError, "NUL"), ("serial:", refhv.BadTargetName, "serial")):
        with pytest.raises(kind, match=words):
            refhv.open(name)


def test_closed():
    with refhv.open("self") as closed:
        guest = closed.guest("nop")
    assert closed.closed
    closed.close()  # once more is no error
    for use in (closed.hello, guest.run, guest.drop, lambda: closed.guest("nop"), lambda: guest.state, lambda: closed.starts,
                lambda: guest.read(Layout.code, 1), lambda: closed.send(refhv.Batch())):
        with pytest.raises(refhv.TargetClosed, match="self: closed"):
            use()
    assert closed.closed and "closed" in repr(closed)


def test_a_fork_cannot_use_it(target):
    target.hello()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            target.hello()
            said = "it answered"
        except refhv.TargetClosed as error:
            said = str(error)
        os.write(writing, said.encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert b"of which this is a fork" in os.read(reading, 1000)
    assert target.guest("nop").run().entries
