// SPDX-License-Identifier: MIT
#include "conformance/prove/fault_tables.hpp"

namespace refhv::front {

const std::vector<FaultTable>& seeded_faults() {
    static const std::vector<FaultTable> tables{{Maker::both, faults::both()},
                                                {Maker::vmx, faults::vmx_asked()},
                                                {Maker::vmx, faults::vmx_answered()},
                                                {Maker::svm, faults::svm()}};
    return tables;
}

} // namespace refhv::front
