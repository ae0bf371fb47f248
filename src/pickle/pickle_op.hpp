// The pickle opcodes of protocols 0 to 5, one row each: byte, name, operand, group. The enum and
// the table by byte both come from these rows.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace flatbed::pth {

// What follows an opcode in the stream.
enum class Operand : std::uint8_t {
  none,
  u8,
  u16,
  i32,
  u32,
  u64,  // little endian
  f64,  // big endian
  text8,
  text32,
  text64,    // a length of that many bits, then the bytes
  text_i32,  // a signed length, then the bytes
  line,      // text up to a newline
  two_lines,
};

// The size of a fixed-size operand, or of the length before a text. 0 for no operand and for lines.
[[nodiscard]] constexpr std::uint8_t operand_nbytes(Operand operand) noexcept {
  switch (operand) {
    case Operand::u8:
    case Operand::text8:
      return 1;
    case Operand::u16:
      return 2;
    case Operand::i32:
    case Operand::u32:
    case Operand::text32:
    case Operand::text_i32:
      return 4;
    case Operand::u64:
    case Operand::f64:
    case Operand::text64:
      return 8;
    default:
      return 0;
  }
}

// Which part of the unpickler executes an opcode.
enum class OpGroup : std::uint8_t { unknown, literal, stack, container, memo, call, refused };

// clang-format off
#define FLATBED_PICKLE_OPS(X)                                  \
  X(0x28, mark,             "MARK",             none,      stack)      \
  X(0x29, empty_tuple,      "EMPTY_TUPLE",      none,      container)  \
  X(0x2E, stop,             "STOP",             none,      stack)      \
  X(0x30, pop,              "POP",              none,      stack)      \
  X(0x31, pop_mark,         "POP_MARK",         none,      stack)      \
  X(0x32, dup,              "DUP",              none,      stack)      \
  X(0x42, binbytes,         "BINBYTES",         text32,    literal)    \
  X(0x43, short_binbytes,   "SHORT_BINBYTES",   text8,     literal)    \
  X(0x46, float_,           "FLOAT",            line,      literal)    \
  X(0x47, binfloat,         "BINFLOAT",         f64,       literal)    \
  X(0x49, int_,             "INT",              line,      literal)    \
  X(0x4A, binint,           "BININT",           i32,       literal)    \
  X(0x4B, binint1,          "BININT1",          u8,        literal)    \
  X(0x4C, long_,            "LONG",             line,      literal)    \
  X(0x4D, binint2,          "BININT2",          u16,       literal)    \
  X(0x4E, none,             "NONE",             none,      literal)    \
  X(0x50, persid,           "PERSID",           line,      call)       \
  X(0x51, binpersid,        "BINPERSID",        none,      call)       \
  X(0x52, reduce,           "REDUCE",           none,      call)       \
  X(0x53, string,           "STRING",           line,      literal)    \
  X(0x54, binstring,        "BINSTRING",        text_i32,  literal)    \
  X(0x55, short_binstring,  "SHORT_BINSTRING",  text8,     literal)    \
  X(0x56, unicode,          "UNICODE",          line,      literal)    \
  X(0x58, binunicode,       "BINUNICODE",       text32,    literal)    \
  X(0x5D, empty_list,       "EMPTY_LIST",       none,      container)  \
  X(0x61, append,           "APPEND",           none,      container)  \
  X(0x62, build,            "BUILD",            none,      call)       \
  X(0x63, global,           "GLOBAL",           two_lines, call)       \
  X(0x64, dict,             "DICT",             none,      container)  \
  X(0x65, appends,          "APPENDS",          none,      container)  \
  X(0x67, get,              "GET",              line,      memo)       \
  X(0x68, binget,           "BINGET",           u8,        memo)       \
  X(0x69, inst,             "INST",             two_lines, call)       \
  X(0x6A, long_binget,      "LONG_BINGET",      u32,       memo)       \
  X(0x6C, list,             "LIST",             none,      container)  \
  X(0x6F, obj,              "OBJ",              none,      call)       \
  X(0x70, put,              "PUT",              line,      memo)       \
  X(0x71, binput,           "BINPUT",           u8,        memo)       \
  X(0x72, long_binput,      "LONG_BINPUT",      u32,       memo)       \
  X(0x73, setitem,          "SETITEM",          none,      container)  \
  X(0x74, tuple,            "TUPLE",            none,      container)  \
  X(0x75, setitems,         "SETITEMS",         none,      container)  \
  X(0x7D, empty_dict,       "EMPTY_DICT",       none,      container)  \
  X(0x80, proto,            "PROTO",            u8,        stack)      \
  X(0x81, newobj,           "NEWOBJ",           none,      call)       \
  X(0x82, ext1,             "EXT1",             u8,        refused)    \
  X(0x83, ext2,             "EXT2",             u16,       refused)    \
  X(0x84, ext4,             "EXT4",             i32,       refused)    \
  X(0x85, tuple1,           "TUPLE1",           none,      container)  \
  X(0x86, tuple2,           "TUPLE2",           none,      container)  \
  X(0x87, tuple3,           "TUPLE3",           none,      container)  \
  X(0x88, newtrue,          "NEWTRUE",          none,      literal)    \
  X(0x89, newfalse,         "NEWFALSE",         none,      literal)    \
  X(0x8A, long1,            "LONG1",            text8,     literal)    \
  X(0x8B, long4,            "LONG4",            text_i32,  literal)    \
  X(0x8C, short_binunicode, "SHORT_BINUNICODE", text8,     literal)    \
  X(0x8D, binunicode8,      "BINUNICODE8",      text64,    literal)    \
  X(0x8E, binbytes8,        "BINBYTES8",        text64,    literal)    \
  X(0x8F, empty_set,        "EMPTY_SET",        none,      container)  \
  X(0x90, additems,         "ADDITEMS",         none,      container)  \
  X(0x91, frozenset,        "FROZENSET",        none,      container)  \
  X(0x92, newobj_ex,        "NEWOBJ_EX",        none,      call)       \
  X(0x93, stack_global,     "STACK_GLOBAL",     none,      call)       \
  X(0x94, memoize,          "MEMOIZE",          none,      memo)       \
  X(0x95, frame,            "FRAME",            u64,       stack)      \
  X(0x96, bytearray8,       "BYTEARRAY8",       text64,    literal)    \
  X(0x97, next_buffer,      "NEXT_BUFFER",      none,      refused)    \
  X(0x98, readonly_buffer,  "READONLY_BUFFER",  none,      refused)
// clang-format on

enum class Op : std::uint8_t {
#define FLATBED_X(byte, op, text, operand, group) op = byte,
  FLATBED_PICKLE_OPS(FLATBED_X)
#undef FLATBED_X
};

struct OpRow {
  std::string_view name;
  Operand operand = Operand::none;
  std::uint8_t operand_nbytes = 0;
  OpGroup group = OpGroup::unknown;
};

// The table, indexed by the opcode's byte.
inline constexpr std::array<OpRow, 256> kPickleOps = [] {
  std::array<OpRow, 256> rows{};
#define FLATBED_X(byte, op, text, operand, group) \
  rows[byte] = OpRow{text, Operand::operand, operand_nbytes(Operand::operand), OpGroup::group};
  FLATBED_PICKLE_OPS(FLATBED_X)
#undef FLATBED_X
  return rows;
}();

inline constexpr std::size_t kPickleOpCount = [] {
  std::size_t count = 0;
  for (const OpRow& row : kPickleOps) count += row.group == OpGroup::unknown ? 0 : 1;
  return count;
}();
static_assert(kPickleOpCount == 68, "protocols 0 to 5 have 68 opcodes");

}  // namespace flatbed::pth
