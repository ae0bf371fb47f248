// The checks, and the model of the C tests.
#include "check.h"

#include <dirent.h>
#include <stdatomic.h>
#include <sys/stat.h>

static atomic_int failures = 0;

static void fail(const char* file, int line) {
  atomic_fetch_add(&failures, 1);
  fprintf(stderr, "%s:%d: ", file, line);
}

void check_true(bool condition, const char* what, const char* file, int line) {
  if (condition) return;
  fail(file, line);
  fprintf(stderr, "not true: %s\n", what);
}

void check_number(uint64_t found, uint64_t expected, const char* what, const char* file, int line) {
  if (found == expected) return;
  fail(file, line);
  fprintf(stderr, "%s: found %" PRIu64 ", expected %" PRIu64 "\n", what, found, expected);
}

void check_text(flatbed_string found, const char* expected, const char* what, const char* file,
                int line) {
  // An empty text may have no data, and then there is nothing to compare.
  if (found.size == strlen(expected) &&
      (found.size == 0 || memcmp(found.data, expected, found.size) == 0)) {
    return;
  }
  fail(file, line);
  fprintf(stderr, "%s: found '%.*s', expected '%s'\n", what, (int)found.size, found.data, expected);
}

void check_ok(int32_t code, const flatbed_error* error, const char* what, const char* file,
              int line) {
  if (code == 0 && error->code == 0 && error->message_size == 0 && error->message[0] == '\0') {
    return;
  }
  fail(file, line);
  fprintf(stderr, "%s: %d, %s\n", what, (int)code, error->message);
}

void check_error(int32_t code, const flatbed_error* error, int32_t expected, const char* part,
                 const char* what, const char* file, int line) {
  if (code == expected && error->code == expected && strstr(error->message, part) != NULL &&
      error->message_size == strlen(error->message) &&
      strcmp(error->name, flatbed_error_name(expected)) == 0) {
    return;
  }
  fail(file, line);
  fprintf(stderr, "%s: found %d '%s', expected %d with '%s'\n", what, (int)code, error->message,
          (int)expected, part);
}

const char* path_in(const char* folder, const char* name) {
  static char buffers[4][4096];
  static unsigned used = 0;
  char* const buffer = buffers[used++ % 4];
  snprintf(buffer, sizeof buffers[0], "%s/%s", folder, name);
  return buffer;
}

const void* small_model(uint64_t* nbytes) {
  static unsigned char bytes[512];
  static const char header[] =
      "{\"__metadata__\":{\"format\":\"pt\",\"by\":\"hand\"},"
      "\"a.weight\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"
      "\"a.bias\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[24,32]},"
      "\"b\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[32,40]}}";
  static const float floats[8] = {0, 1, 2, 3, 4, 5, 6, 7};
  static const int64_t integer = -1;
  const uint64_t size = sizeof header - 1;
  memcpy(bytes, &size, sizeof size);
  memcpy(bytes + 8, header, size);
  memcpy(bytes + 8 + size, floats, sizeof floats);
  memcpy(bytes + 8 + size + sizeof floats, &integer, sizeof integer);
  *nbytes = 8 + size + sizeof floats + sizeof integer;
  return bytes;
}

flatbed_checkpoint* open_small_model(void) {
  uint64_t nbytes = 0;
  const void* const bytes = small_model(&nbytes);
  flatbed_checkpoint* model = NULL;
  flatbed_error error;
  CHECK_OK(flatbed_open_memory(bytes, nbytes, flatbed_text("small"), NULL, &model, &error));
  return model;
}

void remove_all(const char* path) {
  struct stat found;
  if (lstat(path, &found) != 0) return;
  DIR* const folder = S_ISDIR(found.st_mode) ? opendir(path) : NULL;
  for (struct dirent* entry; folder != NULL && (entry = readdir(folder)) != NULL;) {
    char inner[4096];
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    const int size = snprintf(inner, sizeof inner, "%s/%s", path, entry->d_name);
    if (size > 0 && size < (int)sizeof inner) remove_all(inner);
  }
  if (folder != NULL) closedir(folder);
  CHECK(remove(path) == 0);
}

void write_file(const char* path, const void* bytes, uint64_t nbytes) {
  FILE* const file = fopen(path, "wb");
  CHECK(file != NULL);
  if (file == NULL) return;
  CHECK(fwrite(bytes, 1, nbytes, file) == nbytes);
  CHECK(fclose(file) == 0);
}

const char* write_small_model(const char* name) {
  uint64_t nbytes = 0;
  const void* const bytes = small_model(&nbytes);
  const char* const path = path_in(output_folder, name);
  write_file(path, bytes, nbytes);
  return path;
}

flatbed_checkpoint* wrong_kind(void) {
  static uint64_t something[64] = {1, 2, 3};
  return (flatbed_checkpoint*)something;
}

const char* fixtures_folder = NULL;
const char* output_folder = NULL;

int failed_checks(void) { return atomic_load(&failures); }
