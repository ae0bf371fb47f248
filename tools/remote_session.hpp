// RemoteSession: what all URLs of one command share: connections, counters, and what the
// environment says about them. Made when the first URL is used; the choice that comes with that one
// counts. Where the tool was built without flatbed::remote, every member is an error that says so
// (unsupported_format). Thread-safe.
#pragma once

#include <filesystem>
#include <memory>

#include "flatbed/byte_sink.hpp"
#include "flatbed/checkpoint.hpp"
#include "flatbed/result.hpp"
#include "flatbed/source_folder.hpp"
#include "open_input.hpp"

namespace flatbed::tool {

class RemoteSession {
 public:
  explicit RemoteSession(const RemoteChoice& choice);
  RemoteSession(const RemoteSession&) = delete;
  RemoteSession& operator=(const RemoteSession&) = delete;
  ~RemoteSession();

  // Errors of all: those of Remote::make() and of the member of Remote of this name.
  [[nodiscard]] Result<Checkpoint> open(const std::filesystem::path& url,
                                        const OpenOptions& options);
  [[nodiscard]] Result<std::shared_ptr<const ByteSource>> open_source(
      const std::filesystem::path& url);
  [[nodiscard]] Result<std::shared_ptr<const SourceFolder>> open_folder(
      const std::filesystem::path& url);
  [[nodiscard]] Result<std::unique_ptr<ByteSink>> create(const std::filesystem::path& url,
                                                         bool replace);
  [[nodiscard]] Result<std::unique_ptr<SinkFolder>> create_folder(const std::filesystem::path& url,
                                                                  bool replace);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace flatbed::tool
