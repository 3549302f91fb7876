// SPDX-License-Identifier: MIT
#include "microbench/measure/sampling.hpp"

#include <algorithm>
#include <deque>

namespace refhv::bench {

namespace {

std::deque<Row>& declared() {
    static std::deque<Row> all; // addresses stay
    return all;
}

} // namespace

Declare::Declare(Row row) {
    declared().push_back(std::move(row));
}

std::vector<const Row*> rows() {
    std::vector<const Row*> out;
    for (const Row& row : declared()) {
        out.push_back(&row);
    }
    std::stable_partition(out.begin(), out.end(),
                          [](const Row* row) { return std::string_view(row->name).starts_with("control."); });
    return out;
}

std::vector<abi::Mode> modes_of(const Row& row) {
    if (!row.modes.empty()) {
        return row.modes;
    }
    std::vector<abi::Mode> modes{abi::Mode::nested};
    if (row.paging) {
        modes.insert(modes.end(), {abi::Mode::shadow, abi::Mode::vtlb});
    }
    if (row.native) {
        modes.push_back(abi::Mode::native);
    }
    if (row.user) {
        modes.push_back(abi::Mode::user);
    }
    if (!row.paging && (row.native || row.user || row.kvm)) {
        modes.push_back(abi::Mode::kvm);
    }
    return modes;
}

std::vector<std::string> claims_of(const Row& row, abi::Mode mode) {
    if (row.by_itself) {
        return row.rests_on;
    }
    std::vector<std::string> claims;
    const auto and_further = [&] {
        claims.insert(claims.end(), row.rests_on.begin(), row.rests_on.end());
        for (const std::string& name : row.rests_on_in_mode) {
            claims.push_back(name + client::name_of(mode));
        }
        return claims;
    };
    switch (mode) {
    case abi::Mode::native:
        claims = {"NativeStamps.are_ordered_and_complete"};
        return and_further();
    case abi::Mode::user:
        claims = {"UserStamps.are_ordered_and_complete"};
        return and_further();
    case abi::Mode::kvm:
        claims = {"KvmStamps.are_ordered_and_complete"};
        if (row.reason == abi::Reason::io_in || row.reason == abi::Reason::io_out) {
            claims.emplace_back("Kvm.an_access_to_a_port_comes_with_port_size_and_direction");
        } else if (row.reason != abi::Reason::none && !comes_to_us(row, mode)) {
            claims.emplace_back("Kvm.exits_are_counted");
        }
        return and_further();
    default:
        break;
    }
    claims = {"Stamps.take_no_exit"};
    if (row.reason != abi::Reason::none) {
        claims.emplace_back("Stamps.of_host_and_guest_are_of_one_clock");
    }
    if (row.claims_about != nullptr) {
        const std::string about = std::string("Exit.") + row.claims_about;
        if (row.reason != abi::Reason::none) {
            claims.push_back(about + "_exits_when_intercepted");
            claims.push_back(about + "_leaves_state_intact");
        }
        claims.push_back(about + "_obeys_its_intercept");
    }
    return and_further();
}

std::string full_name(const Row& row, abi::Mode mode) {
    return std::string(row.name) + "/" + client::name_of(mode);
}

} // namespace refhv::bench
