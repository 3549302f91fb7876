// SPDX-License-Identifier: MIT
#include "refhv/monitor/guest_view.hpp"

#include <algorithm>

namespace refhv::monitor {

namespace {

u32 cpuid(const client::HelloInfo& hello, u32 leaf, u32 abi::CpuidLeaf::*reg) {
    const auto found = std::ranges::find_if(
        hello.cpuid, [&](const abi::CpuidLeaf& l) { return l.leaf == leaf && l.subleaf == 0; });
    return found != hello.cpuid.end() ? (*found).*reg : 0;
}

} // namespace

u8 GuestView::physical_bits(const client::HelloInfo& hello) {
    return static_cast<u8>(cpuid(hello, 0x8000'0008, &abi::CpuidLeaf::eax));
}

GuestView::GuestView(Vm& vm, const client::HelloInfo& hello)
    : vm_(vm), user_((vm.state.segment[abi::ss].rights >> 5 & 3) == 3) {
    const abi::GuestState& s = vm.state;
    paging_.cr0 = s.cr0;
    paging_.cr3 = s.cr3;
    paging_.cr4 = s.cr4;
    paging_.efer = s.efer;
    paging_.rflags = s.rflags;
    paging_.physical_bits = physical_bits(hello);
    paging_.has_1g_pages = (cpuid(hello, 0x8000'0001, &abi::CpuidLeaf::edx) >> 26 & 1) != 0;
    paging_.has_pse36 = (cpuid(hello, 1, &abi::CpuidLeaf::edx) >> 17 & 1) != 0;
    paging_.amd = vm.vendor() == abi::Vendor::svm;
    if (paging_.paging() == shadow::Paging::pae) {
        (void)shadow::load_pdptes(*this, paging_);
    }
}

std::optional<u64> GuestView::translate(u64 linear, shadow::Access access, Fault& fault) {
    access.user = access.user || user_;
    shadow::Walk walk{};
    shadow::walk(*this, paging_, linear, access, walk);
    if (!walk.ok) {
        fault = {walk.error, linear};
        return {};
    }
    return walk.gpa;
}

bool GuestView::copy(u64 linear, std::span<u8> bytes, bool to_guest, Fault& fault) {
    const usize first = std::min<usize>(bytes.size(), page_size - linear % page_size);
    const std::span<u8> parts[] = {bytes.first(first), bytes.subspan(first)};
    u64 at[2] = {};
    for (unsigned i = 0; i < 2 && !parts[i].empty(); ++i) {
        const auto gpa = translate(linear + (i == 0 ? 0 : first), {.write = to_guest}, fault);
        if (!gpa) {
            return false;
        }
        at[i] = *gpa;
    }
    for (unsigned i = 0; i < 2 && !parts[i].empty(); ++i) {
        if (!vm_.contains(at[i], parts[i].size())) {
            if (!to_guest) {
                std::ranges::fill(parts[i], u8{0xff});
            }
        } else if (to_guest) {
            vm_.write(at[i], parts[i]);
        } else {
            vm_.read(at[i], parts[i]);
        }
    }
    return true;
}

usize GuestView::fetch(u64 linear, std::span<u8> bytes) {
    usize got = 0;
    while (got < bytes.size()) {
        Fault fault{};
        const auto gpa = translate(linear + got, {.write = false, .fetch = true, .user = false}, fault);
        const usize in_page = page_size - (linear + got) % page_size;
        const usize size = std::min(bytes.size() - got, in_page);
        if (!gpa || !vm_.contains(*gpa, size)) {
            break;
        }
        vm_.read(*gpa, bytes.subspan(got, size));
        got += size;
    }
    return got;
}

} // namespace refhv::monitor
