// SPDX-License-Identifier: MIT
#include "conformance/prove/faulty_target.hpp"

#include "refhv/client/batch.hpp"

namespace refhv::front {

namespace {

using abi::Op;
using abi::Outcome;

// An operation of a request, one that is asked for again by the words that it then has.
struct Asked {
    Op op;
    std::vector<u8> body;
};

class Seeding {
  public:
    explicit Seeding(const FaultChange& fault) : fault_(fault) {}

    [[nodiscard]] bool shown() const { return shown_; }

    // In place: no operation changes its length. Operations that repeat an earlier one take its words as they
    // are by then; those that they patch are not changed again.
    void ask(std::span<u8> request) {
        for (usize at = 0; at + sizeof(abi::OpHeader) <= request.size();) {
            abi::OpHeader header;
            __builtin_memcpy(&header, &request[at], sizeof header);
            const usize begin = at + sizeof header;
            if (header.size > request.size() - begin) {
                return;
            }
            const auto body = request.subspan(begin, header.size);
            if (header.op == static_cast<u16>(Op::again)) {
                asked_.push_back(repeated(request, body));
            } else {
                change(static_cast<Op>(header.op), body);
                asked_.push_back({static_cast<Op>(header.op), {body.begin(), body.end()}});
            }
            at = begin + (header.size + 7) / 8 * 8;
        }
    }

    void answer(usize place, Op op, Outcome outcome, std::span<u8> body) {
        if (op == Op::run && fault_.end != nullptr && is_end(outcome)) {
            with<abi::RunReply>(body, 0, [&](abi::RunReply& r) { fault_.end(r); });
        }
        if (op == Op::run && fault_.exit != nullptr && is_end(outcome)) {
            exits(body);
        }
        if (outcome != Outcome::ok) {
            return;
        }
        if (op == Op::field_read && fault_.read != nullptr && place < asked_.size()) {
            abi::Field asked{};
            if (take(asked_[place].body, asked)) {
                with<abi::FieldReply>(body, 0, [&](abi::FieldReply& r) {
                    r.value = r.error == 0 ? fault_.read(asked.field, r.value) : r.value;
                });
            }
        } else if (op == Op::nested_entry && fault_.nested != nullptr) {
            with<abi::NestedEntryReply>(body, 0, [&](abi::NestedEntryReply& r) { fault_.nested(r); });
        } else if (op == Op::entry_probes && fault_.probe != nullptr) {
            for (usize at = 0; at + sizeof(abi::ProbeResult) <= body.size(); at += sizeof(abi::ProbeResult)) {
                with<abi::ProbeResult>(body, at, [&](abi::ProbeResult& r) { fault_.probe(r); });
            }
        } else if (op == Op::mem_read && fault_.memory != nullptr && place < asked_.size()) {
            abi::MemRange asked{};
            if (take(asked_[place].body, asked) && asked.gpa % 8 == 0) {
                for (usize at = 0; at + 8 <= body.size(); at += 8) {
                    with<u64>(body, at, [&](u64& word) { fault_.memory(asked.gpa + at, word); });
                }
            }
        }
    }

  private:
    template <class Body>
    [[nodiscard]] static bool take(std::span<const u8> bytes, Body& body) {
        if (bytes.size() < sizeof body) {
            return false;
        }
        __builtin_memcpy(&body, bytes.data(), sizeof body);
        return true;
    }
    template <class Body, class F>
    void with(std::span<u8> bytes, usize at, F f) {
        Body body;
        if (at > bytes.size() || !take(bytes.subspan(at), body)) {
            return;
        }
        Body changed = body;
        f(changed);
        if (__builtin_memcmp(&body, &changed, sizeof body) != 0) {
            shown_ = true;
            __builtin_memcpy(&bytes[at], &changed, sizeof changed);
        }
    }

    [[nodiscard]] static bool is_end(Outcome outcome) {
        return outcome == Outcome::exited || outcome == Outcome::repeats_done || outcome == Outcome::deadline;
    }

    [[nodiscard]] Asked repeated(std::span<const u8> request, std::span<const u8> what) const {
        abi::Again again{};
        abi::OpHeader header{};
        if (!take(what, again) || again.at >= request.size() || !take(request.subspan(again.at), header) ||
            header.size > request.size() - again.at - sizeof header) {
            return {Op::again, {}};
        }
        const auto from = request.subspan(again.at + sizeof header, header.size);
        Asked asked{static_cast<Op>(header.op), {from.begin(), from.end()}};
        for (u32 i = 0; i < again.count; ++i) {
            abi::Patch patch{};
            if (!take(what.subspan(sizeof again + i * sizeof patch), patch) ||
                (patch.word + 1) * sizeof patch.value > asked.body.size()) {
                break;
            }
            __builtin_memcpy(&asked.body[patch.word * sizeof patch.value], &patch.value, sizeof patch.value);
        }
        return asked;
    }

    void change(Op op, std::span<u8> body) {
        if (op == Op::field_write && fault_.write != nullptr) {
            with<abi::Field>(body, 0, [&](abi::Field& f) { f.value = fault_.write(f.field, f.value); });
        } else if (op == Op::entry_probes && fault_.write != nullptr) {
            for (usize at = sizeof(abi::EntryProbes); at + sizeof(abi::ProbeField) <= body.size();
                 at += sizeof(abi::ProbeField)) {
                with<abi::ProbeField>(body, at,
                                      [&](abi::ProbeField& f) { f.value = fault_.write(f.field, f.value); });
            }
        } else if (op == Op::intercept && fault_.intercept != nullptr) {
            with<abi::InterceptSet>(body, 0, [&](abi::InterceptSet& i) { fault_.intercept(i); });
        } else if (op == Op::invalidate && fault_.invalidate != nullptr) {
            with<abi::Invalidate>(body, 0, [&](abi::Invalidate& i) { fault_.invalidate(i); });
        } else if (op == Op::run && fault_.run != nullptr) {
            with<abi::Run>(body, 0, [&](abi::Run& r) { fault_.run(r); });
        }
    }

    void exits(std::span<u8> body) {
        abi::RunReply reply;
        if (!take(body, reply)) {
            return;
        }
        with<abi::Exit>(body, offsetof(abi::RunReply, exit), [&](abi::Exit& e) { fault_.exit(e); });
        for (u32 i = 0; i < reply.exit_count; ++i) {
            with<abi::Exit>(body, sizeof reply + i * sizeof(abi::Exit),
                            [&](abi::Exit& e) { fault_.exit(e); });
        }
    }

    const FaultChange& fault_;
    std::vector<Asked> asked_;
    bool shown_ = false;
};

} // namespace

std::vector<u8> FaultyTarget::call(std::span<const u8> payload, std::chrono::milliseconds patience) {
    if (fault_ == nullptr) {
        return subject_->call(payload, patience);
    }
    Seeding seeding(fault_->change);
    std::vector<u8> request(payload.begin(), payload.end());
    seeding.ask(request);
    auto bytes = subject_->call(request, patience);
    usize place = 0;
    for (const client::Reply& reply : client::parse_replies(bytes)) {
        const auto at = static_cast<usize>(reply.body.data() - bytes.data());
        seeding.answer(place++, reply.op, reply.outcome, {bytes.data() + at, reply.body.size()});
    }
    shown_ = shown_ || seeding.shown();
    return bytes;
}

} // namespace refhv::front
