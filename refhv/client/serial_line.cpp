// SPDX-License-Identifier: MIT
#include "refhv/client/serial_line.hpp"

#include "refhv/client/patience.hpp"
#include "refhv/client/target.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <memory>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <optional>
#include <poll.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>
#include <thread>

namespace refhv::client {
namespace {

constexpr std::chrono::milliseconds connect_patience{10'000};

constexpr std::array<std::pair<unsigned, speed_t>, 14> speeds{{{9600, B9600},
                                                               {19'200, B19200},
                                                               {38'400, B38400},
                                                               {57'600, B57600},
                                                               {115'200, B115200},
                                                               {230'400, B230400},
                                                               {460'800, B460800},
                                                               {500'000, B500000},
                                                               {576'000, B576000},
                                                               {921'600, B921600},
                                                               {1'000'000, B1000000},
                                                               {1'500'000, B1500000},
                                                               {2'000'000, B2000000},
                                                               {4'000'000, B4000000}}};

std::optional<speed_t> speed_of(unsigned baud) {
    const auto* const at =
        std::find_if(speeds.begin(), speeds.end(), [&](auto& s) { return s.first == baud; });
    return at == speeds.end() ? std::nullopt : std::optional(at->second);
}

[[noreturn]] void refuse(const std::string& what, int error, const char* mend) {
    throw TargetUnusable(what + ": " + std::strerror(error) + "; " + mend);
}

Descriptor open_terminal(const std::string& path, unsigned baud) {
    Descriptor line{open(path.c_str(), O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC)};
    if (!line) {
        refuse(path, errno,
               errno == EACCES  ? "be in the group that owns it (dialout on Debian), or run as root"
               : errno == EBUSY ? "end the program that has it open"
                                : "name the terminal device that the machine's serial line ends in");
    }
    termios mode{};
    if (tcgetattr(line.get(), &mode) != 0) {
        refuse(path, errno, "name a terminal device such as /dev/ttyS0 or /dev/ttyUSB0");
    }
    cfmakeraw(&mode);
    mode.c_cflag |= CLOCAL | CREAD;
    mode.c_cflag &= ~static_cast<tcflag_t>(CRTSCTS | CSTOPB);
    mode.c_iflag &= ~static_cast<tcflag_t>(IXOFF | IXANY);
    mode.c_cc[VMIN] = 1;
    mode.c_cc[VTIME] = 0;
    cfsetspeed(&mode, *speed_of(baud));
    termios set{};
    if (tcsetattr(line.get(), TCSANOW, &mode) != 0 || tcgetattr(line.get(), &set) != 0 ||
        cfgetospeed(&set) != cfgetospeed(&mode)) {
        throw TargetUnusable(path + ": it cannot be set to " + std::to_string(baud) +
                             " baud, raw: name a speed that it has");
    }
    if (flock(line.get(), LOCK_EX | LOCK_NB) != 0) { // root may open what TIOCEXCL keeps from others
        throw TargetUnusable(path + ": another program of refhv has it; end that one first");
    }
    ioctl(line.get(), TIOCEXCL);
    tcflush(line.get(), TCIOFLUSH);
    return line;
}

// Starts to connect, and waits no longer than until the deadline. 0, or why not.
int connect_within(int socket, const sockaddr* address, socklen_t size,
                   std::chrono::steady_clock::time_point deadline) {
    if (connect(socket, address, size) == 0) {
        return 0;
    }
    if (errno != EINPROGRESS) {
        return errno;
    }
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    pollfd wait{.fd = socket, .events = POLLOUT, .revents = 0};
    if (poll(&wait, 1, std::max(0, static_cast<int>(left.count()))) != 1) {
        return ETIMEDOUT;
    }
    int error = 0;
    socklen_t length = sizeof error;
    getsockopt(socket, SOL_SOCKET, SO_ERROR, &error, &length);
    return error;
}

Descriptor open_tcp(const std::string& host, const std::string& port) {
    const std::string name = host + " port " + port;
    addrinfo wanted{};
    wanted.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    if (const int error = getaddrinfo(host.c_str(), port.c_str(), &wanted, &found); error != 0) {
        throw TargetUnusable(name + ": " + gai_strerror(error) + "; name a host that this machine knows");
    }
    const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> list{found, freeaddrinfo};
    const auto deadline = std::chrono::steady_clock::now() + patience(connect_patience);
    int error = EADDRNOTAVAIL;
    for (const addrinfo* at = list.get(); at != nullptr; at = at->ai_next) {
        Descriptor line{socket(at->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
        error = !line ? errno : connect_within(line.get(), at->ai_addr, at->ai_addrlen, deadline);
        if (error == 0) {
            const int on = 1;
            setsockopt(line.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
            setsockopt(line.get(), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
            return line;
        }
    }
    refuse(name, error,
           "start what offers the machine's serial line there (a terminal server, ser2net, a VMM)");
}

// Of one attempt; `error` says why there is none.
Descriptor try_local(const std::string& path, int& error) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    Descriptor line{socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
    if (!line || connect(line.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
        error = errno;
        return {};
    }
    return line;
}

Descriptor open_local(const std::string& path) {
    int error = 0;
    Descriptor line = try_local(path, error);
    if (!line) {
        refuse(path, error,
               error == EACCES ? "be a user who may write to it, or run as root"
                               : "start the machine whose serial line is this socket; it must listen there");
    }
    return line;
}

} // namespace

void expect_speed(unsigned baud) {
    if (!speed_of(baud)) {
        std::string all;
        for (const auto& [known, setting] : speeds) {
            all += (all.empty() ? "" : ", ") + std::to_string(known);
        }
        throw BadTargetName("a terminal cannot have " + std::to_string(baud) + " baud; there are " + all);
    }
}

SerialLine SerialLine::parse(std::string_view text) {
    constexpr usize longest_path = sizeof(sockaddr_un::sun_path) - 1;
    if (text.starts_with("unix:")) {
        const std::string_view path = text.substr(5);
        if (path.empty() || path.size() > longest_path) {
            throw BadTargetName("unix: takes the path of a socket, of at most " +
                                std::to_string(longest_path) + " characters");
        }
        return {.kind = Kind::local, .place = std::string(path), .port = {}};
    }
    if (text.starts_with("/")) {
        return {.kind = Kind::terminal, .place = std::string(text), .port = {}, .baud = standard_baud};
    }
    const usize colon = text.rfind(':');
    std::string_view host = text.substr(0, std::min(colon, text.size()));
    const std::string_view port = colon == text.npos ? "" : text.substr(colon + 1);
    if (host.starts_with('[') && host.ends_with(']')) {
        host = host.substr(1, host.size() - 2);
    }
    const bool number =
        !port.empty() && port.size() <= 5 && port.find_first_not_of("0123456789") == port.npos;
    if (host.empty() || !number) {
        throw BadTargetName("'" + std::string(text) +
                            "' is no place of a serial line: give /dev/DEVICE, HOST:PORT or unix:PATH");
    }
    return {.kind = Kind::tcp, .place = std::string(host), .port = std::string(port)};
}

Descriptor SerialLine::open() const {
    switch (kind) {
    case Kind::terminal:
        return open_terminal(place, baud);
    case Kind::tcp:
        return open_tcp(place, port);
    case Kind::local:
        break;
    }
    return open_local(place);
}

Descriptor connect_local(const std::string& path, std::chrono::steady_clock::time_point deadline,
                         const std::function<bool()>& alive) {
    for (;;) {
        int error = 0;
        if (Descriptor line = try_local(path, error); line) {
            return line;
        }
        if (!alive() || std::chrono::steady_clock::now() >= deadline) {
            return {};
        }
        std::this_thread::sleep_for(std::chrono::milliseconds{20});
    }
}

} // namespace refhv::client
