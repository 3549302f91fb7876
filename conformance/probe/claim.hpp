// SPDX-License-Identifier: MIT
// What the claims made of probes share.
#pragma once

#include "conformance/probe/due.hpp"

namespace refhv::front {

class ProbeClaim : public Claim {
  public:
    // One row of a table: a probe and its end.
    struct Row {
        Probe probe;
        Due due;
    };

  protected:
    // Runs all rows, and in front of them and behind them a guest that does nothing but stop:
    // what a row finds is then due to the row. Adds to the count of combinations. On SVM, which does not
    // check it, the TSS is an available one: with a busy one, claim svm_a_busy_tss_serves, QEMU ends.
    void hold_rows(Prober& prober, std::vector<Row> rows, const char* section);
    // Kinds that this machine can run, but for virtual-8086 mode, which has claims of its own: a Bochs that
    // emulates SVM ends when it is entered.
    static std::vector<machine::Kind> kinds(const Prober& prober);
    static bool has_next_rip();
    static const char* section_of(const Section& s) { return on_vmx() ? s.sdm : s.apm; }

  private:
    u64 tried_ = 0;
};

} // namespace refhv::front
