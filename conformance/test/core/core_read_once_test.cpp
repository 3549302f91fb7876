// SPDX-License-Identifier: MIT
// A request may lie in memory that its owner goes on writing: what was checked must be what is used, so no
// byte of it is read twice. Every read of it faults here, and is written down by a single step.
#include "conformance/test/core/core_fixture.hpp"

#include <algorithm>
#include <csignal>
#include <cstring>
#include <map>
#include <sys/mman.h>
#include <ucontext.h>

namespace refhv {
namespace {

constexpr usize watched_bytes = 4 * page_size;
u8* watched = nullptr;
u8* stepped = nullptr; // the page that is open for one instruction
std::array<u8, watched_bytes> reads;
constexpr greg_t trap_flag = 1u << 8;

void on_fault(int, siginfo_t* info, void* context) {
    auto* const at = static_cast<u8*>(info->si_addr);
    if (at < watched || at >= watched + watched_bytes) {
        std::abort();
    }
    ++reads[static_cast<usize>(at - watched)];
    stepped = watched;
    mprotect(watched, watched_bytes, PROT_READ);
    static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_EFL] |= trap_flag;
}

void on_step(int, siginfo_t*, void* context) {
    mprotect(watched, watched_bytes, PROT_NONE);
    static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_EFL] &= ~trap_flag;
}

class ReadOnce : public CoreTest {
  protected:
    ReadOnce() {
        watched = static_cast<u8*>(
            mmap(nullptr, watched_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        struct sigaction fault {
        }, step{};
        fault.sa_sigaction = on_fault;
        step.sa_sigaction = on_step;
        fault.sa_flags = step.sa_flags = SA_SIGINFO;
        sigaction(SIGSEGV, &fault, &old_fault_);
        sigaction(SIGTRAP, &step, &old_step_);
    }
    ~ReadOnce() override {
        sigaction(SIGSEGV, &old_fault_, nullptr);
        sigaction(SIGTRAP, &old_step_, nullptr);
        munmap(watched, watched_bytes);
    }

    // How often the byte that was read most often was, and how many were read at all.
    std::pair<unsigned, unsigned> count(const Batch& batch) {
        const auto payload = batch.payload();
        reads.fill(0);
        mprotect(watched, watched_bytes, PROT_READ | PROT_WRITE);
        std::memcpy(watched, payload.data(), payload.size());
        mprotect(watched, watched_bytes, PROT_NONE);
        (void)core_->execute({watched, payload.size()}, out_);
        const auto some = std::count_if(reads.begin(), reads.end(), [](u8 n) { return n != 0; });
        return {*std::max_element(reads.begin(), reads.end()), static_cast<unsigned>(some)};
    }

    struct sigaction old_fault_ {
    }, old_step_{};
};

TEST_F(ReadOnce, no_byte_of_a_request_is_read_twice) {
    const u8 data[24] = {1, 2, 3}; // copied by the C library, in two loads that overlap
    const abi::PolicyEntry entries[] = {{11, 1, 2, 0}, {12, 0, 0, 0}};
    const abi::ProbeField probes[] = {{0x681e, 8, 0, 1}, {0x681e, 8, abi::probe_enters, 2}};
    Batch all;
    all.add<Op::hello>({abi::version, {}})
        .add<Op::vm_create>(vm())
        .add<Op::mem_write>({0, 0, base, sizeof data}, data)
        .add<Op::mem_fill64>({0, 0, base, 1, 1, 8})
        .add<Op::mem_read>({0, 0, base, 16})
        .add<Op::state_set>({})
        .add<Op::state_get>({})
        .add<Op::field_write>({0, 0x681e, 8, 0, 1})
        .add<Op::field_read>({0, 0x681e, 8, 0, 0})
        .add<Op::intercept>({})
        .add<Op::msr_intercept>({0, 0x10, 1, 1, {}})
        .add<Op::io_intercept>({0, 1, 1, 1, 0})
        .add<Op::policy>({0, 2}, entries)
        .add<Op::nested_protect>({0, 7, base, 1})
        .add<Op::nested_entry>({0, abi::nested_entry_write, base, 1, 1, base | 7, 0})
        .add<Op::invalidate>({0, 1, 0, 1, 0, 0, 0})
        .add<Op::run>({})
        .add<Op::entry_probes>({.vm = 0, .count = 2, .deadline = 0, .state = {}}, probes)
        .add<Op::snapshot>({})
        .add<Op::restore>({})
        .add<Op::vm_destroy>({})
        .add<Op::shutdown>({abi::version, {}});
    ASSERT_EQ(all.operations(), abi::Operations::count) << "every operation is in it";
    const auto [most, some] = count(all);
    EXPECT_EQ(most, 1u) << "first of them at " << std::find(reads.begin(), reads.end(), most) - reads.begin();
    EXPECT_GT(some, abi::Operations::count) << "the reads were seen";
    EXPECT_TRUE(core_->shutdown_asked()) << "the last one was reached";
}

} // namespace
} // namespace refhv
