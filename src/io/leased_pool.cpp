#include "io/leased_pool.hpp"

#include <algorithm>
#include <iterator>

namespace flatbed {

std::optional<LeasedPool::Pages> LeasedPool::pages(const ByteSource& source,
                                                   const FileRange& range) {
  Member member = take(source);
  const bool wanted = member.file && (member.file->pays() || use_ == LeaseUse::whenever_possible);
  std::optional<LeasedFile::Pages> pages =
      wanted ? member.file->pages(range) : std::optional<LeasedFile::Pages>();
  if (pages) return Pages(*this, std::move(member), *std::move(pages));
  give_back(std::move(member));
  return std::nullopt;
}

// The one that was given back last, or a new one.
LeasedPool::Member LeasedPool::take(const ByteSource& source) {
  {
    const std::lock_guard lock(mutex_);
    const auto last = std::ranges::find(idle_.rbegin(), idle_.rend(), &source, &Member::source);
    if (last != idle_.rend()) {
      Member member = std::move(*last);
      idle_.erase(std::next(last).base());
      return member;
    }
  }
  Member member{&source, nullptr};
  if (source.max_rereads() != 0) return member;
  if (std::optional<LeasedFile> opened = LeasedFile::open(source))
    member.file = std::make_unique<LeasedFile>(*std::move(opened));
  return member;
}

void LeasedPool::give_back(Member member) {
  Member closed;  // after the lock is released
  const std::lock_guard lock(mutex_);
  if (idle_.size() == kMostIdle) {
    closed = std::move(idle_.front());
    idle_.erase(idle_.begin());
  }
  idle_.push_back(std::move(member));
}

LeasedPool::Pages::~Pages() {
  if (pool_ == nullptr) return;
  { const LeasedFile::Pages given_back = std::move(pages_); }
  pool_->give_back(std::move(member_));
}

}  // namespace flatbed
