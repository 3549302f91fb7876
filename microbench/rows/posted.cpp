// SPDX-License-Identifier: MIT
// Interrupts that the receiver's CPU takes by itself, from a posted-interrupt descriptor (VMX, SDM 3C 30.6)
// or its backing page (AVIC, APM 2 15.29): nothing exits at the receiver. `inject.posted`: from the core's
// stamp, before it posts on another CPU. `ipi.icr_trapped_posted` and `ipi.icr_virtualized`: from the stamp
// of a guest there, before the WRMSR of its ICR, which exits so that the core posts, or which the CPU
// virtualizes (30.1.6). `ipi.icr_avic`: likewise, before its store to the ICR. Each ends at the first
// instruction of the receiver's handler, on one clock by the TSC offset that the greeting tells. The receiver
// marks the moment and waits. Every round begins with the EOI of the last.
#include "microbench/measure/host_runs.hpp"
#include "microbench/rows/inject_guest.hpp"
#include "refhv/front/guests/avic.hpp"
#include "refhv/front/guests/ipi_sender.hpp"

namespace refhv::bench {

using abi::Mode;
using abi::Reason;
using client::Guest;
using front::IpiSender;
namespace apic = front::apic;
namespace avic = front::avic;

namespace {

constexpr apic::Controls needed{apic::tpr_shadow, apic::x2apic, apic::delivery};
constexpr u8 notification = 0x62;
constexpr u64 descriptor = apic::spare_page;
constexpr u32 poster_cpu = 1;

// Who posts.
enum class Poster : u8 {
    core,
    core_for_a_guest,
    guest, // its CPU, by IPI virtualization
    avic,  // likewise
};

#define WAITS(end_the_last)                                                                                  \
    REFHV_SAMPLE_LOOP("lea 6f(%rip), %r15", "cli\n" REFHV_DROP_FRAME end_the_last,                           \
                      "incq " REFHV_ASM(REFHV_SCRATCH) "\n sti\n 5: pause\n jmp 5b\n 6:")
GUEST(guest_waits, WAITS("mov $0x80b, %ecx\n xor %eax, %eax\n xor %edx, %edx\n wrmsr"))
GUEST(guest_waits_by_avic, WAITS("movl $0, " REFHV_ASM(REFHV_APIC_ACCESS) "+0xb0"))

// The guest that waits, on CPU 0.
void prepare(Guest& guest, Poster poster) {
    if (poster == Poster::avic) {
        guest.load(guest_waits_by_avic);
        avic::virtualize(guest, avic::enable);
    } else {
        guest.load(guest_waits);
        apic::virtualize(guest, needed);
        apic::accept_posts(guest, descriptor, notification);
    }
    take_at_handler(guest, IpiSender::vector, handler_goes_on);
    guest.fill(REFHV_SCRATCH, 0, 0, 1, false);
}

std::optional<IpiSender> sender_for(Poster poster, Guest& receiver, const client::HelloInfo& hello) {
    auto& host = front::Session::get().second_host();
    const u32 apic_id = hello.cpus.at(0).apic_id;
    switch (poster) {
    case Poster::core_for_a_guest:
        return IpiSender(host, apic_id);
    case Poster::guest:
        apic::notify(receiver, hello, descriptor, notification, 0);
        return IpiSender::virtualized(host, receiver.host_physical(descriptor));
    case Poster::avic:
        return IpiSender::by_avic(host, receiver.host_physical(apic::page), apic_id);
    default:
        return {};
    }
}

void expect_no_exit(const client::RunResult& r, u64 asked) {
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
}

void measure_posts(Poster poster, Mode mode, u64 asked, Measurement& m) {
    auto& session = front::Session::get();
    const client::HelloInfo& hello = session.hello();
    client::Plan plan;
    plan.mode = mode;
    plan.arena_pages = apic::arena_pages;
    Guest guest(session.host(), plan);
    prepare(guest, poster);
    std::optional<IpiSender> sender = sender_for(poster, guest, hello);
    Guest::Options options{.rounds = asked, .samples = asked};
    options.peer = {.act = static_cast<u16>(sender ? abi::PeerAct::guest : abi::PeerAct::post),
                    .vector = IpiSender::vector,
                    .notification = notification,
                    .cpu = poster_cpu,
                    .count = asked,
                    .mark = REFHV_SCRATCH,
                    .delay = 1000, // so that the guest is waiting
                    .address = poster == Poster::core || poster == Poster::core_for_a_guest ? descriptor : 0,
                    .value = sender ? IpiSender::slot : 0};
    const auto r = guest.run(options);
    const std::vector<u64> sent = sender ? sender->finish(asked) : std::vector<u64>{};
    expect_no_exit(r, asked);
    m.n = asked;
    m.exits = ExitCount{};
    const std::int64_t offset = hello.cpus.at(poster_cpu).tsc_offset;
    for (usize i = 0; i < asked; ++i) {
        const u64 begin = sender ? sent[i] : r.peer[i].before;
        m.samples.push_back(static_cast<std::int64_t>(r.samples[i].end - begin) + offset);
    }
    m.stamp_cost = 0; // nothing is taken off
    m.reason = "from the sender's stamp to the handler's: nothing exits at the receiver, so nothing to split";
    summarize_net(m);
}

template <Poster poster>
std::string missing(const client::HelloInfo& hello) {
    if (poster == Poster::avic) {
        return hello.fixed.cpus < 2 ? "no second CPU to send from" : avic::missing(hello);
    }
    std::string why = apic::lacking_posting(hello);
    why = why.empty() ? apic::lacking(hello, needed) : why;
    return why.empty() && poster == Poster::guest ? apic::lacking_ipis(hello) : why;
}

template <Poster poster>
Row posted_row(const char* name, std::vector<std::string> claims) {
    Row row{.name = name, .missing = missing<poster>};
    row.vendor = poster == Poster::avic ? abi::Vendor::svm : abi::Vendor::vmx;
    row.by_itself = [](Mode mode, u64 asked, Measurement& m) { measure_posts(poster, mode, asked, m); };
    row.rests_on = std::move(claims);
    row.modes = {Mode::nested};
    return row;
}

const std::string taken = "ApicPosted.vmx_posted_interrupts_arrive_without_an_exit";
const Declare posted{posted_row<Poster::core>("inject.posted", {taken})};
const Declare trapped{posted_row<Poster::core_for_a_guest>(
    "ipi.icr_trapped_posted", {taken, "Peer.guests_have_interrupts_posted_to_guests_once_each"})};
const Declare virtualized{posted_row<Poster::guest>(
    "ipi.icr_virtualized", {taken, "ApicPosted.vmx_virtualized_ipis_arrive_without_an_exit"})};
const Declare by_avic{posted_row<Poster::avic>(
    "ipi.icr_avic", {"ApicAvic.svm_ipi_to_a_running_target_arrives_without_an_exit"})};

} // namespace

} // namespace refhv::bench
