// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/* Tells a service manager something, as sd_notify(3) does: Node has no datagram sockets of the Unix domain. */
#define NAPI_VERSION 8
#define _GNU_SOURCE
#define _DARWIN_C_SOURCE

#include <node_api.h>

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

enum { LARGEST_MESSAGE = 4096 };

static bool get_text(napi_env env, napi_value value, char *text, size_t size, size_t *length, const char *message) {
  if (napi_get_value_string_utf8(env, value, NULL, 0, length) == napi_ok && *length > 0 && *length < size &&
      napi_get_value_string_utf8(env, value, text, size, length) == napi_ok)
    return true;
  napi_throw_type_error(env, NULL, message);
  return false;
}

static napi_value fail(napi_env env, const char *what, int code) {
  char message[128];
  snprintf(message, sizeof message, "%s: %s", what, strerror(code));
  napi_throw_error(env, NULL, message);
  return NULL;
}

/* notify(address, message): one datagram to a socket's path, or to the abstract name that follows an `@`. Waits at most a second for room in its queue. */
napi_value notify(napi_env env, napi_callback_info info) {
  napi_value arguments[2];
  size_t count = 2;
  if (napi_get_cb_info(env, info, &count, arguments, NULL, NULL) != napi_ok || count < 2) {
    napi_throw_type_error(env, NULL, "too few arguments");
    return NULL;
  }
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  size_t address_length, message_length;
  char message[LARGEST_MESSAGE];
  if (!get_text(env, arguments[0], address.sun_path, sizeof address.sun_path, &address_length, "address must be a short path or @name"))
    return NULL;
  if (!get_text(env, arguments[1], message, sizeof message, &message_length, "message must be a text of 1 to 4095 bytes")) return NULL;
  if (address.sun_path[0] == '@') address.sun_path[0] = '\0';

  const int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
  if (fd < 0) return fail(env, "no socket", errno);
  const struct timeval patience = {.tv_sec = 1};
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  const socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + address_length);
  const ssize_t sent = sendto(fd, message, message_length, 0, (struct sockaddr *)&address, size);
  const int problem = errno;
  close(fd);
  if (sent != (ssize_t)message_length) return fail(env, "the service manager's socket takes nothing", problem);
  return NULL;
}
