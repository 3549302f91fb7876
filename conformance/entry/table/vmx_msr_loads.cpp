// SPDX-License-Identifier: MIT
// Lists of MSRs at VM entry and exit (SDM 3C 27.4, 28.4) and what a failed entry leaves alone (27.8).
#include "conformance/entry/table/vmx_runner.hpp"
#include "refhv/front/claim.hpp"

namespace refhv::front {

using namespace vmx_entry;

namespace {

struct Entry {
    u64 index; // bits 63:32 are reserved
    u64 value;
};

constexpr u64 lists = client::layout::samples + 0x1'0000; // one a page
constexpr Entry good{0xc000'0102, 0};                     // KERNEL_GS_BASE
constexpr u32 entries_a_list = 8;
constexpr u32 basic_reason = 34;

enum Msr : u64 {
    vmx_basic = 0x480,
    mtrr_cap = 0xfe,
    smbase = 0x9e,
    smm_monitor = 0x9b,
    pat_msr = 0x277,
    sysenter_esp_msr = 0x175,
    efer_msr = 0xc000'0080,
    lstar = 0xc000'0082,
    fs_base_msr = 0xc000'0100,
    gs_base_msr = 0xc000'0101,
};

class EntryMsrs : public Claim {
  protected:
    // Lists of `entries_a_list` entries, of which the one of number n is bad: refused with n, counted from 1.
    static void expect_refused(const std::vector<Entry>& bad) {
        needs(abi::Permit::msr_lists);
        needs(abi::Permit::physical_addresses);
        Start start(Session::get().host(), Base::long_mode);
        std::vector<abi::ProbeField> fields;
        const auto add = [&](u64 count, u64 address) {
            fields.push_back({.field = entry_load_count, .width = 8, .flags = 0, .value = count});
            fields.push_back(
                {.field = entry_load_address, .width = 8, .flags = abi::probe_enters, .value = address});
        };
        const u64 first_list = start.guest.host_physical(lists);
        std::vector<u64> due; // 0: enters
        const auto list_with = [&](const Entry& entry, u32 at) {
            std::array<Entry, entries_a_list> list;
            list.fill(good);
            list[at] = entry;
            const u64 offset = due.size() * sizeof list;
            start.guest.write(lists + offset, {reinterpret_cast<const u8*>(list.data()), sizeof list});
            return first_list + offset;
        };
        for (const Entry& entry : bad) {
            for (const u32 at : {0u, 1u, entries_a_list - 1}) {
                const u64 list = list_with(entry, at);
                add(entries_a_list, list); // reached
                add(at, list);             // just not
                due.push_back(at + 1);
                due.push_back(0);
            }
        }
        const auto results = start.guest.probe(fields, 0);
        ASSERT_EQ(results.size(), due.size());
        Differences differences;
        for (usize i = 0; i < due.size(); ++i) {
            const abi::ProbeResult& r = results[i];
            const bool entered = r.outcome == static_cast<u16>(abi::Outcome::exited);
            const bool refused =
                r.entry_failure == basic_reason && r.qualification == due[i] && r.refusal == 0;
            if (r.host_changed != 0 || (due[i] == 0 ? !entered : !refused)) {
                std::ostringstream text;
                text << "SDM 3C 27.4: MSR " << std::hex << bad[i / 6].index << "h, value " << bad[i / 6].value
                     << "h: due " << (due[i] == 0 ? "an entry" : "reason 34, qualification ") << due[i]
                     << ", got " << (entered ? "an entry" : "reason ") << r.entry_failure
                     << ", qualification " << r.qualification << ", HostState bits " << r.host_changed;
                differences.add(text.str());
            }
        }
        combinations(due.size());
    }
};

} // namespace

TEST_F(EntryMsrs, vmx_reserved_bits_of_the_index) {
    claim({.sdm = "SDM 3C 27.4"}, [&] {
        std::vector<Entry> bad;
        for (unsigned bit = 32; bit < 64; ++bit) {
            bad.push_back({good.index | u64{1} << bit, good.value});
        }
        expect_refused(bad);
    });
}

TEST_F(EntryMsrs, vmx_bases_of_fs_and_gs) {
    claim({.sdm = "SDM 3C 27.4"}, [&] { expect_refused({{fs_base_msr, 0}, {gs_base_msr, 0}}); });
}

TEST_F(EntryMsrs, vmx_registers_of_the_x2apic) {
    claim({.sdm = "SDM 3C 27.4"}, [&] {
        std::vector<Entry> bad;
        for (u64 index = 0x800; index < 0x900; index += 5) {
            bad.push_back({index, 0});
        }
        bad.push_back({0x808, 0}); // TPR, which WRMSR takes in x2APIC mode
        bad.push_back({0x8ff, 0});
        expect_refused(bad);
    });
}

TEST_F(EntryMsrs, vmx_msrs_of_smm) {
    claim({.sdm = "SDM 3C 27.4"}, [&] { expect_refused({{smm_monitor, 0}, {smbase, 0}}); });
}

TEST_F(EntryMsrs, vmx_msrs_that_are_not_there_or_only_read) {
    claim({.sdm = "SDM 3C 27.4"}, [&] {
        expect_refused({{0x4000'00ff, 0}, {0xc000'ffff, 0}, {0x1234'5678, 0}, {vmx_basic, 0}, {mtrr_cap, 0}});
    });
}

TEST_F(EntryMsrs, vmx_values_that_wrmsr_does_not_take) {
    claim({.sdm = "SDM 3C 27.4"}, [&] {
        std::vector<Entry> bad{{pat_msr, 2}, {pat_msr, 3}, {pat_msr, u64{8} << 56}};
        for (const u64 address : linear_addresses(machine_of(hello()).linear_bits)) {
            if (!machine_of(hello()).is_canonical(address)) {
                for (const u64 index : {u64{sysenter_esp_msr}, u64{lstar}, good.index}) {
                    bad.push_back({index, address});
                }
            }
        }
        for (unsigned bit = 12; bit < 64; ++bit) {
            bad.push_back({efer_msr, 0xd00 | u64{1} << bit});
        }
        expect_refused(bad);
    });
}

// As many entries as the count says, the first and the last too, and not one more; none where the entry
// fails.
TEST_F(EntryMsrs, vmx_exit_stores_each_entry_of_its_list) {
    claim({.sdm = "SDM 3C 28.4, 27.8"}, [&] {
        needs(abi::Permit::msr_lists);
        needs(abi::Permit::physical_addresses);
        constexpr u64 untouched = 0x5a5a'5a5a'5a5a'5a5a;
        u64 compared = 0;
        for (const u64 count : {0, 1, 2, 7, 31, 200}) {
            for (const bool fails : {false, true}) {
                client::Guest guest(host(), client::Plan{});
                guest.state.kernel_gs_base = 0x1234'5000;
                guest.state.star = 0x0013'0008'0000'0000;
                guest.state.lstar = 0xffff'8000'dead'0000;
                guest.state.sysenter_esp = 0x7fff'ffff'f000;
                const Entry known[] = {{good.index, guest.state.kernel_gs_base},
                                       {lstar - 1, guest.state.star},
                                       {lstar, guest.state.lstar},
                                       {sysenter_esp_msr, guest.state.sysenter_esp}};
                std::vector<Entry> list(count + 1);
                for (u64 i = 0; i <= count; ++i) {
                    list[i] = {known[i % std::size(known)].index, untouched};
                }
                guest.load({});
                guest.write(lists, {reinterpret_cast<const u8*>(list.data()), list.size() * sizeof(Entry)});
                guest.field(exit_store_address, 8, guest.host_physical(lists));
                guest.field(exit_store_count, 4, count);
                guest.field(rflags, 8, fails ? 0 : 2);
                const auto r = guest.run({});
                ASSERT_EQ(r.outcome, fails ? abi::Outcome::entry_refused : abi::Outcome::exited);
                const auto words = guest.read64(lists, 2 * list.size());
                for (u64 i = 0; i <= count; ++i) {
                    const bool stored = i < count && !fails;
                    EXPECT_EQ(words[2 * i], list[i].index);
                    EXPECT_EQ(words[2 * i + 1], stored ? known[i % std::size(known)].value : untouched)
                        << "entry " << i << " of " << count;
                    ++compared;
                }
            }
        }
        combinations(compared);
    });
}

// Neither the guest-state area nor the event is touched by an entry that fails in its checks.
TEST_F(EntryMsrs, vmx_failed_entry_leaves_guest_state_and_event) {
    claim({.sdm = "SDM 3C 27.8"}, [&] {
        needs(abi::Permit::deaf_guests);
        client::Guest guest(host(), client::Plan{});
        guest.load({});
        constexpr u64 info = event_valid | external_interrupt << 8 | 0x30; // with IF = 0
        guest.field(event, 4, info);
        guest.field(rip, 8, client::layout::code + 1);
        const auto before = guest.fields_of_state(modelled_fields(), 8);
        guest.field(event, 4, info);
        guest.field(rip, 8, client::layout::code + 1);
        const auto r = guest.run({});
        ASSERT_EQ(r.outcome, abi::Outcome::entry_refused);
        EXPECT_EQ(r.reply.refusal.entry_failure, 33u);
        EXPECT_EQ(guest.read_field(event, 4, false), info) << "the event stays valid";
        EXPECT_EQ(guest.read_field(rip, 8, false), client::layout::code + 1);
        u64 compared = 0;
        for (usize i = 0; i < modelled_fields().size(); ++i) {
            const u32 field = modelled_fields()[i];
            const bool guest_state = (field >> 10 & 3) == 2;
            if (!guest_state || field == rip) {
                continue;
            }
            try {
                EXPECT_EQ(guest.read_field(field, 8, false), before[i]) << name_of_field(field);
                ++compared;
            } catch (const client::Refused& refused) { // a field that this CPU does not have
                EXPECT_EQ(before[i], 0u) << name_of_field(field) << ": " << refused.what();
            }
        }
        EXPECT_GT(compared, 40u);
        combinations(compared);
    });
}

} // namespace refhv::front
