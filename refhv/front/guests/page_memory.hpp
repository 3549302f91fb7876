// SPDX-License-Identifier: MIT
// Memory of a process whose pages have a known size, with the kernel's word for it.
#pragma once

#include "refhv/contract/types.hpp"

#include <iosfwd>
#include <optional>
#include <stdexcept>
#include <string>

namespace refhv::front {

enum class PageSize : u8 {
    kb4,
    mb2,
    gb1
};

inline constexpr PageSize page_sizes[] = {PageSize::kb4, PageSize::mb2, PageSize::gb1};

[[nodiscard]] constexpr u64 bytes_of(PageSize size) {
    return size == PageSize::kb4 ? u64{1} << 12 : size == PageSize::mb2 ? u64{1} << 21 : u64{1} << 30;
}
[[nodiscard]] constexpr const char* name_of(PageSize size) {
    return size == PageSize::kb4 ? "4k" : size == PageSize::mb2 ? "2m" : "1g";
}

// This machine gives no such memory. The message says why, one line.
struct NotOffered : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// What /proc/PID/smaps says of the mappings in an address range, summed up; in KB.
struct MappingFacts {
    u64 mapped = 0;
    u64 resident = 0; // hugetlbfs pages included, which smaps counts apart
    u64 transparent_huge = 0;
    u64 smallest_page = 0, largest_page = 0; // KernelPageSize; says nothing of transparent huge pages
};
// Mappings wholly inside [begin, end).
[[nodiscard]] MappingFacts read_smaps(std::istream& smaps, u64 begin, u64 end);

class PageMemory {
  public:
    // Maps and touches `bytes`, rounded up to whole pages. 4K: madvise(MADV_NOHUGEPAGE), touched in random
    // order, so that neighbours are no neighbours in physical memory and a CPU cannot coalesce their
    // translations (AMD joins aligned groups of four). 2M: transparent huge pages, else hugetlbfs. 1G:
    // hugetlbfs. Throws NotOffered.
    PageMemory(PageSize size, u64 bytes);
    PageMemory(const PageMemory&) = delete;
    PageMemory& operator=(const PageMemory&) = delete;
    ~PageMemory();

    [[nodiscard]] PageSize size() const { return size_; }
    [[nodiscard]] u8* base() const { return base_; }
    [[nodiscard]] u64 bytes() const { return bytes_; }
    [[nodiscard]] const std::string& source() const { return source_; }

    // What is wrong with the size of the pages as they are now, one line; empty: every byte is resident, in
    // pages of just that size.
    [[nodiscard]] std::string fault() const;
    // Aligned groups of four 4K pages that are contiguous in physical memory (which a CPU may join into one
    // translation). Null: the kernel does not show frame numbers.
    [[nodiscard]] std::optional<u64> contiguous_groups() const;

  private:
    bool map(u64 align, int flags);
    void touch();

    PageSize size_;
    u64 bytes_;
    u8* reserved_ = nullptr;
    u64 reserved_bytes_ = 0;
    u8* base_ = nullptr;
    std::string source_;
};

} // namespace refhv::front
