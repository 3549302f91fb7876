// SPDX-License-Identifier: MIT
// refhv-self: the platform `self` for a client that cannot be forked for it (client::self::set_server).
#include "refhv/client/self.hpp"

int main() {
    return refhv::client::self::serve();
}
