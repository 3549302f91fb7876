// SPDX-License-Identifier: MIT
// The `self` target's request decoder: any payload is answered in good form, an answer to each operation up
// to the first that is cut. Runs are left out: their guest would be this process.
#include "conformance/test/fuzz/shaped_request.hpp"
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

// An address in or near the VM, unless the fuzzer insists.
u64 near(u64 address) {
    return (address >> 63) != 0 ? address : base - 0x800 + address % ((pages + 1) * page_size);
}

// Makes VMs small and puts them where nothing of this process lies, and ranges near them; takes runs out.
constexpr auto tame = []<class Row>(Row, auto& body, std::span<const u8>) {
    if constexpr (Row::number == abi::Op::vm_create) {
        body.mode = body.mode % 8 == 0 ? body.mode : static_cast<u8>(abi::Mode::user);
        body.pages %= pages;
        body.gpa_base = base + body.gpa_base % 16 * 0x800;
    } else if constexpr (requires { body.gpa; }) {
        body.gpa = near(body.gpa);
    }
    return Row::number != abi::Op::run;
};

// Cut anywhere, so that the last operation is torn.
std::vector<u8> request_of(std::span<const u8> in) {
    const u8 cut = fuzz::take_byte(in);
    const client::Batch batch = fuzz::shaped_request(in, tame);
    const auto payload = batch.payload();
    const auto whole = payload.first(payload.size() - std::min<usize>(payload.size(), cut < 32 ? cut : 0));
    return {whole.begin(), whole.end()};
}

// The whole operations of it.
usize count(std::span<const u8> request) {
    usize operations = 0;
    for (abi::OpHeader header; request.size() >= sizeof header; ++operations) {
        std::memcpy(&header, request.data(), sizeof header);
        if (header.size > request.size() - sizeof header) {
            break;
        }
        request = request.subspan(std::min<usize>(sizeof header + abi::align8(header.size), request.size()));
    }
    return operations;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
    static const TscRate rate = tsc_rate();
    const std::vector<u8> request = request_of({data, size});
    const usize operations = count(request);
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
