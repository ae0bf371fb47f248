// A user of the component flatbed::remote, of both its headers: a URL that is refused before any
// request.
#include <cstdio>

#include "flatbed/flatbed_remote.h"
#include "flatbed/remote.hpp"

int main() {
  const auto opened = flatbed::open_url("https://user:secret@host/model.safetensors");
  if (flatbed_is_url("https://host/model.safetensors") != 1) return 1;
  if (opened || opened.error().code != flatbed::ErrorCode::url_invalid) return 1;
  std::puts(opened.error().message.c_str());
  return 0;
}
