// SPDX-License-Identifier: MIT
#include "conformance/test/silicon/svm_machine.hpp"

#include "refhv/core/platform.hpp"
#include "refhv/x86/registers.hpp"

namespace refhv::silicon {

using svm::ExitCode;
using svm::Vmcb;
namespace msr = x86::msr;

namespace {

constexpr u64 valid = 1u << 31;

Vmcb& at(u64 physical) {
    return *static_cast<Vmcb*>(platform::to_virtual(physical));
}

// Of VMSAVE and VMLOAD (APM 2 15.5.2).
struct Carried {
    u32 index;
    u64 Vmcb::*field;
};
constexpr Carried carried[] = {{msr::star, &Vmcb::star},
                               {msr::lstar, &Vmcb::lstar},
                               {msr::cstar, &Vmcb::cstar},
                               {msr::sfmask, &Vmcb::sfmask},
                               {msr::kernel_gs_base, &Vmcb::kernel_gs_base},
                               {msr::sysenter_cs, &Vmcb::sysenter_cs},
                               {msr::sysenter_esp, &Vmcb::sysenter_esp},
                               {msr::sysenter_eip, &Vmcb::sysenter_eip}};

} // namespace

SvmMachine& svm() {
    static SvmMachine m;
    return m;
}

void SvmMachine::reset() {
    *this = {};
}

void SvmMachine::vmsave(u64 vmcb) {
    Machine& m = machine();
    Vmcb& v = at(vmcb);
    v.fs = {m.selectors[fs], 0, 0, m.msrs[msr::fs_base].value};
    v.gs = {m.selectors[gs], 0, 0, m.msrs[msr::gs_base].value};
    v.tr = {m.tr.selector, 0x8b, m.tr.limit, m.tr.base};
    v.ldtr.selector = m.ldtr;
    for (const Carried& c : carried) {
        v.*c.field = m.msrs[c.index].value;
    }
}

void SvmMachine::vmload(u64 vmcb) {
    Machine& m = machine();
    const Vmcb& v = at(vmcb);
    m.selectors[fs] = v.fs.selector;
    m.selectors[gs] = v.gs.selector;
    m.msrs[msr::fs_base].value = v.fs.base;
    m.msrs[msr::gs_base].value = v.gs.base;
    m.tr = {v.tr.selector, v.tr.base, v.tr.limit};
    m.ldtr = v.ldtr.selector;
    for (const Carried& c : carried) {
        m.msrs[c.index].value = v.*c.field;
    }
}

// As many levels as the host's own paging has (APM 2 15.25.1).
u64 SvmMachine::translate(u64 nested_cr3, u64 address) const {
    constexpr u64 frame = 0x000f'ffff'ffff'f000, present = 1, large = 1u << 7;
    u64 table = nested_cr3 & frame;
    for (unsigned level = (machine().cr4 & x86::cr4::la57) != 0 ? 5 : 4; level > 0; --level) {
        const u64 entry =
            static_cast<const u64*>(platform::to_virtual(table))[address >> (12 + 9 * (level - 1)) & 511];
        if ((entry & present) == 0) {
            return 0;
        }
        const u64 offset = (u64{1} << (12 + 9 * (level - 1))) - 1;
        if (level == 1 || (level < 4 && (entry & large) != 0)) {
            return (entry & frame & ~offset) | (address & offset);
        }
        table = entry & frame;
    }
    return 0;
}

void SvmMachine::load_guest(const Vmcb& v) {
    Machine& m = machine();
    host_ = {m.cr0,    m.cr3,
             m.cr4,    m.msrs[msr::efer].value,
             m.rflags, {m.selectors[es], m.selectors[cs], m.selectors[ss], m.selectors[ds]},
             m.gdtr,   m.idtr};
    m.cr0 = v.cr0;
    m.cr3 = v.cr3;
    m.cr4 = v.cr4;
    m.cr2 = v.cr2;
    m.dr6 = v.dr6;
    m.dr7 = v.dr7;
    m.msrs[msr::efer].value = v.efer;
    m.rflags = v.rflags;
    m.gdtr = {static_cast<u16>(v.gdtr.limit), v.gdtr.base};
    m.idtr = {static_cast<u16>(v.idtr.limit), v.idtr.base};
}

// APM 2 15.6: what VMRUN saved comes back; DR7 is as after reset, CR2 and DR6 are the guest's, GIF is 0.
void SvmMachine::exit_to_host(Vmcb& v) {
    Machine& m = machine();
    v.cr0 = m.cr0;
    v.cr3 = m.cr3;
    v.cr4 = m.cr4;
    v.cr2 = m.cr2;
    v.dr6 = m.dr6;
    v.dr7 = m.dr7;
    v.efer = m.msrs[msr::efer].value;
    v.event_injection &= ~valid;
    for (const u16 selector : host_.selectors) {
        if ((selector & 4) != 0) { // LDTR is the guest's
            fault(8, "#VMEXIT loads a selector of the LDT: shutdown");
        }
    }
    m.cr0 = host_.cr0 | x86::cr0::pe;
    m.cr3 = host_.cr3;
    m.cr4 = host_.cr4;
    m.msrs[msr::efer].value = host_.efer;
    m.rflags = host_.rflags;
    m.dr7 = 0x400;
    m.selectors[es] = host_.selectors[0];
    m.selectors[cs] = host_.selectors[1];
    m.selectors[ss] = host_.selectors[2];
    m.selectors[ds] = host_.selectors[3];
    m.gdtr = host_.gdtr;
    m.idtr = host_.idtr;
    gif = false;
    m.step("#VMEXIT");
}

void SvmMachine::vmrun(u64 physical, u64* gpr) {
    Vmcb& v = at(physical);
    const u64 upper = ~u64{0} << 32;
    constexpr u64 nw = x86::cr0::nw, cd = x86::cr0::cd;
    const bool wrong = (v.efer & x86::efer::svme) == 0 || v.asid == 0 ||
                       (v.intercept_2 & svm::intercept_2::vmrun) == 0 || (v.cr0 & (nw | cd)) == nw ||
                       ((v.cr0 | v.dr6 | v.dr7) & upper) != 0;
    if (wrong) { // APM 2 15.5.1
        v.exit_code = static_cast<u64>(ExitCode::invalid);
        return;
    }
    switch (static_cast<svm::TlbControl>(v.tlb_control)) {
    case svm::TlbControl::flush_all:
        tags_.clear();
        break;
    case svm::TlbControl::flush_asid:
    case svm::TlbControl::flush_asid_keep_globals:
        tags_.erase(v.asid);
        break;
    default:
        break;
    }
    const auto [tag, fresh] = tags_.try_emplace(v.asid, paging_of(v, physical));
    stale = stale || (!fresh && tag->second != paging_of(v, physical));
    root = (v.nested_control & 1) != 0 ? translate(v.nested_cr3, probe) : 0;
    if ((v.event_injection & valid) != 0) {
        injected.push_back(v.event_injection);
    }
    load_guest(v);
    v.exit_int_info = 0;
    SvmGuest guest(*this, v, gpr);
    while (!guest.exited()) {
        if (program_.empty()) {
            guest.exit(ExitCode::shutdown);
            break;
        }
        const Step step = std::move(program_.front());
        program_.pop_front();
        step(guest);
    }
    exit_to_host(v);
    tags_[v.asid] = paging_of(v, physical); // the guest's own changes drop what they must
}

// APM 2 15.16, Software Rule.
SvmMachine::Paging SvmMachine::paging_of(const Vmcb& v, u64 vmcb) {
    using namespace x86;
    return {vmcb, v.cr0 & (cr0::pg | cr0::wp | cr0::cd | cr0::nw), v.cr3,
            v.cr4 & (cr4::pge | cr4::pae | cr4::pse), v.efer & (efer::nxe | efer::lma | efer::lme)};
}

void SvmGuest::exit(ExitCode code, u64 info_1, u64 info_2) {
    exited_ = true;
    vmcb.exit_code = static_cast<u64>(code);
    vmcb.exit_info_1 = info_1;
    vmcb.exit_info_2 = info_2;
    vmcb.next_rip = 0;
}

void SvmGuest::mov_to_cr4(u64 value) {
    if ((vmcb.intercept_cr_write >> 4 & 1) != 0) {
        vmcb.rax = value;
        exit(static_cast<ExitCode>(0x14), u64{1} << 63);
        vmcb.next_rip = vmcb.rip + 3;
        return;
    }
    machine().cr4 = value;
}

void SvmGuest::mov_to_cr8(u64 value) {
    if ((vmcb.intercept_cr_write >> 8 & 1) != 0) {
        exit(static_cast<ExitCode>(0x18));
    } else if ((vmcb.interrupt_control & svm::interrupt_control::v_intr_masking) != 0) {
        vmcb.interrupt_control = (vmcb.interrupt_control & ~u64{0xf}) | value;
    } else {
        machine().cr8 = value;
    }
}

void SvmGuest::xsetbv(u64 value) {
    if ((vmcb.intercept_2 & svm::intercept_2::xsetbv) != 0) {
        vmcb.rax = static_cast<u32>(value);
        gpr[1] = 0;
        gpr[2] = value >> 32;
        exit(ExitCode::xsetbv);
        vmcb.next_rip = vmcb.rip + 3;
        return;
    }
    machine().xsetbv(0, value);
}

void SvmGuest::invd() {
    if ((vmcb.intercept_1 & svm::intercept_1::invd) != 0) {
        exit(ExitCode::invd);
        return;
    }
    svm_.lost_caches = true;
}

void SvmGuest::raise(u8 vector, u32 error, u64 info_2) {
    if ((vmcb.intercept_exceptions >> vector & 1) == 0) {
        svm_.delivered.push_back(vector);
        return;
    }
    exit(static_cast<ExitCode>(static_cast<u64>(ExitCode::exception_0) + vector), error, info_2);
}

void SvmGuest::event(u32 intercept, ExitCode code) {
    if ((vmcb.intercept_1 & intercept) == 0) {
        svm_.delivered.push_back(static_cast<u8>(code));
        return;
    }
    exit(code);
}

} // namespace refhv::silicon
