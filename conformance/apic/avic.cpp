// SPDX-License-Identifier: MIT
// SVM: AVIC and x2AVIC (APM 2 15.29): accesses that the backing page answers, accesses that exit, IPIs
// through the table of physical APIC IDs.
#include "refhv/front/guests/avic.hpp"
#include "conformance/apic/case.hpp"
#include "refhv/front/guests/ipi_sender.hpp"

namespace refhv::front {

using abi::Reason;
using client::Guest;
using List = std::vector<unsigned>;

namespace {

#define ACCESS(offset) REFHV_ASM(REFHV_APIC_ACCESS) "+" offset
GUEST(guest_reads, "mov " ACCESS("0x20") ", %eax\n mov " ACCESS("0x80") ", %ebx\n mov " ACCESS(
                       "0xd0") ", %ecx\n"
                               "mov " ACCESS("0xf0") ", %edx\n mov " ACCESS("0x310") ", %esi\n mov " ACCESS(
                                   "0x320") ", %edi")
GUEST(guest_reads_count, "mov " ACCESS("0x390") ", %eax")
GUEST(guest_writes_count, "mov %eax, " ACCESS("0x380"))
GUEST(guest_sends, "mov %edx, " ACCESS("0x310") "\n mov %eax, " ACCESS("0x300") "\n sti\n nop\n nop")
GUEST(guest_waits, "sti\n movq $1, " REFHV_ASM(REFHV_SCRATCH) "\n 1: pause\n jmp 1b")
GUEST(guest_reads_tpr_msr, "mov $0x808, %ecx\n rdmsr")

constexpr u64 target_page = apic::spare_page; // the backing page of APIC ID 1, which runs nowhere
constexpr u64 not_running = 1, invalid_target = 2;

constexpr u32 pattern(u32 offset) {
    return 0x5a00'0000u | offset;
}

} // namespace

class ApicAvic : public Apic {
  protected:
    static std::string missing(bool x2) { return avic::missing(hello(), x2); }

    static void enable(Guest& guest, u64 mode) {
        avic::virtualize(guest, mode);
        for (u32 offset = 0; offset < page_size; offset += 16) {
            const bool bits = offset >= apic::isr && offset < apic::irr + 0x80;
            if (!bits && offset != apic::ppr && offset != apic::tpr) {
                apic::put(guest, offset, pattern(offset));
            }
        }
        guest.fill(target_page, 0, 0, page_size / 8, false);
        avic::add_target(guest, guest.host_physical(target_page), {});
    }
};

TEST_F(ApicAvic, svm_reads_come_from_the_backing_page) {
    claim({.apm = "APM 2 15.29"}, [&] {
        if (const std::string why = missing(false); !why.empty()) {
            GTEST_SKIP() << why;
        }
        Guest guest(host(), plan());
        guest.load(guest_reads);
        enable(guest, avic::enable);
        const auto r = guest.run({});
        expect_stopped(r);
        EXPECT_EQ(r.reply.entries, 1u) << "no exit but the stop";
        const auto& gpr = r.reply.state.gpr;
        const std::pair<abi::Gpr, u64> due[] = {
            {abi::rax, pattern(apic::id)},       {abi::rbx, 0},
            {abi::rcx, pattern(apic::ldr)},      {abi::rdx, pattern(apic::svr)},
            {abi::rsi, pattern(apic::icr_high)}, {abi::rdi, pattern(apic::lvt_timer)}};
        for (const auto& [which, value] : due) {
            EXPECT_EQ(gpr[which], value) << "register " << which;
        }
        combinations(std::size(due));
    });
}

TEST_F(ApicAvic, svm_accesses_to_the_timer_exit) {
    claim({.apm = "APM 2 15.29"}, [&] {
        if (const std::string why = missing(false); !why.empty()) {
            GTEST_SKIP() << why;
        }
        constexpr u64 is_write = u64{1} << 32;
        for (const auto& [what, info] : {std::pair{guest_reads_count, u64{apic::current_count}},
                                         {guest_writes_count, apic::initial_count | is_write}}) {
            SCOPED_TRACE(info);
            Guest guest(host(), plan());
            guest.load(what);
            enable(guest, avic::enable);
            const auto r = guest.run({});
            EXPECT_EQ(static_cast<Reason>(r.reply.exit.reason), Reason::avic_unaccelerated);
            EXPECT_EQ(r.reply.exit.qualification & (is_write | 0xff0), info) << "EXITINFO1";
        }
        combinations(2);
    });
}

TEST_F(ApicAvic, svm_self_ipi_arrives_without_an_exit) {
    claim({.apm = "APM 2 15.29"}, [&] {
        if (const std::string why = missing(false); !why.empty()) {
            GTEST_SKIP() << why;
        }
        constexpr unsigned vector = 0x61, to_self = 1u << 18;
        Guest guest(host(), plan());
        guest.state.gpr[abi::rax] = vector | to_self;
        guest.load(guest_sends);
        apic::handle(guest, apic::Handler::stop);
        enable(guest, avic::enable);
        const auto r = guest.run({});
        expect_stopped(r);
        EXPECT_EQ(r.reply.entries, 1u) << "no exit but the stop";
        const auto came = apic::arrivals(guest);
        ASSERT_EQ(came.size(), 1u);
        EXPECT_EQ(came[0].vector, vector);
        EXPECT_EQ(apic::vectors_left(guest, apic::isr), List{vector});
        EXPECT_EQ(apic::vectors_left(guest, apic::irr), List{});
    });
}

// The sender's CPU rings the doorbell of the one where the target runs.
TEST_F(ApicAvic, svm_ipi_to_a_running_target_arrives_without_an_exit) {
    claim({.apm = "APM 2 15.29"}, [&] {
        if (const std::string why = missing(false); !why.empty()) {
            GTEST_SKIP() << why;
        }
        if (hello().fixed.cpus < 2) {
            GTEST_SKIP() << "one CPU only";
        }
        Guest guest(host(), plan());
        guest.load(guest_waits);
        apic::handle(guest, apic::Handler::stop);
        avic::virtualize(guest, avic::enable);
        guest.fill(REFHV_SCRATCH, 0, 0, 1, false);
        IpiSender sender = IpiSender::by_avic(Session::get().second_host(), guest.host_physical(apic::page),
                                              hello().cpus.at(0).apic_id);
        const auto r = guest.run({.peer = IpiSender::peer(REFHV_SCRATCH)});
        EXPECT_NE(sender.finish(1).at(0), 0u);
        expect_stopped(r);
        EXPECT_EQ(r.reply.peer_acts, 1u);
        EXPECT_EQ(r.reply.entries, 1u) << "no exit but the stop";
        const auto came = apic::arrivals(guest);
        ASSERT_EQ(came.size(), 1u);
        EXPECT_EQ(came[0].vector, IpiSender::vector);
    });
}

TEST_F(ApicAvic, svm_ipi_that_hardware_cannot_complete_exits) {
    claim({.apm = "APM 2 15.29"}, [&] {
        if (const std::string why = missing(false); !why.empty()) {
            GTEST_SKIP() << why;
        }
        constexpr u64 vector = 0x61;
        for (const auto& [target, why] :
             {std::pair{u64{1}, not_running}, {u64{avic::last_id}, invalid_target}}) {
            SCOPED_TRACE(target);
            Guest guest(host(), plan());
            guest.state.gpr[abi::rax] = vector;
            guest.state.gpr[abi::rdx] = target << 24;
            guest.load(guest_sends);
            enable(guest, avic::enable);
            const auto r = guest.run({});
            EXPECT_EQ(static_cast<Reason>(r.reply.exit.reason), Reason::avic_incomplete_ipi);
            EXPECT_EQ(r.reply.exit.qualification, vector | target << 56) << "EXITINFO1: ICR";
            EXPECT_EQ(r.reply.exit.info >> 32, why) << "EXITINFO2";
            const u64 word = guest.read64(target_page + apic::irr + vector / 32 * 16, 1)[0];
            EXPECT_EQ(word, why == not_running ? u64{1} << vector % 32 : 0) << "IRR of the target";
        }
        combinations(2);
    });
}

TEST_F(ApicAvic, svm_x2avic_rdmsr_reads_the_backing_page) {
    claim({.apm = "APM 2 15.29"}, [&] {
        if (const std::string why = missing(true); !why.empty()) {
            GTEST_SKIP() << why;
        }
        constexpr u32 tpr_msr = 0x808;
        client::Plan p = plan();
        p.msrs.push_back({.vm = 0, .msr = tpr_msr, .read = 0, .write = 1, .zero = {}});
        Guest guest(host(), p);
        guest.load(guest_reads_tpr_msr);
        enable(guest, avic::enable | avic::x2_enable);
        apic::put(guest, apic::tpr, 0x30);
        const auto r = guest.run({});
        expect_stopped(r);
        EXPECT_EQ(r.exceptions.count, 0u);
        EXPECT_EQ(r.reply.state.gpr[abi::rax], 0x30u);
    });
}

} // namespace refhv::front
