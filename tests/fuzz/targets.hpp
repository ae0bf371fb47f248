// The fuzz targets: functions that give bytes to one reader of the library and check what comes
// back. Whatever the bytes are, a reader gives a value or an error; and a value keeps what its
// header promises. Each stands in fuzz_<name>.cpp, runs under libFuzzer (libfuzzer.cpp, preset
// `asan`) and over kept inputs in every build (replay_test.cpp).
//
// Targets keep state between inputs if making it again would be slow. Not thread-safe.
#pragma once

#include <array>
#include <cstddef>
#include <string_view>

namespace flatbed::fuzz {

void pickle(std::string_view bytes);     // a pickle -> tree -> JSON -> tree
void repickle(std::string_view bytes);   // a pickle -> tree -> pickle -> tree
void torch_zip(std::string_view bytes);  // data.pkl of a whole zip with three storages
void legacy(std::string_view bytes);     // a legacy stream in memory
void zip(std::string_view bytes);        // a zip file: directory and records
void inflate(std::string_view bytes);    // a deflated record, read in two orders
void tar(std::string_view bytes);        // a tar of torch <= 0.1.9
void file(std::string_view bytes);       // any file: open, list, read, select, verify
void scan(std::string_view bytes);       // any file: what its pickles would call
void script(std::string_view bytes);     // the code of a TorchScript archive
void header(std::string_view bytes);     // the JSON of a safetensors header, with data after it
void tree(std::string_view bytes);       // the JSON of flatbed.tree
void index(std::string_view bytes);      // the index of a sharded set next to two shards
void series(std::string_view bytes);     // the head, value or JSON of a checkpoint of a series
void names(std::string_view bytes);      // rules that rename, and expectations as JSON

struct Target {
  std::string_view name;
  void (*run)(std::string_view bytes);
};

inline constexpr std::array kTargets{
    Target{"pickle", pickle}, Target{"repickle", repickle}, Target{"torch_zip", torch_zip},
    Target{"legacy", legacy}, Target{"zip", zip},           Target{"inflate", inflate},
    Target{"tar", tar},       Target{"file", file},         Target{"header", header},
    Target{"tree", tree},     Target{"index", index},       Target{"series", series},
    Target{"names", names},
};

}  // namespace flatbed::fuzz
