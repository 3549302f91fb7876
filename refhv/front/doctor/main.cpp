// SPDX-License-Identifier: MIT
// refhv-doctor: the conditions for trustworthy numbers on this machine.
#include "refhv/front/doctor/doctor.hpp"
#include "refhv/front/options.hpp"

#include <cstdio>
#include <nlohmann/json.hpp>

namespace {

using namespace refhv::front;

int run(int argc, char** argv) {
    CLI::App app{"Says what on this machine stands against trustworthy numbers, and what mends it."};
    app.footer("Exit codes: 0 nothing is BLOCKED, 1 something is, 2 usage.");
    bool json = false;
    std::string root = "/";
    app.add_flag("--json", json, "one JSON object: the `doctor` of a record");
    app.add_option("--root", root,
                   "take /proc, /sys, /dev and /lib below this directory; CPUID is of this CPU all the same")
        ->check(CLI::ExistingDirectory);
    try {
        app.parse(argc, argv);
    } catch (const CLI::CallForHelp& help) {
        return app.exit(help);
    } catch (const CLI::ParseError& error) {
        throw UsageError(error.what());
    }
    const doctor::Findings findings = doctor::examine(doctor::Host(root, doctor::Host::here().cpu()));
    const std::string text =
        json ? doctor::record(findings).dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n"
             : doctor::table(findings);
    if (std::fputs(text.c_str(), stdout) < 0 || std::fflush(stdout) != 0) {
        throw UsageError("standard output cannot be written");
    }
    return doctor::any_blocked(findings) ? exit_failed : exit_ok;
}

} // namespace

int main(int argc, char** argv) {
    return guarded("refhv-doctor", [&] { return run(argc, argv); });
}
