// SPDX-License-Identifier: MIT
// Memory that no nested table maps, as a client has it that emulates devices: one row a form of instruction
// that accesses it, by size and direction, in code of 32 and 64 bits. The exit names the access to the byte,
// and nothing of the instruction has happened. VMX: SDM 3C 28.2.1 (table 28-7), 29.3.3.2. SVM: APM 2 15.25.6.
#include "conformance/exit/table/case.hpp"

namespace refhv::front {

using machine::Kind;

namespace {

constexpr u64 device = machine::spare + 16 * page_size; // not mapped; pages around it are
constexpr u64 vmx_violation = 48, svm_violation = 0x400;
constexpr u64 read = 1, write = 2;

struct Form {
    const char* name;
    const char* code;
    u64 access; // read, write or both: a read-modify-write
    bool only_64 = false;
    bool parts = false;      // several accesses, in an order that the manuals leave open
    u64 at = device + 0x124; // of RDI or RSI
};

const std::vector<Form> forms{
    {"MOV load, 1 byte", "8a 07", read},
    {"MOV load, 2 bytes", "66 8b 07", read},
    {"MOV load, 4 bytes", "8b 07", read},
    {"MOV load, 8 bytes", "48 8b 07", read, true},
    {"MOV store, 1 byte", "88 07", write},
    {"MOV store, 2 bytes", "66 89 07", write},
    {"MOV store, 4 bytes", "89 07", write},
    {"MOV store, 8 bytes", "48 89 07", write, true},
    {"MOV store of an immediate", "c7 07 44 33 22 11", write},
    {"MOVZX", "0f b6 07", read},
    {"MOVSX", "0f bf 07", read},
    {"MOVSXD", "48 63 07", read, true},
    {"CMP", "3b 07", read},
    {"TEST", "85 07", read},
    {"ADD from memory", "03 07", read},
    {"ADD to memory", "01 07", read | write},
    {"INC", "ff 07", read | write},
    {"NOT", "f7 17", read | write},
    {"NEG, 1 byte", "f6 1f", read | write},
    {"SHL", "d1 27", read | write},
    {"LOCK OR", "f0 09 07", read | write},
    {"XCHG", "87 07", read | write},
    {"LOCK XADD", "f0 0f c1 07", read | write},
    {"LOCK CMPXCHG", "f0 0f b1 07", read | write},
    {"LOCK CMPXCHG8B", "f0 0f c7 0f", read | write, false, false, device + 0x120},
    {"BTS", "0f ab 07", read | write},
    {"BT of an immediate", "0f ba 27 03", read},
    {"SETcc", "0f 94 07", write},
    {"MUL", "f7 27", read},
    {"DIV", "f7 37", read},
    {"PUSH of memory", "ff 37", read},
    {"POP to memory", "8f 07", write},
    {"MOVS, its source", "a5", read},
    {"STOS", "ab", write},
    {"STOS, 1 byte", "aa", write},
    {"LODS", "ad", read},
    {"SCAS", "af", read},
    {"JMP through memory", "ff 27", read},
    {"CALL through memory", "ff 17", read},
    {"LGDT", "0f 01 17", read, false, true},
    {"SIDT", "0f 01 0f", write, false, true},
    {"SGDT", "0f 01 07", write, false, true},
    {"SMSW", "0f 01 27", write},
    {"STR", "0f 00 0f", write},
    {"VERR", "0f 00 27", read},
    {"MOV from a segment register", "8c 1f", write},
    {"MOV to a segment register", "8e 1f", read},
    {"FLD", "d9 07", read},
    {"FSTP", "dd 1f", write},
    {"FNSTCW", "d9 3f", write},
    {"MOVUPS load", "0f 10 07", read},
    {"MOVUPS store", "0f 11 07", write},
    {"MOVQ load", "f3 0f 7e 07", read},
    {"MOVNTI", "0f c3 07", write},
};

bool is_string_source(const std::string& name) {
    return name == "MOVS, its source" || name == "LODS";
}

Probe probe_of(const Form& form, Kind kind) {
    Probe p(std::string(form.name) + ", " + std::string(machine::name_of(kind)), kind,
            machine::hex(form.code));
    constexpr u64 osfxsr = 1u << 9;
    p.state.cr4 |= osfxsr;
    p.state.gpr[abi::rsi] = is_string_source(form.name) ? form.at : machine::data;
    p.state.gpr[abi::rdi] = is_string_source(form.name) ? machine::data : form.at;
    p.state.gpr[abi::rax] = 0; // the bit of BTS is the first
    return p;
}

// What the violation says. A read-modify-write is a write under VMX, and whether it is a read, too, is left
// open; under SVM, which of its two accesses comes first.
Due violated(const Probe& p, u64 access, u64 gpa, bool vmx) {
    const bool modifies = access == (read | write);
    if (vmx) {
        constexpr u64 rights = 0x38, linear_valid = 0x80, of_the_access = 0x100, known = 7 | rights;
        const u64 mask = (known | linear_valid | of_the_access) & ~(modifies ? read : 0);
        Due due = exits(p, vmx_violation, Bits{access | linear_valid | of_the_access, mask});
        due.length = std::nullopt;
        due.linear = due.physical = gpa;
        return due;
    }
    constexpr u64 svm_write = 2, user = 4, final = u64{1} << 32, known = 0x1f | u64{3} << 32;
    Due due = exits(
        p, svm_violation,
        Bits{((access & write) != 0 ? svm_write : 0) | user | final, known & ~(modifies ? svm_write : 0)});
    due.info = Bits{gpa};
    due.length = std::nullopt;
    return due;
}

} // namespace

TEST_F(ExitTable, accesses_to_memory_that_is_not_there_say_which) {
    const Section section{"SDM 3C 28.2.1, 29.3.3.2", "APM 2 15.25.6"};
    claim(section, [&] {
        Prober prober(host());
        prober.protect(device, 1, 0);
        std::vector<Row> rows;
        for (const Kind kind : {Kind::paged32, Kind::pae, Kind::compat32, Kind::long64, Kind::long64_user}) {
            if (!prober.offers(kind)) {
                continue;
            }
            for (const Form& form : forms) {
                const std::string name = form.name;
                const bool privileged = name == "LGDT";
                if ((form.only_64 && !machine::is_64(kind)) || (privileged && machine::is_user(kind))) {
                    continue;
                }
                Probe p = probe_of(form, kind);
                Due due = violated(p, form.access, form.at, on_vmx());
                if (form.parts) {
                    due.linear = due.physical = std::nullopt;
                    due.info = on_vmx() ? std::nullopt : std::optional(Bits{device, ~u64{0xfff}});
                }
                rows.push_back({std::move(p), due});
            }
        }
        hold_rows(prober, std::move(rows), section_of(section));
    });
}

// Of an access that begins on a page that is mapped, the first byte that is not is named; one that ends just
// in front of it goes on.
TEST_F(ExitTable, accesses_across_the_end_of_memory_name_its_first_byte) {
    const Section section{"SDM 3C 28.2.1, 29.3.3.2", "APM 2 15.25.6"};
    claim(section, [&] {
        Prober prober(host());
        prober.protect(device, 1, 0);
        struct Across {
            const char* code;
            u64 access, size;
        };
        std::vector<Row> rows;
        for (const Kind kind : {Kind::paged32, Kind::long64}) {
            if (!prober.offers(kind)) {
                continue;
            }
            for (const Across& a :
                 {Across{"66 8b 07", read, 2}, Across{"8b 07", read, 4}, Across{"66 89 07", write, 2},
                  Across{"89 07", write, 4}, Across{"0f 10 07", read, 16}, Across{"0f 11 07", write, 16}}) {
                for (u64 before = 1; before <= a.size; ++before) {
                    std::ostringstream name;
                    name << a.code << ", " << a.size << " bytes, " << before << " of them there, "
                         << machine::name_of(kind);
                    Probe p(name.str(), kind, machine::hex(a.code));
                    p.state.cr4 |= 1u << 9;
                    p.state.gpr[abi::rdi] = device - before;
                    p.state.gpr[abi::rax] = 0;
                    Due due = before == a.size ? runs(p, on_vmx()) : violated(p, a.access, device, on_vmx());
                    if (before == a.size && a.access == read) {
                        due.registers = false; // what was loaded
                    }
                    rows.push_back({std::move(p), due});
                }
            }
        }
        hold_rows(prober, std::move(rows), section_of(section));
    });
}

// The string instruction that comes to the device amid its iterations exits there, with the iterations before
// it done.
TEST_F(ExitTable, repeated_accesses_exit_at_the_iteration_that_is_not_there) {
    const Section section{"SDM 2 REP; SDM 3C 29.3.3.2", "APM 3 REP; APM 2 15.25.6"};
    claim(section, [&] {
        Prober prober(host());
        prober.protect(device, 1, 0);
        struct Repeat {
            const char* name;
            const char* code;
            u64 access;
            i64 rsi, rdi; // by how much each iteration moves them
        };
        std::vector<Row> rows;
        for (const Repeat& s :
             {Repeat{"REP STOSD", "f3 ab", write, 0, 4}, Repeat{"REP LODSD", "f3 ad", read, 4, 0},
              Repeat{"REP MOVSD to it", "f3 a5", write, 4, 4}, Repeat{"REP STOSB", "f3 aa", write, 0, 1}}) {
            for (const u64 before : {0, 1, 3}) {
                Probe p(std::string(s.name) + ", " + std::to_string(before) + " before", Kind::long64,
                        machine::hex(s.code));
                const bool to = s.access == write;
                const u64 start = device - before * static_cast<u64>(to ? s.rdi : s.rsi);
                p.state.gpr[abi::rcx] = 8;
                p.state.gpr[abi::rax] = 0;
                p.state.gpr[abi::rsi] = to ? machine::data : start;
                p.state.gpr[abi::rdi] = to ? start : machine::data;
                p.memory.push_back({device - 16, std::vector<u8>(16)});
                Due due = violated(p, s.access, device, on_vmx());
                due.state.gpr[abi::rcx] -= before;
                due.state.gpr[abi::rsi] += before * static_cast<u64>(s.rsi);
                due.state.gpr[abi::rdi] += before * static_cast<u64>(s.rdi);
                rows.push_back({std::move(p), due});
            }
        }
        hold_rows(prober, std::move(rows), section_of(section));
    });
}

} // namespace refhv::front
