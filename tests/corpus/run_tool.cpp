// Runs every command of the tool, in one process, over every file of a folder, or over files whose
// objects are random. Whatever a file holds, no command may crash, exit with a code that --help
// does not list, print JSON that is none, report success without its output, write what verify
// calls damaged, or leave a descriptor or a file behind.
//
//   flatbed_corpus_tool files FOLDER [EVERY]     every file, or every one in EVERY
//   flatbed_corpus_tool roots COUNT [FIRST_SEED]
//
// Exit status 1 when one does, with the file and the command line.
#include <fcntl.h>
#include <simdjson.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "../tools/exit_code.hpp"
#include "../tools/tool.hpp"
#include "corpus/random_root.hpp"
#include "support/descriptors.hpp"
#include "support/temp_dir.hpp"

namespace flatbed::corpus {
namespace {

using tool::ExitCode;
using Words = std::vector<std::string>;

// The tool's standard output goes into memory and its standard error nowhere. What this program
// says itself goes to where its standard output went.
class Streams {
 public:
  Streams() : own_(::fdopen(::dup(STDOUT_FILENO), "w")), captured_(::memfd_create("stdout", 0)) {
    const int nowhere = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
    ::dup2(nowhere, STDERR_FILENO);
    ::dup2(captured_, STDOUT_FILENO);
    ::close(nowhere);
  }
  Streams(const Streams&) = delete;
  Streams& operator=(const Streams&) = delete;
  ~Streams() {
    std::fclose(own_);
    ::close(captured_);
  }

  void say(const std::string& text) {
    std::fwrite(text.data(), 1, text.size(), own_);
    std::fflush(own_);
  }

  // What was printed since the last call.
  std::string take() {
    struct stat facts {};
    ::fstat(captured_, &facts);
    std::string text(static_cast<std::size_t>(facts.st_size), '\0');
    const ssize_t got = ::pread(captured_, text.data(), text.size(), 0);
    text.resize(static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
    if (::ftruncate(captured_, 0) != 0) std::abort();
    ::lseek(captured_, 0, SEEK_SET);
    return text;
  }

 private:
  std::FILE* own_;
  int captured_;
};

// One command line, and the file that it writes if it succeeds.
struct Command {
  Words words;
  std::string output = {};
  bool prints_json = false;
  bool compares = false;  // a file with what was made of it: 1 is a difference, 2 a file's fault
};

// What opens a file in a way of its own; the first says whether it opens.
std::vector<Command> commands_of_any(const std::string& file, const std::string& folder) {
  const std::string tensors = folder + "/out.safetensors";
  return {
      {.words = {"ls", "--json", file}, .prints_json = true},
      {.words = {"verify", "--json", file}, .prints_json = true},
      {.words = {"scan", "--json", file}, .prints_json = true},
      {.words = {"load", "--json", "--quiet", file}, .prints_json = true},
      {.words = {"convert", "--no-sync", "--json", file, "-o", tensors},
       .output = tensors,
       .prints_json = true},
  };
}

// What works on what was opened; of a file that does not open they would say the same again.
std::vector<Command> commands_of_open(const std::string& file, const std::string& folder) {
  const std::string tensors = folder + "/out.safetensors", torch = folder + "/out.pth";
  const std::string whole = folder + "/whole.safetensors";
  const std::string picture = folder + "/out.svg";
  return {
      {.words = {"ls", file}},
      {.words = {"ls", "--tree", "--all", file}},
      {.words = {"ls", "--json", "--stats", file}, .prints_json = true},
      {.words = {"ls", "--hex", file}},
      {.words = {"ls", "--map", file}},
      {.words = {"map", "--json", file, "-o", picture}, .output = picture, .prints_json = true},
      {.words = {"ls", "--select", "state_dict", file}},
      {.words = {"ls", "--add-prefix", "x.", file}},
      {.words = {"match", "--json", "--torch", "--ready-sets", file, "--expect", file},
       .prints_json = true},
      {.words = {"cat", file, "w", "--force"}},
      {.words = {"convert", "--whole", "--no-sync", file, "-o", whole}, .output = whole},
      {.words = {"diff", "--json", "--values", file, whole}, .prints_json = true, .compares = true},
      {.words = {"scan", file}},
      {.words = {"convert", "--dry-run", file}},
      {.words = {"convert", "--no-sync", "--allow-conversion", file, "-o", torch}, .output = torch},
      {.words = {"ls", "--tree", tensors}},
      {.words = {"ls", "--tree", torch}},
  };
}

bool is_listed(ExitCode code) {
  return std::ranges::any_of(tool::kExitCodes,
                             [&](const tool::ExitRow& row) { return row.code == code; });
}

bool is_json(const std::string& text) {
  simdjson::dom::parser parser;
  return parser.parse(text).error() == simdjson::SUCCESS;
}

class Runner {
 public:
  // Runs all the commands over a file and removes what they wrote.
  void run(const std::string& name, const std::string& file) {
    const std::vector<Command> any = commands_of_any(file, work_.path().native());
    run(name, std::span(any).first(1));
    const bool opens = last_ == ExitCode::ok;
    run(name, std::span(any).subspan(1));
    if (opens) run(name, commands_of_open(file, work_.path().native()));
    check_written(name, "out.safetensors", ExitCode::ok);
    check_written(name, "out.pth", ExitCode::crc_matches);
    for (const char* output : {"out.safetensors", "whole.safetensors", "out.pth", "out.svg"})
      std::filesystem::remove(work_ / output);
    for (const std::string& left : work_.names()) {
      if (left == "root.pth") continue;
      ++failures_;
      streams_.say(name + ": left " + left + "\n");
      std::filesystem::remove_all(work_ / left);
    }
    ++files_;
  }

  [[nodiscard]] const test::TempDir& work() const { return work_; }

  int finish() {
    streams_.say(std::to_string(files_) + " files, " + std::to_string(failures_) + " failures\n");
    return failures_ == 0 && files_ != 0 ? 0 : 1;
  }

 private:
  void run(const std::string& name, std::span<const Command> commands) {
    for (const Command& command : commands) {
      const std::string wrong = check(command);
      if (wrong.empty()) continue;
      ++failures_;
      std::string line = name + ":";
      for (const std::string& word : command.words) line += " " + word;
      streams_.say(line + ": " + wrong + "\n");
    }
  }

  // What was written is whole: every byte of it has a digest or a CRC that matches.
  void check_written(const std::string& name, const char* output, ExitCode expected) {
    if (!std::filesystem::exists(work_ / output)) return;
    const std::vector<Command> verify{{.words = {"verify", (work_ / output).native()}}};
    run(name, verify);
    if (last_ == expected) return;
    ++failures_;
    streams_.say(name + ": " + output + " is damaged\n");
  }

  // Empty if the command did nothing wrong; sets last_.
  std::string check(const Command& command) {
    Words words = command.words;
    words.insert(words.begin(), "flatbed");
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    const std::size_t before = test::open_descriptors();
    const ExitCode code = last_ = tool::run_tool(static_cast<int>(words.size()), argv.data());
    std::fflush(stdout);
    const std::string printed = streams_.take();
    if (test::open_descriptors() != before) return "left a descriptor open";
    if (command.compares && code == ExitCode::failure) return "found a difference: " + printed;
    if (!is_listed(code) || (code == ExitCode::usage && !command.compares))
      return "exit code " + std::to_string(static_cast<int>(code));
    if (command.prints_json && !printed.empty() && !is_json(printed)) return "printed no JSON";
    if (!command.output.empty() &&
        std::filesystem::exists(command.output) != (code == ExitCode::ok))
      return "exit code " + std::to_string(static_cast<int>(code)) + " and the output disagree";
    return {};
  }

  Streams streams_;
  test::TempDir work_;
  ExitCode last_ = ExitCode::ok;  // of the last command
  std::size_t files_ = 0, failures_ = 0;
};

int run_files(const std::filesystem::path& folder, std::size_t every) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder))
    if (entry.is_regular_file() && entry.path().extension() != ".jsonl")
      files.push_back(entry.path());
  std::ranges::sort(files);
  Runner runner;
  for (std::size_t i = 0; i < files.size(); i += every)
    runner.run(files[i].filename().native(), files[i].native());
  return runner.finish();
}

int run_roots(std::uint64_t count, std::uint64_t first) {
  Runner runner;
  const std::filesystem::path file = runner.work() / "root.pth";
  for (std::uint64_t seed = first; seed < first + count; ++seed) {
    test::write_file(file, random_root(seed));
    runner.run("root " + std::to_string(seed), file.native());
  }
  return runner.finish();
}

}  // namespace
}  // namespace flatbed::corpus

int main(int argc, char** argv) {
  const std::string_view what = argc > 2 ? argv[1] : "";
  const std::uint64_t last = argc > 3 ? std::strtoull(argv[3], nullptr, 10) : 0;
  if (what == "files") return flatbed::corpus::run_files(argv[2], std::max<std::size_t>(last, 1));
  if (what == "roots") return flatbed::corpus::run_roots(std::strtoull(argv[2], nullptr, 10), last);
  std::fputs("usage: flatbed_corpus_tool files FOLDER [EVERY] | roots COUNT [FIRST_SEED]\n",
             stderr);
  return 2;
}
