// SPDX-License-Identifier: MIT
// BasicCore's members: the life of its VMs, their memory and policy.
#pragma once

#include "refhv/core/core_impl.hpp"
#include "refhv/core/event_rules.hpp"
#include "refhv/core/guest_addresses.hpp"

#include <new>

namespace refhv {

template <class H>
Status BasicCore<H>::on(Row<Op::vm_create>, const abi::VmCreate& what, abi::VmCreateReply& answer) {
    if (what.vm >= abi::max_vms || find(what.vm) != nullptr) {
        return refuse(abi::Outcome::bad_request, "this VM slot does not exist or is taken");
    }
    const auto mode = static_cast<abi::Mode>(what.mode);
    if (mode < abi::Mode::native || mode > abi::Mode::vtlb) {
        return refuse(abi::Outcome::unsupported, "modes of this core: native, nested, shadow, vtlb");
    }
    if (const Status status = need(Permit::native_guests); mode == abi::Mode::native && !status.ok()) {
        return status;
    }
    if (mode != abi::Mode::native && vendor_ == abi::Vendor::none) {
        return refuse(abi::Outcome::unsupported, note_);
    }
    if (what.nested_page_size > 2 || what.tag_policy > 1) {
        return refuse(abi::Outcome::bad_request, "nested_page_size is 0 to 2, tag_policy 0 or 1");
    }
    const u64 leaf_pages = u64{1} << (9 * what.nested_page_size);
    constexpr u64 gpa_limit = u64{1} << 39; // one entry of a top-level table, well inside every MAXPHYADDR
    if (what.pages == 0 || what.pages % leaf_pages != 0 || what.gpa_base % (leaf_pages * page_size) != 0 ||
        what.gpa_base >= gpa_limit || what.pages > (gpa_limit - what.gpa_base) / page_size) {
        return refuse(abi::Outcome::bad_request,
                      "pages and gpa_base must be multiples of the nested page size");
    }
    constexpr u64 large_leaf = 512;
    const u64 alignment = leaf_pages > 1 || what.pages < large_leaf ? leaf_pages : large_leaf;
    u32 place = 0;
    while (place < abi::max_vms && vms_[place].kind != Kind::none) {
        ++place;
    }
    if (place == abi::max_vms) {
        return refuse(abi::Outcome::exhausted, "others have all the VMs that there are");
    }
    Vm& vm = vms_[place];
    vm = {};
    vm.owner = owner_;
    vm.slot = what.vm;
    vm.memory = {.gpa_base = what.gpa_base,
                 .hpa_base = arena_.allocate(what.pages, alignment),
                 .pages = what.pages,
                 .nested_page_size = static_cast<abi::PageSize>(what.nested_page_size),
                 .tag_policy = static_cast<abi::TagPolicy>(what.tag_policy),
                 .slot = place,
                 .mode = mode};
    vm.vcpu_page = arena_.allocate();
    static_assert(sizeof(typename H::VmxVcpu) <= page_size && sizeof(typename H::SvmVcpu) <= page_size &&
                  sizeof(typename H::NativeVcpu) <= page_size);
    if (vm.memory.hpa_base == 0 || vm.vcpu_page == 0) {
        if (vm.memory.hpa_base != 0) {
            arena_.release(vm.memory.hpa_base, what.pages);
        }
        if (vm.vcpu_page != 0) {
            arena_.release(vm.vcpu_page);
        }
        return refuse(abi::Outcome::exhausted, "no contiguous memory of this size and alignment");
    }
    vm.vcpu = platform::to_virtual(vm.vcpu_page);
    if (mode == abi::Mode::native) {
        vm.kind = Kind::native;
        new (vm.vcpu) typename H::NativeVcpu;
    } else if (vendor_ == abi::Vendor::vmx) {
        vm.kind = Kind::vmx;
        new (vm.vcpu) typename H::VmxVcpu(vmx_);
    } else {
        vm.kind = Kind::svm;
        new (vm.vcpu) typename H::SvmVcpu(svm_);
    }
    const Status status = visit(vm, [&](auto& v) { return v.create(arena_, vm.memory); });
    if (!status.ok()) {
        arena_.release(vm.memory.hpa_base, vm.memory.pages);
        arena_.release(vm.vcpu_page);
        vm = {};
        (void)leave(0);
        return status;
    }
    answer.hpa_base = told_base(vm.memory);
    return {};
}

template <class H>
void BasicCore<H>::destroy(Vm& vm) {
    visit(vm, [&](auto& v) { v.destroy(arena_); });
    if (vm.saved_memory != 0) {
        arena_.release(vm.saved_memory, vm.memory.pages);
        arena_.release(vm.saved_state);
    }
    arena_.release(vm.memory.hpa_base, vm.memory.pages);
    arena_.release(vm.vcpu_page);
    vm = {};
    (void)leave(0);
}

template <class H>
bool BasicCore<H>::has_vms() const {
    for (const Vm& vm : vms_) {
        if (vm.kind != Kind::none) {
            return true;
        }
    }
    return false;
}

template <class H>
Status BasicCore<H>::leave(u32 cpu) {
    if (cpu >= info_.cpus) {
        return refuse(abi::Outcome::bad_request, "leave: there is no CPU of this number");
    }
    if (cpu == 0 && has_vms()) {
        return refuse(abi::Outcome::bad_request, "leave: VMs are there, and they are on CPU 0 between runs");
    }
    vmx_.disable(arena_, cpu);
    svm_.disable(arena_, cpu);
    return {};
}

template <class H>
void BasicCore<H>::close(Owner owner) {
    for (Vm& vm : vms_) {
        if (vm.kind != Kind::none && vm.owner == owner) {
            destroy(vm);
        }
    }
}

template <class H>
Status BasicCore<H>::on(Row<Op::vm_destroy>, Vm& vm, const abi::VmRef&) {
    destroy(vm);
    return {};
}

template <class H>
Status BasicCore<H>::on(Row<Op::mem_fill64>, Vm& vm, const abi::MemFill64& what) {
    const GuestMemory& m = vm.memory;
    if (what.count > abi::max_fill_count || what.gpa % 8 != 0 || !m.contains(what.gpa, what.count * 8)) {
        return detail::outside;
    }
    vm.memory.changed = true;
    u64 value =
        what.start + (what.relocate != 0 && m.mode == abi::Mode::native ? m.hpa_base - m.gpa_base : 0);
    auto* at = reinterpret_cast<u64*>(m.at(what.gpa));
    slices::each(what.count, slices::bytes / sizeof value, [&](u64 first, u64 count) {
        for (u64 i = first; i < first + count; ++i, value += what.step) {
            at[i] = value;
        }
    });
    return {};
}

template <class H>
Status BasicCore<H>::on(Row<Op::mem_read>, Vm& vm, const abi::MemRange& what, ReplyWriter& reply) {
    if (!vm.memory.contains(what.gpa, what.size)) {
        return detail::outside;
    }
    if (what.size > reply.room()) {
        return detail::no_room;
    }
    slices::copy(reply.cursor(), vm.memory.at(what.gpa), what.size);
    reply.claim(what.size);
    return {};
}

template <class H>
Status BasicCore<H>::on(Row<Op::mem_write>, Vm& vm, const abi::MemRange& what, std::span<const u8> data) {
    if (!vm.memory.contains(what.gpa, what.size)) {
        return detail::outside;
    }
    if (data.size() != what.size) {
        return refuse(abi::Outcome::bad_request, "mem_write: the data is not as long as `size` says");
    }
    vm.memory.changed = true;
    slices::copy(vm.memory.at(what.gpa), data.data(), data.size());
    return {};
}

// Can this VM's way of running do that, on this CPU?
template <class H>
Status BasicCore<H>::able(Vm& vm, abi::Reason reason, abi::Action action, Event event) {
    switch (action) {
    case abi::Action::emulate:
        return visit_capable(vm, [&]<HasExits V>(V&) {
            const bool sleeps = reason == abi::Reason::hlt; // the run loop's
            return sleeps || V::emulates(reason)
                       ? Status{}
                       : refuse(abi::Outcome::unsupported,
                                "policy: this backend cannot emulate for that reason");
        });
    case abi::Action::deliver:
        return visit_capable(vm, [&](TakesEvents auto& v) {
            return v.can_deliver(event) ? Status{}
                                        : refuse(abi::Outcome::unsupported,
                                                 "policy: this CPU cannot deliver the event in that way");
        });
    case abi::Action::map_and_retry:
        return visit_capable(vm, [](HasNestedTables auto&) { return Status{}; });
    default:
        return {};
    }
}

template <class H>
Status BasicCore<H>::on(Row<Op::policy>, Vm& vm, const abi::PolicySet& what, std::span<const u8> entries) {
    if (what.count > static_cast<u32>(abi::Reason::count_) ||
        entries.size() < what.count * sizeof(abi::PolicyEntry)) {
        return refuse(abi::Outcome::bad_request,
                      "policy: more entries announced than there are reasons or bytes");
    }
    Policy policy{};
    for (u32 i = 0; i < what.count; ++i) {
        abi::PolicyEntry entry{};
        (void)detail::take(entries.subspan(i * sizeof entry), entry);
        if (entry.reason >= static_cast<u16>(abi::Reason::count_) || entry.length > 15 ||
            entry.action > static_cast<u8>(abi::Action::deliver)) {
            return refuse(abi::Outcome::bad_request,
                          "policy: unknown reason or action, or a length above 15");
        }
        const auto reason = static_cast<abi::Reason>(entry.reason);
        const auto action = static_cast<abi::Action>(entry.action);
        const bool can_map = reason == abi::Reason::nested_violation ||
                             reason == abi::Reason::nested_misconfig ||
                             reason == abi::Reason::page_modification_log_full;
        if (action == abi::Action::map_and_retry && !can_map) {
            return refuse(abi::Outcome::bad_request, "policy: map_and_retry answers nested violations, "
                                                     "nested misconfigurations and full logs");
        }
        if (action == abi::Action::deliver && !detail::is_event({entry.event})) {
            return refuse(abi::Outcome::bad_request,
                          "policy: an event to deliver is an interrupt, an NMI of vector 2 or an exception, "
                          "with an error code where the exception has one");
        }
        if (const Status s = able(vm, reason, action, {entry.event}); !s.ok()) {
            return s;
        }
        policy.reactions[entry.reason] = {action, entry.length, entry.event};
    }
    vm.policy = policy;
    return {};
}

template <class H>
Status BasicCore<H>::on(Row<Op::snapshot>, Vm& vm, const abi::VmRef&) {
    static_assert(sizeof(abi::GuestState) <= page_size);
    if (vm.saved_memory == 0) {
        const u64 memory = arena_.allocate(vm.memory.pages);
        const u64 state = memory != 0 ? arena_.allocate() : 0;
        if (state == 0) {
            if (memory != 0) {
                arena_.release(memory, vm.memory.pages);
            }
            return refuse(abi::Outcome::exhausted, "no memory for a snapshot");
        }
        vm.saved_memory = memory;
        vm.saved_state = state;
    }
    slices::copy(static_cast<u8*>(platform::to_virtual(vm.saved_memory)), vm.memory.at(vm.memory.gpa_base),
                 vm.memory.bytes());
    visit(vm, [&](auto& v) {
        v.store(vm.memory, *static_cast<abi::GuestState*>(platform::to_virtual(vm.saved_state)));
    });
    return {};
}

template <class H>
Status BasicCore<H>::on(Row<Op::restore>, Vm& vm, const abi::VmRef&) {
    if (vm.saved_memory == 0) {
        return refuse(abi::Outcome::bad_request, "no snapshot of this VM");
    }
    // A raw field may have put into it what state_set refuses.
    const auto& state = *static_cast<const abi::GuestState*>(platform::to_virtual(vm.saved_state));
    if (const Status status = state_rules_.check(state); !status.ok()) {
        return status;
    }
    vm.memory.changed = true;
    slices::copy(vm.memory.at(vm.memory.gpa_base),
                 static_cast<const u8*>(platform::to_virtual(vm.saved_memory)), vm.memory.bytes());
    return visit(vm, [&](auto& v) { return v.load(vm.memory, state); });
}

} // namespace refhv
