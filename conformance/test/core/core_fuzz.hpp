// SPDX-License-Identifier: MIT
// libFuzzer: bytes as a request to the core, under the permissions of one kind of platform. The core must
// answer in good form, touch no memory that it was not given (fake_platform.cpp aborts), nothing of another
// owner's VM, leave no page behind, and on a platform that permits nothing leave no VM that the CPU could
// take out of its own memory (outside_model.hpp). The sanitizers watch the rest.
#pragma once

#include "conformance/test/core/outside_model.hpp"
#include "conformance/test/fuzz/shaped_request.hpp"

#include <cstdio>
#include <cstdlib>

namespace refhv::fuzz {

inline void require(bool holds, const char* what) {
    if (!holds) {
        std::fprintf(stderr, "ERROR: %s\n", what);
        std::abort();
    }
}

inline constexpr u64 base = 0x4000'0000;
inline constexpr Owner fuzzer = 7, victim = 1;

[[nodiscard]] inline abi::VmCreate small_vm(u32 slot, u64 pages = 4) {
    return {.vm = slot,
            .mode = 2,
            .nested_page_size = 0,
            .tag_policy = 0,
            .zero = 0,
            .pages = pages,
            .gpa_base = base};
}

// An address in or near the VM, unless the fuzzer insists.
[[nodiscard]] inline u64 near_vm(u64 address) {
    return (address >> 63) != 0 ? address : base - 0x1000 + address % 0x6000;
}

// One core for all inputs, with a VM that is another's; an input leaves it as it was.
class CoreFuzzer {
  public:
    explicit CoreFuzzer(Permissions permissions) : permissions_(permissions) {
        require(
            ask(client::Batch()
                    .add<abi::Op::vm_create>(small_vm(0))
                    .add<abi::Op::mem_fill64>(
                        {.vm = 0, .relocate = 0, .gpa = base, .start = pattern, .step = 1, .count = words}),
                victim),
            "the victim cannot be made");
        in_use_ = core_->pages_in_use();
    }

    void input(std::span<const u8> in) {
        fake::Vcpu::moves.clear();
        use(in.empty() ? u8{0} : in.front());
        fake::permissions = permissions_;
        // Something to work on, so that not every input must first find out how to make a VM.
        require(ask(client::Batch().add<abi::Op::vm_create>(small_vm(0)), fuzzer), "no VM");
        const client::Batch batch = shaped_request(in.subspan(in.empty() ? 0 : 1), tame);
        const usize n = core_->execute(batch.payload(), out_, fuzzer);
        require(n <= out_.size(), "the reply is too long");
        const auto replies =
            client::parse_replies({out_.data(), n}); // throws on bad form, which ends the fuzzer
        require(replies.size() <= batch.operations(), "more replies than operations");
        look_at(replies);
        core_->close(fuzzer);
        require(core_->pages_in_use() == in_use_, "pages were lost, or given back twice");
    }

  private:
    static constexpr u64 pattern = 0x5ec4'e7ab'0b51'de00, words = 4 * page_size / 8;

    // Which vendor the VMs of this input are of.
    static void use(u8 first) { fake::Vcpu::is_svm = (first & 1) != 0; }

    // Bounds what an input may cost, and brings addresses near the VM, unless the fuzzer insists.
    static constexpr auto tame = []<class Row>(Row, auto& body, std::span<const u8> data) {
        constexpr u64 longest = 20'000, most_pages = 40;
        if constexpr (Row::number == abi::Op::hello) {
            return body.version != abi::version; // a greeting is hundreds of CPUIDs, each an exit in a cloud
        } else if constexpr (Row::number == abi::Op::vm_create) {
            body.pages = (body.pages >> 63) != 0 ? body.pages : body.pages % most_pages;
            body.gpa_base &= (body.gpa_base >> 63) != 0 ? ~u64{0} : 0x4000'3000;
        } else if constexpr (Row::number == abi::Op::run) {
            body.deadline = 1 + body.deadline % longest;
            body.peer.count %= 4;
            body.peer.delay %= longest;
            body.peer.mark = near_vm(body.peer.mark);
            body.peer.address = near_vm(body.peer.address);
        } else if constexpr (Row::number == abi::Op::entry_probes) {
            body.deadline = 1 + body.deadline % longest;
        } else if constexpr (Row::number == abi::Op::nested_entry) {
            body.count = (body.count >> 31) != 0 ? body.count : body.count % 8;
            body.value = (body.value >> 63) != 0 ? body.value
                                                 : near_vm(body.value & ~u64{0xfff}) | (body.value & 0xfff);
        } else if constexpr (Row::number == abi::Op::field_write) {
            body.value = (body.value >> 62) == 1 ? near_vm(body.value) & ~u64{63} : body.value;
        } else if constexpr (Row::number == abi::Op::mem_write) {
            body.size = data.size();
        }
        if constexpr (requires { body.gpa; }) {
            body.gpa = near_vm(body.gpa);
        }
        if constexpr (Row::subject == abi::Subject::vm || Row::number == abi::Op::vm_create) {
            body.vm = body.vm > 0xff ? body.vm : body.vm % (abi::max_vms + 1);
        }
        return true;
    };
    [[nodiscard]] bool ask(const client::Batch& batch, Owner owner) {
        const usize n = core_->execute(batch.payload(), out_, owner);
        for (const auto& reply : client::parse_replies({out_.data(), n})) {
            if (reply.outcome != abi::Outcome::ok) {
                return false;
            }
        }
        return true;
    }

    void look_at(std::span<const client::Reply> replies) {
        const fake::Controls& theirs = fake::controls[0];
        const auto* const memory = static_cast<const u64*>(platform::to_virtual(theirs.memory.hpa_base));
        for (u64 i = 0; i < words; ++i) {
            require(memory[i] == pattern + i, "another's memory was written");
        }
        require(fake::OutsideModel(theirs).fault() == nullptr, "another's controls were changed");
        for (const auto& reply : replies) {
            for (usize at = 0; at + 8 <= reply.body.size(); at += 8) {
                u64 word = 0;
                __builtin_memcpy(&word, reply.body.data() + at, sizeof word);
                require(word >> 16 != pattern >> 16, "another's memory was read");
            }
        }
        for (const fake::Controls& c : fake::controls) {
            if (permissions_.bits == 0 && c.alive && c.memory.mode == abi::Mode::nested) {
                const char* const fault = fake::OutsideModel(c).fault();
                require(fault == nullptr, fault);
            }
        }
    }

    Permissions permissions_;
    std::unique_ptr<fake::Core> core_ = fake::make_core(1);
    std::vector<u8> out_ = std::vector<u8>(abi::max_frame_payload);
    u64 in_use_ = 0;
};

} // namespace refhv::fuzz
