# SPDX-License-Identifier: MIT
"""Guests from Python on real targets."""

import gc
import os
import signal
import threading
import time

import numpy as np
import pytest

import native_module  # noqa: F401: skips where there is no module
import refhv
from refhv import Layout, Mode, Outcome, Reason

EXITING = {"intercepts": "cpuid", "policy": {"cpuid": "advance"}}
# An exit that is not answered on the exit path, where the core hears no wishes for up to 16,384 exits, and not exits alone, which
# are slow on an emulator.
LOOP = "1: mov $20000, %r8d\n 2: dec %r8d\n jnz 2b\n mov $0xc0000102, %ecx\n rdmsr\n jmp 1b"


@pytest.fixture(scope="module", params=["qemu-amd", "bochs-intel"])
def emulated(request):
    with refhv.open(native_module.usable(request.param)) as target:
        yield target


@pytest.fixture(scope="module")
def amd():
    with refhv.open(native_module.usable("qemu-amd")) as target:
        yield target


@pytest.fixture(scope="module")
def process():
    with refhv.open("self") as target:
        yield target


def test_the_first_line_of_the_tutorial():
    with refhv.open(native_module.usable("qemu-amd")) as t:
        assert t.hello().backend == "svm"


def test_hello_has_every_field(emulated):
    hello = emulated.hello()
    assert hello.version == refhv.native.load().abi_version and hello.platform == refhv.Platform.image
    assert hello.backend == emulated.info.backend and {Mode.native, Mode.nested} <= hello.modes
    assert hello.cpuid(0).ebx and len(hello.cpuid_leaves) == hello.cpuid_count
    with pytest.raises(KeyError, match="no CPUID leaf 0x77777777"):
        hello.cpuid(0x77777777)


def test_capability_msrs_by_the_manuals_names(emulated):
    hello = emulated.hello()
    if hello.backend == "vmx":
        assert hello.msr("IA32_VMX_BASIC") == hello.msr(0x480) == hello.msrs[refhv.Msr.vmx_basic] != 0
    else:
        assert hello.msr("VM_CR") == hello.msrs[0xC0010114]
    with pytest.raises(KeyError, match="did you mean 'vmx_basic'"):
        hello.msr("vmx_basik")


def test_cpuid_exits_with_its_reason(emulated):
    exit_ = emulated.guest("nop\n cpuid", intercepts="cpuid").run().exit
    assert exit_.reason == Reason.cpuid and str(exit_.reason) == "Reason.cpuid"
    if emulated.info.backend == "vmx":  # SDM 3C 26.1.2, 28.2.5: basic reason 10, length 2
        assert (exit_.raw_reason, exit_.instruction_length) == (refhv.BasicExit.cpuid, 2)
    else:  # APM 2 15.9
        assert exit_.raw_reason == refhv.ExitCode.cpuid


def test_exits_are_counted_and_logged(emulated):
    guest = emulated.guest("1: cpuid\n dec %r9\n jnz 1b", **EXITING)
    guest.state.r9 = 5
    run = guest.run(exits=8)
    assert run.outcome == Outcome.exited and run.counts == {Reason.cpuid: 5, Reason.hlt: 1} and run.handled == 5
    run = guest.run(repeats=3, stamps=3)
    assert run.outcome == Outcome.repeats_done and len(run.stamps) == 2, "none of the one that ended it"
    assert (run.stamps["last"] >= run.stamps["first"]).all()


def test_registers_and_memory(emulated):
    guest = emulated.guest("mov REFHV_ARENA, %rbx\n inc %rbx\n mov %rbx, REFHV_ARENA+8", arena_pages=1)
    guest.write(Layout.arena, np.array([41, 0], np.uint64))
    run = guest.run()
    assert run.state.rbx == 42 and run.state.cs.selector == 8
    assert guest.read(Layout.arena, 16).view(np.uint64).tolist() == [41, 42]
    assert guest.machine_state().rbx == 42


def test_a_fault_is_written_down_by_the_guest(emulated):
    run = emulated.guest("mov REFHV_UNMAPPED, %eax").run()
    assert (run.exceptions.count, run.exceptions.vector, run.exceptions.cr2) == (1, 14, Layout.unmapped)


def test_a_nested_violation_tells_where(emulated):
    guest = emulated.guest("mov REFHV_ARENA, %eax", arena_pages=1)
    guest.protect(Layout.arena, 1, 0)
    exit_ = guest.run().exit
    assert (exit_.reason, exit_.guest_physical) == (Reason.nested_violation, Layout.arena)


def test_fields_by_name(emulated):
    guest = emulated.guest("cpuid", intercepts="cpuid")
    run = guest.run()
    if emulated.info.backend == "vmx":
        assert guest.fields["Exit reason"] == guest.fields["VM-exit reason"] == 10
        assert guest.fields["guest_rip"] == guest.fields[0x681E] == run.state.rip
        assert guest.fields["Guest TR access rights"] & 0xF == 11
        with pytest.raises(KeyError, match="did you mean 'guest_rip'"):
            guest.fields["guest_ripp"]
    else:
        assert guest.fields["EXITCODE"] == guest.fields["exit_code"] == 0x72
        assert guest.fields["rip"] == run.state.rip and guest.fields["cs_selector"] == 8
        with pytest.raises(KeyError, match="did you mean 'exit_code'"):
            guest.fields["exit_coed"]


def test_an_intercept_comes_and_goes(emulated):
    guest = emulated.guest("rdtsc")
    assert guest.run().exit.reason == Reason.hlt
    guest.intercept({"rdtsc"})
    assert guest.run().exit.reason == Reason.rdtsc
    guest.intercept()
    assert guest.run().exit.reason == Reason.hlt


def test_an_intercept_by_its_raw_bit(amd):
    guest = amd.guest("rdtsc")
    guest.fields["intercept_1"] |= refhv.SvmIntercept1.rdtsc
    assert guest.run().exit.reason == Reason.rdtsc
    guest.fields["intercept_1"] &= ~refhv.SvmIntercept1.rdtsc
    assert guest.run().exit.reason == Reason.hlt
    with pytest.raises(ValueError, match="does not fit 32 bits"):
        guest.fields["intercept_1"] = 1 << 32


def test_samples_are_the_arrays_memory(process):
    operation, _ = refhv.sampled("lea (%rax), %rax")
    run = process.guest(operation).run(samples=100)
    samples = run.samples
    assert samples.dtype.names == ("start", "end", "es") and samples.base is run and not samples.flags.writeable
    assert samples.__array_interface__["data"][0] == run.samples.__array_interface__["data"][0], "not copied"
    before = samples.tolist()
    del run
    gc.collect()
    junk = [np.ones(300, np.uint64) for _ in range(1000)]
    assert samples.tolist() == before and len(junk) == 1000
    state = process.guest("nop").run().state
    gc.collect()
    assert state.rip and state.gpr.shape == (16,)


def test_a_process_has_the_real_cpu(process):
    assert process.info.unit == "cycles" and process.hello().backend == "none"
    measured = process.sample("lea (%rax), %rax", operations=100, samples=200)
    assert len(measured.net) > 100 and sum(measured.histogram().values()) == len(measured.net)
    with pytest.raises(refhv.Refused, match="neither a VMCS nor a VMCB"):
        process.guest("nop").fields["rip"]


def test_a_sample_loop_that_does_not_end_is_no_number(amd):
    with pytest.raises(refhv.SampleError, match="vector 6"):
        amd.sample("ud2", samples=4)
    with pytest.raises(refhv.SampleError, match="last exit vm_instruction"):
        amd.sample("skinit", samples=4)
    assert amd.sample("cpuid", samples=4, intercepts="cpuid").operation.count("cpuid") == 4


def test_the_contract_operation_by_operation(amd):
    batch = refhv.Batch().add("vm_create", vm=3, mode="nested", pages=16, gpa_base=0x1000)
    batch.add("mem_write", b"refhv!!!", vm=3, gpa=0x2000, size=8).add("mem_read", vm=3, gpa=0x2000, size=8)
    batch.add("vm_destroy", vm=3).add("vm_destroy", vm=3)
    replies = amd.send(batch)
    assert [r.outcome for r in replies] == [Outcome.ok] * 4 + [Outcome.bad_request]
    assert replies[2].data.tobytes() == b"refhv!!!" and replies[0].body.hpa_base and "no VM" in replies[4].text
    with pytest.raises(ValueError, match="did you mean 'mem_write'"):
        batch.add("mem_wriet")


def interrupt_after(seconds: float) -> threading.Timer:
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    return timer


def test_ctrl_c_stops_a_run_and_leaves_the_machine():
    with refhv.open(native_module.usable("qemu-amd")) as target:
        guest = target.guest(LOOP, policy={"rdmsr": "emulate"})
        timer = interrupt_after(0.3)
        with pytest.raises(KeyboardInterrupt) as stopped:
            guest.run(deadline=10**12, patience=300)
        timer.join()
        assert "the run was stopped" in stopped.value.__notes__[0]
        assert target.starts == 1
        assert guest.run(deadline=10**6).count("rdmsr") > 0, "the VM is there still"


def test_ctrl_c_ends_a_process_that_cannot_be_asked(process):
    begin, starts = time.monotonic(), process.starts
    guest = process.guest("1: jmp 1b")
    timer = interrupt_after(0.3)
    with pytest.raises(KeyboardInterrupt) as stopped:
        guest.run(deadline=10**14, patience=300)
    timer.join()
    assert "starts it afresh" in stopped.value.__notes__[0] and time.monotonic() - begin < 5
    with pytest.raises(refhv.GuestGone, match="started anew"):
        process.hello() and guest.run()
    assert process.guest("nop").run().exit.reason == Reason.exception and process.starts == starts + 1


def test_the_gil_is_released_during_a_run(process):
    counted, over = [0], threading.Event()

    def count():
        while not over.is_set():
            counted[0] += 1
            time.sleep(0.001)

    guest = process.guest("1: jmp 1b")
    thread = threading.Thread(target=count)
    thread.start()
    before = counted[0]
    assert guest.run(deadline=int(process.hello().tsc_hz * 0.4)).outcome == Outcome.deadline
    during = counted[0] - before
    over.set()
    thread.join()
    assert during > 20


def test_threads_take_turns(amd):
    results, failures = [], []

    def work(number):
        try:
            guest = amd.guest(f"mov ${number}, %rbx")
            for _ in range(5):
                results.append((number, guest.run().state.rbx))
            guest.drop()
        except BaseException as error:  # noqa: BLE001: told below
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    gc.collect()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures and len(results) == 20 and all(number == rbx for number, rbx in results)


def test_a_machine_outlives_the_thread_that_started_it():
    with refhv.open("self") as target:
        thread = threading.Thread(target=target.hello)
        thread.start()
        thread.join()
        time.sleep(0.1)
        assert target.guest("nop").run().entries and target.starts == 1


def test_a_guest_whose_slot_was_taken_says_so(process):
    old = process.guest("nop")
    process.guest("nop").run()  # a process has room for one
    with pytest.raises(refhv.GuestGone, match="taken VM slot 0"):
        old.run()


def test_machines_hold_four_guests(amd):
    gc.collect()
    held = [amd.guest(f"mov ${n}, %ebx") for n in range(4)]
    with pytest.raises(ValueError, match="hold all VM slots"):
        amd.guest("nop")
    assert [guest.run().state.rbx for guest in held] == [0, 1, 2, 3]
    held[0].drop()
    with pytest.raises(refhv.GuestGone, match="dropped"):
        held[0].run()
    assert amd.guest("nop").slot == held[0].slot
    del held[1:]
    assert amd.guest("nop").run().entries, "guests that are no more give their slots back"


def test_a_guest_of_kvm_runs_where_there_is_one():
    listed = refhv.list_targets()["kvm"]
    if listed:
        pytest.skip(listed)
    with refhv.open("kvm") as target:
        run = target.guest("out %al, $0x80").run()
        assert run.exit.reason == refhv.Reason.io_out and run.exit.qualification >> 16 == 0x80
        ended = target.guest("mov $5, %eax").run()
        assert ended.exit.reason == refhv.Reason.hlt and ended.state.gpr[0] == 5
        with pytest.raises(refhv.Refused, match="KVM hands no exceptions"):
            target.guest("ud2", exceptions=[6])
