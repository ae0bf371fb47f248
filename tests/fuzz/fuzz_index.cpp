// The index of a sharded set, beside a.safetensors and b.safetensors, which hold one tensor each.
#include <fstream>
#include <string>

#include "fuzz/check.hpp"
#include "fuzz/targets.hpp"

namespace flatbed::fuzz {

namespace {

// A folder in memory where there is one, removed at the end.
class ShardFolder {
 public:
  ShardFolder() {
    std::string name = std::filesystem::is_directory("/dev/shm") ? "/dev/shm" : "/tmp";
    name += "/flatbed-fuzz-XXXXXX";
    require(::mkdtemp(name.data()) != nullptr, "a folder can be made");
    folder_ = name;
    for (const std::string tensor : {"a", "b"}) {
      const std::string json =
          "{\"" + tensor + R"(":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})";
      std::string bytes(8, '\0');
      bytes[0] = static_cast<char>(json.size());
      write(tensor + ".safetensors", bytes + json + "1234");
    }
  }
  ShardFolder(const ShardFolder&) = delete;
  ShardFolder& operator=(const ShardFolder&) = delete;
  ~ShardFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }

  std::filesystem::path write(const std::string& name, std::string_view bytes) const {
    std::ofstream out(folder_ / name, std::ios::binary | std::ios::trunc);
    out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    return folder_ / name;
  }

 private:
  std::filesystem::path folder_;
};

}  // namespace

void index(std::string_view bytes) {
  static const ShardFolder kFolder;
  const Result<Checkpoint> checkpoint =
      Checkpoint::open(kFolder.write("model.safetensors.index.json", bytes));
  if (!checkpoint) return check_error(checkpoint.error());
  read_tensors(*checkpoint);
}

}  // namespace flatbed::fuzz
