// SPDX-License-Identifier: MIT
#include "refhv/client/forms.hpp"

#include "refhv/client/bochs.hpp"
#include "refhv/client/command.hpp"
#include "refhv/client/patience.hpp"
#include "refhv/client/qemu.hpp"
#include "refhv/client/serial_line.hpp"
#include "refhv/client/target_options.hpp"
#include "refhv/client/time_rule.hpp"

#include <array>
#include <fcntl.h>
#include <fstream>
#include <sstream>

namespace refhv::client {
namespace {

constexpr unsigned standard_hello = 30, longest_hello = 86'400; // seconds
constexpr unsigned bits_a_byte = 10;                            // on a wire: one starts, one stops

std::chrono::milliseconds seconds(unsigned count) {
    return std::chrono::seconds{count};
}

const char* words_of(Time time) {
    switch (time) {
    case Time::cycles:
        return "time is said to be the hardware's";
    case Time::ticks:
        return "emulated by the clock";
    case Time::instructions:
        return "emulated";
    case Time::unsaid:
        break;
    }
    return "time by what its CPUID says of a hypervisor; time= says otherwise";
}

TargetLine line_with(Time time, const std::string& description) {
    TargetLine line{.info = {.name = {},
                             .kind = "image",
                             .backend = "none",
                             .emulated = true,
                             .unit = "ticks",
                             .description = description + " (" + words_of(time) + ")"},
                    .hello_patience = seconds(standard_hello),
                    .identify = [] { return Emulator{}; },
                    .check = [] {},
                    .launch = {},
                    .settle = settle_by(time)};
    declare_time(line.info, time);
    return line;
}

// "PLACE[,BAUD][,KEY=VALUE ...]"
TargetLine serial(std::string_view text) {
    const usize end = std::min(text.find(','), text.size());
    SerialLine place = SerialLine::parse(text.substr(0, end));
    std::string rest(text.substr(std::min(end + 1, text.size())));
    if (!rest.empty() && rest.find_first_not_of("0123456789") >= std::min(rest.find(','), rest.size())) {
        rest.insert(0, "baud=");
    }
    const TargetOptions options(rest, {{"baud"}, {"time"}, {"hello"}});
    const bool terminal = place.kind == SerialLine::Kind::terminal;
    place.baud = options.number("baud", terminal ? standard_baud : 0, 300, 4'000'000);
    if (terminal) {
        expect_speed(place.baud);
    }
    const Time time = options.has("time") ? time_in(options.get("time")) : Time::unsaid;
    const char* const way = terminal                              ? "a terminal device"
                            : place.kind == SerialLine::Kind::tcp ? "TCP"
                                                                  : "a local socket";
    TargetLine line = line_with(time, std::string("the image behind a serial line: ") + way);
    line.info.elsewhere = true;
    line.hello_patience = seconds(options.number("hello", standard_hello, 1, longest_hello));
    line.launch = [place] {
        Descriptor output = place.open();
        Descriptor input{fcntl(output.get(), F_DUPFD_CLOEXEC, 0)};
        Machine machine{.process = {},
                        .output = std::move(output),
                        .input = std::move(input),
                        .held = {},
                        .last_words = {},
                        .ask_after = std::chrono::milliseconds{0}};
        machine.bytes_per_second = place.baud / bits_a_byte;
        return machine;
    };
    return line;
}

TargetLine local_socket(std::string_view text) {
    return serial("unix:" + std::string(text));
}

TargetLine qemu_form(std::string_view text) {
    const TargetOptions options(text, {{"binary"},
                                       {"accel", true},
                                       {"cpu", true},
                                       {"machine", true},
                                       {"smp", true},
                                       {"memory"},
                                       {"icount"},
                                       {"hello"}});
    qemu::Setup setup;
    setup.binary = options.get("binary");
    setup.accelerator = options.get("accel", setup.accelerator);
    setup.cpu = options.get("cpu");
    setup.machine = options.get("machine");
    setup.cpus = options.get("smp", setup.cpus);
    setup.memory = options.get("memory", setup.memory);
    const std::string icount = options.get("icount", "off");
    if (icount != "on" && icount != "off") {
        throw BadTargetName("icount is '" + icount + "': say on or off");
    }
    setup.counts = icount == "on";
    if (setup.accelerator.find(':') != std::string::npos) {
        throw BadTargetName("accel is '" + setup.accelerator +
                            "': name one accelerator, or nobody knows whether time is real");
    }
    if (setup.counts && !setup.emulates()) {
        throw BadTargetName("icount=on goes with accel=tcg only: " + setup.accelerator +
                            " counts no instructions");
    }
    if (setup.counts && setup.accelerator == "tcg") {
        setup.accelerator += ",thread=single"; // what -icount asks for
    }
    const Time time = !setup.emulates() ? Time::cycles : setup.counts ? Time::instructions : Time::ticks;
    TargetLine line = line_with(
        time, "QEMU, -accel " + setup.accelerator + (setup.cpu.empty() ? "" : ", -cpu " + setup.cpu) +
                  (setup.machine.empty() ? "" : ", -machine " + setup.machine) + ", -smp " + setup.cpus);
    line.info.tick_rules = qemu::tick_rules;
    line.hello_patience = seconds(options.number(
        "hello", static_cast<unsigned>(qemu::hello_patience.count() / 1000), 1, longest_hello));
    line.identify = [setup] { return qemu::identify(setup); };
    line.check = [setup] { qemu::check(setup); };
    line.launch = [setup] { return qemu::launch(setup); };
    return line;
}

TargetLine bochs_form(std::string_view text) {
    const TargetOptions options(text, {{"model"}, {"binary"}, {"cpus"}, {"bios"}, {"vgabios"}, {"hello"}});
    bochs::Setup setup;
    setup.model = options.get("model", setup.model);
    setup.binary = options.get("binary");
    setup.cpus = options.number("cpus", 1, 1, 8);
    setup.bios = options.get("bios", setup.bios);
    setup.vga_bios = options.get("vgabios", setup.vga_bios);
    TargetLine line = line_with(Time::instructions,
                                "Bochs, CPU model " + setup.model + ", CPUs: " + std::to_string(setup.cpus));
    line.info.tick_rules = bochs::tick_rules(setup.cpus);
    line.hello_patience = seconds(options.number(
        "hello", static_cast<unsigned>(bochs::hello_patience.count() / 1000), 1, longest_hello));
    line.identify = [setup] { return bochs::identify(setup); };
    line.check = [setup] { bochs::check(setup); };
    line.launch = [setup] { return bochs::launch(setup); };
    return line;
}

std::string content_of(const std::string& path) {
    std::ifstream file(path);
    std::stringstream text;
    if (!file || !(text << file.rdbuf())) {
        throw BadTargetName(path + " cannot be read, or is empty: name a file that holds a command");
    }
    return text.str();
}

TargetLine command_form(std::string_view text) {
    const std::string words =
        text.starts_with('@') ? content_of(std::string(text.substr(1))) : std::string(text);
    const Command command = Command::parse(words, {"time", "hello"});
    const auto option = [&](const char* key) {
        const auto at = command.options.find(key);
        return at == command.options.end() ? std::string{} : at->second;
    };
    const std::string said = option("time");
    const std::string hello = option("hello");
    const auto patience =
        seconds(hello.empty() ? standard_hello : number_in(hello, "hello", 1, longest_hello));
    const std::string& program = command.words.front();
    TargetLine line = line_with(said.empty() ? Time::unsaid : time_in(said),
                                "the image started by " + program.substr(program.rfind('/') + 1));
    line.hello_patience = patience;
    line.check = [command] { (void)command.program(); };
    line.launch = [command, patience] { return command.launch(client::patience(patience)); };
    return line;
}

struct Form {
    std::string_view prefix;
    TargetLine (*parse)(std::string_view);
    const char* usage;
    const char* description;
};

constexpr std::array<Form, 5> forms{{
    {"serial:", serial, "serial:DEV|HOST:PORT|unix:PATH[,BAUD][,time=...][,hello=S]",
     "the image on another machine, or in any hypervisor, that is up or will be"},
    {"unix:", local_socket, "unix:PATH[,time=...][,hello=S]", "the same as serial:unix:PATH"},
    {"qemu:", qemu_form, "qemu:accel=...,cpu=...,machine=...,smp=...,memory=...,icount=on,binary=...",
     "the image in a QEMU of your choice"},
    {"bochs:", bochs_form, "bochs:model=...,cpus=...,binary=...,bios=...,vgabios=...",
     "the image in a Bochs of your choice"},
    {"cmd:", command_form, "cmd:[time=...] [hello=S] PROGRAM ARGUMENT...|@FILE",
     "the image in any VMM, by a command with {image} or {iso}, and {socket}, {listen} or {pty}"},
}};

} // namespace

std::vector<TargetForm> list_forms() {
    std::vector<TargetForm> list;
    list.reserve(forms.size());
    for (const Form& form : forms) {
        list.push_back({form.usage, form.description});
    }
    return list;
}

std::optional<TargetLine> line_of(std::string_view name) {
    for (const Form& form : forms) {
        if (!name.starts_with(form.prefix)) {
            continue;
        }
        try {
            TargetLine line = form.parse(name.substr(form.prefix.size()));
            line.info.name = name;
            return line;
        } catch (const BadTargetName& bad) {
            throw BadTargetName(std::string(form.prefix) + " " + bad.what());
        }
    }
    return std::nullopt;
}

} // namespace refhv::client
