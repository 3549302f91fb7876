// SPDX-License-Identifier: MIT
#include "refhv/core_impl.hpp"
#include "refhv/core_run.hpp"
#include "refhv/core_vms.hpp"

namespace refhv {
template class BasicCore<Hardware>;
}
