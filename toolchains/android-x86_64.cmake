# Android, ABI x86_64.
set(CMAKE_ANDROID_ARCH_ABI x86_64)
include(${CMAKE_CURRENT_LIST_DIR}/android.cmake)
