// SPDX-License-Identifier: MIT
// Builds guests and runs them: one payload, one round trip.
#pragma once

#include "refhv/client/batch.hpp"
#include "refhv/client/guest/stubs.hpp"
#include "refhv/client/target.hpp"

#include <optional>

namespace refhv::client {

// What a guest is before it runs.
struct Plan {
    abi::Mode mode = abi::Mode::nested;
    abi::PageSize nested_page_size = abi::PageSize::k4; // memory is rounded up to it
    abi::TagPolicy tag_policy = abi::TagPolicy::tagged;
    u64 sample_pages = 64; // at layout::samples; with pages behind them always layout::sample_pages
    u64 arena_pages = 0;   // pages at layout::arena, mapped one to one
    u64 more_pages = 0;    // behind them, in no page table of the guest
    bool osxsave = false;  // CR4.OSXSAVE
    Stop stop = Stop::hlt;
    u64 intercepts = 0; // bit per abi::Intercept; the builder adds hlt where `stop` needs it
    u32 exceptions = 0; // bit per vector
    std::vector<abi::MsrIntercept> msrs{}; // `vm` is filled in
    std::vector<abi::IoIntercept> ports{}; // likewise
    std::vector<abi::PolicyEntry> policy{};
};

// Everything that a run left behind. `outcome` and `text` are those of the run itself.
struct RunResult {
    abi::Outcome outcome{};
    std::string text; // of an outcome that is an error
    abi::RunReply reply{};
    std::vector<abi::HostStamp> stamps;
    std::vector<abi::Exit> exits; // of Options::exits
    std::vector<abi::PeerStamp> peer;
    std::vector<Sample> samples;
    ExceptionRecord exceptions{};
    abi::InterceptReply intercepts{};

    [[nodiscard]] u64 count(abi::Reason reason) const { return reply.counts[static_cast<usize>(reason)]; }
};

// An operation of the set-up was refused: `unsupported` and `exhausted` are the machine's, the rest are
// errors of the caller or of the core.
struct Refused : std::runtime_error {
    Refused(abi::Op op, abi::Outcome outcome, std::string text);
    abi::Outcome outcome;
    std::string text; // the core's own words
};

// Bit of InterceptSet::set.
template <class... I>
[[nodiscard]] constexpr u64 on(I... which) {
    return (u64{0} | ... | (u64{1} << static_cast<u8>(which)));
}

// State in which a guest of `plan` starts: long mode, ring 0, interrupts off, rip at layout::code. Source of
// the reset values: SDM 3A 10.1.1 (DR6, DR7), 12.12.4 (PAT).
[[nodiscard]] abi::GuestState initial_state(const Plan& plan);

// A target and what stands in one of its VM slots.
struct GuestHost {
    Target& target;
    std::optional<unsigned> occupied; // Target::generation() at which the VM there was made
    u32 slot = 0;
};

// A guest on a target, in the host's VM slot. Operations pile up and go out with run(). After a TargetMiss
// the object is of no further use; make a new one.
class Guest {
  public:
    // Queues: destroy what was in the slot, create, page tables, GDT, IDT, stubs, intercepts, policy.
    Guest(GuestHost& host, const Plan& plan);

    abi::GuestState state; // what the next run starts with; run() does not change it

    // Queues the code for the next run, `copies` times in a row, then `tail`, then a jump to the stop stub.
    // Throws std::length_error if it does not fit.
    void load(GuestCode code, u32 copies = 1, GuestCode tail = {});
    void write(u64 gpa, std::span<const u8> bytes);
    // memory64[gpa + 8 i] = start + i step for i below count. `relocate`: values are guest-physical addresses
    // with flags, and mode native makes them physical ones.
    void fill(u64 gpa, u64 start, u64 step, u64 count, bool relocate);
    void protect(u64 gpa, u64 pages, u32 rights);
    // An interrupt gate of ring 0 to that address.
    void gate(u32 vector, u64 handler);
    // Raw VMCS field or VMCB bytes, queued behind the guest's state, so that the core does not overwrite
    // them.
    void field(u32 field, u32 width, u64 value);
    // Sends what is queued now; what the core said to the intercepts that the plan asked for. `with_state`:
    // as a run would begin, for one that another guest's run begins.
    abi::InterceptReply settle(bool with_state = false);
    // Destroys the VM. The object is of no further use.
    void drop();
    // Reads one now; sends what is queued. set_state = false: as the last run left it.
    [[nodiscard]] u64 read_field(u32 field, u32 width, bool set_state = true);
    struct FieldOf {
        u32 field, width;
    };
    // Many in one round trip, as the last run left them.
    [[nodiscard]] std::vector<u64> read_fields(std::span<const FieldOf> fields);

    // Those of `state`, in one round trip; 0 for fields that the CPU does not have.
    [[nodiscard]] std::vector<u64> fields_of_state(std::span<const u32> fields, u32 width);
    // Sends what is queued, then probes: entries from `state`, each with some raw fields changed. As many as
    // fit into a frame, in either direction.
    [[nodiscard]] std::vector<abi::ProbeResult> probe(std::span<const abi::ProbeField> fields,
                                                      u64 deadline = 0);

    // Nested tables (guest_nested.cpp). Writes raw entries with the next batch; abi::NestedEntry says what
    // becomes of `value`. Invalidates nothing.
    void nested_entry(u64 gpa, unsigned level, u64 value, u32 flags = 0, u32 count = 1, u64 step = 0);
    // Sends what is queued and reads the entry of `level`, or the one above where the walk ends.
    [[nodiscard]] abi::NestedEntryReply nested_entry_at(u64 gpa, unsigned level = 1);
    // Sends what is queued, then drops translations. Throws Refused where the CPU has no such thing.
    abi::InvalidateReply invalidate(abi::Invalidation kind, u64 address = 0, u32 repeats = 1,
                                    std::optional<u64> tag = {});
    // Sends what is queued and reads guest memory.
    [[nodiscard]] std::vector<u64> read64(u64 gpa, u64 count);
    // Host-physical address; sends what is queued if the VM has not been made yet.
    [[nodiscard]] u64 host_physical(u64 gpa);

    struct Options {
        u64 rounds = 0;         // Parameters::count
        u64 samples = 0;        // how many there will be to read back
        bool ends_only = false; // read back only the first and the last of them
        u64 repeats = 0;        // abi::Run::repeats
        u32 stamps = 0;         // host stamps to make room for; 0: none taken
        u32 exits = 0;          // handled exits to log, and the one that ends the run; 0: no log
        u32 preemption_timer = 0;
        u32 cpu = 0;             // abi::Run::cpu
        u32 extra_count = 0;     // abi::Run::extra_count
        u64 extras = 0;          // abi::Run::extras
        abi::Peer peer{};        // abi::Run::peer; all of its acts are stamped
        u64 handler_advance = 0; // Parameters::advance
        u64 deadline = 0;        // TSC ticks; 0: about a second or a few
        bool set_state = true;   // false: go on where the last run stopped
    };
    // Sends everything queued, runs, reads back. Throws TargetMiss, Refused, MalformedReply.
    RunResult run(const Options& options);

    std::chrono::milliseconds patience{20'000};

  private:
    struct Queued {
        Batch batch;
        std::vector<abi::Op> ops;
    };
    // Queues; where in the queue.
    template <abi::Op op, class... Data>
    usize add(const typename abi::OperationOf<op>::Body& body, const Data&... data) {
        queued_.batch.add<op>(body, data...);
        queued_.ops.push_back(op);
        return queued_.ops.size() - 1;
    }
    void build(const Plan& plan);
    std::vector<abi::FieldReply> read_raw(std::span<const FieldOf> fields);
    void set_policy(std::span<const abi::PolicyEntry> entries);
    void send_state();
    void send_fields();
    std::vector<Reply> send(std::vector<u8>& storage);

    GuestHost& host_;
    Queued queued_;
    std::vector<abi::Field> fields_;
    std::optional<usize> intercept_reply_; // where in the queue
    abi::InterceptReply intercepts_{};
    u64 hpa_base_ = 0;
    u64 sample_pages_ = 0;
};

} // namespace refhv::client
