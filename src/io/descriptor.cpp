#include "io/descriptor.hpp"

#include <unistd.h>

namespace flatbed {

Descriptor::~Descriptor() {
  if (number_ >= 0) ::close(number_);
}

}  // namespace flatbed
