// shared_views_note(): which views of one storage have bytes in common.
#include "torch/shared_views.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace flatbed::pth {
namespace {

using std::string;

struct View {
  std::uint64_t offset = 0;
  std::vector<std::uint64_t> sizes, strides;
  std::uint32_t element_nbytes = 4;
  std::uint32_t storage = 0;
};

// Of views that are named a, b, c, and so on.
string note(const std::vector<View>& views) {
  TorchFile file;
  file.storages.resize(2);
  TextList names;
  std::vector<std::uint32_t> order(views.size());
  std::iota(order.begin(), order.end(), 0);
  for (const View& view : views) {
    TorchTensor tensor;
    tensor.storage = view.storage;
    tensor.element_nbytes = view.element_nbytes;
    tensor.rank = static_cast<std::uint32_t>(view.sizes.size());
    tensor.dims = file.dims.size();
    tensor.offset = view.offset;
    tensor.nbytes = view.element_nbytes;
    for (const std::uint64_t size : view.sizes) tensor.nbytes *= size;
    file.dims.insert(file.dims.end(), view.sizes.begin(), view.sizes.end());
    file.dims.insert(file.dims.end(), view.strides.begin(), view.strides.end());
    file.tensors.push_back(tensor);
    names.add(string(1, static_cast<char>('a' + names.size() % 26)));
  }
  return shared_views_note(file, order, names).value_or("");
}

std::vector<bool> bytes_of(const View& view) {
  std::vector<bool> bytes(1024);
  std::vector<std::uint64_t> starts{view.offset};
  for (std::size_t i = 0; i < view.sizes.size(); ++i) {
    const std::vector<std::uint64_t> rows = std::exchange(starts, {});
    for (const std::uint64_t row : rows) {
      for (std::uint64_t at = 0; at < view.sizes[i]; ++at)
        starts.push_back(row + at * view.strides[i]);
    }
  }
  for (const std::uint64_t start : starts) {
    for (std::uint64_t i = 0; i < view.element_nbytes; ++i)
      bytes[start * view.element_nbytes + i] = true;
  }
  return bytes;
}

bool share_bytes(const View& a, const View& b) {
  const std::vector<bool> left = bytes_of(a);
  const std::vector<bool> right = bytes_of(b);
  for (std::size_t i = 0; i < left.size(); ++i) {
    if (left[i] && right[i]) return true;
  }
  return false;
}

// A matrix of 4 rows, and q, k and v of two columns each.
TEST(SharedViews, ColumnsOfOneMatrixShareNothing) {
  const View q{0, {4, 2}, {6, 1}};
  const View k{2, {4, 2}, {6, 1}};
  const View v{4, {4, 2}, {6, 1}};
  EXPECT_EQ(note({q, k, v}), "");
  const View wide{1, {4, 2}, {6, 1}};
  EXPECT_EQ(note({q, wide, v}),
            "1 tensor is a view of memory that another tensor also sees, and is stored apart from "
            "it: 'b' of 'a'");
  EXPECT_EQ(note({q, wide, k}),
            "2 tensors are views of memory that another tensor also sees, and are stored apart "
            "from it: first 'b' of 'a'");
}

TEST(SharedViews, ColumnsOfDifferentWidthShareNothing) {
  EXPECT_EQ(note({{0, {4, 3}, {6, 1}}, {3, {4, 1}, {6, 1}}, {4, {4, 2}, {6, 1}}}), "");
  EXPECT_NE(note({{0, {4, 3}, {6, 1}}, {5, {4, 2}, {6, 1}}}), "");  // reaches into the next row
}

TEST(SharedViews, AMatrixAndItsTransposeShareAll) {
  EXPECT_NE(note({{0, {3, 4}, {4, 1}}, {0, {4, 3}, {1, 4}}}), "");
}

// The first has bytes 0 to 3, 8 to 11, 16 to 19 and 24 to 27.
TEST(SharedViews, ElementsOfDifferentSizesAreComparedByTheirBytes) {
  const View floats{0, {4}, {2}, 4};
  EXPECT_EQ(note({floats, {2, {2}, {1}, 2}}), "");  // bytes 4 to 7
  EXPECT_NE(note({floats, {2, {3}, {1}, 2}}), "");  // bytes 4 to 9
}

TEST(SharedViews, TheFirstAndTheLastByteCount) {
  EXPECT_EQ(note({{0, {2}, {1}}, {2, {2}, {1}}}), "");
  EXPECT_NE(note({{0, {3}, {1}}, {2, {2}, {1}}}), "");
  EXPECT_EQ(note({{0, {}, {}, 1}, {1, {}, {}, 1}}), "");
  EXPECT_EQ(note({{0, {3}, {1}}, {2, {2}, {1}, 4, 1}}), "");  // another storage
}

TEST(SharedViews, AgreeWithASearchOfEveryByte) {
  std::mt19937 random(11);
  const auto below = [&](std::uint64_t bound) { return random() % bound; };
  std::size_t shared = 0;
  for (int round = 0; round < 5'000; ++round) {
    std::vector<View> views(2);
    for (View& view : views) {
      view.offset = below(12);
      view.element_nbytes = 1U << below(3);
      for (std::uint64_t rank = below(4); rank > 0; --rank) {
        view.sizes.push_back(1 + below(4));
        view.strides.push_back(below(9));
      }
    }
    const bool expected = share_bytes(views[0], views[1]);
    shared += expected ? 1 : 0;
    const string found = note(views);
    ASSERT_EQ(!found.empty(), expected) << round << found;
    ASSERT_EQ(found.find("lies among"), string::npos);
  }
  EXPECT_GT(shared, 1'000u);
  EXPECT_LT(shared, 4'000u);
}

// Every third column of 6000 rows is a view: pairs of them are too many to compare.
TEST(SharedViews, OfTooManyViewsSayOnlyWhereTheyLie) {
  std::vector<View> views;
  for (std::uint64_t i = 0; i < 6'000; ++i) views.push_back({3 * i, {4}, {18'000}});
  EXPECT_NE(note(views).find(" tensors lie among the bytes of other tensors of their storage, and "
                             "are stored apart from it: first '"),
            string::npos)
      << note(views);
}

}  // namespace
}  // namespace flatbed::pth
