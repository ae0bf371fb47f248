#include "c/caller_device.hpp"

#include <algorithm>
#include <vector>

#include "base/str_cat.hpp"
#include "c/callbacks.hpp"

namespace flatbed::c {

namespace {

// That what must be there is, and that the three for memory come together.
Result<void> check_functions(const flatbed_device_ops& ops) {
  if (ops.stage == nullptr) return null_argument("ops.stage");
  if (ops.unstage == nullptr) return null_argument("ops.unstage");
  if (ops.copy == nullptr) return null_argument("ops.copy");
  if (ops.fence == nullptr) return null_argument("ops.fence");
  if (ops.done == nullptr) return null_argument("ops.done");
  const int memory =
      (ops.allocate != nullptr) + (ops.release != nullptr) + (ops.read_back != nullptr);
  if (memory == 0 || memory == 3) return {};
  return make_error(ErrorCode::invalid_argument,
                    "argument 'ops': found some of allocate, release and read_back, expected all "
                    "or none");
}

}  // namespace

Result<std::unique_ptr<CallerDevice>> CallerDevice::make(const flatbed_device_ops* given) {
  FLATBED_ASSIGN(const flatbed_device_ops ops, read_struct(given, "ops"));
  FLATBED_ASSIGN(const std::string_view name, read_string(ops.name, "ops.name"));
  FLATBED_TRY(check_number(ops.is_host, 2, "ops.is_host"));
  FLATBED_TRY(check_functions(ops));
  return std::make_unique<CallerDevice>(ops, std::string(name));
}

Result<void> CallerDevice::answered(std::int32_t code, std::string_view function,
                                    const flatbed_error& said) const {
  Result<void> result = callback_result(code, function, ErrorCode::device_error, &said);
  if (!result) return with_context(name_, std::move(result).error());
  return result;
}

Result<void> CallerDevice::check(const std::byte* data, std::uint64_t nbytes) {
  if (ops_.check == nullptr) return {};
  flatbed_error said{};
  const std::int32_t code = ops_.check(ops_.context, data, nbytes, &said);
  return answered(code, "check", said);
}

Result<std::byte*> CallerDevice::stage(std::uint64_t nbytes) {
  flatbed_error said{};
  void* memory = nullptr;
  const std::int32_t code = ops_.stage(ops_.context, nbytes, &memory, &said);
  FLATBED_TRY(answered(code, "stage", said));
  if (memory == nullptr) {
    return make_error(ErrorCode::device_error, name_, ": stage returned 0 and no memory");
  }
  return static_cast<std::byte*>(memory);
}

void CallerDevice::unstage(std::byte* memory, std::uint64_t nbytes) noexcept {
  ops_.unstage(ops_.context, memory, nbytes);
}

Result<Ticket> CallerDevice::copy(std::span<const CopyPiece> pieces) {
  std::vector<flatbed_copy_piece> list;
  list.reserve(pieces.size());
  for (const CopyPiece& piece : pieces) {
    list.push_back(
        {piece.from, piece.to, piece.nbytes, piece.rows, piece.from_pitch, piece.to_pitch});
  }
  flatbed_error said{};
  std::uint64_t ticket = 0;
  const std::int32_t code = ops_.copy(ops_.context, list.data(), list.size(), &ticket, &said);
  FLATBED_TRY(answered(code, "copy", said));
  return ticket;
}

Result<Ticket> CallerDevice::fence() {
  flatbed_error said{};
  std::uint64_t ticket = 0;
  const std::int32_t code = ops_.fence(ops_.context, &ticket, &said);
  FLATBED_TRY(answered(code, "fence", said));
  return ticket;
}

Result<bool> CallerDevice::done(Ticket ticket) {
  flatbed_error said{};
  std::uint32_t is_done = 0;
  const std::int32_t code = ops_.done(ops_.context, ticket, &is_done, &said);
  FLATBED_TRY(answered(code, "done", said));
  return is_done != 0;
}

void CallerDevice::forget(Ticket ticket) noexcept {
  if (ops_.forget != nullptr) ops_.forget(ops_.context, ticket);
}

void* CallerDevice::native_event(Ticket ticket) noexcept {
  return ops_.native_event == nullptr ? nullptr : ops_.native_event(ops_.context, ticket);
}

Result<void> CallerDevice::enter_thread() {
  if (ops_.enter_thread == nullptr) return {};
  flatbed_error said{};
  const std::int32_t code = ops_.enter_thread(ops_.context, &said);
  return answered(code, "enter_thread", said);
}

bool CallerDevice::host_can_write(const std::byte* data, std::uint64_t nbytes) {
  return ops_.host_can_write != nullptr && ops_.host_can_write(ops_.context, data, nbytes) == 1;
}

Result<void> CallerDevice::order_after_engine() {
  if (ops_.order_after_engine == nullptr) return {};
  flatbed_error said{};
  const std::int32_t code = ops_.order_after_engine(ops_.context, &said);
  return answered(code, "order_after_engine", said);
}

Result<void> CallerDevice::order_before_engine(Ticket ticket) {
  if (ops_.order_before_engine == nullptr) return {};
  flatbed_error said{};
  const std::int32_t code = ops_.order_before_engine(ops_.context, ticket, &said);
  return answered(code, "order_before_engine", said);
}

Result<bool> CallerDevice::wait(Ticket ticket, std::chrono::nanoseconds most) {
  if (ops_.wait == nullptr) return Device::wait(ticket, most);
  flatbed_error said{};
  std::uint32_t is_done = 0;
  const auto most_ns = static_cast<std::uint64_t>(std::max(most, most.zero()).count());
  const std::int32_t code = ops_.wait(ops_.context, ticket, most_ns, &is_done, &said);
  FLATBED_TRY(answered(code, "wait", said));
  return is_done != 0;
}

int CallerDevice::numa_node() const noexcept {
  return ops_.numa_node == nullptr ? -1 : ops_.numa_node(ops_.context);
}

DeviceMemory* CallerDevice::memory() noexcept { return ops_.allocate == nullptr ? nullptr : this; }

Result<std::byte*> CallerDevice::allocate(std::uint64_t nbytes) {
  flatbed_error said{};
  void* memory = nullptr;
  const std::int32_t code = ops_.allocate(ops_.context, nbytes, &memory, &said);
  FLATBED_TRY(answered(code, "allocate", said));
  if (memory == nullptr) {
    return make_error(ErrorCode::device_error, name_, ": allocate returned 0 and no memory");
  }
  return static_cast<std::byte*>(memory);
}

void CallerDevice::release(std::byte* memory, std::uint64_t nbytes) noexcept {
  ops_.release(ops_.context, memory, nbytes);
}

Result<void> CallerDevice::read_back(const std::byte* from, std::span<std::byte> out) {
  flatbed_error said{};
  const std::int32_t code = ops_.read_back(ops_.context, from, out.data(), out.size(), &said);
  return answered(code, "read_back", said);
}

}  // namespace flatbed::c
