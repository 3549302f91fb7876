// SPDX-License-Identifier: MIT
// The operations that a process can carry out.
#include "refhv/self/bytes.hpp"
#include "refhv/self/hello.hpp"
#include "refhv/self/kvm/run.hpp"
#include "refhv/self/run.hpp"
#include "refhv/self/server.hpp"

#include <algorithm>
#include <cerrno>
#include <string>

namespace refhv::client::self {
namespace {

using abi::Outcome;

constexpr const char* outside = "the range is not inside the VM's memory";

// What a guest of KVM may be asked to exit for: what it exits for, and comes to us, anyway.
constexpr u64 always_exits = u64{1} << static_cast<u8>(abi::Intercept::hlt);

} // namespace

template <class Operation>
Server::Answer Server::call(Operation row, std::span<const u8> request) {
    using Body = typename Operation::Body;
    constexpr bool answered = requires(const Body& body) {
        on(row, body);
    }
    || requires(Vm & vm, const Body& body) {
        on(row, vm, body);
    }
    || requires(Vm & vm, const Body& body) {
        on(row, vm, body, request);
    };
    if constexpr (!answered) {
        return refuse(Outcome::unsupported,
                      std::string(mode_ == abi::Mode::kvm ? "target kvm" : "an ordinary process") +
                          " does not offer " + row.name);
    } else {
        const auto body = read<Body>(request);
        if (!body) {
            return refuse(Outcome::bad_request, "the operation's body is shorter than its fixed part");
        }
        if constexpr (Operation::subject == abi::Subject::machine) {
            return on(row, *body);
        } else if (body->vm >= vms_.size() || !vms_[body->vm]) {
            return refuse(Outcome::bad_request, "there is no such VM");
        } else if constexpr (Operation::has_data) {
            return on(row, *vms_[body->vm], *body, request.subspan(sizeof(Body)));
        } else {
            return on(row, *vms_[body->vm], *body);
        }
    }
}

Server::Answer Server::execute(Op op, std::span<const u8> request) {
    Answer answer = refuse(Outcome::bad_request, "there is no such operation");
    static_cast<void>(abi::Operations::with(op, [&](auto row) { answer = call(row, request); }));
    return answer;
}

Server::Answer Server::on(Row<Op::hello>, const abi::Hello& asked) {
    if (asked.version != abi::version) {
        return refuse(Outcome::wrong_version, "version " + std::to_string(asked.version) +
                                                  " asked, version " + std::to_string(abi::version) +
                                                  " spoken");
    }
    return {.body = hello_body(cpus_, tsc_, mode_)};
}

Server::Answer Server::on(Row<Op::shutdown>, const abi::Hello&) {
    shutdown_asked_ = true;
    return {};
}

Server::Answer Server::on(Row<Op::vm_create>, const abi::VmCreate& wanted) {
    if (wanted.vm >= abi::max_vms || vms_[wanted.vm]) {
        return refuse(Outcome::bad_request, "the VM slot does not exist or is taken");
    }
    if (wanted.mode != static_cast<u8>(mode_)) {
        return refuse(Outcome::unsupported, mode_ == abi::Mode::kvm ? "target kvm offers mode kvm only"
                                                                    : "a process offers mode user only");
    }
    if (wanted.pages == 0 || wanted.gpa_base % page_size != 0) {
        return refuse(Outcome::bad_request, "no pages, or a base that is not on a page boundary");
    }
    u64 taken = 0;
    for (const std::optional<Vm>& vm : vms_) {
        taken += vm ? vm->memory.bytes() : 0;
    }
    if (wanted.pages > (arena_bytes() - taken) / page_size) {
        return refuse(Outcome::exhausted, "more pages than this target gives");
    }
    int error = 0;
    GuestMemory memory{wanted.gpa_base, wanted.pages * page_size, error};
    if (error == EEXIST) {
        return refuse(Outcome::exhausted, "something else of this process lies at that address");
    }
    if (error != 0) {
        return refuse(Outcome::exhausted,
                      std::string("the memory cannot be mapped: ") + std::strerror(error));
    }
    std::unique_ptr<kvm::Vcpu> vcpu;
    if (mode_ == abi::Mode::kvm) {
        try {
            vcpu = std::make_unique<kvm::Vcpu>(wanted.gpa_base, memory.at(wanted.gpa_base, memory.bytes()));
        } catch (const kvm::Unusable& unusable) {
            return refuse(Outcome::exhausted, unusable.what());
        }
    }
    vms_[wanted.vm].emplace(Vm{.memory = std::move(memory), .vcpu = std::move(vcpu)});
    Answer answer;
    append(answer.body, abi::VmCreateReply{.hpa_base = 0}); // not for a process to know
    return answer;
}

Server::Answer Server::on(Row<Op::vm_destroy>, Vm&, const abi::VmRef& named) {
    vms_[named.vm].reset();
    return Answer{};
}

Server::Answer Server::on(Row<Op::mem_write>, Vm& vm, const abi::MemRange& range, std::span<const u8> data) {
    if (data.size() != range.size || !vm.memory.contains(range.gpa, range.size)) {
        return refuse(Outcome::bad_request, data.size() != range.size ? "size and data disagree" : outside);
    }
    std::copy(data.begin(), data.end(), vm.memory.at(range.gpa, range.size).begin());
    return Answer{};
}

Server::Answer Server::on(Row<Op::mem_fill64>, Vm& vm, const abi::MemFill64& fill) {
    if (fill.count > abi::max_fill_count || !vm.memory.contains(fill.gpa, fill.count * 8)) {
        return refuse(Outcome::bad_request, outside);
    }
    const std::span<u8> bytes = vm.memory.at(fill.gpa, fill.count * 8);
    u64 value = fill.start; // `relocate` is of mode native only
    for (usize i = 0; i < bytes.size(); i += 8, value += fill.step) {
        std::memcpy(bytes.data() + i, &value, 8);
    }
    return Answer{};
}

Server::Answer Server::on(Row<Op::mem_read>, Vm& vm, const abi::MemRange& range) {
    if (range.size > abi::max_frame_payload || !vm.memory.contains(range.gpa, range.size)) {
        return refuse(Outcome::bad_request, outside);
    }
    const std::span<const u8> bytes = vm.memory.at(range.gpa, range.size);
    return Answer{.body = {bytes.begin(), bytes.end()}};
}

Server::Answer Server::on(Row<Op::state_set>, Vm& vm, const abi::StateSet& set) {
    vm.state = set.state;
    return Answer{};
}

Server::Answer Server::on(Row<Op::state_get>, Vm& vm, const abi::VmRef&) {
    Answer answer;
    append(answer.body, vm.state);
    return answer;
}

Server::Answer Server::on(Row<Op::policy>, Vm& vm, const abi::PolicySet& set, std::span<const u8> entries) {
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
            return refuse(Outcome::unsupported, "a process offers the actions stop, advance and resume only");
        }
    }
    vm.policy = policy;
    return Answer{};
}

Server::Answer Server::on(Row<Op::intercept>, Vm& vm, const abi::InterceptSet& set) {
    if (!vm.vcpu || set.exceptions != 0) {
        return refuse(Outcome::unsupported, vm.vcpu ? "KVM hands no exceptions of its guests to us"
                                                    : "an ordinary process does not offer intercept");
    }
    Answer answer;
    append(answer.body, abi::InterceptReply{.unsupported = set.set & ~always_exits, .forced = 0});
    return answer;
}

Server::Answer Server::on(Row<Op::io_intercept>, Vm& vm, const abi::IoIntercept& ports) {
    if (!vm.vcpu || ports.on == 0) {
        return refuse(Outcome::unsupported, vm.vcpu ? "every access to a port of a guest of KVM exits"
                                                    : "an ordinary process does not offer io_intercept");
    }
    return Answer{};
}

Server::Answer Server::on(Row<Op::run>, Vm& vm, const abi::Run& run) {
    constexpr u64 most_stamps = (abi::max_frame_payload / 2) / sizeof(abi::HostStamp);
    if (run.cpu != 0 || run.max_stamps > most_stamps) {
        return refuse(Outcome::bad_request, "a CPU other than 0, or more stamps than fit into a reply");
    }
    if (run.peer.act != 0 || run.extras != 0 || run.event != 0) {
        return refuse(Outcome::unsupported,
                      "a process has no peer, takes no event, and has no exits to do more at");
    }
    if ((run.flags & abi::run_log_exits) != 0) {
        return refuse(Outcome::unsupported, "a process keeps no log of exits");
    }
    if (vm.vcpu && (run.flags & abi::run_host_stamps) != 0 && !vm.vcpu->tsc_is_the_hosts()) {
        return refuse(Outcome::unsupported,
                      "this KVM gives its guests a TSC of their own (Linux before 5.16)");
    }
    RunResult result;
    try {
        result = vm.vcpu ? kvm::run_guest(vm, run, tsc_.hz) : run_guest(vm, run, tsc_.hz);
    } catch (const kvm::Unusable& unusable) {
        return refuse(Outcome::unsupported, unusable.what());
    }
    Answer answer{.outcome = result.outcome};
    append(answer.body, result.reply);
    for (const abi::HostStamp& stamp : result.stamps) {
        append(answer.body, stamp);
    }
    return answer;
}

} // namespace refhv::client::self
