// Checkpoint: lookup, views and reads of one file; what is verified when; what other threads and
// other processes may do meanwhile. Real names and trees are tested by the vectors and fixtures.
#include "flatbed/checkpoint.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "base/bytes.hpp"
#include "base/str_cat.hpp"
#include "flatbed/save.hpp"
#include "flatbed/verify.hpp"
#include "support/expect_error.hpp"
#include "support/temp_dir.hpp"
#include "support/zip_builder.hpp"

namespace flatbed {
namespace {

using test::read_file;
using test::TempDir;
using test::write_file;

constexpr std::uint64_t kChunk = 262'144;
constexpr std::uint64_t kBig = 3 * kChunk + 77;

std::string noise(std::size_t size) {
  std::minstd_rand random(5);
  std::string out(size, '\0');
  for (char& c : out) c = static_cast<char>(random() >> 8);
  return out;
}

// "big" with 4 chunks, "w" F32 [2], "empty", an alias "head" of "w", and the tree
// {"model": {"w": w, "big": big}, "epoch": 3}.
void write_example(const std::filesystem::path& path, bool seal = true) {
  const std::string big = noise(kBig);
  SavePlan plan;
  plan.items.push_back({"model.w", Dtype::f32, {2}, as_bytes("12345678")});
  plan.items.push_back({"model.big", Dtype::u8, {kBig}, as_bytes(big)});
  plan.items.push_back({"empty", Dtype::f32, {0, 7}, std::span<const std::byte>()});
  plan.aliases.push_back({"head", "model.w"});
  ValueTree& tree = plan.tree;
  const NodeId model = tree.add_dict();
  tree.set_item(model, tree.add_string("w"), tree.add_tensor(0, {}));
  tree.set_item(model, tree.add_string("big"), tree.add_tensor(1, {}));
  const NodeId root = tree.add_dict();
  tree.set_item(root, tree.add_string("model"), model);
  tree.set_item(root, tree.add_string("epoch"), tree.add_integer(3));
  tree.set_root(root);
  ASSERT_OK(save(path, plan, {.seal = seal, .sync = false}));
}

Checkpoint open(const std::filesystem::path& path) { return Checkpoint::open(path).value(); }

void flip(const std::filesystem::path& path, std::uint64_t at) {
  std::string bytes = read_file(path);
  bytes[at] = static_cast<char>(bytes[at] ^ 1);
  write_file(path, bytes);
}

Result<std::string> read_text(const Checkpoint& checkpoint, const TensorInfo& tensor,
                              std::uint64_t offset, std::size_t nbytes,
                              Verify verify = Verify::yes) {
  std::string out(nbytes, '\0');
  FLATBED_TRY(checkpoint.read(tensor, offset, std::as_writable_bytes(std::span(out)), verify));
  return out;
}

bool is_mapped(const std::filesystem::path& path) {
  return read_file("/proc/self/maps").find(std::filesystem::canonical(path).native()) !=
         std::string::npos;
}

TEST(Checkpoint, FindsTensorsByNameAndAlias) {
  const TempDir dir;
  write_example(dir / "a");
  const Checkpoint checkpoint = open(dir / "a");
  ASSERT_NE(checkpoint.find("model.w"), nullptr);
  EXPECT_EQ(checkpoint.find("head"), checkpoint.find("model.w"));
  EXPECT_EQ(checkpoint.find("model"), nullptr);
  EXPECT_EQ(checkpoint.find(""), nullptr);
  EXPECT_EQ(checkpoint.tensor("model.big")->nbytes, kBig);
  ASSERT_EQ(checkpoint.aliases().size(), 1u);
  EXPECT_EQ(checkpoint.aliases()[0].name, "head");
}

TEST(Checkpoint, SuggestsTheClosestName) {
  const TempDir dir;
  write_example(dir / "a");
  const Checkpoint checkpoint = open(dir / "a");
  const auto missing = checkpoint.tensor("model.bag");
  EXPECT_ERROR(missing, tensor_not_found);
  EXPECT_EQ(missing.error().message,
            "there is no tensor 'model.bag' among 3; the closest is 'model.big'");
  EXPECT_NE(checkpoint.tensor("big").error().message.find("'model.big'"), std::string::npos);
  EXPECT_EQ(checkpoint.tensor("xyz").error().message, "there is no tensor 'xyz' among 3");
}

TEST(Checkpoint, ViewsTheBytesThatItReads) {
  const TempDir dir;
  write_example(dir / "a");
  const Checkpoint checkpoint = open(dir / "a");
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    const auto view = checkpoint.view(tensor);
    ASSERT_OK(view);
    const auto read = read_text(checkpoint, tensor, 0, tensor.nbytes);
    ASSERT_OK(read);
    EXPECT_EQ(as_text(view->bytes), *read);
    EXPECT_EQ(view->info.name, tensor.name);
  }
  const TensorView big = *checkpoint.view(*checkpoint.find("model.big"));
  EXPECT_EQ(as_text(big.bytes), noise(kBig));
}

TEST(Checkpoint, ViewsAreAlignedAsTheFileIs) {
  const TempDir dir;
  write_example(dir / "a");
  const Checkpoint checkpoint = open(dir / "a");
  EXPECT_GE(checkpoint.view(*checkpoint.find("model.w"))->alignment(), 8u);
  EXPECT_EQ(checkpoint.view(*checkpoint.find("empty"))->alignment(), 4096u);
}

TEST(Checkpoint, ViewsLiveAsLongAsAnyCopy) {
  const TempDir dir;
  write_example(dir / "a");
  std::optional<Checkpoint> first = open(dir / "a");
  const Checkpoint copy = *first;
  const TensorView view = *first->view(*first->find("model.big"));
  first.reset();
  std::filesystem::remove(dir / "a");
  EXPECT_EQ(as_text(view.bytes), noise(kBig));
  EXPECT_EQ(copy.find("model.big")->name, view.info.name);
}

TEST(Checkpoint, ViewsOfASelectionKeepTheFile) {
  const TempDir dir;
  write_example(dir / "a");
  const Checkpoint selected = [&] {
    const Checkpoint whole = open(dir / "a");
    return whole.select({.path = {}, .include = {"model.*"}, .exclude = {}}).value();
  }();
  EXPECT_EQ(as_text(selected.view(*selected.find("model.w"))->bytes), "12345678");
}

TEST(Checkpoint, MapsTheFileOnlyForAView) {
  const TempDir dir;
  write_example(dir / "a");
  const Checkpoint checkpoint = open(dir / "a");
  EXPECT_FALSE(is_mapped(dir / "a"));
  ASSERT_OK(checkpoint.tree());
  ASSERT_OK(read_text(checkpoint, *checkpoint.find("model.big"), 0, kBig));
  ASSERT_OK(verify(checkpoint));
  EXPECT_FALSE(is_mapped(dir / "a"));
  ASSERT_OK(checkpoint.view(*checkpoint.find("model.w")));
  EXPECT_TRUE(is_mapped(dir / "a"));
}

TEST(Checkpoint, UnmapsWithTheLastCopy) {
  const TempDir dir;
  write_example(dir / "a");
  {
    const Checkpoint checkpoint = open(dir / "a");
    ASSERT_OK(checkpoint.view(*checkpoint.find("model.w")));
    EXPECT_TRUE(is_mapped(dir / "a"));
  }
  EXPECT_FALSE(is_mapped(dir / "a"));
}

TEST(Checkpoint, ReadsRangesAcrossChunks) {
  const TempDir dir;
  write_example(dir / "a");
  const Checkpoint checkpoint = open(dir / "a");
  const TensorInfo& big = *checkpoint.find("model.big");
  const std::string all = noise(kBig);
  const std::uint64_t edges[] = {0,          1,          kChunk - 1, kChunk, kChunk + 1,
                                 2 * kChunk, 3 * kChunk, kBig - 1,   kBig};
  for (const std::uint64_t begin : edges) {
    for (const std::uint64_t end : edges) {
      if (begin > end) continue;
      for (const Verify verify : {Verify::yes, Verify::no}) {
        const auto read = read_text(checkpoint, big, begin, end - begin, verify);
        ASSERT_OK(read) << begin << " " << end;
        ASSERT_EQ(*read, all.substr(begin, end - begin)) << begin << " " << end;
      }
    }
  }
}

TEST(Checkpoint, RefusesRangesOutsideOfTheTensor) {
  const TempDir dir;
  write_example(dir / "a");
  const Checkpoint checkpoint = open(dir / "a");
  const TensorInfo& tensor = *checkpoint.find("model.w");
  EXPECT_OK(read_text(checkpoint, tensor, 8, 0));
  EXPECT_ERROR(read_text(checkpoint, tensor, 0, 9), buffer_too_small);
  EXPECT_ERROR(read_text(checkpoint, tensor, 8, 1), buffer_too_small);
  EXPECT_ERROR(read_text(checkpoint, tensor, 9, 0), buffer_too_small);
  EXPECT_ERROR(read_text(checkpoint, tensor, UINT64_MAX, 2), buffer_too_small);
  EXPECT_ERROR(read_text(checkpoint, *checkpoint.find("empty"), 0, 1), buffer_too_small);
  EXPECT_OK(read_text(checkpoint, *checkpoint.find("empty"), 0, 0));
}

TEST(Checkpoint, RefusesATensorOfAnotherFile) {
  const TempDir dir;
  write_example(dir / "a");
  const Checkpoint checkpoint = open(dir / "a");
  TensorInfo foreign = *checkpoint.find("model.w");
  foreign.name = "other";
  EXPECT_ERROR(checkpoint.view(foreign), invalid_argument);
  EXPECT_ERROR(read_text(checkpoint, foreign, 0, 8), invalid_argument);
  foreign = *checkpoint.find("model.w");
  foreign.index = 99;
  EXPECT_ERROR(checkpoint.view(foreign), invalid_argument);
  EXPECT_ERROR(read_text(checkpoint, foreign, 0, 8), invalid_argument);
}

// Where the bytes are is never taken from the caller.
TEST(Checkpoint, ReadsItsOwnBytesWhateverTheCallerChanged) {
  const TempDir dir;
  write_example(dir / "a");
  const Checkpoint checkpoint = open(dir / "a");
  TensorInfo changed = *checkpoint.find("model.w");
  changed.where.offset = 0;
  changed.nbytes = UINT64_MAX;
  EXPECT_EQ(*read_text(checkpoint, changed, 0, 8), "12345678");
  EXPECT_ERROR(read_text(checkpoint, changed, 0, 9), buffer_too_small);
  EXPECT_EQ(as_text(checkpoint.view(changed)->bytes), "12345678");
}

TEST(Checkpoint, NamesTheBytesOfACorruptChunk) {
  const TempDir dir;
  write_example(dir / "a");
  const Checkpoint whole = open(dir / "a");
  const TensorInfo& big = *whole.find("model.big");
  flip(dir / "a", big.where.offset + kChunk + 5);
  const Checkpoint checkpoint = open(dir / "a");
  const TensorInfo& tensor = *checkpoint.find("model.big");
  const auto read = read_text(checkpoint, tensor, 2 * kChunk - 1, 1);
  EXPECT_ERROR(read, chunk_corrupt);
  const std::string place =
      str_cat("tensor 'model.big': chunk 1, bytes [262144,524288) at file offset ",
              tensor.where.offset + kChunk);
  EXPECT_NE(read.error().message.find(place), std::string::npos) << read.error().message;
  EXPECT_TRUE(read.error().message.starts_with((dir / "a").native()));
}

TEST(Checkpoint, ReadsTheOtherChunksOfADamagedTensor) {
  const TempDir dir;
  write_example(dir / "a");
  const Checkpoint whole = open(dir / "a");
  const TensorInfo& big = *whole.find("model.big");
  flip(dir / "a", big.where.offset + kChunk);
  const Checkpoint checkpoint = open(dir / "a");
  const TensorInfo& tensor = *checkpoint.find("model.big");
  EXPECT_OK(read_text(checkpoint, tensor, 0, kChunk));
  EXPECT_OK(read_text(checkpoint, tensor, 2 * kChunk, kBig - 2 * kChunk));
  EXPECT_ERROR(read_text(checkpoint, tensor, 0, kChunk + 1), chunk_corrupt);
  EXPECT_OK(read_text(checkpoint, tensor, 0, kBig, Verify::no));
}

TEST(Checkpoint, ReadsAnUnsealedFileWithoutDigests) {
  const TempDir dir;
  write_example(dir / "a", false);
  const Checkpoint checkpoint = open(dir / "a");
  EXPECT_EQ(checkpoint.seal(), SealState::unsealed);
  EXPECT_TRUE(checkpoint.find("model.big")->digests.empty());
  EXPECT_EQ(*read_text(checkpoint, *checkpoint.find("model.w"), 4, 4), "5678");
}

TEST(Checkpoint, DemandsASealWhereItIsTold) {
  const TempDir dir;
  write_example(dir / "unsealed", false);
  write_example(dir / "sealed");
  write_file(dir / "torch", test::torch_zip());
  const OpenOptions required{.check_seal = CheckSeal::required};
  EXPECT_ERROR(Checkpoint::open(dir / "unsealed", required), not_sealed);
  EXPECT_ERROR(Checkpoint::open(dir / "torch", required), not_sealed);
  EXPECT_OK(Checkpoint::open(dir / "torch"));
  const auto sealed = Checkpoint::open(dir / "sealed", required);
  ASSERT_OK(sealed);
  EXPECT_EQ(sealed->seal(), SealState::sealed);
  EXPECT_EQ(sealed->files()[0].content.size(), 16u);
}

TEST(Checkpoint, OpensABrokenSealOnlyUnchecked) {
  const TempDir dir;
  write_example(dir / "a");
  std::string bytes = read_file(dir / "a");
  bytes[52 + 3] = bytes[52 + 3] == '0' ? '1' : '0';  // in the content digest
  write_file(dir / "a", bytes);
  EXPECT_ERROR(Checkpoint::open(dir / "a"), seal_content_mismatch);
  const auto off = Checkpoint::open(dir / "a", {.check_seal = CheckSeal::off});
  ASSERT_OK(off);
  EXPECT_EQ(off->seal(), SealState::broken);
  EXPECT_EQ(off->files()[0].seal_error, ErrorCode::seal_content_mismatch);
  EXPECT_FALSE(off->files()[0].seal_note.empty());
  EXPECT_TRUE(off->find("model.w")->digests.empty());
}

TEST(Checkpoint, ServesTheRecordedTree) {
  const TempDir dir;
  write_example(dir / "a");
  const Checkpoint checkpoint = open(dir / "a");
  EXPECT_TRUE(checkpoint.has_tree());
  const Value root = checkpoint.tree().value();
  EXPECT_EQ(root.at("epoch")->as_int(), 3);
  const auto number = root.at("model.big")->tensor();
  ASSERT_TRUE(number);
  EXPECT_EQ(checkpoint.tensors()[*number].name, "model.big");
}

TEST(Checkpoint, MakesUpATreeOfNamesAndAliases) {
  const TempDir dir;
  const std::string header = R"({"__metadata__":{"head.w":"w","note":"x"},)"
                             R"("v":{"dtype":"U8","shape":[],"data_offsets":[1,2]},)"
                             R"("w":{"dtype":"U8","shape":[],"data_offsets":[0,1]}})";
  write_file(dir / "a", test::le(header.size(), 8) + header + "ab");
  const Checkpoint checkpoint = open(dir / "a");
  EXPECT_FALSE(checkpoint.has_tree());
  const Value root = checkpoint.tree().value();
  ASSERT_EQ(root.size(), 3u);
  EXPECT_EQ(root.key(0).text(), "w");
  EXPECT_EQ(root.key(1).text(), "v");
  EXPECT_EQ(root.key(2).text(), "head.w");
  EXPECT_EQ(root.item(2).tensor(), root.item(0).tensor());
}

TEST(Checkpoint, ReadsTensorsThatTorchStoresStridedButViewsNone) {
  const TempDir dir;
  namespace pickle = test::pickle;
  std::string data;
  for (char c = 1; c <= 24; ++c) data += c;
  write_file(
      dir / "a.pth",
      test::torch_zip({.pickle = pickle::finish(pickle::tensor(
                           {.sizes = pickle::counts({3, 2}), .strides = pickle::counts({1, 3})})),
                       .storages = {{"0", data}}}));
  const Checkpoint checkpoint = open(dir / "a.pth");
  const TensorInfo& tensor = checkpoint.tensors()[0];
  EXPECT_EQ(tensor.stored, Stored::strided);
  EXPECT_ERROR(checkpoint.view(tensor), not_viewable);
  const auto read = read_text(checkpoint, tensor, 4, 4);
  ASSERT_OK(read);
  EXPECT_EQ(*read, data.substr(12, 4));  // element [0,1]
  EXPECT_OK(read_text(checkpoint, tensor, 24, 0));
}

TEST(Checkpoint, ViewsLongBytesOfAPickleFromItsOwnMemory) {
  const TempDir dir;
  namespace pickle = test::pickle;
  const std::string blob = noise(5000);
  write_file(dir / "a.pth",
             test::torch_zip({.pickle = pickle::finish(pickle::dict(
                                  {pickle::text("blob"), "B" + test::le(blob.size(), 4) + blob,
                                   pickle::text("w"), pickle::tensor()}))}));
  const Checkpoint checkpoint = open(dir / "a.pth");
  const TensorInfo& tensor = *checkpoint.find("blob");
  EXPECT_EQ(tensor.stored, Stored::held);
  EXPECT_EQ(tensor.dtype, Dtype::u8);
  EXPECT_EQ(as_text(checkpoint.view(tensor)->bytes), blob);
  EXPECT_FALSE(is_mapped(dir / "a.pth"));
  EXPECT_EQ(*read_text(checkpoint, tensor, 100, 50), blob.substr(100, 50));
  EXPECT_EQ(checkpoint.tree()->at("blob")->tensor(), tensor.index);
  const auto selected = checkpoint.select({.path = {}, .include = {"blob"}, .exclude = {}});
  ASSERT_OK(selected);
  EXPECT_EQ(as_text(selected->view(*selected->find("blob"))->bytes), blob);
}

TEST(Checkpoint, ViewsAnEmptyTensorWhereverTorchPutsIt) {
  const TempDir dir;
  namespace pickle = test::pickle;
  const std::string far = pickle::integer(std::int64_t{1} << 60);
  write_file(dir / "a.pth",
             test::torch_zip(
                 {.pickle = pickle::finish(pickle::tensor({.offset = far,
                                                           .sizes = pickle::counts({0, 3}),
                                                           .strides = pickle::counts({3, 1})}))}));
  const Checkpoint checkpoint = open(dir / "a.pth");
  const TensorInfo& tensor = checkpoint.tensors()[0];
  EXPECT_LE(tensor.where.offset, checkpoint.files()[0].nbytes);
  const auto view = checkpoint.view(tensor);
  ASSERT_OK(view);
  EXPECT_TRUE(view->bytes.empty());
}

TEST(Checkpoint, SaysThatTheFileWasCutWhileOpen) {
  const TempDir dir;
  write_example(dir / "a");
  const Checkpoint checkpoint = open(dir / "a");
  const TensorInfo& big = *checkpoint.find("model.big");
  std::filesystem::resize_file(dir / "a", 8192);
  EXPECT_ERROR(read_text(checkpoint, big, 0, kBig), file_changed);
  EXPECT_ERROR(read_text(checkpoint, big, 0, kBig, Verify::no), file_changed);
}

TEST(Checkpoint, KeepsTheFileThatItOpened) {
  const TempDir dir;
  write_example(dir / "a");
  const Checkpoint checkpoint = open(dir / "a");
  write_file(dir / "b", "another file");
  std::filesystem::rename(dir / "b", dir / "a");
  EXPECT_EQ(*read_text(checkpoint, *checkpoint.find("model.w"), 0, 8), "12345678");
}

TEST(Checkpoint, SaysWhatCannotBeOpened) {
  const TempDir dir;
  EXPECT_ERROR(Checkpoint::open(dir / "none"), file_not_found);
  EXPECT_ERROR(Checkpoint::open("/dev/null"), not_a_regular_file);
  EXPECT_ERROR(Checkpoint::open(dir.path()), index_ambiguous);
  const std::string place = "'" + (dir / "none").native() + "': ";
  EXPECT_TRUE(Checkpoint::open(dir / "none").error().message.starts_with(place));
}

// Everything const at once: run it under a thread sanitizer too.
TEST(Checkpoint, ServesManyThreadsAtOnce) {
  const TempDir dir;
  write_example(dir / "a");
  const Checkpoint checkpoint = open(dir / "a");
  const std::string all = noise(kBig);
  std::atomic<int> failures = 0;
  const auto work = [&](unsigned seed) {
    std::minstd_rand random(seed);
    const Checkpoint own = checkpoint;
    const TensorInfo& big = *own.find("model.big");
    for (int i = 0; i < 50; ++i) {
      const std::uint64_t offset = random() % kBig;
      const std::size_t nbytes = random() % (kBig - offset + 1);
      const auto read = read_text(own, big, offset, nbytes);
      const auto view = own.view(big);
      const auto tree = own.tree();
      const bool right = read && view && tree && *read == all.substr(offset, nbytes) &&
                         as_text(view->bytes) == all && tree->at("epoch")->as_int() == 3 &&
                         own.find("head") == own.find("model.w");
      failures += right ? 0 : 1;
    }
  };
  {
    std::vector<std::jthread> threads;
    for (unsigned i = 1; i <= 4; ++i) threads.emplace_back(work, i);
  }
  EXPECT_EQ(failures, 0);
}

TEST(SealStateName, IsItsWord) {
  EXPECT_EQ(name(SealState::unsealed), "unsealed");
  EXPECT_EQ(name(SealState::sealed), "sealed");
  EXPECT_EQ(name(SealState::annotated), "annotated");
  EXPECT_EQ(name(SealState::newer), "newer");
  EXPECT_EQ(name(SealState::broken), "broken");
}

}  // namespace
}  // namespace flatbed
