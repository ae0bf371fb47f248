// Plans of saves, in flatbed.h.
#include "flatbed/save_plan.hpp"

#include "c/checkpoints.hpp"
#include "c/guard.hpp"
#include "c/saving.hpp"

namespace flatbed::c {

Result<SavePlanOptions> plan_options(const flatbed_save_plan_options* given) {
  FLATBED_ASSIGN(const flatbed_save_plan_options read, read_options(given));
  SavePlanOptions options;
  FLATBED_ASSIGN(options.expand_aliases, read_flag(read.expand_aliases, "expand_aliases"));
  FLATBED_ASSIGN(options.allow_expansion, read_flag(read.allow_expansion, "allow_expansion"));
  return options;
}

}  // namespace flatbed::c

using flatbed::Result;
using flatbed::c::check;
using flatbed::c::clear_out;
using flatbed::c::guarded;
using flatbed::c::read_string;

int32_t flatbed_save_plan_new(flatbed_save_plan** out, flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(clear_out(out));
    *out = std::make_unique<flatbed_save_plan>().release();
    return {};
  });
}

int32_t flatbed_save_plan_of(const flatbed_checkpoint* checkpoint,
                             const flatbed_save_plan_options* options, flatbed_save_plan** out,
                             flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(clear_out(out));
    FLATBED_TRY(check(checkpoint, "checkpoint"));
    FLATBED_ASSIGN(const flatbed::SavePlanOptions read, flatbed::c::plan_options(options));
    FLATBED_ASSIGN(flatbed::SavePlan plan, flatbed::make_plan(checkpoint->checkpoint, read));
    *out = std::make_unique<flatbed_save_plan>(std::move(plan)).release();
    return {};
  });
}

void flatbed_save_plan_free(flatbed_save_plan* plan) { flatbed::c::free_handle(plan); }

uint64_t flatbed_save_plan_size(const flatbed_save_plan* plan) {
  return flatbed::c::is_handle(plan) ? plan->plan.items.size() : 0;
}

int32_t flatbed_save_plan_add(flatbed_save_plan* plan, flatbed_string name, uint32_t dtype,
                              const uint64_t* shape, uint64_t rank, const void* bytes,
                              uint64_t nbytes, flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(check(plan, "plan"));
    flatbed::SaveItem item;
    FLATBED_ASSIGN(item.name, read_string(name, "name"));
    FLATBED_ASSIGN(item.dtype, flatbed::c::read_dtype(dtype, "dtype"));
    FLATBED_TRY(flatbed::c::check_bytes(shape, rank, "shape"));
    if (shape != nullptr) item.shape.assign(shape, shape + rank);
    FLATBED_TRY(flatbed::c::check_bytes(bytes, nbytes, "bytes"));
    item.from = std::span(static_cast<const std::byte*>(bytes), nbytes);
    plan->plan.items.push_back(std::move(item));
    return {};
  });
}

int32_t flatbed_save_plan_add_tensor(flatbed_save_plan* plan, flatbed_string name,
                                     const flatbed_checkpoint* checkpoint, uint64_t tensor,
                                     flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(check(plan, "plan"));
    FLATBED_ASSIGN(const flatbed::TensorInfo info,
                   flatbed::c::tensor_at(checkpoint, tensor, "tensor"));
    FLATBED_ASSIGN(const std::string_view text, read_string(name, "name"));
    plan->plan.items.push_back({std::string(text),
                                info.dtype,
                                {info.shape.begin(), info.shape.end()},
                                flatbed::TensorRef{checkpoint->checkpoint, info.index}});
    return {};
  });
}

int32_t flatbed_save_plan_add_alias(flatbed_save_plan* plan, flatbed_string name,
                                    flatbed_string tensor, flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(check(plan, "plan"));
    FLATBED_ASSIGN(const std::string_view alias, read_string(name, "name"));
    FLATBED_ASSIGN(const std::string_view target, read_string(tensor, "tensor"));
    plan->plan.aliases.push_back({std::string(alias), std::string(target)});
    return {};
  });
}

int32_t flatbed_save_plan_add_metadata(flatbed_save_plan* plan, flatbed_string key,
                                       flatbed_string value, flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(check(plan, "plan"));
    FLATBED_ASSIGN(const std::string_view key_text, read_string(key, "key"));
    FLATBED_ASSIGN(const std::string_view text, read_string(value, "value"));
    plan->plan.metadata.emplace_back(key_text, text);
    return {};
  });
}

int32_t flatbed_save_plan_set_tree(flatbed_save_plan* plan, const flatbed_tree* tree,
                                   flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(check(plan, "plan"));
    FLATBED_TRY(check(tree, "tree"));
    plan->plan.tree = tree->tree;
    plan->own_tree = true;
    return {};
  });
}
