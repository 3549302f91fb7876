// SPDX-License-Identifier: MIT
// Instructions that access a device's memory, each carried out on a VM that is a buffer.
#include "conformance/test/monitor/buffer_target.hpp"
#include "refhv/monitor/boot/start.hpp"
#include "refhv/monitor/mmio.hpp"
#include "refhv/x86/registers.hpp"

#include <gtest/gtest.h>

namespace refhv::monitor {
namespace {

constexpr u64 device_at = 0xfee0'0000, code_at = 0x10'0000;

// Keeps what was last written, by which size, and answers with a number.
struct Recorder final : Device {
    u64 answer = 0x8877'6655'4433'2211, written = 0, offset = 0;
    unsigned size = 0, reads = 0, writes = 0;
    u64 read(u64 at, unsigned bytes) override {
        ++reads;
        offset = at;
        size = bytes;
        return answer;
    }
    void write(u64 at, unsigned bytes, u64 value) override {
        ++writes;
        offset = at;
        size = bytes;
        written = value;
    }
    std::span<std::byte> state() override { return {}; }
};

struct Mmio : testing::Test {
    BufferTarget target;
    Vm vm{target, {.mode = abi::Mode::nested, .bytes = 4u << 20, .slot = 0}};
    Recorder device;
    Bus bus;

    Mmio() {
        bus.attach(device_at, page_size, device);
        map_identity(vm);
        vm.state = long_state(code_at);
        vm.state.gpr[abi::rbx] = device_at + 0x20;
        vm.state.gpr[abi::rax] = 0x1111'2222'3333'4444;
    }
    MmioResult run(std::initializer_list<u8> code) {
        const std::vector<u8> bytes(code);
        vm.write(code_at, bytes);
        GuestView view(vm, target.hello());
        return emulate_mmio(vm, view, bus, device_at + 0x20);
    }
    void expect_done(const MmioResult& result, usize length) {
        EXPECT_EQ(result.refused, "");
        EXPECT_FALSE(result.fault);
        EXPECT_EQ(vm.state.rip, code_at + length);
        EXPECT_EQ(device.offset, 0x20u);
    }
};

TEST_F(Mmio, stores_of_every_size) {
    expect_done(run({0x89, 0x03}), 2); // mov %eax, (%rbx)
    EXPECT_EQ(device.size, 4u);
    EXPECT_EQ(device.written, 0x3333'4444u);
    vm.state.rip = code_at;
    expect_done(run({0x48, 0x89, 0x03}), 3);
    EXPECT_EQ(device.written, 0x1111'2222'3333'4444u);
    vm.state.rip = code_at;
    expect_done(run({0x66, 0x89, 0x03}), 3);
    EXPECT_EQ(device.written, 0x4444u);
    vm.state.rip = code_at;
    expect_done(run({0x88, 0x23}), 2); // mov %ah, (%rbx)
    EXPECT_EQ(device.size, 1u);
    EXPECT_EQ(device.written, 0x44u);
    vm.state.rip = code_at;
    expect_done(run({0xc7, 0x03, 0xff, 0x01, 0x00, 0x80}), 6); // movl $0x800001ff, (%rbx)
    EXPECT_EQ(device.written, 0x8000'01ffu);
    vm.state.rip = code_at;
    expect_done(run({0x48, 0xc7, 0x03, 0xff, 0xff, 0xff, 0xff}), 7); // movq $-1, (%rbx)
    EXPECT_EQ(device.written, ~u64{0}) << "an immediate is sign-extended";
}

TEST_F(Mmio, loads_leave_of_a_register_what_the_size_leaves) {
    expect_done(run({0x8b, 0x03}), 2); // mov (%rbx), %eax
    EXPECT_EQ(vm.state.gpr[abi::rax], 0x4433'2211u) << "the upper half is cleared";
    vm.state.gpr[abi::rax] = ~u64{0};
    vm.state.rip = code_at;
    expect_done(run({0x8a, 0x23}), 2); // mov (%rbx), %ah
    EXPECT_EQ(vm.state.gpr[abi::rax], 0xffff'ffff'ffff'11ffu);
    vm.state.rip = code_at;
    expect_done(run({0x0f, 0xb6, 0x03}), 3); // movzbl
    EXPECT_EQ(vm.state.gpr[abi::rax], 0x11u);
    device.answer = 0x80;
    vm.state.rip = code_at;
    expect_done(run({0x48, 0x0f, 0xbe, 0x03}), 4); // movsbq
    EXPECT_EQ(vm.state.gpr[abi::rax], 0xffff'ffff'ffff'ff80u);
    vm.state.rip = code_at;
    expect_done(run({0x44, 0x8b, 0x3b}), 3); // mov (%rbx), %r15d
    EXPECT_EQ(vm.state.gpr[abi::r15], 0x80u);
}

TEST_F(Mmio, read_modify_write_sets_flags) {
    device.answer = 0xff00'00ff;
    vm.state.rflags = 2 | 1;                          // CF
    expect_done(run({0x81, 0x23, 0xf0, 0, 0, 0}), 6); // andl $0xf0, (%rbx)
    EXPECT_EQ(device.written, 0xf0u);
    EXPECT_EQ(vm.state.rflags, 2u | 1u << 2) << "PF alone";
    vm.state.rip = code_at;
    expect_done(run({0x81, 0x0b, 0, 0, 0, 0x80}), 6); // orl $0x80000000
    EXPECT_EQ(device.written, 0xff00'00ffu);
    EXPECT_NE(vm.state.rflags & 1u << 7, 0u);
    device.writes = 0;
    vm.state.rip = code_at;
    expect_done(run({0xf7, 0x03, 0, 0xff, 0, 0}), 6); // testl $0xff00
    EXPECT_NE(vm.state.rflags & 1u << 6, 0u);
    EXPECT_EQ(device.writes, 0u) << "TEST writes nothing";
    device.answer = 1;
    vm.state.rip = code_at;
    expect_done(run({0x83, 0x3b, 2}), 3); // cmpl $2, (%rbx)
    EXPECT_EQ(vm.state.rflags & 0x8d5, 1u | 1u << 7 | 1u << 4 | 1u << 2) << "CF, SF, AF, PF of -1";
    vm.state.rip = code_at;
    expect_done(run({0x87, 0x03}), 2); // xchg %eax, (%rbx)
    EXPECT_EQ(device.written, 0x3333'4444u);
    EXPECT_EQ(vm.state.gpr[abi::rax], 1u);
}

TEST_F(Mmio, strings_go_on_element_by_element) {
    vm.state.gpr[abi::rdi] = device_at + 0x20;
    vm.state.gpr[abi::rcx] = 2;
    auto result = run({0xf3, 0xab}); // rep stosl
    EXPECT_EQ(result.refused, "");
    EXPECT_EQ(vm.state.rip, code_at) << "one is left";
    EXPECT_EQ(vm.state.gpr[abi::rcx], 1u);
    EXPECT_EQ(vm.state.gpr[abi::rdi], device_at + 0x24);
    result = run({0xf3, 0xab});
    EXPECT_EQ(vm.state.rip, code_at + 2);
    EXPECT_EQ(device.writes, 2u);

    // movsl from memory to the device, backwards.
    vm.state.rip = code_at;
    vm.state.rflags |= x86::rflags_bits::df;
    vm.state.gpr[abi::rsi] = 0x20'0000;
    vm.state.gpr[abi::rdi] = device_at + 0x20;
    const u32 value = 0xabcd'1234;
    vm.write(0x20'0000, {reinterpret_cast<const u8*>(&value), 4});
    expect_done(run({0xa5}), 1);
    EXPECT_EQ(device.written, value);
    EXPECT_EQ(vm.state.gpr[abi::rsi], 0x1f'fffcu);
}

TEST_F(Mmio, a_source_that_is_not_mapped_is_the_guests_page_fault) {
    vm.state.gpr[abi::rdi] = device_at + 0x20;
    vm.state.gpr[abi::rsi] = u64{1} << 40; // beyond its tables
    const auto result = run({0xa5});
    ASSERT_TRUE(result.fault);
    EXPECT_EQ(result.fault->address, u64{1} << 40);
    EXPECT_EQ(result.fault->error & 1, 0u);
    EXPECT_EQ(vm.state.rip, code_at);
    EXPECT_EQ(device.writes, 0u);
}

TEST_F(Mmio, what_is_not_emulated_is_refused_by_name) {
    EXPECT_NE(run({0xf0, 0x0f, 0xb1, 0x13}).refused.find("cmpxchg"), std::string::npos);
    EXPECT_NE(run({0x0f, 0x29, 0x03}).refused.find("movaps"), std::string::npos);
    EXPECT_EQ(vm.state.rip, code_at);
    EXPECT_EQ(device.writes, 0u);
    vm.state.rip = u64{1} << 40; // code that is not there
    EXPECT_NE(run({0x90}).refused, "");
}

} // namespace
} // namespace refhv::monitor
