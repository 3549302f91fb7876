// SPDX-License-Identifier: MIT
// Guest: nested tables and what drops translations.
#include "refhv/client/guest/vm.hpp"

namespace refhv::client {

void Guest::nested_entry(u64 gpa, unsigned level, u64 value, u32 flags, u32 count, u64 step) {
    add<abi::Op::nested_entry>(abi::NestedEntry{.vm = host_.slot,
                                                .flags = flags | abi::nested_entry_write,
                                                .gpa = gpa,
                                                .level = level,
                                                .count = count,
                                                .value = value,
                                                .step = step});
}

abi::NestedEntryReply Guest::nested_entry_at(u64 gpa, unsigned level) {
    const usize at = add<abi::Op::nested_entry>(abi::NestedEntry{
        .vm = host_.slot, .flags = 0, .gpa = gpa, .level = level, .count = 1, .value = 0, .step = 0});
    std::vector<u8> storage;
    return send(storage)[at].as<abi::NestedEntryReply>();
}

abi::InvalidateReply Guest::invalidate(abi::Invalidation kind, u64 address, u32 repeats,
                                       std::optional<u64> tag) {
    const usize at =
        add<abi::Op::invalidate>(abi::Invalidate{.vm = host_.slot,
                                                 .kind = static_cast<u16>(kind),
                                                 .flags = static_cast<u16>(tag ? abi::invalidate_tag : 0u),
                                                 .repeats = repeats,
                                                 .zero = 0,
                                                 .address = address,
                                                 .tag = tag.value_or(0)});
    std::vector<u8> storage;
    return send(storage)[at].as<abi::InvalidateReply>();
}

std::vector<u64> Guest::read64(u64 gpa, u64 count) {
    const usize at =
        add<abi::Op::mem_read>(abi::MemRange{.vm = host_.slot, .zero = 0, .gpa = gpa, .size = 8 * count});
    std::vector<u8> storage;
    return send(storage)[at].tail<u64>(0, count);
}

u64 Guest::host_physical(u64 gpa) {
    if (hpa_base_ == 0) {
        static_cast<void>(settle());
    }
    return hpa_base_ + (gpa - layout::base);
}

} // namespace refhv::client
