// The smallest program that opens a checkpoint, for measuring a fresh process. Prints the seconds
// of each opening, one a line: the first is the fresh one.
// Usage: bench_open_once FILE [TIMES]
#include <cstdio>
#include <cstdlib>

#include "flatbed/checkpoint.hpp"
#include "stopwatch.hpp"

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  const int times = argc > 2 ? std::atoi(argv[2]) : 1;
  for (int i = 0; i < times; ++i) {
    const double seconds = bench::time_seconds([&] {
      const auto checkpoint = flatbed::Checkpoint::open(argv[1]);
      if (checkpoint) return;
      std::fprintf(stderr, "%s\n", checkpoint.error().message.c_str());
      std::exit(1);
    });
    std::printf("%.9f\n", seconds);
  }
  return 0;
}
