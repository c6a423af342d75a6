# Android through the NDK that the environment's ANDROID_NDK names, with CMake's own support for it. The files that
# include this one name an ABI. Android 7 (API 24) and newer: -DCMAKE_SYSTEM_VERSION=33 asks for more.
if(NOT CMAKE_ANDROID_NDK)
    set(CMAKE_ANDROID_NDK "$ENV{ANDROID_NDK}")
endif()
if(NOT EXISTS "${CMAKE_ANDROID_NDK}/source.properties")
    message(FATAL_ERROR "ANDROID_NDK: expected the folder of an Android NDK, found '${CMAKE_ANDROID_NDK}'")
endif()
set(CMAKE_SYSTEM_NAME Android)
if(NOT CMAKE_SYSTEM_VERSION)
    set(CMAKE_SYSTEM_VERSION 24)
endif()
# Compiler checks configure projects of their own, which must see the same settings.
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES CMAKE_ANDROID_NDK CMAKE_ANDROID_ARCH_ABI CMAKE_SYSTEM_VERSION)
