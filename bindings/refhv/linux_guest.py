# SPDX-License-Identifier: MIT
"""A Linux kernel with a script of ours as its user space, in QEMU or in Bochs: where the module is tried.

The kernel is Debian's cloud kernel of the version whose headers are installed. Its package is unpacked into the user's
cache, never installed.
"""

import gzip
import io
import lzma
import os
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

HEADERS = Path("/usr/src")
BUSYBOX = Path("/bin/busybox")
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "refhv" / "linux"
_BEGIN, _END = "=== file ", "=== end "

INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin HOME=/ LD_LIBRARY_PATH=/lib64
mkdir -p /proc /sys /dev /tmp
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
stty -F /dev/ttyS1 raw -echo
keep() {{ # keep NAME FILE: the file comes back to whoever started the machine
    {{ echo "{begin}$1"; base64 "$2"; echo "{end}$1"; }} > /dev/ttyS1
}}
step() {{ # step NAME COMMAND...: how it ended is kept
    name=$1; shift
    "$@"; echo "step $name: $?" > /dev/ttyS1
}}
. /script
dmesg > /tmp/dmesg; keep dmesg /tmp/dmesg
sync
poweroff -f
"""


class Unavailable(Exception):
    """What is missing here, and what to do."""


@dataclass
class Kernel:
    """`version` as uname -r says it; `build`: its headers; `image`: vmlinuz; `modules`: folder of its modules."""

    version: str
    build: Path
    image: Path
    modules: Path

    def module(self, name: str) -> Path:
        """Of this name, wherever it lies. Raises Unavailable."""
        for path in self.modules.rglob(f"{name}.ko*"):
            return path
        raise Unavailable(f"Linux {self.version} has no module {name}")


@dataclass
class Outcome:
    """What a machine said: its console, the exit codes of its steps, and the files that it kept."""

    console: str
    steps: dict[str, int] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    ended: bool = True  # it turned itself off within its time

    @property
    def dmesg(self) -> str:
        return self.files.get("dmesg", b"").decode(errors="replace")

    def complaints(self) -> list[str]:
        """Lines of the kernel's log that say that something is wrong with it, from the module's first load on."""
        wrong = re.compile(r"WARNING:|\bBUG\b|\bOops|Call Trace|lockup|rcu.*stall|hung task|general protection|unchecked MSR|"
                           r"Kernel panic|hogged CPU|UBSAN|memory leak|Unpatched return thunk|Unknown symbol", re.I)
        log = self.dmesg or self.console
        return [line for line in log[max(0, log.find("refhv:")):].splitlines() if wrong.search(line)]


def kernel() -> Kernel:
    """The newest whose headers are installed. Raises Unavailable."""
    builds = sorted(HEADERS.glob("linux-headers-*-cloud-amd64"), key=lambda p: [int(n) for n in re.findall(r"\d+", p.name)])
    if not builds:
        raise Unavailable("no headers of Debian's cloud kernel here: install linux-headers-cloud-amd64")
    build = builds[-1]
    version = build.name.removeprefix("linux-headers-")
    folder = _CACHE / version
    image = folder / "boot" / f"vmlinuz-{version}"
    if not image.exists():
        _unpack(f"linux-image-{version}", folder)
    modules = next((p for p in (folder / "lib/modules" / version, folder / "usr/lib/modules" / version) if p.exists()), None)
    if not image.exists() or modules is None:
        raise Unavailable(f"the package linux-image-{version} holds no kernel and modules where they are expected")
    return Kernel(version, build, image, modules)


def _unpack(package: str, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        got = subprocess.run(["apt-get", "download", "-q", package], cwd=work, capture_output=True, text=True, check=False)
        debs = list(Path(work).glob("*.deb"))
        if got.returncode != 0 or len(debs) != 1:
            raise Unavailable(f"apt-get download {package} failed: {(got.stderr.strip().splitlines() or ['?'])[-1]}")
        subprocess.run(["dpkg", "-x", debs[0], "unpacked"], cwd=work, check=True, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)
        (Path(work) / "unpacked").rename(folder)


def build_module(source: Path, build: Path, of: Kernel) -> Path:
    """refhv.ko for this kernel. Raises subprocess.CalledProcessError with what make said."""
    subprocess.run(["make", "-s", f"-j{os.cpu_count() or 1}", "-C", source, f"KDIR={of.build}", f"BUILD={build}"], check=True,
                   capture_output=True, text=True)
    return build / "refhv.ko"


def libraries(program: Path) -> dict[str, Path]:
    """What a dynamic program needs, by where it looks for it."""
    said = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    found = {}
    for name, path in re.findall(r"^\s*(\S+)(?: => (\S+))? \(0x", said, re.M):
        if path:
            found[f"/lib64/{name}"] = Path(path)
        elif name.startswith("/"):
            found[name] = Path(name)
    return found


def initramfs(files: Mapping[str, Path | str], script: str, init: str | None = None) -> bytes:
    """An initial file system: busybox, the files by their paths in it (text as it is), and the script, or an init of its own."""
    entries: dict[str, tuple[int, bytes]] = {}

    def put(path: str, mode: int, data: bytes) -> None:
        for parent in reversed(Path(path).parents):
            if str(parent) not in ("/", "."):
                entries.setdefault(str(parent).strip("/"), (stat.S_IFDIR | 0o755, b""))
        entries[path.strip("/")] = (mode, data)

    put("/bin/busybox", stat.S_IFREG | 0o755, BUSYBOX.read_bytes())
    put("/init", stat.S_IFREG | 0o755, (init or INIT.format(begin=_BEGIN, end=_END)).encode())
    put("/script", stat.S_IFREG | 0o644, script.encode())
    for path, content in files.items():
        data = content.encode() if isinstance(content, str) else content.read_bytes()
        if isinstance(content, Path) and content.suffix == ".xz":  # as Debian 13 packs its modules
            data = lzma.decompress(data)
        put(path, stat.S_IFREG | 0o755, data)
    archive = io.BytesIO()
    for number, (path, (mode, data)) in enumerate([*entries.items(), ("TRAILER!!!", (0, b""))], 1):
        name = path.encode() + b"\0"
        fields = [number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0]
        archive.write(b"070701" + b"".join(b"%08X" % value for value in fields) + name)
        archive.write(b"\0" * (-archive.tell() % 4))
        archive.write(data)
        archive.write(b"\0" * (-archive.tell() % 4))
    return gzip.compress(archive.getvalue(), 1)


def _outcome(console: bytes, kept: bytes, ended: bool) -> Outcome:
    import base64

    outcome = Outcome(console.decode(errors="replace").replace("\r", ""), ended=ended)
    name, lines = None, []
    for line in kept.decode(errors="replace").replace("\r", "").splitlines():
        if line.startswith(_BEGIN):
            name, lines = line.removeprefix(_BEGIN), []
        elif line.startswith(_END) and name is not None:
            outcome.files[name] = base64.b64decode("".join(lines))
            name = None
        elif name is not None:
            lines.append(line)
        elif match := re.fullmatch(r"step (\S+): (\d+)", line):
            outcome.steps[match[1]] = int(match[2])
    return outcome


def run_in_qemu(of: Kernel, files: Mapping[str, Path | str], script: str, *, seconds: float, cpus: int = 2,
                machine: Iterable[str] = (), command_line: str = "") -> Outcome:
    """Boots under QEMU's TCG with SVM. `machine`: further arguments."""
    program = os.environ.get("REFHV_QEMU") or "qemu-system-x86_64"
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        (folder / "initramfs").write_bytes(initramfs(files, script))
        command = [program, "-accel", "tcg,thread=single", "-cpu", "max", "-smp", str(cpus), "-m", "1024", "-nodefaults",
                   "-no-user-config", "-display", "none", "-no-reboot", "-kernel", of.image, "-initrd", folder / "initramfs",
                   "-serial", f"file:{folder}/console", "-serial", f"file:{folder}/kept",
                   "-append", f"console=ttyS0 quiet loglevel=4 panic=-1 {command_line}", *machine]
        ended, said = True, b""
        try:
            said = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False).stderr
        except subprocess.TimeoutExpired:
            ended = False
        read = lambda name: (folder / name).read_bytes() if (folder / name).exists() else b""  # noqa: E731
        return _outcome(read("console") + said, read("kept"), ended)


GRUB = """linux /vmlinuz console=ttyS0 quiet loglevel=4 panic=-1 {command_line}
initrd /initramfs
boot
"""
BOCHSRC = """config_interface: textconfig
display_library: rfb, options="timeout=0"
plugin_ctrl: speaker=0
cpu: model={model}, count=1, ips=8000000, reset_on_triple_fault=0, ignore_bad_msrs=1
memory: guest=1024, host=1024
romimage: file=/usr/share/bochs/BIOS-bochs-latest, options=fastboot
vgaromimage: file=/usr/share/vgabios/vgabios.bin
boot: cdrom
ata0-master: type=cdrom, path={iso}, status=inserted
clock: sync=none, time0=946684800
com1: enabled=1, mode=file, dev={console}
com2: enabled=1, mode=file, dev={kept}
log: /dev/null
panic: action=fatal
error: action=ignore
info: action=ignore
debug: action=ignore
"""


def run_in_bochs(of: Kernel, files: Mapping[str, Path | str], script: str, *, seconds: float, model: str = "corei7_skylake_x",
                 command_line: str = "") -> Outcome:
    """Boots under Bochs, on one CPU of this model."""
    program = os.environ.get("REFHV_BOCHS") or "bochs-bin"
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        tree = folder / "tree"
        tree.mkdir()
        (tree / "initramfs").write_bytes(initramfs(files, script))
        shutil.copy(of.image, tree / "vmlinuz")
        (folder / "grub.cfg").write_text(GRUB.format(command_line=command_line))
        for command in (["grub-mkimage", "-O", "i386-pc-eltorito", "-d", "/usr/lib/grub/i386-pc", "-p", "/", "-c", folder / "grub.cfg",
                         "-o", tree / "boot.img", "biosdisk", "iso9660", "linux", "normal"],
                        ["xorriso", "-report_about", "WARNING", "-as", "mkisofs", "-quiet", "-b", "boot.img", "-no-emul-boot",
                         "-boot-load-size", "4", "-boot-info-table", "-o", folder / "linux.iso", tree]):
            subprocess.run(command, check=True, capture_output=True)
        (folder / "bochsrc").write_text(BOCHSRC.format(model=model, iso=folder / "linux.iso", console=folder / "console",
                                                       kept=folder / "kept"))
        (folder / "commands").write_text("c\n")
        ended, said = True, b""
        try:  # in a network of its own: its display would listen
            said = subprocess.run(["unshare", "-rn", program, "-q", "-f", folder / "bochsrc", "-rc", folder / "commands"],
                                  stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False).stderr
        except subprocess.TimeoutExpired:
            ended = False
        read = lambda name: (folder / name).read_bytes() if (folder / name).exists() else b""  # noqa: E731
        return _outcome(read("console") + said, read("kept"), ended)
