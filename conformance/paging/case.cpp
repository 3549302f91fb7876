// SPDX-License-Identifier: MIT
#include "conformance/paging/case.hpp"

#include <cstdio>

namespace refhv::front {

namespace {

[[nodiscard]] std::string entry_to_string(EntryCode e) {
    std::string out{(e & entry_p) != 0 ? 'P' : '-', (e & entry_rw) != 0 ? 'W' : '-',
                    (e & entry_us) != 0 ? 'U' : '-', (e & entry_nx) != 0 ? 'X' : '-'};
    out += key_of(e) != 0 ? " key " + std::to_string(key_of(e)) : "";
    return out + (extra_bit_of(e) != 0 ? " bit " + std::to_string(extra_bit_of(e)) : "");
}

} // namespace

std::string to_string(const EntrySet& set) {
    constexpr const char* names[] = {"", "PTE", "PDE", "PDPTE", "PML4E", "PML5E"};
    std::string out;
    for (unsigned level = 5; level >= set.leaf; --level) {
        if (level < 5 || set.entry[5] != 0) {
            out += std::string(names[level]) + ' ' + entry_to_string(set.entry[level]) +
                   (level == set.leaf ? "" : ", ");
        }
    }
    return out;
}

std::string to_string(u64 control, Try t) {
    constexpr const char* bits[] = {"WP", "NXE", "SMEP", "SMAP", "AC", "PKE"};
    constexpr const char* kinds[] = {"supervisor read", "supervisor write", "supervisor fetch",
                                     "user read",       "user write",       "user fetch"};
    std::string out = kinds[static_cast<unsigned>(t)];
    for (unsigned i = 0; i < std::size(bits); ++i) {
        out += (control >> i & 1) != 0 ? std::string(" ") + bits[i] : "";
    }
    char pkru[24];
    std::snprintf(pkru, sizeof pkru, " PKRU %08x", static_cast<u32>(control >> 32));
    return out + ((control & control_pke) != 0 ? pkru : "");
}

std::string result_to_string(u16 result) {
    char error[16];
    std::snprintf(error, sizeof error, "#PF(%02x)", result & result_error);
    std::string out = (result & result_fault) != 0 ? error : "done";
    for (unsigned level = 1; level <= 5; ++level) {
        out += (result & result_accessed_1 << (level - 1)) != 0 ? " A" + std::to_string(level) : "";
    }
    out += (result & result_dirty) != 0 ? " D" : "";
    out += (result & result_cr2) != 0 ? ", CR2 is not the address" : "";
    return out + ((result & result_strange) != 0 ? ", and something else changed or was raised" : "");
}

} // namespace refhv::front
