# SPDX-License-Identifier: MIT
"""The native module, its stub and the headers say the same."""

import ast
import enum
import importlib.util
import re
import subprocess
import sys

import pytest

import native_module  # noqa: F401: skips where there is no module
import refhv
from refhv import names, native, paths

_native = native.load()
STUB = paths.build_dir() / "python" / "refhv" / "_native.pyi"


def stubbed() -> dict[str, ast.ClassDef]:
    return {node.name: node for node in ast.parse(STUB.read_text()).body if isinstance(node, ast.ClassDef)}


def members(node: ast.ClassDef, classes: dict[str, ast.ClassDef]) -> set[str]:
    own = {item.name for item in node.body if isinstance(item, ast.FunctionDef)}
    own |= {item.target.id for item in node.body if isinstance(item, ast.AnnAssign)}
    own |= {target.id for item in node.body if isinstance(item, ast.Assign) for target in item.targets}
    for base in node.bases:
        if isinstance(base, ast.Name) and base.id in classes:
            own |= members(classes[base.id], classes)
    return {name for name in own if not name.startswith("_")}


def test_the_stub_has_every_class_and_every_member():
    classes = stubbed()
    live = {name: getattr(_native, name) for name in dir(_native) if isinstance(getattr(_native, name), type)}
    assert set(live) == set(classes) - {"_Structure"}
    for name, made in live.items():
        if issubclass(made, enum.Enum):
            words = {item.targets[0].id: item.value.value for item in classes[name].body if isinstance(item, ast.Assign)}
            assert words == {word: int(value) for word, value in made.__members__.items()}, name
        else:
            there = {word for word in dir(made) if not word.startswith("_")}
            missing = there ^ members(classes[name], classes)
            # What the stub inherits, and the module does not have, is what every structure has.
            assert missing <= {"copy", "asdict", "dtype"}, (name, missing)


def test_the_stub_has_the_parameters():
    """As pybind11 writes them into the first line of a docstring."""
    seen = 0
    for name, node in stubbed().items():
        for item in node.body:
            live = getattr(getattr(_native, name, None), getattr(item, "name", ""), None)
            head = re.match(r"\w+\((.*)\) -> ", getattr(live, "__doc__", None) or "")
            if not isinstance(item, ast.FunctionDef) or item.name.startswith("_") or not head or not callable(live):
                continue
            if item.args.kwarg:  # Batch.add takes any field
                continue
            due = [part.split(":")[0] for part in re.findall(r"(?:^|, )(\w+: [^,]*)", re.sub(r"\[[^]]*\]|'[^']*'", "", head[1]))]
            args = [arg.arg for arg in item.args.args + item.args.kwonlyargs]
            assert args == due or args[1:] == due, (name, item.name, args, due)
            seen += 1
    assert seen > 20


def test_structures_are_those_of_the_headers():
    """The generator and the compiler have said so; this asks the headers once more, in another way."""
    text = (paths.TOP / "refhv/contract/run.hpp").read_text()
    body = re.search(r"struct Exit \{(.*?)\n\};", text, re.S)[1]
    declared = re.findall(r"^\s*u\d+ (\w+);", body, re.M)
    assert list(refhv.Exit().asdict()) == declared and len(declared) > 10
    assert refhv.Exit.dtype().names == tuple(declared) and refhv.Exit.dtype().itemsize == 72
    assert len(bytes(refhv.GuestState())) == refhv.GuestState.dtype().itemsize
    assert "VM-exit instruction length" in refhv.Exit.instruction_length.__doc__


def describe():
    spec = importlib.util.spec_from_file_location("describe", paths.TOP / "bindings/native/describe.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["describe"] = module
    spec.loader.exec_module(module)
    return module


def test_the_generator_reads_what_headers_have(tmp_path):
    maker = describe()
    header = tmp_path / "x.hpp"
    header.write_text("// Two words.\nstruct A {\n    // above\n    u64 a[2], b; // beside\n                 // and below\n    u16 zero[4];\n"
                      "    [[nodiscard]] bool c() const { return b == 0; }\n};\nenum class B : u8 {\n    x = 1u << 3, // of x\n    y = 0x10,\n    count_ = 3,\n};\n")
    (a,), (b,) = maker.structures(header, "abi"), maker.enumerations(header, "abi")
    assert a.doc == "Two words." and [(i.name, i.type, i.count, i.doc) for i in a.items] == [
        ("a", "u64", 2, "above beside and below"), ("b", "u64", 0, "above beside and below"), ("zero", "u16", 4, "")]
    assert [i.reserved for i in a.items] == [False, False, True]
    assert [(i.name, i.value) for i in b.items] == [("x", "8"), ("y", "16")] and b.counted and not b.flags
    header.write_text("struct A {\n    u64 a : 3;\n};\n")
    assert maker.structures(header, "abi")[0].items == [], "so that the compiler finds the byte that is missing"


def test_names_of_fields():
    assert names.vmcs_field("Guest RIP") == names.vmcs_field("guest_rip") == names.vmcs_field(0x681E) == 0x681E
    assert names.vmcs_field("Guest CS access rights") == 0x4816 and names.vmcs_field("guest_tr_base") == 0x6814
    assert names.vmcs_field("VM-exit instruction length") == 0x440C and names.vmcs_field("IDT-vectoring information") == 0x4408
    assert names.vmcs_field("Primary processor-based VM-execution controls") == names.vmcs_field("proc_based_controls") == 0x4002
    assert names.vmcs_field("Secondary processor-based VM-execution controls") == 0x401E
    assert names.vmcs_field("Primary VM-exit controls") == 0x400C and names.vmcs_field("VM-entry controls") == 0x4012
    assert names.vmcb_field("EXITINFO1") == (0x78, 8) and names.vmcb_field("CPL") == (0x4CB, 1)
    assert names.msr("IA32_VMX_BASIC") == 0x480
    for wrong in (None, 1.5, b"rip"):
        with pytest.raises(TypeError, match="text or a number"):
            names.vmcs_field(wrong)
    values = [names.vmcs_field(name) for name in names.vmcs()]
    assert len({names.plain(name) for name in names.vmcs()}) == len(set(values)), "no two fields have one name"


def run(code: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(["/usr/bin/python3", "-c", code], env={"PATH": "/usr/bin", "PYTHONDONTWRITEBYTECODE": "1", **environment},
                          capture_output=True, text=True, timeout=60, check=False)


def test_importing_pulls_in_nothing_else():
    heavy = "numpy pandas matplotlib IPython nbclient nbformat jsonschema click rich refhv._native"
    done = run(f"import refhv, sys; print([m for m in {heavy.split()!r} if m in sys.modules])", PYTHONPATH=str(paths.TOP / "bindings"))
    assert done.stdout.strip() == "[]", done.stderr


def test_it_stands_in_the_build_tree():
    done = run("import refhv; print(refhv.Reason.cpuid, refhv.list_targets()['self'] == '')", PYTHONPATH=str(paths.build_dir() / "python"))
    assert done.stdout.strip() == "Reason.cpuid True", done.stderr


def test_without_the_module_it_says_what_to_do(tmp_path):
    code = ("import refhv\ntry:\n    refhv.open('self')\nexcept refhv.NativeMissing as e:\n    print(e)\n"
            "import refhv.cli, refhv.record\nprint('the suite goes on')")
    done = run(code, PYTHONPATH=str(paths.TOP / "bindings"), REFHV_BUILD_DIR=str(tmp_path))
    said = done.stdout.splitlines()
    assert "cmake --preset default" in said[0] and "/usr/bin/python3" in said[0] and said[1:] == ["the suite goes on"], done.stderr


def test_unknown_names_of_the_package():
    with pytest.raises(AttributeError, match="no attribute 'Reasn'"):
        refhv.Reasn  # noqa: B018
    assert {"open", "list_targets", "load", "Guest"} <= set(dir(refhv))


def test_it_installs_and_runs_from_there(tmp_path):
    """What `cmake --install` lays down is enough: images and tools come along. pip takes the same (setup.py)."""
    if not (paths.build_dir() / "bin/refhv.iso").is_file() or not (paths.build_dir() / "bin/refhv-conformance").is_file():
        pytest.skip("the image or the tools are not built")
    done = subprocess.run(["cmake", "--install", str(paths.build_dir()), "--component", "python", "--prefix", str(tmp_path)],
                          capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    code = "import refhv; t = refhv.open('self'); print(refhv.paths.tool('refhv-conformance'), refhv.paths.images(), t.hello().backend)"
    done = run(f"import refhv.paths; {code}", PYTHONPATH=str(next(tmp_path.rglob("dist-packages"))))
    tool, images, backend = done.stdout.split()
    assert tool.startswith(f"{tmp_path}/") and images.startswith(f"{tmp_path}/") and backend == "none", done.stderr
