// SPDX-License-Identifier: MIT
#include "refhv/client/bochs.hpp"

#include "refhv/client/locate.hpp"
#include "refhv/client/memory_file.hpp"
#include "refhv/client/pseudo_terminal.hpp"
#include "refhv/client/socket_pair.hpp"

#include <memory>

namespace refhv::client::bochs {
namespace {

// The child's descriptors behind the standard ones; Bochs opens them by name.
constexpr int configuration_fd = 3;
constexpr int commands_fd = 4;
constexpr int image_fd = 5;

std::string by_name(int child_fd) {
    return "/proc/self/fd/" + std::to_string(child_fd);
}

std::string program(const Setup& setup) {
    return setup.binary.empty() ? find_program("bochs-bin", "REFHV_BOCHS", "bochs")
                                : find_named_program(setup.binary);
}
std::string help(const Setup& setup) {
    return answer_of({program(setup), "--help"});
}
std::string bios(const Setup& setup) {
    return require_file(setup.bios, "bochsbios");
}
std::string vga_bios(const Setup& setup) {
    return require_file(setup.vga_bios, "vgabios");
}

std::string configuration(const Setup& setup, const std::string& serial_line) {
    // ips sets the pace of the emulated devices, not of the CPU: the lower, the fewer ticks a serial byte
    // costs.
    return "config_interface: textconfig\n"
           "display_library: rfb, options=\"timeout=0\"\n"
           "plugin_ctrl: speaker=0\n" // it would look for the host's sound card, and dies where there is none
           "cpu: model=" +
           setup.model + ", count=" + std::to_string(setup.cpus) +
           ", ips=4000000, reset_on_triple_fault=1, ignore_bad_msrs=0\n"
           "memory: guest=512, host=512\n"
           "romimage: file=" +
           bios(setup) +
           ", options=fastboot\n"
           "vgaromimage: file=" +
           vga_bios(setup) +
           "\n"
           "boot: cdrom\n"
           "ata0-master: type=cdrom, path=" +
           by_name(image_fd) +
           ", status=inserted\n"
           "clock: sync=none, time0=946684800\n" // 2000-01-01; no tick depends on the host's clock
           "com1: enabled=1, mode=term, dev=" +
           serial_line +
           "\n"
           "port_e9_hack: enabled=1\n"
           "log: /dev/null\n"
           "panic: action=fatal\n" // to standard error, and ends Bochs; the default asks at a prompt
           "error: action=ignore\n"
           "info: action=ignore\n"
           "debug: action=ignore\n";
}

} // namespace

Emulator identify(const Setup& setup) {
    return emulator_in(help(setup), "bochs", "Bochs x86 Emulator ");
}

void check(const Setup& setup) {
    const std::string models = answer_of({program(setup), "--help", "cpu"});
    if (has_word(models, "models:") && !has_word(models, setup.model)) {
        throw TargetUnusable("this " + describe(identify(setup)) + " has no CPU model " + setup.model);
    }
    (void)bios(setup);
    (void)vga_bios(setup);
    (void)find_image("refhv.iso");
    if (const std::string refused = Process::own_network_refused(); !refused.empty()) {
        throw TargetUnusable(
            refused + ": Bochs needs one, or its display would listen on the network without a " +
            "password; run as root, or allow user namespaces (sysctl user.max_user_namespaces)");
    }
}

Machine launch(const Setup& setup) {
    const std::string path = find_image("refhv.iso");
    const Descriptor image{open(path.c_str(), O_RDONLY | O_CLOEXEC)};
    PseudoTerminal line;
    SocketPair output;
    const MemoryFile configuration_file{"refhv-bochsrc", configuration(setup, line.far_path)};
    const MemoryFile commands_file{"refhv-bochs-commands", "c\n"}; // else it waits at its debugger's prompt
    auto errors = std::make_shared<MemoryFile>("refhv-bochs-errors");
    // Bochs 3.0 has two CPU loops, and only the one with the debugger counts a tick an instruction; Bochs 2.7
    // has that one alone and no option for it.
    const bool asks_for_debugger = has_word(help(setup), "-debugger");
    Process::Command command{
        .argv = {program(setup), "-q", "-f", by_name(configuration_fd), "-rc", by_name(commands_fd)},
        .descriptors = {-1, output.theirs.get(), errors->get(), configuration_file.get(), commands_file.get(),
                        image.get()},
        .own_network = true,
    };
    if (asks_for_debugger) {
        command.argv.insert(command.argv.begin() + 1, "-debugger");
    }
    Machine machine{.process = Process::spawn(command),
                    .output = std::move(output.ours),
                    .input = std::move(line.near),
                    .held = {},
                    // "[CPU0  ] exception(): ...", the panic that ended it.
                    .last_words = [errors] { return errors->last_line("["); },
                    .tried = "CPU model " + setup.model + (asks_for_debugger ? ", -debugger" : "")};
    machine.held.push_back(std::move(line.far));
    return machine;
}

} // namespace refhv::client::bochs
