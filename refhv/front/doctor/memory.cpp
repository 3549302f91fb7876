// SPDX-License-Identifier: MIT
// Pages, and what of the CPU's faults the kernel works around.
#include "refhv/front/doctor/doctor.hpp"

#include <set>

namespace refhv::front::doctor {
namespace {

void huge_pages(const Host& host, Findings& out) {
    const auto transparent = host.line("sys/kernel/mm/transparent_hugepage/enabled");
    const std::string reserved =
        host.line("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages").value_or("");
    const bool some = !reserved.empty() && reserved != "0";
    const bool can = transparent && transparent->find("[never]") == std::string::npos;
    out.push_back({"huge-pages", can || some ? State::ok : State::warn,
                   join({"2 MByte: transparent ", transparent.value_or("not offered"), ", reserved ",
                         reserved.empty() ? "not offered" : reserved,
                         can || some ? "" : ": rows with 2M pages will be SKIP"}),
                   can || some ? "" : "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled"});
    const auto giant = host.line("sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages");
    if (giant) {
        const bool none = *giant == "0";
        out.push_back({"giant-pages", none ? State::warn : State::ok,
                       join({"1 GByte: reserved ", *giant, none ? ": rows with 1G pages will be SKIP" : ""}),
                       none ? "echo 2 > /sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages" : ""});
    }
}

void microcode(const Host& host, Findings& out) {
    std::set<std::string> revisions;
    for (const std::string& line : host.lines("proc/cpuinfo")) {
        if (const usize colon = line.find(": "); line.starts_with("microcode") && colon != line.npos) {
            constexpr usize longest = 40;
            revisions.insert(line.substr(colon + 2, longest));
        }
    }
    if (revisions.empty()) {
        out.push_back({"microcode", State::warn, "the kernel does not tell its revision",
                       "note it from the firmware's setup, beside the numbers"});
        return;
    }
    std::string text;
    for (const std::string& revision : revisions) {
        text += join({text.empty() ? "" : ", ", revision});
    }
    const bool guest = !host.hypervisor().empty();
    out.push_back({"microcode", revisions.size() == 1 ? State::ok : State::warn,
                   join({"revision ", text,
                         revisions.size() != 1 ? ": CPUs differ"
                         : guest               ? ", by the hypervisor's word"
                                               : ""}),
                   revisions.size() == 1 ? "" : "install intel-microcode or amd64-microcode, and boot anew"});
}

// Each file: "Not affected", "Mitigation: ...", "Vulnerable..." or "Unknown: ...".
void mitigations(const Host& host, Findings& out) {
    const std::string directory = "sys/devices/system/cpu/vulnerabilities";
    const auto names = host.names(directory);
    if (names.empty()) {
        out.push_back({"mitigations", State::warn, "what the kernel mitigates is not known: it does not tell",
                       "use a kernel of 4.15 or later, with /sys mounted"});
        return;
    }
    unsigned untouched = 0, mitigated = 0;
    std::string open, unclear;
    for (const std::string& name : names) {
        const std::string state = host.line(join({directory, "/", name})).value_or("");
        std::string shown; // a file's name may hold anything
        for (const char c : name) {
            shown += (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' ? c : '?';
        }
        if (state.starts_with("Not affected")) {
            ++untouched;
        } else if (state.starts_with("Mitigation")) {
            ++mitigated;
        } else {
            std::string& list = state.starts_with("Vulnerable") ? open : unclear;
            list += join({list.empty() ? "" : ", ", shown});
        }
    }
    constexpr usize longest = 160;
    for (std::string* list : {&open, &unclear}) {
        if (list->size() > longest) {
            list->replace(longest, list->npos, "...");
        }
    }
    out.push_back({"mitigations", open.empty() && unclear.empty() ? State::ok : State::warn,
                   join({std::to_string(untouched), " not affected, ", std::to_string(mitigated),
                         " mitigated", open.empty() ? "" : "; vulnerable: ", open,
                         open.empty() ? "" : " (exits are cheaper than on a machine that is mitigated)",
                         unclear.empty() ? "" : "; not clear: ", unclear}),
                   open.empty() && unclear.empty()
                       ? ""
                       : "boot without mitigations=off, update the microcode; grep . "
                         "/sys/devices/system/cpu/vulnerabilities/* tells each"});
}

} // namespace

void examine_memory(const Host& host, Findings& out) {
    huge_pages(host, out);
    microcode(host, out);
    mitigations(host, out);
}

} // namespace refhv::front::doctor
