// SPDX-License-Identifier: MIT
// The core on a platform that may permit nothing.
#pragma once

#include "conformance/test/core/core_fixture.hpp"

namespace refhv {

class Contract : public CoreTest {
  protected:
    static void be_production() { fake::permissions = {}; }
    Outcome outcome(const Batch& b) { return send(b).at(0).outcome; }
    Outcome load(const abi::GuestState& s) {
        return outcome(Batch().add<Op::state_set>({.vm = 0, .zero = 0, .state = s}));
    }
};

} // namespace refhv
