// SPDX-License-Identifier: MIT
// Runs and what they leave behind.
#include "bindings/native/guest.hpp"

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

std::shared_ptr<RunResult> run(GuestBox& box, py::handle rounds, py::handle samples, py::handle repeats,
                               py::handle stamps, py::handle exits, py::handle handler_advance,
                               py::handle deadline, py::handle preemption_timer, py::handle cpu,
                               py::handle extras, py::handle extra_count, const py::object& peer,
                               bool set_state, double patience) {
    constexpr u64 most_samples = client::layout::sample_bytes / sizeof(client::Sample);
    constexpr u64 most = ~u32{0};
    client::Guest::Options options;
    options.samples = natural(samples, "samples", most_samples);
    options.rounds = natural(rounds, "rounds");
    options.rounds = options.rounds != 0 ? options.rounds : options.samples;
    options.repeats = natural(repeats, "repeats");
    options.stamps = static_cast<u32>(natural(stamps, "stamps", most));
    options.exits = static_cast<u32>(natural(exits, "exits", most));
    options.handler_advance = natural(handler_advance, "handler_advance");
    options.deadline = natural(deadline, "deadline");
    options.preemption_timer = static_cast<u32>(natural(preemption_timer, "preemption_timer", most));
    options.cpu = static_cast<u32>(natural(cpu, "cpu", most));
    options.extras = word_set("Extra", extras, "extras");
    options.extra_count = static_cast<u32>(natural(extra_count, "extra_count", abi::max_extra_count));
    options.set_state = set_state;
    if (!peer.is_none()) {
        if (!py::isinstance<abi::Peer>(peer)) {
            throw py::type_error("peer takes a Peer");
        }
        options.peer = peer.cast<abi::Peer>();
    }
    const auto wait = seconds(patience, "patience");
    return box.use([&](client::Guest& guest, client::Target&) {
        guest.patience = wait;
        return std::make_shared<RunResult>(guest.run(options));
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
    guest.def(
        "run", &run, py::kw_only(), py::arg("rounds") = 0, py::arg("samples") = 0, py::arg("repeats") = 0,
        py::arg("stamps") = 0, py::arg("exits") = 0, py::arg("handler_advance") = 0, py::arg("deadline") = 0,
        py::arg("preemption_timer") = 0, py::arg("cpu") = 0, py::arg("extras") = 0,
        py::arg("extra_count") = 0, py::arg("peer") = py::none(), py::arg("set_state") = true,
        py::arg("patience") = 20.0,
        "Runs the guest; the GIL is released, Ctrl-C ends it.\n\n"
        "rounds: of a sample loop (samples, if not said). samples: how many it leaves to be read back. "
        "repeats: ends the run "
        "after so many handled exits. stamps: host time stamps to make room for. exits: exits to log. "
        "handler_advance: what the "
        "guest's exception handlers add to the saved RIP; 0: an exception ends the run. deadline: TSC ticks; "
        "0: about a second or "
        "a few. preemption_timer: VMX, its value at every entry. extras: of the cost ladder, a set of Extra. "
        "set_state: False goes on "
        "where the last run stopped. patience: seconds to wait for the answer.\n\n"
        "Raises Refused (the core refused a part of it), TargetMiss (no answer), GuestGone, TargetClosed.");
}

} // namespace refhv::python
