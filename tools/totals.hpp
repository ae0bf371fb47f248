// Totals: how many tensors, parameters and bytes there are, together and of each dtype. Counts do
// not wrap: they stop at the largest number. For one thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "flatbed/checkpoint.hpp"

namespace flatbed::tool {

// Adds a number that does not wrap the sum.
void add_up(std::uint64_t& sum, std::uint64_t number);

[[nodiscard]] std::uint64_t element_count(ShapeView shape);

struct DtypeTotal {
  Dtype dtype = Dtype::u8;
  std::uint64_t tensors = 0;
  std::uint64_t parameters = 0;  // elements
  std::uint64_t nbytes = 0;
};

class Totals {
 public:
  // Adds the tensors of a checkpoint and the sizes of its files.
  void add(const Checkpoint& checkpoint);

  [[nodiscard]] std::uint64_t tensors() const { return tensors_; }
  [[nodiscard]] std::uint64_t parameters() const { return parameters_; }
  [[nodiscard]] std::uint64_t nbytes() const { return nbytes_; }
  [[nodiscard]] std::uint64_t file_nbytes() const { return file_nbytes_; }

  // One row for each dtype that occurs, the most parameters first.
  [[nodiscard]] std::vector<DtypeTotal> dtypes() const;

  // Two lines, each with its end; the second is missing if there are no tensors:
  //   291 tensors, 12.6 GiB of data in 12.6 GiB on disk
  //   6.74 B parameters: 6.74 B BF16
  [[nodiscard]] std::string text() const;

 private:
  void add(const TensorInfo& tensor);

  std::uint64_t tensors_ = 0, parameters_ = 0, nbytes_ = 0, file_nbytes_ = 0;
  std::vector<DtypeTotal> rows_;  // in the order of their first tensors
};

}  // namespace flatbed::tool
