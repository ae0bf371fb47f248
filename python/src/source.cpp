#include "source.hpp"

#include <cstring>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "buffer_argument.hpp"
#include "errors.hpp"
#include "remote.hpp"

namespace flatbed::python {

namespace {

// The bytes of an object of Python, which it holds until the last view of the checkpoint is gone.
class BufferSource final : public ByteSource {
 public:
  BufferSource(const nb::handle& object, std::string label)
      : buffer_(object, BufferUse::read, "source"), label_(std::move(label)) {}

  std::string_view label() const noexcept override { return label_; }
  std::uint64_t size() const noexcept override { return buffer_.bytes().size(); }
  std::span<const std::byte> memory() const noexcept override { return buffer_.bytes(); }
  Result<void> read_at(std::uint64_t offset, std::span<std::byte> out) const override {
    if (out.empty()) return {};
    std::memcpy(out.data(), buffer_.bytes().data() + offset, out.size());
    return {};
  }

 private:
  BufferArgument buffer_;
  std::string label_;
};

bool is_path(const nb::handle& source) {
  return nb::isinstance<nb::str>(source) || nb::hasattr(source, "__fspath__");
}

std::shared_ptr<const ByteSource> buffer_source(const nb::handle& source, std::string label) {
  return std::make_shared<const BufferSource>(source, std::move(label));
}

Checkpoint open_descriptor(const nb::handle& source, const SourceOptions& options) {
  const int descriptor = PyObject_AsFileDescriptor(source.ptr());
  if (descriptor < 0) throw nb::python_error();
  const std::string label =
      options.label.empty() ? "descriptor " + std::to_string(descriptor) : options.label;
  return value_or_raise(
      released([&] { return Checkpoint::open_descriptor(descriptor, label, options.open); }));
}

// Shards are paths or buffers, all of one kind.
Checkpoint open_shards(const nb::handle& shards, const SourceOptions& options) {
  std::vector<std::filesystem::path> paths;
  std::vector<std::shared_ptr<const ByteSource>> buffers;
  for (const nb::handle shard : shards) {
    if (is_path(shard)) {
      paths.push_back(path_argument(shard, "source"));
    } else {
      const std::string label = options.label.empty() ? "shard" : options.label;
      buffers.push_back(buffer_source(shard, label + ' ' + std::to_string(buffers.size())));
    }
  }
  if (!paths.empty() && !buffers.empty()) {
    nb::raise_type_error("source: a list holds paths or buffers, not both");
  }
  return value_or_raise(released([&] {
    return buffers.empty() ? Checkpoint::open_shards(paths, options.open)
                           : Checkpoint::open_shards(buffers, options.open);
  }));
}

}  // namespace

std::filesystem::path path_argument(const nb::handle& path, const char* what) {
  if (!is_path(path)) {
    nb::raise_type_error("%s: expected a str or an os.PathLike, not %s", what,
                         nb::type_name(path.type()).c_str());
  }
  PyObject* bytes = nullptr;  // as the operating system takes it; a NUL is a ValueError
  const int found = take_gil([&] { return PyUnicode_FSConverter(path.ptr(), &bytes); });
  if (found == 0) throw nb::python_error();
  const nb::bytes owned = nb::steal<nb::bytes>(bytes);
  return std::string(owned.c_str(), owned.size());
}

Checkpoint open_source(const nb::handle& source, const SourceOptions& options) {
  if (is_url(source)) return open_url(source, options.storage_options, options.open);
  if (!options.storage_options.is_none())
    throw nb::value_error("storage_options: the source is not a URL");
  if (is_path(source)) {
    const std::filesystem::path path = path_argument(source, "source");
    return value_or_raise(released([&] { return Checkpoint::open(path, options.open); }));
  }
  if (nb::isinstance<nb::list>(source) || nb::isinstance<nb::tuple>(source)) {
    return open_shards(source, options);
  }
  const bool is_number = nb::isinstance<nb::int_>(source) && !nb::isinstance<nb::bool_>(source);
  if (is_number || nb::hasattr(source, "fileno")) return open_descriptor(source, options);
  if (PyObject_CheckBuffer(source.ptr()) == 0) {
    nb::raise_type_error(
        "source: expected a path, bytes, a descriptor, a file or a list of shards, not %s",
        nb::type_name(source.type()).c_str());
  }
  auto bytes = buffer_source(source, options.label.empty() ? "memory" : options.label);
  return value_or_raise(released([&] { return Checkpoint::open(std::move(bytes), options.open); }));
}

}  // namespace flatbed::python
