// SPDX-License-Identifier: MIT
// Posted interrupts (VMX, SDM 3C 30.6) as a means of injection: from the other CPU's stamp before it posts to
// the first instruction of the guest's handler, on one clock by the TSC offset that the greeting tells. The
// guest marks the moment and waits; nothing exits. Every round begins with the EOI of the last.
#include "conformance/apic_guest.hpp"
#include "microbench/host_runs.hpp"
#include "microbench/inject_guest.hpp"

namespace refhv::bench {

using abi::Mode;
using abi::Reason;
using client::Guest;
namespace apic = front::apic;

namespace {

constexpr apic::Controls needed{apic::tpr_shadow, apic::x2apic, apic::delivery};
constexpr u8 vector = 0x51, notification = 0x62;

GUEST(guest_waits,
      REFHV_SAMPLE_LOOP("lea 6f(%rip), %r15",
                        "cli\n" REFHV_DROP_FRAME "mov $0x80b, %ecx\n xor %eax, %eax\n xor %edx, %edx\n wrmsr",
                        "incq " REFHV_ASM(REFHV_SCRATCH) "\n sti\n 5: pause\n jmp 5b\n 6:"))

void measure_posts(Mode mode, u64 asked, Measurement& m) {
    auto& session = front::Session::get();
    constexpr u32 poster = 1;
    client::Plan plan;
    plan.mode = mode;
    plan.arena_pages = apic::arena_pages;
    Guest guest(session.host(), plan);
    guest.load(guest_waits);
    apic::virtualize(guest, needed);
    apic::accept_posts(guest, apic::spare_page, notification);
    take_at_handler(guest, vector, handler_goes_on);
    guest.fill(REFHV_SCRATCH, 0, 0, 1, false);
    Guest::Options options{.rounds = asked, .samples = asked};
    options.peer = {.act = static_cast<u16>(abi::PeerAct::post),
                    .vector = vector,
                    .notification = notification,
                    .cpu = poster,
                    .count = asked,
                    .mark = REFHV_SCRATCH,
                    .delay = 1000, // so that the guest is waiting
                    .address = apic::spare_page,
                    .value = 0};
    const auto r = guest.run(options);
    if (r.outcome != abi::Outcome::exited || static_cast<Reason>(r.reply.exit.reason) != Reason::hlt) {
        throw Invalid(std::string("the run ended by ") + client::name_of(r.outcome) + ", " +
                      client::name_of(static_cast<Reason>(r.reply.exit.reason)));
    }
    if (r.exceptions.count != 0 || r.reply.host_changed != 0) {
        throw Invalid("the guest took an exception, or host state changed");
    }
    if (r.reply.peer_acts != asked || r.peer.size() != asked || r.reply.interrupts + r.reply.nmis != 0 ||
        r.reply.entries != 1) {
        throw Invalid(std::to_string(r.reply.peer_acts) + " posts, " + std::to_string(r.reply.entries) +
                      " entries, " + std::to_string(r.reply.interrupts + r.reply.nmis) +
                      " interrupts and NMIs of the host, where " + std::to_string(asked) +
                      ", 1 and 0 were due");
    }
    m.n = asked;
    m.exits = ExitCount{};
    const std::int64_t offset = session.hello().cpus.at(poster).tsc_offset;
    for (usize i = 0; i < asked; ++i) {
        m.samples.push_back(static_cast<std::int64_t>(r.samples[i].end - r.peer[i].before) + offset);
    }
    m.stamp_cost = 0; // nothing is taken off
    m.reason = "from the poster's stamp to the handler's: nothing exits, so nothing to split";
    summarize_net(m);
}

const Declare posted{[] {
    Row row{.name = "inject.posted",
            .missing =
                [](const client::HelloInfo& hello) {
                    const std::string why = apic::lacking_posting(hello);
                    return why.empty() ? apic::lacking(hello, needed) : why;
                },
            .vendor = abi::Vendor::vmx,
            .by_itself = measure_posts,
            .rests_on = {"ApicPosted.vmx_posted_interrupts_arrive_without_an_exit"}};
    row.modes = {Mode::nested};
    return row;
}()};

} // namespace

} // namespace refhv::bench
