// SPDX-License-Identifier: MIT
#include "refhv/client/self.hpp"

#include "refhv/client/socket_pair.hpp"
#include "refhv/client/target.hpp"
#include "refhv/contract/frame.hpp"
#include "refhv/self/kvm/device.hpp"
#include "refhv/self/server.hpp"

#include <algorithm>
#include <array>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <vector>

namespace refhv::client::self {
namespace {

constexpr int socket_fd = 3; // Process::fork's first

// The last of those allowed: the first ones see most of a system's interrupts.
void pin() {
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) {
        return;
    }
    for (int cpu = CPU_SETSIZE - 1; cpu >= 0; --cpu) {
        if (CPU_ISSET(cpu, &allowed)) {
            cpu_set_t one;
            CPU_ZERO(&one);
            CPU_SET(cpu, &one);
            sched_setaffinity(0, sizeof one, &one);
            return;
        }
    }
}

bool send_frame(u32 sequence, std::span<const u8> payload) {
    const FrameHeader header = make_frame_header(abi::version, FrameKind::reply, sequence, payload);
    std::vector<u8> bytes(sizeof header + payload.size());
    __builtin_memcpy(bytes.data(), &header, sizeof header);
    std::copy(payload.begin(), payload.end(), bytes.begin() + sizeof header);
    for (std::span<const u8> rest = bytes; !rest.empty();) {
        const ssize_t sent = send(socket_fd, rest.data(), rest.size(), MSG_NOSIGNAL);
        if (sent < 0 && errno != EINTR) {
            return false;
        }
        rest = rest.subspan(sent < 0 ? 0 : static_cast<usize>(sent));
    }
    return true;
}

std::string& server_program() {
    static std::string program;
    return program;
}

} // namespace

int serve(abi::Mode mode) {
    prctl(PR_SET_NAME, mode == abi::Mode::kvm ? "refhv-kvm" : "refhv-self");
    constexpr rlimit no_core{.rlim_cur = 0,
                             .rlim_max = 0}; // a guest that kills its process leaves no core file
    setrlimit(RLIMIT_CORE, &no_core);
    const int cpus = [] {
        cpu_set_t allowed;
        return sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? CPU_COUNT(&allowed) : 1;
    }();
    pin();
    Server server{static_cast<u32>(cpus), tsc_rate(), mode};
    std::vector<u8> storage(sizeof(FrameHeader) + abi::max_frame_payload);
    FrameDecoder decoder{storage};
    std::array<u8, 64 * 1024> buffer;
    bool up = send_frame(0, server.greeting());
    while (up) {
        const ssize_t got = recv(socket_fd, buffer.data(), buffer.size(), 0);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        up = got > 0;
        for (std::span<const u8> in{buffer.data(), up ? static_cast<usize>(got) : 0}; up && !in.empty();) {
            in = in.subspan(decoder.push(in));
            while (up && decoder.has_frame()) {
                up = send_frame(decoder.header().sequence,
                                decoder.header().version == abi::version
                                    ? server.answer(decoder.payload())
                                    : server.refuse_version(decoder.header().version));
                decoder.pop();
                up = up && !server.shutdown_asked();
            }
        }
    }
    return 0;
}

void set_server(std::string program) {
    server_program() = std::move(program);
}

std::string kvm_remark() {
    return kvm::is_hardware_assisted() || !kvm::obstacle().empty() ? "" : " (without VMX or SVM)";
}

void check_kvm() {
    if (const std::string why = kvm::obstacle(); !why.empty()) {
        throw TargetUnusable(why);
    }
}

Machine launch(abi::Mode mode) {
    SocketPair line;
    const std::array descriptors{line.theirs.get()};
    Process process =
        server_program().empty()
            ? Process::fork(descriptors, [mode] { return serve(mode); })
            : Process::spawn({.argv = {server_program(), mode == abi::Mode::kvm ? "kvm" : "self"},
                              .descriptors = {-1, 1, 2, line.theirs.get()}});
    Descriptor input{fcntl(line.ours.get(), F_DUPFD_CLOEXEC, 0)};
    return {.process = std::move(process),
            .output = std::move(line.ours),
            .input = std::move(input),
            .held = {},
            .last_words = {}};
}

} // namespace refhv::client::self
