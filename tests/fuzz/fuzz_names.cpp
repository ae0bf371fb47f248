// Texts about names: the rules of a KeyMap, and expectations as JSON.
#include "flatbed/key_map.hpp"
#include "flatbed/match.hpp"
#include "fuzz/check.hpp"
#include "fuzz/targets.hpp"

namespace flatbed::fuzz {

namespace {

void use_rules(std::string_view bytes) {
  const Result<KeyMap> map = KeyMap::parse(bytes, "rules");
  if (!map) return check_error(map.error());
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
