#include "s3_sink_folder.hpp"

#include <algorithm>

#include "s3_folder.hpp"
#include "text.hpp"
#include "workers.hpp"

namespace flatbed::remote {

namespace {

constexpr unsigned kCompleting = 8;  // at once

// "model.safetensors", its index, or "model-00001-of-00002.safetensors".
bool is_set_file(std::string_view name) {
  constexpr std::string_view kShard = "model-00000-of-00000.safetensors";
  if (name == "model.safetensors" || name == "model.safetensors.index.json") return true;
  if (name.size() != kShard.size()) return false;
  return std::ranges::equal(name, kShard, [](char found, char expected) {
    return expected == '0' ? found >= '0' && found <= '9' : found == expected;
  });
}

}  // namespace

S3SinkFolder::~S3SinkFolder() {
  // Nobody can interrupt this: a set of many files must not wait as long for each.
  for (const auto& upload : uploads_) {
    if (!upload->discard()) return;
  }
}

Result<void> S3SinkFolder::begin(std::uint64_t) {
  FLATBED_ASSIGN(const std::vector<std::string> names, S3Folder(transport_, place_).names());
  if (!replace_ && !names.empty())
    return error_of(ErrorCode::file_exists, shown(label_), ": there are already objects: found ",
                    shown(names[0]));
  std::ranges::copy_if(names, std::back_inserter(old_), is_set_file);
  return {};
}

Result<std::unique_ptr<ByteSink>> S3SinkFolder::create(std::string_view file_name) {
  S3Place place = place_;
  place.key += file_name;
  new_.emplace_back(file_name);
  auto upload = std::make_unique<S3Upload>(transport_, std::move(place), replace_);
  return std::unique_ptr<ByteSink>(std::make_unique<S3Sink>(std::move(upload), &uploads_));
}

Result<void> S3SinkFolder::commit() {
  if (uploads_.empty()) return {};
  {
    Workers workers(kCompleting);
    for (std::size_t i = 0; i + 1 < uploads_.size(); ++i)
      FLATBED_TRY(workers.add([upload = uploads_[i].get()] { return upload->complete(); }));
    FLATBED_TRY(workers.finish());
  }
  FLATBED_TRY(uploads_.back()->complete());
  uploads_.clear();
  remove_old();
  return {};
}

// They would be taken for a part of the new set. A failure leaves them, and the new set is whole.
void S3SinkFolder::remove_old() const {
  for (const std::string& name : old_) {
    if (std::ranges::find(new_, name) != new_.end()) continue;
    Call call = place_.call(Method::remove, place_.url_of(place_.key + name));
    call.accept = {404};
    static_cast<void>(transport_->run({&call, 1}).has_value());
  }
}

}  // namespace flatbed::remote
