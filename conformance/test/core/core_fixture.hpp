// SPDX-License-Identifier: MIT
// The core on fake hardware, and the requests that its tests send.
#pragma once

#include "conformance/test/core/fake_hardware.hpp"
#include "refhv/client/batch.hpp"

#include <gtest/gtest.h>

namespace refhv {

using abi::Op;
using abi::Outcome;
using client::Batch;

inline constexpr u64 base = 0x4000'0000;

class CoreTest : public ::testing::Test {
  protected:
    CoreTest() : core_(fake::make_core()), out_(abi::max_frame_payload) {}

    std::vector<client::Reply> send(std::span<const u8> payload) {
        const usize size = core_->execute(payload, out_);
        EXPECT_LE(size, out_.size());
        return client::parse_replies({out_.data(), size});
    }
    std::vector<client::Reply> send(const Batch& batch) { return send(batch.payload()); }

    static abi::VmCreate vm(u32 slot = 0, u64 pages = 16) {
        return {.vm = slot,
                .mode = 2,
                .nested_page_size = 0,
                .tag_policy = 0,
                .zero = 0,
                .pages = pages,
                .gpa_base = base};
    }
    Outcome create(const abi::VmCreate& what) { return send(Batch().add(Op::vm_create, what)).at(0).outcome; }

    // Runs a guest that exits `exits` times with `reason`, then halts.
    client::Reply run(abi::Reason reason, u64 exits, abi::Run what, abi::Action action) {
        abi::StateSet state{};
        state.state.gpr[abi::rax] = static_cast<u64>(reason);
        state.state.gpr[abi::rcx] = exits;
        const abi::PolicyEntry entry{static_cast<u16>(reason), static_cast<u8>(action), 2, 0};
        Batch b;
        b.add(Op::state_set, state)
            .add(Op::policy, abi::PolicySet{0, 1}, {reinterpret_cast<const u8*>(&entry), sizeof entry})
            .add(Op::run, what);
        return send(b).at(2);
    }

    std::unique_ptr<fake::Core> core_;
    std::vector<u8> out_;
};

} // namespace refhv
