// SPDX-License-Identifier: MIT
// refhv-attack-device fuzz COUNT SEED: malformed and well-formed calls of /dev/refhv, at random.
// refhv-attack-device spin SECONDS: a guest that never ends, until the time is over or somebody kills this.
// refhv-attack-device once: does a guest exit by CPUID? refhv-attack-device faults: with each step of the
// module failing?
#include "conformance/test/linux/faults.hpp"
#include "refhv/client/batch.hpp"
#include "refhv/client/descriptor.hpp"
#include "refhv/client/guest/guest.hpp"
#include "refhv/client/guest/vm.hpp"
#include "refhv/client/linux.hpp"
#include "refhv/client/target.hpp"
#include "refhv/kmod/ioctl.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <map>
#include <random>
#include <string>
#include <sys/ioctl.h>

using namespace refhv;

namespace {

class Fuzzer {
  public:
    Fuzzer(int device, u64 seed) : device_(device), random_(seed), reply_(abi::max_frame_payload) {}

    // What came of it: 0 or an error number.
    int once() {
        refhv_call call{};
        make_payload();
        call.request = reinterpret_cast<u64>(payload_.data());
        call.request_bytes = static_cast<u32>(payload_.size());
        call.reply = reinterpret_cast<u64>(reply_.data());
        call.reply_room = abi::max_frame_payload;
        unsigned long command = REFHV_CALL;
        void* argument = &call;
        switch (below(12)) { // one call in two is of the right form
        case 0:
            call.request = any_address();
            break;
        case 1:
            call.reply = any_address();
            break;
        case 2:
            call.request_bytes = static_cast<u32>(random_());
            break;
        case 3:
            call.reply_room = static_cast<u32>(random_());
            break;
        case 4:
            call.zero = static_cast<u32>(random_());
            break;
        case 5:
            command = below(2) != 0 ? random_() : REFHV_CALL ^ 1u << below(32);
            argument = reinterpret_cast<void*>(any_address());
            break;
        default:
            break;
        }
        return ioctl(device_, command, argument) == 0 ? 0 : errno;
    }

  private:
    u64 below(u64 end) { return random_() % end; }

    u64 any_address() {
        const u64 some[] = {0,
                            1,
                            0xfff,
                            reinterpret_cast<u64>(reply_.data()),
                            0x7fff'ffff'f000,
                            0x8000'0000'0000,
                            0xffff'8880'0000'0000,
                            ~u64{0},
                            random_()};
        return some[below(std::size(some))];
    }

    // Operations with random bodies, most of them of the right size, and small numbers among the values.
    void make_payload() {
        payload_.clear();
        for (u64 n = 1 + below(6); n != 0; --n) {
            abi::OpHeader header{.op = static_cast<u16>(below(24)), .zero = 0, .size = 0};
            static_cast<void>(abi::Operations::with(static_cast<abi::Op>(header.op), [&](auto row) {
                header.size = static_cast<u32>(sizeof(typename decltype(row)::Body));
            }));
            header.size += below(8) == 0 ? static_cast<u32>(below(64)) : 0;
            append(&header, sizeof header);
            for (u32 i = 0; i < header.size; i += 4) {
                const u32 word = below(3) == 0 ? static_cast<u32>(random_()) : static_cast<u32>(below(5));
                append(&word, std::min<usize>(4, header.size - i));
            }
            payload_.resize(abi::align8(payload_.size()));
        }
    }

    void append(const void* bytes, usize count) {
        const auto* from = static_cast<const u8*>(bytes);
        payload_.insert(payload_.end(), from, from + count);
    }

    int device_;
    std::mt19937_64 random_;
    std::vector<u8> payload_, reply_;
};

int fuzz(u64 count, u64 seed) {
    const client::Descriptor device{open(client::linux_module::device, O_RDWR | O_CLOEXEC)};
    if (!device) {
        std::perror(client::linux_module::device);
        return 2;
    }
    Fuzzer fuzzer{device.get(), seed};
    std::map<int, u64> outcomes;
    for (u64 i = 0; i < count; ++i) {
        ++outcomes[fuzzer.once()];
    }
    for (const auto& [error, times] : outcomes) {
        std::printf("%llu calls: %s\n", static_cast<unsigned long long>(times),
                    error == 0 ? "answered" : std::strerror(error));
    }
    return outcomes[0] != 0 && outcomes[EFAULT] != 0 && outcomes[EINVAL] != 0 && outcomes[ENOTTY] != 0 ? 0
                                                                                                       : 1;
}

GUEST(endless, "3: jmp 3b")

int spin(unsigned seconds) {
    const auto target = client::open_target("linux");
    client::GuestHost host{.target = *target, .occupied = {}};
    client::Guest guest(host, {});
    guest.load(endless);
    std::printf("spinning\n");
    std::fflush(stdout);
    for (const time_t end = time(nullptr) + seconds; time(nullptr) < end;) {
        try {
            const client::RunResult result = guest.run({.deadline = u64{1} << 33});
            std::printf("outcome %u, %llu interrupts\n", static_cast<unsigned>(result.outcome),
                        static_cast<unsigned long long>(result.reply.interrupts));
        } catch (const client::Refused& refused) {
            if (refused.outcome != abi::Outcome::stopped) { // the CPU is wanted; the next run tells for what
                throw;
            }
        }
    }
    return 0;
}

} // namespace

int main(int argc, char** argv) {
    try {
        const std::string verb = argc > 1 ? argv[1] : "";
        if (verb == "fuzz" && argc == 4) {
            return fuzz(std::strtoull(argv[2], nullptr, 0), std::strtoull(argv[3], nullptr, 0));
        }
        if (verb == "spin" && argc == 3) {
            return spin(static_cast<unsigned>(std::strtoul(argv[2], nullptr, 0)));
        }
        if (verb == "once" && argc == 2) {
            return test::exits_by_cpuid() ? 0 : 1;
        }
        if (verb == "faults" && argc == 2) {
            return test::try_faults();
        }
    } catch (const std::exception& failure) {
        std::fprintf(stderr, "refhv-attack-device: %s\n", failure.what());
        return 1;
    }
    std::fprintf(stderr, "usage: refhv-attack-device fuzz COUNT SEED | spin SECONDS | once | faults\n");
    return 2;
}
