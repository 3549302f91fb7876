// SPDX-License-Identifier: MIT
#include "refhv/core.hpp"

#include "refhv/reply_writer.hpp"
#include "refhv/run.hpp"
#include "refhv/x86/emulate.hpp"

#include <new>

namespace refhv {

namespace {

template <class Body>
[[nodiscard]] bool take(std::span<const u8> bytes, Body& body) {
    if (bytes.size() < sizeof body) {
        return false;
    }
    __builtin_memcpy(&body, bytes.data(), sizeof body);
    return true;
}

constexpr Status too_short{abi::Outcome::bad_request, "the operation's body is shorter than its form"};
constexpr Status no_vm{abi::Outcome::bad_request, "no VM in this slot"};
constexpr Status no_room{abi::Outcome::bad_request, "the reply would not fit into one frame"};
constexpr Status outside{abi::Outcome::bad_request, "the range is not inside guest memory"};

} // namespace

void Core::init(const PlatformInfo& info, u64 arena_physical, u64 arena_bytes) {
    info_ = info;
    arena_.init(arena_physical, arena_bytes);
    has_tsc_aux_ = x86::Features::detect().tsc_aux;
    const vmx::Probe intel = vmx::Cpu::probe();
    const svm::Probe amd = svm::Cpu::probe();
    using enum abi::BackendStatus;
    if (intel.status == usable || amd.status == usable) {
        vendor_ = intel.status == usable ? abi::Vendor::vmx : abi::Vendor::svm;
        status_ = usable;
    } else if (intel.status == absent && amd.status == absent) {
        status_ = absent;
        note_ = "neither VMX (CPUID.1:ECX[5]) nor SVM (CPUID.80000001H:ECX[2]): the CPU lacks it or it is hidden";
    } else {
        status_ = intel.status != absent ? intel.status : amd.status;
        note_ = intel.status != absent ? intel.note : amd.note;
    }
}

usize Core::hello(std::span<u8> out) {
    ReplyWriter reply(out);
    reply.begin(abi::Op::hello);
    reply.end(say_hello(reply));
    return reply.size();
}

usize Core::execute(std::span<const u8> request, std::span<u8> out) {
    ReplyWriter reply(out);
    bool failed = false;
    usize at = 0;
    while (at < request.size() && reply.has_room_for_refusal()) {
        abi::OpHeader header{};
        const bool whole = take(request.subspan(at), header) && header.size <= request.size() - at - sizeof header;
        const auto op = static_cast<abi::Op>(header.op);
        reply.begin(op);
        if (!whole) {
            reply.end(refuse(abi::Outcome::bad_request, "an operation is longer than the payload that holds it"));
            break;
        }
        if (failed) {
            reply.end({abi::Outcome::skipped, nullptr});
        } else {
            const Status status = dispatch(op, request.subspan(at + sizeof header, header.size), reply);
            failed = status.text != nullptr;
            reply.end(status);
        }
        const u64 next = at + abi::align8(sizeof header + header.size);
        at = next < request.size() ? next : request.size();
    }
    return reply.size();
}

Core::Vm* Core::find(u32 slot) {
    return slot < abi::max_vms && vms_[slot].kind != Kind::none ? &vms_[slot] : nullptr;
}

Status Core::dispatch(abi::Op op, std::span<const u8> body, ReplyWriter& reply) {
    // Every body but hello's and shutdown's begins with the VM's slot.
    if (op == abi::Op::shutdown) {
        shutdown_asked_ = true;
        return {};
    }
    if (op == abi::Op::hello) {
        abi::Hello hello{};
        if (!take(body, hello)) {
            return too_short;
        }
        return hello.version == abi::version
                   ? say_hello(reply)
                   : refuse(abi::Outcome::wrong_version, "this core speaks another version of the ABI");
    }
    if (op == abi::Op::vm_create) {
        abi::VmCreate what{};
        return take(body, what) ? create(what, reply) : too_short;
    }
    abi::VmRef ref{};
    if (!take(body, ref)) {
        return too_short;
    }
    Vm* const vm = find(ref.vm);
    if (vm == nullptr) {
        return no_vm;
    }
    const auto with = [&]<class Body>(Body what, auto act) { return take(body, what) ? act(what) : too_short; };
    switch (op) {
    case abi::Op::vm_destroy:
        return destroy(*vm);
    case abi::Op::mem_write:
    case abi::Op::mem_fill64:
    case abi::Op::mem_read:
        return memory(op, body, reply);
    case abi::Op::state_set:
        return with(abi::StateSet{}, [&](const abi::StateSet& what) {
            return visit(*vm, [&](auto& v) { return v.load(vm->memory, what.state); });
        });
    case abi::Op::state_get: {
        abi::GuestState state{};
        visit(*vm, [&](auto& v) { v.store(vm->memory, state); });
        return reply.put(state) ? Status{} : no_room;
    }
    case abi::Op::field_write:
    case abi::Op::field_read:
        return with(abi::Field{}, [&](const abi::Field& what) {
            abi::FieldReply answer{};
            const Status s = visit(*vm, [&](auto& v) { return v.field(what, op == abi::Op::field_write, answer); });
            return s.ok() && !reply.put(answer) ? no_room : s;
        });
    case abi::Op::intercept:
        return with(abi::InterceptSet{}, [&](const abi::InterceptSet& what) {
            abi::InterceptReply answer{};
            visit(*vm, [&](auto& v) { v.intercept(what, answer); });
            return reply.put(answer) ? Status{} : no_room;
        });
    case abi::Op::msr_intercept:
        return with(abi::MsrIntercept{}, [&](const abi::MsrIntercept& what) {
            if (what.write == 0 && !x86::is_guest_msr(what.msr)) {
                return refuse(abi::Outcome::unsupported, "the guest would write an MSR that is the host's");
            }
            return visit(*vm, [&](auto& v) { return v.intercept_msr(what); });
        });
    case abi::Op::io_intercept:
        return with(abi::IoIntercept{}, [&](const abi::IoIntercept& what) {
            if (u32{what.first} + u64{what.count} > 0x10000) {
                return refuse(abi::Outcome::bad_request, "there are 65536 ports");
            }
            if (what.on == 0 && !platform::permits_ports(what.first, what.count)) {
                return refuse(abi::Outcome::unsupported, "this platform keeps these ports to itself");
            }
            return visit(*vm, [&](auto& v) { return v.intercept_io(what); });
        });
    case abi::Op::policy:
        return set_policy(body);
    case abi::Op::nested_protect:
        return with(abi::NestedProtect{}, [&](const abi::NestedProtect& what) {
            const u64 leaf = x86::leaf_size(vm->memory.leaf_level());
            const bool sane = what.rights <= 7 && what.pages <= vm->memory.pages && what.gpa % leaf == 0 &&
                              what.pages * page_size % leaf == 0;
            if (!sane || !vm->memory.contains(what.gpa, what.pages * page_size)) {
                return refuse(abi::Outcome::bad_request, "rights, alignment to the nested page size, or range");
            }
            return visit(*vm, [&](auto& v) { return v.protect(arena_, vm->memory, what); });
        });
    case abi::Op::run:
        return with(abi::Run{}, [&](const abi::Run& what) { return run(what, reply); });
    case abi::Op::snapshot:
        return snapshot(*vm);
    case abi::Op::restore:
        return restore(*vm);
    default:
        return refuse(abi::Outcome::bad_request, "no such operation in this version");
    }
}

Status Core::create(const abi::VmCreate& what, ReplyWriter& reply) {
    if (what.vm >= abi::max_vms || vms_[what.vm].kind != Kind::none) {
        return refuse(abi::Outcome::bad_request, "this VM slot does not exist or is taken");
    }
    const auto mode = static_cast<abi::Mode>(what.mode);
    if (mode != abi::Mode::native && mode != abi::Mode::nested) {
        return refuse(abi::Outcome::unsupported, "modes of this core: native, nested");
    }
    if (mode == abi::Mode::nested && vendor_ == abi::Vendor::none) {
        return refuse(abi::Outcome::unsupported, note_);
    }
    if (what.nested_page_size > 2 || what.tag_policy > 1) {
        return refuse(abi::Outcome::bad_request, "nested_page_size is 0 to 2, tag_policy 0 or 1");
    }
    const u64 leaf_pages = u64{1} << (9 * what.nested_page_size);
    constexpr u64 gpa_limit = u64{1} << 39; // one entry of a top-level table, well inside every MAXPHYADDR
    if (what.pages == 0 || what.pages % leaf_pages != 0 || what.gpa_base % (leaf_pages * page_size) != 0 ||
        what.gpa_base >= gpa_limit || what.pages > (gpa_limit - what.gpa_base) / page_size) {
        return refuse(abi::Outcome::bad_request, "pages and gpa_base must be multiples of the nested page size");
    }
    Vm& vm = vms_[what.vm];
    vm = {};
    vm.memory = {.gpa_base = what.gpa_base,
                 .hpa_base = arena_.allocate(what.pages, leaf_pages),
                 .pages = what.pages,
                 .nested_page_size = static_cast<abi::PageSize>(what.nested_page_size),
                 .tag_policy = static_cast<abi::TagPolicy>(what.tag_policy),
                 .slot = what.vm};
    vm.vcpu_page = arena_.allocate();
    static_assert(sizeof(vmx::Vcpu) <= page_size && sizeof(svm::Vcpu) <= page_size &&
                  sizeof(native::Vcpu) <= page_size);
    if (vm.memory.hpa_base == 0 || vm.vcpu_page == 0) {
        if (vm.memory.hpa_base != 0) {
            arena_.release(vm.memory.hpa_base, what.pages);
        }
        return refuse(abi::Outcome::exhausted, "no contiguous memory of this size and alignment");
    }
    vm.vcpu = platform::to_virtual(vm.vcpu_page);
    if (mode == abi::Mode::native) {
        vm.kind = Kind::native;
        new (vm.vcpu) native::Vcpu;
    } else if (vendor_ == abi::Vendor::vmx) {
        vm.kind = Kind::vmx;
        new (vm.vcpu) vmx::Vcpu(vmx_);
    } else {
        vm.kind = Kind::svm;
        new (vm.vcpu) svm::Vcpu(svm_);
    }
    const Status status = visit(vm, [&](auto& v) { return v.create(arena_, vm.memory); });
    if (!status.ok()) {
        arena_.release(vm.memory.hpa_base, vm.memory.pages);
        arena_.release(vm.vcpu_page);
        vm = {};
        return status;
    }
    return reply.put(abi::VmCreateReply{vm.memory.hpa_base}) ? Status{} : no_room;
}

Status Core::destroy(Vm& vm) {
    visit(vm, [&](auto& v) { v.destroy(arena_); });
    if (vm.saved_memory != 0) {
        arena_.release(vm.saved_memory, vm.memory.pages);
        arena_.release(vm.saved_state);
    }
    arena_.release(vm.memory.hpa_base, vm.memory.pages);
    arena_.release(vm.vcpu_page);
    vm = {};
    return {};
}

Status Core::memory(abi::Op op, std::span<const u8> body, ReplyWriter& reply) {
    if (op == abi::Op::mem_fill64) {
        abi::MemFill64 what{};
        if (!take(body, what)) {
            return too_short;
        }
        const GuestMemory& m = vms_[what.vm].memory;
        if (what.count > abi::max_fill_count || what.gpa % 8 != 0 || !m.contains(what.gpa, what.count * 8)) {
            return outside;
        }
        const bool native = vms_[what.vm].kind == Kind::native;
        u64 value = what.start + (what.relocate != 0 && native ? m.hpa_base - m.gpa_base : 0);
        auto* at = reinterpret_cast<u64*>(m.at(what.gpa));
        for (u64 i = 0; i < what.count; ++i, value += what.step) {
            at[i] = value;
        }
        return {};
    }
    abi::MemRange what{};
    if (!take(body, what)) {
        return too_short;
    }
    const GuestMemory& m = vms_[what.vm].memory;
    if (!m.contains(what.gpa, what.size)) {
        return outside;
    }
    if (op == abi::Op::mem_read) {
        return reply.put_bytes({m.at(what.gpa), what.size}) ? Status{} : no_room;
    }
    const std::span<const u8> data = body.subspan(sizeof what);
    if (data.size() != what.size) {
        return refuse(abi::Outcome::bad_request, "mem_write: the data is not as long as `size` says");
    }
    __builtin_memcpy(m.at(what.gpa), data.data(), data.size());
    return {};
}

Status Core::set_policy(std::span<const u8> body) {
    abi::PolicySet what{};
    if (!take(body, what)) {
        return too_short;
    }
    Vm& vm = vms_[what.vm];
    const std::span<const u8> entries = body.subspan(sizeof what);
    if (what.count > static_cast<u32>(abi::Reason::count_) || entries.size() < what.count * sizeof(abi::PolicyEntry)) {
        return refuse(abi::Outcome::bad_request, "policy: more entries announced than there are reasons or bytes");
    }
    Policy policy{};
    for (u32 i = 0; i < what.count; ++i) {
        abi::PolicyEntry entry{};
        (void)take(entries.subspan(i * sizeof entry), entry);
        if (entry.reason >= static_cast<u16>(abi::Reason::count_) || entry.length > 15 ||
            entry.action > static_cast<u8>(abi::Action::resume)) {
            return refuse(abi::Outcome::bad_request, "policy: unknown reason or action, or a length above 15");
        }
        const auto reason = static_cast<abi::Reason>(entry.reason);
        const auto action = static_cast<abi::Action>(entry.action);
        if (action == abi::Action::emulate &&
            !visit(vm, [&]<class V>(V&) { return V::emulates(reason); })) {
            return refuse(abi::Outcome::unsupported, "policy: this backend cannot emulate for that reason");
        }
        policy.reactions[entry.reason] = {action, entry.length};
    }
    vm.policy = policy;
    return {};
}

Status Core::run(const abi::Run& what, ReplyWriter& reply) {
    Vm& vm = vms_[what.vm];
    if (what.cpu != 0) {
        return refuse(abi::Outcome::unsupported, "this version runs guests on CPU 0 only");
    }
    const u64 stamp_bytes = u64{what.max_stamps} * sizeof(abi::HostStamp);
    if (sizeof(abi::RunReply) + stamp_bytes > reply.room()) {
        return no_room;
    }
    // The stamps are written where the reply wants them; the scratch record in front is the tail of the RunReply,
    // which is written last.
    u8* const body = reply.cursor();
    auto* stamps = reinterpret_cast<abi::HostStamp*>(body + sizeof(abi::RunReply));
    abi::RunReply answer{};
    const Status status = visit(vm, [&](auto& v) {
        return run_guest(v, arena_, vm.memory, vm.policy, what, has_tsc_aux_, stamps, answer);
    });
    if (status.text != nullptr) {
        return status;
    }
    __builtin_memcpy(body, &answer, sizeof answer);
    reply.claim(sizeof answer + answer.stamp_count * sizeof(abi::HostStamp));
    return status;
}

Status Core::snapshot(Vm& vm) {
    static_assert(sizeof(abi::GuestState) <= page_size);
    if (vm.saved_memory == 0) {
        vm.saved_memory = arena_.allocate(vm.memory.pages);
        vm.saved_state = arena_.allocate();
        if (vm.saved_memory == 0 || vm.saved_state == 0) {
            return refuse(abi::Outcome::exhausted, "no memory for a snapshot");
        }
    }
    __builtin_memcpy(platform::to_virtual(vm.saved_memory), vm.memory.at(vm.memory.gpa_base), vm.memory.bytes());
    visit(vm, [&](auto& v) {
        v.store(vm.memory, *static_cast<abi::GuestState*>(platform::to_virtual(vm.saved_state)));
    });
    return {};
}

Status Core::restore(Vm& vm) {
    if (vm.saved_memory == 0) {
        return refuse(abi::Outcome::bad_request, "no snapshot of this VM");
    }
    __builtin_memcpy(vm.memory.at(vm.memory.gpa_base), platform::to_virtual(vm.saved_memory), vm.memory.bytes());
    return visit(vm, [&](auto& v) {
        return v.load(vm.memory, *static_cast<const abi::GuestState*>(platform::to_virtual(vm.saved_state)));
    });
}

} // namespace refhv
