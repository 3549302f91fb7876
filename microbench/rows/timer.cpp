// SPDX-License-Identifier: MIT
// What reading the TSC costs where it does not exit, and the VMX-preemption timer. With exits a reading is
// exit.rdtsc and exit.rdtscp, a timer of 0 exit.preemption_timer.
#include "microbench/measure/sampling.hpp"
#include "refhv/client/guest/guest.hpp"

#include <deque>

namespace refhv::bench {

using abi::Intercept;
using abi::Mode;
using abi::Reason;
using abi::Vendor;
using client::Guest;
using client::on;

namespace {

enum VmxField : u32 {
    pin_controls = 0x4000,
    proc_controls = 0x4002,
    exit_controls = 0x400c,
    secondary_controls = 0x401e,
    tsc_offset = 0x2010,
    tsc_multiplier = 0x2032,
};
constexpr u64 proc_tsc_offsetting = 1u << 3, proc2_tsc_scaling = 1u << 25, exit_save_timer = 1u << 22;
constexpr u32 vmcb_tsc_offset = 0x50, tsc_msr = 0x10;
constexpr u64 an_offset = u64{1} << 40;

// Allowed 1-settings of VMX controls (SDM 3D A.3): the upper half of the capability MSR.
bool may_set(const client::HelloInfo& hello, u32 capability, u64 bits) {
    return (front::msr(hello, capability) >> 32 & bits) == bits;
}
bool on_vmx() {
    return front::Session::get().vendor() == Vendor::vmx;
}
void change(Guest& guest, u32 field, u64 set) {
    guest.field(field, 4, guest.read_field(field, 4) | set);
}

void offset_the_tsc(Guest& guest) {
    if (on_vmx()) {
        change(guest, proc_controls, proc_tsc_offsetting);
    }
    guest.field(on_vmx() ? u32{tsc_offset} : vmcb_tsc_offset, 8, an_offset);
}

std::string no_rdtscp(const client::HelloInfo& hello) {
    return (front::cpuid(hello, 0x8000'0001, 0, 3) >> 27 & 1) != 0
               ? ""
               : "no RDTSCP: CPUID.80000001H:EDX[27] is 0";
}
std::string no_offset(const client::HelloInfo& hello) {
    return hello.fixed.vendor != static_cast<u16>(Vendor::vmx) || may_set(hello, 0x482, proc_tsc_offsetting)
               ? ""
               : "no TSC offsetting: IA32_VMX_PROCBASED_CTLS, control 3";
}
std::string no_multiplier(const client::HelloInfo& hello) {
    return may_set(hello, 0x48b, proc2_tsc_scaling) ? ""
                                                    : "no TSC scaling: IA32_VMX_PROCBASED_CTLS2, control 25";
}

std::string no_preemption_timer(const client::HelloInfo& hello) {
    return may_set(hello, 0x481, 1u << 6) ? "" : "no VMX-preemption timer: IA32_VMX_PINBASED_CTLS, control 6";
}

SAMPLED_GUEST(guest_reads_tsc, "", "", "rdtsc")
SAMPLED_GUEST(guest_reads_tscp, "", "", "rdtscp")
SAMPLED_GUEST(guest_reads_msr, "", "mov $0x10, %ecx", "rdmsr")

const Declare rdtsc{
    {.name = "timer.rdtsc", .claims_about = "rdtsc", .guest = guest_reads_tsc, .native = true, .user = true}};
const Declare rdtscp{{.name = "timer.rdtscp",
                      .claims_about = "rdtscp",
                      .guest = guest_reads_tscp,
                      .native = true,
                      .user = true,
                      .missing = no_rdtscp}};
const Declare rdmsr{{.name = "timer.rdmsr_tsc",
                     .guest = guest_reads_msr,
                     .msrs = {{.vm = 0, .msr = tsc_msr, .read = 0, .write = 1, .zero = {}}},
                     .native = true}};

constexpr const char* offset_holds = "TimerTsc.offset_is_added_to_rdtsc_and_rdtscp";
const Declare rdtsc_offset{{.name = "timer.rdtsc_offset",
                            .guest = guest_reads_tsc,
                            .build = [](Mode, Guest& guest) { offset_the_tsc(guest); },
                            .missing = no_offset,
                            .rests_on = {offset_holds}}};
const Declare rdtscp_offset{{.name = "timer.rdtscp_offset",
                             .guest = guest_reads_tscp,
                             .build = [](Mode, Guest& guest) { offset_the_tsc(guest); },
                             .missing =
                                 [](const client::HelloInfo& hello) {
                                     const std::string why = no_rdtscp(hello);
                                     return why.empty() ? no_offset(hello) : why;
                                 },
                             .rests_on = {offset_holds}}};

// So little more than 1 that the guest's stamps are still the host's ticks.
Row multiplied(const char* name, const client::SampledGuest& code) {
    constexpr u64 just_above_1 = (u64{1} << 48) + 1;
    Row row{.name = name, .guest = code, .missing = no_multiplier, .vendor = Vendor::vmx};
    row.build = [](Mode, Guest& guest) {
        offset_the_tsc(guest);
        change(guest, secondary_controls, proc2_tsc_scaling);
        guest.field(tsc_multiplier, 8, just_above_1);
    };
    row.rests_on = {offset_holds, "TimerTsc.vmx_multiplier_scales_before_the_offset"};
    return row;
}
const Declare rdtsc_multiplier{multiplied("timer.rdtsc_multiplier", guest_reads_tsc)};
const Declare rdtscp_multiplier{multiplied("timer.rdtscp_multiplier", guest_reads_tscp)};

// Likewise.
Row under_ratio(const char* name, const client::SampledGuest& code) {
    constexpr u32 tsc_ratio = 0xc000'0104;
    constexpr u64 just_above_1 = (u64{1} << 32) + 1;
    Row row{.name = name, .guest = code, .vendor = Vendor::svm};
    row.missing = [](const client::HelloInfo& hello) -> std::string {
        return (front::cpuid(hello, 0x8000'000a, 0, 3) >> 4 & 1) != 0
                   ? ""
                   : "no TSC ratio: CPUID.8000000AH:EDX[4] is 0";
    };
    row.build = [](Mode, Guest& guest) {
        offset_the_tsc(guest);
        guest.field(tsc_ratio, 8, just_above_1);
    };
    row.rests_on = {offset_holds, "TimerTsc.svm_ratio_scales_before_the_offset"};
    return row;
}
const Declare rdtsc_ratio{under_ratio("timer.rdtsc_ratio", guest_reads_tsc)};
const Declare rdtscp_ratio{under_ratio("timer.rdtscp_ratio", guest_reads_tscp)};

// exit.cpuid with the timer armed at every entry, and so far away that it does not fire.
SAMPLED_GUEST(guest_cpuid, "", "xor %eax, %eax", "cpuid")
constexpr u32 far_away = 1u << 31;

Row armed(const char* name) {
    return {.name = name,
            .claims_about = "cpuid",
            .guest = guest_cpuid,
            .reason = Reason::cpuid,
            .intercepts = on(Intercept::cpuid, Intercept::preemption_timer),
            .length = 2,
            .preemption_timer = far_away,
            .missing = no_preemption_timer,
            .vendor = Vendor::vmx,
            .rests_on = {"TimerPreemption.vmx_value_stays_where_it_is_not_saved"}};
}
const Declare preemption_armed{armed("timer.preemption_armed")};
const Declare preemption_saved{[] {
    Row row = armed("timer.preemption_saved");
    row.build = [](Mode, Guest& guest) { change(guest, exit_controls, exit_save_timer); };
    row.missing = [](const client::HelloInfo& hello) {
        return may_set(hello, 0x483, exit_save_timer)
                   ? no_preemption_timer(hello)
                   : "the preemption timer cannot be saved: IA32_VMX_EXIT_CTLS, control 22";
    };
    row.rests_on = {"TimerPreemption.vmx_saved_value_is_what_is_left"};
    return row;
}()};

// From the last host instruction before an entry to the first one after the timer's exit; the control is a
// timer of 0, which exits at once.
GUEST(spin, "1: jmp 1b")

std::vector<std::int64_t> firings(u32 value, u64 n, u64& disturbed, ExitCount* count) {
    const Row row{.name = "timer.preemption",
                  .clock = Clock::host_unprompted,
                  .repeated = spin,
                  .reason = Reason::preemption_timer,
                  .intercepts = on(Intercept::preemption_timer),
                  .action = abi::Action::resume,
                  .preemption_timer = value};
    Sampling sampling(row, Mode::nested, n + 1);
    static_cast<void>(sampling.exits(std::min<u64>(n, 8))); // warm-up
    const auto r = sampling.exits(n);
    disturbed += sampling.discarded();
    if (count != nullptr) {
        *count = sampling.last_count();
    }
    std::vector<std::int64_t> out;
    for (usize i = 1; i < r.stamps.size(); ++i) {
        out.push_back(static_cast<std::int64_t>(r.stamps[i].first - r.stamps[i - 1].last));
    }
    return out;
}

void fire(u32 value, Measurement& m) {
    constexpr u32 vmx_misc = 0x485;
    const unsigned shift = front::msr(front::Session::get().hello(), vmx_misc) & 31; // SDM 3D A.6
    m.due = Due{.ticks = u64{value} << shift,
                .step = u64{1} << shift,
                .timer = "VMX-preemption timer, " + std::to_string(value) + " units"};
    m.stamp_cost = quantile(firings(0, m.n, m.disturbed, nullptr), 0.5);
    m.exits = ExitCount{};
    m.samples = firings(value, m.n, m.disturbed, &*m.exits);
    for (auto& sample : m.samples) {
        sample -= static_cast<std::int64_t>(m.due->ticks);
    }
    m.reason = "from an entry to the exit, both stamped by the host: no part and no slope";
    summarize_net(m);
}

const bool declared = [] {
    static std::deque<std::string> names; // a row keeps a pointer to its own
    for (const u32 value : {1u, 16u, 256u, 4096u, 65536u}) {
        names.push_back("timer.preemption_" + std::to_string(value));
        Row row{.name = names.back().c_str()};
        row.vendor = Vendor::vmx;
        row.modes = {Mode::nested};
        row.missing = no_preemption_timer;
        row.rests_on = {"Exit.preemption_timer_exits_when_intercepted",
                        "TimerPreemption.vmx_counts_at_its_rate_against_the_tsc"};
        row.by_itself = [value](Mode, u64, Measurement& m) { fire(value, m); };
        const Declare one{std::move(row)};
    }
    return true;
}();

} // namespace

} // namespace refhv::bench
