// SPDX-License-Identifier: MIT
#include "refhv/front/guests/walk_counter.hpp"

#include <cerrno>
#include <cstring>
#include <linux/perf_event.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace refhv::front {

namespace {

constexpr u64 amd_l2_dtlb_misses = 0xf045;
constexpr u64 generic_dtlb_load_misses =
    PERF_COUNT_HW_CACHE_DTLB | PERF_COUNT_HW_CACHE_OP_READ << 8 | PERF_COUNT_HW_CACHE_RESULT_MISS << 16;

} // namespace

WalkCounter::WalkCounter(bool amd)
    : WalkCounter(amd ? PERF_TYPE_RAW : PERF_TYPE_HW_CACHE,
                  amd ? amd_l2_dtlb_misses : generic_dtlb_load_misses,
                  amd ? "PMCx045 unit mask F0H, misses of L1 and L2 DTLB" : "dTLB-load-misses") {}

WalkCounter::WalkCounter(u32 type, u64 config, std::string event) : event_(std::move(event)) {
    perf_event_attr attr{};
    attr.size = sizeof attr;
    attr.type = type;
    attr.config = config;
    attr.disabled = 1;
    attr.exclude_kernel = 1;
    attr.exclude_hv = 1;
    attr.read_format = PERF_FORMAT_TOTAL_TIME_ENABLED | PERF_FORMAT_TOTAL_TIME_RUNNING;
    fd_ = static_cast<int>(syscall(SYS_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC));
    if (fd_ < 0) {
        missing_ = "perf_event_open of " + event_ + ": " + std::strerror(errno);
    }
}

WalkCounter::~WalkCounter() {
    if (fd_ >= 0) {
        close(fd_);
    }
}

void WalkCounter::start() {
    if (fd_ >= 0) {
        ioctl(fd_, PERF_EVENT_IOC_RESET, 0);
        ioctl(fd_, PERF_EVENT_IOC_ENABLE, 0);
    }
}

std::optional<u64> WalkCounter::stop() {
    struct {
        u64 value, enabled, running;
    } now{};
    if (fd_ < 0) {
        return std::nullopt;
    }
    ioctl(fd_, PERF_EVENT_IOC_DISABLE, 0);
    if (read(fd_, &now, sizeof now) != sizeof now || now.running == 0 || now.running != now.enabled) {
        return std::nullopt;
    }
    return now.value;
}

} // namespace refhv::front
