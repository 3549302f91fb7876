// SPDX-License-Identifier: MIT
#include "bindings/native/connection.hpp"

#include <future>
#include <unistd.h>

namespace refhv::python {
namespace {

// A machine that a thread starts is killed when that thread ends (PR_SET_PDEATHSIG). So threads other than
// the main one have theirs started by this one, which never ends.
class Starter {
  public:
    static Starter& get() {
        static auto* starter = new Starter; // never destroyed: its thread is not joined
        return *starter;
    }

    void run(const std::function<void()>& work) {
        std::packaged_task<void()> task(work);
        auto done = task.get_future();
        {
            const std::lock_guard lock(mutex_);
            waiting_.push_back(std::move(task));
        }
        some_.notify_one();
        done.get();
    }

  private:
    Starter() {
        std::thread([this] {
            for (;;) {
                std::unique_lock lock(mutex_);
                some_.wait(lock, [this] { return !waiting_.empty(); });
                std::packaged_task<void()> task = std::move(waiting_.front());
                waiting_.erase(waiting_.begin());
                lock.unlock();
                task();
            }
        }).detach();
    }

    std::mutex mutex_;
    std::condition_variable some_;
    std::vector<std::packaged_task<void()>> waiting_;
};

} // namespace

bool Raised::look() {
    if (PyErr_CheckSignals() == 0) {
        return false;
    }
    raised_.emplace(); // takes it
    return true;
}

void Raised::raise(const std::string& note) {
    if (!note.empty()) {
        raised_->value().attr("add_note")(note);
    }
    throw py::error_already_set(*raised_);
}

Connection::Connection(const std::string& name)
    : name_(name), target_(client::open_target(name)), info_(target_->info()), process_(getpid()) {
    for (u32 i = 0; i < slots_.size(); ++i) {
        slots_[i].host.emplace(client::GuestHost{.target = *target_, .occupied = {}, .slot = i});
    }
}

Connection::~Connection() {
    if (process_ != getpid()) {
        static_cast<void>(target_.release()); // the process that opened it ends it
        return;
    }
    const py::gil_scoped_release released;
    target_.reset();
}

Connection::Turn::Turn(Connection& of) : of_(of) {
    of.expect_open();
    if (of.user_.load() == std::this_thread::get_id()) {
        throw Closed(of.name_ + ": in use by this very thread, which came here from a signal's handler");
    }
    for (;;) {
        bool mine = false;
        {
            const py::gil_scoped_release released;
            mine = of.mutex_.try_lock_for(std::chrono::milliseconds{50});
        }
        if (mine) {
            break;
        }
        if (PyErr_CheckSignals() != 0) {
            throw py::error_already_set();
        }
    }
    of.user_ = std::this_thread::get_id();
    if (of.is_closed()) { // by the thread that had the turn before
        of.user_ = std::thread::id{};
        of.mutex_.unlock();
        of.expect_open();
    }
}

Connection::Turn::~Turn() {
    of_.user_ = std::thread::id{};
    of_.mutex_.unlock();
}

void Connection::expect_open() const {
    if (is_closed()) {
        throw Closed(name_ + ": closed; open it again with refhv.open");
    }
    if (process_ != getpid()) {
        throw Closed(name_ + ": opened by process " + std::to_string(process_) +
                     ", of which this is a fork: open one here");
    }
}

void Connection::start() {
    const auto hello = [this] { static_cast<void>(target_->hello()); };
    if (in_main_thread()) {
        hello();
    } else {
        Starter::get().run(hello);
    }
    info_ = target_->info();
}

bool Connection::in_main_thread() {
    return getpid() == gettid();
}

std::string Connection::words_of(const std::exception_ptr& failure) {
    try {
        if (failure) {
            std::rethrow_exception(failure);
        }
    } catch (const std::exception& e) {
        return e.what();
    } catch (...) {
        return "an unknown failure";
    }
    return {};
}

void Connection::close() {
    if (is_closed()) {
        return;
    }
    const Turn turn(*this);
    const py::gil_scoped_release released;
    target_->stop();
    for (Slot& s : slots_) {
        s.host.reset();
    }
    target_.reset();
}

void Connection::stop() {
    const Turn turn(*this);
    const py::gil_scoped_release released;
    target_->stop();
}

u32 Connection::take_slot(std::optional<u32> wanted) {
    expect_open();
    if (info_.kind == "process" ||
        info_.kind == "kvm") { // its memory is at one address: there is room for one
        wanted = wanted.value_or(0);
    }
    for (u32 i = wanted.value_or(0); i < slots_.size() && (!wanted || i == *wanted); ++i) {
        if (!slots_[i].held || wanted) {
            slots_[i].held = true;
            ++slots_[i].use;
            return i;
        }
    }
    throw std::invalid_argument(name_ + ": " + std::to_string(slots_.size()) +
                                " guests hold all VM slots: drop one, or name the slot to take (slot=)");
}

} // namespace refhv::python
