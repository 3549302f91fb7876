// SPDX-License-Identifier: MIT
// The model of the entry checks, statement by statement, on a state written down here.
#include "conformance/entry/table/svm_rules.hpp"
#include "conformance/entry/table/vmx_rules.hpp"

#include <gtest/gtest.h>

namespace refhv::front {
namespace {

using vmx_entry::Rule;

constexpr vmx_entry::Machine machine{.pin = {0x16, 0xff},
                                     .proc = {0x0401'e172, 0xfffb'fffe},
                                     .proc2 = {0, 0xffff'ffff},
                                     .exit = {0x3'6dff, 0x107f'ffff},
                                     .entry = {0x11ff, 0x10'ffff},
                                     .proc3 = 0xc0,
                                     .cr0_fixed0 = 0x8000'0021,
                                     .cr0_fixed1 = 0xffff'ffff,
                                     .cr4_fixed0 = 0x2000,
                                     .cr4_fixed1 = 0xb7'67ff,
                                     .misc = 0x1e0 | 4u << 16,
                                     .ept_vpid = 0x0611'4141,
                                     .functions = 1,
                                     .any_error_code = false,
                                     .physical_bits = 40,
                                     .linear_bits = 48,
                                     .execute_disable = true,
                                     .sgx = false,
                                     .rtm = false,
                                     .bus_lock = false};

// A guest in 64-bit mode on a host in 64-bit mode.
vmx_entry::State valid_state() {
    using namespace vmx_entry;
    State s;
    for (const auto& [field, value] :
         std::initializer_list<std::pair<u32, u64>>{{pin_controls, 0x3f},
                                                    {proc_controls, 0xb6a1'e1f2},
                                                    {secondary_controls, proc2_ept},
                                                    {exit_controls, 0x3f'6fff},
                                                    {entry_controls, 0xd3ff},
                                                    {ept_pointer, 0x1e},
                                                    {link_pointer, ~u64{0}},
                                                    {pat, 0x0007'0406'0007'0406},
                                                    {efer, 0xd00},
                                                    {host_pat, 0x0007'0406'0007'0406},
                                                    {host_efer, 0x500},
                                                    {cr0, 0x8001'0033},
                                                    {cr4, 0x2020},
                                                    {host_cr0, 0x8001'0033},
                                                    {host_cr4, 0x2020},
                                                    {host_cs_selector, 8},
                                                    {host_tr_selector, 0x28},
                                                    {rflags, 2}}) {
        s.set(field, value);
    }
    for (u32 i = es; i <= gs; ++i) {
        s.set(selector_of(i), i == cs ? 8 : 0x10);
        s.set(limit_of(i), 0xffff'ffff);
        s.set(rights_of(i), i == cs ? 0xa09b : 0xc093);
    }
    s.set(ldtr_rights, unusable_bit);
    s.set(tr_rights, 0x8b);
    s.set(tr_limit, 0x67);
    return s;
}

std::vector<Rule> broken_by(const vmx_entry::Change& change) {
    return broken_rules(valid_state().with(change), machine);
}

TEST(EntryRules, vmx_state_breaks_nothing) {
    EXPECT_TRUE(broken_by({}).empty());
}

TEST(EntryRules, vmx_each_change_breaks_its_rule_alone) {
    using namespace vmx_entry;
    const std::pair<Change, Rule> cases[] = {
        {{{pin_controls, 0x3e & ~0x10}}, Rule::pin_controls},
        {{{cr3_target_count, 5}}, Rule::cr3_target_count},
        {{{io_bitmap_b, 0x800}}, Rule::io_bitmap_addresses},
        {{{msr_bitmap, u64{1} << 40}}, Rule::msr_bitmap_address},
        {{{tpr_threshold, 0x10}}, Rule::tpr_threshold_reserved_bits},
        {{{tpr_threshold, 6}}, Rule::tpr_threshold_above_vtpr},
        {{{secondary_controls, proc2_ept | proc2_vpid}}, Rule::vpid_zero},
        {{{ept_pointer, 0x1a}}, Rule::ept_pointer},
        {{{secondary_controls, proc2_unrestricted}}, Rule::unrestricted_guest_without_ept},
        {{{exit_store_count, 2}, {exit_store_address, (u64{1} << 40) - 16}}, Rule::exit_msr_store_address},
        {{{event, event_valid | 1 << 8}}, Rule::event_type},
        {{{event, event_valid | nmi << 8 | 3}}, Rule::event_vector},
        {{{event, event_valid | hardware_exception << 8 | 13}}, Rule::event_error_code_is_due},
        {{{event, event_valid | hardware_exception << 8 | 6 | 1 << 11}}, Rule::event_error_code_is_not_due},
        {{{event, event_valid | software_interrupt << 8 | 0x30}, {event_length, 16}},
         Rule::event_length_above_15},
        {{{event, event_valid | external_interrupt << 8 | 0x30}}, Rule::rflags_if_under_an_interrupt},
        {{{host_cs_selector, 9}}, Rule::host_selector_rpl_and_ti},
        {{{host_rip, u64{1} << 47}}, Rule::host_rip_canonical},
        {{{cr0, 0x8001'0013}}, Rule::cr0_fixed_bits},
        {{{cr4, 0x2000}}, Rule::ia32e_mode_without_paging_or_pae},
        {{{efer, 0x800}}, Rule::efer_lma_is_ia32e_mode_guest},
        {{{debugctl, 1 << 16}}, Rule::debugctl_reserved_bits},
        {{{ss_rights, 0xc0f3}, {cs_rights, 0xa0fb}}, Rule::ss_dpl_is_rpl},
        {{{cs_rights, 0xe09b}}, Rule::cs_l_and_d},
        {{{rights_of(fs), 0xc0f3}, {limit_of(fs), 0xffff'fffe}}, Rule::segment_granularity},
        {{{rights_of(ds), 0xc093}, {selector_of(ds), 0x13}}, Rule::data_segment_dpl_below_rpl},
        {{{tr_rights, 0x83}}, Rule::tr_type},
        {{{base_of(ss), u64{1} << 32}}, Rule::segment_base_upper_half},
        {{{rip, u64{1} << 48}}, Rule::rip_bits_beyond_the_linear_width},
        {{{rflags, 0}}, Rule::rflags_reserved_bits},
        {{{interruptibility, 1}}, Rule::blocking_by_sti_without_if},
        {{{activity, 4}}, Rule::activity_unknown},
        {{{interruptibility, 2}, {rflags, 0x102}}, Rule::pending_debug_bs_is_due},
        {{{pending_debug, 1 << 13}}, Rule::pending_debug_reserved_bits},
        {{{link_pointer, 0x10}}, Rule::link_pointer_address},
        {{{proc_controls, 0xb6a3'e1f2}, {tertiary_controls, 0xc1}}, Rule::tertiary_controls},
        {{{cr4, 0x80'2020}, {cr0, 0x8000'0033}}, Rule::cr4_cet_without_wp},
        {{{host_cr4, 0x80'2020}, {host_cr0, 0x8000'0033}}, Rule::host_cr4_cet_without_wp}};
    for (const auto& [change, rule] : cases) {
        const auto broken = broken_by(change);
        EXPECT_EQ(broken, std::vector<Rule>{rule})
            << info_of(rule).name
            << (broken.empty() ? "" : std::string(", but ") + info_of(broken.front()).name);
    }
}

// With both "load CET state" controls.
vmx_entry::Change with_cet(u32 field, u64 value) {
    using namespace vmx_entry;
    return {{entry_controls, 0xd3ff | entry_load_cet},
            {exit_controls, 0x3f'6fff | exit_load_cet},
            {field, value}};
}

TEST(EntryRules, vmx_cet_state) {
    using namespace vmx_entry;
    Change compatibility = with_cet(ssp, u64{1} << 32);
    EXPECT_TRUE(broken_by(compatibility).empty());
    compatibility.push_back({cs_rights, 0xc09b});
    EXPECT_EQ(broken_by(compatibility), std::vector<Rule>{Rule::ssp_upper_half});
    const std::tuple<u32, u64, Rule> cases[] = {
        {s_cet, 0x40, Rule::s_cet_reserved_bits},
        {s_cet, 0xc04, Rule::s_cet_suppress_and_tracker},
        {s_cet, u64{1} << 47, Rule::s_cet_canonical},
        {interrupt_ssp_table, u64{1} << 47, Rule::interrupt_ssp_table_canonical},
        {ssp, 2, Rule::ssp_alignment},
        {ssp, u64{1} << 48, Rule::ssp_bits_beyond_the_linear_width},
        {host_s_cet, 0x200, Rule::host_s_cet_reserved_bits},
        {host_s_cet, 0xc00, Rule::host_s_cet_suppress_and_tracker},
        {host_s_cet, u64{1} << 47, Rule::host_s_cet_canonical},
        {host_interrupt_ssp_table, u64{1} << 63, Rule::host_interrupt_ssp_table_canonical},
        {host_ssp, 1, Rule::host_ssp_alignment},
        {host_ssp, u64{1} << 47, Rule::host_ssp_canonical}};
    for (const auto& [field, value, rule] : cases) {
        EXPECT_EQ(broken_by(with_cet(field, value)), std::vector<Rule>{rule}) << info_of(rule).name;
        EXPECT_TRUE(broken_by({{field, value}}).empty()) << "without the controls: " << info_of(rule).name;
    }
    for (const auto& [field, value] : {std::pair<u32, u64>{ssp, u64{1} << 47}, // bit N-1 may differ
                                       {s_cet, 0x43f | ~u64{0} << 47},
                                       {s_cet, 0x83f},
                                       {host_ssp, 4},
                                       {interrupt_ssp_table, 7}}) {
        EXPECT_TRUE(broken_by(with_cet(field, value)).empty()) << name_of_field(field);
    }
}

// What the manual leaves alone.
TEST(EntryRules, vmx_each_change_is_legal) {
    using namespace vmx_entry;
    const Change changes[] = {{{cr0, 0x8001'0033 | cr0_nw}},
                              {{rip, u64{1} << 47}}, // bit N-1 may differ
                              {{rights_of(ds), unusable_bit | 0x1ff}},
                              {{ss_rights, unusable_bit | 0xf00}},
                              {{io_bitmap_a, 1}, {proc_controls, 0xb4a1'e1f2}},
                              {{entry_load_address, 1}},
                              {{tpr_threshold, 5}},
                              {{event, nmi << 8 | 99}},
                              {{efer, 0}, {entry_controls, 0x53ff}},
                              {{base_of(fs), ~u64{0} << 47}},
                              {{interruptibility, 2}, {pending_debug, 1 << 14}, {rflags, 0x102}},
                              {{activity, 1}, {rflags, 0x202}},
                              {{tertiary_controls, ~u64{0}}},
                              {{proc_controls, 0xb6a3'e1f2}, {tertiary_controls, 0xc0}},
                              {{cr4, 0x80'2020}}};
    for (const Change& change : changes) {
        const auto broken = broken_by(change);
        EXPECT_TRUE(broken.empty()) << name_of_field(change.front().field) << ": "
                                    << (broken.empty() ? "" : info_of(broken.front()).name);
    }
}

TEST(EntryRules, vmx_field_names_are_told) {
    EXPECT_EQ(vmx_entry::name_of_field(vmx_entry::rights_of(vmx_entry::tr)), "TR rights");
    EXPECT_EQ(vmx_entry::name_of_field(vmx_entry::cr0), "cr0");
}

TEST(EntryRules, svm_each_change_breaks_its_rule_alone) {
    using namespace svm_entry;
    using svm_entry::Rule;
    constexpr Machine cpu{
        .physical_bits = 40, .linear_bits = 48, .cr4_features = 0, .next_rip = true, .asids = 8};
    const State valid{.intercept_2 = 1,
                      .io_map = 0x10'0000,
                      .msr_map = 0x10'3000,
                      .asid = 1,
                      .event = 0,
                      .cs_attributes = 0xa9b,
                      .efer = 0x1d00,
                      .cr4 = 0x20,
                      .cr3 = 0x1000,
                      .cr0 = 0x8001'0033,
                      .dr7 = 0x400,
                      .dr6 = 0xffff'0ff0};
    EXPECT_TRUE(broken_rules(valid, cpu).empty());
    const std::pair<Change, Rule> cases[] = {
        {{{efer, 0xd00}}, Rule::efer_svme_clear},
        {{{cr0, 0x8001'0033 | cr0_nw}}, Rule::cr0_nw_without_cd},
        {{{cr4, 0}}, Rule::long_mode_without_pae},
        {{{cr4, 0x20 | 1 << 20}}, Rule::cr4_bits_of_absent_features},
        {{{cs_attributes, 0x69b}}, Rule::cs_l_and_d},
        {{{intercept_2, 2}}, Rule::vmrun_not_intercepted},
        {{{io_map, (u64{1} << 40) - 0x2000}}, Rule::io_map_beyond_the_cpus_addresses},
        {{{asid, u64{1} << 32}}, Rule::asid_zero}, // 32 bits of it count
        {{{event, event_valid | 5 << 8}}, Rule::event_type},
        {{{event, event_valid | 3 << 8 | 2}}, Rule::event_nmi_as_an_exception},
        {{{event, event_valid | 3 << 8 | 5}}, Rule::event_br_in_64_bit_mode}};
    for (const auto& [change, rule] : cases) {
        EXPECT_EQ(broken_rules(valid.with(change), cpu), std::vector<Rule>{rule}) << name_of(rule);
    }
    EXPECT_TRUE(broken_rules(valid.with({{event, event_valid | 2 << 8 | 99}}), cpu).empty());
}

} // namespace
} // namespace refhv::front
