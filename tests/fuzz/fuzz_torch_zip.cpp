// The pickle of a whole file: zips in the form that torch writes, with storages for it to name.
#include <array>
#include <string>

#include "fuzz/check.hpp"
#include "fuzz/targets.hpp"
#include "support/zip_builder.hpp"

namespace flatbed::fuzz {

void torch_zip(std::string_view bytes) {
  static const std::array<std::string, 3> kStorages{std::string(16, '\1'), std::string(96, '\2'),
                                                    std::string()};
  std::vector<test::ZipItem> items{{.name = "archive/data.pkl", .data = std::string(bytes)}};
  for (std::size_t i = 0; i < kStorages.size(); ++i)
    items.push_back({.name = "archive/data/" + std::to_string(i), .data = kStorages[i]});
  items.push_back({.name = "archive/version", .data = "3\n"});
  const std::string zip = test::build_zip(items);
  const Result<Checkpoint> checkpoint = open(zip);
  if (!checkpoint) return check_error(checkpoint.error());
  read_tensors(*checkpoint);
}

}  // namespace flatbed::fuzz
