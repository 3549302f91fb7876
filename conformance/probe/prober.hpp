// SPDX-License-Identifier: MIT
// Many small guests, one after the other, in few requests: each is a state, the bytes that run, what is
// changed of the controls for it alone, and what is read back behind it.
#pragma once

#include "conformance/probe/fields.hpp"
#include "conformance/probe/machine.hpp"
#include "refhv/front/claim.hpp"

#include <map>

namespace refhv::front {

// A raw VMCS field or bytes of the VMCB (abi::Field).
struct RawField {
    u32 field;
    u64 value;
    u32 width = 4; // SVM: bytes
};

struct Probe {
    std::string name; // what a failure prints
    machine::Kind kind;
    std::vector<u8> code; // at CS.base + RIP, a HLT behind it
    abi::GuestState state{};
    std::vector<RawField> fields{};          // of this probe alone, but for guest state
    std::vector<machine::Piece> memory{};    // stays
    std::vector<RawField> read_fields{};     // `value` is not looked at
    std::vector<machine::Piece> read_back{}; // as much as there are bytes
    u32 rounds = 1; // runs in all; each further one goes on behind the HLT that ended the one before

    Probe(std::string what, machine::Kind kind, std::vector<u8> bytes)
        : name(std::move(what)), kind(kind), code(std::move(bytes)), state(machine::start(kind)) {}
    void set(u32 field, u64 value, u32 width = 4) { fields.push_back({field, value, width}); }
    // The length of the code without the HLT.
    [[nodiscard]] u64 length() const { return code.size(); }
};

struct ProbeResult {
    abi::Outcome outcome{};
    abi::RunReply reply{};                 // of the last run
    std::vector<abi::RunReply> earlier{};  // of those before it
    std::vector<u64> fields{};             // of Probe::read_fields
    std::vector<std::vector<u8>> memory{}; // of Probe::read_back

    [[nodiscard]] const abi::Exit& exit() const { return reply.exit; }
    [[nodiscard]] const abi::GuestState& state() const { return reply.state; }
};

// A VM in the host's slot, made afresh, in which HLT and every exception exit, ports and MSRs too.
class Prober {
  public:
    explicit Prober(client::GuestHost& host, u32 exceptions = all_exceptions);

    static constexpr u32 all_exceptions = 0xffff'fdfb; // those of vectors 2 and 9 are not exceptions' bits

    // Can the CPU run a guest of that kind? VMX needs an unrestricted guest for those without paging.
    [[nodiscard]] bool offers(machine::Kind kind) const {
        return unrestricted_ || !machine::is_unpaged(kind);
    }
    [[nodiscard]] bool has_unrestricted() const { return unrestricted_; }
    // A field as a fresh VM has it.
    [[nodiscard]] u64 base(u32 field, u32 width = 4);
    [[nodiscard]] u64 host_physical(u64 gpa) const { return hpa_base_ + gpa; }
    // Memory that later probes find.
    void write(u64 gpa, const std::vector<u8>& bytes);
    // Of the nested tables: bit 0 read, 1 write, 2 execute.
    void protect(u64 gpa, u64 count, u32 rights);
    void fill(u64 gpa, u64 start, u64 step, u64 count);
    // Runs them in this order, in as many frames as it takes. Throws TargetMiss, Refused.
    [[nodiscard]] std::vector<ProbeResult> run(const std::vector<Probe>& probes);

  private:
    struct Frame {
        client::Batch batch;
        std::vector<abi::Op> ops;
        std::vector<std::pair<usize, abi::GuestState>> states; // sent whole, and where
        std::optional<usize> run;                              // likewise
    };
    template <abi::Op op, class... Data>
    usize add(const typename abi::OperationOf<op>::Body& body, const Data&... data) {
        frame_.batch.add<op>(body, data...);
        frame_.ops.push_back(op);
        return frame_.ops.size() - 1;
    }
    void make(u32 exceptions);
    void rebase(u32 field, u32 width, u64 set, u64 clear);
    void add_field(const RawField& f);
    // Where in the frame the answers to one probe stand.
    struct Places {
        std::vector<usize> runs, fields, memory;
    };
    Places add_probe(const Probe& probe);
    [[nodiscard]] bool is_guest_state(const RawField& f) const;
    void set_controls(const Probe& probe);
    void set_state(const abi::GuestState& s);
    void write_once(u64 gpa, const std::vector<u8>& bytes);
    void add_policy(bool steps);
    usize add_run(u64 repeats);
    std::vector<client::Reply> send(std::vector<u8>& storage);
    void run_frame(std::span<const Probe> probes, std::vector<ProbeResult>& out);
    void learn_bases(const std::vector<Probe>& probes);

    client::GuestHost& host_;
    Frame frame_;
    u64 hpa_base_ = 0;
    bool vmx_;
    bool unrestricted_;
    std::map<std::pair<u32, u32>, u64> base_;    // by field and width
    std::map<std::pair<u32, u32>, u64> current_; // those that are not as base_ has them
    std::map<u64, std::vector<u8>> written_;     // code, by address
};

} // namespace refhv::front
