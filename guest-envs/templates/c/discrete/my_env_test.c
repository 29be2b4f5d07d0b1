/* The env natively, without wasm and without the host. `rollcage check .` looks at much more. */

#undef NDEBUG
#include <assert.h>
#include <stdio.h>

#include "rollcage.h"

static const int64_t right = 1;

static int64_t seen(const rollcage_view *view) {
  assert(view != NULL);
  return *(const int64_t *)view->observation;
}

static void the_right_end_is_reached(void) {
  rollcage_session *env = rollcage_open(&rollcage_plugin, "{\"slip\": 0}");
  int64_t at = seen(rollcage_reset(env, 7, NULL));
  for (int step = 0; step < 8 && at < 8; step++) at = seen(rollcage_step(env, &right));
  assert(at == 8);
  assert(rollcage_step(env, &right) == NULL);
  rollcage_close(env);
}

static void equal_seeds_are_equal_episodes(void) {
  rollcage_session *one = rollcage_open(&rollcage_plugin, NULL), *other = rollcage_open(&rollcage_plugin, "{}");
  assert(seen(rollcage_reset(one, 3, NULL)) == seen(rollcage_reset(other, 3, NULL)));
  for (int step = 0; step < 5; step++) assert(seen(rollcage_step(one, &right)) == seen(rollcage_step(other, &right)));
  rollcage_close(one);
  rollcage_close(other);
}

int main(void) {
  the_right_end_is_reached();
  equal_seeds_are_equal_episodes();
  puts("2 tests passed");
}
