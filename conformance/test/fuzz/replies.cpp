// SPDX-License-Identifier: MIT
// parse_replies on any payload: refuses it, or gives replies that lie inside it, in order, and that write
// back to it.
#include "refhv/client/batch.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace {

using namespace refhv;
using namespace refhv::client;

void require(bool holds) {
    if (!holds) {
        std::abort();
    }
}

// Reads what a client would, which may be refused but not go outside.
void read_bodies(const Reply& reply) {
    require(reply.text().size() <= sizeof(abi::Text));
    require(std::strlen(name_of(reply.outcome)) != 0);
    try {
        const auto hello = reply.as<abi::HelloReply>();
        const auto leaves = reply.tail<abi::CpuidLeaf>(sizeof hello, hello.cpuid_count);
        require(leaves.size() == hello.cpuid_count);
        const usize msrs = sizeof hello + leaves.size() * sizeof(abi::CpuidLeaf);
        (void)reply.tail<abi::MsrValue>(msrs, hello.msr_count);
        (void)reply.tail<abi::CpuInfo>(msrs + hello.msr_count * sizeof(abi::MsrValue), hello.cpu_info_count);
    } catch (const MalformedReply&) {
    }
    try {
        const auto run = reply.as<abi::RunReply>();
        (void)reply.tail<abi::HostStamp>(sizeof run, run.stamp_count);
        (void)reply.tail<abi::PeerStamp>(sizeof run + run.stamp_count * sizeof(abi::HostStamp),
                                         run.peer_stamp_count);
    } catch (const MalformedReply&) {
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
    const std::vector<u8> payload(data, data + size);
    std::vector<Reply> replies;
    try {
        replies = parse_replies(payload);
    } catch (const MalformedReply&) {
        return 0;
    }
    const u8* at = payload.data();
    const u8* const end = at + payload.size();
    for (const Reply& reply : replies) {
        abi::ReplyHeader header;
        require(static_cast<usize>(end - at) >= sizeof header);
        std::memcpy(&header, at, sizeof header);
        require(header.op == static_cast<u16>(reply.op) && header.outcome == static_cast<u16>(reply.outcome));
        require(header.size == reply.body.size());
        require(reply.body.empty() || reply.body.data() == at + sizeof header);
        at += std::min<usize>(sizeof header + abi::align8(header.size), static_cast<usize>(end - at));
        read_bodies(reply);
    }
    require(at == end);
    return 0;
}
