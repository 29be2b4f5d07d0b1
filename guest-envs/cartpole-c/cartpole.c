/* CartPole in C, state for state Gymnasium's `CartPole-v1`: the twin of `guest-envs/cartpole`, with its digest. */

#include "rollcage.h"

#define GRAVITY 9.8
#define MASS_POLE 0.1
#define TOTAL_MASS (MASS_POLE + 1.0)
/* Half the pole's length, in metres. */
#define LENGTH 0.5
#define POLE_MASS_LENGTH (MASS_POLE * LENGTH)
/* The force of a push, in newtons. */
#define FORCE 10.0
/* The time from one state to the next, in seconds. */
#define TAU 0.02
/* Where an episode ends: the pole's angle in radians, the cart's position in metres. */
#define THETA_LIMIT (12.0 * 2.0 * 3.14159265358979323846 / 360.0)
#define X_LIMIT 2.4

struct env {
  /* The config. */
  bool sutton_barto_reward;
  /* The options of a reset. */
  double low, high;
  /* Position, velocity, angle, angular velocity. */
  double state[4];
};

static const rollcage_key config[] = {
    ROLLCAGE_FLAG(struct env, sutton_barto_reward, false,
                  "Reward 0 for every step and -1 for the fall, as Sutton and Barto have it, instead of 1 for every step."),
    ROLLCAGE_LAST,
};

static const rollcage_key options[] = {
    ROLLCAGE_NUMBER(struct env, low, -0.05, -INFINITY, INFINITY, "The least of the first state."),
    ROLLCAGE_NUMBER(struct env, high, 0.05, -INFINITY, INFINITY, "The greatest of the first state."),
    ROLLCAGE_LAST,
};

static rollcage_status create(void *self, rollcage_spec *spec) {
  (void)self;
  /* Twice the limits, so that the state in which an episode ends is in the space too. */
  const float high[4] = {(float)(X_LIMIT * 2), INFINITY, (float)(THETA_LIMIT * 2), INFINITY};
  const float low[4] = {-high[0], -high[1], -high[2], -high[3]};
  spec->observation = rollcage_bounded(rollcage_box(ROLLCAGE_FLOAT32, ROLLCAGE_SHAPE(4), 0, 0), low, high);
  spec->action = rollcage_discrete(2, 0);
  spec->max_episode_steps = 500;
  spec->reward_threshold = 475;
  return ROLLCAGE_OK;
}

static void observe(const struct env *env, rollcage_view *view) {
  float *seen = view->observation;
  for (int index = 0; index < 4; index++) seen[index] = (float)env->state[index];
}

static rollcage_status reset(void *self, rollcage_rng *rng, rollcage_view *view) {
  struct env *env = self;
  if (env->low > env->high) return rollcage_bad_options("`low` (%g) is greater than `high` (%g)", env->low, env->high);
  if (!isfinite(env->high - env->low)) {
    return rollcage_bad_options("`low` (%g) and `high` (%g) are too far apart", env->low, env->high);
  }
  for (int index = 0; index < 4; index++) env->state[index] = rollcage_uniform(rng, env->low, env->high);
  observe(env, view);
  return ROLLCAGE_OK;
}

static rollcage_status step(void *self, const void *action, rollcage_rng *rng, rollcage_view *view) {
  (void)rng;
  struct env *env = self;
  double *state = env->state, theta = state[2], theta_dot = state[3];
  double force = *(const int64_t *)action == 1 ? FORCE : -FORCE;
  double sine = sin(theta), cosine = cos(theta);

  /* R. V. Florian, "Correct equations for the dynamics of the cart-pole system", without friction. */
  double push = (force + POLE_MASS_LENGTH * (theta_dot * theta_dot) * sine) / TOTAL_MASS;
  double theta_acc =
      (GRAVITY * sine - cosine * push) / (LENGTH * (4.0 / 3.0 - MASS_POLE * (cosine * cosine) / TOTAL_MASS));
  double x_acc = push - POLE_MASS_LENGTH * theta_acc * cosine / TOTAL_MASS;
  state[0] += TAU * state[1];
  state[1] += TAU * x_acc;
  state[2] += TAU * theta_dot;
  state[3] += TAU * theta_acc;

  view->terminated = fabs(state[0]) > X_LIMIT || fabs(state[2]) > THETA_LIMIT;
  view->reward = env->sutton_barto_reward ? (view->terminated ? -1 : 0) : 1;
  observe(env, view);
  return ROLLCAGE_OK;
}

const rollcage_env rollcage_plugin = {
    .bytes = sizeof(struct env),
    .config = config,
    .options = options,
    .create = create,
    .reset = reset,
    .step = step,
};
