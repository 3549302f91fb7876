// SPDX-License-Identifier: MIT
// SVM of the logical processors.
#pragma once

#include "refhv/core/backend.hpp"
#include "refhv/vcpu/probe.hpp"

namespace refhv::svm {

// CPUID Fn8000_000A.
struct Capabilities {
    u32 revision = 0, asids = 0, features = 0;

    [[nodiscard]] static Capabilities read();
    [[nodiscard]] bool nested_paging() const { return (features & 1) != 0; }
    [[nodiscard]] bool nrip_save() const { return (features >> 3 & 1) != 0; }
    [[nodiscard]] bool tsc_ratio() const { return (features >> 4 & 1) != 0; }
    [[nodiscard]] bool vmcb_clean() const { return (features >> 5 & 1) != 0; }
    [[nodiscard]] bool flush_by_asid() const { return (features >> 6 & 1) != 0; }
    [[nodiscard]] bool decode_assists() const { return (features >> 7 & 1) != 0; }
};

class Cpu {
  public:
    // Whether SVM can be used here; changes nothing. APM 2 15.4.
    [[nodiscard]] static Probe probe();
    // On the CPU of this number, which is the one that calls; a second call is free.
    [[nodiscard]] Status enable(Arena& arena, u32 cpu);
    // The way out: the calling CPU, of this number, is as enable found it, but for DE_CFG. Free if it is not
    // enabled.
    void disable(Arena& arena, u32 cpu);

    [[nodiscard]] const Capabilities& capabilities() const { return capabilities_; }
    // Where the host's part of VMLOAD is kept on this CPU.
    [[nodiscard]] u64 host_vmcb(u32 cpu) const { return per_cpu_[cpu].host_vmcb; }

    // Does LFENCE on this CPU wait for what stands before it, as time stamps need?
    [[nodiscard]] bool orders_stamps(u32 cpu) const { return per_cpu_[cpu].orders_stamps; }

    struct Tag {
        u64 round; // from 1
        u32 asid;
    };
    // An ASID that no VMRUN has used in its round of ASIDs. ASID 0 is the host's (APM 2 15.16). Two CPUs may
    // ask at the same time, as a run and the guest that is its peer do.
    [[nodiscard]] Tag fresh_tag() {
        const u64 ticket = __atomic_fetch_add(&tags_given_, 1, __ATOMIC_RELAXED);
        return {ticket / tags_a_round() + 1, static_cast<u32>(ticket % tags_a_round() + 1)};
    }
    // That of the last tag. Who has an ASID of an earlier round may share it with somebody of this one.
    [[nodiscard]] u64 round() const {
        const u64 given = __atomic_load_n(&tags_given_, __ATOMIC_RELAXED);
        return given == 0 ? 0 : (given - 1) / tags_a_round() + 1;
    }
    // A CPU that has not flushed everything since the round began must do so with the first VMRUN that has an
    // ASID of it; the first one ever flushes what an earlier user of SVM left.
    [[nodiscard]] bool is_flush_due(u32 cpu, u64 round) const { return per_cpu_[cpu].flushed < round; }
    void flushed(u32 cpu, u64 round) {
        if (is_flush_due(cpu, round)) {
            per_cpu_[cpu].flushed = round;
        }
    }

  private:
    [[nodiscard]] u64 tags_a_round() const { return capabilities_.asids > 1 ? capabilities_.asids - 1 : 1; }

    Capabilities capabilities_;
    struct PerCpu {
        u64 host_save_area, host_vmcb; // VM_HSAVE_PA: the CPU's; VMSAVE of the host: ours
        u64 flushed;                   // round of ASIDs
        bool orders_stamps;
    };
    PerCpu per_cpu_[platform::most_cpus]{};
    u64 tags_given_ = 0;
};

} // namespace refhv::svm
