// SPDX-License-Identifier: MIT
#include "conformance/ept/case.hpp"

namespace refhv::front {

namespace {

constexpr u64 data_read = 1u << 0, data_write = 1u << 1, fetch = 1u << 2;
constexpr u64 linear_valid = 1u << 7, final_access = 1u << 8;
constexpr u64 user_page = 1u << 9, writable_page = 1u << 10, no_execute_page = 1u << 11;
constexpr u64 nmi_unblocking = 1u << 12;

// Access, rights, validity and, without mode-based execute control, nothing in bit 6.
constexpr u64 defined = 0x7 | 0x38 | linear_valid | final_access | nmi_unblocking;

} // namespace

std::optional<Ept::Qualification> Ept::violation(Access access, u32 rights) {
    const bool modifies = access == Access::modify || access == Access::modify_locked;
    const u32 needed = access == Access::read    ? may_read
                       : access == Access::write ? may_write
                       : access == Access::fetch ? may_execute
                                                 : may_read | may_write;
    if ((rights & needed) == needed) {
        return std::nullopt;
    }
    const u64 kind = access == Access::read ? data_read : access == Access::fetch ? fetch : data_write;
    Qualification q{kind | u64{rights} << 3 | linear_valid | final_access, defined};
    if (modifies) {
        q.mask &= ~data_read; // may be set besides, as the CPU likes
    }
    if (advanced_information()) { // what the guest's entries say: pages of AccessList are user pages
        q.mask |= user_page | writable_page | no_execute_page;
        q.value |= user_page | writable_page;
    }
    return q;
}

std::optional<Ept::Qualification> Ept::walk_violation(u32 rights, bool sets_flags, bool accessed_dirty) {
    const bool readable = (rights & may_read) != 0, writable = (rights & may_write) != 0;
    Qualification q{u64{rights} << 3 | linear_valid, defined};
    if (accessed_dirty) { // SDM 3C 29.3.5: every use of a guest's entry is a write, and both bits say so
        q.value |= data_read | data_write;
        return readable && writable ? std::nullopt : std::optional{q};
    }
    if (!readable) {
        q.value |= data_read;
        return q;
    }
    if (sets_flags && !writable) {
        q.value |= data_write;
        q.mask &= ~data_read; // an update is a read-modify-write
        return q;
    }
    return std::nullopt;
}

void Ept::compare(const AccessList::Case& c, const std::optional<Qualification>& due, u64 guest_physical,
                  const std::string& what, Differences& differences) {
    if (!due || !c.exit) {
        if (due || c.exit) {
            differences.add(what, ", ", name_of(c.access), ": ",
                            due ? "no EPT violation" : "an EPT violation", std::hex, ", qualification ",
                            due ? due->value : c.exit->qualification);
        }
        return;
    }
    const abi::Exit& e = *c.exit;
    if (static_cast<abi::Reason>(e.reason) != abi::Reason::nested_violation ||
        ((e.qualification ^ due->value) & due->mask) != 0 || e.guest_physical != guest_physical ||
        e.guest_linear != c.linear) {
        differences.add(what, ", ", name_of(c.access), ": ",
                        client::name_of(static_cast<abi::Reason>(e.reason)), std::hex, ", qualification ",
                        e.qualification, ", due ", due->value, " under ", due->mask, "; guest-physical ",
                        e.guest_physical, ", due ", guest_physical, "; guest-linear ", e.guest_linear,
                        ", due ", c.linear);
    }
}

} // namespace refhv::front
