// SPDX-License-Identifier: MIT
// The table of targets: one line each.
#include "refhv/client/bochs.hpp"
#include "refhv/client/qemu.hpp"
#include "refhv/client/self.hpp"
#include "refhv/client/stream_target.hpp"

#include <array>

namespace refhv::client {
namespace {

struct Line {
    TargetInfo info;
    std::chrono::milliseconds hello_patience;
    void (*check)(); // throws TargetUnusable; starts nothing
    Machine (*launch)();
};

const std::array<Line, 9>& table() {
    static const std::array<Line, 9> lines{
        {{{"self", "process", "none", false, "cycles", "a process on this machine, as it is"},
          self::hello_patience,
          self::check,
          self::launch},
         {{"bochs-intel", "image", "vmx", true, "ticks", "Bochs, CPU model corei7_skylake_x (emulated, VMX)"},
          bochs::hello_patience,
          bochs::check,
          [] { return bochs::launch("corei7_skylake_x", 1); }},
         {{"bochs-amd", "image", "svm", true, "ticks", "Bochs, CPU model ryzen (emulated, SVM)"},
          bochs::hello_patience,
          bochs::check,
          [] { return bochs::launch("ryzen", 1); }},
         {{"bochs-intel-smp", "image", "vmx", true, "ticks",
           "Bochs, CPU model corei7_skylake_x, two CPUs in turns (emulated, VMX)"},
          bochs::hello_patience,
          bochs::check,
          [] { return bochs::launch("corei7_skylake_x", 2); }},
         {{"bochs-amd-smp", "image", "svm", true, "ticks",
           "Bochs, CPU model ryzen, two CPUs in turns (emulated, SVM)"},
          bochs::hello_patience,
          bochs::check,
          [] { return bochs::launch("ryzen", 2); }},
         {{"qemu-amd", "image", "svm", true, "ticks", "QEMU TCG, CPU model max (emulated, SVM)"},
          qemu::hello_patience,
          qemu::check,
          qemu::launch},
         {{"qemu-amd-smp", "image", "svm", true, "ticks",
           "QEMU TCG, CPU model max, three CPUs in turns (emulated, SVM)"},
          qemu::hello_patience,
          qemu::check,
          qemu::launch_with_three_cpus},
         {{"qemu-amd-clock", "image", "svm", true, "ticks",
           "QEMU TCG, CPU model max (emulated by the clock, SVM): shows a method, not hardware", false},
          qemu::hello_patience,
          qemu::check,
          qemu::launch_by_the_clock},
         {{"bochs-intel-tigerlake", "image", "vmx", true, "ticks",
           "Bochs, CPU model tigerlake (emulated, VMX): has SPEC_CTRL, IBPB, MD_CLEAR and L1D_FLUSH"},
          bochs::hello_patience,
          bochs::check,
          [] { return bochs::launch("tigerlake", 1); }}}};
    return lines;
}

} // namespace

std::vector<TargetEntry> list_targets() {
    std::vector<TargetEntry> entries;
    for (const Line& line : table()) {
        TargetEntry& entry = entries.emplace_back(TargetEntry{.info = line.info, .unusable = {}});
        try {
            line.check();
        } catch (const TargetUnusable& unusable) {
            entry.unusable = unusable.what();
        }
    }
    return entries;
}

std::unique_ptr<Target> open_target(std::string_view name) {
    std::string known;
    for (const Line& line : table()) {
        if (line.info.name != name) {
            known += (known.empty() ? "" : ", ") + line.info.name;
            continue;
        }
        try {
            line.check();
        } catch (const TargetUnusable& unusable) {
            throw TargetUnusable(line.info.name + ": " + unusable.what());
        }
        return std::make_unique<StreamTarget>(line.info, line.hello_patience, line.launch);
    }
    throw TargetUnusable("no target is named '" + std::string(name) + "'; there are: " + known);
}

} // namespace refhv::client
