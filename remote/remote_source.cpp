#include "remote_source.hpp"

#include <algorithm>
#include <cstring>

#include "cached_read.hpp"
#include "text.hpp"

namespace flatbed::remote {

namespace {

constexpr std::uint64_t kBlock = 256 << 10;      // what small reads fetch
constexpr std::uint64_t kSmallBlock = 16 << 10;  // what smaller ones do: they are often alone
constexpr std::uint64_t kSmallestRead = 2 << 10;
constexpr std::uint64_t kSmallRead = 64 << 10;  // that they are
constexpr std::uint64_t kLargeRead = 1 << 20;   // that show that the header has been read
constexpr std::uint64_t kMostNbytes = std::uint64_t{1} << 62;  // so that no sum overflows

// Cuts `nbytes` from the front of a list of parts.
std::vector<std::span<std::byte>> take_front(std::span<std::span<std::byte>>& parts,
                                             std::uint64_t nbytes) {
  std::vector<std::span<std::byte>> front;
  while (nbytes > 0 && !parts.empty()) {
    std::span<std::byte>& part = parts.front();
    const auto taken = static_cast<std::size_t>(std::min<std::uint64_t>(part.size(), nbytes));
    if (taken > 0) front.push_back(part.first(taken));
    part = part.subspan(taken);
    nbytes -= taken;
    if (part.empty()) parts = parts.subspan(1);
  }
  return front;
}

std::uint64_t sum_of(std::span<const std::span<std::byte>> parts) {
  std::uint64_t nbytes = 0;
  for (const auto part : parts) nbytes += part.size();
  return nbytes;
}

// For what is read after the first bytes of all. Empty if `progress` is, which it borrows.
ReadProgress counting_from(std::uint64_t before, const ReadProgress& progress) {
  if (!progress) return {};
  return [before, &progress](std::uint64_t nbytes) { return progress(before + nbytes); };
}

// A text that grew as it arrived, or was shorter than expected, may have room for much more.
void trim(std::string& kept) {
  if (kept.capacity() / 2 > kept.size()) std::string(kept).swap(kept);
}

// What a resolved URL answers when its time is over.
bool may_have_expired(ErrorCode code) {
  return code == ErrorCode::permission_denied || code == ErrorCode::file_not_found;
}

}  // namespace

Result<std::shared_ptr<const RemoteSource>> RemoteSource::open(
    std::shared_ptr<const Transport> transport, RemoteFile file) {
  std::shared_ptr<RemoteSource> source(new (std::nothrow)
                                           RemoteSource(std::move(transport), std::move(file)));
  if (!source) return error_of(ErrorCode::resource_exhausted, "out of memory");
  if (Result<void> opened = source->open_file(); !opened)
    return with_context(shown(source->file_.label), std::move(opened).error());
  return std::shared_ptr<const RemoteSource>(std::move(source));
}

Result<void> RemoteSource::open_file() {
  const RemoteOptions& options = transport_->options();
  auto block = std::make_shared<Block>();
  block->bytes.resize(options.head_nbytes);
  Call call = new_call();
  call.url = file_.url;
  call.version = {};
  call.range = WantedRange{0, {block->memory()}, std::nullopt};
  call.body_limit = options.whole_nbytes;
  call.accept = {416};
  FLATBED_TRY(transport_->run({&call, 1}));
  version_ = Version::of(call.head);
  version_origin_ = call.final_url.origin;
  redirects_ = std::move(call.redirects);
  final_url_ = call.final_url.text;
  if (call.head.status == 206) {
    const auto stated = parse_content_range(call.head.find("content-range"));
    nbytes_ = stated && stated->total ? *stated->total : 0;
    if (nbytes_ > kMostNbytes)
      return error_of(ErrorCode::http_protocol, "the server states an impossible size: found ",
                      nbytes_, " bytes");
    block->bytes.resize(static_cast<std::size_t>(call.placed));
  } else if (call.head.status == 200) {
    whole_ = true;
    nbytes_ = call.text.size();
    block->bytes = std::move(call.text);
    trim(block->bytes);
  } else if (call.head.find("content-range") == "bytes */0") {
    whole_ = true;  // an empty file
    block->bytes.clear();
  } else {
    return error_of(ErrorCode::http_protocol, "the server has no beginning of the file: found ",
                    "status ", call.head.status, " with Content-Range ",
                    shown(call.head.find("content-range")));
  }
  if (transport_->cache() != nullptr && !whole_ && version_.strong()) {
    FLATBED_ASSIGN(cache_key_,
                   BlockCache::key_of(text_of(file_.url.origin, " ", file_.label,
                                              file_.url.has_query ? unsigned_query(file_.url) : ""),
                                      version_.etag, nbytes_));
  }
  head_ = std::move(call.head);
  blocks_[0] = std::move(block);
  return {};
}

Call RemoteSource::new_call() const {
  Call call(file_.url.origin);
  call.version = version_;
  call.version_origin = version_origin_;
  call.credentials_name = file_.credentials_name;
  call.sigv4 = file_.sigv4;
  return call;
}

std::size_t RemoteSource::preferred_read_nbytes() const noexcept {
  constexpr std::size_t kInMemory = 256 << 10;
  return whole_ ? kInMemory : transport_->options().range_nbytes;
}

RemoteSource::BlockPointer RemoteSource::find_block(std::uint64_t offset) const {
  const std::lock_guard lock(mutex_);
  for (const BlockPointer& block : blocks_) {
    if (block && offset >= block->offset && offset - block->offset < block->bytes.size())
      return block;
  }
  return nullptr;
}

void RemoteSource::keep_block(BlockPointer block) const {
  const std::lock_guard lock(mutex_);
  next_block_ = next_block_ % (blocks_.size() - 1) + 1;
  blocks_[next_block_] = std::move(block);
}

void RemoteSource::forget_blocks(std::uint64_t offset, std::uint64_t nbytes) const {
  const std::lock_guard lock(mutex_);
  for (BlockPointer& block : blocks_) {
    const bool apart =
        !block || block->offset >= offset + nbytes || offset >= block->offset + block->bytes.size();
    if (!apart) block = nullptr;
  }
}

Result<std::size_t> RemoteSource::read_kept(std::uint64_t offset, std::span<std::byte> out,
                                            bool fetch_block) const {
  BlockPointer block = find_block(offset);
  if (!block && fetch_block) {
    auto fetched = std::make_shared<Block>();
    const std::uint64_t block_nbytes = out.size() <= kSmallestRead ? kSmallBlock : kBlock;
    fetched->offset = offset / block_nbytes * block_nbytes;
    fetched->bytes.resize(
        static_cast<std::size_t>(std::min<std::uint64_t>(block_nbytes, nbytes_ - fetched->offset)));
    const std::array<std::span<std::byte>, 1> parts{fetched->memory()};
    FLATBED_TRY(cache_key_.empty() ? fetch_anew(fetched->offset, parts, {})
                                   : fetch_cached(fetched->offset, parts));
    block = std::move(fetched);
    keep_block(block);
  }
  if (!block) return std::size_t{0};
  const std::span<const std::byte> kept =
      std::as_bytes(std::span(block->bytes))
          .subspan(static_cast<std::size_t>(offset - block->offset));
  const std::size_t nbytes = std::min(kept.size(), out.size());
  if (nbytes > 0) std::memcpy(out.data(), kept.data(), nbytes);
  return nbytes;
}

Result<void> RemoteSource::read_at(std::uint64_t offset, std::span<std::byte> out) const {
  const std::array<std::span<std::byte>, 1> parts{out};
  return read_parts(offset, parts);
}

Result<void> RemoteSource::read_parts(std::uint64_t offset,
                                      std::span<const std::span<std::byte>> parts) const {
  return read(offset, parts, {});
}

Result<void> RemoteSource::read_with_progress(std::uint64_t offset,
                                              std::span<const std::span<std::byte>> parts,
                                              const ReadProgress& progress) const {
  if (whole_ || !cache_key_.empty()) return ByteSource::read_with_progress(offset, parts, progress);
  return read(offset, parts, progress);
}

Result<void> RemoteSource::read(std::uint64_t offset, std::span<const std::span<std::byte>> parts,
                                const ReadProgress& progress) const {
  std::vector<std::span<std::byte>> left(parts.begin(), parts.end());
  std::span<std::span<std::byte>> rest = left;
  const std::uint64_t wanted = sum_of(rest);
  if (wanted > nbytes_ || offset > nbytes_ - wanted)
    return error_of(ErrorCode::invalid_argument, "cannot read ", wanted, " bytes at offset ",
                    offset, " of ", nbytes_, " bytes");
  if (whole_) return read_whole(offset, rest);
  const bool small = wanted <= kSmallRead;
  for (std::uint64_t nbytes = wanted; nbytes > 0;) {
    if (rest.front().empty()) {
      rest = rest.subspan(1);
      continue;
    }
    FLATBED_ASSIGN(const std::size_t taken, read_kept(offset, rest.front(), small));
    if (taken == 0) break;
    rest.front() = rest.front().subspan(taken);
    offset += taken;
    nbytes -= taken;
  }
  const std::uint64_t nbytes = sum_of(rest);
  if (nbytes == 0) return progress ? progress(wanted) : Result<void>();
  if (nbytes >= kLargeRead && offset > 0) {
    const std::lock_guard lock(mutex_);
    blocks_[0] = nullptr;
  }
  if (!cache_key_.empty()) return fetch_cached(offset, rest);
  return fetch_anew(offset, rest, counting_from(wanted - nbytes, progress));
}

Result<void> RemoteSource::reread_at(std::uint64_t offset, std::span<std::byte> out) const {
  if (out.empty()) return {};
  if (whole_) return reread_whole(offset, out);
  forget_blocks(offset, out.size());
  if (!cache_key_.empty())
    drop_blocks({*transport_->cache(), cache_key_, nbytes_}, offset, out.size());
  const std::array<std::span<std::byte>, 1> parts{out};
  return fetch_anew(offset, parts, {});
}

Result<void> RemoteSource::fetch_cached(std::uint64_t offset,
                                        std::span<const std::span<std::byte>> parts) const {
  const CachedFile file{*transport_->cache(), cache_key_, nbytes_};
  const auto from_server = [this](std::uint64_t begin, std::vector<std::span<std::byte>> missing) {
    return fetch_anew(begin, missing, {});
  };
  if (parts.size() == 1) return read_through(file, offset, parts[0], from_server);
  std::vector<std::byte> bytes(static_cast<std::size_t>(sum_of(parts)));
  FLATBED_TRY(read_through(file, offset, bytes, from_server));
  std::size_t used = 0;
  for (const std::span<std::byte> part : parts) {
    if (!part.empty()) std::memcpy(part.data(), bytes.data() + used, part.size());
    used += part.size();
  }
  return {};
}

// Goes first where the last redirect led: such URLs hold for minutes or hours, and then another has
// to be asked for. What was reported by then is not asked for again.
Result<void> RemoteSource::fetch_anew(std::uint64_t offset,
                                      std::span<const std::span<std::byte>> parts,
                                      const ReadProgress& progress) const {
  std::string text;
  {
    const std::lock_guard lock(mutex_);
    text = final_url_;
  }
  if (text == file_.url.text) return fetch_from(file_.url, offset, parts, progress);
  FLATBED_ASSIGN(const Url url, parse_url(text));
  std::uint64_t reported = 0;
  Result<void> went_on;
  ReadProgress noting;
  if (progress) {
    noting = [&](std::uint64_t nbytes) {
      reported = nbytes;
      return went_on = progress(nbytes);
    };
  }
  Result<void> fetched = fetch_from(url, offset, parts, noting);
  if (fetched || !went_on || !may_have_expired(fetched.error().code)) return fetched;
  std::vector<std::span<std::byte>> left(parts.begin(), parts.end());
  std::span<std::span<std::byte>> rest = left;
  static_cast<void>(take_front(rest, reported));
  return fetch_from(file_.url, offset + reported, rest, counting_from(reported, progress));
}

Result<void> RemoteSource::fetch_from(const Url& url, std::uint64_t offset,
                                      std::span<const std::span<std::byte>> parts,
                                      const ReadProgress& progress) const {
  std::vector<std::span<std::byte>> left(parts.begin(), parts.end());
  std::span<std::span<std::byte>> rest = left;
  // Ranges of one to two times the wished size, all the same but the last.
  const std::uint64_t nbytes = sum_of(rest);
  const std::uint64_t count =
      std::max<std::uint64_t>(1, nbytes / transport_->options().range_nbytes);
  const std::uint64_t step = nbytes / count + (nbytes % count == 0 ? 0 : 1);
  std::vector<Call> calls;
  for (std::uint64_t done = 0; done < nbytes; done += std::min(step, nbytes - done)) {
    Call& call = calls.emplace_back(new_call());
    call.url = url;
    call.range =
        WantedRange{offset + done, take_front(rest, std::min(step, nbytes - done)), nbytes_};
    call.body_limit = 0;
  }
  FLATBED_TRY(progress ? transport_->run(calls, progress) : transport_->run(calls));
  const std::lock_guard lock(mutex_);
  if (!calls.empty()) final_url_ = calls.back().final_url.text;
  return {};
}

// Of a server that knows no ranges. Under a lock, so that the file is in memory once.
Result<void> RemoteSource::read_whole(std::uint64_t offset,
                                      std::span<const std::span<std::byte>> parts) const {
  const std::lock_guard lock(whole_mutex_);
  if (nbytes_ > 0 && !blocks_[0]) FLATBED_TRY(fetch_whole());
  for (const std::span<std::byte> part : parts) {
    if (!part.empty()) std::memcpy(part.data(), blocks_[0]->bytes.data() + offset, part.size());
    offset += part.size();
  }
  return {};
}

// Rereads from the front to the back share one new copy of the file.
Result<void> RemoteSource::reread_whole(std::uint64_t offset, std::span<std::byte> out) const {
  const std::lock_guard lock(whole_mutex_);
  if (!blocks_[0] || offset < reread_to_) {
    blocks_[0] = nullptr;
    reread_to_ = kFirstCopy;
    FLATBED_TRY(fetch_whole());
  }
  reread_to_ = offset + out.size();
  std::memcpy(out.data(), blocks_[0]->bytes.data() + offset, out.size());
  return {};
}

Result<void> RemoteSource::fetch_whole() const {
  Call call = new_call();
  call.url = file_.url;
  call.body_limit = static_cast<std::size_t>(nbytes_);
  FLATBED_TRY(transport_->run({&call, 1}));
  if (call.text.size() != nbytes_)
    return error_of(ErrorCode::file_changed, "the file changed on the server: found ",
                    call.text.size(), " bytes, expected ", nbytes_);
  auto block = std::make_shared<Block>();
  block->bytes = std::move(call.text);
  trim(block->bytes);
  blocks_[0] = std::move(block);
  return {};
}

}  // namespace flatbed::remote
