// ByteSink: where the bytes of one new file go, if not to a local path. SinkFolder: where the files
// of a sharded set go. Implement them for object stores, and pass them to save() or save_set().
//
//   class Upload final : public flatbed::ByteSink {
//    public:
//     std::string_view label() const noexcept override { return "s3://models/a.safetensors"; }
//     Result<void> begin(const SinkLayout& layout) override;
//     Result<void> write_at(std::uint64_t offset, std::span<const std::byte> bytes) override;
//     Result<void> commit() override;
//   };
//
// The calls are begin(), any number of write_at(), commit(). After an error of any of them, or of
// the writer itself, the sink is destroyed, and what it was given must leave nothing that looks
// like a file. Members must not throw. Only write_at() is called from several threads at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "flatbed/export.hpp"
#include "flatbed/result.hpp"

namespace flatbed {

// What is known of a file before its first byte is written.
struct SinkLayout {
  std::uint64_t nbytes = 0;  // size of the file
  // The first bytes, which one call of write_at() writes after all others: a header with the
  // digests of what follows it. 0: the file has no such part.
  std::uint64_t head_nbytes = 0;
  // Whether calls of write_at() leave out a few bytes here and there, which are written once what
  // comes after them is known: the sums in the headers of a zip. A sink that collects parts keeps
  // those that lack such bytes; all but one lie within the window of kSinkWindowBytes, which does
  // not count them.
  bool has_gaps = false;
};

// The most bytes between the first byte after the head that is not written yet and the offset of a
// call of write_at(), if the sink is in_order(). So a sink that collects parts needs the memory of
// this many bytes, of the parts that the head touches, and of those that it is sending.
inline constexpr std::uint64_t kSinkWindowBytes = std::uint64_t{32} << 20;

class FLATBED_EXPORT ByteSink {
 public:
  ByteSink() = default;
  ByteSink(const ByteSink&) = delete;
  ByteSink& operator=(const ByteSink&) = delete;
  // Without a commit() that succeeded, removes what was written.
  virtual ~ByteSink();

  // The sink's name in messages. Valid while the sink exists.
  [[nodiscard]] virtual std::string_view label() const noexcept = 0;

  // Whether write_at() must be called from the front to the back of the file, within
  // kSinkWindowBytes. The default is true. With false, a writer may choose a faster order.
  [[nodiscard]] virtual bool in_order() const noexcept;

  // Called once and first. A dry run calls nothing else, so this is where a target that cannot be
  // written is found out. Errors: any; usually file_exists and permission_denied.
  [[nodiscard]] virtual Result<void> begin(const SinkLayout& layout) = 0;

  // Takes `bytes`, which are valid during the call. Every byte of the file is written once; if the
  // sink is not in_order(), some may come again, and replace those before. May block until bytes of
  // earlier calls have left, but not for later calls. Thread-safe.
  [[nodiscard]] virtual Result<void> write_at(std::uint64_t offset,
                                              std::span<const std::byte> bytes) = 0;

  // For sinks that are in_order() and can take bytes again before commit(), because those of a
  // source may turn out damaged after they were passed on: the size in bytes of the parts that they
  // take, which begin at its multiples. Valid after begin(). The default is 0: they cannot, and
  // such damage is an error.
  [[nodiscard]] virtual std::uint64_t rewrite_nbytes() const noexcept;
  // Replaces bytes that were written: all of one part, but for those of the head and those after
  // the last byte that was written. Called from one thread, while no write_at() is. The default
  // fails with invalid_argument.
  [[nodiscard]] virtual Result<void> rewrite_at(std::uint64_t offset,
                                                std::span<const std::byte> bytes);

  // Called once, when every byte was written: the file becomes visible, complete, or there is an
  // error and no file. In a SinkFolder it may become visible with the folder's commit().
  [[nodiscard]] virtual Result<void> commit() = 0;

 protected:
  ByteSink(ByteSink&&) noexcept = default;
  ByteSink& operator=(ByteSink&&) noexcept = default;
};

// Not thread-safe; its sinks are used as those of save(), at most two at once.
class FLATBED_EXPORT SinkFolder {
 public:
  SinkFolder() = default;
  SinkFolder(const SinkFolder&) = delete;
  SinkFolder& operator=(const SinkFolder&) = delete;
  // Without a commit() that succeeded, removes the files that were created.
  virtual ~SinkFolder();

  // The folder's name in messages. Valid while the folder exists.
  [[nodiscard]] virtual std::string_view label() const noexcept = 0;

  // Called once and first. `nbytes` is the size of all tensors. A dry run calls nothing else.
  // Errors: any; usually file_exists and permission_denied.
  [[nodiscard]] virtual Result<void> begin(std::uint64_t nbytes) = 0;

  // A new file: the shards in order, the index last. The folder outlives its sinks.
  [[nodiscard]] virtual Result<std::unique_ptr<ByteSink>> create(std::string_view file_name) = 0;

  // Called once, when every file was committed: all files are visible, the index last, or there is
  // an error and no index.
  [[nodiscard]] virtual Result<void> commit() = 0;

 protected:
  SinkFolder(SinkFolder&&) noexcept = default;
  SinkFolder& operator=(SinkFolder&&) noexcept = default;
};

}  // namespace flatbed
