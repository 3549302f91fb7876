# SPDX-License-Identifier: MIT
# What `cmake --install` puts where, and the Debian package and the tarball that `cpack` makes of it. Everything finds the
# rest by its own place (bindings/refhv/paths.py, refhv/client/locate.cpp), so that the folder as a whole can be moved.
include(GNUInstallDirs)

set(programs refhv-microbench refhv-conformance refhv-doctor refhv-vm)
set(private lib/refhv)
set_target_properties(${programs} PROPERTIES INSTALL_RPATH "$ORIGIN")
install(TARGETS ${programs} RUNTIME DESTINATION ${private})
# Google Benchmark comes along: Debian's packages of it have other names in other releases, and no archive to link.
get_target_property(kind benchmark::benchmark TYPE)
if(kind STREQUAL "SHARED_LIBRARY")
  install(FILES $<TARGET_FILE:benchmark::benchmark> DESTINATION ${private}
    RENAME $<TARGET_SONAME_FILE_NAME:benchmark::benchmark>)
endif()
# Zydis and its Zycore likewise, each by the name that programs ask for.
find_library(REFHV_ZYCORE NAMES Zycore REQUIRED)
foreach(library IN ITEMS ${REFHV_ZYDIS} ${REFHV_ZYCORE})
  execute_process(COMMAND ${CMAKE_OBJDUMP} -p ${library} OUTPUT_VARIABLE headers COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX MATCH "SONAME +([^ \n]+)" soname "${headers}")
  file(REAL_PATH ${library} file)
  install(FILES ${file} DESTINATION ${private} RENAME ${CMAKE_MATCH_1})
endforeach()
install(FILES conformance/departures.json DESTINATION ${private})
foreach(program IN LISTS programs)
  install(CODE "file(MAKE_DIRECTORY \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/bin\")
    file(CREATE_LINK ../${private}/${program} \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/bin/${program}\" SYMBOLIC)")
endforeach()
if(TARGET refhv_image)
  install(TARGETS refhv_image RUNTIME DESTINATION ${private})
endif()
if(TARGET refhv_iso)
  install(FILES ${CMAKE_RUNTIME_OUTPUT_DIRECTORY}/refhv.iso DESTINATION ${private})
endif()

# The Python package with its native module, but for what tests the source tree.
install(PROGRAMS ci/package/refhv DESTINATION bin)
if(TARGET refhv_python)
  install(TARGETS refhv_python LIBRARY DESTINATION lib/python3/dist-packages/refhv)
  install(TARGETS refhv-self RUNTIME DESTINATION ${private})
  list(APPEND programs refhv-self)
  install(FILES ${PROJECT_BINARY_DIR}/python/refhv/_native.pyi DESTINATION lib/python3/dist-packages/refhv)
endif()
install(DIRECTORY bindings/refhv DESTINATION lib/python3/dist-packages
  FILES_MATCHING PATTERN "*.py" PATTERN "py.typed"
  PATTERN "__pycache__" EXCLUDE PATTERN "tidy" EXCLUDE
  PATTERN "budget.py" EXCLUDE PATTERN "checks.py" EXCLUDE PATTERN "linux_guest.py" EXCLUDE PATTERN "linux_faults.py" EXCLUDE
  PATTERN "parts.py" EXCLUDE PATTERN "testing.py" EXCLUDE)
install(FILES docs/record.schema.json DESTINATION share/refhv)
install(DIRECTORY reports DESTINATION share/refhv PATTERN ".ipynb_checkpoints" EXCLUDE)
install(DIRECTORY ci/fleet DESTINATION share/refhv USE_SOURCE_PERMISSIONS PATTERN "__pycache__" EXCLUDE)
install(FILES ci/package/completion.bash DESTINATION share/bash-completion/completions RENAME refhv)
install(FILES README.md DESTINATION share/doc/refhv)
install(FILES LICENSE DESTINATION share/doc/refhv RENAME copyright)
install(FILES ci/package/NOTICE DESTINATION share/doc/refhv)
install(DIRECTORY docs/ DESTINATION share/doc/refhv/docs FILES_MATCHING PATTERN "*.md" PATTERN "*.png")

include(ci/package/carried.cmake)

# The module's sources: those of the core, and its own.
set(module_source src/refhv-${PROJECT_VERSION})
foreach(folder IN ITEMS contract core kmod native shadow svm vcpu vmx x86)
  install(DIRECTORY refhv/${folder} DESTINATION ${module_source}/refhv PATTERN "build" EXCLUDE)
endforeach()
configure_file(ci/package/dkms.conf.in ci/package/dkms.conf @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/ci/package/dkms.conf DESTINATION ${module_source})

set(CPACK_PACKAGE_NAME refhv)
set(CPACK_PACKAGE_VENDOR refhv)
set(CPACK_PACKAGE_CONTACT "The refhv maintainers <refhv@localhost>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "measures x86 virtualization and checks that it behaves")
set(CPACK_PACKAGE_DESCRIPTION
  "VM-exit latency, nested and shadow paging, interrupt injection on VMX and SVM, each number held against claims from the
manuals; on this machine by a Linux module, and on emulators by a bootable image.")
set(CPACK_VERBATIM_VARIABLES ON)
set(CPACK_STRIP_FILES ON)
set(CPACK_PACKAGE_DIRECTORY ${PROJECT_BINARY_DIR}/package)
set(CPACK_GENERATOR DEB TXZ)
set(CPACK_INSTALL_CMAKE_PROJECTS "${PROJECT_BINARY_DIR};refhv;ALL;/")

set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION utils)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
file(STRINGS ci/packages.txt run_packages REGEX "^(python3|fonts)")
list(REMOVE_ITEM run_packages python3-dev)
list(JOIN run_packages ", " run_packages)
set(CPACK_DEBIAN_PACKAGE_DEPENDS "${run_packages}, dkms, g++, make, kmod")
set(CPACK_DEBIAN_PACKAGE_SUGGESTS "ansible-core, bochs, bochsbios, vgabios, qemu-system-x86")
foreach(script IN ITEMS postinst prerm postrm)
  configure_file(ci/package/${script}.in ci/package/${script} @ONLY FILE_PERMISSIONS
    OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
  list(APPEND CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA ${PROJECT_BINARY_DIR}/ci/package/${script})
endforeach()
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_PROJECT_CONFIG_FILE ${PROJECT_SOURCE_DIR}/ci/package/cpack.cmake)
include(CPack)
