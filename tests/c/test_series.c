// Series: saved, listed, found, verified, pruned, rolled back; in the background; arguments.
#include <sched.h>
#include <stdatomic.h>

#include "check.h"

static const float kValues[4] = {1, 2, 3, 4};

// A plan with one tensor `w` of the caller's memory.
static flatbed_save_plan* plan_of(const float* values) {
  flatbed_error error;
  flatbed_save_plan* plan = NULL;
  const uint64_t shape[] = {4};
  CHECK_OK(flatbed_save_plan_new(&plan, &error));
  CHECK_OK(flatbed_save_plan_add(plan, flatbed_text("w"), FLATBED_DTYPE_F32, shape, 1, values, 16,
                                 &error));
  return plan;
}

// The path of a folder that is not there.
static const char* new_folder(const char* name) {
  char of_series[64];
  snprintf(of_series, sizeof of_series, "series-%s", name);
  const char* const path = path_in(output_folder, of_series);
  remove_all(path);
  return path;
}

static flatbed_series* open_series(const char* folder, const flatbed_series_options* options) {
  flatbed_error error;
  flatbed_series* series = NULL;
  CHECK_OK(flatbed_series_open(folder, options, &series, &error));
  return series;
}

static flatbed_series_stamp stamp_of(uint64_t step) {
  flatbed_series_stamp stamp = FLATBED_INIT(flatbed_series_stamp);
  stamp.step = step;
  return stamp;
}

static void save_step(flatbed_series* series, uint64_t step, double score) {
  flatbed_error error;
  flatbed_save_plan* const plan = plan_of(kValues);
  flatbed_series_stamp stamp = stamp_of(step);
  stamp.score = score;
  stamp.has_score = 1;
  CHECK_OK(flatbed_series_save(series, plan, &stamp, NULL, NULL, &error));
  flatbed_save_plan_free(plan);
}

static flatbed_series_entry entry_of(const flatbed_series_entries* entries, uint64_t index) {
  flatbed_error error;
  flatbed_series_entry entry = FLATBED_INIT(flatbed_series_entry);
  CHECK_OK(flatbed_series_entry_at(entries, index, &entry, &error));
  return entry;
}

// A series of accuracies: steps 10, 20 and 30, of which 20 is the best.
static flatbed_series* three_steps(const char* folder) {
  flatbed_series_options options = FLATBED_INIT(flatbed_series_options);
  options.metric = flatbed_text("accuracy");
  options.mode = FLATBED_SCORE_MAX;
  flatbed_series* const series = open_series(folder, &options);
  save_step(series, 10, 0.25);
  save_step(series, 20, 0.75);
  save_step(series, 30, 0.5);
  return series;
}

static void finds_one(const flatbed_series* series) {
  flatbed_error error;
  flatbed_series_entries* found = NULL;
  CHECK_OK(flatbed_series_latest(series, &found, &error));
  CHECK_NUMBER(flatbed_series_entry_count(found), 1);
  CHECK_NUMBER(entry_of(found, 0).step, 30);
  CHECK_NUMBER(flatbed_series_mode(found), FLATBED_SCORE_ANY);
  flatbed_series_entries_free(found);
  CHECK_OK(flatbed_series_best(series, &found, &error));
  CHECK_NUMBER(entry_of(found, 0).step, 20);
  flatbed_series_entries_free(found);
  CHECK_OK(flatbed_series_at(series, 10, &found, &error));
  CHECK_NUMBER(entry_of(found, 0).sequence, 1);
  flatbed_series_entries_free(found);
  CHECK_ERROR(flatbed_series_at(series, 15, &found, &error), FLATBED_ERROR_STEP_NOT_FOUND, "15");
  CHECK(found == NULL);
}

static void lists_and_opens(void) {
  flatbed_error error;
  flatbed_series* const series = three_steps(new_folder("lists"));
  finds_one(series);
  flatbed_series_entries* all = NULL;
  CHECK_OK(flatbed_series_list(series, &all, &error));
  flatbed_series_free(series);  // may go first
  CHECK_NUMBER(flatbed_series_entry_count(all), 3);
  CHECK_NUMBER(flatbed_series_note_count(all), 0);
  CHECK_TEXT(flatbed_series_metric(all), "accuracy");
  CHECK_NUMBER(flatbed_series_mode(all), FLATBED_SCORE_MAX);
  CHECK_NUMBER(flatbed_series_is_whole(all), 0);
  const flatbed_series_entry first = entry_of(all, 0);
  const flatbed_series_entry second = entry_of(all, 1);
  CHECK(first.sequence == 1 && second.sequence == 2 && first.step == 10 && second.step == 20);
  CHECK(first.parent.size == 0 && first.content.size == 16 && second.parent.size == 16);
  CHECK(memcmp(first.content.data, second.parent.data, 16) == 0);
  CHECK(first.has_score == 1 && first.score == 0.25 && first.has_epoch == 0 && first.is_set == 0);
  CHECK(first.nbytes > 16 && first.saved_at_ms > INT64_C(1600000000000));
  CHECK(first.state == FLATBED_ENTRY_PRESENT && first.path.data[first.path.size] == '\0');

  flatbed_checkpoint* model = NULL;
  CHECK_OK(flatbed_series_entry_open(all, 1, &model, &error));
  CHECK_NUMBER(flatbed_tensor_count(model), 1);
  CHECK_NUMBER(flatbed_seal(model), FLATBED_SEAL_SEALED);
  flatbed_checkpoint_free(model);
  CHECK_OK(flatbed_open(first.path.data, NULL, &model, &error));
  flatbed_checkpoint_free(model);
  CHECK_INVALID(flatbed_series_entry_verified(all, 0, NULL, &error), "flatbed_series_verify()");
  flatbed_series_entries_free(all);
}

static void notes_what_is_skipped_and_verifies(void) {
  flatbed_error error;
  const char* const folder = new_folder("verifies");
  flatbed_series* const series = three_steps(folder);
  flatbed_series_entries* all = NULL;
  CHECK_OK(flatbed_series_verify(series, NULL, &all, &error));
  CHECK_NUMBER(flatbed_series_is_whole(all), 1);
  CHECK_NUMBER(flatbed_series_entry_count(all), 3);
  const flatbed_series_entry last = entry_of(all, 2);
  FILE* const file = fopen(last.path.data, "r+b");  // the last byte of the tensor is another
  CHECK(file != NULL && fseek(file, -1, SEEK_END) == 0 && fputc('x', file) == 'x');
  CHECK(file != NULL && fclose(file) == 0);
  flatbed_series_entries_free(all);

  char other[4200];
  snprintf(other, sizeof other, "%s/other.safetensors", folder);
  write_file(other, "damaged", 7);
  CHECK_OK(flatbed_series_verify(series, NULL, &all, &error));
  CHECK_NUMBER(flatbed_series_is_whole(all), 0);
  flatbed_verify_report report = FLATBED_INIT(flatbed_verify_report);
  CHECK_OK(flatbed_series_entry_verified(all, 0, &report, &error));
  CHECK(report.bytes_checked == 16 && report.damaged == 0);
  CHECK_OK(flatbed_series_entry_verified(all, 2, &report, &error));
  CHECK_NUMBER(report.damaged, 1);
  flatbed_string note = {NULL, 0};
  CHECK_NUMBER(flatbed_series_note_count(all), 1);
  CHECK_OK(flatbed_series_note_at(all, 0, &note, &error));
  CHECK(note.size > 0);
  CHECK_INVALID(flatbed_series_note_at(all, 1, &note, &error), "'index'");
  flatbed_series_entries_free(all);
  flatbed_series_free(series);
}

static void prunes_and_rolls_back(void) {
  flatbed_error error;
  const char* const folder = new_folder("prunes");
  flatbed_series_free(three_steps(folder));
  flatbed_series_options options = FLATBED_INIT(flatbed_series_options);
  options.keep_last = 1;
  options.keep_no_best = 1;
  flatbed_series* series = open_series(folder, &options);
  flatbed_series_entries* found = NULL;
  CHECK_OK(flatbed_series_prune(series, 1, &found, &error));
  CHECK_NUMBER(flatbed_series_entry_count(found), 3);
  CHECK(entry_of(found, 0).state == FLATBED_ENTRY_REMOVED &&
        entry_of(found, 1).state == FLATBED_ENTRY_REMOVED &&
        entry_of(found, 2).state == FLATBED_ENTRY_PRESENT);
  flatbed_series_entries_free(found);
  flatbed_series_free(series);

  options.keep_no_best = 0;  // then 20, the best, is kept
  series = open_series(folder, &options);
  CHECK_OK(flatbed_series_prune(series, 0, NULL, &error));
  flatbed_save_plan* const plan = plan_of(kValues);
  flatbed_series_stamp stamp = stamp_of(40);
  flatbed_save_report report = FLATBED_INIT(flatbed_save_report);
  CHECK_OK(flatbed_series_save(series, plan, &stamp, &found, &report, &error));
  flatbed_save_plan_free(plan);
  CHECK_NUMBER(flatbed_series_entry_count(found), 2);
  CHECK(entry_of(found, 0).step == 40 && entry_of(found, 0).state == FLATBED_ENTRY_PRESENT);
  CHECK(entry_of(found, 1).step == 30 && entry_of(found, 1).state == FLATBED_ENTRY_REMOVED);
  CHECK(report.files == 1 && report.durable == 1 && report.nbytes == entry_of(found, 0).nbytes);
  CHECK_TEXT(entry_of(found, 0).content, report.content);
  flatbed_series_entries_free(found);

  CHECK_OK(flatbed_series_roll_back(series, 20, &found, &error));
  CHECK_NUMBER(flatbed_series_entry_count(found), 2);
  CHECK(entry_of(found, 0).step == 20 && entry_of(found, 0).state == FLATBED_ENTRY_PRESENT);
  CHECK(entry_of(found, 1).step == 40 && entry_of(found, 1).state == FLATBED_ENTRY_MOVED);
  CHECK(strstr(entry_of(found, 1).path.data, "/abandoned/") != NULL);
  flatbed_series_entries_free(found);
  CHECK_OK(flatbed_series_roll_back(series, 20, NULL, &error));
  flatbed_series_free(series);
}

static void saves_sets(void) {
  flatbed_error error;
  flatbed_series_options options = FLATBED_INIT(flatbed_series_options);
  flatbed_save_options save = FLATBED_INIT(flatbed_save_options);
  options.max_shard_nbytes = 16;
  options.save = &save;
  save.unsynced = 1;
  flatbed_series* const series = open_series(new_folder("sets"), &options);
  flatbed_save_plan* const plan = plan_of(kValues);
  const uint64_t shape[] = {4};
  CHECK_OK(flatbed_save_plan_add(plan, flatbed_text("v"), FLATBED_DTYPE_F32, shape, 1, kValues, 16,
                                 &error));
  flatbed_series_stamp stamp = stamp_of(1);
  flatbed_series_entries* saved = NULL;
  flatbed_save_report report = FLATBED_INIT(flatbed_save_report);
  CHECK_OK(flatbed_series_save(series, plan, &stamp, &saved, &report, &error));
  CHECK(report.files == 2 && report.durable == 0);
  CHECK(entry_of(saved, 0).is_set == 1 && entry_of(saved, 0).nbytes == report.nbytes);
  flatbed_checkpoint* model = NULL;
  CHECK_OK(flatbed_series_entry_open(saved, 0, &model, &error));
  CHECK_NUMBER(flatbed_file_count(model), 2);
  flatbed_checkpoint_free(model);
  flatbed_series_entries_free(saved);
  flatbed_save_plan_free(plan);
  flatbed_series_free(series);
}

// ---- In the background --------------------------------------------------------------------------

// A progress function in which a save waits until it may go on, and calls back in.
typedef struct gate {
  atomic_int open;
  atomic_int calls;
  const flatbed_series* series;
  int32_t answer;
} gate;

static int32_t wait_at_gate(void* context, uint64_t done, uint64_t total) {
  gate* const self = context;
  flatbed_error error;
  flatbed_series_entries* entries = NULL;
  CHECK(done <= total);
  CHECK_OK(flatbed_series_list(self->series, &entries, &error));
  flatbed_series_entries_free(entries);
  atomic_fetch_add(&self->calls, 1);
  while (atomic_load(&self->open) == 0) sched_yield();
  return self->answer;
}

static flatbed_series* open_gated(const char* folder, gate* at) {
  flatbed_save_options save = FLATBED_INIT(flatbed_save_options);
  flatbed_series_options options = FLATBED_INIT(flatbed_series_options);
  options.save = &save;
  save.context = at;
  save.progress = wait_at_gate;
  flatbed_series* const series = open_series(folder, &options);
  at->series = series;
  return series;
}

static void saves_in_the_background(void) {
  flatbed_error error;
  gate at = {0};
  flatbed_series* const series = open_gated(new_folder("async"), &at);
  float values[4] = {1, 2, 3, 4};
  flatbed_save_plan* const plan = plan_of(values);
  flatbed_series_stamp stamp = stamp_of(1);
  flatbed_pending_save* pending = NULL;
  CHECK_OK(flatbed_series_save_async(series, plan, &stamp, &pending, &error));
  values[0] = 100;  // the plan's memory is the caller's again
  flatbed_save_plan_free(plan);
  CHECK_NUMBER(flatbed_pending_save_ready(pending), 0);
  atomic_store(&at.open, 1);
  flatbed_series_entries* saved = NULL;
  flatbed_save_report report = FLATBED_INIT(flatbed_save_report);
  CHECK_OK(flatbed_pending_save_wait(pending, &saved, &report, &error));
  CHECK_NUMBER(flatbed_pending_save_ready(pending), 1);
  CHECK(atomic_load(&at.calls) > 0 && report.files == 1);
  flatbed_checkpoint* model = NULL;
  float value = 0;
  CHECK_OK(flatbed_series_entry_open(saved, 0, &model, &error));
  CHECK_OK(flatbed_read(model, 0, 0, &value, 4, FLATBED_VERIFY_YES, &error));
  CHECK(value == 1);
  flatbed_checkpoint_free(model);
  flatbed_series_entries_free(saved);
  flatbed_series_free(series);
  CHECK_OK(flatbed_pending_save_wait(pending, NULL, NULL, &error));  // outlives the series
  flatbed_pending_save_free(pending);
}

static void gives_errors_of_the_background(void) {
  flatbed_error error;
  gate at = {1, 0, NULL, FLATBED_ERROR_NO_SPACE};
  flatbed_series* const series = open_gated(new_folder("async-errors"), &at);
  flatbed_save_plan* const plan = plan_of(kValues);
  flatbed_series_stamp stamp = stamp_of(1);
  flatbed_pending_save* pending = NULL;
  flatbed_series_entries* saved = NULL;
  CHECK_OK(flatbed_series_save_async(series, plan, &stamp, &pending, &error));
  CHECK_ERROR(flatbed_pending_save_wait(pending, &saved, NULL, &error), FLATBED_ERROR_NO_SPACE,
              "progress");
  CHECK(saved == NULL);
  flatbed_pending_save_free(pending);
  CHECK_OK(flatbed_series_save_async(series, plan, &stamp, &pending, &error));
  flatbed_pending_save_free(pending);  // nobody waits, so that the next call says it
  CHECK_ERROR(flatbed_series_prune(series, 0, NULL, &error), FLATBED_ERROR_NO_SPACE,
              "the save before this one failed");
  flatbed_save_plan_free(plan);
  flatbed_series_free(series);
}

// ---- Errors and arguments -----------------------------------------------------------------------

static void refuses_what_does_not_fit(void) {
  flatbed_error error;
  const char* const folder = new_folder("refuses");
  flatbed_series* const series = three_steps(folder);
  flatbed_save_plan* const plan = plan_of(kValues);
  flatbed_series_stamp stamp = stamp_of(30);
  flatbed_series_entries* saved = (flatbed_series_entries*)wrong_kind();
  CHECK_ERROR(flatbed_series_save(series, plan, &stamp, &saved, NULL, &error),
              FLATBED_ERROR_STEP_NOT_AFTER, "30");
  CHECK(saved == NULL);
  flatbed_series* const second = open_series(folder, NULL);
  stamp.step = 40;
  CHECK_ERROR(flatbed_series_save(second, plan, &stamp, NULL, NULL, &error),
              FLATBED_ERROR_SERIES_LOCKED, "");
  flatbed_series_free(second);
  flatbed_series_options options = FLATBED_INIT(flatbed_series_options);
  options.mode = FLATBED_SCORE_MIN;
  flatbed_series* none = NULL;
  CHECK_ERROR(flatbed_series_open(folder, &options, &none, &error), FLATBED_ERROR_SERIES_MISMATCH,
              "max");
  CHECK(none == NULL);
  flatbed_series_free(series);
  flatbed_series* const absent = open_series(new_folder("absent"), NULL);
  flatbed_series_entries* entries = NULL;
  CHECK_ERROR(flatbed_series_list(absent, &entries, &error), FLATBED_ERROR_FILE_NOT_FOUND, "");
  CHECK_ERROR(flatbed_series_latest(absent, &entries, &error), FLATBED_ERROR_STEP_NOT_FOUND, "");
  stamp.has_score = 1;
  CHECK_INVALID(flatbed_series_save(absent, plan, &stamp, NULL, NULL, &error), "metric");
  flatbed_series_free(absent);
  flatbed_save_plan_free(plan);
}

static void checks_options(void) {
  flatbed_error error;
  const char* const folder = new_folder("options");
  flatbed_series* series = NULL;
  flatbed_save_options save = FLATBED_INIT(flatbed_save_options);
  flatbed_series_options options = FLATBED_INIT(flatbed_series_options);
  CHECK_INVALID(flatbed_series_open(NULL, NULL, &series, &error), "'folder'");
  CHECK_INVALID(flatbed_series_open(folder, NULL, NULL, &error), "'out'");
  options.mode = 3;
  CHECK_INVALID(flatbed_series_open(folder, &options, &series, &error), "'mode'");
  options.mode = FLATBED_SCORE_ANY;
  options.keep_no_best = 1;
  options.keep_best = 2;
  CHECK_INVALID(flatbed_series_open(folder, &options, &series, &error), "'keep_best'");
  options.keep_no_best = 2;
  CHECK_INVALID(flatbed_series_open(folder, &options, &series, &error), "'keep_no_best'");
  options.keep_no_best = 0;
  options.metric = (flatbed_string){NULL, 1};
  CHECK_INVALID(flatbed_series_open(folder, &options, &series, &error), "'metric'");
  options.metric = flatbed_text("");
  options.save = &save;
  save.dry_run = 1;
  CHECK_INVALID(flatbed_series_open(folder, &options, &series, &error), "dry run");
  save.struct_size = 8;
  CHECK_INVALID(flatbed_series_open(folder, &options, &series, &error), "struct_size");
  options.struct_size = 16;
  CHECK_INVALID(flatbed_series_open(folder, &options, &series, &error), "struct_size");
  CHECK(series == NULL);
}

static int32_t on_damage(void* context, const flatbed_damaged_range* range) {
  (void)context;
  (void)range;
  return 0;
}

static void checks_arguments_of_reading(flatbed_series* series) {
  flatbed_error error;
  flatbed_series_entries* out = NULL;
  const flatbed_series* const wrong = (const flatbed_series*)wrong_kind();
  CHECK_INVALID(flatbed_series_list(NULL, &out, &error), "'series'");
  CHECK_INVALID(flatbed_series_list(wrong, &out, &error), "flatbed_series");
  CHECK_INVALID(flatbed_series_list(series, NULL, &error), "'out'");
  CHECK_INVALID(flatbed_series_latest(NULL, &out, &error), "'series'");
  CHECK_INVALID(flatbed_series_latest(series, NULL, &error), "'out'");
  CHECK_INVALID(flatbed_series_best(NULL, &out, &error), "'series'");
  CHECK_INVALID(flatbed_series_best(series, NULL, &error), "'out'");
  CHECK_INVALID(flatbed_series_at(NULL, 0, &out, &error), "'series'");
  CHECK_INVALID(flatbed_series_at(series, 0, NULL, &error), "'out'");
  CHECK_INVALID(flatbed_series_verify(NULL, NULL, &out, &error), "'series'");
  CHECK_INVALID(flatbed_series_verify(series, NULL, NULL, &error), "'out'");
  flatbed_verify_options verify = FLATBED_INIT(flatbed_verify_options);
  verify.damaged = on_damage;
  CHECK_INVALID(flatbed_series_verify(series, &verify, &out, &error), "damaged");
  verify.damaged = NULL;
  verify.cancel = (const flatbed_cancel*)wrong_kind();
  CHECK_INVALID(flatbed_series_verify(series, &verify, &out, &error), "'cancel'");
  flatbed_cancel* cancel = NULL;
  CHECK_OK(flatbed_cancel_new(&cancel, &error));
  flatbed_cancel_set(cancel);
  verify.cancel = cancel;
  CHECK_ERROR(flatbed_series_verify(series, &verify, &out, &error), FLATBED_ERROR_CANCELLED, "");
  flatbed_cancel_free(cancel);
}

static void checks_arguments_of_entries(flatbed_series* series) {
  flatbed_error error;
  flatbed_series_entries* all = NULL;
  flatbed_checkpoint* model = NULL;
  flatbed_string note = {NULL, 0};
  flatbed_series_entry entry = FLATBED_INIT(flatbed_series_entry);
  CHECK_OK(flatbed_series_list(series, &all, &error));
  CHECK_INVALID(flatbed_series_entry_at(NULL, 0, &entry, &error), "'entries'");
  CHECK_INVALID(flatbed_series_entry_at(all, 3, &entry, &error), "found 3");
  CHECK_INVALID(flatbed_series_entry_at(all, 0, NULL, &error), "'out'");
  entry.struct_size = 112;
  CHECK_INVALID(flatbed_series_entry_at(all, 0, &entry, &error), "struct_size");
  CHECK_INVALID(flatbed_series_entry_open(NULL, 0, &model, &error), "'entries'");
  CHECK_INVALID(flatbed_series_entry_open(all, 3, &model, &error), "'index'");
  CHECK_INVALID(flatbed_series_entry_open(all, 0, NULL, &error), "'out'");
  CHECK_INVALID(flatbed_series_entry_verified(NULL, 0, NULL, &error), "'entries'");
  flatbed_verify_report report = {0};
  CHECK_INVALID(flatbed_series_entry_verified(all, 0, &report, &error), "'out'");
  CHECK_INVALID(flatbed_series_note_at(NULL, 0, &note, &error), "'entries'");
  CHECK_INVALID(flatbed_series_note_at(all, 0, NULL, &error), "'note'");
  CHECK_NUMBER(flatbed_series_entry_count(NULL) + flatbed_series_note_count(NULL), 0);
  CHECK_NUMBER(flatbed_series_mode(NULL) + flatbed_series_is_whole(NULL), 0);
  CHECK_TEXT(flatbed_series_metric(NULL), "");
  flatbed_series_entries_free(all);
  flatbed_series_entries_free(NULL);
  flatbed_series_entries_free((flatbed_series_entries*)wrong_kind());
}

static void checks_arguments_of_writing(flatbed_series* series) {
  flatbed_error error;
  flatbed_save_plan* const plan = plan_of(kValues);
  flatbed_pending_save* pending = NULL;
  flatbed_series_stamp stamp = stamp_of(40);
  flatbed_save_report report = {0};
  CHECK_INVALID(flatbed_series_save(NULL, plan, &stamp, NULL, NULL, &error), "'series'");
  CHECK_INVALID(flatbed_series_save(series, NULL, &stamp, NULL, NULL, &error), "'plan'");
  CHECK_INVALID(flatbed_series_save(series, plan, NULL, NULL, NULL, &error), "'stamp'");
  CHECK_INVALID(flatbed_series_save(series, plan, &stamp, NULL, &report, &error), "'report'");
  CHECK_INVALID(flatbed_series_save_async(NULL, plan, &stamp, &pending, &error), "'series'");
  CHECK_INVALID(flatbed_series_save_async(series, NULL, &stamp, &pending, &error), "'plan'");
  CHECK_INVALID(flatbed_series_save_async(series, plan, NULL, &pending, &error), "'stamp'");
  CHECK_INVALID(flatbed_series_save_async(series, plan, &stamp, NULL, &error), "'out'");
  stamp.has_score = 2;
  CHECK_INVALID(flatbed_series_save(series, plan, &stamp, NULL, NULL, &error), "has_score");
  stamp.has_score = 0;
  stamp.reserved = 1;
  CHECK_INVALID(flatbed_series_save(series, plan, &stamp, NULL, NULL, &error), "reserved");
  stamp.struct_size = 8;
  CHECK_INVALID(flatbed_series_save(series, plan, &stamp, NULL, NULL, &error), "struct_size");
  CHECK_INVALID(flatbed_pending_save_wait(NULL, NULL, NULL, &error), "'pending'");
  CHECK_INVALID(flatbed_pending_save_wait((flatbed_pending_save*)series, NULL, NULL, &error),
                "flatbed_pending_save");
  CHECK_NUMBER(flatbed_pending_save_ready(NULL), 1);
  CHECK_INVALID(flatbed_series_prune(NULL, 0, NULL, &error), "'series'");
  CHECK_INVALID(flatbed_series_prune(series, 2, NULL, &error), "'dry_run'");
  CHECK_INVALID(flatbed_series_roll_back(NULL, 0, NULL, &error), "'series'");
  flatbed_pending_save_free(NULL);
  flatbed_series_free(NULL);
  flatbed_series_free((flatbed_series*)wrong_kind());
  flatbed_save_plan_free(plan);
}

void test_series(void) {
  lists_and_opens();
  notes_what_is_skipped_and_verifies();
  prunes_and_rolls_back();
  saves_sets();
  saves_in_the_background();
  gives_errors_of_the_background();
  refuses_what_does_not_fit();
  checks_options();
  flatbed_series* const series = three_steps(new_folder("arguments"));
  checks_arguments_of_reading(series);
  checks_arguments_of_entries(series);
  checks_arguments_of_writing(series);
  flatbed_series_free(series);
}
