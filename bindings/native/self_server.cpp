// SPDX-License-Identifier: MIT
// refhv-self [self|kvm]: the platforms `self` and `kvm` for a client that cannot be forked for them
// (client::self::set_server).
#include "refhv/client/self.hpp"

#include <string_view>

int main(int argc, char** argv) {
    const bool kvm = argc > 1 && std::string_view(argv[1]) == "kvm";
    return refhv::client::self::serve(kvm ? refhv::abi::Mode::kvm : refhv::abi::Mode::user);
}
