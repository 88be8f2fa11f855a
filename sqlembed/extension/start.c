/* Find the `sqlembed` command and have it start the service. */
#define _GNU_SOURCE
#include "sqlembed.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

SQLITE_EXTENSION_INIT3

#ifdef __APPLE__
#include <crt_externs.h>
#define environ (*_NSGetEnviron())
#else
extern char **environ;
#endif

enum { MOST_WORDS = 2000 };

int64_t microseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int64_t milliseconds(void) { return microseconds() / 1000; }

char *library_path(void) {
  /* A data pointer: ISO C has no conversion from a function's to an object's. */
  static const char here;
  Dl_info found;
  return dladdr(&here, &found) && found.dli_fname ? realpath(found.dli_fname, NULL) : NULL;
}

int above_stdio(int fd) {
  if (fd < 0 || fd > 2) return fd;
  int moved = fcntl(fd, F_DUPFD_CLOEXEC, 3);
  close(fd);
  return moved;
}

/* PREFIX/bin/sqlembed, where we are PREFIX/lib/pythonX.Y/site-packages/sqlembed/extension/sqlembed.so. */
static char *installed_command(const char *library) {
  size_t length = library ? strlen(library) : 0;
  for (int up = 0; up < 6 && length; up++)
    while (length && library[--length] != '/') continue;
  char *command = sqlite3_mprintf("%.*s/bin/sqlembed", (int)length, library ? library : "");
  if (command && access(command, X_OK) == 0) return command;
  sqlite3_free(command);
#ifdef SQLEMBED_BUILT_COMMAND /* of an editable installation only */
  if (access(SQLEMBED_BUILT_COMMAND, X_OK) == 0) return sqlite3_mprintf("%s", SQLEMBED_BUILT_COMMAND);
#endif
  return sqlite3_mprintf("sqlembed"); /* on the PATH */
}

/* The host's environment, without what would make another Python or library of the service. */
static char **service_environment(void) {
  static const char *const LEFT_OUT[] = {"PYTHONHOME=", "PYTHONPATH=", "LD_PRELOAD="};
  size_t count = 0, kept = 0;
  while (environ[count]) count++;
  char **chosen = malloc((count + 1) * sizeof *chosen);
  for (size_t i = 0; chosen && i < count; i++) {
    int left_out = 0;
    for (size_t j = 0; j < sizeof LEFT_OUT / sizeof *LEFT_OUT; j++)
      left_out |= strncmp(environ[i], LEFT_OUT[j], strlen(LEFT_OUT[j])) == 0;
    if (!left_out) chosen[kept++] = environ[i];
  }
  if (chosen) chosen[kept] = NULL;
  return chosen;
}

static int spawn(const char *command, int errors, pid_t *child) {
  char *arguments[] = {(char *)command, (char *)"serve", NULL};
  char **environment = service_environment();
  posix_spawn_file_actions_t files;
  posix_spawnattr_t attributes;
  sigset_t none, all;
  if (!environment) return ENOMEM;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawn_file_actions_init(&files);
  posix_spawnattr_init(&attributes);
  int error = posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
  if (!error) error = posix_spawn_file_actions_addopen(&files, 1, "/dev/null", O_WRONLY, 0);
  if (!error) error = posix_spawn_file_actions_adddup2(&files, errors, 2);
#ifdef __GLIBC_PREREQ
#if __GLIBC_PREREQ(2, 34) /* the host's sockets and files */
  if (!error) error = posix_spawn_file_actions_addclosefrom_np(&files, 3);
#endif
#endif
  /* The host's handlers, blocked signals and terminal are not the service's. */
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  short flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
#ifdef POSIX_SPAWN_SETSID
  flags |= POSIX_SPAWN_SETSID;
#endif
  posix_spawnattr_setflags(&attributes, flags);
  if (!error) error = posix_spawnp(child, command, &files, &attributes, arguments, environment);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&files);
  free(environment);
  return error;
}

/* Read what the command says until it ends, having started the service or failed. A process that
   the host forked meanwhile may hold the other end of the pipe too: then it stays open after. */
static int listen_to(struct link *link, int fd, pid_t child, char *words, size_t room, int *status) {
  size_t size = 0;
  struct wait wait = {.left = START_MS};
  struct pollfd ready = {fd, POLLIN, 0};
  for (int ended = 0;;) {
    char part[256];
    int count = poll(&ready, 1, ended ? 0 : ready.fd < 0 ? 1 : SLICE_MS);
    ssize_t got = count > 0 ? read(fd, part, sizeof part) : -1;
    for (ssize_t i = 0; i < got; i++)
      if (size + 1 < room) words[size++] = part[i] == '\n' ? ' ' : part[i];
    if (got > 0) continue;
    if (ended) break;
    if (got == 0) ready.fd = -1; /* all is said: poll() only waits now, and waitpid() tells the end */
    pid_t found = waitpid(child, status, WNOHANG);
    ended = found == child || (found < 0 && errno == ECHILD); /* taken by a host that reaps its children */
    int code = ended || got == 0 ? SQLITE_OK : link_wait(link, &wait);
    if (code) { /* a zombie must not stay; a service that it has put in the background goes on */
      kill(child, SIGKILL);
      waitpid(child, status, 0);
    }
    if (code == SQLITE_INTERRUPT) return link_fail(link, code, "interrupted");
    if (code)
      return link_fail(link, code, "sqlembed's service has not started within %d seconds", START_MS / 1000);
  }
  while (size && words[size - 1] == ' ') size--;
  words[size] = 0;
  return SQLITE_OK;
}

int service_start(struct link *link, const char *path) {
  const char *chosen = getenv("SQLEMBED_COMMAND");
  char *command = chosen && *chosen ? sqlite3_mprintf("%s", chosen) : installed_command(link->library);
  if (!command) return link_fail(link, SQLITE_NOMEM, "out of memory");
  char words[MOST_WORDS];
  int ends[2], code, status = 0;
  pid_t child;
#ifdef __linux__
  int piped = pipe2(ends, O_CLOEXEC); /* at once: another thread may spawn meanwhile */
#else
  int piped = pipe(ends);
  if (!piped) fcntl(ends[0], F_SETFD, FD_CLOEXEC), fcntl(ends[1], F_SETFD, FD_CLOEXEC);
#endif
  if (piped) {
    code = link_fail(link, GONE, "pipe: %s", strerror(errno));
    sqlite3_free(command);
    return code;
  }
  ends[0] = above_stdio(ends[0]);
  ends[1] = above_stdio(ends[1]);
  int error = spawn(command, ends[1], &child);
  close(ends[1]);
  if (error) {
    code = link_fail(link, GONE,
                     "no sqlembed service answers at %s, and it cannot be started: %s: %s; set"
                     " SQLEMBED_COMMAND to the path of the sqlembed command, or run: sqlembed serve",
                     path, command, strerror(error));
  } else {
    code = listen_to(link, ends[0], child, words, sizeof words, &status);
    if (code == SQLITE_OK && !(WIFEXITED(status) && WEXITSTATUS(status) == 0))
      code = link_fail(link, GONE, "sqlembed's service cannot be started: %s", *words ? words : command);
  }
  close(ends[0]);
  sqlite3_free(command);
  return code;
}
