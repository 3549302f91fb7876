// SPDX-License-Identifier: MIT
// Requests and replies as the contract has them, operation by operation.
#include "bindings/native/module.hpp"

#include "refhv/client/batch.hpp"

#include <pybind11/stl.h>

namespace refhv::python {
namespace {

// One row of abi::Operations, as data.
struct Row {
    abi::Op number;
    const char* name;
    const char* body;
    const char* reply; // empty: none
    std::span<const Field> fields;
    usize body_size, reply_size;
    bool has_data;
};

const std::vector<Row>& rows() {
    static const std::vector<Row> all = [] {
        std::vector<Row> made;
        abi::Operations::each([&]<class R>(R) {
            Row row{.number = R::number,
                    .name = R::name,
                    .body = Described<typename R::Body>::name,
                    .reply = "",
                    .fields = Described<typename R::Body>::fields,
                    .body_size = sizeof(typename R::Body),
                    .reply_size = 0,
                    .has_data = R::has_data};
            if constexpr (R::has_reply) {
                row.reply = Described<typename R::Reply>::name;
                row.reply_size = sizeof(typename R::Reply);
            }
            made.push_back(row);
        });
        return made;
    }();
    return all;
}

const Row& row_of(u64 number) {
    for (const Row& row : rows()) {
        if (static_cast<u64>(row.number) == number) {
            return row;
        }
    }
    throw py::value_error("the contract has no operation " + std::to_string(number));
}

struct Request {
    client::Batch batch;

    Request& add(py::handle op, const py::object& data, const py::dict& fields) {
        const Row& row = row_of(word_value("Op", op, "op"));
        std::vector<u8> body(row.body_size);
        set_fields(body.data(), row.body, row.fields, fields);
        if (data.is_none()) {
            batch.add_raw(row.number, body, {});
            return *this;
        }
        if (!row.has_data) {
            throw py::type_error(std::string(row.name) + " takes no data");
        }
        const py::buffer_info bytes = py::buffer(data).request();
        if (PyBuffer_IsContiguous(bytes.view(), 'C') == 0) {
            throw py::value_error(std::string(row.name) + ": its data must be contiguous");
        }
        batch.add_raw(row.number, body,
                      {static_cast<const u8*>(bytes.ptr), static_cast<usize>(bytes.size * bytes.itemsize)});
        return *this;
    }
};

// A reply and the payload into which it points.
struct Answer {
    std::shared_ptr<std::vector<u8>> payload;
    client::Reply reply;

    [[nodiscard]] bool has_body() const {
        switch (reply.outcome) {
        case abi::Outcome::ok:
        case abi::Outcome::exited:
        case abi::Outcome::entry_refused:
        case abi::Outcome::repeats_done:
        case abi::Outcome::deadline:
            return true;
        case abi::Outcome::stopped:
            return reply.op == abi::Op::run;
        default:
            return false;
        }
    }
};

py::object body_of(const py::object& self) {
    const auto& answer = self.cast<const Answer&>();
    const Row& row = row_of(static_cast<u64>(answer.reply.op));
    if (!answer.has_body() || row.reply_size == 0) {
        return py::none();
    }
    if (answer.reply.body.size() < row.reply_size) {
        throw client::MalformedReply("a reply of " + std::to_string(answer.reply.body.size()) +
                                     " bytes where " + std::to_string(row.reply_size) + " are due");
    }
    return find_structure(row.reply)->refer(answer.reply.body.data(), self);
}

py::array data_of(const py::object& self) {
    const auto& answer = self.cast<const Answer&>();
    const usize fixed = answer.has_body() ? row_of(static_cast<u64>(answer.reply.op)).reply_size : 0;
    const auto rest = answer.reply.body.subspan(std::min(fixed, answer.reply.body.size()));
    py::array array(py::dtype::of<u8>(), {rest.size()}, {usize{1}}, rest.data(), self);
    array.attr("flags").attr("writeable") = false;
    return array;
}

std::vector<Answer> send(Connection& to, const Request& request, double patience) {
    const auto wait = seconds(patience, "patience");
    auto payload = std::make_shared<std::vector<u8>>(
        to.use([&](client::Target& t) { return t.call(request.batch.payload(), wait); }));
    std::vector<Answer> answers;
    for (const client::Reply& r : client::parse_replies(*payload)) {
        answers.push_back({payload, r});
    }
    return answers;
}

} // namespace

void add_batch(py::module_& m) {
    py::class_<Answer>(m, "Reply", "The answer to one operation.")
        .def_property_readonly("op", [](const Answer& a) { return word("Op", static_cast<u64>(a.reply.op)); })
        .def_property_readonly(
            "outcome", [](const Answer& a) { return word("Outcome", static_cast<u64>(a.reply.outcome)); })
        .def_property_readonly(
            "text", [](const Answer& a) { return a.reply.text(); },
            "What the core says about an outcome that is an error, else empty.")
        .def_property_readonly("body", &body_of,
                               "The fixed part, such as a RunReply; None where there is none.")
        .def_property_readonly("data", &data_of,
                               "The bytes behind the fixed part, as an array that is not copied.")
        .def("__repr__", [](const Answer& a) {
            const std::string text = a.reply.text();
            return std::string("Reply(") + name_of(a.reply.op) + ": " + client::name_of(a.reply.outcome) +
                   (text.empty() ? ")" : ": " + text + ")");
        });
    py::class_<Request>(m, "Batch",
                        "Operations of the contract (refhv/contract/operations.hpp) that go out in one "
                        "request, at most 1 MByte.")
        .def(py::init<>())
        .def(
            "add",
            [](Request& r, py::handle op, const py::object& data, const py::kwargs& fields) -> Request& {
                return r.add(op, data, fields);
            },
            py::arg("op"), py::arg("data") = py::none(), py::return_value_policy::reference,
            "Appends an operation by its name; its body's fields as keywords, what follows the body as "
            "`data` (a buffer). Returns the batch.")
        .def("__len__", [](const Request& r) { return r.batch.operations(); });
    m.def("send", &send, py::arg("target"), py::arg("batch"), py::arg("patience") = 20.0,
          "Sends a batch, waits at most `patience` seconds, and returns a Reply for each operation. Refusals "
          "are told "
          "there; raises TargetMiss.");
}

} // namespace refhv::python
