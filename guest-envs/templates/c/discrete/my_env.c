/* A corridor: walk to its right end, over a floor that is slippery here and there. */

#include <string.h>

#include "rollcage.h"

struct env {
  /* The config. */
  int64_t size;
  double slip;
  /* The state. */
  int64_t at;
};

static const rollcage_key config[] = {
    ROLLCAGE_INTEGER(struct env, size, 9, 3, 100, "Number of cells."),
    ROLLCAGE_NUMBER(struct env, slip, 0.1, 0, 1, "Probability that a step goes the other way."),
    ROLLCAGE_LAST,
};

static rollcage_status create(void *self, rollcage_spec *spec) {
  struct env *env = self;
  spec->observation = rollcage_discrete(env->size, 0);
  spec->action = rollcage_discrete(2, 0);
  spec->max_episode_steps = 200;
  return ROLLCAGE_OK;
}

static void observe(const struct env *env, rollcage_view *view) {
  int64_t *seen = view->observation;
  *seen = env->at;
}

static rollcage_status reset(void *self, rollcage_rng *rng, rollcage_view *view) {
  struct env *env = self;
  env->at = rollcage_integers(rng, 0, env->size / 2);
  observe(env, view);
  return ROLLCAGE_OK;
}

static rollcage_status step(void *self, const void *action, rollcage_rng *rng, rollcage_view *view) {
  struct env *env = self;
  bool is_right = *(const int64_t *)action == 1;
  bool slips = rollcage_random(rng) < env->slip;
  int64_t last = env->size - 1;
  env->at += is_right != slips ? 1 : -1;
  if (env->at < 0) env->at = 0;
  if (env->at > last) env->at = last;
  view->terminated = env->at == last;
  view->reward = view->terminated ? 1.0 : -0.01;
  observe(env, view);
  return ROLLCAGE_OK;
}

static rollcage_status render(const void *self, unsigned mode, rollcage_picture *picture) {
  const struct env *env = self;
  (void)mode;
  char *cells = rollcage_text(picture, (size_t)env->size);
  memset(cells, '.', (size_t)env->size);
  cells[env->at] = 'x';
  return ROLLCAGE_OK;
}

const rollcage_env rollcage_plugin = {
    .bytes = sizeof(struct env),
    .config = config,
    .render_modes = ROLLCAGE_ANSI,
    .render_fps = 10,
    .create = create,
    .reset = reset,
    .step = step,
    .render = render,
};
