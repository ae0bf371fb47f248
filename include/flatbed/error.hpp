// Error: what every fallible function of flatbed returns instead of throwing.
//
// An Error is a code with a pinned number and a message that states the place, what was found and
// what was expected:
//   a.safetensors: tensor 'w': offsets [0,8) hold 8 bytes, F32 [2,2] needs 16
// Codes are stable from the first release and are never reused. The table below is the only place
// that has a code's number, name and meaning; spec/FORMAT.md refers to the names. Values of these
// types are plain data: copy them freely, from any thread.
#pragma once

#include <cstdint>
#include <exception>
#include <string>
#include <string_view>
#include <utility>

#include "flatbed/export.hpp"

// clang-format off
#define FLATBED_ERROR_CODES(X)                                                                                   \
  /* 1-9: the operating system */                                                                                \
  X(1, io_error, "the operating system reported an error")                                                       \
  X(2, file_not_found, "there is no such file")                                                                  \
  X(3, permission_denied, "access is not permitted")                                                             \
  X(4, no_space, "no space left, or a quota or size limit was reached")                                          \
  X(5, not_a_regular_file, "expected a regular file")                                                            \
  X(6, file_changed, "the file changed while it was being read")                                                 \
  X(7, file_exists, "the target already exists")                                                                 \
  X(8, unsupported_filesystem, "the file system does not support the operation")                                 \
  X(9, resource_exhausted, "out of memory, threads or descriptors")                                              \
  /* 10-19: the caller */                                                                                        \
  X(10, invalid_argument, "an argument is invalid")                                                              \
  X(11, tensor_not_found, "no tensor has this name")                                                             \
  X(12, buffer_too_small, "the buffer or range does not fit the tensor")                                         \
  X(13, not_viewable, "the tensor's bytes cannot be viewed in place")                                            \
  X(14, path_not_found, "the tree has nothing at this path")                                                     \
  X(15, expansion_refused, "the output would be far larger than the stored bytes")                               \
  X(16, name_collision, "two items would have the same name")                                                    \
  X(17, limit_exceeded, "a documented limit was exceeded")                                                       \
  X(18, cancelled, "interrupted by the caller")                                                                  \
  /* 20-29: what the file is */                                                                                  \
  X(20, unknown_format, "unrecognized file format")                                                              \
  X(22, unsupported_format, "a known file format that flatbed does not read")                                    \
  X(23, unsupported_layout, "a PyTorch layout that flatbed does not read")                                       \
  /* 30-59: the container, spec rules R1 to R22 */                                                               \
  X(30, file_too_short, "the file is shorter than its 8-byte length field")                                      \
  X(31, header_too_large, "the header is longer than 100,000,000 bytes")                                         \
  X(32, header_truncated, "the file ends inside the header")                                                     \
  X(33, header_not_utf8, "the header is not UTF-8")                                                              \
  X(34, header_not_json, "the header is not one JSON value")                                                     \
  X(35, header_too_deep, "the header nests more than 127 levels")                                                \
  X(36, header_not_object, "the header is not a JSON object")                                                    \
  X(37, metadata_invalid, "__metadata__ is not an object of strings")                                            \
  X(38, duplicate_metadata, "a metadata key, or __metadata__ itself, appears twice")                             \
  X(39, duplicate_name, "a tensor name appears twice")                                                           \
  X(40, entry_invalid, "an entry is not an object with dtype, shape and data_offsets")                           \
  X(41, duplicate_field, "a field of an entry appears twice")                                                    \
  X(42, unknown_dtype, "the dtype is not one of the format's 22")                                                \
  X(43, shape_invalid, "the shape is not an array of integers in [0, 2^63)")                                     \
  X(44, offsets_invalid, "data_offsets is not two integers in [0, 2^63), begin <= end")                          \
  X(45, offsets_gap, "bytes of the data buffer belong to no tensor")                                             \
  X(46, offsets_overlap, "two tensors share bytes of the data buffer")                                           \
  X(47, size_overflow, "a size does not fit 64 bits")                                                            \
  X(48, partial_byte, "the elements do not fill whole bytes")                                                    \
  X(49, size_mismatch, "data_offsets and dtype * shape disagree")                                                \
  X(50, data_truncated, "the file ends before the data that its header describes")                               \
  X(51, trailing_data, "the file goes on after the data that its header describes")                              \
  /* 60-69: the seal */                                                                                          \
  X(60, not_sealed, "the file is not sealed, and a seal was required")                                           \
  X(61, seal_newer, "the seal is of a newer version, and a seal was required")                                   \
  X(62, seal_malformed, "there is a flatbed key, but the seal is missing or malformed")                          \
  X(63, seal_header_mismatch, "the header does not match its digest")                                            \
  X(64, seal_content_mismatch, "names, dtypes, shapes or flatbed keys do not match their digest")                \
  X(65, seal_digests_malformed, "flatbed.digests is missing or of wrong length or alphabet")                     \
  X(66, chunk_corrupt, "the bytes of a chunk do not match their digest")                                         \
  X(67, chunk_rewritten, "the header was rewritten after sealing, and a chunk does not match its digest")        \
  X(68, sidecar_malformed, "the sidecar is not a seal of version 1")                                             \
  /* 70-89: the tree and the aliases */                                                                          \
  X(70, tree_not_json, "the tree is not one JSON value")                                                         \
  X(71, tree_duplicate_member, "a JSON object in the tree has a member twice")                                   \
  X(72, tree_unexpected_object, "unexpected JSON object in the tree")                                            \
  X(73, tree_unknown_tag, "a node has an unknown tag")                                                           \
  X(74, tree_unknown_attribute, "a tensor node has an unknown or malformed attribute")                           \
  X(75, tree_malformed_node, "a node has the wrong arity or types")                                              \
  X(76, tree_malformed_number, "a number or a text that stands for one is malformed")                            \
  X(77, tree_too_deep, "the tree nests more than 512 levels")                                                    \
  X(78, tree_unknown_tensor, "a node names a tensor that does not exist")                                        \
  X(79, tree_malformed_id, "an id is out of sequence or marks a node that cannot be shared")                     \
  X(80, tree_malformed_ref, "a ref points to no earlier id, or to one that is still open")                       \
  X(81, tree_malformed_key, "a list, dict or array is used as a key")                                            \
  X(82, tree_duplicate_key, "a dict has two equal keys")                                                         \
  X(83, aliases_malformed, "flatbed.aliases is not a map of other names to tensors")                             \
  /* 90-99: sharded sets and series */                                                                            \
  X(90, index_malformed, "the index is not an object with a weight_map of strings")                              \
  X(91, index_duplicate_name, "the index maps a name twice")                                                     \
  X(92, shard_name_refused, "the index names a file that a set may not name")                                    \
  X(93, shard_missing, "a file of the set does not exist")                                                       \
  X(94, shard_tensor_missing, "a tensor that the index lists is not in its file")                                \
  X(95, shard_link_refused, "a shard, or a folder on its path, is a link, and links are not allowed")            \
  X(96, shard_mixed_set, "a shard is not the one that the index was written for")                                \
  X(97, index_ambiguous, "the directory holds no model, or several")                                             \
  X(98, series_malformed, "flatbed.series does not state a checkpoint of a series")                              \
  X(99, step_not_found, "the series has no such checkpoint")                                                     \
  /* 100-129: zip archives */                                                                                    \
  X(100, zip_end_missing, "the zip has no end record")                                                           \
  X(101, zip_end_ambiguous, "the zip has more than one possible end record")                                     \
  X(102, zip64_malformed, "the zip64 fields are malformed")                                                      \
  X(103, zip_directory_malformed, "the zip's central directory is malformed")                                    \
  X(104, zip_name_refused, "a zip entry has a name that is refused")                                             \
  X(105, zip_duplicate_name, "two zip entries have one name, or names that differ only in case")                 \
  X(106, zip_local_mismatch, "a zip entry's local header and the central directory disagree")                    \
  X(107, zip_flags_refused, "a zip entry has flags that are refused")                                            \
  X(108, zip_method_refused, "a zip entry is neither stored nor deflated")                                       \
  X(109, zip_out_of_bounds, "a zip entry extends past the end of the file")                                      \
  X(110, zip_overlap, "two zip entries share bytes")                                                             \
  X(111, zip_deflate_malformed, "a deflated zip entry does not inflate to its size")                             \
  X(112, zip_record_missing, "a record that is needed is not in the zip")                                        \
  X(113, zip_prefix_refused, "the zip's records are not in one folder")                                          \
  X(114, zip_crc_mismatch, "a zip entry does not match its CRC, or the zip states none")                         \
  /* 130-149: pickles */                                                                                         \
  X(130, pickle_truncated, "the pickle ends inside an opcode or before STOP")                                    \
  X(131, pickle_opcode_unknown, "the pickle has an unknown opcode")                                              \
  X(132, pickle_opcode_refused, "the pickle has an opcode that is refused")                                      \
  X(133, pickle_stack_underflow, "the pickle takes more from the stack than it holds")                           \
  X(134, pickle_mark_missing, "the pickle uses a mark that was not set")                                         \
  X(135, pickle_memo_missing, "the pickle reads a memo entry that was never written")                            \
  X(136, pickle_type, "the pickle applies an opcode to a value of the wrong type")                               \
  X(137, pickle_literal, "the pickle has a malformed text literal")                                              \
  X(138, pickle_limit, "the pickle exceeds a named limit")                                                       \
  X(139, pickle_duplicate_key, "the pickle sets a dict key twice")                                               \
  X(140, pickle_not_utf8, "the pickle has text that is not UTF-8")                                               \
  /* 150-169: what a PyTorch pickle describes */                                                                 \
  X(150, persistent_id_malformed, "a persistent id does not describe a storage")                                 \
  X(151, storage_missing, "a storage has no record")                                                             \
  X(152, storage_size_mismatch, "a storage and its record differ in size")                                       \
  X(153, storage_conflict, "one storage is described in two ways")                                               \
  X(154, tensor_out_of_storage, "a tensor reaches outside its storage")                                          \
  X(155, rebuild_malformed, "the arguments of a tensor rebuild function are malformed")                          \
  X(156, torch_unsupported, "a kind of PyTorch object that flatbed does not read")                               \
  X(157, byteorder_unknown, "the byteorder record is neither little nor big")                                    \
  X(158, torch_version_unsupported, "the file format version is not supported")                                  \
  X(159, legacy_malformed, "a part of a legacy PyTorch file is malformed")                                       \
  X(160, legacy_truncated, "a legacy PyTorch file ends before its storages do")                                  \
  X(161, tar_malformed, "a tar archive has a malformed header or member")                                        \
  /* 170-179: saving */                                                                                          \
  X(170, tree_not_representable, "the structure cannot be written as a tree")                                    \
  X(171, header_over_limit, "the header would be longer than readers accept")                                    \
  X(172, shape_mismatch, "an item's bytes do not fit its dtype and shape")                                       \
  X(173, weights_only_refused, "torch.load(weights_only=True) refuses an object of this kind")                   \
  X(174, not_in_torch, "PyTorch cannot represent the tensor or text")                                            \
  X(175, series_mismatch, "the series has another metric or mode")                                               \
  X(176, step_not_after, "the step is not after the latest one")                                                 \
  X(177, series_locked, "another process writes to the series")                                                  \
  /* 180-189: devices */                                                                                         \
  X(180, device_unavailable, "no usable device or driver")                                                       \
  X(181, device_error, "the device reported an error")                                                           \
  X(182, device_timeout, "the device did not finish what was queued to it in time")                              \
  X(183, stream_capturing, "a stream is being captured into a graph, or cannot be used while another is")        \
  /* 190-198: loading */                                                                                         \
  X(190, slice_invalid, "a slice does not fit its tensor")                                                       \
  X(191, load_mismatch, "a tensor is not what its destination expects")                                          \
  X(192, destination_invalid, "a destination is not memory that the device can write, or is misaligned")         \
  X(193, destination_overlap, "two destinations share bytes")                                                    \
  X(194, budget_too_small, "the staging memory is too small for a load")                                         \
  /* 199: ourselves */                                                                                           \
  X(199, internal_error, "a bug in flatbed")                                                                     \
  /* 200-209: servers */                                                                                         \
  X(200, url_invalid, "the URL is malformed, or of a kind that is refused")                                      \
  X(201, http_status, "the server answered with an error")                                                       \
  X(202, http_protocol, "the server's answer does not fit what it was asked")                                    \
  X(203, connection_failed, "the server could not be reached, or the connection was cut")                        \
  X(204, timed_out, "the server did not answer or send in time")                                                 \
  X(205, tls_failed, "the server's certificate, or TLS with it, was refused")                                    \
  X(206, redirect_refused, "the server redirects to a place that is refused, or in circles")
// clang-format on

namespace flatbed {

enum class ErrorCode : std::int32_t {
#define FLATBED_X(number, name, text) name = number,
  FLATBED_ERROR_CODES(FLATBED_X)
#undef FLATBED_X
};

// The code's name in the table ("header_too_large"), and its meaning in half a sentence. Static
// storage.
FLATBED_EXPORT std::string_view name(ErrorCode code) noexcept;
FLATBED_EXPORT std::string_view meaning(ErrorCode code) noexcept;

struct Error {
  ErrorCode code;
  std::string message;  // UTF-8, one line; control characters of names from files are escaped
};

// Puts "place: " before the message of `error`.
[[nodiscard]] FLATBED_EXPORT Error with_context(std::string_view place, Error error);

// Thrown by Result::value() if the library was built with exceptions. Its destructor is compiled
// into the library, so that this type is unique and one shared object can catch what another
// throws.
class FLATBED_EXPORT Exception : public std::exception {
 public:
  explicit Exception(Error error) : error_(std::move(error)) {}
  ~Exception() override;
  [[nodiscard]] const char* what() const noexcept override { return error_.message.c_str(); }
  [[nodiscard]] ErrorCode code() const noexcept { return error_.code; }

 private:
  Error error_;
};

// Throws Exception(error), or ends the process in a library built with -fno-exceptions. Only called
// when the value of a failed Result is requested.
[[noreturn]] FLATBED_EXPORT void raise(const Error& error);

}  // namespace flatbed
