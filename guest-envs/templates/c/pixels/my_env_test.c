/* The env natively, without wasm and without the host. `rollcage check .` looks at much more. */

#undef NDEBUG
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "rollcage.h"

/* Where a grey begins: 255 is the ball, 160 the bat. */
static int column(const uint8_t *pixels, int grey) {
  const uint8_t *first = memchr(pixels, grey, 84 * 84);
  assert(first != NULL);
  return (int)(first - pixels) % 84;
}

static void a_bat_that_follows_the_ball_catches_it(void) {
  rollcage_session *env = rollcage_open(&rollcage_plugin, "{\"balls\": 5}");
  const rollcage_view *view = rollcage_reset(env, 7, NULL);
  double sum = 0;
  while (!view->terminated) {
    /* The bat's middle is 6 pixels from where it begins. */
    int ball = column(view->observation, 255), bat = column(view->observation, 160) + 6;
    int64_t action = ball < bat ? 0 : ball == bat ? 1 : 2;
    view = rollcage_step(env, &action);
    assert(view != NULL);
    sum += view->reward;
  }
  assert(sum >= 3);
  rollcage_close(env);
}

static void the_rendered_picture_is_the_observation_in_grey(void) {
  rollcage_session *env = rollcage_open(&rollcage_plugin, NULL);
  const uint8_t *seen = rollcage_reset(env, 3, NULL)->observation;
  const rollcage_picture *picture = rollcage_render(env, ROLLCAGE_RGB_ARRAY);
  assert(picture != NULL && picture->width == 84 && picture->height == 84);
  for (int index = 0; index < 84 * 84 * 3; index++) assert(picture->pixels[index] == seen[index / 3]);
  rollcage_close(env);
}

int main(void) {
  a_bat_that_follows_the_ball_catches_it();
  the_rendered_picture_is_the_observation_in_grey();
  puts("2 tests passed");
}
