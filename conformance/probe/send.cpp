// SPDX-License-Identifier: MIT
// Prober: what goes out for one probe.
#include "conformance/probe/prober.hpp"

#include <utility>

namespace refhv::front {

namespace {

constexpr u64 fixed_ne = 1u << 5; // of CR0, in VMX operation

} // namespace

// What Op::state_set writes anyway, so that it is written for each probe and nobody need put it back.
bool Prober::is_guest_state(const RawField& f) const {
    if (!vmx_) {
        return (f.field >= 0x400 && f.field < 0x668) || f.field == vmcb::interrupt_control ||
               f.field == vmcb::interrupt_shadow || f.field == vmcb::event_injection;
    }
    constexpr u32 masks_and_shadows = 0x6000, last_shadow = 0x6006;
    const u32 area = f.field >> 10 & 3;
    return (area == 2 && f.field != vmcs::guest_debugctl && f.field != vmcs::pml_index) ||
           (f.field >= masks_and_shadows && f.field <= last_shadow) || f.field == vmcs::entry_controls ||
           f.field == vmcs::entry_interruption_info;
}

// What the probe asks of the controls, and the others as they were; only what differs from now.
void Prober::set_controls(const Probe& probe) {
    std::map<std::pair<u32, u32>, u64> due;
    for (const auto& [key, now] : current_) {
        due[key] = base_.at(key);
    }
    for (const RawField& f : probe.fields) {
        if (!is_guest_state(f)) {
            due[{f.field, f.width}] = f.value;
        }
    }
    for (const auto& [key, value] : due) {
        const auto now = current_.find(key);
        if ((now != current_.end() ? now->second : base_.at(key)) != value) {
            add_field({key.first, value, key.second});
        }
        if (value != base_.at(key)) {
            current_[key] = value;
        } else {
            current_.erase(key);
        }
    }
}

// As the words in which it differs from one that went out in this frame, if there are few.
void Prober::set_state(const abi::GuestState& s) {
    constexpr usize words = sizeof s / 8, most = 6;
    const auto word = [](const abi::GuestState& of, usize i) {
        u64 value = 0;
        __builtin_memcpy(&value, reinterpret_cast<const u8*>(&of) + 8 * i, sizeof value);
        return value;
    };
    std::vector<abi::Patch> best(most + 1);
    usize at = 0;
    for (const auto& [place, sent] : frame_.states) {
        std::vector<abi::Patch> patches;
        for (usize i = 0; i < words && patches.size() < best.size(); ++i) {
            if (word(sent, i) != word(s, i)) {
                patches.push_back({static_cast<u32>(i + 1), 0, word(s, i)});
            }
        }
        if (patches.size() < best.size()) {
            best = std::move(patches);
            at = place;
        }
    }
    if (best.size() <= most) {
        frame_.batch.again(at, best);
        frame_.ops.push_back(abi::Op::state_set);
        return;
    }
    frame_.states.emplace_back(frame_.batch.payload().size(), s);
    add<abi::Op::state_set>(abi::StateSet{.vm = host_.slot, .zero = 0, .state = s});
}

void Prober::write_once(u64 gpa, const std::vector<u8>& bytes) {
    if (written_[gpa] != bytes) {
        written_[gpa] = bytes;
        write(gpa, bytes);
    }
}

Prober::Places Prober::add_probe(const Probe& probe) {
    constexpr u8 hlt = 0xf4;
    std::vector<u8> bytes = probe.code;
    bytes.push_back(hlt);
    const abi::GuestState& s = probe.state;
    const bool is_64_bit = (s.segment[abi::cs].rights & 0x2000) != 0;
    write_once(is_64_bit ? s.rip : static_cast<u32>(machine::linear_rip(s)), bytes);
    // SS0, which is the upper half of RSP0 in long mode.
    const u32 ss0 = s.efer != 0 ? 0 : machine::data32;
    write_once(machine::tss + 8, machine::bytes_of(ss0));
    for (const machine::Piece& p : probe.memory) {
        write(p.gpa, p.bytes);
    }
    set_controls(probe);
    set_state(s);
    if (vmx_ && machine::is_unpaged(probe.kind)) { // PE and PG are the guest's own
        add_field({vmcs::guest_cr0, s.cr0});
        add_field({vmcs::cr0_mask, fixed_ne});
    }
    for (const RawField& f : probe.fields) {
        if (is_guest_state(f)) {
            add_field(f);
        }
    }
    Places at;
    // Each HLT but the last is stepped over.
    if (probe.rounds > 1) {
        add_policy(true);
    }
    for (u32 round = 1; round <= probe.rounds; ++round) {
        const bool last = round == probe.rounds;
        if (last && probe.rounds > 1) {
            add_policy(false);
        }
        at.runs.push_back(add_run(last ? 0 : 1));
    }
    for (const RawField& f : probe.read_fields) {
        at.fields.push_back(add<abi::Op::field_read>(
            abi::Field{.vm = host_.slot, .field = f.field, .width = f.width, .zero = 0, .value = 0}));
    }
    for (const machine::Piece& p : probe.read_back) {
        at.memory.push_back(add<abi::Op::mem_read>(
            abi::MemRange{.vm = host_.slot, .zero = 0, .gpa = p.gpa, .size = p.bytes.size()}));
    }
    return at;
}

void Prober::add_policy(bool steps) {
    const abi::PolicyEntry entry{.reason = static_cast<u16>(abi::Reason::hlt),
                                 .action = static_cast<u8>(abi::Action::advance),
                                 .length = 1,
                                 .event = 0};
    add<abi::Op::policy>(abi::PolicySet{.vm = host_.slot, .count = steps ? 1u : 0u},
                         std::span(&entry, steps ? 1 : 0));
}

usize Prober::add_run(u64 repeats) {
    if (frame_.run) {
        const abi::Patch patch{1, 0, repeats};
        frame_.batch.again(*frame_.run, std::span(&patch, 1));
        frame_.ops.push_back(abi::Op::run);
        return frame_.ops.size() - 1;
    }
    frame_.run = frame_.batch.payload().size();
    const u64 limit = host_.target.info().counts_instructions ? 1'000'000 : 2'000'000'000;
    return add<abi::Op::run>(abi::Run{.vm = host_.slot,
                                      .flags = 0,
                                      .repeats = repeats,
                                      .deadline = limit,
                                      .cpu = 0,
                                      .preemption_timer = 0,
                                      .max_stamps = 0,
                                      .max_exits = 0,
                                      .max_peer_stamps = 0,
                                      .extra_count = 0,
                                      .extras = 0,
                                      .event = 0,
                                      .event_error = 0,
                                      .peer = {}});
}

} // namespace refhv::front
