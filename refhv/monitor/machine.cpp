// SPDX-License-Identifier: MIT
#include "refhv/monitor/machine.hpp"

#include "refhv/monitor/events.hpp"
#include "refhv/x86/registers.hpp"

namespace refhv::monitor {

namespace {

constexpr u32 when_open = static_cast<u32>(abi::Delivery::when_open) << 12;
constexpr Time longest_turn = 20'000'000; // ns: then the monitor looks at its input and at its own stop
constexpr unsigned hlt_length = 1;

} // namespace

Machine::Machine(client::Target& target, const Vm::Shape& shape, Board::Options options)
    : hello_(target.hello()), clock_(hello_.fixed.tsc_hz), vm_(target, shape),
      board_(
          [&] {
              options.time_of_tsc = [this](u64 tsc) { return clock_.time_of(tsc); };
              options.address_bits = GuestView::physical_bits(hello_);
              return std::move(options);
          }(),
          vm_),
      cpu_(hello_, board_.has_apic()) {
    board_.on_end([this](Ending::How how, int code) {
        if (!ending_) {
            ending_ = Ending{how, code, {}};
        }
    });
}

void Machine::boot(Image image) {
    image.acpi_root = board_.place_firmware(vm_);
    load(vm_, image);
}

Ending Machine::run(std::chrono::steady_clock::time_point until, const std::atomic<bool>* stop) {
    clock_.pause();
    while (!ending_) {
        if (std::chrono::steady_clock::now() >= until || (stop != nullptr && stop->load())) {
            return {Ending::How::stopped, 0, {}};
        }
        const RunWish wish = next();
        const u64 rip = vm_.state.rip;
        if (wish.sleeps) {
            vm_.state.rip = rip - hlt_length;
        }
        const Stop ended = vm_.run(wish);
        tsc_ = ended.tsc;
        clock_.come_to(tsc_);
        if (offered_ && ended.delivered) {
            board_.acknowledge(); // before time brings another, of higher priority
        }
        board_.pass(clock_.now());
        board_.set_cr8(vm_.state.cr8);
        entries_ += ended.entries;
        if (wish.sleeps) {
            vm_.state.rip = rip; // behind the HLT, whether the core went there or not
            vm_.state.interrupt_shadow = 0;
        }
        answer(ended);
        vm_.state.cr8 = board_.cr8().value_or(vm_.state.cr8);
    }
    Ending ending = *ending_;
    ending_.reset();
    return ending;
}

RunWish Machine::next() {
    RunWish wish;
    const Time now = clock_.now();
    const Time due = board_.due().value_or(now + longest_turn);
    const Time turn = due > now ? std::min(due - now, longest_turn) : 1;
    wish.deadline = clock_.to_ticks(turn);
    offered_ = false;
    if (exception_ != 0) {
        wish.event = std::exchange(exception_, 0);
        wish.event_error = error_;
        return wish;
    }
    if (board_.take_nmi()) {
        wish.event = events::nmi;
        asleep_ = false;
        return wish;
    }
    if (const auto vector = board_.interrupt(); vector) {
        const bool open =
            (vm_.state.rflags & x86::rflags_bits::interrupt) != 0 && vm_.state.interrupt_shadow == 0;
        wish.event = *vector | (open ? 0 : when_open);
        offered_ = true;
        asleep_ = false;
    }
    wish.sleeps = asleep_;
    return wish;
}

void Machine::answer(const Stop& stop) {
    constexpr u64 valid = 1u << 31;
    switch (stop.outcome) {
    case abi::Outcome::deadline:
        return;
    case abi::Outcome::exited:
        if ((stop.exit.vectoring & valid) != 0) {
            return fail("the delivery of an event touched what is no memory");
        }
        ++exits_[static_cast<abi::Reason>(stop.exit.reason)];
        return answer_exit(stop.exit);
    case abi::Outcome::entry_refused:
        return fail("the CPU refused the guest's state: error " +
                    std::to_string(stop.refusal.instruction_error) + ", failure " +
                    std::to_string(stop.refusal.entry_failure) + ", qualification " +
                    std::to_string(stop.refusal.qualification));
    default:
        return fail(std::string("a run ended as ") + client::name_of(stop.outcome));
    }
}

void Machine::raise(u32 event, u32 error) {
    exception_ = event;
    error_ = error;
}

void Machine::page_fault(const GuestView::Fault& fault) {
    vm_.state.cr2 = fault.address;
    raise(events::page_fault, fault.error);
}

void Machine::fail(std::string text) {
    char where[64];
    std::snprintf(where, sizeof where, " (RIP %llx)", static_cast<unsigned long long>(vm_.state.rip));
    ending_ = Ending{Ending::How::failed, 0, std::move(text) + where};
}

void Machine::advance(const abi::Exit& exit, unsigned length_if_none) {
    vm_.state.rip += exit.instruction_length != 0 ? exit.instruction_length : length_if_none;
    vm_.state.interrupt_shadow = 0;
}

} // namespace refhv::monitor
