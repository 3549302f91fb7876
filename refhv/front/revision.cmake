# SPDX-License-Identifier: MIT
# Writes OUTPUT, which defines refhv::front::revision() for the sources in SOURCE. Runs in every build; a revision that
# has not changed leaves the file alone, so that nothing is built again.
set(revision "unknown")
set(git ${CMAKE_COMMAND} -E env GIT_OPTIONAL_LOCKS=0 git -C ${SOURCE})
# Empty at the top of a checkout only: a copy of the sources inside somebody else's has no revision.
execute_process(COMMAND ${git} rev-parse --show-prefix OUTPUT_VARIABLE prefix RESULT_VARIABLE failed ERROR_QUIET)
if(failed EQUAL 0 AND prefix STREQUAL "\n")
  execute_process(COMMAND ${git} describe --always --dirty --abbrev=12 OUTPUT_VARIABLE described RESULT_VARIABLE failed
                  OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  if(failed EQUAL 0 AND described)
    set(revision "${described}")
  endif()
endif()
file(CONFIGURE OUTPUT ${OUTPUT} @ONLY CONTENT [[
#include "refhv/front/revision.hpp"

const char* refhv::front::revision() {
    return "@revision@";
}
]])
