#include "remote_command_line.hpp"

#include <fmt/format.h>

#include <string>

#include "convert_set.hpp"
#include "format_text.hpp"
#include "url_text.hpp"

namespace flatbed::tool {

void add_remote(CLI::App& command, RemoteChoice& remote) {
  CLI::Option* cache =
      command
          .add_option("--cache", remote.cache,
                      "Keep what is read of URLs in this folder, which processes may share")
          ->check([](const std::string& word) {
            return is_url(word) ? "a cache is a local folder: found a URL" : std::string();
          })
          ->type_name("DIR");
  const auto complaint = [](const std::string& word) {
    const Result<std::uint64_t> nbytes = parse_shard_size(word);
    return nbytes ? std::string() : nbytes.error().message;
  };
  command
      .add_option_function<std::string>(
          "--cache-size",
          [&remote](const std::string& word) { remote.cache_nbytes = *parse_shard_size(word); },
          fmt::format("The most that --cache keeps, such as 500MB (default {})",
                      size_text(remote.cache_nbytes)))
      ->check(complaint)
      ->needs(cache)
      ->type_name("SIZE");
  command
      .add_option("--ca-file", remote.ca_file,
                  "Certificates (PEM) to trust besides the system's, for https:// URLs")
      ->type_name("FILE");
}

}  // namespace flatbed::tool
