# Android, ABI armeabi-v7a.
set(CMAKE_ANDROID_ARCH_ABI armeabi-v7a)
include(${CMAKE_CURRENT_LIST_DIR}/android.cmake)
