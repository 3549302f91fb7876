// SPDX-License-Identifier: MIT
#include "bindings/native/structures.hpp"

#include <cstring>
#include <map>

namespace refhv::python {

namespace {

std::map<std::string, Structure>& structures() {
    static std::map<std::string, Structure> known;
    return known;
}

void add_property(const py::object& owner, const char* name, const char* doc, py::cpp_function get,
                  py::cpp_function set) {
    static auto* property = new py::object(py::module_::import("builtins").attr("property"));
    owner.attr(name) = (*property)(std::move(get), std::move(set), py::none(), doc);
}

template <class S>
u8* bytes_of(py::handle self) {
    return reinterpret_cast<u8*>(self.cast<S*>());
}

template <class S>
py::object refer(const void* at, py::handle parent) {
    return py::cast(const_cast<S*>(static_cast<const S*>(at)), py::return_value_policy::reference_internal,
                    parent);
}

std::string represent(py::handle self, const char* name, std::span<const Field> fields) {
    std::string text;
    for (const Field& f : fields) {
        if (!f.reserved) {
            text += (text.empty() ? "" : ", ") + std::string(f.name) + "=" +
                    std::string(py::repr(self.attr(f.name)));
        }
    }
    return std::string(name) + "(" + text + ")";
}

template <class S>
void add_structure(py::module_& m) {
    using D = Described<S>;
    constexpr std::span<const Field> fields{D::fields};
    structures()[D::name] = {fields, sizeof(S), bytes_of<S>, refer<S>};
    py::class_<S> made(m, D::name, D::doc);
    made.def(py::init([](const py::kwargs& values) {
        S s{};
        set_fields(reinterpret_cast<u8*>(&s), D::name, fields, values);
        return s;
    }));
    made.def("__repr__", [fields](py::handle self) { return represent(self, D::name, fields); });
    made.def("__bytes__", [](const S& s) { return py::bytes(reinterpret_cast<const char*>(&s), sizeof s); });
    made.def(
        "__eq__", [](const S& a, const S& b) { return std::memcmp(&a, &b, sizeof a) == 0; },
        py::is_operator());
    made.attr("__hash__") = py::none();
    made.def(
        "copy", [](const S& s) { return s; }, "A copy that is nobody else's.");
    made.def(
        "asdict",
        [fields](py::handle self) {
            py::dict all;
            for (const Field& f : fields) {
                if (!f.reserved) {
                    all[f.name] = self.attr(f.name);
                }
            }
            return all;
        },
        "The fields by name.");
    made.def_static(
        "dtype", [fields] { return dtype_of(fields, sizeof(S)); },
        "NumPy's type for arrays of these, by the same names and offsets.");
    remember_class(D::name, made);
    for (const Field& f : fields) {
        if (!f.reserved) {
            add_property(
                made, f.name, f.doc,
                py::cpp_function([&f](py::handle self) { return get_field(bytes_of<S>(self), f, self); },
                                 py::is_method(made)),
                py::cpp_function([&f](py::handle self,
                                      py::handle value) { set_field(bytes_of<S>(self), D::name, f, value); },
                                 py::is_method(made)));
        }
    }
}

// The general registers and the segments by their own names.
void name_registers(py::module_& m) {
    const py::object state = m.attr("GuestState");
    const py::type type = py::type::of<abi::GuestState>();
    for (const Word& w : words_of_Gpr) {
        const u64 i = w.value;
        add_property(
            state, w.name, "",
            py::cpp_function([i](const abi::GuestState& s) { return s.gpr[i]; }, py::is_method(type)),
            py::cpp_function([i, w](abi::GuestState& s, py::handle v) { s.gpr[i] = natural(v, w.name); },
                             py::is_method(type)));
    }
    for (const Word& w : words_of_SegmentIndex) {
        const u64 i = w.value;
        add_property(state, w.name, "",
                     py::cpp_function([i](abi::GuestState& s) -> abi::Segment& { return s.segment[i]; },
                                      py::is_method(type), py::return_value_policy::reference_internal),
                     py::cpp_function(
                         [i, w](abi::GuestState& s, py::handle v) {
                             if (!py::isinstance<abi::Segment>(v)) {
                                 throw py::type_error(std::string(w.name) + " takes a Segment");
                             }
                             s.segment[i] = v.cast<abi::Segment&>();
                         },
                         py::is_method(type)));
    }
}

} // namespace

py::dict vmcb_fields() {
    py::dict all;
    for (const Field& f : Described<svm::Vmcb>::fields) {
        if (f.kind == Kind::structure) {
            for (const Field& part : Described<svm::VmcbSegment>::fields) {
                all[py::str(std::string(f.name) + "_" + part.name)] =
                    py::make_tuple(f.offset + part.offset, part.size);
            }
        } else if (!f.reserved && f.count == 0) {
            all[f.name] = py::make_tuple(f.offset, f.size);
        }
    }
    return all;
}

const Structure* find_structure(const std::string& name) {
    const auto found = structures().find(name);
    return found == structures().end() ? nullptr : &found->second;
}

void add_structures(py::module_& m) {
    Structures::each([&]<class S> { add_structure<S>(m); });
    name_registers(m);
}

} // namespace refhv::python
