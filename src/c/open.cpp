// Opening, in flatbed.h.
#include "c/caller_source.hpp"
#include "c/checkpoints.hpp"
#include "c/guard.hpp"
#include "c/view_options.hpp"

namespace flatbed {

flatbed_checkpoint* to_c(Checkpoint checkpoint) {
  return std::make_unique<flatbed_checkpoint>(std::move(checkpoint)).release();
}

}  // namespace flatbed

namespace flatbed::c {

namespace {

static_assert(static_cast<int>(CheckSeal::if_sealed) == FLATBED_CHECK_SEAL_IF_SEALED &&
              static_cast<int>(CheckSeal::required) == FLATBED_CHECK_SEAL_REQUIRED &&
              static_cast<int>(CheckSeal::off) == FLATBED_CHECK_SEAL_OFF);

Result<void> open_shards(std::span<const char* const> paths, const flatbed_open_options* given,
                         flatbed_checkpoint** out) {
  FLATBED_ASSIGN(const OpenOptions options, to_cpp(given));
  std::vector<std::filesystem::path> shards;
  for (const char* const path : paths) {
    FLATBED_ASSIGN(shards.emplace_back(), read_path(path, "paths"));
  }
  FLATBED_ASSIGN(Checkpoint opened, Checkpoint::open_shards(shards, options));
  return give(std::move(opened), out);
}

Result<void> open_readers(std::span<const flatbed_reader* const> readers,
                          const flatbed_open_options* given, bool set, flatbed_checkpoint** out) {
  FLATBED_ASSIGN(const OpenOptions options, to_cpp(given));
  std::vector<std::shared_ptr<CallerSource>> sources;
  for (const flatbed_reader* const reader : readers) {
    FLATBED_ASSIGN(sources.emplace_back(), CallerSource::make(reader));
  }
  const std::vector<std::shared_ptr<const ByteSource>> shards(sources.begin(), sources.end());
  FLATBED_ASSIGN(Checkpoint opened, set ? Checkpoint::open_shards(shards, options)
                                        : Checkpoint::open(shards.front(), options));
  FLATBED_TRY(give(std::move(opened), out));
  for (const std::shared_ptr<CallerSource>& source : sources) source->own();
  return {};
}

}  // namespace

Result<OpenOptions> to_cpp(const flatbed_open_options* given) {
  FLATBED_ASSIGN(const flatbed_open_options options, read_options(given));
  OpenOptions result;
  FLATBED_ASSIGN(result.check_seal, read_enum<CheckSeal>(options.check_seal, 3, "check_seal"));
  FLATBED_ASSIGN(const bool refuse_links, read_flag(options.refuse_links, "refuse_links"));
  result.follow_links = !refuse_links;
  return result;
}

}  // namespace flatbed::c

using flatbed::Checkpoint;
using flatbed::OpenOptions;
using flatbed::Result;
using flatbed::c::check_bytes;
using flatbed::c::clear_out;
using flatbed::c::guarded;

int32_t flatbed_open(const char* path, const flatbed_open_options* options,
                     flatbed_checkpoint** out, flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(clear_out(out));
    FLATBED_ASSIGN(const std::filesystem::path file, flatbed::c::read_path(path, "path"));
    FLATBED_ASSIGN(const OpenOptions open_options, flatbed::c::to_cpp(options));
    FLATBED_ASSIGN(Checkpoint opened, Checkpoint::open(file, open_options));
    return flatbed::c::give(std::move(opened), out);
  });
}

int32_t flatbed_open_descriptor(int descriptor, flatbed_string label,
                                const flatbed_open_options* options, flatbed_checkpoint** out,
                                flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(clear_out(out));
    FLATBED_ASSIGN(const std::string_view name, flatbed::c::read_string(label, "label"));
    FLATBED_ASSIGN(const OpenOptions open_options, flatbed::c::to_cpp(options));
    FLATBED_ASSIGN(Checkpoint opened,
                   Checkpoint::open_descriptor(descriptor, std::string(name), open_options));
    return flatbed::c::give(std::move(opened), out);
  });
}

int32_t flatbed_open_memory(const void* bytes, uint64_t nbytes, flatbed_string label,
                            const flatbed_open_options* options, flatbed_checkpoint** out,
                            flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(clear_out(out));
    FLATBED_TRY(check_bytes(bytes, nbytes, "bytes"));
    FLATBED_ASSIGN(const std::string_view name, flatbed::c::read_string(label, "label"));
    FLATBED_ASSIGN(const OpenOptions open_options, flatbed::c::to_cpp(options));
    const std::span memory(static_cast<const std::byte*>(bytes), nbytes);
    FLATBED_ASSIGN(Checkpoint opened,
                   Checkpoint::open_memory(memory, std::string(name), open_options));
    return flatbed::c::give(std::move(opened), out);
  });
}

int32_t flatbed_open_shards(const char* const* paths, uint64_t count,
                            const flatbed_open_options* options, flatbed_checkpoint** out,
                            flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(clear_out(out));
    FLATBED_TRY(check_bytes(paths, count, "paths"));
    return flatbed::c::open_shards({paths, count}, options, out);
  });
}

int32_t flatbed_open_reader(const flatbed_reader* reader, const flatbed_open_options* options,
                            flatbed_checkpoint** out, flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(clear_out(out));
    return flatbed::c::open_readers({&reader, 1}, options, false, out);
  });
}

int32_t flatbed_open_reader_shards(const flatbed_reader* const* readers, uint64_t count,
                                   const flatbed_open_options* options, flatbed_checkpoint** out,
                                   flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(clear_out(out));
    FLATBED_TRY(check_bytes(readers, count, "readers"));
    return flatbed::c::open_readers({readers, count}, options, true, out);
  });
}

void flatbed_checkpoint_free(flatbed_checkpoint* checkpoint) {
  flatbed::c::free_handle(checkpoint);
}
