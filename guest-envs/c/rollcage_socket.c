/* The SDK's connections. `rollcage_socket.h` has the words for authors. `rollcage build` compiles this file where rollcage.toml
 * has `sockets = true`: in a plugin over wasi:sockets (bindings/rollcage_socket_wit.c), natively over those of the system. */
#include "rollcage_socket.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "rollcage.h"

/* Each way of reaching a server, below, has these four. A failure's words go to `error`. */
static bool opened(rollcage_connection *connection, const char *host, uint16_t port);
static ptrdiff_t receive(rollcage_connection *connection, void *to, size_t most);
static bool transmit(rollcage_connection *connection, const uint8_t *bytes, size_t length);
static void end(rollcage_connection *connection);

static bool fail(rollcage_connection *connection, const char *format, ...) ROLLCAGE_FORMAT(2);
static bool fail(rollcage_connection *connection, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(connection->error, sizeof connection->error, format, arguments);
  va_end(arguments);
  return false;
}

static bool is_open(rollcage_connection *connection) {
  if (connection->is_open) return true;
  if (connection->peer[0] == 0) return fail(connection, "there is no connection yet");
  return fail(connection, "the connection to %s is closed", connection->peer);
}

bool rollcage_connect(rollcage_connection *connection, const char *host, uint16_t port) {
  rollcage_disconnect(connection);
  snprintf(connection->peer, sizeof connection->peer, "%.253s, port %u", host, (unsigned)port);
  connection->start = connection->end = 0;
  connection->error[0] = 0;
  return connection->is_open = opened(connection, host, port);
}

ptrdiff_t rollcage_read(rollcage_connection *connection, void *bytes, size_t most) {
  if (!is_open(connection)) return -1;
  if (most == 0) return 0;
  size_t kept = connection->end - connection->start;
  if (kept == 0) return receive(connection, bytes, most);
  if (kept > most) kept = most;
  memcpy(bytes, connection->received + connection->start, kept);
  connection->start += kept;
  return (ptrdiff_t)kept;
}

bool rollcage_read_line(rollcage_connection *connection, char *line, size_t bytes) {
  if (!is_open(connection)) return false;
  /* `bytes` have room for the 0 behind the line, and for a "\r" that is cut off. */
  for (size_t length = 0;;) {
    const uint8_t *from = connection->received + connection->start;
    size_t kept = connection->end - connection->start;
    const uint8_t *newline = kept > 0 ? memchr(from, '\n', kept) : NULL;
    size_t part = newline != NULL ? (size_t)(newline - from) : kept;
    if (part >= bytes - length) return fail(connection, "%s has sent a line of more than %zu bytes", connection->peer, bytes - 1);
    if (part > 0) memcpy(line + length, from, part);
    length += part;
    connection->start += part;
    if (newline != NULL) {
      connection->start++;
      if (length > 0 && line[length - 1] == '\r') length--;
      line[length] = 0;
      return true;
    }
    ptrdiff_t more = receive(connection, connection->received, sizeof connection->received);
    if (more < 0) return false;
    connection->start = 0;
    connection->end = (size_t)more;
    if (more == 0 && length == 0) return fail(connection, "%s has closed the connection", connection->peer);
    if (more == 0) {
      line[length] = 0;
      return true;
    }
  }
}

bool rollcage_write(rollcage_connection *connection, const void *bytes, size_t length) {
  return is_open(connection) && (length == 0 || transmit(connection, bytes, length));
}

void rollcage_disconnect(rollcage_connection *connection) {
  if (connection->is_open) end(connection);
  connection->is_open = false;
}

#ifdef __wasm__

/* In the plugin ------------------------------------------------------------------------------------------------------ */

#include "rollcage_socket_wit.h"

/* The type of the component is put in by `rollcage build`, not by an object file. */
void __component_type_object_force_link_rollcage_socket_wit(void);
void __component_type_object_force_link_rollcage_socket_wit(void) {}

/* rollcage.c: what the host hands over next is put there if it fits. */
void rollcage_receive_at(void *place, size_t bytes);

#define DROP(interface, resource, name)                                                                          \
  __attribute__((__import_module__("wasi:" interface "@0.2.0"), __import_name__("[resource-drop]" resource)))    \
  extern void name(int32_t handle);

DROP("io/poll", "pollable", drop_pollable)
DROP("io/error", "error", drop_error)
DROP("io/streams", "input-stream", drop_input)
DROP("io/streams", "output-stream", drop_output)
DROP("sockets/network", "network", drop_network)
DROP("sockets/ip-name-lookup", "resolve-address-stream", drop_addresses)
DROP("sockets/tcp", "tcp-socket", drop_socket)

typedef wasi_sockets_network_error_code_t error_code;

static const char *words(error_code code) {
  static const char *const all[] = {
      "unknown", "it is not granted", "not supported", "invalid argument", "out of memory", "timeout", "concurrency conflict",
      "not in progress", "would block", "invalid state", "new socket limit", "address not bindable", "address in use",
      "remote unreachable", "connection refused", "connection reset", "connection aborted", "datagram too large",
      "name unresolvable", "temporary resolver failure", "permanent resolver failure",
  };
  return code < sizeof all / sizeof all[0] ? all[code] : all[0];
}

static void wait_for(wasi_io_poll_own_pollable_t pollable) {
  wasi_io_poll_method_pollable_block((wasi_io_poll_borrow_pollable_t){pollable.__handle});
  drop_pollable(pollable.__handle);
}

/* Connects to one of a name's addresses. */
static bool reached(rollcage_connection *connection, wasi_sockets_network_borrow_network_t network,
                    const wasi_sockets_network_ip_address_t *address, uint16_t port, error_code *error) {
  wasi_sockets_network_ip_socket_address_t to = {.tag = address->tag};
  if (address->tag == WASI_SOCKETS_NETWORK_IP_ADDRESS_IPV4) {
    to.val.ipv4 = (wasi_sockets_network_ipv4_socket_address_t){port, address->val.ipv4};
  } else {
    to.val.ipv6 = (wasi_sockets_network_ipv6_socket_address_t){port, 0, address->val.ipv6, 0};
  }
  wasi_sockets_tcp_own_tcp_socket_t made;
  /* The families have the numbers of the addresses' cases. */
  if (!wasi_sockets_tcp_create_socket_create_tcp_socket(address->tag, &made, error)) return false;
  wasi_sockets_tcp_borrow_tcp_socket_t socket = {made.__handle};
  wasi_sockets_tcp_tuple2_own_input_stream_own_output_stream_t streams;
  bool is_begun = wasi_sockets_tcp_method_tcp_socket_start_connect(socket, network, &to, error);
  if (is_begun) wait_for(wasi_sockets_tcp_method_tcp_socket_subscribe(socket));
  if (!is_begun || !wasi_sockets_tcp_method_tcp_socket_finish_connect(socket, &streams, error)) {
    drop_socket(made.__handle);
    return false;
  }
  connection->socket = made.__handle;
  connection->input = streams.f0.__handle;
  connection->output = streams.f1.__handle;
  return true;
}

static bool opened(rollcage_connection *connection, const char *host, uint16_t port) {
  wasi_sockets_instance_network_own_network_t made = wasi_sockets_instance_network_instance_network();
  wasi_sockets_network_borrow_network_t network = {made.__handle};
  rollcage_socket_wit_string_t name = {(uint8_t *)host, strlen(host)};
  wasi_sockets_ip_name_lookup_own_resolve_address_stream_t found;
  /* The first address' failure is the one to tell: the next address may answer. */
  error_code error = WASI_SOCKETS_NETWORK_ERROR_CODE_NAME_UNRESOLVABLE, first = error;
  bool is_connected = false, is_tried = false;
  bool is_found = wasi_sockets_ip_name_lookup_resolve_addresses(network, &name, &found, &error);
  if (is_found) {
    wasi_sockets_ip_name_lookup_borrow_resolve_address_stream_t addresses = {found.__handle};
    wait_for(wasi_sockets_ip_name_lookup_method_resolve_address_stream_subscribe(addresses));
    while (!is_connected) {
      wasi_sockets_ip_name_lookup_option_ip_address_t next;
      is_found = wasi_sockets_ip_name_lookup_method_resolve_address_stream_resolve_next_address(addresses, &next, &error);
      if (!is_found || !next.is_some) break;
      is_connected = reached(connection, network, &next.val, port, &error);
      if (!is_tried) first = error;
      is_tried = true;
    }
    drop_addresses(found.__handle);
  }
  drop_network(made.__handle);
  if (is_connected) return true;
  if (is_tried) return fail(connection, "%s cannot be reached: %s", connection->peer, words(first));
  return fail(connection, "%.253s cannot be looked up: %s", host, words(error));
}

/* The words of a stream's failure. */
static bool lost(rollcage_connection *connection, const char *what, const wasi_io_streams_stream_error_t *error) {
  if (error->tag == WASI_IO_STREAMS_STREAM_ERROR_CLOSED) {
    return fail(connection, "%s %s: it has closed the connection", connection->peer, what);
  }
  int32_t handle = error->val.last_operation_failed.__handle;
  char place[256];
  rollcage_socket_wit_string_t why = {NULL, 0};
  rollcage_receive_at(place, sizeof place);
  wasi_io_error_method_error_to_debug_string((wasi_io_error_borrow_error_t){handle}, &why);
  rollcage_receive_at(NULL, 0);
  drop_error(handle);
  return fail(connection, "%s %s: %.*s", connection->peer, what, (int)why.len, (const char *)why.ptr);
}

static ptrdiff_t receive(rollcage_connection *connection, void *to, size_t most) {
  wasi_io_streams_borrow_input_stream_t input = {connection->input};
  wasi_io_streams_stream_error_t error;
  rollcage_socket_wit_list_u8_t got = {NULL, 0};
  rollcage_receive_at(to, most);
  bool is_read = wasi_io_streams_method_input_stream_blocking_read(input, most, &got, &error);
  rollcage_receive_at(NULL, 0);
  if (is_read) return (ptrdiff_t)got.len;
  if (error.tag == WASI_IO_STREAMS_STREAM_ERROR_CLOSED) return 0;
  lost(connection, "cannot be read from", &error);
  return -1;
}

static bool transmit(rollcage_connection *connection, const uint8_t *bytes, size_t length) {
  wasi_io_streams_borrow_output_stream_t output = {connection->output};
  /* At most 4,096 bytes are written at once. */
  for (size_t at = 0; at < length; at += 4096) {
    rollcage_socket_wit_list_u8_t part = {(uint8_t *)bytes + at, length - at < 4096 ? length - at : 4096};
    wasi_io_streams_stream_error_t error;
    if (!wasi_io_streams_method_output_stream_blocking_write_and_flush(output, &part, &error)) {
      return lost(connection, "cannot be written to", &error);
    }
  }
  return true;
}

static void end(rollcage_connection *connection) {
  /* The streams are the socket's children: they go first. */
  drop_input(connection->input);
  drop_output(connection->output);
  drop_socket(connection->socket);
}

#else

/* Natively ----------------------------------------------------------------------------------------------------------- */

#include <errno.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0
#endif

/* What an error of the system's says, as it reads after a colon. */
static const char *words(int number) {
  static char text[128];
  snprintf(text, sizeof text, "%s", strerror(number));
  text[0] = (char)tolower((unsigned char)text[0]);
  return text;
}

static bool opened(rollcage_connection *connection, const char *host, uint16_t port) {
  char service[8];
  snprintf(service, sizeof service, "%u", (unsigned)port);
  struct addrinfo wanted = {.ai_socktype = SOCK_STREAM}, *found = NULL;
  int refused = getaddrinfo(host, service, &wanted, &found);
  if (refused != 0) return fail(connection, "%.253s cannot be looked up: %s", host, gai_strerror(refused));
  int first = 0;
  connection->socket = -1;
  for (struct addrinfo *each = found; each != NULL && connection->socket < 0; each = each->ai_next) {
    int made = socket(each->ai_family, each->ai_socktype, each->ai_protocol);
    if (made >= 0 && connect(made, each->ai_addr, each->ai_addrlen) == 0) {
      connection->socket = made;
      break;
    }
    if (first == 0) first = errno;
    if (made >= 0) close(made);
  }
  freeaddrinfo(found);
  return connection->socket >= 0 ? true : fail(connection, "%s cannot be reached: %s", connection->peer, words(first));
}

static ptrdiff_t receive(rollcage_connection *connection, void *to, size_t most) {
  for (;;) {
    ssize_t got = recv(connection->socket, to, most, 0);
    if (got >= 0) return got;
    if (errno == EINTR) continue;
    fail(connection, "%s cannot be read from: %s", connection->peer, words(errno));
    return -1;
  }
}

static bool transmit(rollcage_connection *connection, const uint8_t *bytes, size_t length) {
  while (length > 0) {
    ssize_t sent = send(connection->socket, bytes, length, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return fail(connection, "%s cannot be written to: %s", connection->peer, words(errno));
    bytes += sent;
    length -= (size_t)sent;
  }
  return true;
}

static void end(rollcage_connection *connection) { close(connection->socket); }

#endif
