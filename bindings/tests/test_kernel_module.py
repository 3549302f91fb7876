# SPDX-License-Identifier: MIT
"""The module's loader, as far as it goes without a machine that it could load anything on, and the guest kernel's file system."""

import gzip
import lzma
import os
import subprocess
from pathlib import Path

import pytest

from refhv import kernel_module, linux_guest, targets
from refhv.run import UsageError


@pytest.mark.parametrize(("flags", "found"), [("fpu vmx sse", "VMX"), ("fpu svm sse", "SVM"), ("fpu vmx_fake svmx", None), ("", None)])
def test_the_extension_is_a_flag_of_the_cpus(flags, found):
    assert kernel_module.extension(f"processor\t: 0\nflags\t\t: {flags}\nbugs\t\t: svm\n") == found
    assert kernel_module.extension("") is None


def test_each_obstacle_is_named_with_what_to_do(monkeypatch):
    there: set[str] = set()
    monkeypatch.setattr(Path, "exists", lambda self: str(self) in there)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(kernel_module, "of_this_cpu", lambda: None)
    assert "neither VMX nor SVM" in kernel_module.obstacle()
    monkeypatch.setattr(kernel_module, "of_this_cpu", lambda: "SVM")
    release = os.uname().release
    assert kernel_module.obstacle() == f"no headers of this kernel: install linux-headers-{release}"
    there.add(f"/lib/modules/{release}/build")
    assert "sudo ./suite load" in kernel_module.obstacle()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert kernel_module.obstacle() is None
    there.add("/sys/module/kvm_amd")
    assert "modprobe -r kvm_amd" in kernel_module.obstacle()
    there.add("/sys/module/refhv")
    assert "loaded already" in kernel_module.obstacle()
    with pytest.raises(UsageError, match="loaded already"):
        kernel_module.load()


def test_a_run_offers_only_what_is_there(monkeypatch, capsys):
    monkeypatch.setattr(kernel_module, "load", lambda *_: pytest.fail("nobody said yes"))
    monkeypatch.setattr(kernel_module, "is_loaded", lambda: False)
    monkeypatch.setattr(kernel_module, "of_this_cpu", lambda: None)
    assert not kernel_module.offer(yes=True, interactive=True)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(kernel_module, "of_this_cpu", lambda: "VMX")
    monkeypatch.setattr(kernel_module, "obstacle", lambda: "no headers")
    assert not kernel_module.offer(yes=True, interactive=False)
    assert capsys.readouterr().err == "refhv: this CPU has VMX, which is not measured: no headers\n"
    monkeypatch.setattr(kernel_module, "obstacle", lambda: None)
    assert not kernel_module.offer(yes=False, interactive=False)
    assert "--yes would" in capsys.readouterr().err
    done = []
    monkeypatch.setattr(kernel_module, "load", lambda *_: done.append("load"))
    assert kernel_module.offer(yes=True, interactive=False) and done == ["load"]


def test_the_module_is_a_default_target_where_it_is_usable():
    assert targets.choose("", targets.NAMES) == ["self", "bochs-intel", "qemu-amd"]
    assert targets.choose("", {"linux": "not usable: /dev/refhv is not there", "self": ""}) == ["self", "bochs-intel", "qemu-amd"]
    assert targets.choose("", {"linux": "this machine, by the Linux module", "self": ""}) == ["linux", "self"]


def test_kvm_is_a_default_target_where_it_has_the_hardware():
    assert targets.choose("", {"self": "", "kvm": "guests of this machine's KVM"}) == ["self", "kvm"]
    assert targets.choose("", {"self": "", "kvm": "guests of this machine's KVM (without VMX or SVM)"}) == ["self", "bochs-intel", "qemu-amd"]
    assert targets.choose("", {"self": "", "kvm": "not usable: /dev/kvm is not there"}) == ["self", "bochs-intel", "qemu-amd"]


@pytest.mark.skipif(not linux_guest.BUSYBOX.exists(), reason="busybox-static is not installed")
def test_the_guests_file_system_is_what_cpio_reads(tmp_path):
    packed = tmp_path / "kvm.ko.xz"
    packed.write_bytes(lzma.compress(b"a module"))
    archive = gzip.decompress(linux_guest.initramfs({"/etc/deep/name": "text", "/kvm.ko": packed}, "echo hello\n"))
    listed = subprocess.run([linux_guest.BUSYBOX, "cpio", "-t"], input=archive, capture_output=True, check=True).stdout.decode().split()
    assert listed == ["bin", "bin/busybox", "init", "script", "etc", "etc/deep", "etc/deep/name", "kvm.ko"]
    subprocess.run([linux_guest.BUSYBOX, "cpio", "-id"], input=archive, cwd=tmp_path, capture_output=True, check=True)
    assert (tmp_path / "kvm.ko").read_bytes() == b"a module"
    assert (tmp_path / "etc/deep/name").read_text() == "text" and os.access(tmp_path / "init", os.X_OK)


def test_what_a_machine_kept_comes_back():
    kept = b"step load: 0\n=== file a\naGVs\nbG8=\n=== end a\nstep end: 3\n=== file cut\naGVs\n"
    outcome = linux_guest._outcome(b"x", kept, True)
    assert outcome.steps == {"load": 0, "end": 3} and outcome.files == {"a": b"hello"}


@pytest.mark.parametrize(("line", "bad"), [("WARNING: CPU: 0 PID: 1 at x", True), ("watchdog: BUG: soft lockup", True),
                                           ("refhv: kvm_amd has to wait", False), ("estimate for loops_per_jiffy", False)])
def test_complaints_are_the_kernels_after_the_module_came(line, bad):
    before = linux_guest.Outcome("", files={"dmesg": f"{line}\nrefhv: loading out-of-tree module taints kernel.\n".encode()})
    after = linux_guest.Outcome("", files={"dmesg": f"refhv: loading out-of-tree module taints kernel.\n{line}\n".encode()})
    assert before.complaints() == [] and bool(after.complaints()) == bad


@pytest.mark.parametrize(("in_tree", "code", "expected"), [(True, 0, "insmod"), (False, 1, "insmod"), (False, 0, "modprobe")])
def test_an_installed_refhv_takes_the_module_that_dkms_built(monkeypatch, in_tree, code, expected):
    done = []
    monkeypatch.setattr(kernel_module, "obstacle", lambda: None)
    monkeypatch.setattr(kernel_module, "build", lambda: "refhv.ko")
    monkeypatch.setattr(kernel_module, "_do", lambda *command: done.append(command))
    monkeypatch.setattr(kernel_module.paths, "IN_SOURCE_TREE", in_tree)
    monkeypatch.setattr(kernel_module.subprocess, "run", lambda *_, **__: kernel_module.subprocess.CompletedProcess([], code))
    kernel_module.load("cpu=1")
    assert done == [(expected, *(["refhv"] if expected == "modprobe" else ["refhv.ko"]), "cpu=1")]
