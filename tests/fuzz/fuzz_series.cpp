// What a file says about its place in a series: as its first bytes, as the value of flatbed.series,
// and as the JSON in that value, for which the right digest is made.
#include "base/str_cat.hpp"
#include "fuzz/check.hpp"
#include "fuzz/targets.hpp"
#include "io/digest.hpp"
#include "series/series_head.hpp"
#include "series/statement.hpp"

namespace flatbed::fuzz {

namespace {

void check_statement(std::string_view value) {
  const Result<Statement> statement = parse_statement(value);
  if (!statement) return check_error(statement.error());
  const Result<std::string> again = encode_statement(*statement);
  require(again && *again == value, "a statement has one form");
}

}  // namespace

void series(std::string_view bytes) {
  if (const std::optional<SeriesHead> head = read_series_head(bytes))
    check_statement(head->statement);
  check_statement(bytes);
  check_statement(str_cat("1/", hex16(xxh3(as_bytes(bytes))), '/', bytes));
}

}  // namespace flatbed::fuzz
