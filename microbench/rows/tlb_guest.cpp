// SPDX-License-Identifier: MIT
// The sweep inside a guest: guest page × nested page × mode. docs/method.md, "The sweep".
#include "microbench/measure/measurement.hpp"
#include "refhv/front/guests/guest_chase.hpp"

#include <array>
#include <deque>

namespace refhv::bench {

using abi::Mode;
using abi::PageSize;
using front::GuestChase;
using front::Layout;

namespace {

constexpr u64 rounds = 48; // of a run of 2n; a round is thousands of operations
constexpr std::array sizes{PageSize::k4, PageSize::m2, PageSize::g1};
// The last octave is what the cost of a miss comes from; 64 lines are inside of everything.
constexpr std::array<u32, 8> spread_lines{16, 64, 256, 1024, 4096, 8192, 12288, front::most_guest_lines};
constexpr std::array<u32, 4> inside_lines{64, 8192, 12288, front::most_guest_lines};

constexpr u64 bytes(PageSize size) {
    return page_size << (9 * static_cast<unsigned>(size));
}

const char* name(PageSize size) {
    return size == PageSize::k4 ? "4k" : size == PageSize::m2 ? "2m" : "1g";
}

std::string counts_instructions([[maybe_unused]] const client::HelloInfo& hello) {
    return front::Session::get().info().counts_instructions ? "instruction-counting emulator: no TLB cost"
                                                            : "";
}

std::string no_1g_pages(const client::HelloInfo& hello) {
    constexpr unsigned edx = 3;
    constexpr u32 page_1gb = 1u << 26;
    const std::string why = counts_instructions(hello);
    return !why.empty() || (front::cpuid(hello, 0x8000'0001, 0, edx) & page_1gb) != 0
               ? why
               : "no 1-GByte pages: CPUID.80000001H:EDX[26]";
}

void declare(GuestChase chase, std::vector<Mode> modes, const std::string& under) {
    static std::deque<std::string> names; // a row keeps a pointer to its own
    const std::string page = name(chase.page);
    names.push_back("tlb." + page + under + (chase.layout == Layout::inside ? "_inside." : ".") +
                    std::to_string(chase.lines));
    Row row{.name = names.back().c_str(), .guest = front::chase_code(chase.layout)};
    const auto in = [chase](Mode mode) {
        GuestChase here = chase;
        here.mode = mode;
        return here;
    };
    row.paging = true;
    row.modes = std::move(modes);
    row.batch = front::chase_accesses;
    row.most_rounds = rounds;
    row.shadow_exits = 0; // warm
    row.missing = chase.page == PageSize::g1 ? no_1g_pages : counts_instructions;
    row.rests_on = {"TlbSweep.pages_of_" + page + "_are_walked_as_such"};
    if (!under.empty()) {
        row.rests_on.emplace_back("NestedPages.guest_runs_under_")
            .append(name(chase.nested_page))
            .append("_leaves");
    }
    row.plan = [in](Mode mode, client::Plan& plan) { front::plan_chase(in(mode), plan); };
    row.build = [in](Mode mode, client::Guest& guest) { front::build_chase(in(mode), guest); };
    row.describe = [chase](Mode mode, Measurement& m) {
        m.chase = ChaseFacts{.page_bytes = bytes(chase.page),
                             .layout = chase.layout == Layout::spread ? "spread" : "inside",
                             .lines = chase.lines,
                             .accesses = front::chase_accesses,
                             .memory = "the guest's",
                             .walks_event = "none",
                             .walks_missing = "a guest has no performance counters here"};
        if (mode == Mode::nested) {
            m.chase->nested_page_bytes = bytes(chase.nested_page);
        }
    };
    const Declare declared{std::move(row)};
}

void declare_all(GuestChase chase, const std::vector<Mode>& modes, const std::string& under) {
    for (const u32 lines : spread_lines) {
        chase.layout = Layout::spread;
        chase.lines = lines;
        declare(chase, modes, under);
    }
    for (const u32 lines : inside_lines) {
        chase.layout = Layout::inside;
        chase.lines = lines;
        declare(chase, modes, under);
    }
}

const bool declared = [] {
    for (const PageSize page : sizes) {
        declare_all({.mode = Mode::native, .page = page}, {Mode::native, Mode::shadow}, "");
        for (const PageSize nested : sizes) {
            declare_all({.mode = Mode::nested, .page = page, .nested_page = nested}, {Mode::nested},
                        std::string("_on_") + name(nested));
        }
    }
    return true;
}();

} // namespace

} // namespace refhv::bench
