// SPDX-License-Identifier: MIT
// The `self` target's request decoder: any payload is answered in good form, an answer to each operation up
// to the first that is cut. Runs are left out: their guest would be this process.
#include "refhv/client/batch.hpp"
#include "refhv/client/self_server.hpp"

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

// Makes VMs small and puts them where nothing of this process lies; takes runs out. Counts the whole
// operations.
usize tame(std::vector<u8>& request) {
    usize operations = 0;
    for (usize at = 0; request.size() - at >= sizeof(abi::OpHeader); ++operations) {
        abi::OpHeader header;
        std::memcpy(&header, request.data() + at, sizeof header);
        header.op %= 24;
        header.op = header.op == static_cast<u16>(abi::Op::run) ? u16{0} : header.op;
        std::memcpy(request.data() + at, &header, sizeof header);
        const usize room = request.size() - at - sizeof header;
        if (header.size > room) {
            break;
        }
        if (header.op == static_cast<u16>(abi::Op::vm_create) && header.size >= sizeof(abi::VmCreate)) {
            abi::VmCreate create;
            std::memcpy(&create, request.data() + at + sizeof header, sizeof create);
            create.mode = create.mode % 8 == 0 ? create.mode : static_cast<u8>(abi::Mode::user);
            create.pages = create.pages % 4;
            create.gpa_base = 0x4000'0000 + create.gpa_base % 8 * 0x800;
            std::memcpy(request.data() + at + sizeof header, &create, sizeof create);
        }
        at += std::min<usize>(sizeof header + abi::align8(header.size), request.size() - at);
    }
    return operations;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
    static const TscRate rate = tsc_rate();
    std::vector<u8> request(data, data + std::min<std::size_t>(size, abi::max_frame_payload));
    const usize operations = tame(request);
    self::Server server{1, rate};
    const std::vector<u8> answer = server.answer(request);
    require(answer.size() <= abi::max_frame_payload);
    const std::vector<Reply> replies = parse_replies(answer);
    require(replies.size() >= operations);
    bool failed = false;
    for (const Reply& reply : replies) {
        require(!failed || reply.outcome == abi::Outcome::skipped || &reply == &replies.back());
        failed = failed || reply.outcome != abi::Outcome::ok;
    }
    return 0;
}
