/* The SDK for environments in C: a struct, a table of its config keys, and a few functions become a rollcage plugin.
 *
 * The file of an env includes this header and defines `rollcage_plugin`, which names its functions:
 *
 *   create   reads the config from the env's struct, and makes its spaces
 *   reset    begins an episode, and writes the first observation
 *   step     takes a step: writes the observation, the reward and the flags
 *   render   draws the present state; close says goodbye
 *
 * Memory: the SDK owns every buffer that it hands out. An env writes into them, and neither frees nor keeps them, unless
 * a comment here says otherwise. A step allocates nothing.
 *
 * Errors: a function of the env answers ROLLCAGE_OK, or what one of the functions under "Answers" returns.
 * `rollcage_fail` ends the env from anywhere. */
#ifndef ROLLCAGE_H
#define ROLLCAGE_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __GNUC__
#define ROLLCAGE_FORMAT(at) __attribute__((__format__(__printf__, at, at + 1)))
#else
#define ROLLCAGE_FORMAT(at)
#endif

/* Answers ------------------------------------------------------------------------------------------------------------ */

/** What a function of the env answers. Use the functions below for all but ROLLCAGE_OK: they keep the message. */
typedef enum rollcage_status {
  ROLLCAGE_OK,
  ROLLCAGE_BAD_CONFIG,
  ROLLCAGE_BAD_ACTION,
  ROLLCAGE_BAD_OPTIONS,
  ROLLCAGE_NEEDS_RESET,
  ROLLCAGE_UNSUPPORTED,
  ROLLCAGE_RESTART,
} rollcage_status;

/** In `create`: a mistake in the config that the table of keys cannot express. `key` names the key; "" is the whole. The
 * message is lower case and without a full stop: it reads after a colon. `format` is printf's, here and below. */
rollcage_status rollcage_bad_config(const char *key, const char *format, ...) ROLLCAGE_FORMAT(2);
/** In `step`: the action cannot be taken now. The env has to be as it was. */
rollcage_status rollcage_bad_action(const char *format, ...) ROLLCAGE_FORMAT(1);
/** In `reset`: the options make no sense. The env has to be as it was. */
rollcage_status rollcage_bad_options(const char *format, ...) ROLLCAGE_FORMAT(1);
/** The env has no such method, or cannot do this. */
rollcage_status rollcage_unsupported(const char *format, ...) ROLLCAGE_FORMAT(1);
/** The env asks for a new instance in its place. */
rollcage_status rollcage_restart(const char *format, ...) ROLLCAGE_FORMAT(1);

/** Ends the env: it is faulted, with this message and the line that says so. Natively the program aborts. `assert` of
 * <assert.h> does the same in a plugin. */
#define rollcage_fail(...) rollcage_fail_at(__FILE__, __LINE__, __VA_ARGS__)
_Noreturn void rollcage_fail_at(const char *file, int line, const char *format, ...) ROLLCAGE_FORMAT(3);

#ifdef __wasm__
/* What the `assert` of <assert.h> calls, whichever header comes first. */
#define __assert_fail rollcage_assert_fail
_Noreturn void rollcage_assert_fail(const char *what, const char *file, int line, const char *function);
#endif

/** Writes a line to the env's log (stderr). */
void rollcage_log(const char *format, ...) ROLLCAGE_FORMAT(1);

/* Randomness --------------------------------------------------------------------------------------------------------- */

/** numpy's default generator (`SeedSequence`, PCG64), draw for draw: what Gymnasium's `np_random(seed)` gives. `reset` and
 * `step` are given the env's own. libc's `rand` follows the seed too, with draws of its own. */
typedef struct rollcage_rng {
  uint64_t state[2];     /* low half, high half */
  uint64_t increment[2]; /* likewise */
  uint32_t half;         /* the high half of a 64-bit draw that was cut in two */
  bool has_half;
} rollcage_rng;

/** A generator of a seed, as `numpy.random.default_rng(seed)`. A copy of the struct is a generator at the same place. */
rollcage_rng rollcage_seeded(uint64_t seed);
/** 64 bits. */
uint64_t rollcage_bits64(rollcage_rng *rng);
/** 32 bits: the low half of a 64-bit draw first, then the high one. */
uint32_t rollcage_bits32(rollcage_rng *rng);
/** `Generator.random()`: from 0 up to but without 1. */
double rollcage_random(rollcage_rng *rng);
/** `Generator.uniform(low, high)`. */
double rollcage_uniform(rollcage_rng *rng, double low, double high);
/** `Generator.integers(low, high)`: from `low` up to but without `high`. `low < high`, or the env fails. */
int64_t rollcage_integers(rollcage_rng *rng, int64_t low, int64_t high);
/** `Generator.choice(count)`: an index from 0 up to but without `count`. `count > 0`, or the env fails. */
size_t rollcage_choice(rollcage_rng *rng, size_t count);

/* Keys: config, reset options, attributes ---------------------------------------------------------------------------- */

typedef enum rollcage_kind { ROLLCAGE_END, ROLLCAGE_IS_INTEGER, ROLLCAGE_IS_NUMBER, ROLLCAGE_IS_FLAG, ROLLCAGE_IS_TEXT } rollcage_kind;

/** A key that users write, and the field of the env's struct that has its value. Tables of keys are made of the macros
 * below, and end with ROLLCAGE_LAST. */
typedef struct rollcage_key {
  const char *name;
  rollcage_kind kind;
  size_t offset;       /* of the field, in the env's struct */
  size_t bytes;        /* of the field */
  double low, high;    /* of a number; -INFINITY and INFINITY are no bound */
  int64_t low_integer, high_integer; /* of an integer; INT64_MIN and INT64_MAX are no bound */
  double number;       /* the default of a number */
  int64_t integer;     /* of an integer or flag */
  const char *text;    /* of a text */
  const char *choices; /* the texts that are allowed, "a|b|c"; NULL: every text that fits */
  const char *help;    /* what users read: one or two sentences, with the unit */
} rollcage_key;

/* A field of another type than the macro's does not compile: it is the "controlling expression" that the compiler names. */
#define ROLLCAGE_FIELD(type, field, wanted, value) _Generic(((type *)0)->field, wanted: (value))

/** A whole number: the field is an int64_t. `initial` is the default; `low` and `high` are allowed. */
#define ROLLCAGE_INTEGER(type, field, initial, low, high, words)                                                        \
  { .name = #field, .kind = ROLLCAGE_FIELD(type, field, int64_t, ROLLCAGE_IS_INTEGER), .offset = offsetof(type, field), \
    .bytes = sizeof(int64_t), .integer = (initial), .low_integer = (low), .high_integer = (high), .help = (words) }
/** A number: the field is a double. Bounds may be -INFINITY and INFINITY. */
#define ROLLCAGE_NUMBER(type, field, initial, least, most, words)                                                       \
  { .name = #field, .kind = ROLLCAGE_FIELD(type, field, double, ROLLCAGE_IS_NUMBER), .offset = offsetof(type, field),   \
    .bytes = sizeof(double), .number = (initial), .low = (least), .high = (most), .help = (words) }
/** True or false: the field is a bool. */
#define ROLLCAGE_FLAG(type, field, initial, words)                                                                      \
  { .name = #field, .kind = ROLLCAGE_FIELD(type, field, bool, ROLLCAGE_IS_FLAG), .offset = offsetof(type, field),       \
    .bytes = sizeof(bool), .integer = (initial), .help = (words) }
/** A text (UTF-8): the field is an array of char, which bounds its length, with a 0 at the end. */
#define ROLLCAGE_TEXT(type, field, initial, words)                                                                      \
  { .name = #field, .kind = ROLLCAGE_FIELD(type, field, char *, ROLLCAGE_IS_TEXT), .offset = offsetof(type, field),     \
    .bytes = sizeof(((type *)0)->field), .text = (initial), .help = (words) }
/** One of a few texts, "slow|fast": the field is an array of char, as long as the longest at least. */
#define ROLLCAGE_ONE_OF(type, field, initial, allowed, words)                                                           \
  { .name = #field, .kind = ROLLCAGE_FIELD(type, field, char *, ROLLCAGE_IS_TEXT), .offset = offsetof(type, field),     \
    .bytes = sizeof(((type *)0)->field), .text = (initial), .choices = (allowed), .help = (words) }
/** The end of a table. */
#define ROLLCAGE_LAST { .kind = ROLLCAGE_END }

/* Spaces ------------------------------------------------------------------------------------------------------------- */

/** Element types of a Box, with numpy's names. A boolean is one byte, 0 or 1. */
typedef enum rollcage_dtype {
  ROLLCAGE_BOOLEAN = 0, ROLLCAGE_INT8, ROLLCAGE_INT16, ROLLCAGE_INT32, ROLLCAGE_INT64, ROLLCAGE_UINT8, ROLLCAGE_UINT16,
  ROLLCAGE_UINT32, ROLLCAGE_UINT64, ROLLCAGE_FLOAT32 = 10, ROLLCAGE_FLOAT64 = 11,
} rollcage_dtype;

typedef struct rollcage_layout rollcage_layout;

/** One of Gymnasium's spaces, made in `create`. It has one place for its value:
 *
 *   Box              `count` elements of its dtype, in C order
 *   Discrete         one int64_t, `start` included
 *   MultiDiscrete    `count` times int64_t, `start` included
 *   MultiBinary      `count` bytes, 0 or 1
 *   Dict, Tuple      what their children have: write to those
 *
 * An observation keeps what was written last: what does not change need not be written again. */
typedef struct rollcage_space {
  void *value;             /* from the end of `create` to the end of the env */
  size_t count;            /* elements */
  rollcage_layout *layout; /* the SDK's own */
} rollcage_space;

/** Gymnasium's Box: ROLLCAGE_SHAPE(84, 84, 1) or ROLLCAGE_SCALAR, and bounds that hold for all elements. Infinite bounds of
 * integers are those of the type. */
rollcage_space *rollcage_box(rollcage_dtype dtype, size_t rank, const uint32_t *shape, double low, double high);
/** Gives a Box a bound for each element: `low` and `high` point to as many elements of its dtype as it has. Returns it. */
rollcage_space *rollcage_bounded(rollcage_space *box, const void *low, const void *high);
/** Gymnasium's Discrete: `start`, ..., `start + n - 1`. */
rollcage_space *rollcage_discrete(int64_t n, int64_t start);
/** Gymnasium's MultiDiscrete, of one dimension: ROLLCAGE_COUNTS(3, 100) is 0 to 2, and 0 to 99. */
rollcage_space *rollcage_multi_discrete(size_t count, const int64_t *counts);
/** Gymnasium's MultiBinary: `count` times 0 or 1. */
rollcage_space *rollcage_multi_binary(size_t count);

typedef struct rollcage_entry {
  const char *key;
  rollcage_space *space;
} rollcage_entry;

/** Gymnasium's Dict: ROLLCAGE_ENTRIES({"view", view}, {"place", place}). Its keys keep this order. */
rollcage_space *rollcage_dict(size_t count, const rollcage_entry *entries);
/** Gymnasium's Tuple: ROLLCAGE_SPACES(first, second). */
rollcage_space *rollcage_tuple(size_t count, rollcage_space *const *spaces);

#define ROLLCAGE_LIST(type, ...) sizeof((type[]){__VA_ARGS__}) / sizeof(type), (type[]){__VA_ARGS__}
#define ROLLCAGE_SHAPE(...) ROLLCAGE_LIST(const uint32_t, __VA_ARGS__)
#define ROLLCAGE_COUNTS(...) ROLLCAGE_LIST(const int64_t, __VA_ARGS__)
#define ROLLCAGE_ENTRIES(...) ROLLCAGE_LIST(const rollcage_entry, __VA_ARGS__)
#define ROLLCAGE_SPACES(...) ROLLCAGE_LIST(rollcage_space *const, __VA_ARGS__)
#define ROLLCAGE_SCALAR 0, NULL

/* The env ------------------------------------------------------------------------------------------------------------ */

/** What an action mask means. */
typedef enum rollcage_masking {
  ROLLCAGE_UNMASKED,    /* there is none */
  ROLLCAGE_MASK_ADVICE, /* for policies that look at it: a closed action is taken all the same */
  ROLLCAGE_MASK_RULE,   /* a closed action is refused before `step` sees it */
} rollcage_masking;

/** What `create` says of the env. */
typedef struct rollcage_spec {
  rollcage_space *observation;
  rollcage_space *action;
  rollcage_masking masking;
  bool clips_actions;         /* `step` takes floats beyond their bounds, and clips them by itself */
  uint32_t max_episode_steps; /* the usual time limit, which the host counts; 0: none */
  double reward_threshold;    /* the mean return at which the task counts as solved; NAN: none */
} rollcage_spec;

/** In `create`: declares a field of info, and returns its space. */
rollcage_space *rollcage_info(rollcage_spec *spec, const char *name, rollcage_space *space);

/** What `reset` and `step` fill. */
typedef struct rollcage_view {
  void *observation; /* `spec->observation->value`: a float * of a Box of float32, an int64_t * of a Discrete */
  uint8_t *mask;     /* one byte for each choice of each Discrete and MultiDiscrete of the action space, in order: 1 open, 0
                        closed. All are open before each call. NULL if unmasked */
  double reward;     /* 0 before each call, as the flags are; `reset` leaves them */
  bool terminated;   /* the task came to its end */
  bool truncated;    /* the env's own rule, not the time limit, cut the episode off */
} rollcage_view;

/** In `reset` and `step`: says that a field of info is there this time, and returns the place for its value, zeroed. */
void *rollcage_tell(rollcage_space *field);
/** In `reset` and `step`: info without a declared field, as the text of one JSON object. Slower: for rare keys. */
void rollcage_tell_json(const char *format, ...) ROLLCAGE_FORMAT(1);

/** Modes of `render`; the table of the env has them joined by `|`. */
enum { ROLLCAGE_RGB_ARRAY = 1, ROLLCAGE_ANSI = 2 };

/** A picture or a text, which `render` makes. */
typedef struct rollcage_picture {
  uint32_t width, height; /* pixels; 0 for a text */
  uint8_t *pixels;        /* height * width * 3 bytes: rows from the top, R G B */
  char *text;             /* UTF-8, with a 0 at the end */
} rollcage_picture;

/** Makes it a picture, black at first. Returns its pixels. */
uint8_t *rollcage_pixels(rollcage_picture *picture, uint32_t width, uint32_t height);
/** Fills a rectangle of a picture with a colour, 0xRRGGBB. What lies outside the picture is left out. */
void rollcage_rectangle(rollcage_picture *picture, int64_t left, int64_t top, int64_t width, int64_t height, uint32_t colour);
/** Makes it a text of at most `bytes` bytes, all 0 at first. Returns their place. */
char *rollcage_text(rollcage_picture *picture, size_t bytes);

/** In `call`: the answer, as JSON text. */
void rollcage_answer(const char *format, ...) ROLLCAGE_FORMAT(1);

/** Kinds of things of the outside. */
typedef enum rollcage_want_kind {
  ROLLCAGE_WANT_TCP_CONNECT = 0, /* by rollcage_socket.h */
  ROLLCAGE_WANT_DIRECTORY = 3,
  ROLLCAGE_WANT_REAL_CLOCK = 4,
  ROLLCAGE_WANT_REAL_RANDOM = 5,
} rollcage_want_kind;

/** A thing of the outside that the env would use. It grants nothing. */
typedef struct rollcage_want {
  rollcage_want_kind kind;
  const char *example; /* what the operator writes after `--grant KIND=` */
  const char *reason;  /* a sentence for the operator */
  bool required;       /* the env cannot run without it */
} rollcage_want;
/** The end of a table of wants. */
#define ROLLCAGE_LAST_WANT { .reason = NULL }

/** An env. All but `bytes`, `create`, `reset` and `step` may be left out. `env` is the env's struct: all zeros before
 * `create`, but for the config. */
typedef struct rollcage_env {
  size_t bytes;                   /* sizeof the env's struct */
  const rollcage_key *config;     /* read before `create` */
  const rollcage_key *options;    /* of `reset`: set before it, to their defaults where they are not given */
  const rollcage_key *attributes; /* fields that can be read and set from outside, at any time */
  unsigned render_modes;
  uint32_t render_fps; /* frames a second at which an episode plays in real time; 0: none */
  const rollcage_want *wants;
  /** Makes the spaces. There is no seed yet. */
  rollcage_status (*create)(void *env, rollcage_spec *spec);
  /** Begins an episode: everything of one is set here. */
  rollcage_status (*reset)(void *env, rollcage_rng *rng, rollcage_view *view);
  /** Takes a step. `action` is a value of the action space, as its space says: a const int64_t * of a Discrete. */
  rollcage_status (*step)(void *env, const void *action, rollcage_rng *rng, rollcage_view *view);
  /** Draws the present state. It changes nothing. */
  rollcage_status (*render)(const void *env, unsigned mode, rollcage_picture *picture);
  /** The generator has a new seed in the middle of an episode: reseeds what the env keeps beside it. */
  rollcage_status (*reseed)(void *env, rollcage_rng *rng);
  /** Does something by name, for `envs.call`. `arguments` is JSON text; the answer goes to `rollcage_answer`. */
  rollcage_status (*call)(void *env, const char *method, const char *arguments);
  /** Ends the env in order. Not called after a fault. */
  void (*close)(void *env);
} rollcage_env;

/** The env that the plugin is. The author's file defines it. */
extern const rollcage_env rollcage_plugin;

/* Files of the plugin ------------------------------------------------------------------------------------------------ */

/** A file that `assets` in rollcage.toml names, with a 0 after its last byte; natively, one below the working directory.
 * NULL: there is none. `bytes` may be NULL. The caller frees it. */
char *rollcage_asset(const char *path, size_t *bytes);

/* Natively: tests and debuggers, without wasm and host --------------------------------------------------------------- */

/** An env in this process, with the values and checks of the plugin. There may be several. */
typedef struct rollcage_session rollcage_session;

/** Makes an env. `config` is JSON, or NULL. NULL: it was refused, and `rollcage_said` has the reason. */
rollcage_session *rollcage_open(const rollcage_env *env, const char *config);
/** Resets by a seed, with options in JSON or NULL. The view holds until the next call. NULL: it was refused. */
const rollcage_view *rollcage_reset(rollcage_session *session, uint64_t seed, const char *options);
/** Takes a step with a value of the action space. NULL: it was refused. */
const rollcage_view *rollcage_step(rollcage_session *session, const void *action);
/** Draws the present state. NULL: it was refused. */
const rollcage_picture *rollcage_render(rollcage_session *session, unsigned mode);
/** The env's struct. */
void *rollcage_state(rollcage_session *session);
/** Closes the env and frees what the SDK had for it. */
void rollcage_close(rollcage_session *session);
/** Why the last call was refused. */
const char *rollcage_said(void);

#endif
