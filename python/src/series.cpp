// Series: the checkpoints of a training run, for flatbed.torch.Series.
#include "flatbed/series.hpp"

#include <nanobind/stl/filesystem.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <atomic>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "bindings.hpp"
#include "errors.hpp"
#include "objects.hpp"
#include "plan.hpp"
#include "source.hpp"

namespace flatbed::python {

namespace {

// A series, and whoever can interrupt the call that writes to it.
class SeriesObject {
 public:
  static std::unique_ptr<SeriesObject> open(const std::filesystem::path& folder,
                                            SeriesOptions options) {
    auto made = std::make_unique<SeriesObject>();
    options.file.progress = [self = made.get()](const Progress& progress) {
      return self->tell(progress);
    };
    made->series_ = value_or_raise(released([&] { return Series::open(folder, options); }));
    return made;
  }

  ~SeriesObject() { wait_and_close(); }

  // A call that only reads.
  template <typename Call>
  auto read(Call&& call) const {
    return value_or_raise(released([&] {
      const std::shared_lock open(closing_);
      return call(get());
    }));
  }

  // The same, which Ctrl-C stops.
  template <typename Call>
  auto read_with(Interruptible& work, Call&& call) const {
    return work.run([&] {
      const std::shared_lock open(closing_);
      return call(get());
    });
  }

  // One call that writes at a time; Ctrl-C stops it.
  template <typename Call>
  auto write(const nb::object& progress, Call&& call) {
    refuse_in_callback();
    Interruptible work(progress);
    const ProgressCallback callback = work.progress();
    return work.run([&] {
      const std::lock_guard one(writing_);
      const std::shared_lock open(closing_);
      Series& series = get();
      writer_ = std::this_thread::get_id();
      callback_ = &callback;
      auto result = call(series);
      callback_ = nullptr;
      return result;
    });
  }

  // Waits for save_async().
  void close() {
    refuse_in_callback();
    wait_and_close();
  }

 private:
  void wait_and_close() {
    const GilReleased release;
    const std::unique_lock lock(closing_);
    series_.reset();
  }

  // A progress callback runs within write(), which holds both locks, so it would wait for itself.
  void refuse_in_callback() const {
    if (callback_ != nullptr && writer_.load() == std::this_thread::get_id())
      throw std::runtime_error("a progress callback cannot write to its series or close it");
  }

  // Throws where there is no GIL to raise with, so it is thrown as a plain exception.
  [[nodiscard]] Series& get() const {
    if (!series_) throw std::invalid_argument("the series is closed");
    return *series_;
  }

  // Also called by the thread of save_async(), which nobody interrupts.
  Result<void> tell(const Progress& progress) const {
    const ProgressCallback* const callback = callback_;
    if (callback == nullptr || writer_.load() != std::this_thread::get_id()) return {};
    return (*callback)(progress);
  }

  mutable std::shared_mutex closing_;
  std::mutex writing_;
  std::atomic<std::thread::id> writer_;
  std::atomic<const ProgressCallback*> callback_ = nullptr;
  mutable std::optional<Series> series_;
};

ScoreMode mode_named(const std::string& text) {
  if (text == "min") return ScoreMode::min;
  if (text == "max") return ScoreMode::max;
  throw nb::value_error(("mode must be 'min' or 'max', not '" + text + "'").c_str());
}

struct SeriesRequest {
  std::optional<std::string> metric, mode;
  std::uint64_t keep_last = 0, keep_best = 1, keep_every = 0;
  std::optional<std::uint64_t> max_shard_nbytes;
};

std::unique_ptr<SeriesObject> open_series(const std::filesystem::path& folder,
                                          const SeriesRequest& request) {
  SeriesOptions options{.metric = request.metric,
                        .keep_last = request.keep_last,
                        .keep_best = request.keep_best,
                        .keep_every = request.keep_every,
                        .max_shard_nbytes = request.max_shard_nbytes};
  if (request.mode) options.mode = mode_named(*request.mode);
  return SeriesObject::open(folder, options);
}

nb::list lines_of(const std::vector<std::string>& texts) {
  nb::list lines;
  for (const std::string& text : texts) lines.append(text);
  return lines;
}

nb::list entries_of(const std::vector<SeriesEntry>& entries) {
  nb::list list;
  for (const SeriesEntry& entry : entries) list.append(nb::cast(entry));
  return list;
}

nb::dict saved_of(const SeriesSave& saved) {
  nb::dict result;
  result["entry"] = nb::cast(saved.entry);
  result["nbytes"] = saved.files.nbytes;
  result["durable"] = saved.files.durability == Durability::committed;
  result["pruned"] = entries_of(saved.pruned);
  result["notes"] = lines_of(saved.notes);
  return result;
}

nb::list verified_of(const SeriesVerify& report) {
  nb::list rows;
  for (const VerifiedEntry& one : report.entries) {
    const std::string why = !one.report                   ? one.report.error().message
                            : one.report->damaged.empty() ? std::string()
                                                          : std::string("the bytes are damaged");
    rows.append(nb::make_tuple(nb::cast(one.entry), one.ok(), why));
  }
  return rows;
}

void bind_entry(nb::module_& module) {
  nb::class_<SeriesEntry>(module, "SeriesEntry", "A checkpoint as its header states it.")
      .def_prop_ro(
          "path", [](const SeriesEntry& self) { return self.path; },
          "The file, or the folder of a set.")
      .def_ro("sequence", &SeriesEntry::sequence, "Orders the series.")
      .def_ro("step", &SeriesEntry::step, "The step it was saved with.")
      .def_ro("score", &SeriesEntry::score, "The score it was saved with, or None.")
      .def_ro("epoch", &SeriesEntry::epoch, "The integer ``epoch`` of the saved dict, or None.")
      .def_ro("parent", &SeriesEntry::parent,
              "The ``content`` of the one before it; of the first \"\".")
      .def_ro("content", &SeriesEntry::content,
              "The digest of everything in it; of a set, in its first file.")
      .def_ro("nbytes", &SeriesEntry::nbytes, "The size of its files.")
      .def_ro("saved_at", &SeriesEntry::saved_at,
              "When, by the clock then, in milliseconds since 1970, UTC.")
      .def_ro("is_set", &SeriesEntry::is_set, "Whether it is a folder of shards.")
      .def_ro("notes", &SeriesEntry::notes,
              "Which ones were passed over to find this one, and why.")
      .def("__repr__", [](const SeriesEntry& self) {
        return "<SeriesEntry step=" + std::to_string(self.step) + " path='" + self.path.string() +
               "'>";
      });
}

void bind_readers(nb::class_<SeriesObject>& series) {
  series
      .def(
          "listing",
          [](const SeriesObject& self) {
            const SeriesListing listing = self.read([](Series& one) { return one.list(); });
            return nb::make_tuple(entries_of(listing.entries), listing.metric, name(listing.mode),
                                  lines_of(listing.notes));
          },
          nb::sig("def listing(self) -> tuple[list[SeriesEntry], str | None, str, list[str]]"))
      .def("latest",
           [](const SeriesObject& self) {
             return self.read([](Series& one) { return one.latest(); });
           })
      .def("best",
           [](const SeriesObject& self) {
             return self.read([](Series& one) { return one.best(); });
           })
      .def(
          "at",
          [](const SeriesObject& self, std::uint64_t step) {
            return self.read([&](Series& one) { return one.at(step); });
          },
          nb::arg("step"))
      .def(
          "verify",
          [](const SeriesObject& self, const nb::object& progress) {
            Interruptible work(progress);
            VerifyOptions options;
            options.progress = work.progress();
            return verified_of(
                self.read_with(work, [&](Series& one) { return one.verify(options); }));
          },
          nb::arg("progress") = nb::none(),
          nb::sig("def verify(self, progress: flatbed._types.Progress = None) -> "
                  "list[tuple[SeriesEntry, bool, str]]"));
}

void bind_writers(nb::class_<SeriesObject>& series) {
  series
      .def(
          "save",
          [](SeriesObject& self, const PlanObject& plan, std::uint64_t step,
             std::optional<double> score, const nb::object& progress) {
            return saved_of(self.write(progress, [&](Series& one) {
              return one.save(plan.plan, {.step = step, .score = score});
            }));
          },
          nb::arg("plan"), nb::arg("step"), nb::arg("score") = nb::none(),
          nb::arg("progress") = nb::none(),
          nb::sig("def save(self, plan: Plan, step: int, score: float | None = None, "
                  "progress: flatbed._types.Progress = None) -> dict[str, typing.Any]"))
      .def(
          "save_async",
          [](SeriesObject& self, const PlanObject& plan, std::uint64_t step,
             std::optional<double> score) {
            return self.write(nb::none(), [&](Series& one) {
              return one.save_async(plan.plan, {.step = step, .score = score});
            });
          },
          nb::arg("plan"), nb::arg("step"), nb::arg("score") = nb::none())
      .def(
          "prune",
          [](SeriesObject& self, bool dry_run) {
            const PruneReport report =
                self.write(nb::none(), [&](Series& one) { return one.prune(dry_run); });
            return nb::make_tuple(entries_of(report.removed), entries_of(report.kept),
                                  lines_of(report.notes));
          },
          nb::arg("dry_run") = false,
          nb::sig("def prune(self, dry_run: bool = False) -> "
                  "tuple[list[SeriesEntry], list[SeriesEntry], list[str]]"))
      .def(
          "roll_back",
          [](SeriesObject& self, std::uint64_t step) {
            const RollBackReport report =
                self.write(nb::none(), [&](Series& one) { return one.roll_back(step); });
            return nb::make_tuple(nb::cast(report.latest), entries_of(report.moved));
          },
          nb::arg("step"),
          nb::sig("def roll_back(self, step: int) -> tuple[SeriesEntry, list[SeriesEntry]]"))
      .def("close", &SeriesObject::close);
}

using Text = std::optional<std::string>;

std::unique_ptr<SeriesObject> open_with(const nb::handle& folder, Text metric, Text mode,
                                        std::uint64_t keep_last, std::uint64_t keep_best,
                                        std::uint64_t keep_every,
                                        std::optional<std::uint64_t> max_shard_nbytes) {
  return open_series(
      path_argument(folder, "folder"),
      {std::move(metric), std::move(mode), keep_last, keep_best, keep_every, max_shard_nbytes});
}

std::unique_ptr<CheckpointObject> open_entry(const SeriesEntry& entry) {
  return std::make_unique<CheckpointObject>(
      value_or_raise(released([&] { return Series::open_entry(entry); })));
}

}  // namespace

void bind_series(nb::module_& module) {
  bind_entry(module);
  nb::class_<PendingSave>(module, "PendingSave", "A save that may still be running.")
      .def("ready", &PendingSave::ready)
      .def(
          "wait",
          [](const PendingSave& self) {
            return saved_of(value_or_raise(released([&] { return self.wait(); })));
          },
          nb::sig("def wait(self) -> dict[str, typing.Any]"));
  nb::class_<SeriesObject> series(module, "Series",
                                  "The checkpoints of a training run, in a folder.");
  bind_readers(series);
  bind_writers(series);
  module.def("open_series", &open_with, nb::arg("folder"), nb::kw_only(),
             nb::arg("metric") = nb::none(), nb::arg("mode") = nb::none(), nb::arg("keep_last") = 0,
             nb::arg("keep_best") = 1, nb::arg("keep_every") = 0,
             nb::arg("max_shard_nbytes") = nb::none(),
             nb::sig("def open_series(folder: flatbed._types.Path, *, metric: str | None = None, "
                     "mode: str | None = None, keep_last: int = 0, keep_best: int = 1, "
                     "keep_every: int = 0, max_shard_nbytes: int | None = None) -> Series"));
  module.def("open_entry", &open_entry, nb::arg("entry"));
}

}  // namespace flatbed::python
