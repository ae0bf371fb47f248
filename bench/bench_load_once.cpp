// Loads a file once, to measure a fresh process: all of it, or one of N equal slices of every
// tensor that has the dimension. The tensors are placed apart from each other, unlike in the file.
//
//   bench_load_once FILE auto|buffered|direct STAGING_BYTES verified|unverified [DIM RANK N]
//
// Prints: bytes requested, bytes that the plan reads, bytes read according to the load's report,
// bytes read according to the kernel (rchar, without opening), peak memory in KiB, peak staging
// memory.
#include <cinttypes>
#include <optional>
#include <string_view>

#include "load_common.hpp"
#include "stopwatch.hpp"

namespace {

struct Cut {
  std::size_t dim = 0;
  std::uint64_t rank = 0;
  std::uint64_t count = 1;
};

struct Arguments {
  const char* path = nullptr;
  flatbed::LoadOptions options;
  std::optional<Cut> cut;
};

Arguments parse(int argc, char** argv) {
  if (argc != 5 && argc != 8)
    bench::fail("usage: bench_load_once FILE IO STAGING VERIFIED [DIM RANK N]");
  Arguments arguments{.path = argv[1], .options = {}, .cut = {}};
  const std::string_view io = argv[2];
  arguments.options.io = io == "direct"     ? flatbed::IoMode::direct
                         : io == "buffered" ? flatbed::IoMode::buffered
                                            : flatbed::IoMode::automatic;
  arguments.options.staging_nbytes = std::strtoull(argv[3], nullptr, 10);
  arguments.options.verify =
      std::string_view(argv[4]) == "verified" ? flatbed::Verify::yes : flatbed::Verify::no;
  if (argc == 8) {
    arguments.cut = Cut{.dim = std::strtoull(argv[5], nullptr, 10),
                        .rank = std::strtoull(argv[6], nullptr, 10),
                        .count = std::strtoull(argv[7], nullptr, 10)};
  }
  return arguments;
}

// The requested part of a tensor; nothing for a tensor without the dimension.
std::optional<flatbed::Slice> find_part(const flatbed::TensorInfo& tensor,
                                        const std::optional<Cut>& cut) {
  if (!cut) return flatbed::Slice{};
  if (cut->dim >= tensor.shape.size() || tensor.shape[cut->dim] == 0) return std::nullopt;
  return bench::take(flatbed::shard_slice(tensor, cut->dim, cut->rank, cut->count));
}

struct Part {
  std::string_view name;
  flatbed::Slice slice;
  std::uint64_t offset = 0;
  std::uint64_t nbytes = 0;
};

void load_once(const Arguments& arguments) {
  const auto model = bench::take(flatbed::Checkpoint::open(arguments.path));
  const bool verified = arguments.options.verify == flatbed::Verify::yes;
  if (verified && model.seal() != flatbed::SealState::sealed) bench::fail("the file is not sealed");
  flatbed::MemoryLayout layout(bench::kApartAlignment);
  std::vector<Part> parts;
  for (const flatbed::TensorInfo& tensor : model.tensors()) {
    const std::optional<flatbed::Slice> slice = find_part(tensor, arguments.cut);
    if (!slice) continue;
    const std::uint64_t nbytes = bench::take(flatbed::slice_nbytes(tensor, *slice));
    parts.push_back({tensor.name, *slice, bench::take(layout.place(nbytes)), nbytes});
  }
  const bench::OwnedMemory memory(layout.nbytes() + bench::kApart);

  flatbed::LoadPlan plan;
  for (const Part& part : parts) {
    std::byte* const at = memory.data() + bench::kApart + part.offset;
    const flatbed::Result<void> added =
        plan.add(model, part.name, {.data = at, .capacity = part.nbytes}, {.slice = part.slice});
    if (!added) bench::fail(added.error().message);
  }
  const flatbed::LoadPlanReport planned = bench::take(plan.check(arguments.options));
  const std::uint64_t before = bench::bytes_read();
  const flatbed::LoadReport report = bench::take(flatbed::load(plan, arguments.options));
  const std::uint64_t counted = bench::bytes_read() - before;
  if (verified && report.bytes_verified < report.bytes_wanted) bench::fail("not all was verified");
  std::printf("%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n",
              report.bytes_wanted, planned.bytes_to_read, report.bytes_read, counted,
              bench::peak_kib(), report.peak_staging_nbytes);
}

}  // namespace

int main(int argc, char** argv) {
  load_once(parse(argc, argv));
  return 0;
}
