// SPDX-License-Identifier: MIT
#include "refhv/client/interruption.hpp"

#include <utility>

namespace refhv::client {
namespace {
thread_local Interruption* current = nullptr;
} // namespace

Interruption::Interruption(Asked asked) : asked_(std::move(asked)), before_(std::exchange(current, this)) {}

Interruption::~Interruption() {
    current = before_;
}

bool Interruption::possible() {
    return current != nullptr;
}

bool Interruption::asked() {
    return current != nullptr && current->asked_();
}

} // namespace refhv::client
