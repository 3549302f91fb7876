// SPDX-License-Identifier: MIT
// What a run on VMX must leave as it found it: SDM 3C 28.5, line by line.
#include "conformance/test/silicon/vmx_fixture.hpp"

namespace refhv::silicon {

namespace {

class VmxHost : public VmxTest {};

TEST_F(VmxHost, a_run_leaves_everything_alone) {
    create();
    EXPECT_EQ(run_once(), 0u);
    EXPECT_EQ(reason(), abi::Reason::hypercall);
}

} // namespace
} // namespace refhv::silicon
