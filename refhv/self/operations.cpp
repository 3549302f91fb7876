// SPDX-License-Identifier: MIT
// The operations on VMs that a process can carry out.
#include "refhv/self/bytes.hpp"
#include "refhv/self/run.hpp"
#include "refhv/self/server.hpp"

#include <algorithm>
#include <cerrno>
#include <string>

namespace refhv::client::self {
namespace {

using abi::Outcome;

constexpr const char* outside = "the range is not inside the VM's memory";

} // namespace

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
                entry.action > static_cast<u8>(abi::Action::deliver)) {
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
        if (run.peer.act != 0 || run.extras != 0) {
            return refuse(Outcome::unsupported, "a process has no peer, and no exits to do more at");
        }
        if ((run.flags & abi::run_log_exits) != 0) {
            return refuse(Outcome::unsupported, "a process keeps no log of exits");
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
