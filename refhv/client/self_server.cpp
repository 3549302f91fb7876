// SPDX-License-Identifier: MIT
#include "refhv/client/self_server.hpp"

#include "refhv/client/self_hello.hpp"
#include "refhv/client/self_run.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

namespace refhv::client::self {
namespace {

using abi::Op;
using abi::Outcome;

template <class T>
std::optional<T> read(std::span<const u8> bytes) {
    static_assert(std::is_trivially_copyable_v<T>);
    if (bytes.size() < sizeof(T)) {
        return std::nullopt;
    }
    T value;
    std::memcpy(&value, bytes.data(), sizeof value);
    return value;
}

template <class T>
void append(std::vector<u8>& bytes, const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    const auto* raw = reinterpret_cast<const u8*>(&value);
    bytes.insert(bytes.end(), raw, raw + sizeof value);
}

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

constexpr const char* body_too_short = "the operation's body is shorter than its fixed part";
constexpr const char* outside = "the range is not inside the VM's memory";

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

Server::Answer Server::vm_create(std::span<const u8> body) {
    const auto wanted = read<abi::VmCreate>(body);
    if (!wanted) {
        return refuse(Outcome::bad_request, body_too_short);
    }
    if (wanted->vm >= abi::max_vms || vms_[wanted->vm]) {
        return refuse(Outcome::bad_request, "the VM slot does not exist or is taken");
    }
    if (wanted->mode != static_cast<u8>(abi::Mode::user)) {
        return refuse(Outcome::unsupported, "a process offers mode user only");
    }
    if (wanted->pages == 0 || wanted->gpa_base % page_size != 0) {
        return refuse(Outcome::bad_request, "no pages, or a base that is not on a page boundary");
    }
    u64 taken = 0;
    for (const std::optional<Vm>& vm : vms_) {
        taken += vm ? vm->memory.bytes() : 0;
    }
    if (wanted->pages > (arena_bytes() - taken) / page_size) {
        return refuse(Outcome::exhausted, "more pages than this target gives");
    }
    int error = 0;
    GuestMemory memory{wanted->gpa_base, wanted->pages * page_size, error};
    if (error == EEXIST) {
        return refuse(Outcome::exhausted, "something else of this process lies at that address");
    }
    if (error != 0) {
        return refuse(Outcome::exhausted,
                      std::string("the memory cannot be mapped: ") + std::strerror(error));
    }
    vms_[wanted->vm].emplace(Vm{.memory = std::move(memory)});
    Answer answer;
    append(answer.body, abi::VmCreateReply{.hpa_base = 0}); // not for a process to know
    return answer;
}

template <class Body, class Then>
Server::Answer Server::with_vm(std::span<const u8> body, Then then) {
    const auto fixed = read<Body>(body);
    if (!fixed) {
        return refuse(Outcome::bad_request, body_too_short);
    }
    if (fixed->vm >= vms_.size() || !vms_[fixed->vm]) {
        return refuse(Outcome::bad_request, "there is no such VM");
    }
    return then(*fixed, *vms_[fixed->vm], body.subspan(sizeof(Body)));
}

Server::Answer Server::vm_destroy(std::span<const u8> body) {
    return with_vm<abi::VmRef>(body, [this](const abi::VmRef& named, Vm&, auto) {
        vms_[named.vm].reset();
        return Answer{};
    });
}

Server::Answer Server::mem_write(std::span<const u8> body) {
    return with_vm<abi::MemRange>(body, [](const abi::MemRange& range, Vm& vm, std::span<const u8> data) {
        if (data.size() != range.size || !vm.memory.contains(range.gpa, range.size)) {
            return refuse(Outcome::bad_request,
                          data.size() != range.size ? "size and data disagree" : outside);
        }
        std::copy(data.begin(), data.end(), vm.memory.at(range.gpa, range.size).begin());
        return Answer{};
    });
}

Server::Answer Server::mem_fill64(std::span<const u8> body) {
    return with_vm<abi::MemFill64>(body, [](const abi::MemFill64& fill, Vm& vm, auto) {
        if (fill.count > abi::max_fill_count || !vm.memory.contains(fill.gpa, fill.count * 8)) {
            return refuse(Outcome::bad_request, outside);
        }
        const std::span<u8> bytes = vm.memory.at(fill.gpa, fill.count * 8);
        u64 value = fill.start; // `relocate` is of mode native only
        for (usize i = 0; i < bytes.size(); i += 8, value += fill.step) {
            std::memcpy(bytes.data() + i, &value, 8);
        }
        return Answer{};
    });
}

Server::Answer Server::mem_read(std::span<const u8> body) {
    return with_vm<abi::MemRange>(body, [](const abi::MemRange& range, Vm& vm, auto) {
        if (range.size > abi::max_frame_payload || !vm.memory.contains(range.gpa, range.size)) {
            return refuse(Outcome::bad_request, outside);
        }
        const std::span<const u8> bytes = vm.memory.at(range.gpa, range.size);
        return Answer{.body = {bytes.begin(), bytes.end()}};
    });
}

Server::Answer Server::state_set(std::span<const u8> body) {
    return with_vm<abi::StateSet>(body, [](const abi::StateSet& set, Vm& vm, auto) {
        vm.state = set.state;
        return Answer{};
    });
}

Server::Answer Server::state_get(std::span<const u8> body) {
    return with_vm<abi::VmRef>(body, [](const abi::VmRef&, Vm& vm, auto) {
        Answer answer;
        append(answer.body, vm.state);
        return answer;
    });
}

Server::Answer Server::policy(std::span<const u8> body) {
    return with_vm<abi::PolicySet>(body, [](const abi::PolicySet& set, Vm& vm, std::span<const u8> entries) {
        if (entries.size() != u64{set.count} * sizeof(abi::PolicyEntry)) {
            return refuse(Outcome::bad_request, "count and entries disagree");
        }
        std::array<abi::PolicyEntry, 64> policy{};
        for (; !entries.empty(); entries = entries.subspan(sizeof(abi::PolicyEntry))) {
            const abi::PolicyEntry entry = *read<abi::PolicyEntry>(entries);
            if (entry.reason >= static_cast<u16>(abi::Reason::count_) ||
                entry.action > static_cast<u8>(abi::Action::resume)) {
                return refuse(Outcome::bad_request, "an entry names no known reason or action");
            }
            switch (static_cast<abi::Action>(entry.action)) {
            case abi::Action::stop:
            case abi::Action::advance:
            case abi::Action::resume:
                policy[entry.reason] = entry;
                break;
            default:
                return refuse(Outcome::unsupported,
                              "a process offers the actions stop, advance and resume only");
            }
        }
        vm.policy = policy;
        return Answer{};
    });
}

Server::Answer Server::run(std::span<const u8> body) {
    return with_vm<abi::Run>(body, [this](const abi::Run& run, Vm& vm, auto) {
        constexpr u64 most_stamps = (abi::max_frame_payload / 2) / sizeof(abi::HostStamp);
        if (run.cpu != 0 || run.max_stamps > most_stamps) {
            return refuse(Outcome::bad_request, "a CPU other than 0, or more stamps than fit into a reply");
        }
        const RunResult result = run_guest(vm, run, tsc_.hz);
        Answer answer{.outcome = result.outcome};
        append(answer.body, result.reply);
        for (const abi::HostStamp& stamp : result.stamps) {
            append(answer.body, stamp);
        }
        return answer;
    });
}

} // namespace refhv::client::self
