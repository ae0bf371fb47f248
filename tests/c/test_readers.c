// Files that the caller reads: what flatbed asks, what becomes of errors, and when they are closed.
#include "check.h"

typedef struct blob {
  const unsigned char* bytes;
  uint64_t nbytes;
  int reads;
  int closed;
  int32_t answer;       // of read
  int32_t unchanged;    // of check_unchanged
  const char* message;  // that read gives
  bool calls_back;
} blob;

static int32_t read_blob(void* context, uint64_t offset, void* out, uint64_t nbytes,
                         flatbed_error* error) {
  blob* const self = context;
  ++self->reads;
  if (self->message != NULL) snprintf(error->message, sizeof error->message, "%s", self->message);
  if (self->answer != 0) return self->answer;
  CHECK(offset <= self->nbytes && nbytes <= self->nbytes - offset);
  memcpy(out, self->bytes + offset, nbytes);
  if (self->calls_back) flatbed_checkpoint_free(open_small_model());
  return 0;
}

static int32_t is_unchanged(void* context, flatbed_error* error) {
  (void)error;
  return ((const blob*)context)->unchanged;
}

static void close_blob(void* context) { ++((blob*)context)->closed; }

static blob make_blob(void) {
  blob made;
  memset(&made, 0, sizeof made);
  made.bytes = small_model(&made.nbytes);
  return made;
}

static flatbed_reader make_reader(blob* context) {
  flatbed_reader reader = FLATBED_INIT(flatbed_reader);
  reader.context = context;
  reader.label = flatbed_text("s3://bucket/model");
  reader.nbytes = context->nbytes;
  reader.read = read_blob;
  reader.check_unchanged = is_unchanged;
  reader.close = close_blob;
  return reader;
}

static void reads_and_closes_once(void) {
  flatbed_error error;
  flatbed_checkpoint* model = NULL;
  blob source = make_blob();
  source.calls_back = true;
  flatbed_reader reader = make_reader(&source);
  CHECK_OK(flatbed_open_reader(&reader, NULL, &model, &error));
  memset(&reader, 0xff, sizeof reader);  // it was copied
  CHECK(source.reads > 0);

  // What was made from it keeps it open.
  flatbed_checkpoint* renamed = NULL;
  CHECK_OK(flatbed_rename(model, flatbed_text("add-prefix x."), &renamed, &error));
  flatbed_checkpoint_free(model);
  CHECK_NUMBER(source.closed, 0);
  int64_t value = 0;
  CHECK_OK(flatbed_read(renamed, 2, 0, &value, sizeof value, FLATBED_VERIFY_YES, &error));
  CHECK(value == -1);
  flatbed_checkpoint_free(renamed);
  CHECK_NUMBER(source.closed, 1);
}

static void reports_what_the_reader_says(void) {
  flatbed_error error;
  flatbed_checkpoint* model = NULL;
  blob source = make_blob();
  const flatbed_reader reader = make_reader(&source);
  source.answer = FLATBED_ERROR_PERMISSION_DENIED;
  CHECK_ERROR(flatbed_open_reader(&reader, NULL, &model, &error), FLATBED_ERROR_PERMISSION_DENIED,
              "s3://bucket/model: the caller's reader returned 3");
  source.message = "the token has expired";
  CHECK_ERROR(flatbed_open_reader(&reader, NULL, &model, &error), FLATBED_ERROR_PERMISSION_DENIED,
              "s3://bucket/model: the token has expired");
  source.answer = -5;
  CHECK_ERROR(flatbed_open_reader(&reader, NULL, &model, &error), FLATBED_ERROR_IO_ERROR,
              "expired");
  source.answer = 0;  // a message without an error is none
  CHECK_OK(flatbed_open_reader(&reader, NULL, &model, &error));
  CHECK_NUMBER(source.closed, 0);  // of those that failed
  flatbed_checkpoint_free(model);
  CHECK_NUMBER(source.closed, 1);
}

static void checks_the_reader(void) {
  flatbed_error error;
  flatbed_checkpoint* model = NULL;
  blob source = make_blob();
  flatbed_reader reader = make_reader(&source);
  CHECK_INVALID(flatbed_open_reader(NULL, NULL, &model, &error), "'reader': found NULL");
  CHECK_INVALID(flatbed_open_reader(&reader, NULL, NULL, &error), "'out'");
  reader.label.data = NULL;
  CHECK_INVALID(flatbed_open_reader(&reader, NULL, &model, &error), "'reader.label'");
  reader.label = flatbed_text(NULL);
  reader.read = NULL;
  CHECK_INVALID(flatbed_open_reader(&reader, NULL, &model, &error), "'reader.read'");
  reader.struct_size = 0;
  CHECK_INVALID(flatbed_open_reader(&reader, NULL, &model, &error), "struct_size");
  CHECK_NUMBER(source.closed, 0);

  reader = make_reader(&source);
  reader.close = NULL;
  reader.check_unchanged = NULL;
  reader.preferred_read_nbytes = 1 << 20;
  CHECK_OK(flatbed_open_reader(&reader, NULL, &model, &error));
  flatbed_checkpoint_free(model);
}

static void opens_sets_of_readers(void) {
  flatbed_error error;
  flatbed_checkpoint* model = NULL;
  blob one = make_blob();
  blob two = make_blob();
  const flatbed_reader first = make_reader(&one);
  const flatbed_reader second = make_reader(&two);
  const flatbed_reader* const both[] = {&first, &second};
  CHECK_ERROR(flatbed_open_reader_shards(both, 2, NULL, &model, &error),
              FLATBED_ERROR_NAME_COLLISION, "s3://bucket/model");
  CHECK_NUMBER(one.closed + two.closed, 0);
  CHECK_OK(flatbed_open_reader_shards(both, 1, NULL, &model, &error));
  CHECK_NUMBER(flatbed_tensor_count(model), 3);
  flatbed_checkpoint_free(model);
  CHECK_NUMBER(one.closed, 1);
  const flatbed_reader* const hole[] = {&first, NULL};
  CHECK_INVALID(flatbed_open_reader_shards(hole, 2, NULL, &model, &error), "'reader': found NULL");
  CHECK_INVALID(flatbed_open_reader_shards(NULL, 2, NULL, &model, &error), "'readers'");
  CHECK_INVALID(flatbed_open_reader_shards(NULL, 0, NULL, &model, &error), "");
  CHECK_INVALID(flatbed_open_reader_shards(both, 1, NULL, NULL, &error), "'out'");
}

void test_readers(void) {
  reads_and_closes_once();
  reports_what_the_reader_says();
  checks_the_reader();
  opens_sets_of_readers();
}
