// SPDX-License-Identifier: MIT
// BasicCore's members: the state of a VM, its controls, its nested tables.
#pragma once

#include "refhv/core/core_impl.hpp"
#include "refhv/vcpu/emulate.hpp"

namespace refhv {

namespace detail {

// What of these requests can be wrong on any CPU.
[[nodiscard]] inline Status checked(const GuestMemory& memory, const abi::NestedEntry& what) {
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
    return memory.contains(what.gpa, 1) && memory.contains(last, 1) ? Status{} : outside;
}

[[nodiscard]] inline Status checked(const abi::Invalidate& what) {
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

} // namespace detail

template <class H>
Status BasicCore<H>::on(Row<Op::state_set>, Vm& vm, const abi::StateSet& what) {
    const Status status = state_rules_.check(what.state);
    return status.ok() ? visit(vm, [&](auto& v) { return v.load(vm.memory, what.state); }) : status;
}

template <class H>
Status BasicCore<H>::on(Row<Op::state_get>, Vm& vm, const abi::VmRef&, abi::GuestState& answer) {
    visit(vm, [&](auto& v) { v.store(vm.memory, answer); });
    return {};
}

template <class H>
Status BasicCore<H>::on(Row<Op::field_write>, Vm& vm, const abi::Field& what, abi::FieldReply& answer) {
    return visit_capable(vm, [&](HasControls auto& v) { return v.field(vm.memory, what, true, answer); });
}

template <class H>
Status BasicCore<H>::on(Row<Op::field_read>, Vm& vm, const abi::Field& what, abi::FieldReply& answer) {
    return visit_capable(vm, [&](HasControls auto& v) { return v.field(vm.memory, what, false, answer); });
}

template <class H>
Status BasicCore<H>::on(Row<Op::intercept>, Vm& vm, const abi::InterceptSet& what,
                        abi::InterceptReply& answer) {
    return visit_capable(vm, [&](HasControls auto& v) {
        v.intercept(what, answer);
        return Status{};
    });
}

template <class H>
Status BasicCore<H>::on(Row<Op::msr_intercept>, Vm& vm, const abi::MsrIntercept& what) {
    const auto denies = [&](u8 exits, bool write) {
        return exits == 0 && !x86::is_guest_msr(what.msr) && !platform::permits_msr(what.msr, write);
    };
    if (denies(what.write, true)) {
        return refuse(abi::Outcome::unsupported, "the guest would write an MSR that is the host's");
    }
    if (denies(what.read, false)) {
        return refuse(abi::Outcome::unsupported, "the guest would read an MSR that is the host's");
    }
    return visit_capable(vm, [&](HasControls auto& v) { return v.intercept_msr(what); });
}

template <class H>
Status BasicCore<H>::on(Row<Op::io_intercept>, Vm& vm, const abi::IoIntercept& what) {
    if (u32{what.first} + u64{what.count} > 0x10000) {
        return refuse(abi::Outcome::bad_request, "there are 65536 ports");
    }
    if (what.on == 0 && !platform::permits_ports(what.first, what.count)) {
        return refuse(abi::Outcome::unsupported, "this platform keeps these ports to itself");
    }
    return visit_capable(vm, [&](HasControls auto& v) { return v.intercept_io(what); });
}

template <class H>
Status BasicCore<H>::on(Row<Op::nested_protect>, Vm& vm, const abi::NestedProtect& what) {
    const u64 leaf = x86::leaf_size(vm.memory.leaf_level());
    const bool sane = what.rights <= 7 && what.pages <= vm.memory.pages && what.gpa % leaf == 0 &&
                      what.pages * page_size % leaf == 0;
    if (!sane || !vm.memory.contains(what.gpa, what.pages * page_size)) {
        return refuse(abi::Outcome::bad_request, "rights, alignment to the nested page size, or range");
    }
    return visit_capable(vm, [&](HasNestedTables auto& v) { return v.protect(vm.memory, what); });
}

template <class H>
Status BasicCore<H>::on(Row<Op::nested_entry>, Vm& vm, const abi::NestedEntry& what,
                        abi::NestedEntryReply& answer) {
    Status status = detail::checked(vm.memory, what);
    if (status.ok() && (what.flags & abi::nested_entry_raw) != 0) {
        status = need(Permit::physical_addresses);
    }
    return !status.ok() ? status : visit_capable(vm, [&](HasNestedTables auto& v) {
        return v.nested_entry(vm.memory, what, answer);
    });
}

template <class H>
Status BasicCore<H>::on(Row<Op::invalidate>, Vm& vm, const abi::Invalidate& what,
                        abi::InvalidateReply& answer) {
    const Status status = detail::checked(what);
    return !status.ok()
               ? status
               : visit_capable(vm, [&](HasNestedTables auto& v) { return v.invalidate(what, answer); });
}

} // namespace refhv
