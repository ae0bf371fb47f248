// Certificates: what the certificates of servers are verified with. Found once for a Remote, at run
// time, because a libcurl that was built on one Linux may run on any other.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "flatbed/remote.hpp"

namespace flatbed::remote {

// A file of certificates (PEM), and folders of them with hashes as names, separated by ":". Empty:
// none.
struct CaPlaces {
  std::string file;
  std::string folder;

  bool operator==(const CaPlaces&) const = default;
};

// Those that libcurl was built with.
[[nodiscard]] CaPlaces ca_places_of_libcurl();

// `built_in`, as far as they exist; otherwise the file where the distributions have it, below
// `root`. Both members are empty if there is none.
[[nodiscard]] CaPlaces find_ca_places(const CaPlaces& built_in,
                                      const std::filesystem::path& root = "/");

struct Certificates {
  CaPlaces places;
  std::shared_ptr<const std::string> pem;  // used in place of places.file, if there is one

  [[nodiscard]] bool none() const { return places.file.empty() && places.folder.empty() && !pem; }
};

// What the options name, or else `found`, what find_ca_places() returned; and what
// RemoteOptions::ca_file adds. Errors: file_not_found, io_error, invalid_argument (too long).
[[nodiscard]] Result<Certificates> find_certificates(const RemoteOptions& options,
                                                     const CaPlaces& found);

}  // namespace flatbed::remote
