// SPDX-License-Identifier: MIT
// Targets whose names say what they are: how the names are read, and what is said of those that cannot be.
#include "refhv/client/command.hpp"
#include "refhv/client/forms.hpp"
#include "refhv/client/serial_line.hpp"
#include "refhv/client/target_options.hpp"
#include "refhv/client/time_rule.hpp"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>

namespace refhv::client {
namespace {

std::string refusal_of(std::string_view name) {
    try {
        (void)line_of(name);
    } catch (const BadTargetName& bad) {
        EXPECT_EQ(std::string(bad.what()).find('\n'), std::string::npos);
        return bad.what();
    }
    ADD_FAILURE() << name << " is taken";
    return {};
}

TargetInfo info_of(std::string_view name) {
    const auto line = line_of(name);
    if (!line) {
        ADD_FAILURE() << name << " is of no form";
        return {};
    }
    EXPECT_EQ(line->info.name, name);
    EXPECT_EQ(line->info.kind, "image");
    EXPECT_FALSE(line->info.settled);
    return line->info;
}

TEST(Forms, are_listed_and_tried_before_the_table) {
    EXPECT_GE(list_forms().size(), 5u);
    EXPECT_EQ(line_of("qemu-amd"), std::nullopt);
    EXPECT_EQ(line_of("serial"), std::nullopt);
    EXPECT_THROW((void)open_target("serial:nowhere"), BadTargetName);
    EXPECT_THROW((void)open_target("nosuch"), BadTargetName);
}

TEST(Forms, that_cannot_be_say_why) {
    const std::pair<const char*, const char*> wrong[] = {
        {"serial:", "serial: '' is no place of a serial line: give /dev/DEVICE, HOST:PORT or unix:PATH"},
        {"serial:host", "serial: 'host' is no place"},
        {"serial:host:", "serial: 'host:' is no place"},
        {"serial:host:ssh", "'host:ssh' is no place"},
        {"serial::22", "':22' is no place"},
        {"serial:unix:", "serial: unix: takes the path of a socket"},
        {"unix:", "unix: unix: takes the path of a socket"},
        {"serial:/dev/ttyS0,115201", "a terminal cannot have 115201 baud; there are 9600, "},
        {"serial:/dev/ttyS0,1", "baud is '1': give a number from 300 to 4000000"},
        {"serial:/dev/ttyS0,speed=9600", "'speed=9600' is no option here; there are baud=, time=, hello="},
        {"serial:h:1,time=real", "time is 'real': say cycles (of hardware), ticks"},
        {"serial:h:1,time=", "the option time= has no value"},
        {"serial:h:1,time=ticks,time=ticks", "the option time= is there twice"},
        {"serial:h:1,hello=0", "hello is '0': give a number from 1 to 86400"},
        {"qemu:acel=kvm", "qemu: 'acel=kvm' is no option here; there are binary=, accel="},
        {"qemu:kvm", "qemu: 'kvm' is no option here"},
        {"qemu:memory=4096,more", "'more' is no option here"},
        {"qemu:accel=kvm:tcg", "name one accelerator, or nobody knows whether time is real"},
        {"qemu:accel=kvm,icount=on", "icount=on goes with accel=tcg only"},
        {"qemu:icount=yes", "icount is 'yes': say on or off"},
        {"bochs:cpus=9", "bochs: cpus is '9': give a number from 1 to 8"},
        {"cmd:", "cmd: there is no command: name a program"},
        {"cmd:time=cycles", "there is no command"},
        {"cmd:x {imag}", "the command has {imag}, which is no place; there are {image}, {iso}, {socket}"},
        {"cmd:x {image", "which is no place"},
        {"cmd:x 'y", "the command has a ' without its end"},
        {"cmd:x {socket} {pty}", "more than one of {socket}, {listen} and {pty}"},
        {"cmd:time=ticks time=ticks x", "the option time= is there twice"},
        {"cmd:@/nonexistent", "/nonexistent cannot be read"},
    };
    for (const auto& [name, words] : wrong) {
        EXPECT_NE(refusal_of(name).find(words), std::string::npos) << name << ": " << refusal_of(name);
    }
    EXPECT_NE(refusal_of("unix:" + std::string(200, 'x')).find("at most 107 characters"), std::string::npos);
}

TEST(Forms, ticks_are_not_called_cycles_before_somebody_vouches) {
    const auto is = [](const TargetInfo& info, bool emulated, bool counts) {
        EXPECT_EQ(info.emulated, emulated) << info.name;
        EXPECT_EQ(info.unit, emulated ? "ticks" : "cycles") << info.name;
        EXPECT_EQ(info.counts_instructions, counts) << info.name;
    };
    is(info_of("serial:/dev/ttyS0"), true, false);
    is(info_of("serial:/dev/ttyUSB0,9600,time=cycles"), false, false);
    is(info_of("serial:[::1]:5000,time=instructions"), true, true);
    is(info_of("unix:/run/vm.sock,time=ticks,hello=600"), true, false);
    is(info_of("qemu:"), true, false);
    is(info_of("qemu:accel=tcg,thread=multi,cpu=max,-x2apic,smp=2"), true, false);
    is(info_of("qemu:icount=on"), true, true);
    is(info_of("qemu:accel=kvm,cpu=host,machine=q35,kernel-irqchip=split"), false, false);
    is(info_of("bochs:model=ryzen"), true, true);
    is(info_of("cmd:vmm {image}"), true, false);
    is(info_of("cmd:time=cycles vmm {image}"), false, false);
    EXPECT_TRUE(info_of("serial:/dev/ttyS0").elsewhere);
    EXPECT_FALSE(info_of("qemu:").elsewhere);
}

HelloInfo greeting(const char* hypervisor, abi::Vendor vendor = abi::Vendor::svm) {
    HelloInfo hello;
    hello.fixed.vendor = static_cast<u16>(vendor);
    u32 words[3]{};
    if (hypervisor != nullptr) {
        std::string(hypervisor).copy(reinterpret_cast<char*>(words), sizeof words);
    }
    hello.cpuid = {
        {.leaf = 1, .subleaf = 0, .eax = 0, .ebx = 0, .ecx = hypervisor != nullptr ? 1u << 31 : 0, .edx = 0},
        {.leaf = 0x4000'0000, .subleaf = 0, .eax = 0, .ebx = words[0], .ecx = words[1], .edx = words[2]}};
    return hello;
}

TargetInfo settled(Time said, const HelloInfo& hello) {
    TargetInfo info{"x", "image", "none", true, "ticks", ""};
    declare_time(info, said);
    settle_by(said)(info, hello);
    EXPECT_TRUE(info.settled);
    EXPECT_EQ(info.unit, info.emulated ? "ticks" : "cycles");
    return info;
}

TEST(TimeRule, where_nothing_is_said_a_hypervisor_makes_ticks) {
    EXPECT_FALSE(settled(Time::unsaid, greeting(nullptr)).emulated);
    for (const char* name : {"", "KVMKVMKVM", "TCGTCGTCGTCG", "Microsoft Hv"}) {
        EXPECT_TRUE(settled(Time::unsaid, greeting(name)).emulated) << name;
    }
    EXPECT_EQ(settled(Time::unsaid, greeting(nullptr, abi::Vendor::vmx)).backend, "vmx");
    EXPECT_EQ(settled(Time::unsaid, greeting(nullptr, abi::Vendor::svm)).backend, "svm");
    EXPECT_EQ(settled(Time::unsaid, greeting(nullptr, abi::Vendor::none)).backend, "none");
}

TEST(TimeRule, what_is_said_counts_unless_the_machine_says_otherwise) {
    EXPECT_FALSE(settled(Time::cycles, greeting("KVMKVMKVM")).emulated);
    EXPECT_TRUE(settled(Time::ticks, greeting(nullptr)).emulated);
    EXPECT_TRUE(settled(Time::instructions, greeting(nullptr)).counts_instructions);
    EXPECT_FALSE(settled(Time::instructions, greeting("TCGTCGTCGTCG")).tick_rules.exiting_counts);
    EXPECT_THROW((void)settled(Time::cycles, greeting("TCGTCGTCGTCG")), TargetUnusable);
}

TEST(TargetOptions, values_of_qemu_keep_their_commas) {
    const TargetOptions options("cpu=max,-x2apic,hv-time=on,accel=tcg,memory=4096",
                                {{"cpu", true}, {"accel", true}, {"memory"}});
    EXPECT_EQ(options.get("cpu"), "max,-x2apic,hv-time=on");
    EXPECT_EQ(options.get("accel"), "tcg");
    EXPECT_EQ(options.number("memory", 1, 1, 8192), 4096u);
    EXPECT_EQ(options.number("smp", 3, 1, 8), 3u);
}

TEST(Command, words_are_read_as_a_shell_reads_them) {
    const Command command =
        Command::parse("time=cycles # no comment\n"
                       "  # a comment\n"
                       "vmm --kernel={image} 'two words' \"a \\\"b\\\"\" c\\ d {{json}} time=x\n",
                       {"time"});
    EXPECT_EQ(command.options.at("time"), "cycles");
    const std::vector<std::string> due{"#",         "no",      "comment", "vmm",      "--kernel={image}",
                                       "two words", "a \"b\"", "c d",     "{{json}}", "time=x"};
    EXPECT_EQ(command.words, due);
    EXPECT_EQ(put_places("{{a}} {image}", {{"image", "/x y"}}), "{a} /x y");
    EXPECT_EQ(command.line, Command::Line::standard);
    EXPECT_EQ(Command::parse("v socket={socket}", {}).line, Command::Line::socket);
    EXPECT_EQ(Command::parse("v {listen}", {}).line, Command::Line::listener);
    EXPECT_EQ(Command::parse("v {pty}", {}).line, Command::Line::terminal);
}

} // namespace
} // namespace refhv::client
