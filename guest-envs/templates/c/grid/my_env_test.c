/* The env natively, without wasm and without the host. It reads its level from the working directory. `rollcage check .`
 * looks at much more. */

#undef NDEBUG
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "rollcage.h"

static void the_key_opens_the_door(void) {
  rollcage_session *env = rollcage_open(&rollcage_plugin, "{\"slip\": 0}");
  const rollcage_view *view = rollcage_reset(env, 7, NULL);
  /* Open moves at random lead to the key at last, and then to the door. */
  rollcage_rng rng = rollcage_seeded(7);
  double sum = 0;
  for (int step = 0; step < 100000 && !view->terminated; step++) {
    int64_t action = rollcage_integers(&rng, 0, 4);
    if (!view->mask[action]) continue;
    view = rollcage_step(env, &action);
    assert(view != NULL);
    if (view->reward > 0) sum += view->reward;
  }
  assert(view->terminated && sum == 1.5);
  rollcage_close(env);
}

static void walls_stop_the_agent(void) {
  rollcage_session *env = rollcage_open(&rollcage_plugin, "{\"slip\": 0}");
  const rollcage_view *view = rollcage_reset(env, 1, NULL);
  const int64_t up = 0;
  /* The view comes first in the observation, 25 bytes; at the next multiple of 8 begins the place, a row and a column. */
  const int64_t *place = (const int64_t *)((const uint8_t *)view->observation + 32);
  for (int step = 0; step < 10; step++) {
    int64_t row = place[0];
    bool is_open = view->mask[up];
    view = rollcage_step(env, &up);
    assert(place[0] == row - is_open);
  }
  rollcage_close(env);
}

static void there_are_two_pictures(void) {
  rollcage_session *env = rollcage_open(&rollcage_plugin, NULL);
  assert(rollcage_reset(env, 1, NULL) != NULL);
  const rollcage_picture *picture = rollcage_render(env, ROLLCAGE_ANSI);
  assert(picture != NULL && strncmp(picture->text, "##########\n", 11) == 0 && strchr(picture->text, 'a') != NULL);
  picture = rollcage_render(env, ROLLCAGE_RGB_ARRAY);
  assert(picture != NULL && picture->width == 160 && picture->height == 112);
  rollcage_close(env);
}

int main(void) {
  the_key_opens_the_door();
  walls_stop_the_agent();
  there_are_two_pictures();
  puts("3 tests passed");
}
