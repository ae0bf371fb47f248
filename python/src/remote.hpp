// What flatbed.open() does with URLs, by the component flatbed::remote. Where the module was built
// without it, a URL is an error that says so.
#pragma once

#include <nanobind/nanobind.h>

#include <memory>

#include "flatbed/checkpoint.hpp"
#include "flatbed/save.hpp"
#include "flatbed/save_set.hpp"
#include "flatbed/scan.hpp"

namespace flatbed::python {

namespace nb = nanobind;

// Whether `source` is a str such as "https://..."; a path of such a name is "./NAME" or a Path.
bool is_url(const nb::handle& source);

// `options` of all: a Mapping, or None. Each needs the GIL, and gives it up while it waits; Ctrl-C
// ends it. They throw the library's errors, and TypeError for options that there are none of.
Checkpoint open_url(const nb::handle& url, const nb::handle& options, const OpenOptions& open);
ScanReport scan_url(const nb::handle& url, const nb::handle& options);

// Where a URL of s3:// is written. Its members are called without the GIL.
class RemoteOutput {
 public:
  // Needs the GIL.
  RemoteOutput(const nb::handle& url, const nb::handle& options, bool replace);
  RemoteOutput(const RemoteOutput&) = delete;
  RemoteOutput& operator=(const RemoteOutput&) = delete;
  ~RemoteOutput();

  [[nodiscard]] Result<SaveReport> save(const SavePlan& plan, const SaveOptions& options) const;
  [[nodiscard]] Result<SaveSetReport> save_set(const SavePlan& plan,
                                               const SaveSetOptions& options) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace flatbed::python
