// read_torch_tar(): what torch wrote before 0.1.10, and lies in every table.
#include "torch/torch_tar.hpp"

#include <gtest/gtest.h>

#include <string>

#include "archive/tar_archive.hpp"
#include "base/checked.hpp"
#include "support/expect_error.hpp"
#include "support/legacy_builder.hpp"
#include "support/show.hpp"
#include "torch/torch_reader.hpp"

namespace flatbed::pth {
namespace {

using test::build_tar;
using test::octal;
using test::tar_count;
using test::tar_row;
using test::tar_storage;
using test::tar_tensor;
using test::TarItem;
using test::torch_tar;
using test::torch_tar_parts;
using test::TorchTar;
using namespace test::pickle;  // NOLINT: the assembler's words are the subject here
using std::string;

Result<TorchFile> read_bytes(std::string_view bytes) {
  const test::BytesSource file{std::string(bytes)};
  return read_torch_tar(file);
}

// With other tables of storages or tensors.
Result<TorchFile> with_storages(const string& storages) {
  TorchTar tar = torch_tar_parts();
  tar.storages = storages;
  return read_bytes(torch_tar(tar));
}
Result<TorchFile> with_tensors(const string& tensors) {
  TorchTar tar = torch_tar_parts();
  tar.tensors = tensors;
  return read_bytes(torch_tar(tar));
}
Result<TorchFile> with_object(const string& body) {
  TorchTar tar = torch_tar_parts();
  tar.object = finish(body);
  return read_bytes(torch_tar(tar));
}

TEST(TorchTar, ReadsATensor) {
  const string bytes = torch_tar();
  const auto file = read_bytes(bytes);
  ASSERT_OK(file);
  EXPECT_EQ(file->layout, TorchLayout::tar);
  EXPECT_EQ(show(file->tree.root()), "T0");
  ASSERT_EQ(file->storages.size(), 1u);
  EXPECT_EQ(bytes.substr(file->storages[0].stored_offset, 24), string(24, '\1'));
  EXPECT_TRUE(file->notes.empty());
}

TEST(TorchTar, OneKeyIsOneObject) {
  const auto file = with_object(list({text("101") + "Q", text("101") + "Q"}));
  ASSERT_OK(file);
  EXPECT_EQ(file->tree.root().item(0).id(), file->tree.root().item(1).id());
  EXPECT_ERROR(with_object(text("102") + "Q"), persistent_id_malformed);
  EXPECT_ERROR(with_object(text("101x") + "Q"), persistent_id_malformed);
  EXPECT_ERROR(with_object(text("") + "Q"), persistent_id_malformed);
  EXPECT_ERROR(with_object(integer(101) + "Q"), persistent_id_malformed);
}

TEST(TorchTar, ClassesOfModulesAreKept) {
  const auto file =
      with_object(tuple({global("net", "Net"), text("net.py"), text("class Net: ...")}) + "Q)\x81");
  ASSERT_OK(file);
  EXPECT_EQ(show(file->tree.root()), "copyreg.__newobj__(net.Net)");
  EXPECT_EQ(file->notes, std::vector<string>{"dropped the Python source of 1 module class"});
}

TEST(TorchTar, TensorsMayBeMadeInThePickle) {
  const auto file = with_object(tensor({.storage = text("1") + "Q"}));
  ASSERT_OK(file);
  EXPECT_EQ(show(file->tree.root()), "T0");
  const auto storage = with_object(text("1") + "Q");
  ASSERT_OK(storage);
  EXPECT_EQ(show(storage->tree.root()), "torch.FloatStorage(T0)");
}

TEST(TorchTar, ReadsPartsOfStorages) {
  const auto part = [](std::int64_t first, std::int64_t count, std::int64_t root = 1) {
    TorchTar tar = torch_tar_parts();
    const string row = tuple({integer(3), integer(root), integer(first), integer(count)});
    tar.storages =
        tar_count(1) + tar_storage(1, 6, "aaaabbbbccccddddeeeeffff") + finish(list({row}));
    tar.tensors = tar_count(1) + tar_tensor(101, 3, {2, 1, 1});
    return read_bytes(torch_tar(tar));
  };
  const auto file = part(2, 3);
  ASSERT_OK(file);
  EXPECT_EQ(file->tensors[0].offset, 3u);
  EXPECT_ERROR(part(2, 2), tensor_out_of_storage) << "of the tensor";
  EXPECT_ERROR(part(4, 3), tensor_out_of_storage) << "of the part";
  EXPECT_ERROR(part(-1, 3), persistent_id_malformed);
  EXPECT_ERROR(part(2, 3, 7), storage_missing);
}

TEST(TorchTar, StoragesAreWhatTheyClaim) {
  const string none = finish(list({}));
  const string data(24, 'x');
  EXPECT_OK(with_storages(tar_count(1) + tar_storage(1, 6, data) + none));
  EXPECT_ERROR(with_storages(tar_count(1) + tar_storage(1, 5, data) + none), pickle_opcode_unknown)
      << "what follows is read four bytes early";
  EXPECT_ERROR(with_storages(tar_count(1) + tar_storage(1, 600, data) + none), legacy_truncated);
  EXPECT_ERROR(with_storages(tar_count(1) + tar_storage(1, -1, data) + none),
               persistent_id_malformed);
  EXPECT_ERROR(with_storages(tar_count(1) + tar_storage(1, INT64_MAX, data) + none), size_overflow);
  EXPECT_ERROR(with_storages(tar_count(2) + tar_storage(1, 6, data) + none), legacy_malformed);
  EXPECT_ERROR(with_storages(tar_count(-1) + tar_storage(1, 6, data) + none), legacy_malformed);
  EXPECT_ERROR(with_storages(tar_count(INT64_MAX) + none), legacy_malformed);
  EXPECT_ERROR(with_storages(tar_count(1) + tar_storage(1, 6, data) + finish("N")),
               legacy_malformed);
  EXPECT_ERROR(with_storages(tar_count(1) + tar_storage(1, 6, data)), pickle_truncated);
  EXPECT_ERROR(
      with_storages(tar_count(2) + tar_storage(1, 6, data) + tar_storage(1, 6, data) + none),
      storage_conflict);
  EXPECT_ERROR(
      with_storages(tar_count(1) + tar_row(1, text("cpu"), "Storage") + test::le(0, 8) + none),
      persistent_id_malformed);
}

TEST(TorchTar, TensorsLieInTheirStorages) {
  const auto one = [](const std::vector<std::int64_t>& numbers, std::int64_t storage = 1) {
    return with_tensors(tar_count(1) + tar_tensor(101, storage, numbers));
  };
  EXPECT_OK(one({2, 3, 3, 1, 0}));
  EXPECT_OK(one({0}));
  EXPECT_OK(one({5})) << "no dimensions, the last element";
  EXPECT_ERROR(one({6}), tensor_out_of_storage);
  EXPECT_ERROR(one({2, 3, 3, 1, 1}), tensor_out_of_storage);
  EXPECT_ERROR(one({2, 3, 4, 1, 0}), tensor_out_of_storage);
  EXPECT_ERROR(one({2, 3, -3, 1, 3}), rebuild_malformed);
  EXPECT_ERROR(one({-2, 3, 3, 1, 0}), rebuild_malformed);
  EXPECT_ERROR(one({2, 3, 3, 1, -1}), rebuild_malformed);
  EXPECT_ERROR(one({INT64_MAX, 4, 1, 1, 0}), size_overflow);
  EXPECT_ERROR(one({0}, 2), storage_missing);
  EXPECT_ERROR(one({0}, 101), storage_missing);
  EXPECT_ERROR(with_tensors(tar_count(2) + tar_tensor(101, 1, {0}) + tar_tensor(101, 1, {0})),
               storage_conflict);
  EXPECT_ERROR(with_tensors(tar_count(2) + tar_tensor(101, 1, {0})), pickle_truncated);
  string deep = tar_tensor(101, 1, {0});
  deep.replace(deep.size() - 16, 8, test::le(65, 8));
  EXPECT_ERROR(with_tensors(tar_count(1) + deep), legacy_malformed);
}

TEST(TorchTar, MachineHasProtocol1000) {
  const auto machine = [](const string& body) {
    TorchTar tar = torch_tar_parts();
    tar.machine = finish(body);
    return read_bytes(torch_tar(tar));
  };
  EXPECT_OK(machine(dict({text("x"), "N", text("protocol_version"), "M\xe8\x03"})));
  EXPECT_ERROR(machine(dict({text("protocol_version"), "M\xe9\x03"})), torch_version_unsupported);
  EXPECT_ERROR(machine(dict({})), legacy_malformed);
  EXPECT_ERROR(machine("N"), legacy_malformed);
}

TEST(TorchTar, OtherTarsAreNamed) {
  const auto other = read_bytes(build_tar({{.name = "model.bin", .data = "x"}}));
  EXPECT_ERROR(other, unsupported_layout);
  EXPECT_NE(other.error().message.find("unpack it"), string::npos);
  TorchTar tar = torch_tar_parts();
  const std::vector<TarItem> items = {{.name = "sys_info", .data = tar.machine},
                                      {.name = "pickle", .data = tar.object},
                                      {.name = "tensors", .data = tar.tensors},
                                      {.name = "storages", .data = tar.storages},
                                      {.name = "README", .data = "hello"}};
  const auto more = read_bytes(build_tar(items));
  ASSERT_OK(more);
  EXPECT_EQ(more->notes, std::vector<string>{"ignored 1 other member"});
  EXPECT_ERROR(read_bytes(build_tar({items.begin(), items.begin() + 3})), unsupported_layout);
}

TEST(TorchTar, NoPrefixAndNoFlippedBitDoesHarm) {
  const string good = torch_tar();
  // Of the two blocks of zeros at the end one will do.
  for (std::size_t size = 0; size < good.size() - 512; ++size)
    EXPECT_FALSE(read_bytes(good.substr(0, size))) << size;
  for (std::size_t bit = 0; bit < good.size() * 8; ++bit) {
    string bad = good;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ 1 << bit % 8);
    const auto file = read_bytes(bad);
    for (const TorchStorage& storage : file ? file->storages : LargeVector<TorchStorage>())
      EXPECT_TRUE(in_bounds(storage.stored_offset, storage.stored_nbytes, bad.size())) << bit;
  }
}

}  // namespace
}  // namespace flatbed::pth
