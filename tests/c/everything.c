/* Uses everything that rollcage.h has: `tests/tests/authors_c.rs` looks at it from outside. */

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rollcage.h"

struct env {
  /* The config. */
  int64_t level;
  double factor;
  bool loud;
  char mood[8], note[12];
  /* An option of resets. */
  int64_t first;
  /* What the next step does, which is set from outside. */
  int64_t trouble;
  int64_t steps;
  rollcage_space *flags, *small, *half, *at, *move, *parts, *count, *pair;
};

static const rollcage_key config[] = {
    ROLLCAGE_INTEGER(struct env, level, 2, 0, 8, "An even number, with \"quotes\" in its words."),
    ROLLCAGE_NUMBER(struct env, factor, 0.1, -INFINITY, 1e9, "A factor."),
    ROLLCAGE_FLAG(struct env, loud, true, "Whether."),
    ROLLCAGE_ONE_OF(struct env, mood, "calm", "calm|wild", "How."),
    ROLLCAGE_TEXT(struct env, note, "none", "A few words."),
    ROLLCAGE_LAST,
};
static const rollcage_key options[] = {
    ROLLCAGE_INTEGER(struct env, first, 0, INT64_MIN, 100, "The first count."),
    ROLLCAGE_LAST,
};
static const rollcage_key attributes[] = {
    ROLLCAGE_INTEGER(struct env, trouble, 0, 0, 9, "What the next step does."),
    ROLLCAGE_INTEGER(struct env, level, 0, 0, 8, ""),
    ROLLCAGE_NUMBER(struct env, factor, 0, -INFINITY, INFINITY, ""),
    ROLLCAGE_FLAG(struct env, loud, false, ""),
    ROLLCAGE_TEXT(struct env, note, "", ""),
    ROLLCAGE_LAST,
};

static rollcage_status create(void *self, rollcage_spec *spec) {
  struct env *env = self;
  if (env->level == 6) return rollcage_restart("not at level 6");
  if (env->level % 2 != 0) return rollcage_bad_config("level", "%lld is odd", (long long)env->level);
  env->flags = rollcage_multi_binary(3);
  env->small = rollcage_box(ROLLCAGE_INT8, ROLLCAGE_SHAPE(2), -INFINITY, INFINITY);
  env->half = rollcage_box(ROLLCAGE_UINT16, ROLLCAGE_SCALAR, 0, 65535);
  env->at = rollcage_discrete(5, -2);
  rollcage_space *deep = rollcage_dict(ROLLCAGE_ENTRIES({"half", env->half}, {"at", env->at}));
  spec->observation = rollcage_tuple(ROLLCAGE_SPACES(env->flags, env->small, deep));
  env->move = rollcage_discrete(3, 0);
  env->parts = rollcage_multi_discrete(ROLLCAGE_COUNTS(2, 3));
  spec->action = rollcage_dict(ROLLCAGE_ENTRIES({"move", env->move}, {"parts", env->parts}));
  spec->masking = ROLLCAGE_MASK_RULE;
  env->count = rollcage_info(spec, "count", rollcage_box(ROLLCAGE_INT64, ROLLCAGE_SCALAR, -INFINITY, INFINITY));
  env->pair = rollcage_info(spec, "pair", rollcage_box(ROLLCAGE_FLOAT64, ROLLCAGE_SHAPE(2), -INFINITY, INFINITY));
  spec->max_episode_steps = 50;
  return ROLLCAGE_OK;
}

static void observe(struct env *env, rollcage_rng *rng, rollcage_view *view) {
  uint8_t *flags = env->flags->value;
  int8_t *small = env->small->value;
  for (int index = 0; index < 3; index++) flags[index] = (uint8_t)rollcage_integers(rng, 0, 2);
  small[0] = -128;
  small[1] = (int8_t)rollcage_integers(rng, -128, 128);
  *(uint16_t *)env->half->value = (uint16_t)(env->level * 1000 + env->steps);
  *(int64_t *)env->at->value = env->steps % 5 - 2;
  /* The second part's last choice is closed, and the move's first one after an odd step. */
  view->mask[7] = 0;
  view->mask[0] = env->steps % 2 == 0;
  *(int64_t *)rollcage_tell(env->count) = env->first + env->steps;
  if (env->steps % 2 == 0) {
    double *pair = rollcage_tell(env->pair);
    pair[0] = env->factor;
    pair[1] = -1;
  }
  if (env->steps % 3 == 0) rollcage_tell_json("{\"third\": %lld}", (long long)env->steps);
}

static rollcage_status reset(void *self, rollcage_rng *rng, rollcage_view *view) {
  struct env *env = self;
  if (env->first == 13) return rollcage_bad_options("`first`: %d brings bad luck", 13);
  env->steps = env->trouble = 0;
  observe(env, rng, view);
  return ROLLCAGE_OK;
}

static int deeper(volatile char *from, int depth) {
  volatile char here[4096];
  here[depth % 4096] = *from;
  return depth < 1000000 ? deeper(here, depth + 1) + here[0] : 0;
}

static rollcage_status step(void *self, const void *action, rollcage_rng *rng, rollcage_view *view) {
  struct env *env = self;
  int64_t trouble = env->trouble;
  env->trouble = 0;
  if (trouble == 1) return rollcage_bad_action("not after %lld steps", (long long)env->steps);
  if (trouble == 2) return rollcage_restart("tired");
  if (trouble == 3) rollcage_fail("broken at level %lld", (long long)env->level);
  if (trouble == 4) assert(trouble < 4);
  if (trouble == 5) return rollcage_unsupported("five");
  if (trouble == 6) deeper((char *)&trouble, 0);
  assert(action == env->move->value || *(const int64_t *)action == *(int64_t *)env->move->value);
  env->steps++;
  view->reward = (double)*(int64_t *)env->move->value + ((int64_t *)env->parts->value)[1];
  view->truncated = env->steps == 40;
  observe(env, rng, view);
  return ROLLCAGE_OK;
}

static rollcage_status call(void *self, const char *method, const char *arguments) {
  struct env *env = self;
  if (strcmp(method, "note") == 0) {
    size_t bytes;
    char *note = rollcage_asset("note.txt", &bytes);
    assert(note != NULL && bytes == 7 && rollcage_asset("other.txt", NULL) == NULL);
    note[6] = 0;
    rollcage_log("mood %s, loud %d", env->mood, env->loud);
    rollcage_answer("[\"%s\", %s, %d]", note, arguments, rand() >= 0);
    free(note);
    return ROLLCAGE_OK;
  }
  if (strcmp(method, "draws") == 0) {
    rollcage_rng rng = rollcage_seeded(42);
    long long wide = rollcage_integers(&rng, 0, (int64_t)3 << 61), next = rollcage_integers(&rng, 0, (int64_t)3 << 61);
    rng = rollcage_seeded(123456789012345678);
    long long whole = rollcage_integers(&rng, 0, (int64_t)1 << 32), some = rollcage_integers(&rng, 0, 13);
    double real = rollcage_random(&rng);
    rollcage_answer("[%lld, %lld, %lld, %lld, %.17g]", wide, next, whole, some, real);
    return ROLLCAGE_OK;
  }
  if (strcmp(method, "quiet") == 0) return ROLLCAGE_OK;
  return rollcage_unsupported("there is no method `%s`", method);
}

const rollcage_env rollcage_plugin = {
    .bytes = sizeof(struct env),
    .config = config,
    .options = options,
    .attributes = attributes,
    .create = create,
    .reset = reset,
    .step = step,
    .call = call,
};
