// SPDX-License-Identifier: MIT
// Instructions of VMX root operation, or of a host that uses SVM, with operands of the claim's choice. A
// guest of mode native owns its CPU: it turns VMX or SVM on itself, goes through a list of steps, writes down
// flags, registers and the fault of each, and leaves the CPU as it was. One run, whatever the number of
// steps.
#pragma once

#include "refhv/client/guest/vm.hpp"
#include "refhv/front/claim.hpp"
#include "refhv/front/differences.hpp"

#include <map>
#include <optional>

namespace refhv::front::root {

// Bits of RFLAGS that VMX instructions set and clear (SDM 3C 31.2).
inline constexpr u32 cf = 1u << 0, pf = 1u << 2, af = 1u << 4, zf = 1u << 6, sf = 1u << 7, of = 1u << 11;
inline constexpr u32 arithmetic = cf | pf | af | zf | sf | of;

inline constexpr u32 undefined_opcode = 6, stack_fault = 12, general_protection = 13, page_fault = 14;

// What a step does: code that leads up to an instruction, the instruction, and what follows it. The code
// finds RAX, RDX, RCX and RDI as the step has them; RAX and RDX behind it are the result. RBX, RBP, RSI and
// R8 to R11 are free.
struct Code {
    std::vector<u8> bytes;
    usize at = 0; // of the instruction, whose fault is due here
};
[[nodiscard]] Code code(client::GuestCode instruction);
[[nodiscard]] Code code(client::GuestCode before, client::GuestCode instruction,
                        client::GuestCode after = {});

// How it ends.
struct End {
    enum class Kind : u8 {
        runs,        // no fault; the flags may be anything
        keeps_flags, // no fault, and no flag changes
        succeeds,    // VMsucceed (SDM 3C 31.2)
        fails,       // VMfail(number): VMfailValid where there is a current VMCS, else VMfailInvalid
        invalid,     // VMfailInvalid
        faults,      // vector `number`, at the instruction, and no flag changes
        anything,
    };
    Kind kind = Kind::runs;
    u32 number = 0;
    u32 error_code = 0;
    std::optional<u64> rax{}, rdx{};
};
[[nodiscard]] inline End runs() {
    return {};
}
[[nodiscard]] inline End keeps_flags() {
    return {.kind = End::Kind::keeps_flags};
}
[[nodiscard]] inline End succeeds() {
    return {.kind = End::Kind::succeeds};
}
[[nodiscard]] inline End reads(u64 value) {
    return {.kind = End::Kind::succeeds, .rax = value};
}
[[nodiscard]] inline End holds(u64 value) { // a register or memory, by MOV or RDMSR
    return {.kind = End::Kind::runs, .rax = value};
}
[[nodiscard]] inline End fails(u32 number) {
    return {.kind = End::Kind::fails, .number = number};
}
[[nodiscard]] inline End invalid() {
    return {.kind = End::Kind::invalid};
}
[[nodiscard]] inline End faults(u32 vector, u32 error_code = 0) {
    return {.kind = End::Kind::faults, .number = vector, .error_code = error_code};
}

struct Registers {
    u64 rax = 0, rdx = 0, rcx = 0, rdi = 0;
};

// What a step left behind.
struct Result {
    u64 rflags, rax, rdx;
    u64 rip;        // of the fault
    u32 vector;     // none: no fault
    u32 error_code; // of the fault
    u64 number;     // the VM-instruction error field behind a VMfailValid
    static constexpr u32 no_vector = 0xffff'ffff;
};
static_assert(sizeof(Result) == 48);

class Program {
  public:
    // Pages of the arena that are the claim's: 0 to 15.
    static constexpr u64 arena_pages = 256, own_pages = 16;
    static constexpr usize most_steps = 4000;

    explicit Program(client::GuestHost& host);

    // Guest-virtual, which the guest's tables map one to one; and physical.
    [[nodiscard]] static u64 page(u64 number) { return client::layout::arena + number * page_size; }
    [[nodiscard]] u64 physical(u64 number) { return guest_.host_physical(page(number)); }
    [[nodiscard]] client::Guest& guest() { return guest_; }

    // Adds a step, and says which it is. The flags before it are all set and all clear in turn.
    usize add(std::string name, const Code& code, const Registers& registers, const End& due);
    [[nodiscard]] usize size() const { return steps_.size(); }
    // Where the code of a step is put; for steps that name the address of another's.
    [[nodiscard]] u64 place(const Code& code);

    // All of them, in order; then the list is empty.
    std::vector<Result> run();
    // Runs, and compares each with what is due.
    std::vector<Result> run(Differences& differences);
    [[nodiscard]] u64 tried() const { return tried_; }

  private:
    struct Step {
        std::string name;
        Registers registers;
        u64 place, fault_at;
        u32 flags;
        End due;
    };
    static void compare(const Step& step, const Result& got, Differences& differences);

    client::Guest guest_;
    std::vector<Step> steps_;
    std::map<std::vector<u8>, u64> places_;
    std::vector<u8> code_;
    u64 tried_ = 0;
};

} // namespace refhv::front::root
