#include "totals.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "format_text.hpp"

namespace flatbed::tool {
namespace {

constexpr std::uint64_t kMost = ~std::uint64_t{0};

}  // namespace

void add_up(std::uint64_t& sum, std::uint64_t number) { sum += std::min(number, kMost - sum); }

std::uint64_t element_count(ShapeView shape) {
  std::uint64_t product = 1;
  for (const std::uint64_t dimension : shape) {
    if (dimension == 0) return 0;
    product = product > kMost / dimension ? kMost : product * dimension;
  }
  return product;
}

void Totals::add(const TensorInfo& tensor) {
  auto row = std::ranges::find(rows_, tensor.dtype, &DtypeTotal::dtype);
  if (row == rows_.end()) row = rows_.insert(row, DtypeTotal{.dtype = tensor.dtype});
  const std::uint64_t parameters = element_count(tensor.shape);
  ++row->tensors;
  add_up(row->parameters, parameters);
  add_up(row->nbytes, tensor.nbytes);
  ++tensors_;
  add_up(parameters_, parameters);
  add_up(nbytes_, tensor.nbytes);
}

void Totals::add(const Checkpoint& checkpoint) {
  for (const TensorInfo& tensor : checkpoint.tensors()) add(tensor);
  for (const FileInfo& file : checkpoint.files()) add_up(file_nbytes_, file.nbytes);
}

std::vector<DtypeTotal> Totals::dtypes() const {
  std::vector<DtypeTotal> rows = rows_;
  std::ranges::stable_sort(rows, std::ranges::greater(), &DtypeTotal::parameters);
  return rows;
}

std::string Totals::text() const {
  std::string text = fmt::format("{}, {} of data in {} on disk\n", count_text(tensors_, "tensor"),
                                 size_text(nbytes_), size_text(file_nbytes_));
  if (tensors_ == 0) return text;
  text += fmt::format("{} {}:", amount_text(parameters_),
                      verb_text(parameters_, "parameter", "parameters"));
  std::string_view comma;
  for (const DtypeTotal& row : dtypes()) {
    text += fmt::format("{} {} {}", comma, amount_text(row.parameters), name(row.dtype));
    comma = ",";
  }
  return text + '\n';
}

}  // namespace flatbed::tool
