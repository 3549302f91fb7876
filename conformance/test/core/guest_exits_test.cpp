// SPDX-License-Identifier: MIT
// What the vendors do alike with the exits of a guest's own paging, on a vCPU that only writes down what it
// is told. The MMU is the real one, in fake memory.
#include "refhv/shadow/guest_exits.hpp"

#include "conformance/test/core/fake_hardware.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace refhv {
namespace {

using abi::Reason;
using Kind = x86::Decoded::Kind;

struct Told {
    std::string what;
    u64 a = 0, b = 0;
    bool operator==(const Told&) const = default;
};

struct ShadowedVcpu {
    u64 gpr[16]{}, vectored = 0;
    shadow::PageFault fault{};
    x86::Decoded decoded;
    bool code64 = true, stepping = false, ends = false;
    std::vector<Told> told;

    u64 guest_rflags() const { return 2; }
    unsigned guest_cpl() const { return 0; }
    bool in_64_bit_mode() const { return code64; }
    u64 guest_gpr(unsigned n) const { return gpr[n]; }
    void set_guest_gpr(unsigned n, u64 value) { gpr[n] = value; }
    u64 guest_cr2() const { return 0xc2c2; }
    void set_guest_cr2(u64 value) { told.push_back({"cr2", value}); }
    u64 vectoring() const { return vectored; }
    shadow::PageFault page_fault_of(const abi::Exit&) const { return fault; }
    x86::Decoded instruction(const abi::Exit&) { return decoded; }
    void raise(u32 vector, u32 error) { told.push_back({"raise", vector, error}); }
    void hand_on_page_fault(abi::Exit&, u32 error) { told.push_back({"hand on", error}); }
    void write_translation_registers() { told.push_back({"registers"}); }
    void forget_if_needed() { told.push_back({"forget"}); }
    void begin_instruction() { told.push_back({"step"}); }
    void end_instruction() {}
    bool is_stepping() const { return stepping; }
    bool ends_instruction(const abi::Exit&) { return ends; }
    bool advance(const abi::Exit&, const Reaction& r) {
        told.push_back({"advance", r.length});
        return true;
    }
    bool redeliver(const abi::Exit&) {
        told.push_back({"redeliver"});
        return true;
    }
};
static_assert(shadow::Shadowed<ShadowedVcpu>);

constexpr u64 pml4 = 0x1000, pdpt = 0x2000, pd = 0x3000, pt = 0x4000, other_root = 0x5000;
constexpr u64 mapped = 0, missing = 0x1000, outside = 0x2000; // linear
constexpr u64 no_memory = 0x700'0000;
constexpr u32 hardware_gp = 0x8000'0b0d; // vectoring: valid, error code, exception 13

struct GuestExitsTest : testing::Test {
    Arena arena;
    GuestMemory memory{};
    shadow::GuestMmu* mmu = nullptr;
    ShadowedVcpu vcpu;
    u64 intercepts = 0;
    u32 exceptions = 0;

    void SetUp() override {
        fake::reset_memory(8 << 20);
        arena.init(fake::physical_base, 8 << 20);
        memory.pages = 64;
        memory.hpa_base = arena.allocate(memory.pages);
        memory.mode = abi::Mode::shadow;
        mmu = shadow::GuestMmu::make(arena, memory);
        ASSERT_NE(mmu, nullptr);
        for (const u64 root : {pml4, other_root}) {
            at(root) = pdpt | 7;
        }
        at(pdpt) = pd | 7;
        at(pd) = pt | 7;
        at(pt) = 0x10'000 | 7;
        at(pt + 16) = no_memory | 7;
        abi::GuestState s{};
        s.cr0 = x86::cr0::pe | x86::cr0::pg | x86::cr0::et;
        s.cr3 = pml4;
        s.cr4 = x86::cr4::pae;
        s.efer = x86::efer::lme | x86::efer::lma;
        ASSERT_TRUE(mmu->reset(s).ok());
    }
    void TearDown() override { shadow::GuestMmu::destroy(mmu, arena); }

    u64& at(u64 gpa) { return *reinterpret_cast<u64*>(memory.at(gpa)); }
    bool answer(abi::Exit& exit) {
        vcpu.told.clear();
        return shadow::GuestExits(vcpu, *mmu, intercepts, exceptions).answer(exit);
    }
    bool answer(Reason reason) {
        abi::Exit exit{};
        exit.reason = static_cast<u16>(reason);
        return answer(exit);
    }
    static abi::Exit fault_exit() {
        abi::Exit exit{};
        exit.reason = static_cast<u16>(Reason::exception);
        exit.vector = 14;
        return exit;
    }
    // MOV CR between RBX and this register.
    void moves(Kind kind, u8 cr, u64 value = 0) {
        vcpu.decoded = {};
        vcpu.decoded.kind = kind;
        vcpu.decoded.length = 3;
        vcpu.decoded.cr = cr;
        vcpu.decoded.gpr = abi::rbx;
        vcpu.gpr[abi::rbx] = value;
    }
};

using List = std::vector<Told>;

TEST_F(GuestExitsTest, a_fault_of_the_shadow_tables_is_filled_and_retried) {
    vcpu.fault = {mapped + 8, 0};
    abi::Exit exit = fault_exit();
    EXPECT_TRUE(answer(exit));
    EXPECT_EQ(vcpu.told, (List{{"forget"}, {"redeliver"}}));
}

TEST_F(GuestExitsTest, a_fault_of_the_guests_tables_is_the_guests) {
    constexpr u32 write = 2;
    vcpu.fault = {missing + 8, write};
    abi::Exit exit = fault_exit();
    EXPECT_TRUE(answer(exit));
    EXPECT_EQ(vcpu.told, (List{{"cr2", missing + 8}, {"raise", 14, write}}));
}

// CR2 has the address even where the two become a #DF (SDM 3A 6.15, interrupt 14).
TEST_F(GuestExitsTest, a_fault_during_delivery_is_raised_becomes_a_double_fault_or_shuts_the_guest_down) {
    constexpr u32 hardware_pf = 0x8000'0b0e, hardware_df = 0x8000'0b08;
    vcpu.fault = {missing, 0};
    vcpu.vectored = hardware_gp;
    abi::Exit exit = fault_exit();
    EXPECT_TRUE(answer(exit));
    EXPECT_EQ(vcpu.told, (List{{"cr2", missing}, {"raise", 14, 0}}));
    vcpu.vectored = hardware_pf;
    EXPECT_TRUE(answer(exit));
    EXPECT_EQ(vcpu.told, (List{{"cr2", missing}, {"raise", 8, 0}}));
    vcpu.vectored = hardware_df;
    EXPECT_FALSE(answer(exit));
    EXPECT_EQ(exit.reason, static_cast<u16>(Reason::triple_fault));
    EXPECT_EQ(vcpu.told, (List{{"cr2", missing}}));
}

TEST_F(GuestExitsTest, a_client_that_intercepts_faults_gets_the_guests_own_only) {
    exceptions = 1u << 14;
    vcpu.fault = {mapped, 0};
    abi::Exit exit = fault_exit();
    EXPECT_TRUE(answer(exit));
    vcpu.fault = {missing, 0};
    EXPECT_FALSE(answer(exit));
    EXPECT_EQ(vcpu.told, (List{{"hand on", 0}}));
}

TEST_F(GuestExitsTest, an_address_that_is_no_memory_is_a_nested_violation) {
    vcpu.fault = {outside + 0x123, 0};
    abi::Exit exit = fault_exit();
    EXPECT_FALSE(answer(exit));
    EXPECT_EQ(exit.reason, static_cast<u16>(Reason::nested_violation));
    EXPECT_EQ(exit.guest_physical, no_memory + 0x123);
    EXPECT_TRUE(vcpu.told.empty());
}

TEST_F(GuestExitsTest, a_load_of_cr3_changes_the_root_and_steps_over) {
    moves(Kind::mov_to_cr, 3, other_root);
    EXPECT_TRUE(answer(Reason::cr3_write));
    EXPECT_EQ(mmu->guest().cr3, other_root);
    EXPECT_EQ(vcpu.told, (List{{"forget"}, {"advance", 3}}));
    moves(Kind::mov_from_cr, 3);
    EXPECT_TRUE(answer(Reason::cr3_read));
    EXPECT_EQ(vcpu.gpr[abi::rbx], other_root);
    moves(Kind::mov_from_cr, 2);
    EXPECT_TRUE(answer(Reason::cr0_read)) << "as which QEMU 10 lets it exit";
    EXPECT_EQ(vcpu.gpr[abi::rbx], vcpu.guest_cr2());
    moves(Kind::mov_to_cr, 3, u64{1} << 62);
    EXPECT_TRUE(answer(Reason::cr3_write));
    EXPECT_EQ(vcpu.told, (List{{"raise", 13, 0}})) << "beyond MAXPHYADDR; RIP stays";
    EXPECT_EQ(mmu->guest().cr3, other_root);
}

TEST_F(GuestExitsTest, control_registers_are_written_or_refused) {
    moves(Kind::mov_to_cr, 0, mmu->guest().cr0 | x86::cr0::ts);
    EXPECT_TRUE(answer(Reason::cr0_write));
    EXPECT_EQ(vcpu.told, (List{{"registers"}, {"advance", 3}}));
    vcpu.decoded.kind = Kind::clts;
    EXPECT_TRUE(answer(Reason::cr_other));
    EXPECT_EQ(mmu->guest().cr0 & x86::cr0::ts, 0u);
    moves(Kind::mov_to_cr, 4, 0); // PAE in long mode
    EXPECT_TRUE(answer(Reason::cr4_write));
    EXPECT_EQ(vcpu.told, (List{{"raise", 13, 0}}));
    vcpu.code64 = false;
    moves(Kind::mov_to_cr, 0, x86::cr0::et);
    EXPECT_FALSE(answer(Reason::cr0_write)) << "real mode is the policy's";
    moves(Kind::mov_to_cr, 2, 0);
    EXPECT_FALSE(answer(Reason::cr_other));
    moves(Kind::unknown, 0);
    EXPECT_FALSE(answer(Reason::cr0_write)) << "LMSW is the policy's";
}

TEST_F(GuestExitsTest, what_the_client_intercepts_is_the_clients) {
    using abi::Intercept;
    const std::pair<Reason, Intercept> all[] = {
        {Reason::cr0_read, Intercept::cr0_read}, {Reason::cr0_write, Intercept::cr0_write},
        {Reason::cr3_read, Intercept::cr3_read}, {Reason::cr3_write, Intercept::cr3_write},
        {Reason::cr4_read, Intercept::cr4_read}, {Reason::cr4_write, Intercept::cr4_write},
        {Reason::invlpg, Intercept::invlpg},     {Reason::invpcid, Intercept::invpcid}};
    moves(Kind::mov_from_cr, 3);
    for (const auto& [reason, intercept] : all) {
        intercepts = ~(u64{1} << static_cast<u8>(intercept));
        EXPECT_TRUE(answer(reason)) << static_cast<int>(reason);
        intercepts = ~intercepts;
        EXPECT_FALSE(answer(reason)) << static_cast<int>(reason);
        EXPECT_TRUE(vcpu.told.empty());
    }
}

TEST_F(GuestExitsTest, an_invalidation_steps_over_or_faults_on_its_descriptor) {
    vcpu.decoded.kind = Kind::invlpg;
    vcpu.decoded.length = 4;
    EXPECT_TRUE(answer(Reason::invlpg));
    EXPECT_EQ(vcpu.told, (List{{"forget"}, {"advance", 4}}));
    vcpu.decoded.kind = Kind::invpcid;
    vcpu.decoded.gpr = abi::rbx;
    vcpu.decoded.address = missing - 8; // its second half is not there
    EXPECT_TRUE(answer(Reason::invpcid));
    EXPECT_EQ(vcpu.told, (List{{"cr2", missing}, {"raise", 14, 0}}));
    vcpu.decoded.address = mapped;
    vcpu.gpr[abi::rbx] = 4; // no such type
    EXPECT_TRUE(answer(Reason::invpcid));
    EXPECT_EQ(vcpu.told, (List{{"raise", 13, 0}}));
    vcpu.gpr[abi::rbx] = 2;
    EXPECT_TRUE(answer(Reason::invpcid));
    EXPECT_EQ(vcpu.told.back(), (Told{"advance", 4}));
}

TEST_F(GuestExitsTest, efer_is_the_guests_other_msrs_are_the_policys) {
    vcpu.gpr[abi::rcx] = x86::msr::efer;
    EXPECT_TRUE(answer(Reason::rdmsr));
    EXPECT_EQ(vcpu.gpr[abi::rax], x86::efer::lme | x86::efer::lma);
    EXPECT_EQ(vcpu.told, (List{{"advance", 2}}));
    vcpu.gpr[abi::rax] = x86::efer::sce; // LME under paging
    EXPECT_TRUE(answer(Reason::wrmsr));
    EXPECT_EQ(vcpu.told, (List{{"raise", 13, 0}}));
    vcpu.gpr[abi::rcx] = x86::msr::star;
    EXPECT_FALSE(answer(Reason::wrmsr));
    EXPECT_FALSE(answer(Reason::cpuid));
}

TEST_F(GuestExitsTest, the_end_of_a_single_step_is_no_other_exit) {
    vcpu.stepping = vcpu.ends = true;
    abi::Exit debug = fault_exit();
    debug.vector = 1;
    EXPECT_TRUE(answer(debug));
    EXPECT_FALSE(answer(Reason::external_interrupt)) << "the step goes on behind it";
    vcpu.ends = false;
    EXPECT_FALSE(answer(debug));
}

} // namespace
} // namespace refhv
