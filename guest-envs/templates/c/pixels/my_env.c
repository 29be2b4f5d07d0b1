/* A ball falls, and a bat catches it: what the agent sees is the picture. */

#include <string.h>

#include "rollcage.h"

/* Pixels of a side. */
#define SIDE 84

struct env {
  /* The config: balls of an episode, and the width of the bat in pixels. */
  int64_t balls, bat;
  /* The balls that are left, and the bat's first column. */
  int64_t left, place;
  /* The ball's first column and row. */
  int64_t x, y;
  /* Where the ball drifts: 0 left, 1 nowhere, 2 right. */
  int64_t drift;
};

static const rollcage_key config[] = {
    ROLLCAGE_INTEGER(struct env, balls, 10, 1, 100, "Balls of an episode."),
    ROLLCAGE_INTEGER(struct env, bat, 12, 4, 40, "Width of the bat in pixels."),
    ROLLCAGE_LAST,
};

static rollcage_status create(void *self, rollcage_spec *spec) {
  (void)self;
  spec->observation = rollcage_box(ROLLCAGE_UINT8, ROLLCAGE_SHAPE(SIDE, SIDE, 1), 0, 255);
  spec->action = rollcage_discrete(3, 0);
  return ROLLCAGE_OK;
}

static void drop_ball(struct env *env, rollcage_rng *rng) {
  env->x = rollcage_integers(rng, 0, SIDE - 1);
  env->y = 0;
  env->drift = rollcage_integers(rng, 0, 3);
}

/* Draws the picture: rows from the top, a byte a pixel. */
static void draw(const struct env *env, uint8_t *pixels) {
  memset(pixels, 0, SIDE * SIDE);
  for (int64_t row = env->y; row < env->y + 2; row++) memset(pixels + row * SIDE + env->x, 255, 2);
  for (int64_t row = SIDE - 3; row < SIDE; row++) memset(pixels + row * SIDE + env->place, 160, (size_t)env->bat);
}

static rollcage_status reset(void *self, rollcage_rng *rng, rollcage_view *view) {
  struct env *env = self;
  env->left = env->balls;
  env->place = (SIDE - env->bat) / 2;
  drop_ball(env, rng);
  draw(env, view->observation);
  return ROLLCAGE_OK;
}

static int64_t between(int64_t value, int64_t low, int64_t high) { return value < low ? low : value > high ? high : value; }

static rollcage_status step(void *self, const void *action, rollcage_rng *rng, rollcage_view *view) {
  struct env *env = self;
  int64_t moves = *(const int64_t *)action - 1;
  env->place = between(env->place + 3 * moves, 0, SIDE - env->bat);
  env->x = between(env->x + env->drift - 1, 0, SIDE - 2);
  env->y += 4;
  if (env->y >= SIDE - 4) {
    bool is_caught = env->x + 1 >= env->place && env->x <= env->place + env->bat;
    view->reward = is_caught ? 1 : -1;
    env->left -= 1;
    drop_ball(env, rng);
  }
  view->terminated = env->left == 0;
  draw(env, view->observation);
  return ROLLCAGE_OK;
}

static rollcage_status render(const void *self, unsigned mode, rollcage_picture *picture) {
  (void)mode;
  uint8_t greys[SIDE * SIDE], *pixels = rollcage_pixels(picture, SIDE, SIDE);
  draw(self, greys);
  for (int index = 0; index < SIDE * SIDE; index++) memset(pixels + 3 * index, greys[index], 3);
  return ROLLCAGE_OK;
}

const rollcage_env rollcage_plugin = {
    .bytes = sizeof(struct env),
    .config = config,
    .render_modes = ROLLCAGE_RGB_ARRAY,
    .render_fps = 30,
    .create = create,
    .reset = reset,
    .step = step,
    .render = render,
};
