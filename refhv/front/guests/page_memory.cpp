// SPDX-License-Identifier: MIT
#include "refhv/front/guests/page_memory.hpp"

#include "refhv/front/guests/page_chase.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <linux/mman.h>
#include <sstream>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

namespace refhv::front {

namespace {

// Unlike free memory this counts what the kernel can take back. 0: not known.
u64 available_bytes() {
    std::ifstream file("/proc/meminfo");
    for (std::string line; std::getline(file, line);) {
        u64 kb = 0;
        if (std::sscanf(line.c_str(), "MemAvailable: %lu kB", &kb) == 1) {
            return kb << 10;
        }
    }
    return 0;
}

std::string in_mb(u64 bytes) {
    return std::to_string(bytes >> 20) + " MB";
}

} // namespace

MappingFacts read_smaps(std::istream& smaps, u64 begin, u64 end) {
    MappingFacts facts;
    bool inside = false;
    for (std::string line; std::getline(smaps, line);) {
        u64 first = 0, last = 0, kb = 0;
        char field[32] = "";
        if (std::sscanf(line.c_str(), "%lx-%lx ", &first, &last) == 2) {
            inside = first >= begin && last <= end;
            facts.mapped += inside ? (last - first) >> 10 : 0;
        } else if (inside && std::sscanf(line.c_str(), "%31[^:]: %lu kB", field, &kb) == 2) {
            const std::string_view name = field;
            if (name == "Rss" || name == "Private_Hugetlb" || name == "Shared_Hugetlb") {
                facts.resident += kb;
            } else if (name == "AnonHugePages") {
                facts.transparent_huge += kb;
            } else if (name == "KernelPageSize") {
                facts.smallest_page = facts.smallest_page == 0 ? kb : std::min(facts.smallest_page, kb);
                facts.largest_page = std::max(facts.largest_page, kb);
            }
        }
    }
    return facts;
}

PageMemory::PageMemory(PageSize size, u64 bytes)
    : size_(size), bytes_((bytes + bytes_of(size) - 1) & ~(bytes_of(size) - 1)) {
    const std::string page = name_of(size);
    // Twice: what is being measured must not drive the machine into reclaiming memory.
    if (const u64 available = available_bytes();
        size != PageSize::gb1 && available != 0 && available < 2 * bytes_) {
        throw NotOffered(in_mb(bytes_) + " of memory wanted, only " + in_mb(available) + " available");
    }
    if (size == PageSize::kb4) {
        if (!map(bytes_of(PageSize::mb2), 0) || madvise(base_, bytes_, MADV_NOHUGEPAGE) != 0) {
            throw NotOffered("4k pages: " + std::string(std::strerror(errno)));
        }
        source_ = "anonymous memory, MADV_NOHUGEPAGE";
        touch();
        return;
    }
    const bool transparent = size == PageSize::mb2 && map(bytes_of(size), 0);
    if (transparent && madvise(base_, bytes_, MADV_HUGEPAGE) == 0) {
        source_ = "transparent huge pages, MADV_HUGEPAGE";
        touch();
        if (fault().empty()) {
            return;
        }
    }
    source_ = "hugetlbfs";
    if (!map(bytes_of(size), MAP_HUGETLB | (size == PageSize::mb2 ? MAP_HUGE_2MB : MAP_HUGE_1GB))) {
        const std::string why = std::strerror(errno);
        throw NotOffered(page + " pages: " +
                         (size == PageSize::mb2 ? "no transparent huge pages for all of it, and " : "") +
                         "hugetlbfs has none to give (" + why + ")");
    }
    touch();
}

PageMemory::~PageMemory() {
    if (reserved_ != nullptr) {
        munmap(reserved_, reserved_bytes_);
    }
}

// Unreadable memory stays around it, so that the kernel never joins it with a neighbour and smaps speaks of
// this memory alone.
bool PageMemory::map(u64 align, int flags) {
    if (reserved_ != nullptr) {
        munmap(reserved_, reserved_bytes_);
        reserved_ = nullptr;
    }
    constexpr int always = MAP_PRIVATE | MAP_ANONYMOUS;
    void* const at = mmap(nullptr, bytes_ + 2 * align, PROT_NONE, always | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) {
        return false;
    }
    reserved_ = static_cast<u8*>(at);
    reserved_bytes_ = bytes_ + 2 * align;
    const u64 first = (reinterpret_cast<u64>(at) + align) & ~(align - 1);
    base_ = reinterpret_cast<u8*>(first);
    return mmap(base_, bytes_, PROT_READ | PROT_WRITE, always | MAP_FIXED | flags, -1, 0) != MAP_FAILED;
}

void PageMemory::touch() {
    const u64 step = bytes_of(size_);
    const auto next = full_cycle(bytes_ / step, chase_seed);
    u64 at = 0;
    for (u64 i = 0; i < next.size(); ++i, at = next[at]) {
        *reinterpret_cast<volatile u8*>(base_ + at * step) = 0;
    }
}

std::string PageMemory::fault() const {
    std::ifstream smaps("/proc/self/smaps");
    const u64 begin = reinterpret_cast<u64>(base_);
    const MappingFacts facts = read_smaps(smaps, begin, begin + bytes_);
    const u64 kb = bytes_ >> 10;
    const bool transparent = source_.starts_with("transparent");
    const u64 kernel_page = (transparent ? bytes_of(PageSize::kb4) : bytes_of(size_)) >> 10;
    std::ostringstream out;
    if (facts.mapped != kb || facts.resident != kb) {
        out << "of " << kb << " kB, smaps knows " << facts.mapped << " and has " << facts.resident
            << " in memory";
    } else if (facts.transparent_huge != (transparent ? kb : 0)) {
        out << facts.transparent_huge << " of " << kb << " kB are transparent huge pages";
    } else if (facts.smallest_page != kernel_page || facts.largest_page != kernel_page) {
        out << "KernelPageSize is " << facts.smallest_page << " to " << facts.largest_page << " kB, not "
            << kernel_page;
    }
    return out.str();
}

// Documentation/admin-guide/mm/pagemap.rst of Linux: bits 0-54 the frame, bit 63 present; frames are 0
// without CAP_SYS_ADMIN.
std::optional<u64> PageMemory::contiguous_groups() const {
    constexpr u64 present = u64{1} << 63, frame = (u64{1} << 55) - 1, group = 4;
    std::vector<u64> entries(bytes_ / bytes_of(PageSize::kb4));
    const int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return std::nullopt;
    }
    const u64 offset = reinterpret_cast<u64>(base_) / bytes_of(PageSize::kb4) * sizeof(u64);
    const ssize_t wanted = static_cast<ssize_t>(entries.size() * sizeof(u64));
    const ssize_t got = pread(fd, entries.data(), static_cast<usize>(wanted), static_cast<off_t>(offset));
    close(fd);
    if (got != wanted || (entries[0] & present) == 0 || (entries[0] & frame) == 0) {
        return std::nullopt;
    }
    u64 groups = 0;
    for (usize i = 0; i + group <= entries.size(); i += group) {
        bool joined = (entries[i] & frame) % group == 0;
        for (usize k = 1; k < group; ++k) {
            joined = joined && (entries[i + k] & frame) == (entries[i] & frame) + k;
        }
        groups += joined ? 1 : 0;
    }
    return groups;
}

} // namespace refhv::front
