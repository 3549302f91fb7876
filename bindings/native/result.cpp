// SPDX-License-Identifier: MIT
// Runs and what they leave behind.
#include "bindings/native/guest.hpp"

#include <algorithm>
#include <limits>

namespace refhv::python {
namespace {

using client::RunResult;

// Owned by the array's base: it lives as long as the array.
template <auto list>
py::array list_of(const py::object& self) {
    const auto& all = self.cast<const RunResult&>().*list;
    return view(all.data(), all.size(), self);
}

py::array elapsed(const RunResult& result) {
    py::array_t<u64> ticks(static_cast<py::ssize_t>(result.samples.size()));
    auto out = ticks.mutable_unchecked<1>();
    for (py::ssize_t i = 0; i < out.shape(0); ++i) {
        const client::Sample& sample = result.samples[static_cast<usize>(i)];
        out(i) = sample.end - sample.start;
    }
    return ticks;
}

py::dict counts(const RunResult& result) {
    py::dict all;
    for (u64 reason = 0; reason < std::size(result.reply.counts); ++reason) {
        if (result.reply.counts[reason] != 0) {
            all[word("Reason", reason)] = result.reply.counts[reason];
        }
    }
    return all;
}

// What may be asked of a run, besides `patience`.
struct Option {
    const char* name;
    void (*take)(client::Guest::Options& to, py::handle value, const std::string& name);
};

template <auto member, u64 most = ~u64{0}>
void take_number(client::Guest::Options& to, py::handle value, const std::string& name) {
    using Number = std::remove_reference_t<decltype(to.*member)>;
    to.*member =
        static_cast<Number>(natural(value, name, std::min<u64>(most, std::numeric_limits<Number>::max())));
}

void take_peer(client::Guest::Options& to, py::handle value, const std::string& /*name*/) {
    if (!value.is_none() && !py::isinstance<abi::Peer>(value)) {
        throw py::type_error("peer takes a Peer");
    }
    to.peer = value.is_none() ? abi::Peer{} : value.cast<abi::Peer>();
}

using Run = client::Guest::Options;
constexpr u64 most_samples = client::layout::sample_pages * page_size / sizeof(client::Sample);
constexpr Option options[] = {
    {"rounds", take_number<&Run::rounds>},
    {"samples", take_number<&Run::samples, most_samples>},
    {"repeats", take_number<&Run::repeats>},
    {"stamps", take_number<&Run::stamps>},
    {"exits", take_number<&Run::exits>},
    {"handler_advance", take_number<&Run::handler_advance>},
    {"deadline", take_number<&Run::deadline>},
    {"preemption_timer", take_number<&Run::preemption_timer>},
    {"cpu", take_number<&Run::cpu>},
    {"extra_count", take_number<&Run::extra_count, abi::max_extra_count>},
    {"extras",
     [](Run& to, py::handle value, const std::string& name) { to.extras = word_set("Extra", value, name); }},
    {"peer", take_peer},
    {"set_state",
     [](Run& to, py::handle value, const std::string& /*name*/) { to.set_state = py::cast<bool>(value); }},
};

std::shared_ptr<RunResult> run(GuestBox& box, const py::dict& asked, double patience) {
    Run wanted;
    py::list names;
    for (const Option& option : options) {
        names.append(option.name);
    }
    for (const auto& [key, value] : asked) {
        const std::string name = py::str(key);
        const auto* const option = std::find_if(std::begin(options), std::end(options),
                                                [&](const Option& o) { return name == o.name; });
        if (option == std::end(options)) {
            throw py::type_error("a run has no '" + name + "'" + near(name, names));
        }
        option->take(wanted, value, name);
    }
    wanted.rounds = wanted.rounds != 0 ? wanted.rounds : wanted.samples;
    const auto wait = seconds(patience, "patience");
    return box.use([&](client::Guest& guest, client::Target&) {
        guest.patience = wait;
        return std::make_shared<RunResult>(guest.run(wanted));
    });
}

} // namespace

void add_results(py::module_& m) {
    py::class_<RunResult, std::shared_ptr<RunResult>> result(
        m, "RunResult",
        "Everything that a run left behind: the fields of RunReply, and the lists that follow them.");
    forward<abi::RunReply>(
        result, +[](RunResult& r) -> abi::RunReply& { return r.reply; });
    result
        .def_property_readonly(
            "outcome", [](const RunResult& r) { return word("Outcome", static_cast<u64>(r.outcome)); },
            "How the run ended.")
        .def_property_readonly(
            "reply", [](RunResult& r) -> abi::RunReply& { return r.reply; },
            py::return_value_policy::reference_internal)
        .def_property_readonly("counts", &counts,
                               "Exits by Reason, the last one included; those that never came are left out.")
        .def(
            "count",
            [](const RunResult& r, py::handle reason) {
                const u64 which = word_value("Reason", reason, "reason");
                if (which >= std::size(r.reply.counts)) {
                    throw py::value_error("there is no reason " + std::to_string(which));
                }
                return r.reply.counts[which];
            },
            py::arg("reason"), "Exits of one Reason, the last one included.")
        .def_property_readonly("samples", &list_of<&RunResult::samples>,
                               "The guest's own time stamps, an array of Sample (start, end: TSC ticks; es: "
                               "0 if an interrupt came "
                               "between, which only mode user shows). Not copied.")
        .def_property_readonly("elapsed", &elapsed,
                               "end - start of each sample, TSC ticks, the stamps' own cost included.")
        .def_property_readonly(
            "stamps", &list_of<&RunResult::stamps>,
            "The host's time stamps of each handled exit, an array of HostStamp, TSC ticks. Not copied.")
        .def_property_readonly("exits", &list_of<&RunResult::exits>,
                               "The exits that were logged, an array of Exit. Not copied.")
        .def_property_readonly("peer", &list_of<&RunResult::peer>,
                               "What the peer did, an array of PeerStamp. Not copied.")
        .def_property_readonly(
            "exceptions", [](RunResult& r) -> client::ExceptionRecord& { return r.exceptions; },
            py::return_value_policy::reference_internal, "What the guest's own exception handlers saw.")
        .def_property_readonly(
            "intercepts", [](RunResult& r) -> abi::InterceptReply& { return r.intercepts; },
            py::return_value_policy::reference_internal, "What the core said to the intercepts asked for.")
        .def("__repr__", [](py::handle self) {
            const auto& r = self.cast<const RunResult&>();
            return "RunResult(" + std::string(client::name_of(r.outcome)) + ", last exit " +
                   std::string(py::str(py::repr(word("Reason", r.reply.exit.reason)))) + ", entries " +
                   std::to_string(r.reply.entries) + ", handled " + std::to_string(r.reply.handled) + ")";
        });
}

void add_runs(py::class_<GuestBox>& guest) {
    guest.def("run", &run, py::arg("options"), py::arg("patience"),
              "client::Guest::Options by name; refhv.Guest.run is what people use.");
}

} // namespace refhv::python
