// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/*
 * durablePut(directories, temporary, path, bytes): writes a small file so that it survives a power cut, in one job of libuv's thread pool. The same in
 * JavaScript is some ten jobs, each of which costs the main thread more than the system call costs the kernel (bench/put.ts).
 */
#define NAPI_VERSION 8
#define _GNU_SOURCE
#define _DARWIN_C_SOURCE

#include <node_api.h>

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct {
  napi_async_work work;
  napi_deferred deferred;
  /* Topmost first. */
  char **directories;
  uint32_t directory_count;
  char *temporary, *path;
  uint8_t *bytes;
  size_t size;
  /* errno of what failed, and the call's name. */
  int problem;
  const char *call;
} Put;

/* On macOS fsync leaves the bytes in the drive's cache. */
static int sync_file(int fd) {
#ifdef __APPLE__
  return fcntl(fd, F_FULLFSYNC);
#else
  return fdatasync(fd);
#endif
}

static int fail(Put *put, const char *call) {
  put->problem = errno;
  put->call = call;
  return -1;
}

static int sync_directory(Put *put, const char *path) {
  const int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return fail(put, "open");
  int result = 0;
  if (fsync(fd) != 0) result = fail(put, "fsync");
  close(fd);
  return result;
}

/* Of the directory that holds `path`. */
static int sync_parent(Put *put, const char *path) {
  char *slash = strrchr(path, '/');
  if (slash == NULL || slash == path) return sync_directory(put, "/");
  *slash = '\0';
  const int result = sync_directory(put, path);
  *slash = '/';
  return result;
}

static int make_directories(Put *put) {
  for (uint32_t index = 0; index < put->directory_count; index++) {
    if (mkdir(put->directories[index], 0777) != 0 && errno != EEXIST) return fail(put, "mkdir");
  }
  return 0;
}

/* While the file is in them nobody can remove them and make them anew. */
static int sync_directories(Put *put) {
  for (uint32_t index = 0; index < put->directory_count; index++) {
    if (sync_parent(put, put->directories[index]) != 0) return -1;
  }
  return 0;
}

static int write_synced(Put *put) {
  const int fd = open(put->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (fd < 0) return fail(put, "open");
  int result = 0;
  for (size_t written = 0; written < put->size && result == 0;) {
    const ssize_t count = write(fd, put->bytes + written, put->size - written);
    if (count >= 0) written += (size_t)count;
    else if (errno != EINTR) result = fail(put, "write");
  }
  if (result == 0 && sync_file(fd) != 0) result = fail(put, "fdatasync");
  if (close(fd) != 0 && result == 0) result = fail(put, "close");
  if (result == 0 && rename(put->temporary, put->path) != 0) result = fail(put, "rename");
  if (result != 0) unlink(put->temporary);
  return result;
}

/* An empty file is whole from its first moment. */
static int make_empty(Put *put) {
  const int fd = open(put->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return fail(put, "open");
  close(fd);
  return 0;
}

static void execute(napi_env env, void *data) {
  (void)env;
  Put *put = data;
  if (make_directories(put) != 0) return;
  if ((put->size == 0 ? make_empty(put) : write_synced(put)) != 0) return;
  if (sync_parent(put, put->path) == 0) sync_directories(put);
}

static const char *error_code(int problem) {
  switch (problem) {
    case ENOENT: return "ENOENT";
    case ENOSPC: return "ENOSPC";
    case EDQUOT: return "EDQUOT";
    case EACCES: return "EACCES";
    case EPERM: return "EPERM";
    case EROFS: return "EROFS";
    case EEXIST: return "EEXIST";
    case ENOTDIR: return "ENOTDIR";
    case EISDIR: return "EISDIR";
    case EMFILE: return "EMFILE";
    case ENFILE: return "ENFILE";
    case EIO: return "EIO";
    default: return "EOTHER";
  }
}

static void release(napi_env env, Put *put) {
  if (put->work != NULL) napi_delete_async_work(env, put->work);
  for (uint32_t index = 0; index < put->directory_count; index++) free(put->directories[index]);
  free(put->directories);
  free(put->temporary);
  free(put->path);
  free(put->bytes);
  free(put);
}

static void complete(napi_env env, napi_status status, void *data) {
  Put *put = data;
  napi_value result;
  if (status == napi_ok && put->problem == 0) {
    napi_get_undefined(env, &result);
    napi_resolve_deferred(env, put->deferred, result);
  } else {
    char text[4400];
    napi_value code, message;
    const char *name = error_code(put->problem);
    snprintf(text, sizeof text, "%s: %s, %s '%s'", name, strerror(put->problem), put->call == NULL ? "durablePut" : put->call, put->path);
    napi_create_string_utf8(env, name, NAPI_AUTO_LENGTH, &code);
    napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &message);
    napi_create_error(env, code, message, &result);
    napi_reject_deferred(env, put->deferred, result);
  }
  release(env, put);
}

static char *copy_string(napi_env env, napi_value value) {
  size_t length;
  if (napi_get_value_string_utf8(env, value, NULL, 0, &length) != napi_ok) return NULL;
  char *text = malloc(length + 1);
  if (text != NULL) napi_get_value_string_utf8(env, value, text, length + 1, &length);
  return text;
}

static bool copy_directories(napi_env env, napi_value list, Put *put) {
  uint32_t count;
  if (napi_get_array_length(env, list, &count) != napi_ok) return false;
  put->directories = calloc(count == 0 ? 1 : count, sizeof *put->directories);
  if (put->directories == NULL) return false;
  for (uint32_t index = 0; index < count; index++) {
    napi_value element;
    if (napi_get_element(env, list, index, &element) != napi_ok) return false;
    put->directories[index] = copy_string(env, element);
    if (put->directories[index] == NULL) return false;
    put->directory_count = index + 1;
  }
  return true;
}

static bool copy_bytes(napi_env env, napi_value value, Put *put) {
  napi_typedarray_type type;
  size_t size;
  void *bytes;
  bool is_typed_array = false;
  if (napi_is_typedarray(env, value, &is_typed_array) != napi_ok || !is_typed_array) return false;
  if (napi_get_typedarray_info(env, value, &type, &size, &bytes, NULL, NULL) != napi_ok || type != napi_uint8_array) return false;
  put->bytes = malloc(size == 0 ? 1 : size);
  if (put->bytes == NULL) return false;
  if (size > 0) memcpy(put->bytes, bytes, size);
  put->size = size;
  return true;
}

napi_value durable_put(napi_env env, napi_callback_info info) {
  size_t count = 4;
  napi_value arguments[4], name, promise;
  Put *put = calloc(1, sizeof *put);
  if (put == NULL || napi_get_cb_info(env, info, &count, arguments, NULL, NULL) != napi_ok || count != 4 ||
      !copy_directories(env, arguments[0], put) || (put->temporary = copy_string(env, arguments[1])) == NULL ||
      (put->path = copy_string(env, arguments[2])) == NULL || !copy_bytes(env, arguments[3], put)) {
    if (put != NULL) release(env, put);
    napi_throw_type_error(env, NULL, "durablePut takes a list of directories, a temporary path, a path, and a Uint8Array");
    return NULL;
  }
  if (napi_create_string_utf8(env, "durablePut", NAPI_AUTO_LENGTH, &name) != napi_ok ||
      napi_create_promise(env, &put->deferred, &promise) != napi_ok ||
      napi_create_async_work(env, NULL, name, execute, complete, put, &put->work) != napi_ok || napi_queue_async_work(env, put->work) != napi_ok) {
    release(env, put);
    napi_throw_error(env, NULL, "durablePut could not be queued");
    return NULL;
  }
  return promise;
}
