// SPDX-License-Identifier: MIT
#include "refhv/client/command.hpp"

#include "refhv/client/locate.hpp"
#include "refhv/client/memory_file.hpp"
#include "refhv/client/pseudo_terminal.hpp"
#include "refhv/client/serial_line.hpp"
#include "refhv/client/socket_pair.hpp"

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <poll.h>
#include <sys/un.h>
#include <thread>

namespace refhv::client {
namespace {

// A monitor on standard input and output, or one that connects to us, is up within this or says hello by
// itself later.
constexpr std::chrono::milliseconds ask_after{3000};

// A directory for one socket, ours alone, gone as soon as both sides have met.
class Meeting {
  public:
    Meeting() {
        const char* const where = std::getenv("TMPDIR");
        std::string name = std::string(where != nullptr && *where != '\0' ? where : "/tmp") + "/refhv-XXXXXX";
        if (mkdtemp(name.data()) == nullptr) {
            throw std::system_error(errno, std::generic_category(),
                                    name + ": no directory can be made there");
        }
        directory_ = name;
        if (path().size() >= sizeof(sockaddr_un::sun_path)) {
            throw TargetUnusable(path() + " is too long for a socket: set TMPDIR to a shorter path");
        }
    }
    Meeting(const Meeting&) = delete;
    Meeting& operator=(const Meeting&) = delete;
    ~Meeting() {
        std::error_code ignored;
        std::filesystem::remove(path(), ignored);
        std::filesystem::remove(directory_, ignored);
    }

    [[nodiscard]] std::string path() const { return directory_ + "/serial"; }

    [[nodiscard]] Descriptor listen() const {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        path().copy(address.sun_path, sizeof address.sun_path - 1);
        Descriptor listener{socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
        if (!listener ||
            bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
            ::listen(listener.get(), 1) != 0) {
            throw std::system_error(errno, std::generic_category(), path() + ": no socket can be made");
        }
        return listener;
    }

  private:
    std::string directory_;
};

std::string last_words(const MemoryFile& log) {
    const std::string line = log.last_line("");
    return line.empty() ? "" : "; its log: " + line;
}

// What a command that is to meet us did instead.
[[noreturn]] void miss_meeting(Process& process, const MemoryFile& log, const char* place) {
    const std::optional<int> status = process.wait({});
    throw TargetMiss(
        std::string("the command ") +
        (status ? "ended before it was at " + std::string(place) + "; " + describe_wait_status(*status)
                : "did not come to " + std::string(place) + " in time; killed (process " +
                      std::to_string(process.pid()) + ")") +
        last_words(log));
}

Descriptor copy_of(const Descriptor& line) {
    return Descriptor{fcntl(line.get(), F_DUPFD_CLOEXEC, 0)};
}

Descriptor accept_within(const Descriptor& listener, std::chrono::steady_clock::time_point deadline,
                         Process& process) {
    for (;;) {
        pollfd wait{.fd = listener.get(), .events = POLLIN, .revents = 0};
        if (poll(&wait, 1, 20) == 1) {
            return Descriptor{accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC)};
        }
        if (process.wait({}) || std::chrono::steady_clock::now() >= deadline) {
            return {};
        }
    }
}

} // namespace

std::string Command::program() const {
    return find_named_program(words.at(0));
}

Machine Command::launch(std::chrono::milliseconds patience) const {
    const auto deadline = std::chrono::steady_clock::now() + patience;
    auto log = std::make_shared<MemoryFile>("refhv-command-log");
    std::optional<Meeting> meeting;
    std::optional<PseudoTerminal> terminal;
    std::optional<SocketPair> pair;
    Descriptor listener;
    std::map<std::string, std::string> places{
        {"image", ""}, {"iso", ""}, {"socket", ""}, {"listen", ""}, {"pty", ""}};
    std::string all;
    for (const std::string& word : words) {
        all += (all.empty() ? "" : " ") + word;
    }
    for (const auto& [name, file] : {std::pair{"image", "refhv.elf"}, std::pair{"iso", "refhv.iso"}}) {
        if (all.find(std::string("{").append(name).append("}")) != all.npos) {
            places[name] = find_image(file);
        }
    }
    std::vector<int> descriptors{-1, log->get(), log->get()};
    switch (line) {
    case Line::standard:
        pair.emplace();
        descriptors = {pair->theirs.get(), pair->theirs.get(), log->get()};
        break;
    case Line::socket:
        meeting.emplace();
        places["socket"] = meeting->path();
        break;
    case Line::listener:
        meeting.emplace();
        places["listen"] = meeting->path();
        listener = meeting->listen();
        break;
    case Line::terminal:
        terminal.emplace();
        places["pty"] = terminal->far_path;
        break;
    }
    Process::Command command{.argv = {program()}, .descriptors = descriptors};
    for (usize i = 1; i < words.size(); ++i) {
        command.argv.push_back(put_places(words[i], places));
    }
    Machine machine{.process = Process::spawn(command),
                    .output = {},
                    .input = {},
                    .held = {},
                    .last_words = [log] { return log->last_line(""); },
                    .tried = all,
                    .ask_after = ask_after};
    if (pair) {
        machine.output = std::move(pair->ours);
    } else if (terminal) {
        machine.output = std::move(terminal->near);
        machine.held.push_back(std::move(terminal->far));
    } else if (listener) {
        machine.output = accept_within(listener, deadline, machine.process);
    } else {
        machine.output =
            connect_local(meeting->path(), deadline, [&] { return !machine.process.wait({}).has_value(); });
        machine.ask_after = std::chrono::milliseconds{0}; // hello may have gone before we were there
    }
    if (!machine.output) {
        miss_meeting(machine.process, *log, line == Line::socket ? "{socket}" : "{listen}");
    }
    machine.input = copy_of(machine.output);
    return machine;
}

} // namespace refhv::client
