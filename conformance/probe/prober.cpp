// SPDX-License-Identifier: MIT
#include "conformance/probe/prober.hpp"

#include "refhv/client/patience.hpp"

#include <utility>

namespace refhv::front {

namespace {

constexpr u32 cr_intercepts = 0; // offset of both halves in the VMCB

} // namespace

Prober::Prober(client::GuestHost& host, u32 exceptions) : host_(host) {
    const client::HelloInfo& hello = host_.target.hello();
    vmx_ = static_cast<abi::Vendor>(hello.fixed.vendor) == abi::Vendor::vmx;
    constexpr u32 procbased_ctls2 = 0x48b;
    const u64 allowed = msr(hello, procbased_ctls2) >> 32;
    unrestricted_ = !vmx_ || (allowed & vmx::proc2::unrestricted_guest) != 0;
    make(exceptions);
}

void Prober::make(u32 exceptions) {
    if (host_.occupied == host_.target.generation()) {
        add<abi::Op::vm_destroy>(abi::VmRef{.vm = host_.slot, .zero = 0});
    }
    const usize create = add<abi::Op::vm_create>(abi::VmCreate{.vm = host_.slot,
                                                               .mode = static_cast<u8>(abi::Mode::nested),
                                                               .nested_page_size = 0,
                                                               .tag_policy = 0,
                                                               .zero = 0,
                                                               .pages = machine::pages,
                                                               .gpa_base = 0});
    const machine::Image image = machine::image();
    for (const machine::Fill& f : image.fills) {
        fill(f.gpa, f.start, f.step, f.count);
    }
    for (const machine::Piece& p : image.pieces) {
        write(p.gpa, p.bytes);
    }
    add<abi::Op::intercept>(abi::InterceptSet{
        .vm = host_.slot,
        .exceptions = exceptions,
        .set = client::on(abi::Intercept::hlt, abi::Intercept::cr8_read, abi::Intercept::cr8_write)});
    add<abi::Op::policy>(abi::PolicySet{.vm = host_.slot, .count = 0});
    std::vector<u8> storage;
    const auto replies = send(storage);
    host_.occupied = host_.target.generation();
    hpa_base_ = replies[create].as<abi::VmCreateReply>().hpa_base;
    // The exits of CR8 are asked for, so that the core leaves them to the probes; each turns them on by
    // itself.
    if (vmx_) {
        rebase(vmcs::proc_controls, 4, 0, vmx::proc::cr8_load | vmx::proc::cr8_store);
    } else {
        rebase(cr_intercepts, 4, 0, 1u << 8 | 1u << 24);
    }
    if (vmx_ && unrestricted_) {
        rebase(vmcs::secondary_controls, 4, vmx::proc2::unrestricted_guest, 0);
    }
}

// From here on that is what a fresh VM has.
void Prober::rebase(u32 field, u32 width, u64 set, u64 clear) {
    const u64 value = (base(field, width) | set) & ~clear;
    add_field({field, value, width});
    base_[{field, width}] = value;
}

void Prober::protect(u64 gpa, u64 count, u32 rights) {
    add<abi::Op::nested_protect>(
        abi::NestedProtect{.vm = host_.slot, .rights = rights, .gpa = gpa, .pages = count});
}

void Prober::write(u64 gpa, const std::vector<u8>& bytes) {
    add<abi::Op::mem_write>(abi::MemRange{.vm = host_.slot, .zero = 0, .gpa = gpa, .size = bytes.size()},
                            std::span<const u8>(bytes));
}

void Prober::fill(u64 gpa, u64 start, u64 step, u64 count) {
    add<abi::Op::mem_fill64>(abi::MemFill64{
        .vm = host_.slot, .relocate = 0, .gpa = gpa, .start = start, .step = step, .count = count});
}

u64 Prober::base(u32 field, u32 width) {
    const auto known = base_.find({field, width});
    if (known != base_.end()) {
        return known->second;
    }
    const usize at = add<abi::Op::field_read>(
        abi::Field{.vm = host_.slot, .field = field, .width = width, .zero = 0, .value = 0});
    std::vector<u8> storage;
    const auto reply = send(storage)[at].as<abi::FieldReply>();
    if (reply.error != 0) {
        throw std::runtime_error("no field " + std::to_string(field));
    }
    return base_[{field, width}] = reply.value;
}

void Prober::add_field(const RawField& f) {
    add<abi::Op::field_write>(
        abi::Field{.vm = host_.slot, .field = f.field, .width = f.width, .zero = 0, .value = f.value});
}

std::vector<client::Reply> Prober::send(std::vector<u8>& storage) {
    const Frame sent = std::exchange(frame_, {});
    constexpr std::chrono::milliseconds standard{60'000};
    storage = host_.target.call(sent.batch.payload(), client::patience(standard));
    auto replies = client::parse_replies(storage);
    if (replies.size() != sent.ops.size()) {
        throw client::MalformedReply(std::to_string(replies.size()) + " replies to " +
                                     std::to_string(sent.ops.size()) + " operations");
    }
    for (usize i = 0; i < replies.size(); ++i) {
        const auto& r = replies[i];
        const bool ended =
            sent.ops[i] == abi::Op::run &&
            (r.outcome == abi::Outcome::exited || r.outcome == abi::Outcome::deadline ||
             r.outcome == abi::Outcome::repeats_done || r.outcome == abi::Outcome::entry_refused);
        if (!ended && r.outcome != abi::Outcome::ok) {
            throw client::Refused(sent.ops[i], r.outcome, r.text());
        }
        if (sent.ops[i] == abi::Op::field_write && r.as<abi::FieldReply>().error != 0) {
            throw client::Refused(sent.ops[i], abi::Outcome::unsupported, "no such VMCS field");
        }
    }
    return replies;
}

void Prober::learn_bases(const std::vector<Probe>& probes) {
    for (const Probe& p : probes) {
        for (const RawField& f : p.fields) {
            if (!is_guest_state(f)) {
                static_cast<void>(base(f.field, f.width));
            }
        }
    }
}

void Prober::run_frame(std::span<const Probe> probes, std::vector<ProbeResult>& out) {
    std::vector<Places> places;
    for (const Probe& p : probes) {
        places.push_back(add_probe(p));
    }
    std::vector<u8> storage;
    const auto replies = send(storage);
    for (usize i = 0; i < probes.size(); ++i) {
        ProbeResult r;
        for (const usize at : places[i].runs) {
            if (at != places[i].runs.front()) {
                r.earlier.push_back(r.reply);
            }
            r.outcome = replies[at].outcome;
            r.reply = replies[at].as<abi::RunReply>();
        }
        for (const usize at : places[i].fields) {
            r.fields.push_back(replies[at].as<abi::FieldReply>().value);
        }
        for (usize k = 0; k < places[i].memory.size(); ++k) {
            const usize size = probes[i].read_back[k].bytes.size();
            r.memory.push_back(replies[places[i].memory[k]].tail<u8>(0, size));
        }
        out.push_back(std::move(r));
    }
}

std::vector<ProbeResult> Prober::run(const std::vector<Probe>& probes) {
    constexpr usize per_frame = 200;
    learn_bases(probes);
    std::vector<ProbeResult> out;
    for (usize i = 0; i < probes.size(); i += per_frame) {
        run_frame(std::span(probes).subspan(i, std::min(per_frame, probes.size() - i)), out);
    }
    return out;
}

} // namespace refhv::front
