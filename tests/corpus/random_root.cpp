#include "corpus/random_root.hpp"

#include <array>
#include <random>
#include <string_view>
#include <vector>

#include "support/pickle_asm.hpp"
#include "support/zip_builder.hpp"

namespace flatbed::corpus {
namespace {

namespace pickle = test::pickle;
using Values = std::vector<std::string>;

constexpr std::int64_t kElements = 24;  // of the one storage

class RootMaker {
 public:
  explicit RootMaker(std::uint64_t seed) : random_(seed) {}

  std::string value(int depth) {
    // Deep inside there are leaves alone.
    switch (depth > 4 ? below(9) : below(21)) {
      case 0:
        return "N";
      case 1:
        return below(2) == 0 ? "\x88" : "\x89";
      case 2:
        return integer();
      case 3:
        return number();
      case 4:
        return pickle::text(word());
      case 5:
        return "C" + test::le(3, 1) + std::string("\0\xff\n", 3);
      case 6:
        return tensor();
      case 7:
        return pickle::global("torch", "float16");
      case 8:
        return memoized();
      case 9:
        return pickle::tuple(values(depth));
      case 10:
        return pickle::list(values(depth));
      case 11:
      case 12:
        return pickle::dict(entries(depth));
      case 13:
        return pickle::ordered_dict() + "(" + pickle::join(entries(depth)) + "u";
      case 14:
        return called("__builtin__", "set", pickle::list(leaves()));
      case 15:
        return called("__builtin__", "frozenset", pickle::list(leaves()));
      case 16:
        return object(depth);
      case 17:
        return called("torch", "Size", pickle::tuple({integer()}));
      case 18:
        return called("torch.nn.parameter", "Parameter", tensor());
      case 19:
        return called("argparse", "Namespace", "") + pickle::dict(entries(depth)) + "b";
      default:
        return shared(value(depth + 1));
    }
  }

 private:
  std::uint64_t below(std::uint64_t end) { return random_() % end; }

  std::string integer() {
    constexpr std::array<std::int64_t, 8> kValues = {0,  1,         2,         7,
                                                     -1, 1LL << 40, INT64_MAX, INT64_MIN};
    return below(8) == 0 ? "\x8a\x09" + std::string(8, '\xff') + "\x7f"  // beyond 64 bits
                         : pickle::integer(kValues[below(kValues.size())]);
  }

  std::string number() {
    constexpr std::array<std::string_view, 6> kValues = {"1.5", "0.1",  "nan",
                                                         "inf", "-0.0", "1e300"};
    return "F" + std::string(kValues[below(kValues.size())]) + "\n";
  }

  // Few of them, so that keys and names often meet. Some are not what a terminal or JSON likes.
  std::string word() {
    constexpr std::array<std::string_view, 14> kWords = {
        "weight", "w",         "a.b", "a",    "state_dict",   "module.w",         "",
        "model",  "optimizer", "0",   "\x1b", "\xed\xa0\x80", "\xf0\x9f\x90\x8d", "a/../b"};
    return std::string(kWords[below(kWords.size())]);
  }

  std::string tensor() {
    const std::string storage = pickle::storage({.count = pickle::integer(kElements)});
    if (below(4) == 0) return pickle::tensor({.storage = storage, .sizes = ")", .strides = ")"});
    const auto rows = static_cast<std::int64_t>(below(4));
    const auto columns = static_cast<std::int64_t>(below(4));
    const bool turned = below(4) == 0;
    return pickle::tensor(
        {.storage = storage,
         .offset = pickle::integer(static_cast<std::int64_t>(below(9))),
         .sizes = pickle::counts({rows, columns}),
         .strides = turned ? pickle::counts({1, rows}) : pickle::counts({columns, 1})});
  }

  std::string called(std::string_view module, std::string_view name, const std::string& argument) {
    return pickle::call(pickle::global(module, name), "(" + argument + "t");
  }

  std::string object(int depth) {
    const std::string made =
        pickle::global("models", below(2) == 0 ? "Net" : "net.Inner") + ")\x81";
    return below(2) == 0 ? made : made + value(depth + 1) + "b";
  }

  Values values(int depth) {
    Values out(below(5));
    for (std::string& one : out) one = value(depth + 1);
    return out;
  }

  Values leaves() {
    Values out(below(5));
    for (std::string& one : out) one = value(100);
    return out;
  }

  // Keys of every kind, most of them texts.
  Values entries(int depth) {
    Values out;
    for (std::uint64_t left = below(6); left > 0; --left) {
      out.push_back(below(4) != 0   ? pickle::text(word())
                    : below(2) == 0 ? pickle::tuple(leaves())
                                    : value(100));
      out.push_back(value(depth + 1));
    }
    return out;
  }

  // A value that is used again under a number of its own, and a use of one.
  std::string shared(const std::string& made) {
    if (shared_ == 255) return made;
    return made + "q" + static_cast<char>(shared_++);
  }
  std::string memoized() {
    return shared_ == 0 ? "N" : "h" + std::string(1, static_cast<char>(below(shared_)));
  }

  std::mt19937_64 random_;
  std::uint64_t shared_ = 0;
};

}  // namespace

std::string random_root(std::uint64_t seed) {
  return test::torch_zip(
      {.pickle = pickle::finish(RootMaker(seed).value(0)),
       .storages = {{"0", std::string(4 * static_cast<std::size_t>(kElements), '\1')}}});
}

}  // namespace flatbed::corpus
