// SPDX-License-Identifier: MIT
// BasicCore's members: included by core.cpp for the hardware, and by tests for theirs. Here: batches and
// operations.
#pragma once

#include "refhv/contract/reply_writer.hpp"
#include "refhv/core/core.hpp"
#include "refhv/core/hello.hpp"
#include "refhv/vcpu/emulate.hpp"

namespace refhv {

namespace detail {

template <class Body>
[[nodiscard]] bool take(std::span<const u8> bytes, Body& body) {
    if (bytes.size() < sizeof body) {
        return false;
    }
    __builtin_memcpy(&body, bytes.data(), sizeof body);
    return true;
}

inline constexpr Status too_short{abi::Outcome::bad_request, "the operation's body is shorter than its form"};
inline constexpr Status no_vm{abi::Outcome::bad_request, "no VM in this slot"};
inline constexpr Status no_room{abi::Outcome::bad_request, "the reply would not fit into one frame"};
inline constexpr Status outside{abi::Outcome::bad_request, "the range is not inside guest memory"};

} // namespace detail

template <class H>
void BasicCore<H>::init(const PlatformInfo& info, u64 arena_physical, u64 arena_bytes) {
    info_ = info;
    arena_.init(arena_physical, arena_bytes);
    has_tsc_aux_ = x86::Features::detect().tsc_aux;
    const auto intel = H::VmxCpu::probe();
    const auto amd = H::SvmCpu::probe();
    using enum abi::BackendStatus;
    if (intel.status == usable || amd.status == usable) {
        vendor_ = intel.status == usable ? abi::Vendor::vmx : abi::Vendor::svm;
        status_ = usable;
    } else if (intel.status == absent && amd.status == absent) {
        status_ = absent;
        note_ =
            "neither VMX (CPUID.1:ECX[5]) nor SVM (CPUID.80000001H:ECX[2]): the CPU lacks it or it is hidden";
    } else {
        status_ = intel.status != absent ? intel.status : amd.status;
        note_ = intel.status != absent ? intel.note : amd.note;
    }
}

template <class H>
usize BasicCore<H>::hello(std::span<u8> out) {
    ReplyWriter reply(out);
    reply.begin(abi::Op::hello);
    reply.end(say_hello(reply));
    return reply.size();
}

template <class H>
Status BasicCore<H>::say_hello(ReplyWriter& reply) {
    abi::HelloReply h{};
    h.version = abi::version;
    h.platform = static_cast<u16>(info_.platform);
    h.vendor = static_cast<u16>(vendor_);
    h.status = static_cast<u16>(status_);
    h.cpus = info_.cpus;
    h.output = info_.output;
    h.arena_bytes = arena_.bytes();
    h.max_payload = abi::max_frame_payload;
    constexpr u64 virtualized_modes = u64{1} << static_cast<u8>(abi::Mode::nested) |
                                      u64{1} << static_cast<u8>(abi::Mode::shadow) |
                                      u64{1} << static_cast<u8>(abi::Mode::vtlb);
    h.modes =
        u64{1} << static_cast<u8>(abi::Mode::native) | (vendor_ != abi::Vendor::none ? virtualized_modes : 0);
    for (usize i = 0; i + 1 < sizeof h.note && note_[i] != 0; ++i) {
        h.note[i] = note_[i];
    }
    return describe_machine(h, reply) ? Status{} : detail::no_room;
}

template <class H>
usize BasicCore<H>::execute(std::span<const u8> request, std::span<u8> out) {
    ReplyWriter reply(out);
    bool failed = false;
    usize at = 0;
    while (at < request.size() && reply.has_room_for_refusal()) {
        abi::OpHeader header{};
        const bool whole =
            detail::take(request.subspan(at), header) && header.size <= request.size() - at - sizeof header;
        const auto op = static_cast<abi::Op>(header.op);
        reply.begin(op);
        if (!whole) {
            reply.end(
                refuse(abi::Outcome::bad_request, "an operation is longer than the payload that holds it"));
            break;
        }
        if (failed) {
            reply.end({abi::Outcome::skipped, nullptr});
        } else {
            const Status status = dispatch(op, request.subspan(at + sizeof header, header.size), reply);
            failed = status.text != nullptr;
            reply.end(status);
        }
        const u64 next = at + abi::align8(sizeof header + header.size);
        at = next < request.size() ? next : request.size();
    }
    return reply.size();
}

template <class H>
typename BasicCore<H>::Vm* BasicCore<H>::find(u32 slot) {
    return slot < abi::max_vms && vms_[slot].kind != Kind::none ? &vms_[slot] : nullptr;
}

template <class H>
Status BasicCore<H>::checked(const GuestMemory& memory, const abi::NestedEntry& what) {
    constexpr u32 known = abi::nested_entry_write | abi::nested_entry_raw | abi::nested_entry_table;
    const bool write = (what.flags & abi::nested_entry_write) != 0;
    const bool both =
        (what.flags & abi::nested_entry_raw) != 0 && (what.flags & abi::nested_entry_table) != 0;
    if (what.level < 1 || what.level > 4 || (what.flags & ~known) != 0 || both ||
        (what.level == 1 && (what.flags & abi::nested_entry_table) != 0)) {
        return refuse(abi::Outcome::bad_request,
                      "nested_entry: levels are 1 to 4; unknown flags, or flags that exclude each other");
    }
    if (what.count == 0 || what.count > abi::max_entry_count || (!write && what.count != 1)) {
        return refuse(abi::Outcome::bad_request, "nested_entry: count, which is 1 for a read");
    }
    const u64 last = what.gpa + (what.count - 1) * x86::leaf_size(what.level);
    if (!memory.contains(what.gpa, 1) || !memory.contains(last, 1)) {
        return detail::outside;
    }
    return {};
}

template <class H>
Status BasicCore<H>::checked(const abi::Invalidate& what) {
    const auto kind = static_cast<abi::Invalidation>(what.kind);
    if (what.kind == 0 || what.kind >= static_cast<u16>(abi::Invalidation::count_) ||
        (what.flags & ~abi::invalidate_tag) != 0) {
        return refuse(abi::Outcome::bad_request, "invalidate: unknown kind or flag");
    }
    const u32 most = kind < abi::Invalidation::asid_fresh ? abi::max_invalidations : 1;
    if (what.repeats == 0 || what.repeats > most) {
        return refuse(abi::Outcome::bad_request, "invalidate: repeats");
    }
    return {};
}

template <class H>
Status BasicCore<H>::dispatch(abi::Op op, std::span<const u8> body, ReplyWriter& reply) {
    // Every body but hello's and shutdown's begins with the VM's slot.
    if (op == abi::Op::shutdown) {
        shutdown_asked_ = true;
        return {};
    }
    if (op == abi::Op::hello) {
        abi::Hello hello{};
        if (!detail::take(body, hello)) {
            return detail::too_short;
        }
        return hello.version == abi::version
                   ? say_hello(reply)
                   : refuse(abi::Outcome::wrong_version, "this core speaks another version of the ABI");
    }
    if (op == abi::Op::vm_create) {
        abi::VmCreate what{};
        return detail::take(body, what) ? create(what, reply) : detail::too_short;
    }
    abi::VmRef ref{};
    if (!detail::take(body, ref)) {
        return detail::too_short;
    }
    Vm* const vm = find(ref.vm);
    if (vm == nullptr) {
        return detail::no_vm;
    }
    const auto with = [&]<class Body>(Body what, auto act) {
        return detail::take(body, what) ? act(what) : detail::too_short;
    };
    switch (op) {
    case abi::Op::vm_destroy:
        return destroy(*vm);
    case abi::Op::mem_write:
    case abi::Op::mem_fill64:
    case abi::Op::mem_read:
        return memory(op, body, reply);
    case abi::Op::state_set:
        return with(abi::StateSet{}, [&](const abi::StateSet& what) {
            return visit(*vm, [&](auto& v) { return v.load(vm->memory, what.state); });
        });
    case abi::Op::state_get: {
        abi::GuestState state{};
        visit(*vm, [&](auto& v) { v.store(vm->memory, state); });
        return reply.put(state) ? Status{} : detail::no_room;
    }
    case abi::Op::field_write:
    case abi::Op::field_read:
        return with(abi::Field{}, [&](const abi::Field& what) {
            abi::FieldReply answer{};
            const Status s =
                visit(*vm, [&](auto& v) { return v.field(what, op == abi::Op::field_write, answer); });
            return s.ok() && !reply.put(answer) ? detail::no_room : s;
        });
    case abi::Op::intercept:
        return with(abi::InterceptSet{}, [&](const abi::InterceptSet& what) {
            abi::InterceptReply answer{};
            visit(*vm, [&](auto& v) { v.intercept(what, answer); });
            return reply.put(answer) ? Status{} : detail::no_room;
        });
    case abi::Op::msr_intercept:
        return with(abi::MsrIntercept{}, [&](const abi::MsrIntercept& what) {
            if (what.write == 0 && !x86::is_guest_msr(what.msr) && !platform::permits_msr(what.msr)) {
                return refuse(abi::Outcome::unsupported, "the guest would write an MSR that is the host's");
            }
            return visit(*vm, [&](auto& v) { return v.intercept_msr(what); });
        });
    case abi::Op::io_intercept:
        return with(abi::IoIntercept{}, [&](const abi::IoIntercept& what) {
            if (u32{what.first} + u64{what.count} > 0x10000) {
                return refuse(abi::Outcome::bad_request, "there are 65536 ports");
            }
            if (what.on == 0 && !platform::permits_ports(what.first, what.count)) {
                return refuse(abi::Outcome::unsupported, "this platform keeps these ports to itself");
            }
            return visit(*vm, [&](auto& v) { return v.intercept_io(what); });
        });
    case abi::Op::policy:
        return set_policy(body);
    case abi::Op::nested_protect:
        return with(abi::NestedProtect{}, [&](const abi::NestedProtect& what) {
            const u64 leaf = x86::leaf_size(vm->memory.leaf_level());
            const bool sane = what.rights <= 7 && what.pages <= vm->memory.pages && what.gpa % leaf == 0 &&
                              what.pages * page_size % leaf == 0;
            if (!sane || !vm->memory.contains(what.gpa, what.pages * page_size)) {
                return refuse(abi::Outcome::bad_request,
                              "rights, alignment to the nested page size, or range");
            }
            return visit(*vm, [&](auto& v) { return v.protect(vm->memory, what); });
        });
    case abi::Op::nested_entry:
        return with(abi::NestedEntry{}, [&](const abi::NestedEntry& what) {
            abi::NestedEntryReply answer{};
            const Status s = checked(vm->memory, what);
            const Status done =
                s.ok() ? visit(*vm, [&](auto& v) { return v.nested_entry(vm->memory, what, answer); }) : s;
            return done.ok() && !reply.put(answer) ? detail::no_room : done;
        });
    case abi::Op::invalidate:
        return with(abi::Invalidate{}, [&](const abi::Invalidate& what) {
            abi::InvalidateReply answer{};
            const Status s = checked(what);
            const Status done = s.ok() ? visit(*vm, [&](auto& v) { return v.invalidate(what, answer); }) : s;
            return done.ok() && !reply.put(answer) ? detail::no_room : done;
        });
    case abi::Op::run:
        return with(abi::Run{}, [&](const abi::Run& what) { return run(what, reply); });
    case abi::Op::snapshot:
        return snapshot(*vm);
    case abi::Op::restore:
        return restore(*vm);
    default:
        return refuse(abi::Outcome::bad_request, "no such operation in this version");
    }
}

} // namespace refhv
