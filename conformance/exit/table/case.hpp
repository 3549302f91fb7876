// SPDX-License-Identifier: MIT
// Exits gone through as tables: every register, every bit, every boundary.
#pragma once

#include "conformance/probe/claim.hpp"
#include "conformance/probe/controls.hpp"

#include <random>

namespace refhv::front {

class ExitTable : public ProbeClaim {
  protected:
    // INS and OUTS (ports.cpp); of SVM's EXITINFO1 the segment, or all else.
    void hold_string_io(Prober& prober, bool svm_segments, const char* section_text);
};

} // namespace refhv::front
