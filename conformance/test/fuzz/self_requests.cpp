// SPDX-License-Identifier: MIT
// The `self` target's request decoder: any payload is answered in good form, an answer to each operation up
// to the first that is cut. Runs are left out: their guest would be this process.
#include "refhv/client/batch.hpp"
#include "refhv/self/server.hpp"

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

constexpr u64 base = 0x4000'0000;
constexpr u64 pages = 4;

// A VM in slot 0, so that every input meets one.
std::vector<u8> creation() {
    Batch batch;
    batch.add(abi::Op::vm_create, abi::VmCreate{.vm = 0,
                                                .mode = static_cast<u8>(abi::Mode::user),
                                                .nested_page_size = 0,
                                                .tag_policy = 0,
                                                .zero = 0,
                                                .pages = pages,
                                                .gpa_base = base});
    return {batch.payload().begin(), batch.payload().end()};
}

template <class Body, class Change>
void change(std::span<u8> bytes, Change apply) {
    if (bytes.size() >= sizeof(Body)) {
        Body body;
        std::memcpy(&body, bytes.data(), sizeof body);
        apply(body);
        std::memcpy(bytes.data(), &body, sizeof body);
    }
}

// An address in or near the VM, unless the fuzzer insists.
u64 near(u64 address) {
    return (address >> 63) != 0 ? address : base - 0x800 + address % ((pages + 1) * page_size);
}

// Makes VMs small and puts them where nothing of this process lies, and ranges near them; takes runs out.
// Counts the whole operations.
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
        const std::span<u8> body{request.data() + at + sizeof header, header.size};
        switch (static_cast<abi::Op>(header.op)) {
        case abi::Op::vm_create:
            change<abi::VmCreate>(body, [](abi::VmCreate& create) {
                create.mode = create.mode % 8 == 0 ? create.mode : static_cast<u8>(abi::Mode::user);
                create.pages %= pages;
                create.gpa_base = base + create.gpa_base % 16 * 0x800;
            });
            break;
        case abi::Op::mem_write:
        case abi::Op::mem_read:
            change<abi::MemRange>(body, [](abi::MemRange& range) { range.gpa = near(range.gpa); });
            break;
        case abi::Op::mem_fill64:
            change<abi::MemFill64>(body, [](abi::MemFill64& fill) { fill.gpa = near(fill.gpa); });
            break;
        default:
            break;
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
    static const std::vector<u8> create = creation();
    require(parse_replies(server.answer(create)).at(0).outcome == abi::Outcome::ok);
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
