// SPDX-License-Identifier: MIT
#include "bindings/native/guest.hpp"

#include <pybind11/stl.h>

namespace refhv::python {
namespace {

template <class S>
std::vector<S> structures_in(const py::handle& list, const char* what) {
    if (!py::isinstance<py::iterable>(list)) {
        throw py::type_error(std::string(what) + " takes a list of " + Described<S>::name);
    }
    std::vector<S> all;
    for (const py::handle one : py::iter(list)) {
        if (!py::isinstance<S>(one)) {
            throw py::type_error(std::string(what) + " takes a list of " + Described<S>::name);
        }
        all.push_back(one.cast<S>());
    }
    return all;
}

u32 vectors(py::handle value) {
    if (PyIndex_Check(value.ptr()) != 0) {
        return static_cast<u32>(natural(value, "exceptions", ~u32{0}));
    }
    if (!py::isinstance<py::iterable>(value)) {
        throw py::type_error("exceptions takes vectors, or a number whose bits they are");
    }
    u32 set = 0;
    for (const py::handle one : py::iter(value)) {
        set |= u32{1} << natural(one, "an exception's vector", 31);
    }
    return set;
}

client::Stop stop_of(py::handle value) {
    const std::string name = py::str(value);
    if (name != "hlt" && name != "port") {
        throw py::value_error("stop is \"hlt\" or \"port\", not " + std::string(py::repr(value)));
    }
    return name == "hlt" ? client::Stop::hlt : client::Stop::port;
}

client::Plan plan_of(const py::dict& values, client::Plan plan) {
    constexpr u64 most_pages = u64{1} << 28; // 1 TByte
    py::list names;
    for (const char* name : {"mode", "nested_page_size", "tag_policy", "arena_pages", "more_pages", "osxsave",
                             "stop", "intercepts", "exceptions", "msrs", "ports", "policy"}) {
        names.append(name);
    }
    for (const auto& [key, value] : values) {
        const std::string name = py::str(key);
        if (name == "mode") {
            plan.mode = value.is_none() ? plan.mode : static_cast<abi::Mode>(word_value("Mode", value, name));
        } else if (name == "nested_page_size") {
            plan.nested_page_size = static_cast<abi::PageSize>(word_value("PageSize", value, name));
        } else if (name == "tag_policy") {
            plan.tag_policy = static_cast<abi::TagPolicy>(word_value("TagPolicy", value, name));
        } else if (name == "arena_pages") {
            plan.arena_pages = natural(value, name, most_pages);
        } else if (name == "more_pages") {
            plan.more_pages = natural(value, name, most_pages);
        } else if (name == "osxsave") {
            plan.osxsave = value.cast<bool>();
        } else if (name == "stop") {
            plan.stop = stop_of(value);
        } else if (name == "intercepts") {
            plan.intercepts = word_set("Intercept", value, name);
        } else if (name == "exceptions") {
            plan.exceptions = vectors(value);
        } else if (name == "msrs") {
            plan.msrs = structures_in<abi::MsrIntercept>(value, "msrs");
        } else if (name == "ports") {
            plan.ports = structures_in<abi::IoIntercept>(value, "ports");
        } else if (name == "policy") {
            plan.policy = structures_in<abi::PolicyEntry>(value, "policy");
        } else {
            throw py::type_error("a guest has no '" + name + "'" + near(name, names));
        }
    }
    return plan;
}

} // namespace

std::unique_ptr<GuestBox> GuestBox::make(std::shared_ptr<Connection> line, const py::dict& plan,
                                         const py::object& slot) {
    if (!line) {
        throw py::type_error("target is None");
    }
    client::Plan wanted;
    wanted.sample_pages = client::layout::sample_pages;
    const std::string& kind = line->info().kind;
    wanted.mode = kind == "process" ? abi::Mode::user : kind == "kvm" ? abi::Mode::kvm : abi::Mode::nested;
    wanted = plan_of(plan, std::move(wanted));
    const auto number =
        slot.is_none() ? std::optional<u32>{} : static_cast<u32>(natural(slot, "slot", abi::max_vms - 1));
    const u32 taken = line->take_slot(number);
    std::unique_ptr<GuestBox> box(
        new GuestBox(std::move(line), taken)); // gives the slot back, whatever comes
    box->plan_ = std::move(wanted);
    box->line_->use([&](client::Target& target) {
        Connection::Slot& mine = box->line_->slot(taken);
        if (mine.unsure && target.generation() == *mine.unsure) { // whatever is there; there may be nothing
            client::Batch batch;
            batch.add<abi::Op::vm_destroy>(abi::VmRef{.vm = taken, .zero = 0});
            static_cast<void>(target.call(batch.payload(), std::chrono::seconds{20}));
            mine.host->occupied.reset();
        }
        mine.unsure = target.generation();
        box->guest_ = std::make_unique<client::Guest>(*mine.host, box->plan_);
        box->guest_->settle();
        box->generation_ = target.generation();
        mine.unsure.reset();
    });
    return box;
}

GuestBox::~GuestBox() {
    Connection::Slot& mine = line_->slot(slot_);
    if (mine.use == use_) {
        mine.held = false;
    }
}

std::string GuestBox::lost() const {
    return line_->name() + ": was started anew since this guest was made, and its VM is gone: make another";
}

client::Guest& GuestBox::guest() {
    if (line_->is_closed()) {
        throw Closed(line_->name() + ": closed; open it again with refhv.open");
    }
    if (!guest_) {
        throw GuestGone("this guest was dropped: make another");
    }
    if (line_->slot(slot_).use != use_) {
        throw GuestGone("another guest has taken VM slot " + std::to_string(slot_) + " from this one");
    }
    return *guest_;
}

void GuestBox::make_room(usize bytes) {
    constexpr usize enough = usize{128} * 1024; // an emulated port takes 0.1 to 1 MByte in a second
    if (queued_ + bytes > enough) {
        guest_->settle();
        queued_ = 0;
    }
    queued_ += bytes;
}

void GuestBox::drop() {
    use([](client::Guest& guest, client::Target&) { guest.drop(); });
    guest_.reset();
    Connection::Slot& mine = line_->slot(slot_);
    mine.held = mine.use != use_ && mine.held;
}

} // namespace refhv::python
