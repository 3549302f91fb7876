// SPDX-License-Identifier: MIT
#include "refhv/front/guests/page_chase.hpp"

#include <random>

namespace refhv::front {

std::vector<u32> sweep_sizes() {
    std::vector<u32> out;
    for (u32 power = 8; power < most_lines; power *= 2) {
        out.push_back(power);
        out.push_back(power + power / 2);
    }
    out.push_back(most_lines);
    return out;
}

std::vector<u32> full_cycle(u64 count, u64 seed) {
    std::vector<u32> order(count);
    for (u32 i = 0; i < count; ++i) {
        order[i] = i;
    }
    std::mt19937_64 draw(seed);
    // Modulo rather than a distribution: the standard leaves the latter to each library. Its bias is below
    // 2^-47.
    for (u64 i = count; i > 1; --i) {
        std::swap(order[i - 1], order[draw() % (i - 1)]);
    }
    return order;
}

Pinned::Pinned() {
    if (sched_getaffinity(0, sizeof before_, &before_) != 0) {
        return;
    }
    for (int cpu = CPU_SETSIZE - 1; cpu >= 0 && !pinned_; --cpu) {
        if (CPU_ISSET(cpu, &before_)) {
            cpu_set_t one;
            CPU_ZERO(&one);
            CPU_SET(cpu, &one);
            pinned_ = sched_setaffinity(0, sizeof one, &one) == 0;
            return;
        }
    }
}

Pinned::~Pinned() {
    if (pinned_) {
        sched_setaffinity(0, sizeof before_, &before_);
    }
}

PageMemory& sweep_memory(PageSize size) {
    static std::map<PageSize, std::unique_ptr<PageMemory>> made;
    static std::map<PageSize, std::string> refused;
    if (const auto why = refused.find(size); why != refused.end()) {
        throw NotOffered(why->second);
    }
    auto& memory = made[size];
    if (!memory) {
        try {
            const Pinned pinned; // so that the pages come from this CPU's node
            memory = std::make_unique<PageMemory>(size, u64{most_lines} * chase_page);
        } catch (const NotOffered& none) {
            refused[size] = none.what();
            throw;
        }
    }
    return *memory;
}

PageChase::PageChase(PageMemory& memory, Layout layout, u32 lines)
    : memory_(memory), layout_(layout), lines_(lines), at_(static_cast<void*>(line(0))) {
    const auto next = full_cycle(lines, chase_seed + lines);
    for (u64 i = 0; i < lines; ++i) {
        *line(i) = static_cast<void*>(line(next[i]));
    }
}

void** PageChase::line(u64 index) const {
    return reinterpret_cast<void**>(memory_.base() + offset_of(layout_, index));
}

PageChase::Sample PageChase::sample(u64 accesses) {
    u64 start = 0, end = 0, rounds = accesses / 16, es = 0;
    asm volatile(
        "mov $1, %%r10d\n"
        "mov %%r10d, %%es\n"
        "lfence\n rdtsc\n lfence\n"
        "shl $32, %%rdx\n or %%rdx, %%rax\n mov %%rax, %[start]\n"
        "test %[rounds], %[rounds]\n"
        "jz 2f\n"
        ".p2align 6, 0x90\n"
        "1:\n"
        ".rept 16\n mov (%[at]), %[at]\n .endr\n"
        "dec %[rounds]\n"
        "jnz 1b\n"
        "2: lfence\n rdtsc\n lfence\n"
        "shl $32, %%rdx\n or %%rdx, %%rax\n mov %%rax, %[end]\n"
        "mov %%es, %%r10d\n mov %%r10, %[es]\n"
        : [start] "=&r"(start), [end] "=&r"(end), [es] "=&r"(es), [rounds] "+&r"(rounds), [at] "+&r"(at_)
        :
        : "rax", "rdx", "r10", "memory", "cc");
    return {.start = start, .end = end, .disturbed = es == 0};
}

std::string PageChase::fault() const {
    std::vector<bool> seen(lines_);
    void* at = static_cast<void*>(line(0));
    for (u64 steps = 1;; ++steps) {
        at = *static_cast<void**>(at);
        const u64 offset = static_cast<u64>(static_cast<u8*>(at) - memory_.base());
        const u64 index = index_at(layout_, offset);
        if (index >= lines_ || at != static_cast<void*>(line(index))) {
            return "step " + std::to_string(steps) + " leads to offset " + std::to_string(offset) +
                   ", which is no line of the chain";
        }
        if (seen[index]) {
            return "step " + std::to_string(steps) + " comes to line " + std::to_string(index) + " again";
        }
        seen[index] = true;
        if (index == 0) {
            return steps == lines_ ? ""
                                   : "back at the start after " + std::to_string(steps) + " of " +
                                         std::to_string(lines_) + " steps";
        }
    }
}

} // namespace refhv::front
