// SPDX-License-Identifier: MIT
// What the Python module knows of the contract's structures and enumerations: tables that describe.py makes
// from the headers, and that the compiler holds to them.
#pragma once

#include "refhv/client/guest/layout.hpp"
#include "refhv/contract/abi.hpp"
#include "refhv/contract/permit.hpp"
#include "refhv/svm/vmcb.hpp"
#include "refhv/vmx/fields.hpp"
#include "refhv/x86/registers.hpp"

#include <span>
#include <type_traits>

namespace refhv::python {

struct Word {
    const char* name;
    u64 value;
    const char* doc;
};

// What an integer says besides its value.
enum class Words : u8 {
    none,
    one,   // a word of an enumeration
    set,   // a bit for each word of one
    flags, // an enumeration of bits
};

enum class Kind : u8 {
    natural, // unsigned
    integer, // signed
    text,    // characters up to a NUL
    structure,
};

template <class T>
struct Described;

struct Field {
    const char* name;
    usize offset;
    usize size;  // bytes, of all elements
    usize count; // elements of an array; 0: it is none
    Kind kind;
    bool reserved;
    const char* enumeration;
    Words words;
    const char* doc;
    const char* structure; // the name, of Kind::structure
    [[nodiscard]] constexpr usize element() const { return count == 0 ? size : size / count; }
};

template <class T>
constexpr Field field(const char* name, usize offset, bool reserved, const char* enumeration, Words words,
                      const char* doc) {
    using Element = std::remove_extent_t<T>;
    Field f{.name = name,
            .offset = offset,
            .size = sizeof(T),
            .count = std::extent_v<T>,
            .kind = Kind::structure,
            .reserved = reserved,
            .enumeration = enumeration,
            .words = words,
            .doc = doc,
            .structure = ""};
    if constexpr (std::is_same_v<Element, char>) {
        f.kind = Kind::text;
    } else if constexpr (std::is_class_v<Element>) {
        f.structure = Described<Element>::name;
    } else {
        f.kind = std::is_signed_v<Element> ? Kind::integer : Kind::natural;
    }
    return f;
}

// Do the fields follow each other without a gap, up to the end? The contract has no padding.
template <class S>
consteval bool covers() {
    usize at = 0;
    for (const Field& f : Described<S>::fields) {
        if (f.offset != at) {
            return false;
        }
        at += f.size;
    }
    return at == sizeof(S);
}

struct Enumeration {
    const char* name;
    std::span<const Word> words;
    bool flags;
    const char* doc;
};

template <class... S>
struct List {
    template <class F>
    static void each(F f) {
        (f.template operator()<S>(), ...);
    }
};

#include "bindings/native/contract.inc"

} // namespace refhv::python
