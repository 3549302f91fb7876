// SPDX-License-Identifier: MIT
#include "refhv/front/guests/peer_guest.hpp"

#include "refhv/client/guest/guest.hpp"
#include "refhv/front/guests/ipi_sender.hpp"
#include "refhv/front/session.hpp"

#include <cstring>

namespace refhv::front {

using abi::PeerAct;
using client::Guest;
namespace layout = client::layout;

namespace {

#define MARK "0x40012800"
#define TAKEN "0x40012808"
#define DEPTH "0x40012810"
#define DEEPEST "0x40012818"
#define DESCRIPTOR "0x40012840" // posted interrupts
constexpr u64 mark = 0x4001'2800, taken = mark + 8, deepest = mark + 0x18, descriptor = mark + 0x40;
static_assert(mark == REFHV_SCRATCH && peer_vector == IpiSender::vector);

// RBX counts rounds, R12 is how many, R13 points to the round's stamps. RAX, RCX and RDX are the handler's.
#define STAMP_TO(offset) REFHV_STAMP "shl $32, %rdx\n or %rdx, %rax\n mov %rax, " offset "(%r13)\n"
#define ROUNDS(wait) ROUNDS_AFTER("", wait)
// clang-format off
#define ROUNDS_AFTER(prepare, wait)                                                                          \
    "mov " REFHV_ASM(REFHV_PARAMETER_COUNT) ", %r12d\n mov $" REFHV_ASM(REFHV_SAMPLES) ", %r13d\n"           \
    "xor %ebx, %ebx\n sti\n"                                                                                 \
    "1: inc %rbx\n" prepare STAMP_TO("0") "mov %rbx, " MARK "\n" wait STAMP_TO("16")                         \
    "add $24, %r13\n cmp %r12, %rbx\n jb 1b\n cli"
// clang-format on
GUEST(rounds_by_pause, ROUNDS("2: pause\n cmp %rbx, " TAKEN "\n jb 2b\n"))
// HLT in the shadow of STI: an interrupt cannot come between the look and the sleep.
GUEST(rounds_by_hlt, ROUNDS("2: cli\n cmp %rbx, " TAKEN "\n jae 3f\n sti\n hlt\n jmp 2b\n 3: sti\n"))

// Some thousand instructions of both CPUs, or as many times the latency of an IPI.
#define LONG_AFTER "mov $5000, %ecx\n 2: pause\n dec %ecx\n jnz 2b\n"
GUEST(rounds_masked, ROUNDS_AFTER("cli\n", LONG_AFTER "sti\n nop\n"
                                                      "2: pause\n cmp %rbx, " TAKEN "\n jb 2b\n"))
GUEST(rounds_never, ROUNDS_AFTER("cli\n", LONG_AFTER))

// The store ends MWAIT also if it comes between the two (SDM 2, MWAIT).
GUEST(rounds_by_mwait, ROUNDS("2: mov $" TAKEN ", %eax\n xor %ecx, %ecx\n xor %edx, %edx\n monitor\n"
                              "cmp %rbx, " TAKEN "\n jae 3f\n xor %eax, %eax\n mwait\n jmp 2b\n 3:\n"))

#define TAKE_ONE STAMP_TO("8") "incq " TAKEN "\n"
GUEST(take, TAKE_ONE "iretq")
// Marks the next moment while it is still at work, and notes how deep it was ever nested.
GUEST(take_and_mark,
      "incq " DEPTH "\n mov " DEPTH ", %rax\n cmp " DEEPEST ", %rax\n jbe 1f\n mov %rax, " DEEPEST
      "\n 1:" TAKE_ONE "mov " TAKEN ", %rax\n inc %rax\n mov %rax, " MARK "\n"
      "mov $2000, %ecx\n 2: pause\n dec %ecx\n jnz 2b\n decq " DEPTH "\n iretq")
GUEST(take_x2apic, TAKE_ONE "mov $0x80b, %ecx\n xor %eax, %eax\n xor %edx, %edx\n wrmsr\n iretq")
GUEST(take_xapic, TAKE_ONE "movl $0, " REFHV_ASM(REFHV_ARENA) "+0xb0\n iretq")
// As posted-interrupt processing does (SDM 3C 30.6): ON is cleared, then the requests are taken.
#define TAKE_POSTED                                                                                          \
    STAMP_TO("8")                                                                                            \
    "lock btrq $0, " DESCRIPTOR "+32\n"                                                                      \
    "xor %eax, %eax\n xchg %rax, " DESCRIPTOR "+8\n popcnt %rax, %rax\n add %rax, " TAKEN "\n"
GUEST(take_posted, TAKE_POSTED "iretq")
GUEST(take_posted_x2apic, TAKE_POSTED "mov $0x80b, %ecx\n xor %eax, %eax\n xor %edx, %edx\n wrmsr\n iretq")
GUEST(take_posted_xapic, TAKE_POSTED "movl $0, " REFHV_ASM(REFHV_ARENA) "+0xb0\n iretq")

// Who ends the interrupt: the core, or a native guest at the APIC that there is.
enum class End : u8 {
    core,
    x2apic,
    xapic,
};

bool posts(const PeerRun& what) {
    return what.act == PeerAct::post || what.posted;
}

client::GuestCode handler(const PeerRun& what, End end) {
    if (what.mark_in_handler) {
        return take_and_mark;
    }
    constexpr client::GuestCode plain[] = {take, take_x2apic, take_xapic};
    constexpr client::GuestCode posted[] = {take_posted, take_posted_x2apic, take_posted_xapic};
    return what.act == PeerAct::nmi ? take : (posts(what) ? posted : plain)[static_cast<usize>(end)];
}

End end_of_interrupt(abi::Mode mode, const client::HelloInfo& hello) {
    return mode != abi::Mode::native ? End::core : in_x2apic_mode(hello) ? End::x2apic : End::xapic;
}

abi::PolicyEntry policy(abi::Reason reason, abi::Action action, u8 length = 0) {
    return {
        .reason = static_cast<u16>(reason), .action = static_cast<u8>(action), .length = length, .event = 0};
}

client::Plan plan_of(const PeerRun& what) {
    client::Plan plan{.mode = what.mode, .arena_pages = 1, .stop = client::Stop::port};
    plan.policy = {policy(abi::Reason::external_interrupt, abi::Action::inject),
                   policy(abi::Reason::nmi, abi::Action::inject)};
    if (what.hlt_exits) {
        plan.intercepts = client::on(abi::Intercept::hlt);
        plan.policy.push_back(policy(abi::Reason::hlt, abi::Action::emulate, 1));
    }
    return plan;
}

} // namespace

PeerResult run_with_peer(client::GuestHost& host, const client::HelloInfo& hello, const PeerRun& what) {
    Guest guest(host, plan_of(what));
    const End end = end_of_interrupt(what.mode, hello);
    if (end == End::xapic) {
        constexpr u64 device = 0x7b, address = 0x000f'ffff'ffff'f000; // P, W, PWT, PCD, A, D
        guest.fill(REFHV_ARENA_ENTRY, (msr(hello, apic_base_msr) & address) | device, 0, 1, false);
    }
    constexpr u32 nmi = 2;
    guest.gate(what.act == PeerAct::nmi ? nmi
               : posts(what)            ? peer_notification
                                        : peer_vector,
               layout::handler);
    guest.write(layout::handler, handler(what, end).bytes());
    guest.fill(mark, 0, 0, 0x80 / 8, false);
    guest.fill(descriptor + 32, what.suppress ? 2 : 0, 0, 1, false);
    std::optional<IpiSender> sender;
    if (what.act == PeerAct::guest) {
        sender.emplace(Session::get().second_host(), hello.cpus.at(what.cpu).apic_id + what.elsewhere);
    }
    constexpr client::GuestCode rounds[] = {rounds_by_pause, rounds_by_hlt, rounds_by_mwait, rounds_masked,
                                            rounds_never};
    guest.load(rounds[static_cast<usize>(what.wait)]);
    PeerResult result{.run = guest.run({.rounds = what.count,
                                        .samples = what.count,
                                        .cpu = what.cpu,
                                        .peer = {.act = static_cast<u16>(what.act),
                                                 .vector = peer_vector,
                                                 .notification = peer_notification,
                                                 .cpu = what.peer_cpu,
                                                 .count = what.count,
                                                 .mark = mark,
                                                 .delay = what.delay,
                                                 .address = posts(what)                  ? descriptor
                                                            : what.act == PeerAct::guest ? 0
                                                                                         : taken,
                                                 .value = sender ? IpiSender::slot : 1},
                                        .deadline = what.deadline}),
                      .rounds = {},
                      .sent = {},
                      .taken = 0,
                      .deepest = 0,
                      .posted = {},
                      .control = 0};
    if (sender) {
        result.sent = sender->finish(what.count);
    }
    for (const client::Sample& s : result.run.samples) {
        result.rounds.push_back({s.start, s.end, s.es});
    }
    const std::vector<u64> left = guest.read64(taken, 1 + (descriptor - taken) / 8 + 4);
    result.taken = left[0];
    result.deepest = left[(deepest - taken) / 8];
    const usize at = (descriptor - taken) / 8;
    std::memcpy(result.posted, left.data() + at, sizeof result.posted);
    result.control = left[at + 4];
    return result;
}

} // namespace refhv::front
