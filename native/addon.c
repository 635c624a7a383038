// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/*
 * What JavaScript cannot do: hash with OpenSSL from a state that was kept elsewhere, and set SO_RCVBUF on a listening socket. `notify.c` has
 * another such thing, `durable_put.c` what it can do only slowly.
 * `src/worker/addon.ts` has the types, `src/worker/hash.ts` describes the neutral state. No state is kept here between calls, so
 * every worker thread may load it.
 */
#define NAPI_VERSION 8
#define _GNU_SOURCE
#define _DARWIN_C_SOURCE

#include <node_api.h>

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

/* Hashing ------------------------------------------------------------------------------------------------------------------ */

/* OpenSSL's SHA256_CTX and SHA512_CTX, whose layout has not changed since 0.9.8; hash.ts checks it with a known digest. */
typedef struct {
  uint32_t words[8];
  uint32_t bits_low, bits_high;
  uint8_t pending[64];
  unsigned pending_size, digest_size;
} Sha256Context;

typedef struct {
  uint64_t words[8];
  uint64_t bits_low, bits_high;
  uint8_t pending[128];
  unsigned pending_size, digest_size;
} Sha512Context;

typedef union {
  Sha256Context sha256;
  Sha512Context sha512;
} Context;

typedef struct {
  const char *name;
  size_t word_size, block_size, digest_size, state_size;
  int (*init)(void *context);
  int (*update)(void *context, const void *bytes, size_t size);
  int (*final)(uint8_t *digest, void *context);
} Algorithm;

/* The functions are looked up once and not linked: a Node without them then refuses the addon instead of dying at the first call. */
static Algorithm sha256 = {"sha256", 4, 64, 32, 8 * 4 + 8 + 64, NULL, NULL, NULL};
static Algorithm sha512 = {"sha512", 8, 128, 64, 8 * 8 + 8 + 128, NULL, NULL, NULL};
static bool openssl_found;

enum { LARGEST_STATE = 200, LARGEST_DIGEST = 64 };

/* SHA-256 counts bits in 64 bits, so a message is shorter than 2^61 bytes. */
static const uint64_t LONGEST_MESSAGE = (UINT64_C(1) << 61) - 1;

static bool find_symbol(const char *name, void *function) {
  void *address = dlsym(RTLD_DEFAULT, name);
  memcpy(function, &address, sizeof address);
  return address != NULL;
}

static void find_openssl(void) {
  openssl_found = find_symbol("SHA256_Init", &sha256.init) && find_symbol("SHA256_Update", &sha256.update) &&
                  find_symbol("SHA256_Final", &sha256.final) && find_symbol("SHA512_Init", &sha512.init) &&
                  find_symbol("SHA512_Update", &sha512.update) && find_symbol("SHA512_Final", &sha512.final);
}

static uint64_t read_big_endian(const uint8_t *from, size_t size) {
  uint64_t value = 0;
  for (size_t i = 0; i < size; i++) value = value << 8 | from[i];
  return value;
}

static void write_big_endian(uint8_t *to, size_t size, uint64_t value) {
  for (size_t i = size; i-- > 0; value >>= 8) to[i] = (uint8_t)value;
}

static uint64_t byte_count(const Algorithm *algorithm, const uint8_t *state) {
  return read_big_endian(state + 8 * algorithm->word_size, 8);
}

static void context_from_state(const Algorithm *algorithm, const uint8_t *state, Context *context) {
  const uint64_t count = byte_count(algorithm, state);
  const uint8_t *pending = state + 8 * algorithm->word_size + 8;
  const unsigned pending_size = (unsigned)(count % algorithm->block_size);
  algorithm->init(context);
  if (algorithm == &sha256) {
    Sha256Context *sha = &context->sha256;
    for (size_t i = 0; i < 8; i++) sha->words[i] = (uint32_t)read_big_endian(state + 4 * i, 4);
    sha->bits_low = (uint32_t)(count << 3);
    sha->bits_high = (uint32_t)(count >> 29);
    memcpy(sha->pending, pending, pending_size);
    sha->pending_size = pending_size;
  } else {
    Sha512Context *sha = &context->sha512;
    for (size_t i = 0; i < 8; i++) sha->words[i] = read_big_endian(state + 8 * i, 8);
    sha->bits_low = count << 3;
    sha->bits_high = count >> 61;
    memcpy(sha->pending, pending, pending_size);
    sha->pending_size = pending_size;
  }
}

static void state_from_context(const Algorithm *algorithm, const Context *context, uint64_t count, uint8_t *state) {
  uint8_t *pending = state + 8 * algorithm->word_size + 8;
  const size_t pending_size = (size_t)(count % algorithm->block_size);
  for (size_t i = 0; i < 8; i++) {
    const uint64_t word = algorithm == &sha256 ? context->sha256.words[i] : context->sha512.words[i];
    write_big_endian(state + i * algorithm->word_size, algorithm->word_size, word);
  }
  write_big_endian(state + 8 * algorithm->word_size, 8, count);
  memcpy(pending, algorithm == &sha256 ? context->sha256.pending : context->sha512.pending, pending_size);
  memset(pending + pending_size, 0, algorithm->block_size - pending_size);
}

/* Arguments: each of these throws and answers false or NULL when the value is not what is asked for. */

static bool get_arguments(napi_env env, napi_callback_info info, size_t wanted, napi_value *values) {
  size_t count = wanted;
  if (napi_get_cb_info(env, info, &count, values, NULL, NULL) == napi_ok && count >= wanted) return true;
  napi_throw_type_error(env, NULL, "too few arguments");
  return false;
}

static const Algorithm *get_algorithm(napi_env env, napi_value value) {
  char name[16];
  size_t length;
  if (napi_get_value_string_utf8(env, value, name, sizeof name, &length) == napi_ok) {
    if (strcmp(name, sha256.name) == 0) return &sha256;
    if (strcmp(name, sha512.name) == 0) return &sha512;
  }
  napi_throw_type_error(env, NULL, "algorithm must be 'sha256' or 'sha512'");
  return NULL;
}

static bool get_bytes(napi_env env, napi_value value, const char *message, uint8_t **bytes, size_t *size) {
  bool is_typed_array = false, is_detached = false;
  napi_typedarray_type type;
  napi_value buffer;
  void *data = NULL;
  if (napi_is_typedarray(env, value, &is_typed_array) == napi_ok && is_typed_array &&
      napi_get_typedarray_info(env, value, &type, size, &data, &buffer, NULL) == napi_ok && type == napi_uint8_array &&
      napi_is_detached_arraybuffer(env, buffer, &is_detached) == napi_ok && !is_detached && (data != NULL || *size == 0)) {
    *bytes = data;
    return true;
  }
  napi_throw_type_error(env, NULL, message);
  return false;
}

static uint8_t *get_state(napi_env env, const Algorithm *algorithm, napi_value value) {
  uint8_t *state;
  size_t size;
  if (!get_bytes(env, value, "state must be a Uint8Array", &state, &size)) return NULL;
  if (size != algorithm->state_size) {
    napi_throw_type_error(env, NULL, "state has the wrong length for this algorithm");
    return NULL;
  }
  return state;
}

/* update(algorithm, state, bytes): hashes `bytes` and leaves the new state in `state`. */
static napi_value update(napi_env env, napi_callback_info info) {
  napi_value arguments[3];
  if (!get_arguments(env, info, 3, arguments)) return NULL;
  const Algorithm *algorithm = get_algorithm(env, arguments[0]);
  if (algorithm == NULL) return NULL;
  uint8_t *state = get_state(env, algorithm, arguments[1]);
  if (state == NULL) return NULL;
  uint8_t *bytes;
  size_t size;
  if (!get_bytes(env, arguments[2], "bytes must be a Uint8Array that was not transferred", &bytes, &size)) return NULL;

  /* Worked on as a copy: another thread may share the memory and change it meanwhile. */
  uint8_t copy[LARGEST_STATE];
  memcpy(copy, state, algorithm->state_size);
  const uint64_t count = byte_count(algorithm, copy);
  if (count > LONGEST_MESSAGE || size > LONGEST_MESSAGE - count) {
    napi_throw_type_error(env, NULL, "state counts more bytes than the algorithm can hash");
    return NULL;
  }
  Context context;
  context_from_state(algorithm, copy, &context);
  if (size > 0) algorithm->update(&context, bytes, size);
  state_from_context(algorithm, &context, count + size, state);
  return NULL;
}

/* digest(algorithm, state): the digest of what was hashed so far; `state` stays as it is. */
static napi_value digest(napi_env env, napi_callback_info info) {
  napi_value arguments[2];
  if (!get_arguments(env, info, 2, arguments)) return NULL;
  const Algorithm *algorithm = get_algorithm(env, arguments[0]);
  if (algorithm == NULL) return NULL;
  const uint8_t *state = get_state(env, algorithm, arguments[1]);
  if (state == NULL) return NULL;

  uint8_t copy[LARGEST_STATE], result[LARGEST_DIGEST];
  memcpy(copy, state, algorithm->state_size);
  if (byte_count(algorithm, copy) > LONGEST_MESSAGE) {
    napi_throw_type_error(env, NULL, "state counts more bytes than the algorithm can hash");
    return NULL;
  }
  Context context;
  context_from_state(algorithm, copy, &context);
  algorithm->final(result, &context);

  napi_value buffer, array;
  void *data;
  if (napi_create_arraybuffer(env, algorithm->digest_size, &data, &buffer) != napi_ok) return NULL;
  memcpy(data, result, algorithm->digest_size);
  if (napi_create_typedarray(env, napi_uint8_array, algorithm->digest_size, buffer, 0, &array) != napi_ok) return NULL;
  return array;
}

/* Sockets ------------------------------------------------------------------------------------------------------------------ */

static bool get_integer(napi_env env, napi_value value, int32_t largest, const char *message, int *integer) {
  double number;
  if (napi_get_value_double(env, value, &number) == napi_ok && number >= 1 && number <= largest && number == (int32_t)number) {
    *integer = (int)number;
    return true;
  }
  napi_throw_type_error(env, NULL, message);
  return false;
}

static bool listens_on(int fd, int port) {
  int type = 0, listening = 0;
  socklen_t size = sizeof type;
  if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) != 0 || type != SOCK_STREAM) return false;
  size = sizeof listening;
  if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) != 0 || !listening) return false;

  struct sockaddr_storage storage;
  size = sizeof storage;
  if (getsockname(fd, (struct sockaddr *)&storage, &size) != 0) return false;
  if (storage.ss_family == AF_INET) {
    struct sockaddr_in address;
    memcpy(&address, &storage, sizeof address);
    return ntohs(address.sin_port) == port;
  }
  if (storage.ss_family == AF_INET6) {
    struct sockaddr_in6 address;
    memcpy(&address, &storage, sizeof address);
    return ntohs(address.sin6_port) == port;
  }
  return false;
}

/* setReceiveBuffer(port, bytes): on every socket of this process that listens on `port`. Connections inherit it when accepted. */
static napi_value set_receive_buffer(napi_env env, napi_callback_info info) {
  napi_value arguments[2];
  int port, bytes;
  if (!get_arguments(env, info, 2, arguments)) return NULL;
  if (!get_integer(env, arguments[0], 65535, "port must be an integer from 1 to 65535", &port)) return NULL;
  if (!get_integer(env, arguments[1], 1 << 30, "bytes must be an integer from 1 to 2^30", &bytes)) return NULL;

  /* On Linux a link to /proc/self/fd, on macOS a directory of its own. */
  DIR *directory = opendir("/dev/fd");
  char message[128];
  if (directory == NULL) {
    snprintf(message, sizeof message, "/dev/fd can't be read: errno %d", errno);
    napi_throw_error(env, NULL, message);
    return NULL;
  }
  uint32_t sockets = 0;
  int problem = 0;
  for (struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory)) {
    char *end;
    const long fd = strtol(entry->d_name, &end, 10);
    if (end == entry->d_name || *end != '\0' || fd < 0 || fd > INT32_MAX || !listens_on((int)fd, port)) continue;
    if (setsockopt((int)fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes) == 0) sockets++;
    else problem = errno;
  }
  closedir(directory);
  if (problem != 0) {
    snprintf(message, sizeof message, "SO_RCVBUF can't be set: errno %d", problem);
    napi_throw_error(env, NULL, message);
    return NULL;
  }
  napi_value result;
  return napi_create_uint32(env, sockets, &result) == napi_ok ? result : NULL;
}

/* The module --------------------------------------------------------------------------------------------------------------- */

/* durable_put.c */
napi_value durable_put(napi_env env, napi_callback_info info);

/* notify.c */
napi_value notify(napi_env env, napi_callback_info info);

NAPI_MODULE_INIT() {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, find_openssl);
  if (!openssl_found) {
    napi_throw_error(env, NULL, "this Node does not export OpenSSL's SHA256 and SHA512 functions");
    return NULL;
  }
  const napi_property_descriptor functions[] = {
      {"update", NULL, update, NULL, NULL, NULL, napi_enumerable, NULL},
      {"digest", NULL, digest, NULL, NULL, NULL, napi_enumerable, NULL},
      {"setReceiveBuffer", NULL, set_receive_buffer, NULL, NULL, NULL, napi_enumerable, NULL},
      {"durablePut", NULL, durable_put, NULL, NULL, NULL, napi_enumerable, NULL},
      {"notify", NULL, notify, NULL, NULL, NULL, napi_enumerable, NULL},
  };
  if (napi_define_properties(env, exports, sizeof functions / sizeof *functions, functions) != napi_ok) {
    napi_throw_error(env, NULL, "the addon's functions can't be defined");
    return NULL;
  }
  return exports;
}
