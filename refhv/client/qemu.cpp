// SPDX-License-Identifier: MIT
#include "refhv/client/qemu.hpp"

#include "refhv/client/locate.hpp"
#include "refhv/client/memory_file.hpp"
#include "refhv/client/socket_pair.hpp"

namespace refhv::client::qemu {
namespace {

std::string program() {
    return find_program("qemu-system-x86_64", "REFHV_QEMU", "qemu-system-x86");
}

// Under instruction counting QEMU 10 ends with "Bad icount read" at the first RDMSR of an x2APIC register,
// which its TCG has since then: no x2APIC, where this QEMU knows that flag.
std::string cpu_model() {
    return has_word(answer_of({program(), "-cpu", "help"}), "x2apic") ? "max,-x2apic" : "max";
}

} // namespace

Emulator identify() {
    return emulator_in(answer_of({program(), "--version"}), "qemu", "QEMU emulator version ");
}

void check() {
    (void)program();
    (void)find_image("refhv.elf");
}

namespace {

Machine launch_with(const std::vector<std::string>& timing, const char* cpus = "1") {
    const std::string cpu = cpu_model();
    SocketPair output;
    SocketPair input;
    auto log = std::make_shared<MemoryFile>("refhv-qemu-log");
    std::vector<std::string> argv{program(), "-accel", "tcg,thread=single"};
    argv.insert(argv.end(), timing.begin(), timing.end());
    for (const std::string& argument : std::initializer_list<std::string>{
             "-cpu", cpu, "-smp", cpus, "-m", "3072", "-nodefaults", "-no-user-config", "-display", "none",
             "-no-reboot",
             // Inherited sockets: nothing listens, on the network or in the file system.
             "-chardev", "socket,id=output,fd=3", "-chardev", "socket,id=input,fd=4", "-device",
             "isa-debugcon,iobase=0xe9,chardev=output", "-serial", "chardev:input", "-device",
             "isa-debug-exit,iobase=0xf4,iosize=0x04", "-kernel", find_image("refhv.elf")}) {
        argv.push_back(argument);
    }
    const Process::Command command{
        .argv = argv,
        .descriptors = {-1, log->get(), log->get(), output.theirs.get(), input.theirs.get()},
    };
    return {.process = Process::spawn(command),
            .output = std::move(output.ours),
            .input = std::move(input.ours),
            .held = {},
            .last_words = [log] { return log->last_line(""); },
            .tried = "-cpu " + cpu};
}

// The TSC counts instructions and never waits for the clock.
const std::vector<std::string> counting{"-icount", "shift=0,sleep=off", "-rtc", "base=2000-01-01,clock=vm"};

} // namespace

Machine launch() {
    return launch_with(counting);
}

Machine launch_with_three_cpus() {
    return launch_with(counting, "3");
}

Machine launch_by_the_clock() {
    return launch_with({"-rtc", "base=2000-01-01"});
}

} // namespace refhv::client::qemu
