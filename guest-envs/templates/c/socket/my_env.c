/* A game behind a socket: the server has the state, the env asks it. The protocol is a line of JSON each way. */

#include <stdio.h>

#include "rollcage.h"
#include "rollcage_socket.h"

/* Guesses of an episode at most. */
enum { GUESSES = 12 };

struct env {
  /* The config. */
  char host[254];
  int64_t port;
  /* The state: how the last guess was (0 too low, 1 right, 2 too high), and the last guess. */
  int64_t guesses, said[2];
  rollcage_connection server;
};

static const rollcage_key config[] = {
    ROLLCAGE_TEXT(struct env, host, "127.0.0.1", "Address of the server."),
    ROLLCAGE_INTEGER(struct env, port, 48800, 1, 65535, "Its port."),
    ROLLCAGE_LAST,
};

/* What the env would use of the outside. Who runs it grants it: grants.toml does. */
static const rollcage_want wants[] = {
    {ROLLCAGE_WANT_TCP_CONNECT, "127.0.0.1:{game}", "the number is kept by a server", true},
    ROLLCAGE_LAST_WANT,
};

static rollcage_status create(void *self, rollcage_spec *spec) {
  struct env *env = self;
  if (!rollcage_connect(&env->server, env->host, (uint16_t)env->port)) {
    return rollcage_unsupported("%s; `python3 server.py --port %d` starts one", env->server.error, (int)env->port);
  }
  spec->observation = rollcage_multi_discrete(ROLLCAGE_COUNTS(3, 100));
  spec->action = rollcage_discrete(100, 0);
  return ROLLCAGE_OK;
}

/* Sends a question, and reads the answer. It needs no timeout: the host ends a call that takes too long. A server may be
 * somebody else's: a line that does not fit is refused. */
static void ask(struct env *env, const char *name, int64_t value, char *answer, size_t bytes) {
  char question[64];
  int length = snprintf(question, sizeof question, "{\"%s\": %lld}\n", name, (long long)value);
  bool is_answered =
      rollcage_write(&env->server, question, (size_t)length) && rollcage_read_line(&env->server, answer, bytes);
  if (!is_answered) rollcage_fail("%s", env->server.error);
}

static void observe(const struct env *env, rollcage_view *view) {
  int64_t *seen = view->observation;
  seen[0] = env->said[0];
  seen[1] = env->said[1];
}

static rollcage_status reset(void *self, rollcage_rng *rng, rollcage_view *view) {
  struct env *env = self;
  char answer[256];
  /* The server's randomness comes from the episode's seed: the same seed is the same number. */
  ask(env, "begin", rollcage_integers(rng, 0, INT64_C(1) << 31), answer, sizeof answer);
  env->guesses = 0;
  env->said[0] = 1, env->said[1] = 0;
  observe(env, view);
  return ROLLCAGE_OK;
}

static rollcage_status step(void *self, const void *action, rollcage_rng *rng, rollcage_view *view) {
  struct env *env = self;
  int64_t guess = *(const int64_t *)action;
  (void)rng;
  char answer[256];
  int order;
  ask(env, "guess", guess, answer, sizeof answer);
  if (sscanf(answer, " { \"answer\" : %d }", &order) != 1 || order < -1 || order > 1) {
    rollcage_fail("the server's answer is not -1, 0 or 1: %s", answer);
  }
  env->guesses++;
  env->said[0] = order + 1, env->said[1] = guess;
  view->terminated = order == 0;
  view->truncated = env->guesses >= GUESSES;
  view->reward = view->terminated ? 1.0 : -0.1;
  observe(env, view);
  return ROLLCAGE_OK;
}

static rollcage_status render(const void *self, unsigned mode, rollcage_picture *picture) {
  static const char *const words[] = {"too low", "right", "too high"};
  const struct env *env = self;
  (void)mode;
  snprintf(rollcage_text(picture, 64), 64, "guess %d: %d is %s", (int)env->guesses, (int)env->said[1], words[env->said[0]]);
  return ROLLCAGE_OK;
}

static void end(void *self) {
  struct env *env = self;
  rollcage_disconnect(&env->server);
}

const rollcage_env rollcage_plugin = {
    .bytes = sizeof(struct env),
    .config = config,
    .render_modes = ROLLCAGE_ANSI,
    .render_fps = 4,
    .wants = wants,
    .create = create,
    .reset = reset,
    .step = step,
    .render = render,
    .close = end,
};
