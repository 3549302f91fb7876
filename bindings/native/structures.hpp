// SPDX-License-Identifier: MIT
// The contract's structures and enumerations as Python classes.
#pragma once

#include "bindings/native/tables.hpp"

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <span>
#include <string>

namespace refhv::python {

namespace py = pybind11;

// Python's side of one structure.
struct Structure {
    std::span<const Field> fields;
    usize size;
    u8* (*bytes)(py::handle self);                          // of an instance
    py::object (*refer)(const void* at, py::handle parent); // an instance that is part of another
};

void add_enumerations(py::module_& m);
void add_structures(py::module_& m);
// Offset and width of each VMCB field by name; of a segment's parts as cs_selector.
[[nodiscard]] py::dict vmcb_fields();

// An enumeration's word; the number itself where the enumeration has none for it.
[[nodiscard]] py::object word(const char* enumeration, u64 value);
// From a word, its name or its number. Throws ValueError (near names) or TypeError; `what` begins the
// message.
[[nodiscard]] u64 word_value(const char* enumeration, py::handle value, const std::string& what);
// From words in an iterable, or a number whose bits they are.
[[nodiscard]] u64 word_set(const char* enumeration, py::handle value, const std::string& what);
// An integer from `least` on that `most` does not exceed. Throws TypeError, ValueError.
[[nodiscard]] u64 natural(py::handle value, const std::string& what, u64 most = ~u64{0}, u64 least = 0);
// "; did you mean 'a', 'b'?" or nothing.
[[nodiscard]] std::string near(const std::string& name, const py::object& names);

// Reads one; `self` is the object of which it is part.
[[nodiscard]] py::object get_field(const u8* structure, const Field& f, py::handle self);
// Writes one field of a structure from a Python value. Throws TypeError, ValueError.
void set_field(u8* structure, const char* owner, const Field& f, py::handle value);
// From keyword arguments. Throws TypeError for one that names no field.
void set_fields(u8* structure, const char* owner, std::span<const Field> fields, const py::dict& values);

void remember_class(const char* name, const py::object& made);
// The structure of this name; null: there is none.
[[nodiscard]] const Structure* find_structure(const std::string& name);
// NumPy's type for an array of these, by the contract's names.
[[nodiscard]] py::dtype dtype_of(std::span<const Field> fields, usize size);

// `count` structures at `at`, which live as long as `owner`, as a read-only array. Nothing is copied.
template <class S>
[[nodiscard]] py::array view(const S* at, usize count, py::handle owner) {
    py::array array(dtype_of(Described<S>::fields, sizeof(S)), {count}, {sizeof(S)}, at, owner);
    array.attr("flags").attr("writeable") = false;
    return array;
}

} // namespace refhv::python
