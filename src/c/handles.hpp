// The handles of flatbed.h: each begins with a number that tells its kind.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "flatbed/checkpoint.hpp"
#include "flatbed/device.hpp"
#include "flatbed/flatbed.h"
#include "flatbed/load.hpp"
#include "flatbed/load_all.hpp"
#include "flatbed/match.hpp"
#include "flatbed/page_lock.hpp"
#include "flatbed/save_plan.hpp"
#include "flatbed/series.hpp"
#include "flatbed/value.hpp"

struct flatbed_checkpoint {
  static constexpr std::uint64_t kMagic = 0x666c6174'63686b01;
  static constexpr std::string_view kType = "flatbed_checkpoint";

  explicit flatbed_checkpoint(flatbed::Checkpoint opened) : checkpoint(std::move(opened)) {}

  std::uint64_t magic = kMagic;
  const flatbed::Checkpoint checkpoint;
};

struct flatbed_page_lock {
  static constexpr std::uint64_t kMagic = 0x666c6174'6c636b02;
  static constexpr std::string_view kType = "flatbed_page_lock";

  explicit flatbed_page_lock(flatbed::PageLock made) : lock(std::move(made)) {}

  std::uint64_t magic = kMagic;
  flatbed::PageLock lock;
};

struct flatbed_tree {
  static constexpr std::uint64_t kMagic = 0x666c6174'74726503;
  static constexpr std::string_view kType = "flatbed_tree";

  std::uint64_t magic = kMagic;
  flatbed::ValueTree tree;
};

struct flatbed_cancel {
  static constexpr std::uint64_t kMagic = 0x666c6174'636e6304;
  static constexpr std::string_view kType = "flatbed_cancel";

  std::uint64_t magic = kMagic;
  std::atomic<bool> requested{false};
};

// The device is shared by what uses it, so that handles may be freed in any order.
struct flatbed_device {
  static constexpr std::uint64_t kMagic = 0x666c6174'64657605;
  static constexpr std::string_view kType = "flatbed_device";

  explicit flatbed_device(std::shared_ptr<flatbed::Device> made) : device(std::move(made)) {}

  std::uint64_t magic = kMagic;
  const std::shared_ptr<flatbed::Device> device;
};

struct flatbed_buffer {
  static constexpr std::uint64_t kMagic = 0x666c6174'62756606;
  static constexpr std::string_view kType = "flatbed_buffer";

  // The memory and its device, which DLPack's exports share.
  struct Owned {
    std::shared_ptr<flatbed::Device> device;
    flatbed::DeviceBuffer buffer;
  };

  explicit flatbed_buffer(std::shared_ptr<const Owned> made) : owned(std::move(made)) {}

  std::uint64_t magic = kMagic;
  const std::shared_ptr<const Owned> owned;
};

struct flatbed_staging_pool {
  static constexpr std::uint64_t kMagic = 0x666c6174'706f6c07;
  static constexpr std::string_view kType = "flatbed_staging_pool";

  flatbed_staging_pool(std::shared_ptr<flatbed::Device> of,
                       std::unique_ptr<flatbed::StagingPool> made)
      : device(std::move(of)), pool(std::move(made)) {}

  std::uint64_t magic = kMagic;
  const std::shared_ptr<flatbed::Device> device;
  const std::unique_ptr<flatbed::StagingPool> pool;
};

struct flatbed_plan {
  static constexpr std::uint64_t kMagic = 0x666c6174'706c6e08;
  static constexpr std::string_view kType = "flatbed_plan";

  // A device of the plan's transfers, and the handle by which the caller knows it.
  struct Used {
    std::shared_ptr<flatbed::Device> device;
    const flatbed_device* handle;
  };

  std::uint64_t magic = kMagic;
  std::vector<Used> devices;  // before the plan, which borrows them
  flatbed::LoadPlan plan;
};

struct flatbed_expected {
  static constexpr std::uint64_t kMagic = 0x666c6174'65787009;
  static constexpr std::string_view kType = "flatbed_expected";

  explicit flatbed_expected(std::vector<flatbed::Expected> made = {}) : list(std::move(made)) {}

  std::uint64_t magic = kMagic;
  std::vector<flatbed::Expected> list;
};

struct flatbed_save_plan {
  static constexpr std::uint64_t kMagic = 0x666c6174'7376700a;
  static constexpr std::string_view kType = "flatbed_save_plan";

  explicit flatbed_save_plan(flatbed::SavePlan made = {}) : plan(std::move(made)) {}

  std::uint64_t magic = kMagic;
  flatbed::SavePlan plan;
  bool own_tree = false;  // the caller's, which is checked before it is written
};

struct flatbed_loaded {
  static constexpr std::uint64_t kMagic = 0x666c6174'6c6f640b;
  static constexpr std::string_view kType = "flatbed_loaded";

  // The memory and its device, which DLPack's exports share.
  struct Owned {
    std::shared_ptr<flatbed::Device> device;
    flatbed::LoadedTensors tensors;
  };

  std::uint64_t magic = kMagic;
  std::shared_ptr<const Owned> owned;               // none until everything is loaded
  const flatbed::LoadedTensors* tensors = nullptr;  // also while it is loaded
};

struct flatbed_series {
  static constexpr std::uint64_t kMagic = 0x666c6174'7365720c;
  static constexpr std::string_view kType = "flatbed_series";

  explicit flatbed_series(flatbed::Series opened) : series(std::move(opened)) {}

  std::uint64_t magic = kMagic;
  flatbed::Series series;
};

struct flatbed_series_entries {
  static constexpr std::uint64_t kMagic = 0x666c6174'656e740d;
  static constexpr std::string_view kType = "flatbed_series_entries";

  struct Entry {
    flatbed::SeriesEntry entry;
    std::uint32_t state = FLATBED_ENTRY_PRESENT;
    std::optional<flatbed::Result<flatbed::VerifyReport>> verified = {};
  };

  std::uint64_t magic = kMagic;
  std::vector<Entry> entries;
  std::vector<std::string> notes;
  std::string metric;
  std::uint32_t mode = FLATBED_SCORE_ANY;
  bool is_whole = false;
};

struct flatbed_pending_save {
  static constexpr std::uint64_t kMagic = 0x666c6174'706e640e;
  static constexpr std::string_view kType = "flatbed_pending_save";

  explicit flatbed_pending_save(flatbed::PendingSave running) : pending(std::move(running)) {}

  std::uint64_t magic = kMagic;
  const flatbed::PendingSave pending;
};
