/* A cart on a rail: push it to a place, and let it stand still there. */

#include <string.h>

#include "rollcage.h"

/* Seconds between two states. */
#define TAU 0.05
/* How far the rail goes to either side, in metres. */
#define RAIL 2.0
/* The greatest speed, in metres a second. */
#define SPEED 10.0

struct env {
  /* The config. */
  double friction;
  /* The state. */
  double position, speed, goal;
};

static const rollcage_key config[] = {
    ROLLCAGE_NUMBER(struct env, friction, 0.1, 0, 1, "The part of its speed that the cart loses in a second."),
    ROLLCAGE_LAST,
};

static double clipped(double value, double limit) { return value < -limit ? -limit : value > limit ? limit : value; }

static rollcage_status create(void *self, rollcage_spec *spec) {
  (void)self;
  const float high[3] = {RAIL, SPEED, RAIL}, low[3] = {-RAIL, -SPEED, -RAIL};
  spec->observation = rollcage_bounded(rollcage_box(ROLLCAGE_FLOAT32, ROLLCAGE_SHAPE(3), 0, 0), low, high);
  spec->action = rollcage_box(ROLLCAGE_FLOAT32, ROLLCAGE_SHAPE(1), -1, 1);
  /* `step` clips pushes itself. Without this, those beyond 1 are refused. */
  spec->clips_actions = true;
  spec->max_episode_steps = 200;
  return ROLLCAGE_OK;
}

static void observe(const struct env *env, rollcage_view *view) {
  float *seen = view->observation;
  seen[0] = (float)env->position;
  seen[1] = (float)env->speed;
  seen[2] = (float)env->goal;
}

static rollcage_status reset(void *self, rollcage_rng *rng, rollcage_view *view) {
  struct env *env = self;
  env->position = rollcage_uniform(rng, -RAIL, RAIL);
  env->goal = rollcage_uniform(rng, -RAIL, RAIL);
  env->speed = 0;
  observe(env, view);
  return ROLLCAGE_OK;
}

static rollcage_status step(void *self, const void *action, rollcage_rng *rng, rollcage_view *view) {
  (void)rng;
  struct env *env = self;
  double push = clipped(*(const float *)action, 1);
  env->speed = clipped(env->speed * (1 - env->friction * TAU) + push * TAU, SPEED);
  env->position += env->speed * TAU;
  if (fabs(env->position) > RAIL) {
    /* The end of the rail is soft. */
    env->position = copysign(RAIL, env->position);
    env->speed = 0;
  }
  double away = fabs(env->position - env->goal);
  view->terminated = away < 0.05 && fabs(env->speed) < 0.1;
  view->reward = view->terminated ? 10 : -away - 0.1 * push * push;
  observe(env, view);
  return ROLLCAGE_OK;
}

static rollcage_status render(const void *self, unsigned mode, rollcage_picture *picture) {
  const struct env *env = self;
  (void)mode;
  char *cells = rollcage_text(picture, 41);
  memset(cells, '-', 41);
  cells[(int)round((env->goal / RAIL + 1) * 20)] = '|';
  cells[(int)round((env->position / RAIL + 1) * 20)] = 'O';
  return ROLLCAGE_OK;
}

const rollcage_env rollcage_plugin = {
    .bytes = sizeof(struct env),
    .config = config,
    .render_modes = ROLLCAGE_ANSI,
    .render_fps = 20,
    .create = create,
    .reset = reset,
    .step = step,
    .render = render,
};
