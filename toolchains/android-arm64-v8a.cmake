# Android, ABI arm64-v8a.
set(CMAKE_ANDROID_ARCH_ABI arm64-v8a)
include(${CMAKE_CURRENT_LIST_DIR}/android.cmake)
