// SPDX-License-Identifier: MIT
// Turns a fuzzer's bytes into a request of whole operations, as the rows of abi::Operations have them.
#pragma once

#include "refhv/client/batch.hpp"

#include <algorithm>
#include <vector>

namespace refhv::fuzz {

// Takes bytes from the front of `in`; 0 where there are no more.
inline u8 take_byte(std::span<const u8>& in) {
    const u8 byte = in.empty() ? u8{0} : in.front();
    in = in.subspan(std::min<usize>(in.size(), 1));
    return byte;
}

// An operation that has no row, or whose body is too short.
inline void add_malformed(client::Batch& batch, std::span<const u8>& in) {
    const auto op = static_cast<abi::Op>(take_byte(in) % (abi::Operations::count + 3));
    const u64 whole = abi::body_size(op);
    const usize length = std::min<usize>(take_byte(in) % (whole != 0 ? whole : 64), in.size());
    batch.add_raw(op, in.first(length), {});
    in = in.subspan(length);
}

// An earlier operation of the batch with up to three words changed. Not one whose cost `tame` bounds.
inline void add_again(client::Batch& batch, std::span<const u8>& in, std::span<const usize> repeatable) {
    const usize which = take_byte(in);
    std::vector<abi::Patch> patches(take_byte(in) % 4);
    for (abi::Patch& patch : patches) {
        patch.word = take_byte(in) % 64;
        const usize given = std::min(in.size(), sizeof patch.value);
        std::copy_n(in.data(), given, reinterpret_cast<u8*>(&patch.value));
        in = in.subspan(given);
    }
    batch.again(repeatable.empty() ? which * 8 : repeatable[which % repeatable.size()], patches);
}

// Does the fuzzer bound what such an operation may cost?
[[nodiscard]] constexpr bool is_bounded_by_tame(abi::Op op) {
    return op == abi::Op::hello || op == abi::Op::vm_create || op == abi::Op::run ||
           op == abi::Op::entry_probes || op == abi::Op::nested_entry;
}

// A byte picks the row, those behind it are its body, and a length and as many bytes its data, where it has
// any. `tame(row, body, data)` may change the body, and say by false that the operation is to be left out.
template <class Tame>
[[nodiscard]] client::Batch shaped_request(std::span<const u8> in, Tame tame) {
    client::Batch batch;
    std::vector<usize> repeatable; // where they stand
    while (!in.empty()) {
        const u8 which = take_byte(in);
        constexpr u8 malformed = 0xf0, again = 0xe8;
        if (which >= malformed) {
            add_malformed(batch, in);
            continue;
        }
        if (which >= again) {
            add_again(batch, in, repeatable);
            continue;
        }
        abi::Operations::at(which % abi::Operations::count, [&]<class Row>(Row row) {
            typename Row::Body body{};
            const usize given = std::min(in.size(), sizeof body);
            std::copy_n(in.data(), given, reinterpret_cast<u8*>(&body));
            in = in.subspan(given);
            std::span<const u8> data;
            if constexpr (Row::has_data) {
                const usize length = std::min<usize>(take_byte(in), in.size());
                data = in.first(length);
                in = in.subspan(length);
            }
            if (tame(row, body, data)) {
                if (!is_bounded_by_tame(row.number)) {
                    repeatable.push_back(batch.payload().size());
                }
                batch.add(row.number, body, data);
            }
        });
    }
    return batch;
}

} // namespace refhv::fuzz
