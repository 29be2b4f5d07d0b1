/* The SDK's own code. `rollcage.h` has the words for authors; `rollcage new` and `rollcage build` put both beside the env.
 *
 * On the path of a step: the host's call -> bindings/rollcage_wit.c -> environment_step -> take -> the author's `step`, and back. */
#include "rollcage.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* `rollcage build` defines them from rollcage.toml. */
#ifndef ROLLCAGE_NAME
#define ROLLCAGE_NAME "native"
#define ROLLCAGE_VERSION "0.0.0"
#define ROLLCAGE_SUMMARY ""
#endif

/* An action mask lists as many choices at most: each takes a byte with every step. */
#define MASK_CHOICES_MAX (1u << 20)

/* Texts -------------------------------------------------------------------------------------------------------------- */

/* Bytes that grow and are kept. */
typedef struct growing {
  uint8_t *bytes;
  size_t length, capacity;
} growing;

static void *needed(void *memory) {
  if (memory == NULL) rollcage_fail("out of memory");
  return memory;
}

/* Room for so many bytes more, not yet counted in; one byte further can be written. */
static uint8_t *room(growing *to, size_t bytes) {
  if (to->capacity - to->length <= bytes) {
    to->capacity = 2 * (to->length + bytes) + 64;
    to->bytes = needed(realloc(to->bytes, to->capacity));
  }
  return to->bytes + to->length;
}

static void append(growing *to, const void *bytes, size_t length) {
  if (length == 0) return;
  memcpy(room(to, length), bytes, length);
  to->length += length;
}

static void append_format(growing *to, const char *format, va_list arguments) {
  va_list again;
  va_copy(again, arguments);
  int length = vsnprintf(NULL, 0, format, again);
  va_end(again);
  if (length <= 0) return;
  vsnprintf((char *)room(to, (size_t)length), (size_t)length + 1, format, arguments);
  to->length += (size_t)length;
}

/* With a 0 after its end, which does not count. */
static char *text_of(growing *from) {
  *room(from, 1) = 0;
  return (char *)from->bytes;
}

/* Answers ------------------------------------------------------------------------------------------------------------ */

/* What the last refusal said, the config's key that it is of, and what `create` answered. */
static char said[1024], said_of[128];
static rollcage_status created_as;
static growing extra, answer;

#define REFUSAL(status)                           \
  va_list arguments;                              \
  va_start(arguments, format);                    \
  vsnprintf(said, sizeof said, format, arguments); \
  va_end(arguments);                              \
  return status;

rollcage_status rollcage_bad_config(const char *key, const char *format, ...) {
  snprintf(said_of, sizeof said_of, "%s", key);
  REFUSAL(ROLLCAGE_BAD_CONFIG)
}
rollcage_status rollcage_bad_action(const char *format, ...) { REFUSAL(ROLLCAGE_BAD_ACTION) }
rollcage_status rollcage_bad_options(const char *format, ...) { REFUSAL(ROLLCAGE_BAD_OPTIONS) }
rollcage_status rollcage_unsupported(const char *format, ...) { REFUSAL(ROLLCAGE_UNSUPPORTED) }
rollcage_status rollcage_restart(const char *format, ...) { REFUSAL(ROLLCAGE_RESTART) }

const char *rollcage_said(void) { return said; }

void rollcage_fail_at(const char *file, int line, const char *format, ...) {
  /* In one piece, and without the heap. The host finds the words and the place in the log. */
  char text[1400];
  int length = snprintf(text, sizeof text, "panicked at %.200s:%d:\n", file, line);
  va_list arguments;
  va_start(arguments, format);
  length += vsnprintf(text + length, sizeof text - 1 - (size_t)length, format, arguments);
  va_end(arguments);
  if (length > (int)sizeof text - 2) length = sizeof text - 2;
  text[length++] = '\n';
  fwrite(text, 1, (size_t)length, stderr);
#ifdef __wasm__
  __builtin_trap();
#else
  abort();
#endif
}

#ifdef __wasm__
void rollcage_assert_fail(const char *what, const char *file, int line, const char *function) {
  (void)function;
  rollcage_fail_at(file, line, "assert(%s)", what);
}
#endif

void rollcage_log(const char *format, ...) {
  static growing line;
  line.length = 0;
  va_list arguments;
  va_start(arguments, format);
  append_format(&line, format, arguments);
  va_end(arguments);
  append(&line, "\n", 1);
  fwrite(line.bytes, 1, line.length, stderr);
}

void rollcage_tell_json(const char *format, ...) {
  extra.length = 0;
  va_list arguments;
  va_start(arguments, format);
  append_format(&extra, format, arguments);
  va_end(arguments);
}

void rollcage_answer(const char *format, ...) {
  answer.length = 0;
  va_list arguments;
  va_start(arguments, format);
  append_format(&answer, format, arguments);
  va_end(arguments);
}

/* Randomness --------------------------------------------------------------------------------------------------------- */

__extension__ typedef unsigned __int128 wide;

static wide wide_of(const uint64_t halves[2]) { return (wide)halves[1] << 64 | halves[0]; }

static void keep(uint64_t halves[2], wide value) {
  halves[0] = (uint64_t)value;
  halves[1] = (uint64_t)(value >> 64);
}

static wide advance(rollcage_rng *rng) {
  const wide multiplier = (wide)0x2360ed051fc65da4 << 64 | 0x4385df649fccf645;
  wide state = wide_of(rng->state) * multiplier + wide_of(rng->increment);
  keep(rng->state, state);
  return state;
}

/* numpy's `SeedSequence`, of a seed of one or two 32-bit words. */
static uint32_t hashed(uint32_t value, uint32_t *constant) {
  value ^= *constant;
  *constant *= 0x931e8875;
  value *= *constant;
  return value ^ value >> 16;
}

rollcage_rng rollcage_seeded(uint64_t seed) {
  uint32_t constant = 0x43b0d7e5, pool[4] = {(uint32_t)seed, (uint32_t)(seed >> 32), 0, 0};
  for (int index = 0; index < 4; index++) pool[index] = hashed(pool[index], &constant);
  for (int source = 0; source < 4; source++) {
    for (int target = 0; target < 4; target++) {
      if (source == target) continue;
      uint32_t mixed = pool[target] * 0xca01f9dd - hashed(pool[source], &constant) * 0x4973f715;
      pool[target] = mixed ^ mixed >> 16;
    }
  }
  uint32_t words[8];
  constant = 0x8b51f9dd;
  for (int index = 0; index < 8; index++) {
    uint32_t mixed = pool[index % 4] ^ constant;
    constant *= 0x58f38ded;
    mixed *= constant;
    words[index] = mixed ^ mixed >> 16;
  }
  uint64_t both[4];
  for (int index = 0; index < 4; index++) both[index] = words[2 * index] | (uint64_t)words[2 * index + 1] << 32;
  rollcage_rng rng = {0};
  wide increment = ((wide)both[2] << 64 | both[3]) << 1 | 1;
  keep(rng.increment, increment);
  keep(rng.state, increment + ((wide)both[0] << 64 | both[1]));
  advance(&rng);
  return rng;
}

uint64_t rollcage_bits64(rollcage_rng *rng) {
  wide state = advance(rng);
  uint64_t mixed = (uint64_t)(state >> 64) ^ (uint64_t)state;
  unsigned turn = (unsigned)(state >> 122);
  return mixed >> turn | mixed << (-turn & 63);
}

uint32_t rollcage_bits32(rollcage_rng *rng) {
  if (rng->has_half) {
    rng->has_half = false;
    return rng->half;
  }
  uint64_t both = rollcage_bits64(rng);
  rng->half = (uint32_t)(both >> 32);
  rng->has_half = true;
  return (uint32_t)both;
}

double rollcage_random(rollcage_rng *rng) { return (double)(rollcage_bits64(rng) >> 11) * (1.0 / 9007199254740992.0); }

double rollcage_uniform(rollcage_rng *rng, double low, double high) { return low + (high - low) * rollcage_random(rng); }

/* From 0 to `last`, by Lemire's method, on 32 bits where they suffice: numpy's `random_bounded_uint64`. */
static uint64_t up_to(rollcage_rng *rng, uint64_t last) {
  if (last == 0) return 0;
  if (last == UINT32_MAX) return rollcage_bits32(rng);
  if (last == UINT64_MAX) return rollcage_bits64(rng);
  if (last < UINT32_MAX) {
    uint32_t count = (uint32_t)last + 1;
    uint64_t product = (uint64_t)rollcage_bits32(rng) * count;
    if ((uint32_t)product < count) {
      uint32_t threshold = -count % count;
      while ((uint32_t)product < threshold) product = (uint64_t)rollcage_bits32(rng) * count;
    }
    return product >> 32;
  }
  uint64_t count = last + 1;
  wide product = (wide)rollcage_bits64(rng) * count;
  if ((uint64_t)product < count) {
    uint64_t threshold = -count % count;
    while ((uint64_t)product < threshold) product = (wide)rollcage_bits64(rng) * count;
  }
  return (uint64_t)(product >> 64);
}

int64_t rollcage_integers(rollcage_rng *rng, int64_t low, int64_t high) {
  if (low >= high) rollcage_fail("rollcage_integers(%lld, %lld): low must be less than high", (long long)low, (long long)high);
  return (int64_t)((uint64_t)low + up_to(rng, (uint64_t)high - (uint64_t)low - 1));
}

size_t rollcage_choice(rollcage_rng *rng, size_t count) {
  if (count == 0) rollcage_fail("rollcage_choice from nothing");
  return (size_t)up_to(rng, count - 1);
}

/* JSON: the object that a config, options or an attribute's value are ------------------------------------------------- */

static const char *skip_blanks(const char *at) { return at + strspn(at, " \t\r\n"); }

static int hex_digits(const char *at) {
  int value = 0;
  for (int index = 0; index < 4; index++) {
    char digit = at[index];
    if (digit >= '0' && digit <= '9') value = value * 16 + digit - '0';
    else if ((digit | 32) >= 'a' && (digit | 32) <= 'f') value = value * 16 + (digit | 32) - 'a' + 10;
    else return -1;
  }
  return value;
}

static size_t utf8(char *to, uint32_t point) {
  if (point < 0x80) return to[0] = (char)point, 1;
  size_t length = point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
  for (size_t index = length - 1; index > 0; index--, point >>= 6) to[index] = (char)(0x80 | (point & 0x3f));
  to[0] = (char)((0xf00 >> length & 0xff) | point);
  return length;
}

/* Reads a quoted text into at most `capacity` bytes, its 0 among them. NULL: it is none, or too long. */
static const char *read_text(const char *at, char *to, size_t capacity) {
  size_t length = 0;
  if (*at++ != '"') return NULL;
  while (*at != '"') {
    char piece[4] = {*at};
    size_t bytes = 1;
    if (*at == 0) return NULL;
    if (*at++ == '\\') {
      static const char escapes[] = "\"\\/bfnrt", means[] = "\"\\/\b\f\n\r\t";
      const char *known = *at == 0 ? NULL : strchr(escapes, *at);
      if (known != NULL) {
        piece[0] = means[known - escapes];
        at++;
      } else {
        int point = *at == 'u' ? hex_digits(at + 1) : -1;
        if (point < 0) return NULL;
        at += 5;
        if (point >= 0xd800 && point < 0xdc00 && at[0] == '\\' && at[1] == 'u') {
          int low = hex_digits(at + 2);
          if (low < 0xdc00 || low > 0xdfff) return NULL;
          point = 0x10000 + ((point - 0xd800) << 10) + (low - 0xdc00);
          at += 6;
        }
        bytes = utf8(piece, (uint32_t)point);
      }
    }
    if (length + bytes >= capacity) return NULL;
    memcpy(to + length, piece, bytes);
    length += bytes;
  }
  to[length] = 0;
  return at + 1;
}

static bool is_allowed(const char *choices, const char *text) {
  size_t length = strlen(text);
  for (const char *at = choices; at != NULL; at = strchr(at, '|') ? strchr(at, '|') + 1 : NULL) {
    if (strncmp(at, text, length) == 0 && (at[length] == '|' || at[length] == 0)) return true;
  }
  return false;
}

/* Reads a value into the field of its key, in `to`. NULL: it is no such value, and `said` says so. */
static const char *read_value(const rollcage_key *key, const char *at, uint8_t *to) {
  uint8_t *field = to + key->offset;
  char *end = NULL;
  if (key->kind == ROLLCAGE_IS_FLAG) {
    bool value = strncmp(at, "true", 4) == 0;
    if (!value && strncmp(at, "false", 5) != 0) return snprintf(said, sizeof said, "true or false is expected"), NULL;
    memcpy(field, &value, sizeof value);
    return at + (value ? 4 : 5);
  }
  if (key->kind == ROLLCAGE_IS_TEXT) {
    static growing text;
    const char *after = read_text(at, (char *)room(&text, key->bytes), key->bytes);
    if (after == NULL) return snprintf(said, sizeof said, "a text of at most %zu bytes is expected", key->bytes - 1), NULL;
    if (key->choices != NULL && !is_allowed(key->choices, (char *)text.bytes)) {
      return snprintf(said, sizeof said, "one of %s is expected", key->choices), NULL;
    }
    memcpy(field, text.bytes, strlen((char *)text.bytes) + 1);
    return after;
  }
  bool is_number = *at == '-' || (*at >= '0' && *at <= '9');
  if (key->kind == ROLLCAGE_IS_NUMBER) {
    double value = is_number ? strtod(at, &end) : 0;
    if (!is_number || value < key->low || value > key->high) {
      return snprintf(said, sizeof said, "a number from %g to %g is expected", key->low, key->high), NULL;
    }
    memcpy(field, &value, sizeof value);
    return end;
  }
  errno = 0;
  int64_t value = is_number ? strtoll(at, &end, 10) : 0;
  is_number = is_number && errno == 0;
  if (is_number && (*end == '.' || (*end | 32) == 'e')) {
    /* 3.0 and 3e0 are whole numbers too. */
    double given = strtod(at, &end);
    is_number = given == trunc(given) && fabs(given) < 9e18;
    value = is_number ? (int64_t)given : 0;
  }
  if (!is_number || value < key->low_integer || value > key->high_integer) {
    snprintf(said, sizeof said, "a whole number from %lld to %lld is expected", (long long)key->low_integer,
             (long long)key->high_integer);
    return NULL;
  }
  memcpy(field, &value, sizeof value);
  return end;
}

static void set_defaults(const rollcage_key *keys, uint8_t *to) {
  for (const rollcage_key *key = keys; key != NULL && key->kind != ROLLCAGE_END; key++) {
    uint8_t *field = to + key->offset;
    bool flag = key->integer != 0;
    switch (key->kind) {
      case ROLLCAGE_IS_INTEGER: memcpy(field, &key->integer, sizeof key->integer); break;
      case ROLLCAGE_IS_NUMBER: memcpy(field, &key->number, sizeof key->number); break;
      case ROLLCAGE_IS_FLAG: memcpy(field, &flag, sizeof flag); break;
      case ROLLCAGE_IS_TEXT: snprintf((char *)field, key->bytes, "%s", key->text); break;
      case ROLLCAGE_END: break;
    }
  }
}

static const rollcage_key *find(const rollcage_key *keys, const char *name) {
  for (; keys != NULL && keys->kind != ROLLCAGE_END; keys++) {
    if (strcmp(keys->name, name) == 0) return keys;
  }
  return NULL;
}

/* Reads an object into the fields of its keys, in `to`: false with `said` and `said_of`. */
static bool read_object(const rollcage_key *keys, const char *json, uint8_t *to) {
  said_of[0] = 0;
  const char *at = skip_blanks(json);
  snprintf(said, sizeof said, "a JSON object is expected");
  if (*at++ != '{') return false;
  at = skip_blanks(at);
  for (bool first = true; *at != '}'; first = false) {
    if (!first && *at++ != ',') return false;
    at = read_text(skip_blanks(at), said_of, sizeof said_of);
    if (at == NULL) return said_of[0] = 0, false;
    at = skip_blanks(at);
    if (*at++ != ':') return false;
    const rollcage_key *key = find(keys, said_of);
    if (key == NULL) return snprintf(said, sizeof said, "there is no such key"), false;
    at = read_value(key, skip_blanks(at), to);
    if (at == NULL) return false;
    at = skip_blanks(at);
    snprintf(said, sizeof said, "a JSON object is expected");
  }
  if (*skip_blanks(at + 1) != 0) return false;
  said[0] = said_of[0] = 0;
  return true;
}

/* Spaces ------------------------------------------------------------------------------------------------------------- */

typedef enum node { BOX, DISCRETE, MULTI_DISCRETE, MULTI_BINARY, DICT, TUPLE } node;

struct rollcage_layout {
  node node;
  rollcage_dtype dtype;
  size_t rank;
  uint32_t *shape;
  uint8_t *low, *high;
  size_t bound_bytes;
  int64_t n, start;
  int64_t *counts;
  size_t children;
  char **keys;
  rollcage_space **parts;
  /* Bytes of the value, its alignment, and its place in the root's value. */
  size_t bytes, alignment, offset;
  bool has_parent, is_there;
};

static const uint8_t dtype_bytes[] = {1, 1, 2, 4, 8, 1, 2, 4, 8, 0, 4, 8};

static size_t aligned(size_t offset, size_t alignment) { return (offset + alignment - 1) / alignment * alignment; }

static rollcage_space *new_space(node kind, size_t count, size_t bytes, size_t alignment) {
  rollcage_space *space = needed(calloc(1, sizeof *space));
  space->layout = needed(calloc(1, sizeof *space->layout));
  space->count = count;
  space->layout->node = kind;
  space->layout->bytes = bytes;
  space->layout->alignment = alignment;
  return space;
}

static void *copied(const void *from, size_t bytes) { return memcpy(needed(malloc(bytes + 1)), from, bytes); }

/* A bound in its dtype: what is beyond an integer's type is the type's own limit. */
static void write_bound(rollcage_dtype dtype, double bound, uint8_t *to) {
  static const double lows[] = {0, INT8_MIN, INT16_MIN, INT32_MIN, (double)INT64_MIN, 0, 0, 0, 0};
  static const double highs[] = {1, INT8_MAX, INT16_MAX, INT32_MAX, (double)INT64_MAX, UINT8_MAX, UINT16_MAX, UINT32_MAX,
                                 (double)UINT64_MAX};
  if (dtype == ROLLCAGE_FLOAT64) {
    memcpy(to, &bound, sizeof bound);
  } else if (dtype == ROLLCAGE_FLOAT32) {
    float single = (float)bound;
    memcpy(to, &single, sizeof single);
  } else if (bound >= highs[dtype]) {
    bool is_signed = dtype >= ROLLCAGE_INT8 && dtype <= ROLLCAGE_INT64;
    memset(to, 0xff, dtype_bytes[dtype]);
    if (is_signed) to[dtype_bytes[dtype] - 1] = 0x7f;
    if (dtype == ROLLCAGE_BOOLEAN) to[0] = 1;
  } else {
    /* Little-endian, as wasm is and every machine that runs the tests. */
    int64_t whole = bound <= lows[dtype] ? (dtype == ROLLCAGE_INT64 ? INT64_MIN : (int64_t)lows[dtype]) : 0;
    if (bound > lows[dtype]) whole = bound < 9.2e18 ? (int64_t)bound : (int64_t)(uint64_t)bound;
    memcpy(to, &whole, dtype_bytes[dtype]);
  }
}

rollcage_space *rollcage_box(rollcage_dtype dtype, size_t rank, const uint32_t *shape, double low, double high) {
  if ((unsigned)dtype >= sizeof dtype_bytes || dtype_bytes[dtype] == 0) rollcage_fail("rollcage_box: no dtype %d", (int)dtype);
  size_t count = 1, size = dtype_bytes[dtype];
  for (size_t index = 0; index < rank; index++) count *= shape[index];
  rollcage_space *space = new_space(BOX, count, count * size, size);
  rollcage_layout *layout = space->layout;
  layout->dtype = dtype;
  layout->rank = rank;
  layout->shape = copied(rank > 0 ? shape : &(uint32_t){0}, rank * sizeof *shape);
  layout->low = needed(malloc(size));
  layout->high = needed(malloc(size));
  layout->bound_bytes = size;
  write_bound(dtype, low, layout->low);
  write_bound(dtype, high, layout->high);
  return space;
}

rollcage_space *rollcage_bounded(rollcage_space *box, const void *low, const void *high) {
  rollcage_layout *layout = box->layout;
  if (layout->node != BOX) rollcage_fail("rollcage_bounded: the space is no Box");
  free(layout->low);
  free(layout->high);
  layout->low = copied(low, layout->bytes);
  layout->high = copied(high, layout->bytes);
  layout->bound_bytes = layout->bytes;
  return box;
}

rollcage_space *rollcage_discrete(int64_t n, int64_t start) {
  if (n < 1) rollcage_fail("rollcage_discrete(%lld): 1 at least", (long long)n);
  rollcage_space *space = new_space(DISCRETE, 1, 8, 8);
  space->layout->n = n;
  space->layout->start = start;
  return space;
}

rollcage_space *rollcage_multi_discrete(size_t count, const int64_t *counts) {
  for (size_t index = 0; index < count; index++) {
    if (counts[index] < 1) rollcage_fail("rollcage_multi_discrete: %lld at %zu: 1 at least", (long long)counts[index], index);
  }
  rollcage_space *space = new_space(MULTI_DISCRETE, count, 8 * count, 8);
  space->layout->counts = copied(counts, count * sizeof *counts);
  space->layout->shape = copied(&(uint32_t){(uint32_t)count}, sizeof(uint32_t));
  return space;
}

rollcage_space *rollcage_multi_binary(size_t count) {
  rollcage_space *space = new_space(MULTI_BINARY, count, count, 1);
  space->layout->shape = copied(&(uint32_t){(uint32_t)count}, sizeof(uint32_t));
  return space;
}

static rollcage_space *composite(node kind, size_t count) {
  rollcage_space *space = new_space(kind, count, 0, 8);
  space->layout->children = count;
  space->layout->parts = needed(calloc(count + 1, sizeof *space->layout->parts));
  return space;
}

static void adopt(rollcage_space *parent, size_t index, rollcage_space *child) {
  rollcage_layout *layout = parent->layout;
  if (child == NULL || child->layout->has_parent) rollcage_fail("a space has one parent: make another for part %zu", index);
  child->layout->has_parent = true;
  layout->parts[index] = child;
  layout->bytes = aligned(layout->bytes, child->layout->alignment);
  child->layout->offset = layout->bytes;
  layout->bytes += child->layout->bytes;
  if (index + 1 == layout->children) layout->bytes = aligned(layout->bytes, 8);
}

rollcage_space *rollcage_dict(size_t count, const rollcage_entry *entries) {
  rollcage_space *space = composite(DICT, count);
  space->layout->keys = needed(calloc(count + 1, sizeof *space->layout->keys));
  for (size_t index = 0; index < count; index++) {
    space->layout->keys[index] = copied(entries[index].key, strlen(entries[index].key) + 1);
    adopt(space, index, entries[index].space);
  }
  return space;
}

rollcage_space *rollcage_tuple(size_t count, rollcage_space *const *spaces) {
  rollcage_space *space = composite(TUPLE, count);
  for (size_t index = 0; index < count; index++) adopt(space, index, spaces[index]);
  return space;
}

/* Gives a space and its parts their places. */
static void place(rollcage_space *space, uint8_t *at) {
  space->value = at;
  for (size_t index = 0; index < space->layout->children; index++) {
    place(space->layout->parts[index], at + space->layout->parts[index]->layout->offset);
  }
}

static void free_space(rollcage_space *space) {
  if (space == NULL) return;
  rollcage_layout *layout = space->layout;
  for (size_t index = 0; index < layout->children; index++) {
    free_space(layout->parts[index]);
    if (layout->keys != NULL) free(layout->keys[index]);
  }
  free(layout->shape), free(layout->low), free(layout->high), free(layout->counts), free(layout->keys), free(layout->parts);
  free(layout);
  free(space);
}

/* Choices that a mask lists. */
static uint64_t choices(const rollcage_space *space) {
  const rollcage_layout *layout = space->layout;
  uint64_t sum = layout->node == DISCRETE ? (uint64_t)layout->n : 0;
  for (size_t index = 0; layout->node == MULTI_DISCRETE && index < space->count; index++) sum += (uint64_t)layout->counts[index];
  for (size_t index = 0; index < layout->children; index++) sum += choices(layout->parts[index]);
  return sum;
}

/* Whether one choice of `n` is there, and open by the mask, which moves on past it. */
static bool is_open(int64_t choice, int64_t start, int64_t n, const uint8_t **mask) {
  uint64_t index = (uint64_t)choice - (uint64_t)start;
  if (choice < start || index >= (uint64_t)n) {
    snprintf(said, sizeof said, "%lld is not one of the %lld choices from %lld", (long long)choice, (long long)n, (long long)start);
    return false;
  }
  bool open = *mask == NULL || (*mask)[index] != 0;
  if (*mask != NULL) *mask += n;
  if (!open) snprintf(said, sizeof said, "the action mask does not allow it");
  return open;
}

/* Whether an action's choices are there. The host has checked them, and the bounds of a Box; a native test may not have. */
static bool may_take(const rollcage_space *space, const uint8_t **mask) {
  const rollcage_layout *layout = space->layout;
  const int64_t *value = space->value;
  if (layout->node == DISCRETE) return is_open(*value, layout->start, layout->n, mask);
  for (size_t index = 0; layout->node == MULTI_DISCRETE && index < space->count; index++) {
    if (!is_open(value[index], 0, layout->counts[index], mask)) return false;
  }
  for (size_t index = 0; index < layout->children; index++) {
    if (!may_take(layout->parts[index], mask)) return false;
  }
  return true;
}

/* Sessions ----------------------------------------------------------------------------------------------------------- */

typedef struct field {
  char *name;
  rollcage_space *space;
} field;

struct rollcage_session {
  const rollcage_env *env;
  field *fields;
  size_t field_count;
  uint8_t *state;
  rollcage_spec spec;
  size_t observation_bytes, action_bytes, mask_bytes, info_bytes;
  uint8_t *observation, *action, *info;
  /* The mask of the last answer, and the one that a call fills. */
  uint8_t *mask, *next_mask;
  rollcage_rng rng;
  bool is_seeded;
  enum { NEVER_BEGAN, RUNNING, ENDED } episode;
  rollcage_view view;
  rollcage_picture picture;
  growing pixels, text;
};

/* The fields of info that `create` declares, until the session has them. There is one `create` at a time. */
static field *fields;
static size_t field_count;

rollcage_space *rollcage_info(rollcage_spec *spec, const char *name, rollcage_space *space) {
  (void)spec;
  if (space->layout->has_parent) rollcage_fail("a space has one parent: make another for the info `%s`", name);
  space->layout->has_parent = true;
  fields = needed(realloc(fields, (field_count + 1) * sizeof *fields));
  fields[field_count++] = (field){copied(name, strlen(name) + 1), space};
  return space;
}

void *rollcage_tell(rollcage_space *space) {
  space->layout->is_there = true;
  return space->value;
}

rollcage_session *rollcage_open(const rollcage_env *env, const char *config) {
  uint8_t *state = needed(calloc(1, env->bytes + 1));
  set_defaults(env->config, state);
  created_as = ROLLCAGE_BAD_CONFIG;
  if (config != NULL && !read_object(env->config, config, state)) {
    free(state);
    return NULL;
  }
  rollcage_session *session = needed(calloc(1, sizeof *session));
  session->env = env;
  session->state = state;
  session->spec.reward_threshold = (double)NAN;
  fields = NULL;
  field_count = 0;
  created_as = env->create(state, &session->spec);
  if (created_as != ROLLCAGE_OK) {
    /* What `create` made is lost: the host ends such an instance. */
    free(state);
    free(session);
    return NULL;
  }
  session->fields = fields;
  session->field_count = field_count;
  rollcage_spec *spec = &session->spec;
  if (spec->observation == NULL || spec->action == NULL) rollcage_fail("`create` sets no observation and action space");
  if (spec->observation->layout->has_parent || spec->action->layout->has_parent || spec->observation == spec->action) {
    rollcage_fail("a space has one place: make one for observations and one for actions");
  }
  session->observation_bytes = aligned(spec->observation->layout->bytes, 8);
  session->action_bytes = aligned(spec->action->layout->bytes, 8);
  session->observation = needed(calloc(1, session->observation_bytes + 8));
  session->action = needed(calloc(1, session->action_bytes + 8));
  place(spec->observation, session->observation);
  place(spec->action, session->action);
  if (spec->masking != ROLLCAGE_UNMASKED) {
    uint64_t count = choices(spec->action);
    if (count > MASK_CHOICES_MAX) rollcage_fail("an action mask of %llu choices: %u at most", (unsigned long long)count, MASK_CHOICES_MAX);
    session->mask_bytes = (size_t)count;
    session->mask = needed(calloc(1, session->mask_bytes + 1));
    session->next_mask = needed(calloc(1, session->mask_bytes + 1));
  }
  if (session->field_count > 0) {
    size_t bytes = aligned(session->field_count, 8);
    for (size_t index = 0; index < session->field_count; index++) {
      rollcage_layout *layout = session->fields[index].space->layout;
      layout->offset = bytes = aligned(bytes, layout->alignment);
      bytes += layout->bytes;
    }
    session->info_bytes = aligned(bytes, 8);
    session->info = needed(calloc(1, session->info_bytes));
    for (size_t index = 0; index < session->field_count; index++) {
      place(session->fields[index].space, session->info + session->fields[index].space->layout->offset);
    }
  }
  return session;
}

/* Begins a call that fills a view. */
static void begin(rollcage_session *session) {
  said[0] = 0;
  extra.length = 0;
  if (session->info_bytes > 0) memset(session->info, 0, session->info_bytes);
  for (size_t index = 0; index < session->field_count; index++) session->fields[index].space->layout->is_there = false;
  if (session->mask_bytes > 0) memset(session->next_mask, 1, session->mask_bytes);
  session->view = (rollcage_view){.observation = session->observation, .mask = session->next_mask};
}

/* Ends it: the mask is the env's now. */
static void end(rollcage_session *session) {
  for (size_t index = 0; index < session->field_count; index++) {
    session->info[index] = session->fields[index].space->layout->is_there;
  }
  uint8_t *before = session->mask;
  session->mask = session->next_mask;
  session->next_mask = before;
  session->view.mask = session->mask;
}

static void seed(rollcage_session *session, uint64_t seed) {
  session->rng = rollcage_seeded(seed);
  session->is_seeded = true;
  srand((unsigned)(seed ^ seed >> 32));
}

static rollcage_status begin_episode(rollcage_session *session, const uint64_t *given, const char *options) {
  begin(session);
  rollcage_rng before = session->rng;
  bool was_seeded = session->is_seeded;
  if (options != NULL && session->env->options == NULL && options[strspn(options, " \t\r\n{}")] != 0) {
    return rollcage_bad_options("this env takes no options");
  }
  if (session->env->options != NULL) {
    /* Read apart first: refused options change nothing. */
    uint8_t *apart = copied(session->state, session->env->bytes);
    set_defaults(session->env->options, apart);
    bool is_read = options == NULL || read_object(session->env->options, options, apart);
    if (is_read) memcpy(session->state, apart, session->env->bytes);
    free(apart);
    if (!is_read) {
      char message[sizeof said];
      memcpy(message, said, sizeof said);
      return said_of[0] != 0 ? rollcage_bad_options("`%s`: %.800s", said_of, message) : rollcage_bad_options("%.800s", message);
    }
  }
  if (given != NULL) seed(session, *given);
  if (!session->is_seeded) rollcage_fail("the first reset has no seed");
  rollcage_status status = session->env->reset(session->state, &session->rng, &session->view);
  if (status == ROLLCAGE_OK) {
    session->episode = RUNNING;
    end(session);
  } else if (status == ROLLCAGE_BAD_OPTIONS) {
    session->rng = before;
    session->is_seeded = was_seeded;
  }
  return status;
}

/* Takes a step with the action whose bytes are in its place already. */
static rollcage_status take(rollcage_session *session) {
  if (session->episode != RUNNING) {
    snprintf(said, sizeof said, "no episode is under way: `reset` comes first");
    return ROLLCAGE_NEEDS_RESET;
  }
  const uint8_t *mask = session->spec.masking == ROLLCAGE_MASK_RULE ? session->mask : NULL;
  if (!may_take(session->spec.action, &mask)) return ROLLCAGE_BAD_ACTION;
  begin(session);
  rollcage_status status = session->env->step(session->state, session->action, &session->rng, &session->view);
  if (status != ROLLCAGE_OK) return status;
  if (session->view.terminated || session->view.truncated) session->episode = ENDED;
  end(session);
  return ROLLCAGE_OK;
}

const rollcage_view *rollcage_reset(rollcage_session *session, uint64_t seed, const char *options) {
  return begin_episode(session, &seed, options) == ROLLCAGE_OK ? &session->view : NULL;
}

const rollcage_view *rollcage_step(rollcage_session *session, const void *action) {
  memcpy(session->action, action, session->spec.action->layout->bytes);
  return take(session) == ROLLCAGE_OK ? &session->view : NULL;
}

static rollcage_session *drawing;

uint8_t *rollcage_pixels(rollcage_picture *picture, uint32_t width, uint32_t height) {
  size_t bytes = (size_t)width * height * 3;
  if (width == 0 || height == 0) rollcage_fail("a picture of %u by %u pixels", width, height);
  drawing->pixels.length = 0;
  picture->width = width;
  picture->height = height;
  picture->pixels = memset(room(&drawing->pixels, bytes), 0, bytes);
  return picture->pixels;
}

void rollcage_rectangle(rollcage_picture *picture, int64_t left, int64_t top, int64_t width, int64_t height, uint32_t colour) {
  int64_t right = left + width < picture->width ? left + width : picture->width;
  int64_t bottom = top + height < picture->height ? top + height : picture->height;
  for (int64_t y = top > 0 ? top : 0; y < bottom; y++) {
    for (int64_t x = left > 0 ? left : 0; x < right; x++) {
      uint8_t *pixel = picture->pixels + (y * picture->width + x) * 3;
      pixel[0] = (uint8_t)(colour >> 16);
      pixel[1] = (uint8_t)(colour >> 8);
      pixel[2] = (uint8_t)colour;
    }
  }
}

char *rollcage_text(rollcage_picture *picture, size_t bytes) {
  drawing->text.length = 0;
  picture->text = memset(room(&drawing->text, bytes + 1), 0, bytes + 1);
  return picture->text;
}

static rollcage_status draw(rollcage_session *session, unsigned mode) {
  const rollcage_env *env = session->env;
  const char *name = mode == ROLLCAGE_ANSI ? "ansi" : "rgb_array";
  if ((env->render_modes & mode) == 0 || env->render == NULL) return rollcage_unsupported("there is no render mode `%s`", name);
  if (session->episode == NEVER_BEGAN) return ROLLCAGE_NEEDS_RESET;
  session->picture = (rollcage_picture){0};
  drawing = session;
  rollcage_status status = env->render(session->state, mode, &session->picture);
  bool is_drawn = mode == ROLLCAGE_ANSI ? session->picture.text != NULL : session->picture.pixels != NULL;
  if (status == ROLLCAGE_OK && !is_drawn) rollcage_fail("`render` made nothing for the mode `%s`", name);
  return status;
}

const rollcage_picture *rollcage_render(rollcage_session *session, unsigned mode) {
  return draw(session, mode) == ROLLCAGE_OK ? &session->picture : NULL;
}

void *rollcage_state(rollcage_session *session) { return session->state; }

void rollcage_close(rollcage_session *session) {
  if (session->env->close != NULL) session->env->close(session->state);
  free_space(session->spec.observation), free_space(session->spec.action);
  for (size_t index = 0; index < session->field_count; index++) {
    free_space(session->fields[index].space);
    free(session->fields[index].name);
  }
  free(session->fields);
  free(session->state), free(session->observation), free(session->action), free(session->info);
  free(session->mask), free(session->next_mask), free(session->pixels.bytes), free(session->text.bytes);
  free(session);
}

#ifndef __wasm__

char *rollcage_asset(const char *path, size_t *bytes) {
  growing content = {0};
  FILE *file = fopen(path, "rb");
  if (file == NULL) return NULL;
  for (size_t length = 1; length > 0; content.length += length) length = fread(room(&content, 4096), 1, 4096, file);
  fclose(file);
  if (bytes != NULL) *bytes = content.length;
  return text_of(&content);
}

#else

/* The plugin --------------------------------------------------------------------------------------------------------- */

#include "rollcage_wit.h"

/* The type of the component is put in by `rollcage build`, not by an object file. */
void __component_type_object_force_link_rollcage_wit(void);
void __component_type_object_force_link_rollcage_wit(void) {}

/* Every answer lies in a buffer of the SDK's, which stays: nothing has to be freed after a call. */
#define NOTHING_TO_FREE(export_name, name)                                                                  \
  __attribute__((__export_name__("cabi_post_rollcage:env/environment@0.1.0#" export_name))) void            \
  __wasm_export_exports_rollcage_env_environment_##name##_post_return(uint8_t *answered);                   \
  void __wasm_export_exports_rollcage_env_environment_##name##_post_return(uint8_t *answered) { (void)answered; }

NOTHING_TO_FREE("describe", describe)
NOTHING_TO_FREE("create", create)
NOTHING_TO_FREE("reset", reset)
NOTHING_TO_FREE("step", step)
NOTHING_TO_FREE("step-many", step_many)
NOTHING_TO_FREE("render", render)
NOTHING_TO_FREE("reseed", reseed)
NOTHING_TO_FREE("call", call)
NOTHING_TO_FREE("get-attribute", get_attribute)
NOTHING_TO_FREE("set-attribute", set_attribute)

/* What the host hands over goes into one buffer, which is free again after the call; what is too large for it, or comes from
 * the adapter to WASI and stays, goes to the heap. */
static _Alignas(16) uint8_t given[4096];
static size_t given_used;
/* Where an import's answer goes instead, if the SDK knows a place for it. */
static uint8_t *answer_place;
static size_t answer_room;

/* What the host hands over next is put there if it fits. It is not given back by `forget`: in the middle of a call the buffer
 * may still have what the call was given. */
void rollcage_receive_at(void *place, size_t bytes);
void rollcage_receive_at(void *place, size_t bytes) {
  answer_place = place;
  answer_room = bytes;
}

__attribute__((__export_name__("cabi_realloc"))) void *cabi_realloc(void *old, size_t old_size, size_t align, size_t size);
void *cabi_realloc(void *old, size_t old_size, size_t align, size_t size) {
  if (size == 0) return (void *)align;
  bool is_ours = (uint8_t *)old >= given && (uint8_t *)old < given + sizeof given;
  if (old != NULL && old_size > 0 && !is_ours) return needed(realloc(old, size));
  if (answer_place != NULL && size <= answer_room && align == 1) {
    void *known = answer_place;
    answer_place = NULL;
    return known;
  }
  size_t at = aligned(given_used, align < 8 ? 8 : align);
  void *place;
  if (align <= 16 && size <= sizeof given && at <= sizeof given - size) {
    place = given + at;
    given_used = at + size;
  } else {
    place = needed(malloc(size));
  }
  if (old != NULL && old_size > 0) memcpy(place, old, old_size < size ? old_size : size);
  return place;
}

/* After a call: what was handed over is no longer needed. */
static void forget(void *part, size_t length) {
  bool is_ours = (uint8_t *)part >= given && (uint8_t *)part < given + sizeof given;
  if (length > 0 && !is_ours) free(part);
  given_used = 0;
}

static void put(growing *to, const char *format, ...) ROLLCAGE_FORMAT(2);
static void put(growing *to, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  append_format(to, format, arguments);
  va_end(arguments);
}

/* A JSON text of a C one. */
static void put_quoted(growing *to, const char *text) {
  append(to, "\"", 1);
  for (; *text != 0; text++) {
    if (*text == '"' || *text == '\\') put(to, "\\%c", *text);
    else if ((unsigned char)*text < 0x20) put(to, "\\u%04x", *text);
    else append(to, text, 1);
  }
  append(to, "\"", 1);
}

static void put_value(growing *to, const rollcage_key *key, const uint8_t *from) {
  const uint8_t *field = from + key->offset;
  int64_t integer;
  double number;
  switch (key->kind) {
    case ROLLCAGE_IS_INTEGER:
      memcpy(&integer, field, sizeof integer);
      put(to, "%lld", (long long)integer);
      break;
    case ROLLCAGE_IS_NUMBER:
      memcpy(&number, field, sizeof number);
      if (isfinite(number)) put(to, "%.17g", number);
      else put(to, "null");
      break;
    case ROLLCAGE_IS_FLAG: put(to, "%s", *field ? "true" : "false"); break;
    case ROLLCAGE_IS_TEXT: put_quoted(to, (const char *)field); break;
    case ROLLCAGE_END: break;
  }
}

/* The keys as a JSON Schema. */
static void put_schema(growing *to, const rollcage_key *keys) {
  static const char *const types[] = {"", "integer", "number", "boolean", "string"};
  put(to, "{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{");
  for (const rollcage_key *key = keys; key != NULL && key->kind != ROLLCAGE_END; key++) {
    if (key != keys) put(to, ",");
    put_quoted(to, key->name);
    put(to, ":{\"type\":\"%s\",\"description\":", types[key->kind]);
    put_quoted(to, key->help != NULL ? key->help : "");
    switch (key->kind) {
      case ROLLCAGE_IS_INTEGER:
        put(to, ",\"default\":%lld", (long long)key->integer);
        if (key->low_integer != INT64_MIN) put(to, ",\"minimum\":%lld", (long long)key->low_integer);
        if (key->high_integer != INT64_MAX) put(to, ",\"maximum\":%lld", (long long)key->high_integer);
        break;
      case ROLLCAGE_IS_NUMBER:
        put(to, ",\"default\":%.17g", key->number);
        if (isfinite(key->low)) put(to, ",\"minimum\":%.17g", key->low);
        if (isfinite(key->high)) put(to, ",\"maximum\":%.17g", key->high);
        break;
      case ROLLCAGE_IS_FLAG: put(to, ",\"default\":%s", key->integer ? "true" : "false"); break;
      case ROLLCAGE_IS_TEXT:
        put(to, ",\"default\":");
        put_quoted(to, key->text);
        if (key->choices == NULL) {
          put(to, ",\"maxLength\":%zu", key->bytes - 1);
          break;
        }
        put(to, ",\"enum\":[");
        for (const char *at = key->choices, *end; at != NULL; at = *end == 0 ? NULL : end + 1) {
          char one[128];
          end = at + strcspn(at, "|");
          snprintf(one, sizeof one, "%.*s", (int)(end - at), at);
          if (at != key->choices) put(to, ",");
          put_quoted(to, one);
        }
        put(to, "]");
        break;
      case ROLLCAGE_END: break;
    }
    put(to, "}");
  }
  put(to, "}}");
}

static rollcage_wit_string_t string(const char *text) { return (rollcage_wit_string_t){(uint8_t *)text, strlen(text)}; }

static rollcage_session *session;

static rollcage_session *created(void) {
  if (session == NULL) rollcage_fail("`create` comes before everything but `describe`");
  return session;
}

/* A copy with a 0 at its end, in a buffer that is kept. */
static const char *terminated(growing *to, const rollcage_wit_string_t *from) {
  to->length = 0;
  append(to, from->ptr, from->len);
  return text_of(to);
}

/* The interface's error of an answer that is not ROLLCAGE_OK. */
static void refuse(rollcage_status status, rollcage_env_types_env_error_t *error) {
  rollcage_wit_string_t message = string(said);
  switch (status) {
    case ROLLCAGE_BAD_ACTION: error->tag = ROLLCAGE_ENV_TYPES_ENV_ERROR_INVALID_ACTION; break;
    case ROLLCAGE_BAD_OPTIONS: error->tag = ROLLCAGE_ENV_TYPES_ENV_ERROR_INVALID_OPTIONS; break;
    case ROLLCAGE_NEEDS_RESET: error->tag = ROLLCAGE_ENV_TYPES_ENV_ERROR_NEEDS_RESET; break;
    case ROLLCAGE_UNSUPPORTED: error->tag = ROLLCAGE_ENV_TYPES_ENV_ERROR_UNSUPPORTED; break;
    case ROLLCAGE_RESTART: error->tag = ROLLCAGE_ENV_TYPES_ENV_ERROR_RESTART; break;
    default: error->tag = ROLLCAGE_ENV_TYPES_ENV_ERROR_FAILED; break;
  }
  /* All cases but the one without a message have it in the same place. */
  error->val.failed = message;
}

void exports_rollcage_env_environment_describe(exports_rollcage_env_environment_description_t *to) {
  const rollcage_env *env = &rollcage_plugin;
  static growing schema, wants;
  static uint8_t modes[2];
  schema.length = wants.length = 0;
  put_schema(&schema, env->config);
  size_t mode_count = 0;
  if (env->render_modes & ROLLCAGE_RGB_ARRAY) modes[mode_count++] = ROLLCAGE_ENV_TYPES_RENDER_MODE_RGB_ARRAY;
  if (env->render_modes & ROLLCAGE_ANSI) modes[mode_count++] = ROLLCAGE_ENV_TYPES_RENDER_MODE_ANSI;
  size_t want_count = 0;
  for (const rollcage_want *want = env->wants; want != NULL && want->reason != NULL; want++, want_count++) {
    rollcage_env_types_want_t one = {(uint8_t)want->kind, string(want->example), string(want->reason), want->required};
    append(&wants, &one, sizeof one);
  }
  *to = (exports_rollcage_env_environment_description_t){
      .name = string(ROLLCAGE_NAME),
      .version = string(ROLLCAGE_VERSION),
      .summary = string(ROLLCAGE_SUMMARY),
      .config_schema = {schema.bytes, schema.length},
      .render_modes = {modes, mode_count},
      .render_fps = env->render_fps,
      .wants = {(rollcage_env_types_want_t *)wants.bytes, want_count},
      .runtime = string(""),
      .warm_up = false,
  };
}

/* Writes a space's nodes into a list, its children behind it. */
static void put_nodes(growing *nodes, rollcage_space *space) {
  typedef rollcage_env_types_space_node_t each;
  rollcage_layout *layout = space->layout;
  each node = {0};
  rollcage_wit_list_u32_t shape = {layout->shape, layout->rank};
  uint32_t *indices = needed(calloc(layout->children + 1, sizeof *indices));
  rollcage_wit_list_u32_t children = {indices, layout->children};
  switch (layout->node) {
    case BOX:
      node.tag = ROLLCAGE_ENV_TYPES_SPACE_NODE_BOX;
      node.val.box = (rollcage_env_types_box_space_t){
          (uint8_t)layout->dtype, shape, {layout->low, layout->bound_bytes}, {layout->high, layout->bound_bytes}};
      break;
    case DISCRETE:
      node.tag = ROLLCAGE_ENV_TYPES_SPACE_NODE_DISCRETE;
      node.val.discrete = (rollcage_env_types_discrete_space_t){(uint64_t)layout->n, layout->start};
      break;
    case MULTI_DISCRETE:
      node.tag = ROLLCAGE_ENV_TYPES_SPACE_NODE_MULTI_DISCRETE;
      node.val.multi_discrete = (rollcage_env_types_multi_discrete_space_t){
          {layout->shape, 1}, {(uint64_t *)layout->counts, space->count}, {NULL, 0}};
      break;
    case MULTI_BINARY:
      node.tag = ROLLCAGE_ENV_TYPES_SPACE_NODE_MULTI_BINARY;
      node.val.multi_binary.shape = (rollcage_wit_list_u32_t){layout->shape, 1};
      break;
    case DICT:
      node.tag = ROLLCAGE_ENV_TYPES_SPACE_NODE_DICT;
      node.val.dict.children = children;
      node.val.dict.keys.len = layout->children;
      node.val.dict.keys.ptr = needed(calloc(layout->children + 1, sizeof *node.val.dict.keys.ptr));
      for (size_t index = 0; index < layout->children; index++) node.val.dict.keys.ptr[index] = string(layout->keys[index]);
      break;
    case TUPLE:
      node.tag = ROLLCAGE_ENV_TYPES_SPACE_NODE_TUPLE;
      node.val.tuple.children = children;
      break;
  }
  append(nodes, &node, sizeof node);
  for (size_t index = 0; index < layout->children; index++) {
    indices[index] = (uint32_t)(nodes->length / sizeof node);
    put_nodes(nodes, layout->parts[index]);
  }
}

static rollcage_env_types_space_t space_of(rollcage_space *space) {
  growing nodes = {0};
  put_nodes(&nodes, space);
  return (rollcage_env_types_space_t){
      {(rollcage_env_types_space_node_t *)nodes.bytes, nodes.length / sizeof(rollcage_env_types_space_node_t)}};
}

bool exports_rollcage_env_environment_create(rollcage_wit_string_t *config, exports_rollcage_env_environment_spec_t *to,
                                             exports_rollcage_env_environment_create_error_t *error) {
  static growing text;
  static rollcage_env_types_config_error_t mistake;
  const char *json = terminated(&text, config);
  forget(config->ptr, config->len);
  session = rollcage_open(&rollcage_plugin, json);
  if (session == NULL && created_as != ROLLCAGE_BAD_CONFIG) {
    error->tag = ROLLCAGE_ENV_TYPES_CREATE_ERROR_FAILED;
    error->val.failed = string(said);
    return false;
  }
  if (session == NULL) {
    mistake = (rollcage_env_types_config_error_t){string(said_of), string(said)};
    error->tag = ROLLCAGE_ENV_TYPES_CREATE_ERROR_CONFIG;
    error->val.config = (rollcage_env_types_list_config_error_t){&mistake, 1};
    return false;
  }
  const rollcage_spec *spec = &session->spec;
  rollcage_env_types_info_field_t *declared = needed(calloc(session->field_count + 1, sizeof *declared));
  for (size_t index = 0; index < session->field_count; index++) {
    declared[index] = (rollcage_env_types_info_field_t){string(session->fields[index].name), space_of(session->fields[index].space)};
  }
  *to = (exports_rollcage_env_environment_spec_t){
      .observation_space = space_of(spec->observation),
      .action_space = space_of(spec->action),
      .action_masked = spec->masking != ROLLCAGE_UNMASKED,
      .actions_out_of_bounds =
          spec->clips_actions ? ROLLCAGE_ENV_TYPES_OUT_OF_BOUNDS_PASS : ROLLCAGE_ENV_TYPES_OUT_OF_BOUNDS_REFUSE,
      .info_fields = {declared, session->field_count},
      .max_episode_steps = {spec->max_episode_steps > 0, spec->max_episode_steps},
      .reward_threshold = {!isnan(spec->reward_threshold), spec->reward_threshold},
  };
  return true;
}

static exports_rollcage_env_environment_view_t view(void) {
  return (exports_rollcage_env_environment_view_t){
      {session->observation, session->observation_bytes},
      {session->mask, session->mask_bytes},
      {session->info, session->info_bytes},
      {extra.bytes, extra.length},
  };
}

bool exports_rollcage_env_environment_reset(uint64_t *seed, rollcage_wit_string_t *options,
                                            exports_rollcage_env_environment_view_t *to,
                                            exports_rollcage_env_environment_env_error_t *error) {
  static growing text;
  const char *json = options != NULL ? terminated(&text, options) : NULL;
  if (options != NULL) forget(options->ptr, options->len);
  rollcage_status status = begin_episode(created(), seed, json);
  if (status != ROLLCAGE_OK) return refuse(status, error), false;
  *to = view();
  return true;
}

bool exports_rollcage_env_environment_step(rollcage_wit_list_u8_t *action, exports_rollcage_env_environment_transition_t *to,
                                           exports_rollcage_env_environment_env_error_t *error) {
  size_t length = created()->action_bytes, given_length = action->len;
  if (given_length == length) memcpy(session->action, action->ptr, length);
  forget(action->ptr, action->len);
  rollcage_status status = given_length == length ? take(session) : rollcage_bad_action("%zu bytes, not %zu", given_length, length);
  if (status != ROLLCAGE_OK) return refuse(status, error), false;
  to->view = view();
  to->reward = session->view.reward;
  to->terminated = session->view.terminated;
  to->truncated = session->view.truncated;
  return true;
}

void exports_rollcage_env_environment_step_many(rollcage_wit_list_u8_t *actions, uint32_t count,
                                                exports_rollcage_env_environment_transitions_t *to) {
  static growing observations, masks, infos, rewards, texts, strings;
  observations.length = masks.length = infos.length = rewards.length = texts.length = strings.length = 0;
  size_t length = created()->action_bytes;
  *to = (exports_rollcage_env_environment_transitions_t){0};
  rollcage_status status = ROLLCAGE_OK;
  if (length != 0 ? actions->len / length != count || actions->len % length != 0 : actions->len != 0) {
    status = rollcage_bad_action("%zu bytes for %u actions of %zu bytes", actions->len, (unsigned)count, length);
  }
  bool has_text = false;
  while (status == ROLLCAGE_OK && to->taken < count && !to->terminated && !to->truncated) {
    memcpy(session->action, actions->ptr + to->taken * length, length);
    status = take(session);
    if (status != ROLLCAGE_OK) break;
    append(&observations, session->observation, session->observation_bytes);
    append(&masks, session->mask, session->mask_bytes);
    append(&infos, session->info, session->info_bytes);
    append(&rewards, &session->view.reward, sizeof session->view.reward);
    rollcage_wit_string_t text = {NULL, extra.length};
    append(&texts, extra.bytes, extra.length);
    append(&strings, &text, sizeof text);
    has_text |= extra.length > 0;
    to->terminated = session->view.terminated;
    to->truncated = session->view.truncated;
    to->taken++;
  }
  forget(actions->ptr, actions->len);
  to->observations = (rollcage_wit_list_u8_t){observations.bytes, observations.length};
  to->action_masks = (rollcage_wit_list_u8_t){masks.bytes, masks.length};
  to->infos = (rollcage_wit_list_u8_t){infos.bytes, infos.length};
  to->rewards = (rollcage_wit_list_f64_t){(double *)rewards.bytes, to->taken};
  if (has_text) {
    /* Their places are known only now: the buffer may have moved while it grew. */
    rollcage_wit_string_t *each = (rollcage_wit_string_t *)strings.bytes;
    size_t at = 0;
    for (uint32_t index = 0; index < to->taken; at += each[index++].len) each[index].ptr = texts.bytes + at;
    to->infos_extra = (rollcage_wit_list_string_t){each, to->taken};
  }
  if (status != ROLLCAGE_OK) {
    to->error.is_some = true;
    refuse(status, &to->error.val);
  }
}

bool exports_rollcage_env_environment_render(exports_rollcage_env_environment_render_mode_t mode,
                                             exports_rollcage_env_environment_frame_t *to,
                                             exports_rollcage_env_environment_env_error_t *error) {
  bool is_text = mode == ROLLCAGE_ENV_TYPES_RENDER_MODE_ANSI;
  rollcage_status status = draw(created(), is_text ? ROLLCAGE_ANSI : ROLLCAGE_RGB_ARRAY);
  if (status != ROLLCAGE_OK) return refuse(status, error), false;
  const rollcage_picture *picture = &session->picture;
  if (is_text) {
    to->tag = ROLLCAGE_ENV_TYPES_FRAME_TEXT;
    to->val.text = string(picture->text);
    return true;
  }
  to->tag = ROLLCAGE_ENV_TYPES_FRAME_RGB;
  to->val.rgb = (rollcage_env_types_image_t){
      picture->width, picture->height, {picture->pixels, (size_t)picture->width * picture->height * 3}};
  return true;
}

bool exports_rollcage_env_environment_reseed(uint64_t given_seed, exports_rollcage_env_environment_env_error_t *error) {
  seed(created(), given_seed);
  if (session->env->reseed == NULL) return true;
  rollcage_status status = session->env->reseed(session->state, &session->rng);
  return status == ROLLCAGE_OK ? true : (refuse(status, error), false);
}

bool exports_rollcage_env_environment_call(rollcage_wit_string_t *method, rollcage_wit_string_t *arguments, rollcage_wit_string_t *to,
                                           exports_rollcage_env_environment_env_error_t *error) {
  static growing name, json;
  terminated(&name, method);
  terminated(&json, arguments);
  forget(method->ptr, method->len);
  forget(arguments->ptr, arguments->len);
  answer.length = 0;
  const rollcage_env *env = created()->env;
  rollcage_status status = env->call != NULL ? env->call(session->state, (char *)name.bytes, (char *)json.bytes)
                                             : rollcage_unsupported("there is no method `%.200s`", (char *)name.bytes);
  if (status != ROLLCAGE_OK) return refuse(status, error), false;
  if (answer.length == 0) put(&answer, "null");
  *to = (rollcage_wit_string_t){answer.bytes, answer.length};
  return true;
}

/* The attribute of a name; NULL with `said`. */
static const rollcage_key *attribute(const rollcage_wit_string_t *given_name) {
  static growing name;
  const rollcage_key *key = find(created()->env->attributes, terminated(&name, given_name));
  if (key == NULL) snprintf(said, sizeof said, "there is no attribute `%.200s`", (char *)name.bytes);
  return key;
}

bool exports_rollcage_env_environment_get_attribute(rollcage_wit_string_t *name, rollcage_wit_string_t *to,
                                                    exports_rollcage_env_environment_env_error_t *error) {
  const rollcage_key *key = attribute(name);
  forget(name->ptr, name->len);
  if (key == NULL) return refuse(ROLLCAGE_UNSUPPORTED, error), false;
  answer.length = 0;
  put_value(&answer, key, session->state);
  *to = (rollcage_wit_string_t){answer.bytes, answer.length};
  return true;
}

bool exports_rollcage_env_environment_set_attribute(rollcage_wit_string_t *name, rollcage_wit_string_t *value,
                                                    exports_rollcage_env_environment_env_error_t *error) {
  static growing json;
  const rollcage_key *key = attribute(name);
  terminated(&json, value);
  forget(name->ptr, name->len);
  forget(value->ptr, value->len);
  if (key == NULL || read_value(key, (char *)json.bytes, session->state) == NULL) {
    return refuse(ROLLCAGE_UNSUPPORTED, error), false;
  }
  return true;
}

void exports_rollcage_env_environment_close(void) {
  if (created()->env->close != NULL) session->env->close(session->state);
}

char *rollcage_asset(const char *path, size_t *bytes) {
  rollcage_wit_string_t name = string(path);
  uint64_t size;
  if (!rollcage_env_assets_size(&name, &size)) return NULL;
  char *content = needed(malloc((size_t)size + 1));
  for (size_t at = 0; at < size;) {
    rollcage_wit_list_u8_t part = {0};
    rollcage_receive_at(content + at, (size_t)size - at);
    if (!rollcage_env_assets_read(&name, at, 1u << 20, &part) || part.len == 0) rollcage_fail("the asset `%.200s` ends too early", path);
    if (part.ptr != (uint8_t *)content + at) rollcage_fail("the asset `%.200s` grows", path);
    at += part.len;
  }
  content[size] = 0;
  if (bytes != NULL) *bytes = (size_t)size;
  return content;
}
#endif
