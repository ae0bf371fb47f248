// Legacy streams: their parts, and what lies in each of them.
#include "torch/legacy_stream.hpp"

#include <gtest/gtest.h>

#include <string>

#include "base/checked.hpp"
#include "support/expect_error.hpp"
#include "support/legacy_builder.hpp"
#include "support/read_pickle.hpp"
#include "support/show.hpp"

namespace flatbed::pth {
namespace {

using test::le;
using test::legacy_storage;
using test::legacy_stream;
using test::legacy_tensor;
using test::LegacyStorage;
using test::LegacyStream;
using test::load_from_bytes;
using test::nested_storage;
using namespace test::pickle;  // NOLINT: the assembler's words are the subject here
using std::string;

Result<TorchFile> read_stream(const LegacyStream& stream) {
  return read_bytes(legacy_stream(stream));
}

Result<TorchFile> read_object(const string& body, const std::vector<LegacyStorage>& storages) {
  return read_stream({.object = finish(body), .storages = storages});
}

TEST(LegacyStream, ReadsAStorageInPlace) {
  const string bytes = legacy_stream();
  const auto file = read_bytes(bytes);
  ASSERT_OK(file);
  EXPECT_EQ(file->layout, TorchLayout::legacy);
  EXPECT_EQ(show(file->tree.root()), "T0");
  ASSERT_EQ(file->storages.size(), 1u);
  EXPECT_EQ(bytes.substr(file->storages[0].stored_offset), string(24, '\1'));
  EXPECT_TRUE(file->notes.empty());
}

TEST(LegacyStream, ReadsStringsOfPython2) {
  const string id = tuple({"U\x07storage", global("torch", "FloatStorage"), "U\x01k", "U\6cuda:0",
                           "\x8a\x01\x06", "N"}) +
                    "Q";
  const auto file = read_object(legacy_tensor({.storage = id, .hooks = "N"}), {{.key = "k"}});
  ASSERT_OK(file);
  EXPECT_EQ(show(file->tree.root()), "T0 cuda:0");
}

TEST(LegacyStream, ReadsEveryProtocol) {
  const LegacyStream plain;
  for (const char* proto : {"\x80\x02", "\x80\x03", "\x80\x04", "\x80\x05"}) {
    LegacyStream stream;
    stream.magic.replace(0, 2, proto);
    stream.object.replace(0, 2, proto);
    EXPECT_OK(read_stream(stream));
  }
  EXPECT_OK(read_stream({.magic = "L119547037146038801333356L\n.", .protocol = "I1001\n."}));
}

TEST(LegacyStream, StoragesFollowInTheOrderOfTheList) {
  const string second =
      legacy_tensor({.storage = legacy_storage({.key = text("1"), .count = integer(1)}),
                     .sizes = counts({1}),
                     .strides = counts({1})});
  const string bytes = legacy_stream(
      {.object = finish(list({legacy_tensor(), second})),
       .storages = {{.key = "1", .count = 1, .data = "abcd"}, {.data = string(24, 'x')}}});
  EXPECT_EQ(contents(bytes, 0), string(24, 'x'));
  EXPECT_EQ(contents(bytes, 1), "abcd");
}

// Tensors count from the beginning of the part of the storage that they were made on.
TEST(LegacyStream, ReadsPartsOfStorages) {
  const auto bytes = [](std::int64_t first, std::int64_t size, std::int64_t offset) {
    const string part = legacy_storage({}, tuple({text("v"), integer(first), integer(size)}));
    return legacy_stream({.object = finish(legacy_tensor({.storage = part,
                                                          .offset = integer(offset),
                                                          .sizes = counts({2}),
                                                          .strides = counts({1})})),
                          .storages = {{.data = "aaaabbbbccccddddeeeeffff"}}});
  };
  EXPECT_EQ(contents(bytes(2, 3, 1), 0), "ddddeeee");
  EXPECT_EQ(contents(bytes(0, 2, 0), 0), "aaaabbbb");
  EXPECT_EQ(contents(bytes(4, 2, 0), 0), "eeeeffff");
  EXPECT_EQ(contents(bytes(4, 3, 0), 0), "tensor_out_of_storage") << "of the part";
  EXPECT_EQ(contents(bytes(7, 0, 0), 0), "tensor_out_of_storage");
  EXPECT_EQ(contents(bytes(INT64_MAX, 2, 0), 0), "tensor_out_of_storage");
  EXPECT_EQ(contents(bytes(2, 3, 2), 0), "tensor_out_of_storage") << "of the tensor";
  EXPECT_EQ(contents(bytes(-1, 2, 0), 0), "persistent_id_malformed");
  EXPECT_EQ(contents(bytes(2, -3, 0), 0), "persistent_id_malformed");
}

TEST(LegacyStream, OneKeyMeansOneThing) {
  const auto pair = [](const string& a, const string& b) {
    const auto small = [](const string& id) {
      return legacy_tensor({.storage = id, .sizes = counts({1}), .strides = counts({1})});
    };
    return read_object(list({small(a), small(b)}), {{}});
  };
  const auto part = [](const char* key, int first, int size) {
    return legacy_storage({}, tuple({text(key), integer(first), integer(size)}));
  };
  const string ints = legacy_storage({.type = global("torch", "IntStorage")});
  EXPECT_OK(pair(legacy_storage(), legacy_storage()));
  EXPECT_ERROR(pair(legacy_storage(), ints), storage_conflict);
  EXPECT_ERROR(pair(legacy_storage(), legacy_storage({.count = integer(5)})), storage_conflict);
  EXPECT_OK(pair(part("v", 1, 2), part("v", 1, 2)));
  EXPECT_OK(pair(part("v", 1, 2), part("w", 1, 3)));
  EXPECT_ERROR(pair(part("v", 1, 2), part("v", 1, 3)), storage_conflict);
  EXPECT_ERROR(pair(part("v", 1, 2), part("v", 2, 2)), storage_conflict);
  EXPECT_ERROR(pair(legacy_storage(), part("0", 1, 2)), storage_conflict);
  EXPECT_ERROR(pair(part("9", 1, 2), legacy_storage({.key = text("9")})), storage_conflict);
}

TEST(LegacyStream, KeepsTheClassOfAModuleAndDropsItsSource) {
  const auto module = [](const string& type, const char* source) {
    return tuple({text("module"), type, text("net.py"), text(source)}) + "Q";
  };
  const string net = global("net", "Net");
  const auto file = read_object(module(net, "class Net: ...") + ")\x81}b", {});
  ASSERT_OK(file);
  EXPECT_EQ(show(file->tree.root()), "copyreg.__newobj__(net.Net)|{}");
  EXPECT_EQ(file->notes, std::vector<string>{"dropped the Python source of 1 module class"});
  const auto without = read_object(module(net, ""), {});
  ASSERT_OK(without);
  EXPECT_TRUE(without->notes.empty());
  EXPECT_ERROR(read_object(module(text("net.Net"), "x"), {}), persistent_id_malformed);
}

TEST(LegacyStream, PersistentIdsHaveSixItems) {
  EXPECT_OK(read_object(legacy_tensor(), {{}}));
  EXPECT_ERROR(read_object(tensor(), {{}}), persistent_id_malformed) << "five, as in zips";
  EXPECT_ERROR(read_object(legacy_tensor({.storage = legacy_storage({}, "K\1")}), {{}}),
               persistent_id_malformed);
  EXPECT_ERROR(
      read_object(legacy_tensor({.storage = legacy_storage({}, tuple({"K\1", "K\1"}))}), {{}}),
      persistent_id_malformed);
  EXPECT_EQ(shown(legacy_tensor()), "persistent_id_malformed") << "six, in a zip";
}

TEST(LegacyStream, CountsAreThoseOfTheObject) {
  const auto counted = [](std::int64_t count, std::size_t nbytes) {
    return read_object(legacy_tensor(), {{.count = count, .data = string(nbytes, 'x')}});
  };
  EXPECT_OK(counted(6, 24));
  EXPECT_ERROR(counted(5, 20), storage_size_mismatch);
  EXPECT_ERROR(counted(7, 28), storage_size_mismatch);
  EXPECT_ERROR(counted(24, 24), storage_size_mismatch) << "elements, not bytes";
  EXPECT_ERROR(counted(-1, 24), storage_size_mismatch);
  EXPECT_ERROR(counted(INT64_MIN, 24), storage_size_mismatch);
  EXPECT_ERROR(counted(6, 23), legacy_truncated);
  const auto huge = [](std::int64_t count) {
    return read_object(legacy_tensor({.storage = legacy_storage({.count = integer(count)})}),
                       {{.count = count}});
  };
  EXPECT_ERROR(huge(INT64_MAX), size_overflow);
  EXPECT_ERROR(huge(std::int64_t{1} << 40), legacy_truncated);
  EXPECT_ERROR(huge(-6), persistent_id_malformed);
}

TEST(LegacyStream, TheListNamesEachStorageOnce) {
  const auto listed = [](const string& keys) { return read_stream({.keys = finish(keys)}); };
  EXPECT_OK(listed(list({text("0")})));
  EXPECT_OK(listed(list({"U\0010"})));
  EXPECT_ERROR(listed(list({})), storage_missing);
  EXPECT_ERROR(listed(list({text("1")})), legacy_malformed);
  EXPECT_ERROR(listed(list({"K\1"})), legacy_malformed);
  EXPECT_ERROR(listed(dict({})), legacy_malformed);
  EXPECT_ERROR(read_stream({.storages = {{}, {}}}), legacy_malformed);
  EXPECT_ERROR(read_stream({.storages = {{}, {.key = "1"}}}), legacy_malformed);
}

TEST(LegacyStream, AnEmptyStorageMayBeMissing) {
  const string empty = legacy_tensor({.storage = legacy_storage({.count = integer(0)}),
                                      .sizes = counts({0}),
                                      .strides = counts({1})});
  EXPECT_OK(read_object(empty, {}));
  EXPECT_OK(read_object(empty, {{.count = 0, .data = ""}}));
}

TEST(LegacyStream, BeginsWithProtocolAndMachine) {
  EXPECT_ERROR(read_stream({.protocol = finish("M\xea\x03")}), torch_version_unsupported);
  EXPECT_ERROR(read_stream({.protocol = finish("N")}), legacy_malformed);
  EXPECT_ERROR(read_stream({.machine = finish("N")}), legacy_malformed);
  EXPECT_ERROR(read_stream({.machine = finish(storage())}), persistent_id_malformed);
  EXPECT_ERROR(read_stream({.machine = finish("R")}), pickle_stack_underflow);
  const auto other = read_stream({.magic = finish("\x8a\x01\x05")});
  ASSERT_OK(other) << "a pickle of 5, with bytes after it";
  EXPECT_EQ(other->layout, TorchLayout::pickle);
}

TEST(LegacyStream, BytesAfterTheEndAreReported) {
  const auto file = read_bytes(legacy_stream() + "xyz");
  ASSERT_OK(file);
  EXPECT_EQ(file->notes, std::vector<string>{"ignored 3 bytes after the end of the last storage"});
}

TEST(LegacyStream, MessagesNameThePlace) {
  const auto object = read_object("]K\1K\2s", {});
  ASSERT_FALSE(object);
  EXPECT_EQ(object.error().message,
            "the pickle from byte 46: byte 7: SETITEM: the target is a list, expected a dict");
  const auto count = read_object(legacy_tensor(), {{.count = 5}});
  ASSERT_FALSE(count);
  EXPECT_EQ(count.error().message, "storage '0': wrong number of elements: found 5, expected 6");
}

// A pickle's end is looked for in windows of the file.
TEST(LegacyStream, ReadsPicklesThatAreLongerThanAWindow) {
  for (const std::size_t nbytes : {65'400u, 65'536u, 300'000u}) {
    const auto file = read_object(list({text(string(nbytes, 's')), legacy_tensor()}), {{}});
    ASSERT_OK(file) << nbytes;
    EXPECT_EQ(file->tree.root().item(0).text().size(), nbytes);
  }
}

TEST(LegacyStream, NoPrefixAndNoFlippedBitDoesHarm) {
  const string part = legacy_storage({}, tuple({text("v"), integer(2), integer(3)}));
  const string good = legacy_stream(
      {.object = finish(list(
           {legacy_tensor(),
            legacy_tensor({.storage = part, .sizes = counts({3}), .strides = counts({1})})}))});
  ASSERT_OK(read_bytes(good));
  for (std::size_t size = 0; size < good.size(); ++size) {
    const auto file = read_bytes(good.substr(0, size));
    // Cut after the magic number, it is a pickle of one number.
    const bool number = size >= LegacyStream().magic.size() && file.has_value();
    EXPECT_TRUE(!file || number) << size;
    EXPECT_TRUE(!file || file->tensors.empty()) << size;
  }
  for (std::size_t bit = 0; bit < good.size() * 8; ++bit) {
    string bad = good;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ 1 << bit % 8);
    const auto file = read_bytes(bad);
    for (const TorchStorage& storage : file ? file->storages : LargeVector<TorchStorage>())
      EXPECT_TRUE(in_bounds(storage.stored_offset, storage.stored_nbytes, bad.size())) << bit;
  }
}

// Each stream has keys of its own.
TEST(LegacyStream, StoragesAreValuesToo) {
  const string id = legacy_storage();
  const auto whole = read_object(list({id, id, legacy_tensor()}), {{}});
  ASSERT_OK(whole);
  EXPECT_EQ(show(whole->tree.root()), "[torch.FloatStorage(T1), torch.FloatStorage(T1), T0]");
  EXPECT_EQ(whole->tree.root().item(0).id(), whole->tree.root().item(1).id());

  const string part = legacy_storage({}, tuple({text("v"), integer(2), integer(3)}));
  const string bytes =
      legacy_stream({.object = finish(part), .storages = {{.data = "aaaabbbbccccddddeeeeffff"}}});
  EXPECT_EQ(contents(bytes, 0), "ccccddddeeee");

  const auto nested = read_bytes("\x80\x03" + load_from_bytes(nested_storage()) + ".");
  ASSERT_OK(nested);
  EXPECT_EQ(show(nested->tree.root()), "torch.FloatStorage(T0)");
}

// ---- tensors as torch pickled them up to 0.3 ----------------------------------------------------

TEST(OldConstructors, TensorClassesAreFilledByBuild) {
  const string state = tuple({storage(), integer(0), counts({2, 3}), counts({3, 1})});
  const string floats = global("torch", "FloatTensor");
  EXPECT_EQ(shown(floats + ")R" + state + "b"), "T0");
  EXPECT_EQ(shown(floats + ")\x81" + state + "b"), "T0");
  EXPECT_EQ(shown(floats + state + "R"), "T0");
  EXPECT_EQ(shown(global("torch.cuda", "FloatTensor") + ")R" + state + "b"), "T0");
  EXPECT_EQ(shown(global("torch", "LongTensor") + ")R" + state + "b"), "rebuild_malformed");
  EXPECT_EQ(shown(floats + ")R"), "torch.FloatTensor()") << "never filled";
  EXPECT_EQ(
      shown(floats + ")R" + tuple({storage(), integer(1), counts({2, 3}), counts({3, 1})}) + "b"),
      "tensor_out_of_storage");
}

// What was memorised before it was filled is the same tensor.
TEST(OldConstructors, ATensorIsOneObjectBeforeAndAfterItIsFilled) {
  const string state = tuple({storage(), integer(0), counts({6}), counts({1})});
  const auto file =
      unpickle(finish("](" + global("torch", "FloatTensor") + ")Rq\5" + state + "bh\5e"));
  ASSERT_OK(file);
  EXPECT_EQ(show(file->tree.root()), "[T0, T0]");
  EXPECT_EQ(file->tree.root().item(0).id(), file->tree.root().item(1).id());
}

TEST(OldConstructors, ParametersAndVariablesAreTensors) {
  const string parameter = global("torch.nn.parameter", "Parameter");
  const string variable = global("torch.autograd.variable", "Variable");
  EXPECT_EQ(shown(parameter + tensor() + "\x85R"), "T0 parameter grad");
  EXPECT_EQ(shown(parameter + tuple({tensor(), "\x89"}) + "R"), "T0 parameter");
  EXPECT_EQ(shown(variable + tensor() + "\x85R"), "T0");
  EXPECT_EQ(shown(variable + tuple({tensor(), "\x88", "\x89"}) + "R"), "T0 grad");
  EXPECT_EQ(shown(parameter + tensor() + "\x85R" + tuple({"\x89", "\x89", "N"}) + "b"),
            "T0 parameter");
  EXPECT_EQ(shown(variable + tensor() + "\x85R" + tuple({"\x88", "\x89", ordered_dict()}) + "b"),
            "T0 grad");
  const string all = tuple({tensor(), "N", ordered_dict(), "\x88", "\x89"});
  EXPECT_EQ(shown(parameter + ")R" + all + "b"), "T0 parameter grad");
  EXPECT_EQ(shown(parameter + ")\x81" + all + "b"), "T0 parameter grad");
  EXPECT_EQ(shown(variable + ")\x81" + all + "b"), "T0 grad");
  EXPECT_EQ(shown(parameter + ")R" + tuple({"N", "N", "N", "\x88", "\x89"}) + "b"),
            "rebuild_malformed");
  EXPECT_EQ(shown(parameter + tensor() + "\x85R" + tuple({"\x89"}) + "b"), "pickle_type");
}

}  // namespace
}  // namespace flatbed::pth
