// The program: loads the shared object and calls it. Arguments: the shared object, a checkpoint.
#include <dlfcn.h>

#include <iostream>

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  void* const plugin = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
  if (plugin == nullptr) {
    std::cerr << dlerror() << '\n';
    return 1;
  }
  const auto count_tensors = reinterpret_cast<int (*)(const char*)>(dlsym(plugin, "count_tensors"));
  if (count_tensors == nullptr) return 1;
  std::cout << count_tensors(argv[2]) << " tensors\n";
  return dlclose(plugin);
}
