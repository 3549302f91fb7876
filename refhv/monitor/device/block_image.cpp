// SPDX-License-Identifier: MIT
#include "refhv/monitor/device/block_image.hpp"

#include <algorithm>
#include <cerrno>
#include <system_error>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace refhv::monitor {
namespace {

class FileBase final : public BlockBase {
  public:
    explicit FileBase(const std::string& path) : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
        struct stat status {};
        if (fd_ < 0 || ::fstat(fd_, &status) != 0 || !S_ISREG(status.st_mode)) {
            const int error = fd_ < 0 || errno != 0 ? errno : EINVAL;
            if (fd_ >= 0) {
                ::close(fd_);
            }
            throw std::system_error(error, std::generic_category(), path);
        }
        size_ = static_cast<u64>(status.st_size);
    }
    ~FileBase() override { ::close(fd_); }

    [[nodiscard]] u64 size() const override { return size_; }
    [[nodiscard]] bool read(u64 offset, std::span<std::byte> to) const override {
        while (!to.empty()) {
            const ssize_t got = ::pread(fd_, to.data(), to.size(), static_cast<off_t>(offset));
            if (got < 0 && errno == EINTR) {
                continue;
            }
            if (got < 0) {
                return false;
            }
            if (got == 0) {
                std::ranges::fill(to, std::byte{});
                break;
            }
            to = to.subspan(static_cast<usize>(got));
            offset += static_cast<u64>(got);
        }
        return true;
    }

  private:
    int fd_;
    u64 size_ = 0;
};

class MemoryBase final : public BlockBase {
  public:
    explicit MemoryBase(std::vector<std::byte> content) : content_(std::move(content)) {}

    [[nodiscard]] u64 size() const override { return content_.size(); }
    [[nodiscard]] bool read(u64 offset, std::span<std::byte> to) const override {
        const usize there = offset < content_.size() ? std::min(to.size(), content_.size() - offset) : 0;
        std::ranges::fill(to.subspan(there), std::byte{});
        if (there != 0) {
            std::ranges::copy(std::span(content_).subspan(offset, there), to.begin());
        }
        return true;
    }

  private:
    std::vector<std::byte> content_;
};

// Calls part(page, offset in it, offset in the whole, length) for each page that a range touches, until one
// says false.
template <class Part>
bool by_page(u64 offset, u64 length, Part&& part) {
    constexpr u64 page = sizeof(BlockImage::Page);
    for (u64 done = 0; done < length;) {
        const u64 at = (offset + done) % page, count = std::min(page - at, length - done);
        if (!part((offset + done) / page, at, done, count)) {
            return false;
        }
        done += count;
    }
    return true;
}

} // namespace

std::shared_ptr<const BlockBase> BlockBase::file(const std::string& path) {
    errno = 0;
    return std::make_shared<FileBase>(path);
}

std::shared_ptr<const BlockBase> BlockBase::memory(std::vector<std::byte> content) {
    return std::make_shared<MemoryBase>(std::move(content));
}

BlockImage::BlockImage(std::shared_ptr<const BlockBase> base)
    : base_(std::move(base)), sectors_((base_->size() + sector - 1) / sector) {}

bool BlockImage::holds(u64 offset, u64 length) const {
    const u64 size = sectors_ * sector;
    return offset <= size && length <= size - offset;
}

bool BlockImage::read(u64 offset, std::span<std::byte> to) const {
    return holds(offset, to.size()) && by_page(offset, to.size(), [&](u64 page, u64 at, u64 done, u64 count) {
               const auto part = to.subspan(done, count);
               if (const auto own = overlay_.find(page); own != overlay_.end()) {
                   std::ranges::copy(std::span(own->second).subspan(at, count), part.begin());
                   return true;
               }
               return base_->read(offset + done, part);
           });
}

bool BlockImage::write(u64 offset, std::span<const std::byte> from) {
    return holds(offset, from.size()) &&
           by_page(offset, from.size(), [&](u64 page, u64 at, u64 done, u64 count) {
               const auto [own, fresh] = overlay_.try_emplace(page);
               if (fresh && count < sizeof(Page) && !base_->read(page * sizeof(Page), own->second)) {
                   overlay_.erase(own);
                   return false;
               }
               std::ranges::copy(from.subspan(done, count),
                                 own->second.begin() + static_cast<std::ptrdiff_t>(at));
               return true;
           });
}

} // namespace refhv::monitor
