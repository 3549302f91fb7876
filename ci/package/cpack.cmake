# SPDX-License-Identifier: MIT
# The Debian package goes below /usr, as Debian's own do; the tarball wherever it is unpacked.
if(CPACK_GENERATOR STREQUAL "DEB")
  set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
endif()
