// Scanning and comparing.
#include "check.h"

// A pickle that would run a command: cos\nsystem\n(S'x'\ntR.
static const char kPickle[] = "cos\nsystem\n(S'x'\ntR.";

typedef struct seen {
  int findings, files, tensors, places;
  uint32_t severity, change;
  int32_t answer;
} seen;

static int32_t on_finding(void* context, const flatbed_finding* finding) {
  seen* const self = context;
  if (self->findings++ == 0) {
    self->severity = finding->severity;
    CHECK_NUMBER(finding->struct_size, sizeof *finding);
    CHECK_TEXT(finding->qualname, "system");
    CHECK_TEXT(finding->kind, "called");
    CHECK(finding->text.size > 0 && finding->file.size > 0 && finding->count == 1);
  }
  return self->answer;
}

static int32_t on_file(void* context, const flatbed_scanned_file* file) {
  ++((seen*)context)->files;
  CHECK_NUMBER(file->struct_size, sizeof *file);
  CHECK(file->scanned == 1 && file->what.size > 0 && file->path.size > 0);
  CHECK_NUMBER(file->verdict, FLATBED_VERDICT_DANGEROUS);
  return 0;
}

static void scans(void) {
  flatbed_error error;
  const char* const path = path_in(output_folder, "evil.pkl");
  write_file(path, kPickle, sizeof kPickle - 1);
  seen all = {0};
  flatbed_scan_options options = FLATBED_INIT(flatbed_scan_options);
  flatbed_scan_report report = FLATBED_INIT(flatbed_scan_report);
  options.context = &all;
  options.finding = on_finding;
  options.file = on_file;
  CHECK_OK(flatbed_scan(path, &options, &report, &error));
  CHECK_NUMBER(report.verdict, FLATBED_VERDICT_DANGEROUS);
  CHECK(report.findings == (uint64_t)all.findings && all.findings > 0 && report.files == 1);
  CHECK(all.files == 1 && all.severity == FLATBED_VERDICT_DANGEROUS);
  all.answer = 1000;
  CHECK_ERROR(flatbed_scan(path, &options, NULL, &error), FLATBED_ERROR_CANCELLED, "finding");
  CHECK_OK(flatbed_scan(path_in(fixtures_folder, "torch2/state_dict.pth"), NULL, &report, &error));
  CHECK_NUMBER(report.verdict, FLATBED_VERDICT_PLAIN);
  CHECK_ERROR(flatbed_scan(path_in(output_folder, "missing"), NULL, &report, &error),
              FLATBED_ERROR_FILE_NOT_FOUND, "missing");
  CHECK_INVALID(flatbed_scan(NULL, NULL, &report, &error), "'path'");
  options.recursive = 2;
  CHECK_INVALID(flatbed_scan(path, &options, &report, &error), "'recursive'");
  options.struct_size = 0;
  CHECK_INVALID(flatbed_scan(path, &options, &report, &error), "'options'");
  report.struct_size = 0;
  CHECK_INVALID(flatbed_scan(path, NULL, &report, &error), "'report'");
}

static int32_t read_pickle(void* context, uint64_t offset, void* out, uint64_t nbytes,
                           flatbed_error* error) {
  (void)context, (void)error;
  memcpy(out, kPickle + offset, nbytes);
  return 0;
}

static void fail_to_close(void* context) {
  (void)context;
  CHECK(!"a scan closes the caller's reader");
}

static void scans_readers(void) {
  flatbed_error error;
  flatbed_reader reader = FLATBED_INIT(flatbed_reader);
  flatbed_scan_report report = FLATBED_INIT(flatbed_scan_report);
  reader.label = flatbed_text("mine");
  reader.nbytes = sizeof kPickle - 1;
  reader.read = read_pickle;
  reader.close = fail_to_close;
  CHECK_OK(flatbed_scan_reader(&reader, NULL, &report, &error));
  CHECK_NUMBER(report.verdict, FLATBED_VERDICT_DANGEROUS);
  CHECK_INVALID(flatbed_scan_reader(NULL, NULL, &report, &error), "'reader'");
}

static int32_t on_tensor(void* context, const flatbed_tensor_difference* difference) {
  seen* const self = context;
  ++self->tensors;
  self->change = difference->change;
  CHECK_NUMBER(difference->struct_size, sizeof *difference);
  if (difference->change == FLATBED_CHANGE_DTYPE) {
    CHECK(difference->has_values == 1 && difference->max_abs == 0);
  }
  return self->answer;
}

static int32_t on_place(void* context, flatbed_string path, uint32_t in_a, uint32_t in_b) {
  ++((seen*)context)->places;
  CHECK(path.size > 0 && in_a + in_b >= 1);
  return 0;
}

static void compares(void) {
  flatbed_error error;
  flatbed_checkpoint* const model = open_small_model();
  flatbed_checkpoint* cast = NULL;
  flatbed_checkpoint* renamed = NULL;
  flatbed_cast_rules rules = FLATBED_INIT(flatbed_cast_rules);
  rules.to = FLATBED_DTYPE_F64;
  CHECK_OK(flatbed_cast(model, &rules, &cast, &error));
  CHECK_OK(flatbed_rename(model, flatbed_text("b=c"), &renamed, &error));
  seen all = {0};
  flatbed_diff_options options = FLATBED_INIT(flatbed_diff_options);
  flatbed_diff_report report = FLATBED_INIT(flatbed_diff_report);
  options.context = &all;
  options.tensor = on_tensor;
  options.tree = on_place;
  options.values = 1;
  options.threads = 1;
  CHECK_OK(flatbed_diff(model, model, &options, &report, &error));
  CHECK(report.same == 1 && report.equal_tensors == 3 && all.tensors == 0);
  CHECK_OK(flatbed_diff(model, cast, &options, &report, &error));
  CHECK(report.same == 0 && report.tensor_differences == 2 && all.tensors == 2);
  CHECK_NUMBER(all.change, FLATBED_CHANGE_DTYPE);
  CHECK_OK(flatbed_diff(model, renamed, &options, &report, &error));
  CHECK(report.tensor_differences == 2 && all.change == FLATBED_CHANGE_ADDED);
  all.answer = FLATBED_ERROR_LIMIT_EXCEEDED;
  CHECK_ERROR(flatbed_diff(model, cast, &options, NULL, &error), FLATBED_ERROR_LIMIT_EXCEEDED,
              "tensor");
  CHECK_OK(flatbed_diff(model, cast, NULL, NULL, &error));
  CHECK_INVALID(flatbed_diff(NULL, model, NULL, NULL, &error), "'a'");
  CHECK_INVALID(flatbed_diff(model, NULL, NULL, NULL, &error), "'b'");
  options.values = 2;
  CHECK_INVALID(flatbed_diff(model, model, &options, NULL, &error), "'values'");
  report.struct_size = 0;
  CHECK_INVALID(flatbed_diff(model, model, NULL, &report, &error), "'report'");
  flatbed_checkpoint_free(renamed);
  flatbed_checkpoint_free(cast);
  flatbed_checkpoint_free(model);
}

static void compares_trees(void) {
  flatbed_error error;
  flatbed_checkpoint* a = NULL;
  flatbed_checkpoint* b = NULL;
  CHECK_OK(flatbed_open(path_in(fixtures_folder, "torch2/checkpoint.pth"), NULL, &a, &error));
  CHECK_OK(flatbed_open(path_in(fixtures_folder, "torch2/odd_values.pth"), NULL, &b, &error));
  seen all = {0};
  flatbed_diff_options options = FLATBED_INIT(flatbed_diff_options);
  flatbed_diff_report report = FLATBED_INIT(flatbed_diff_report);
  options.context = &all;
  options.tree = on_place;
  CHECK_OK(flatbed_diff(a, b, &options, &report, &error));
  CHECK(report.trees_compared == 1 && report.tree_differences == (uint64_t)all.places);
  CHECK(all.places > 0);
  flatbed_checkpoint_free(a);
  flatbed_checkpoint_free(b);
}

void test_scan(void) {
  scans();
  scans_readers();
  compares();
  compares_trees();
}
