/* The env natively, without wasm and without the host. `rollcage check .` looks at much more. */

#undef NDEBUG
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "rollcage.h"

static void the_goal_is_reached(void) {
  rollcage_session *env = rollcage_open(&rollcage_plugin, NULL);
  const rollcage_view *view = rollcage_reset(env, 7, NULL);
  for (int step = 0; step < 1000 && !view->terminated; step++) {
    /* Towards the goal, and the more gently the faster the cart goes there. */
    const float *seen = view->observation;
    float push = seen[2] - seen[0] - 2 * seen[1];
    view = rollcage_step(env, &push);
    assert(view != NULL);
  }
  assert(view->terminated && view->reward == 10);
  rollcage_close(env);
}

/* The reward of a first push. */
static double after(float push) {
  rollcage_session *env = rollcage_open(&rollcage_plugin, NULL);
  assert(rollcage_reset(env, 3, NULL) != NULL);
  double reward = rollcage_step(env, &push)->reward;
  rollcage_close(env);
  return reward;
}

static void a_push_is_clipped(void) {
  assert(after(5) == after(1));
  assert(after(0.5F) != after(1));
}

int main(void) {
  the_goal_is_reached();
  a_push_is_clipped();
  puts("2 tests passed");
}
