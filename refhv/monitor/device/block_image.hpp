// SPDX-License-Identifier: MIT
// What a disk of a VM holds: a base that several VMs may share, read only, and what this VM has written over
// it.
#pragma once

#include "refhv/contract/types.hpp"

#include <array>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace refhv::monitor {

class BlockBase {
  public:
    BlockBase() = default;
    BlockBase(const BlockBase&) = delete;
    BlockBase& operator=(const BlockBase&) = delete;
    virtual ~BlockBase() = default;

    [[nodiscard]] virtual u64 size() const = 0; // bytes
    // False if it cannot be read. Behind its end there are zeroes.
    [[nodiscard]] virtual bool read(u64 offset, std::span<std::byte> to) const = 0;

    // Throws std::system_error if it cannot be opened, or is no file that has a size.
    [[nodiscard]] static std::shared_ptr<const BlockBase> file(const std::string& path);
    [[nodiscard]] static std::shared_ptr<const BlockBase> memory(std::vector<std::byte> content);
};

class BlockImage {
  public:
    static constexpr u64 sector = 512;
    using Page = std::array<std::byte, 4096>;

    explicit BlockImage(std::shared_ptr<const BlockBase> base);

    // A base that ends within a sector ends with zeroes.
    [[nodiscard]] u64 sectors() const { return sectors_; }
    // Both within sectors(), or false.
    [[nodiscard]] bool read(u64 offset, std::span<std::byte> to) const;
    [[nodiscard]] bool write(u64 offset, std::span<const std::byte> from);

    // What was written, by number of page: with the base's name, all that a snapshot needs. Pages beyond the
    // image that are put in are never read.
    [[nodiscard]] const std::map<u64, Page>& overlay() const { return overlay_; }
    void set_overlay(std::map<u64, Page> pages) { overlay_ = std::move(pages); }

  private:
    [[nodiscard]] bool holds(u64 offset, u64 length) const;

    std::shared_ptr<const BlockBase> base_;
    u64 sectors_;
    std::map<u64, Page> overlay_;
};

} // namespace refhv::monitor
