// SPDX-License-Identifier: MIT
#include "refhv/front/claim.hpp"

namespace refhv::front {

void Claim::attempt(const Section& section, const std::function<void()>& body) {
    auto& session = Session::get();
    const auto& greeting = session.hello();
    section_ = session.vendor() == abi::Vendor::svm ? section.apm : section.sdm;
    if (!session.offers(mode())) {
        GTEST_SKIP() << session.info().name << " offers no mode " << client::name_of(mode()) << ": "
                     << greeting.fixed.note;
    }
    if (section_.empty()) {
        section_ = on_vmx() ? section.apm : section.sdm;
        GTEST_SKIP() << "the claim is about " << (on_vmx() ? "SVM" : "VMX");
    }
    body();
}

void Claim::needs(abi::Permit item) {
    const auto number = static_cast<unsigned>(item);
    if ((hello().fixed.permissions >> number & 1) == 0) {
        throw client::Refused(abi::Op::hello, abi::Outcome::unsupported,
                              std::string("this platform does not permit `") + abi::permit_names[number] +
                                  "`");
    }
}

void Claim::claim(const Section& section, const std::function<void()>& body) {
    claimed_ = true;
    // Until the target itself has said what it is.
    const bool svm = Session::get().is_open() && Session::get().info().backend == "svm";
    section_ = *section.sdm == '\0' || (svm && *section.apm != '\0') ? section.apm : section.sdm;
    try {
        attempt(section, body);
    } catch (const client::TargetMiss& miss) {
        missed_ = true;
        ADD_FAILURE() << miss.what();
    } catch (const client::TargetUnusable& unusable) {
        missed_ = true;
        ADD_FAILURE() << unusable.what();
    } catch (const client::Refused& refused) {
        if (refused.outcome == abi::Outcome::unsupported && !HasFailure()) {
            GTEST_SKIP() << refused.what();
        }
        broken_ = true;
        ADD_FAILURE() << refused.what();
    } catch (const std::exception& problem) {
        broken_ = true;
        ADD_FAILURE() << problem.what();
    }
}

void Claim::TearDown() {
    if (!claimed_) {
        broken_ = true;
        ADD_FAILURE() << "the test makes no claim";
    }
    const Verdict verdict = missed_        ? Verdict::miss
                            : broken_      ? Verdict::error
                            : HasFailure() ? Verdict::fail
                            : IsSkipped()  ? Verdict::skip
                                           : Verdict::pass;
    RecordProperty("verdict", name_of(verdict));
    RecordProperty("section", section_);
}

} // namespace refhv::front
