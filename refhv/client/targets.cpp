// SPDX-License-Identifier: MIT
// The table of targets: one line each.
#include "refhv/client/bochs.hpp"
#include "refhv/client/forms.hpp"
#include "refhv/client/linux.hpp"
#include "refhv/client/qemu.hpp"
#include "refhv/client/self.hpp"

namespace refhv::client {
namespace {

TargetLine bochs_line(const char* name, const char* backend, const char* model, unsigned cpus,
                      const std::string& remark) {
    const bochs::Setup setup{.model = model, .cpus = cpus, .binary = {}};
    return {.info = {name, "image", backend, true, "ticks",
                     "Bochs, CPU model " + setup.model + (cpus == 1 ? "" : ", two CPUs in turns") +
                         " (emulated, " + (std::string_view(backend) == "vmx" ? "VMX" : "SVM") + ")" + remark,
                     true, bochs::tick_rules(cpus)},
            .hello_patience = bochs::hello_patience,
            .identify = [] { return bochs::identify(); },
            .check = [setup] { bochs::check(setup); },
            .launch = [setup] { return bochs::launch(setup); }};
}

TargetLine qemu_line(const char* name, Machine (*launch)(), const char* description,
                     bool counts_instructions = true) {
    return {.info = {name, "image", "svm", true, "ticks", description, counts_instructions, qemu::tick_rules},
            .hello_patience = qemu::hello_patience,
            .identify = [] { return qemu::identify(); },
            .check = [] { qemu::check(); },
            .launch = launch};
}

// Guests run on this machine, whatever it is.
TargetLine linux_line() {
    const bool emulated = linux_module::is_emulated();
    return {.info = {"linux", "module", linux_module::backend(), emulated, emulated ? "ticks" : "cycles",
                     std::string("this machine, by the Linux module") +
                         (emulated ? " (an emulator's machine)" : ""),
                     false},
            .hello_patience = {},
            .identify = [] { return Emulator{}; },
            .check = linux_module::check,
            .launch = {},
            .open = linux_module::open};
}

TargetLine kvm_line() {
    const bool emulated = linux_module::is_emulated();
    return {.info = {"kvm", "kvm", "none", emulated, emulated ? "ticks" : "cycles",
                     std::string("guests of this machine's KVM") + self::kvm_remark() +
                         (emulated ? " (an emulator's machine)" : ""),
                     false},
            .hello_patience = self::hello_patience,
            .identify = [] { return Emulator{}; },
            .check = self::check_kvm,
            .launch = [] { return self::launch(abi::Mode::kvm); }};
}

const std::vector<TargetLine>& table() {
    static const std::vector<TargetLine> lines{
        {.info = {"self", "process", "none", false, "cycles", "a process on this machine, as it is"},
         .hello_patience = self::hello_patience,
         .identify = [] { return Emulator{}; },
         .check = [] {},
         .launch = [] { return self::launch(abi::Mode::user); }},
        bochs_line("bochs-intel", "vmx", "corei7_skylake_x", 1, ""),
        bochs_line("bochs-amd", "svm", "ryzen", 1, ""),
        bochs_line("bochs-intel-smp", "vmx", "corei7_skylake_x", 2, ""),
        bochs_line("bochs-amd-smp", "svm", "ryzen", 2, ""),
        qemu_line("qemu-amd", qemu::launch, "QEMU TCG, CPU model max (emulated, SVM)"),
        qemu_line("qemu-amd-smp", qemu::launch_with_three_cpus,
                  "QEMU TCG, CPU model max, three CPUs in turns (emulated, SVM)"),
        qemu_line("qemu-amd-clock", qemu::launch_by_the_clock,
                  "QEMU TCG, CPU model max (emulated by the clock, SVM): shows a method, not hardware",
                  false),
        bochs_line("bochs-intel-tigerlake", "vmx", "tigerlake", 1,
                   ": has SPEC_CTRL, IBPB, MD_CLEAR and L1D_FLUSH"),
        bochs_line("bochs-intel-sapphirerapids", "vmx", "sapphire_rapids", 1, ": has CET, LA57, PKU and PKS"),
        bochs_line("bochs-intel-arrowlake", "vmx", "arrow_lake", 1, ": has CET, LASS and UINTR"),
        linux_line(),
        kvm_line(),
    };
    return lines;
}

// What the target is on the emulator that is installed. Throws TargetUnusable.
TargetInfo identified(const TargetLine& line) {
    line.check();
    TargetInfo info = line.info;
    info.emulator = line.identify();
    return info;
}

std::unique_ptr<Target> opened(const TargetLine& line) {
    try {
        if (line.open) {
            return line.open(identified(line));
        }
        return std::make_unique<StreamTarget>(identified(line), line.hello_patience, line.launch,
                                              line.settle);
    } catch (const TargetUnusable& unusable) {
        throw TargetUnusable(line.info.name + ": " + unusable.what());
    }
}

} // namespace

std::vector<TargetEntry> list_targets() {
    std::vector<TargetEntry> entries;
    for (const TargetLine& line : table()) {
        TargetEntry& entry = entries.emplace_back(TargetEntry{.info = line.info, .unusable = {}});
        try {
            entry.info = identified(line);
        } catch (const TargetUnusable& unusable) {
            entry.unusable = unusable.what();
        }
    }
    return entries;
}

std::unique_ptr<Target> open_target(std::string_view name) {
    if (const auto line = line_of(name)) {
        return opened(*line);
    }
    std::string known;
    for (const TargetLine& line : table()) {
        if (line.info.name == name) {
            return opened(line);
        }
        known += (known.empty() ? "" : ", ") + line.info.name;
    }
    for (const TargetForm& form : list_forms()) {
        known += ", " + form.usage;
    }
    throw BadTargetName("no target is named '" + std::string(name) + "'; there are: " + known);
}

} // namespace refhv::client
