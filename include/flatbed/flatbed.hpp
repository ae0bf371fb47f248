// flatbed: model checkpoints. This header includes the rest; start with checkpoint.hpp.
#pragma once

#include "flatbed/export.hpp"  // IWYU pragma: export

// export.hpp has already reported an older standard; without this, many more errors would follow.
#if __cplusplus >= 202002L
#include "flatbed/available_memory.hpp"  // IWYU pragma: export
#include "flatbed/byte_sink.hpp"         // IWYU pragma: export
#include "flatbed/byte_source.hpp"       // IWYU pragma: export
#include "flatbed/cast.hpp"              // IWYU pragma: export
#include "flatbed/check_plan.hpp"        // IWYU pragma: export
#include "flatbed/checkpoint.hpp"        // IWYU pragma: export
#include "flatbed/collective.hpp"        // IWYU pragma: export
#include "flatbed/crc.hpp"               // IWYU pragma: export
#include "flatbed/device.hpp"            // IWYU pragma: export
#include "flatbed/diff.hpp"              // IWYU pragma: export
#include "flatbed/dlpack.hpp"            // IWYU pragma: export
#include "flatbed/dtype.hpp"             // IWYU pragma: export
#include "flatbed/error.hpp"             // IWYU pragma: export
#include "flatbed/file_info.hpp"         // IWYU pragma: export
#include "flatbed/hub_listing.hpp"       // IWYU pragma: export
#include "flatbed/key_map.hpp"           // IWYU pragma: export
#include "flatbed/load.hpp"              // IWYU pragma: export
#include "flatbed/load_all.hpp"          // IWYU pragma: export
#include "flatbed/load_matched.hpp"      // IWYU pragma: export
#include "flatbed/load_together.hpp"     // IWYU pragma: export
#include "flatbed/match.hpp"             // IWYU pragma: export
#include "flatbed/page_lock.hpp"         // IWYU pragma: export
#include "flatbed/private_view.hpp"      // IWYU pragma: export
#include "flatbed/progress.hpp"          // IWYU pragma: export
#include "flatbed/result.hpp"            // IWYU pragma: export
#include "flatbed/save.hpp"              // IWYU pragma: export
#include "flatbed/save_compare.hpp"      // IWYU pragma: export
#include "flatbed/save_plan.hpp"         // IWYU pragma: export
#include "flatbed/save_set.hpp"          // IWYU pragma: export
#include "flatbed/save_text.hpp"         // IWYU pragma: export
#include "flatbed/save_torch.hpp"        // IWYU pragma: export
#include "flatbed/scan.hpp"              // IWYU pragma: export
#include "flatbed/seal_state.hpp"        // IWYU pragma: export
#include "flatbed/series.hpp"            // IWYU pragma: export
#include "flatbed/source_folder.hpp"     // IWYU pragma: export
#include "flatbed/storage_offset.hpp"    // IWYU pragma: export
#include "flatbed/tensor.hpp"            // IWYU pragma: export
#include "flatbed/torch_module.hpp"      // IWYU pragma: export
#include "flatbed/tree_json.hpp"         // IWYU pragma: export
#include "flatbed/value.hpp"             // IWYU pragma: export
#include "flatbed/verify.hpp"            // IWYU pragma: export
#include "flatbed/version.hpp"           // IWYU pragma: export
#endif
