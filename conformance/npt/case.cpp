// SPDX-License-Identifier: MIT
#include "conformance/npt/case.hpp"

namespace refhv::front {

namespace {
// Bits of EXITINFO1: P, RW, US, RSV, ID, and where the address comes from.
constexpr u64 present = 1u << 0, write = 1u << 1, user = 1u << 2, reserved = 1u << 3, code = 1u << 4;
constexpr u64 defined = present | write | user | reserved | code | u64{3} << 32;
} // namespace

std::vector<u64> Npt::every_rights() {
    std::vector<u64> all{0};
    for (const u64 w : {u64{0}, rw}) {
        for (const u64 u : {u64{0}, us}) {
            for (const u64 x : {u64{0}, nx}) {
                all.push_back(p | w | u | x);
            }
        }
    }
    return all;
}

std::string Npt::text_of(u64 rights) {
    return (rights & p) == 0
               ? "not present"
               : std::string((rights & rw) != 0 ? "RW " : "RO ") +
                     ((rights & us) != 0 ? "US" : "supervisor") + ((rights & nx) != 0 ? " NX" : "");
}

std::optional<Npt::Information> Npt::fault(Access access, u64 rights) {
    const bool reads_only = access == Access::read || access == Access::fetch;
    const bool refused = (rights & p) == 0 || (rights & us) == 0 || (!reads_only && (rights & rw) == 0) ||
                         (access == Access::fetch && (rights & nx) != 0);
    if (!refused) {
        return std::nullopt;
    }
    Information due{user | of_final_address | ((rights & p) != 0 ? present : 0) | (reads_only ? 0 : write) |
                        (access == Access::fetch ? code : 0),
                    defined};
    const bool by_rw_alone = (rights & (p | us | rw)) == (p | us);
    if ((access == Access::modify || access == Access::modify_locked) && !by_rw_alone) {
        due.mask &= ~write; // the manual does not say which of its two accesses comes first
    }
    return due;
}

std::optional<Npt::Information> Npt::walk_fault(u64 rights) {
    if ((rights & (p | us | rw)) == (p | us | rw)) {
        return std::nullopt;
    }
    return Information{user | write | of_guest_table | ((rights & p) != 0 ? present : 0), defined};
}

void Npt::compare(const AccessList::Case& c, const std::optional<Information>& due, u64 guest_physical,
                  const std::string& what, Differences& differences) {
    if (!due || !c.exit) {
        if (due || c.exit) {
            differences.add(what, ", ", name_of(c.access), ": ",
                            due ? "no nested page fault" : "a nested page fault", std::hex, ", EXITINFO1 ",
                            due ? due->value : c.exit->qualification);
        }
        return;
    }
    const abi::Exit& e = *c.exit;
    if (e.raw_reason != 0x400 || ((e.qualification ^ due->value) & due->mask) != 0 ||
        e.info != guest_physical) {
        differences.add(what, ", ", name_of(c.access), ": EXITCODE ", std::hex, e.raw_reason, ", EXITINFO1 ",
                        e.qualification, ", due ", due->value, " under ", due->mask, "; EXITINFO2 ", e.info,
                        ", due ", guest_physical);
    }
}

} // namespace refhv::front
