// Sources that lie, under every layout and everything that reads one: what comes out is right, or
// an error that names the source.
#include "support/faulty_source.hpp"

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/bytes.hpp"
#include "base/str_cat.hpp"
#include "flatbed/load.hpp"
#include "flatbed/save.hpp"
#include "flatbed/save_plan.hpp"
#include "flatbed/scan.hpp"
#include "flatbed/verify.hpp"
#include "support/expect_error.hpp"
#include "support/legacy_builder.hpp"
#include "support/temp_dir.hpp"
#include "support/zip_builder.hpp"

namespace flatbed {
namespace {

namespace pickle = test::pickle;
using test::Faults;
using test::FaultySource;
using test::TempDir;

constexpr std::string_view kLabel = "s3://models/";

std::string sealed_file(const std::string& name) {
  const TempDir dir;
  const std::string data(300'000, 'd');
  SavePlan plan;
  plan.items.push_back({name, Dtype::u8, {data.size()}, as_bytes(data)});
  plan.items.push_back({name + ".bias", Dtype::u8, {4}, as_bytes("bias")});
  static_cast<void>(save(dir / "a", plan, {.sync = false}).value());
  return test::read_file(dir / "a");
}

std::string deflated_zip() {
  std::vector<test::ZipItem> items = test::torch_items({});
  for (test::ZipItem& item : items) {
    if (item.name.find("/data/") != item.name.npos)
      item = test::deflated_item(item.name, item.data);
  }
  return test::build_zip(items);
}

std::string pickled_file() {
  const std::string stream = test::nested_storage({.data = "aaaabbbbccccddddeeeeffff"});
  return pickle::finish(pickle::dict(
      {pickle::text("w"), pickle::tensor({.storage = test::load_from_bytes(stream)})}));
}

using Files = std::vector<std::string>;

struct Case {
  const char* name;
  Files (*make_files)();  // when the test runs: every process of this program lists all cases
};

constexpr Case kCases[] = {
    {"safetensors", [] { return Files{sealed_file("w")}; }},
    {"set",
     [] {
       return Files{sealed_file("v"), sealed_file("w")};
     }},
    {"zip", [] { return Files{test::torch_zip()}; }},
    {"deflated", [] { return Files{deflated_zip()}; }},
    {"legacy", [] { return Files{test::legacy_stream()}; }},
    {"tar", [] { return Files{test::torch_tar()}; }},
    {"pickle", [] { return Files{pickled_file()}; }},
};

using Sources = std::vector<std::shared_ptr<const ByteSource>>;

Result<Checkpoint> open(const Sources& sources) {
  return sources.size() == 1 ? Checkpoint::open(sources[0]) : Checkpoint::open_shards(sources);
}

Result<std::string> list(const Sources& sources) {
  FLATBED_ASSIGN(const Checkpoint checkpoint, open(sources));
  std::string out;
  for (const TensorInfo& tensor : checkpoint.tensors())
    out += str_cat(tensor.name, " ", tensor.nbytes, "\n");
  return out;
}

Result<std::string> read(const Sources& sources) {
  FLATBED_ASSIGN(const Checkpoint checkpoint, open(sources));
  std::string out;
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    std::string bytes(tensor.nbytes, '?');
    FLATBED_TRY(checkpoint.read(tensor, 0, std::as_writable_bytes(std::span(bytes))));
    out += bytes;
  }
  return out;
}

Result<std::string> load_all(const Sources& sources) {
  FLATBED_ASSIGN(const Checkpoint checkpoint, open(sources));
  std::vector<std::string> memory;
  memory.reserve(checkpoint.tensors().size());
  LoadPlan plan;
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    const std::span<char> to = memory.emplace_back(tensor.nbytes, '?');
    FLATBED_TRY(plan.add(checkpoint, tensor.name,
                         {.data = std::as_writable_bytes(to).data(), .capacity = to.size()}));
  }
  FLATBED_TRY(load(plan, {.threads = 1}));
  std::string out;
  for (const std::string& bytes : memory) out += bytes;
  return out;
}

Result<std::string> verify_all(const Sources& sources) {
  FLATBED_ASSIGN(const Checkpoint checkpoint, open(sources));
  FLATBED_ASSIGN(const VerifyReport report, verify(checkpoint, {.threads = 1}));
  return str_cat(report.chunks_checked, " ", report.damaged.size(), " ", report.crc.checked, " ",
                 report.crc.mismatched);
}

Result<std::string> convert(const Sources& sources) {
  FLATBED_ASSIGN(const Checkpoint checkpoint, open(sources));
  FLATBED_ASSIGN(const SavePlan plan, make_plan(checkpoint));
  const TempDir dir;
  FLATBED_TRY(save(dir / "out", plan, {.sync = false, .threads = 1}));
  return test::read_file(dir / "out");
}

// Where data is missing a scan goes on, and what it has not seen is never plain.
constexpr std::string_view kNotPlain = "not plain";
Result<std::string> scan_all(const Sources& sources) {
  std::string out;
  for (const auto& source : sources) {
    FLATBED_ASSIGN(const ScanReport report, scan(*source));
    if (report.verdict != ScanVerdict::plain) return std::string(kNotPlain);
    out += report.files[0].what;
  }
  return out;
}

using Work = Result<std::string> (*)(const Sources&);
constexpr std::pair<const char*, Work> kWorks[] = {{"list", list},       {"read", read},
                                                   {"load", load_all},   {"verify", verify_all},
                                                   {"convert", convert}, {"scan", scan_all}};

void expect_named_once(const Error& error) {
  const std::size_t at = error.message.find(kLabel);
  EXPECT_NE(at, std::string::npos) << error.message;
  EXPECT_EQ(error.message.find(kLabel, at + 1), std::string::npos) << error.message;
}

class FaultyLayout : public testing::TestWithParam<Case> {
 protected:
  [[nodiscard]] Sources make(const std::shared_ptr<Faults>& faults) const {
    Sources sources;
    for (std::size_t i = 0; i < files_.size(); ++i)
      sources.push_back(std::make_shared<FaultySource>(files_[i], str_cat(kLabel, i), faults));
    return sources;
  }

  // Whatever the work comes to under these faults is right, or an error that names the source once.
  void expect_honest(Work work, const std::string& right,
                     const std::shared_ptr<Faults>& faults) const {
    const Result<std::string> found = work(make(faults));
    if (found) {
      EXPECT_TRUE(*found == right || *found == kNotPlain);
      return;
    }
    const Error& error = found.error();
    // data_truncated: it had shrunk before it was opened.
    EXPECT_TRUE(error.code == ErrorCode::io_error || error.code == ErrorCode::file_changed ||
                error.code == ErrorCode::data_truncated)
        << name(error.code) << " " << error.message;
    expect_named_once(error);
  }

 private:
  const Files files_ = GetParam().make_files();
};

TEST_P(FaultyLayout, EveryReadMayFail) {
  for (const auto& [name, work] : kWorks) {
    SCOPED_TRACE(name);
    const auto sound = std::make_shared<Faults>();
    const Result<std::string> right = work(make(sound));
    ASSERT_OK(right);
    ASSERT_GT(sound->reads, 0u);
    for (std::uint64_t n = 1; n <= sound->reads; ++n) {
      SCOPED_TRACE(n);
      const auto faults = std::make_shared<Faults>();
      faults->fail_at = n;
      expect_honest(work, *right, faults);
    }
  }
}

TEST_P(FaultyLayout, SourcesMayShrinkAtAnyRead) {
  for (const auto& [name, work] : kWorks) {
    SCOPED_TRACE(name);
    const auto sound = std::make_shared<Faults>();
    const Result<std::string> right = work(make(sound));
    ASSERT_OK(right);
    for (std::uint64_t n = 1; n <= sound->reads; ++n) {
      SCOPED_TRACE(n);
      const auto faults = std::make_shared<Faults>();
      faults->shrink_at = n;
      expect_honest(work, *right, faults);
    }
  }
}

TEST_P(FaultyLayout, SourcesThatHaveChangedAreNeitherVerifiedNorConvertedNorScanned) {
  for (const Work work : {verify_all, convert, scan_all}) {
    const auto faults = std::make_shared<Faults>();
    faults->changed = true;
    const Result<std::string> found = work(make(faults));
    EXPECT_ERROR(found, file_changed);
    if (!found) expect_named_once(found.error());
  }
}

TEST_P(FaultyLayout, SlowSourcesAreWaitedFor) {
  const auto faults = std::make_shared<Faults>();
  faults->delay = std::chrono::microseconds(500);
  EXPECT_EQ(load_all(make(faults)).value(), load_all(make(std::make_shared<Faults>())).value());
}

INSTANTIATE_TEST_SUITE_P(Layouts, FaultyLayout, testing::ValuesIn(kCases),
                         [](const auto& layout) { return std::string(layout.param.name); });

}  // namespace
}  // namespace flatbed
