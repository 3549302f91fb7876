// SPDX-License-Identifier: MIT
// Python values to the contract's and back.
#include "bindings/native/structures.hpp"

#include <cstring>
#include <map>

namespace refhv::python {
namespace {

std::map<std::string, py::object>& classes() {
    static auto* made =
        new std::map<std::string, py::object>; // as long as the process: the interpreter goes first
    return *made;
}

const Enumeration& table(const char* name) {
    for (const Enumeration& e : enumerations) {
        if (std::strcmp(e.name, name) == 0) {
            return e;
        }
    }
    throw std::logic_error(std::string("no enumeration ") + name);
}

std::string printed(py::handle value) {
    std::string text = py::repr(value);
    constexpr usize longest = 60;
    return text.size() <= longest ? text : text.substr(0, longest) + "…";
}

u64 bits_of(const Field& f) {
    return f.element() >= 8 ? ~u64{0} : (u64{1} << 8 * f.element()) - 1;
}

template <class T>
py::array_t<T> elements(const u8* at, usize count, py::handle owner) {
    return py::array_t<T>({count}, {sizeof(T)}, reinterpret_cast<const T*>(at), owner);
}

void set_array(u8* at, const std::string& what, const Field& f, py::handle value) {
    if (py::isinstance<py::str>(value) || !py::isinstance<py::iterable>(value)) {
        throw py::type_error(what + " takes " + std::to_string(f.count) + " integers, not " + printed(value));
    }
    std::vector<u64> numbers;
    for (const py::handle item : py::iter(value)) {
        if (numbers.size() == f.count) {
            throw py::value_error(what + " has " + std::to_string(f.count) + " elements, and was given more");
        }
        numbers.push_back(natural(item, what, bits_of(f)));
    }
    if (numbers.size() != f.count) {
        throw py::value_error(what + " has " + std::to_string(f.count) + " elements, and was given " +
                              std::to_string(numbers.size()));
    }
    for (usize i = 0; i < f.count; ++i) {
        std::memcpy(at + i * f.element(), &numbers[i], f.element());
    }
}

} // namespace

void add_enumerations(py::module_& m) {
    const py::module_ standard = py::module_::import("enum");
    for (const Enumeration& e : enumerations) {
        py::dict words;
        for (const Word& w : e.words) {
            words[w.name] = w.value;
        }
        py::object made =
            standard.attr(e.flags ? "IntFlag" : "IntEnum")(e.name, words, py::arg("module") = "refhv");
        made.attr("__str__") = standard.attr("Enum").attr("__str__"); // "Reason.cpuid", not a number
        std::string doc = e.doc;
        for (const Word& w : e.words) {
            doc += *w.doc == '\0' ? "" : std::string("\n\n") + w.name + ": " + w.doc;
        }
        made.attr("__doc__") = doc;
        classes()[e.name] = made;
        m.attr(e.name) = made;
    }
}

std::string near(const std::string& name, const py::object& names) {
    const py::list found = py::module_::import("difflib").attr("get_close_matches")(name, names);
    std::string text;
    for (const py::handle one : found) {
        text += (text.empty() ? "; did you mean '" : "', '") + std::string(py::str(one));
    }
    return text.empty() ? text : text + "'?";
}

u64 natural(py::handle value, const std::string& what, u64 most, u64 least) {
    const py::object index = py::reinterpret_steal<py::object>(PyNumber_Index(value.ptr()));
    if (!index) {
        PyErr_Clear();
        throw py::type_error(what + " takes an integer, not " + printed(value));
    }
    const u64 number = PyLong_AsUnsignedLongLong(index.ptr());
    const bool outside = PyErr_Occurred() != nullptr;
    PyErr_Clear();
    if (outside || number > most || number < least) {
        throw py::value_error(what + " is " + printed(index) + ", and must lie in " + std::to_string(least) +
                              " to " + std::to_string(most));
    }
    return number;
}

py::object word(const char* enumeration, u64 value) {
    const Enumeration& e = table(enumeration);
    if (e.flags) {
        return classes()[enumeration](value);
    }
    for (const Word& w : e.words) {
        if (w.value == value) {
            return classes()[enumeration](value);
        }
    }
    return py::int_(value);
}

u64 word_value(const char* enumeration, py::handle value, const std::string& what) {
    if (!py::isinstance<py::str>(value)) {
        return natural(value, what);
    }
    const std::string name = py::str(value);
    py::list names;
    for (const Word& w : table(enumeration).words) {
        if (name == w.name) {
            return w.value;
        }
        names.append(w.name);
    }
    throw py::value_error(what + ": " + enumeration + " has no " + printed(value) + near(name, names));
}

u64 word_set(const char* enumeration, py::handle value, const std::string& what) {
    if (py::isinstance<py::str>(value)) {
        return u64{1} << word_value(enumeration, value, what);
    }
    if (PyIndex_Check(value.ptr()) != 0 && !py::isinstance(value, classes()[enumeration])) {
        return natural(value, what);
    }
    if (!py::isinstance<py::iterable>(value)) {
        throw py::type_error(what + " takes words of " + enumeration + ", not " + printed(value));
    }
    u64 set = 0;
    for (const py::handle one : py::iter(value)) {
        const u64 bit = word_value(enumeration, one, what);
        if (bit > 63) {
            throw py::value_error(what + ": there is no bit " + std::to_string(bit));
        }
        set |= u64{1} << bit;
    }
    return set;
}

py::object get_field(const u8* structure, const Field& f, py::handle self) {
    const u8* at = structure + f.offset;
    if (f.kind == Kind::structure) {
        const Structure* inner = find_structure(f.structure);
        if (f.count == 0) {
            return inner->refer(at, self);
        }
        py::tuple all(f.count);
        for (usize i = 0; i < f.count; ++i) {
            all[i] = inner->refer(at + i * f.element(), self);
        }
        return all;
    }
    if (f.kind == Kind::text) {
        const auto* text = reinterpret_cast<const char*>(at);
        return py::reinterpret_steal<py::object>(
            PyUnicode_DecodeUTF8(text, static_cast<Py_ssize_t>(strnlen(text, f.size)), "replace"));
    }
    if (f.count != 0) {
        switch (f.element()) {
        case 1:
            return py::bytes(reinterpret_cast<const char*>(at), f.count);
        case 2:
            return elements<u16>(at, f.count, self);
        case 4:
            return elements<u32>(at, f.count, self);
        default:
            return elements<u64>(at, f.count, self);
        }
    }
    u64 value = 0;
    std::memcpy(&value, at, f.size);
    if (f.kind == Kind::integer) {
        return py::int_(static_cast<i64>(value << (64 - 8 * f.size)) >> (64 - 8 * f.size));
    }
    switch (f.words) {
    case Words::one:
    case Words::flags:
        return word(f.enumeration, value);
    case Words::set: {
        py::set bits;
        for (unsigned bit = 0; bit < 64; ++bit) {
            if ((value >> bit & 1) != 0) {
                bits.add(word(f.enumeration, bit));
            }
        }
        return py::frozenset(bits);
    }
    default:
        return py::int_(value);
    }
}

void set_field(u8* structure, const char* owner, const Field& f, py::handle value) {
    const std::string what = std::string(owner) + "." + f.name;
    u8* at = structure + f.offset;
    if (f.kind == Kind::structure) {
        const Structure* inner = find_structure(f.structure);
        if (f.count != 0 || !py::isinstance(value, classes()[f.structure])) {
            throw py::type_error(f.count != 0 ? what + " is set by its elements"
                                              : what + " takes a " + f.structure + ", not " + printed(value));
        }
        std::memmove(at, inner->bytes(value), f.size);
        return;
    }
    if (f.kind == Kind::text) {
        throw py::type_error(what + " cannot be set");
    }
    if (f.count != 0) {
        set_array(at, what, f, value);
        return;
    }
    if (f.kind == Kind::integer) {
        const i64 number = PyLong_AsLongLong(value.ptr());
        if (PyErr_Occurred() != nullptr) {
            PyErr_Clear();
            throw py::type_error(what + " takes an integer, not " + printed(value));
        }
        std::memcpy(at, &number, f.size);
        return;
    }
    const u64 number = f.words == Words::none  ? natural(value, what, bits_of(f))
                       : f.words == Words::set ? word_set(f.enumeration, value, what)
                                               : word_value(f.enumeration, value, what);
    if (number > bits_of(f)) {
        throw py::value_error(what + " is " + std::to_string(number) + ", and has " +
                              std::to_string(8 * f.size) + " bits");
    }
    std::memcpy(at, &number, f.size);
}

void set_fields(u8* structure, const char* owner, std::span<const Field> fields, const py::dict& values) {
    for (const auto& [key, value] : values) {
        const std::string name = py::str(key);
        const Field* known = nullptr;
        py::list names;
        for (const Field& f : fields) {
            if (!f.reserved) {
                names.append(f.name);
                known = name == f.name ? &f : known;
            }
        }
        if (known == nullptr) {
            throw py::type_error(std::string(owner) + " has no field '" + name + "'" + near(name, names));
        }
        set_field(structure, owner, *known, value);
    }
}

void remember_class(const char* name, const py::object& made) {
    classes()[name] = made;
}

py::dtype dtype_of(std::span<const Field> fields, usize size) {
    py::list names, formats, offsets;
    for (const Field& f : fields) {
        if (f.reserved) {
            continue;
        }
        py::object format = py::str((f.kind == Kind::integer ? "i"
                                     : f.kind == Kind::text  ? "S"
                                                             : "u") +
                                    std::to_string(f.kind == Kind::text ? f.size : f.element()));
        if (f.kind == Kind::structure) {
            const Structure* inner = find_structure(f.structure);
            format = dtype_of(inner->fields, inner->size);
        }
        if (f.count != 0 && f.kind != Kind::text) {
            format = py::make_tuple(format, py::make_tuple(f.count));
        }
        names.append(f.name);
        formats.append(format);
        offsets.append(f.offset);
    }
    return py::dtype(names, formats, offsets, static_cast<py::ssize_t>(size));
}

} // namespace refhv::python
