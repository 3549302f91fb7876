// SPDX-License-Identifier: MIT
// refhv-vm: runs a kernel that others wrote, as a guest of any target that has VMX or SVM.
#include "refhv/front/options.hpp"
#include "refhv/monitor/machine.hpp"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <poll.h>
#include <unistd.h>

namespace {

using namespace refhv;
using namespace refhv::monitor;

enum VmExit {
    exit_reset = 1,       // a triple fault or a reset, where none was expected
    exit_time_over = 124, // as timeout(1) has it
};

struct Options {
    std::string target, kernel, initrd, command_line, disk, protocol = "detect", start = "long",
                                                            mode = "nested", json;
    u64 megabytes = 64;
    u64 address = 0x10'0000;
    double limit = 0;
    bool no_apic = false, virtio_console = false, read_only = false, quiet = false;
};

const std::map<std::string, Protocol> protocols = {{"detect", Protocol::detect},
                                                   {"flat", Protocol::flat},
                                                   {"multiboot", Protocol::multiboot},
                                                   {"linux", Protocol::linux64},
                                                   {"pvh", Protocol::pvh}};
const std::map<std::string, StartMode> starts = {
    {"real", StartMode::real}, {"protected", StartMode::protected32}, {"long", StartMode::long64}};
const std::map<std::string, abi::Mode> modes = {
    {"nested", abi::Mode::nested}, {"shadow", abi::Mode::shadow}, {"vtlb", abi::Mode::vtlb}};

template <class Map>
std::vector<std::string> names(const Map& map) {
    std::vector<std::string> out;
    out.reserve(map.size());
    for (const auto& [name, value] : map) {
        out.push_back(name);
    }
    return out;
}

std::vector<u8> read_file(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::vector<u8> bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    if (!file) {
        throw front::UsageError(path + ": " + std::strerror(errno));
    }
    return bytes;
}

void say(const Machine& machine, const Ending& ending, double seconds, const Options& options) {
    nlohmann::json exits = nlohmann::json::object();
    u64 all = 0;
    for (const auto& [reason, count] : machine.exits()) {
        exits[client::name_of(reason)] = count;
        all += count;
    }
    if (!options.json.empty()) {
        const nlohmann::json said = {{"ending", name_of(ending.how)},
                                     {"code", ending.code},
                                     {"text", ending.text},
                                     {"seconds", seconds},
                                     {"guest_ns", machine.clock().now()},
                                     {"exits", exits},
                                     {"entries", machine.entries()}};
        std::ofstream file(options.json);
        file << said.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
        if (!file.flush()) {
            throw front::UsageError(options.json + ": " + std::strerror(errno));
        }
    }
    if (!options.quiet) {
        std::fprintf(stderr, "refhv-vm: %s%s%s after %.1f s; %llu exits answered here, %llu entries\n",
                     name_of(ending.how), ending.text.empty() ? "" : ": ", ending.text.c_str(), seconds,
                     static_cast<unsigned long long>(all),
                     static_cast<unsigned long long>(machine.entries()));
    }
}

int code_of(const Ending& ending) {
    using enum Ending::How;
    switch (ending.how) {
    case powered_off:
    case halted:
        return front::exit_ok;
    case exited:
        return ending.code;
    case stopped:
        return exit_time_over;
    case reset:
    case failed:
        break;
    }
    return exit_reset;
}

void write_console(u8 character) {
    std::fputc(character, stdout);
    if (character == '\n') {
        std::fflush(stdout);
    }
}

int run_vm(const Options& options) {
    Image image;
    image.kernel = read_file(options.kernel);
    image.initrd = options.initrd.empty() ? std::vector<u8>{} : read_file(options.initrd);
    image.command_line = options.command_line;
    image.protocol = protocols.at(options.protocol);
    image.address = options.address;
    image.mode = starts.at(options.start);

    const auto target = client::open_target(options.target);
    const auto begin = std::chrono::steady_clock::now();
    const Vm::Shape shape{.mode = modes.at(options.mode), .bytes = options.megabytes << 20, .slot = 0};
    Board::Options board;
    board.console = write_console;
    board.memory_bytes = shape.bytes;
    board.epoch = std::time(nullptr);
    board.apic = !options.no_apic;
    board.virtio_console = options.virtio_console;
    board.read_only = options.read_only;
    if (!options.disk.empty()) {
        board.disk = BlockBase::file(options.disk);
    }
    Machine machine(*target, shape, std::move(board));
    machine.boot(std::move(image));
    const auto until = options.limit > 0
                           ? begin + std::chrono::milliseconds(static_cast<i64>(options.limit * 1000))
                           : std::chrono::steady_clock::time_point::max();
    const Ending ending = machine.run(until);
    std::fflush(stdout);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    say(machine, ending, took.count(), options);
    return code_of(ending);
}

int run(int argc, char** argv) {
    Options options;
    CLI::App app{"Runs a kernel as a guest of refhv: Linux, Multiboot, PVH, or a flat binary. What its UART "
                 "sends goes "
                 "to standard output."};
    app.footer("Exit codes: 0 powered off or halted, the guest's own by its debug-exit port, 1 a reset, a "
               "triple fault "
               "or what is not emulated, 2 usage, 3 no such target, 124 the time is over.\n"
               "Example: refhv-vm --target=linux --append='console=ttyS0' --initrd=initramfs vmlinuz");
    app.add_option("--target", options.target, "where: linux, bochs-intel, qemu-amd, …")->required();
    app.add_option("kernel", options.kernel, "the kernel's file")->required()->check(CLI::ExistingFile);
    app.add_option("--initrd", options.initrd, "Linux' initramfs, or a Multiboot module")
        ->check(CLI::ExistingFile);
    app.add_option("--append", options.command_line, "the kernel's command line");
    app.add_option("--memory", options.megabytes, "of the guest, in MBytes (64)")->check(CLI::Range(1, 3072));
    app.add_option("--mode", options.mode, "how its memory is virtualized")
        ->check(CLI::IsMember(names(modes)));
    app.add_option("--protocol", options.protocol, "how it is booted")
        ->check(CLI::IsMember(names(protocols)));
    app.add_option("--address", options.address, "of a flat binary: where it lies and begins");
    app.add_option("--start", options.start, "of a flat binary: in which mode")
        ->check(CLI::IsMember(names(starts)));
    app.add_option("--limit", options.limit, "seconds until the guest is ended (0: none)")
        ->check(CLI::Range(0.0, 1e9));
    app.add_option("--json", options.json, "a file for how it ended, and for its exits by reason");
    app.add_option("--disk", options.disk,
                   "a virtio disk's content; what the guest writes is kept in memory alone")
        ->check(CLI::ExistingFile);
    app.add_flag("--read-only", options.read_only, "the disk takes no writes");
    app.add_flag("--virtio-console", options.virtio_console,
                 "a virtio console beside the UART, with the same output");
    app.add_flag("--no-apic", options.no_apic, "a board with the 8259 pair alone");
    app.add_flag("--quiet", options.quiet, "say nothing of refhv's own");
    try {
        app.parse(argc, argv);
    } catch (const CLI::CallForHelp& help) {
        return app.exit(help);
    } catch (const CLI::ParseError& error) {
        throw front::UsageError(error.what());
    }
    return run_vm(options);
}

} // namespace

int main(int argc, char** argv) {
    return front::guarded("refhv-vm", [&] { return run(argc, argv); });
}
