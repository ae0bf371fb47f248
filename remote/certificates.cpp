#include "certificates.hpp"

#include <curl/curl.h>

#include <array>
#include <cstddef>
#include <fstream>
#include <utility>

#include "text.hpp"

namespace flatbed::remote {

namespace {

constexpr std::array kUsualFiles{
    "etc/ssl/certs/ca-certificates.crt",                 // Debian, Ubuntu, Arch, Gentoo
    "etc/pki/tls/certs/ca-bundle.crt",                   // Fedora, RHEL
    "etc/ssl/ca-bundle.pem",                             // openSUSE
    "etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",  // Fedora of later years
    "etc/ssl/cert.pem",                                  // others
};
constexpr std::size_t kMostNbytes = std::size_t{16} << 20;

bool is_file(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::is_regular_file(path, ignored);
}

// A system may have the folder without any certificates.
bool is_filled_folder(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::is_directory(path, ignored) && !std::filesystem::is_empty(path, ignored);
}

Result<void> append_file(std::string& out, const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::array<char, 16384> bytes;
  while (file.read(bytes.data(), bytes.size()) || file.gcount() > 0) {
    out.append(bytes.data(), static_cast<std::size_t>(file.gcount()));
    if (out.size() > kMostNbytes)
      return error_of(ErrorCode::invalid_argument, shown(path),
                      ": the file of certificates is too long: expected at most ", kMostNbytes,
                      " bytes");
  }
  if (!file.eof())
    return error_of(ErrorCode::io_error, shown(path), ": cannot read the file of certificates");
  out += '\n';
  return {};
}

}  // namespace

CaPlaces ca_places_of_libcurl() {
  const curl_version_info_data* const info = curl_version_info(CURLVERSION_NOW);
  if (info == nullptr || info->age < CURLVERSION_SEVENTH) return {};
  return {info->cainfo == nullptr ? "" : info->cainfo, info->capath == nullptr ? "" : info->capath};
}

CaPlaces find_ca_places(const CaPlaces& built_in, const std::filesystem::path& root) {
  CaPlaces found;
  if (is_file(built_in.file)) found.file = built_in.file;
  if (is_filled_folder(built_in.folder)) found.folder = built_in.folder;
  if (found != CaPlaces{}) return found;
  for (const char* const usual : kUsualFiles) {
    const std::filesystem::path file = root / usual;
    if (is_file(file)) return {file.native(), ""};
  }
  return {};
}

Result<Certificates> find_certificates(const RemoteOptions& options, const CaPlaces& found) {
  for (const std::filesystem::path* const file : {&options.system_ca_file, &options.ca_file}) {
    if (!file->empty() && !is_file(*file))
      return error_of(ErrorCode::file_not_found, shown(file->native()),
                      ": there is no such file of certificates");
  }
  Certificates certificates;
  CaPlaces& places = certificates.places;
  places = {options.system_ca_file.native(), options.system_ca_dir.native()};
  if (places == CaPlaces{}) places = found;
  if (options.ca_file.empty()) return certificates;
  if (places.file.empty()) {
    places.file = options.ca_file.native();
    return certificates;
  }
  std::string pem;
  FLATBED_TRY(append_file(pem, places.file));
  FLATBED_TRY(append_file(pem, options.ca_file.native()));
  certificates.pem = std::make_shared<const std::string>(std::move(pem));
  return certificates;
}

}  // namespace flatbed::remote
