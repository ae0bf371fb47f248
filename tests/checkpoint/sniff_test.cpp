// sniff(): each kind of file that lies where a model should be, named; and none of them taken for
// another by accident.
#include "checkpoint/sniff.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "flatbed/checkpoint.hpp"
#include "io/file.hpp"
#include "support/bytes_source.hpp"
#include "support/expect_error.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

using namespace std::string_literals;
using test::TempDir;
using test::write_file;

Result<Content> sniff_bytes(std::string_view bytes) {
  return sniff(test::BytesSource(std::string(bytes)));
}

std::string padded(std::string bytes) { return bytes.append(600, 'x'); }

TEST(Sniff, NamesFormatsThatAreNoModelOrNotRead) {
  const std::pair<std::string, std::string_view> cases[] = {
      {"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 17\n", "git-lfs"},
      {"<!DOCTYPE html><html>", "HTML"},
      {"<!doctype html>", "HTML"},
      {"<html><body>404", "HTML"},
      {"<?xml version=\"1.0\"?><Error>", "XML"},
      {"GGUF\3\0\0\0"s, "GGUF"},
      {"\x89HDF\r\n\x1a\n"s, "HDF5"},
      {"\x93NUMPY\1\0"s, "NumPy"},
      {"PK\5\6"s + std::string(18, '\0'), "empty zip"},
      {"\x1f\x8b\x08\x08\x12\x34\x56\x78\x00\x03"s, "gzip"},
      {"\x28\xb5\x2f\xfd\x04\x58\x01\x00\x00"s, "zstd"},
      {"\xfd"
       "7zXZ\0\0\4"s,
       "xz"},
      {"BZh91AY&SY", "bzip2"},
      {"7z\xbc\xaf\x27\x1c\0\4"s, "7z"},
      {"%PDF-1.7\n", "PDF"},
  };
  for (const auto& [bytes, what] : cases) {
    const auto found = sniff_bytes(padded(bytes));
    EXPECT_ERROR(found, unsupported_format) << what;
    EXPECT_NE(found.error().message.find(what), std::string::npos) << found.error().message;
  }
}

TEST(Sniff, NamesPyTorchLayoutsThatAreNotRead) {
  const std::pair<std::string, std::string_view> cases[] = {
      {"\x18\0\0\0PTMF"s, "state_dict()"},
      {"PYTORCH1", "preview"},
  };
  for (const auto& [bytes, what] : cases) {
    const auto found = sniff_bytes(padded(bytes));
    EXPECT_ERROR(found, unsupported_layout) << what;
    EXPECT_NE(found.error().message.find(what), std::string::npos) << found.error().message;
  }
}

TEST(Sniff, AnIndexMayHoldMagicNumbersInItsNames) {
  for (const std::size_t at : {std::size_t{4}, std::size_t{257}}) {
    std::string index = R"({"weight_map":{"w":"a.safetensors"}})";
    index.insert(1, "\"" + std::string(at - 2, 'm') + (at == 4 ? "PTMF" : "ustard") + "\":1,");
    EXPECT_EQ(sniff_bytes(index).value(), Content::json) << index;
  }
}

TEST(Sniff, KnowsWhatIsRead) {
  EXPECT_EQ(sniff_bytes("PK\3\4"s + std::string(26, '\0')).value(), Content::zip);
  EXPECT_EQ(sniff_bytes("{\"weight_map\":{}}").value(), Content::json);
  EXPECT_EQ(sniff_bytes(" \n\t[1]").value(), Content::json);
  EXPECT_EQ(sniff_bytes("\2\0\0\0\0\0\0\0{}"s).value(), Content::safetensors);
  std::string tar(1024, '\0');
  tar.replace(0, 5, "names");
  tar.replace(257, 6, "ustar\0"s);
  EXPECT_EQ(sniff_bytes(tar).value(), Content::tar);
}

TEST(Sniff, KnowsPicklesOfEveryProtocol) {
  for (const std::string& bytes :
       {"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03."s,
        "\x80\x02}q\0."s, "\x80\x05\x95\x10\0\0\0\0\0\0\0}\x94."s, "(dp0\nS'a'\np1\nI1\ns."s,
        "}q\0X\1\0\0\0aq\1K\1s."s, "L119547037146038801333356L\n.I1001\n."s, "N."s,
        "(lp0\nV"s + std::string(1000, 'v') + "\np1\na."})
    EXPECT_EQ(sniff_bytes(bytes).value(), Content::pickle) << bytes;
  EXPECT_ERROR(sniff_bytes("(lp0\nV"s + std::string(1000, 'v') + "\np1\na"), unknown_format)
      << "no STOP";
  EXPECT_ERROR(sniff_bytes("(this,is,a,text,not,a,pickle)."), unknown_format);
}

// A part that holds one tensor alone is a whole zip of torch.save.
TEST(Sniff, NamesPartsOfDistributedCheckpoints) {
  const TempDir dir;
  const std::string zip = "PK\3\4"s + std::string(26, '\0');
  write_file(dir / "__0_0.distcp", zip);
  write_file(dir / "__0_0.pth", zip);
  const auto part = sniff(File::open(dir / "__0_0.distcp").value());
  EXPECT_ERROR(part, unsupported_layout);
  EXPECT_NE(part.error().message.find("format_utils.dcp_to_torch_save"), std::string::npos);
  EXPECT_OK(sniff(File::open(dir / "__0_0.pth").value()));
  const auto folder = Checkpoint::open(dir.path());
  EXPECT_ERROR(folder, unsupported_layout);
  EXPECT_NE(folder.error().message.find("format_utils.dcp_to_torch_save"), std::string::npos);
}

TEST(Sniff, LeavesBrokenSafetensorsToTheirRules) {
  EXPECT_EQ(sniff_bytes("").value(), Content::safetensors);
  EXPECT_EQ(sniff_bytes("\2\0\0\0"s).value(), Content::safetensors);
  EXPECT_EQ(sniff_bytes("\xff\xff\xff\xff\xff\xff\xff\xff{}"s).value(), Content::safetensors);
  EXPECT_EQ(sniff_bytes("\2\0\0\0\0\0\0\0ab"s).value(), Content::safetensors);
}

TEST(Sniff, SaysThatItDoesNotKnowJunk) {
  EXPECT_ERROR(sniff_bytes("hello, this is a text"), unknown_format);
  EXPECT_ERROR(sniff_bytes(std::string(4096, '\xA5')), unknown_format);
  EXPECT_ERROR(sniff_bytes("\x7f"
                           "ELF\2\1\1\0\0\0\0\0"s),
               unknown_format);
}

// The length of a foreign header may be any number: no magic may win over a header.
TEST(Sniff, TakesNoSafetensorsFileForAnotherFormat) {
  for (const std::uint64_t length :
       {0x10080u, 0x050280u, 0x8b1fu, 0x088b1fu, 0x685a42u, 0x0128b528u, 0x04034b50u}) {
    std::string bytes;
    for (int i = 0; i < 8; ++i) bytes += static_cast<char>(length >> (8 * i) & 0xFF);
    const auto found = sniff_bytes(bytes + "{\"w\":{\"dtype\":");
    ASSERT_OK(found) << length;
    EXPECT_EQ(*found, Content::safetensors) << length;
  }
}

TEST(Sniff, TakesNoNameInAHeaderForATarArchive) {
  std::string bytes = "\xf8\x0f\0\0\0\0\0\0{\""s;
  bytes.resize(257, 'a');
  const auto found = sniff_bytes(bytes + "ustar\":{\"dtype\":");
  ASSERT_OK(found);
  EXPECT_EQ(*found, Content::safetensors);
}

TEST(Sniff, DecidesByContentNotByTheName) {
  const TempDir dir;
  write_file(dir / "model.safetensors", "GGUF\3\0\0\0"s);
  const auto opened = Checkpoint::open(dir / "model.safetensors");
  EXPECT_ERROR(opened, unsupported_format);
  EXPECT_NE(opened.error().message.find("model.safetensors: this is a GGUF file"),
            std::string::npos);
  write_file(dir / "model.pth", "\2\0\0\0\0\0\0\0{}"s);
  EXPECT_OK(Checkpoint::open(dir / "model.pth"));
}

TEST(Sniff, LeavesAnEmptyDownloadWithAClearError) {
  const TempDir dir;
  write_file(dir / "a.safetensors", "");
  const auto opened = Checkpoint::open(dir / "a.safetensors");
  EXPECT_ERROR(opened, file_too_short);
  EXPECT_NE(opened.error().message.find("is empty"), std::string::npos);
}

TEST(Sniff, NamesAFileOfZeros) {
  for (const std::size_t nbytes : {9U, 512U, 5000U}) {
    const auto found = sniff_bytes(std::string(nbytes, '\0'));
    EXPECT_ERROR(found, header_not_json);
    EXPECT_TRUE(found.error().message.starts_with("the file is all zeros")) << nbytes;
  }
  EXPECT_EQ(sniff_bytes(std::string(8, '\0')).value(), Content::safetensors);
  EXPECT_EQ(sniff_bytes(std::string(5000, '\0') + "x").value(), Content::safetensors);
}

}  // namespace
}  // namespace flatbed
