// SPDX-License-Identifier: MIT
// What the tertiary controls change of a guest's instructions: lists of MSRs, and IA32_SPEC_CTRL of its own.
#include "conformance/entry/table/probes.hpp"
#include "refhv/client/guest/guest.hpp"
#include "refhv/front/claim.hpp"
#include "refhv/front/controls.hpp"
#include "refhv/front/differences.hpp"

namespace refhv::front {

using abi::Reason;
using client::Guest;
using client::layout::code;

namespace {

constexpr u32 tertiary_controls = 0x2034, spec_ctrl_mask = 0x204a, spec_ctrl_shadow = 0x204c;
constexpr u64 activate_tertiary = 1u << 17;
constexpr u64 msr_lists = 1u << 6, virtual_spec_ctrl = 1u << 7;
constexpr u32 vmx_proc3 = 0x492, invalid_opcode = 6;

constexpr u64 bitmap_page = client::layout::arena, indices = bitmap_page + page_size,
              values = indices + page_size;

GUEST(guest_reads_list, ".byte 0xf2, 0x0f, 0x01, 0xc6")  // RDMSRLIST
GUEST(guest_writes_list, ".byte 0xf3, 0x0f, 0x01, 0xc6") // WRMSRLIST
// R8: what RDMSR says; then WRMSR of R9; R10: what RDMSR says then.
GUEST(guest_sets_spec_ctrl, "mov $0x48, %ecx\n rdmsr\n shl $32, %rdx\n lea (%rdx,%rax), %r8\n"
                            "mov %r9d, %eax\n mov %r9, %rdx\n shr $32, %rdx\n wrmsr\n"
                            "rdmsr\n shl $32, %rdx\n lea (%rdx,%rax), %r10\n")
GUEST(guest_gets_spec_ctrl, "mov $0x48, %ecx\n rdmsr\n shl $32, %rdx\n lea (%rdx,%rax), %r8\n")

} // namespace

class ExitTertiary : public Claim {
  protected:
    // A guest with an MSR bitmap that lets all through.
    class Subject {
      public:
        explicit Subject(u64 control, const char* name)
            : guest_(host(), {.arena_pages = 3}), control_(control) {
            using enum abi::Permit;
            for (const abi::Permit item : {world_switch, permission_maps, unlisted_fields}) {
                needs(item);
            }
            if (!offers(hello(), vmcs::proc_controls, activate_tertiary) ||
                (msr(hello(), vmx_proc3) & control) == 0) {
                throw client::Refused(abi::Op::hello, abi::Outcome::unsupported,
                                      std::string("no \"") + name + "\" (IA32_VMX_PROCBASED_CTLS3)");
            }
            guest_.fill(bitmap_page, 0, 0, page_size / 8, false);
            primary_ = guest_.read_field(vmcs::proc_controls, 4);
            own_bitmap_ = guest_.read_field(vmcs::msr_bitmap, 8);
        }
        Guest& vm() { return guest_; }
        enum class On : u8 {
            no,
            set_but_not_activated,
            yes,
        };
        client::RunResult run(client::GuestCode what, On on, bool all_exit = false) {
            guest_.load(what);
            guest_.field(vmcs::msr_bitmap, 8, all_exit ? own_bitmap_ : guest_.host_physical(bitmap_page));
            const bool activated = on != On::set_but_not_activated;
            guest_.field(vmcs::proc_controls, 4,
                         (primary_ & ~activate_tertiary) | (activated ? activate_tertiary : 0));
            guest_.field(tertiary_controls, 8, on == On::no ? 0 : control_);
            return guest_.run({});
        }

      private:
        Guest guest_;
        u64 control_, primary_ = 0, own_bitmap_ = 0;
    };
    using On = Subject::On;

    // One WRMSR of IA32_SPEC_CTRL between two RDMSRs, under the control; `real`: what the MSR has then.
    struct SpecCtrl {
        u64 mask, written, shadow, hosts;
        u64 first = 0, second = 0, field = 0, real = 0;
        [[nodiscard]] std::string text() const {
            std::ostringstream out;
            out << std::hex << "mask " << mask << "h, shadow " << shadow << "h, WRMSR of " << written << 'h';
            return out.str();
        }
    };
    static const std::vector<SpecCtrl>& spec_ctrl_rows() {
        static TriedTables<u64, std::vector<SpecCtrl>> tried;
        return tried.of(virtual_spec_ctrl, [](u64) { return try_spec_ctrl(); });
    }
    // Behind each the MSR gets back what the host had.
    static std::vector<SpecCtrl> try_spec_ctrl() {
        constexpr unsigned edx = 3;
        const u32 features = cpuid(hello(), 7, 0, edx);
        const u64 known = (features >> 26 & 1) | (features >> 27 & 1) << 1 | (features >> 31 & 1) << 2;
        Subject subject(virtual_spec_ctrl, "virtualize IA32_SPEC_CTRL");
        Guest& guest = subject.vm();
        auto r = subject.run(guest_gets_spec_ctrl, On::no);
        expect_stopped(r);
        const u64 hosts = r.reply.state.gpr[abi::r8];
        std::vector<SpecCtrl> rows;
        for (const u64 mask : {~u64{0}, u64{0}, u64{1}, ~u64{2}}) {
            for (const u64 written : {u64{0}, known & 5, known}) {
                SpecCtrl row{mask, written, 0x0123'4567'89ab'cdef ^ mask ^ written << 32, hosts};
                guest.state.gpr[abi::r9] = written;
                guest.field(spec_ctrl_mask, 8, mask);
                guest.field(spec_ctrl_shadow, 8, row.shadow);
                r = subject.run(guest_sets_spec_ctrl, On::yes);
                expect_stopped(r);
                row.first = r.reply.state.gpr[abi::r8];
                row.second = r.reply.state.gpr[abi::r10];
                row.field = guest.read_field(spec_ctrl_shadow, 8, false);
                guest.state.gpr[abi::r9] = hosts;
                r = subject.run(guest_sets_spec_ctrl, On::no);
                expect_stopped(r);
                row.real = r.reply.state.gpr[abi::r8];
                EXPECT_EQ(r.reply.state.gpr[abi::r10], hosts) << "without the control";
                rows.push_back(row);
            }
        }
        return rows;
    }

    static void expect_stopped(const client::RunResult& r) {
        EXPECT_EQ(r.outcome, abi::Outcome::exited) << r.text;
        EXPECT_EQ(static_cast<Reason>(r.reply.exit.reason), Reason::hlt)
            << "raw reason " << r.reply.exit.raw_reason;
        EXPECT_EQ(r.exceptions.count, 0u) << "vector " << r.exceptions.vector;
    }
};

// Without the control both are #UD; with it they do what the list says, or exit at an MSR that is
// intercepted.
TEST_F(ExitTertiary, vmx_msr_list_instructions_execute_under_their_control_alone) {
    claim({.sdm = "SDM 3C 26.3, 26.1.3; SDM 3D appendix C"}, [&] {
        constexpr u32 lstar = 0xc000'0082, kernel_gs_base = 0xc000'0102, fmask = 0xc000'0084;
        constexpr u64 first = 0x1234'5678'9abc, second = 0x7f00'0000'0010;
        Subject subject(msr_lists, "enable MSR-list instructions");
        Guest& guest = subject.vm();
        auto& s = guest.state;
        s.lstar = first;
        s.kernel_gs_base = second;
        s.gpr[abi::rsi] = indices;
        s.gpr[abi::rdi] = values;
        s.gpr[abi::rcx] = 0b101; // not the one between
        for (const auto& [at, index] : {std::pair<u64, u32>{0, lstar}, {8, fmask}, {16, kernel_gs_base}}) {
            guest.fill(indices + at, index, 0, 1, false);
        }
        for (const client::GuestCode what : {guest_reads_list, guest_writes_list}) {
            for (const On on : {On::no, On::set_but_not_activated}) {
                const auto r = subject.run(what, on);
                EXPECT_EQ(r.exceptions.count, 1u);
                EXPECT_EQ(r.exceptions.vector, invalid_opcode);
                EXPECT_EQ(r.exceptions.rip, code);
                EXPECT_EQ(r.reply.state.gpr[abi::rcx], 0b101u);
            }
        }
        constexpr u64 untouched = 0x5555'5555'5555'5555;
        guest.fill(values, untouched, 0, 3, false);
        auto r = subject.run(guest_reads_list, On::yes);
        expect_stopped(r);
        EXPECT_EQ(r.reply.state.gpr[abi::rcx], 0u) << "all done";
        EXPECT_EQ(guest.read64(values, 3), (std::vector<u64>{first, untouched, second}));
        EXPECT_EQ(r.reply.host_changed, 0u) << "HostState bits";

        guest.fill(values, second + 0x1000, 0x1000, 3, false);
        r = subject.run(guest_writes_list, On::yes);
        expect_stopped(r);
        EXPECT_EQ(r.reply.state.gpr[abi::rcx], 0u) << "all done";
        EXPECT_EQ(r.reply.state.lstar, second + 0x1000);
        EXPECT_EQ(r.reply.state.kernel_gs_base, second + 0x3000);
        EXPECT_EQ(r.reply.host_changed, 0u) << "HostState bits";

        for (const auto& [what, reason] : {std::pair{guest_reads_list, 78u}, {guest_writes_list, 79u}}) {
            r = subject.run(what, On::yes, true);
            EXPECT_EQ(r.outcome, abi::Outcome::exited) << r.text;
            EXPECT_EQ(r.reply.exit.raw_reason, reason);
            EXPECT_EQ(r.reply.state.rip, code);
            EXPECT_EQ(r.reply.state.gpr[abi::rcx], 0b101u) << "the first is still to do";
        }
        combinations(8);
    });
}

TEST_F(ExitTertiary, vmx_rdmsr_of_spec_ctrl_reads_the_shadow) {
    claim({.sdm = "SDM 3C 26.3"}, [&] {
        Differences differences("SDM 3C 26.3");
        const auto& rows = spec_ctrl_rows();
        for (const SpecCtrl& row : rows) {
            differences.expect(row.text(), "RDMSR", row.first, row.shadow);
        }
        combinations(rows.size());
    });
}

// Read behind the guest without the control.
TEST_F(ExitTertiary, vmx_wrmsr_of_spec_ctrl_writes_what_the_mask_leaves) {
    claim({.sdm = "SDM 3C 26.3"}, [&] {
        Differences differences("SDM 3C 26.3");
        const auto& rows = spec_ctrl_rows();
        for (const SpecCtrl& row : rows) {
            differences.expect(row.text(), "IA32_SPEC_CTRL", row.real,
                               (row.hosts & row.mask) | (row.written & ~row.mask));
        }
        combinations(rows.size());
    });
}

TEST_F(ExitTertiary, vmx_wrmsr_of_spec_ctrl_writes_the_shadow) {
    claim({.sdm = "SDM 3C 26.3"}, [&] {
        Differences differences("SDM 3C 26.3");
        const auto& rows = spec_ctrl_rows();
        for (const SpecCtrl& row : rows) {
            differences.expect(row.text(), "the next RDMSR", row.second, row.written);
            differences.expect(row.text(), "the shadow", row.field, row.written);
        }
        combinations(rows.size());
    });
}

} // namespace refhv::front
