// SPDX-License-Identifier: MIT
#include "conformance/test/core/core_fuzz.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static refhv::fuzz::CoreFuzzer fuzzer(refhv::Permissions{});
    fuzzer.input({data, size});
    return 0;
}
