// What is in a checkpoint: tensors, aliases, metadata, notes, files.
#include "check.h"

static void lists_tensors(const flatbed_checkpoint* model) {
  flatbed_error error;
  flatbed_tensor tensor = FLATBED_INIT(flatbed_tensor);
  CHECK_NUMBER(flatbed_tensor_count(model), 3);
  CHECK_OK(flatbed_tensor_at(model, 0, &tensor, &error));
  CHECK_NUMBER(tensor.struct_size, sizeof tensor);
  CHECK_TEXT(tensor.name, "a.weight");
  CHECK_NUMBER(tensor.rank, 2);
  CHECK(tensor.shape[0] == 2 && tensor.shape[1] == 3);
  CHECK_NUMBER(tensor.dtype, FLATBED_DTYPE_F32);
  CHECK_NUMBER(tensor.nbytes, 24);
  CHECK_NUMBER(tensor.stored, FLATBED_STORED_PLAIN);
  CHECK_NUMBER(tensor.file_nbytes, 24);
  CHECK_NUMBER(tensor.digests.size, 0);

  CHECK_OK(flatbed_tensor_find(model, flatbed_text("b"), &tensor, &error));
  CHECK_NUMBER(tensor.index, 2);
  CHECK_NUMBER(tensor.rank, 0);
  CHECK_ERROR(flatbed_tensor_find(model, flatbed_text("a.weigth"), &tensor, &error),
              FLATBED_ERROR_TENSOR_NOT_FOUND, "a.weight");
  CHECK_NUMBER(tensor.index, 2);  // unchanged
}

static void checks_arguments(const flatbed_checkpoint* model) {
  flatbed_error error;
  flatbed_tensor tensor = FLATBED_INIT(flatbed_tensor);
  flatbed_file file = FLATBED_INIT(flatbed_file);
  flatbed_string text;
  CHECK_INVALID(flatbed_tensor_at(model, 3, &tensor, &error), "found 3, expected less than 3");
  CHECK_INVALID(flatbed_tensor_at(model, UINT64_MAX, &tensor, &error), "less than 3");
  CHECK_INVALID(flatbed_tensor_at(model, 0, NULL, &error), "'out'");
  CHECK_INVALID(flatbed_tensor_at(NULL, 0, &tensor, &error), "'checkpoint': found NULL");
  CHECK_INVALID(flatbed_tensor_at(wrong_kind(), 0, &tensor, &error), "flatbed_checkpoint");
  const flatbed_string bad = {NULL, 1};
  CHECK_INVALID(flatbed_tensor_find(model, bad, &tensor, &error), "'name'");
  CHECK_INVALID(flatbed_tensor_find(model, bad, NULL, &error), "'out'");
  CHECK_INVALID(flatbed_tensor_find(NULL, bad, &tensor, &error), "'checkpoint'");
  tensor.struct_size = 0;
  CHECK_INVALID(flatbed_tensor_at(model, 0, &tensor, &error), "struct_size");
  CHECK_INVALID(flatbed_file_at(model, 1, &file, &error), "less than 1");
  CHECK_INVALID(flatbed_file_at(model, 0, NULL, &error), "'out'");
  CHECK_INVALID(flatbed_file_at(NULL, 0, &file, &error), "'checkpoint'");
  CHECK_INVALID(flatbed_metadata_at(model, 2, &text, &text, &error), "less than 2");
  CHECK_INVALID(flatbed_metadata_at(model, 0, NULL, &text, &error), "NULL");
  CHECK_INVALID(flatbed_metadata_at(model, 0, &text, NULL, &error), "NULL");
  CHECK_INVALID(flatbed_metadata_at(NULL, 0, &text, &text, &error), "'checkpoint'");
  CHECK_INVALID(flatbed_alias_at(model, 0, &text, &text, &error), "less than 0");
  CHECK_INVALID(flatbed_alias_at(model, 0, NULL, NULL, &error), "NULL");
  CHECK_INVALID(flatbed_note_at(model, 9, &text, &error), "found 9");
  CHECK_INVALID(flatbed_note_at(model, 0, NULL, &error), "'note'");
  const flatbed_checkpoint* const none[] = {NULL, wrong_kind()};
  for (int i = 0; i < 2; ++i) {
    CHECK_NUMBER(flatbed_tensor_count(none[i]) + flatbed_alias_count(none[i]) +
                     flatbed_metadata_count(none[i]) + flatbed_note_count(none[i]) +
                     flatbed_file_count(none[i]) + flatbed_layout(none[i]) + flatbed_seal(none[i]),
                 0);
  }
}

static void lists_the_rest(const flatbed_checkpoint* model) {
  flatbed_error error;
  flatbed_string key, value;
  CHECK_NUMBER(flatbed_metadata_count(model), 2);
  CHECK_OK(flatbed_metadata_at(model, 1, &key, &value, &error));
  CHECK_TEXT(key, "by");
  CHECK_TEXT(value, "hand");
  CHECK_NUMBER(flatbed_alias_count(model), 0);
  flatbed_file file = FLATBED_INIT(flatbed_file);
  CHECK_OK(flatbed_file_at(model, 0, &file, &error));
  CHECK_TEXT(file.path, "small");
  CHECK_NUMBER(file.seal, FLATBED_SEAL_UNSEALED);
  CHECK_NUMBER(file.seal_error, 0);
  CHECK_NUMBER(flatbed_layout(model), FLATBED_LAYOUT_SAFETENSORS);
  CHECK_NUMBER(flatbed_seal(model), FLATBED_SEAL_UNSEALED);
}

// A structure of a later library fills no more than the caller has, and one of an older library
// leaves nothing behind in what the caller has more.
static void fills_larger_structs(const flatbed_checkpoint* model) {
  flatbed_error error;
  struct {
    flatbed_tensor known;
    uint64_t news[2];
    uint64_t after;
  } later;
  memset(&later, 0xee, sizeof later);
  later.known.struct_size = sizeof later - sizeof later.after;
  CHECK_OK(flatbed_tensor_at(model, 1, &later.known, &error));
  CHECK_TEXT(later.known.name, "a.bias");
  CHECK(later.news[0] == 0 && later.news[1] == 0);
  CHECK(later.after == 0xeeeeeeeeeeeeeeee);
}

static void lists_aliases_and_notes(void) {
  flatbed_error error;
  flatbed_checkpoint* model = NULL;
  CHECK_OK(flatbed_open(path_in(fixtures_folder, "torch2/tied.pth"), NULL, &model, &error));
  CHECK_NUMBER(flatbed_layout(model), FLATBED_LAYOUT_TORCH_ZIP);
  CHECK(flatbed_alias_count(model) > 0);
  flatbed_string name, target;
  CHECK_OK(flatbed_alias_at(model, 0, &name, &target, &error));
  flatbed_tensor tensor = FLATBED_INIT(flatbed_tensor);
  CHECK_OK(flatbed_tensor_find(model, name, &tensor, &error));
  CHECK(tensor.name.size == target.size && memcmp(tensor.name.data, target.data, target.size) == 0);
  flatbed_checkpoint_free(model);
}

void test_contents(void) {
  flatbed_checkpoint* const model = open_small_model();
  lists_tensors(model);
  checks_arguments(model);
  lists_the_rest(model);
  fills_larger_structs(model);
  lists_aliases_and_notes();
  flatbed_checkpoint_free(model);
}
