// A small engine over flatbed.h: opens a checkpoint of a model in the shape of GPT-2, checks that
// it has what the engine expects, loads it layer by layer into one arena, and continues a prompt by
// the most likely tokens.
//
//   cc -std=c11 engine.c $(pkg-config --cflags --libs flatbed) -lm
//   ./a.out gpt2.pth 40 3 1 4 1 5
//
// Of a training checkpoint the state dict is at "model", and the number of heads at
// "config.n_head".
#include <flatbed/flatbed.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

enum { kMaxLayers = 64, kMaxTokens = 1024 };

// Weights of linear layers are [in, out].
typedef struct layer {
  float *ln_1_weight, *ln_1_bias, *attn_weight, *attn_bias, *proj_weight, *proj_bias;
  float *ln_2_weight, *ln_2_bias, *fc_weight, *fc_bias, *out_weight, *out_bias;
} layer;

typedef struct model {
  uint64_t vocabulary, context, width, heads, layers;
  float *wte, *wpe, *ln_f_weight, *ln_f_bias;
  layer layer[kMaxLayers];
  float* arena;
  uint64_t layers_ready;
} model;

static flatbed_error error;

// An engine would return it; a program of one file ends.
static void must(int32_t code) {
  if (code == 0) return;
  fprintf(stderr, "%s: %s\n", error.name, error.message);
  exit(1);
}

static void* allocate(uint64_t nbytes) {
  void* const memory = malloc(nbytes);
  if (memory != NULL) return memory;
  fprintf(stderr, "out of memory\n");
  exit(1);
}

// ---- The parameters -----------------------------------------------------------------------------

// A parameter of every layer: where it belongs, and its shape in widths; rows 0: it has one
// dimension.
typedef struct parameter {
  const char* name;
  size_t member;
  uint64_t rows, columns;
} parameter;

static const parameter kParameters[] = {
    {"ln_1.weight", offsetof(layer, ln_1_weight), 0, 1},
    {"ln_1.bias", offsetof(layer, ln_1_bias), 0, 1},
    {"attn.c_attn.weight", offsetof(layer, attn_weight), 1, 3},
    {"attn.c_attn.bias", offsetof(layer, attn_bias), 0, 3},
    {"attn.c_proj.weight", offsetof(layer, proj_weight), 1, 1},
    {"attn.c_proj.bias", offsetof(layer, proj_bias), 0, 1},
    {"ln_2.weight", offsetof(layer, ln_2_weight), 0, 1},
    {"ln_2.bias", offsetof(layer, ln_2_bias), 0, 1},
    {"mlp.c_fc.weight", offsetof(layer, fc_weight), 1, 4},
    {"mlp.c_fc.bias", offsetof(layer, fc_bias), 0, 4},
    {"mlp.c_proj.weight", offsetof(layer, out_weight), 4, 1},
    {"mlp.c_proj.bias", offsetof(layer, out_bias), 0, 1},
};
enum { kParametersPerLayer = sizeof kParameters / sizeof *kParameters };

// What the loader and the match are told: one entry for each tensor, in the order of both.
typedef struct tensor {
  char name[64];
  uint64_t shape[2], rank;
  uint32_t group;  // 0: the embeddings and the last norm; n: layer n - 1
  float** place;
} tensor;

typedef struct inventory {
  uint64_t count;
  tensor list[4 + kMaxLayers * kParametersPerLayer];
} inventory;

static void add_tensor(inventory* all, const tensor* entry) { all->list[all->count++] = *entry; }

static uint64_t elements(const tensor* entry) {
  return entry->rank == 1 ? entry->shape[0] : entry->shape[0] * entry->shape[1];
}

// The sizes of the model are in the shapes of its tensors.
static void measure(model* self, const flatbed_checkpoint* weights) {
  flatbed_tensor found = FLATBED_INIT(flatbed_tensor);
  must(flatbed_tensor_find(weights, flatbed_text("wte.weight"), &found, &error));
  self->vocabulary = found.rank == 2 ? found.shape[0] : 0;
  self->width = found.rank == 2 ? found.shape[1] : 0;
  must(flatbed_tensor_find(weights, flatbed_text("wpe.weight"), &found, &error));
  self->context = found.rank == 2 && found.shape[0] < kMaxTokens ? found.shape[0] : 0;
  char name[64];
  do {
    snprintf(name, sizeof name, "h.%d.ln_1.weight", (int)self->layers);
  } while (self->layers < kMaxLayers &&
           flatbed_tensor_find(weights, flatbed_text(name), &found, NULL) == 0 && ++self->layers);
  if (self->width == 0 || self->heads == 0 || self->width % self->heads != 0) {
    fprintf(stderr, "this is no model in the shape of GPT-2\n");
    exit(1);
  }
}

static void list_tensors(model* self, inventory* all) {
  const uint64_t width = self->width;
  add_tensor(all, &(tensor){"wte.weight", {self->vocabulary, width}, 2, 0, &self->wte});
  add_tensor(all, &(tensor){"wpe.weight", {self->context, width}, 2, 0, &self->wpe});
  for (uint64_t i = 0; i < self->layers; ++i) {
    for (int p = 0; p < kParametersPerLayer; ++p) {
      const parameter* const kind = &kParameters[p];
      tensor entry = {"", {kind->rows * width, kind->columns * width}, 2, (uint32_t)i + 1, NULL};
      if (kind->rows == 0) entry.shape[0] = entry.shape[1];
      if (kind->rows == 0) entry.rank = 1;
      snprintf(entry.name, sizeof entry.name, "h.%d.%s", (int)i, kind->name);
      entry.place = (float**)((char*)&self->layer[i] + kind->member);
      add_tensor(all, &entry);
    }
  }
  add_tensor(all, &(tensor){"ln_f.weight", {width, 0}, 1, 0, &self->ln_f_weight});
  add_tensor(all, &(tensor){"ln_f.bias", {width, 0}, 1, 0, &self->ln_f_bias});
}

// ---- Matching and loading -----------------------------------------------------------------------

static int32_t on_missing(void* context, flatbed_string name) {
  fprintf(stderr, "%s: %.*s\n", (const char*)context, (int)name.size, name.data);
  return 0;
}

static int32_t on_mismatch(void* context, const flatbed_mismatch* mismatch) {
  (void)context;
  fprintf(stderr, "another shape: %.*s\n", (int)mismatch->name.size, mismatch->name.data);
  return 0;
}

static void match(const flatbed_checkpoint* weights, const inventory* all) {
  flatbed_expected* expected = NULL;
  must(flatbed_expected_new(&expected, &error));
  for (uint64_t i = 0; i < all->count; ++i) {
    const tensor* const entry = &all->list[i];
    must(flatbed_expected_add(expected, flatbed_text(entry->name), FLATBED_DTYPE_NONE, entry->shape,
                              entry->rank, &error));
  }
  flatbed_match_options options = FLATBED_INIT(flatbed_match_options);
  flatbed_match_report report = FLATBED_INIT(flatbed_match_report);
  options.context = "missing";
  options.missing = on_missing;
  options.mismatched = on_mismatch;
  must(flatbed_match(weights, expected, &options, &report, &error));
  flatbed_expected_free(expected);
  if (report.matched != all->count) exit(1);
}

// A layer may be used from here on, while the next ones are still being read.
static int32_t on_ready(void* context, uint32_t group, const flatbed_ready_event* events,
                        uint64_t count) {
  (void)group, (void)events, (void)count;
  ++((model*)context)->layers_ready;
  return 0;
}

// Every tensor becomes F32, whatever it is in the file, and has its place in the arena.
static void load(model* self, const flatbed_checkpoint* weights, const inventory* all) {
  uint64_t nbytes = 0;
  for (uint64_t i = 0; i < all->count; ++i) nbytes += elements(&all->list[i]) * sizeof(float);
  self->arena = allocate(nbytes);
  flatbed_plan* plan = NULL;
  must(flatbed_plan_new(&plan, &error));
  float* next = self->arena;
  for (uint64_t i = 0; i < all->count; ++i) {
    const tensor* const entry = &all->list[i];
    flatbed_transfer transfer = FLATBED_INIT(flatbed_transfer);
    transfer.data = *entry->place = next;
    transfer.capacity = elements(entry) * sizeof(float);
    transfer.cast_to = FLATBED_DTYPE_F32;
    transfer.group = entry->group;
    must(flatbed_plan_add(plan, weights, flatbed_text(entry->name), &transfer, &error));
    next += elements(entry);
  }
  flatbed_load_options options = FLATBED_INIT(flatbed_load_options);
  options.context = self;
  options.ready = on_ready;
  must(flatbed_load(plan, &options, NULL, &error));
  flatbed_plan_free(plan);
}

static void open_model(model* self, const char* path) {
  flatbed_checkpoint* checkpoint = NULL;
  must(flatbed_open(path, NULL, &checkpoint, &error));
  flatbed_tree* tree = NULL;
  flatbed_value heads;
  int64_t number = 0;
  must(flatbed_tree_of(checkpoint, &tree, &error));
  must(flatbed_value_at(flatbed_tree_root(tree), flatbed_text("config.n_head"), &heads, &error));
  must(flatbed_value_int(heads, &number, &error));
  flatbed_tree_free(tree);
  self->heads = number > 0 ? (uint64_t)number : 0;

  flatbed_selection selection = FLATBED_INIT(flatbed_selection);
  flatbed_checkpoint* weights = NULL;
  selection.path = flatbed_text("model");
  must(flatbed_select(checkpoint, &selection, &weights, &error));
  flatbed_checkpoint_free(checkpoint);
  inventory* const all = allocate(sizeof *all);
  all->count = 0;
  measure(self, weights);
  list_tensors(self, all);
  match(weights, all);
  load(self, weights, all);
  free(all);
  flatbed_checkpoint_free(weights);
}

// ---- The forward pass ---------------------------------------------------------------------------

static void layer_norm(float* out, const float* x, const float* weight, const float* bias,
                       uint64_t width) {
  double mean = 0, variance = 0;
  for (uint64_t i = 0; i < width; ++i) mean += x[i] / (double)width;
  for (uint64_t i = 0; i < width; ++i) variance += (x[i] - mean) * (x[i] - mean) / (double)width;
  const double scale = 1 / sqrt(variance + 1e-5);
  for (uint64_t i = 0; i < width; ++i) {
    out[i] = (float)((x[i] - mean) * scale) * weight[i] + bias[i];
  }
}

// out = x * weight + bias, with a weight of [ins, outs].
static void linear(float* out, const float* x, const float* weight, const float* bias,
                   const uint64_t shape[2]) {
  for (uint64_t column = 0; column < shape[1]; ++column) {
    double sum = bias[column];
    for (uint64_t row = 0; row < shape[0]; ++row) {
      sum += (double)x[row] * weight[row * shape[1] + column];
    }
    out[column] = (float)sum;
  }
}

static float gelu(float x) {
  return 0.5F * x * (1 + tanhf(0.7978845608F * (x + 0.044715F * x * x * x)));
}

// Attention of the last of `count` tokens over all of them. `qkv` has [count, 3 * width].
static void attend(const model* self, const float* qkv, uint64_t count, float* out) {
  const uint64_t width = self->width, size = width / self->heads, last = count - 1;
  double scores[kMaxTokens];
  for (uint64_t head = 0; head < self->heads; ++head) {
    const float* const query = qkv + last * 3 * width + head * size;
    double largest = -INFINITY, sum = 0;
    for (uint64_t t = 0; t < count; ++t) {
      const float* const key = qkv + t * 3 * width + width + head * size;
      scores[t] = 0;
      for (uint64_t i = 0; i < size; ++i) scores[t] += (double)query[i] * key[i];
      scores[t] /= sqrt((double)size);
      if (scores[t] > largest) largest = scores[t];
    }
    for (uint64_t t = 0; t < count; ++t) sum += scores[t] = exp(scores[t] - largest);
    for (uint64_t i = 0; i < size; ++i) {
      double value = 0;
      for (uint64_t t = 0; t < count; ++t) {
        value += scores[t] / sum * qkv[t * 3 * width + 2 * width + head * size + i];
      }
      out[head * size + i] = (float)value;
    }
  }
}

// Keys and values of the tokens so far, of every layer, and room for one token.
typedef struct state {
  float* qkv[kMaxLayers];
  float *x, *normed, *hidden, *out;
} state;

// Adds token number `at`, and returns the most likely next one.
static uint64_t step(const model* self, state* run, uint64_t token, uint64_t at) {
  const uint64_t width = self->width;
  float* const x = run->x;
  for (uint64_t i = 0; i < width; ++i) {
    x[i] = self->wte[token * width + i] + self->wpe[at * width + i];
  }
  for (uint64_t l = 0; l < self->layers; ++l) {
    const layer* const weights = &self->layer[l];
    float* const qkv = run->qkv[l];
    layer_norm(run->normed, x, weights->ln_1_weight, weights->ln_1_bias, width);
    linear(qkv + at * 3 * width, run->normed, weights->attn_weight, weights->attn_bias,
           (uint64_t[]){width, 3 * width});
    attend(self, qkv, at + 1, run->normed);
    linear(run->out, run->normed, weights->proj_weight, weights->proj_bias,
           (uint64_t[]){width, width});
    for (uint64_t i = 0; i < width; ++i) x[i] += run->out[i];
    layer_norm(run->normed, x, weights->ln_2_weight, weights->ln_2_bias, width);
    linear(run->hidden, run->normed, weights->fc_weight, weights->fc_bias,
           (uint64_t[]){width, 4 * width});
    for (uint64_t i = 0; i < 4 * width; ++i) run->hidden[i] = gelu(run->hidden[i]);
    linear(run->out, run->hidden, weights->out_weight, weights->out_bias,
           (uint64_t[]){4 * width, width});
    for (uint64_t i = 0; i < width; ++i) x[i] += run->out[i];
  }
  layer_norm(run->normed, x, self->ln_f_weight, self->ln_f_bias, width);
  uint64_t best = 0;
  double best_logit = -INFINITY;
  for (uint64_t t = 0; t < self->vocabulary; ++t) {
    double logit = 0;
    for (uint64_t i = 0; i < width; ++i) logit += (double)run->normed[i] * self->wte[t * width + i];
    if (logit > best_logit) best = t;
    if (logit > best_logit) best_logit = logit;
  }
  return best;
}

static void generate(const model* self, uint64_t count, int prompt_size, char** prompt) {
  state run;
  for (uint64_t l = 0; l < self->layers; ++l) {
    run.qkv[l] = allocate(self->context * 3 * self->width * sizeof(float));
  }
  run.x = allocate(self->width * sizeof(float));
  run.normed = allocate(self->width * sizeof(float));
  run.hidden = allocate(4 * self->width * sizeof(float));
  run.out = allocate(self->width * sizeof(float));
  uint64_t token = 0;
  for (uint64_t at = 0; at < self->context && at + 1 < (uint64_t)prompt_size + count; ++at) {
    if (at < (uint64_t)prompt_size) token = strtoull(prompt[at], NULL, 10);
    if (token >= self->vocabulary) break;
    token = step(self, &run, token, at);
    if (at + 1 >= (uint64_t)prompt_size) printf("%d ", (int)token);
  }
  printf("\n");
  for (uint64_t l = 0; l < self->layers; ++l) free(run.qkv[l]);
  free(run.x), free(run.normed), free(run.hidden), free(run.out);
}

// Usage: engine CHECKPOINT COUNT TOKEN...
int main(int argc, char** argv) {
  if (argc < 4) return 2;
  model self = {0};
  open_model(&self, argv[1]);
  generate(&self, strtoull(argv[2], NULL, 10), argc - 3, argv + 3);
  free(self.arena);
  return 0;
}
