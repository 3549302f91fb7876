// SPDX-License-Identifier: MIT
// Entry probes: each from the same state, and the fields as before afterwards.
#include "conformance/test/core/core_fixture.hpp"

namespace refhv {
namespace {

class EntryProbes : public CoreTest {
  protected:
    static constexpr u32 rsp_field = 0x681c, exception_bitmap = 0x4004;

    client::Reply probe(std::initializer_list<abi::ProbeField> fields, u32 count) {
        abi::EntryProbes what{.vm = 0, .count = count, .deadline = 0, .state = {}};
        what.state.gpr[abi::rax] = static_cast<u64>(abi::Reason::cpuid);
        what.state.gpr[abi::rcx] = 1;
        Batch b;
        b.add<Op::entry_probes>(what, {fields.begin(), fields.size()});
        return send(b).at(0);
    }
};

TEST_F(EntryProbes, each_has_a_result_and_starts_from_the_same_state) {
    ASSERT_EQ(create(vm()), Outcome::ok);
    const auto reply = probe({{exception_bitmap, 8, 0, 5},
                              {rsp_field, 8, abi::probe_enters, 1},
                              {rsp_field, 8, abi::probe_enters, 2},
                              {rsp_field, 8, abi::probe_enters, 3}},
                             4);
    ASSERT_EQ(reply.outcome, Outcome::ok) << reply.text();
    ASSERT_EQ(reply.body.size(), 3 * sizeof(abi::ProbeResult));
    for (const abi::ProbeResult& r : reply.tail<abi::ProbeResult>(0, 3)) {
        EXPECT_EQ(static_cast<Outcome>(r.outcome), Outcome::exited);
        EXPECT_EQ(static_cast<abi::Reason>(r.reason), abi::Reason::cpuid); // the first exit, each time
    }
    EXPECT_EQ(fake::controls[0].vmcs[exception_bitmap], 0u) << "as before";
    EXPECT_EQ(fake::controls[0].vmcs[rsp_field], 0u) << "as before";
}

TEST_F(EntryProbes, what_is_malformed_is_refused) {
    ASSERT_EQ(create(vm()), Outcome::ok);
    EXPECT_EQ(probe({}, 0).outcome, Outcome::bad_request);
    EXPECT_EQ(probe({{rsp_field, 8, abi::probe_enters, 1}}, 2).outcome, Outcome::bad_request);
    EXPECT_EQ(probe({{rsp_field, 8, 0, 1}}, 1).outcome, Outcome::bad_request) << "no entry";
    EXPECT_EQ(probe({{rsp_field, 8, 2, 1}}, 1).outcome, Outcome::bad_request) << "unknown flag";
}

// There may be tens of thousands in one operation.
TEST_F(EntryProbes, a_stop_ends_them) {
    ASSERT_EQ(create(vm()), Outcome::ok);
    const abi::PolicyEntry emulates{.reason = static_cast<u16>(abi::Reason::hlt),
                                    .action = static_cast<u8>(abi::Action::emulate),
                                    .length = 0,
                                    .event = 0};
    ASSERT_EQ(send(Batch().add<Op::policy>({.vm = 0, .count = 1}, {&emulates, 1})).at(0).outcome,
              Outcome::ok);
    abi::EntryProbes what{.vm = 0, .count = 3, .deadline = 0, .state = {}};
    what.state.gpr[abi::rax] = static_cast<u64>(abi::Reason::hlt);
    const abi::ProbeField fields[3] = {{rsp_field, 8, abi::probe_enters, 1},
                                       {rsp_field, 8, abi::probe_enters, 2},
                                       {rsp_field, 8, abi::probe_enters, 3}};
    fake::wakes = false;
    fake::stop = true;
    const auto reply = send(Batch().add<Op::entry_probes>(what, fields)).at(0);
    fake::stop = false;
    fake::wakes = true;
    EXPECT_EQ(reply.outcome, Outcome::stopped);
    EXPECT_EQ(fake::controls[0].vmcs[rsp_field], 0u) << "as before";
}

TEST_F(EntryProbes, need_the_permissions_that_a_field_write_needs) {
    ASSERT_EQ(create(vm()), Outcome::ok);
    fake::permissions = {};
    constexpr u32 host_rip = 0x6c16;
    EXPECT_EQ(probe({{host_rip, 8, abi::probe_enters, 1}}, 1).outcome, Outcome::unsupported);
    EXPECT_EQ(probe({{rsp_field, 8, abi::probe_enters, 1}}, 1).outcome, Outcome::ok);
    fake::permissions = permit_all;
}

} // namespace
} // namespace refhv
