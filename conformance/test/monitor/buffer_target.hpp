// SPDX-License-Identifier: MIT
// A target whose VM is a buffer: it has memory and state, and never runs.
#pragma once

#include "refhv/client/batch.hpp"
#include "refhv/client/target.hpp"

#include <cstring>
#include <stdexcept>

namespace refhv::monitor {

class BufferTarget final : public client::Target {
  public:
    explicit BufferTarget(abi::Vendor vendor = abi::Vendor::svm) {
        hello_.fixed.vendor = static_cast<u16>(vendor);
        hello_.cpuid = {{0x8000'0001, 0, 0, 0, 0, 1u << 26}, {0x8000'0008, 0, 40, 0, 0, 0}};
    }

    [[nodiscard]] const client::TargetInfo& info() const override { return info_; }
    const client::HelloInfo& hello() override { return hello_; }
    void stop() override {}
    [[nodiscard]] unsigned generation() const override { return 1; }

    std::vector<u8> call(std::span<const u8> payload, std::chrono::milliseconds) override {
        std::vector<u8> reply;
        for (usize at = 0; at < payload.size();) {
            const auto header = object<abi::OpHeader>(payload, at);
            const auto body = payload.subspan(at + sizeof header, header.size);
            answer(static_cast<abi::Op>(header.op), body, reply);
            at += abi::align8(sizeof header + header.size);
        }
        return reply;
    }

    std::vector<u8> memory;
    unsigned frames = 0; // of memory that was written

  private:
    template <class T>
    static T object(std::span<const u8> bytes, usize at) {
        T out;
        std::memcpy(&out, bytes.subspan(at, sizeof out).data(), sizeof out);
        return out;
    }
    static void put(std::vector<u8>& reply, abi::Op op, std::span<const u8> body) {
        const abi::ReplyHeader header{static_cast<u16>(op), static_cast<u16>(abi::Outcome::ok),
                                      static_cast<u32>(body.size())};
        const auto* const bytes = reinterpret_cast<const u8*>(&header);
        reply.insert(reply.end(), bytes, bytes + sizeof header);
        reply.insert(reply.end(), body.begin(), body.end());
        reply.resize(abi::align8(reply.size()));
    }
    void answer(abi::Op op, std::span<const u8> body, std::vector<u8>& reply) {
        std::vector<u8> out;
        if (op == abi::Op::vm_create) {
            memory.assign(object<abi::VmCreate>(body, 0).pages * page_size, 0);
            out.resize(sizeof(abi::VmCreateReply));
        } else if (op == abi::Op::intercept) {
            out.resize(sizeof(abi::InterceptReply));
        } else if (op == abi::Op::mem_write || op == abi::Op::mem_read) {
            const auto range = object<abi::MemRange>(body, 0);
            if (range.gpa + range.size > memory.size()) {
                throw std::logic_error("beyond memory");
            }
            u8* const there = memory.data() + range.gpa;
            if (op == abi::Op::mem_write) {
                std::memcpy(there, body.data() + sizeof range, range.size);
                ++frames;
            } else {
                out.assign(there, there + range.size);
            }
        }
        put(reply, op, out);
    }

    client::TargetInfo info_{.name = "buffer",
                             .kind = "buffer",
                             .backend = "none",
                             .emulated = false,
                             .unit = "cycles",
                             .description = {}};
    client::HelloInfo hello_;
};

} // namespace refhv::monitor
