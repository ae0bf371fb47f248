// The tests of flatbed.h, one after the other.
// Usage: flatbed_c_tests FIXTURES_FOLDER OUTPUT_FOLDER
#include "check.h"

void test_library(void);
void test_open(void);
void test_readers(void);
void test_contents(void);
void test_bytes(void);
void test_views(void);
void test_tree(void);
void test_load(void);
void test_load_all(void);
void test_device(void);
void test_match(void);
void test_save(void);
void test_compare(void);
void test_series(void);
void test_scan(void);
void test_dlpack(void);
void test_order(void);

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  fixtures_folder = argv[1];
  output_folder = argv[2];
  test_library();
  test_open();
  test_readers();
  test_contents();
  test_bytes();
  test_views();
  test_tree();
  test_load();
  test_load_all();
  test_device();
  test_match();
  test_save();
  test_compare();
  test_series();
  test_scan();
  test_dlpack();
  test_order();
  if (failed_checks() != 0) fprintf(stderr, "%d checks failed\n", failed_checks());
  return failed_checks() == 0 ? 0 : 1;
}
