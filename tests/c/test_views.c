// Other views of a checkpoint: select, rename, cast.
#include "check.h"

static void selects(const flatbed_checkpoint* model) {
  flatbed_error error;
  flatbed_checkpoint* part = NULL;
  flatbed_selection selection = FLATBED_INIT(flatbed_selection);
  const flatbed_string include[] = {flatbed_text("a.*"), flatbed_text("b")};
  const flatbed_string exclude[] = {flatbed_text("*.bias")};
  selection.include = include;
  selection.include_count = 2;
  selection.exclude = exclude;
  selection.exclude_count = 1;
  CHECK_OK(flatbed_select(model, &selection, &part, &error));
  CHECK_NUMBER(flatbed_tensor_count(part), 2);
  flatbed_checkpoint_free(part);
  selection.path = flatbed_text("nowhere");
  CHECK_ERROR(flatbed_select(model, &selection, &part, &error), FLATBED_ERROR_PATH_NOT_FOUND,
              "nowhere");
  CHECK(part == NULL);
  selection.path = flatbed_text("");
  selection.state_dict = 2;
  CHECK_INVALID(flatbed_select(model, &selection, &part, &error), "'selection.state_dict'");
  selection.state_dict = 0;
  selection.reserved = 1;
  CHECK_INVALID(flatbed_select(model, &selection, &part, &error), "reserved: found 1");
  selection.reserved = 0;
  selection.include = NULL;
  CHECK_INVALID(flatbed_select(model, &selection, &part, &error), "'selection.include'");
  CHECK_INVALID(flatbed_select(model, NULL, &part, &error), "'selection': found NULL");
  CHECK_INVALID(flatbed_select(model, &selection, NULL, &error), "'out'");
  CHECK_INVALID(flatbed_select(NULL, &selection, &part, &error), "'checkpoint'");
}

static void selects_a_subtree(void) {
  flatbed_error error;
  flatbed_checkpoint* model = NULL;
  flatbed_checkpoint* part = NULL;
  CHECK_OK(flatbed_open(path_in(fixtures_folder, "torch2/checkpoint.pth"), NULL, &model, &error));
  flatbed_selection selection = FLATBED_INIT(flatbed_selection);
  selection.path = flatbed_text("model");
  selection.state_dict = 1;
  CHECK_OK(flatbed_select(model, &selection, &part, &error));
  CHECK(flatbed_tensor_count(part) > 0 && flatbed_tensor_count(part) < flatbed_tensor_count(model));
  flatbed_checkpoint_free(model);
  flatbed_checkpoint_free(part);
}

static void renames(const flatbed_checkpoint* model) {
  flatbed_error error;
  flatbed_checkpoint* renamed = NULL;
  flatbed_tensor tensor = FLATBED_INIT(flatbed_tensor);
  const flatbed_string rules = flatbed_text("# two rules\na.*={1}\nadd-prefix model.");
  CHECK_OK(flatbed_rename(model, rules, &renamed, &error));
  CHECK_OK(flatbed_tensor_find(renamed, flatbed_text("model.weight"), &tensor, &error));
  flatbed_checkpoint_free(renamed);
  CHECK_ERROR(flatbed_rename(model, flatbed_text("x=y"), &renamed, &error),
              FLATBED_ERROR_TENSOR_NOT_FOUND, "x");
  CHECK_INVALID(flatbed_rename(model, flatbed_text("a.*={2}"), &renamed, &error), "{2}");
  CHECK_OK(flatbed_rename(model, flatbed_text(""), &renamed, &error));
  flatbed_checkpoint_free(renamed);
  const flatbed_string bad = {NULL, 1};
  CHECK_INVALID(flatbed_rename(model, bad, &renamed, &error), "'rules'");
  CHECK_INVALID(flatbed_rename(model, rules, NULL, &error), "'out'");
  CHECK_INVALID(flatbed_rename(NULL, rules, &renamed, &error), "'checkpoint'");
}

// ---- Names by a function ------------------------------------------------------------------------

typedef struct renamer {
  char name[64];  // of the last call
  int calls;
  int32_t answer;
  flatbed_string fixed;  // if it has data: every new name
  bool calls_back;
} renamer;

static int32_t on_rename(void* context, flatbed_string name, flatbed_string* new_name) {
  renamer* const self = context;
  CHECK(new_name->size == name.size && memcmp(new_name->data, name.data, name.size) == 0);
  if (self->calls++ == 0) return self->answer;  // the first keeps its name
  snprintf(self->name, sizeof self->name, "new.%.*s", (int)name.size, name.data);
  *new_name = self->fixed.size != 0 ? self->fixed : flatbed_text(self->name);
  if (self->calls_back) flatbed_checkpoint_free(open_small_model());
  return self->answer;
}

static void renames_by_a_function(const flatbed_checkpoint* model) {
  flatbed_error error;
  flatbed_checkpoint* renamed = NULL;
  renamer self = {.calls_back = true};
  CHECK_OK(flatbed_rename_by(model, on_rename, &self, &renamed, &error));
  CHECK_NUMBER(self.calls, 3);
  memset(&self, 0, sizeof self);  // nothing is asked or borrowed afterwards
  flatbed_tensor tensor = FLATBED_INIT(flatbed_tensor);
  CHECK_OK(flatbed_tensor_at(renamed, 0, &tensor, &error));
  CHECK_TEXT(tensor.name, "a.weight");
  CHECK_OK(flatbed_tensor_find(renamed, flatbed_text("new.b"), &tensor, &error));
  CHECK_NUMBER(tensor.index, 2);
  flatbed_checkpoint_free(renamed);

  self.fixed = flatbed_text("one");
  CHECK_ERROR(flatbed_rename_by(model, on_rename, &self, &renamed, &error),
              FLATBED_ERROR_NAME_COLLISION, "one");
  CHECK(renamed == NULL);
  self.fixed = flatbed_text("\xff");
  CHECK_INVALID(flatbed_rename_by(model, on_rename, &self, &renamed, &error), "UTF-8");
  self.fixed = (flatbed_string){NULL, 1};
  CHECK_INVALID(flatbed_rename_by(model, on_rename, &self, &renamed, &error), "'new_name'");
  self.answer = -5;
  CHECK_ERROR(flatbed_rename_by(model, on_rename, &self, &renamed, &error), FLATBED_ERROR_CANCELLED,
              "rename returned -5");
  self.answer = FLATBED_ERROR_LIMIT_EXCEEDED;
  CHECK_ERROR(flatbed_rename_by(model, on_rename, &self, &renamed, &error),
              FLATBED_ERROR_LIMIT_EXCEEDED, "rename");
  CHECK_INVALID(flatbed_rename_by(model, NULL, NULL, &renamed, &error), "'rename'");
  CHECK_INVALID(flatbed_rename_by(model, on_rename, &self, NULL, &error), "'out'");
  CHECK_INVALID(flatbed_rename_by(NULL, on_rename, &self, &renamed, &error), "'checkpoint'");
}

static void casts(const flatbed_checkpoint* model) {
  flatbed_error error;
  flatbed_checkpoint* cast = NULL;
  flatbed_cast_rules rules = FLATBED_INIT(flatbed_cast_rules);
  const flatbed_string keep = flatbed_text("a.bias");
  rules.to = FLATBED_DTYPE_BF16;
  rules.keep = &keep;
  rules.keep_count = 1;
  CHECK_OK(flatbed_cast(model, &rules, &cast, &error));
  flatbed_tensor tensor = FLATBED_INIT(flatbed_tensor);
  CHECK_OK(flatbed_tensor_at(cast, 0, &tensor, &error));
  CHECK_NUMBER(tensor.dtype, FLATBED_DTYPE_BF16);
  CHECK_NUMBER(tensor.stored, FLATBED_STORED_COMPUTED);
  uint16_t values[6];
  CHECK_OK(flatbed_read(cast, 0, 0, values, sizeof values, FLATBED_VERIFY_YES, &error));
  CHECK_NUMBER(values[1], 0x3f80);  // 1
  CHECK_OK(flatbed_tensor_at(cast, 1, &tensor, &error));
  CHECK_NUMBER(tensor.dtype, FLATBED_DTYPE_F32);
  const void* data = NULL;
  uint64_t nbytes = 0;
  CHECK_ERROR(flatbed_view(cast, 0, &data, &nbytes, &error), FLATBED_ERROR_NOT_VIEWABLE,
              "a.weight");
  flatbed_checkpoint_free(cast);
  rules.to = FLATBED_DTYPE_I64;
  CHECK_INVALID(flatbed_cast(model, &rules, &cast, &error), "I64");
  rules.to = FLATBED_DTYPE_NONE;
  CHECK_INVALID(flatbed_cast(model, &rules, &cast, &error), "'rules.to': found 0");
  CHECK_INVALID(flatbed_cast(model, NULL, &cast, &error), "'rules': found NULL");
  CHECK_INVALID(flatbed_cast(model, &rules, NULL, &error), "'out'");
  CHECK_INVALID(flatbed_cast(NULL, &rules, &cast, &error), "'checkpoint'");
}

void test_views(void) {
  flatbed_checkpoint* const model = open_small_model();
  selects(model);
  selects_a_subtree();
  renames(model);
  renames_by_a_function(model);
  casts(model);
  flatbed_checkpoint_free(model);
}
