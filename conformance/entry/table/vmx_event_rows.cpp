// SPDX-License-Identifier: MIT
// Rows for the event that an entry injects (SDM 3C 27.2.1.3, 27.3.1.4, 27.3.1.5).
#include "conformance/entry/table/vmx_tables.hpp"

namespace refhv::front::vmx_entry {

namespace {

[[nodiscard]] std::vector<u64> vectors() {
    std::vector<u64> all;
    for (u64 vector = 0; vector <= 33; ++vector) {
        all.push_back(vector);
    }
    for (const u64 vector : {0x3f, 0x40, 0x7f, 0x80, 0xfe, 0xff}) {
        all.push_back(vector);
    }
    return all;
}

[[nodiscard]] constexpr u64 info(u64 type, u64 vector, u64 more = 0) {
    return event_valid | type << 8 | vector | more;
}

// Without an error code, and with one.
void add_event(Rows& rows, u64 type, u64 vector) {
    const u64 on = rows.base[rflags] | rflags_if;
    rows.add({{event, info(type, vector)}, {event_length, 1}, {rflags, on}});
    rows.add({{event, info(type, vector, event_delivers_error)}, {event_length, 1}, {rflags, on}});
}

// A legal event of each type.
struct Sample {
    u64 type, vector, error;
};
constexpr Sample samples[] = {{external_interrupt, 0x30, 0},
                              {nmi, 2, 0},
                              {hardware_exception, 1, 0},
                              {hardware_exception, 6, 0},
                              {hardware_exception, 13, event_delivers_error},
                              {hardware_exception, 18, 0},
                              {software_interrupt, 0x30, 0},
                              {privileged_software, 1, 0},
                              {software_exception, 3, 0}};

void add_sample(Rows& rows, const Sample& e, Change change) {
    change.push_back({event, info(e.type, e.vector, e.error)});
    change.push_back({event_length, 1});
    rows.add(std::move(change));
}

} // namespace

void event_rows(Rows& rows) {
    for (u64 type = 0; type < other_event; ++type) {
        for (const u64 vector : vectors()) {
            add_event(rows, type, vector);
        }
    }
    const u64 on = rows.base[rflags] | rflags_if;
    for (const Sample& e : samples) {
        for (unsigned bit = 12; bit < 31; ++bit) {
            rows.add(
                {{event, info(e.type, e.vector, e.error | u64{1} << bit)}, {event_length, 1}, {rflags, on}});
        }
        for (const u64 length : {0u, 1u, 2u, 14u, 15u, 16u, 17u, 31u, 0x100u, 0x8000'0000u, 0xffff'ffffu}) {
            rows.add({{event, info(e.type, e.vector, e.error)}, {event_length, length}, {rflags, on}});
        }
        rows.add({{event, info(e.type, e.vector, e.error) & ~event_valid}, {event_length, 99}}); // not valid
        for (const u64 blocking : {u64{0}, by_sti, by_mov_ss, by_nmi, by_mov_ss | by_nmi}) {
            if (e.type == nmi && blocking == by_sti) {
                continue; // left to the processor
            }
            for (const u64 flags : {on, rows.base[rflags]}) {
                add_sample(rows, e, {{interruptibility, blocking}, {rflags, flags}});
                if (rows.machine.pin.offers(pin_virtual_nmis)) {
                    add_sample(rows, e,
                               {{interruptibility, blocking},
                                {rflags, flags},
                                {pin_controls, rows.base[pin_controls] | pin_nmi | pin_virtual_nmis}});
                }
            }
        }
    }
    for (unsigned bit = 0; bit < 32; ++bit) { // bit 15 is SGX's in a #PF
        for (const u64 vector : {u64{8}, u64{13}, u64{14}, u64{17}}) {
            if (bit != 15) {
                rows.add({{event, info(hardware_exception, vector, event_delivers_error)},
                          {event_error, u64{1} << bit}});
            }
        }
        rows.add({{event, info(hardware_exception, 6)}, {event_error, u64{1} << bit}}); // not looked at
    }
    // What wakes a CPU, and what does not.
    for (const u64 state : {u64{1}, u64{2}, u64{3}}) {
        for (const Sample& e : samples) {
            add_sample(rows, e, {{activity, state}, {rflags, on}});
        }
        for (u64 vector = 0; vector < 32; ++vector) {
            const bool pushes = vector == 8 || (vector >= 10 && vector <= 14) || vector == 17;
            add_sample(rows, {hardware_exception, vector, pushes ? event_delivers_error : 0},
                       {{activity, state}});
        }
    }
}

// Type 7, by itself, for an emulator that does not survive it.
void other_event_rows(Rows& rows) {
    for (const u64 vector : vectors()) {
        add_event(rows, other_event, vector);
    }
    for (const u64 state : {u64{0}, u64{1}, u64{2}, u64{3}}) {
        rows.add({{event, info(other_event, 0)}, {activity, state}});
    }
    for (unsigned bit = 12; bit < 31; ++bit) {
        rows.set(event, info(other_event, 0, u64{1} << bit));
    }
}

void real_event_rows(Rows& rows) {
    for (u64 vector = 0; vector < 33; ++vector) {
        for (const u64 error : {u64{0}, event_delivers_error}) {
            rows.add({{event, info(hardware_exception, vector, error)}});
        }
    }
    for (const u64 vector : {u64{0}, u64{0x30}, u64{0xff}}) {
        add_event(rows, external_interrupt, vector);
        add_event(rows, software_interrupt, vector);
    }
    add_event(rows, nmi, 2);
}

} // namespace refhv::front::vmx_entry
