// SPDX-License-Identifier: MIT
// The words of a result, the same in tests, records and reports.
#pragma once

#include <string>

namespace refhv::front {

enum class Verdict {
    pass,
    fail,    // the subject is wrong
    skip,    // not applicable on this machine; the detail says why
    error,   // the test is broken
    miss,    // the machine did not answer
    invalid, // benchmarks: a number was taken, but what it rests on does not hold
};

[[nodiscard]] constexpr const char* name_of(Verdict v) {
    switch (v) {
    case Verdict::pass:
        return "PASS";
    case Verdict::fail:
        return "FAIL";
    case Verdict::skip:
        return "SKIP";
    case Verdict::error:
        return "ERROR";
    case Verdict::miss:
        return "MISS";
    case Verdict::invalid:
        return "INVALID";
    }
    return "ERROR";
}

struct ClaimResult {
    std::string name; // GoogleTest's full name
    Verdict verdict = Verdict::error;
    std::string section;
    std::string detail; // one line; empty for PASS
};

} // namespace refhv::front
