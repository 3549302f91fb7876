// SPDX-License-Identifier: MIT
#include "refhv/self/vm.hpp"

#include <algorithm>
#include <cerrno>
#include <sys/mman.h>
#include <unistd.h>
#include <utility>

namespace refhv::client::self {

u64 arena_bytes() {
    const long pages = sysconf(_SC_PHYS_PAGES);
    return std::min(u64{1} << 30, pages > 0 ? static_cast<u64>(pages) * page_size / 2 : u64{0});
}

GuestMemory::GuestMemory(u64 address, u64 bytes, int& error) : address_(address), bytes_(bytes) {
    // Present from the start: a page fault of ours in the middle of a guest would be a disturbance.
    void* const wanted = reinterpret_cast<void*>(address);
    void* const got = mmap(wanted, bytes, PROT_READ | PROT_WRITE | PROT_EXEC,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_POPULATE, -1, 0);
    error = got == MAP_FAILED ? errno : 0;
    if (got != MAP_FAILED && got != wanted) { // a kernel before 4.17 takes the address as a hint
        munmap(got, bytes);
        error = EEXIST;
    }
    bytes_ = error == 0 ? bytes : 0;
}

GuestMemory::GuestMemory(GuestMemory&& other) noexcept
    : address_(other.address_), bytes_(std::exchange(other.bytes_, 0)) {}

GuestMemory::~GuestMemory() {
    if (bytes_ != 0) {
        munmap(reinterpret_cast<void*>(address_), bytes_);
    }
}

bool GuestMemory::contains(u64 address, u64 bytes) const {
    return address >= address_ && address - address_ <= bytes_ && bytes <= bytes_ - (address - address_);
}

std::span<u8> GuestMemory::at(u64 address, u64 bytes) const {
    return contains(address, bytes) ? std::span{reinterpret_cast<u8*>(address), bytes} : std::span<u8>{};
}

std::span<const u8> GuestMemory::from(u64 address, u64 most) const {
    return contains(address, 1) ? at(address, std::min(most, bytes_ - (address - address_)))
                                : std::span<const u8>{};
}

} // namespace refhv::client::self
