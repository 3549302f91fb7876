// SPDX-License-Identifier: MIT
// The life of a VMX vCPU and its controls: what exits, and where its memory is.
#include "refhv/vmx/vcpu.hpp"

#include "refhv/vcpu/intercepts.hpp"
#include "refhv/vmx/instructions.hpp"
#include "refhv/x86/exceptions.hpp"

namespace refhv::vmx {

namespace {

struct ControlBit {
    u64 intercepts; // any of these asks for the control bit
    u32 control;
};

constexpr ControlBit proc_bits[] = {
    {bit(abi::Intercept::hlt), proc::hlt},
    {bit(abi::Intercept::invlpg), proc::invlpg},
    {bit(abi::Intercept::rdtsc) | bit(abi::Intercept::rdtscp), proc::rdtsc},
    {bit(abi::Intercept::rdpmc), proc::rdpmc},
    {bit(abi::Intercept::pause), proc::pause},
    {bit(abi::Intercept::mwait), proc::mwait},
    {bit(abi::Intercept::monitor), proc::monitor},
    {bit(abi::Intercept::cr3_read), proc::cr3_store},
    {bit(abi::Intercept::cr3_write), proc::cr3_load},
    {bit(abi::Intercept::cr8_read), proc::cr8_store},
    {bit(abi::Intercept::cr8_write), proc::cr8_load},
    {bit(abi::Intercept::dr_read) | bit(abi::Intercept::dr_write), proc::mov_dr},
};

constexpr ControlBit proc2_bits[] = {
    {bit(abi::Intercept::wbinvd), proc2::wbinvd},
    {bit(abi::Intercept::gdtr_idtr_read) | bit(abi::Intercept::gdtr_idtr_write) |
         bit(abi::Intercept::ldtr_tr_read) | bit(abi::Intercept::ldtr_tr_write),
     proc2::descriptor_table},
};

// Instructions that exit whatever the controls say (SDM 3C 26.1.2), and reads that never do (26.1.3).
constexpr u64 always_exit = bit(abi::Intercept::cpuid) | bit(abi::Intercept::xsetbv) |
                            bit(abi::Intercept::hypercall) | bit(abi::Intercept::invd);
constexpr u64 never_exit = bit(abi::Intercept::cr0_read) | bit(abi::Intercept::cr4_read);

// INVPCID exits when it is enabled and INVLPG exiting is 1 (SDM 3C 26.1.3).
constexpr u64 invpcid_pair = bit(abi::Intercept::invlpg) | bit(abi::Intercept::invpcid);

u32 wanted_bits(const ControlBit* table, usize count, u64 set) {
    u32 bits = 0;
    for (usize i = 0; i < count; ++i) {
        bits |= (set & table[i].intercepts) != 0 ? table[i].control : 0;
    }
    return bits;
}

void report(const ControlBit* table, usize count, u64 set, const Allowed& allowed,
            abi::InterceptReply& reply) {
    for (usize i = 0; i < count; ++i) {
        if (!allowed.offers(table[i].control)) {
            reply.unsupported |= set & table[i].intercepts;
        }
        const bool others_ask = (set & table[i].intercepts) != 0;
        if (allowed.forces(table[i].control) || others_ask) {
            reply.forced |= table[i].intercepts & ~set;
        }
    }
}

constexpr u32 base_proc = proc::tpr_shadow | proc::io_bitmaps | proc::msr_bitmaps | proc::secondary;
constexpr u32 base_proc2 = proc2::rdtscp | proc2::invpcid | proc2::xsaves;
constexpr u32 io_bitmap_pages = 2;

} // namespace

Status Vcpu::create(Arena& arena, const GuestMemory& memory) {
    if (const Status s = cpu_.enable(arena, 0); !s.ok()) {
        return s;
    }
    const Capabilities& caps = cpu_.capabilities();
    if ((memory.nested_page_size == abi::PageSize::m2 && !caps.ept_2m()) ||
        (memory.nested_page_size == abi::PageSize::g1 && !caps.ept_1g())) {
        return refuse(abi::Outcome::unsupported,
                      "EPT leaves of this size (IA32_VMX_EPT_VPID_CAP bits 16, 17)");
    }
    vmcs_ = arena.allocate();
    bitmaps_ = arena.allocate(io_bitmap_pages + 1);
    context_page_ = arena.allocate();
    if (caps.proc.offers(proc::tpr_shadow)) {
        virtual_apic_page_ = arena.allocate();
    }
    if (vmcs_ == 0 || (caps.proc.offers(proc::tpr_shadow) && virtual_apic_page_ == 0) || bitmaps_ == 0 ||
        context_page_ == 0 || !create_translation(arena, memory)) {
        destroy(arena);
        return refuse(abi::Outcome::exhausted, "no memory for the VMCS, the bitmaps or the tables");
    }
    // At the end of its page: below it there is room for the frame of an exception on the host.
    constexpr u64 frame_room = 1024;
    static_assert(sizeof(Context) <= page_size - frame_room);
    context_ = new (static_cast<u8*>(platform::to_virtual(context_page_)) + frame_room) Context{};
    // Every port and MSR exits until the client says otherwise.
    __builtin_memset(platform::to_virtual(bitmaps_), 0xff, (io_bitmap_pages + 1) * page_size);
    *static_cast<u32*>(platform::to_virtual(vmcs_)) = cpu_.capabilities().revision();
    if (vmclear(vmcs_) != Result::succeed || vmptrld(vmcs_) != Result::succeed) {
        destroy(arena);
        return refuse(abi::Outcome::unsupported, "VMCLEAR or VMPTRLD failed on a fresh VMCS");
    }
    floor_ = Floor::of(caps, platform::permissions(), mmu_ == nullptr);
    write_default_controls(memory);
    abi::InterceptReply nothing{};
    intercept({}, nothing);
    // A VM that was here before may have had this EPT root and this VPID.
    drop_translations();
    drop_tagged();
    return {};
}

// Those under the VPID, which INVEPT leaves where EPT is off.
void Vcpu::drop_tagged() {
    if (const u64 vpid = read(Field::virtual_processor_id); vpid != 0) {
        (void)invvpid(cpu_.capabilities().invvpid_single() ? 1 : 2, {vpid, 0});
    }
}

bool Vcpu::create_translation(Arena& arena, const GuestMemory& memory) {
    if (memory.mode == abi::Mode::nested) {
        return ept_.create(arena, memory);
    }
    mmu_ = shadow::GuestMmu::make(arena, memory);
    return mmu_ != nullptr;
}

void Vcpu::destroy(Arena& arena) {
    shadow::GuestMmu::destroy(mmu_, arena);
    mmu_ = nullptr;
    if (extras_.work() != nullptr) {
        (void)vmclear(extras_.spare_page());
    }
    extras_.destroy(arena);
    if (vmcs_ != 0) {
        (void)vmclear(vmcs_);
        arena.release(vmcs_);
    }
    if (bitmaps_ != 0) {
        arena.release(bitmaps_, io_bitmap_pages + 1);
    }
    if (context_page_ != 0) {
        arena.release(context_page_);
    }
    if (virtual_apic_page_ != 0) {
        arena.release(virtual_apic_page_);
    }
    ept_.destroy(arena);
    virtual_apic_page_ = vmcs_ = bitmaps_ = context_page_ = 0;
    context_ = nullptr;
}

void Vcpu::make_current() {
    (void)vmptrld(vmcs_);
}

void Vcpu::write_default_controls(const GuestMemory& memory) {
    const Capabilities& caps = cpu_.capabilities();
    const bool vpid = memory.tag_policy == abi::TagPolicy::tagged && caps.proc2.offers(proc2::vpid) &&
                      (caps.invvpid_single() || caps.invvpid_all());
    write(Field::pin_based_controls, caps.pin.adjust(pin::external_interrupt | pin::nmi));
    write(Field::proc_based_controls, caps.proc.adjust(base_proc));
    write(Field::secondary_controls,
          caps.proc2.adjust(base_proc2 | (mmu_ != nullptr ? 0 : proc2::ept) | (vpid ? proc2::vpid : 0)));
    write(Field::exit_controls, caps.exit.adjust(exit_control::host_address_space | exit_control::save_debug |
                                                 exit_control::save_efer | exit_control::load_efer |
                                                 exit_control::save_pat | exit_control::load_pat));
    write(Field::entry_controls,
          caps.entry.adjust(entry_control::load_debug | entry_control::load_efer | entry_control::load_pat));
    write(Field::virtual_processor_id, vpid ? memory.slot + 1 : 0);
    write(Field::ept_pointer, ept_pointer(ept_.root()));
    write(Field::io_bitmap_a, bitmaps_);
    write(Field::io_bitmap_b, bitmaps_ + page_size);
    write(Field::msr_bitmap, bitmaps_ + io_bitmap_pages * page_size);
    write(Field::virtual_apic_address, virtual_apic_page_);
    write(Field::tpr_threshold, 0);
    write(Field::vmcs_link_pointer, ~u64{0});
    if (caps.proc2.offers(proc2::xsaves)) {
        write(Field::xss_exiting_bitmap, 0);
    }
    for (const Field zero :
         {Field::exception_bitmap, Field::page_fault_error_mask, Field::page_fault_error_match,
          Field::cr3_target_count, Field::exit_msr_store_count, Field::exit_msr_load_count,
          Field::entry_msr_load_count, Field::entry_interruption_info, Field::guest_debugctl,
          Field::guest_activity, Field::guest_interruptibility, Field::guest_pending_debug}) {
        write(zero, 0);
    }
}

// In an unrestricted guest PE and PG are its own (SDM 3C 24.8).
u64 Vcpu::cr0_fixed0() const {
    const u64 fixed = cpu_.capabilities().cr0_fixed0;
    const bool unrestricted =
        mmu_ == nullptr && (read(Field::secondary_controls) & proc2::unrestricted_guest) != 0;
    return unrestricted ? fixed & ~u64{x86::cr0::pe | x86::cr0::pg} : fixed;
}

// Bits of CR0, and of CR4, that the host owns: those that VMX fixes, those of the floor, since what the guest
// believes of them is in the read shadow alone, and all of them where writes are to exit.
u64 Vcpu::wanted_cr0_mask() const {
    const Capabilities& caps = cpu_.capabilities();
    return mmu_ != nullptr || asks(intercepts_, abi::Intercept::cr0_write)
               ? ~u64{0}
               : floor_.cr0_mask.over(cr0_fixed0() | ~caps.cr0_fixed1);
}

u64 Vcpu::wanted_cr4_mask() const {
    const Capabilities& caps = cpu_.capabilities();
    return mmu_ != nullptr || asks(intercepts_, abi::Intercept::cr4_write)
               ? ~u64{0}
               : floor_.cr4_mask.over(caps.cr4_fixed0 | ~caps.cr4_fixed1);
}

void Vcpu::intercept(const abi::InterceptSet& set, abi::InterceptReply& reply) {
    make_current();
    const Capabilities& caps = cpu_.capabilities();
    intercepts_ = set.set;
    exceptions_ = set.exceptions;
    constexpr usize n = sizeof proc_bits / sizeof proc_bits[0];
    constexpr usize n2 = sizeof proc2_bits / sizeof proc2_bits[0];
    constexpr u32 shadow_exits = proc::cr3_load | proc::cr3_store | proc::invlpg;
    const u32 shadowing = mmu_ != nullptr ? shadow_exits : 0;
    const u32 invpcid = asks(set.set, abi::Intercept::invpcid) ? proc::invlpg : 0;
    write(Field::proc_based_controls,
          caps.proc.adjust(base_proc | wanted_bits(proc_bits, n, set.set) | invpcid | shadowing));
    const u32 kept =
        static_cast<u32>(read(Field::secondary_controls)) & ~(proc2::wbinvd | proc2::descriptor_table);
    write(Field::secondary_controls, caps.proc2.adjust(kept | wanted_bits(proc2_bits, n2, set.set)));
    const bool timer = asks(set.set, abi::Intercept::preemption_timer);
    write(Field::pin_based_controls,
          caps.pin.adjust(pin::external_interrupt | pin::nmi | (timer ? pin::preemption_timer : 0)));
    write(Field::exception_bitmap,
          set.exceptions | (mmu_ != nullptr ? x86::vector_bit(x86::vector::page_fault) : 0));

    write(Field::cr0_mask, wanted_cr0_mask());
    write(Field::cr4_mask, wanted_cr4_mask());

    report(proc_bits, n, set.set, caps.proc, reply);
    report(proc2_bits, n2, set.set, caps.proc2, reply);
    reply.unsupported |= set.set & never_exit;
    reply.forced |= always_exit & ~set.set;
    if ((set.set & invpcid_pair) != 0) {
        reply.forced |= invpcid_pair & ~set.set;
    }
    if (timer && !caps.pin.offers(pin::preemption_timer)) {
        reply.unsupported |= bit(abi::Intercept::preemption_timer);
    }
}

Status Vcpu::intercept_msr(const abi::MsrIntercept& what) {
    // SDM 3C 25.6.9: read-low, read-high, write-low, write-high, 1 KByte each. Others always exit.
    const bool high = what.msr >= 0xc000'0000 && what.msr <= 0xc000'1fff;
    if (what.msr > 0x1fff && !high) {
        return what.read != 0 && what.write != 0
                   ? Status{}
                   : refuse(abi::Outcome::unsupported,
                            "VMX MSR bitmaps cover 0-1FFFH and C0000000H-C0001FFFH only");
    }
    auto* map = static_cast<u8*>(platform::to_virtual(bitmaps_ + io_bitmap_pages * page_size));
    const u32 index = what.msr & 0x1fff;
    set_bit(map + (high ? 1024 : 0), index, what.read != 0);
    set_bit(map + (high ? 3072 : 2048), index, what.write != 0);
    return {};
}

Status Vcpu::intercept_io(const abi::IoIntercept& what) {
    set_bits(static_cast<u8*>(platform::to_virtual(bitmaps_)), what.first, what.count, what.on != 0);
    return {};
}

Status Vcpu::protect(const GuestMemory& memory, const abi::NestedProtect& what) {
    const auto rights = static_cast<x86::Rights>(what.rights & 7);
    if (rights == x86::Rights::w || what.rights == 6) {
        return refuse(abi::Outcome::bad_request,
                      "EPT entries that allow writes but not reads are misconfigured");
    }
    if (rights == x86::Rights::x && !cpu_.capabilities().execute_only()) {
        return refuse(abi::Outcome::unsupported, "execute-only EPT entries (IA32_VMX_EPT_VPID_CAP bit 0)");
    }
    if (mmu_ != nullptr) {
        return refuse(abi::Outcome::unsupported, "nested rights in a mode without nested tables");
    }
    ept_.map(memory, what.gpa, what.pages * page_size, rights);
    drop_translations();
    return {};
}

} // namespace refhv::vmx
