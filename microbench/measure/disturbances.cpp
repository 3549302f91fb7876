// SPDX-License-Identifier: MIT
#include "microbench/measure/disturbances.hpp"

#include "refhv/client/batch.hpp"
#include "refhv/client/greeting.hpp"
#include "refhv/front/doctor/environment.hpp"
#include "refhv/front/session.hpp"

#include <nlohmann/json.hpp>

namespace refhv::bench {
namespace {

using front::Session;
using nlohmann::ordered_json;

// An emulator's ticks are made by nothing but what it executes.
bool is_watched(const client::TargetInfo& info) {
    return info.kind != "image" || !info.emulated;
}

client::HelloInfo hello_of_now() {
    client::Batch batch;
    batch.add<abi::Op::hello>(abi::Hello{.version = abi::version, .zero = {}});
    return client::read_greeting(
        Session::get().host().target.call(batch.payload(), std::chrono::milliseconds{5000}));
}

template <class T>
ordered_json or_null(const std::optional<T>& value) {
    return value ? ordered_json(*value) : ordered_json();
}

} // namespace

Watch& Watch::get() {
    static Watch watch;
    return watch;
}

std::optional<front::Moment> Watch::now() {
    auto& session = Session::get();
    const client::TargetInfo& info = session.info();
    if (!is_watched(info)) {
        return std::nullopt;
    }
    try {
        const bool has_core = info.kind == "module" || info.kind == "image";
        const client::HelloInfo hello = has_core ? hello_of_now() : session.hello();
        if (!cpu_) {
            cpu_ = front::doctor::measuring_cpu(front::doctor::Host::here(), info.kind);
        }
        front::Source source{.root = info.kind == "image" ? "" : "/", .cpu = cpu_, .leaves = &hello};
        source.msrs = has_core ? &hello.msrs : nullptr;
        return front::read_moment(source);
    } catch (const client::TargetMiss&) {
        return std::nullopt; // the row says so itself
    } catch (const client::TargetUnusable&) {
        return std::nullopt;
    } catch (const client::MalformedReply&) {
        return std::nullopt;
    }
}

std::optional<front::Between> Watch::since(const std::optional<front::Moment>& before) {
    const auto after = now();
    if (!before || !after) {
        return std::nullopt;
    }
    if (!first_) {
        first_ = before;
    }
    last_ = after;
    return front::between(*before, *after);
}

ordered_json Watch::record() const {
    const client::TargetInfo& info = Session::get().info();
    const char* const reason = !is_watched(info) ? "an emulator's ticks: nothing comes between them"
                               : !first_         ? "no row was measured"
                                                 : nullptr;
    ordered_json out{{"reason", reason != nullptr ? ordered_json(reason) : ordered_json()}};
    if (reason != nullptr) {
        return out;
    }
    out["cpu"] = or_null(cpu_);
    ordered_json& read = out["counters"] = ordered_json::object();
    for (usize i = 0; i < front::counters; ++i) {
        const front::Reading &before = (*first_)[i], &after = (*last_)[i];
        const std::string& why = before.value ? after.reason : before.reason;
        read[front::counter_names[i]] = {{"before", or_null(before.value)},
                                         {"after", or_null(after.value)},
                                         {"reason", why.empty() ? ordered_json() : ordered_json(why)}};
    }
    out["between"] = to_json(front::between(*first_, *last_));
    return out;
}

ordered_json to_json(const front::Between& between) {
    return {{"smis", or_null(between.smis)},
            {"interrupts", or_null(between.interrupts)},
            {"nmis", or_null(between.nmis)},
            {"throttles", or_null(between.throttles)},
            {"frequency", or_null(between.frequency)},
            {"tsc_hz", or_null(between.tsc_hz)},
            {"thermal", between.thermal}};
}

} // namespace refhv::bench
