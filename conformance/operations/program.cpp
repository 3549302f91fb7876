// SPDX-License-Identifier: MIT
#include "conformance/operations/program.hpp"

namespace refhv::front::root {

namespace {

constexpr u64 code_page = Program::own_pages, step_page = 32, result_page = 96;
constexpr u32 reads_number = 1u << 31;

// As the guest reads it.
struct Row {
    u32 place, flags;
    Registers registers;
};
static_assert(sizeof(Row) == 40);
static_assert(Program::most_steps * sizeof(Row) <= (result_page - step_page) * page_size);
static_assert(Program::most_steps * sizeof(Result) <= (Program::arena_pages - result_page) * page_size);

// R13 counts steps, R14 points to the Result, R15 to the Row, R12 is the stack. First 32 gates of 16 bytes,
// from 16 on: a fault ends its step, wherever in it. Behind a ZF the VM-instruction error field (4400H) is
// read.
GUEST(root_program, "jmp 8f\n"
                    ".set root_vector, 0\n"
                    ".rept 32\n"
                    ".balign 16, 0xcc\n"
                    ".if ((0x60227d00 >> root_vector) & 1) == 0\n"
                    "push $0\n"
                    ".endif\n"
                    ".byte 0x6a, root_vector\n"
                    "jmp 7f\n"
                    ".set root_vector, root_vector + 1\n"
                    ".endr\n"
                    ".balign 16, 0xcc\n"
                    "7: pop %r11\n mov %r11d, 32(%r14)\n"
                    "pop %r11\n mov %r11d, 36(%r14)\n"
                    "pop %r11\n mov %r11, 24(%r14)\n"
                    "mov 8(%rsp), %r11\n mov %r11, (%r14)\n"
                    "mov %rax, 8(%r14)\n mov %rdx, 16(%r14)\n"
                    "mov $0x10, %r11d\n mov %r11d, %ss\n mov %r12, %rsp\n"
                    "jmp 5f\n"
                    "8: mov %rsp, %r12\n"
                    "1: movl $-1, 32(%r14)\n movq $-1, 40(%r14)\n"
                    "mov 8(%r15), %rax\n mov 16(%r15), %rdx\n mov 24(%r15), %rcx\n mov 32(%r15), %rdi\n"
                    "mov (%r15), %r10d\n"
                    "mov 4(%r15), %r11d\n and $0x8d5, %r11d\n push %r11\n popfq\n"
                    "call *%r10\n"
                    "pushfq\n popq (%r14)\n"
                    "mov %rax, 8(%r14)\n mov %rdx, 16(%r14)\n"
                    "cmpl $0, 4(%r15)\n jge 5f\n"
                    "testb $0x40, (%r14)\n jz 5f\n"
                    "mov $0x4400, %eax\n vmread %rax, %rax\n mov %rax, 40(%r14)\n"
                    "5: add $40, %r15\n add $48, %r14\n dec %r13\n jnz 1b\n")

template <class T>
std::span<const u8> bytes_of(const std::vector<T>& list) {
    return {reinterpret_cast<const u8*>(list.data()), list.size() * sizeof(T)};
}

std::string flags_text(u64 rflags) {
    constexpr std::pair<u32, const char*> names[] = {{cf, "CF"}, {pf, "PF"}, {af, "AF"},
                                                     {zf, "ZF"}, {sf, "SF"}, {of, "OF"}};
    std::string text;
    for (const auto& [bit, name] : names) {
        text += (rflags & bit) != 0 ? std::string(text.empty() ? "" : " ") + name : "";
    }
    return text.empty() ? "no flag" : text;
}

std::string text_of(const Result& r) {
    std::ostringstream text;
    if (r.vector != Result::no_vector) {
        text << "fault " << r.vector << '(' << r.error_code << ") at " << std::hex << r.rip << ", "
             << flags_text(r.rflags);
    } else {
        text << flags_text(r.rflags);
        if ((r.rflags & zf) != 0 && r.number != ~u64{0}) {
            text << ", error " << r.number;
        }
    }
    return text.str();
}

std::string text_of(const End& due, u32 flags, u64 fault_at) {
    using enum End::Kind;
    switch (due.kind) {
    case runs:
    case anything:
        return "no fault";
    case keeps_flags:
        return flags_text(flags) + ", as before";
    case succeeds:
        return "VMsucceed: no flag";
    case fails:
        return "VMfailValid: ZF, error " + std::to_string(due.number);
    case invalid:
        return "VMfailInvalid: CF";
    default:
        std::ostringstream text;
        text << "fault " << due.number << '(' << due.error_code << ") at " << std::hex << fault_at << ", "
             << flags_text(flags) << ", as before";
        return text.str();
    }
}

bool ends_as_due(const End& due, u32 flags, u64 fault_at, const Result& got) {
    using enum End::Kind;
    const bool faulted = got.vector != Result::no_vector;
    const u64 now = got.rflags & arithmetic;
    switch (due.kind) {
    case anything:
        return true;
    case runs:
        return !faulted;
    case keeps_flags:
        return !faulted && now == flags;
    case succeeds:
        return !faulted && now == 0;
    case fails:
        return !faulted && now == zf && got.number == due.number;
    case invalid:
        return !faulted && now == cf;
    default:
        return faulted && got.vector == due.number && got.error_code == due.error_code && now == flags &&
               got.rip == fault_at;
    }
}

} // namespace

Code code(client::GuestCode instruction) {
    return code({}, instruction);
}

Code code(client::GuestCode before, client::GuestCode instruction, client::GuestCode after) {
    Code c;
    for (const client::GuestCode& part : {before, instruction, after}) {
        if (part.begin == instruction.begin) {
            c.at = c.bytes.size();
        }
        c.bytes.insert(c.bytes.end(), part.begin, part.end);
    }
    return c;
}

Program::Program(client::GuestHost& host)
    : guest_(host, {.mode = abi::Mode::native, .arena_pages = arena_pages}) {
    constexpr u64 first_gate = 16, gate_size = 16;
    for (u32 vector = 0; vector < 32; ++vector) {
        guest_.gate(vector, client::layout::code + first_gate + gate_size * vector);
    }
}

u64 Program::place(const Code& c) {
    if (const auto known = places_.find(c.bytes); known != places_.end()) {
        return known->second;
    }
    constexpr u8 ret = 0xc3;
    const u64 at = page(code_page) + code_.size();
    code_.insert(code_.end(), c.bytes.begin(), c.bytes.end());
    code_.push_back(ret);
    if (code_.size() > (step_page - code_page) * page_size) {
        throw std::length_error("the code of these steps does not fit");
    }
    places_[c.bytes] = at;
    return at;
}

usize Program::add(std::string name, const Code& c, const Registers& registers, const End& due) {
    const u64 at = place(c);
    const u32 flags = steps_.size() % 2 != 0 ? arithmetic : 0;
    steps_.push_back({std::move(name), registers, at, at + c.at, flags, due});
    return steps_.size() - 1;
}

std::vector<Result> Program::run() {
    if (steps_.size() > most_steps) {
        throw std::length_error("too many steps in one run");
    }
    std::vector<Row> rows;
    for (const Step& s : steps_) {
        const bool is_vmx = s.due.kind == End::Kind::succeeds || s.due.kind == End::Kind::fails ||
                            s.due.kind == End::Kind::invalid;
        rows.push_back({static_cast<u32>(s.place), s.flags | (is_vmx ? reads_number : 0), s.registers});
    }
    guest_.write(page(code_page), code_);
    guest_.write(page(step_page), bytes_of(rows));
    guest_.state.gpr[abi::r13] = rows.size();
    guest_.state.gpr[abi::r14] = page(result_page);
    guest_.state.gpr[abi::r15] = page(step_page);
    guest_.load(root_program);
    const auto r = guest_.run({});
    EXPECT_EQ(r.outcome, abi::Outcome::exited) << r.text;
    EXPECT_EQ(static_cast<abi::Reason>(r.reply.exit.reason), abi::Reason::int_n)
        << "the list came to its end";
    EXPECT_EQ(r.reply.state.gpr[abi::r13], 0u) << "steps left over";
    EXPECT_EQ(r.reply.host_changed, 0u) << "HostState bits";
    constexpr usize words = sizeof(Result) / sizeof(u64);
    const auto raw = guest_.read64(page(result_page), rows.size() * words);
    std::vector<Result> results(rows.size());
    __builtin_memcpy(results.data(), raw.data(), raw.size() * sizeof(u64));
    tried_ += rows.size();
    return results;
}

std::vector<Result> Program::run(Differences& differences) {
    auto results = run();
    for (usize i = 0; i < results.size(); ++i) {
        compare(steps_[i], results[i], differences);
    }
    steps_.clear();
    return results;
}

void Program::compare(const Step& step, const Result& got, Differences& differences) {
    if (!ends_as_due(step.due, step.flags, step.fault_at, got)) {
        differences.add(step.name, ": ", text_of(got), "; due ",
                        text_of(step.due, step.flags, step.fault_at));
        return;
    }
    if (step.due.rax && *step.due.rax != got.rax) {
        differences.add(step.name, std::hex, ": value ", got.rax, "; due ", *step.due.rax);
    }
    if (step.due.rdx && *step.due.rdx != got.rdx) {
        differences.add(step.name, std::hex, ": RDX ", got.rdx, "; due ", *step.due.rdx);
    }
}

} // namespace refhv::front::root
