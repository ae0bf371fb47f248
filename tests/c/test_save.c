// Saving, converting and verifying.
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"

static int32_t on_progress(void* context, uint64_t done, uint64_t total) {
  CHECK(done <= total);
  return *(const int32_t*)context;
}

static int32_t on_damage(void* context, const flatbed_damaged_range* range) {
  *(flatbed_damaged_range*)context = *range;
  return 0;
}

static int32_t on_note(void* context, flatbed_string note) {
  (void)context;
  CHECK(note.size > 0);
  return 0;
}

// {"step": 7, "w": <tensor 0>}
static void set_tree(flatbed_save_plan* plan) {
  flatbed_error error;
  flatbed_tree* tree = NULL;
  flatbed_value root, key, item;
  CHECK_OK(flatbed_tree_new(&tree, &error));
  CHECK_OK(flatbed_tree_add_dict(tree, &root, &error));
  CHECK_OK(flatbed_tree_add_string(tree, flatbed_text("step"), &key, &error));
  CHECK_OK(flatbed_tree_add_int(tree, 7, &item, &error));
  CHECK_OK(flatbed_tree_set_item(tree, root, key, item, &error));
  CHECK_OK(flatbed_tree_add_string(tree, flatbed_text("w"), &key, &error));
  CHECK_OK(flatbed_tree_add_tensor(tree, 0, &item, &error));
  CHECK_OK(flatbed_tree_set_item(tree, root, key, item, &error));
  CHECK_OK(flatbed_tree_set_root(tree, root, &error));
  CHECK_OK(flatbed_save_plan_set_tree(plan, tree, &error));
  CHECK_INVALID(flatbed_save_plan_set_tree(plan, NULL, &error), "'tree'");
  CHECK_INVALID(flatbed_save_plan_set_tree(NULL, tree, &error), "'plan'");
  flatbed_tree_free(tree);
}

static const float kValues[4] = {1, 2, 3, 4};

static flatbed_save_plan* plan_of_memory(void) {
  flatbed_error error;
  flatbed_save_plan* plan = NULL;
  const uint64_t shape[] = {2, 2};
  CHECK_OK(flatbed_save_plan_new(&plan, &error));
  CHECK_OK(flatbed_save_plan_add(plan, flatbed_text("w"), FLATBED_DTYPE_F32, shape, 2, kValues,
                                 sizeof kValues, &error));
  CHECK_OK(flatbed_save_plan_add_alias(plan, flatbed_text("tied"), flatbed_text("w"), &error));
  CHECK_OK(flatbed_save_plan_add_metadata(plan, flatbed_text("by"), flatbed_text("C"), &error));
  set_tree(plan);
  return plan;
}

static void saves_memory(void) {
  flatbed_error error;
  flatbed_save_plan* const plan = plan_of_memory();
  const char* const path = path_in(output_folder, "saved.safetensors");
  flatbed_save_report report = FLATBED_INIT(flatbed_save_report);
  CHECK_OK(flatbed_save(path, plan, NULL, &report, &error));
  CHECK_NUMBER(strlen(report.content), 16);
  CHECK(report.durable == 1 && report.files == 1 && report.nbytes > report.header_nbytes);
  flatbed_checkpoint* model = NULL;
  CHECK_OK(flatbed_open(path, NULL, &model, &error));
  CHECK_NUMBER(flatbed_seal(model), FLATBED_SEAL_SEALED);
  flatbed_tensor tensor = FLATBED_INIT(flatbed_tensor);
  CHECK_OK(flatbed_tensor_find(model, flatbed_text("tied"), &tensor, &error));
  CHECK_TEXT(tensor.name, "w");
  CHECK_NUMBER(tensor.digests.size, 16);
  flatbed_file file = FLATBED_INIT(flatbed_file);
  CHECK_OK(flatbed_file_at(model, 0, &file, &error));
  CHECK_TEXT(file.content, report.content);
  flatbed_tree* tree = NULL;
  flatbed_value step;
  int64_t number = 0;
  CHECK_OK(flatbed_tree_of(model, &tree, &error));
  CHECK_OK(flatbed_value_at(flatbed_tree_root(tree), flatbed_text("step"), &step, &error));
  CHECK_OK(flatbed_value_int(step, &number, &error));
  CHECK(number == 7);
  flatbed_tree_free(tree);
  flatbed_checkpoint_free(model);

  flatbed_save_options options = FLATBED_INIT(flatbed_save_options);
  options.keep_existing = 1;
  CHECK_ERROR(flatbed_save(path, plan, &options, NULL, &error), FLATBED_ERROR_FILE_EXISTS,
              "saved.safetensors");
  flatbed_save_plan_free(plan);
}

static void checks_the_plan(void) {
  flatbed_error error;
  flatbed_save_plan* plan = NULL;
  const uint64_t shape[] = {3};
  const char* const path = path_in(output_folder, "refused.safetensors");
  CHECK_OK(flatbed_save_plan_new(&plan, &error));
  CHECK_OK(flatbed_save_plan_add(plan, flatbed_text("w"), FLATBED_DTYPE_F32, shape, 1, kValues,
                                 sizeof kValues, &error));
  CHECK_ERROR(flatbed_save(path, plan, NULL, NULL, &error), FLATBED_ERROR_SHAPE_MISMATCH, "w");
  flatbed_save_plan_free(plan);

  CHECK_OK(flatbed_save_plan_new(&plan, &error));  // a tree that names a tensor that is not there
  set_tree(plan);
  CHECK_ERROR(flatbed_save(path, plan, NULL, NULL, &error), FLATBED_ERROR_TREE_UNKNOWN_TENSOR,
              "tensor 0");
  CHECK(access(path, F_OK) != 0);
  flatbed_save_plan_free(plan);
}

static void saves_tensors_of_checkpoints(void) {
  flatbed_error error;
  flatbed_checkpoint* model = open_small_model();
  flatbed_save_plan* plan = NULL;
  CHECK_OK(flatbed_save_plan_of(model, NULL, &plan, &error));
  CHECK_NUMBER(flatbed_save_plan_size(plan), 3);
  CHECK_OK(flatbed_save_plan_add_tensor(plan, flatbed_text("again"), model, 1, &error));
  CHECK_INVALID(flatbed_save_plan_add_tensor(plan, flatbed_text("x"), model, 3, &error),
                "'tensor'");
  flatbed_checkpoint_free(model);
  int32_t answer = 0;
  flatbed_save_options options = FLATBED_INIT(flatbed_save_options);
  options.context = &answer;
  options.progress = on_progress;
  options.unsealed = 1;
  options.unsynced = 1;
  flatbed_save_report report = FLATBED_INIT(flatbed_save_report);
  const char* const path = path_in(output_folder, "merged.safetensors");
  CHECK_OK(flatbed_save(path, plan, &options, &report, &error));
  CHECK(report.durable == 0 && report.content[0] == '\0');
  CHECK_OK(flatbed_open(path, NULL, &model, &error));
  CHECK_NUMBER(flatbed_tensor_count(model), 4);
  flatbed_checkpoint_free(model);
  answer = FLATBED_ERROR_NO_SPACE;
  CHECK_ERROR(flatbed_save(path, plan, &options, NULL, &error), FLATBED_ERROR_NO_SPACE, "progress");
  CHECK_OK(flatbed_save_sidecar(path, NULL, &report, &error));
  CHECK_NUMBER(strlen(report.content), 16);
  flatbed_save_plan_free(plan);
}

static void saves_sets_and_torch_files(void) {
  flatbed_error error;
  flatbed_save_plan* const plan = plan_of_memory();
  flatbed_checkpoint* model = NULL;
  flatbed_save_report report = FLATBED_INIT(flatbed_save_report);
  flatbed_save_options options = FLATBED_INIT(flatbed_save_options);
  options.note = on_note;
  const char* const folder = path_in(output_folder, "set");
  CHECK_OK(flatbed_save_set(folder, plan, 1, &options, &report, &error));
  CHECK_NUMBER(report.files, 1);
  CHECK_OK(flatbed_open(folder, NULL, &model, &error));
  flatbed_checkpoint_free(model);
  CHECK_ERROR(flatbed_save_set(folder, plan, 0, NULL, NULL, &error), FLATBED_ERROR_FILE_EXISTS, "");
  CHECK_INVALID(flatbed_save_set(folder, plan, 2, NULL, NULL, &error), "'replace_set'");
  CHECK_INVALID(flatbed_save_set(NULL, plan, 0, NULL, NULL, &error), "'folder'");

  const char* const path = path_in(output_folder, "saved.pth");
  CHECK_OK(flatbed_save_torch(path, plan, &options, &report, &error));
  CHECK_OK(flatbed_open(path, NULL, &model, &error));
  CHECK_NUMBER(flatbed_layout(model), FLATBED_LAYOUT_TORCH_ZIP);
  flatbed_checkpoint_free(model);
  options.unsafe_objects = 3;
  CHECK_INVALID(flatbed_save_torch(path, plan, &options, NULL, &error), "'unsafe_objects'");
  CHECK_INVALID(flatbed_save_torch(NULL, plan, NULL, NULL, &error), "'path'");
  CHECK_INVALID(flatbed_save_torch(path, NULL, NULL, NULL, &error), "'plan'");
  flatbed_save_plan_free(plan);
}

static void converts(void) {
  flatbed_error error;
  const char* const from = path_in(fixtures_folder, "torch2/checkpoint.pth");
  const char* const to = path_in(output_folder, "converted.safetensors");
  flatbed_selection selection = FLATBED_INIT(flatbed_selection);
  flatbed_cast_rules cast = FLATBED_INIT(flatbed_cast_rules);
  flatbed_save_plan_options plan = FLATBED_INIT(flatbed_save_plan_options);
  flatbed_save_options save = FLATBED_INIT(flatbed_save_options);
  flatbed_open_options open = FLATBED_INIT(flatbed_open_options);
  flatbed_convert_options options = FLATBED_INIT(flatbed_convert_options);
  flatbed_save_report report = FLATBED_INIT(flatbed_save_report);
  selection.path = flatbed_text("model");
  cast.to = FLATBED_DTYPE_BF16;
  options.open = &open;
  options.selection = &selection;
  options.rename_rules = flatbed_text("add-prefix net.");
  options.cast = &cast;
  options.plan = &plan;
  options.save = &save;
  CHECK_OK(flatbed_convert(from, to, &options, &report, &error));
  CHECK(report.casts > 0);
  flatbed_checkpoint* model = NULL;
  CHECK_OK(flatbed_open(to, NULL, &model, &error));
  flatbed_tensor tensor = FLATBED_INIT(flatbed_tensor);
  CHECK_OK(flatbed_tensor_at(model, 0, &tensor, &error));
  CHECK(tensor.name.size > 4 && memcmp(tensor.name.data, "net.", 4) == 0);
  flatbed_checkpoint_free(model);

  CHECK_OK(flatbed_convert(from, to, NULL, NULL, &error));
  CHECK_INVALID(flatbed_convert(to, to, NULL, NULL, &error), "is also the input");
  CHECK_INVALID(flatbed_convert(NULL, to, NULL, NULL, &error), "'from'");
  CHECK_INVALID(flatbed_convert(from, NULL, NULL, NULL, &error), "'to'");
  options.format = 3;
  CHECK_INVALID(flatbed_convert(from, to, &options, NULL, &error), "'format'");
  options.format = FLATBED_FORMAT_TORCH;
  const char* const torch = path_in(output_folder, "converted.pth");
  CHECK_OK(flatbed_convert(from, torch, &options, NULL, &error));
  options.rename_rules = (flatbed_string){NULL, 1};
  CHECK_INVALID(flatbed_convert(from, torch, &options, NULL, &error), "'rename_rules'");
}

static void checks_arguments(void) {
  flatbed_error error;
  flatbed_save_plan* plan = NULL;
  const flatbed_string bad = {NULL, 1};
  const flatbed_string x = flatbed_text("x");
  CHECK_INVALID(flatbed_save_plan_new(NULL, &error), "'out'");
  CHECK_OK(flatbed_save_plan_new(&plan, &error));
  CHECK_INVALID(flatbed_save_plan_add(NULL, x, 5, NULL, 0, NULL, 0, &error), "'plan'");
  CHECK_INVALID(flatbed_save_plan_add(plan, bad, 5, NULL, 0, NULL, 0, &error), "'name'");
  CHECK_INVALID(flatbed_save_plan_add(plan, x, 0, NULL, 0, NULL, 0, &error), "'dtype'");
  CHECK_INVALID(flatbed_save_plan_add(plan, x, 5, NULL, 1, NULL, 0, &error), "'shape'");
  CHECK_INVALID(flatbed_save_plan_add(plan, x, 5, NULL, 0, NULL, 1, &error), "'bytes'");
  CHECK_INVALID(flatbed_save_plan_add_tensor(NULL, x, NULL, 0, &error), "'plan'");
  CHECK_INVALID(flatbed_save_plan_add_tensor(plan, x, NULL, 0, &error), "'checkpoint'");
  CHECK_INVALID(flatbed_save_plan_add_alias(NULL, x, x, &error), "'plan'");
  CHECK_INVALID(flatbed_save_plan_add_alias(plan, bad, x, &error), "'name'");
  CHECK_INVALID(flatbed_save_plan_add_alias(plan, x, bad, &error), "'tensor'");
  CHECK_INVALID(flatbed_save_plan_add_metadata(NULL, x, x, &error), "'plan'");
  CHECK_INVALID(flatbed_save_plan_add_metadata(plan, bad, x, &error), "'key'");
  CHECK_INVALID(flatbed_save_plan_add_metadata(plan, x, bad, &error), "'value'");
  CHECK_NUMBER(flatbed_save_plan_size(plan) + flatbed_save_plan_size(NULL), 0);
  flatbed_save_plan* other = NULL;
  CHECK_INVALID(flatbed_save_plan_of(NULL, NULL, &other, &error), "'checkpoint'");
  CHECK_INVALID(flatbed_save_plan_of(NULL, NULL, NULL, &error), "'out'");
  CHECK_INVALID(flatbed_save(NULL, plan, NULL, NULL, &error), "'path'");
  CHECK_INVALID(flatbed_save("x", NULL, NULL, NULL, &error), "'plan'");
  CHECK_INVALID(flatbed_save_sidecar(NULL, NULL, NULL, &error), "'path'");
  flatbed_save_options options = FLATBED_INIT(flatbed_save_options);
  options.unsealed = 2;
  CHECK_INVALID(flatbed_save("x", plan, &options, NULL, &error), "'unsealed'");
  options.struct_size = 8;
  CHECK_INVALID(flatbed_save("x", plan, &options, NULL, &error), "struct_size");
  flatbed_save_report report = {0};
  CHECK_INVALID(flatbed_save("x", plan, NULL, &report, &error), "'report'");
  flatbed_save_plan_free(plan);
  flatbed_save_plan_free(NULL);
}

static void verifies(void) {
  flatbed_error error;
  flatbed_save_plan* const plan = plan_of_memory();
  const char* const path = path_in(output_folder, "verified.safetensors");
  CHECK_OK(flatbed_save(path, plan, NULL, NULL, &error));
  flatbed_save_plan_free(plan);
  flatbed_checkpoint* model = NULL;
  CHECK_OK(flatbed_open(path, NULL, &model, &error));
  flatbed_verify_report report = FLATBED_INIT(flatbed_verify_report);
  CHECK_OK(flatbed_verify(model, NULL, &report, &error));
  CHECK(report.bytes_checked == 16 && report.damaged == 0 && report.damaged_complete == 1);

  flatbed_tensor tensor = FLATBED_INIT(flatbed_tensor);
  CHECK_OK(flatbed_tensor_at(model, 0, &tensor, &error));
  FILE* const file = fopen(path, "r+b");
  CHECK(file != NULL && fseek(file, (long)tensor.file_offset + 5, SEEK_SET) == 0);
  CHECK(fputc('x', file) == 'x' && fclose(file) == 0);
  flatbed_checkpoint_free(model);
  CHECK_OK(flatbed_open(path, NULL, &model, &error));
  flatbed_damaged_range range = {0};
  flatbed_verify_options options = FLATBED_INIT(flatbed_verify_options);
  options.context = &range;
  options.damaged = on_damage;
  options.threads = 1;
  CHECK_OK(flatbed_verify(model, &options, &report, &error));
  CHECK_NUMBER(report.damaged, 1);
  CHECK(range.tensor == 0 && range.begin == 0 && range.end == 16);
  float value = 0;
  CHECK_ERROR(flatbed_read(model, 0, 0, &value, 4, FLATBED_VERIFY_YES, &error),
              FLATBED_ERROR_CHUNK_CORRUPT, "w");
  CHECK_OK(flatbed_read(model, 0, 0, &value, 4, FLATBED_VERIFY_NO, &error));

  int32_t answer = -1;
  options.context = &answer;
  options.damaged = NULL;
  options.progress = on_progress;
  CHECK_ERROR(flatbed_verify(model, &options, NULL, &error), FLATBED_ERROR_CANCELLED, "progress");
  flatbed_cancel* cancel = NULL;
  CHECK_OK(flatbed_cancel_new(&cancel, &error));
  flatbed_cancel_set(cancel);
  options.progress = NULL;
  options.cancel = cancel;
  CHECK_ERROR(flatbed_verify(model, &options, NULL, &error), FLATBED_ERROR_CANCELLED, "");
  flatbed_cancel_free(cancel);
  CHECK_INVALID(flatbed_verify(NULL, NULL, NULL, &error), "'checkpoint'");
  report.struct_size = 0;
  CHECK_INVALID(flatbed_verify(model, NULL, &report, &error), "'report'");
  options.struct_size = 0;
  CHECK_INVALID(flatbed_verify(model, &options, NULL, &error), "'options'");
  flatbed_checkpoint_free(model);
}

void test_save(void) {
  saves_memory();
  checks_the_plan();
  saves_tensors_of_checkpoints();
  saves_sets_and_torch_files();
  converts();
  checks_arguments();
  verifies();
}
