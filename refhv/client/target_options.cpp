// SPDX-License-Identifier: MIT
#include "refhv/client/target_options.hpp"

#include "refhv/client/target.hpp"

#include <algorithm>
#include <charconv>

namespace refhv::client {

std::vector<std::string> split(std::string_view text, char separator) {
    std::vector<std::string> pieces;
    for (;;) {
        const usize end = std::min(text.find(separator), text.size());
        pieces.emplace_back(text.substr(0, end));
        if (end == text.size()) {
            return pieces;
        }
        text.remove_prefix(end + 1);
    }
}

unsigned number_in(std::string_view text, std::string_view what, unsigned least, unsigned most) {
    unsigned value = 0;
    const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || rest != text.data() + text.size() || value < least || value > most) {
        throw BadTargetName(std::string(what) + " is '" + std::string(text) + "': give a number from " +
                            std::to_string(least) + " to " + std::to_string(most));
    }
    return value;
}

TargetOptions::TargetOptions(std::string_view text, std::initializer_list<Key> keys) {
    std::string all;
    for (const Key& key : keys) {
        all.append(all.empty() ? "" : ", ").append(key.name).append("=");
    }
    std::string* open = nullptr; // the value that may go on
    for (const std::string& piece : text.empty() ? std::vector<std::string>{} : split(text, ',')) {
        const std::string name = piece.substr(0, piece.find('='));
        const auto* const key =
            std::find_if(keys.begin(), keys.end(), [&](const Key& k) { return k.name == name; });
        if (key == keys.end() || name.size() == piece.size()) {
            if (open == nullptr || key != keys.end()) {
                throw BadTargetName(
                    std::string("'").append(piece).append("' is no option here; there are ").append(all));
            }
            open->append(",").append(piece);
            continue;
        }
        const auto [at, fresh] = values_.emplace(name, piece.substr(name.size() + 1));
        if (!fresh || at->second.empty()) {
            throw BadTargetName("the option " + name + "= " + (fresh ? "has no value" : "is there twice"));
        }
        open = key->takes_more ? &at->second : nullptr;
    }
}

std::string TargetOptions::get(std::string_view key, std::string_view otherwise) const {
    const auto at = values_.find(std::string(key));
    return at == values_.end() ? std::string(otherwise) : at->second;
}

unsigned TargetOptions::number(std::string_view key, unsigned otherwise, unsigned least,
                               unsigned most) const {
    return has(key) ? number_in(get(key), key, least, most) : otherwise;
}

} // namespace refhv::client
