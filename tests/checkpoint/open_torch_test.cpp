// PyTorch's older layouts through Checkpoint: what is listed, viewed, read, loaded, selected and
// converted is the same as from a zip.
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "base/bytes.hpp"
#include "flatbed/checkpoint.hpp"
#include "flatbed/load.hpp"
#include "flatbed/save.hpp"
#include "flatbed/save_plan.hpp"
#include "flatbed/verify.hpp"
#include "support/expect_error.hpp"
#include "support/fake_device.hpp"
#include "support/legacy_builder.hpp"
#include "support/load_model.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

namespace pickle = test::pickle;
using test::FakeDevice;
using test::Target;
using test::TempDir;
using test::write_file;

const std::string kData = "aaaabbbbccccddddeeeeffff";

std::string legacy_file() {
  return test::legacy_stream(
      {.object = pickle::finish(
           pickle::dict({pickle::text("w"), test::legacy_tensor(), pickle::text("n"), "K\7"})),
       .storages = {{.data = kData}}});
}

std::string tar_file() {
  test::TorchTar tar = test::torch_tar_parts();
  tar.storages =
      test::tar_count(1) + test::tar_storage(1, 6, kData) + pickle::finish(pickle::list({}));
  tar.object = pickle::finish(
      pickle::dict({pickle::text("w"), pickle::text("101") + "Q", pickle::text("n"), "K\7"}));
  return test::torch_tar(tar);
}

// A tensor whose storage is spelled as text (bytes below 0x80 alone) or as bytes.
std::string pickled_file(bool as_text, const pickle::Tensor& shape = {}) {
  const std::string stream = test::nested_storage({.data = kData});
  std::string latin1;
  for (const char c : stream) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x80) latin1 += static_cast<char>(0xC0 | byte >> 6);
    latin1 += static_cast<char>(byte < 0x80 ? byte : 0x80 | (byte & 0x3F));
  }
  const std::string encoded =
      pickle::call(pickle::global("_codecs", "encode"),
                   pickle::tuple({pickle::text(latin1), pickle::text("latin1")}));
  const std::string load = pickle::global("torch.storage", "_load_from_bytes");
  pickle::Tensor tensor = shape;
  tensor.storage = as_text ? pickle::call(load, encoded + "\x85") : test::load_from_bytes(stream);
  return pickle::finish(
      pickle::dict({pickle::text("w"), pickle::tensor(tensor), pickle::text("n"), "K\7"}));
}

struct Case {
  const char* name;
  std::string bytes;
  Layout layout;
  Stored stored;
};

std::vector<Case> cases() {
  return {{"legacy", legacy_file(), Layout::torch_legacy, Stored::plain},
          {"tar", tar_file(), Layout::torch_tar, Stored::plain},
          {"bytes", pickled_file(false), Layout::torch_pickle, Stored::plain},
          {"text", pickled_file(true), Layout::torch_pickle, Stored::held}};
}

std::string read_all(const Checkpoint& checkpoint, const TensorInfo& tensor) {
  std::string out(tensor.nbytes, '\0');
  static_cast<void>(checkpoint.read(tensor, 0, std::as_writable_bytes(std::span(out))).value());
  return out;
}

Result<void> convert(const Checkpoint& checkpoint, const std::filesystem::path& path) {
  FLATBED_ASSIGN(const SavePlan plan, make_plan(checkpoint));
  FLATBED_TRY(save(path, plan, {.sync = false}));
  return {};
}

class OlderLayout : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override { write_file(dir_ / "a.pth", GetParam().bytes); }
  [[nodiscard]] Checkpoint open() const { return Checkpoint::open(dir_ / "a.pth").value(); }
  TempDir dir_;
};

TEST_P(OlderLayout, IsListedReadAndViewed) {
  const Checkpoint checkpoint = open();
  EXPECT_EQ(checkpoint.layout(), GetParam().layout);
  EXPECT_TRUE(checkpoint.notes().empty());
  ASSERT_EQ(checkpoint.tensors().size(), 1u);
  const TensorInfo& tensor = checkpoint.tensors()[0];
  EXPECT_EQ(tensor.name, "w");
  EXPECT_EQ(tensor.stored, GetParam().stored);
  EXPECT_EQ(read_all(checkpoint, tensor), kData);
  const auto view = checkpoint.view(tensor);
  ASSERT_OK(view);
  EXPECT_EQ(as_text(view->bytes), kData);
  EXPECT_EQ(checkpoint.tree()->at("n")->as_int(), 7);
}

TEST_P(OlderLayout, HasNoSeal) {
  EXPECT_ERROR(Checkpoint::open(dir_ / "a.pth", {.check_seal = CheckSeal::required}), not_sealed);
}

TEST_P(OlderLayout, IsConvertedAndVerified) {
  const Checkpoint checkpoint = open();
  ASSERT_OK(convert(checkpoint, dir_ / "b.safetensors"));
  const auto converted =
      Checkpoint::open(dir_ / "b.safetensors", {.check_seal = CheckSeal::required});
  ASSERT_OK(converted);
  EXPECT_EQ(read_all(*converted, *converted->find("w")), kData);
  EXPECT_EQ(converted->tree()->at("n")->as_int(), 7);
  EXPECT_TRUE(verify(*converted)->damaged.empty());
}

TEST_P(OlderLayout, IsLoadedToHostAndDevice) {
  const Checkpoint checkpoint = open();
  FakeDevice device;
  for (Device* to : {static_cast<Device*>(nullptr), static_cast<Device*>(&device)}) {
    Target target(kData.size(), 0);
    LoadPlan plan;
    ASSERT_OK(plan.add(checkpoint, "w", target.destination(to)));
    ASSERT_OK(load(plan));
    EXPECT_EQ(target.bytes(), kData);
  }
}

TEST_P(OlderLayout, IsSelectedFrom) {
  const auto selected = open().select({.path = {}, .include = {"w"}, .exclude = {}});
  ASSERT_OK(selected);
  EXPECT_EQ(as_text(selected->view(*selected->find("w"))->bytes), kData);
}

INSTANTIATE_TEST_SUITE_P(Layouts, OlderLayout, testing::ValuesIn(cases()),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(OlderLayouts, HeldStoragesAreReadStrided) {
  const TempDir dir;
  write_file(dir / "a.pkl", pickled_file(true, {.sizes = pickle::counts({3, 2}),
                                                .strides = pickle::counts({1, 3})}));
  const auto checkpoint = Checkpoint::open(dir / "a.pkl");
  ASSERT_OK(checkpoint);
  const TensorInfo& tensor = checkpoint->tensors()[0];
  EXPECT_EQ(tensor.stored, Stored::strided);
  EXPECT_ERROR(checkpoint->view(tensor), not_viewable);
  EXPECT_EQ(read_all(*checkpoint, tensor), "aaaaddddbbbbeeeeccccffff");
}

// nn.LazyLinear(3).state_dict(): torch knows neither a shape nor values before it runs.
TEST(OlderLayouts, ParametersOfLazyModulesAreNamedInANote) {
  const TempDir folder;
  const auto open_with = [&](std::size_t count) {
    const std::string parameter =
        pickle::call(pickle::global("torch.nn.parameter", "UninitializedParameter"), "\x88\x85");
    std::vector<std::string> weights{pickle::text("ready"), test::legacy_tensor()};
    for (std::size_t i = 0; i < count; ++i) {
      weights.push_back(pickle::text(std::to_string(i) + ".weight"));
      weights.push_back(parameter);
    }
    const std::string object = pickle::dict({pickle::text("model"), pickle::dict(weights)});
    const std::string bytes =
        test::legacy_stream({.object = pickle::finish(object), .storages = {{.data = kData}}});
    write_file(folder / "lazy.pth", bytes);
    return Checkpoint::open(folder / "lazy.pth").value();
  };
  const Checkpoint none = open_with(0);
  EXPECT_TRUE(none.notes().empty());
  const std::string after = "the lazy module did not run before it was saved: ";
  const Checkpoint one = open_with(1);
  EXPECT_EQ(one.notes()[0],
            "1 parameter or buffer has no values, as " + after + "'model.0.weight'");
  const Checkpoint many = open_with(9);
  EXPECT_EQ(many.tensors().size(), 1u);
  ASSERT_EQ(many.notes().size(), 1u);
  EXPECT_TRUE(many.notes()[0].starts_with("9 parameters or buffers have no values, as " + after +
                                          "'model.0.weight', 'model.1.weight', "))
      << many.notes()[0];
  EXPECT_TRUE(many.notes()[0].ends_with("'model.7.weight', ...")) << many.notes()[0];
}

TEST(OlderLayouts, APickleWithoutTensorsIsATree) {
  const TempDir dir;
  write_file(dir / "a.pkl", "(dp0\nS'epoch'\np1\nI3\ns.");
  const auto checkpoint = Checkpoint::open(dir / "a.pkl");
  ASSERT_OK(checkpoint);
  EXPECT_TRUE(checkpoint->tensors().empty());
  EXPECT_EQ(checkpoint->tree()->at("epoch")->as_int(), 3);
  ASSERT_OK(convert(*checkpoint, dir / "b.safetensors"));
  EXPECT_EQ(Checkpoint::open(dir / "b.safetensors")->tree()->at("epoch")->as_int(), 3);
}

}  // namespace
}  // namespace flatbed
