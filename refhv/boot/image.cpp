// SPDX-License-Identifier: MIT
// The bootable image's life: find memory, say hello, answer requests until told to stop.
#include "refhv/boot/image.hpp"

#include "refhv/boot/command_line.hpp"
#include "refhv/boot/cpus.hpp"
#include "refhv/boot/handoff.hpp"
#include "refhv/boot/spcr.hpp"
#include "refhv/contract/frame.hpp"
#include "refhv/contract/packing.hpp"
#include "refhv/contract/reply_writer.hpp"
#include "refhv/core/core.hpp"

namespace refhv::boot {

Image image;

namespace {

Core core;
Handoff from; // for good: ACPI's root pointer may lie in it

extern "C" const u8 image_end[];

using InitFunction = void (*)();
extern "C" const InitFunction init_array_begin[];
extern "C" const InitFunction init_array_end[];

void send_frame(FrameKind kind, u32 sequence, std::span<const u8> payload) {
    const FrameHeader h = make_frame_header(abi::version, kind, sequence, payload);
    image.console.write({reinterpret_cast<const u8*>(&h), sizeof h});
    image.console.write(payload);
}

[[noreturn]] void give_up(const char* text) {
    usize n = 0;
    while (text[n] != 0) {
        ++n;
    }
    image.console.write({reinterpret_cast<const u8*>(text), n});
    power_off();
}

// The two 8259s stay masked: every interrupt here comes from the APIC. The firmware's clock tick, counter 0
// of the 8254, ends: it is set to mode 0 and given no count.
void silence_legacy_devices() {
    x86::outb(0x21, 0xff);
    x86::outb(0xa1, 0xff);
    x86::outb(0x43, 0x30);
}

usize refuse_request(abi::Outcome outcome, const char* text, std::span<u8> out) {
    ReplyWriter reply(out);
    reply.begin(abi::Op::hello);
    reply.end(refuse(outcome, text));
    return reply.size();
}

// One frame's worth of memory each.
struct Buffers {
    std::span<u8> request, reply, unpacked, packed;
};

Packer<8> packer;

usize execute(const FrameHeader& header, std::span<const u8> payload, const Buffers& buffers) {
    static_assert(abi::version == 7, "the text below names it");
    if (header.version != abi::version) {
        return refuse_request(abi::Outcome::wrong_version, "this core speaks version 7 of the ABI",
                              buffers.reply);
    }
    if (header.kind == static_cast<u16>(FrameKind::packed_request)) {
        const auto unpacked = unpack_payload(payload, buffers.unpacked.first(abi::max_frame_payload));
        if (!unpacked) {
            return refuse_request(abi::Outcome::bad_request, "the packed payload is damaged", buffers.reply);
        }
        payload = *unpacked;
    }
    return core.execute(payload, buffers.reply);
}

void send_packed_reply(u32 sequence, std::span<const u8> payload, std::span<u8> packed) {
    const usize size = packer.pack(payload, packed.first(payload.size()));
    if (size == 0) {
        send_reply(sequence, payload);
    } else {
        send_frame(FrameKind::packed_reply, sequence, packed.first(size));
    }
}

[[noreturn]] void serve(const Buffers& buffers) {
    send_reply(0, buffers.reply.first(core.hello(buffers.reply)));
    // A client that went amid a request must not leave the next one's as the rest of it: a second or more on
    // silicon, in an emulator longer than it can be kept from running.
    constexpr u64 half_frame_patience = u64{1} << 32; // TSC ticks
    FrameDecoder decoder(buffers.request);
    u8 chunk[256];
    for (;;) {
        const usize got = image.console.read(chunk, decoder.pending() ? half_frame_patience : 0);
        while (got == 0 && decoder.pending()) {
            decoder.abandon();
        }
        std::span<const u8> rest(chunk, got);
        while (!rest.empty() || decoder.has_frame()) {
            rest = rest.subspan(decoder.push(rest));
            if (!decoder.has_frame()) {
                continue;
            }
            const FrameHeader header = decoder.header();
            const bool packed = header.kind == static_cast<u16>(FrameKind::packed_request);
            if (packed || header.kind == static_cast<u16>(FrameKind::request)) {
                if (rest.empty()) {
                    image.console.expect_silence();
                }
                const auto reply = buffers.reply.first(execute(header, decoder.payload(), buffers));
                if (packed) {
                    send_packed_reply(header.sequence, reply, buffers.packed);
                } else {
                    send_reply(header.sequence, reply);
                }
                if (core.shutdown_asked()) {
                    power_off();
                }
            }
            decoder.pop();
        }
    }
}

// The UART that the command line names (`uart=2f8`), else the firmware's console, else COM1. On an emulator
// with port E9 nobody asks the firmware: the search would cost every launch.
u16 uart_of(std::string_view line) {
    using namespace std::string_view_literals;
    u16 port = uart_port(word_value(line, "uart="sv));
    if (port == 0 && !Console::has_debug_port()) {
        port = find_console_port(image.acpi_root, [](u64 physical) {
            return static_cast<const u8*>(platform::to_virtual(physical));
        });
    }
    return port != 0 ? port : Console::com1;
}

} // namespace

void send_reply(u32 sequence, std::span<const u8> payload) {
    send_frame(FrameKind::reply, sequence, payload);
}

extern "C" void image_main(u32 magic, u32 info_address) {
    for (const InitFunction* f = init_array_begin; f != init_array_end; ++f) {
        (*f)();
    }
    cpus.adopt_first();
    const auto to_virtual = [](u64 physical) {
        return static_cast<const u8*>(platform::to_virtual(physical));
    };
    from = read_handoff(magic, info_address, platform::to_physical(image_end), to_virtual);
    image.acpi_root = from.known ? from.root(to_virtual) : nullptr;
    image.console.init(uart_of(from.line));
    if (!from.known) {
        give_up("refhv: started neither by a Multiboot loader nor by PVH\r\n");
    }
    silence_legacy_devices();
    enable_xsave();
    image.apic.init();

    constexpr u64 buffer = (abi::max_frame_payload + sizeof(FrameHeader) + page_size - 1) & ~(page_size - 1);
    constexpr u64 least = u64{16} << 20, buffers = 4 * buffer;
    Range memory = from.memory;
    if (memory.bytes() < buffers + least) {
        give_up("refhv: needs 21 MBytes of memory in one piece below 4 GBytes\r\n");
    }
    cpus.start_others(static_cast<u32>(from.low.bytes() != 0 ? from.low.begin : 0), memory, image.acpi_root);
    auto* const storage = static_cast<u8*>(platform::to_virtual(memory.begin));
    core.init({abi::Platform::image, cpus.count(), static_cast<u16>(image.console.uses_debug_port() ? 1 : 0)},
              memory.begin + buffers, memory.bytes() - buffers);
    serve({.request = {storage, buffer},
           .reply = {storage + buffer, buffer},
           .unpacked = {storage + 2 * buffer, buffer},
           .packed = {storage + 3 * buffer, buffer}});
}

} // namespace refhv::boot
