// SPDX-License-Identifier: MIT
// The client's exceptions as those of refhv.errors.
#include "bindings/native/module.hpp"

#include "refhv/client/batch.hpp"
#include "refhv/client/process.hpp"

#include <cmath>

namespace refhv::python {
namespace {

// One line, whatever a target's log had in it.
void raise(const char* type, const std::string& text, abi::Outcome outcome = {}) {
    py::object words = py::reinterpret_steal<py::object>(
        PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "replace"));
    words = py::str(" ").attr("join")(words.attr("split")());
    const py::object made = py::module_::import("refhv.errors").attr(type)(words);
    if (outcome != abi::Outcome{}) {
        made.attr("outcome") = word("Outcome", static_cast<u64>(outcome));
    }
    PyErr_SetObject(py::type::of(made).ptr(), made.ptr());
}

void translate(std::exception_ptr failure) { // NOLINT(performance-unnecessary-value-param): pybind11's form
    if (!failure) {
        return;
    }
    try {
        std::rethrow_exception(failure);
    } catch (const client::Refused& e) {
        raise("Refused", e.what(), e.outcome);
    } catch (const client::BadTargetName& e) {
        raise("BadTargetName", e.what());
    } catch (const client::TargetUnusable& e) {
        raise("TargetUnusable", e.what());
    } catch (const client::TargetMiss& e) {
        raise("TargetMiss", e.what());
    } catch (const client::SpawnFailed& e) {
        raise("TargetUnusable", e.what());
    } catch (const client::MalformedReply& e) {
        raise("TargetMiss", e.what());
    } catch (const Closed& e) {
        raise("TargetClosed", e.what());
    } catch (const GuestGone& e) {
        raise("GuestGone", e.what());
    }
}

} // namespace

void add_failures(py::module_& m) {
    (void)m;
    py::register_exception_translator(translate);
}

std::chrono::milliseconds seconds(double value, const char* what) {
    constexpr double week = 7 * 24 * 3600;
    if (!(value > 0) || value > week) { // and where it is no number
        throw py::value_error(std::string(what) + " must be above 0 s and at most a week");
    }
    return std::chrono::milliseconds{static_cast<long long>(std::ceil(value * 1000))};
}

} // namespace refhv::python
