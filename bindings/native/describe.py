# SPDX-License-Identifier: MIT
"""Reads the contract's own headers and writes what the Python module is made of: tables in C++, and type stubs.

    describe.py SOURCE OUTPUT.inc STUB_HEAD OUTPUT.pyi

So a field that is added to a header appears in Python, with its comment as its documentation. Nothing here is believed: the
compiler takes every offset, size and value from the header itself, and fails if a byte of a structure or a word of an
enumeration was not found (bindings/native/tables.hpp).
"""

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

CONTRACT = ("vocabulary.hpp", "extras.hpp", "permit.hpp", "state.hpp", "ops.hpp", "run.hpp")
CONSTANTS = (  # header, scope, namespace, what Python calls it, its documentation
    ("refhv/x86/registers.hpp", "x86", "msr", "Msr", "MSR numbers (SDM 4; APM 2 appendix A)."),
    ("refhv/vmx/fields.hpp", "vmx", "pin", "PinControls", "Pin-based VM-execution controls (SDM 3C 25.6.1)."),
    ("refhv/vmx/fields.hpp", "vmx", "proc", "ProcControls", "Primary processor-based VM-execution controls (SDM 3C 25.6.2)."),
    ("refhv/vmx/fields.hpp", "vmx", "proc2", "Proc2Controls", "Secondary processor-based VM-execution controls (SDM 3C 25.6.2)."),
    ("refhv/vmx/fields.hpp", "vmx", "exit_control", "ExitControls", "VM-exit controls (SDM 3C 25.7.1)."),
    ("refhv/vmx/fields.hpp", "vmx", "entry_control", "EntryControls", "VM-entry controls (SDM 3C 25.8.1)."),
    ("refhv/svm/vmcb.hpp", "svm", "intercept_1", "SvmIntercept1", "VMCB offset 00CH, field intercept_1 (APM 2 appendix B)."),
    ("refhv/svm/vmcb.hpp", "svm", "intercept_2", "SvmIntercept2", "VMCB offset 010H, field intercept_2 (APM 2 appendix B)."),
    ("refhv/svm/vmcb.hpp", "svm", "intercept_3", "SvmIntercept3", "VMCB offset 014H, field intercept_3 (APM 2 appendix B)."),
)
INTEGERS = {"u8": "uint8", "u16": "uint16", "u32": "uint32", "u64": "uint64", "i64": "int64"}


class DescribeError(Exception):
    """A header is not written as this script can read it; one line."""


@dataclass
class Item:
    """A field of a structure, or a word of an enumeration."""

    name: str
    doc: str = ""
    type: str = ""
    count: int = 0  # of an array, else 0
    value: str = ""

    @property
    def reserved(self) -> bool:
        return self.name == "zero" or self.name.startswith("reserved_")


@dataclass
class Type:
    scope: str  # "abi"
    name: str
    doc: str
    items: list[Item] = field(default_factory=list)
    flags: bool = False  # an enumeration of bits
    counted: bool = False  # an enumeration whose last word is count_
    python: str = ""  # what Python calls it, where that is not `name`

    def __post_init__(self) -> None:
        self.python = self.python or self.name


def _split(line: str) -> tuple[str, str]:
    code, mark, comment = line.partition("//")
    return code.strip(), comment.strip() if mark else ""


def _join(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _bodies(text: str, keyword: str):
    """(name, comment before and beside, lines) of each structure or enumeration outside of functions."""
    lines = text.splitlines()
    for at, line in enumerate(lines):
        found = re.match(rf"{keyword} (?:class )?(\w+)(?: : \w+)? \{{(.*)", line)
        if not found:
            continue
        before = []
        for above in reversed(lines[:at]):
            if not above.startswith("//") or "SPDX" in above:
                break
            before.insert(0, above[2:].strip())
        end = next((i for i in range(at, len(lines)) if lines[i].startswith("}")), at)
        yield found[1], _join(*before, _split(found[2])[1]), lines[at + 1:end]


def _items(lines: list[str], parse) -> list[Item]:
    """Comments above a line are of that line; those beside it, and those that go on below a comment beside it, too."""
    items: list[Item] = []
    waiting = ""
    beside = False
    for line in lines:
        code, comment = _split(line)
        if not code:
            if beside and comment and line.index("//") > 12:
                for item in last:
                    item.doc = _join(item.doc, comment)
            else:
                waiting, beside = (_join(waiting, comment) if comment else ""), False
            continue
        last = parse(code, _join(waiting, comment))
        waiting, beside = ("" if last else waiting), bool(comment)
        items += last
    return items


def _field(code: str, doc: str) -> list[Item]:
    found = re.fullmatch(r"(\w+) ([\w\[\], \-]+);", code) if "(" not in code else None
    if not found:
        return []
    items = []
    for part in found[2].split(","):
        name = re.fullmatch(r"\s*(\w+)(?:\[(.+)\])?", part)
        if not name:
            raise DescribeError(f"a field that is not understood: {code}")
        items.append(Item(name[1], doc, found[1], _value(name[2]) if name[2] else 0))
    return items


def _word(code: str, doc: str) -> list[Item]:
    found = re.fullmatch(r"(\w+)(?: = (.+?))?,?", code)
    return [Item(found[1], doc, value=found[2] or "")] if found else []


def _value(text: str) -> int:
    """Of the few forms in which the headers write numbers."""
    text = re.sub(r"u64\{(\w+)\}", r"\1", text.replace("'", ""))
    text = re.sub(r"\b(0x[0-9a-fA-F]+|\d+)u\b", r"\1", text)
    if not re.fullmatch(r"[0-9a-fA-Fx<~ \-]+", text):
        raise DescribeError(f"a number that is not understood: {text}")
    return eval(text, {"__builtins__": {}}) & (1 << 64) - 1  # noqa: S307: digits, shifts and complements only


def structures(path: Path, scope: str) -> list[Type]:
    return [Type(scope, name, doc, _items(lines, _field)) for name, doc, lines in _bodies(path.read_text(), "struct")]


def enumerations(path: Path, scope: str) -> list[Type]:
    found = []
    for name, doc, lines in _bodies(path.read_text(), "enum"):
        items = _items(lines, _word)
        one = Type(scope, name, doc, [item for item in items if not item.name.endswith("_")],
                   counted=any(item.name == "count_" for item in items))
        values = [item.value for item in one.items]
        one.flags = all("<<" in value for value in values)
        for number, item in enumerate(one.items):
            item.value = str(_value(item.value)) if item.value else str(number)
        found.append(one)
    return found


def constants(path: Path, scope: str, namespace: str, name: str, doc: str) -> Type:
    """The numbers of one namespace, as an enumeration."""
    body = re.search(rf"namespace {namespace} \{{(.*?)\n\}}", re.sub(r"//.*", "", path.read_text()), re.S)
    if not body:
        raise DescribeError(f"{path} has no namespace {namespace}")
    # Values are whatever stands up to the next comma: no form of them has one.
    pairs = re.findall(r"(\w+)\s*=\s*([^,;]+)", body[1])
    return Type(f"{scope}::{namespace}", namespace, doc, [Item(item, value=str(_value(value.strip()))) for item, value in pairs],
                flags=all("<<" in value for _, value in pairs), python=name)


def macros(path: Path, prefix: str, name: str, doc: str) -> Type:
    """The numbers that a header defines as macros, with what is said beside them."""
    found = re.findall(rf"^#define ({prefix}(\w+)) (0x[0-9a-f]+)(?: *// *(.*))?$", path.read_text(), re.M)
    return Type("macro", name, doc, [Item(word.lower(), doc=beside, value=str(_value(value)), type=macro)
                                     for macro, word, value, beside in found])


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _words(item: Item, known: set[str]) -> tuple[str, str]:
    """The enumeration whose words a field holds, by the comment beside it, and how: "one", "set" (a bit each), "flags"."""
    for pattern, how in ((r"(\w+)(?:[;:,.]|$)", "one"), (r"bit per (\w+)", "set"), (r"(\w+) bits that", "flags"), (r"(\w+Flags)", "flags")):
        found = re.match(pattern, item.doc)
        if found and found[1] in known:
            return found[1], how
    return "", ""


def table(structs: list[Type], enums: list[Type]) -> str:
    known = {enum.name for enum in enums}
    out = ["// SPDX-License-Identifier: MIT", "// Made by bindings/native/describe.py."]
    for one in structs:
        out.append(f"template <> struct Described<{one.scope}::{one.name}> {{")
        out.append(f"    using Self = {one.scope}::{one.name};")
        out.append(f"    static constexpr const char* name = {_quoted(one.name)};")
        out.append(f"    static constexpr const char* doc = {_quoted(one.doc)};")
        out.append("    static constexpr Field fields[] = {")
        for item in one.items:
            words, how = _words(item, known)
            if how == "one" and enums[[e.name for e in enums].index(words)].flags:
                how = "flags"
            out.append(f"        field<decltype(Self::{item.name})>({_quoted(item.name)}, offsetof(Self, {item.name}), "
                       f"{str(item.reserved).lower()}, {_quoted(words)}, Words::{how or 'none'}, {_quoted(item.doc)}),")
        out.append("    };")
        out.append("};")
        out.append(f"static_assert(covers<{one.scope}::{one.name}>(), "
                   f"{_quoted(f'bindings/native/describe.py has not found every field of {one.name}')});")
    for one in enums:
        prefix = f"{one.scope}::" if "::" in one.scope else f"{one.scope}::{one.name}::"
        fields = "\n".join(f"    {{{_quoted(item.name)}, static_cast<u64>({item.type or prefix + item.name}), {_quoted(item.doc)}}},"
                           for item in one.items)
        out.append(f"constexpr Word words_of_{one.python}[] = {{\n{fields}\n}};")
    # The compiler says if an enumeration has a word that is not here; those that end in an underscore count.
    for one in enums:
        if "::" in one.scope or one.scope == "macro":
            continue
        names = [item.name for item in one.items] + ["count_"] * one.counted
        cases = "".join(f" case {one.scope}::{one.name}::{name}:" for name in names)
        out.append(f"[[maybe_unused]] constexpr bool knows({one.scope}::{one.name} word) {{ switch (word) {{{cases} return true; }} return false; }}")
    out.append("constexpr Enumeration enumerations[] = {")
    out += [f"    {{{_quoted(one.python)}, words_of_{one.python}, {str(one.flags).lower()}, {_quoted(one.doc)}}}," for one in enums]
    out.append("};")
    exported = [one for one in structs if one.name not in PRIVATE]
    out.append("using Structures = List<" + ", ".join(f"{one.scope}::{one.name}" for one in exported) + ">;")
    return "\n".join(out) + "\n"


def _annotation(item: Item, known: set[str], structs: set[str], flags: set[str]) -> str:
    words, how = _words(item, known)
    if how == "set":
        return f"frozenset[{words} | int]"
    if how:
        return words
    if item.type in structs:
        return f"tuple[{item.type}, ...]" if item.count else item.type
    if item.type == "char":
        return "str"
    if item.count:
        return "bytes" if item.type == "u8" else f"NDArray[np.{INTEGERS[item.type]}]"
    return "int"


def _documented(doc: str, indent: str) -> list[str]:
    return [f'{indent}"""{doc}"""'.replace("\\", "\\\\")] if doc else []


def stub(structs: list[Type], enums: list[Type]) -> str:
    known, names, flags = {e.name for e in enums}, {s.name for s in structs}, {e.name for e in enums if e.flags}
    out: list[str] = []
    for one in enums:
        out += ["", f"class {one.python}(enum.{'IntFlag' if one.flags else 'IntEnum'}):", *_documented(one.doc, "    ")]
        for item in one.items:
            out += [f"    {item.name} = {int(item.value):#x}" if one.flags else f"    {item.name} = {item.value}", *_documented(item.doc, "    ")]
    for one in structs:
        if one.name in PRIVATE:
            continue
        out += ["", f"class {one.name}(_Structure):", *_documented(one.doc, "    ")]
        fields = [item for item in one.items if not item.reserved]
        for item in fields:
            out += [f"    {item.name}: {_annotation(item, known, names, flags)}", *_documented(item.doc, "    ")]
        if one.name == "GuestState":
            out += [f"    {word.name}: int" for word in next(e for e in enums if e.name == "Gpr").items]
            out += [f"    {word.name}: Segment" for word in next(e for e in enums if e.name == "SegmentIndex").items]
        out.append("    def __init__(self, **fields: Any) -> None: ...")
    return "\n".join(out) + "\n"


REPLACED = {"Guest", "Target"}  # by the package's own, for which these are bases
PRIVATE = ("Vmcb", "VmcbSegment", "OpHeader", "ReplyHeader")  # read for their tables; what Python gets is their fields by name


def main(source: Path, table_out: Path, head: Path, stub_out: Path) -> None:
    structs, enums = [], []
    for name in CONTRACT:
        path = source / "refhv/contract" / name
        structs += structures(path, "abi")
        enums += enumerations(path, "abi")
    structs += [one for one in structures(source / "refhv/client/guest/layout.hpp", "client")]
    structs += structures(source / "refhv/svm/vmcb.hpp", "svm")
    fields = enumerations(source / "refhv/vmx/fields.hpp", "vmx")
    enums += [one for one in fields if one.name == "BasicExit"]
    vmcs = next(one for one in fields if one.name == "Field")
    vmcs.python, vmcs.doc = "VmcsField", "VMCS field encodings (SDM 3D appendix B)."
    enums.append(vmcs)
    enums += [one for one in enumerations(source / "refhv/svm/vmcb.hpp", "svm") if one.name == "ExitCode"]
    for file, scope, namespace, name, words in CONSTANTS:
        enums.append(constants(source / file, scope, namespace, name, words))
    enums.append(macros(source / "refhv/client/guest/layout.hpp", "REFHV_", "Layout",
                        "Where everything stands in a guest's memory (refhv/client/guest/layout.hpp); guest-virtual is guest-physical."))
    table_out.write_text(table(structs, enums))
    text = head.read_text().rstrip() + "\n" + stub(structs, enums)
    public = sorted(set(re.findall(r"^class ([A-Z]\w*)", text, re.M)) - REPLACED)
    stub_out.write_text(f"{text}\n__all__ = {public!r}\n")


if __name__ == "__main__":
    try:
        main(*map(Path, sys.argv[1:]))
    except DescribeError as error:
        sys.exit(f"describe.py: {error}")
