// SPDX-License-Identifier: MIT
// SVM of one logical processor.
#pragma once

#include "refhv/backend.hpp"

namespace refhv::svm {

struct Probe {
    abi::BackendStatus status;
    const char* note;
};

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
    [[nodiscard]] Status enable(Arena& arena);
    void disable(Arena& arena);

    [[nodiscard]] const Capabilities& capabilities() const { return capabilities_; }
    [[nodiscard]] u64 host_vmcb() const { return host_vmcb_; }

    // An ASID that no VMRUN has used since the last flush of all; `flush` is set when that flush is due with
    // its first VMRUN. ASID 0 is the host's (APM 2 15.16).
    [[nodiscard]] u32 fresh_asid(bool& flush) {
        flush = next_asid_ >= capabilities_.asids;
        next_asid_ = flush ? 1 : next_asid_;
        return next_asid_++;
    }
    [[nodiscard]] bool has_rdtscp() const { return has_rdtscp_; }

  private:
    Capabilities capabilities_;
    u64 host_save_area_ = 0;  // VM_HSAVE_PA: the CPU's
    u64 host_vmcb_ = 0;       // VMSAVE of the host: ours
    u32 next_asid_ = ~u32{0}; // the first VMRUN ever flushes what an earlier user of SVM left
    bool has_rdtscp_ = false;
};

} // namespace refhv::svm
