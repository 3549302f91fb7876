# SPDX-License-Identifier: MIT
# The Debian package goes below /usr, as Debian's own do; the tarball wherever it is unpacked, with all that its programs need.
if(CPACK_GENERATOR STREQUAL "DEB")
  set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
else()
  list(GET CPACK_INSTALL_CMAKE_PROJECTS 0 build)
  list(APPEND CPACK_INSTALL_CMAKE_PROJECTS "${build};refhv;carried;/")
endif()
