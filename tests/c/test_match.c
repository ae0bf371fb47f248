// Matching: what is missing, unexpected, mismatched, and a load planned from what matches.
#include "check.h"

typedef struct seen {
  int matched, missing, unexpected, mismatched, forgiven, rules;
  char name[64];
  int32_t answer;
  flatbed_plan* plan;
  const flatbed_checkpoint* model;
  float memory[8];
} seen;

static int32_t on_matched(void* context, uint64_t expected, uint64_t tensor) {
  seen* const self = context;
  CHECK_NUMBER(expected, 0);
  CHECK_NUMBER(tensor, 0);
  ++self->matched;
  if (self->plan == NULL) return self->answer;
  flatbed_error error;
  flatbed_tensor info = FLATBED_INIT(flatbed_tensor);
  flatbed_transfer transfer = FLATBED_INIT(flatbed_transfer);
  transfer.data = self->memory;
  transfer.capacity = sizeof self->memory;
  CHECK_OK(flatbed_tensor_at(self->model, tensor, &info, &error));
  CHECK_OK(flatbed_plan_add(self->plan, self->model, info.name, &transfer, &error));
  return self->answer;
}

static int32_t keep_name(seen* self, flatbed_string name) {
  CHECK(name.size < sizeof self->name);
  memcpy(self->name, name.data, name.size);
  self->name[name.size] = '\0';
  return self->answer;
}

static int32_t on_missing(void* context, flatbed_string name) {
  ++((seen*)context)->missing;
  return keep_name(context, name);
}

static int32_t on_unexpected(void* context, flatbed_string name) {
  (void)name;
  ++((seen*)context)->unexpected;
  return 0;
}

static int32_t on_forgiven(void* context, flatbed_string name) {
  (void)name;
  ++((seen*)context)->forgiven;
  return 0;
}

static int32_t on_mismatched(void* context, const flatbed_mismatch* mismatch) {
  ++((seen*)context)->mismatched;
  CHECK_NUMBER(mismatch->struct_size, sizeof *mismatch);
  CHECK_TEXT(mismatch->name, "a.bias");
  CHECK_NUMBER(mismatch->tensor, 1);
  CHECK(mismatch->rank == 1 && mismatch->shape[0] == 2);
  CHECK(mismatch->expected_rank == 1 && mismatch->expected_shape[0] == 3);
  CHECK_NUMBER(mismatch->dtype, FLATBED_DTYPE_F32);
  CHECK_NUMBER(mismatch->expected_dtype, FLATBED_DTYPE_NONE);
  return 0;
}

static int32_t on_rule(void* context, const flatbed_prefix_rule* rule) {
  ++((seen*)context)->rules;
  CHECK_TEXT(rule->strip, "");
  CHECK_TEXT(rule->add, "module.");
  CHECK(rule->matches > rule->matches_before && rule->reason.size > 0);
  return 0;
}

static flatbed_match_options watch(seen* context) {
  flatbed_match_options options = FLATBED_INIT(flatbed_match_options);
  options.context = context;
  options.matched = on_matched;
  options.missing = on_missing;
  options.unexpected = on_unexpected;
  options.mismatched = on_mismatched;
  options.forgiven = on_forgiven;
  options.rule = on_rule;
  return options;
}

static void matches(const flatbed_checkpoint* model) {
  flatbed_error error;
  flatbed_expected* expected = NULL;
  CHECK_OK(flatbed_expected_new(&expected, &error));
  const uint64_t weight[] = {2, 3};
  const uint64_t bias[] = {3};
  CHECK_OK(flatbed_expected_add(expected, flatbed_text("w"), FLATBED_DTYPE_F32, weight, 2, &error));
  CHECK_OK(flatbed_expected_add_name(expected, flatbed_text("a.weight"), &error));
  CHECK_OK(
      flatbed_expected_add(expected, flatbed_text("a.bias"), FLATBED_DTYPE_NONE, bias, 1, &error));
  CHECK_OK(flatbed_expected_add(expected, flatbed_text("c"), FLATBED_DTYPE_NONE, NULL, 0, &error));
  CHECK_NUMBER(flatbed_expected_count(expected), 3);

  seen all = {0};
  all.model = model;
  CHECK_OK(flatbed_plan_new(&all.plan, &error));
  flatbed_match_options options = watch(&all);
  flatbed_match_report report = FLATBED_INIT(flatbed_match_report);
  CHECK_OK(flatbed_match(model, expected, &options, &report, &error));
  CHECK(all.matched == 1 && all.missing == 1 && all.unexpected == 1 && all.mismatched == 1);
  CHECK(report.matched == 1 && report.missing == 1 && report.unexpected == 1);
  CHECK(report.mismatched == 1 && report.complete == 0 && report.partial == 0);
  CHECK(strcmp(all.name, "c") == 0);
  CHECK_OK(flatbed_load(all.plan, NULL, NULL, &error));  // what on_matched() planned
  CHECK(all.memory[5] == 5);
  flatbed_plan_free(all.plan);

  all.plan = NULL;
  all.answer = -1;
  CHECK_ERROR(flatbed_match(model, expected, &options, NULL, &error), FLATBED_ERROR_CANCELLED, "");
  CHECK_OK(flatbed_match(model, expected, NULL, NULL, &error));
  CHECK_OK(flatbed_expected_add(expected, flatbed_text("c"), FLATBED_DTYPE_NONE, NULL, 0, &error));
  CHECK_INVALID(flatbed_match(model, expected, NULL, NULL, &error), "c");
  flatbed_expected_free(expected);
}

static void applies_rules_and_takes_json(const flatbed_checkpoint* model) {
  flatbed_error error;
  flatbed_expected* expected = NULL;
  const flatbed_string json =
      flatbed_text("{\"module.a.weight\":null,\"module.a.bias\":null,\"module.b\":null}");
  CHECK_OK(flatbed_expected_parse(json, &expected, &error));
  CHECK_NUMBER(flatbed_expected_count(expected), 3);
  seen all = {0};
  flatbed_match_options options = watch(&all);
  options.matched = NULL;
  flatbed_match_report report = FLATBED_INIT(flatbed_match_report);
  CHECK_OK(flatbed_match(model, expected, &options, &report, &error));
  CHECK(all.rules == 1 && report.complete == 0);
  options.ready_sets = 1;
  CHECK_OK(flatbed_match(model, expected, &options, &report, &error));
  CHECK(all.rules == 2 && report.complete == 1 && report.matched == 3);
  options.torch_keys = 1;
  options.exact_dtypes = 1;
  options.ignore_mismatched_sizes = 1;
  CHECK_OK(flatbed_match(model, expected, &options, &report, &error));
  flatbed_expected_free(expected);
  CHECK_INVALID(flatbed_expected_parse(flatbed_text("{\"a\":1}"), &expected, &error), "a");
  CHECK(expected == NULL);
  CHECK_OK(flatbed_expected_of(model, &expected, &error));
  CHECK_OK(flatbed_match(model, expected, NULL, &report, &error));
  CHECK_NUMBER(report.complete, 1);
  flatbed_expected_free(expected);
}

static void checks_arguments(const flatbed_checkpoint* model) {
  flatbed_error error;
  flatbed_expected* expected = NULL;
  const flatbed_string bad = {NULL, 1};
  CHECK_INVALID(flatbed_expected_new(NULL, &error), "'out'");
  CHECK_INVALID(flatbed_expected_parse(bad, &expected, &error), "'json'");
  CHECK_INVALID(flatbed_expected_parse(flatbed_text("{}"), NULL, &error), "'out'");
  CHECK_INVALID(flatbed_expected_of(NULL, &expected, &error), "'checkpoint'");
  CHECK_INVALID(flatbed_expected_of(model, NULL, &error), "'out'");
  CHECK_OK(flatbed_expected_new(&expected, &error));
  CHECK_INVALID(flatbed_expected_add(NULL, bad, 0, NULL, 0, &error), "'expected'");
  CHECK_INVALID(flatbed_expected_add(expected, bad, 0, NULL, 0, &error), "'name'");
  CHECK_INVALID(flatbed_expected_add(expected, flatbed_text("x"), 99, NULL, 0, &error), "'dtype'");
  CHECK_INVALID(flatbed_expected_add(expected, flatbed_text("x"), 0, NULL, 1, &error), "'shape'");
  CHECK_INVALID(flatbed_expected_add_name(expected, flatbed_text("x"), &error), "'expected'");
  CHECK_INVALID(flatbed_expected_add_name(expected, bad, &error), "'name'");
  CHECK_INVALID(flatbed_expected_add_name(NULL, bad, &error), "'expected'");
  CHECK_NUMBER(flatbed_expected_count(expected) + flatbed_expected_count(NULL), 0);
  CHECK_INVALID(flatbed_match(NULL, expected, NULL, NULL, &error), "'checkpoint'");
  CHECK_INVALID(flatbed_match(model, NULL, NULL, NULL, &error), "'expected'");
  CHECK_INVALID(flatbed_match(model, (const flatbed_expected*)model, NULL, NULL, &error),
                "flatbed_expected");
  flatbed_match_options options = FLATBED_INIT(flatbed_match_options);
  options.ready_sets = 2;
  CHECK_INVALID(flatbed_match(model, expected, &options, NULL, &error), "'ready_sets'");
  options.struct_size = 0;
  CHECK_INVALID(flatbed_match(model, expected, &options, NULL, &error), "struct_size");
  flatbed_match_report report = {0};
  CHECK_INVALID(flatbed_match(model, expected, NULL, &report, &error), "struct_size");
  flatbed_expected_free(expected);
  flatbed_expected_free(NULL);
}

void test_match(void) {
  flatbed_checkpoint* const model = open_small_model();
  matches(model);
  applies_rules_and_takes_json(model);
  checks_arguments(model);
  flatbed_checkpoint_free(model);
}
