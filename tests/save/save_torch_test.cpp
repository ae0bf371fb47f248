// save_torch(): .pth files that our own reader gives back as they were, and what is refused.
// (torch itself is asked by tests/oracle.)
#include "flatbed/save_torch.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <regex>
#include <string>
#include <utility>
#include <vector>

#include "base/bytes.hpp"
#include "base/str_cat.hpp"
#include "flatbed/save_plan.hpp"
#include "support/expect_error.hpp"
#include "support/show.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

using test::read_file;
using test::TempDir;
using test::write_file;

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

std::string read_tensor(const Checkpoint& checkpoint, std::string_view name) {
  const TensorInfo* tensor = checkpoint.find(name);
  if (tensor == nullptr) return "no such tensor";
  std::string bytes(tensor->nbytes, '\0');
  const Result<void> read = checkpoint.read(*tensor, 0, std::as_writable_bytes(std::span(bytes)));
  return read ? bytes : read.error().message;
}

// Without what a .pth of contiguous tensors cannot say: the strides that tensors once had, and
// names with dots, which are fetched by getattr before protocol 4.
std::string shown_tree(const Checkpoint& checkpoint) {
  const Result<Value> tree = checkpoint.tree();
  if (!tree) return tree.error().message;
  const std::string text =
      std::regex_replace(pth::show(*tree), std::regex(" stride\\[[^\\]]*\\]"), "");
  return std::regex_replace(text, std::regex(R"(builtins.getattr\((\S+), '(\w+)'\))"), "$1.$2");
}

// Large, small and empty tensors that share pieces in every way.
struct Mixed {
  std::string large = pattern(5 * kChunk + 4096, 1);
  std::string exact = pattern(4 * kChunk, 2);
  std::string odd = pattern(2 * kChunk + 1, 3);

  [[nodiscard]] SavePlan plan() const {
    SavePlan plan;
    plan.items = {u8_item("tiny", "abc"), u8_item("odd", odd), u8_item("large", large),
                  u8_item("empty", {}), u8_item("exact", exact)};
    for (std::size_t i = 0; i < 300; ++i)
      plan.items.push_back(u8_item(str_cat("many.", i), std::string_view(odd).substr(i, 7)));
    return plan;
  }
};

TEST(SaveTorch, ADictOfNamesIsReadBack) {
  const TempDir dir;
  const Mixed mixed;
  for (const unsigned threads : {1U, 4U}) {
    SaveTorchOptions options;
    options.file.threads = threads;
    const Result<SaveTorchReport> report = save_torch(dir / "a.pth", mixed.plan(), options);
    ASSERT_OK(report);
    EXPECT_EQ(report->file.nbytes, read_file(dir / "a.pth").size());
    EXPECT_EQ(report->tensors, 305u);
    EXPECT_EQ(report->tensor_nbytes,
              3 + mixed.odd.size() + mixed.large.size() + mixed.exact.size() + 300 * 7);
    EXPECT_EQ(report->file.durability, Durability::committed);
    const Result<Checkpoint> back = Checkpoint::open(dir / "a.pth");
    ASSERT_OK(back);
    EXPECT_EQ(back->layout(), Layout::torch_zip);
    ASSERT_EQ(back->tensors().size(), 305u);
    EXPECT_EQ(back->tensors()[0].name, "tiny");
    EXPECT_EQ(back->tensors()[2].where.offset % 64, 0u);
    EXPECT_EQ(read_tensor(*back, "tiny"), "abc");
    EXPECT_EQ(read_tensor(*back, "odd"), mixed.odd);
    EXPECT_EQ(read_tensor(*back, "large"), mixed.large);
    EXPECT_EQ(read_tensor(*back, "exact"), mixed.exact);
    EXPECT_EQ(read_tensor(*back, "many.299"), mixed.odd.substr(299, 7));
  }
}

// However the work is shared out.
TEST(SaveTorch, TheSameTensorsGiveTheSameFile) {
  const TempDir dir;
  const Mixed mixed;
  ASSERT_OK(save_torch(dir / "a.pth", mixed.plan()));
  SaveTorchOptions options;
  options.file.threads = 7;
  ASSERT_OK(save_torch(dir / "b.pth", mixed.plan(), options));
  EXPECT_EQ(read_file(dir / "a.pth"), read_file(dir / "b.pth"));
}

TEST(SaveTorch, AliasesShareTheirBytes) {
  const TempDir dir;
  SavePlan plan;
  plan.items.push_back(u8_item("embed", "abc"));
  plan.aliases.push_back({"head", "embed"});
  ASSERT_OK(save_torch(dir / "a.pth", plan));
  const Result<Checkpoint> back = Checkpoint::open(dir / "a.pth");
  ASSERT_OK(back);
  ASSERT_EQ(back->aliases().size(), 1u);
  EXPECT_EQ(back->aliases()[0].name, "head");
  EXPECT_EQ(back->tensors().size(), 1u);
}

// .pth -> .safetensors -> .pth, by the fixtures that torch wrote: the trees are the same.
TEST(SaveTorch, FixturesGoThereAndBackAgain) {
  const TempDir dir;
  int count = 0;
  for (const char* version : {"torch1", "torch2"}) {
    const std::filesystem::path folder = std::filesystem::path(FLATBED_FIXTURES_DIR) / version;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      if (entry.path().extension() != ".pth") continue;
      const Result<Checkpoint> original = Checkpoint::open(entry.path());
      if (!original) continue;
      Result<SavePlan> plan = make_plan(*original);
      ASSERT_OK(plan);
      ASSERT_OK(save(dir / "a.safetensors", *plan));
      const Result<Checkpoint> sealed = Checkpoint::open(dir / "a.safetensors");
      ASSERT_OK(sealed);
      plan = make_plan(*sealed);
      ASSERT_OK(plan);
      SaveTorchOptions options;
      options.unsafe_objects = UnsafeObjects::keep;
      options.keep_device = true;
      const Result<SaveTorchReport> report = save_torch(dir / "a.pth", *plan, options);
      ASSERT_OK(report);
      const Result<Checkpoint> back = Checkpoint::open(dir / "a.pth");
      ASSERT_OK(back) << entry.path();
      EXPECT_EQ(report->tensors, back->tensors().size()) << entry.path();
      ASSERT_EQ(back->tensors().size(), original->tensors().size()) << entry.path();
      EXPECT_EQ(shown_tree(*back), shown_tree(*original)) << entry.path();
      for (const TensorInfo& tensor : original->tensors())
        EXPECT_EQ(read_tensor(*back, tensor.name), read_tensor(*original, tensor.name));
      ++count;
    }
  }
  EXPECT_GE(count, 20);
}

TEST(SaveTorch, WhatWeightsOnlyRefusesIsAnErrorAndNothingIsWritten) {
  const TempDir dir;
  SavePlan plan;
  plan.items.push_back(u8_item("w", "abc"));
  const NodeId root = plan.tree.add_dict();
  plan.tree.set_item(root, plan.tree.add_string("w"), plan.tree.add_tensor(0, {}));
  plan.tree.set_item(root, plan.tree.add_string("best"),
                     plan.tree.add_scalar("<f4", std::string(4, '\0')));
  plan.tree.set_root(root);
  const Result<SaveTorchReport> refused = save_torch(dir / "a.pth", plan);
  EXPECT_ERROR(refused, weights_only_refused);
  EXPECT_EQ(refused.error().message,
            "at 'best': a numpy scalar, which torch.load(weights_only=True) refuses");
  EXPECT_FALSE(std::filesystem::exists(dir / "a.pth"));

  SaveTorchOptions options;
  options.unsafe_objects = UnsafeObjects::convert;
  options.file.dry_run = true;
  const Result<SaveTorchReport> dry = save_torch(dir / "a.pth", plan, options);
  ASSERT_OK(dry);
  EXPECT_EQ(dry->notes, std::vector<std::string>{"a numpy scalar became float: at 'best'"});
  EXPECT_FALSE(std::filesystem::exists(dir / "a.pth"));
  options.file.dry_run = false;
  const Result<SaveTorchReport> written = save_torch(dir / "a.pth", plan, options);
  ASSERT_OK(written);
  EXPECT_EQ(written->file.nbytes, dry->file.nbytes);
}

TEST(SaveTorch, LongBytesAndWhatIsLeftOut) {
  const TempDir dir;
  const std::string bytes = pattern(kChunk + 5, 9);
  SavePlan plan;
  plan.items.push_back(u8_item("b", bytes));
  plan.items.push_back(u8_item("lost", "abc"));
  plan.tree.set_root(plan.tree.add_bytes_in_tensor(0));
  const Result<SaveTorchReport> report = save_torch(dir / "a.pth", plan);
  ASSERT_OK(report);
  EXPECT_EQ(report->notes,
            std::vector<std::string>{"left out 1 tensor not in the structure: 'lost'"});
  EXPECT_EQ(report->tensors, 1u);
  EXPECT_EQ(report->tensor_nbytes, bytes.size());
  const Result<Checkpoint> back = Checkpoint::open(dir / "a.pth");
  ASSERT_OK(back);
  ASSERT_EQ(back->tensors().size(), 1u);
  EXPECT_EQ(read_tensor(*back, back->tensors()[0].name), bytes);
}

TEST(SaveTorch, ADamagedSourceIsFound) {
  const TempDir dir;
  const std::string bytes = pattern(3 * kChunk, 4);
  SavePlan plan;
  plan.items.push_back(u8_item("w", bytes));
  ASSERT_OK(save(dir / "a.safetensors", plan));
  std::string file = read_file(dir / "a.safetensors");
  file[file.size() - 1] ^= 1;
  write_file(dir / "a.safetensors", file);
  const Result<Checkpoint> source = Checkpoint::open(dir / "a.safetensors");
  ASSERT_OK(source);
  const Result<SavePlan> again = make_plan(*source);
  ASSERT_OK(again);
  EXPECT_ERROR(save_torch(dir / "a.pth", *again), chunk_corrupt);
  EXPECT_FALSE(std::filesystem::exists(dir / "a.pth"));
}

TEST(SaveTorch, ChecksItsPlan) {
  const TempDir dir;
  SavePlan plan;
  plan.items.push_back({"w", Dtype::f32, {3}, as_bytes("abc")});
  EXPECT_ERROR(save_torch(dir / "a.pth", plan), shape_mismatch);
  plan.items = {u8_item("w", "a"), u8_item("w", "b")};
  EXPECT_ERROR(save_torch(dir / "a.pth", plan), duplicate_name);
  plan.items.pop_back();
  plan.aliases.push_back({"v", "nothing"});
  EXPECT_ERROR(save_torch(dir / "a.pth", plan), invalid_argument);
  plan.aliases.clear();
  write_file(dir / "a.pth", "there");
  SaveTorchOptions options;
  options.file.replace = false;
  EXPECT_ERROR(save_torch(dir / "a.pth", plan, options), file_exists);
  const std::atomic<bool> cancel = true;
  options.file = {.cancel = &cancel};
  EXPECT_ERROR(save_torch(dir / "a.pth", plan, options), cancelled);
  EXPECT_EQ(read_file(dir / "a.pth"), "there");
}

}  // namespace
}  // namespace flatbed
