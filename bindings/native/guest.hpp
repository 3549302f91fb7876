// SPDX-License-Identifier: MIT
// A guest that Python holds.
#pragma once

#include "bindings/native/module.hpp"

namespace refhv::python {

class GuestBox {
  public:
    // Makes the VM. `plan`: the fields of client::Plan by name. `slot`: None for one that no other guest
    // holds.
    [[nodiscard]] static std::unique_ptr<GuestBox> make(std::shared_ptr<Connection> line,
                                                        const py::dict& plan, const py::object& slot);
    GuestBox(const GuestBox&) = delete;
    GuestBox& operator=(const GuestBox&) = delete;
    ~GuestBox();

    // f(client::Guest&, client::Target&) in turn. Throws GuestGone besides what Connection::use does.
    template <class F>
    auto use(F f) {
        static_cast<void>(guest());
        return line_->use([&](client::Target& target) {
            if (generation_ != target.generation()) {
                throw GuestGone(lost());
            }
            return f(*guest_, target);
        });
    }
    // Sends what is queued where a request would else become too large. Within use().
    void make_room(usize bytes);
    void drop();
    // Throws GuestGone.
    [[nodiscard]] client::Guest& guest();
    [[nodiscard]] u32 slot() const { return slot_; }
    [[nodiscard]] const client::Plan& plan() const { return plan_; }
    [[nodiscard]] std::shared_ptr<Connection> connection() const { return line_; }

  private:
    GuestBox(std::shared_ptr<Connection> line, u32 slot) : line_(std::move(line)), slot_(slot) {
        use_ = line_->slot(slot).use;
    }
    [[nodiscard]] std::string lost() const;

    std::shared_ptr<Connection> line_;
    u32 slot_;
    u64 use_ = 0;
    client::Plan plan_;
    std::unique_ptr<client::Guest> guest_; // null: dropped
    unsigned generation_ = 0;              // of the target when the VM was made
    usize queued_ = 0;
};

void add_results(py::module_& m);
void add_runs(py::class_<GuestBox>& guest);

} // namespace refhv::python
