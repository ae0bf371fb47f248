// A Collective over MPI's nonblocking calls.
//
// A message is one MPI message with a head, or two if it is long:
//
//   tag 0     bytes 0..7    u64 the tag
//             bytes 8..15   u64 the size
//             bytes 16..19  u32 the MPI tag of the bytes, 0 if they follow here
//             bytes 20..23  zero
//             bytes 24..    the bytes, if they are at most 2 KiB
//   tag 1..   the bytes
//
// One receive is always posted for heads, from any rank, so that nothing is looked for that MPI
// would have to hold back. Long bytes are received by their own tag, in any order.
//
// Memory that ranks of a node share is a window of MPI, in one epoch for as long as it lives; only
// its memory is used, and messages say when.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "flatbed/mpi.hpp"

namespace flatbed {

namespace {

constexpr std::size_t kHeadNbytes = 24;
constexpr std::size_t kShortNbytes = 2048;
constexpr int kHeadTag = 0;
constexpr int kMostTags = 1 << 30;
constexpr Collective::Ticket kNothing = 0;
constexpr std::size_t kPage = 4096;
// MADV_POPULATE_WRITE, which older headers lack, and which kernels before 5.14 refuse.
constexpr int kPopulateWrite = 23;

Error mpi_error(std::string_view call, int status) {
  std::array<char, MPI_MAX_ERROR_STRING> text = {};
  int length = 0;
  if (MPI_Error_string(status, text.data(), &length) != MPI_SUCCESS) length = 0;
  return {ErrorCode::collective_failed,
          std::string(call) + ": " + std::string(text.data(), static_cast<std::size_t>(length))};
}

Result<void> check(std::string_view call, int status) {
  if (status == MPI_SUCCESS) return {};
  return mpi_error(call, status);
}

// The first whole page of memory that the system has mapped; all ranks skip as much.
std::span<std::byte> from_page(std::byte* memory, std::size_t nbytes) {
  const std::size_t skipped = (kPage - reinterpret_cast<std::uintptr_t>(memory) % kPage) % kPage;
  return std::span(memory, nbytes).subspan(skipped);
}

// A mapped file may promise more than its file system has room for: writing to the rest would be
// SIGBUS, where this only fails.
bool has_room_for(std::span<std::byte> memory) {
  return ::madvise(memory.data(), memory.size() / kPage * kPage, kPopulateWrite) == 0;
}

// Where the windows of MPI lie.
constexpr const char* kSharedFolder = "/dev/shm";

// Held by the first rank of a node, from its look at the room until the pages of all are there:
// another job that looks meanwhile would count on the same room. The other ranks do not look, since
// they do not know when the lock is held. Ends with the process, if not before.
class SharedFolderLock {
 public:
  SharedFolderLock() = default;
  SharedFolderLock(const SharedFolderLock&) = delete;
  SharedFolderLock& operator=(const SharedFolderLock&) = delete;
  ~SharedFolderLock() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  // False if it cannot be had within some seconds.
  [[nodiscard]] bool take() {
    constexpr std::chrono::milliseconds kPause{2};
    constexpr int kTries = 2000;
    descriptor_ = ::open(kSharedFolder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; descriptor_ >= 0 && i < kTries; ++i) {
      if (::flock(descriptor_, LOCK_EX | LOCK_NB) == 0) return true;
      std::this_thread::sleep_for(kPause);
    }
    return false;
  }

 private:
  int descriptor_ = -1;
};

// Whether windows of MPI leave half of the room. Without it Open MPI fails on one rank, and the
// others wait for that one for ever.
bool is_likely_to_fit(std::uint64_t nbytes) {
  struct statvfs state = {};
  if (::statvfs(kSharedFolder, &state) != 0) return false;
  return nbytes <= std::uint64_t{state.f_bavail} * state.f_frsize / 2;
}

Result<void> check_usable() {
  int initialized = 0;
  int finalized = 0;
  int level = MPI_THREAD_SINGLE;
  int is_main = 0;
  FLATBED_TRY(check("MPI_Initialized", MPI_Initialized(&initialized)));
  FLATBED_TRY(check("MPI_Finalized", MPI_Finalized(&finalized)));
  if (initialized == 0 || finalized != 0) {
    return Error{ErrorCode::collective_failed, "MPI is not initialized, or finalized already"};
  }
  FLATBED_TRY(check("MPI_Query_thread", MPI_Query_thread(&level)));
  FLATBED_TRY(check("MPI_Is_thread_main", MPI_Is_thread_main(&is_main)));
  if (level < MPI_THREAD_FUNNELED) {
    return Error{ErrorCode::collective_failed,
                 "MPI is initialized for programs without threads: expected at least "
                 "MPI_THREAD_FUNNELED; call MPI_Init_thread()"};
  }
  if (level == MPI_THREAD_FUNNELED && is_main == 0) {
    return Error{ErrorCode::collective_failed,
                 "MPI is initialized for calls of one thread, and this is another: expected "
                 "MPI_THREAD_SERIALIZED"};
  }
  return {};
}

class MpiCollective final : public Collective {
 public:
  ~MpiCollective() override;

  // Errors: collective_failed.
  [[nodiscard]] Result<void> begin(MPI_Comm communicator, const MpiOptions& options);

  [[nodiscard]] std::uint32_t rank() const noexcept override { return rank_; }
  [[nodiscard]] std::uint32_t size() const noexcept override {
    return static_cast<std::uint32_t>(nodes_.size());
  }
  [[nodiscard]] std::uint32_t node(std::uint32_t rank) const noexcept override {
    return rank < nodes_.size() ? nodes_[rank] : rank;
  }
  [[nodiscard]] std::span<std::byte> shared_memory(std::uint32_t rank) noexcept override {
    return rank < shared_.size() ? shared_[rank] : std::span<std::byte>();
  }
  Result<Ticket> send(const MessageAddress& address, std::span<const std::byte> bytes) override;
  Result<std::optional<Incoming>> next() override;
  Result<Ticket> receive(const Incoming& message, std::span<std::byte> out) override;
  Result<bool> done(Ticket ticket) override;
  bool forget(Ticket ticket) noexcept override;

 private:
  struct Request {
    MPI_Request head = MPI_REQUEST_NULL;
    MPI_Request bytes = MPI_REQUEST_NULL;
    bool receives = false;
    std::vector<std::byte> copy;  // of the head, and of short bytes
  };
  struct Announced {
    std::uint32_t bytes_tag = 0;
    std::vector<std::byte> bytes;  // of a short message
  };

  [[nodiscard]] Result<void> find_tags();
  [[nodiscard]] Result<void> find_nodes();
  [[nodiscard]] Result<void> share(std::uint64_t nbytes);
  [[nodiscard]] Result<void> find_shared();
  [[nodiscard]] Result<void> synchronize();
  [[nodiscard]] Result<void> post_head();
  [[nodiscard]] Result<Incoming> announce(const MPI_Status& status);

  MPI_Comm communicator_ = MPI_COMM_NULL;
  MPI_Comm node_ = MPI_COMM_NULL;  // of the ranks that can share memory
  MPI_Win window_ = MPI_WIN_NULL;
  std::vector<std::span<std::byte>> shared_;  // by rank; empty if there is no window
  std::uint32_t rank_ = 0;
  std::vector<std::uint32_t> nodes_;
  // For long messages to each rank. A message that nobody received, after an error, keeps its tag:
  // all that MPI has are used before one is used again.
  std::vector<std::uint32_t> next_tag_;
  std::uint32_t most_tags_ = 0;
  MPI_Request head_ = MPI_REQUEST_NULL;
  std::array<std::byte, kHeadNbytes + kShortNbytes> head_bytes_ = {};
  std::map<Ticket, Request> requests_;
  std::vector<Request> left_;  // forgotten ones that MPI still works on
  std::map<std::uint64_t, Announced> announced_;
  std::uint64_t ids_ = 0;
  Ticket tickets_ = kNothing;
};

Result<void> MpiCollective::begin(MPI_Comm communicator, const MpiOptions& options) {
  FLATBED_TRY(check_usable());
  FLATBED_TRY(check("MPI_Comm_dup", MPI_Comm_dup(communicator, &communicator_)));
  FLATBED_TRY(
      check("MPI_Comm_set_errhandler", MPI_Comm_set_errhandler(communicator_, MPI_ERRORS_RETURN)));
  int rank = 0;
  int size = 0;
  FLATBED_TRY(check("MPI_Comm_rank", MPI_Comm_rank(communicator_, &rank)));
  FLATBED_TRY(check("MPI_Comm_size", MPI_Comm_size(communicator_, &size)));
  rank_ = static_cast<std::uint32_t>(rank);
  nodes_.resize(static_cast<std::size_t>(size));
  next_tag_.resize(nodes_.size());
  FLATBED_TRY(find_tags());
  FLATBED_TRY(find_nodes());
  FLATBED_TRY(share(options.shared_nbytes));
  return post_head();
}

// Every MPI has 32,767 tags at least, and the same number on all ranks.
Result<void> MpiCollective::find_tags() {
  int* most = nullptr;
  int found = 0;
  FLATBED_TRY(
      check("MPI_Comm_get_attr", MPI_Comm_get_attr(communicator_, MPI_TAG_UB, &most, &found)));
  if (found == 0)
    return Error{ErrorCode::collective_failed, "MPI does not say how many tags it has"};
  most_tags_ = static_cast<std::uint32_t>(std::min(*most, kMostTags));
  return {};
}

// The number of a node is the lowest rank on it.
Result<void> MpiCollective::find_nodes() {
  FLATBED_TRY(check("MPI_Comm_split_type", MPI_Comm_split_type(communicator_, MPI_COMM_TYPE_SHARED,
                                                               0, MPI_INFO_NULL, &node_)));
  FLATBED_TRY(check("MPI_Comm_set_errhandler", MPI_Comm_set_errhandler(node_, MPI_ERRORS_RETURN)));
  std::uint32_t lowest = rank_;
  FLATBED_TRY(check("MPI_Bcast", MPI_Bcast(&lowest, 1, MPI_UINT32_T, 0, node_)));
  return check("MPI_Allgather", MPI_Allgather(&lowest, 1, MPI_UINT32_T, nodes_.data(), 1,
                                              MPI_UINT32_T, communicator_));
}

// Without memory to share, or room for all of it, there is none, and no error.
Result<void> MpiCollective::share(std::uint64_t nbytes) {
  enum : int { kNoWindow, kNoRoom, kUsable };
  constexpr std::uint64_t kMost = std::uint64_t{1} << 40;
  int ranks = 0;
  FLATBED_TRY(check("MPI_Comm_size", MPI_Comm_size(node_, &ranks)));
  int on_node = 0;
  FLATBED_TRY(check("MPI_Comm_rank", MPI_Comm_rank(node_, &on_node)));
  nbytes = std::min(nbytes, kMost);
  SharedFolderLock lock;  // until the function returns, when all ranks have their pages
  const bool looks = on_node == 0 && ranks > 1 && nbytes != 0;
  if (looks && (!lock.take() || !is_likely_to_fit(nbytes * static_cast<std::uint64_t>(ranks))))
    nbytes = 0;
  std::uint64_t least = 0;
  FLATBED_TRY(
      check("MPI_Allreduce", MPI_Allreduce(&nbytes, &least, 1, MPI_UINT64_T, MPI_MIN, node_)));
  if (ranks < 2 || least == 0) return {};
  // With room to begin at a page. Each rank's memory is near the rank.
  const std::uint64_t pages = (least + kPage - 1) / kPage + 1;
  const auto size = static_cast<MPI_Aint>(pages * kPage);
  MPI_Info info = MPI_INFO_NULL;
  FLATBED_TRY(check("MPI_Info_create", MPI_Info_create(&info)));
  FLATBED_TRY(check("MPI_Info_set", MPI_Info_set(info, "alloc_shared_noncontig", "true")));
  std::byte* mine = nullptr;
  int mine_is = kNoWindow;
  const int allocated =
      MPI_Win_allocate_shared(size, 1, info, node_, static_cast<void*>(&mine), &window_);
  MPI_Info_free(&info);
  if (allocated == MPI_SUCCESS) {
    FLATBED_TRY(
        check("MPI_Win_set_errhandler", MPI_Win_set_errhandler(window_, MPI_ERRORS_RETURN)));
    const bool locked = MPI_Win_lock_all(MPI_MODE_NOCHECK, window_) == MPI_SUCCESS;
    if (locked) mine_is = has_room_for(from_page(mine, pages * kPage)) ? kUsable : kNoRoom;
  }
  int all_are = kNoWindow;
  FLATBED_TRY(
      check("MPI_Allreduce", MPI_Allreduce(&mine_is, &all_are, 1, MPI_INT, MPI_MIN, node_)));
  if (all_are == kUsable) return find_shared();
  if (all_are == kNoWindow) return {};  // some ranks may have one that cannot be freed
  FLATBED_TRY(check("MPI_Win_unlock_all", MPI_Win_unlock_all(window_)));
  return check("MPI_Win_free", MPI_Win_free(&window_));
}

Result<void> MpiCollective::find_shared() {
  int ranks = 0;
  FLATBED_TRY(check("MPI_Comm_size", MPI_Comm_size(node_, &ranks)));
  std::vector<std::uint32_t> rank_of(static_cast<std::size_t>(ranks));  // in the communicator
  FLATBED_TRY(check("MPI_Allgather", MPI_Allgather(&rank_, 1, MPI_UINT32_T, rank_of.data(), 1,
                                                   MPI_UINT32_T, node_)));
  shared_.resize(nodes_.size());
  for (int i = 0; i < ranks; ++i) {
    MPI_Aint nbytes = 0;
    int unit = 0;
    std::byte* memory = nullptr;
    FLATBED_TRY(check("MPI_Win_shared_query", MPI_Win_shared_query(window_, i, &nbytes, &unit,
                                                                   static_cast<void*>(&memory))));
    shared_[rank_of[static_cast<std::size_t>(i)]] =
        from_page(memory, static_cast<std::size_t>(nbytes));
  }
  return {};
}

// What was written to shared memory is seen by whoever a message tells of it.
Result<void> MpiCollective::synchronize() {
  return shared_.empty() ? Result<void>() : check("MPI_Win_sync", MPI_Win_sync(window_));
}

MpiCollective::~MpiCollective() {
  int finalized = 1;
  if (MPI_Finalized(&finalized) != MPI_SUCCESS || finalized != 0) return;
  if (head_ != MPI_REQUEST_NULL && MPI_Cancel(&head_) == MPI_SUCCESS)
    MPI_Wait(&head_, MPI_STATUS_IGNORE);
  for (auto& [ticket, request] : requests_) {  // their memory ends with the base class
    if (!request.receives || request.bytes == MPI_REQUEST_NULL) continue;
    if (MPI_Cancel(&request.bytes) == MPI_SUCCESS) MPI_Request_free(&request.bytes);
  }
  // Freed by MPI when nothing uses it any more. The window is left to MPI_Finalize(): freeing it
  // would wait for all ranks of the node, of which some may be dead.
  if (node_ != MPI_COMM_NULL) MPI_Comm_free(&node_);
  if (communicator_ != MPI_COMM_NULL) MPI_Comm_free(&communicator_);
}

Result<void> MpiCollective::post_head() {
  return check("MPI_Irecv", MPI_Irecv(head_bytes_.data(), static_cast<int>(head_bytes_.size()),
                                      MPI_BYTE, MPI_ANY_SOURCE, kHeadTag, communicator_, &head_));
}

Result<Collective::Ticket> MpiCollective::send(const MessageAddress& address,
                                               std::span<const std::byte> bytes) {
  if (address.to >= nodes_.size() || bytes.size() > std::numeric_limits<int>::max()) {
    return Error{ErrorCode::invalid_argument,
                 "MPI sends at most 2,147,483,647 bytes at once, to a rank that there is"};
  }
  FLATBED_TRY(synchronize());
  const auto to = static_cast<int>(address.to);
  const bool is_short = bytes.size() <= kShortNbytes;
  std::uint32_t bytes_tag = 0;
  if (!is_short) bytes_tag = next_tag_[address.to]++ % most_tags_ + 1;
  const std::uint64_t nbytes = bytes.size();
  const Ticket ticket = ++tickets_;
  Request& request = requests_[ticket];
  request.copy.resize(kHeadNbytes + (is_short ? bytes.size() : 0));
  std::memcpy(request.copy.data(), &address.tag, sizeof address.tag);
  std::memcpy(request.copy.data() + 8, &nbytes, sizeof nbytes);
  std::memcpy(request.copy.data() + 16, &bytes_tag, sizeof bytes_tag);
  if (is_short && !bytes.empty())
    std::memcpy(request.copy.data() + kHeadNbytes, bytes.data(), bytes.size());
  FLATBED_TRY(
      check("MPI_Isend", MPI_Isend(request.copy.data(), static_cast<int>(request.copy.size()),
                                   MPI_BYTE, to, kHeadTag, communicator_, &request.head)));
  if (is_short) return ticket;
  FLATBED_TRY(
      check("MPI_Isend", MPI_Isend(bytes.data(), static_cast<int>(bytes.size()), MPI_BYTE, to,
                                   static_cast<int>(bytes_tag), communicator_, &request.bytes)));
  return ticket;
}

Result<std::optional<Incoming>> MpiCollective::next() {
  int arrived = 0;
  MPI_Status status = {};
  FLATBED_TRY(check("MPI_Test", MPI_Test(&head_, &arrived, &status)));
  if (arrived == 0) return std::optional<Incoming>();
  FLATBED_ASSIGN(const Incoming message, announce(status));
  FLATBED_TRY(post_head());
  return std::optional(message);
}

Result<Incoming> MpiCollective::announce(const MPI_Status& status) {
  int count = 0;
  FLATBED_TRY(check("MPI_Get_count", MPI_Get_count(&status, MPI_BYTE, &count)));
  Incoming message;
  message.from = static_cast<std::uint32_t>(status.MPI_SOURCE);
  Announced announced;
  const auto got = static_cast<std::size_t>(std::max(count, 0));
  if (got >= kHeadNbytes) {
    std::memcpy(&message.tag, head_bytes_.data(), sizeof message.tag);
    std::memcpy(&message.nbytes, head_bytes_.data() + 8, sizeof message.nbytes);
    std::memcpy(&announced.bytes_tag, head_bytes_.data() + 16, sizeof announced.bytes_tag);
  }
  const bool fits = announced.bytes_tag == 0
                        ? got >= kHeadNbytes && message.nbytes == got - kHeadNbytes
                        : got == kHeadNbytes && announced.bytes_tag <= most_tags_ &&
                              message.nbytes <= std::numeric_limits<int>::max();
  if (!fits) {
    return Error{ErrorCode::collective_failed, "rank " + std::to_string(message.from) +
                                                   ": a malformed message of " +
                                                   std::to_string(got) + " bytes"};
  }
  if (announced.bytes_tag == 0)
    announced.bytes.assign(head_bytes_.begin() + kHeadNbytes,
                           head_bytes_.begin() + static_cast<std::ptrdiff_t>(got));
  message.id = ++ids_;
  announced_.emplace(message.id, std::move(announced));
  return message;
}

Result<Collective::Ticket> MpiCollective::receive(const Incoming& message,
                                                  std::span<std::byte> out) {
  const auto found = announced_.find(message.id);
  if (found == announced_.end() || out.size() != message.nbytes) {
    return Error{ErrorCode::invalid_argument,
                 "a message that was not announced, or a buffer of another size"};
  }
  const Announced announced = std::move(found->second);
  announced_.erase(found);
  if (announced.bytes_tag == 0) {
    FLATBED_TRY(synchronize());
    if (!out.empty()) std::memcpy(out.data(), announced.bytes.data(), out.size());
    return kNothing;
  }
  const Ticket ticket = ++tickets_;
  Request& request = requests_[ticket];
  request.receives = true;
  FLATBED_TRY(check(
      "MPI_Irecv",
      MPI_Irecv(out.data(), static_cast<int>(out.size()), MPI_BYTE, static_cast<int>(message.from),
                static_cast<int>(announced.bytes_tag), communicator_, &request.bytes)));
  return ticket;
}

Result<bool> MpiCollective::done(Ticket ticket) {
  if (ticket == kNothing) return true;
  const auto found = requests_.find(ticket);
  if (found == requests_.end()) {
    return Error{ErrorCode::invalid_argument, "a ticket that has ended"};
  }
  for (MPI_Request* const each : {&found->second.head, &found->second.bytes}) {
    int done = 0;
    if (Result<void> tested = check("MPI_Test", MPI_Test(each, &done, MPI_STATUS_IGNORE));
        !tested) {
      left_.push_back(std::move(found->second));
      requests_.erase(found);
      return std::move(tested).error();
    }
    if (done == 0) return false;
  }
  const bool received = found->second.receives;
  requests_.erase(found);
  if (received) FLATBED_TRY(synchronize());
  return true;
}

// A receive can be taken back; what MPI has begun to send, it may go on reading.
bool MpiCollective::forget(Ticket ticket) noexcept {
  const auto found = requests_.find(ticket);
  if (found == requests_.end()) return true;
  Request& request = found->second;
  bool ended = true;
  for (MPI_Request* const each : {&request.head, &request.bytes}) {
    int done = 0;
    if (request.receives && *each != MPI_REQUEST_NULL) MPI_Cancel(each);
    ended = MPI_Test(each, &done, MPI_STATUS_IGNORE) == MPI_SUCCESS && done != 0 && ended;
  }
  if (!ended) left_.push_back(std::move(request));
  requests_.erase(found);
  return ended;
}

}  // namespace

Result<std::unique_ptr<Collective>> mpi_collective(MPI_Comm communicator,
                                                   const MpiOptions& options) {
  auto collective = std::make_unique<MpiCollective>();
  FLATBED_TRY(collective->begin(communicator, options));
  return std::unique_ptr<Collective>(std::move(collective));
}

}  // namespace flatbed
