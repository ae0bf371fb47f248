// The shared object beside libflatbed.
#include "plugin.hpp"

#include "flatbed/device.hpp"

Plugin::~Plugin() = default;

namespace {

class DevicePlugin final : public Plugin, public flatbed::Device {
 public:
  [[nodiscard]] std::string_view name() const noexcept override { return "plugin"; }
  [[nodiscard]] bool is_host() const noexcept override { return true; }
  flatbed::Result<void> check(const void* /*data*/, std::uint64_t /*nbytes*/) override {
    return {};
  }
  flatbed::Result<std::byte*> stage(std::size_t /*nbytes*/) override { return nullptr; }
  void unstage(std::byte* /*memory*/, std::size_t /*nbytes*/) noexcept override {}
  flatbed::Result<flatbed::Ticket> copy(std::span<const flatbed::CopyPiece> /*pieces*/) override {
    return flatbed::Ticket{0};
  }
  flatbed::Result<flatbed::Ticket> fence() override { return flatbed::Ticket{0}; }
  flatbed::Result<bool> done(flatbed::Ticket /*ticket*/) override { return true; }
  void forget(flatbed::Ticket /*ticket*/) noexcept override {}
  [[nodiscard]] void* native_event(flatbed::Ticket /*ticket*/) noexcept override { return nullptr; }
  flatbed::Result<void*> allocate(std::uint64_t /*nbytes*/) override { return nullptr; }
  void release(void* /*memory*/, std::uint64_t /*nbytes*/) noexcept override {}
  flatbed::Result<void> read_back(const void* /*from*/, std::span<std::byte> /*out*/) override {
    return {};
  }
};

class OtherPlugin final : public Plugin {};

}  // namespace

Plugin& device_plugin() {
  static DevicePlugin plugin;
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
