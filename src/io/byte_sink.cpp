#include "flatbed/byte_sink.hpp"

namespace flatbed {

ByteSink::~ByteSink() = default;

bool ByteSink::in_order() const noexcept { return true; }

SinkFolder::~SinkFolder() = default;

}  // namespace flatbed
