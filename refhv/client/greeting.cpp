// SPDX-License-Identifier: MIT
#include "refhv/client/greeting.hpp"

#include "refhv/client/batch.hpp"

namespace refhv::client {

HelloInfo read_greeting(std::span<const u8> payload) {
    const std::vector<Reply> replies = parse_replies(payload);
    if (replies.size() != 1 || replies[0].op != abi::Op::hello || replies[0].outcome != abi::Outcome::ok) {
        throw MalformedReply("it is no hello");
    }
    HelloInfo hello{.fixed = replies[0].as<abi::HelloReply>(), .cpuid = {}, .msrs = {}, .cpus = {}};
    const abi::HelloReply& fixed = hello.fixed;
    if (fixed.version != abi::version) {
        throw MalformedReply("it names version " + std::to_string(fixed.version) + " of the ABI, not " +
                             std::to_string(abi::version));
    }
    hello.cpuid = replies[0].tail<abi::CpuidLeaf>(sizeof fixed, fixed.cpuid_count);
    const usize msrs = sizeof fixed + hello.cpuid.size() * sizeof(abi::CpuidLeaf);
    hello.msrs = replies[0].tail<abi::MsrValue>(msrs, fixed.msr_count);
    hello.cpus =
        replies[0].tail<abi::CpuInfo>(msrs + hello.msrs.size() * sizeof(abi::MsrValue), fixed.cpu_info_count);
    hello.fixed.note[sizeof fixed.note - 1] = '\0';
    return hello;
}

} // namespace refhv::client
