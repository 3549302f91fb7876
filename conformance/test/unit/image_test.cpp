// SPDX-License-Identifier: MIT
// The bootable image on every emulated target that can be used here, as a client meets it.
#include "refhv/client/batch.hpp"
#include "refhv/client/target.hpp"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <dirent.h>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <sstream>

namespace refhv::client {
namespace {

using namespace std::chrono_literals;

class Image : public testing::TestWithParam<const char*> {
  protected:
    std::unique_ptr<Target> target;

    void SetUp() override {
        try {
            target = open_target(GetParam());
        } catch (const TargetUnusable& unusable) {
            GTEST_SKIP() << unusable.what();
        }
    }
};

INSTANTIATE_TEST_SUITE_P(Targets, Image,
                         testing::Values("bochs-intel", "bochs-amd", "qemu-amd", "bochs-intel-sapphirerapids",
                                         "bochs-intel-arrowlake"),
                         [](const auto& info) {
                             std::string name = info.param;
                             std::replace(name.begin(), name.end(), '-', '_');
                             return name;
                         });

// Process ids of our children.
std::vector<pid_t> children() {
    std::ifstream file("/proc/self/task/" + std::to_string(getpid()) + "/children");
    std::vector<pid_t> pids;
    for (pid_t pid = 0; file >> pid;) {
        pids.push_back(pid);
    }
    return pids;
}

TEST_P(Image, says_hello_as_its_table_line_promises) {
    const HelloInfo& hello = target->hello();
    EXPECT_EQ(hello.fixed.platform, static_cast<u16>(abi::Platform::image));
    EXPECT_EQ(hello.fixed.status, static_cast<u16>(abi::BackendStatus::usable)) << hello.fixed.note;
    const auto vendor = target->info().backend == "vmx" ? abi::Vendor::vmx : abi::Vendor::svm;
    EXPECT_EQ(hello.fixed.vendor, static_cast<u16>(vendor));
    EXPECT_FALSE(hello.cpuid.empty());
}

TEST_P(Image, answers_batches_large_and_small) {
    Batch hello;
    hello.add(abi::Op::hello, abi::Hello{.version = abi::version, .zero = {}});
    for (int i = 0; i < 3; ++i) {
        const std::vector<u8> payload = target->call(hello.payload(), 20s);
        EXPECT_EQ(parse_replies(payload).at(0).outcome, abi::Outcome::ok);
    }
    constexpr u64 base = 0x4000'0000;
    std::vector<u8> data(64 * 1024);
    for (usize i = 0; i < data.size(); ++i) {
        data[i] = static_cast<u8>(i * 7 + (i >> 8));
    }
    Batch batch;
    batch.add(abi::Op::vm_create, abi::VmCreate{.vm = 0,
                                                .mode = static_cast<u8>(abi::Mode::nested),
                                                .nested_page_size = 0,
                                                .tag_policy = 0,
                                                .zero = 0,
                                                .pages = 16,
                                                .gpa_base = base});
    batch.add(abi::Op::mem_write, abi::MemRange{.vm = 0, .zero = 0, .gpa = base, .size = data.size()}, data);
    batch.add(abi::Op::mem_read, abi::MemRange{.vm = 0, .zero = 0, .gpa = base, .size = data.size()});
    const std::vector<u8> payload = target->call(batch.payload(), 30s);
    const std::vector<Reply> replies = parse_replies(payload);
    ASSERT_EQ(replies.size(), 3u);
    ASSERT_EQ(replies[2].outcome, abi::Outcome::ok)
        << replies[0].text() << replies[1].text() << replies[2].text();
    EXPECT_EQ(std::vector<u8>(replies[2].body.begin(), replies[2].body.end()), data);
}

TEST_P(Image, is_restarted_after_it_was_killed) {
    target->hello();
    const std::vector<pid_t> pids = children();
    ASSERT_EQ(pids.size(), 1u);
    kill(pids[0], SIGKILL);
    Batch hello;
    hello.add(abi::Op::hello, abi::Hello{.version = abi::version, .zero = {}});
    EXPECT_THROW(target->call(hello.payload(), 20s), TargetMiss);
    const std::vector<u8> payload = target->call(hello.payload(), 20s);
    EXPECT_EQ(parse_replies(payload).at(0).outcome, abi::Outcome::ok);
    EXPECT_EQ(target->generation(), 2u);
}

TEST_P(Image, is_out_of_reach_of_the_network) {
    target->hello();
    const std::vector<pid_t> pids = children();
    ASSERT_EQ(pids.size(), 1u);
    const std::string proc = "/proc/" + std::to_string(pids[0]);
    if (std::filesystem::read_symlink(proc + "/ns/net") !=
        std::filesystem::read_symlink("/proc/self/ns/net")) {
        // A network of its own without an interface that is up: no route.
        std::ifstream routes(proc + "/net/route");
        std::string heading;
        std::string route;
        std::getline(routes, heading);
        EXPECT_FALSE(std::getline(routes, route)) << route;
        return;
    }
    // None of its sockets listens: their inodes are in no TCP or UDP table.
    std::stringstream tables;
    for (const char* table : {"/tcp", "/tcp6", "/udp", "/udp6"}) {
        tables << std::ifstream(proc + "/net" + table).rdbuf();
        tables.clear();
    }
    for (const auto& fd : std::filesystem::directory_iterator(proc + "/fd")) {
        const std::string link = std::filesystem::read_symlink(fd).string();
        if (link.starts_with("socket:[")) {
            const std::string inode = " " + link.substr(8, link.size() - 9) + " ";
            EXPECT_EQ(tables.str().find(inode), std::string::npos) << link;
        }
    }
}

} // namespace
} // namespace refhv::client
