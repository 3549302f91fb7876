// SPDX-License-Identifier: MIT
// Guests in every mode of the CPU.
#pragma once

#include "conformance/probe/claim.hpp"

#include <random>

namespace refhv::front {

class GuestMode : public ProbeClaim {
  protected:
    // Instructions that exit (exits.cpp): those in a claim of their own by its name, all others by "".
    void hold_instructions(const std::vector<machine::Kind>& modes, Prober& prober, std::string_view which);
    // Accesses that nested tables refuse (memory.cpp).
    void hold_violations(const std::vector<machine::Kind>& modes, Prober& prober);
    // Events of the guest and injected ones (events.cpp).
    void hold_deliveries(const std::vector<machine::Kind>& modes, Prober& prober);
    void hold_short_tables(const std::vector<machine::Kind>& modes, Prober& prober);
    void hold_injections(const std::vector<machine::Kind>& modes, Prober& prober, bool software);
    // Virtual-8086 mode (v86.cpp).
    void hold_redirections(Prober& prober, bool injected);
    void hold_iopl(Prober& prober);
    // State that goes in and comes out (state.cpp).
    void hold_state_of(const std::vector<machine::Kind>& modes, Prober& prober);
};

[[nodiscard]] inline std::string named(machine::Kind kind, std::string_view what) {
    return std::string(machine::name_of(kind)) + ": " + std::string(what);
}

} // namespace refhv::front
