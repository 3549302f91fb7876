// SPDX-License-Identifier: MIT
// Turns a fuzzer's bytes into a request of whole operations, as the rows of abi::Operations have them.
#pragma once

#include "refhv/client/batch.hpp"

#include <algorithm>

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

// A byte picks the row, those behind it are its body, and a length and as many bytes its data, where it has
// any. `tame(row, body, data)` may change the body, and say by false that the operation is to be left out.
template <class Tame>
[[nodiscard]] client::Batch shaped_request(std::span<const u8> in, Tame tame) {
    client::Batch batch;
    while (!in.empty()) {
        const u8 which = take_byte(in);
        constexpr u8 malformed = 0xf0;
        if (which >= malformed) {
            add_malformed(batch, in);
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
                batch.add(row.number, body, data);
            }
        });
    }
    return batch;
}

} // namespace refhv::fuzz
