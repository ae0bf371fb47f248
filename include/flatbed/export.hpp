// FLATBED_EXPORT: marks what a shared libflatbed exports. The library is compiled with
// -fvisibility=hidden and linked with a version script, so that the shared library exports what
// carries this mark and nothing else; tests/install/exported_symbols.txt is the complete list.
//
// A static libflatbed has the same marks. Its users' link lines exclude it from what their own
// shared objects export (--exclude-libs, from the CMake package and flatbed.pc), so that two
// engines in one process may each hold a copy.
//
// Every public header includes this one: it also says what flatbed needs of the compiler.
#pragma once

#if !defined(__cplusplus) || __cplusplus < 202002L
#error "flatbed needs C++20: compile with -std=c++20 or newer (CMake: CXX_STANDARD 20)"
#endif

#define FLATBED_EXPORT __attribute__((visibility("default")))
// Marks the private parts of an exported class that no inline function calls.
#define FLATBED_HIDDEN __attribute__((visibility("hidden")))
