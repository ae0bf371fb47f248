// load() over HTTP, every byte verified, against a bare loop of libcurl over the same ranges into
// the same memory, in turns. Usage: bench_remote URL [rounds] [connections] (a sealed file)
#include <curl/curl.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "flatbed/remote.hpp"
#include "load_common.hpp"
#include "stopwatch.hpp"

namespace {

using bench::fail;
using bench::take;

constexpr std::uint64_t kRange = 8 << 20;

struct Range {
  std::uint64_t begin = 0;
  std::byte* to = nullptr;
  std::uint64_t nbytes = 0;
  std::uint64_t got = 0;
};

std::size_t store(char* data, std::size_t size, std::size_t count, void* range) {
  Range& to = *static_cast<Range*>(range);
  if (size * count > to.nbytes - to.got) return 0;
  std::memcpy(to.to + to.got, data, size * count);
  to.got += size * count;
  return size * count;
}

void begin(CURLM* multi, CURL* curl, const std::string& url, Range& range) {
  const std::string text =
      std::to_string(range.begin) + "-" + std::to_string(range.begin + range.nbytes - 1);
  curl_easy_setopt(curl, CURLOPT_URL, url.c_str());
  curl_easy_setopt(curl, CURLOPT_BUFFERSIZE, 512L << 10);
  curl_easy_setopt(curl, CURLOPT_RANGE, text.c_str());
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, store);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &range);
  curl_multi_add_handle(multi, curl);
}

// What the fewest lines around libcurl do.
void fetch_bare(const std::string& url, std::vector<Range> ranges, std::size_t connections) {
  CURLM* const multi = curl_multi_init();
  std::size_t next = 0;
  std::vector<CURL*> handles;
  for (; next < std::min(connections, ranges.size()); ++next) {
    handles.push_back(curl_easy_init());
    begin(multi, handles.back(), url, ranges[next]);
  }
  for (std::size_t ended = 0; ended < ranges.size();) {
    int running = 0;
    curl_multi_perform(multi, &running);
    int left = 0;
    while (CURLMsg* const message = curl_multi_info_read(multi, &left)) {
      CURL* const curl = message->easy_handle;
      if (message->data.result != CURLE_OK) fail(curl_easy_strerror(message->data.result));
      ++ended;
      curl_multi_remove_handle(multi, curl);
      if (next < ranges.size()) begin(multi, curl, url, ranges[next++]);
    }
    if (ended < ranges.size()) curl_multi_poll(multi, nullptr, 0, 1000, nullptr);
  }
  for (CURL* const curl : handles) curl_easy_cleanup(curl);
  curl_multi_cleanup(multi);
  for (const Range& range : ranges) {
    if (range.got != range.nbytes) fail("a range is short");
  }
}

void load_verified(const std::string& url, const bench::OwnedMemory& memory) {
  const flatbed::Checkpoint model = take(flatbed::open_url(url));
  flatbed::LoadPlan plan;
  std::uint64_t at = 0;
  for (const flatbed::TensorInfo& tensor : model.tensors()) {
    if (!plan.add(model, tensor.name, {.data = memory.data() + at, .capacity = tensor.nbytes}))
      fail("a tensor cannot be added");
    at += tensor.nbytes;
  }
  const flatbed::LoadReport report = take(flatbed::load(plan));
  if (report.bytes_verified != at) fail("not all bytes have digests");
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) fail("usage: bench_remote URL [rounds] [connections]");
  const std::string url = argv[1];
  const int rounds = argc > 2 ? std::atoi(argv[2]) : 5;
  const auto connections = static_cast<std::size_t>(argc > 3 ? std::atoi(argv[3]) : 8);
  const flatbed::Checkpoint model = take(flatbed::open_url(url));
  std::uint64_t nbytes = 0;
  std::uint64_t first = ~std::uint64_t{0};
  for (const flatbed::TensorInfo& tensor : model.tensors()) {
    nbytes += tensor.nbytes;
    first = std::min(first, tensor.where.offset);
  }
  const bench::OwnedMemory memory(nbytes);
  std::vector<Range> ranges;
  for (std::uint64_t at = 0; at < nbytes; at += kRange)
    ranges.push_back({first + at, memory.data() + at, std::min(kRange, nbytes - at)});
  std::vector<double> bare;
  std::vector<double> verified;
  for (int i = 0; i < rounds; ++i) {
    bare.push_back(bench::time_seconds([&] { fetch_bare(url, ranges, connections); }));
    verified.push_back(bench::time_seconds([&] { load_verified(url, memory); }));
    std::printf("round %d: bare %.3f s, verified load %.3f s\n", i, bare.back(), verified.back());
  }
  const double gigabytes = static_cast<double>(nbytes) / 1e9;
  std::printf("%.2f GB: bare %.2f GB/s, verified load %.2f GB/s, ratio of medians %.2f\n",
              gigabytes, gigabytes / median(bare), gigabytes / median(verified),
              median(bare) / median(verified));
  return 0;
}
