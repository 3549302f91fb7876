// SPDX-License-Identifier: MIT
#include "refhv/front/events.hpp"

#include "refhv/front/options.hpp"

#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

namespace refhv::front {

nlohmann::ordered_json emulator_record(const client::Emulator& emulator) {
    if (emulator.name.empty()) {
        return nullptr;
    }
    const auto told = [](const std::string& text) {
        return text.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(text);
    };
    return {{"name", emulator.name}, {"version", told(emulator.version)}, {"banner", told(emulator.banner)}};
}

Events& Events::get() {
    static Events events;
    return events;
}

void Events::open(int descriptor) {
    const int flags = ::fcntl(descriptor, F_GETFL);
    if (flags < 0 || (flags & O_ACCMODE) == O_RDONLY) {
        throw UsageError("--events-fd=" + std::to_string(descriptor) + " is not open for writing");
    }
    std::signal(SIGPIPE, SIG_IGN);
    ::fcntl(descriptor, F_SETFD, FD_CLOEXEC); // launched emulators have no business there
    descriptor_ = descriptor;
}

void Events::send(const nlohmann::ordered_json& event) {
    if (descriptor_ < 0) {
        return;
    }
    const std::string line = event.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
    for (std::size_t done = 0; done < line.size();) {
        const ssize_t n = ::write(descriptor_, line.data() + done, line.size() - done);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            descriptor_ = -1;
            return;
        }
        done += static_cast<std::size_t>(n);
    }
}

void Events::send(const ClaimResult& claim) {
    nlohmann::ordered_json event{
        {"event", "claim"}, {"name", claim.name}, {"verdict", name_of(claim.verdict)}};
    event["section"] =
        claim.section.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(claim.section);
    event["detail"] = claim.detail.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(claim.detail);
    send(event);
}

} // namespace refhv::front
