// SPDX-License-Identifier: MIT
#include "refhv/client/guest/vm.hpp"

#include <algorithm>
#include <array>
#include <iterator>
#include <utility>

namespace refhv::client {

namespace {

// Page-table entry bits. Accessed and dirty are set beforehand: no walk of the guest ever writes.
constexpr u64 table_entry = 0x27; // P, W, U, A
constexpr u64 page_entry = 0x67;  // P, W, U, A, D

constexpr u64 sample_pages_of(const Plan& plan) {
    return plan.arena_pages + plan.more_pages != 0 ? layout::sample_pages : plan.sample_pages;
}

constexpr u64 pages_of(const Plan& plan) {
    return (layout::samples - layout::base) / page_size + sample_pages_of(plan) + plan.arena_pages;
}

constexpr std::array<u64, 7> gdt() {
    constexpr u64 base = layout::tss;
    constexpr u64 limit = 0x67;
    constexpr u64 low = limit | ((base & 0xff'ffff) << 16) | (u64{0x8b} << 40) | ((base >> 24 & 0xff) << 56);
    return {0,
            0x00af'9b00'0000'ffff, // code, 64-bit, ring 0
            0x00cf'9300'0000'ffff, // data, ring 0
            0x00af'fb00'0000'ffff, // code, 64-bit, ring 3
            0x00cf'f300'0000'ffff, // data, ring 3
            low,
            base >> 32};
}

static_assert(sizeof(gdt()) - 1 == layout::gdt_limit);

template <class T>
std::span<const u8> bytes_of(const T& object) {
    return {reinterpret_cast<const u8*>(&object), sizeof object};
}

} // namespace

Refused::Refused(abi::Op op, abi::Outcome result, std::string words)
    : std::runtime_error(std::string(name_of(op)) + ": " + name_of(result) +
                         (words.empty() ? "" : ": " + words)),
      outcome(result), text(std::move(words)) {}

void Guest::write(u64 gpa, std::span<const u8> bytes) {
    add<abi::Op::mem_write>(abi::MemRange{.vm = host_.slot, .zero = 0, .gpa = gpa, .size = bytes.size()},
                            bytes);
}

void Guest::fill(u64 gpa, u64 start, u64 step, u64 count, bool relocate) {
    add<abi::Op::mem_fill64>(abi::MemFill64{.vm = host_.slot,
                                            .relocate = relocate ? 1u : 0u,
                                            .gpa = gpa,
                                            .start = start,
                                            .step = step,
                                            .count = count});
}

Guest::Guest(GuestHost& host, const Plan& plan) : state(initial_state(plan)), host_(host) {
    build(plan);
}

void Guest::build(const Plan& plan) {
    const u64 pages = pages_of(plan);
    sample_pages_ = sample_pages_of(plan);
    if (pages > layout::max_pages || sample_pages_ > layout::sample_pages) {
        throw std::length_error("a guest of " + std::to_string(pages) + " pages does not fit the layout");
    }
    static_cast<void>(host_.target.hello());
    if (host_.occupied == host_.target.generation()) {
        add<abi::Op::vm_destroy>(abi::VmRef{.vm = host_.slot, .zero = 0});
    }
    const u64 all_pages = pages + plan.more_pages;
    const u64 leaf_pages = u64{1} << (9 * static_cast<unsigned>(plan.nested_page_size));
    add<abi::Op::vm_create>(abi::VmCreate{.vm = host_.slot,
                                          .mode = static_cast<u8>(plan.mode),
                                          .nested_page_size = static_cast<u8>(plan.nested_page_size),
                                          .tag_policy = static_cast<u8>(plan.tag_policy),
                                          .zero = 0,
                                          .pages = (all_pages + leaf_pages - 1) / leaf_pages * leaf_pages,
                                          .gpa_base = layout::base});
    const bool process = plan.mode == abi::Mode::user;
    if (!process) {
        fill(layout::pml4, layout::pdpt | table_entry, 0, 1, true);
        fill(layout::pdpt + 8 * (layout::base >> 30), layout::page_directory | table_entry, 0, 1, true);
        fill(layout::page_directory, layout::page_tables | table_entry, page_size, (pages + 511) / 512, true);
        fill(layout::page_tables, layout::base | page_entry, page_size, pages, true);
        write(layout::gdt, bytes_of(gdt()));
        std::array<std::array<u64, 2>, 32> idt{};
        for (u64 vector = 0; vector < 32; ++vector) {
            idt[vector] = interrupt_gate(layout::vectors + 16 * vector);
        }
        write(layout::idt, bytes_of(idt));
        write(layout::tss + 4, bytes_of(layout::stack_top)); // RSP0
        constexpr u16 no_io_map = 0x68;
        write(layout::tss + 0x66, bytes_of(no_io_map));
        write(layout::vectors, vector_stubs().bytes());
    }
    write(layout::stop, stop_stub(plan.mode, plan.stop).bytes());
    if (process) {
        return;
    }
    if (plan.mode == abi::Mode::native) { // nothing exits; the policy says whose its interrupts are
        std::vector<abi::PolicyEntry> interrupts;
        std::ranges::copy_if(plan.policy, std::back_inserter(interrupts), [](const abi::PolicyEntry& e) {
            return e.reason == static_cast<u16>(abi::Reason::external_interrupt) ||
                   e.reason == static_cast<u16>(abi::Reason::nmi);
        });
        set_policy(interrupts);
        return;
    }
    const bool by_hlt = plan.stop == Stop::hlt;
    intercept_reply_ = add<abi::Op::intercept>(
        abi::InterceptSet{.vm = host_.slot,
                          .exceptions = plan.exceptions,
                          .set = plan.intercepts | (by_hlt ? on(abi::Intercept::hlt) : 0)});
    for (abi::MsrIntercept msr : plan.msrs) {
        msr.vm = host_.slot;
        add<abi::Op::msr_intercept>(msr);
    }
    if (!by_hlt) {
        add<abi::Op::io_intercept>(
            abi::IoIntercept{.vm = host_.slot, .first = layout::stop_port, .on = 1, .count = 1, .zero = 0});
    }
    for (abi::IoIntercept port : plan.ports) {
        port.vm = host_.slot;
        add<abi::Op::io_intercept>(port);
    }
    set_policy(plan.policy);
}

void Guest::set_policy(std::span<const abi::PolicyEntry> entries) {
    add<abi::Op::policy>(abi::PolicySet{.vm = host_.slot, .count = static_cast<u32>(entries.size())},
                         entries);
}

void Guest::load(GuestCode code, u32 copies, GuestCode tail) {
    constexpr usize jump_size = 5;
    std::vector<u8> bytes;
    bytes.reserve(code.size() * copies + jump_size);
    for (u32 i = 0; i < copies; ++i) {
        bytes.insert(bytes.end(), code.begin, code.end);
    }
    bytes.insert(bytes.end(), tail.begin, tail.end);
    const u64 behind = layout::code + bytes.size() + jump_size;
    const u32 displacement = static_cast<u32>(layout::stop - behind);
    bytes.push_back(0xe9); // JMP rel32: no register is touched
    const auto operand = bytes_of(displacement);
    bytes.insert(bytes.end(), operand.begin(), operand.end());
    if (bytes.size() > layout::code_bytes) {
        throw std::length_error("guest code of " + std::to_string(bytes.size()) +
                                " bytes does not fit the layout");
    }
    write(layout::code, bytes);
}

void Guest::protect(u64 gpa, u64 pages, u32 rights) {
    add<abi::Op::nested_protect>(
        abi::NestedProtect{.vm = host_.slot, .rights = rights, .gpa = gpa, .pages = pages});
}

void Guest::gate(u32 vector, u64 handler) {
    const auto entry = interrupt_gate(handler);
    write(layout::idt + sizeof entry * vector, bytes_of(entry));
}

void Guest::field(u32 field, u32 width, u64 value) {
    fields_.push_back({.vm = host_.slot, .field = field, .width = width, .zero = 0, .value = value});
}

void Guest::send_state() {
    add<abi::Op::state_set>(abi::StateSet{.vm = host_.slot, .zero = 0, .state = state});
}

void Guest::send_fields() {
    for (const abi::Field& f : std::exchange(fields_, {})) {
        add<abi::Op::field_write>(f);
    }
}

std::vector<Reply> Guest::send(std::vector<u8>& storage) {
    const Queued sent = std::exchange(queued_, {});
    const auto intercept_reply = std::exchange(intercept_reply_, std::nullopt);
    storage = host_.target.call(sent.batch.payload(), patience);
    auto replies = parse_replies(storage);
    if (replies.size() != sent.ops.size()) {
        throw MalformedReply(std::to_string(replies.size()) + " replies to " +
                             std::to_string(sent.ops.size()) + " operations");
    }
    for (usize i = 0; i < replies.size(); ++i) {
        const auto& r = replies[i];
        const bool is_run = sent.ops[i] == abi::Op::run;
        if (r.op != sent.ops[i] && r.op != abi::Op::crash) {
            throw MalformedReply("the reply to operation " + std::to_string(i) + " is another operation's");
        }
        if (r.outcome == abi::Outcome::ok && r.op == abi::Op::vm_create) {
            host_.occupied = host_.target.generation();
            hpa_base_ = r.as<abi::VmCreateReply>().hpa_base;
        } else if (r.outcome == abi::Outcome::ok && r.op == abi::Op::vm_destroy) {
            host_.occupied.reset();
        }
        const bool ended =
            is_run && (r.outcome == abi::Outcome::exited || r.outcome == abi::Outcome::repeats_done ||
                       r.outcome == abi::Outcome::deadline || r.outcome == abi::Outcome::entry_refused);
        if (!ended && r.outcome != abi::Outcome::ok) {
            throw Refused(sent.ops[i], r.outcome, r.text());
        }
    }
    if (intercept_reply) {
        intercepts_ = replies[*intercept_reply].as<abi::InterceptReply>();
    }
    return replies;
}

abi::InterceptReply Guest::settle(bool with_state) {
    if (with_state) {
        send_state();
        send_fields();
    }
    std::vector<u8> storage;
    static_cast<void>(send(storage));
    return intercepts_;
}

void Guest::drop() {
    add<abi::Op::vm_destroy>(abi::VmRef{.vm = host_.slot, .zero = 0});
    static_cast<void>(settle());
}

u64 Guest::read_field(u32 field, u32 width, bool set_state) {
    if (set_state) {
        send_state();
    }
    const FieldOf one{field, width};
    return read_fields({&one, 1}).front();
}

std::vector<abi::FieldReply> Guest::read_raw(std::span<const FieldOf> fields) {
    const usize first = queued_.ops.size();
    for (const FieldOf& f : fields) {
        add<abi::Op::field_read>(
            abi::Field{.vm = host_.slot, .field = f.field, .width = f.width, .zero = 0, .value = 0});
    }
    std::vector<u8> storage;
    const auto replies = send(storage);
    std::vector<abi::FieldReply> found;
    found.reserve(fields.size());
    for (usize i = 0; i < fields.size(); ++i) {
        found.push_back(replies[first + i].as<abi::FieldReply>());
    }
    return found;
}

std::vector<u64> Guest::read_fields(std::span<const FieldOf> fields) {
    std::vector<u64> values;
    for (const abi::FieldReply& reply : read_raw(fields)) {
        if (reply.error != 0) {
            throw Refused(abi::Op::field_read, abi::Outcome::bad_request,
                          "VM-instruction error " + std::to_string(reply.error));
        }
        values.push_back(reply.value);
    }
    return values;
}

std::vector<u64> Guest::fields_of_state(std::span<const u32> fields, u32 width) {
    send_state();
    std::vector<FieldOf> wanted;
    for (const u32 field : fields) {
        wanted.push_back({field, width});
    }
    std::vector<u64> values;
    for (const abi::FieldReply& reply : read_raw(wanted)) {
        values.push_back(reply.error == 0 ? reply.value : 0);
    }
    return values;
}

} // namespace refhv::client
