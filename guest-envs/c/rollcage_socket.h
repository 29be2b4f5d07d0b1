/* TCP connections for environments in C. `sockets = true` in [c] of rollcage.toml links them; a plugin without that line imports
 * nothing of sockets. The env's table of wants says to the operator what it connects to (ROLLCAGE_WANT_TCP_CONNECT), and who runs
 * the env grants it.
 *
 * All calls wait. They need no timeout: the host ends a call of the env that takes too long. Natively the same calls use the
 * sockets of the system, so tests can talk to the real server.
 *
 *   rollcage_connection server = {0};
 *   if (!rollcage_connect(&server, "127.0.0.1", 48800)) return rollcage_unsupported("%s", server.error);
 *   if (!rollcage_write(&server, "hello\n", 6)) rollcage_fail("%s", server.error);
 *   char line[256];
 *   if (!rollcage_read_line(&server, line, sizeof line)) rollcage_fail("%s", server.error); */
#ifndef ROLLCAGE_SOCKET_H
#define ROLLCAGE_SOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** A connection. It lies in the env's struct, and takes nothing from the heap. All zeros is one that is closed. */
typedef struct rollcage_connection {
  char error[640]; /* why the last call failed: a sentence without a full stop, for `rollcage_fail("%s", ...)` */
  /* The rest is the SDK's own. */
  char peer[272];
  bool is_open;
  int32_t socket, input, output;
  size_t start, end; /* what was received and not read yet */
  uint8_t received[4096];
} rollcage_connection;

/** Connects to a TCP server: a name, which is looked up, or an address. False: it cannot be reached, or it is not granted. A
 * connection that is open is closed first. */
bool rollcage_connect(rollcage_connection *connection, const char *host, uint16_t port);
/** Reads the bytes that come next, at most so many: waits for one at least. Returns how many; 0 if the other side has closed the
 * connection, -1 if it failed. */
ptrdiff_t rollcage_read(rollcage_connection *connection, void *bytes, size_t most);
/** Reads a line, without its end ("\n" or "\r\n"), and puts a 0 behind it. False: the other side has closed the connection, or
 * it failed, or the line does not fit into so many bytes. */
bool rollcage_read_line(rollcage_connection *connection, char *line, size_t bytes);
/** Sends all of the bytes. */
bool rollcage_write(rollcage_connection *connection, const void *bytes, size_t length);
/** Ends the connection. One that is closed stays so. */
void rollcage_disconnect(rollcage_connection *connection);

#endif
