// SPDX-License-Identifier: MIT
#include "refhv/core/core_controls.hpp"
#include "refhv/core/core_impl.hpp"
#include "refhv/core/core_probes.hpp"
#include "refhv/core/core_run.hpp"
#include "refhv/core/core_vms.hpp"

namespace refhv {
template class BasicCore<Hardware>;
}
