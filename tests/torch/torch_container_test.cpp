// TorchContainer: the records of a zip, and which of them a tensor is.
#include "torch/torch_container.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "support/bytes_source.hpp"
#include "support/expect_error.hpp"
#include "support/legacy_builder.hpp"
#include "support/zip_builder.hpp"

namespace flatbed::pth {
namespace {

using namespace test::pickle;  // NOLINT: the assembler's words are the subject here
using std::string;
using test::BytesSource;

std::unique_ptr<Container> open_zip(const test::TorchZip& zip = {}) {
  return TorchContainer::open_zip(std::make_shared<BytesSource>(test::torch_zip(zip)), {}).value();
}

TEST(TorchContainer, ListsTheRecordsOfItsZip) {
  const auto container = open_zip();
  const ContainerRecords records = container->records();
  EXPECT_TRUE(records.state_crcs);
  ASSERT_EQ(records.list.size(), 4u);
  EXPECT_EQ(records.list[0].name, "archive/data.pkl");
  EXPECT_TRUE(records.list[0].structure);
  EXPECT_EQ(records.list[2].name, "archive/data/0");
  EXPECT_EQ(records.list[2].nbytes, 24u);
  EXPECT_FALSE(records.list[2].structure);
}

TEST(TorchContainer, KnowsWhichRecordATensorIsOrLiesIn) {
  const string row = tensor({.sizes = counts({3}), .strides = counts({1})});
  const auto container =
      open_zip({.pickle = finish(dict({text("all"), tensor(), text("row"), row}))});
  const auto all = container->record_of(0);
  ASSERT_TRUE(all);
  EXPECT_EQ(all->number, 2u);
  EXPECT_TRUE(all->whole);
  const auto part = container->record_of(1);
  ASSERT_TRUE(part);
  EXPECT_EQ(part->number, 2u);
  EXPECT_FALSE(part->whole);
}

TEST(TorchContainer, NotesViewsThatAreStoredApart) {
  const string row = tensor({.sizes = counts({3}), .strides = counts({1})});
  const string other = tensor({.offset = "K\3", .sizes = counts({3}), .strides = counts({1})});
  const auto notes = [&](const string& pickle) {
    return open_zip({.pickle = finish(pickle)})->take_contents().notes;
  };
  EXPECT_EQ(
      notes(dict({text("all"), tensor(), text("row"), row})),
      std::vector<string>{"1 tensor is a view of memory that another tensor also sees, and is "
                          "stored apart from it: 'row' of 'all'"});
  EXPECT_TRUE(notes(dict({text("a"), row, text("b"), other})).empty());
  EXPECT_TRUE(notes(dict({text("a"), tensor(), text("b"), tensor()})).empty());
}

TEST(TorchContainer, ViewsThatDifferOnlyInAStrideOfOneElementAreShared) {
  const string a = tensor({.sizes = counts({1, 6}), .strides = counts({6, 1})});
  const string b = tensor({.sizes = counts({1, 6}), .strides = counts({1, 1})});
  const auto container = open_zip({.pickle = finish(dict({text("a"), a, text("b"), b}))});
  EXPECT_EQ(container->take_contents().tensors.size(), 1u);
}

TEST(TorchContainer, TellsWhereTensorsBeginInTheirStorage) {
  const string other = tensor({.offset = "K\3", .sizes = counts({3}), .strides = counts({1})});
  const string flipped = tensor({.sizes = counts({3, 2}), .strides = counts({1, 3})});
  const string empty = tensor({.offset = "K\3", .sizes = counts({0}), .strides = counts({1})});
  const string values = dict({text("all"), tensor(), text("other"), other, text("flipped"), flipped,
                              text("empty"), empty});
  const auto container = open_zip({.pickle = finish(values)});
  const auto& torch = static_cast<const TorchContainer&>(*container);
  EXPECT_EQ(torch.storage_offset(0), 0u);
  EXPECT_EQ(torch.storage_offset(1), 12u);
  EXPECT_EQ(torch.storage_offset(2), 0u);
  EXPECT_EQ(torch.storage_offset(3), std::nullopt);
}

TEST(TorchContainer, HasNoRecordsInOtherLayouts) {
  const auto container =
      TorchContainer::open_pickle(std::make_shared<BytesSource>(test::legacy_stream()), {}).value();
  EXPECT_EQ(container->layout(), Layout::torch_legacy);
  EXPECT_TRUE(container->records().list.empty());
  EXPECT_FALSE(container->record_of(0));
}

TEST(TorchContainer, TellsItsLayout) {
  EXPECT_EQ(open_zip()->layout(), Layout::torch_zip);
  const auto tar =
      TorchContainer::open_tar(std::make_shared<BytesSource>(test::torch_tar()), {}).value();
  EXPECT_EQ(tar->layout(), Layout::torch_tar);
}

TEST(TorchContainer, HasNoSeal) {
  EXPECT_ERROR(TorchContainer::open_zip(std::make_shared<BytesSource>(test::torch_zip()),
                                        {.check_seal = CheckSeal::required, .path = {}}),
               not_sealed);
}

TEST(TorchContainer, GivesItsTreeAndItsNamesOnce) {
  const auto container =
      open_zip({.pickle = finish(dict({text("w"), tensor(), text("tied"), tensor()}))});
  const ContainerContents contents = container->take_contents();
  ASSERT_EQ(contents.tensors.size(), 1u);
  EXPECT_EQ(contents.tensors[0].name, "w");
  ASSERT_EQ(contents.aliases.size(), 1u);
  EXPECT_EQ(contents.aliases[0].name, "tied");
  EXPECT_TRUE(contents.tree.has_value());
  EXPECT_EQ(contents.storages, 1u);
}

}  // namespace
}  // namespace flatbed::pth
