// SPDX-License-Identifier: MIT
// Lines and commands as they really open: terminals, ports, sockets, children that die or never come.
#include "conformance/test/unit/stream_target_harness.hpp"

#include "refhv/client/command.hpp"
#include "refhv/client/pseudo_terminal.hpp"
#include "refhv/client/serial_line.hpp"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

namespace refhv::client {
namespace {

std::string unusable_of(const std::string& name) {
    return what_of<TargetUnusable>([&] { open_target(name)->hello(); });
}

TEST(Lines, that_are_not_there_say_what_to_do) {
    EXPECT_TRUE(says(unusable_of("serial:/dev/nosuch"),
                     "serial:/dev/nosuch: /dev/nosuch: No such file or directory; name the terminal device"));
    EXPECT_TRUE(says(unusable_of("serial:/dev/null"), "name a terminal device such as /dev/ttyS0"));
    EXPECT_TRUE(says(unusable_of("unix:/nonexistent/socket"),
                     "No such file or directory; start the machine whose serial line is this socket"));
    EXPECT_TRUE(says(unusable_of("serial:nosuch.invalid:1"), "name a host that this machine knows"));
    EXPECT_TRUE(
        says(unusable_of("serial:127.0.0.1:1"),
             "127.0.0.1 port 1: Connection refused; start what offers the machine's serial line there"));
    EXPECT_TRUE(says(unusable_of("cmd:nosuchvmm {image}"), "'nosuchvmm' is not in PATH"));
    EXPECT_TRUE(says(unusable_of("cmd:/etc/passwd {image}"), "'/etc/passwd' is no executable file"));
    EXPECT_TRUE(
        says(unusable_of("qemu:binary=/nonexistent/qemu"), "'/nonexistent/qemu' is no executable file"));
}

TEST(Lines, a_terminal_is_raw_at_the_speed_that_was_asked_for_and_ours_alone) {
    PseudoTerminal far;
    termios cooked{};
    ASSERT_EQ(tcgetattr(far.far.get(), &cooked), 0);
    cooked.c_lflag |= ECHO | ICANON;
    tcsetattr(far.far.get(), TCSANOW, &cooked);
    SerialLine line = SerialLine::parse(far.far_path);
    line.baud = 9600;
    const Descriptor ours = line.open();
    termios mode{};
    ASSERT_EQ(tcgetattr(ours.get(), &mode), 0);
    EXPECT_EQ(cfgetospeed(&mode), static_cast<speed_t>(B9600));
    EXPECT_EQ(mode.c_lflag & (ECHO | ICANON | ISIG), 0u);
    EXPECT_EQ(mode.c_iflag & (IXON | ICRNL), 0u);
    const std::string bytes("\x03\x11\x13\n\r\0\xff", 7);
    ASSERT_EQ(write(ours.get(), bytes.data(), bytes.size()), 7);
    pollfd wait{.fd = far.near.get(), .events = POLLIN, .revents = 0};
    ASSERT_EQ(poll(&wait, 1, 5000), 1);
    char got[16];
    EXPECT_EQ(
        std::string(got, static_cast<usize>(std::max<ssize_t>(0, read(far.near.get(), got, sizeof got)))),
        bytes);
    EXPECT_THROW((void)line.open(), TargetUnusable);
}

TEST(Lines, a_tcp_port_and_a_socket_are_opened) {
    const Descriptor tcp{socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    ASSERT_EQ(bind(tcp.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
    ASSERT_EQ(listen(tcp.get(), 1), 0);
    ASSERT_EQ(getsockname(tcp.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
    EXPECT_TRUE(SerialLine::parse("127.0.0.1:" + std::to_string(ntohs(address.sin_port))).open());
    // Nobody takes what was sent there, and nobody answers.
    setenv("REFHV_PATIENCE", "0.5", 1);
    const std::string name = "serial:127.0.0.1:" + std::to_string(ntohs(address.sin_port)) + ",hello=1";
    EXPECT_TRUE(says(what_of([&] { open_target(name)->hello(); }), name + ": no hello within 0.5 s (asked "));
    unsetenv("REFHV_PATIENCE");
}

class Commands : public testing::Test {
  protected:
    std::filesystem::path directory;

    void SetUp() override {
        char name[] = "/tmp/refhv unit XXXXXX";
        ASSERT_NE(mkdtemp(name), nullptr);
        directory = name;
        std::ofstream(directory / "refhv.elf") << "an image";
        setenv("REFHV_IMAGE_DIR", directory.c_str(), 1);
        setenv("TMPDIR", directory.c_str(), 1);
    }
    void TearDown() override {
        for (const char* name : {"REFHV_IMAGE_DIR", "REFHV_PATIENCE", "TMPDIR"}) {
            unsetenv(name);
        }
        EXPECT_EQ(std::distance(std::filesystem::directory_iterator(directory), {}), 1)
            << "something is left";
        std::filesystem::remove_all(directory);
    }
    static std::string miss_of(const std::string& command) {
        return what_of([&] { open_target("cmd:" + command)->hello(); });
    }
};

TEST_F(Commands, a_dead_command_is_one_error) {
    EXPECT_TRUE(says(miss_of("sh -c 'echo the reason >&2; exit 3'"),
                     "ended before its hello; exit status 3; its log: the reason; tried sh -c"));
    EXPECT_TRUE(says(miss_of("sh -c 'echo the reason >&2; exit 3' {socket}"),
                     "the command ended before it was at {socket}; exit status 3; its log: the reason"));
    EXPECT_TRUE(says(miss_of("sh -c 'exit 3' {listen}"),
                     "the command ended before it was at {listen}; exit status 3"));
    EXPECT_TRUE(says(miss_of("sh -c 'exit 3' {pty}"), "ended before its hello; exit status 3"));
}

TEST_F(Commands, that_never_comes_is_one_error) {
    setenv("REFHV_PATIENCE", "0.3", 1);
    for (const std::string place : {"{socket}", "{listen}"}) {
        EXPECT_TRUE(says(miss_of("hello=1 sh -c 'sleep 100; :' " + place),
                         "the command did not come to " + place + " in time; killed (process "));
    }
    EXPECT_TRUE(says(miss_of("hello=1 sleep 100"), "no hello within 0.3 s"));
}

TEST_F(Commands, the_image_is_put_into_its_place) {
    EXPECT_TRUE(says(miss_of("sh -c 'cat \"$0\" >&2; exit 1' {image}"), "its log: an image"));
}

TEST_F(Commands, an_echo_is_no_machine) {
    EXPECT_TRUE(says(miss_of("cat"), "the line sends back what it is sent"));
}

// Also what it has started itself: a wrapper's emulator.
TEST_F(Commands, ends_with_all_that_it_started) {
    const std::filesystem::path note = directory / "note";
    setenv("REFHV_PATIENCE", "0.3", 1);
    (void)miss_of("hello=2 sh -c 'sleep 100 & echo $! > \"$0\"; wait' '" + note.string() + "'");
    pid_t pid = 0;
    std::ifstream(note) >> pid;
    std::filesystem::remove(note);
    ASSERT_NE(pid, 0);
    for (int i = 0; i < 200 && std::filesystem::exists("/proc/" + std::to_string(pid)); ++i) {
        usleep(10'000); // its new parent reaps it
    }
    std::string state;
    std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
    stat >> state >> state >> state;
    EXPECT_TRUE(state.empty() || state == "Z") << state;
}

} // namespace
} // namespace refhv::client
