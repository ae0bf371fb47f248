// Loads of several ranks, over a transport that Python implements (flatbed/torch/_ranks.py).
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "bindings.hpp"
#include "errors.hpp"
#include "flatbed/collective.hpp"
#include "flatbed/load_together.hpp"
#include "objects.hpp"
#include "source.hpp"

namespace flatbed::python {

namespace {

// A Collective whose members are methods of an object of Python, called with the GIL. What they
// raise is collective_failed; what a signal handler raises meanwhile is kept.
class PythonCollective final : public Collective {
 public:
  PythonCollective(nb::object transport, std::uint32_t rank, std::uint32_t size)
      : transport_(std::move(transport)), rank_(rank), size_(size) {
    if (rank_ >= size_) throw nb::index_error("a rank must be below the number of ranks");
  }

  [[nodiscard]] std::uint32_t rank() const noexcept override { return rank_; }
  [[nodiscard]] std::uint32_t size() const noexcept override { return size_; }
  // The transport knows of a rank's machine before it announces the first message of the rank. A
  // load asks after all ranks have said what they want.
  [[nodiscard]] std::uint32_t node(std::uint32_t rank) const noexcept override {
    if (nodes_.empty()) {
      if (auto nodes = call([&] {
            return nb::cast<std::vector<std::uint32_t>>(call_python(transport_.attr("nodes")));
          }))
        nodes_ = *std::move(nodes);
    }
    return rank < nodes_.size() ? nodes_[rank] : rank;
  }

  Result<Ticket> send(const MessageAddress& address, std::span<const std::byte> bytes) override {
    return call([&] {
      return nb::cast<Ticket>(call_python(transport_.attr("send"), address.to, address.tag,
                                          reinterpret_cast<std::uintptr_t>(bytes.data()),
                                          bytes.size()));
    });
  }
  Result<std::optional<Incoming>> next() override {
    return call([&] {
      const nb::object found = call_python(transport_.attr("next"));
      if (found.is_none()) return std::optional<Incoming>();
      const auto [from, tag, nbytes, id] =
          nb::cast<std::tuple<std::uint32_t, std::uint64_t, std::uint64_t, std::uint64_t>>(found);
      return std::optional(Incoming{from, tag, nbytes, id});
    });
  }
  Result<Ticket> receive(const Incoming& message, std::span<std::byte> out) override {
    return call([&] {
      return nb::cast<Ticket>(call_python(transport_.attr("receive"), message.id,
                                          reinterpret_cast<std::uintptr_t>(out.data()),
                                          out.size()));
    });
  }
  Result<bool> done(Ticket ticket) override {
    return call([&] { return nb::cast<bool>(call_python(transport_.attr("done"), ticket)); });
  }
  bool forget(Ticket ticket) noexcept override {
    const Result<bool> ended =
        call([&] { return nb::cast<bool>(call_python(transport_.attr("forget"), ticket)); });
    return ended && *ended;
  }
  // Throws the KeyboardInterrupt, or what else a signal handler has raised.
  void raise_again() {
    if (!raised_) return;
    nb::python_error raised = *std::move(raised_);
    raised_.reset();
    throw raised;
  }

 private:
  template <typename Call>
  auto call(const Call& body) const noexcept -> Result<decltype(body())> {
    const GilHeld held;
    try {
      return body();
    } catch (nb::python_error& error) {
      Error failed{ErrorCode::collective_failed, std::string("the transport: ") + error.what()};
      if (!raised_ && !error.matches(PyExc_Exception)) raised_.emplace(std::move(error));
      return failed;
    } catch (const std::exception& error) {
      return Error{ErrorCode::collective_failed, std::string("the transport: ") + error.what()};
    }
  }

  nb::object transport_;
  std::uint32_t rank_;
  std::uint32_t size_;
  mutable std::vector<std::uint32_t> nodes_;  // by rank; empty until they are known
  mutable std::optional<nb::python_error> raised_;
};

// Beyond this a deadline is as good as none.
std::chrono::milliseconds milliseconds(double seconds) {
  constexpr double kMost = 1e9;
  return std::chrono::milliseconds(
      static_cast<std::int64_t>(seconds > 0 ? std::min(seconds, kMost) * 1e3 : 0));
}

// A rank that has nothing to load because of an error of its own: tells the others that it ends.
void leave(Collective& ranks, std::chrono::milliseconds deadline) {
  const std::atomic<bool> cancel = true;
  JointOptions options;
  options.load.cancel = &cancel;
  options.deadline = deadline;
  static_cast<void>(load_together(LoadPlan(), ranks, options));  // cancelled
}

// index, address, nbytes, the dimension along which each rank has its part
using JointTarget =
    std::tuple<std::uint32_t, std::uint64_t, std::uint64_t, std::optional<std::size_t>>;

Result<LoadPlan> plan_targets(const Checkpoint& checkpoint, const std::vector<JointTarget>& targets,
                              const Collective& ranks) {
  LoadPlan plan;
  for (const auto& [index, address, nbytes, dim] : targets) {
    const TensorInfo& tensor = checkpoint.tensors()[index];
    Slice slice;
    if (dim) {
      FLATBED_ASSIGN(slice, shard_slice(tensor, *dim, ranks.rank(), ranks.size()));
    }
    FLATBED_ASSIGN(const std::uint64_t expected, slice_nbytes(tensor, slice));
    if (nbytes != expected) {
      return Error{ErrorCode::load_mismatch, "tensor '" + std::string(tensor.name) + "': found " +
                                                 std::to_string(nbytes) + " bytes, expected " +
                                                 std::to_string(expected)};
    }
    void* const data = reinterpret_cast<void*>(static_cast<std::uintptr_t>(address));
    FLATBED_TRY(
        plan.add(checkpoint, tensor.name, {.data = data, .capacity = nbytes}, {.slice = slice}));
  }
  return plan;
}

Result<JointReport> load_targets(const Checkpoint& checkpoint,
                                 const std::vector<JointTarget>& targets, Collective& ranks,
                                 const JointOptions& options) {
  const Result<LoadPlan> plan = plan_targets(checkpoint, targets, ranks);
  if (plan) return load_together(*plan, ranks, options);
  leave(ranks, options.deadline);
  return plan.error();
}

nb::dict report_of(const RankReport& rank) {
  nb::dict report;
  report["bytes_wanted"] = rank.bytes_wanted;
  report["bytes_read"] = rank.bytes_read;
  report["bytes_sent"] = rank.bytes_sent;
  report["bytes_sent_across"] = rank.bytes_sent_across;
  report["bytes_received"] = rank.bytes_received;
  report["seconds"] = rank.seconds;
  report["waited_seconds"] = rank.waited_seconds;
  return report;
}

nb::list load_joint(const CheckpointObject& self, const std::vector<JointTarget>& targets,
                    PythonCollective& ranks, double deadline, bool verify, unsigned threads,
                    const nb::object& progress) {
  const Checkpoint checkpoint = self.get();
  for (const JointTarget& target : targets) {
    if (std::get<0>(target) >= checkpoint.tensors().size())
      throw nb::index_error("no tensor has this index");
  }
  Interruptible work(progress);
  JointOptions options;
  options.load.verify = verify ? Verify::yes : Verify::no;
  options.load.threads = threads;
  options.load.progress = work.progress();
  options.deadline = milliseconds(deadline);
  JointReport report;
  try {
    report = work.run([&] { return load_targets(checkpoint, targets, ranks, options); });
  } catch (const nb::python_error&) {
    ranks.raise_again();
    throw;
  }
  ranks.raise_again();
  nb::list ranks_list;
  for (const RankReport& rank : report.ranks) ranks_list.append(report_of(rank));
  return ranks_list;
}

void leave_load_together(PythonCollective& ranks, double deadline) {
  released([&] { leave(ranks, milliseconds(deadline)); });
  ranks.raise_again();
}

}  // namespace

void bind_ranks(nb::module_& module) {
  nb::class_<PythonCollective>(module, "Collective", "Ranks that talk by a transport of Python.")
      .def(nb::init<nb::object, std::uint32_t, std::uint32_t>(), nb::arg("transport"),
           nb::arg("rank"), nb::arg("size"),
           nb::sig("def __init__(self, transport: typing.Any, rank: int, size: int) -> None"));
  module.def("load_together", &load_joint, nb::arg("checkpoint"), nb::arg("targets"),
             nb::arg("ranks"), nb::arg("deadline"), nb::arg("verify"), nb::arg("threads"),
             nb::arg("progress").none(),
             nb::sig("def load_together(checkpoint: Checkpoint, "
                     "targets: list[tuple[int, int, int, int | None]], ranks: Collective, "
                     "deadline: float, verify: bool, threads: int, progress: typing.Any) "
                     "-> list[dict[str, typing.Any]]"));
  module.def("leave_load_together", &leave_load_together, nb::arg("ranks"), nb::arg("deadline"),
             nb::sig("def leave_load_together(ranks: Collective, deadline: float) -> None"));
}

}  // namespace flatbed::python
