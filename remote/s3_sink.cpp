#include "s3_sink.hpp"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "text.hpp"

namespace flatbed::remote {

namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
constexpr std::uint64_t kMostNbytes = std::uint64_t{5} << 40;
constexpr std::uint64_t kMostParts = 10'000;
constexpr std::uint64_t kPartNbytes = 8 * kMiB;
constexpr std::uint64_t kSending = 64 * kMiB;

// Whole MiB, so that there are at most 10,000 parts.
std::uint64_t part_nbytes_for(std::uint64_t nbytes) {
  const std::uint64_t least = (nbytes + kMostParts - 1) / kMostParts;
  return std::max(kPartNbytes, (least + kMiB - 1) / kMiB * kMiB);
}

}  // namespace

S3Sink::S3Sink(std::unique_ptr<S3Upload> upload, Uploads* later)
    : upload_(std::move(upload)), later_(later), label_(upload_->place().name()) {}

S3Sink::~S3Sink() {
  if (workers_) workers_->stop();
  if (upload_) upload_->discard();
}

Result<void> S3Sink::begin(const SinkLayout& layout) {
  if (layout.nbytes > kMostNbytes)
    return error_of(ErrorCode::limit_exceeded, shown(label_), ": ", layout.nbytes,
                    " bytes, the limit of S3 is ", kMostNbytes);
  nbytes_ = layout.nbytes;
  part_nbytes_ = static_cast<std::size_t>(part_nbytes_for(nbytes_));
  const std::uint64_t threads = std::clamp<std::uint64_t>(kSending / part_nbytes_, 2, 8);
  workers_ = std::make_unique<Workers>(static_cast<unsigned>(threads));
  return upload_->check_absent();
}

Result<std::shared_ptr<S3Sink::Part>> S3Sink::part_at(std::uint64_t index) {
  const std::lock_guard lock(mutex_);
  if (const auto found = parts_.find(index); found != parts_.end()) return found->second;
  FLATBED_ASSIGN(std::shared_ptr<Part> made, new_part(index));
  parts_.emplace(index, made);
  return made;
}

Result<void> S3Sink::check_inside(std::uint64_t offset, std::size_t nbytes) const {
  if (offset <= nbytes_ && nbytes <= nbytes_ - offset) return {};
  return error_of(ErrorCode::invalid_argument, shown(label_), ": ", nbytes, " bytes at offset ",
                  offset, " do not fit ", nbytes_, " bytes");
}

std::size_t S3Sink::nbytes_of(std::uint64_t index) const noexcept {
  return static_cast<std::size_t>(
      std::min<std::uint64_t>(part_nbytes_, nbytes_ - index * part_nbytes_));
}

Result<std::shared_ptr<S3Sink::Part>> S3Sink::new_part(std::uint64_t index) const {
  auto made = std::make_shared<Part>();
  made->nbytes = nbytes_of(index);
  made->bytes.reset(new (std::nothrow) std::byte[made->nbytes]);
  if (!made->bytes)
    return error_of(ErrorCode::resource_exhausted, shown(label_), ": out of memory for a part");
  return made;
}

Result<void> S3Sink::write_at(std::uint64_t offset, std::span<const std::byte> bytes) {
  FLATBED_TRY(check_inside(offset, bytes.size()));
  while (!bytes.empty()) {
    const std::uint64_t index = offset / part_nbytes_;
    const auto within = static_cast<std::size_t>(offset % part_nbytes_);
    FLATBED_ASSIGN(const std::shared_ptr<Part> part, part_at(index));
    const std::size_t taken = std::min(bytes.size(), part->nbytes - within);
    std::memcpy(part->bytes.get() + within, bytes.data(), taken);
    const bool full = part->filled.fetch_add(taken) + taken == part->nbytes;
    if (full && !is_one_request()) FLATBED_TRY(send(index));
    bytes = bytes.subspan(taken);
    offset += taken;
  }
  return {};
}

Result<void> S3Sink::send(std::uint64_t index) {
  std::shared_ptr<Part> part;
  {
    const std::lock_guard lock(mutex_);
    part = std::move(parts_.extract(index).mapped());
  }
  return send(index, std::move(part));
}

// A part that was sent must have arrived before another takes its place, or they may arrive in the
// other order.
Result<void> S3Sink::rewrite_at(std::uint64_t offset, std::span<const std::byte> bytes) {
  FLATBED_TRY(check_inside(offset, bytes.size()));
  if (bytes.empty()) return {};
  const std::uint64_t index = offset / part_nbytes_;
  const auto within = static_cast<std::size_t>(offset % part_nbytes_);
  const auto not_a_part = [&] {
    return error_of(ErrorCode::invalid_argument, shown(label_), ": ", bytes.size(),
                    " bytes at offset ", offset, " are not a part");
  };
  if (const auto kept = parts_.find(index); kept != parts_.end()) {
    if (bytes.size() > kept->second->nbytes - within) return not_a_part();
    std::memcpy(kept->second->bytes.get() + within, bytes.data(), bytes.size());
    return {};
  }
  if (within != 0 || bytes.size() != nbytes_of(index)) return not_a_part();
  FLATBED_ASSIGN(std::shared_ptr<Part> part, new_part(index));
  std::memcpy(part->bytes.get(), bytes.data(), bytes.size());
  FLATBED_TRY(workers_->finish());
  return send(index, std::move(part));
}

Result<void> S3Sink::send(std::uint64_t index, std::shared_ptr<Part> part) {
  {
    const std::lock_guard lock(starting_);
    if (!upload_->started()) FLATBED_TRY(upload_->start());
  }
  return workers_->add([this, part = std::move(part), number = index + 1] {
    return upload_->put_part(static_cast<std::size_t>(number), {part->bytes.get(), part->nbytes});
  });
}

Result<void> S3Sink::commit() {
  if (is_one_request()) {
    std::span<const std::byte> bytes;
    if (const auto found = parts_.find(0); found != parts_.end())
      bytes = {found->second->bytes.get(), found->second->nbytes};
    FLATBED_TRY(upload_->put_whole(bytes));
  } else {
    FLATBED_TRY(workers_->finish());
    if (!upload_->started()) {  // a file of no bytes, of which no part was full
      FLATBED_TRY(upload_->start());
      FLATBED_TRY(upload_->put_part(1, {}));
    }
    if (later_ == nullptr) FLATBED_TRY(upload_->complete());
  }
  if (later_ != nullptr) later_->push_back(std::move(upload_));
  upload_.reset();
  return {};
}

}  // namespace flatbed::remote
