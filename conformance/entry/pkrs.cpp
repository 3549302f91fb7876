// SPDX-License-Identifier: MIT
// IA32_PKRS of a guest: what entries load, exits save and load.
#include "conformance/entry/table/rows.hpp"
#include "refhv/client/guest/guest.hpp"
#include "refhv/front/claim.hpp"
#include "refhv/front/controls.hpp"

namespace refhv::front {

using client::Guest;

namespace {

// R8: what RDMSR says; then WRMSR of R9.
GUEST(guest_changes_pkrs, "mov $0x6e1, %ecx\n rdmsr\n shl $32, %rdx\n lea (%rdx,%rax), %r8\n"
                          "mov %r9d, %eax\n xor %edx, %edx\n wrmsr\n")

constexpr u32 guest_pkrs = 0x2818, host_pkrs = 0x2c06;
constexpr u64 entry_load_pkrs = 1u << 22, exit_load_pkrs = 1u << 29;
constexpr u64 bitmap_page = client::layout::arena; // of MSRs: all of them go through

} // namespace

class EntryPkrs : public Claim {
  protected:
    class Subject {
      public:
        Subject() : guest_(host(), {.arena_pages = 1}) {
            using enum abi::Permit;
            for (const abi::Permit item : {world_switch, host_fields, permission_maps, unlisted_fields}) {
                needs(item);
            }
            if (!offers(hello(), vmcs::entry_controls, entry_load_pkrs) ||
                !offers(hello(), vmcs::exit_controls, exit_load_pkrs)) {
                throw client::Refused(abi::Op::hello, abi::Outcome::unsupported,
                                      "no \"load PKRS\" (VM-entry control 22, VM-exit control 29)");
            }
            guest_.fill(bitmap_page, 0, 0, page_size / 8, false);
            guest_.load(guest_changes_pkrs);
            entry_ = guest_.read_field(vmcs::entry_controls, 4);
            exit_ = guest_.read_field(vmcs::exit_controls, 4);
        }
        // What the guest read before it wrote `written`. The exit loads `hosts`.
        u64 run(bool loads, u64 field, u64 hosts, u64 written) {
            guest_.field(vmcs::msr_bitmap, 8, guest_.host_physical(bitmap_page));
            guest_.field(vmcs::entry_controls, 4,
                         (entry_ & ~entry_load_pkrs) | (loads ? entry_load_pkrs : 0));
            guest_.field(vmcs::exit_controls, 4, exit_ | exit_load_pkrs);
            guest_.field(guest_pkrs, 8, field);
            guest_.field(host_pkrs, 8, hosts);
            guest_.state.gpr[abi::r9] = written;
            const auto r = guest_.run({});
            EXPECT_EQ(r.outcome, abi::Outcome::exited) << r.text;
            EXPECT_EQ(static_cast<abi::Reason>(r.reply.exit.reason), abi::Reason::hlt);
            EXPECT_EQ(r.exceptions.count, 0u) << "vector " << r.exceptions.vector;
            EXPECT_EQ(r.reply.host_changed, 0u) << "HostState bits";
            return r.reply.state.gpr[abi::r8];
        }
        [[nodiscard]] u64 saved() { return guest_.read_field(guest_pkrs, 8, false); }

      private:
        Guest guest_;
        u64 entry_ = 0, exit_ = 0; // controls as the core has them
    };
};

// An entry that loads nothing finds what the last exit has loaded, and the exit saves in either case.
TEST_F(EntryPkrs, vmx_is_loaded_and_saved_as_the_controls_have_it) {
    claim({.sdm = "SDM 3C 27.3.2.1, 28.3.1, 28.5.1"}, [&] {
        std::vector<u32> values{0x5555'5555, 0xaaaa'aaaa, ~0u, 1, 0x8000'0000};
        Random random{table_seed};
        for (unsigned i = 0; i < 3; ++i) {
            values.push_back(static_cast<u32>(random()));
        }
        Subject subject;
        const usize n = values.size();
        for (usize i = 0; i < n; ++i) {
            const u64 guests = values[i], hosts = values[(i + 1) % n], written = values[(i + 2) % n];
            EXPECT_EQ(subject.run(true, guests, hosts, written), guests) << "what the entry loads";
            EXPECT_EQ(subject.saved(), written);
            EXPECT_EQ(subject.run(false, guests, 0, guests), hosts) << "what the exit before has loaded";
            EXPECT_EQ(subject.saved(), guests);
        }
        combinations(2 * n);
    });
}

} // namespace refhv::front
