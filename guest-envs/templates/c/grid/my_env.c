/* A maze from a file: find the key, then the door. Moves that lead into a wall are masked. */

#include <stdlib.h>
#include <string.h>

#include "rollcage.h"

/* The level. It travels inside the plugin: `assets` in rollcage.toml names it. */
#define LEVEL "levels/first.txt"

/* A row and a column. */
struct place {
  int64_t row, column;
};

/* Up, right, down, left. */
static const struct place moves[4] = {{-1, 0}, {0, 1}, {1, 0}, {0, -1}};

struct env {
  /* The config. */
  int64_t fog;
  double slip;
  /* What the agent sees, and what a step tells beside it. */
  rollcage_space *view, *place_seen, *has_key_seen, *distance;
  /* The maze: rows * columns cells, and the places where an episode may begin. */
  int64_t rows, columns;
  char *cells;
  struct place *starts;
  size_t start_count;
  struct place key, door;
  /* The state. */
  struct place at;
  bool has_key;
};

static const rollcage_key config[] = {
    ROLLCAGE_INTEGER(struct env, fog, 2, 1, 9, "How many cells the agent sees in every direction."),
    ROLLCAGE_NUMBER(struct env, slip, 0.05, 0, 1, "Probability that a move is another open one."),
    ROLLCAGE_LAST,
};

/* Reads the level. It runs once, before the first episode. */
static void read_level(struct env *env) {
  size_t bytes;
  char *text = rollcage_asset(LEVEL, &bytes);
  if (text == NULL) rollcage_fail("there is no " LEVEL);
  env->cells = malloc(bytes + 1);
  env->starts = malloc((bytes + 1) * sizeof *env->starts);
  if (env->cells == NULL || env->starts == NULL) rollcage_fail("no memory for " LEVEL);
  bool has_key = false, has_door = false;
  for (char *line = strtok(text, "\r\n"); line != NULL; line = strtok(NULL, "\r\n"), env->rows++) {
    int64_t length = (int64_t)strlen(line);
    if (env->rows > 0 && length != env->columns) rollcage_fail(LEVEL ": all lines of a level have the same length");
    env->columns = length;
    memcpy(env->cells + env->rows * length, line, (size_t)length);
    for (int64_t column = 0; column < length; column++) {
      struct place place = {env->rows, column};
      switch (line[column]) {
        case '.': case 's': env->starts[env->start_count++] = place; break;
        case 'k': env->key = place, has_key = true; break;
        case 'd': env->door = place, has_door = true; break;
        default: break;
      }
    }
  }
  free(text);
  if (!has_key || !has_door || env->start_count == 0) {
    rollcage_fail(LEVEL ": a level has floor (.), a key (k) and a door (d)");
  }
}

/* The cell at a place; outside the maze there is wall. */
static char cell(const struct env *env, struct place place) {
  bool is_inside = place.row >= 0 && place.row < env->rows && place.column >= 0 && place.column < env->columns;
  return is_inside ? env->cells[place.row * env->columns + place.column] : '#';
}

static struct place moved(const struct env *env, struct place by) {
  return (struct place){env->at.row + by.row, env->at.column + by.column};
}

static rollcage_status create(void *self, rollcage_spec *spec) {
  struct env *env = self;
  read_level(env);
  uint32_t side = (uint32_t)(2 * env->fog + 1);
  /* The cells around the agent, row by row: 0 wall, 1 floor, 2 key, 3 door. */
  env->view = rollcage_box(ROLLCAGE_UINT8, ROLLCAGE_SHAPE(side, side), 0, 3);
  env->place_seen = rollcage_multi_discrete(ROLLCAGE_COUNTS(env->rows, env->columns));
  env->has_key_seen = rollcage_discrete(2, 0);
  spec->observation = rollcage_dict(
      ROLLCAGE_ENTRIES({"view", env->view}, {"place", env->place_seen}, {"has_key", env->has_key_seen}));
  spec->action = rollcage_discrete(4, 0);
  /* Rows and columns to the key, and then to the door. */
  env->distance = rollcage_info(spec, "distance", rollcage_box(ROLLCAGE_INT64, ROLLCAGE_SCALAR, 0, 1000));
  /* The mask is advice: a closed move is taken, and leads nowhere. ROLLCAGE_MASK_RULE makes it a rule. */
  spec->masking = ROLLCAGE_MASK_ADVICE;
  spec->max_episode_steps = 500;
  return ROLLCAGE_OK;
}

static void observe(const struct env *env, rollcage_view *view) {
  uint8_t *seen = env->view->value;
  for (int64_t down = -env->fog; down <= env->fog; down++) {
    for (int64_t right = -env->fog; right <= env->fog; right++) {
      char there = cell(env, moved(env, (struct place){down, right}));
      *seen++ = there == '#' ? 0 : there == 'k' ? 2 : there == 'd' ? 3 : 1;
    }
  }
  int64_t *place = env->place_seen->value, *has_key = env->has_key_seen->value;
  place[0] = env->at.row;
  place[1] = env->at.column;
  *has_key = env->has_key;
  struct place to = env->has_key ? env->door : env->key;
  int64_t *distance = rollcage_tell(env->distance);
  *distance = llabs(to.row - env->at.row) + llabs(to.column - env->at.column);
  for (int action = 0; action < 4; action++) view->mask[action] = cell(env, moved(env, moves[action])) != '#';
}

static rollcage_status reset(void *self, rollcage_rng *rng, rollcage_view *view) {
  struct env *env = self;
  env->at = env->starts[rollcage_choice(rng, env->start_count)];
  env->has_key = false;
  observe(env, view);
  return ROLLCAGE_OK;
}

static rollcage_status step(void *self, const void *action, rollcage_rng *rng, rollcage_view *view) {
  struct env *env = self;
  struct place open[4], next = moved(env, moves[*(const int64_t *)action]);
  size_t open_count = 0;
  for (int index = 0; index < 4; index++) {
    struct place place = moved(env, moves[index]);
    if (cell(env, place) != '#') open[open_count++] = place;
  }
  if (rollcage_random(rng) < env->slip && open_count > 0) next = open[rollcage_choice(rng, open_count)];
  if (cell(env, next) != '#') env->at = next;
  bool is_found = cell(env, env->at) == 'k' && !env->has_key;
  env->has_key |= is_found;
  view->terminated = cell(env, env->at) == 'd' && env->has_key;
  view->reward = view->terminated ? 1 : is_found ? 0.5 : -0.01;
  observe(env, view);
  return ROLLCAGE_OK;
}

/* The colour of a cell, and of the agent: `a` before it has the key, `A` with it. */
static uint32_t colour(char cell) {
  switch (cell) {
    case '#': return 0x3c3c3c;
    case 'k': return 0xf0c828;
    case 'd': return 0x965a28;
    case 'a': return 0xc83232;
    case 'A': return 0x28a03c;
    default: return 0xe6e6e6;
  }
}

static rollcage_status render(const void *self, unsigned mode, rollcage_picture *picture) {
  const struct env *env = self;
  bool is_text = mode == ROLLCAGE_ANSI;
  char *text = is_text ? rollcage_text(picture, (size_t)(env->rows * (env->columns + 1) - 1)) : NULL;
  if (!is_text) rollcage_pixels(picture, (uint32_t)env->columns * 16, (uint32_t)env->rows * 16);
  for (int64_t row = 0; row < env->rows; row++) {
    for (int64_t column = 0; column < env->columns; column++) {
      bool is_agent = row == env->at.row && column == env->at.column;
      char shown = is_agent ? (env->has_key ? 'A' : 'a') : cell(env, (struct place){row, column});
      if (is_text) *text++ = shown;
      else rollcage_rectangle(picture, column * 16, row * 16, 16, 16, colour(shown));
    }
    if (is_text && row + 1 < env->rows) *text++ = '\n';
  }
  return ROLLCAGE_OK;
}

static void end(void *self) {
  struct env *env = self;
  free(env->cells);
  free(env->starts);
}

const rollcage_env rollcage_plugin = {
    .bytes = sizeof(struct env),
    .config = config,
    .render_modes = ROLLCAGE_RGB_ARRAY | ROLLCAGE_ANSI,
    .render_fps = 8,
    .create = create,
    .reset = reset,
    .step = step,
    .render = render,
    .close = end,
};
