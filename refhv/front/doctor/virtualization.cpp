// SPDX-License-Identifier: MIT
// The CPU's virtualization: there, unlocked, and whose.
#include "refhv/front/doctor/doctor.hpp"

#include <sstream>

namespace refhv::front::doctor {
namespace {

void offered(const Host& host, Findings& out) {
    const std::string under = host.hypervisor();
    if (!under.empty()) {
        out.push_back({"hypervisor", State::warn,
                       "this is a virtual machine under " + under +
                           ": on `self` rows that exit measure it, and what it shows of the CPU may differ "
                           "from the CPU",
                       "for numbers of the hardware use a bare-metal machine"});
    } else {
        out.push_back({"hypervisor", State::ok, "none underneath that CPUID tells of", ""});
    }
    if (host.offers_vmx() || host.offers_svm()) {
        out.push_back({"virtualization", State::ok,
                       std::string("CPUID offers ") + (host.offers_vmx() ? "VMX" : "SVM"), ""});
        return;
    }
    out.push_back(
        {"virtualization", State::blocked, "CPUID offers neither VMX nor SVM",
         under.empty()
             ? "turn virtualization on in the firmware's setup (VT-x, SVM mode)"
             : "have it offered by the hypervisor underneath (KVM: `modprobe kvm_intel nested=1` or `kvm_amd "
               "nested=1` on its host, CPU host-passthrough), or use a bare-metal machine"});
}

// IA32_FEATURE_CONTROL, SDM 3C 24.7: locked without bit 2, VMXON raises #GP. VM_CR, APM 2 15.30.1: SVMDIS.
void firmware(const Host& host, Findings& out) {
    constexpr u32 feature_control = 0x3a, vm_cr = 0xc001'0114;
    constexpr u64 locked = 1, vmx_outside_smx = 4, svm_disabled = 1 << 4;
    if (!host.offers_vmx() && !host.offers_svm()) {
        return;
    }
    const bool vmx = host.offers_vmx();
    const auto value = host.msr(vmx ? feature_control : vm_cr);
    if (!value) {
        // Linux takes the flag away where the firmware has locked it off.
        bool flag = false;
        for (const std::string& line : host.lines("proc/cpuinfo")) {
            flag = flag ||
                   (line.starts_with("flags") && (line + " ").find(vmx ? " vmx " : " svm ") != line.npos);
        }
        out.push_back(
            {"firmware", flag ? State::ok : State::warn,
             flag ? "not locked off, by what the kernel says of its flags (the MSR cannot be read)"
                  : "whether the firmware has locked it off is not known: /dev/cpu/0/msr cannot be read",
             flag ? "" : "modprobe msr, and run this as root"});
        return;
    }
    const bool off =
        vmx ? (*value & locked) != 0 && (*value & vmx_outside_smx) == 0 : (*value & svm_disabled) != 0;
    out.push_back({"firmware", off ? State::blocked : State::ok,
                   off ? "the firmware has locked it off" : "the firmware has not locked it off",
                   off ? "turn virtualization on in the firmware's setup (VT-x, SVM mode)" : ""});
}

// Modules that take VMX or SVM for themselves.
void holder(const Host& host, Findings& out) {
    if (!host.offers_vmx() && !host.offers_svm()) {
        return;
    }
    bool found = false;
    const auto tell = [&](const std::string& name, bool users, bool built_in) {
        found = true;
        out.push_back({"holder", users ? State::blocked : State::warn,
                       name + (built_in ? " is built into this kernel" : " is loaded") +
                           (users ? ", and virtual machines use it" : "") +
                           ": it may hold the CPUs' virtualization",
                       users      ? "end the virtual machines that use it, then modprobe -r " + name
                       : built_in ? "boot with kvm.enable_virt_at_load=0"
                                  : "modprobe -r " + name + ", or load kvm with enable_virt_at_load=0"});
    };
    const std::string known[] = {"kvm_intel", "kvm_amd", "vboxdrv", "vmmon", "xen_privcmd"};
    for (const std::string& name : known) {
        bool loaded = false;
        for (const std::string& line : host.lines("proc/modules")) {
            std::istringstream words(line);
            std::string module, size;
            long users = 0;
            if (words >> module >> size >> users && module == name) {
                loaded = true;
                tell(name, users > 0, false);
            }
        }
        if (!loaded && name.starts_with("kvm_") && host.exists("sys/module/" + name)) {
            tell(name, false, true);
        }
    }
    if (!found) {
        out.push_back({"holder", State::ok,
                       "no module that takes it is loaded (kvm_intel, kvm_amd, vboxdrv, vmmon)", ""});
    }
}

void kvm(const Host& host, Findings& out) {
    if (!host.exists("dev/kvm")) {
        const bool can = host.offers_vmx() || host.offers_svm();
        out.push_back({"kvm", State::warn, "there is no /dev/kvm",
                       can ? std::string("modprobe ") + (host.offers_vmx() ? "kvm_intel" : "kvm_amd")
                           : "it needs VMX or SVM first"});
        return;
    }
    const std::string refusal = host.refusal("dev/kvm");
    const bool emulates = !host.offers_vmx() && !host.offers_svm();
    out.push_back({"kvm", refusal.empty() && !emulates ? State::ok : State::warn,
                   refusal.empty()
                       ? emulates
                             ? "/dev/kvm can be used, though the CPU offers no virtualization: it works by "
                               "other means, which are what would be measured"
                             : "/dev/kvm can be used"
                       : "/dev/kvm cannot be used: " + refusal,
                   refusal.empty() ? emulates ? "use a machine whose CPUID offers VMX or SVM" : ""
                                   : "usermod -aG kvm $USER and log in anew, or run as root"});
}

} // namespace

void examine_virtualization(const Host& host, Findings& out) {
    offered(host, out);
    firmware(host, out);
    holder(host, out);
    kvm(host, out);
}

} // namespace refhv::front::doctor
