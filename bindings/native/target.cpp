// SPDX-License-Identifier: MIT
// Targets and their greetings.
#include "bindings/native/module.hpp"

#include "refhv/client/locate.hpp"
#include "refhv/client/self.hpp"

#include <pybind11/stl.h>

namespace refhv::python {
namespace {

using client::HelloInfo;
using client::TargetInfo;

py::object capability(const HelloInfo& hello, py::handle name) {
    const u64 index = named("msr", name);
    for (const abi::MsrValue& msr : hello.msrs) {
        if (msr.index == index) {
            return msr.present != 0 ? py::object(py::int_(msr.value)) : py::none();
        }
    }
    throw py::key_error("the greeting has no MSR " + std::string(py::str(py::str("{:#x}").format(index))));
}

py::dict capabilities(const HelloInfo& hello) {
    py::dict all;
    for (const abi::MsrValue& msr : hello.msrs) {
        all[word("Msr", msr.index)] = msr.present != 0 ? py::object(py::int_(msr.value)) : py::none();
    }
    return all;
}

const abi::CpuidLeaf& leaf(const HelloInfo& hello, py::handle number, py::handle sub) {
    constexpr u64 most = ~u32{0};
    const u64 wanted = natural(number, "leaf", most), below = natural(sub, "subleaf", most);
    for (const abi::CpuidLeaf& one : hello.cpuid) {
        if (one.leaf == wanted && one.subleaf == below) {
            return one;
        }
    }
    throw py::key_error("the greeting has no CPUID leaf " +
                        std::string(py::str(py::str("{:#x}, subleaf {}").format(wanted, below))));
}

void add_hello(py::module_& m) {
    py::class_<HelloInfo, std::shared_ptr<HelloInfo>> hello(
        m, "HelloInfo",
        "What a target says of itself when it comes up: the fields of HelloReply and what follows them.");
    forward<abi::HelloReply>(
        hello, +[](HelloInfo& h) -> abi::HelloReply& { return h.fixed; });
    hello.def_property_readonly(
        "backend", [](const HelloInfo& h) { return word("Vendor", h.fixed.vendor).attr("name"); },
        "\"vmx\", \"svm\" or \"none\".");
    hello.def_property_readonly(
        "cpuid_leaves",
        [](py::object self) {
            const auto& leaves = self.cast<HelloInfo&>().cpuid;
            return view(leaves.data(), leaves.size(), self);
        },
        "Every leaf, as an array of CpuidLeaf.");
    hello.def_property_readonly(
        "cpu_infos",
        [](py::object self) {
            const auto& cpus = self.cast<HelloInfo&>().cpus;
            return view(cpus.data(), cpus.size(), self);
        },
        "By CPU number, as an array of CpuInfo; empty where CPUs cannot be told apart.");
    hello.def("cpuid", &leaf, py::arg("leaf"), py::arg("subleaf") = 0,
              py::return_value_policy::reference_internal, "One leaf. Raises KeyError.");
    hello.def_property_readonly(
        "msrs", &capabilities,
        "Capability MSRs (SDM 3D appendix A; APM 2 15.30) by number; None: RDMSR raised #GP.");
    hello.def("msr", &capability, py::arg("name"),
              "One of them, by its number or name (\"vmx_basic\", \"IA32_VMX_BASIC\"). Raises KeyError.");
    hello.def("__repr__", [](const HelloInfo& h) {
        return "HelloInfo(backend='" + std::string(py::str(word("Vendor", h.fixed.vendor).attr("name"))) +
               "', version=" + std::to_string(h.fixed.version) + ", cpus=" + std::to_string(h.fixed.cpus) +
               ", tsc_hz=" + std::to_string(h.fixed.tsc_hz) + ")";
    });
}

void add_info(py::module_& m) {
    py::class_<TargetInfo>(m, "TargetInfo", "What a target is.")
        .def_readonly("name", &TargetInfo::name, "As it was opened.")
        .def_readonly("kind", &TargetInfo::kind, "\"image\", \"process\", \"module\" or \"kvm\".")
        .def_readonly("backend", &TargetInfo::backend,
                      "\"vmx\", \"svm\" or \"none\"; hello() has the last word.")
        .def_readonly("emulated", &TargetInfo::emulated, "Its time is an emulator's.")
        .def_readonly("unit", &TargetInfo::unit,
                      "Of its time: \"ticks\" of an emulator, \"cycles\" of a TSC.")
        .def_readonly("counts_instructions", &TargetInfo::counts_instructions, "A tick is an instruction.")
        .def_readonly("description", &TargetInfo::description, "One line.")
        .def_property_readonly(
            "emulator", [](const TargetInfo& i) { return i.emulator.name; }, "\"bochs\", \"qemu\", or empty.")
        .def_property_readonly("emulator_version", [](const TargetInfo& i) { return i.emulator.version; })
        .def("__repr__", [](const TargetInfo& i) {
            return "TargetInfo(name='" + i.name + "', backend='" + i.backend + "', unit='" + i.unit + "')";
        });
}

} // namespace

void add_target(py::module_& m) {
    add_hello(m);
    add_info(m);
    py::class_<Connection, std::shared_ptr<Connection>>(m, "Target",
                                                        "A target (docs/targets.md); refhv.open makes one.")
        .def(py::init<const std::string&>(), py::arg("name"),
             "Starts nothing yet. Raises BadTargetName, TargetUnusable.")
        .def_property_readonly("name", &Connection::name, "As it was opened.")
        .def_property_readonly("closed", &Connection::is_closed, "Whether close() has been called.")
        .def_property_readonly(
            "info", [](const Connection& c) { return c.info(); }, "What is known of the target.")
        .def_property_readonly(
            "starts", [](Connection& c) { return c.use([](client::Target& t) { return t.generation(); }); },
            "How often it has been started. A change means that its VMs are gone.")
        .def(
            "hello",
            [](Connection& c) {
                return c.use([](client::Target& t) { return std::make_shared<HelloInfo>(t.hello()); });
            },
            "Brings the target up where it is not, and returns its greeting. Raises TargetMiss, "
            "TargetUnusable.")
        .def("stop", &Connection::stop, "Ends the machine; the next call starts it afresh, without VMs.")
        .def("close", &Connection::close, "Ends the target, cleanly if it still answers.");
    m.def(
        "targets",
        [] {
            std::vector<std::pair<TargetInfo, std::string>> all;
            {
                const py::gil_scoped_release released;
                for (const client::TargetEntry& e : client::list_targets()) {
                    all.emplace_back(e.info, e.unusable);
                }
            }
            return all;
        },
        "Every target of this build, with why it cannot be used here (empty: it can). Starts nothing.");
    m.def("set_self_server", &client::self::set_server, py::arg("program"),
          "The program that serves target self, refhv-self; else a fork of this process does.");
    m.def("set_image_directory", &client::set_image_directory, py::arg("directory"),
          "Where refhv.elf and refhv.iso are; the environment's REFHV_IMAGE_DIR goes first.");
}

} // namespace refhv::python
