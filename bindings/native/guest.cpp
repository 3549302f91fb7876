// SPDX-License-Identifier: MIT
// Guests: client::Guest with its target kept alive, its calls in turn, and its arguments looked at.
#include "bindings/native/guest.hpp"

#include "refhv/client/batch.hpp"

#include <algorithm>

namespace refhv::python {
namespace {

constexpr usize piece = usize{64} * 1024; // of memory, in one operation

// The bytes of a buffer that Python holds.
class Bytes {
  public:
    Bytes(py::handle from, const char* what) {
        if (PyObject_CheckBuffer(from.ptr()) == 0) {
            throw py::type_error(std::string(what) + " takes bytes or another buffer, not " +
                                 std::string(py::str(py::type::of(from).attr("__name__"))));
        }
        info_ = py::reinterpret_borrow<py::buffer>(from).request();
        if (PyBuffer_IsContiguous(info_.view(), 'C') == 0) {
            throw py::value_error(std::string(what) + " must be contiguous");
        }
    }
    [[nodiscard]] std::span<const u8> get() const {
        return {static_cast<const u8*>(info_.ptr), static_cast<usize>(info_.size * info_.itemsize)};
    }

  private:
    py::buffer_info info_;
};

void write_memory(GuestBox& box, py::handle gpa, py::handle data) {
    const u64 at = natural(gpa, "gpa");
    const Bytes held(data, "data");
    const auto bytes = held.get();
    for (usize done = 0; done < bytes.size(); done += piece) {
        const auto part = bytes.subspan(done, std::min(piece, bytes.size() - done));
        box.use([&](client::Guest& guest, client::Target&) {
            box.make_room(part.size());
            guest.write(at + done, part);
        });
    }
}

py::array_t<u8> read_memory(GuestBox& box, py::handle gpa, py::handle size) {
    const u64 at = natural(gpa, "gpa"), count = natural(size, "size", ~at);
    std::vector<u8> bytes;
    if (count > piece) { // is all of it there? Before much of it is read.
        static_cast<void>(read_memory(box, py::int_(at + count - 1), py::int_(1)));
    }
    while (bytes.size() < count) {
        box.use([&](client::Guest& guest, client::Target& target) {
            guest.settle();
            const u64 part = std::min<u64>(piece, count - bytes.size());
            client::Batch batch;
            batch.add<abi::Op::mem_read>(
                abi::MemRange{.vm = box.slot(), .zero = 0, .gpa = at + bytes.size(), .size = part});
            const auto payload = target.call(batch.payload(), guest.patience);
            const auto replies = client::parse_replies(payload);
            if (replies.size() != 1 || replies[0].outcome != abi::Outcome::ok) {
                throw client::Refused(abi::Op::mem_read, replies.at(0).outcome, replies.at(0).text());
            }
            const auto got = replies[0].tail<u8>(0, part);
            bytes.insert(bytes.end(), got.begin(), got.end());
        });
    }
    auto* kept = new std::vector<u8>(std::move(bytes));
    const py::capsule owner(kept, [](void* p) { delete static_cast<std::vector<u8>*>(p); });
    return py::array_t<u8>({kept->size()}, {usize{1}}, kept->data(), owner);
}

void load(GuestBox& box, py::handle code, py::handle copies, py::handle tail) {
    const Bytes one(code, "code"), two(tail, "tail");
    const auto text = one.get(), rest = two.get();
    const u64 times = natural(copies, "copies", client::layout::code_bytes);
    if (text.size() * times + rest.size() > client::layout::code_bytes) {
        throw py::value_error("guest code of " + std::to_string(text.size() * times + rest.size()) +
                              " bytes does not fit the " + std::to_string(client::layout::code_bytes) +
                              " that the layout has for it");
    }
    const auto as_code = [](std::span<const u8> bytes) {
        return client::GuestCode{bytes.data(), bytes.data() + bytes.size()};
    };
    box.use([&](client::Guest& guest, client::Target&) {
        box.make_room(client::layout::code_bytes);
        guest.load(as_code(text), static_cast<u32>(times), as_code(rest));
    });
}

// A number that has to fit in T.
template <class T>
T fitting(py::handle value, const char* what) {
    return static_cast<T>(natural(value, what, std::numeric_limits<T>::max()));
}

void add_memory(py::class_<GuestBox>& guest) {
    guest
        .def("load", &load, py::arg("code"), py::arg("copies") = 1, py::arg("tail") = py::bytes(),
             "Machine code for the next run, put at layout.code `copies` times in a row, then `tail`, then a "
             "jump to the "
             "stop stub. Raises ValueError if it does not fit.")
        .def("write", &write_memory, py::arg("gpa"), py::arg("data"),
             "Bytes (any contiguous buffer) to guest-physical memory, with the next request.")
        .def("read", &read_memory, py::arg("gpa"), py::arg("size"),
             "Guest-physical memory now, as an array of uint8.")
        .def(
            "fill",
            [](GuestBox& box, py::handle gpa, py::handle start, py::handle step, py::handle count,
               bool relocate) {
                const u64 a = natural(gpa, "gpa"), b = natural(start, "start"), c = natural(step, "step"),
                          n = natural(count, "count", abi::max_fill_count);
                box.use([&](client::Guest& g, client::Target&) { g.fill(a, b, c, n, relocate); });
            },
            py::arg("gpa"), py::arg("start"), py::arg("step"), py::arg("count"), py::arg("relocate") = false,
            "memory64[gpa + 8 i] = start + i step for i below count. relocate: values are guest-physical "
            "addresses with "
            "flags, and mode native makes them physical ones.")
        .def(
            "protect",
            [](GuestBox& box, py::handle gpa, py::handle pages, py::handle rights) {
                const u64 a = natural(gpa, "gpa"), n = natural(pages, "pages");
                const auto r = fitting<u32>(rights, "rights");
                box.use([&](client::Guest& g, client::Target&) { g.protect(a, n, r); });
            },
            py::arg("gpa"), py::arg("pages"), py::arg("rights"),
            "Rights of the nested mapping: bit 0 read, 1 write, 2 execute; 0 unmaps (EPT: SDM 3C 29.3.2; "
            "NPT: APM 2 15.25).")
        .def(
            "gate",
            [](GuestBox& box, py::handle vector, py::handle handler) {
                const auto v = static_cast<u32>(natural(vector, "vector", 255));
                const u64 h = natural(handler, "handler");
                box.use([&](client::Guest& g, client::Target&) { g.gate(v, h); });
            },
            py::arg("vector"), py::arg("handler"),
            "An interrupt gate of ring 0 to that address (SDM 3A figure 6-8).")
        .def(
            "host_physical",
            [](GuestBox& box, py::handle gpa) {
                const u64 a = natural(gpa, "gpa");
                return box.use([&](client::Guest& g, client::Target&) { return g.host_physical(a); });
            },
            py::arg("gpa"), "Where that guest-physical address is in the host.");
}

void add_nested(py::class_<GuestBox>& guest) {
    guest
        .def(
            "nested_entry",
            [](GuestBox& box, py::handle gpa, py::handle level, py::handle value, py::handle flags,
               py::handle count, py::handle step) {
                const u64 a = natural(gpa, "gpa"), v = natural(value, "value"), s = natural(step, "step");
                const auto l = static_cast<unsigned>(natural(level, "level", 4, 1));
                const auto f = static_cast<u32>(word_value("NestedEntryFlags", flags, "flags"));
                const auto n = static_cast<u32>(natural(count, "count", abi::max_entry_count));
                box.use([&](client::Guest& g, client::Target&) { g.nested_entry(a, l, v, f, n, s); });
            },
            py::arg("gpa"), py::arg("level"), py::arg("value"), py::arg("flags") = 0, py::arg("count") = 1,
            py::arg("step") = 0,
            "Raw entries of the nested tables, with the next request; NestedEntry says what becomes of the "
            "value. "
            "Invalidates nothing.")
        .def(
            "nested_entry_at",
            [](GuestBox& box, py::handle gpa, py::handle level) {
                const u64 a = natural(gpa, "gpa");
                const auto l = static_cast<unsigned>(natural(level, "level", 4, 1));
                return box.use([&](client::Guest& g, client::Target&) { return g.nested_entry_at(a, l); });
            },
            py::arg("gpa"), py::arg("level") = 1,
            "The entry of that level now, or the one above where the walk ends.")
        .def(
            "invalidate",
            [](GuestBox& box, py::handle kind, py::handle address, py::handle repeats,
               const py::object& tag) {
                const auto k = static_cast<abi::Invalidation>(word_value("Invalidation", kind, "kind"));
                const u64 a = natural(address, "address");
                const auto n = static_cast<u32>(natural(repeats, "repeats", abi::max_invalidations));
                const auto t = tag.is_none() ? std::optional<u64>{} : natural(tag, "tag");
                return box.use([&](client::Guest& g, client::Target&) { return g.invalidate(k, a, n, t); });
            },
            py::arg("kind"), py::arg("address") = 0, py::arg("repeats") = 1, py::arg("tag") = py::none(),
            "Drops translations (SDM 3C 31.3; APM 2 15.16). Raises Refused where the CPU has no such thing.");
}

void add_running(py::class_<GuestBox>& guest) {
    guest
        .def_property(
            "state", [](GuestBox& box) -> abi::GuestState& { return box.guest().state; },
            [](GuestBox& box, py::handle state) {
                if (!py::isinstance<abi::GuestState>(state)) {
                    throw py::type_error("state takes a GuestState");
                }
                box.guest().state = state.cast<abi::GuestState&>();
            },
            py::return_value_policy::reference_internal,
            "What the next run starts with; run() does not change it.")
        .def(
            "settle",
            [](GuestBox& box, bool with_state) {
                return box.use([&](client::Guest& g, client::Target&) { return g.settle(with_state); });
            },
            py::arg("with_state") = false,
            "Sends what is queued now; what the core said to the intercepts. with_state: the state and the "
            "fields, too.")
        .def("drop", &GuestBox::drop, "Destroys the VM. The object is of no further use.")
        .def(
            "write_field",
            [](GuestBox& box, py::handle field, py::handle width, py::handle value) {
                const auto f = fitting<u32>(field, "field");
                const auto w = fitting<u32>(width, "width");
                const u64 v = natural(value, "value");
                box.use([&](client::Guest& g, client::Target&) { g.field(f, w, v); });
            },
            py::arg("field"), py::arg("width"), py::arg("value"),
            "Raw VMCS field (by encoding) or VMCB bytes (by offset and width), with the next run and behind "
            "its state. "
            "`fields` does this by name.")
        .def(
            "read_field",
            [](GuestBox& box, py::handle field, py::handle width, bool set_state) {
                const auto f = fitting<u32>(field, "field");
                const auto w = fitting<u32>(width, "width");
                return box.use(
                    [&](client::Guest& g, client::Target&) { return g.read_field(f, w, set_state); });
            },
            py::arg("field"), py::arg("width"), py::arg("set_state") = false,
            "Reads one now. set_state: with the state of the next run in place, else as the last run left "
            "it.");
}

} // namespace

void add_guest(py::module_& m) {
    add_results(m);
    py::class_<GuestBox> guest(m, "Guest",
                               "A guest in a VM slot of a target; refhv.Guest is what people use.");
    guest.def(py::init(&GuestBox::make), py::arg("target"), py::arg("plan"), py::arg("slot") = py::none());
    guest.def_property_readonly("slot", &GuestBox::slot, "Of the VM, for a Batch of one's own.");
    guest.def_property_readonly(
        "mode", [](const GuestBox& b) { return word("Mode", static_cast<u64>(b.plan().mode)); });
    guest.def_property_readonly("target", &GuestBox::connection);
    add_memory(guest);
    add_nested(guest);
    add_running(guest);
    add_runs(guest);
}

} // namespace refhv::python
