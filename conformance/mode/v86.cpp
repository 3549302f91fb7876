// SPDX-License-Identifier: MIT
// Virtual-8086 mode.
#include "conformance/mode/case.hpp"
#include "conformance/probe/controls.hpp"
#include "conformance/probe/delivery.hpp"

namespace refhv::front {

using machine::Kind;

namespace {

constexpr u8 vector = 0x40;
constexpr u64 iopl3 = 3u << 12, interrupt_flag = 1u << 9, virtual_interrupt_flag = 1u << 19, vme = 1;

// How the guest has it: SDM 3A table 21-2.
struct Redirection {
    u64 iopl, vif, interrupt;
    bool vme, bit; // of the redirection bitmap: 1 is protected mode
};

Probe probe_of(const Redirection& r, bool injected) {
    Probe p(std::string(injected ? "injected INT 40H" : "INT 40H") + ", IOPL " +
                std::to_string(r.iopl >> 12) + (r.vme ? ", VME" : "") +
                (r.bit ? ", bit set" : ", bit clear") + (r.vif != 0 ? ", VIF" : ""),
            Kind::v86, machine::hex(injected ? "90" : "cd 40"));
    p.state.rflags = (p.state.rflags & ~iopl3) | r.iopl | r.vif | r.interrupt;
    p.state.cr4 |= r.vme ? vme : 0;
    p.memory = gate_of(Kind::v86, vector, Gate::interrupt, 3);
    p.memory.push_back(
        {machine::tss + machine::redirection_bitmap + vector / 8, {static_cast<u8>(r.bit ? 1 : 0)}});
    if (injected) {
        p.set(vmcs::entry_interruption_info, 0x8000'0400u | vector);
        p.set(vmcs::entry_length, 2);
    }
    return p;
}

// The handler of the 8086 program, which its HLT ends by #GP.
Due redirected(const Probe& p, const Redirection& r, bool vmx) {
    Due due = faults(p, vmx, 13);
    const bool low = r.iopl != iopl3;
    const u64 image =
        low ? (p.state.rflags & ~(iopl3 | interrupt_flag)) | iopl3 | (r.vif != 0 ? interrupt_flag : 0)
            : p.state.rflags;
    const u64 top = p.state.segment[abi::ss].base + p.state.gpr[abi::rsp];
    due.slots = {{"FLAGS in the frame", top - 2, 2, image},
                 {"CS in the frame", top - 4, 2, p.state.segment[abi::cs].selector},
                 {"IP in the frame", top - 6, 2, p.state.rip + 2}};
    due.state.gpr[abi::rsp] -= 6;
    due.state.rip = 4 * vector;
    due.state.segment[abi::cs].selector = machine::real_handlers;
    due.state.segment[abi::cs].base = u64{machine::real_handlers} << 4;
    due.state.rflags &= ~(low ? virtual_interrupt_flag : interrupt_flag);
    return due;
}

} // namespace

TEST_F(GuestMode, vmx_v86_state_is_saved_as_it_was_loaded) {
    claim({.sdm = "SDM 3C 28.3.2"}, [&] {
        Prober prober(host());
        hold_state_of({Kind::v86}, prober);
    });
}

TEST_F(GuestMode, vmx_v86_instructions_exit_or_fault) {
    claim({.sdm = "SDM 3C 26.1.1, 26.1.3"}, [&] {
        Prober prober(host());
        hold_instructions({Kind::v86}, prober, "");
        hold_violations({Kind::v86}, prober);
    });
}

// One claim, because a Bochs that emulates SVM ends with the first of these guests that exits in its mode.
TEST_F(GuestMode, svm_v86_guests_exit) {
    claim({.apm = "APM 2 15.5.1, 15.6, 15.9, 8.9.4"}, [&] {
        Prober prober(host());
        hold_state_of({Kind::v86}, prober);
        hold_instructions({Kind::v86}, prober, "");
        hold_violations({Kind::v86}, prober);
        hold_iopl(prober);
        hold_redirections(prober, false);
    });
}

TEST_F(GuestMode, v86_svm_instructions_are_invalid) {
    claim({.apm = "APM 3, VMRUN to INVLPGA; APM 2 15.9"}, [&] {
        Prober prober(host());
        hold_instructions({Kind::v86}, prober, "svm");
    });
}

TEST_F(GuestMode, v86_events_go_to_ring_0) {
    claim({"SDM 3C 27.6.1; SDM 3A 21.3.1", "APM 2 8.9.4, 15.20"}, [&] {
        Prober prober(host(), 0);
        hold_deliveries({Kind::v86}, prober);
        hold_short_tables({Kind::v86}, prober);
        hold_injections({Kind::v86}, prober, false);
    });
}

void GuestMode::hold_redirections(Prober& prober, bool injected) {
    const bool vmx = on_vmx(), has_vme = (cpuid(hello(), 1, 0, 3) >> 1 & 1) != 0;
    std::vector<Row> rows;
    for (unsigned n = 0; n < 32; ++n) {
        const Redirection r{.iopl = (n & 1) != 0    ? iopl3
                                    : (n & 16) != 0 ? iopl3 / 3 * 2
                                                    : 0,
                            .vif = (n & 2) != 0 ? virtual_interrupt_flag : 0,
                            .interrupt = (n & 1) != 0 ? interrupt_flag : 0,
                            .vme = (n & 4) != 0,
                            .bit = (n & 8) != 0};
        if (r.vme && !has_vme) {
            continue;
        }
        Probe p = probe_of(r, injected);
        const bool to_program = r.vme && !r.bit;
        // An injected one is not checked against IOPL.
        const bool refused = !to_program && r.iopl != iopl3 && !injected;
        Due due = to_program ? redirected(p, r, vmx)
                  : refused  ? faults(p, vmx, 13)
                             : delivered(p, {.vector = vector, .rip = p.state.rip + 2}, vmx);
        if (refused) {
            due.vectoring = Bits{0, 0}; // a claim of its own
        }
        rows.push_back({std::move(p), due});
    }
    hold_rows(prober, rows, on_vmx() ? "SDM 3A 21.3.3, table 21-2; SDM 3C 27.6.1" : "APM 2 8.9.5, 8.10");
}

// What depends on IOPL there: #GP below 3.
void GuestMode::hold_iopl(Prober& prober) {
    const bool vmx = on_vmx();
    std::vector<Row> rows;
    for (const char* const code : {"fa", "fb", "9c", "9d", "cf", "66 9c", "66 cf"}) {
        for (const u64 iopl : {u64{0}, u64{1} << 12, u64{2} << 12}) {
            Probe p(std::string("code ") + code + ", IOPL " + std::to_string(iopl >> 12), Kind::v86,
                    machine::hex(code));
            p.state.rflags = (p.state.rflags & ~iopl3) | iopl;
            const Due due = faults(p, vmx, 13);
            rows.push_back({std::move(p), due});
        }
    }
    hold_rows(prober, rows, vmx ? "SDM 3A 21.2.7" : "APM 2 8.9.4");
}

TEST_F(GuestMode, vmx_v86_software_interrupts_are_redirected) {
    claim({.sdm = "SDM 3A 21.3.3, table 21-2"}, [&] {
        Prober prober(host());
        hold_redirections(prober, false);
    });
}

// IOPL causes no #GP then.
TEST_F(GuestMode, vmx_v86_injected_software_interrupts_ignore_iopl) {
    claim({.sdm = "SDM 3C 27.6.1"}, [&] {
        Prober prober(host());
        hold_redirections(prober, true);
    });
}

TEST_F(GuestMode, vmx_v86_instructions_that_depend_on_iopl_are_gp) {
    claim({.sdm = "SDM 3A 21.2.7"}, [&] {
        Prober prober(host());
        hold_iopl(prober);
    });
}

// It comes before there is anything to deliver.
TEST_F(GuestMode, vmx_v86_gp_of_int_n_is_in_no_delivery) {
    claim({.sdm = "SDM 3C 28.2.4; SDM 3A 21.3.3"}, [&] {
        Prober prober(host());
        Probe p = probe_of({.iopl = 0, .vif = 0, .interrupt = 0, .vme = false, .bit = false}, false);
        const Due due = faults(p, true, 13);
        hold_rows(prober, {{std::move(p), due}}, "SDM 3C 28.2.4");
    });
}

// VMX does not look at IOPL then.
TEST_F(GuestMode, v86_injected_software_events_push_the_next_ip) {
    claim({"SDM 3C 27.6.1", "APM 2 15.20"}, [&] {
        if (on_svm() && !has_next_rip()) {
            GTEST_SKIP() << "no NRIPS, so that software interrupts cannot be injected";
        }
        Prober prober(host(), 0);
        hold_injections({Kind::v86}, prober, true);
    });
}

} // namespace refhv::front
