# SPDX-License-Identifier: MIT
"""Every step of the Linux module made to fail, and what is left of it: for ci/check-linux.

The module counts the steps of its own (parameter `fail_step`); the kernel makes the callbacks of its CPU hotplug fail
(`/sys/devices/system/cpu/cpu1/hotplug/fail`) and those who may object to sleep (pm-notifier-error-inject). After each, nothing
that the module took may be held, and it must serve.
"""

import re
from pathlib import Path

from refhv import checks, linux_guest

KERNEL_MODULES = ("notifier-error-inject", "pm-notifier-error-inject")
# Who holds what of the allocator's is asked of it; its own checks of freed memory are on as well.
COMMAND_LINE = "slub_debug=FZPU,kmalloc-*"
NEAR = "refhv:online|smpboot/threads:online|sched:active|sched:waitempty"  # states of hotplug that are tried by default
LOST_KB = 16384  # what the kernel may have taken meanwhile; the arena of 32 MB is opened a hundred times

SCRIPT = """
P=/sys/module/refhv/parameters/fail_step
CPU=/sys/devices/system/cpu/cpu1
mount -t debugfs none /sys/kernel/debug
: > /tmp/wrong
wrong() {{ echo "$@" >> /tmp/wrong; }}
held() {{ # what the module has of the kernel's, while nobody has the device
    cat /sys/kernel/debug/slab/kmalloc-*/alloc_traces /proc/vmallocinfo | grep '[[]refhv]'
}}
registered() {{ # what is left of a module that is not loaded
    grep -h refhv /sys/devices/system/cpu/hotplug/states /proc/vmallocinfo; ls -d /dev/refhv /sys/module/refhv 2> /dev/null
    ps | grep '[[]refhv/'
}}
free_kb() {{ awk '/^MemAvailable/ {{print $2}}' /proc/meminfo; }}
well() {{ # well WHEN: nothing is held, and a guest exits
    left=$(held); [ -z "$left" ] || wrong "$1: held:" $left
    refhv-attack-device once > /tmp/well.log 2>&1 || wrong "$1: it does not serve:" $(cat /tmp/well.log)
}}
spin() {{ # a client whose guest does not end
    refhv-attack-device spin 100 > /tmp/spin.log 2>&1 & spin=$!
    while ! grep -q spinning /tmp/spin.log; do sleep 0.05; done
}}

insmod /refhv.ko memory_mb=32; well 'first'; rmmod refhv

n=0
while n=$((n + 1)) && ! insmod /refhv.ko memory_mb=32 fail_step=$n 2> /dev/null && [ $n -lt 100 ]; do
    left=$(registered); [ -z "$left" ] || wrong "loading, step $n: left:" $left
done
echo 0 > $P
echo "loading $((n - 1))" > /tmp/steps
well 'after loading'

before=$(free_kb)
refhv-attack-device faults > /tmp/faults.log 2>&1 || wrong 'running:' $(tail -n 1 /tmp/faults.log)
grep '^steps' /tmp/faults.log >> /tmp/steps
well 'after running'
echo "lost $((before - $(free_kb)))" >> /tmp/steps

echo 0 > $CPU/online
echo 1 > $P
echo 1 > $CPU/online && wrong 'the CPU came though its callback failed'
refhv-attack-device once > /tmp/offline.log 2>&1 && wrong 'it serves on a CPU that did not come'
echo 1 > $CPU/online || wrong 'the CPU does not come'
well 'after a CPU that did not come'

down=0
up=0
for state in $(grep -E '{states}' /sys/devices/system/cpu/hotplug/states | sed 's/:.*//'); do
    if echo $state > $CPU/hotplug/fail; then
        spin
        if echo 0 > $CPU/online; then echo -1 > $CPU/hotplug/fail; echo 1 > $CPU/online; else down=$((down + 1)); fi
        kill -9 $spin; wait $spin
        well "going, state $state"
    fi
    echo 0 > $CPU/online
    if echo $state > $CPU/hotplug/fail; then
        if echo 1 > $CPU/online; then echo -1 > $CPU/hotplug/fail; else up=$((up + 1)); fi
    fi
    [ $(cat $CPU/online) = 1 ] || echo 1 > $CPU/online
    well "coming, state $state"
done 2> /dev/null
echo "down $down" >> /tmp/steps
echo "up $up" >> /tmp/steps

insmod /notifier-error-inject.ko; insmod /pm-notifier-error-inject.ko priority=-1
echo -12 > /sys/kernel/debug/notifier-error-inject/pm/actions/PM_SUSPEND_PREPARE/error
spin
echo freeze > /sys/power/state && wrong 'it slept though somebody objected'
kill -9 $spin; wait $spin
well 'after a sleep that did not come'

rmmod refhv
left=$(registered); [ -z "$left" ] || wrong 'unloaded: left:' $left
echo "lost $((before - $(free_kb)))" >> /tmp/steps
insmod /refhv.ko
step faults_claim refhv-conformance --target=linux '--gtest_filter=Exit.cpuid_*' > /tmp/claim.log 2>&1
step faults_unload rmmod refhv
keep wrong /tmp/wrong; keep faults.log /tmp/faults.log; keep steps /tmp/steps
"""


def script(every_state: bool) -> str:
    return SCRIPT.format(states=":" if every_state else NEAR)


def files(kernel: linux_guest.Kernel) -> dict[str, Path | str]:
    """What the script wants beside the module and the tools."""
    return {f"/{name}.ko": kernel.module(name) for name in KERNEL_MODULES}


def judge(outcome: linux_guest.Outcome, check: checks.Check) -> None:
    """What came of it, line by line."""
    def text(name: str) -> str:
        return outcome.files.get(name, b"").decode(errors="replace").strip()

    said = {name: [int(number) for number in re.findall(rf"\b{name} (-?\d+)", text("steps"))]
            for name in ("loading", "steps", "refused", "down", "up", "lost")}
    counts = {name: numbers[0] if numbers else 0 for name, numbers in said.items()}
    wrong = text("wrong") if "wrong" in outcome.files else "the script did not come to its end"
    check.expect(not wrong, f"linux: after each of {counts['loading']} steps of loading, {counts['steps']} of opening and running and "
                 f"{counts['down']} + {counts['up']} of a CPU that goes and comes has failed, nothing is held and a guest runs",
                 wrong[:600])
    check.expect(counts["loading"] >= 7 and counts["refused"] >= 14 and counts["down"] >= 3 and counts["up"] >= 2,
                 f"linux: {counts['refused']} of those of opening and running are refused", text("faults.log")[-300:])
    check.expect(len(said["lost"]) == 2 and max(said["lost"]) < LOST_KB, f"linux: free memory is less by {said['lost']} kB behind them",
                 text("steps"))
    for step, what in (("faults_claim", "the module loads again, and a claim holds"), ("faults_unload", "and it unloads")):
        check.expect(outcome.steps.get(step) == 0, f"linux: {what}", f"step {step} ended with {outcome.steps.get(step)}")
