/* The env natively, without wasm and without the host, against the real server. `rollcage check . --grants grants.toml` looks at
 * much more. */

#undef NDEBUG
#include <arpa/inet.h>
#include <assert.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "rollcage.h"
#include "rollcage_socket.h"

/* A port where nobody listens. */
static int free_port(void) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof address;
  int probe = socket(AF_INET, SOCK_STREAM, 0);
  assert(bind(probe, (struct sockaddr *)&address, sizeof address) == 0);
  assert(getsockname(probe, (struct sockaddr *)&address, &length) == 0);
  close(probe);
  return ntohs(address.sin_port);
}

/* Starts server.py, and waits until it answers. */
static pid_t served(int port) {
  char text[8];
  snprintf(text, sizeof text, "%d", port);
  pid_t server = fork();
  if (server == 0) {
    execlp("python3", "python3", "-B", "server.py", "--port", text, (char *)NULL);
    _exit(127);
  }
  static rollcage_connection probe;
  for (int waited = 0; !rollcage_connect(&probe, "localhost", (uint16_t)port); waited++) {
    assert(waited < 1000 && waitpid(server, NULL, WNOHANG) == 0);
    nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
  }
  rollcage_disconnect(&probe);
  return server;
}

static rollcage_session *env_at(int port) {
  char json[32];
  snprintf(json, sizeof json, "{\"port\": %d}", port);
  return rollcage_open(&rollcage_plugin, json);
}

static void the_number_is_found(int port) {
  rollcage_session *env = env_at(port);
  assert(env != NULL && rollcage_reset(env, 1, NULL) != NULL);
  int64_t low = 0, high = 99;
  for (int guesses = 0; guesses < 7; guesses++) {
    int64_t guess = (low + high) / 2;
    const rollcage_view *view = rollcage_step(env, &guess);
    const int64_t *seen = view->observation;
    assert(seen[1] == guess);
    if (view->terminated) {
      assert(seen[0] == 1 && view->reward == 1.0);
      assert(strstr(rollcage_render(env, ROLLCAGE_ANSI)->text, " is right") != NULL);
      rollcage_close(env);
      return;
    }
    if (seen[0] == 0) low = guess + 1;
    else high = guess - 1;
  }
  assert(!"seven guesses are enough");
}

static void an_episode_has_twelve_guesses(int port) {
  rollcage_session *env = env_at(port);
  assert(rollcage_reset(env, 1, NULL) != NULL);
  /* Seed 1 does not have this number. */
  int64_t guess = 7;
  int guesses = 1;
  while (!rollcage_step(env, &guess)->truncated) guesses++;
  assert(guesses == 12);
  rollcage_close(env);
}

static void a_missing_server_is_named(int port) {
  char words[80];
  snprintf(words, sizeof words, "127.0.0.1, port %d cannot be reached: connection refused", port);
  assert(env_at(port) == NULL);
  assert(strstr(rollcage_said(), words) != NULL);
}

int main(void) {
  int port = free_port();
  a_missing_server_is_named(port);
  pid_t server = served(port);
  the_number_is_found(port);
  an_episode_has_twelve_guesses(port);
  kill(server, SIGTERM);
  waitpid(server, NULL, 0);
  puts("3 tests passed");
}
