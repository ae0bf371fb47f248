// Plain pickles, with or without tensors: legacy streams within them, and bytes that are tensors.
#include "torch/torch_pickle.hpp"

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

string nested_tensor(const string& storage) { return tensor({.storage = storage}); }

TEST(PlainPickle, OpensWithoutTensors) {
  for (const string& bytes : {finish(dict({text("a"), "K\1"})), string("}X\1\0\0\0aK\1s.", 11),
                              string("(dp0\nS'a'\np1\nI1\ns.")}) {
    const auto file = read_bytes(bytes);
    ASSERT_OK(file);
    EXPECT_EQ(file->layout, TorchLayout::pickle);
    EXPECT_EQ(show(file->tree.root()), "{'a': 1}");
  }
}

TEST(PlainPickle, ReportsBytesAfterItsEnd) {
  const auto file = read_bytes(finish("N") + finish("N"));
  ASSERT_OK(file);
  EXPECT_EQ(file->notes, std::vector<string>{"ignored 4 bytes after the end of the pickle"});
}

TEST(PlainPickle, HasNoPersistentIds) {
  EXPECT_ERROR(read_bytes(finish(tensor())), persistent_id_malformed);
  EXPECT_ERROR(read_bytes(finish(legacy_tensor())), persistent_id_malformed);
}

TEST(PlainPickle, FindsStoragesThatLieInItPlainly) {
  const string data = "aaaabbbbccccddddeeeeffff";
  const string bytes = finish(nested_tensor(load_from_bytes(nested_storage({.data = data}))));
  const auto file = read_bytes(bytes);
  ASSERT_OK(file);
  ASSERT_EQ(file->tensors.size(), 1u);
  const TorchStorage& storage = file->storages[file->tensors[0].storage];
  EXPECT_EQ(storage.held, kNotHeld);
  EXPECT_EQ(bytes.substr(storage.stored_offset, storage.stored_nbytes), data);
  EXPECT_EQ(contents(bytes, 0), data);
}

TEST(PlainPickle, FindsLongStreamsToo) {
  const string data(4000, 'z');
  const string bytes =
      finish(tensor({.storage = load_from_bytes(nested_storage({.count = 1000, .data = data})),
                     .sizes = counts({1000}),
                     .strides = counts({1})}));
  const auto file = read_bytes(bytes);
  ASSERT_OK(file);
  ASSERT_EQ(file->tensors.size(), 1u) << "the bytes themselves are no tensor of the result";
  EXPECT_EQ(contents(bytes, 0), data);
}

string as_latin1(const string& bytes) {
  string utf8;
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x80) utf8 += static_cast<char>(0xC0 | byte >> 6);
    utf8 += static_cast<char>(byte < 0x80 ? byte : 0x80 | (byte & 0x3F));
  }
  return call(global("_codecs", "encode"), tuple({text(utf8), text("latin1")}));
}

// Protocols up to 2 spell bytes as text, so the bytes themselves are nowhere in the file.
TEST(PlainPickle, HoldsStoragesThatAreSpelledAsText) {
  for (const std::size_t count : {6u, 1000u}) {
    const string data(count * 4, '\xE9');
    const string stream = nested_storage({.count = static_cast<std::int64_t>(count), .data = data});
    const string storage =
        call(global("torch.storage", "_load_from_bytes"), as_latin1(stream) + "\x85");
    const auto size = static_cast<std::int64_t>(count);
    const string bytes =
        finish(tensor({.storage = storage, .sizes = counts({size}), .strides = counts({1})}));
    const auto file = read_bytes(bytes);
    ASSERT_OK(file);
    ASSERT_EQ(file->tensors.size(), 1u);
    EXPECT_NE(file->storages[file->tensors[0].storage].held, kNotHeld);
    EXPECT_EQ(contents(bytes, 0), data);
    EXPECT_EQ(as_text(held_bytes(*file, file->tensors[0])), data);
  }
}

TEST(PlainPickle, LongBytesAreTensorsInPlace) {
  const string data(2000, 'b');
  const string bytes = finish("B" + test::le(2000, 4) + data);
  const auto file = read_bytes(bytes);
  ASSERT_OK(file);
  EXPECT_EQ(show(file->tree.root()), "b@T0");
  EXPECT_TRUE(file->held.empty());
  EXPECT_EQ(contents(bytes, 0), data);
}

// _reconstruct of an array of bytes, [2, 600]. The pickle holds more than the array copies.
string byte_array(const string& data, const char* fortran) {
  const string type = call(global("numpy", "dtype"), tuple({text("u1"), "\x89", "\x88"})) +
                      tuple({integer(3), text("|"), "NNN", integer(-1), integer(-1), integer(0)}) +
                      "b";
  const string made = call(global("numpy._core.multiarray", "_reconstruct"),
                           tuple({global("numpy", "ndarray"), counts({0}), "C\1b"}));
  return "\x80\x03" + made + tuple({integer(1), counts({2, 600}), type, fortran, data}) + "b.";
}

TEST(PlainPickle, ArraysAreMadeOfBytesInPlace) {
  string data(1200, 'x');
  data[1] = 'y';
  const string in_place = byte_array("B" + le(data.size(), 4) + data, "\x89");
  const auto file = read_bytes(in_place);
  ASSERT_OK(file);
  ASSERT_EQ(file->tensors.size(), 1u);
  EXPECT_EQ(file->tree.root().kind(), Kind::array);
  EXPECT_NE(file->tensors[0].storage, kNoStorage);
  EXPECT_EQ(contents(in_place, 0), data);

  string in_c_order(1200, 'x');
  in_c_order[600] = 'y';
  EXPECT_EQ(contents(byte_array("B" + le(data.size(), 4) + data, "\x88"), 0), in_c_order);
  const string decoded = call(global("_codecs", "encode"), tuple({text(data), text("latin1")}));
  EXPECT_EQ(contents(byte_array(decoded, "\x89"), 0), data);
  EXPECT_EQ(contents(byte_array(decoded, "\x88"), 0), in_c_order);
}

TEST(PlainPickle, EqualKeysOfTwoStreamsAreTwoStorages) {
  const string a = nested_tensor(load_from_bytes(nested_storage({.data = string(24, 'a')})));
  const string b = nested_tensor(load_from_bytes(nested_storage({.data = string(24, 'b')})));
  const string bytes = finish(list({a, b}));
  EXPECT_EQ(contents(bytes, 0), string(24, 'a'));
  EXPECT_EQ(contents(bytes, 1), string(24, 'b'));
}

TEST(PlainPickle, ErrorsOfAStreamWithinAreItsOwn) {
  const auto nested = [](const LegacyStream& stream) {
    return read_bytes(finish(load_from_bytes(legacy_stream(stream))));
  };
  EXPECT_OK(nested({}));
  EXPECT_ERROR(nested({.storages = {{.count = 5}}}), storage_size_mismatch);
  EXPECT_ERROR(nested({.magic = finish("K\1")}), legacy_malformed);
  EXPECT_ERROR(nested({.keys = finish(list({}))}), storage_missing);
  const string stream = legacy_stream();
  for (std::size_t size = 0; size < stream.size(); ++size)
    EXPECT_FALSE(read_bytes(finish(load_from_bytes(stream.substr(0, size))))) << size;
  const string load = global("torch.storage", "_load_from_bytes");
  EXPECT_ERROR(read_bytes(finish(call(load, ")"))), rebuild_malformed);
  EXPECT_ERROR(read_bytes(finish(call(load, tuple({text("x")})))), rebuild_malformed);
  EXPECT_ERROR(read_bytes(finish(call(load, load_from_bytes(nested_storage()) + "\x85"))),
               rebuild_malformed)
      << "a storage, not bytes";
}

TEST(PlainPickle, StreamsNestSoDeep) {
  const auto nested = [](int depth) {
    string value = "N";
    for (int i = 0; i < depth; ++i)
      value = load_from_bytes(legacy_stream({.object = finish(value), .storages = {}}));
    return read_bytes(finish(value));
  };
  EXPECT_OK(nested(kMaxNestedStreams));
  EXPECT_ERROR(nested(kMaxNestedStreams + 1), pickle_limit);
}

// The same megabyte loaded again and again.
TEST(PlainPickle, StreamsAreBoundedTogether) {
  const auto loads = [](std::size_t count) {
    const string blob = legacy_stream(
        {.object = finish("B" + test::le(1 << 20, 4) + string(1 << 20, 'x')), .storages = {}});
    string body = global("torch.storage", "_load_from_bytes") + "q\1" + "B" +
                  test::le(blob.size(), 4) + blob + "\x85q\2" + "00]";
    for (std::size_t i = 0; i < count; ++i) body += "h\1h\2Ra";
    return read_bytes(finish(body));
  };
  EXPECT_OK(loads(kMaxNestedRatio));
  EXPECT_ERROR(loads(kMaxNestedRatio + 1), pickle_limit);
}

// One text, decoded again and again, stays a call once it is more than the pickle itself.
TEST(PlainPickle, DecodedTextsAreBoundedTogether) {
  const auto decoded = [](std::size_t count) {
    string body = global("_codecs", "encode") + "q\1" +
                  tuple({text(string(100'000, 'x')), text("latin1")}) + "q\2" + "00](";
    for (std::size_t i = 0; i < count; ++i) body += "h\1h\2R";
    const Result<TorchFile> file = read_bytes(finish(body + "e"));
    return file ? file->held.size() : 0;
  };
  EXPECT_EQ(decoded(1), 1u);
  EXPECT_EQ(decoded(1000), 1u);
}

TEST(PlainPickle, NoPrefixAndNoFlippedBitDoesHarm) {
  const string encoded =
      call(global("torch.storage", "_load_from_bytes"), as_latin1(nested_storage()) + "\x85");
  const string good =
      finish(list({nested_tensor(load_from_bytes(nested_storage())), nested_tensor(encoded)}));
  ASSERT_OK(read_bytes(good));
  for (std::size_t size = 0; size < good.size(); ++size)
    EXPECT_FALSE(read_bytes(good.substr(0, size))) << size;
  for (std::size_t bit = 0; bit < good.size() * 8; ++bit) {
    string bad = good;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ 1 << bit % 8);
    const auto file = read_bytes(bad);
    for (const TorchStorage& storage : file ? file->storages : LargeVector<TorchStorage>()) {
      const std::uint64_t size =
          storage.held == kNotHeld ? bad.size() : file->held[storage.held].size();
      EXPECT_TRUE(in_bounds(storage.stored_offset, storage.stored_nbytes, size)) << bit;
    }
  }
}

TEST(PlainPickle, TheMetadataOfADistributedCheckpointIsNamed) {
  const string metadata = global("torch.distributed.checkpoint.metadata", "Metadata");
  const auto result = read_bytes(finish(metadata + ")\x81}b"));
  EXPECT_ERROR(result, unsupported_layout);
  EXPECT_NE(result.error().message.find("dcp_to_torch_save"), string::npos);
  EXPECT_OK(read_bytes(finish(global("my.metadata", "Metadata") + ")\x81}b")));
}

}  // namespace
}  // namespace flatbed::pth
