// SPDX-License-Identifier: MIT
// What a run on SVM must leave as it found it: APM 2 15.6, line by line.
#include "conformance/test/silicon/svm_fixture.hpp"

namespace refhv::silicon {

namespace {

class SvmHost : public SvmTest {};

TEST_F(SvmHost, a_run_leaves_everything_alone) {
    create();
    EXPECT_EQ(run_once(), 0u);
    EXPECT_EQ(reason(), abi::Reason::triple_fault);
    EXPECT_EQ(svm().root, memory_.hpa_base + page_size);
}

} // namespace
} // namespace refhv::silicon
