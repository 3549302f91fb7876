// SPDX-License-Identifier: MIT
// Raw fields on a platform that somebody else works on.
#include "conformance/test/core/contract_fixture.hpp"
#include "conformance/test/core/outside_model.hpp"

namespace refhv {
namespace {

class ContractFields : public Contract {
  protected:
    ContractFields() { fake::permissions = {}; }
    ~ContractFields() override {
        fake::VmxCpu::status = abi::BackendStatus::usable, fake::SvmCpu::status = abi::BackendStatus::absent;
    }
    Outcome write(u32 field, u64 value, u32 width = 8) {
        const Outcome o = outcome(Batch().add<Op::field_write>(
            {.vm = 0, .field = field, .width = width, .zero = 0, .value = value}));
        EXPECT_STREQ(fake::OutsideModel(fake::controls[0]).fault(), nullptr)
            << std::hex << field << " " << value;
        return o;
    }
    client::Reply read(u32 field, u32 width = 8) {
        return send(Batch().add<Op::field_read>(
                        {.vm = 0, .field = field, .width = width, .zero = 0, .value = 0}))
            .at(0);
    }
    void use_svm() {
        fake::VmxCpu::status = abi::BackendStatus::absent;
        fake::SvmCpu::status = abi::BackendStatus::usable;
        core_ = fake::make_core();
        fake::permissions = {};
    }
};

TEST_F(ContractFields, no_vmcs_field_takes_a_guest_out_of_its_vm) {
    ASSERT_EQ(create(vm()), Outcome::ok);
    for (u32 field = 0; field < 0x8000; ++field) {
        if ((field & 0x13c0) != 0) { // SDM 3D appendix B goes no further
            continue;
        }
        for (unsigned bit = 0; bit < 64; bit += field % 2 != 0 ? 13 : 1) { // every bit of every full field
            const u64 now = fake::controls[0].get(static_cast<vmx::Field>(field & ~1u));
            (void)write(field, now ^ u64{1} << bit);
        }
        (void)write(field, 0);
        (void)write(field, ~u64{0});
        (void)write(field, base + page_size);
    }
}

TEST_F(ContractFields, vmcs_addresses_are_guest_memory_and_come_before_their_controls) {
    ASSERT_EQ(create(vm()), Outcome::ok);
    const u64 proc = fake::controls[0].get(vmx::Field::proc_based_controls);
    const u64 pin = fake::controls[0].get(vmx::Field::pin_based_controls);
    EXPECT_EQ(write(0x4002, proc | vmx::proc::tpr_shadow), Outcome::bad_request) << "physical address 0";
    EXPECT_EQ(write(0x2012, base + 8), Outcome::unsupported) << "no page";
    EXPECT_EQ(write(0x2012, base + 16 * page_size), Outcome::unsupported);
    EXPECT_EQ(write(0x2012, fake::controls[0].memory.hpa_base), Outcome::unsupported) << "host-physical";
    EXPECT_EQ(write(0x2012, base + page_size), Outcome::ok);
    EXPECT_EQ(fake::controls[0].get(vmx::Field::virtual_apic_address),
              fake::controls[0].memory.hpa_base + page_size);
    EXPECT_EQ(read(0x2012).as<abi::FieldReply>().value, base + page_size);
    EXPECT_EQ(write(0x4002, proc | vmx::proc::tpr_shadow), Outcome::ok);
    EXPECT_EQ(write(0x2016, base + 64), Outcome::ok);
    EXPECT_EQ(write(0x4000, pin | vmx::pin::posted_interrupts), Outcome::ok);
    EXPECT_EQ(write(0x0002, 0x40), Outcome::unsupported) << "the host's vector";
    EXPECT_EQ(write(0x4000, pin & ~u64{vmx::pin::nmi}), Outcome::unsupported);
    EXPECT_EQ(write(0x681e, ~u64{0} >> 16), Outcome::ok) << "RIP is the guest's";
}

TEST_F(ContractFields, secrets_of_the_host_are_not_read) {
    ASSERT_EQ(create(vm()), Outcome::ok);
    for (const u32 field :
         {0x6c16u, 0x6c00u, 0x201au, 0x201bu, 0x2000u, 0x2004u, 0x2013u, 0x2c02u, 0x7ffeu}) {
        EXPECT_EQ(read(field).outcome, Outcome::unsupported) << std::hex << field;
    }
    fake::permissions = permit_all;
    EXPECT_EQ(read(0x201a).as<abi::FieldReply>().value, vmx::ept_pointer(fake::controls[0].root));
}

TEST_F(ContractFields, the_image_permits_every_field) {
    ASSERT_EQ(create(vm()), Outcome::ok);
    fake::permissions = permit_all;
    for (const u32 field : {0x6c16u, 0x2006u, 0x400eu, 0x4000u, 0x201au, 0x4826u, 0x0002u, 0x7ffeu}) {
        EXPECT_EQ(outcome(Batch().add<Op::field_write>(
                      {.vm = 0, .field = field, .width = 8, .zero = 0, .value = 3})),
                  Outcome::ok)
            << std::hex << field;
    }
    EXPECT_NE(fake::OutsideModel(fake::controls[0]).fault(), nullptr) << "and the model sees it";
}

TEST_F(ContractFields, what_the_shadow_mmu_owns_is_not_a_clients) {
    abi::VmCreate what = vm();
    what.mode = static_cast<u8>(abi::Mode::shadow);
    ASSERT_EQ(create(what), Outcome::ok);
    for (const u32 field : {0x6802u, 0x6800u, 0x6804u, 0x2806u, 0x280au, 0x6000u, 0x6008u, 0x4004u, 0x4002u,
                            0x401eu, 0x4012u}) {
        EXPECT_EQ(outcome(Batch().add<Op::field_write>(
                      {.vm = 0, .field = field, .width = 8, .zero = 0, .value = 0})),
                  Outcome::unsupported)
            << std::hex << field;
    }
    EXPECT_EQ(read(0x6802).outcome, Outcome::unsupported) << "a physical address of the core's";
    use_svm();
    ASSERT_EQ(create(what), Outcome::ok);
    for (const u32 offset : {0x550u, 0x558u, 0x548u, 0x4d0u, 0x002u, 0x008u, 0x00cu}) {
        EXPECT_EQ(outcome(Batch().add<Op::field_write>(
                      {.vm = 0, .field = offset, .width = 1, .zero = 0, .value = 0})),
                  Outcome::unsupported)
            << std::hex << offset;
    }
}

TEST_F(ContractFields, no_byte_of_the_vmcb_takes_a_guest_out_of_its_vm) {
    use_svm();
    ASSERT_EQ(create(vm()), Outcome::ok);
    unsigned taken = 0;
    for (const u32 width : {1u, 2u, 4u, 8u}) {
        for (u32 offset = 0; offset + width <= 4096; ++offset) {
            for (const u64 value : {u64{0}, ~u64{0}, u64{0x5555'5555'5555'5555}, u64{base}}) {
                taken += write(offset, value, width) == Outcome::ok ? 1 : 0;
            }
        }
    }
    EXPECT_GT(taken, 1000u) << "the guest's own state can be written";
    for (const u32 offset : {0x40u, 0x48u, 0xa0u, 0xb0u, 0xe0u, 0xf8u}) {
        EXPECT_EQ(read(offset).outcome, Outcome::unsupported) << std::hex << offset;
    }
    EXPECT_EQ(read(0x578).outcome, Outcome::ok);
}

// DR6 is the VMCB's, where a raw field takes any value; the host would load it.
TEST_F(ContractFields, a_snapshot_is_no_way_around_what_a_state_may_hold) {
    use_svm();
    ASSERT_EQ(create(vm()), Outcome::ok);
    EXPECT_EQ(outcome(Batch().add<Op::snapshot>({})), Outcome::ok);
    EXPECT_EQ(outcome(Batch().add<Op::restore>({})), Outcome::ok);
    ASSERT_EQ(write(0x568, u64{1} << 32), Outcome::ok);
    EXPECT_EQ(outcome(Batch().add<Op::snapshot>({})), Outcome::ok);
    EXPECT_EQ(outcome(Batch().add<Op::restore>({})), Outcome::bad_request);
}

} // namespace
} // namespace refhv
