// Container: what a format that stores every tensor plainly gets without writing it; the format
// here is a file that is one tensor.
#include "io/container.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "base/bytes.hpp"
#include "io/file.hpp"
#include "support/bytes_source.hpp"
#include "support/expect_error.hpp"
#include "support/faulty_source.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

class OneTensor final : public Container {
 public:
  explicit OneTensor(std::shared_ptr<const ByteSource> source) : Container(std::move(source)) {
    TensorInfo all;
    all.name = "all";
    all.nbytes = this->source().size();
    contents().tensors.push_back(all);
  }
  [[nodiscard]] Layout layout() const noexcept override { return Layout::safetensors; }
};

TEST(Container, KnowsItsSource) {
  OneTensor container(std::make_shared<test::BytesSource>("0123", "s3://a"));
  EXPECT_EQ(container.source().label(), "s3://a");
  const ContainerContents contents = container.take_contents();
  EXPECT_EQ(contents.info.path, "s3://a");
  EXPECT_EQ(contents.info.nbytes, 4u);
  EXPECT_EQ(contents.tensors.size(), 1u);
}

TEST(Container, HasNoRecordsUnlessItSaysSo) {
  const OneTensor container(std::make_shared<test::BytesSource>("0123"));
  EXPECT_TRUE(container.records().list.empty());
  EXPECT_FALSE(container.record_of(0));
  EXPECT_TRUE(container.held(0).empty());
  const auto header = container.read_raw_header();
  ASSERT_OK(header);
  EXPECT_TRUE(header->empty());
  std::byte out[1];
  EXPECT_ERROR(container.read(0, 0, out), internal_error);
}

TEST(Container, HasTheBytesWhereTheSourceHasThem) {
  const auto source = std::make_shared<test::BytesSource>("0123");
  const OneTensor container(source);
  EXPECT_EQ(container.bytes()->data(), source->memory().data());
  const OneTensor empty(std::make_shared<test::BytesSource>(""));
  EXPECT_TRUE(empty.bytes()->empty());
}

TEST(Container, MapsAFileOnce) {
  const test::TempDir dir;
  test::write_file(dir / "a", "0123");
  const OneTensor container(std::make_shared<File>(File::open(dir / "a").value()));
  const auto bytes = container.bytes();
  ASSERT_OK(bytes);
  EXPECT_EQ(as_text(*bytes), "0123");
  EXPECT_EQ(container.bytes()->data(), bytes->data());
}

TEST(Container, CannotMapWhatHasNoDescriptor) {
  const OneTensor container(
      std::make_shared<test::FaultySource>("0123", "s3://a", std::make_shared<test::Faults>()));
  EXPECT_ERROR(container.bytes(), not_viewable);
}

}  // namespace
}  // namespace flatbed
