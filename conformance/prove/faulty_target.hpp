// SPDX-License-Identifier: MIT
// A target between the claims and the subject that has one fault.
#pragma once

#include "conformance/prove/fault.hpp"
#include "refhv/client/target.hpp"

#include <memory>

namespace refhv::front {

class FaultyTarget : public client::Target {
  public:
    explicit FaultyTarget(std::unique_ptr<client::Target> subject) : subject_(std::move(subject)) {}

    // From now on; null: none. It must outlive this.
    void seed(const Fault* fault) {
        fault_ = fault;
        shown_ = false;
    }
    // Whether it has changed anything since.
    [[nodiscard]] bool has_shown() const { return shown_; }

    [[nodiscard]] const client::TargetInfo& info() const override { return subject_->info(); }
    const client::HelloInfo& hello() override { return subject_->hello(); }
    std::vector<u8> call(std::span<const u8> payload, std::chrono::milliseconds patience) override;
    // Not for the sake of a fault that is not its own.
    void stop() override {
        if (fault_ == nullptr) {
            subject_->stop();
        }
    }
    [[nodiscard]] unsigned generation() const override { return subject_->generation(); }

  private:
    std::unique_ptr<client::Target> subject_;
    const Fault* fault_ = nullptr;
    bool shown_ = false;
};

} // namespace refhv::front
