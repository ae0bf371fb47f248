// Trees: walked, by path, as JSON, and built by the caller.
#include "check.h"

static flatbed_tree* open_tree(const char* fixture, flatbed_checkpoint** model) {
  flatbed_error error;
  flatbed_tree* tree = NULL;
  CHECK_OK(flatbed_open(path_in(fixtures_folder, fixture), NULL, model, &error));
  CHECK_NUMBER(flatbed_has_tree(*model), 1);
  CHECK_OK(flatbed_tree_of(*model, &tree, &error));
  return tree;
}

static flatbed_value at(flatbed_value value, const char* path) {
  flatbed_error error;
  flatbed_value found = {NULL, 0, 0};
  CHECK_OK(flatbed_value_at(value, flatbed_text(path), &found, &error));
  return found;
}

// Visits every value as far as depth 64, so that cycles end, and counts tensors.
static uint64_t walk(flatbed_value value, int depth) {
  flatbed_error error;
  uint64_t tensor = 0;
  uint64_t tensors = 0;
  const uint32_t kind = flatbed_value_kind(value);
  CHECK(kind <= FLATBED_KIND_SCALAR);
  CHECK((flatbed_value_tensor(value, &tensor, &error) == 0) >= (kind == FLATBED_KIND_TENSOR));
  if (kind == FLATBED_KIND_TENSOR) ++tensors;
  if (kind == FLATBED_KIND_GLOBAL) CHECK(flatbed_value_qualname(value).size > 0);
  if (depth == 64) return tensors;
  for (uint64_t i = 0; i < flatbed_value_size(value); ++i) {
    tensors += walk(flatbed_value_key(value, i), depth + 1);
    tensors += walk(flatbed_value_item(value, i), depth + 1);
  }
  for (uint64_t i = 0; i < flatbed_value_appended_size(value); ++i) {
    tensors += walk(flatbed_value_appended(value, i), depth + 1);
  }
  if (kind == FLATBED_KIND_OBJECT) {
    tensors += walk(flatbed_value_callable(value), depth + 1);
    tensors += walk(flatbed_value_arguments(value), depth + 1);
    tensors += walk(flatbed_value_state(value), depth + 1);
  }
  return tensors;
}

static void walks(void) {
  flatbed_error error;
  flatbed_checkpoint* model = NULL;
  flatbed_tree* const tree = open_tree("torch2/checkpoint.pth", &model);
  const flatbed_value root = flatbed_tree_root(tree);
  CHECK_NUMBER(flatbed_value_kind(root), FLATBED_KIND_DICT);
  CHECK(walk(root, 0) >= flatbed_tensor_count(model));
  flatbed_checkpoint_free(model);  // the tree outlives it
  const flatbed_value epoch = at(root, "epoch");
  int64_t integer = 0;
  double real = 0;
  CHECK_OK(flatbed_value_int(epoch, &integer, &error));
  CHECK_OK(flatbed_value_real(epoch, &real, &error));
  CHECK(real == (double)integer);
  CHECK_ERROR(flatbed_value_at(root, flatbed_text("epoch.x"), &(flatbed_value){NULL, 0, 0}, &error),
              FLATBED_ERROR_PATH_NOT_FOUND, "x");
  uint32_t flag = 0;
  CHECK_INVALID(flatbed_value_bool(epoch, &flag, &error), "found a value of the kind int");
  CHECK_INVALID(flatbed_value_int(root, &integer, &error), "expected int");
  CHECK_INVALID(flatbed_value_tensor(root, (uint64_t[]){0}, &error), "of the kind dict");
  flatbed_tree_free(tree);
}

static void walks_other_fixtures(void) {
  static const char* const fixtures[] = {"torch2/numpy_values.pth", "torch2/odd_values.pth",
                                         "torch2/odd_keys.pth", "torch2/legacy_whole_model.pth"};
  for (size_t i = 0; i < sizeof fixtures / sizeof *fixtures; ++i) {
    flatbed_checkpoint* model = NULL;
    flatbed_tree* const tree = open_tree(fixtures[i], &model);
    walk(flatbed_tree_root(tree), 0);
    flatbed_tree_free(tree);
    flatbed_checkpoint_free(model);
  }
}

static void gives_attributes(void) {
  flatbed_error error;
  flatbed_checkpoint* model = NULL;
  flatbed_tree* const tree = open_tree("torch2/device_tensors.pth", &model);
  flatbed_value found = {NULL, 0, 0};
  const flatbed_value root = flatbed_tree_root(tree);
  for (uint64_t i = 0; i < flatbed_value_size(root); ++i) {
    const flatbed_value item = flatbed_value_item(root, i);
    if (flatbed_value_kind(item) == FLATBED_KIND_TENSOR) found = item;
  }
  flatbed_tensor_attributes attributes = FLATBED_INIT(flatbed_tensor_attributes);
  CHECK_OK(flatbed_value_attributes(found, &attributes, &error));
  CHECK(attributes.requires_grad <= 1 && attributes.parameter <= 1);
  CHECK_NUMBER(flatbed_value_kind(attributes.quantizer), FLATBED_KIND_NONE);
  CHECK_INVALID(flatbed_value_attributes(root, &attributes, &error), "expected tensor");
  CHECK_INVALID(flatbed_value_attributes(found, NULL, &error), "'out'");
  attributes.struct_size = 1;
  CHECK_INVALID(flatbed_value_attributes(found, &attributes, &error), "struct_size");
  flatbed_tree_free(tree);
  flatbed_checkpoint_free(model);
}

// Without a tree, or with a number that it does not have, there is nothing, and no harm.
static void has_nothing_of_no_value(void) {
  flatbed_error error;
  flatbed_tree* tree = NULL;
  CHECK_OK(flatbed_tree_new(&tree, &error));
  const flatbed_value nothing[] = {{NULL, 0, 0},
                                   {(const flatbed_tree*)wrong_kind(), 0, 0},
                                   {tree, 0, 0},
                                   {tree, 7, 0},
                                   {tree, FLATBED_NO_VALUE, 0}};
  for (size_t i = 0; i < sizeof nothing / sizeof *nothing; ++i) {
    const flatbed_value value = nothing[i];
    CHECK_NUMBER(flatbed_value_kind(value), FLATBED_KIND_NONE);
    CHECK_NUMBER(flatbed_value_size(value) + flatbed_value_appended_size(value), 0);
    CHECK_NUMBER(flatbed_value_text(value).size + flatbed_value_qualname(value).size +
                     flatbed_value_raw(value).size,
                 0);
    CHECK_NUMBER(flatbed_value_key(value, 0).id, FLATBED_NO_VALUE);
    CHECK_NUMBER(flatbed_value_item(value, 9).id, FLATBED_NO_VALUE);
    CHECK_NUMBER(flatbed_value_callable(value).id, FLATBED_NO_VALUE);
    CHECK_NUMBER(flatbed_value_arguments(value).id, FLATBED_NO_VALUE);
    CHECK_NUMBER(flatbed_value_appended(value, 0).id, FLATBED_NO_VALUE);
    CHECK_NUMBER(flatbed_value_state(value).id, FLATBED_NO_VALUE);
    CHECK_INVALID(flatbed_value_int(value, (int64_t[]){0}, &error), "value");
    CHECK_INVALID(flatbed_value_int(value, NULL, &error), "'out'");
    CHECK_INVALID(flatbed_value_real(value, (double[]){0}, &error), "value");
    CHECK_INVALID(flatbed_value_bool(value, (uint32_t[]){0}, &error), "value");
    CHECK_INVALID(flatbed_value_tensor(value, NULL, &error), "'out'");
    CHECK_INVALID(flatbed_value_at(value, flatbed_text(""), NULL, &error), "'out'");
    CHECK(flatbed_value_at(value, flatbed_text("x"), &(flatbed_value){NULL, 0, 0}, &error) != 0);
    flatbed_tensor_attributes attributes = FLATBED_INIT(flatbed_tensor_attributes);
    CHECK_INVALID(flatbed_value_attributes(value, &attributes, &error), "value");
  }
  CHECK_NUMBER(flatbed_tree_root(NULL).id, FLATBED_NO_VALUE);
  CHECK_NUMBER(flatbed_tree_root(tree).id, FLATBED_NO_VALUE);
  flatbed_tree_free(tree);
  flatbed_tree_free(NULL);
  flatbed_tree_free((flatbed_tree*)wrong_kind());
  CHECK_INVALID(flatbed_tree_of(NULL, &tree, &error), "'checkpoint'");
  CHECK_NUMBER(flatbed_has_tree(NULL), 0);
}

static int32_t keep_text(void* context, flatbed_string text) {
  char* const kept = context;
  CHECK(text.size < 200);
  memcpy(kept, text.data, text.size);
  kept[text.size] = '\0';
  return 0;
}

static int32_t answer(void* context, flatbed_string text) {
  (void)text;
  return *(const int32_t*)context;
}

static void writes_json(void) {
  flatbed_error error;
  char kept[200] = "";
  int32_t code = FLATBED_ERROR_NO_SPACE;
  flatbed_checkpoint* const model = open_small_model();
  CHECK_NUMBER(flatbed_has_tree(model), 0);
  CHECK_OK(flatbed_tree_json(model, keep_text, kept, &error));
  CHECK_TEXT(flatbed_text(kept),
             "[\"dict\",\"a.weight\",[\"tensor\",\"a.weight\"],\"a.bias\",[\"tensor\",\"a.bias\"],"
             "\"b\",[\"tensor\",\"b\"]]");
  CHECK_ERROR(flatbed_tree_json(model, answer, &code, &error), FLATBED_ERROR_NO_SPACE, "write");
  code = -1;
  CHECK_ERROR(flatbed_tree_json(model, answer, &code, &error), FLATBED_ERROR_CANCELLED, "write");
  CHECK_INVALID(flatbed_tree_json(model, NULL, NULL, &error), "'write'");
  CHECK_INVALID(flatbed_tree_json(NULL, keep_text, kept, &error), "'checkpoint'");
  CHECK_INVALID(flatbed_tree_of(model, NULL, &error), "'out'");
  flatbed_checkpoint_free(model);
}

static void builds(void) {
  flatbed_error error;
  flatbed_tree* tree = NULL;
  CHECK_OK(flatbed_tree_new(&tree, &error));
  flatbed_value root, list, key, item, tuple;
  CHECK_OK(flatbed_tree_add_dict(tree, &root, &error));
  CHECK_OK(flatbed_tree_set_root(tree, root, &error));
  CHECK_OK(flatbed_tree_add_list(tree, &list, &error));
  CHECK_OK(flatbed_tree_add_string(tree, flatbed_text("list"), &key, &error));
  CHECK_OK(flatbed_tree_set_item(tree, root, key, list, &error));
  CHECK_OK(flatbed_tree_add_int(tree, INT64_MIN, &item, &error));
  CHECK_OK(flatbed_tree_append(tree, list, item, &error));
  CHECK_OK(flatbed_tree_add_real(tree, 0.5, &item, &error));
  CHECK_OK(flatbed_tree_append(tree, list, item, &error));
  CHECK_OK(flatbed_tree_add_bool(tree, 1, &item, &error));
  CHECK_OK(flatbed_tree_append(tree, list, item, &error));
  CHECK_OK(flatbed_tree_add_none(tree, &item, &error));
  CHECK_OK(flatbed_tree_append(tree, list, item, &error));
  CHECK_OK(flatbed_tree_add_bytes(tree, (flatbed_string){"\0x", 2}, &item, &error));
  CHECK_OK(flatbed_tree_append(tree, list, item, &error));
  CHECK_OK(flatbed_tree_add_tensor(tree, 3, &item, &error));
  CHECK_OK(flatbed_tree_add_tuple(tree, &item, 1, &tuple, &error));
  CHECK_OK(flatbed_tree_append(tree, list, tuple, &error));

  int64_t integer = 0;
  uint64_t tensor = 0;
  uint32_t flag = 0;
  CHECK_OK(flatbed_value_int(at(flatbed_tree_root(tree), "list.0"), &integer, &error));
  CHECK(integer == INT64_MIN);
  CHECK_OK(flatbed_value_bool(flatbed_value_item(list, 2), &flag, &error));
  CHECK_NUMBER(flag, 1);
  CHECK_NUMBER(flatbed_value_text(flatbed_value_item(list, 4)).size, 2);
  CHECK_OK(flatbed_value_tensor(at(root, "list.5.0"), &tensor, &error));
  CHECK_NUMBER(tensor, 3);
  flatbed_tree_free(tree);
}

static void checks_what_is_built(void) {
  flatbed_error error;
  flatbed_tree* tree = NULL;
  flatbed_tree* other = NULL;
  flatbed_value list, dict, foreign;
  CHECK_OK(flatbed_tree_new(&tree, &error));
  CHECK_OK(flatbed_tree_new(&other, &error));
  CHECK_OK(flatbed_tree_add_list(tree, &list, &error));
  CHECK_OK(flatbed_tree_add_dict(tree, &dict, &error));
  CHECK_OK(flatbed_tree_add_int(other, 1, &foreign, &error));
  CHECK_INVALID(flatbed_tree_append(tree, list, foreign, &error), "'item'");
  CHECK_INVALID(flatbed_tree_append(tree, dict, list, &error), "'list'");
  CHECK_INVALID(flatbed_tree_append(tree, foreign, list, &error), "'list'");
  CHECK_INVALID(flatbed_tree_append(NULL, list, list, &error), "'tree'");
  CHECK_INVALID(flatbed_tree_set_item(tree, list, list, list, &error), "'dict'");
  CHECK_INVALID(flatbed_tree_set_item(tree, dict, foreign, list, &error), "'key'");
  CHECK_INVALID(flatbed_tree_set_item(tree, dict, list, foreign, &error), "'item'");
  CHECK_INVALID(flatbed_tree_set_item(NULL, dict, list, list, &error), "'tree'");
  CHECK_INVALID(flatbed_tree_set_root(tree, foreign, &error), "'root'");
  CHECK_INVALID(flatbed_tree_set_root(NULL, list, &error), "'tree'");
  list.id = 99;
  CHECK_INVALID(flatbed_tree_set_root(tree, list, &error), "'root'");
  flatbed_value out;
  const flatbed_string bad = {NULL, 1};
  CHECK_INVALID(flatbed_tree_add_string(tree, bad, &out, &error), "'text'");
  CHECK_INVALID(flatbed_tree_add_bytes(tree, bad, &out, &error), "'bytes'");
  CHECK_INVALID(flatbed_tree_add_bool(tree, 2, &out, &error), "'value'");
  CHECK_INVALID(flatbed_tree_add_tensor(tree, UINT64_MAX, &out, &error), "'tensor'");
  CHECK_INVALID(flatbed_tree_add_tuple(tree, NULL, 1, &out, &error), "'items'");
  CHECK_INVALID(flatbed_tree_add_tuple(tree, &foreign, 1, &out, &error), "'items'");
  CHECK_OK(flatbed_tree_add_tuple(tree, NULL, 0, &out, &error));
  CHECK_INVALID(flatbed_tree_add_none(NULL, &out, &error), "'tree'");
  CHECK_INVALID(flatbed_tree_add_none(tree, NULL, &error), "'out'");
  CHECK_INVALID(flatbed_tree_add_int(NULL, 1, &out, &error), "'tree'");
  CHECK_INVALID(flatbed_tree_add_real(NULL, 1, &out, &error), "'tree'");
  CHECK_INVALID(flatbed_tree_add_list(NULL, &out, &error), "'tree'");
  CHECK_INVALID(flatbed_tree_add_dict(NULL, &out, &error), "'tree'");
  CHECK_INVALID(flatbed_tree_new(NULL, &error), "'out'");
  flatbed_tree_free(tree);
  flatbed_tree_free(other);
}

void test_tree(void) {
  walks();
  walks_other_fixtures();
  gives_attributes();
  has_nothing_of_no_value();
  writes_json();
  builds();
  checks_what_is_built();
}
