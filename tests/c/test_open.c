// Opening by path, descriptor, memory and shards.
#include <fcntl.h>
#include <unistd.h>

#include "check.h"

// What is wrong with a message longer than the caller's struct: it is cut between two characters.
static void cuts_long_messages(void) {
  static char path[4000];
  flatbed_error error;
  flatbed_checkpoint* model = NULL;
  memset(path, 0, sizeof path);
  path[0] = 'x';
  for (size_t i = 1; i + 2 < 3001; i += 2) memcpy(path + i, "\xc3\xa9", 2);
  const int32_t code = flatbed_open(path, NULL, &model, &error);
  CHECK(code != 0);
  CHECK_NUMBER(error.message_size, strlen(error.message));
  CHECK(error.message_size < sizeof error.message);
  if (error.message_size >= sizeof error.message - 2) {
    CHECK((unsigned char)error.message[error.message_size - 1] == 0xa9);
  }
}

static void opens_a_path(void) {
  flatbed_error error;
  flatbed_checkpoint* model = NULL;
  const char* const path = write_small_model("open.safetensors");
  CHECK_OK(flatbed_open(path, NULL, &model, &error));
  CHECK_NUMBER(flatbed_tensor_count(model), 3);
  flatbed_checkpoint_free(model);
  CHECK(flatbed_open(path, NULL, &model, NULL) == 0);
  flatbed_checkpoint_free(model);

  CHECK_ERROR(flatbed_open(path_in(output_folder, "missing"), NULL, &model, &error),
              FLATBED_ERROR_FILE_NOT_FOUND, "missing");
  CHECK(model == NULL);
  CHECK(flatbed_open(path_in(output_folder, "missing"), NULL, &model, NULL) ==
        FLATBED_ERROR_FILE_NOT_FOUND);
  CHECK_INVALID(flatbed_open(NULL, NULL, &model, &error), "'path': found NULL");
  CHECK_INVALID(flatbed_open(path, NULL, NULL, &error), "'out': found NULL");
}

static void checks_options(void) {
  flatbed_error error;
  flatbed_checkpoint* model = NULL;
  const char* const path = write_small_model("options.safetensors");
  flatbed_open_options options = FLATBED_INIT(flatbed_open_options);
  CHECK_OK(flatbed_open(path, &options, &model, &error));
  flatbed_checkpoint_free(model);
  options.check_seal = FLATBED_CHECK_SEAL_REQUIRED;
  CHECK_ERROR(flatbed_open(path, &options, &model, &error), FLATBED_ERROR_NOT_SEALED,
              "options.safetensors");
  options.check_seal = 3;
  CHECK_INVALID(flatbed_open(path, &options, &model, &error), "'check_seal': found 3");
  options.check_seal = FLATBED_CHECK_SEAL_OFF;
  options.refuse_links = 2;
  CHECK_INVALID(flatbed_open(path, &options, &model, &error), "'refuse_links': found 2");

  const uint64_t sizes[] = {0, 8, sizeof options - 1, UINT64_MAX};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; ++i) {
    flatbed_open_options wrong = FLATBED_INIT(flatbed_open_options);
    wrong.struct_size = sizes[i];
    CHECK_INVALID(flatbed_open(path, &wrong, &model, &error), "struct_size");
    CHECK(model == NULL);
  }
}

// A caller that was compiled against a later header.
static void takes_larger_structs_without_news(void) {
  flatbed_error error;
  flatbed_checkpoint* model = NULL;
  const char* const path = write_small_model("later.safetensors");
  struct {
    flatbed_open_options known;
    uint64_t news;
  } later;
  memset(&later, 0, sizeof later);
  later.known.struct_size = sizeof later;
  CHECK_OK(flatbed_open(path, &later.known, &model, &error));
  flatbed_checkpoint_free(model);
  later.news = 1;
  CHECK_INVALID(flatbed_open(path, &later.known, &model, &error), "does not have");
}

static void opens_a_descriptor(void) {
  flatbed_error error;
  flatbed_checkpoint* model = NULL;
  const int descriptor = open(write_small_model("descriptor.safetensors"), O_RDONLY);
  CHECK(descriptor >= 0);
  CHECK_OK(flatbed_open_descriptor(descriptor, flatbed_text("mine"), NULL, &model, &error));
  close(descriptor);
  float bias[2] = {0, 0};
  CHECK_OK(flatbed_read(model, 1, 0, bias, sizeof bias, FLATBED_VERIFY_YES, &error));
  CHECK(bias[1] == 7);
  flatbed_checkpoint_free(model);
  CHECK(flatbed_open_descriptor(-1, flatbed_text("mine"), NULL, &model, &error) != 0);
  const flatbed_string bad = {NULL, 3};
  CHECK_INVALID(flatbed_open_descriptor(0, bad, NULL, &model, &error), "'label'");
  CHECK_INVALID(flatbed_open_descriptor(0, bad, NULL, NULL, &error), "'out'");
}

static void opens_memory(void) {
  flatbed_error error;
  flatbed_checkpoint* model = open_small_model();
  flatbed_file file = FLATBED_INIT(flatbed_file);
  CHECK_OK(flatbed_file_at(model, 0, &file, &error));
  CHECK_TEXT(file.path, "small");
  flatbed_checkpoint_free(model);
  const flatbed_string none = {NULL, 0};
  CHECK_ERROR(flatbed_open_memory(NULL, 0, none, NULL, &model, &error),
              FLATBED_ERROR_FILE_TOO_SHORT, "empty");
  CHECK_INVALID(flatbed_open_memory(NULL, 1, none, NULL, &model, &error), "'bytes'");
  CHECK_INVALID(flatbed_open_memory("", 0, none, NULL, NULL, &error), "'out'");
}

static void opens_shards(void) {
  flatbed_error error;
  flatbed_checkpoint* model = NULL;
  const char* const one = write_small_model("one.safetensors");
  const char* const two = path_in(output_folder, "two.safetensors");
  static const char other[] =
      "\x3e\0\0\0\0\0\0\0{\"c\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}         x";
  write_file(two, other, sizeof other - 1);
  const char* const paths[] = {one, two};
  CHECK_OK(flatbed_open_shards(paths, 2, NULL, &model, &error));
  CHECK_NUMBER(flatbed_tensor_count(model), 4);
  CHECK_NUMBER(flatbed_file_count(model), 2);
  flatbed_checkpoint_free(model);

  const char* const same[] = {one, one};
  CHECK_ERROR(flatbed_open_shards(same, 2, NULL, &model, &error), FLATBED_ERROR_NAME_COLLISION,
              "one.safetensors");
  const char* const hole[] = {one, NULL};
  CHECK_INVALID(flatbed_open_shards(hole, 2, NULL, &model, &error), "'paths': found NULL");
  CHECK_INVALID(flatbed_open_shards(NULL, 2, NULL, &model, &error), "'paths'");
  CHECK_INVALID(flatbed_open_shards(NULL, 0, NULL, &model, &error), "");
  CHECK_INVALID(flatbed_open_shards(paths, 2, NULL, NULL, &error), "'out'");
}

void test_open(void) {
  cuts_long_messages();
  opens_a_path();
  checks_options();
  takes_larger_structs_without_news();
  opens_a_descriptor();
  opens_memory();
  opens_shards();
  flatbed_checkpoint_free(NULL);
  flatbed_checkpoint_free(wrong_kind());  // left alone
}
