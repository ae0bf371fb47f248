#include "flatbed/byte_sink.hpp"

namespace flatbed {

ByteSink::~ByteSink() = default;

bool ByteSink::in_order() const noexcept { return true; }

std::uint64_t ByteSink::rewrite_nbytes() const noexcept { return 0; }

Result<void> ByteSink::rewrite_at(std::uint64_t, std::span<const std::byte>) {
  return Error{ErrorCode::invalid_argument, "this sink takes bytes only once"};
}

SinkFolder::~SinkFolder() = default;

}  // namespace flatbed
