// SPDX-License-Identifier: MIT
// The safety floor: laid at begin, and the exits that are there for its sake.
#include "refhv/svm/floor.hpp"

#include "refhv/svm/vcpu.hpp"
#include "refhv/vcpu/intercepts.hpp"

namespace refhv::svm {

void Vcpu::lay_floor() {
    const auto lay = []<class T>(T& field, const Owned& owned) { field = static_cast<T>(owned.over(field)); };
    Vmcb& v = *vmcb_;
    lay(v.intercept_1, floor_.intercept_1);
    lay(v.intercept_2, floor_.intercept_2);
    lay(v.intercept_exceptions, floor_.exceptions);
    lay(v.intercept_cr_read, floor_.cr_read);
    lay(v.intercept_cr_write, floor_.cr_write);
    lay(v.interrupt_control, floor_.interrupt_control);
    lay(v.nested_control, floor_.nested_control);
    lay(v.virtualization_extensions, floor_.extensions);
    lay(v.cr4, {x86::read_cr4() & floor_.host_cr4, floor_.denied_cr4});
    if (floor_.own_asid) {
        v.asid = own_asid_;
    }
    v.clean_bits = 0;
}

// What of CR4 the guest believes to have.
u64 Vcpu::guest_cr4() const {
    return (vmcb_->cr4 & ~floor_.host_cr4) | (guest_mce_ & floor_.host_cr4);
}

void Vcpu::set_guest_cr4(u64 value) {
    guest_mce_ = value & x86::cr4::mce;
    vmcb_->cr4 = value | (x86::read_cr4() & floor_.host_cr4);
    vmcb_->clean_bits = 0;
}

// Exits that nobody but the host asked for. true: answered.
bool Vcpu::answers_for_host(const abi::Exit& exit) {
    using enum abi::Reason;
    switch (static_cast<abi::Reason>(exit.reason)) {
    case exception:
        return own_exception(exit);
    case cr4_read:
        return floor_.cr_read.set != 0 && !asks(intercepts_, abi::Intercept::cr4_read) && own_cr4(exit);
    case cr4_write:
        return floor_.cr_write.set != 0 && !asks(intercepts_, abi::Intercept::cr4_write) && own_cr4(exit);
    case init: // signals to this CPU, not to the guest; both are taken at STGI (APM 2 15.21.8, 15.13)
    case smi:
        return redeliver(exit);
    default:
        return false;
    }
}

bool Vcpu::own_exception(const abi::Exit& exit) {
    if ((floor_.exceptions.set >> exit.vector & 1) == 0) {
        return false;
    }
    if (exit.vector == x86::vector::machine_check) {
        platform::machine_check();
        return redeliver(exit);
    }
    return !is_stepping() && (exceptions_ >> exit.vector & 1) == 0 && inject(exit);
}

// Which register it is, EXITINFO1 says where the CPU has decode assists (APM 2 15.8.1); elsewhere the policy
// is asked.
bool Vcpu::own_cr4(const abi::Exit& exit) {
    using namespace x86;
    constexpr u64 is_mov = u64{1} << 63, translation = cr4::pae | cr4::la57 | cr4::pcide;
    constexpr u8 length = 3; // of MOV with CR4; with a REX prefix nRIP tells
    if (mmu_ != nullptr || !cpu_.capabilities().decode_assists() || (exit.qualification & is_mov) == 0) {
        return false;
    }
    const unsigned gpr = exit.qualification & 15;
    if (exit.reason == static_cast<u16>(abi::Reason::cr4_read)) {
        set_guest_gpr(gpr, guest_cr4());
        return advance(exit, {abi::Action::advance, length});
    }
    const u64 value = guest_gpr(gpr), before = guest_cr4();
    if ((value & floor_.denied_cr4) != 0) {
        raise(vector::general_protection, 0);
        return true;
    }
    if (((value ^ before) & translation) != 0) {
        return false;
    }
    set_guest_cr4(value);
    if (((value ^ before) & ~u64{cr4::mce}) != 0) {
        retag(); // MOV to CR4 drops translations where such a bit changes (APM 2 5.5.2)
    }
    return advance(exit, {abi::Action::advance, length});
}

} // namespace refhv::svm
