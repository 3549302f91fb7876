// SPDX-License-Identifier: MIT
#include "refhv/self/server.hpp"

#include "refhv/self/bytes.hpp"
#include "refhv/self/hello.hpp"

#include <algorithm>
#include <string>

namespace refhv::client::self {
namespace {

using abi::Op;
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
    std::copy_n(why.data(), std::min(why.size(), sizeof text.text - 1), text.text);
    Answer answer{.outcome = outcome};
    append(answer.body, text);
    return answer;
}

std::vector<u8> Server::greeting() const {
    std::vector<u8> payload;
    append_reply(payload, static_cast<u16>(Op::hello), Outcome::ok, hello_body(cpus_, tsc_));
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

Server::Answer Server::execute(Op op, std::span<const u8> body) {
    switch (op) {
    case Op::hello:
        return hello(body);
    case Op::vm_create:
        return vm_create(body);
    case Op::vm_destroy:
        return vm_destroy(body);
    case Op::mem_write:
        return mem_write(body);
    case Op::mem_fill64:
        return mem_fill64(body);
    case Op::mem_read:
        return mem_read(body);
    case Op::state_set:
        return state_set(body);
    case Op::state_get:
        return state_get(body);
    case Op::policy:
        return policy(body);
    case Op::run:
        return run(body);
    case Op::field_write:
    case Op::field_read:
    case Op::intercept:
    case Op::msr_intercept:
    case Op::io_intercept:
    case Op::nested_protect:
    case Op::nested_entry:
    case Op::invalidate:
        return refuse(Outcome::unsupported, "a process has no virtualization controls");
    case Op::snapshot:
    case Op::restore:
        return refuse(Outcome::unsupported, "this target keeps no snapshots");
    case Op::shutdown:
        shutdown_asked_ = true;
        return {};
    case Op::crash:
        break;
    }
    return refuse(Outcome::bad_request, "there is no such operation");
}

Server::Answer Server::hello(std::span<const u8> body) const {
    const auto asked = read<abi::Hello>(body);
    if (!asked) {
        return refuse(Outcome::bad_request, body_too_short);
    }
    if (asked->version != abi::version) {
        return refuse(Outcome::wrong_version, "version " + std::to_string(asked->version) +
                                                  " asked, version " + std::to_string(abi::version) +
                                                  " spoken");
    }
    return {.body = hello_body(cpus_, tsc_)};
}

} // namespace refhv::client::self
