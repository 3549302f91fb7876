#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""FIXTURE, not a benchmark: stands in for refhv-microbench and refhv-conformance in the tests of the Python package.

It invents numbers, writes "fixture" wherever a machine is named, and behaves as FIXTURE_MODE says: ok, fail (a claim
fails), departure, hang, hang_at_start, die, rubbish, truncated, no_record, miss, close_pipes, usage, nothing_selected, disk_full.
"""

import json
import os
import random
import signal
import statistics
import sys
import time

TARGETS = {
    "self": ("process", "none", False, "cycles"),
    "bochs-intel": ("image", "vmx", True, "ticks"),
    "bochs-amd": ("image", "svm", True, "ticks"),
    "qemu-amd": ("image", "svm", True, "ticks"),
}
EXITS = [
    "cpuid", "vmcall", "hlt", "rdtsc", "rdtscp", "rdmsr", "rdmsr_passed", "wrmsr", "wrmsr_passed", "in", "out", "in_passed",
    "mov_from_cr0", "mov_to_cr0", "mov_from_cr3", "mov_to_cr3", "mov_from_cr4", "mov_to_cr4", "mov_from_cr8", "mov_to_cr8",
    "mov_to_dr7", "invlpg", "wbinvd", "pause", "xsetbv", "monitor", "mwait", "sgdt", "lgdt", "exception_ud", "exception_pf",
    "nested_violation", "preemption_timer",
]


def claim(name, verdict="PASS", section="SDM 3C 26.1.2", detail=None):
    return {"name": name, "verdict": verdict, "section": section, "detail": detail}


def quantile(values, q):
    values = sorted(values)
    return values[min(len(values) - 1, int(q * len(values)))]


def benchmark(name, unit, base, claims, n=200, jitter=0, seed=0, hypervisor=None, parts=None):
    dice = random.Random(f"{name}{seed}")
    cost = 5 if unit == "ticks" else 36
    samples = [base + cost + (int(dice.expovariate(1 / jitter)) if jitter else 0) for _ in range(n)]
    net = [s - cost for s in samples]
    middle = statistics.median(net)
    exit_name = name.partition(".")[2].partition("/")[0]
    return {
        "name": name, "family": name.partition(".")[0], "mode": name.rpartition("/")[2], "unit": unit, "verdict": "PASS",
        "claims": claims, "n": n, "samples": samples, "stamp_cost": cost,
        "summary": {"min": min(net), "p50": middle, "p90": quantile(net, 0.9), "p99": quantile(net, 0.99), "max": max(net),
                    "mad": statistics.median(abs(v - middle) for v in net)},
        "parts": parts or {"exit": None, "handler": None, "entry": None},
        "disturbed": 0, "reason": None, "slope": middle, "p50_interval": [middle, middle],
        "stamped_p50": middle + 4 if parts else None,
        "exits": {"reason": exit_name, "expected": n, "counted": n} if parts else None,
        "flags": [], "part_samples": None, "hypervisor_exit": hypervisor,
    }


def without_number(row, verdict, reason):
    nothing = dict.fromkeys(row["summary"])
    return row | {"verdict": verdict, "samples": [], "stamp_cost": None, "summary": nothing, "slope": None, "disturbed": None,
                  "parts": dict.fromkeys(row["parts"]), "p50_interval": None, "stamped_p50": None, "reason": reason}


def machine(target):
    _, backend, emulated, _ = TARGETS[target]
    intel = backend == "vmx"
    return {
        "machine_key": f"fixture-{target}", "name": f"fixture machine for {target}",
        "vendor": "GenuineIntel" if intel else "AuthenticAMD", "family": 6 if intel else 23, "model": 85, "stepping": 4,
        "brand": "Fixture CPU @ 0.00GHz", "cpuid": [{"leaf": 0, "subleaf": 0, "eax": 22, "ebx": 1, "ecx": 2, "edx": 3}],
        "libcpuid": None,
        "virtualization": {"vendor": backend, "status": "usable", "capabilities": [{"msr": 0x480, "value": 1}], "note": None},
        "microcode": 0, "hypervisor": None if emulated else "KVM (fixture)",
        "tsc_hz": None if emulated else 2.1e9, "tsc_source": None if emulated else "calibrated", "cpus": 1,
    }


def emulator(target):
    """Today's versions; null for a target that is none."""
    name = target.partition("-")[0]
    version = {"bochs": "2.7", "qemu": "7.2.22"}.get(name)
    return {"name": name, "version": version, "banner": f"fixture of {name} {version}"} if version else None


def record(target, n=200, seed=0):
    """A whole, valid record with invented numbers."""
    kind, backend, emulated, unit = TARGETS[target]
    claims, rows = [], []
    if emulated:
        rows.append(benchmark("control.empty/nested", unit, 0, [], n))
        for index, name in enumerate(EXITS):
            names = [f"Exit.{name}_exits_when_intercepted", f"Exit.{name}_leaves_registers"]
            section = f"SDM 3C 26.1.{index}" if backend == "vmx" else f"APM 2 15.{index}"
            claims += [claim(c, section=section) for c in names]
            handler = 19 + index % 5 * 7
            parts = {"exit": 9 + index % 3, "handler": handler, "entry": 11}
            rows.append(benchmark(f"exit.{name}/nested", unit, sum(parts.values()), names, n, parts=parts, seed=seed))
            rows.append(benchmark(f"exit.{name}/native", unit, 1 + index % 4, [], n))
        if backend == "svm":
            rows[-2] = without_number(rows[-2], "SKIP", "SVM has no preemption timer (APM 2 15.9)")
            rows[-1] = without_number(rows[-1], "SKIP", "SVM has no preemption timer (APM 2 15.9)")
            claims[-2:] = [claim(c["name"], "SKIP", c["section"], "SVM has no preemption timer") for c in claims[-2:]]
    else:
        claims = [claim("Self.cpuid_runs", section="SDM 2A CPUID"), claim("Self.rdtsc_runs", section="SDM 2B RDTSC")]
        rows = [
            benchmark("control.empty/user", unit, 0, [], n, 2),
            benchmark("exit.cpuid/user", unit, 9800, ["Self.cpuid_runs"], n, 700, seed, True),
            benchmark("exit.rdtsc/user", unit, 24, ["Self.rdtsc_runs"], n, 2, seed, False),
            benchmark("exit.exception_ud/user", unit, 2900, [], n, 200, seed, False),
            benchmark("exit.pause/user", unit, 44, [], n, 3, seed, False),
        ]
    return {
        "schema_version": 1, "run_id": f"fixture-{target}-{seed}", "started": "2026-01-02T03:04:05Z",
        "target": {"name": target, "kind": kind, "backend": backend, "emulated": emulated, "unit": unit,
                   "emulator": emulator(target)},
        "machine": machine(target),
        "environment": {"kernel": "fixture", "launcher": None, "revision": "fixture"},
        "doctor": {"findings": [
            {"name": "tsc", "state": "OK", "text": "invariant <fixture>", "mend": None},
            {"name": "turbo", "state": "WARN", "text": "on <fixture>", "mend": "echo 1 > no_turbo"},
            {"name": "virtualization", "state": "BLOCKED", "text": "none of the fixture's", "mend": None},
        ]},
        "claims": claims,
        "benchmarks": rows,
    }


def break_claim(rec, name, detail="the fixture says so"):
    """The claim fails, and every row that rests on it loses its number, as the real program would have it."""
    for entry in rec["claims"]:
        if entry["name"] == name:
            entry.update(verdict="FAIL", detail=detail)
    rec["benchmarks"] = [without_number(r, "INVALID", f"claim {name} failed") if name in r["claims"] else r
                         for r in rec["benchmarks"]]
    return rec


def xml(rec):
    cases = []
    for entry in rec["claims"]:
        suite, _, name = entry["name"].partition(".")
        properties = "".join(f'<property name="{k}" value="{entry[k]}"/>' for k in ("verdict", "section") if entry[k])
        bad = f'<failure message="{entry["detail"]}"/>' if entry["verdict"] not in ("PASS", "SKIP") else ""
        cases.append(f'<testcase name="{name}" classname="{suite}" status="run" result="completed"><properties>{properties}'
                     f"</properties>{bad}</testcase>")
    return f'<?xml version="1.0"?><testsuites><testsuite name="Exit">{"".join(cases)}</testsuite></testsuites>'


def main():
    options = dict(a.removeprefix("--").partition("=")[::2] for a in sys.argv[1:])
    target, mode = options.get("target", ""), os.environ.get("FIXTURE_MODE", "ok")
    only = os.environ.get("FIXTURE_TARGET")
    mode = mode if only in (None, target) else "ok"
    if target == "list":
        for name, (_, _, emulated, _) in TARGETS.items():
            print(f"{name:14} usable      fixture{' (emulated)' if emulated else ''}")
        return 0
    if mode == "nothing_selected":
        print(f"refhv-microbench: --benchmark_filter=x selects no row of {target}", file=sys.stderr)
        return 2
    if target not in TARGETS or mode == "usage":
        print(f"refhv-microbench: unknown target '{target}'; known: {', '.join(TARGETS)}", file=sys.stderr)
        return 2
    events = os.fdopen(int(options["events-fd"]), "w") if "events-fd" in options else open(os.devnull, "w")

    def say(**event):
        print(json.dumps(event), file=events, flush=True)

    if mode == "hang_at_start":
        time.sleep(3600)
    rec = record(target, int(options.get("samples") or 200))
    if mode in ("fail", "departure"):
        break_claim(rec, "Exit.cpuid_exits_when_intercepted")
    path = options.get("record", os.devnull)

    def write(r):
        with open(path, "w") as file:
            json.dump(r, file)

    if mode == "disk_full":
        path = "/dev/full"
    say(event="start", target=target, claims=len(rec["claims"]), benchmarks=len(rec["benchmarks"]),
        emulator=rec["target"]["emulator"], revision=rec["environment"]["revision"])
    say(event="hello", seconds=0.01, machine=rec["machine"]["name"])
    for entry in rec["claims"]:
        say(event="claim", **entry)
    if "gtest_output" in options:
        with open(options["gtest_output"].removeprefix("xml:"), "w") as file:
            file.write(xml(rec))
    done = []
    for index, row in enumerate(rec["benchmarks"]):
        if index == 3:
            if mode == "hang":
                time.sleep(3600)
            if mode == "die":
                print("the fixture dies here", flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
            if mode == "rubbish":
                while True:
                    events.write("\x00\xff garbage {]" * 20 + "\n")
                    events.flush()
                    time.sleep(0.001)
            if mode == "truncated":
                write(rec)
                os.truncate(path, os.path.getsize(path) // 2)
                return 3
            if mode == "no_record":
                os.unlink(path)
                return 3
            if mode == "close_pipes":
                os.closerange(0, 1024)
                time.sleep(3600)
            if mode == "miss":
                rest = [without_number(r, "MISS", "the target died") for r in rec["benchmarks"][3:]]
                write(rec | {"benchmarks": done + rest})
                print("fixture: the target died", flush=True)
                return 3
        done.append(row)
        try:
            write(rec | {"benchmarks": done})
        except OSError as error:
            print(f"refhv-microbench: cannot write {path}: {error.strerror}; free space there, or name another file",
                  file=sys.stderr, flush=True)
            return 2
        say(event="benchmark", name=row["name"], verdict=row["verdict"], unit=row["unit"], p50=row["summary"]["p50"],
            **row["parts"], reason=row["reason"])
    say(event="end")
    return 1 if mode == "fail" else 0


if __name__ == "__main__":
    sys.exit(main())
