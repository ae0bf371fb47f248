#include "scan/scan_bytes.hpp"

#include <algorithm>
#include <utility>

#include "base/str_cat.hpp"

namespace flatbed::pth {

namespace {

constexpr std::uint64_t kFirstFetch = 4096;  // doubled each time
constexpr std::uint64_t kInflateStep = 4096;

}  // namespace

// A size that no stream of these bytes can have is reduced to one that it can. Readers that go by
// the stream see what it gives.
ScanBytes::ScanBytes(const ByteSource& file, const DeflatedRecord& record)
    : file_(&file), size_(record.nbytes), record_(record) {
  if (!may_inflate_to(record.stored_nbytes, record.nbytes))
    size_ = record_.nbytes = record.stored_nbytes * kMaxInflateRatio;
  Result<InflateReader> reader = InflateReader::open(file, record_);
  if (reader) {
    inflater_.emplace(*std::move(reader));
  } else {
    trouble_ = reader.error().message;
  }
}

std::uint64_t ScanBytes::limit() const noexcept {
  const std::uint64_t held = std::min(size_, kMaxScanBytes);
  if (!inflater_) return held;
  const std::uint64_t by_ratio =
      std::min(record_.stored_nbytes, kMaxScanBytes / kMaxScanRatio) * kMaxScanRatio;
  return std::min(held, std::max(by_ratio, kFreeScanBytes));
}

bool ScanBytes::fetch(std::uint64_t wanted) {
  const std::uint64_t limit = this->limit();
  const std::uint64_t had = have_.size();
  if (!trouble_.empty() || file_ == nullptr) return false;
  if (had == limit) {
    if (had < size_)
      trouble_ = str_cat("it has ", size_, " bytes, of which the first ", limit, " are looked at");
    return false;
  }
  wanted = std::min(std::max({wanted, kFirstFetch, had * 2}), limit);
  return wanted > had && (inflater_ ? inflate(wanted) : read_file(wanted));
}

ScanBytes ScanBytes::rest(std::uint64_t begin) {
  if (file_ != nullptr && !inflater_) return {*file_, begin_ + begin, size_ - begin};
  while (have_.size() < size_ && fetch(size_)) {
  }
  return ScanBytes(
      have_.subspan(static_cast<std::size_t>(std::min<std::uint64_t>(begin, have_.size()))));
}

bool ScanBytes::read_file(std::uint64_t wanted) {
  const std::size_t had = buffer_.size();
  buffer_.resize(static_cast<std::size_t>(wanted));
  const auto read = file_->read_at(begin_ + had, std::span(buffer_).subspan(had));
  if (!read) buffer_.resize(had);
  have_ = buffer_;
  return read ? true : stop(read.error());
}

// Reads in small steps, so that everything that inflates before an error is seen.
bool ScanBytes::inflate(std::uint64_t wanted) {
  const std::size_t first = buffer_.size();
  while (buffer_.size() < wanted) {
    const std::size_t had = buffer_.size();
    const std::uint64_t next = std::min(had + kInflateStep, wanted);
    buffer_.resize(static_cast<std::size_t>(next));
    const auto read = inflater_->read(had, std::span(buffer_).subspan(had));
    if (!read) {
      buffer_.resize(had);
      inflate_rest(next);
    }
    have_ = buffer_;
    if (!read) return stop(read.error()) || buffer_.size() > first;
  }
  return true;
}

// Reads byte by byte up to the place before `end` where it fails, with a reader that has not
// failed.
void ScanBytes::inflate_rest(std::uint64_t end) {
  Result<InflateReader> reader = InflateReader::open(*file_, record_);
  while (reader && buffer_.size() < end) {
    std::byte next{};
    if (!reader->read(buffer_.size(), {&next, 1})) return;
    buffer_.push_back(next);
  }
}

bool ScanBytes::stop(const Error& error) {
  trouble_ = error.message;
  return false;
}

}  // namespace flatbed::pth
