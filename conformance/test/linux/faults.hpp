// SPDX-License-Identifier: MIT
// The module's steps, made to fail one after the other (its parameter fail_step).
#pragma once

namespace refhv::test {

// Opens /dev/refhv, runs CPUID in a guest, closes. Did the guest exit by it? Throws std::runtime_error:
// refused.
[[nodiscard]] bool exits_by_cpuid();

// The same with each step failing in turn, and without behind each, and says what came of it. An exit code: a
// step may be refused or do no harm; a guest that ends otherwise, or one that is refused where nothing fails,
// is wrong.
[[nodiscard]] int try_faults();

} // namespace refhv::test
