// SPDX-License-Identifier: MIT
#include "refhv/front/signals.hpp"

#include "refhv/client/children.hpp"

#include <algorithm>
#include <array>
#include <csignal>
#include <unistd.h>

namespace refhv::front {
namespace {

// Text that a handler may read: changed with signals held only.
class Words {
  public:
    void append(std::string_view text) {
        const std::size_t room = text_.size() - size_;
        size_ = std::copy_n(text.begin(), std::min(text.size(), room), text_.begin() + size_) - text_.begin();
    }
    void assign(std::string_view text) {
        size_ = 0;
        append(text);
    }
    [[nodiscard]] std::string_view get() const { return {text_.data(), size_}; }

  private:
    std::array<char, 1024> text_{};
    std::size_t size_ = 0;
};

Words program_name;
Words kept_words;

std::string_view name_of(int number) {
    return number == SIGINT ? "SIGINT" : number == SIGTERM ? "SIGTERM" : "SIGHUP";
}

void on_signal(int number) {
    client::end_children();
    for (const std::string_view text : {program_name.get(), std::string_view(": ended by "), name_of(number),
                                        std::string_view("; "), kept_words.get(), std::string_view("\n")}) {
        [[maybe_unused]] const auto written = ::write(STDERR_FILENO, text.data(), text.size());
    }
    ::_exit(128 + number);
}

} // namespace

void end_on_signals(std::string_view program) {
    const client::SignalsHeld held;
    program_name.assign(program);
    kept_words.assign("nothing was kept");
    std::signal(SIGXFSZ, SIG_IGN);
    for (const int number : client::ending_signals) {
        struct sigaction action {};
        sigaction(number, nullptr, &action);
        if (action.sa_handler == SIG_IGN) {
            continue;
        }
        action = {};
        action.sa_handler = on_signal;
        for (const int other : client::ending_signals) {
            sigaddset(&action.sa_mask, other);
        }
        sigaction(number, &action, nullptr);
    }
}

void say_on_signal(std::string_view kept) {
    const client::SignalsHeld held;
    kept_words.assign(kept);
}

} // namespace refhv::front
