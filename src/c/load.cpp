// Loading, in flatbed.h: plans, what they are checked for, loads.
#include "flatbed/load.hpp"

#include <chrono>

#include "c/callbacks.hpp"
#include "c/checkpoints.hpp"
#include "c/guard.hpp"
#include "c/loading.hpp"

namespace flatbed::c {

namespace {

static_assert(static_cast<int>(IoMode::automatic) == FLATBED_IO_AUTOMATIC &&
              static_cast<int>(IoMode::buffered) == FLATBED_IO_BUFFERED &&
              static_cast<int>(IoMode::direct) == FLATBED_IO_DIRECT);
static_assert(static_cast<int>(Stage::read) == FLATBED_STAGE_READ &&
              static_cast<int>(Stage::hash) == FLATBED_STAGE_HASH &&
              static_cast<int>(Stage::submit) == FLATBED_STAGE_SUBMIT &&
              static_cast<int>(Stage::slots) == FLATBED_STAGE_SLOTS &&
              static_cast<int>(Stage::link) == FLATBED_STAGE_LINK);
static_assert(static_cast<int>(NoQueue::none) == FLATBED_NO_QUEUE_NONE &&
              static_cast<int>(NoQueue::not_built) == FLATBED_NO_QUEUE_NOT_BUILT &&
              static_cast<int>(NoQueue::not_in_kernel) == FLATBED_NO_QUEUE_NOT_IN_KERNEL &&
              static_cast<int>(NoQueue::forbidden) == FLATBED_NO_QUEUE_FORBIDDEN &&
              static_cast<int>(NoQueue::no_memory) == FLATBED_NO_QUEUE_NO_MEMORY);

Result<std::optional<Dtype>> optional_dtype(std::uint32_t dtype, std::string_view parameter) {
  std::optional<Dtype> result;
  if (dtype != FLATBED_DTYPE_NONE) {
    FLATBED_ASSIGN(result, read_dtype(dtype, parameter));
  }
  return result;
}

Result<LoadItem> item_of(const flatbed_transfer& transfer) {
  LoadItem item;
  FLATBED_ASSIGN(item.slice, slice_of(transfer));
  item.group = group_of(transfer);
  FLATBED_ASSIGN(item.dtype, optional_dtype(transfer.expect_dtype, "transfer.expect_dtype"));
  FLATBED_ASSIGN(item.as, optional_dtype(transfer.cast_to, "transfer.cast_to"));
  FLATBED_TRY(check_bytes(transfer.expect_shape, transfer.expect_rank, "transfer.expect_shape"));
  if (transfer.expect_shape != nullptr) {
    item.shape = ShapeView(transfer.expect_shape, transfer.expect_rank);
  }
  return item;
}

// Keeps the device as long as the plan. A second time does no harm.
void keep(flatbed_plan& plan, const flatbed_device* device) {
  if (device == nullptr) return;
  for (const flatbed_plan::Used& used : plan.devices) {
    if (used.device == device->device) return;
  }
  plan.devices.push_back({device->device, device});
}

Result<void> add(flatbed_plan* plan, const flatbed_checkpoint* checkpoint, flatbed_string name,
                 const flatbed_transfer* given) {
  FLATBED_TRY(check(plan, "plan"));
  FLATBED_TRY(check(checkpoint, "checkpoint"));
  FLATBED_ASSIGN(const std::string_view text, read_string(name, "name"));
  FLATBED_ASSIGN(const flatbed_transfer transfer, read_struct(given, "transfer"));
  if (transfer.device != nullptr) FLATBED_TRY(check(transfer.device, "transfer.device"));
  FLATBED_ASSIGN(const LoadItem item, item_of(transfer));
  Destination to;
  to.device = transfer.device == nullptr ? nullptr : transfer.device->device.get();
  to.data = transfer.data;
  to.capacity = transfer.capacity;
  to.row_pitch = transfer.row_pitch;
  keep(*plan, transfer.device);
  return plan->plan.add(checkpoint->checkpoint, text, to, item);
}

const flatbed_device* handle_of(const flatbed_plan& plan, const Device* device) {
  for (const flatbed_plan::Used& used : plan.devices) {
    if (used.device.get() == device) return used.handle;
  }
  return nullptr;
}

HandleOf handles_of(const flatbed_plan& plan) {
  return [&plan](const Device* device) { return handle_of(plan, device); };
}

void set_callbacks(const flatbed_load_options& read, const HandleOf& handle_of,
                   LoadOptions& options) {
  void* const context = read.context;
  options.progress = progress_callback(read.progress, context);
  if (read.ready == nullptr) return;
  options.ready = [handle_of, ready = read.ready, context](const GroupReady& group) {
    std::vector<flatbed_ready_event> events;
    for (const GroupReady::Event& event : group.events) {
      events.push_back({handle_of(event.device), event.event});
    }
    return callback_result(ready(context, group.group, events.data(), events.size()),
                           "the caller's ready", ErrorCode::cancelled);
  };
}

}  // namespace

Result<LoadOptions> load_options(const flatbed_load_options* given, const HandleOf& handle_of) {
  FLATBED_ASSIGN(const flatbed_load_options read, read_options(given));
  LoadOptions options;
  FLATBED_ASSIGN(options.verify, read_enum<Verify>(read.verify, 2, "verify"));
  FLATBED_ASSIGN(options.io, read_enum<IoMode>(read.io, 3, "io"));
  options.threads = read.threads;
  if (read.pool != nullptr) {
    FLATBED_TRY(check(read.pool, "pool"));
    options.pool = read.pool->pool.get();
  }
  if (read.staging_nbytes != 0) options.staging_nbytes = read.staging_nbytes;
  options.slot_nbytes = read.slot_nbytes;
  if (read.device_timeout_ms != 0) {
    constexpr std::uint64_t kLongest = 1'000'000'000'000;  // 31 years
    options.device_timeout = std::chrono::milliseconds(
        static_cast<std::int64_t>(std::min(read.device_timeout_ms, kLongest)));
  }
  FLATBED_ASSIGN(options.cancel, read_cancel(read.cancel));
  set_callbacks(read, handle_of, options);
  return options;
}

Result<Slice> slice_of(const flatbed_transfer& transfer) {
  FLATBED_ASSIGN(const bool sliced, read_flag(transfer.sliced, "transfer.sliced"));
  if (!sliced) return Slice{};
  return Slice{transfer.dim, transfer.begin, transfer.end, transfer.rank, transfer.count};
}

Group group_of(const flatbed_transfer& transfer) noexcept {
  return {transfer.group, transfer.priority};
}

flatbed_load_report report_to_c(const LoadReport& from) {
  flatbed_load_report report{};
  report.bytes_wanted = from.bytes_wanted;
  report.bytes_read = from.bytes_read;
  report.bytes_verified = from.bytes_verified;
  report.chunks_verified = from.chunks_verified;
  report.chunks_reread = from.chunks_reread;
  report.peak_staging_nbytes = from.peak_staging_nbytes;
  report.files_direct = from.files_direct;
  report.files_buffered = from.files_buffered;
  report.threads = from.threads;
  report.casts = from.casts.tensors;
  report.casts_saturated = from.casts.counts.saturated;
  report.casts_infinite = from.casts.counts.infinite;
  report.casts_nan = from.casts.counts.nan;
  report.seconds = from.seconds;
  report.read_seconds = from.read_seconds;
  report.hash_seconds = from.hash_seconds;
  report.submit_seconds = from.submit_seconds;
  report.slots_seconds = from.slots_seconds;
  report.link_seconds = from.link_seconds;
  report.queued = from.queued ? 1 : 0;
  report.no_queue = static_cast<std::uint32_t>(from.no_queue);
  report.bottleneck = static_cast<std::uint32_t>(from.bottleneck);
  return report;
}

}  // namespace flatbed::c

using flatbed::LoadOptions;
using flatbed::Result;
using flatbed::c::check;
using flatbed::c::check_report;
using flatbed::c::fill_report;
using flatbed::c::guarded;

int32_t flatbed_plan_new(flatbed_plan** out, flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(flatbed::c::clear_out(out));
    *out = std::make_unique<flatbed_plan>().release();
    return {};
  });
}

void flatbed_plan_free(flatbed_plan* plan) { flatbed::c::free_handle(plan); }

int32_t flatbed_plan_add(flatbed_plan* plan, const flatbed_checkpoint* checkpoint,
                         flatbed_string name, const flatbed_transfer* transfer,
                         flatbed_error* error) {
  return guarded(error, [&]() { return flatbed::c::add(plan, checkpoint, name, transfer); });
}

uint64_t flatbed_plan_size(const flatbed_plan* plan) {
  return flatbed::c::is_handle(plan) ? plan->plan.size() : 0;
}

int32_t flatbed_shard_slice(const flatbed_checkpoint* checkpoint, uint64_t tensor, uint64_t dim,
                            uint64_t rank, uint64_t count, flatbed_transfer* transfer,
                            flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    if (transfer == nullptr) return flatbed::c::null_argument("transfer");
    FLATBED_TRY(check_report(transfer, "transfer"));
    FLATBED_ASSIGN(const flatbed::TensorInfo info,
                   flatbed::c::tensor_at(checkpoint, tensor, "tensor"));
    FLATBED_ASSIGN(const flatbed::Slice slice, flatbed::shard_slice(info, dim, rank, count));
    transfer->dim = slice.dim;
    transfer->begin = slice.begin;
    transfer->end = slice.end;
    transfer->rank = slice.rank;
    transfer->count = slice.count;
    transfer->sliced = 1;
    return {};
  });
}

int32_t flatbed_plan_check(const flatbed_plan* plan, const flatbed_load_options* options,
                           flatbed_plan_report* report, flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(check(plan, "plan"));
    if (report != nullptr) FLATBED_TRY(check_report(report, "report"));
    FLATBED_ASSIGN(const LoadOptions load_options,
                   flatbed::c::load_options(options, flatbed::c::handles_of(*plan)));
    FLATBED_ASSIGN(const flatbed::LoadPlanReport found, plan->plan.check(load_options));
    if (report == nullptr) return {};
    flatbed_plan_report filled{};
    filled.bytes_wanted = found.bytes_wanted;
    filled.bytes_to_read = found.bytes_to_read;
    filled.reads = found.reads;
    filled.peak_staging_nbytes = found.peak_staging_nbytes;
    filled.groups = found.groups;
    fill_report(filled, report);
    return {};
  });
}

int32_t flatbed_load(const flatbed_plan* plan, const flatbed_load_options* options,
                     flatbed_load_report* report, flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(check(plan, "plan"));
    if (report != nullptr) FLATBED_TRY(check_report(report, "report"));
    FLATBED_ASSIGN(const LoadOptions load_options,
                   flatbed::c::load_options(options, flatbed::c::handles_of(*plan)));
    FLATBED_ASSIGN(const flatbed::LoadReport found, flatbed::load(plan->plan, load_options));
    if (report != nullptr) fill_report(flatbed::c::report_to_c(found), report);
    return {};
  });
}
