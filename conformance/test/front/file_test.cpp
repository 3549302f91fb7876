// SPDX-License-Identifier: MIT
#include "refhv/front/file.hpp"

#include "refhv/front/options.hpp"

#include <csignal>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <sys/resource.h>

namespace refhv::front {
namespace {

// A directory of its own, which must be as it was but for the files that are asked for.
struct FileTest : ::testing::Test {
    FileTest() { std::filesystem::create_directories(directory); }
    ~FileTest() override { std::filesystem::remove_all(directory); }
    [[nodiscard]] std::string at(const char* name) const { return (directory / name).string(); }
    [[nodiscard]] std::size_t files() const {
        return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(directory), {}));
    }
    static std::string read(const std::string& path) {
        std::ifstream file(path);
        return {std::istreambuf_iterator<char>(file), {}};
    }
    static std::string refusal(const std::function<void()>& body) {
        try {
            body();
        } catch (const UsageError& error) {
            return error.what();
        }
        return "none";
    }
    const std::filesystem::path directory =
        std::filesystem::path(::testing::TempDir()) / ("refhv-file-test-" + std::to_string(getpid()));
};

// Files of this process may not grow beyond this while it lives, as if the disk were full.
struct Limit {
    explicit Limit(rlim_t bytes) {
        getrlimit(RLIMIT_FSIZE, &before);
        rlimit less = before;
        less.rlim_cur = bytes;
        setrlimit(RLIMIT_FSIZE, &less);
        std::signal(SIGXFSZ, SIG_IGN);
    }
    ~Limit() { setrlimit(RLIMIT_FSIZE, &before); }
    rlimit before{};
};

TEST_F(FileTest, is_written_whole_with_nothing_beside_it) {
    write_whole(at("a"), "one");
    write_whole(at("a"), "two");
    EXPECT_EQ(read(at("a")), "two");
    EXPECT_EQ(files(), 1u);
}

TEST_F(FileTest, trying_leaves_things_as_they_were) {
    try_to_write(at("a"));
    EXPECT_EQ(files(), 0u);
    write_whole(at("a"), "one");
    try_to_write(at("a"));
    EXPECT_EQ(read(at("a")), "one");
    EXPECT_EQ(files(), 1u);
}

TEST_F(FileTest, that_does_not_fit_leaves_the_one_before) {
    write_whole(at("a"), "one");
    std::string said;
    {
        const Limit limit{100};
        said = refusal([&] { write_whole(at("a"), std::string(1000, 'x')); });
    }
    EXPECT_EQ(said,
              "cannot write " + at("a") + ": File too large; raise the limit of a file's size (ulimit -f)");
    EXPECT_EQ(read(at("a")), "one");
    EXPECT_EQ(files(), 1u);
}

TEST_F(FileTest, refusals_name_the_path_and_the_mend) {
    const auto said = [](const std::string& path) { return refusal([&] { write_whole(path, "x"); }); };
    EXPECT_EQ(said(at("none/a")),
              "cannot write " + at("none/a") +
                  ": No such file or directory; make its directory first, or name another file");
    EXPECT_EQ(said(directory.string()),
              "cannot write " + directory.string() + ": Is a directory; name a file");
    EXPECT_NE(said("/proc/x").find("/proc/x"), std::string::npos);
    std::filesystem::remove(directory.string() + ".part");
}

TEST_F(FileTest, of_the_libraries_are_tried_before_they_are_asked) {
    const auto said = [&](const std::string& argument) {
        return refusal([&] { Arguments("tool", {"--benchmark_filter=x", argument}).expect_writable(); });
    };
    EXPECT_EQ(said("--benchmark_out=" + at("b.json")), "none");
    EXPECT_EQ(said("--gtest_output=xml"), "none");
    EXPECT_EQ(said("--gtest_output=xml:" + at("new/")), "none");
    for (const char* flag : {"--benchmark_out=", "--gtest_output=xml:", "--gtest_output=json:"}) {
        EXPECT_NE(said(flag + at("none/b")).find(at("none/b")), std::string::npos) << flag;
    }
    EXPECT_EQ(files(), 0u);
}

} // namespace
} // namespace refhv::front
