// A user of the component flatbed::remote: a URL that is refused before any request.
#include <cstdio>

#include "flatbed/remote.hpp"

int main() {
  const auto opened = flatbed::open_url("https://user:secret@host/model.safetensors");
  if (opened || opened.error().code != flatbed::ErrorCode::url_invalid) return 1;
  std::puts(opened.error().message.c_str());
  return 0;
}
