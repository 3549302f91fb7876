// SPDX-License-Identifier: MIT
// A virtio device in memory, version 2 (virtio 1.2, 4.2): the registers that all have. Whatever a driver may
// not do ends in DEVICE_NEEDS_RESET, and the device then does nothing more until it is reset.
#pragma once

#include "refhv/monitor/device/device.hpp"
#include "refhv/monitor/device/virtqueue.hpp"

#include <array>

namespace refhv::monitor {

class VirtioMmio : public Device {
  public:
    static constexpr u64 length = 0x200; // of its registers
    static constexpr u64 indirect_descriptors = u64{1} << 28, version_1 = u64{1} << 32;

    [[nodiscard]] u64 read(u64 offset, unsigned size) override;
    void write(u64 offset, unsigned size, u64 value) override;
    void restored() override;

    [[nodiscard]] bool needs_reset() const;

  protected:
    // What a device's own state begins with.
    struct Transport {
        std::array<VirtqueueState, 2> queues{};
        u64 driver_features = 0;
        u32 device_select = 0, driver_select = 0, queue_select = 0;
        u32 interrupts = 0; // used buffers, changed configuration
        u8 status = 0;
        u8 interrupt = 0; // the level that was last given to the line
        u8 unused[6] = {};
    };

    // `transport` is the deriving class's, and not there yet.
    VirtioMmio(Transport& transport, GuestMemory& memory, Line interrupt, u32 id, u64 features,
               unsigned queues);

    virtual void notified(unsigned queue) = 0;
    virtual void device_reset() {}
    [[nodiscard]] virtual u8 config(u64 /*offset*/) const { return 0; }
    virtual void write_config(u64 /*offset*/, unsigned /*size*/, u64 /*value*/) {}

    // Driver and queue are ready, and nothing is broken.
    [[nodiscard]] bool works(unsigned queue) const;
    [[nodiscard]] Virtqueue queue(unsigned which);
    // Has `handle` deal with each buffer that is there, as long as `wanted` says so; false from `handle` is
    // what a driver may not do.
    template <class Wanted, class Handle>
    void for_each_chain(unsigned which, Wanted&& wanted, Handle&& handle) {
        VirtioChain chain;
        bool any = false;
        while (works(which) && wanted()) {
            const auto next = queue(which).next(chain);
            if (next == Virtqueue::Next::none) {
                break;
            }
            if (next == Virtqueue::Next::broken || !handle(chain)) {
                broken();
                break;
            }
            any = true;
        }
        if (any) {
            tell(which);
        }
    }
    void tell(unsigned which); // that buffers were used
    void broken();

  private:
    [[nodiscard]] u32 read_register(u64 offset) const;
    void write_register(u64 offset, u32 value);
    void write_queue_register(u64 offset, u32 value);
    void write_status(u8 value);
    void update();

    Transport& state_;
    GuestMemory& memory_;
    Line line_;
    u32 id_;
    u64 features_;
    unsigned queues_;
};

} // namespace refhv::monitor
