// The version of the library, in one place: CMake reads these three lines.
#pragma once

#define FLATBED_VERSION_MAJOR 0
#define FLATBED_VERSION_MINOR 1
#define FLATBED_VERSION_PATCH 0
