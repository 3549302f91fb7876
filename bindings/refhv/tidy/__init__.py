# SPDX-License-Identifier: MIT
"""clang-tidy over the whole tree, several sources at a time, each content once (ci/check-tidy).

Nearly all of what clang-tidy takes goes into the headers of the standard library and GoogleTest, which it walks through again
for each source. So sources that can stand in one translation unit are looked at in one: `units` has which, `seen` remembers
which of them were clean, `look` asks clang-tidy.
"""
