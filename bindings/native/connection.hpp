// SPDX-License-Identifier: MIT
// A target as Python has it: one caller at a time, the GIL released while it works, Ctrl-C heard.
#pragma once

#include "refhv/client/guest/vm.hpp"
#include "refhv/client/interruption.hpp"

#include <array>
#include <atomic>
#include <mutex>
#include <pybind11/pybind11.h>
#include <thread>

namespace refhv::python {

namespace py = pybind11;

// Used after close(), or in a process that has not opened it.
struct Closed : std::runtime_error {
    using std::runtime_error::runtime_error;
};
// A guest whose VM is no more.
struct GuestGone : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// What a signal's handler in Python raised while the GIL was released.
class Raised {
  public:
    // Lets handlers run. Needs the GIL; true if one has raised now.
    bool look();
    [[nodiscard]] bool any() const { return raised_.has_value(); }
    // Raises it, with `note` attached (PEP 678).
    [[noreturn]] void raise(const std::string& note);

  private:
    std::optional<py::error_already_set> raised_;
};

class Connection {
  public:
    explicit Connection(const std::string& name);
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;
    ~Connection();

    // f(client::Target&) with the target to itself and without the GIL. Needs the GIL.
    template <class F>
    auto use(F f) {
        using Result = std::invoke_result_t<F, client::Target&>;
        const Turn turn(*this);
        Raised raised;
        std::exception_ptr failure;
        std::conditional_t<std::is_void_v<Result>, bool, std::optional<Result>> result{};
        {
            const py::gil_scoped_release released;
            std::optional<client::Interruption> interruption;
            if (in_main_thread()) {
                interruption.emplace([&raised] {
                    const py::gil_scoped_acquire acquired;
                    return raised.look();
                });
            }
            try {
                start();
                if constexpr (std::is_void_v<Result>) {
                    f(*target_);
                } else {
                    result.emplace(f(*target_));
                }
            } catch (...) {
                failure = std::current_exception();
            }
        }
        if (raised.any() || raised.look()) {
            raised.raise(words_of(failure));
        }
        if (failure) {
            std::rethrow_exception(failure);
        }
        if constexpr (!std::is_void_v<Result>) {
            return std::move(*result);
        }
    }

    // Ends the machine; the next use starts it afresh. Needs the GIL.
    void stop();
    // Ends the target; a second call does nothing. Needs the GIL.
    void close();
    [[nodiscard]] bool is_closed() const { return target_ == nullptr; }
    [[nodiscard]] const std::string& name() const { return name_; }
    [[nodiscard]] const client::TargetInfo& info() const { return info_; }

    // VM slots. Of those that no guest holds the first; the number tells one use of a slot from the next.
    struct Slot {
        std::optional<client::GuestHost> host;
        std::optional<unsigned>
            unsure; // at this start of the target: whether there is a VM, since making one failed
        u64 use = 0;
        bool held = false;
    };
    [[nodiscard]] u32 take_slot(std::optional<u32> wanted);
    [[nodiscard]] Slot& slot(u32 number) { return slots_[number]; }

  private:
    class Turn {
      public:
        explicit Turn(Connection& of);
        Turn(const Turn&) = delete;
        Turn& operator=(const Turn&) = delete;
        ~Turn();

      private:
        Connection& of_;
    };

    void expect_open() const;
    void start();
    [[nodiscard]] static bool in_main_thread();
    [[nodiscard]] static std::string words_of(const std::exception_ptr& failure);

    std::string name_;
    std::unique_ptr<client::Target> target_;
    client::TargetInfo info_; // as the target last told it; for whoever has no turn
    std::array<Slot, abi::max_vms> slots_;
    std::timed_mutex mutex_;
    std::atomic<std::thread::id> user_;
    pid_t process_;
};

} // namespace refhv::python
