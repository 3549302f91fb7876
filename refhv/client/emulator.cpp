// SPDX-License-Identifier: MIT
#include "refhv/client/emulator.hpp"

#include "refhv/client/descriptor.hpp"
#include "refhv/client/patience.hpp"
#include "refhv/client/process.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <fcntl.h>
#include <map>
#include <poll.h>

namespace refhv::client {
namespace {

constexpr std::size_t most_bytes = std::size_t{64} * 1024;
constexpr std::chrono::milliseconds answer_patience{10'000};
constexpr std::string_view blanks = " \t\r\n";

std::string ask(const std::vector<std::string>& argv) {
    using Clock = std::chrono::steady_clock;
    const auto deadline = Clock::now() + patience(answer_patience);
    std::array<int, 2> ends{};
    if (pipe2(ends.data(), O_CLOEXEC) != 0) {
        return {};
    }
    const Descriptor ours{ends[0]};
    Descriptor theirs{ends[1]};
    try {
        // Killed when we return, should it still run.
        const Process process =
            Process::spawn({.argv = argv, .descriptors = {-1, theirs.get(), theirs.get()}});
        theirs = Descriptor{};
        std::string answer;
        std::array<char, 4096> piece{};
        while (answer.size() < most_bytes) {
            const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
            pollfd wait{.fd = ours.get(), .events = POLLIN, .revents = 0};
            if (left.count() <= 0 || poll(&wait, 1, static_cast<int>(left.count())) == 0) {
                break;
            }
            const ssize_t got = read(ours.get(), piece.data(), piece.size());
            if (got == 0 || (got < 0 && errno != EINTR)) {
                break;
            }
            answer.append(piece.data(), got < 0 ? 0 : static_cast<std::size_t>(got));
        }
        return answer;
    } catch (const SpawnFailed&) {
        return {};
    }
}

} // namespace

std::string describe(const Emulator& emulator) {
    return emulator.name +
           (emulator.version.empty() ? " of a version that it does not tell" : " " + emulator.version);
}

std::string answer_of(const std::vector<std::string>& argv) {
    static std::map<std::vector<std::string>, std::string> answers;
    const auto known = answers.find(argv);
    return known != answers.end() ? known->second : answers.emplace(argv, ask(argv)).first->second;
}

Emulator emulator_in(std::string_view answer, std::string name, std::string_view prefix) {
    Emulator emulator{.name = std::move(name), .version = {}, .banner = {}};
    const std::size_t at = answer.find(prefix);
    if (at == std::string_view::npos) {
        return emulator;
    }
    const std::string_view told = answer.substr(at + prefix.size());
    std::string_view version = told.substr(0, told.find_first_not_of("0123456789."));
    version = version.substr(0, version.find_last_not_of('.') + 1);
    emulator.version = version;
    const std::size_t before = answer.rfind('\n', at);
    std::string_view line = answer.substr(before == std::string_view::npos ? 0 : before + 1);
    line = line.substr(0, line.find('\n'));
    line.remove_prefix(std::min(line.find_first_not_of(blanks), line.size()));
    emulator.banner = line.substr(0, line.find_last_not_of(blanks) + 1);
    return emulator;
}

bool has_word(std::string_view answer, std::string_view word) {
    for (std::size_t at = answer.find(word); at != std::string_view::npos; at = answer.find(word, at + 1)) {
        const std::size_t end = at + word.size();
        if ((at == 0 || blanks.find(answer[at - 1]) != std::string_view::npos) &&
            (end == answer.size() || blanks.find(answer[end]) != std::string_view::npos)) {
            return true;
        }
    }
    return false;
}

} // namespace refhv::client
