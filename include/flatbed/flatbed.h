// flatbed for C, and for every language that can call C: C11, 64-bit sizes, no C++ needed.
//
//   flatbed_error error;
//   flatbed_checkpoint* model = NULL;
//   if (flatbed_open("model.safetensors", NULL, &model, &error) != 0) return fail(error.message);
//   flatbed_tensor weight = FLATBED_INIT(flatbed_tensor);
//   flatbed_tensor_find(model, flatbed_text("fc.weight"), &weight, &error);
//   flatbed_checkpoint_free(model);
//
// What holds for every function here:
//
// ERRORS    A function that can fail returns 0, or the number of an error (error_codes.h), and
//           takes a flatbed_error last, which may be NULL. Each says which errors are its own; any
//           may also be invalid_argument (NULL where it is not allowed, a handle of another kind, a
//           struct_size that is not understood) and resource_exhausted. After an error what a
//           function gives back is unchanged, and a handle that it would have given is NULL.
// HANDLES   Pointers to types that are not defined here. Each has one owner, the caller, and one
//           function that frees it and takes NULL, too. Handles may be freed in any order: what is
//           made from a checkpoint shares what it needs of it. A NULL and a handle of another kind
//           are found; the use of a handle after it was freed cannot be.
// STRINGS   flatbed_string: bytes and their number, in UTF-8. Names from files may hold NUL.
//           Strings given are copied where they are kept. Strings received are borrowed: each
//           function says for how long. Paths are NUL-terminated.
// MEMORY    Nothing is allocated for the caller but handles.
// THREADS   A function that takes `const` handles only may be called with them from several threads
//           at once. Any other one is called by one thread at a time for each handle. Different
//           handles are independent.
// STRUCTS   Structs that may grow begin with their size: declare them as
//             flatbed_open_options options = FLATBED_INIT(flatbed_open_options);
//           All zero besides the size is the default of every options struct, and NULL in its
//           place means the default, too. Programs compiled against an older header have smaller
//           structs, for which the rest is zero. A larger one is accepted if the rest is zero.
// CALLBACKS Take the `context` that was given with them. They return 0 to continue. Anything else
//           ends the work, which returns it: the number of an error; numbers that flatbed does not
//           know become the one that is named with the callback. Callbacks may call flatbed, also
//           with the handles in use, but must not free these, throw or longjmp.
//
// No function throws, prints, ends the process, or reads the environment. A thread must not be
// cancelled (pthread_cancel) inside of one.
//
// The ABI is kept: functions have the symbol version FLATBED_1, numbers do not change, and structs
// only grow at their end.
#ifndef FLATBED_FLATBED_H
#define FLATBED_FLATBED_H

#include <stdint.h>
#include <string.h>

#include "flatbed/error_codes.h"

#define FLATBED_API __attribute__((visibility("default")))

#ifdef __cplusplus
// A struct that is zero but for its size.
template <typename Struct>
inline Struct flatbed_init_struct() {
  Struct value{};
  value.struct_size = sizeof(Struct);
  return value;
}
#define FLATBED_INIT(type) flatbed_init_struct<type>()
extern "C" {
#else
#define FLATBED_INIT(type) \
  { .struct_size = sizeof(type) }
#endif

// ---- The library --------------------------------------------------------------------------------

// The ABI that this header describes. It grows when functions are added.
#define FLATBED_ABI 1

// The ABI of the library that was loaded: a header with a larger number has functions that the
// library does not. Thread-safe.
FLATBED_API uint32_t flatbed_abi(void);

// "0.1.0". Static storage. Thread-safe.
FLATBED_API const char* flatbed_version(void);

// ---- Strings and errors -------------------------------------------------------------------------

// `size` bytes; {NULL, 0} is the empty string.
typedef struct flatbed_string {
  const char* data;
  uint64_t size;
} flatbed_string;

// The string of a NUL-terminated text, which it borrows; NULL gives the empty one.
static inline flatbed_string flatbed_text(const char* text) {
  flatbed_string string;
  string.data = text;
  string.size = text == NULL ? 0 : (uint64_t)strlen(text);
  return string;
}

// The caller's. Every function that takes one fills it: after a success, with code 0 and empty
// texts.
typedef struct flatbed_error {
  int32_t code;           // what the function returned
  uint32_t message_size;  // in bytes, without the NUL
  const char* name;       // "tensor_not_found"; static storage
  char message[1008];     // one line of UTF-8, NUL-terminated; cut where it is longer
} flatbed_error;

// The name of an error, "tensor_not_found", and its meaning in half a sentence; "ok" for 0, and
// "unknown" for a number that the library does not know. Static storage. Thread-safe.
FLATBED_API const char* flatbed_error_name(int32_t code);
FLATBED_API const char* flatbed_error_meaning(int32_t code);

// ---- Dtypes -------------------------------------------------------------------------------------

// The element types of safetensors. Where a dtype is optional, FLATBED_DTYPE_NONE leaves it out.
enum {
  FLATBED_DTYPE_NONE = 0,
  FLATBED_DTYPE_BOOL = 1,
  FLATBED_DTYPE_F4 = 2,
  FLATBED_DTYPE_F6_E2M3 = 3,
  FLATBED_DTYPE_F6_E3M2 = 4,
  FLATBED_DTYPE_U8 = 5,
  FLATBED_DTYPE_I8 = 6,
  FLATBED_DTYPE_F8_E5M2 = 7,
  FLATBED_DTYPE_F8_E4M3 = 8,
  FLATBED_DTYPE_F8_E8M0 = 9,
  FLATBED_DTYPE_F8_E4M3FNUZ = 10,
  FLATBED_DTYPE_F8_E5M2FNUZ = 11,
  FLATBED_DTYPE_I16 = 12,
  FLATBED_DTYPE_U16 = 13,
  FLATBED_DTYPE_F16 = 14,
  FLATBED_DTYPE_BF16 = 15,
  FLATBED_DTYPE_I32 = 16,
  FLATBED_DTYPE_U32 = 17,
  FLATBED_DTYPE_F32 = 18,
  FLATBED_DTYPE_C64 = 19,
  FLATBED_DTYPE_F64 = 20,
  FLATBED_DTYPE_I64 = 21,
  FLATBED_DTYPE_U64 = 22
};

// "BF16"; NULL for a number that is no dtype. Static storage. Thread-safe.
FLATBED_API const char* flatbed_dtype_name(uint32_t dtype);
// Bits of one element: 16 for BF16, 4 for F4; 0 for a number that is no dtype. Thread-safe.
FLATBED_API uint32_t flatbed_dtype_bits(uint32_t dtype);
// The dtype of this exact name; FLATBED_DTYPE_NONE if there is none. Thread-safe.
FLATBED_API uint32_t flatbed_dtype_parse(flatbed_string name);

// ---- Opening ------------------------------------------------------------------------------------

// An opened model: a .safetensors file, a sharded set, or a PyTorch file of any age. Its content
// decides, not its name. It does not change, so it serves any number of threads.
typedef struct flatbed_checkpoint flatbed_checkpoint;

// What an open requires of the seal.
enum {
  FLATBED_CHECK_SEAL_IF_SEALED = 0,
  FLATBED_CHECK_SEAL_REQUIRED = 1,
  FLATBED_CHECK_SEAL_OFF = 2
};

typedef struct flatbed_open_options {
  uint64_t struct_size;
  uint32_t check_seal;    // FLATBED_CHECK_SEAL_*
  uint32_t refuse_links;  // 1: shards, and folders in their names, may not be symbolic links
} flatbed_open_options;

// Opens a file, the *.index.json of a set, or a folder that holds one model. Only metadata is read.
// Free *out with flatbed_checkpoint_free(). Errors: the kind of file (20-29), a fault in the file
// (30-169), the system (1-9).
FLATBED_API int32_t flatbed_open(const char* path, const flatbed_open_options* options,
                                 flatbed_checkpoint** out, flatbed_error* error);

// Opens the regular file behind a descriptor, which stays the caller's and may be closed
// afterwards. `label` stands for the path in messages and in flatbed_file_at(). Errors: as
// flatbed_open().
FLATBED_API int32_t flatbed_open_descriptor(int descriptor, flatbed_string label,
                                            const flatbed_open_options* options,
                                            flatbed_checkpoint** out, flatbed_error* error);

// Opens the file in memory, which is borrowed: it must not change or move until the checkpoint and
// everything that was made from it are freed. Errors: as flatbed_open().
FLATBED_API int32_t flatbed_open_memory(const void* bytes, uint64_t nbytes, flatbed_string label,
                                        const flatbed_open_options* options,
                                        flatbed_checkpoint** out, flatbed_error* error);

// Opens files as the shards of one set, in this order, without an index. Tree and metadata are
// those of the first. Errors: as flatbed_open(), name_collision (two shards have one name),
// invalid_argument (no shards), limit_exceeded.
FLATBED_API int32_t flatbed_open_shards(const char* const* paths, uint64_t count,
                                        const flatbed_open_options* options,
                                        flatbed_checkpoint** out, flatbed_error* error);

// A file that the caller reads: from an object store, from an archive of its own.
typedef struct flatbed_reader {
  uint64_t struct_size;
  void* context;
  flatbed_string label;  // stands for the path; copied
  uint64_t nbytes;       // the size of the file, which must not change
  // The size of one read in a load, where it has the choice; 0: 256 KiB. Remote files work better
  // with megabytes.
  uint64_t preferred_read_nbytes;
  // Fills `out` with bytes [offset, offset + nbytes), which always lie in the file. Called from
  // several threads at once. May describe a failure in error->message (NUL-terminated). Unknown
  // numbers become io_error.
  int32_t (*read)(void* context, uint64_t offset, void* out, uint64_t nbytes, flatbed_error* error);
  // May be NULL. Whether the file is still the one that was opened, asked after long reads; unknown
  // numbers become file_changed. As `read`, from several threads.
  int32_t (*check_unchanged)(void* context, flatbed_error* error);
  // May be NULL. Called once, when the checkpoint and all that was made from it no longer need the
  // reader, on the thread that frees the last of them. Not called if the open fails.
  void (*close)(void* context);
} flatbed_reader;

// Opens a file of the caller's. Errors: as flatbed_open(), those of the reader, with its label.
FLATBED_API int32_t flatbed_open_reader(const flatbed_reader* reader,
                                        const flatbed_open_options* options,
                                        flatbed_checkpoint** out, flatbed_error* error);

// Opens files of the caller's as flatbed_open_shards() does. Errors: of both.
FLATBED_API int32_t flatbed_open_reader_shards(const flatbed_reader* const* readers, uint64_t count,
                                               const flatbed_open_options* options,
                                               flatbed_checkpoint** out, flatbed_error* error);

// Frees the handle. What select, rename, cast and the like made from it stays valid; what was
// borrowed from it (strings, shapes, views) does not.
FLATBED_API void flatbed_checkpoint_free(flatbed_checkpoint* checkpoint);

// ---- What is in a checkpoint --------------------------------------------------------------------
// Everything here is borrowed: valid until flatbed_checkpoint_free(). Counts of a NULL are 0. The
// functions that take an index are invalid_argument beyond the end.

// How a tensor's bytes are stored. Only plain and held ones can be viewed; all can be read.
enum {
  FLATBED_STORED_PLAIN = 0,    // contiguous and little endian in the file
  FLATBED_STORED_STRIDED = 1,  // a view with strides into a storage, or a negated or conjugated one
  FLATBED_STORED_BYTESWAPPED = 2,  // big endian in the file
  FLATBED_STORED_DEFLATED = 3,     // in a compressed zip entry
  FLATBED_STORED_HELD = 4,         // in memory of the checkpoint's
  FLATBED_STORED_COMPUTED = 5      // made of stored bytes when it is read, by flatbed_cast()
};

typedef struct flatbed_tensor {
  uint64_t struct_size;
  flatbed_string name;
  const uint64_t* shape;  // `rank` sizes in elements; may be NULL if rank is 0, a scalar
  uint64_t rank;
  uint64_t nbytes;       // of its contents: C order, little endian
  uint64_t index;        // of this tensor in the checkpoint
  uint32_t dtype;        // FLATBED_DTYPE_*
  uint32_t stored;       // FLATBED_STORED_*
  uint32_t storage;      // tensors with the same number share stored bytes
  uint32_t file;         // index for flatbed_file_at()
  uint64_t file_offset;  // of the stored bytes in the file; for plain ones, of the tensor
  uint64_t file_nbytes;
  // Digests (XXH3-64) of its chunks of 262,144 bytes, 16 hex digits each; empty if not sealed.
  flatbed_string digests;
} flatbed_tensor;

FLATBED_API uint64_t flatbed_tensor_count(const flatbed_checkpoint* checkpoint);
FLATBED_API int32_t flatbed_tensor_at(const flatbed_checkpoint* checkpoint, uint64_t index,
                                      flatbed_tensor* out, flatbed_error* error);
// The tensor of this name or alias, in constant time. Errors: tensor_not_found, with the closest
// name; shard_tensor_missing (an index lists it in a file that does not have it).
FLATBED_API int32_t flatbed_tensor_find(const flatbed_checkpoint* checkpoint, flatbed_string name,
                                        flatbed_tensor* out, flatbed_error* error);

// Other names of tensors: tied weights.
FLATBED_API uint64_t flatbed_alias_count(const flatbed_checkpoint* checkpoint);
FLATBED_API int32_t flatbed_alias_at(const flatbed_checkpoint* checkpoint, uint64_t index,
                                     flatbed_string* name, flatbed_string* tensor,
                                     flatbed_error* error);

// The pairs of __metadata__ in file order, flatbed's own included; of a set, of its first file.
FLATBED_API uint64_t flatbed_metadata_count(const flatbed_checkpoint* checkpoint);
FLATBED_API int32_t flatbed_metadata_at(const flatbed_checkpoint* checkpoint, uint64_t index,
                                        flatbed_string* key, flatbed_string* value,
                                        flatbed_error* error);

// Facts for the user, one sentence each: an ignored sidecar, tensors that an index does not list.
FLATBED_API uint64_t flatbed_note_count(const flatbed_checkpoint* checkpoint);
FLATBED_API int32_t flatbed_note_at(const flatbed_checkpoint* checkpoint, uint64_t index,
                                    flatbed_string* note, flatbed_error* error);

// The state of a seal.
enum {
  FLATBED_SEAL_UNSEALED = 0,
  FLATBED_SEAL_SEALED = 1,
  FLATBED_SEAL_ANNOTATED = 2,  // the content matches; other metadata changed after sealing
  FLATBED_SEAL_NEWER = 3,      // sealed by a later version of the format
  FLATBED_SEAL_BROKEN = 4      // only with FLATBED_CHECK_SEAL_OFF; otherwise it is an error
};

typedef struct flatbed_file {
  uint64_t struct_size;
  flatbed_string path;  // also NUL-terminated; of a file without one, its label
  uint64_t nbytes;
  flatbed_string content;    // 16 hex digits: equal ones mean equal tensors; empty: unsealed
  flatbed_string seal_note;  // why the seal is annotated, newer or broken; otherwise empty
  uint32_t seal;             // FLATBED_SEAL_*
  int32_t seal_error;        // the error, if broken; otherwise 0
  uint32_t sidecar;          // 1: the seal is in <path>.flatbed.json
  uint32_t reserved;
} flatbed_file;

// The one file, or the shards of a set: in byte order of the names in an index, or as given.
FLATBED_API uint64_t flatbed_file_count(const flatbed_checkpoint* checkpoint);
FLATBED_API int32_t flatbed_file_at(const flatbed_checkpoint* checkpoint, uint64_t index,
                                    flatbed_file* out, flatbed_error* error);

// The kind of file; of a set, of its first shard.
enum {
  FLATBED_LAYOUT_SAFETENSORS = 0,
  FLATBED_LAYOUT_TORCH_ZIP = 1,
  FLATBED_LAYOUT_TORCH_LEGACY = 2,
  FLATBED_LAYOUT_TORCH_TAR = 3,
  FLATBED_LAYOUT_TORCH_PICKLE = 4,
  FLATBED_LAYOUT_TORCH_SCRIPT = 5
};

// FLATBED_LAYOUT_* and FLATBED_SEAL_*; a set is sealed only if every shard is. Of a NULL: 0.
FLATBED_API uint32_t flatbed_layout(const flatbed_checkpoint* checkpoint);
FLATBED_API uint32_t flatbed_seal(const flatbed_checkpoint* checkpoint);

// ---- Bytes of tensors ---------------------------------------------------------------------------
// Tensors are named by their index in the checkpoint; invalid_argument beyond the end.

// Whether digests are checked where bytes are read.
enum { FLATBED_VERIFY_YES = 0, FLATBED_VERIFY_NO = 1 };

// Reads bytes [offset, offset + nbytes) of the tensor's contents into the caller's memory, however
// they are stored. Every chunk that is touched is checked, if there are digests. After an error the
// contents of `out` are unspecified. Errors: buffer_too_small (the tensor has no such range),
// chunk_corrupt, chunk_rewritten, the system's (1-9).
FLATBED_API int32_t flatbed_read(const flatbed_checkpoint* checkpoint, uint64_t tensor,
                                 uint64_t offset, void* out, uint64_t nbytes, uint32_t verify,
                                 flatbed_error* error);

// The tensor's bytes in place, read-only: in a mapping of the file, or in memory. Valid until
// flatbed_checkpoint_free(). If another process truncates the file, touching them is a SIGBUS.
// Errors: not_viewable (see `stored`), the system's (1-9).
FLATBED_API int32_t flatbed_view(const flatbed_checkpoint* checkpoint, uint64_t tensor,
                                 const void** data, uint64_t* nbytes, flatbed_error* error);

// Reads bytes of a view into memory, and returns when they are there. Errors: those of
// flatbed_view(), buffer_too_small, file_changed.
FLATBED_API int32_t flatbed_prefetch(const flatbed_checkpoint* checkpoint, uint64_t tensor,
                                     uint64_t offset, uint64_t nbytes, flatbed_error* error);
// Gives the memory of bytes of a view back. They stay valid, and are read again when they are
// touched. Errors: those of flatbed_view(), buffer_too_small, invalid_argument (locked).
FLATBED_API int32_t flatbed_release(const flatbed_checkpoint* checkpoint, uint64_t tensor,
                                    uint64_t offset, uint64_t nbytes, flatbed_error* error);

// Bytes of a view that stay in memory until the lock is freed. It keeps the checkpoint's files
// open.
typedef struct flatbed_page_lock flatbed_page_lock;
// Errors: those of flatbed_prefetch(), resource_exhausted (RLIMIT_MEMLOCK).
FLATBED_API int32_t flatbed_lock(const flatbed_checkpoint* checkpoint, uint64_t tensor,
                                 uint64_t offset, uint64_t nbytes, flatbed_page_lock** out,
                                 flatbed_error* error);
FLATBED_API void flatbed_page_lock_free(flatbed_page_lock* lock);

// ---- Other views of a checkpoint ----------------------------------------------------------------
// Each gives a new checkpoint over the same files. Free it with flatbed_checkpoint_free(), before
// or after the one that it was made from.

// Lists of strings are pointers to `count` of them. Globs have * ? [a-z] [!a-z] and \.
typedef struct flatbed_selection {
  uint64_t struct_size;
  flatbed_string path;            // a subtree by its dotted path, which names lose; empty: all
  const flatbed_string* include;  // globs over names; none: all
  uint64_t include_count;
  const flatbed_string* exclude;  // globs; override include
  uint64_t exclude_count;
  uint32_t state_dict;  // 1: of a whole torch module, what its state_dict() returns
  uint32_t reserved;
} flatbed_selection;

// Errors: path_not_found, tensor_not_found (a glob that matches nothing), those of the tree
// (70-89).
FLATBED_API int32_t flatbed_select(const flatbed_checkpoint* checkpoint,
                                   const flatbed_selection* selection, flatbed_checkpoint** out,
                                   flatbed_error* error);

// The same tensors under other names. `rules` is a text with one rule per line, which run in order:
// OLD=NEW with globs and captures ("h.*.attn.*=layers.{1}.attention.{2}"), strip-prefix PREFIX,
// add-prefix PREFIX; # begins a comment. Errors: invalid_argument (a rule that is not understood,
// with its line), tensor_not_found (a rule matches no name), name_collision, limit_exceeded.
FLATBED_API int32_t flatbed_rename(const flatbed_checkpoint* checkpoint, flatbed_string rules,
                                   flatbed_checkpoint** out, flatbed_error* error);

typedef struct flatbed_cast_rules {
  uint64_t struct_size;
  const flatbed_string* include;  // globs over names; none: every tensor of floats
  uint64_t include_count;
  const flatbed_string* keep;  // globs: these stay as they are; override include
  uint64_t keep_count;
  uint32_t to;  // FLATBED_DTYPE_*, of floats of 8 bits or more
  uint32_t reserved;
} flatbed_cast_rules;

// The same tensors, floats as another dtype: rounded to nearest even, when they are read. Errors:
// invalid_argument (no dtype to cast to, or a tensor named by include that cannot be cast),
// tensor_not_found (a glob that matches nothing), size_overflow.
FLATBED_API int32_t flatbed_cast(const flatbed_checkpoint* checkpoint,
                                 const flatbed_cast_rules* rules, flatbed_checkpoint** out,
                                 flatbed_error* error);

#ifdef __cplusplus
}  // extern "C"
#endif

#endif  // FLATBED_FLATBED_H
