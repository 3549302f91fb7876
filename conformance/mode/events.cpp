// SPDX-License-Identifier: MIT
// Events in every mode, of the guest's own making and injected: the frame, the handler, RFLAGS, segments;
// through the IVT, and through gates of 16, 32 and 64 bits. VMX: SDM 3C 27.6.1; SDM 3A 6.12, 21.1.4. SVM: APM
// 2 15.20, 8.7 to 8.9.
#include "conformance/mode/case.hpp"
#include "conformance/probe/controls.hpp"
#include "conformance/probe/delivery.hpp"

namespace refhv::front {

using machine::Kind;

namespace {

const Section guests{"SDM 3A 6.12, 6.13, 6.14, 21.1.4", "APM 2 8.7, 8.8, 8.9"};
const Section injections{"SDM 3C 27.6.1", "APM 2 15.20"};

constexpr u8 vector = 0x40;                   // of software interrupts and external ones
constexpr u64 flags = 1u << 14 | 1u << 9 | 1; // NT, IF, CF

constexpr Gate gates[] = {Gate::interrupt, Gate::trap, Gate::interrupt16, Gate::trap16};

// Gates of 16 bits are not for long mode, and real mode has none.
std::vector<Gate> gates_of(Kind kind) {
    return machine::is_real(kind)   ? std::vector{Gate::interrupt}
           : machine::is_long(kind) ? std::vector{Gate::interrupt, Gate::trap}
                                    : std::vector(std::begin(gates), std::end(gates));
}

std::string with(const char* what, Gate gate) {
    constexpr const char* names[] = {"", ", trap gate", ", 16-bit gate", ", 16-bit trap gate"};
    return std::string(what) + names[static_cast<usize>(gate)];
}

Probe probe_of(Kind kind, const std::string& name, const char* code, Gate gate, u8 v) {
    Probe p(named(kind, name), kind, machine::hex(code));
    p.state.rflags |= kind == Kind::v86 ? flags & ~(u64{1} << 14) : flags;
    p.memory = gate_of(kind, v, gate, 3);
    return p;
}

struct Injection {
    const char* name;
    u32 type; // SDM 3C table 25-17; APM 2 table 15-11
    u8 vector;
    bool vmx, svm;
    std::optional<u32> error{};
    u64 length = 0; // of an instruction that the event takes the place of
    bool sixteen = true;
};

constexpr Injection injected[] = {
    {"external interrupt", 0, vector, true, true},
    {"NMI", 2, 2, true, true},
    {"#UD", 3, 6, true, true},
    {"#GP", 3, 13, true, true, 0x1234},
    {"#PF", 3, 14, true, true, 7},
    {"#DE", 3, 0, true, true},
    {"INT n", 4, vector, true, true, {}, 2},
    {"INT n, prefixed", 4, vector, true, true, {}, 15},
    {"INT1", 5, 1, true, false, {}, 1},
    {"INT3", 6, 3, true, false, {}, 1},
    {"INTO", 6, 4, true, false, {}, 1},
};

// The raw fields that inject it.
void inject(Probe& p, const Injection& i, std::optional<u32> error, bool vmx) {
    const u64 info = u64{1} << 31 | (error ? 0x800u : 0u) | i.type << 8 | i.vector;
    if (vmx) {
        p.set(vmcs::entry_interruption_info, info);
        p.set(vmcs::entry_exception_error, error.value_or(0));
        p.set(vmcs::entry_length, i.length);
    } else {
        p.set(vmcb::event_injection, info | u64{error.value_or(0)} << 32, 8);
        p.set(vmcb::next_rip, p.state.rip + i.length, 8);
    }
}

} // namespace

void GuestMode::hold_deliveries(const std::vector<Kind>& modes, Prober& prober) {
    const bool vmx = on_vmx();
    std::vector<Row> rows;
    for (const Kind kind : modes) {
        for (const Gate gate : gates_of(kind)) {
            Probe software = probe_of(kind, with("INT 40H", gate), "cd 40", gate, vector);
            Due due =
                delivered(software, {.vector = vector, .rip = software.state.rip + 2, .gate = gate}, vmx);
            rows.push_back({std::move(software), due});
        }
        Probe int3 = probe_of(kind, "INT3", "cc", Gate::interrupt, 3);
        Due due = delivered(int3, {.vector = 3, .rip = int3.state.rip + 1}, vmx);
        rows.push_back({std::move(int3), due});
        Probe ud2 = probe_of(kind, "UD2", "0f 0b", Gate::interrupt, 6);
        due = delivered(ud2, {.vector = 6, .rip = ud2.state.rip}, vmx);
        rows.push_back({std::move(ud2), due});
        Probe divide = probe_of(kind, "DIV by 0", "f6 f1", Gate::interrupt, 0);
        divide.state.gpr[abi::rcx] = 0;
        due = delivered(divide, {.vector = 0, .rip = divide.state.rip}, vmx);
        due.rflags_mask &= ~u64{0x8d5}; // status flags are undefined behind DIV
        for (Slot& s : due.slots) {
            s.mask &=
                std::string_view(s.name).starts_with("FLAGS") || std::string_view(s.name).starts_with("flags")
                    ? ~u64{0x8d5}
                    : ~u64{0};
        }
        rows.push_back({std::move(divide), due});
    }
    hold_rows(prober, rows, section_of(guests));
}

// Beyond the limit of the IDT: #GP, whose error code real mode does not push.
void GuestMode::hold_short_tables(const std::vector<Kind>& modes, Prober& prober) {
    const bool vmx = on_vmx();
    std::vector<Row> rows;
    for (const Kind kind : modes) {
        Probe beyond = probe_of(kind, "INT 42H beyond the IDT", "cd 42", Gate::interrupt, 13);
        const u32 entry = machine::is_real(kind) ? 4 : machine::is_long(kind) ? 16 : 8;
        beyond.state.idtr.limit = entry * 0x42;
        Due due =
            delivered(beyond,
                      {.vector = 13,
                       .rip = beyond.state.rip,
                       .error = machine::is_real(kind) ? std::nullopt : std::optional<u32>(0x42 * 8 + 2)},
                      vmx);
        due.state.idtr.limit = beyond.state.idtr.limit;
        rows.push_back({std::move(beyond), due});
    }
    hold_rows(prober, rows, section_of(guests));
}

void GuestMode::hold_injections(const std::vector<Kind>& modes, Prober& prober, bool software) {
    const bool vmx = on_vmx();
    std::vector<Row> rows;
    for (const Kind kind : modes) {
        for (const Injection& i : injected) {
            const bool is_software = i.type >= 4;
            if (!(vmx ? i.vmx : i.svm) || is_software != software ||
                (kind == Kind::long64 && i.vector == 4) || (kind == Kind::long64_user && i.vector == 4)) {
                continue;
            }
            for (const Gate gate : gates_of(kind)) {
                if (gate != Gate::interrupt && i.vector != vector) {
                    continue;
                }
                Probe p = probe_of(kind, with(i.name, gate), "90", gate, i.vector);
                p.name += " injected";
                const auto error = machine::is_real(kind) ? std::nullopt : i.error;
                inject(p, i, error, vmx);
                const Delivered event{
                    .vector = i.vector, .rip = p.state.rip + i.length, .error = error, .gate = gate};
                Due due = delivered(p, event, vmx);
                rows.push_back({std::move(p), due});
            }
        }
    }
    hold_rows(prober, rows, section_of(injections));
}

TEST_F(GuestMode, guests_take_their_events_as_the_mode_has_it) {
    claim(guests, [&] {
        Prober prober(host(), 0);
        hold_deliveries(kinds(prober), prober);
    });
}

TEST_F(GuestMode, events_beyond_the_idt_are_gp) {
    claim(guests, [&] {
        Prober prober(host(), 0);
        hold_short_tables(kinds(prober), prober);
    });
}

TEST_F(GuestMode, injected_events_are_delivered_as_the_mode_has_it) {
    claim(injections, [&] {
        Prober prober(host(), 0);
        hold_injections(kinds(prober), prober, false);
    });
}

TEST_F(GuestMode, injected_software_events_push_the_next_ip) {
    claim(injections, [&] {
        if (on_svm() && !has_next_rip()) {
            GTEST_SKIP() << "no NRIPS, so that software interrupts cannot be injected";
        }
        Prober prober(host(), 0);
        hold_injections(kinds(prober), prober, true);
    });
}

// LTR leaves a busy TSS in TR, and so does every operating system.
TEST_F(GuestMode, svm_a_busy_tss_serves) {
    claim({.apm = "APM 2 15.5.1, 12.2.3"}, [&] {
        Prober prober(host(), 0);
        std::vector<Row> rows;
        for (const Kind kind : {Kind::paged32_user, Kind::long64_user}) {
            Probe p = probe_of(kind, "INT 40H on a busy TSS", "cd 40", Gate::interrupt, vector);
            constexpr u32 available_to_software = 1u << 12;
            p.state.segment[abi::tr].rights = machine::busy_tss | available_to_software;
            const Due due = delivered(p, {.vector = vector, .rip = p.state.rip + 2}, false);
            rows.push_back({std::move(p), due});
        }
        hold_rows(prober, rows, "APM 2 15.5.1, 12.2.3");
    });
}

// The IP of 16 bits wraps, SP too.
TEST_F(GuestMode, real_mode_frames_wrap_at_64_kbytes) {
    claim({"SDM 3C 27.6.1; SDM 3A 21.1.4", "APM 2 15.20, 8.6"}, [&] {
        Prober prober(host(), 0);
        if (!prober.offers(Kind::real)) {
            GTEST_SKIP() << "no unrestricted guest";
        }
        const bool vmx = on_vmx();
        std::vector<Row> rows;
        for (const u64 sp : {u64{0}, u64{0x8000}, u64{6}}) {
            Probe p = probe_of(Kind::real, "external interrupt at SP " + std::to_string(sp), "90",
                               Gate::interrupt, vector);
            p.state.gpr[abi::rsp] = sp;
            inject(p, injected[0], {}, vmx);
            Due due = delivered(p, {.vector = vector, .rip = p.state.rip}, vmx);
            rows.push_back({std::move(p), due});
        }
        if (vmx) {
            Probe p = probe_of(Kind::real, "INT n at IP FFFFH", "90", Gate::interrupt, vector);
            p.state.rip = 0xffff;
            p.code = {};
            inject(p, injected[6], {}, vmx);
            Due due = delivered(p, {.vector = vector, .rip = 1}, vmx);
            rows.push_back({std::move(p), due});
        }
        hold_rows(prober, rows, section_of(injections));
    });
}

TEST_F(GuestMode, real_mode_short_jumps_wrap_at_64_kbytes) {
    const Section section{"SDM 2A JMP", "APM 3 JMP"};
    claim(section, [&] {
        Prober prober(host());
        if (!prober.offers(Kind::real)) {
            GTEST_SKIP() << "no unrestricted guest";
        }
        Probe jump("real: JMP from FFF0H to 0010H", Kind::real, machine::hex("eb 1e"));
        jump.state.rip = 0xfff0;
        jump.memory = {{jump.state.segment[abi::cs].base + 0x10, {0xf4}}};
        Due due = runs(jump, on_vmx());
        due.state.rip = 0x10;
        hold_rows(prober, {{std::move(jump), due}}, section_of(section));
    });
}

} // namespace refhv::front
