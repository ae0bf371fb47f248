// flatbed for C, and for every language that can call C: C11, 64-bit sizes, no C++ needed.
//
//   flatbed_error error;
//   flatbed_checkpoint* model = NULL;
//   if (flatbed_open("model.safetensors", NULL, &model, &error) != 0) return fail(error.message);
//   flatbed_tensor weight = FLATBED_INIT(flatbed_tensor);
//   flatbed_tensor_find(model, flatbed_text("fc.weight"), &weight, &error);
//   flatbed_checkpoint_free(model);
//
// The library, strings, errors, dtypes; opening; contents; bytes; other views; trees; cancelling;
// devices; loading; matching; verifying; saving and converting; series; scanning; comparing;
// DLPack: each has a section below. What holds for every function here:
//
// ERRORS    A function that can fail returns 0, or the number of an error (error_codes.h), and
//           takes a flatbed_error last, which may be NULL. Each says which errors are its own; any
//           may also be invalid_argument (NULL where it is not allowed, a handle of another kind, a
//           struct_size that is not understood) and resource_exhausted. After an error what a
//           function gives back is unchanged, and a handle that it would have given is NULL. (If a
//           callback ends a list of results, the report with their numbers is filled.)
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
//           What is called reserved is zero. The structs without a size never change.
// CALLBACKS Take the `context` that was given with them. They return 0 to continue. Anything else
//           ends the work, which returns it: the number of an error; numbers that flatbed does not
//           know become the one that is named with the callback. Callbacks may call flatbed, also
//           with the handles in use where these are `const`, but must not free them, throw or
//           longjmp. A reader must not use the checkpoint that it serves.
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
  // with megabytes: from 1 MiB on, a file is taken to be far away, and more reads are under way at
  // once.
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
  // Made of stored bytes when it is read: cast, or joined or split by flatbed_rename().
  FLATBED_STORED_COMPUTED = 5
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
// chunk_corrupt, chunk_rewritten, zip_crc_mismatch (over a network), the system's (1-9).
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
// add-prefix PREFIX; NEW = cat(OLD, OLD..., dim=0) joins tensors, NEW, NEW... = split(OLD, SIZE...,
// dim=0) splits one; # begins a comment. key_map.hpp describes them all. Errors: invalid_argument
// (a rule that is not understood, with its line; tensors that cannot be joined or split so),
// tensor_not_found (a rule matches no name), name_collision, limit_exceeded.
FLATBED_API int32_t flatbed_rename(const flatbed_checkpoint* checkpoint, flatbed_string rules,
                                   flatbed_checkpoint** out, flatbed_error* error);

// The same tensors under the names that a function of the caller's gives them. `rename` is called
// on the calling thread, once for every name, aliases included. *new_name is `name` at first; what
// it is set to is borrowed until the next call, or until flatbed_rename_by() returns. Unknown
// numbers become cancelled. Errors: invalid_argument (a name that is empty or not UTF-8),
// name_collision, limit_exceeded, those of the callback.
FLATBED_API int32_t flatbed_rename_by(const flatbed_checkpoint* checkpoint,
                                      int32_t (*rename)(void* context, flatbed_string name,
                                                        flatbed_string* new_name),
                                      void* context, flatbed_checkpoint** out,
                                      flatbed_error* error);

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

// ---- The tree -----------------------------------------------------------------------------------
// The Python structure around the tensors: optimizer state, epoch, scores, as data.

// A tree of values, of its own: it outlives the checkpoint that it was taken from.
typedef struct flatbed_tree flatbed_tree;

// One value, passed by value. Borrows the tree: valid until flatbed_tree_free(), as are the strings
// and pointers that it gives. Equal ids are the same Python object, so that a tree may have cycles:
// bound any walk of it. Functions over values are thread-safe. Of a value that is not there, whose
// id is FLATBED_NO_VALUE, and of what its kind does not have, they give None, 0 and empty strings.
typedef struct flatbed_value {
  const flatbed_tree* tree;
  uint32_t id;
  uint32_t reserved;
} flatbed_value;

#define FLATBED_NO_VALUE 0xFFFFFFFFu

enum {
  FLATBED_KIND_NONE = 0,
  FLATBED_KIND_BOOL = 1,
  FLATBED_KIND_INT = 2,      // that fits 64 bits
  FLATBED_KIND_BIG_INT = 3,  // any other: its text is hexadecimal, "-1f"
  FLATBED_KIND_REAL = 4,
  FLATBED_KIND_STRING = 5,
  FLATBED_KIND_BYTES = 6,  // its text, or the contents of a U8 tensor
  FLATBED_KIND_LIST = 7,
  FLATBED_KIND_TUPLE = 8,
  FLATBED_KIND_DICT = 9,     // pairs in order
  FLATBED_KIND_GLOBAL = 10,  // a class or function: its text is the module, then its qualname
  FLATBED_KIND_OBJECT = 11,  // a call; then items appended, pairs set, and a state
  FLATBED_KIND_TENSOR = 12,
  FLATBED_KIND_ARRAY = 13,  // numpy's: its tensor, and as text its dtype
  FLATBED_KIND_SCALAR = 14  // numpy's: its raw bytes, and as text its dtype
};

// 1 if the file records a structure. For others the tree is a dict of names and aliases.
FLATBED_API uint32_t flatbed_has_tree(const flatbed_checkpoint* checkpoint);
// Free *out with flatbed_tree_free(). Errors: those of the tree (70-89), which do not concern the
// tensors.
FLATBED_API int32_t flatbed_tree_of(const flatbed_checkpoint* checkpoint, flatbed_tree** out,
                                    flatbed_error* error);
FLATBED_API void flatbed_tree_free(flatbed_tree* tree);
FLATBED_API flatbed_value flatbed_tree_root(const flatbed_tree* tree);

FLATBED_API uint32_t flatbed_value_kind(flatbed_value value);  // FLATBED_KIND_*
// Of a list or a tuple, its items; of a dict or an object, its pairs.
FLATBED_API uint64_t flatbed_value_size(flatbed_value value);
// The key of pair `index`, and the item, or the value of pair `index`.
FLATBED_API flatbed_value flatbed_value_key(flatbed_value value, uint64_t index);
FLATBED_API flatbed_value flatbed_value_item(flatbed_value value, uint64_t index);
FLATBED_API flatbed_string flatbed_value_text(flatbed_value value);      // see FLATBED_KIND_*
FLATBED_API flatbed_string flatbed_value_qualname(flatbed_value value);  // of a global
FLATBED_API flatbed_string flatbed_value_raw(flatbed_value value);       // of a scalar

// What an object is made of: callable(*arguments), the items appended to it, and its state.
FLATBED_API flatbed_value flatbed_value_callable(flatbed_value value);
FLATBED_API flatbed_value flatbed_value_arguments(flatbed_value value);
FLATBED_API uint64_t flatbed_value_appended_size(flatbed_value value);
FLATBED_API flatbed_value flatbed_value_appended(flatbed_value value, uint64_t index);
FLATBED_API flatbed_value flatbed_value_state(flatbed_value value);

// The value as a C type; `real` also of an int, `tensor` of tensors, arrays and bytes: an index
// into the tensors of the checkpoint. Errors: invalid_argument for other kinds.
FLATBED_API int32_t flatbed_value_bool(flatbed_value value, uint32_t* out, flatbed_error* error);
FLATBED_API int32_t flatbed_value_int(flatbed_value value, int64_t* out, flatbed_error* error);
FLATBED_API int32_t flatbed_value_real(flatbed_value value, double* out, flatbed_error* error);
FLATBED_API int32_t flatbed_value_tensor(flatbed_value value, uint64_t* out, flatbed_error* error);

// The value at a dotted path, "optimizer.state.0.step": keys, indices, attributes of objects; ""
// is the value itself. Errors: path_not_found, with the part that is missing and what there is.
FLATBED_API int32_t flatbed_value_at(flatbed_value value, flatbed_string path, flatbed_value* out,
                                     flatbed_error* error);

// What a tensor has besides its contents.
typedef struct flatbed_tensor_attributes {
  uint64_t struct_size;
  flatbed_string device;   // where it was when it was saved; empty: cpu
  flatbed_string dtype;    // torch's name of it, where the stored one differs
  const uint64_t* stride;  // with has_stride: in elements, where not C order
  uint64_t stride_rank;
  const uint64_t* shape;  // with has_shape: its own, where the stored one differs
  uint64_t shape_rank;
  flatbed_value quantizer;  // of a quantized tensor
  flatbed_value state;      // Python attributes
  uint32_t requires_grad;
  uint32_t parameter;  // nn.Parameter
  uint32_t has_stride;
  uint32_t has_shape;
} flatbed_tensor_attributes;

// Errors: invalid_argument (no tensor).
FLATBED_API int32_t flatbed_value_attributes(flatbed_value value, flatbed_tensor_attributes* out,
                                             flatbed_error* error);

// The whole tree of a checkpoint as JSON, in the form that spec/FORMAT.md describes (T): ["dict",
// "epoch",3,"w",["tensor","w"]]. `write` is called once, with a text that it borrows; numbers that
// are unknown become cancelled. Errors: those of flatbed_tree_of(), tree_not_representable,
// header_over_limit (100,000,000 bytes).
FLATBED_API int32_t flatbed_tree_json(const flatbed_checkpoint* checkpoint,
                                      int32_t (*write)(void* context, flatbed_string text),
                                      void* context, flatbed_error* error);

// A tree of the caller's, for a save: it begins with no root. Values are added to a tree and then
// put into others of the same tree. *out is the new value, and `out` may not be NULL. Each of these
// functions is called by one thread at a time, and ends the validity of strings that the tree gave.
// Errors: invalid_argument (values of another tree or of the wrong kind), limit_exceeded (2^32 - 2
// values).
FLATBED_API int32_t flatbed_tree_new(flatbed_tree** out, flatbed_error* error);
FLATBED_API int32_t flatbed_tree_add_none(flatbed_tree* tree, flatbed_value* out,
                                          flatbed_error* error);
FLATBED_API int32_t flatbed_tree_add_bool(flatbed_tree* tree, uint32_t value, flatbed_value* out,
                                          flatbed_error* error);
FLATBED_API int32_t flatbed_tree_add_int(flatbed_tree* tree, int64_t value, flatbed_value* out,
                                         flatbed_error* error);
FLATBED_API int32_t flatbed_tree_add_real(flatbed_tree* tree, double value, flatbed_value* out,
                                          flatbed_error* error);
FLATBED_API int32_t flatbed_tree_add_string(flatbed_tree* tree, flatbed_string text,
                                            flatbed_value* out, flatbed_error* error);
FLATBED_API int32_t flatbed_tree_add_bytes(flatbed_tree* tree, flatbed_string bytes,
                                           flatbed_value* out, flatbed_error* error);
FLATBED_API int32_t flatbed_tree_add_list(flatbed_tree* tree, flatbed_value* out,
                                          flatbed_error* error);
FLATBED_API int32_t flatbed_tree_add_tuple(flatbed_tree* tree, const flatbed_value* items,
                                           uint64_t count, flatbed_value* out,
                                           flatbed_error* error);
FLATBED_API int32_t flatbed_tree_add_dict(flatbed_tree* tree, flatbed_value* out,
                                          flatbed_error* error);
// A tensor, by its index in what is saved.
FLATBED_API int32_t flatbed_tree_add_tensor(flatbed_tree* tree, uint64_t tensor, flatbed_value* out,
                                            flatbed_error* error);
FLATBED_API int32_t flatbed_tree_append(flatbed_tree* tree, flatbed_value list, flatbed_value item,
                                        flatbed_error* error);
FLATBED_API int32_t flatbed_tree_set_item(flatbed_tree* tree, flatbed_value dict, flatbed_value key,
                                          flatbed_value item, flatbed_error* error);
FLATBED_API int32_t flatbed_tree_set_root(flatbed_tree* tree, flatbed_value root,
                                          flatbed_error* error);

// ---- Cancelling ---------------------------------------------------------------------------------

// A request to stop that long calls look at: they end with cancelled, and nothing is left under
// way. May serve any number of calls, and must outlive them.
typedef struct flatbed_cancel flatbed_cancel;

FLATBED_API int32_t flatbed_cancel_new(flatbed_cancel** out, flatbed_error* error);
FLATBED_API void flatbed_cancel_free(flatbed_cancel* cancel);
// Asks for the stop, and takes the request back. From any thread, also in a signal handler.
FLATBED_API void flatbed_cancel_set(flatbed_cancel* cancel);
FLATBED_API void flatbed_cancel_reset(flatbed_cancel* cancel);

// ---- Devices ------------------------------------------------------------------------------------
// Where a load delivers. A device is kept by the plans, pools and buffers that use it. All
// functions of a device may be called from several threads at once. CUDA's is in flatbed_cuda.h.

typedef struct flatbed_device flatbed_device;

// The host's memory: any memory of this process.
FLATBED_API int32_t flatbed_device_host(flatbed_device** out, flatbed_error* error);

// `rows` rows of `nbytes` each. A pitch is the distance between the starts of two rows in bytes; it
// is ignored if there is one row.
typedef struct flatbed_copy_piece {
  const void* from;
  void* to;
  uint64_t nbytes;
  uint64_t rows;
  uint64_t from_pitch;
  uint64_t to_pitch;
} flatbed_copy_piece;

// A device of the caller's: an engine's own backend. Copies complete in order: a ticket is done
// when its own copies and all earlier ones of the device are. Each function is called from several
// threads at once; may write into error->message; numbers that are unknown become device_error.
typedef struct flatbed_device_ops {
  uint64_t struct_size;
  void* context;
  flatbed_string name;  // in messages: "vulkan:0"; copied
  // 1: the processor can write the device's memory, so that files are read straight into it. Its
  // copies are done when `copy` returns.
  uint32_t is_host;
  uint32_t reserved;
  // May be NULL. Whether copies may write to the memory.
  int32_t (*check)(void* context, const void* data, uint64_t nbytes, flatbed_error* error);
  // Memory that the processor fills and copies read, aligned to 4096 bytes; page-locked for a GPU.
  int32_t (*stage)(void* context, uint64_t nbytes, void** out, flatbed_error* error);
  void (*unstage)(void* context, void* memory, uint64_t nbytes);
  // Queues the pieces in order, and gives a ticket for them. The sources do not change until it is
  // done. After an error some may have been queued.
  int32_t (*copy)(void* context, const flatbed_copy_piece* pieces, uint64_t count, uint64_t* ticket,
                  flatbed_error* error);
  // A ticket for everything that was queued so far.
  int32_t (*fence)(void* context, uint64_t* ticket, flatbed_error* error);
  // Whether the ticket's copies are complete; does not wait. Ends the ticket unless it is not done.
  int32_t (*done)(void* context, uint64_t ticket, uint32_t* is_done, flatbed_error* error);
  // May be NULL. Ends a ticket that was not waited for.
  void (*forget)(void* context, uint64_t ticket);
  // May be NULL. The device's event for a ticket that has not ended, for streams of the engine.
  void* (*native_event)(void* context, uint64_t ticket);
  // May be NULL, all three: memory for flatbed_buffer_new(), aligned to 256 bytes, and the way back
  // to the host, after everything that was queued.
  int32_t (*allocate)(void* context, uint64_t nbytes, void** out, flatbed_error* error);
  void (*release)(void* context, void* memory, uint64_t nbytes);
  int32_t (*read_back)(void* context, const void* from, void* out, uint64_t nbytes,
                       flatbed_error* error);
  // May be NULL. Called once, when nothing needs the device any more.
  void (*close)(void* context);
  // May be NULL. Called on each thread of a load before check, copy, fence, done and wait are
  // called there: where the backend keeps state for each thread (a current device), it is set here.
  int32_t (*enter_thread)(void* context, flatbed_error* error);
  // May be NULL. Called when a load begins, on the thread that called flatbed_load(): copies that
  // are queued from now on come after what the engine's own stream holds now.
  int32_t (*order_after_engine)(void* context, flatbed_error* error);
  // May be NULL. Called before the `ready` of flatbed_load_options, on the same thread, with the
  // ticket of the group's event: the engine's own stream waits for it from now on.
  int32_t (*order_before_engine)(void* context, uint64_t ticket, flatbed_error* error);
  // May be NULL. Waits until the ticket's copies are complete, for about `most_ns` at the longest,
  // and answers as `done` does. Without it `done` is asked again and again, with pauses.
  int32_t (*wait)(void* context, uint64_t ticket, uint64_t most_ns, uint32_t* is_done,
                  flatbed_error* error);
  // May be NULL. The NUMA node of the host that the device is attached to; -1: unknown. Threads
  // that read for the device run there.
  int32_t (*numa_node)(void* context);
  uint64_t link_bytes_per_second;  // that copies reach at most; 0: unknown
  // May be NULL: never. Whether the processor itself can write this memory, which `check` accepts
  // (1), as where host and GPU share it: a load then reads files straight into it, once the device
  // has done what was queued before. Asked when a tensor is added to a plan.
  uint32_t (*host_can_write)(void* context, const void* data, uint64_t nbytes);
} flatbed_device_ops;

// Errors: invalid_argument (a function that may not be NULL; then `close` is not called).
FLATBED_API int32_t flatbed_device_custom(const flatbed_device_ops* ops, flatbed_device** out,
                                          flatbed_error* error);
FLATBED_API void flatbed_device_free(flatbed_device* device);
// "host", "cuda:0". Valid until flatbed_device_free(); empty for a NULL.
FLATBED_API flatbed_string flatbed_device_name(const flatbed_device* device);

// Memory of a device, for callers without an allocator of their own.
typedef struct flatbed_buffer flatbed_buffer;
// Errors: resource_exhausted, device_error, invalid_argument (a device that has no memory).
FLATBED_API int32_t flatbed_buffer_new(const flatbed_device* device, uint64_t nbytes,
                                       flatbed_buffer** out, flatbed_error* error);
FLATBED_API void flatbed_buffer_free(flatbed_buffer* buffer);
// The address on the device, valid until flatbed_buffer_free(); NULL and 0 for a NULL.
FLATBED_API void* flatbed_buffer_data(const flatbed_buffer* buffer);
FLATBED_API uint64_t flatbed_buffer_nbytes(const flatbed_buffer* buffer);
// Copies to the host, and waits. Errors: buffer_too_small (no such range), device_error,
// device_timeout.
FLATBED_API int32_t flatbed_buffer_read(const flatbed_buffer* buffer, uint64_t offset, void* out,
                                        uint64_t nbytes, flatbed_error* error);

// Staging memory that several loads share, which together never use more. Thread-safe. Must outlive
// the loads that use it.
typedef struct flatbed_staging_pool flatbed_staging_pool;
// 0 for a size: 64 MiB in all, 8 MiB for one slot. Errors: budget_too_small, invalid_argument (a
// slot is a multiple of 4096, at least 512 KiB), those of the device.
FLATBED_API int32_t flatbed_staging_pool_new(const flatbed_device* device, uint64_t staging_nbytes,
                                             uint64_t slot_nbytes, flatbed_staging_pool** out,
                                             flatbed_error* error);
FLATBED_API void flatbed_staging_pool_free(flatbed_staging_pool* pool);
// The most that was in use at once so far; 0 for a NULL.
FLATBED_API uint64_t flatbed_staging_pool_peak_nbytes(const flatbed_staging_pool* pool);

// ---- Loading ------------------------------------------------------------------------------------
// A plan says which tensors, or slices of them, go to which memory. It is checked as a whole before
// a byte is read, and bytes are verified before they are copied on.

// Keeps the checkpoints and devices that it names. Not changed any more, it may be loaded from
// several threads at once.
typedef struct flatbed_plan flatbed_plan;

typedef struct flatbed_transfer {
  uint64_t struct_size;
  const flatbed_device* device;  // NULL: the host
  void* data;                    // a multiple of the element's size; may be NULL for no bytes
  uint64_t capacity;             // in bytes that the load may use
  uint64_t row_pitch;            // 0: packed; else the distance of rows of the last dimension
  uint64_t dim;                  // with `sliced`: elements [begin, end) of this dimension
  uint64_t begin;
  uint64_t end;
  uint64_t rank;  // with `sliced`, by flatbed_shard_slice() alone; 0: by nobody
  uint64_t count;
  const uint64_t* expect_shape;  // of what arrives; NULL: any. Otherwise load_mismatch
  uint64_t expect_rank;
  uint32_t sliced;        // 0: the whole tensor
  uint32_t group;         // tensors that become ready together
  int32_t priority;       // of the group: lower ones come first, then lower groups
  uint32_t expect_dtype;  // of the checkpoint's tensor; FLATBED_DTYPE_NONE: any
  uint32_t cast_to;       // FLATBED_DTYPE_NONE: as it is
  uint32_t reserved;
} flatbed_transfer;

FLATBED_API int32_t flatbed_plan_new(flatbed_plan** out, flatbed_error* error);
FLATBED_API void flatbed_plan_free(flatbed_plan* plan);
// Adds a tensor, by name or alias. The memory must be writable and outlive the loads. Errors, after
// which the plan is unchanged: tensor_not_found, slice_invalid, load_mismatch, destination_invalid,
// buffer_too_small.
FLATBED_API int32_t flatbed_plan_add(flatbed_plan* plan, const flatbed_checkpoint* checkpoint,
                                     flatbed_string name, const flatbed_transfer* transfer,
                                     flatbed_error* error);
FLATBED_API uint64_t flatbed_plan_size(const flatbed_plan* plan);  // transfers; 0 for a NULL

// Makes a transfer one of part `rank` of `count` nearly equal parts of a dimension, as in tensor
// parallelism: sets dim, begin, end, rank, count and sliced; end - begin elements arrive. Along a
// dimension that the tensor is joined along (by a rule NEW = cat(...) of flatbed_rename()), it is
// that part of each of the tensors that it is joined of, which [begin, end) alone cannot say.
// Errors: slice_invalid.
FLATBED_API int32_t flatbed_shard_slice(const flatbed_checkpoint* checkpoint, uint64_t tensor,
                                        uint64_t dim, uint64_t rank, uint64_t count,
                                        flatbed_transfer* transfer, flatbed_error* error);

enum { FLATBED_IO_AUTOMATIC = 0, FLATBED_IO_BUFFERED = 1, FLATBED_IO_DIRECT = 2 };

// An event that completes when a group has arrived, for each device that is not the host. It is
// valid during the callback: let streams wait for it before that returns.
typedef struct flatbed_ready_event {
  const flatbed_device* device;  // as given to flatbed_plan_add()
  void* event;                   // for CUDA: a cudaEvent_t
} flatbed_ready_event;

typedef struct flatbed_load_options {
  uint64_t struct_size;
  void* context;
  // Both are called on the thread that called flatbed_load(); unknown numbers become cancelled.
  int32_t (*progress)(void* context, uint64_t bytes_done, uint64_t bytes_total);
  // Called once for each group, in order of priority: its tensors are verified, and in host memory
  // or queued to their device.
  int32_t (*ready)(void* context, uint32_t group, const flatbed_ready_event* events,
                   uint64_t count);
  const flatbed_cancel* cancel;
  const flatbed_staging_pool* pool;  // NULL: memory of the load's own, of the next two sizes
  uint64_t staging_nbytes;           // 0: 64 MiB
  uint64_t slot_nbytes;              // 0: a fitting part
  uint64_t device_timeout_ms;        // 0: 60,000; for work queued to a device
  uint32_t threads;                  // that read and hash; 0: chosen
  uint32_t verify;                   // FLATBED_VERIFY_*
  uint32_t io;                       // FLATBED_IO_*: through the page cache, or past it
  uint32_t reserved;
} flatbed_load_options;

typedef struct flatbed_plan_report {
  uint64_t struct_size;
  uint64_t bytes_wanted;         // that arrive
  uint64_t bytes_to_read;        // more, where slices cut chunks that are verified
  uint64_t reads;                // pieces of files
  uint64_t peak_staging_nbytes;  // at most; 0: all is read straight into place
  uint64_t groups;
} flatbed_plan_report;

// Checks everything that can be checked before a byte is read. `report` may be NULL. Errors:
// destination_overlap, destination_invalid, budget_too_small.
FLATBED_API int32_t flatbed_plan_check(const flatbed_plan* plan,
                                       const flatbed_load_options* options,
                                       flatbed_plan_report* report, flatbed_error* error);

// What a load waited for most.
enum {
  FLATBED_STAGE_READ = 0,
  FLATBED_STAGE_HASH = 1,
  FLATBED_STAGE_SUBMIT = 2,
  FLATBED_STAGE_SLOTS = 3,  // staging memory
  FLATBED_STAGE_LINK = 4    // copies to the device
};

// Why threads that wait read files past the page cache, and not io_uring.
enum {
  FLATBED_NO_QUEUE_NONE = 0,           // io_uring does, or nothing is read so
  FLATBED_NO_QUEUE_NOT_BUILT = 1,      // flatbed was built without liburing
  FLATBED_NO_QUEUE_NOT_IN_KERNEL = 2,  // older than Linux 5.6, or configured without it
  FLATBED_NO_QUEUE_FORBIDDEN = 3,      // by a seccomp filter or kernel.io_uring_disabled
  FLATBED_NO_QUEUE_NO_MEMORY = 4       // for a ring, or a limit on descriptors or locked memory
};

typedef struct flatbed_load_report {
  uint64_t struct_size;
  uint64_t bytes_wanted;
  uint64_t bytes_read;
  uint64_t bytes_verified;
  uint64_t chunks_verified;
  uint64_t peak_staging_nbytes;
  uint64_t files_direct;     // read past the page cache
  uint64_t files_buffered;   // read through it
  uint64_t threads;          // that read
  uint64_t casts;            // slices that were cast, and their values that did not fit:
  uint64_t casts_saturated;  // became the largest value
  uint64_t casts_infinite;   // finite ones that became infinite
  uint64_t casts_nan;        // became NaN
  double seconds;            // of the whole load
  // Of all reading threads together, by what they did or waited for.
  double read_seconds;
  double hash_seconds;
  double submit_seconds;
  double slots_seconds;
  double link_seconds;
  uint32_t bottleneck;  // FLATBED_STAGE_*
  uint32_t queued;      // 1: files_direct were read with io_uring, 0: by threads that wait
  uint32_t no_queue;    // FLATBED_NO_QUEUE_*: why they wait
  uint32_t reserved;
  // Chunks that were read once more because they, or the CRC of their record, did not match, from
  // sources where bytes may be damaged on the way.
  uint64_t chunks_reread;
} flatbed_load_report;

// Runs the plan, and returns when nothing is under way any more. `report` may be NULL. After an
// error the contents of the destinations are unspecified. Errors: those of flatbed_plan_check(),
// the system's (1-9), chunk_corrupt, chunk_rewritten, zip_deflate_malformed, zip_crc_mismatch, the
// device's (180-189), cancelled, those of the callbacks.
FLATBED_API int32_t flatbed_load(const flatbed_plan* plan, const flatbed_load_options* options,
                                 flatbed_load_report* report, flatbed_error* error);

// All tensors of a checkpoint in one block of a device's memory, by name: for callers without a
// layout of their own. Keeps what it needs of the checkpoint and the device.
typedef struct flatbed_loaded flatbed_loaded;

typedef struct flatbed_load_all_options {
  uint64_t struct_size;
  void* context;
  // Both are called on the calling thread; unknown numbers become cancelled. Both may be NULL.
  // `choose` is asked about each tensor in turn, and borrows what it is given. *transfer is zero
  // but for its size: sliced, dim, begin, end, rank, count, group and priority may be set, and
  // nothing else. *is_loaded is 1; 0 leaves the tensor out.
  int32_t (*choose)(void* context, const flatbed_tensor* tensor, flatbed_transfer* transfer,
                    uint32_t* is_loaded);
  // Called once, when every tensor has its place and nothing was read yet, with the handle that
  // flatbed_load_all() will give: `ready` can then know where a group's tensors are. If the load
  // fails, the handle is freed.
  int32_t (*placed)(void* context, const flatbed_loaded* loaded);
  const flatbed_load_options* load;  // NULL: its default
  // Where each tensor begins in the device's memory: at a multiple of this power of two; 0: 256.
  // Tensors of 1 MiB or more begin at a multiple of 4096, too.
  uint64_t alignment;
} flatbed_load_all_options;

// Makes one allocation, loads and verifies. `device` may be NULL: the host; `options` and `report`
// may be NULL, too. Free *out with flatbed_loaded_free(). Errors: those of flatbed_buffer_new() and
// flatbed_load(), slice_invalid, size_overflow, those of the callbacks; the memory is then given
// back.
FLATBED_API int32_t flatbed_load_all(const flatbed_checkpoint* checkpoint,
                                     const flatbed_device* device,
                                     const flatbed_load_all_options* options, flatbed_loaded** out,
                                     flatbed_load_report* report, flatbed_error* error);
FLATBED_API void flatbed_loaded_free(flatbed_loaded* loaded);

// Borrows what it points to: valid until flatbed_loaded_free().
typedef struct flatbed_loaded_tensor {
  uint64_t struct_size;
  flatbed_string name;    // its own, also where an alias found it
  const uint64_t* shape;  // of what arrived: after slicing
  uint64_t rank;
  void* data;       // memory of the device: C order, little endian, packed; NULL if nbytes is 0
  uint64_t nbytes;  // of `data`
  uint64_t index;   // of the tensor in the checkpoint
  uint32_t group;
  uint32_t dtype;  // FLATBED_DTYPE_*
} flatbed_loaded_tensor;

// In the order of the checkpoint, without those that were left out. Of a NULL: 0.
FLATBED_API uint64_t flatbed_loaded_count(const flatbed_loaded* loaded);
FLATBED_API int32_t flatbed_loaded_at(const flatbed_loaded* loaded, uint64_t index,
                                      flatbed_loaded_tensor* out, flatbed_error* error);
// The tensor of this name or alias, in constant time. Errors: tensor_not_found (there is none, or
// it was left out).
FLATBED_API int32_t flatbed_loaded_find(const flatbed_loaded* loaded, flatbed_string name,
                                        flatbed_loaded_tensor* out, flatbed_error* error);
// Bytes that are allocated, gaps included; 0 for a NULL.
FLATBED_API uint64_t flatbed_loaded_nbytes(const flatbed_loaded* loaded);

// The group of tensors that belong to no layer.
#define FLATBED_NO_LAYER 0xFFFFFFFFu

// Makes a transfer one of a layer's group: sets group and priority, for flatbed_plan_add() and for
// `choose`. A tensor's layer is the first whole number between the dots of its name: 7 for
// "model.layers.7.mlp.weight". Layers come in order. Tensors without a layer, embeddings among
// them, are of FLATBED_NO_LAYER and come first. Thread-safe.
FLATBED_API int32_t flatbed_group_by_layer(flatbed_string name, flatbed_transfer* transfer,
                                           flatbed_error* error);

// ---- Matching -----------------------------------------------------------------------------------
// Compares what an engine expects with what a checkpoint has. Lists go to callbacks, one call for
// each entry, with arguments that are borrowed for the call; unknown numbers become cancelled.

// What is expected: tensors with names, shapes and dtypes.
typedef struct flatbed_expected flatbed_expected;

FLATBED_API int32_t flatbed_expected_new(flatbed_expected** out, flatbed_error* error);
// From JSON: {"fc.weight": {"shape": [8, 5], "dtype": "F32"}, ...}; null, or nothing, means any.
// Errors: invalid_argument, with the entry's name; limit_exceeded (over 100,000,000 bytes).
FLATBED_API int32_t flatbed_expected_parse(flatbed_string json, flatbed_expected** out,
                                           flatbed_error* error);
// All tensors of a checkpoint, with its aliases as further names.
FLATBED_API int32_t flatbed_expected_of(const flatbed_checkpoint* checkpoint,
                                        flatbed_expected** out, flatbed_error* error);
FLATBED_API void flatbed_expected_free(flatbed_expected* expected);
FLATBED_API uint64_t flatbed_expected_count(const flatbed_expected* expected);  // 0 for a NULL
// Adds a tensor. NULL for `shape`, and FLATBED_DTYPE_NONE, mean any.
FLATBED_API int32_t flatbed_expected_add(flatbed_expected* expected, flatbed_string name,
                                         uint32_t dtype, const uint64_t* shape, uint64_t rank,
                                         flatbed_error* error);
// Adds a further name (tied weights) to the tensor that was added last. Errors: invalid_argument
// (nothing was added).
FLATBED_API int32_t flatbed_expected_add_name(flatbed_expected* expected, flatbed_string name,
                                              flatbed_error* error);

// A tensor that is there with another shape or dtype.
typedef struct flatbed_mismatch {
  uint64_t struct_size;
  flatbed_string name;  // the expected one
  uint64_t expected;    // index into what is expected
  uint64_t tensor;      // index into the checkpoint's tensors
  const uint64_t* shape;
  uint64_t rank;
  const uint64_t* expected_shape;  // NULL: any
  uint64_t expected_rank;
  uint32_t dtype;
  uint32_t expected_dtype;  // FLATBED_DTYPE_NONE: any
  uint32_t ignored;         // 1: by ignore_mismatched_sizes
  uint32_t reserved;
} flatbed_mismatch;

// A change of the checkpoint's names with which more of them match: `strip` is removed from the
// names that begin with it, then `add` is put before all.
typedef struct flatbed_prefix_rule {
  uint64_t struct_size;
  flatbed_string strip;
  flatbed_string add;
  flatbed_string reason;
  uint64_t matches_before;
  uint64_t matches;
  uint32_t applied;  // 0: it is only suggested
  uint32_t reserved;
} flatbed_prefix_rule;

typedef struct flatbed_match_options {
  uint64_t struct_size;
  void* context;
  // Each may be NULL.
  int32_t (*matched)(void* context, uint64_t expected, uint64_t tensor);
  int32_t (*missing)(void* context, flatbed_string name);
  int32_t (*unexpected)(void* context, flatbed_string name);
  int32_t (*mismatched)(void* context, const flatbed_mismatch* mismatch);
  int32_t (*forgiven)(void* context, flatbed_string name);  // missing keys that torch forgives
  int32_t (*rule)(void* context, const flatbed_prefix_rule* rule);
  uint32_t torch_keys;               // 1: the keys that torch's load_state_dict() reports
  uint32_t exact_dtypes;             // 1: another dtype is a mismatch, not a cast
  uint32_t ignore_mismatched_sizes;  // 1: another shape does not count against `complete`
  uint32_t ready_sets;               // 1: apply a rule of prefixes if more names match then
} flatbed_match_options;

typedef struct flatbed_match_report {
  uint64_t struct_size;
  uint64_t matched;
  uint64_t missing;
  uint64_t unexpected;
  uint64_t mismatched;
  uint64_t forgiven;
  uint32_t complete;  // 1: nothing is missing, unexpected or mismatched, besides what is ignored
  uint32_t partial;   // 1: something matches, and nothing is mismatched, besides what is ignored
} flatbed_match_report;

// `options` and `report` may be NULL. Errors: invalid_argument (two expected tensors of one name),
// those of the callbacks.
FLATBED_API int32_t flatbed_match(const flatbed_checkpoint* checkpoint,
                                  const flatbed_expected* expected,
                                  const flatbed_match_options* options,
                                  flatbed_match_report* report, flatbed_error* error);

// ---- Verifying ----------------------------------------------------------------------------------

// A run of bytes that does not match its digests.
typedef struct flatbed_damaged_range {
  uint64_t struct_size;
  uint64_t file;    // index for flatbed_file_at()
  uint64_t tensor;  // index into the checkpoint's tensors
  uint64_t begin;   // in the tensor, in bytes
  uint64_t end;
} flatbed_damaged_range;

typedef struct flatbed_verify_options {
  uint64_t struct_size;
  void* context;
  // On the calling thread; unknown numbers become cancelled. Both may be NULL. `damaged` is called
  // at the end, for at most 10,000 ranges.
  int32_t (*progress)(void* context, uint64_t bytes_done, uint64_t bytes_total);
  int32_t (*damaged)(void* context, const flatbed_damaged_range* range);
  const flatbed_cancel* cancel;
  uint32_t threads;  // 0: 2
  uint32_t reserved;
} flatbed_verify_options;

typedef struct flatbed_verify_report {
  uint64_t struct_size;
  uint64_t bytes_checked;  // against digests or CRCs
  uint64_t chunks_checked;
  uint64_t damaged;      // ranges; 0, and no CRC mismatched: everything that was checked is whole
  uint64_t crc_checked;  // records of PyTorch zips
  uint64_t crc_mismatched;  // of them
  uint64_t crc_unstated;
  uint64_t unchecked_files;   // nothing in them can be checked
  uint32_t damaged_complete;  // 0: there are more ranges
  uint32_t reserved;
  // Chunks that were read once more, from sources where bytes may be damaged on the way.
  uint64_t chunks_reread;
} flatbed_verify_report;

// Reads every byte and checks it. Damage is a result, not an error. `options` and `report` may be
// NULL. Errors: the system's (1-9), cancelled, zip_deflate_malformed, shard_tensor_missing.
FLATBED_API int32_t flatbed_verify(const flatbed_checkpoint* checkpoint,
                                   const flatbed_verify_options* options,
                                   flatbed_verify_report* report, flatbed_error* error);

// ---- Saving -------------------------------------------------------------------------------------
// A plan says what a file shall hold. Files appear complete or not at all, synced; if there is an
// error, the target is unchanged.

typedef struct flatbed_save_plan flatbed_save_plan;

typedef struct flatbed_save_plan_options {
  uint64_t struct_size;
  uint32_t expand_aliases;   // 1: every alias becomes a tensor of its own
  uint32_t allow_expansion;  // 1: outputs over 1 GiB and 16 times the stored size
} flatbed_save_plan_options;

FLATBED_API int32_t flatbed_save_plan_new(flatbed_save_plan** out, flatbed_error* error);
// All tensors of a checkpoint with its tree, aliases and metadata. Keeps what it needs of the
// checkpoint. Errors: those of the tree (70-89), expansion_refused.
FLATBED_API int32_t flatbed_save_plan_of(const flatbed_checkpoint* checkpoint,
                                         const flatbed_save_plan_options* options,
                                         flatbed_save_plan** out, flatbed_error* error);
FLATBED_API void flatbed_save_plan_free(flatbed_save_plan* plan);
// The number of its tensors; 0 for a NULL.
FLATBED_API uint64_t flatbed_save_plan_size(const flatbed_save_plan* plan);
// Adds a tensor in memory: C order, little endian. The memory is borrowed until the plan is freed.
FLATBED_API int32_t flatbed_save_plan_add(flatbed_save_plan* plan, flatbed_string name,
                                          uint32_t dtype, const uint64_t* shape, uint64_t rank,
                                          const void* bytes, uint64_t nbytes, flatbed_error* error);
// Adds a tensor of a checkpoint, which the plan keeps.
FLATBED_API int32_t flatbed_save_plan_add_tensor(flatbed_save_plan* plan, flatbed_string name,
                                                 const flatbed_checkpoint* checkpoint,
                                                 uint64_t tensor, flatbed_error* error);
// Another name of a tensor of the plan.
FLATBED_API int32_t flatbed_save_plan_add_alias(flatbed_save_plan* plan, flatbed_string name,
                                                flatbed_string tensor, flatbed_error* error);
FLATBED_API int32_t flatbed_save_plan_add_metadata(flatbed_save_plan* plan, flatbed_string key,
                                                   flatbed_string value, flatbed_error* error);
// The structure around the tensors, of which the plan takes a copy; its tensors are numbers of the
// plan's, in the order in which they were added. A save then also checks what reading would: errors
// 70-89 (keys that are equal or lists, tensors that are not there, texts that are not UTF-8).
FLATBED_API int32_t flatbed_save_plan_set_tree(flatbed_save_plan* plan, const flatbed_tree* tree,
                                               flatbed_error* error);

// What flatbed_save_torch() does with objects that torch.load(weights_only=True) refuses.
enum { FLATBED_UNSAFE_REFUSE = 0, FLATBED_UNSAFE_CONVERT = 1, FLATBED_UNSAFE_KEEP = 2 };

typedef struct flatbed_save_options {
  uint64_t struct_size;
  void* context;
  // On the calling thread; unknown numbers become cancelled. Both may be NULL. `note` is called at
  // the end: what was converted or left out, one sentence each.
  int32_t (*progress)(void* context, uint64_t bytes_done, uint64_t bytes_total);
  int32_t (*note)(void* context, flatbed_string note);
  const flatbed_cancel* cancel;
  uint64_t max_shard_nbytes;  // flatbed_save_set() only; 0: 5,000,000,000
  // That read and hash; 0: 2. Tensors of sources that prefer reads of megabytes, such as files on
  // servers, are read by four threads whatever this says.
  uint32_t threads;
  uint32_t verify;              // FLATBED_VERIFY_*: whether sealed sources are checked
  uint32_t unsealed;            // 1: no seal
  uint32_t unsynced;            // 1: no fsync
  uint32_t keep_existing;       // 1: an existing target is file_exists
  uint32_t dry_run;             // 1: check everything and write nothing
  uint32_t allow_large_header;  // 1: headers over 25,000,000 bytes
  uint32_t strict_crc;          // 1: a record without a CRC is an error, too
  uint32_t ignore_crc;          // 1: a record that does not match its CRC is none
  uint32_t unsafe_objects;      // flatbed_save_torch() only: FLATBED_UNSAFE_*
  uint32_t keep_device;         // flatbed_save_torch() only: 1: not all on the cpu
  uint32_t reserved;
} flatbed_save_options;

typedef struct flatbed_save_report {
  uint64_t struct_size;
  uint64_t nbytes;         // of the file, or all files of a set
  uint64_t header_nbytes;  // of a set, the longest
  uint64_t files;
  uint64_t crc_checked;
  uint64_t crc_mismatched;
  uint64_t crc_unstated;
  uint64_t casts;            // tensors that were cast, and their values that did not fit:
  uint64_t casts_saturated;  // became the largest value
  uint64_t casts_infinite;   // finite ones that became infinite
  uint64_t casts_nan;        // became NaN
  char content[24];          // the seal's digest, 16 hex digits and NULs; empty: unsealed, or a set
  uint32_t durable;          // 1: synced; 0: complete, but may not survive a power failure
  uint32_t reserved;
  // Chunks that were read once more because they, or the CRC of their record, did not match, from
  // sources where bytes may be damaged on the way.
  uint64_t chunks_reread;
} flatbed_save_report;

// Writes a .safetensors file. Several threads may write different targets from one plan. `options`
// and `report` may be NULL. Errors: the system's (1-9), those of the format (170-179),
// chunk_corrupt, zip_crc_mismatch, cancelled.
FLATBED_API int32_t flatbed_save(const char* path, const flatbed_save_plan* plan,
                                 const flatbed_save_options* options, flatbed_save_report* report,
                                 flatbed_error* error);
// The same as a file of torch.save. Errors: also weights_only_refused, not_in_torch.
FLATBED_API int32_t flatbed_save_torch(const char* path, const flatbed_save_plan* plan,
                                       const flatbed_save_options* options,
                                       flatbed_save_report* report, flatbed_error* error);
// The same as a folder of shards with an index. The folder must not exist, or be empty, or with
// `replace_set` hold an old set, which is swapped in one step. Errors: also file_exists,
// name_collision, limit_exceeded.
FLATBED_API int32_t flatbed_save_set(const char* folder, const flatbed_save_plan* plan,
                                     uint32_t replace_set, const flatbed_save_options* options,
                                     flatbed_save_report* report, flatbed_error* error);
// Seals a file that must not change: writes <path>.flatbed.json beside it.
FLATBED_API int32_t flatbed_save_sidecar(const char* path, const flatbed_save_options* options,
                                         flatbed_save_report* report, flatbed_error* error);

enum { FLATBED_FORMAT_SAFETENSORS = 0, FLATBED_FORMAT_TORCH = 1, FLATBED_FORMAT_SET = 2 };

typedef struct flatbed_convert_options {
  uint64_t struct_size;
  // Each may be NULL: how the input is opened, what is selected, then renamed, then cast.
  const flatbed_open_options* open;
  const flatbed_selection* selection;
  flatbed_string rename_rules;  // as for flatbed_rename(); empty: none
  const flatbed_cast_rules* cast;
  const flatbed_save_plan_options* plan;
  const flatbed_save_options* save;
  uint32_t format;       // FLATBED_FORMAT_*
  uint32_t replace_set;  // see flatbed_save_set()
} flatbed_convert_options;

// Opens, selects, renames, casts and saves in one call. Errors: of all of these; invalid_argument
// if the output is a file of the input.
FLATBED_API int32_t flatbed_convert(const char* from, const char* to,
                                    const flatbed_convert_options* options,
                                    flatbed_save_report* report, flatbed_error* error);

// What a path holds, compared with what a save would write there.
enum {
  FLATBED_OUTPUT_ABSENT = 0,      // nothing has the name
  FLATBED_OUTPUT_UP_TO_DATE = 1,  // as it would be written, as far as bytes were compared
  FLATBED_OUTPUT_DIFFERENT = 2
};

typedef struct flatbed_compare_options {
  uint64_t struct_size;
  // What the save would be given; may be NULL. What counts of it: max_shard_nbytes, threads,
  // unsealed, allow_large_header, unsafe_objects, keep_device, cancel, and with `all_data`
  // progress.
  const flatbed_save_options* save;
  uint32_t format;    // FLATBED_FORMAT_*
  uint32_t all_data;  // 1: compare every byte; 0: at most 256 chunks of 256 KiB
} flatbed_compare_options;

typedef struct flatbed_output_state {
  uint64_t struct_size;
  uint64_t nbytes;           // if up to date: of the file, or all files of a set
  char content[24];          // if up to date and sealed: 16 hex digits and NULs
  uint32_t kind;             // FLATBED_OUTPUT_*
  uint32_t difference_size;  // in bytes, without the NUL
  char difference[1000];     // if different: the first one; NUL-terminated, cut where it is longer
} flatbed_output_state;

// Compares the file, or the folder of a set, with what flatbed_save(), flatbed_save_torch() or
// flatbed_save_set() would write; writes nothing. Times of files decide nothing. `options` may be
// NULL. Errors: those of the save for the plan and its sources, not_a_regular_file, cancelled.
FLATBED_API int32_t flatbed_compare_output(const char* path, const flatbed_save_plan* plan,
                                           const flatbed_compare_options* options,
                                           flatbed_output_state* out, flatbed_error* error);
// The same for flatbed_save_sidecar(): whether the sidecar of `path` seals the file as it is.
// `format` has no effect.
FLATBED_API int32_t flatbed_compare_sidecar(const char* path,
                                            const flatbed_compare_options* options,
                                            flatbed_output_state* out, flatbed_error* error);

// ---- Series -------------------------------------------------------------------------------------
// The checkpoints of one training run, in a folder: saved during training, then found again by the
// latest step or the best score. Every checkpoint states its place in its own sealed header, so a
// series is what the headers in the folder say. One process writes: the first call that writes
// locks the folder until the handle is freed. Readers take no lock.

// Functions that take a `const flatbed_series` may be called from several threads at once, also
// while another thread saves. The others write, and are called by one thread at a time.
typedef struct flatbed_series flatbed_series;

// Which score is best.
enum {
  FLATBED_SCORE_ANY = 0,  // what the series has; FLATBED_SCORE_MIN for a new one
  FLATBED_SCORE_MIN = 1,
  FLATBED_SCORE_MAX = 2
};

typedef struct flatbed_series_options {
  uint64_t struct_size;
  // The name of the score, of at most 256 bytes; copied. Empty: what the series has; a new one then
  // has no scores. The first save with a metric fixes metric and mode.
  flatbed_string metric;
  // What flatbed_series_prune(), which every save calls, keeps: the latest checkpoint and the union
  // of these.
  uint64_t keep_last;         // so many; 0 together with keep_every = 0: everything is kept
  uint64_t keep_best;         // so many, if there are scores; 0: 1
  uint64_t keep_every;        // those whose step is a multiple of this; 0: none for this reason
  uint64_t max_shard_nbytes;  // not 0: each checkpoint is a sharded set in a folder of its own
  // How every file is written; NULL: its default. Its members are copied; its `cancel` and its
  // `context` must outlive the handle. flatbed_series_save_async() calls `progress` on a thread of
  // its own. dry_run is invalid_argument; `note`, max_shard_nbytes, unsealed, keep_existing and
  // what is of flatbed_save_torch() have no effect.
  const flatbed_save_options* save;
  uint32_t mode;          // FLATBED_SCORE_*
  uint32_t keep_no_best;  // 1: scores keep nothing; keep_best is then 0
} flatbed_series_options;

// Makes and locks nothing. The folder may be absent until the first save, which makes it; the
// folder above must exist. `options` may be NULL. Errors: series_mismatch (the series has another
// metric or mode), not_a_regular_file (a file is in the folder's place), the system's (1-9).
FLATBED_API int32_t flatbed_series_open(const char* folder, const flatbed_series_options* options,
                                        flatbed_series** out, flatbed_error* error);
// Waits for flatbed_series_save_async(), and gives the lock back.
FLATBED_API void flatbed_series_free(flatbed_series* series);

// Checkpoints of a series, and notes of what was skipped or is odd: what one call found. It
// outlives the series and does not change. Each function says which entries it gives; free them
// with flatbed_series_entries_free().
typedef struct flatbed_series_entries flatbed_series_entries;
FLATBED_API void flatbed_series_entries_free(flatbed_series_entries* entries);

// What became of a checkpoint in the call that gave it.
enum {
  FLATBED_ENTRY_PRESENT = 0,
  FLATBED_ENTRY_REMOVED = 1,  // pruned; in a dry run it would be
  FLATBED_ENTRY_MOVED = 2     // rolled back: it is no longer part of the series
};

// What the header of a checkpoint states. Borrows the entries.
typedef struct flatbed_series_entry {
  uint64_t struct_size;
  flatbed_string path;     // for flatbed_open(): a file, or the folder of a set; NUL-terminated
  flatbed_string content;  // the seal's digest, 16 hex digits; of a set, its first file's
  flatbed_string parent;   // the content of the one before it; empty: the first
  uint64_t sequence;       // orders the series
  uint64_t step;
  uint64_t nbytes;      // of the file, or all files of a set
  int64_t saved_at_ms;  // by the clock at that time, since 1970, UTC
  int64_t epoch;        // with has_epoch: the integer `epoch` of the saved dict
  double score;         // with has_score
  uint32_t has_epoch;
  uint32_t has_score;
  uint32_t is_set;
  uint32_t state;  // FLATBED_ENTRY_*
} flatbed_series_entry;

// 0 for a NULL.
FLATBED_API uint64_t flatbed_series_entry_count(const flatbed_series_entries* entries);
FLATBED_API int32_t flatbed_series_entry_at(const flatbed_series_entries* entries, uint64_t index,
                                            flatbed_series_entry* out, flatbed_error* error);
// Opens the checkpoint, which must be complete and sealed, and state what the entry says. Reads the
// headers alone. Errors: those of flatbed_open(), seal_header_mismatch, shard_tensor_missing,
// file_changed (it is another one now).
FLATBED_API int32_t flatbed_series_entry_open(const flatbed_series_entries* entries, uint64_t index,
                                              flatbed_checkpoint** out, flatbed_error* error);
// Of flatbed_series_verify(): what verifying this one found. `out` may be NULL. Errors: why it does
// not open or cannot be read; invalid_argument (it was not verified).
FLATBED_API int32_t flatbed_series_entry_verified(const flatbed_series_entries* entries,
                                                  uint64_t index, flatbed_verify_report* out,
                                                  flatbed_error* error);
// One sentence each; 0 for a NULL.
FLATBED_API uint64_t flatbed_series_note_count(const flatbed_series_entries* entries);
FLATBED_API int32_t flatbed_series_note_at(const flatbed_series_entries* entries, uint64_t index,
                                           flatbed_string* note, flatbed_error* error);
// Of flatbed_series_list(): the metric, empty if there are no scores, and FLATBED_SCORE_MIN or
// FLATBED_SCORE_MAX. Of others: empty and FLATBED_SCORE_ANY.
FLATBED_API flatbed_string flatbed_series_metric(const flatbed_series_entries* entries);
FLATBED_API uint32_t flatbed_series_mode(const flatbed_series_entries* entries);
// Of flatbed_series_verify(): 1 if every checkpoint is whole and none was skipped. Of others: 0.
FLATBED_API uint32_t flatbed_series_is_whole(const flatbed_series_entries* entries);

// All checkpoints, ascending. Reads the first 4 KiB of each file. Errors: file_not_found (no
// folder), the system's (1-9).
FLATBED_API int32_t flatbed_series_list(const flatbed_series* series, flatbed_series_entries** out,
                                        flatbed_error* error);
// One checkpoint: the last one, the best one, or that of a step, of those that
// flatbed_series_entry_open() opens. Notes say which were passed over, and why. Errors:
// step_not_found (also where there is no folder); flatbed_series_at() that of the open, if there is
// one that does not open.
FLATBED_API int32_t flatbed_series_latest(const flatbed_series* series,
                                          flatbed_series_entries** out, flatbed_error* error);
FLATBED_API int32_t flatbed_series_best(const flatbed_series* series, flatbed_series_entries** out,
                                        flatbed_error* error);
FLATBED_API int32_t flatbed_series_at(const flatbed_series* series, uint64_t step,
                                      flatbed_series_entries** out, flatbed_error* error);
// Reads and checks every byte of every checkpoint. Gives all, as the listing does. Damage is a
// result, not an error. `options` may be NULL; its `damaged` must be. Errors: file_not_found,
// cancelled, those of the callback.
FLATBED_API int32_t flatbed_series_verify(const flatbed_series* series,
                                          const flatbed_verify_options* options,
                                          flatbed_series_entries** out, flatbed_error* error);

// What a save states beside the tensors.
typedef struct flatbed_series_stamp {
  uint64_t struct_size;
  uint64_t step;  // below 2^53; must rise within a series
  double score;   // with has_score, which needs a metric; NaN is never best
  uint32_t has_score;
  uint32_t reserved;
} flatbed_series_stamp;

// Writes a checkpoint that follows the latest one, then prunes. `out` may be NULL; it gives the new
// checkpoint, then those that were pruned. `report` may be NULL, too. Errors, after which nothing
// is changed: step_not_after (the latest has this step or a later one), series_locked,
// series_mismatch, invalid_argument (a score without a metric), limit_exceeded, those of
// flatbed_save() and flatbed_save_set().
FLATBED_API int32_t flatbed_series_save(flatbed_series* series, const flatbed_save_plan* plan,
                                        const flatbed_series_stamp* stamp,
                                        flatbed_series_entries** out, flatbed_save_report* report,
                                        flatbed_error* error);

// A save that may still be running. It outlives the series, and all of its functions may be called
// from several threads at once.
typedef struct flatbed_pending_save flatbed_pending_save;

// The same in the background: returns once the plan's memory is copied, so that it may be changed
// and the plan freed. Tensors of checkpoints are not copied but kept. One save runs at a time:
// every call that writes waits for the one before, and returns its error if nobody waited for it.
// Errors: those of such a save; its own come from flatbed_pending_save_wait().
FLATBED_API int32_t flatbed_series_save_async(flatbed_series* series, const flatbed_save_plan* plan,
                                              const flatbed_series_stamp* stamp,
                                              flatbed_pending_save** out, flatbed_error* error);
// 1 if it is done, and for a NULL; does not wait.
FLATBED_API uint32_t flatbed_pending_save_ready(const flatbed_pending_save* pending);
// Waits until it is done; may be called again. Gives and fails as flatbed_series_save() does.
FLATBED_API int32_t flatbed_pending_save_wait(const flatbed_pending_save* pending,
                                              flatbed_series_entries** out,
                                              flatbed_save_report* report, flatbed_error* error);
// Does not wait, and does not stop the save.
FLATBED_API void flatbed_pending_save_free(flatbed_pending_save* pending);

// Removes what the options do not keep. `out` may be NULL; it gives all checkpoints that could be
// read, ascending, with what became of each. What does not open is neither removed nor counted as
// kept, and nothing is removed if there is no latest one. With `dry_run` nothing is, and no lock is
// needed. Errors: series_locked, file_not_found, the system's (1-9).
FLATBED_API int32_t flatbed_series_prune(flatbed_series* series, uint32_t dry_run,
                                         flatbed_series_entries** out, flatbed_error* error);
// Makes the checkpoint of this step the latest, by moving all later ones to the folder `abandoned`
// in the series' own. Nothing is deleted. `out` may be NULL; it gives the latest, then those that
// were moved, descending, with their new paths. Errors: those of flatbed_series_at(),
// series_locked, the system's (1-9); if it ends early, the series ends at a later step.
FLATBED_API int32_t flatbed_series_roll_back(flatbed_series* series, uint64_t step,
                                             flatbed_series_entries** out, flatbed_error* error);

// ---- Scanning -----------------------------------------------------------------------------------
// What the pickles in a file would import and call if Python loaded them. flatbed itself runs none.

enum {
  FLATBED_VERDICT_PLAIN = 0,     // only what torch.load(weights_only=True) allows
  FLATBED_VERDICT_UNKNOWN = 1,   // other classes or functions, or something that cannot be judged
  FLATBED_VERDICT_DANGEROUS = 2  // runs commands or code, reaches files or the network
};

typedef struct flatbed_finding {
  uint64_t struct_size;
  flatbed_string kind;      // "called", "imported", "opcode", ...
  flatbed_string module;    // Python 3's name, as in the file; empty if it is not about a name
  flatbed_string qualname;  // of the class or function in the module
  flatbed_string record;    // in an archive; empty for the file itself
  flatbed_string text;      // the reason, in half a sentence; safe to print
  flatbed_string file;      // its path
  uint64_t offset;          // of the first place, in the record
  uint64_t opcode;          // the number of the opcode in its pickle
  uint64_t count;           // of places
  uint32_t severity;        // FLATBED_VERDICT_*
  uint32_t reserved;
} flatbed_finding;

typedef struct flatbed_scanned_file {
  uint64_t struct_size;
  flatbed_string path;
  flatbed_string what;  // the kind of file: "a zip of torch.save"
  uint64_t pickles;     // that were followed
  uint32_t verdict;     // FLATBED_VERDICT_*
  uint32_t scanned;     // 0: a folder, a missing file or the like, which is unknown
} flatbed_scanned_file;

typedef struct flatbed_scan_options {
  uint64_t struct_size;
  void* context;
  // Called at the end, the worst first; unknown numbers become cancelled. Both may be NULL.
  int32_t (*finding)(void* context, const flatbed_finding* finding);
  int32_t (*file)(void* context, const flatbed_scanned_file* file);
  const flatbed_cancel* cancel;
  uint32_t recursive;  // 1: of a folder, also the folders in it
  uint32_t reserved;
} flatbed_scan_options;

typedef struct flatbed_scan_report {
  uint64_t struct_size;
  uint64_t findings;
  uint64_t files;
  uint32_t verdict;            // the worst of all
  uint32_t findings_complete;  // 0: there are more, which the verdict includes
} flatbed_scan_report;

// Scans a file, the files of an index, or a folder. Faults inside a file are findings. Errors: the
// system's (1-9) for the path itself, shard_missing, cancelled.
FLATBED_API int32_t flatbed_scan(const char* path, const flatbed_scan_options* options,
                                 flatbed_scan_report* report, flatbed_error* error);
// Scans a file of the caller's, whose `close` is not called.
FLATBED_API int32_t flatbed_scan_reader(const flatbed_reader* reader,
                                        const flatbed_scan_options* options,
                                        flatbed_scan_report* report, flatbed_error* error);

// ---- Comparing ----------------------------------------------------------------------------------

enum {
  FLATBED_CHANGE_REMOVED = 0,  // only the first has the tensor
  FLATBED_CHANGE_ADDED = 1,    // only the second has it
  FLATBED_CHANGE_DTYPE = 2,
  FLATBED_CHANGE_SHAPE = 3,
  FLATBED_CHANGE_BYTES = 4
};

typedef struct flatbed_tensor_difference {
  uint64_t struct_size;
  flatbed_string name;
  uint64_t a;            // index in the first checkpoint, unless it was added
  uint64_t b;            // index in the second one, unless it was removed
  uint64_t chunks;       // of 262,144 bytes that differ, for FLATBED_CHANGE_BYTES
  uint64_t first_chunk;  // the first of them
  // With has_values: how far the values are apart.
  double max_abs;
  double max_rel;
  double mean_abs;
  uint64_t different;  // elements
  uint64_t nans_a;
  uint64_t nans_b;
  uint32_t change;  // FLATBED_CHANGE_*
  uint32_t has_values;
} flatbed_tensor_difference;

typedef struct flatbed_diff_options {
  uint64_t struct_size;
  void* context;
  // On the calling thread; unknown numbers become cancelled. Each may be NULL. `tensor` and `tree`
  // are called at the end; `tree` for places whose values differ, by their dotted path.
  int32_t (*progress)(void* context, uint64_t bytes_done, uint64_t bytes_total);
  int32_t (*tensor)(void* context, const flatbed_tensor_difference* difference);
  int32_t (*tree)(void* context, flatbed_string path, uint32_t in_a, uint32_t in_b);
  const flatbed_cancel* cancel;
  uint32_t values;   // 1: also say how far values differ
  uint32_t threads;  // that read, 1 to 16; 0: 2
} flatbed_diff_options;

typedef struct flatbed_diff_report {
  uint64_t struct_size;
  uint64_t equal_tensors;
  uint64_t tensor_differences;
  uint64_t tree_differences;
  uint64_t bytes_read;
  uint32_t same;            // 1: no difference
  uint32_t trees_compared;  // 0: one of the two records no structure
  uint32_t tree_complete;   // 0: there are more places
  uint32_t reserved;
} flatbed_diff_report;

// Compares two checkpoints of any layouts; digests instead of bytes where both are sealed.
// `options` and `report` may be NULL. Errors: those of flatbed_read() and flatbed_tree_of(),
// cancelled.
FLATBED_API int32_t flatbed_diff(const flatbed_checkpoint* a, const flatbed_checkpoint* b,
                                 const flatbed_diff_options* options, flatbed_diff_report* report,
                                 flatbed_error* error);

// ---- DLPack -------------------------------------------------------------------------------------
// Tensors for frameworks, in the structs of dlpack.h (DLPack 1.1 and the legacy one), which need
// not be included. The consumer owns what it gets, calls its deleter once, from any thread, and may
// write to it: no file, checkpoint or other export ever sees that. Floats of 4 bits come in pairs,
// as in torch: `lanes` is 2, and the last dimension half as long.

struct DLManagedTensorVersioned;
struct DLManagedTensor;

// A tensor of a checkpoint, which may be freed first. Plain tensors of files are mapped (private,
// copy on write): not verified, and a SIGBUS if another process truncates the file. All others are
// read and verified. Errors: those of flatbed_read() and flatbed_view(), resource_exhausted,
// invalid_argument (floats of 4 bits whose last dimension is odd).
FLATBED_API int32_t flatbed_view_dlpack(const flatbed_checkpoint* checkpoint, uint64_t tensor,
                                        struct DLManagedTensorVersioned** out,
                                        flatbed_error* error);
FLATBED_API int32_t flatbed_view_dlpack_legacy(const flatbed_checkpoint* checkpoint,
                                               uint64_t tensor, struct DLManagedTensor** out,
                                               flatbed_error* error);

// Where in a buffer a tensor lies that was loaded there, and the names that DLPack has for the
// buffer's device: a DLDeviceType (1: the host, 2: CUDA) and the number of the device.
typedef struct flatbed_placed_tensor {
  uint64_t struct_size;
  uint64_t offset;  // in the buffer, in bytes
  const uint64_t* shape;
  uint64_t rank;
  uint32_t dtype;  // FLATBED_DTYPE_*
  int32_t device_type;
  int32_t device_id;
  uint32_t reserved;
} flatbed_placed_tensor;

// Exports share the buffer's memory with each other and with the buffer, which may be freed first.
// The caller sees to it that what was loaded has arrived. Errors: buffer_too_small,
// invalid_argument, size_overflow.
FLATBED_API int32_t flatbed_buffer_dlpack(const flatbed_buffer* buffer,
                                          const flatbed_placed_tensor* tensor,
                                          struct DLManagedTensorVersioned** out,
                                          flatbed_error* error);
FLATBED_API int32_t flatbed_buffer_dlpack_legacy(const flatbed_buffer* buffer,
                                                 const flatbed_placed_tensor* tensor,
                                                 struct DLManagedTensor** out,
                                                 flatbed_error* error);

// A tensor that flatbed_load_all() loaded, by its index there, with DLPack's names of the device.
// Exports share the memory with each other and with the handle, which may be freed first. Errors:
// size_overflow; invalid_argument (nothing is loaded yet: in `placed`; floats of 4 bits whose last
// dimension is odd).
FLATBED_API int32_t flatbed_loaded_dlpack(const flatbed_loaded* loaded, uint64_t index,
                                          int32_t device_type, int32_t device_id,
                                          struct DLManagedTensorVersioned** out,
                                          flatbed_error* error);
FLATBED_API int32_t flatbed_loaded_dlpack_legacy(const flatbed_loaded* loaded, uint64_t index,
                                                 int32_t device_type, int32_t device_id,
                                                 struct DLManagedTensor** out,
                                                 flatbed_error* error);

#ifdef __cplusplus
}  // extern "C"
#endif

#endif  // FLATBED_FLATBED_H
