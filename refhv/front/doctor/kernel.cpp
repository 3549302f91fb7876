// SPDX-License-Identifier: MIT
// What stands between this kernel and a module of one's own.
#include "refhv/front/doctor/doctor.hpp"

namespace refhv::front::doctor {
namespace {

void secure_boot(const Host& host, Findings& out) {
    constexpr const char* variable =
        "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
    if (!host.exists("sys/firmware/efi")) {
        out.push_back({"secure-boot", State::ok, "off: the kernel was not started by UEFI", ""});
        return;
    }
    const auto value = host.last_byte(variable);
    if (!value) {
        out.push_back({"secure-boot", host.exists(variable) ? State::warn : State::ok,
                       host.exists(variable)
                           ? "whether it is on is not known: its EFI variable cannot be read"
                           : "off: this firmware has no such variable (or efivarfs is not mounted)",
                       host.exists(variable) ? "run this as root" : ""});
        return;
    }
    out.push_back({"secure-boot", *value == 0 ? State::ok : State::warn,
                   *value == 0 ? "off" : "on: the kernel takes signed modules only",
                   *value == 0
                       ? ""
                       : "sign the module with a key that mokutil --import has enrolled, or turn Secure Boot "
                         "off in the firmware's setup"});
}

void lockdown(const Host& host, Findings& out) {
    const auto text = host.line("sys/kernel/security/lockdown");
    if (!text) {
        out.push_back({"lockdown", State::ok, "this kernel has none (or securityfs is not mounted)", ""});
        return;
    }
    const usize begin = text->find('['), end = text->find(']');
    const std::string mode = begin != text->npos && end != text->npos && begin < end
                                 ? text->substr(begin + 1, end - begin - 1)
                                 : "";
    if (mode == "none") {
        out.push_back({"lockdown", State::ok, "off", ""});
        return;
    }
    out.push_back({"lockdown", State::warn,
                   mode.empty() ? join({"its mode is not known: the kernel says '", *text, "'"})
                                : join({"mode ", mode, ": no unsigned module, no MSRs for users"}),
                   "boot without lockdown= and with Secure Boot off, or sign the module"});
}

void headers(const Host& host, Findings& out) {
    const std::string release = host.kernel();
    if (release.empty()) {
        out.push_back({"headers", State::warn, "the kernel's release is not known: /proc is not mounted",
                       "mount -t proc proc /proc"});
        return;
    }
    if (!host.exists("proc/modules")) {
        out.push_back({"headers", State::blocked,
                       join({"kernel ", release, " takes no modules (there is no /proc/modules)"}),
                       "boot a kernel of a distribution, such as Debian's linux-image-amd64"});
        return;
    }
    const std::string build = join({"lib/modules/", release, "/build"});
    const bool there = host.exists(build + "/Makefile");
    out.push_back({"headers", there ? State::ok : State::warn,
                   there
                       ? join({"those of kernel ", release, " are there"})
                       : join({"those of kernel ", release, " are not there: /", build, " has no Makefile"}),
                   there ? "" : join({"apt-get install linux-headers-", release})});
}

} // namespace

void examine_kernel(const Host& host, Findings& out) {
    secure_boot(host, out);
    lockdown(host, out);
    headers(host, out);
}

} // namespace refhv::front::doctor
