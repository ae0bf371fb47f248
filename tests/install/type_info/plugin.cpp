// The shared object beside libflatbed.
#include "plugin.hpp"

#include "flatbed/byte_source.hpp"
#include "flatbed/device.hpp"

Plugin::~Plugin() = default;

namespace {

class DevicePlugin final : public Plugin, public flatbed::Device {
 public:
  [[nodiscard]] std::string_view name() const noexcept override { return "plugin"; }
  [[nodiscard]] bool is_host() const noexcept override { return true; }
  flatbed::Result<void> check(const std::byte* /*data*/, std::uint64_t /*nbytes*/) override {
    return {};
  }
  flatbed::Result<std::byte*> stage(std::uint64_t /*nbytes*/) override { return nullptr; }
  void unstage(std::byte* /*memory*/, std::uint64_t /*nbytes*/) noexcept override {}
  flatbed::Result<flatbed::Ticket> copy(std::span<const flatbed::CopyPiece> /*pieces*/) override {
    return flatbed::Ticket{0};
  }
  flatbed::Result<flatbed::Ticket> fence() override { return flatbed::Ticket{0}; }
  flatbed::Result<bool> done(flatbed::Ticket /*ticket*/) override { return true; }
  void forget(flatbed::Ticket /*ticket*/) noexcept override {}
  [[nodiscard]] void* native_event(flatbed::Ticket /*ticket*/) noexcept override { return nullptr; }
};

class SourcePlugin final : public Plugin, public flatbed::ByteSource {
 public:
  [[nodiscard]] std::string_view label() const noexcept override { return "plugin"; }
  [[nodiscard]] std::uint64_t size() const noexcept override { return 0; }
  flatbed::Result<void> read_at(std::uint64_t /*offset*/,
                                std::span<std::byte> /*out*/) const override {
    return {};
  }
};

class OtherPlugin final : public Plugin {};

}  // namespace

Plugin& device_plugin() {
  static DevicePlugin plugin;
  return plugin;
}

Plugin& source_plugin() {
  static SourcePlugin plugin;
  return plugin;
}

Plugin& other_plugin() {
  static OtherPlugin plugin;
  return plugin;
}

void fail_in_flatbed() {
  flatbed::Result<void>({flatbed::ErrorCode::io_error, "from the plugin"}).value();
}

bool catches(void (*function)()) {
  try {
    function();
  } catch (const flatbed::Exception&) {
    return true;
  } catch (...) {
    return false;
  }
  return false;
}
