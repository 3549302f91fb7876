// SPDX-License-Identifier: MIT
// Task switches from every source, and the faults that come before them; events whose delivery exits, with
// what was being delivered. VMX: SDM 3C 26.4.2, 28.2.1 table 28-2, 28.2.4. SVM: APM 2 15.14.1, 15.7.2.
#include "conformance/exit/table/case.hpp"

namespace refhv::front {

using machine::Kind;
namespace {

enum class Source : u8 {
    call,
    iret,
    jmp,
    gate
};

constexpr u16 absent_task = 0x80, short_task = 0x88, own_task = 0x90;
constexpr u8 vector = 0x41;
constexpr u64 nt = 1u << 14, interrupt_flag = 1u << 9;

std::vector<u8> far(u8 opcode, u16 selector) {
    return {opcode, 0, 0, 0, 0, static_cast<u8>(selector), static_cast<u8>(selector >> 8)};
}
constexpr u8 call = 0x9a, jmp = 0xea;

Due switches(const Probe& p, bool vmx, Source source, u16 selector, std::optional<u32> error = {}) {
    Due due{.raw = vmx ? 9u : 0x7du, .state = p.state};
    if (vmx) {
        due.qualification = Bits{u64{selector} | static_cast<u64>(source) << 30};
        return due;
    }
    constexpr u64 by_iret = u64{1} << 36, by_jmp = u64{1} << 38, has_error = u64{1} << 44;
    due.qualification = Bits{selector, 0xffff};
    const u64 flags = (source == Source::iret ? by_iret : 0) | (source == Source::jmp ? by_jmp : 0) |
                      (error ? has_error | *error : 0);
    due.info = Bits{flags, by_iret | by_jmp | has_error | (error ? 0xffff'ffff : 0)};
    return due;
}

Probe probe_of(const char* name, Kind kind, std::vector<u8> code, bool vmx, Prober& prober) {
    Probe p(std::string(machine::name_of(kind)) + ": " + name, kind, std::move(code));
    p.state.gdtr.limit = own_task + 7;
    if (!vmx) {
        p.set(vmcb::intercept_1, prober.base(vmcb::intercept_1) | svm::intercept_1::task_switch);
    }
    return p;
}

void write_descriptors(Prober& prober) {
    prober.write(machine::gdt + absent_task,
                 machine::bytes_of(machine::descriptor(machine::other_tss, 0x67, 0x69)));
    prober.write(machine::gdt + short_task,
                 machine::bytes_of(machine::descriptor(machine::other_tss, 0x66, 0xe9)));
    prober.write(machine::gdt + own_task,
                 machine::bytes_of(machine::descriptor(machine::other_tss, 0x67, 0x89)));
    // The back link of the task that runs, for IRET.
    prober.write(machine::tss, machine::bytes_of(machine::busy_task));
    for (const u8 v : {vector, u8{3}, u8{6}, u8{13}}) {
        prober.write(machine::idt32 + 8 * v,
                     machine::bytes_of(machine::gate32(machine::other_task, 0, 0xe5)));
    }
}

} // namespace

TEST_F(ExitTable, task_switches_exit_from_every_source) {
    const Section section{"SDM 3C 26.4.2, table 28-2, 28.2.4", "APM 2 15.14.1, 15.7.2"};
    claim(section, [&] {
        Prober prober(host(), 0);
        const bool vmx = on_vmx();
        write_descriptors(prober);
        std::vector<Row> rows;
        const auto add = [&](Probe p, Due due, std::optional<u64> length,
                             std::optional<u64> delivering = {}) {
            due.length = length;
            if (delivering) { // SVM's of INT n: exits_in_a_delivery_tell_the_event
                const bool of_int_n = (*delivering >> 8 & 7) == 4;
                due.vectoring = Bits{*delivering, !vmx && of_int_n ? 0 : ~u64{0}};
            }
            due.state = p.state;
            rows.push_back({std::move(p), due});
        };
        for (const Kind kind : {Kind::paged32, Kind::paged32_user, Kind::pae}) {
            for (const u16 selector : {machine::other_task, machine::task_gate}) {
                Probe p = probe_of("JMP", kind, far(jmp, selector), vmx, prober);
                add(p, switches(p, vmx, Source::jmp, machine::other_task), 7);
                p = probe_of("CALL", kind, far(call, selector), vmx, prober);
                add(p, switches(p, vmx, Source::call, machine::other_task), 7);
            }
            Probe p = probe_of("IRET with NT", kind, {0xcf}, vmx, prober);
            p.state.rflags |= nt;
            add(p, switches(p, vmx, Source::iret, machine::busy_task), 1);
            p = probe_of("INT n through a task gate", kind, {0xcd, vector}, vmx, prober);
            add(p, switches(p, vmx, Source::gate, machine::other_task), 2, 0x8000'0400u | vector);
            p = probe_of("INT3 through a task gate", kind, {0xcc}, vmx, prober);
            add(p, switches(p, vmx, Source::gate, machine::other_task), 1,
                (vmx ? 0x8000'0600u : 0x8000'0300u) | 3);
            p = probe_of("#UD through a task gate", kind, {0x0f, 0x0b}, vmx, prober);
            add(p, switches(p, vmx, Source::gate, machine::other_task), {}, 0x8000'0306);
            p = probe_of("#GP through a task gate", kind, {0xcd, 0xff}, vmx, prober);
            p.state.idtr.limit = 0x3ff;
            constexpr u32 error = 0xff * 8 + 2;
            add(p, switches(p, vmx, Source::gate, machine::other_task, error), {},
                0x8000'0b0d | u64{error} << 32);
            p = probe_of("injected interrupt through a task gate", kind, {0x90}, vmx, prober);
            p.state.rflags |= interrupt_flag;
            if (vmx) {
                p.set(vmcs::entry_interruption_info, 0x8000'0000u | vector);
            } else {
                p.set(vmcb::event_injection, 0x8000'0000u | vector, 8);
            }
            add(p, switches(p, vmx, Source::gate, machine::other_task), {}, 0x8000'0000u | vector);
        }
        hold_rows(prober, rows, section_of(section));
    });
}

TEST_F(ExitTable, task_switches_exit_behind_the_checks_of_the_descriptor) {
    const Section section{"SDM 3C 26.4.2", "APM 2 15.14.1, 12.3"};
    claim(section, [&] {
        Prober prober(host());
        const bool vmx = on_vmx();
        write_descriptors(prober);
        constexpr u8 ts = 10, np = 11, gp = 13;
        std::vector<Row> rows;
        const auto add = [&](const char* name, Kind kind, std::vector<u8> code, u8 fault, u32 error,
                             u64 flags = 0) {
            Probe p = probe_of(name, kind, std::move(code), vmx, prober);
            p.state.rflags |= flags;
            const Due due = faults(p, vmx, fault, error);
            rows.push_back({std::move(p), due});
        };
        for (const u8 op : {jmp, call}) {
            add("far transfer to a busy TSS", Kind::paged32, far(op, machine::busy_task), gp,
                machine::busy_task);
            add("far transfer to an absent TSS", Kind::paged32, far(op, absent_task), np, absent_task);
            add("far transfer beyond the GDT", Kind::paged32, far(op, 0x1000), gp, 0x1000);
            add("far transfer to a TSS of CPL 0", Kind::paged32_user, far(op, own_task), gp, own_task);
            add("far transfer to a TSS", Kind::compat32, far(op, machine::other_task), gp,
                machine::other_task);
            add("far transfer to a task gate", Kind::compat32, far(op, machine::task_gate), gp,
                machine::task_gate);
            add("far transfer to a TSS that is too short", Kind::paged32, far(op, short_task), ts,
                short_task);
        }
        add("IRET with NT", Kind::compat32, {0xcf}, gp, 0, nt);
        hold_rows(prober, rows, section_of(section));
    });
}

// The IDT lies where the nested tables map nothing, so that the delivery of every event exits.
TEST_F(ExitTable, exits_in_a_delivery_tell_the_event) {
    const Section section{"SDM 3C 28.2.4, 28.2.5", "APM 2 15.7.2"};
    claim(section, [&] {
        Prober prober(host(), 0);
        const bool vmx = on_vmx();
        constexpr u64 hidden = 0x50000;
        prober.protect(hidden, 1, 0);
        std::vector<Row> rows;
        struct Event {
            const char* name;
            const char* code;
            u8 vector;
            u64 vmx_type, svm_type; // none: not for this vendor
            std::optional<u64> length;
            bool injected = false;
            std::optional<u32> error{};
            bool in_64 = true;
        };
        constexpr u64 none = 9;
        const Event events[] = {{"INT 40H", "cd 40", 0x40, 4, 4, 2},
                                {"INT3", "cc", 3, 6, 3, 1},
                                {"INTO", "ce", 4, 6, 3, 1, false, {}, false},
                                {"INT1", "f1", 1, 5, none, 1},
                                {"UD2", "0f 0b", 6, 3, 3, {}},
                                {"external interrupt, injected", "90", 0x40, 0, 0, {}, true},
                                {"NMI, injected", "90", 2, 2, 2, {}, true},
                                {"#GP, injected", "90", 13, 3, 3, {}, true, 0x5678},
                                {"INT 42H, injected", "90", 0x42, 4, none, 3, true}};
        for (const Kind kind : {Kind::real, Kind::paged32, Kind::pae, Kind::compat32, Kind::long64}) {
            for (const Event& e : events) {
                const u64 type = vmx ? e.vmx_type : e.svm_type;
                if (type == none || (!e.in_64 && machine::is_64(kind)) || !prober.offers(kind)) {
                    continue;
                }
                Probe p(std::string(machine::name_of(kind)) + ": " + e.name, kind, machine::hex(e.code));
                p.state.rflags |= interrupt_flag | 1u << 11; // OF
                p.state.idtr.base = hidden + 0x100;
                const bool has_error = e.error && kind != Kind::real;
                const u64 info = 0x8000'0000u | (has_error ? 0x800u : 0u) | type << 8 | e.vector;
                const u64 error = has_error ? *e.error : 0;
                if (e.injected && vmx) {
                    p.set(vmcs::entry_interruption_info, info);
                    p.set(vmcs::entry_exception_error, error);
                    p.set(vmcs::entry_length, e.length.value_or(0));
                } else if (e.injected) {
                    p.set(vmcb::event_injection, info | error << 32, 8);
                }
                const u32 entry = machine::is_real(kind) ? 4 : machine::is_long(kind) ? 16 : 8;
                const u64 linear = hidden + 0x100 + u64{entry} * e.vector;
                Due due{.raw = vmx ? 48u : 0x400u, .length = e.length, .state = p.state};
                due.vectoring = Bits{info | error << 32, has_error ? ~u64{0} : 0xffff'ffff};
                if (vmx) { // a processor may read the entry whole or in parts
                    due.qualification = Bits{0x181, 0x1bf};
                } else {
                    due.info = Bits{linear & ~u64{0xf}, ~u64{0xf}};
                }
                rows.push_back({std::move(p), due});
            }
        }
        hold_rows(prober, rows, section_of(section));
    });
}

} // namespace refhv::front
