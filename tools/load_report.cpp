#include "load_report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <span>

#include "format_text.hpp"
#include "json_out.hpp"
#include "url_text.hpp"

namespace flatbed::tool {
namespace {

struct StageRow {
  Stage stage;
  double LoadReport::*seconds;
};
constexpr std::array kStages{
    StageRow{Stage::read, &LoadReport::read_seconds},
    StageRow{Stage::hash, &LoadReport::hash_seconds},
    StageRow{Stage::submit, &LoadReport::submit_seconds},
    StageRow{Stage::slots, &LoadReport::slots_seconds},
    StageRow{Stage::link, &LoadReport::link_seconds},
};
static_assert(kStages.size() == static_cast<std::size_t>(Stage::link) + 1);

const TensorInfo& tensor_of(const LoadOutcome& outcome, const Placement& place) {
  return outcome.sources[place.source].checkpoint.tensors()[place.tensor];
}

// Whether the bytes that the tensor is made of have digests.
bool is_covered(const LoadOutcome& outcome, const Placement& place) {
  const TensorInfo& tensor = tensor_of(outcome, place);
  if (tensor.stored != Stored::computed) return !tensor.digests.empty();
  const std::span<const FileInfo> files = outcome.sources[place.source].checkpoint.files();
  const auto has_digests = [](const FileInfo& file) {
    return file.seal == SealState::sealed || file.seal == SealState::annotated;
  };
  // A joined tensor can be made of several files.
  return tensor.joined.empty() ? has_digests(files[tensor.where.file])
                               : std::ranges::all_of(files, has_digests);
}

// Tensors without a digest in their file.
struct Uncovered {
  std::uint64_t tensors = 0;
  std::uint64_t nbytes = 0;
  SealState seal = SealState::unsealed;  // of the first checkpoint with such a tensor
};

Uncovered uncovered(const LoadOutcome& outcome) {
  Uncovered sum;
  for (const Placement& place : outcome.layout.placements) {
    if (place.nbytes == 0 || is_covered(outcome, place)) continue;
    if (sum.tensors == 0) sum.seal = outcome.sources[place.source].checkpoint.seal();
    ++sum.tensors;
    sum.nbytes += place.nbytes;
  }
  return sum;
}

// Explains why some bytes were not verified.
std::string unverified_reason(const LoadOutcome& outcome, const LoadCommandOptions& asked) {
  if (asked.ignore_seal) return "--ignore-seal";
  if (asked.verify == Verify::no) return "--no-verify";
  const Uncovered rest = uncovered(outcome);
  return std::string(name(rest.seal == SealState::newer ? rest.seal : SealState::unsealed));
}

std::string verified_text(const LoadOutcome& outcome, const LoadCommandOptions& asked) {
  const std::string matched =
      fmt::format("{} ({}) {}", count_text(outcome.report->chunks_verified, "chunk"),
                  size_text(outcome.report->bytes_verified),
                  verb_text(outcome.report->chunks_verified, "matches", "match"));
  switch (verified(outcome, asked.verify)) {
    case Verified::all:
      return "verified: " + matched;
    case Verified::some: {
      const Uncovered rest = uncovered(outcome);
      return fmt::format("partly verified: {}; {} ({}) not verified: {}", matched,
                         count_text(rest.tensors, "tensor"), size_text(rest.nbytes),
                         unverified_reason(outcome, asked));
    }
    case Verified::none:
      break;
  }
  return "not verified: " + unverified_reason(outcome, asked);
}

// How files are read with O_DIRECT.
std::string queue_text(const LoadReport& report) {
  if (report.queued) return " and io_uring";
  if (report.no_queue == NoQueue::none) return "";
  return fmt::format(", without io_uring ({})", name(report.no_queue));
}

std::string read_text(const LoadReport& report, const LoadCommandOptions& options) {
  const bool remote = std::ranges::all_of(
      options.paths, [](const std::filesystem::path& path) { return is_url(path.native()); });
  const std::string files = count_text(report.files_buffered, "file");
  if (remote)
    return fmt::format("read: {}, {} over the network", size_text(report.bytes_read), files);
  return fmt::format("read: {}, {} through the page cache, {} with O_DIRECT{}",
                     size_text(report.bytes_read), files, number_text(report.files_direct),
                     queue_text(report));
}

std::string stages_text(const LoadReport& report) {
  std::string text;
  for (const StageRow& row : kStages) {
    text += fmt::format("{} {:.3f} s, ", name(row.stage), report.*row.seconds);
  }
  return fmt::format("{}most: {}", text, name(report.bottleneck));
}

std::string slice_text(const SliceChoice& slice) {
  return fmt::format("{}:{}/{}", slice.dim, slice.rank, slice.count);
}

void write_plan(const LoadPlanReport& plan, JsonWriter& json) {
  json.begin_object();
  json.key("bytes_wanted").number(plan.bytes_wanted);
  json.key("bytes_to_read").number(plan.bytes_to_read);
  json.key("reads").number(plan.reads);
  json.key("peak_staging_nbytes").number(plan.peak_staging_nbytes);
  json.key("groups").number(plan.groups);
  json.paths("files", std::span(plan.files)).end_object();
}

void write_report(const LoadReport& report, const CastChoice& cast, JsonWriter& json) {
  json.begin_object();
  json.key("bytes_wanted").number(report.bytes_wanted);
  json.key("bytes_read").number(report.bytes_read);
  json.key("bytes_verified").number(report.bytes_verified);
  json.key("chunks_verified").number(report.chunks_verified);
  json.key("chunks_reread").number(report.chunks_reread);
  json.key("peak_staging_nbytes").number(report.peak_staging_nbytes);
  json.key("files_direct").number(report.files_direct);
  json.key("files_buffered").number(report.files_buffered);
  json.key("queued").boolean(report.queued);
  json.key("no_queue");
  if (report.no_queue == NoQueue::none) {
    json.null();
  } else {
    json.text(name(report.no_queue));
  }
  json.key("threads").number(report.threads);
  json.key("seconds").real(report.seconds);
  for (const StageRow& row : kStages) {
    json.key(fmt::format("{}_seconds", name(row.stage))).real(report.*row.seconds);
  }
  json.key("bottleneck").text(name(report.bottleneck));
  json.key("gb_per_second").real(gigabytes_per_second(report.bytes_wanted, report.seconds));
  json.key("casts");
  write_casts_json(report.casts, cast, json);
  json.end_object();
}

void write_what(const LoadOutcome& outcome, const LoadCommandOptions& options, JsonWriter& json) {
  json.key("sources").begin_array();
  for (const LoadSource& source : outcome.sources) {
    json.begin_object().path("path", source.path);
    json.key("seal").text(name(source.checkpoint.seal()));
    json.key("tensors").number(source.checkpoint.tensors().size()).end_object();
  }
  json.end_array().key("tensors").number(outcome.layout.placements.size());
  json.key("slice");
  if (options.slice) {
    json.begin_object().key("dim").number(options.slice->dim);
    json.key("rank").number(options.slice->rank).key("count").number(options.slice->count);
    json.key("sliced").number(outcome.layout.sliced);
    json.key("whole").number(outcome.layout.placements.size() - outcome.layout.sliced);
    json.end_object();
  } else {
    json.null();
  }
  json.key("mapped").number(outcome.layout.mapped);
  json.key("devices").begin_array();
  for (const DeviceShare& share : outcome.layout.shares) {
    json.begin_object().key("name").text(device_text(share.name));
    json.key("tensors").number(share.tensors).key("nbytes").number(share.nbytes);
    json.key("allocated_nbytes").number(share.memory ? share.memory->nbytes() : 0).end_object();
  }
  json.end_array().key("notes").begin_array();
  for (const std::string& note : outcome.notes) json.text(note);
  json.end_array();
}

void write_json_digests(const LoadOutcome& outcome, JsonWriter& json) {
  json.begin_array();
  for (std::size_t i = 0; i < outcome.digests.size(); ++i) {
    const Placement& place = outcome.layout.placements[i];
    json.begin_object().path("path", outcome.sources[place.source].path);
    json.key("name").text(tensor_of(outcome, place).name);
    json.key("device").text(device_text(outcome.layout.shares[place.share].name));
    json.key("nbytes").number(place.nbytes);
    json.key("xxh3").text(fmt::format("{:016x}", outcome.digests[i])).end_object();
  }
  json.end_array();
}

constexpr std::array<std::string_view, 3> kVerifiedNames{"all", "some", "none"};

void write_verified(const LoadOutcome& outcome, const LoadCommandOptions& asked, JsonWriter& json) {
  const Verified state = verified(outcome, asked.verify);
  json.key("verified").text(kVerifiedNames[static_cast<std::size_t>(state)]);
  json.key("unverified_reason");
  state == Verified::all ? json.null() : json.text(unverified_reason(outcome, asked));
}

}  // namespace

double gigabytes_per_second(std::uint64_t nbytes, double seconds) {
  return seconds > 0 ? static_cast<double>(nbytes) / seconds / 1e9 : 0;
}

Verified verified(const LoadOutcome& outcome, Verify asked) {
  const Uncovered rest = uncovered(outcome);
  const std::uint64_t all = outcome.layout.nbytes();
  if (all == 0 || (asked == Verify::yes && rest.nbytes == 0)) return Verified::all;
  return asked == Verify::no || rest.nbytes == all ? Verified::none : Verified::some;
}

void write_intent(const LoadOutcome& outcome, const LoadCommandOptions& options, Output& output) {
  for (const LoadSource& source : outcome.sources) {
    output.write(fmt::format("{}: {}, {}\n", path_text(source.path),
                             count_text(source.checkpoint.tensors().size(), "tensor"),
                             name(source.checkpoint.seal())));
  }
  for (const std::string& note : outcome.notes) {
    output.write(fmt::format("note: {}\n", safe_text(note)));
  }
  if (options.slice) {
    const std::uint64_t tensors = outcome.layout.placements.size();
    output.write(fmt::format("slice {}: {} sliced, {} whole\n", slice_text(*options.slice),
                             count_text(outcome.layout.sliced, "tensor"),
                             number_text(tensors - outcome.layout.sliced)));
  }
  for (const DeviceShare& share : outcome.layout.shares) {
    output.write(fmt::format("{}: {}, {}, one allocation of {}\n", device_text(share.name),
                             count_text(share.tensors, "tensor"), size_text(share.nbytes),
                             size_text(share.memory->nbytes())));
  }
  const LoadPlanReport& plan = *outcome.plan;
  output.write(fmt::format(
      "plan: {} to load, {} to read in {} from {}, at most {} of staging memory\n",
      size_text(plan.bytes_wanted), size_text(plan.bytes_to_read), count_text(plan.reads, "piece"),
      count_text(plan.files.size(), "file"), size_text(plan.peak_staging_nbytes)));
}

void write_result(const LoadOutcome& outcome, const LoadCommandOptions& options, Output& output) {
  const LoadReport& report = *outcome.report;
  output.write(fmt::format("loaded: {}, {} in {:.3f} s, {:.2f} GB/s, {}\n",
                           count_text(outcome.layout.placements.size(), "tensor"),
                           size_text(report.bytes_wanted), report.seconds,
                           gigabytes_per_second(report.bytes_wanted, report.seconds),
                           count_text(report.threads, "thread")));
  output.write(read_text(report, options) + "\n");
  output.write(verified_text(outcome, options) + "\n");
  if (options.cast.dtype) {
    output.write(fmt::format("cast: {} to {}\n", count_text(report.casts.tensors, "tensor"),
                             name(*options.cast.dtype)));
  }
  output.write(fmt::format("stages: {}\n", stages_text(report)));
  output.write(fmt::format("memory: process peak {}, staging peak {}; allocated in {:.3f} s\n",
                           size_text(outcome.peak_memory_nbytes),
                           size_text(report.peak_staging_nbytes), outcome.allocate_seconds));
}

void write_digests(const LoadOutcome& outcome, Output& output) {
  for (std::size_t i = 0; i < outcome.digests.size() && output.wanted(); ++i) {
    const Placement& place = outcome.layout.placements[i];
    const std::string path =
        outcome.sources.size() == 1 ? "" : path_text(outcome.sources[place.source].path) + ": ";
    output.write(fmt::format("{:016x}  {}{}\n", outcome.digests[i], path,
                             safe_text(tensor_of(outcome, place).name)));
  }
}

void write_json(const LoadOutcome& outcome, const LoadCommandOptions& options, ExitCode code,
                Output& output) {
  JsonWriter json(output);
  json.begin_result("load");
  write_what(outcome, options, json);
  json.key("plan");
  outcome.plan ? write_plan(*outcome.plan, json) : static_cast<void>(json.null());
  json.key("report");
  if (outcome.report) {
    write_report(*outcome.report, options.cast, json);
    write_verified(outcome, options, json);
    json.key("allocate_seconds").real(outcome.allocate_seconds);
    json.key("peak_memory_nbytes").number(outcome.peak_memory_nbytes);
  } else {
    json.null();
  }
  if (options.digests) {
    json.key("digests");
    write_json_digests(outcome, json);
  }
  json.end_result(code, outcome.error);
}

}  // namespace flatbed::tool
