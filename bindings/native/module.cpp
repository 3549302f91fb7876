// SPDX-License-Identifier: MIT
// refhv._native: the client library for Python. The package refhv (bindings/refhv) is what people use.
#include "bindings/native/module.hpp"

#include "refhv/client/guest/guest.hpp"

PYBIND11_MODULE(_native, m) {
    using namespace refhv::python;
    m.doc() = "The client library of refhv; use the package refhv.";
    m.attr("abi_version") = refhv::abi::version;
    m.attr("max_vms") = refhv::abi::max_vms;
    m.attr("sample_loop") = REFHV_SAMPLE_LOOP("@prepare@", "@setup@", "@operation@");
    add_failures(m);
    add_enumerations(m);
    add_structures(m);
    m.def("vmcb_fields", &vmcb_fields,
          "Offset and width in bytes of each VMCB field by name (APM 2 appendix B).");
    add_target(m);
    add_batch(m);
    add_guest(m);
}
