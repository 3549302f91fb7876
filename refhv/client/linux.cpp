// SPDX-License-Identifier: MIT
#include "refhv/client/linux.hpp"

#include "refhv/client/batch.hpp"
#include "refhv/client/descriptor.hpp"
#include "refhv/client/greeting.hpp"
#include "refhv/client/patience.hpp"
#include "refhv/client/qemu.hpp"
#include "refhv/kmod/ioctl.h"

#include <cerrno>
#include <cpuid.h>
#include <csignal>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <fstream>
#include <optional>
#include <sys/ioctl.h>
#include <unistd.h>

namespace refhv::client::linux_module {
namespace {

static_assert(REFHV_MAX_PAYLOAD == abi::max_frame_payload);

constexpr std::chrono::milliseconds hello_patience{5000};

std::string loaded_kvm() {
    for (const char* name : {"kvm_intel", "kvm_amd"}) {
        if (access(("/sys/module/" + std::string(name)).c_str(), F_OK) == 0) {
            return name;
        }
    }
    return {};
}

// Why the device cannot be opened, and what to do.
std::string reason(int error) {
    switch (error) {
    case ENOENT:
        return std::string(device) + " is not there: build and load the module (sudo refhv load, or ./suite "
                                     "load in the source tree)";
    case EACCES:
    case EPERM:
        return std::string("only root, with CAP_SYS_RAWIO, may open ") + device;
    case EBUSY:
        if (const std::string kvm = loaded_kvm(); !kvm.empty()) {
            return "KVM has this machine's virtualization: end its VMs and unload it (modprobe -r " + kvm +
                   ")";
        }
        return std::string(device) + " is in use by another process, or the system is about to sleep";
    case ENODEV:
        return "the module's CPU is offline: bring it back, or load the module with another (parameter cpu)";
    case ENOMEM:
        return "the module found too little memory in blocks of 4 MB: load it with a smaller memory_mb, or "
               "soon after a start of the system";
    default:
        return std::string(device) + ": " + std::strerror(error);
    }
}

// Interrupts this thread's system call when time is up. The handler does nothing: that the call returns is
// all.
class Alarm {
  public:
    explicit Alarm(std::chrono::milliseconds time) {
        static const bool handled = [] {
            struct sigaction action {};
            action.sa_handler = [](int) {};
            return sigaction(SIGRTMIN, &action, nullptr) == 0;
        }();
        (void)handled;
        sigevent event{};
        event.sigev_notify = SIGEV_THREAD_ID;
        event.sigev_signo = SIGRTMIN;
        event._sigev_un._tid = gettid();
        armed_ = timer_create(CLOCK_MONOTONIC, &event, &timer_) == 0;
        // Again and again: the first may come just before the call.
        const itimerspec when{
            .it_interval = {.tv_sec = 0, .tv_nsec = 100'000'000},
            .it_value = {.tv_sec = time.count() / 1000, .tv_nsec = time.count() % 1000 * 1'000'000 + 1}};
        if (armed_) {
            timer_settime(timer_, 0, &when, nullptr);
        }
        end_ = std::chrono::steady_clock::now() + time;
    }
    Alarm(const Alarm&) = delete;
    Alarm& operator=(const Alarm&) = delete;
    ~Alarm() {
        if (armed_) {
            timer_delete(timer_);
        }
    }
    [[nodiscard]] bool is_over() const { return std::chrono::steady_clock::now() >= end_; }

  private:
    timer_t timer_{};
    bool armed_ = false;
    std::chrono::steady_clock::time_point end_;
};

class Module final : public Target {
  public:
    explicit Module(TargetInfo info) : info_(std::move(info)) {}

    [[nodiscard]] const TargetInfo& info() const override { return info_; }
    [[nodiscard]] unsigned generation() const override { return generation_; }
    void stop() override { device_.reset(); }

    const HelloInfo& hello() override {
        if (!device_) {
            start();
        }
        return hello_;
    }

    std::vector<u8> call(std::span<const u8> payload, std::chrono::milliseconds patience) override {
        if (payload.size() > abi::max_frame_payload) {
            throw std::invalid_argument("a request of more than abi::max_frame_payload bytes");
        }
        if (!device_) {
            start();
        }
        return send(payload, patience);
    }

  private:
    void start() {
        const int opened = ::open(device, O_RDWR | O_CLOEXEC);
        if (opened < 0) {
            throw TargetUnusable(info_.name + ": " + reason(errno));
        }
        device_.emplace(opened);
        ++generation_;
        Batch batch;
        batch.add<abi::Op::hello>(abi::Hello{.version = abi::version, .zero = {}});
        const std::vector<u8> answer = send(batch.payload(), hello_patience);
        try {
            hello_ = read_greeting(answer);
        } catch (const MalformedReply& malformed) {
            device_.reset();
            throw TargetUnusable(info_.name + ": the module's hello does not read: " + malformed.what() +
                                 "; build it and this program from one source");
        }
    }

    // Whatever goes wrong, the device is closed, and what was in it is gone.
    std::vector<u8> send(std::span<const u8> payload, std::chrono::milliseconds patience) {
        refhv_call call{};
        call.request = reinterpret_cast<u64>(payload.data());
        call.request_bytes = static_cast<u32>(payload.size());
        room_.resize(abi::max_frame_payload);
        call.reply = reinterpret_cast<u64>(room_.data());
        call.reply_room = abi::max_frame_payload;
        const Alarm alarm{client::patience(patience)};
        const bool answered = ioctl(device_->get(), REFHV_CALL, &call) == 0;
        const int error = errno;
        if (answered && !alarm.is_over()) {
            return {room_.begin(), room_.begin() + call.reply_bytes};
        }
        device_.reset();
        if (alarm.is_over()) {
            throw TargetMiss(info_.name + ": no answer within " + std::to_string(patience.count()) + " ms");
        }
        throw TargetMiss(info_.name + ": " +
                         (error == ESTALE  ? "its VMs are gone: its CPU was offline, or the system slept"
                          : error == EINTR ? "the request was interrupted"
                                           : reason(error)));
    }

    TargetInfo info_;
    std::optional<Descriptor> device_;
    HelloInfo hello_;
    std::vector<u8> room_; // for a reply; made once, for clearing a megabyte costs more than most requests
    unsigned generation_ = 0;
};

} // namespace

void check() {
    if (access(device, R_OK | W_OK) != 0) {
        throw TargetUnusable(reason(errno));
    }
}

std::string backend() {
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx >> 5 & 1) != 0) {
        return "vmx";
    }
    return __get_cpuid(0x8000'0001, &eax, &ebx, &ecx, &edx) != 0 && (ecx >> 2 & 1) != 0 ? "svm" : "none";
}

bool is_emulated() {
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx >> 31) != 0) {
        char signature[12];
        __cpuid(0x4000'0000, eax, ebx, ecx, edx);
        std::memcpy(signature, &ebx, 4);
        std::memcpy(signature + 4, &ecx, 4);
        std::memcpy(signature + 8, &edx, 4);
        return std::string_view(signature, sizeof signature) == qemu::tcg_signature;
    }
    std::ifstream table("/sys/firmware/acpi/tables/FACP", std::ios::binary);
    char head[16]{};
    return table.read(head, sizeof head) && std::string_view(head + 10, 6) == "BOCHS ";
}

std::unique_ptr<Target> open(TargetInfo info) {
    return std::make_unique<Module>(std::move(info));
}

} // namespace refhv::client::linux_module
