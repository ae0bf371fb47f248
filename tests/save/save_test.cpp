// save() and save_sidecar(): what is written, what is refused, and that nothing is lost on the way.
#include "flatbed/save.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <string>
#include <utility>
#include <vector>

#include "base/bytes.hpp"
#include "base/str_cat.hpp"
#include "flatbed/save_plan.hpp"
#include "flatbed/save_torch.hpp"
#include "io/digest.hpp"
#include "support/expect_error.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

using test::read_file;
using test::TempDir;
using test::write_file;
using Names = std::vector<std::string>;

constexpr std::size_t kChunk = 262'144;

std::string pattern(std::size_t nbytes, unsigned seed) {
  std::string bytes(nbytes, '\0');
  std::uint64_t state = seed;
  for (char& byte : bytes) {
    state = state * 6364136223846793005 + 1442695040888963407;
    byte = static_cast<char>(state >> 56);
  }
  return bytes;
}

SaveItem u8_item(std::string name, std::string_view bytes) {
  return {std::move(name), Dtype::u8, {bytes.size()}, as_bytes(bytes)};
}

SavePlan plan_of(std::vector<SaveItem> items) {
  SavePlan plan;
  plan.items = std::move(items);
  return plan;
}

std::string read_tensor(const Checkpoint& checkpoint, std::string_view name) {
  const TensorInfo* tensor = checkpoint.find(name);
  if (tensor == nullptr) return "no such tensor";
  std::string bytes(tensor->nbytes, '\0');
  const Result<void> read = checkpoint.read(*tensor, 0, std::as_writable_bytes(std::span(bytes)));
  return read ? bytes : read.error().message;
}

// A file with large, small and empty tensors that share pieces in every way.
struct Mixed {
  std::string large = pattern(5 * kChunk + 4096, 1);
  std::string page = pattern(4096, 2);
  std::string odd = pattern(2 * kChunk + 1, 3);
  std::string tiny = "abc";

  [[nodiscard]] SavePlan plan() const {
    SavePlan plan = plan_of({u8_item("tiny", tiny), u8_item("odd", odd), u8_item("page", page),
                             u8_item("large", large), u8_item("empty", {})});
    for (std::size_t i = 0; i < 300; ++i) {
      plan.items.push_back(u8_item(str_cat("many.", i), std::string_view(odd).substr(i, 7)));
    }
    return plan;
  }
};

TEST(Save, WritesTheExampleOfTheSpecification) {
  const TempDir dir;
  const std::string zeros(4096, '\0');
  SavePlan plan;
  plan.items.push_back({"e", Dtype::f32, {0}, std::span<const std::byte>()});
  plan.items.push_back({"k", Dtype::f32, {1024}, as_bytes(zeros)});
  plan.items.push_back({"w", Dtype::u8, {3}, as_bytes("abc")});
  const NodeId root = plan.tree.add_dict();
  plan.tree.set_item(root, plan.tree.add_string("epoch"), plan.tree.add_integer(3));
  plan.tree.set_item(root, plan.tree.add_string("w"), plan.tree.add_tensor(2, {}));
  plan.tree.set_root(root);

  const Result<SaveReport> report = save(dir / "out", plan);
  ASSERT_OK(report);
  EXPECT_EQ(report->durability, Durability::committed);
  EXPECT_EQ(report->nbytes, 8195u);
  EXPECT_EQ(report->header_nbytes, 4096u);
  EXPECT_EQ(report->content, "a51077c2dc79f33f");
  const std::string json =
      R"({"__metadata__":{"flatbed":"feecf195512f7515/1/a51077c2dc79f33f",)"
      R"("flatbed.digests":"93d76fe148c689ba78af5f94892f3950",)"
      R"("flatbed.tree":"[\"dict\",\"epoch\",3,\"w\",[\"tensor\",\"w\"]]","format":"pt"},)"
      R"("e":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},)"
      R"("k":{"dtype":"F32","shape":[1024],"data_offsets":[0,4096]},)"
      R"("w":{"dtype":"U8","shape":[3],"data_offsets":[4096,4099]}})";
  const std::string length("\xF8\x0F\0\0\0\0\0\0", 8);
  EXPECT_EQ(read_file(dir / "out"),
            length + json + std::string(4088 - json.size(), ' ') + zeros + "abc");
  EXPECT_EQ(dir.names(), Names{"out"});
}

TEST(Save, WritesWhatCheckpointReads) {
  const TempDir dir;
  const Mixed mixed;
  SavePlan plan = mixed.plan();
  plan.metadata = {{"format", "np"}, {"author", "somebody"}};
  plan.aliases = {{"other", "tiny"}};
  ASSERT_OK(save(dir / "out", plan));

  const Result<Checkpoint> checkpoint = Checkpoint::open(dir / "out");
  ASSERT_OK(checkpoint);
  EXPECT_EQ(checkpoint->seal(), SealState::sealed);
  EXPECT_EQ(checkpoint->tensors().size(), 305u);
  EXPECT_TRUE(read_tensor(*checkpoint, "large") == mixed.large);
  EXPECT_TRUE(read_tensor(*checkpoint, "odd") == mixed.odd);
  EXPECT_TRUE(read_tensor(*checkpoint, "page") == mixed.page);
  EXPECT_EQ(read_tensor(*checkpoint, "tiny"), "abc");
  EXPECT_EQ(read_tensor(*checkpoint, "other"), "abc");
  EXPECT_EQ(read_tensor(*checkpoint, "empty"), "");
  EXPECT_EQ(read_tensor(*checkpoint, "many.299"), mixed.odd.substr(299, 7));
  EXPECT_EQ(checkpoint->find("large")->where.offset % 4096, 0u);
}

TEST(Save, WritesTheSameBytesWithAnyNumberOfThreads) {
  const TempDir dir;
  const Mixed mixed;
  ASSERT_OK(save(dir / "one", mixed.plan(), {.threads = 1}));
  ASSERT_OK(save(dir / "zero", mixed.plan(), {.threads = 0}));
  ASSERT_OK(save(dir / "many", mixed.plan(), {.threads = 1000}));
  const std::string one = read_file(dir / "one");
  EXPECT_TRUE(read_file(dir / "many") == one);
  EXPECT_TRUE(read_file(dir / "zero") == one);
}

TEST(Save, OfASavedFileIsThatFile) {
  const TempDir dir;
  const Mixed mixed;
  ASSERT_OK(save(dir / "first", mixed.plan()));
  const Result<Checkpoint> checkpoint = Checkpoint::open(dir / "first");
  ASSERT_OK(checkpoint);
  const Result<SavePlan> plan = make_plan(*checkpoint);
  ASSERT_OK(plan);
  ASSERT_OK(save(dir / "second", *plan));
  EXPECT_TRUE(read_file(dir / "second") == read_file(dir / "first"));

  ASSERT_OK(save(dir / "first", *plan)) << "over its own source";
  EXPECT_TRUE(read_file(dir / "second") == read_file(dir / "first"));
}

TEST(Save, WithoutSealWritesNoFlatbedKey) {
  const TempDir dir;
  SavePlan plan = plan_of({u8_item("w", "abc")});
  plan.aliases = {{"v", "w"}};
  plan.tree.set_root(plan.tree.add_none());
  const Result<SaveReport> report = save(dir / "out", plan, {.seal = false});
  ASSERT_OK(report);
  EXPECT_EQ(report->content, "");
  EXPECT_EQ(read_file(dir / "out").find("flatbed"), std::string::npos);
  const Result<Checkpoint> checkpoint = Checkpoint::open(dir / "out");
  ASSERT_OK(checkpoint);
  EXPECT_EQ(checkpoint->seal(), SealState::unsealed);
}

// The bytes that safetensors 0.8.0 writes for the same tensors.
TEST(Save, WritesWhatTheReferenceWritesIfAsked) {
  const TempDir dir;
  const std::string bytes = pattern(24, 1);
  SavePlan plan = plan_of({u8_item("b", std::string_view(bytes).substr(16, 8)),
                           {"a", Dtype::i32, {2, 2}, as_bytes(bytes).first(16)}});
  SaveOptions options{.seal = false, .layout = FileLayout::safetensors};
  ASSERT_OK(save(dir / "a", plan, options));
  const std::string json = R"({"a":{"dtype":"I32","shape":[2,2],"data_offsets":[0,16]},)"
                           R"("b":{"dtype":"U8","shape":[8],"data_offsets":[16,24]}})";
  EXPECT_EQ(read_file(dir / "a"), std::string("\x70\0\0\0\0\0\0\0", 8) + json +
                                      std::string(112 - json.size(), ' ') + bytes);
  options.empty_metadata = true;
  ASSERT_OK(save(dir / "b", plan, options));
  EXPECT_EQ(read_file(dir / "b").substr(8, 21), R"({"__metadata__":{},"a)");
  options.seal = true;
  EXPECT_ERROR(save(dir / "c", plan, options), invalid_argument);
  EXPECT_FALSE(std::filesystem::exists(dir / "c"));
}

TEST(SaveMemory, WritesTheBytesOfTheFile) {
  const TempDir dir;
  const Mixed mixed;
  for (const bool seal : {true, false}) {
    SaveOptions options{.seal = seal};
    ASSERT_OK(save(dir / "a", mixed.plan(), options));
    std::string memory;
    const AllocateFile allocate = [&](std::uint64_t nbytes) -> Result<std::span<std::byte>> {
      memory.assign(nbytes, '?');
      return std::as_writable_bytes(std::span(memory));
    };
    const Result<SaveReport> report = save_memory(mixed.plan(), allocate, options);
    ASSERT_OK(report);
    EXPECT_EQ(report->nbytes, memory.size());
    EXPECT_EQ(report->content.empty(), !seal);
    EXPECT_TRUE(memory == read_file(dir / "a"));
    memory.clear();
    options.dry_run = true;
    EXPECT_EQ(save_memory(mixed.plan(), allocate, options).value().nbytes, report->nbytes);
    EXPECT_TRUE(memory.empty());
  }
}

TEST(SaveMemory, ReturnsTheErrorsOfItsAllocator) {
  const SavePlan plan = plan_of({u8_item("a", "abc")});
  std::array<std::byte, 3> small{};
  EXPECT_ERROR(save_memory(plan,
                           [](std::uint64_t) -> Result<std::span<std::byte>> {
                             return make_error(ErrorCode::resource_exhausted, "none left");
                           }),
               resource_exhausted);
  EXPECT_ERROR(save_memory(plan,
                           [&](std::uint64_t) -> Result<std::span<std::byte>> {
                             return std::span<std::byte>(small);
                           }),
               buffer_too_small);
}

TEST(Save, WritesAFileWithoutTensors) {
  const TempDir dir;
  ASSERT_OK(save(dir / "out", SavePlan{}));
  const Result<Checkpoint> checkpoint = Checkpoint::open(dir / "out");
  ASSERT_OK(checkpoint);
  EXPECT_EQ(checkpoint->seal(), SealState::sealed);
}

TEST(Save, GathersTensorsThatATorchFileStoresStrided) {
  const TempDir dir;
  const Result<Checkpoint> source = Checkpoint::open(FLATBED_FIXTURES_DIR "/torch1/views.pth");
  ASSERT_OK(source);
  const Result<SavePlan> plan = make_plan(*source);
  ASSERT_OK(plan);
  ASSERT_OK(save(dir / "out", *plan));
  const Result<Checkpoint> copy = Checkpoint::open(dir / "out");
  ASSERT_OK(copy);
  bool strided = false;
  for (const TensorInfo& tensor : source->tensors()) {
    strided = strided || tensor.stored == Stored::strided;
    EXPECT_EQ(read_tensor(*copy, tensor.name), read_tensor(*source, tensor.name)) << tensor.name;
  }
  EXPECT_TRUE(strided);
}

TEST(Save, RefusesBytesThatDoNotFitTheShape) {
  const TempDir dir;
  const std::string bytes(8, 'x');
  const auto save_as = [&](Dtype dtype, std::vector<std::uint64_t> shape) {
    return save(dir / "out", plan_of({{"w", dtype, std::move(shape), as_bytes(bytes)}}));
  };
  EXPECT_OK(save_as(Dtype::f32, {2}));
  EXPECT_OK(save_as(Dtype::f64, {}));
  EXPECT_OK(save_as(Dtype::f4, {16}));
  const Result<SaveReport> wrong = save_as(Dtype::f32, {2, 2});
  EXPECT_ERROR(wrong, shape_mismatch);
  EXPECT_EQ(wrong.error().message, "tensor 'w': wrong size: found 8 bytes, F32 [2,2] needs 16");
  EXPECT_ERROR(save_as(Dtype::f4, {15}), shape_mismatch);
  EXPECT_ERROR(save_as(Dtype::u8, {0}), shape_mismatch);
  constexpr std::uint64_t kBig = std::uint64_t{1} << 40;
  EXPECT_ERROR(save_as(Dtype::u8, {kBig, kBig, 8}), shape_mismatch);
  EXPECT_ERROR(save(dir / "out", plan_of({{"w", Dtype::u8, {kBig, kBig, 0}, as_bytes("")}})),
               shape_mismatch);
}

TEST(Save, RefusesNamesThatCollide) {
  const TempDir dir;
  EXPECT_ERROR(save(dir / "out", plan_of({u8_item("w", "a"), u8_item("w", "b")})), name_collision);
  EXPECT_ERROR(save(dir / "out", plan_of({u8_item("__metadata__", "a")})), invalid_argument);

  SavePlan plan = plan_of({u8_item("w", "a")});
  plan.aliases = {{"v", "w"}};
  EXPECT_OK(save(dir / "out", plan));
  plan.aliases = {{"w", "w"}};
  EXPECT_ERROR(save(dir / "out", plan), name_collision);
  plan.aliases = {{"v", "w"}, {"v", "w"}};
  EXPECT_ERROR(save(dir / "out", plan), name_collision);
  plan.aliases = {{"v", "none"}};
  EXPECT_ERROR(save(dir / "out", plan), invalid_argument);
  plan.aliases = {{"v", "w"}, {"u", "v"}};
  EXPECT_ERROR(save(dir / "out", plan), invalid_argument);
}

TEST(Save, RefusesMetadataThatIsItsOwn) {
  const TempDir dir;
  SavePlan plan = plan_of({u8_item("w", "a")});
  plan.metadata = {{"flatbed", "x"}};
  EXPECT_ERROR(save(dir / "out", plan), invalid_argument);
  plan.metadata = {{"flatbed.tree", "null"}};
  EXPECT_ERROR(save(dir / "out", plan, {.seal = false}), invalid_argument);
  plan.metadata = {{"k", "1"}, {"k", "2"}};
  EXPECT_ERROR(save(dir / "out", plan), invalid_argument);
  plan.metadata = {{"flatbeds", "x"}, {"k", "1"}};
  EXPECT_OK(save(dir / "out", plan));
}

TEST(Save, RefusesATensorThatTheSourceDoesNotHave) {
  const TempDir dir;
  ASSERT_OK(save(dir / "a", plan_of({u8_item("w", "abc")})));
  const Checkpoint source = Checkpoint::open(dir / "a").value();
  EXPECT_OK(save(dir / "b", plan_of({{"w", Dtype::u8, {3}, TensorRef{source, 0}}})));
  EXPECT_ERROR(save(dir / "b", plan_of({{"w", Dtype::u8, {3}, TensorRef{source, 1}}})),
               invalid_argument);
}

// Flips one bit of the last byte.
void damage_end(const std::filesystem::path& path) {
  std::string bytes = read_file(path);
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  write_file(path, bytes);
}

TEST(Save, NeverCopiesDamageSilently) {
  const TempDir dir;
  const std::string bytes = pattern(kChunk + 10, 1);
  ASSERT_OK(save(dir / "a", plan_of({u8_item("w", bytes)})));
  damage_end(dir / "a");
  const Checkpoint source = Checkpoint::open(dir / "a").value();
  write_file(dir / "b", "old");
  for (const bool seal : {true, false}) {
    const Result<SaveReport> report = save(dir / "b", make_plan(source).value(), {.seal = seal});
    EXPECT_ERROR(report, chunk_corrupt);
    EXPECT_NE(report.error().message.find("tensor 'w': chunk 1, bytes [262144,262154)"),
              std::string::npos)
        << report.error().message;
    EXPECT_NE(report.error().message.find((dir / "a").native()), std::string::npos);
  }
  EXPECT_TRUE(read_file(dir / "b") == "old");
  EXPECT_EQ(dir.names(), (Names{"a", "b"}));
}

TEST(Save, SaysThatItsSourceChanged) {
  const TempDir dir;
  ASSERT_OK(save(dir / "a", plan_of({u8_item("w", "abc")}), {.seal = false}));
  const Checkpoint source = Checkpoint::open(dir / "a").value();
  const SavePlan plan = make_plan(source).value();
  ASSERT_OK(save(dir / "b", plan));
  const std::array<timespec, 2> times{timespec{1, 0}, timespec{1, 0}};
  ASSERT_EQ(::utimensat(AT_FDCWD, (dir / "a").c_str(), times.data(), 0), 0);
  EXPECT_ERROR(save(dir / "b", plan), file_changed);
  ASSERT_EQ(::truncate((dir / "a").c_str(), 100), 0);
  EXPECT_ERROR(save(dir / "b", plan), file_changed);
  EXPECT_OK(Checkpoint::open(dir / "b"));
}

TEST(Save, StopsAndCleansUpWhenCancelled) {
  const TempDir dir;
  const Mixed mixed;
  write_file(dir / "out", "old");
  std::atomic<bool> cancel = true;
  EXPECT_ERROR(save(dir / "out", mixed.plan(), {.cancel = &cancel}), cancelled);
  EXPECT_TRUE(read_file(dir / "out") == "old");
  EXPECT_EQ(dir.names(), Names{"out"});
  cancel = false;
  EXPECT_OK(save(dir / "out", mixed.plan(), {.cancel = &cancel}));
}

// Also when the last byte was written, but nothing is committed yet.
TEST(Save, CanBeCancelledFromItsProgress) {
  const TempDir dir;
  const Mixed mixed;
  std::atomic<bool> cancel = false;
  const pthread_t caller = pthread_self();
  SaveOptions options;
  options.cancel = &cancel;
  options.progress = [&](const Progress& progress) -> Result<void> {
    EXPECT_TRUE(pthread_equal(caller, pthread_self()));
    cancel = progress.bytes_done == progress.bytes_total;
    return {};
  };
  EXPECT_ERROR(save(dir / "out", mixed.plan(), options), cancelled);
  EXPECT_TRUE(dir.names().empty());
}

// The last call comes when every byte of data is written.
TEST(Save, ReturnsTheErrorOfItsProgressAndWritesNothing) {
  const TempDir dir;
  const Mixed mixed;
  write_file(dir / "out", "old");
  SaveOptions options;
  options.progress = [&](const Progress& progress) -> Result<void> {
    if (progress.bytes_done != progress.bytes_total) return {};
    return make_error(ErrorCode::device_error, "the engine gave up");
  };
  const Result<SaveReport> saved = save(dir / "out", mixed.plan(), options);
  EXPECT_ERROR(saved, device_error);
  EXPECT_EQ(saved.error().message, "the engine gave up");
  EXPECT_TRUE(read_file(dir / "out") == "old");
  EXPECT_EQ(dir.names(), Names{"out"});
}

TEST(Save, ReplacesOnlyWhenItMay) {
  const TempDir dir;
  write_file(dir / "out", "old");
  const SavePlan plan = plan_of({u8_item("w", "abc")});
  EXPECT_ERROR(save(dir / "out", plan, {.replace = false}), file_exists);
  EXPECT_TRUE(read_file(dir / "out") == "old");
  EXPECT_OK(save(dir / "out", plan));
}

TEST(Save, OnlyChecksInADryRun) {
  const TempDir dir;
  write_file(dir / "out", "old");
  const SavePlan plan = plan_of({u8_item("w", "abc")});
  const Result<SaveReport> report = save(dir / "out", plan, {.dry_run = true});
  ASSERT_OK(report);
  EXPECT_EQ(report->nbytes, 4099u);
  EXPECT_EQ(report->header_nbytes, 4096u);
  EXPECT_EQ(report->content, "");
  EXPECT_ERROR(
      save(dir / "out", plan_of({u8_item("w", "a"), u8_item("w", "b")}), {.dry_run = true}),
      name_collision);
  EXPECT_EQ(read_file(dir / "out"), "old");
  EXPECT_EQ(dir.names(), Names{"out"});
}

TEST(Save, FindsInADryRunWhatTheRunWould) {
  const TempDir dir;
  write_file(dir / "out", "old");
  const SavePlan plan = plan_of({u8_item("w", "abc")});
  for (const bool dry : {true, false}) {
    SaveTorchOptions torch;
    torch.file = {.replace = false, .dry_run = dry};
    EXPECT_ERROR(save(dir / "no/out", plan, torch.file), file_not_found);
    EXPECT_ERROR(save_torch(dir / "no/out", plan, torch), file_not_found);
    EXPECT_ERROR(save(dir / "out", plan, torch.file), file_exists);
    EXPECT_ERROR(save_torch(dir / "out", plan, torch), file_exists);
  }
  EXPECT_EQ(dir.names(), Names{"out"});
}

TEST(Save, ASidecarIsNotWrittenInADryRun) {
  const TempDir dir;
  ASSERT_OK(save(dir / "a", plan_of({u8_item("w", "abc")}), {.seal = false}));
  const Result<SaveReport> dry = save_sidecar(dir / "a", {.dry_run = true});
  ASSERT_OK(dry);
  EXPECT_EQ(dir.names(), Names{"a"});
  const Result<SaveReport> report = save_sidecar(dir / "a");
  ASSERT_OK(report);
  EXPECT_EQ(dry->nbytes, report->nbytes);
}

TEST(Save, SaysWhenItDidNotSync) {
  const TempDir dir;
  const Result<SaveReport> report =
      save(dir / "out", plan_of({u8_item("w", "abc")}), {.sync = false});
  ASSERT_OK(report);
  EXPECT_EQ(report->durability, Durability::durability_unknown);
  EXPECT_NE(report->durability_note, "");
}

TEST(Save, MeetsALimitBeforeTheFirstByte) {
  const TempDir dir;
  write_file(dir / "out", "old");
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const rlimit limit = {5000, 5000};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    const std::string bytes(5000, 'x');
    const Result<SaveReport> report = save(dir / "out", plan_of({u8_item("w", bytes)}));
    ::_exit(!report && report.error().code == ErrorCode::no_space ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_TRUE(read_file(dir / "out") == "old");
  EXPECT_EQ(dir.names(), Names{"out"});
}

TEST(Sidecar, SealsAFileWithoutTouchingIt) {
  const TempDir dir;
  const Mixed mixed;
  ASSERT_OK(save(dir / "w.safetensors", mixed.plan(), {.seal = false}));
  const std::string before = read_file(dir / "w.safetensors");
  const Result<SaveReport> report = save_sidecar(dir / "w.safetensors");
  ASSERT_OK(report);
  EXPECT_EQ(report->content.size(), 16u);
  EXPECT_TRUE(read_file(dir / "w.safetensors") == before);
  EXPECT_EQ(dir.names(), (Names{"w.safetensors", "w.safetensors.flatbed.json"}));

  const Result<Checkpoint> checkpoint = Checkpoint::open(dir / "w.safetensors");
  ASSERT_OK(checkpoint);
  EXPECT_EQ(checkpoint->seal(), SealState::sealed);
  EXPECT_TRUE(checkpoint->files()[0].sidecar);
  EXPECT_EQ(checkpoint->files()[0].content, report->content);
  EXPECT_TRUE(read_tensor(*checkpoint, "large") == mixed.large);
}

TEST(Sidecar, HoldsTheTwoKeysOfTheSpecification) {
  const TempDir dir;
  ASSERT_OK(save(dir / "w", plan_of({u8_item("w", "abc")}), {.seal = false}));
  const Result<SaveReport> report = save_sidecar(dir / "w");
  ASSERT_OK(report);
  const std::string file = read_file(dir / "w");
  const std::string header = hex16(xxh3(as_bytes(file.substr(0, file.size() - 3))));
  EXPECT_EQ(read_file(dir / "w.flatbed.json"),
            str_cat("{\"flatbed\":\"", header, "/1/", report->content,
                    "\",\"flatbed.digests\":\"78af5f94892f3950\"}"));
}

TEST(Sidecar, IsReplacedByALaterOne) {
  const TempDir dir;
  ASSERT_OK(save(dir / "w", plan_of({u8_item("w", "abc")}), {.seal = false}));
  write_file(dir / "w.flatbed.json", "not JSON");
  EXPECT_ERROR(Checkpoint::open(dir / "w"), sidecar_malformed);
  EXPECT_ERROR(save_sidecar(dir / "w", {.replace = false}), file_exists);
  EXPECT_OK(save_sidecar(dir / "w"));
  EXPECT_OK(Checkpoint::open(dir / "w", {.check_seal = CheckSeal::required}));
}

TEST(Sidecar, IsRefusedWhereNoReaderWouldUseIt) {
  const TempDir dir;
  ASSERT_OK(save(dir / "sealed", plan_of({u8_item("w", "abc")})));
  EXPECT_ERROR(save_sidecar(dir / "sealed"), invalid_argument);
  EXPECT_ERROR(save_sidecar(FLATBED_FIXTURES_DIR "/torch1/views.pth"), invalid_argument);
  EXPECT_ERROR(save_sidecar(dir / "none"), file_not_found);
  EXPECT_EQ(dir.names(), Names{"sealed"});
}

}  // namespace
}  // namespace flatbed
