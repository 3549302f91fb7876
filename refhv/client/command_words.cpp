// SPDX-License-Identifier: MIT
// How the text of a command is read.
#include "refhv/client/command.hpp"

#include <algorithm>
#include <array>

namespace refhv::client {
namespace {

constexpr std::string_view blanks = " \t\r\n";

// `in` begins with a quote that holds up to the next of its kind; takes it all, and appends what it holds.
void take_quoted(std::string_view& in, std::string& word) {
    const char quote = in.front();
    in.remove_prefix(1);
    while (!in.empty() && in.front() != quote) {
        if (quote == '"' && in.size() > 1 && in.front() == '\\' && (in[1] == '"' || in[1] == '\\')) {
            in.remove_prefix(1);
        }
        word += in.front();
        in.remove_prefix(1);
    }
    if (in.empty()) {
        throw BadTargetName(std::string("the command has a ") + quote + " without its end");
    }
    in.remove_prefix(1);
}

std::string take_word(std::string_view& in) {
    std::string word;
    while (!in.empty() && blanks.find(in.front()) == blanks.npos) {
        if (in.front() == '\'' || in.front() == '"') {
            take_quoted(in, word);
            continue;
        }
        if (in.front() == '\\' && in.size() > 1) {
            in.remove_prefix(1);
        }
        word += in.front();
        in.remove_prefix(1);
    }
    return word;
}

// The text without its comments.
std::string without_comments(std::string_view text) {
    std::string kept;
    while (!text.empty()) {
        const usize end = std::min(text.find('\n'), text.size() - 1) + 1;
        const std::string_view line = text.substr(0, end);
        const usize first = line.find_first_not_of(blanks);
        if (first != line.npos && line[first] != '#') {
            kept += line;
        }
        text.remove_prefix(end);
    }
    return kept;
}

std::vector<std::string> words_in(std::string_view text) {
    const std::string kept = without_comments(text);
    std::vector<std::string> words;
    for (std::string_view rest = kept;;) {
        rest.remove_prefix(std::min(rest.find_first_not_of(blanks), rest.size()));
        if (rest.empty()) {
            return words;
        }
        words.push_back(take_word(rest));
    }
}

} // namespace

std::string put_places(std::string_view word, const std::map<std::string, std::string>& places) {
    std::string out;
    for (usize i = 0; i < word.size(); ++i) {
        if ((word[i] == '{' || word[i] == '}') && i + 1 < word.size() && word[i + 1] == word[i]) {
            out += word[i++];
        } else if (word[i] == '{') {
            const usize end = word.find('}', i);
            const std::string name(word.substr(i + 1, std::min(end, word.size()) - i - 1));
            const auto at = places.find(name);
            if (end == word.npos || at == places.end()) {
                throw BadTargetName(
                    "the command has {" + name +
                    "}, which is no place; there are {image}, {iso}, {socket}, {listen}, {pty}, "
                    "and {{ and }} for braces");
            }
            out += at->second;
            i = end;
        } else {
            out += word[i];
        }
    }
    return out;
}

Command Command::parse(std::string_view text, const std::vector<std::string_view>& keys) {
    Command command;
    for (std::string& word : words_in(text)) {
        const usize equals = word.find('=');
        const std::string key = word.substr(0, std::min(equals, word.size()));
        const bool option = command.words.empty() && equals != word.npos &&
                            std::find(keys.begin(), keys.end(), key) != keys.end();
        if (!option) {
            command.words.push_back(std::move(word));
        } else if (!command.options.emplace(key, word.substr(equals + 1)).second) {
            throw BadTargetName("the option " + key + "= is there twice");
        }
    }
    if (command.words.empty()) {
        throw BadTargetName("there is no command: name a program and its arguments, such as "
                            "cmd:'qemu-system-x86_64 -nographic -kernel {image}'");
    }
    constexpr std::array<std::pair<const char*, Line>, 5> known{{{"image", Line::standard},
                                                                 {"iso", Line::standard},
                                                                 {"socket", Line::socket},
                                                                 {"listen", Line::listener},
                                                                 {"pty", Line::terminal}}};
    const std::map<std::string, std::string> none{
        {"image", ""}, {"iso", ""}, {"socket", ""}, {"listen", ""}, {"pty", ""}};
    unsigned lines = 0;
    for (const auto& [name, line] : known) {
        const std::string place = std::string("{").append(name).append("}");
        const bool named =
            std::any_of(command.words.begin(), command.words.end(), [&](const std::string& word) {
                (void)put_places(word, none); // refuses those that are not known
                return word.find(place) != word.npos;
            });
        if (named && line != Line::standard) {
            command.line = line;
            ++lines;
        }
    }
    if (lines > 1) {
        throw BadTargetName(
            "the command names more than one of {socket}, {listen} and {pty}: the image has one "
            "serial line");
    }
    return command;
}

} // namespace refhv::client
