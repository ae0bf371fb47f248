// Checks of the C tests. One that fails prints its place, and the program then ends with 1.
#pragma once

#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "flatbed/flatbed.h"

#define CHECK(condition) check_true((condition), #condition, __FILE__, __LINE__)
#define CHECK_NUMBER(found, expected) \
  check_number((uint64_t)(found), (uint64_t)(expected), #found, __FILE__, __LINE__)
#define CHECK_TEXT(found, expected) check_text((found), (expected), #found, __FILE__, __LINE__)
// A call that succeeds, whose last argument is the `error` of the calling function.
#define CHECK_OK(call) check_ok((call), &error, #call, __FILE__, __LINE__)
// One that fails with this code and a message that contains `part`.
#define CHECK_ERROR(call, expected, part) \
  check_error((call), &error, expected, part, #call, __FILE__, __LINE__)
#define CHECK_INVALID(call, part) CHECK_ERROR(call, FLATBED_ERROR_INVALID_ARGUMENT, part)

void check_true(bool condition, const char* what, const char* file, int line);
void check_number(uint64_t found, uint64_t expected, const char* what, const char* file, int line);
void check_text(flatbed_string found, const char* expected, const char* what, const char* file,
                int line);
void check_ok(int32_t code, const flatbed_error* error, const char* what, const char* file,
              int line);
void check_error(int32_t code, const flatbed_error* error, int32_t expected, const char* part,
                 const char* what, const char* file, int line);

// So many checks have failed. Checks are thread-safe; the paths and models below are not.
int failed_checks(void);

// Folders of the tests: the sources' and one to write to.
extern const char* fixtures_folder;
extern const char* output_folder;
// "<folder>/<name>", in one of four buffers that are used in turn.
const char* path_in(const char* folder, const char* name);

// A model in memory, little enough to be known by heart:
//   a.weight  F32 [2,3]  0 1 2 3 4 5
//   a.bias    F32 [2]    6 7
//   b         I64 []     -1
// with the metadata format: pt and by: hand.
const void* small_model(uint64_t* nbytes);
flatbed_checkpoint* open_small_model(void);
// Writes it to a file of the output folder, whose path it returns.
const char* write_small_model(const char* name);
// Removes a file, or a folder with everything in it, if there is one.
void remove_all(const char* path);
void write_file(const char* path, const void* bytes, uint64_t nbytes);

// A handle of another kind than the function under test takes.
flatbed_checkpoint* wrong_kind(void);
