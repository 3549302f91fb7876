// SPDX-License-Identifier: MIT
// refhv-conformance: GoogleTest on one target.
#include "conformance/prove/prove.hpp"
#include "conformance/prove/seed.hpp"
#include "refhv/front/events.hpp"
#include "refhv/front/options.hpp"
#include "refhv/front/signals.hpp"
#include "refhv/front/verdicts.hpp"

#include <algorithm>
#include <iostream>
#include <nlohmann/json.hpp>

namespace {

using namespace refhv::front;

// The session's target, behind one that makes it look wrong.
template <class Between>
Between& put_between() {
    auto target = std::make_unique<Between>(Session::get().release());
    Between& between = *target;
    Session::get().adopt(std::move(target));
    say_on_signal("what was printed so far stands");
    return between;
}

int prove_all(const std::vector<std::string>& claims) {
    const int code = conclude(prove(claims, put_between<AlteringTarget>()));
    Session::get().close();
    return code;
}

int seed_all(const std::string& part) {
    const int code = conclude(seed(part, put_between<FaultyTarget>()));
    Session::get().close();
    return code;
}

int run(int argc, char** argv) {
    CLI::App app{"Checks the claims of refhv on one target."};
    app.footer("Everything else goes to GoogleTest: --gtest_list_tests, --gtest_filter=..., "
               "--gtest_output=xml:FILE.\n"
               "Exit codes: 0 all well, 1 a claim failed, 2 usage, 3 the target did not come up or died.");
    Options options;
    add_options(app, options);
    bool proves = false;
    app.add_flag("--prove", proves,
                 "make each claim that holds again on altered replies; code 1 if one notices nothing");
    std::optional<std::string> seeded;
    app.add_option(
           "--seed", seeded,
           "seed the faults whose name has TEXT in it, each by itself; code 1 if no claim of those that "
           "should sees one")
        ->type_name("[TEXT]")
        ->expected(0, 1)
        ->default_str("");
    try {
        app.parse(argc, argv);
    } catch (const CLI::CallForHelp& help) {
        return app.exit(help);
    } catch (const CLI::ParseError& error) {
        throw UsageError(error.what());
    }
    Arguments rest(argv[0], app.remaining());
    const bool listing = rest.has("--gtest_list_tests");
    rest.expect_writable();
    ::testing::InitGoogleTest(rest.count(), rest.values());
    rest.expect_empty();
    if (listing) {
        return RUN_ALL_TESTS();
    }
    if (options.target == "list") {
        print_targets();
        return exit_ok;
    }
    const auto selected = claims_selected_by(::testing::GTEST_FLAG(filter));
    const auto claims = selected.size();
    if (claims == 0) {
        throw UsageError("--gtest_filter=" + ::testing::GTEST_FLAG(filter) + " selects no claim");
    }
    if (options.events_fd >= 0) {
        Events::get().open(options.events_fd);
    }
    open_session(options);
    auto& verdicts = Verdicts::get();
    if (proves) {
        return prove_all(selected);
    }
    if (seeded) {
        return seed_all(*seeded);
    }
    greet(claims, 0);
    say_on_signal("the verdicts printed so far stand, no file was written");
    const bool elsewhere = verdicts.failed_elsewhere(RUN_ALL_TESTS());
    const int code = verdicts.exit_code() == exit_ok && elsewhere ? exit_failed : verdicts.exit_code();
    if (const auto known = std::count_if(verdicts.all().begin(), verdicts.all().end(),
                                         [&](const ClaimResult& r) { return verdicts.is_expected(r); });
        known != 0) {
        std::cout << known << " of them known departures (" << options.departures << ")\n";
    }
    Session::get().close();
    Events::get().send(nlohmann::ordered_json{{"event", "end"}});
    return code;
}

} // namespace

int main(int argc, char** argv) {
    return refhv::front::guarded("refhv-conformance", [&] { return run(argc, argv); });
}
