// Texts about names: the rules of a KeyMap, and expectations as JSON.
#include "flatbed/key_map.hpp"
#include "flatbed/match.hpp"
#include "fuzz/check.hpp"
#include "fuzz/targets.hpp"

namespace flatbed::fuzz {

namespace {

// A file with the tensors that `json` describes, and 16 bytes of data.
std::string file_of(std::string_view json) {
  std::string file(8, '\0');
  file[0] = static_cast<char>(json.size() % 256);
  file[1] = static_cast<char>(json.size() / 256);
  return file.append(json).append("0123456789abcdef");
}

// Rules that join and split have tensors to do it with.
void use_on_tensors(const KeyMap& map) {
  static const std::string file =
      file_of(R"({"a":{"dtype":"U8","shape":[2,2],"data_offsets":[0,4]},)"
              R"("b":{"dtype":"U8","shape":[2,2],"data_offsets":[4,8]},)"
              R"("h.0.w":{"dtype":"F4","shape":[2,4],"data_offsets":[8,12]},)"
              R"("h.1.w":{"dtype":"U8","shape":[4],"data_offsets":[12,16]}})");
  const Result<Checkpoint> checkpoint = open(file);
  require(checkpoint.has_value(), "the file is one");
  const Result<Checkpoint> view = checkpoint->rename(map);
  if (!view) return check_error(view.error());
  read_tensors(*view);
}

void use_rules(std::string_view bytes) {
  const Result<KeyMap> map = KeyMap::parse(bytes, "rules");
  if (!map) return check_error(map.error());
  use_on_tensors(*map);
  for (const std::string_view name : {"h.0.attn.q.weight", "module.a", "b", "\xC3\xA9"}) {
    const Result<std::string> mapped = map->map(name);
    if (!mapped) {
      check_error(mapped.error());
    } else {
      require(!mapped->empty(), "no name becomes empty");
      require(mapped->size() <= KeyMap::kMaxNameNbytes || *mapped == name, "names are bounded");
    }
  }
}

void use_expectations(std::string_view bytes) {
  constexpr std::string_view kFile =
      "{\"w\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}}";
  const Result<std::vector<Expected>> expected = parse_expectations(bytes);
  if (!expected) return check_error(expected.error());
  std::string file(8, '\0');
  file[0] = static_cast<char>(kFile.size());
  file += kFile;
  const Result<Checkpoint> checkpoint = open(file);
  require(checkpoint.has_value(), "the file is one");
  for (const MatchMeaning meaning : {MatchMeaning::checkpoint, MatchMeaning::torch}) {
    const Result<MatchReport> report =
        match(*checkpoint, *expected, {.meaning = meaning, .ready_sets = true});
    require(report.has_value(), "names that were parsed are distinct");
    require(report->missing_keys.size() + report->forgiven.size() + report->matched.size() +
                    report->mismatched.size() ==
                expected->size(),
            "everything expected is in one list");
  }
}

}  // namespace

void names(std::string_view bytes) {
  use_rules(bytes);
  use_expectations(bytes);
}

}  // namespace flatbed::fuzz
