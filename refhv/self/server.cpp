// SPDX-License-Identifier: MIT
#include "refhv/self/server.hpp"

#include "refhv/self/bytes.hpp"
#include "refhv/self/hello.hpp"

#include <algorithm>
#include <string>

namespace refhv::client::self {
namespace {

using abi::Outcome;

void append_reply(std::vector<u8>& payload, u16 op, Outcome outcome, std::span<const u8> body) {
    append(payload, abi::ReplyHeader{.op = op,
                                     .outcome = static_cast<u16>(outcome),
                                     .size = static_cast<u32>(body.size())});
    payload.insert(payload.end(), body.begin(), body.end());
    payload.resize(abi::align8(payload.size()));
}

// A run that ended is no error, whatever ended it.
bool batch_goes_on(Outcome outcome) {
    switch (outcome) {
    case Outcome::ok:
    case Outcome::exited:
    case Outcome::entry_refused:
    case Outcome::repeats_done:
    case Outcome::deadline:
        return true;
    default:
        return false;
    }
}

} // namespace

Server::Answer Server::refuse(Outcome outcome, std::string_view why) {
    abi::Text text{};
    std::ranges::copy(why.substr(0, sizeof text.text - 1), text.text);
    Answer answer{.outcome = outcome};
    append(answer.body, text);
    return answer;
}

std::vector<u8> Server::greeting() const {
    std::vector<u8> payload;
    append_reply(payload, static_cast<u16>(Op::hello), Outcome::ok, hello_body(cpus_, tsc_, mode_));
    return payload;
}

std::vector<u8> Server::refuse_version(u16 version) const {
    std::vector<u8> payload;
    append_reply(payload, static_cast<u16>(Op::hello), Outcome::wrong_version,
                 refuse(Outcome::wrong_version, "version " + std::to_string(version) + " asked, version " +
                                                    std::to_string(abi::version) + " spoken")
                     .body);
    return payload;
}

std::vector<u8> Server::answer(std::span<const u8> request) {
    std::vector<u8> payload;
    bool skip = false;
    while (!request.empty()) {
        const auto header = read<abi::OpHeader>(request);
        Answer result;
        if (!header || header->size > request.size() - sizeof *header) {
            result = refuse(Outcome::bad_request, "the request ends inside an operation");
            request = {};
        } else {
            const std::span<const u8> body = request.subspan(sizeof *header, header->size);
            request = request.subspan(std::min(request.size(), abi::align8(sizeof *header + header->size)));
            result = skip ? Answer{.outcome = Outcome::skipped} : execute(static_cast<Op>(header->op), body);
        }
        // Room for this reply and, behind it, for the refusal of one that does not fit.
        if (payload.size() + sizeof(abi::ReplyHeader) + result.body.size() >
            abi::max_frame_payload - sizeof(abi::ReplyHeader) - sizeof(abi::Text)) {
            result = refuse(Outcome::bad_request, "the batch's replies do not fit into one frame");
            request = {};
        }
        append_reply(payload, header ? header->op : u16{0}, result.outcome, result.body);
        skip = skip || !batch_goes_on(result.outcome);
    }
    return payload;
}

} // namespace refhv::client::self
