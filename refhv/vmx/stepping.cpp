// SPDX-License-Identifier: MIT
// One instruction of a guest of VMX by itself, by RFLAGS.TF, for what the shadow MMU grants it alone.
#include "refhv/vmx/instructions.hpp"
#include "refhv/vmx/vcpu.hpp"
#include "refhv/x86/exceptions.hpp"

namespace refhv::vmx {

namespace {
constexpr u64 breakpoints = 15, single_step = 1u << 14; // DR6, and what goes there
} // namespace

// The guest's next instruction is followed by a #DB, and no exception is delivered before it has come back
// here, so that RFLAGS.TF is seen by nothing but a PUSHF that itself writes against the rights of a page. Not
// the monitor trap flag: not every CPU has it, and one way that is always taken is better tested.
void Vcpu::begin_instruction() {
    if (!step_.is_on()) {
        write(Field::guest_rflags, step_.begin(read(Field::guest_rflags)));
        write(Field::exception_bitmap, ~u32{0});
        if ((read(Field::guest_interruptibility) & 3) != 0) { // SDM 3C 27.3.1.5
            write(Field::guest_pending_debug, single_step);
        }
    }
}

void Vcpu::end_instruction() {
    if (step_.is_on()) {
        write(Field::guest_rflags, step_.end(read(Field::guest_rflags)));
        write(Field::exception_bitmap,
              floor_.exceptions.over(exceptions_ | x86::vector_bit(x86::vector::page_fault)));
        if (!step_.guest_traps()) {
            write(Field::guest_pending_debug, 0);
        }
        mmu_->mmu().end_instruction();
        write_translation_registers();
    }
}

// false: the exit is another matter, still to be answered.
bool Vcpu::ends_instruction(const abi::Exit& exit) {
    const bool exception = exit.reason == static_cast<u16>(abi::Reason::exception);
    const bool debug = exception && exit.vector == x86::vector::debug;
    const bool ours = debug && !step_.guest_traps();
    end_instruction();
    const u64 causes = exit.qualification & (ours ? breakpoints : breakpoints | single_step);
    if (ours && causes == 0) {
        return true;
    }
    if (debug) { // the exit has left DR6 alone (SDM 3C 28.2.1)
        x86::write_dr6(x86::read_dr6() | causes);
    }
    return exception && (exceptions_ >> exit.vector & 1) == 0 && inject(exit);
}

} // namespace refhv::vmx
