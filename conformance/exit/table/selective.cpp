// SPDX-License-Identifier: MIT
// SVM's selective intercept of writes to CR0: bits other than TS and MP, and every LMSW. APM 2 15.9, table
// 15-7.
#include "conformance/exit/table/case.hpp"

namespace refhv::front {

using machine::Kind;

namespace {

constexpr u64 mp = 1u << 1, em = 1u << 2, ts = 1u << 3, ne = 1u << 5, wp = 1u << 16, am = 1u << 18,
              cd = u64{1} << 30;
constexpr u64 selective_exit = 0x65, plain_exit = 0x10;
constexpr u32 selective = 1u << 5; // of the third intercept word

// `raw`: the exit that is due, if there is one. `both`: the plain intercept too.
ProbeClaim::Row row(Prober& prober, const std::string& name, const char* code, u64 before, u64 rax,
                    std::optional<u64> raw, u64 after, bool both = false) {
    Probe p(name, Kind::long64, machine::hex(code));
    p.set(vmcb::intercept_1, prober.base(vmcb::intercept_1) | selective);
    if (both) {
        p.set(vmcb::cr_write, 1, 2);
    }
    p.state.cr0 = before;
    p.state.gpr[abi::rax] = rax;
    Due due = raw ? exits(p, *raw) : runs(p, false);
    due.state.cr0 = after;
    return {std::move(p), due};
}

constexpr const char* mov = "0f 22 c0";
constexpr const char* lmsw = "0f 01 f0";
constexpr const char* clts = "0f 06";

std::vector<u64> starts() {
    const u64 plain = machine::start(Kind::long64).cr0;
    return {plain, plain | ts, plain | em | wp, plain & ~mp};
}

} // namespace

TEST_F(ExitTable, svm_selective_cr0_writes_exit_by_the_bits_that_change) {
    claim({.apm = "APM 2 15.9"}, [&] {
        Prober prober(host());
        std::vector<Row> rows;
        for (const u64 before : starts()) {
            for (const u64 change : {u64{0}, ts, mp, ts | mp, em, ne, wp, am, cd, ts | wp, mp | em}) {
                const u64 value = before ^ change;
                const bool leaves = (change & ~(ts | mp)) != 0;
                std::ostringstream name;
                name << "MOV to CR0 that changes " << std::hex << change << "H of " << before << "H";
                rows.push_back(row(prober, name.str(), mov, before, value,
                                   leaves ? std::optional(selective_exit) : std::nullopt,
                                   leaves ? before : value));
            }
            rows.push_back(row(prober, "CLTS", clts, before, 0, {}, before & ~ts));
        }
        const u64 plain = starts().front();
        for (const u64 change : {wp, ts, u64{0}}) {
            rows.push_back(row(prober, "MOV to CR0 under both intercepts", mov, plain, plain ^ change,
                               plain_exit, plain, true));
        }
        rows.push_back(
            row(prober, "LMSW under both intercepts", lmsw, plain, plain, plain_exit, plain, true));
        hold_rows(prober, rows, "APM 2 15.9");
    });
}

// Whatever LMSW writes.
TEST_F(ExitTable, svm_selective_cr0_writes_exit_at_every_lmsw) {
    claim({.apm = "APM 2 15.9"}, [&] {
        Prober prober(host());
        std::vector<Row> rows;
        for (const u64 before : starts()) {
            for (const u64 change : {u64{0}, ts, mp, em, u64{0xffc0}}) {
                rows.push_back(row(prober, "LMSW that changes " + std::to_string(change), lmsw, before,
                                   (before ^ change) & 0xffff, selective_exit, before));
            }
        }
        hold_rows(prober, rows, "APM 2 15.9");
    });
}

} // namespace refhv::front
