// SPDX-License-Identifier: MIT
// libFuzzer: any bytes at all as a request payload. The core must answer in good form and touch nothing that
// it was not given (fake_platform.cpp aborts, the sanitizers watch the rest).
#include "conformance/test/core/fake_hardware.hpp"
#include "refhv/client/batch.hpp"

#include <cstdlib>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace refhv;
    static std::vector<u8> out(abi::max_frame_payload);
    const auto core = fake::make_core(2);
    // Something to work on, so that not every input must first find out how to make a VM.
    client::Batch setup;
    setup.add(abi::Op::vm_create, abi::VmCreate{.vm = 0,
                                                .mode = 2,
                                                .nested_page_size = 0,
                                                .tag_policy = 0,
                                                .zero = 0,
                                                .pages = 4,
                                                .gpa_base = 0x4000'0000});
    if (core->execute(setup.payload(), out) == 0) {
        std::abort();
    }
    const usize n = core->execute({data, size}, out);
    if (n > out.size()) {
        std::abort();
    }
    (void)client::parse_replies({out.data(), n}); // throws on bad form, which ends the fuzzer
    return 0;
}
