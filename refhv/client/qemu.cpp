// SPDX-License-Identifier: MIT
#include "refhv/client/qemu.hpp"

#include "refhv/client/locate.hpp"
#include "refhv/client/memory_file.hpp"
#include "refhv/client/socket_pair.hpp"

namespace refhv::client::qemu {
namespace {

std::string program(const Setup& setup) {
    return setup.binary.empty() ? find_program("qemu-system-x86_64", "REFHV_QEMU", "qemu-system-x86")
                                : find_named_program(setup.binary);
}

// Under instruction counting QEMU 10 ends with "Bad icount read" at the first RDMSR of an x2APIC register,
// which its TCG has since then: no x2APIC, where this QEMU knows that flag.
std::string cpu_model(const Setup& setup) {
    if (!setup.cpu.empty()) {
        return setup.cpu;
    }
    if (!setup.emulates()) {
        return "host";
    }
    return has_word(answer_of({program(setup), "-cpu", "help"}), "x2apic") ? "max,-x2apic" : "max";
}

} // namespace

Emulator identify(const Setup& setup) {
    return emulator_in(answer_of({program(setup), "--version"}), "qemu", "QEMU emulator version ");
}

void check(const Setup& setup) {
    (void)program(setup);
    (void)find_image("refhv.elf");
}

Machine launch(const Setup& setup) {
    const std::string cpu = cpu_model(setup);
    SocketPair output;
    SocketPair input;
    auto log = std::make_shared<MemoryFile>("refhv-qemu-log");
    std::vector<std::string> argv{program(setup), "-accel", setup.accelerator};
    const auto add = [&argv](std::initializer_list<std::string> more) {
        argv.insert(argv.end(), more.begin(), more.end());
    };
    if (setup.counts) { // the TSC counts instructions and never waits for the clock
        add({"-icount", "shift=0,sleep=off", "-rtc", "base=2000-01-01,clock=vm"});
    } else {
        add({"-rtc", "base=2000-01-01"});
    }
    if (!setup.machine.empty()) {
        add({"-machine", setup.machine});
    }
    add({"-cpu", cpu, "-smp", setup.cpus, "-m", setup.memory, "-nodefaults", "-no-user-config", "-display",
         "none", "-no-reboot",
         // Inherited sockets: nothing listens, on the network or in the file system.
         "-chardev", "socket,id=output,fd=3", "-chardev", "socket,id=input,fd=4", "-device",
         "isa-debugcon,iobase=0xe9,chardev=output", "-serial", "chardev:input", "-device",
         "isa-debug-exit,iobase=0xf4,iosize=0x04", "-kernel", find_image("refhv.elf")});
    const Process::Command command{
        .argv = argv,
        .descriptors = {-1, log->get(), log->get(), output.theirs.get(), input.theirs.get()},
    };
    return {.process = Process::spawn(command),
            .output = std::move(output.ours),
            .input = std::move(input.ours),
            .held = {},
            .last_words = [log] { return log->last_line(""); },
            .tried = (setup.emulates() ? "" : "-accel " + setup.accelerator + " ") + "-cpu " + cpu};
}

namespace {

// One thread for all CPUs, in turns: threads of their own would go as the host lets them.
const Setup counting{
    .binary = {}, .accelerator = "tcg,thread=single", .cpu = {}, .machine = {}, .counts = true};

} // namespace

Machine launch() {
    return launch(counting);
}

Machine launch_with_three_cpus() {
    Setup setup = counting;
    setup.cpus = "3";
    return launch(setup);
}

Machine launch_by_the_clock() {
    Setup setup = counting;
    setup.counts = false;
    return launch(setup);
}

} // namespace refhv::client::qemu
