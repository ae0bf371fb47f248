// Checkpoint from what is no path: a source of the caller's, a descriptor, memory, a list of
// shards.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/bytes.hpp"
#include "base/str_cat.hpp"
#include "flatbed/checkpoint.hpp"
#include "flatbed/load.hpp"
#include "flatbed/save.hpp"
#include "flatbed/scan.hpp"
#include "flatbed/verify.hpp"
#include "support/bytes_source.hpp"
#include "support/expect_error.hpp"
#include "support/faulty_source.hpp"
#include "support/read_checkpoint.hpp"
#include "support/temp_dir.hpp"
#include "support/zip_builder.hpp"

namespace flatbed {
namespace {

namespace fs = std::filesystem;
using test::bytes_of;
using test::BytesSource;
using test::Faults;
using test::FaultySource;
using test::names_of;
using test::TempDir;
using test::write_file;
using Names = std::vector<std::string>;

// A sealed file of U8 tensors whose bytes are their names; the writer puts longer ones first.
std::string file_of(const Names& names, std::string* content = nullptr) {
  const TempDir dir;
  SavePlan plan;
  for (const std::string& name : names)
    plan.items.push_back({name, Dtype::u8, {name.size()}, as_bytes(name)});
  const SaveReport report = save(dir / "a", plan, {.sync = false}).value();
  if (content != nullptr) *content = report.content;
  return test::read_file(dir / "a");
}

std::shared_ptr<const ByteSource> source_of(std::string bytes, const std::string& label) {
  return std::make_shared<BytesSource>(std::move(bytes), label);
}

TEST(OpenMemory, ViewsInPlace) {
  const std::string bytes = file_of({"a", "bb"});
  const auto checkpoint = Checkpoint::open_memory(as_bytes(bytes), "the blob");
  ASSERT_OK(checkpoint);
  EXPECT_EQ(names_of(*checkpoint), (Names{"bb", "a"}));
  EXPECT_EQ(checkpoint->files()[0].path, "the blob");
  EXPECT_EQ(checkpoint->files()[0].nbytes, bytes.size());
  EXPECT_EQ(checkpoint->seal(), SealState::sealed);
  const TensorInfo& tensor = *checkpoint->find("bb");
  const auto view = checkpoint->view(tensor);
  ASSERT_OK(view);
  EXPECT_EQ(view->bytes.data(), as_bytes(bytes).data() + tensor.where.offset);
  EXPECT_EQ(bytes_of(*checkpoint, "bb"), "bb");
}

TEST(OpenMemory, NamesTheLabelInErrors) {
  const auto checkpoint = Checkpoint::open_memory(as_bytes("12345678"), "the blob");
  EXPECT_ERROR(checkpoint, header_too_large);
  EXPECT_TRUE(checkpoint.error().message.starts_with("the blob: "));
}

TEST(OpenDescriptor, LeavesTheDescriptorToTheCaller) {
  const TempDir dir;
  write_file(dir / "a", file_of({"a", "bb"}));
  const int descriptor = ::open((dir / "a").c_str(), O_RDONLY | O_CLOEXEC);
  const auto checkpoint = Checkpoint::open_descriptor(descriptor, "the model");
  ASSERT_OK(checkpoint);
  EXPECT_EQ(::close(descriptor), 0);
  fs::remove(dir / "a");
  EXPECT_EQ(bytes_of(*checkpoint, "bb"), "bb");
  EXPECT_EQ(as_text(checkpoint->view(*checkpoint->find("a"))->bytes), "a");
  EXPECT_EQ(checkpoint->files()[0].path, "the model");
  EXPECT_OK(verify(*checkpoint));
}

TEST(OpenDescriptor, NamesTheLabelInErrors) {
  const auto none = Checkpoint::open_descriptor(-1, "the model");
  EXPECT_ERROR(none, io_error);
  EXPECT_NE(none.error().message.find("the model"), std::string::npos);
}

TEST(OpenSource, HasNoViewsWithoutMemoryOrDescriptor) {
  const auto checkpoint = Checkpoint::open(
      std::make_shared<FaultySource>(file_of({"a", "bb"}), "s3://a", std::make_shared<Faults>()));
  ASSERT_OK(checkpoint);
  const auto view = checkpoint->view(*checkpoint->find("a"));
  EXPECT_ERROR(view, not_viewable);
  EXPECT_NE(view.error().message.find("s3://a"), std::string::npos);
  EXPECT_EQ(bytes_of(*checkpoint, "bb"), "bb");
}

TEST(OpenSource, KeepsItsSourceUntilTheLastCopyIsGone) {
  auto source = source_of(file_of({"a"}), "s3://a");
  const std::weak_ptr<const ByteSource> watched = source;
  {
    const Checkpoint checkpoint = Checkpoint::open(std::move(source)).value();
    EXPECT_FALSE(watched.expired());
    EXPECT_EQ(bytes_of(checkpoint.select({.include = {"a"}}).value(), "a"), "a");
  }
  EXPECT_TRUE(watched.expired());
}

TEST(OpenSource, HasNoSidecar) {
  const TempDir dir;
  write_file(dir / "a.flatbed.json", "no seal");
  const auto checkpoint = Checkpoint::open(source_of(file_of({"a"}), (dir / "a").native()));
  ASSERT_OK(checkpoint);
  EXPECT_TRUE(checkpoint->notes().empty());
}

TEST(OpenSource, RefusesNullAndIndexes) {
  EXPECT_ERROR(Checkpoint::open(std::shared_ptr<const ByteSource>()), invalid_argument);
  EXPECT_ERROR(Checkpoint::open(source_of(R"({"weight_map":{"a":"b"}})", "s3://index")),
               unsupported_format);
}

// A file of 20 MiB in one tensor.
std::string large_file() {
  const TempDir dir;
  const std::string data(20 << 20, 'x');
  SavePlan plan;
  plan.items.push_back({"w", Dtype::u8, {data.size()}, as_bytes(data)});
  static_cast<void>(save(dir / "a", plan, {.sync = false}).value());
  return test::read_file(dir / "a");
}

// Bytes of the largest read of a load from a source that prefers `preferred`.
std::uint64_t largest_read(std::size_t preferred) {
  const auto faults = std::make_shared<Faults>();
  faults->preferred_read_nbytes = preferred;
  const Checkpoint checkpoint =
      Checkpoint::open(std::make_shared<FaultySource>(large_file(), "s3://a", faults)).value();
  std::string memory(20 << 20, '?');
  LoadPlan plan;
  EXPECT_OK(plan.add(
      checkpoint, "w",
      {.data = std::as_writable_bytes(std::span(memory)).data(), .capacity = memory.size()}));
  const auto report = load(plan, {.io = IoMode::direct, .threads = 2});
  EXPECT_OK(report);
  EXPECT_EQ(memory, std::string(20 << 20, 'x'));
  return faults->largest;
}

TEST(OpenSource, IsLoadedInReadsOfTheSizeThatItPrefers) {
  EXPECT_LE(largest_read(4096), 8U << 20);
  EXPECT_GE(largest_read(4 << 20), 3U << 20);
}

TEST(OpenShards, TakesEveryTensorOfFilesInTheOrderGiven) {
  const TempDir dir;
  write_file(dir / "2", file_of({"b", "c"}));
  write_file(dir / "1", file_of({"a"}));
  const auto set = Checkpoint::open_shards(std::vector<fs::path>{dir / "2", dir / "1"});
  ASSERT_OK(set);
  EXPECT_EQ(names_of(*set), (Names{"b", "c", "a"}));
  EXPECT_EQ(set->files()[0].path, dir / "2");
  EXPECT_EQ(set->seal(), SealState::sealed);
  for (const std::string name : {"a", "b", "c"}) EXPECT_EQ(bytes_of(*set, name), name);
  EXPECT_EQ(as_text(set->view(*set->find("a"))->bytes), "a");
  EXPECT_EQ(verify(*set)->chunks_checked, 3u);
  EXPECT_NE(set->find("a")->storage, set->find("b")->storage);
}

TEST(OpenShards, TakesSources) {
  const auto set = Checkpoint::open_shards(
      std::vector{source_of(file_of({"a"}), "s3://1"), source_of(file_of({"b"}), "s3://2")});
  ASSERT_OK(set);
  EXPECT_EQ(names_of(*set), (Names{"a", "b"}));
  EXPECT_EQ(set->files()[1].path, "s3://2");
  EXPECT_EQ(bytes_of(*set, "b"), "b");
}

TEST(OpenShards, TakesTensorsAndAliasesOfPyTorchFiles) {
  namespace pickle = test::pickle;
  const std::string zip = test::torch_zip(
      {.pickle = pickle::finish(pickle::dict(
           {pickle::text("embed"), pickle::tensor(), pickle::text("head"), pickle::tensor()}))});
  const auto set = Checkpoint::open_shards(
      std::vector{source_of(zip, "s3://1"), source_of(file_of({"norm"}), "s3://2")});
  ASSERT_OK(set);
  EXPECT_EQ(names_of(*set), (Names{"embed", "norm"}));
  EXPECT_EQ(set->find("head"), set->find("embed"));
}

TEST(OpenShards, NamesBothShardsOfACollision) {
  const auto set = Checkpoint::open_shards(std::vector{source_of(file_of({"a", "b"}), "s3://1"),
                                                       source_of(file_of({"c"}), "s3://2"),
                                                       source_of(file_of({"b"}), "s3://3")});
  EXPECT_ERROR(set, name_collision);
  EXPECT_NE(set.error().message.find("'b': 's3://1' and 's3://3'"), std::string::npos)
      << set.error().message;
}

TEST(OpenShards, NamesTheShardThatIsWrong) {
  const TempDir dir;
  write_file(dir / "1", file_of({"a"}));
  write_file(dir / "2", "12345678");
  const auto broken = Checkpoint::open_shards(std::vector<fs::path>{dir / "1", dir / "2"});
  EXPECT_ERROR(broken, header_too_large);
  EXPECT_TRUE(broken.error().message.starts_with((dir / "2").native()));
  EXPECT_ERROR(Checkpoint::open_shards(std::vector<fs::path>{dir / "3"}), file_not_found);
  EXPECT_ERROR(Checkpoint::open_shards(std::vector<fs::path>{}), invalid_argument);
  EXPECT_ERROR(Checkpoint::open_shards(std::vector<std::shared_ptr<const ByteSource>>{nullptr}),
               invalid_argument);
}

TEST(OpenShards, FollowsNoLinksWhereTheyAreNotAllowed) {
  const TempDir dir;
  write_file(dir / "1", file_of({"a"}));
  fs::create_symlink(dir / "1", dir / "2");
  const std::vector<fs::path> paths{dir / "2"};
  EXPECT_OK(Checkpoint::open_shards(paths));
  EXPECT_ERROR(Checkpoint::open_shards(paths, {.follow_links = false}), shard_link_refused);
}

// Lowers the limit on descriptors to `count` more than the process has open.
class FewDescriptors {
 public:
  explicit FewDescriptors(rlim_t count) {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    rlim_t open = 0;
    for (const auto& entry : fs::directory_iterator("/proc/self/fd")) {
      open = std::max<rlim_t>(open, std::stoul(entry.path().filename().native()) + 1);
    }
    rlimit few = before_;
    few.rlim_cur = std::min(before_.rlim_cur, open + count);
    ::setrlimit(RLIMIT_NOFILE, &few);
  }
  FewDescriptors(const FewDescriptors&) = delete;
  FewDescriptors& operator=(const FewDescriptors&) = delete;
  ~FewDescriptors() { ::setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_ = {};
};

// 300 shards of one tensor each, and their index.
class ManyShards : public testing::Test {
 protected:
  static constexpr int kCount = 300;

  void SetUp() override {
    std::string map;
    for (int i = 0; i < kCount; ++i) {
      const std::string name = str_cat("t", i);
      const std::string file = str_cat(name, ".safetensors");
      write_file(dir_ / file, file_of({name}));
      map += str_cat(i == 0 ? "" : ",", "\"", name, "\":\"", file, "\"");
    }
    write_file(dir_ / "m.safetensors.index.json", str_cat("{\"weight_map\":{", map, "}}"));
  }

  TempDir dir_;
};

TEST_F(ManyShards, AreOpenedReadVerifiedLoadedAndScannedWithFewDescriptors) {
  const FewDescriptors few(100);
  const auto set = Checkpoint::open(dir_.path());
  ASSERT_OK(set);
  ASSERT_EQ(set->files().size(), std::size_t{kCount});
  for (const std::string name : {"t0", "t150", "t299"}) {
    EXPECT_EQ(bytes_of(*set, name), name);
    EXPECT_EQ(as_text(set->view(*set->find(name))->bytes), name);
  }
  EXPECT_EQ(verify(*set)->chunks_checked, std::uint64_t{kCount});
  for (const IoMode io : {IoMode::automatic, IoMode::direct}) {
    std::string memory(kCount * 8, '?');
    LoadPlan plan;
    for (std::uint64_t i = 0; i < kCount; ++i) {
      const auto at = std::as_writable_bytes(std::span(memory)).subspan(i * 8, 8);
      EXPECT_OK(plan.add(*set, str_cat("t", i), {.data = at.data(), .capacity = 8}));
    }
    EXPECT_OK(load(plan, {.io = io}));
    EXPECT_EQ(memory.substr(299 * 8, 4), "t299");
  }
  EXPECT_EQ(scan(dir_.path())->files.size(), std::size_t{kCount} + 1);  // and the index
}

TEST_F(ManyShards, AreNotReadOnAfterOneWasReplaced) {
  const FewDescriptors few(100);
  const auto set = Checkpoint::open(dir_.path());
  ASSERT_OK(set);
  write_file(dir_ / "new", file_of({"t0"}));
  fs::rename(dir_ / "new", dir_ / "t0.safetensors");
  std::string out(2, '?');
  const auto done = set->read(*set->find("t0"), 0, std::as_writable_bytes(std::span(out)));
  EXPECT_ERROR(done, file_changed);
  EXPECT_NE(done.error().message.find("t0.safetensors"), std::string::npos);
  EXPECT_EQ(bytes_of(*set, "t150"), "t150");
}

}  // namespace
}  // namespace flatbed
