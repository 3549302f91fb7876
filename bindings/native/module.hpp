// SPDX-License-Identifier: MIT
// The parts of the Python module.
#pragma once

#include "bindings/native/connection.hpp"
#include "bindings/native/structures.hpp"

namespace refhv::python {

void add_failures(py::module_& m);
void add_target(py::module_& m);
void add_batch(py::module_& m);
void add_guest(py::module_& m);

// What refhv.names makes of a name that a user gave, or of a number: `function` is one of its own.
[[nodiscard]] inline u64 named(const char* function, py::handle name) {
    return py::module_::import("refhv.names").attr(function)(name).cast<u64>();
}

// Seconds, as Python has them, above 0 and at most a week.
[[nodiscard]] std::chrono::milliseconds seconds(double value, const char* what);

// Every field of a structure that an object holds, as a read-only property of that object.
template <class S, class Owner, class... Options>
void forward(py::class_<Owner, Options...>& owner, S& (*inner)(Owner&)) {
    for (const Field& f : Described<S>::fields) {
        if (!f.reserved) {
            owner.def_property_readonly(
                f.name,
                [&f, inner](py::handle self) {
                    const auto at = reinterpret_cast<const u8*>(&inner(*self.cast<Owner*>()));
                    return get_field(at, f, self);
                },
                f.doc);
        }
    }
}

} // namespace refhv::python
