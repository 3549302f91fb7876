// SPDX-License-Identifier: MIT
// One VM of the core, as the monitor works on it: its memory, its state, and its runs from exit to exit.
#pragma once

#include "refhv/client/batch.hpp"
#include "refhv/client/guest/vm.hpp"
#include "refhv/monitor/device/guest_memory.hpp"

namespace refhv::monitor {

// What ended a run, and the target's clock.
struct Stop {
    abi::Outcome outcome{};
    abi::Exit exit{};
    abi::Refusal refusal{};
    u64 tsc = 0;            // of the target, when the run ended
    bool delivered = false; // the event that was asked for
    u64 entries = 0;
};

struct RunWish {
    u32 event = 0; // abi::Run::event
    u32 event_error = 0;
    u64 deadline = 0;    // TSC ticks of the target
    bool sleeps = false; // HLT waits for the deadline inside the core, and does not end the run
};

class Vm final : public GuestMemory {
  public:
    struct Shape {
        abi::Mode mode = abi::Mode::nested;
        u64 bytes = 64u << 20; // of memory, from guest-physical 0
        u32 slot = 0;
    };
    // Makes it, its memory zero. Throws TargetMiss, Refused.
    Vm(client::Target& target, const Shape& shape);
    ~Vm() override;

    // Where the guest is: as the last run left it, and what the next one begins with.
    abi::GuestState state{};

    [[nodiscard]] u64 bytes() const { return bytes_; }
    [[nodiscard]] abi::Mode mode() const { return mode_; }
    [[nodiscard]] abi::Vendor vendor() const { return vendor_; }
    // Can the guest be without paging or protection? On VMX that takes unrestricted guests, under EPT.
    [[nodiscard]] bool runs_unpaged() const { return unpaged_; }
    [[nodiscard]] bool contains(u64 gpa, u64 size) const { return size <= bytes_ && gpa <= bytes_ - size; }
    // For devices.
    [[nodiscard]] bool read(u64 gpa, std::span<std::byte> to) override;
    [[nodiscard]] bool write(u64 gpa, std::span<const std::byte> from) override;
    // Guest memory; throws std::out_of_range outside of it.
    void write(u64 gpa, std::span<const u8> bytes);
    void read(u64 gpa, std::span<u8> bytes);

    // Until the next exit that the monitor has to see. Throws TargetMiss, Refused, MalformedReply.
    Stop run(const RunWish& wish);

    // For a frame of a megabyte over a slow line.
    std::chrono::milliseconds patience{120'000};

  private:
    template <abi::Op op, class... Data>
    void add(client::Batch& batch, const typename abi::OperationOf<op>::Body& body, const Data&... data) {
        batch.add<op>(body, data...);
        ops_.push_back(op);
    }
    std::vector<client::Reply> send(const client::Batch& batch, std::vector<u8>& storage);
    void set_policy(client::Batch& batch, bool sleeps);
    void create(abi::PageSize leaf);
    void allow_unpaged();
    void destroy();

    client::Target& target_;
    std::vector<abi::Op> ops_; // of the batch that is being made
    u32 slot_;
    u64 bytes_;
    abi::Mode mode_;
    abi::Vendor vendor_;
    bool unpaged_ = true;
    bool sleeps_ = false;                 // as the policy is
    std::optional<abi::GuestState> sent_; // as the core has it
};

} // namespace refhv::monitor
