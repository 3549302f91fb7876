// SPDX-License-Identifier: MIT
// The operations of the contract: one row each. Names, sizes, both dispatchers, the client's typed requests
// and the fuzzers' inputs follow from this list. Part of abi.hpp.
#pragma once

#include "refhv/contract/ops.hpp"
#include "refhv/contract/run.hpp"
#include "refhv/contract/vocabulary.hpp"

#include <type_traits>

namespace refhv::abi {

// What an operation works on. `vm`: its body begins with the slot of a VM that exists.
enum class Subject : u8 {
    machine,
    vm,
};

struct Nothing {};

// A string as a template argument.
template <usize size>
struct RowName {
    char text[size];
    consteval RowName(const char (&from)[size]) { // NOLINT(google-explicit-constructor): reads as a string
        for (usize i = 0; i < size; ++i) {
            text[i] = from[i];
        }
    }
};

// One operation. `Data`: what may stand behind the fixed body. `ReplyData`: what may stand behind the fixed
// reply; its handler writes the reply by itself.
template <Op number_, RowName name_, Subject subject_, class Body_, class Reply_ = Nothing,
          class Data_ = Nothing, class ReplyData_ = Nothing>
struct Operation {
    static constexpr Op number = number_;
    static constexpr const char* name = name_.text;
    static constexpr Subject subject = subject_;
    using Body = Body_;
    using Reply = Reply_;
    using Data = Data_;
    using ReplyData = ReplyData_;
    static constexpr bool has_data = !std::is_empty_v<Data>;
    static constexpr bool has_reply = !std::is_empty_v<Reply>;
    static constexpr bool has_reply_data = !std::is_empty_v<ReplyData>;

    static_assert(std::is_trivially_copyable_v<Body> && sizeof(Body) % 8 == 0);
    static_assert(std::is_trivially_copyable_v<Reply>);
    static_assert(
        [] {
            if constexpr (subject == Subject::vm) {
                return offsetof(Body, vm) == 0 && std::is_same_v<decltype(Body::vm), u32>;
            }
            return true;
        }(),
        "the slot comes first");
};

namespace detail {

template <class... Row>
struct OperationList {
    static constexpr usize count = sizeof...(Row);

    // f(Row{}) for each in turn.
    template <class F>
    static constexpr void each(F f) {
        (f(Row{}), ...);
    }
    // f(Row{}) for the one of this number; false: there is none.
    template <class F>
    static constexpr bool with(Op number, F f) {
        return ((number == Row::number ? (f(Row{}), true) : false) || ...);
    }

    // f(Row{}) for the one in this place.
    template <class F>
    static constexpr void at(usize place, F f) {
        usize i = 0;
        (void)((i++ == place ? (f(Row{}), true) : false) || ...);
    }

    template <Op number>
    static constexpr auto row_of() {
        return pick<number, Row...>();
    }
    static constexpr bool numbers_differ = [] {
        const Op numbers[] = {Row::number...};
        for (usize i = 0; i < count; ++i) {
            for (usize k = i + 1; k < count; ++k) {
                if (numbers[i] == numbers[k]) {
                    return false;
                }
            }
        }
        return true;
    }();

  private:
    template <Op number, class First, class... Rest>
    static constexpr auto pick() {
        if constexpr (First::number == number) {
            return First{};
        } else {
            static_assert(sizeof...(Rest) != 0, "the operation has no row");
            return pick<number, Rest...>();
        }
    }
};

} // namespace detail

// clang-format off
using Operations = detail::OperationList<
    //         number              name              works on          body           reply             data         data of the reply
    Operation<Op::hello,          "hello",          Subject::machine, Hello,         HelloReply,       Nothing,     CpuidLeaf>, // MsrValue[] and CpuInfo[] too
    Operation<Op::vm_create,      "vm_create",      Subject::machine, VmCreate,      VmCreateReply>,
    Operation<Op::vm_destroy,     "vm_destroy",     Subject::vm,      VmRef>,
    Operation<Op::mem_write,      "mem_write",      Subject::vm,      MemRange,      Nothing,          u8>,
    Operation<Op::mem_fill64,     "mem_fill64",     Subject::vm,      MemFill64>,
    Operation<Op::mem_read,       "mem_read",       Subject::vm,      MemRange,      Nothing,          Nothing,     u8>,
    Operation<Op::state_set,      "state_set",      Subject::vm,      StateSet>,
    Operation<Op::state_get,      "state_get",      Subject::vm,      VmRef,         GuestState>,
    Operation<Op::field_write,    "field_write",    Subject::vm,      Field,         FieldReply>,
    Operation<Op::field_read,     "field_read",     Subject::vm,      Field,         FieldReply>,
    Operation<Op::intercept,      "intercept",      Subject::vm,      InterceptSet,  InterceptReply>,
    Operation<Op::msr_intercept,  "msr_intercept",  Subject::vm,      MsrIntercept>,
    Operation<Op::io_intercept,   "io_intercept",   Subject::vm,      IoIntercept>,
    Operation<Op::policy,         "policy",         Subject::vm,      PolicySet,     Nothing,          PolicyEntry>,
    Operation<Op::nested_protect, "nested_protect", Subject::vm,      NestedProtect>,
    Operation<Op::run,            "run",            Subject::vm,      Run,           RunReply,         Nothing,     HostStamp>, // or Exit[]; PeerStamp[] too
    Operation<Op::snapshot,       "snapshot",       Subject::vm,      VmRef>,
    Operation<Op::restore,        "restore",        Subject::vm,      VmRef>,
    Operation<Op::shutdown,       "shutdown",       Subject::machine, Hello>,
    Operation<Op::nested_entry,   "nested_entry",   Subject::vm,      NestedEntry,   NestedEntryReply>,
    Operation<Op::invalidate,     "invalidate",     Subject::vm,      Invalidate,    InvalidateReply>,
    Operation<Op::entry_probes,   "entry_probes",   Subject::vm,      EntryProbes,   Nothing,          ProbeField,  ProbeResult>>;
// clang-format on
static_assert(Operations::numbers_differ);

// The row of one operation.
template <Op number>
using OperationOf = decltype(Operations::row_of<number>());

[[nodiscard]] constexpr const char* name_of(Op op) {
    const char* name = op == Op::crash ? "crash" : "unknown operation";
    (void)Operations::with(op, [&](auto row) { name = row.name; });
    return name;
}

// The least a request of this operation can be, its header left out; 0: there is no such operation.
[[nodiscard]] constexpr u64 body_size(Op op) {
    u64 size = 0;
    (void)Operations::with(op, [&]<class Row>(Row) { size = sizeof(typename Row::Body); });
    return size;
}

} // namespace refhv::abi
