/* One host connection's link to the service: connected when first used, with a time limit and
 * an ear for sqlite3_interrupt() in every wait. */
#define _GNU_SOURCE
#include "sqlembed.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "functions.h"

SQLITE_EXTENSION_INIT3

enum { STASH_BYTES = 8192, DEFAULT_SECONDS = 10, MOST_SECONDS = 86400, MOST_STARTS = 2, SPIN_US = 60 };

static void say(struct link *link, const char *format, va_list arguments) {
  char *problem = sqlite3_vmprintf(format, arguments); /* of the last one's words, perhaps */
  sqlite3_free(link->problem);
  link->problem = problem;
}

int link_fail(struct link *link, int code, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  say(link, format, arguments);
  va_end(arguments);
  return code;
}

int link_broken(struct link *link, int code, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  say(link, format, arguments);
  va_end(arguments);
  link_close(link);
  return code;
}

/* In a fork, and in a host that closes all files to become a daemon, the number may belong to
   another file by now: a stranger must not be told our texts, nor a database be closed. */
static int still_ours(struct link *link) {
  struct stat found;
  return fstat(link->fd, &found) == 0 && found.st_dev == link->device && found.st_ino == link->inode;
}

void link_close(struct link *link) {
  if (link->fd >= 0 && still_ours(link)) {
    /* A fork may hold it too, and the service must see the end. */
    if (link->process == getpid()) shutdown(link->fd, SHUT_RDWR);
    close(link->fd);
  }
  link->fd = -1;
  link->stashed = 0;
}

/* sqlite3_is_interrupted() came with 3.41; that a statement is refused tells the same. This one
   takes some thousand steps, so that a host's progress handler (a time limit) is asked as well. */
int link_interrupted(struct link *link) {
  static const char STEPS[] =
      "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 300) SELECT count(n) FROM c";
  return sqlite3_exec(link->db, STEPS, NULL, NULL, NULL) == SQLITE_INTERRUPT;
}

/* A program that was stopped itself has waited for nothing, so no wait counts for more than a slice;
   and a host's timer may cut waits short, a thousand a second, so none counts for more than it took. */
int link_wait(struct link *link, struct wait *wait) {
  int64_t now = milliseconds(), passed = now - wait->since;
  wait->since = now;
  wait->left -= passed < SLICE_MS ? passed : SLICE_MS;
  if (link_interrupted(link)) return SQLITE_INTERRUPT;
  return wait->left < 0 ? GONE : SQLITE_OK;
}

static long seconds_allowed(void) {
  const char *given = getenv("SQLEMBED_TIMEOUT");
  long seconds = given ? strtol(given, NULL, 10) : 0;
  return seconds > 0 && seconds < MOST_SECONDS ? seconds : DEFAULT_SECONDS;
}

static char *socket_path(void) {
  const char *chosen = getenv("SQLEMBED_SOCKET"), *runtime = getenv("XDG_RUNTIME_DIR");
  long user = (long)geteuid();
  char usual[64];
  struct stat found;
  if (chosen && *chosen) return sqlite3_mprintf("%s", chosen);
  snprintf(usual, sizeof usual, "/run/user/%ld", user);
  if (!runtime || !*runtime) /* cron and sudo set no XDG_RUNTIME_DIR, and must find the same service */
    runtime = stat(usual, &found) == 0 && (long)found.st_uid == user ? usual : NULL;
  if (runtime) return sqlite3_mprintf("%s/sqlembed/service.sock", runtime);
  return sqlite3_mprintf("/tmp/sqlembed-%ld/service.sock", user);
}

/* The user at the other end: somebody else's service must not be told our texts. */
static int peer(int fd, uid_t *user) {
#ifdef SO_PEERCRED
  struct ucred found;
  socklen_t size = sizeof found;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &found, &size)) return -1;
  *user = found.uid;
  return 0;
#else
  gid_t group;
  return getpeereid(fd, user, &group);
#endif
}

static int connect_to(struct link *link, const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  struct timeval slice = {0, SLICE_MS * 1000};
  uid_t user = 0;
  if (strlen(path) >= sizeof address.sun_path)
    return link_fail(link, GONE,
                     "the path of sqlembed's socket has %d bytes, and a socket's has at most %d; set"
                     " SQLEMBED_SOCKET to a shorter one: %s",
                     (int)strlen(path), (int)sizeof address.sun_path - 1, path);
  strcpy(address.sun_path, path);
#ifdef SOCK_CLOEXEC
  link->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
#else
  link->fd = socket(AF_UNIX, SOCK_STREAM, 0);
  if (link->fd >= 0) fcntl(link->fd, F_SETFD, FD_CLOEXEC);
#endif
  link->fd = above_stdio(link->fd);
  struct stat own;
  if (link->fd < 0 || fstat(link->fd, &own))
    return link_fail(link, GONE, "no socket: %s", strerror(errno));
  link->process = getpid();
  link->device = own.st_dev;
  link->inode = own.st_ino;
#ifdef SO_NOSIGPIPE
  int on = 1;
  setsockopt(link->fd, SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof on);
#endif
  /* A wait ends after a slice, to look for an interrupt; also connect()'s, on a full backlog. */
  setsockopt(link->fd, SOL_SOCKET, SO_RCVTIMEO, &slice, sizeof slice);
  setsockopt(link->fd, SOL_SOCKET, SO_SNDTIMEO, &slice, sizeof slice);
  if (connect(link->fd, (struct sockaddr *)&address, sizeof address)) {
    int reason = errno;
    link_close(link);
    if (reason == ENOENT || reason == ECONNREFUSED) return SQLITE_NOTFOUND;
    if (reason == EAGAIN || reason == EINTR || reason == ETIMEDOUT) return SQLITE_BUSY;
    return link_fail(link, GONE, "cannot connect to sqlembed's service at %s: %s", path,
                     strerror(reason));
  }
  if (peer(link->fd, &user) || user != geteuid())
    return link_broken(link, GONE,
                       "the service at %s is run by user %ld, and this is user %ld; set"
                       " SQLEMBED_SOCKET to a path of your own",
                       path, (long)user, (long)geteuid());
  link->patience = seconds_allowed();
  link->epoch++;
  return SQLITE_OK;
}

static int greet(struct link *link) {
  struct buffer hello = {0};
  struct frame answer;
  size_t begin = frame_begin(&hello, HELLO);
  put_u16(&hello, PROTOCOL);
  put_text(&hello, VERSION, strlen(VERSION));
  put_text(&hello, DIGEST, strlen(DIGEST));
  put_u16(&hello, sizeof SHARED_SETTINGS / sizeof *SHARED_SETTINGS);
  for (size_t i = 0; i < sizeof SHARED_SETTINGS / sizeof *SHARED_SETTINGS; i++) {
    const char *value = getenv(SHARED_SETTINGS[i]);
    put_text(&hello, SHARED_SETTINGS[i], strlen(SHARED_SETTINGS[i]));
    put_text(&hello, value ? value : "", value ? strlen(value) : 0);
  }
  frame_end(&hello, begin);
  int code = link_send(link, &hello);
  buffer_free(&hello);
  if (code == SQLITE_OK) code = link_receive(link, &answer);
  if (code != SQLITE_OK) return code;
  uint32_t size = 0;
  const char *words = NULL;
  unsigned protocol = answer.type == WELCOME ? get_u16(&answer.payload) : 0;
  if (answer.type == ERROR) {
    get_text(&answer.payload, &size); /* its kind */
    words = get_text(&answer.payload, &size);
  }
  if (words) code = link_broken(link, GONE, "%.*s", (int)size, words);
  else if (protocol != PROTOCOL)
    code = link_broken(link, GONE, "what answers at sqlembed's socket is not its service");
  frame_free(&answer);
  return code;
}

/* Whether the connection is ours, not our parent's before a fork, and quiet: an end means that the
   service left, data that we lost step. */
static int usable(struct link *link) {
  char byte;
  if (link->fd < 0 || link->stashed || link->process != getpid() || !still_ours(link)) return 0;
  return recv(link->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
}

int link_ready(struct link *link) {
  if (link->depth) /* inside a statement of a plan, whose conversation is on this connection */
    return link->fd >= 0 ? SQLITE_OK : link_fail(link, GONE, "sqlembed's service ended");
  if (usable(link)) return SQLITE_OK;
  link_close(link);
  char *path = socket_path();
  if (!path) return link_fail(link, SQLITE_NOMEM, "out of memory");
  int code, starts = 0;
  struct wait wait = {.left = seconds_allowed() * 1000};
  for (;;) {
    code = connect_to(link, path);
    if (code == SQLITE_OK) code = greet(link);
    if (code == SQLITE_BUSY) { /* connect() has waited for a slice */
      code = link_wait(link, &wait);
      if (code == SQLITE_OK) continue;
      if (code == SQLITE_INTERRUPT) link_fail(link, code, "interrupted");
      else link_fail(link, code, "sqlembed's service at %s takes no connection; is it stopped?", path);
    }
    /* Nobody there, or one that was just leaving. */
    if ((code == SQLITE_NOTFOUND || code == ENDED) && starts++ < MOST_STARTS) {
      code = service_start(link, path);
      if (code == SQLITE_OK) continue;
    }
    break;
  }
  if (code == SQLITE_NOTFOUND)
    code = link_fail(link, GONE, "sqlembed's service was started and is gone again; its log says why"
                     " (sqlembed doctor shows where it is)");
  sqlite3_free(path);
  return code;
}

int link_send(struct link *link, struct buffer *buffer) {
  if (buffer->failed == NO_MEMORY) return link_fail(link, SQLITE_NOMEM, "out of memory");
  if (buffer->failed)
    return link_fail(link, SQLITE_TOOBIG,
                     "a value or a call is too large for sqlembed's service, which takes %d MB at once",
                     MOST_FRAME_BYTES >> 20);
  if (link->fd < 0) return link_fail(link, GONE, "the link to sqlembed's service is closed");
  const unsigned char *at = buffer->data;
  size_t left = buffer->size;
  struct wait wait = {.left = link->patience * 1000};
#ifdef MSG_NOSIGNAL
  int flags = MSG_NOSIGNAL;
#else
  int flags = 0;
#endif
  while (left) {
    ssize_t sent = send(link->fd, at, left, flags);
    if (sent > 0) {
      at += sent;
      left -= (size_t)sent;
      wait.left = link->patience * 1000;
      continue;
    }
    if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
      return link_broken(link, ENDED, "sqlembed's service ended (%s); the next call starts it"
                         " anew", strerror(errno));
    int code = link_wait(link, &wait);
    if (code == SQLITE_INTERRUPT) return link_broken(link, code, "interrupted");
    if (code)
      return link_broken(link, code,
                         "sqlembed's service has taken nothing for %ld seconds (SQLEMBED_TIMEOUT);"
                         " is it stopped?", link->patience);
  }
  return SQLITE_OK;
}

/* An answer from memory comes within microseconds, and waking a thread that sleeps takes
   longer than that: look for it a while, and let the service have this core meanwhile. */
static ssize_t receive_soon(int fd, void *into, size_t size) {
  ssize_t got = recv(fd, into, size, MSG_DONTWAIT);
  for (int64_t until = microseconds() + SPIN_US; got < 0 && errno == EAGAIN && microseconds() < until;) {
    sched_yield();
    got = recv(fd, into, size, MSG_DONTWAIT);
  }
  return got < 0 && errno == EAGAIN ? recv(fd, into, size, 0) : got;
}

/* Fill `into` with `size` bytes, from the stash first. */
static int take(struct link *link, unsigned char *into, size_t size) {
  struct wait wait = {.left = link->patience * 1000};
  for (;;) {
    size_t part = link->stashed < size ? link->stashed : size;
    if (part) {
      memcpy(into, link->stash + link->stash_at, part);
      link->stash_at += part;
      link->stashed -= part;
      into += part;
      size -= part;
    }
    if (!size) return SQLITE_OK;
    int direct = size >= STASH_BYTES; /* a large payload goes where it belongs */
    ssize_t got = receive_soon(link->fd, direct ? into : link->stash, direct ? size : STASH_BYTES);
    if (got > 0) {
      wait.left = link->patience * 1000;
      if (direct) into += got, size -= (size_t)got;
      else link->stashed = (size_t)got, link->stash_at = 0;
      continue;
    }
    if (got == 0 || (got < 0 && errno == ECONNRESET)) /* it had not read all */
      return link_broken(link, ENDED, "sqlembed's service ended while it was asked; the next"
                         " call starts it anew, and its log says why (sqlembed doctor shows where)");
    if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
      return link_broken(link, ENDED, "the link to sqlembed's service broke: %s", strerror(errno));
    int code = link_wait(link, &wait);
    if (code == SQLITE_INTERRUPT) return link_broken(link, code, "interrupted");
    if (code)
      return link_broken(link, code,
                         "sqlembed's service has not stirred for %ld seconds (SQLEMBED_TIMEOUT); is it"
                         " stopped? To end it: sqlembed serve --stop", link->patience);
  }
}

int link_receive(struct link *link, struct frame *frame) {
  memset(frame, 0, sizeof *frame);
  if (link->fd < 0) return link_fail(link, GONE, "the link to sqlembed's service is closed");
  if (!link->stash && !(link->stash = malloc(STASH_BYTES)))
    return link_broken(link, SQLITE_NOMEM, "out of memory");
  do {
    unsigned char header[HEADER_BYTES];
    frame_free(frame); /* a WORKING, after which the wait may fail */
    int code = take(link, header, sizeof header);
    if (code) return code;
    int64_t size = frame_payload(header);
    if (size < 0)
      return link_broken(link, GONE, "sqlembed's service sent a frame without sense or over %d"
                         " MB", MOST_FRAME_BYTES >> 20);
    frame->memory = malloc((size_t)size + 1); /* a length of 0 would give NULL in some libraries */
    if (!frame->memory) return link_broken(link, SQLITE_NOMEM, "out of memory");
    code = take(link, frame->memory, (size_t)size);
    if (code) {
      frame_free(frame);
      return code;
    }
    frame->type = (enum frame_type)header[4];
    frame->payload = (struct reader){frame->memory, frame->memory + size, 0};
  } while (frame->type == WORKING && (link->works = 1));
  return SQLITE_OK;
}

void frame_free(struct frame *frame) {
  free(frame->memory);
  memset(frame, 0, sizeof *frame);
}
