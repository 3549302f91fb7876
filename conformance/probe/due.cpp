// SPDX-License-Identifier: MIT
#include "conformance/probe/due.hpp"

#include "refhv/x86/exceptions.hpp"

namespace refhv::front {

void hold_state(Differences& f, const std::string& name, const abi::GuestState& got, const Due& d) {
    static constexpr const char* gprs[] = {"RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI",
                                           "R8",  "R9",  "R10", "R11", "R12", "R13", "R14", "R15"};
    static constexpr const char* bases[] = {"ES base", "CS base", "SS base",   "DS base",
                                            "FS base", "GS base", "LDTR base", "TR base"};
    static constexpr const char* limits[] = {"ES limit", "CS limit", "SS limit",   "DS limit",
                                             "FS limit", "GS limit", "LDTR limit", "TR limit"};
    static constexpr const char* rights[] = {"ES rights", "CS rights", "SS rights",   "DS rights",
                                             "FS rights", "GS rights", "LDTR rights", "TR rights"};
    static constexpr const char* selectors[] = {"ES", "CS", "SS", "DS", "FS", "GS", "LDTR", "TR"};
    const abi::GuestState& due = d.state;
    f.expect(name, "RIP", got.rip, due.rip);
    f.expect(name, "RFLAGS", got.rflags & d.rflags_mask, due.rflags & d.rflags_mask);
    for (unsigned i = 0; d.registers && i < 16; ++i) {
        f.expect(name, gprs[i], got.gpr[i], due.gpr[i]);
    }
    for (unsigned i = 0; d.segments && i < 8; ++i) {
        const bool usable = (due.segment[i].rights & machine::unusable) == 0;
        f.expect(name, selectors[i], got.segment[i].selector, due.segment[i].selector);
        if (d.rights) {
            f.expect(name, rights[i], got.segment[i].rights, due.segment[i].rights);
        }
        if (usable) {
            f.expect(name, bases[i], got.segment[i].base, due.segment[i].base);
            f.expect(name, limits[i], got.segment[i].limit, due.segment[i].limit);
        }
    }
    if (d.control) {
        f.expect(name, "CR0", got.cr0, due.cr0);
        f.expect(name, "CR2", got.cr2, due.cr2);
        f.expect(name, "CR3", got.cr3, due.cr3);
        f.expect(name, "CR4", got.cr4, due.cr4);
        f.expect(name, "CR8", got.cr8, due.cr8);
        f.expect(name, "EFER", got.efer, due.efer);
        f.expect(name, "DR7", got.dr7, due.dr7);
        f.expect(name, "GDTR base", got.gdtr.base, due.gdtr.base);
        f.expect(name, "GDTR limit", got.gdtr.limit, due.gdtr.limit);
        f.expect(name, "IDTR base", got.idtr.base, due.idtr.base);
        f.expect(name, "IDTR limit", got.idtr.limit, due.idtr.limit);
        f.expect(name, "DR6", got.dr6, due.dr6);
        f.expect(name, "PAT", got.pat, due.pat);
        f.expect(name, "STAR", got.star, due.star);
        f.expect(name, "LSTAR", got.lstar, due.lstar);
        f.expect(name, "CSTAR", got.cstar, due.cstar);
        f.expect(name, "SFMASK", got.sfmask, due.sfmask);
        f.expect(name, "KernelGSBase", got.kernel_gs_base, due.kernel_gs_base);
        f.expect(name, "SYSENTER_CS", got.sysenter_cs, due.sysenter_cs);
        f.expect(name, "SYSENTER_ESP", got.sysenter_esp, due.sysenter_esp);
        f.expect(name, "SYSENTER_EIP", got.sysenter_eip, due.sysenter_eip);
    }
}

std::pair<u64, u64> extent_of(const std::vector<Slot>& slots) {
    if (slots.empty()) {
        return {0, 0};
    }
    u64 first = ~u64{0}, end = 0;
    for (const Slot& s : slots) {
        first = std::min(first, s.gpa);
        end = std::max(end, s.gpa + s.width);
    }
    return {first, end};
}

void hold_slots(Differences& f, const Probe& probe, const ProbeResult& r, const Due& due) {
    const u64 first = extent_of(due.slots).first;
    for (const Slot& s : due.slots) {
        u64 got = 0;
        __builtin_memcpy(&got, &r.memory.at(probe.read_back.size()).at(s.gpa - first), s.width);
        const u64 width = s.width == 8 ? ~u64{0} : (u64{1} << 8 * s.width) - 1;
        f.expect(probe.name, s.name, got & s.mask & width, s.value & s.mask & width);
    }
}

void hold_fields(Differences& f, const Probe& probe, const ProbeResult& r, const Due& due) {
    for (usize i = 0; i < due.fields.size(); ++i) {
        std::ostringstream name;
        name << "field " << std::hex << probe.read_fields[i].field << "H";
        f.expect(probe.name, name.str().c_str(), r.fields.at(i), due.fields[i]);
    }
}

void hold(Differences& f, const std::string& name, const ProbeResult& r, const Due& due, bool on_vmx,
          bool has_next_rip) {
    if (r.outcome != abi::Outcome::exited) {
        std::ostringstream text;
        text << name << ": ended as " << client::name_of(r.outcome);
        if (r.outcome == abi::Outcome::entry_refused) {
            text << ", VM-instruction error " << r.reply.refusal.instruction_error << ", entry failure "
                 << r.reply.refusal.entry_failure << ", qualification " << r.reply.refusal.qualification;
        }
        f.add(text.str());
        return;
    }
    const abi::Exit& x = r.exit();
    if (x.raw_reason != due.raw) {
        std::ostringstream text;
        text << name << ": " << (on_vmx ? "exit reason " : "EXITCODE ") << std::hex << x.raw_reason
             << "H where " << due.raw << "H is due; qualification " << x.qualification << "H, interruption "
             << x.interruption_info << "H, RIP " << r.state().rip << "H";
        f.add(text.str());
        return;
    }
    const auto bits = [&](const char* field, u64 got, const std::optional<Bits>& b) {
        if (b) {
            f.expect(name, field, got & b->mask, b->value & b->mask);
        }
    };
    bits(on_vmx ? "exit qualification" : "EXITINFO1", x.qualification, due.qualification);
    bits(on_vmx ? "instruction information" : "EXITINFO2", x.info, due.info);
    constexpr u64 valid = 1u << 31;
    bits(on_vmx ? "IDT-vectoring information" : "EXITINTINFO", x.vectoring,
         due.vectoring ? due.vectoring : Bits{0, valid});
    if (due.length && (on_vmx || has_next_rip)) {
        f.expect(name, on_vmx ? "instruction length" : "nRIP - RIP", x.instruction_length, *due.length);
    }
    if (on_vmx) {
        bits("interruption information", x.interruption_info,
             due.interruption ? due.interruption : Bits{0, valid});
        if (due.error) {
            f.expect(name, "interruption error code", x.interruption_error, *due.error);
        }
        if (due.linear) {
            f.expect(name, "guest-linear address", x.guest_linear, *due.linear);
        }
        if (due.physical) {
            f.expect(name, "guest-physical address", x.guest_physical, *due.physical);
        }
    }
    f.expect(name, "HostState bits that changed", r.reply.host_changed, 0);
    hold_state(f, name, r.state(), due);
}

Due runs(const Probe& probe, bool on_vmx) {
    constexpr u8 general_protection = 13; // of HLT at CPL 3
    const bool user = machine::is_user(probe.kind);
    Due due{.raw = user ? exception_exit(on_vmx, general_protection) : hlt_exit(on_vmx),
            .state = probe.state};
    if (user && on_vmx) {
        due.interruption = Bits{0x8000'0b0d};
    }
    due.state.rip += probe.length();
    return due;
}

Due exits(const Probe& probe, u64 raw, std::optional<Bits> qualification) {
    return {.raw = raw, .qualification = qualification, .length = probe.length(), .state = probe.state};
}

Due faults(const Probe& probe, bool on_vmx, u8 vector, u32 error) {
    Due due{.raw = exception_exit(on_vmx, vector), .state = probe.state};
    const bool real = (probe.state.cr0 & 1) == 0;
    const bool has_error = x86::has_error_code(vector) && !real;
    if (on_vmx) {
        due.interruption = Bits{0x8000'0300u | vector | (has_error ? 0x800u : 0u)};
        due.error = has_error ? std::optional<u64>(error) : std::nullopt;
    } else if (has_error) {
        due.qualification = Bits{error};
    }
    return due;
}

} // namespace refhv::front
