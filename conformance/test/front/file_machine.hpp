// SPDX-License-Identifier: MIT
// A machine made of files, for what reads /proc, /sys and /dev.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <string>

namespace refhv::front {

class FileMachine : public testing::Test {
  protected:
    std::filesystem::path root;

    void SetUp() override {
        char name[] = "/tmp/refhv machine XXXXXX";
        ASSERT_NE(mkdtemp(name), nullptr);
        root = name;
    }
    void TearDown() override { std::filesystem::remove_all(root); }

    void put(const std::string& path, const std::string& text) const {
        std::filesystem::create_directories((root / path).parent_path());
        std::ofstream(root / path, std::ios::binary) << text;
    }
};

} // namespace refhv::front
