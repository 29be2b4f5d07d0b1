/* Uses everything that rollcage_socket.h has: `tests/tests/authors_c.rs` looks at it from outside. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rollcage.h"
#include "rollcage_socket.h"

struct env {
  rollcage_connection server;
};

static const rollcage_want wants[] = {{ROLLCAGE_WANT_TCP_CONNECT, "127.0.0.1:6000", "somebody to talk to", false}, ROLLCAGE_LAST_WANT};

static rollcage_status create(void *self, rollcage_spec *spec) {
  (void)self;
  spec->observation = rollcage_discrete(1000, 0);
  spec->action = rollcage_discrete(100, 0);
  return ROLLCAGE_OK;
}

static rollcage_status reset(void *self, rollcage_rng *rng, rollcage_view *view) {
  (void)self, (void)rng, (void)view;
  return ROLLCAGE_OK;
}

/* Says the action, and sees what is answered. It reads a file of the plugin too. */
static rollcage_status step(void *self, const void *action, rollcage_rng *rng, rollcage_view *view) {
  struct env *env = self;
  (void)rng;
  for (int times = 0; times < 2; times++) {
    char *note = rollcage_asset("note.txt", NULL);
    if (strcmp(note, "a note that each step reads\n") != 0) rollcage_fail("the note is %s", note);
    free(note);
  }
  char line[16];
  int length = snprintf(line, sizeof line, "%d\n", (int)*(const int64_t *)action);
  if (!rollcage_write(&env->server, line, (size_t)length) || !rollcage_read_line(&env->server, line, sizeof line)) {
    rollcage_fail("%s", env->server.error);
  }
  *(int64_t *)view->observation = atoll(line);
  return ROLLCAGE_OK;
}

/* `arguments` is a number: a port, or of bytes. */
static rollcage_status call(void *self, const char *method, const char *arguments) {
  struct env *env = self;
  rollcage_connection *server = &env->server;
  size_t number = (size_t)atoll(arguments);
  char *bytes = calloc(number + 1, 1);
  bool is_done = true;
  if (strcmp(method, "connect") == 0) {
    is_done = rollcage_connect(server, "127.0.0.1", (uint16_t)number);
  } else if (strcmp(method, "connect-by-name") == 0) {
    is_done = rollcage_connect(server, "localhost", (uint16_t)number);
  } else if (strcmp(method, "line") == 0) {
    is_done = rollcage_read_line(server, bytes, number);
    rollcage_answer("\"%s\"", bytes);
  } else if (strcmp(method, "read") == 0) {
    ptrdiff_t length = rollcage_read(server, bytes, number);
    is_done = length >= 0;
    rollcage_answer("\"%.*s\"", (int)length, bytes);
  } else if (strcmp(method, "write") == 0) {
    memset(bytes, 'x', number);
    if (number > 0) bytes[number - 1] = '\n';
    is_done = rollcage_write(server, bytes, number);
  } else {
    rollcage_disconnect(server);
  }
  free(bytes);
  return is_done ? ROLLCAGE_OK : rollcage_unsupported("%s", server->error);
}

const rollcage_env rollcage_plugin = {
    .bytes = sizeof(struct env), .wants = wants, .create = create, .reset = reset, .step = step, .call = call,
};
