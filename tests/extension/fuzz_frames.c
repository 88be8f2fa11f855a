/* What a service sends, mutated: the frame decoder and all that takes its answers.
 *
 * An input is a byte that chooses the function that is called, and the bytes that the socket
 * gives. send() and recv() are replaced, so no socket is there. The SQL that an input asks for
 * runs on a database in memory that may only be read and written, and not for long.
 * A libFuzzer target; with -DFUZZ_FILES a program that runs the inputs in files, for gcc. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "sqlembed.h"

static const uint8_t *at;
static size_t left;
static unsigned turn;

/* Now little, now much, as sockets do; then the end. */
ssize_t __wrap_recv(int fd, void *into, size_t size, int flags);
ssize_t __wrap_recv(int fd, void *into, size_t size, int flags) {
  (void)fd, (void)flags;
  size_t part = turn++ % 3 ? size : 1 + turn % 7;
  if (part > size) part = size;
  if (part > left) part = left;
  if (part) memcpy(into, at, part);
  at += part;
  left -= part;
  return (ssize_t)part;
}

ssize_t __wrap_send(int fd, const void *from, size_t size, int flags);
ssize_t __wrap_send(int fd, const void *from, size_t size, int flags) {
  (void)fd, (void)flags;
  struct reader r = {from, (const unsigned char *)from + size, 0};
  get_bytes(&r, get_u32(&r));
  get_end(&r);
  if (r.bad) abort(); /* what we write is a whole frame */
  return (ssize_t)size;
}

static int allowed(void *unused, int action, const char *a, const char *b, const char *c, const char *d) {
  (void)unused, (void)a, (void)b, (void)c, (void)d;
  int ok = action == SQLITE_SELECT || action == SQLITE_READ || action == SQLITE_INSERT || action == SQLITE_UPDATE ||
           action == SQLITE_DELETE || action == SQLITE_TRANSACTION || action == SQLITE_SAVEPOINT;
  return ok ? SQLITE_OK : SQLITE_DENY;
}

static int stop(void *count) { return ++*(int *)count > 20; }

static sqlite3 *database(void) {
  static sqlite3 *db;
  if (db) return db;
  if (sqlite3_open(":memory:", &db)) abort();
  sqlite3_exec(db, "CREATE TABLE t(a, b)", NULL, NULL, NULL);
  sqlite3_limit(db, SQLITE_LIMIT_LENGTH, 1 << 20);
  sqlite3_set_authorizer(db, allowed, NULL);
  return db;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const unsigned COLUMNS[] = {0, 1, 3, 6};
  sqlite3 *db = database();
  int steps = 0;
  if (!size) return 0;
  sqlite3_exec(db, "DELETE FROM t; INSERT INTO t VALUES (1, 'one'), (2, x'00')", NULL, NULL, NULL);
  sqlite3_progress_handler(db, 1000, stop, &steps);
  at = data + 1;
  left = size - 1;
  turn = data[0] >> 2;
  struct link link = {.db = db, .fd = 1000, .patience = 1, .depth = 1}; /* at depth nothing connects */
  struct answer answer = {.columns = COLUMNS[data[0] & 3]};
  struct buffer request = {0};
  size_t begin = frame_begin(&request, CALL);
  put_text(&request, "f", 1);
  frame_end(&request, begin);
  int code = call(&link, &request, &answer);
  if (code == SQLITE_OK) { /* every byte of an answer is there */
    static volatile unsigned long sum;
    struct value *value = answer.columns ? answer.cells : &answer.value;
    size_t count = answer.columns ? answer.count : 1;
    if (answer.columns && answer.count % answer.columns) abort();
    for (; count--; value++)
      for (int i = 0; (value->tag == TAG_TEXT || value->tag == TAG_BLOB) && i < value->size; i++)
        sum += (unsigned char)value->bytes[i];
  } else if (!link.problem) {
    abort(); /* an error without words */
  }
  answer_free(&answer);
  buffer_free(&request);
  link_close(&link);
  free(link.stash);
  sqlite3_free(link.problem);
  sqlite3_progress_handler(db, 0, NULL, NULL);
  if (!sqlite3_get_autocommit(db)) abort(); /* a plan's transaction is ended */
  if (sqlite3_next_stmt(db, NULL)) abort(); /* and its statements */
  return 0;
}

#ifdef FUZZ_FILES
/* Each input of a file has its length in front, four bytes. */
int main(int count, char **paths) {
  static unsigned char bytes[1 << 20];
  for (int i = 1; i < count; i++) {
    FILE *file = fopen(paths[i], "rb");
    uint32_t size;
    if (!file) return 2;
    while (fread(&size, sizeof size, 1, file) == 1) {
      unsigned char *input = malloc(size + 1); /* its own block, so that its end is watched */
      if (!input || size > sizeof bytes || fread(input, 1, size, file) != size) return 2;
      LLVMFuzzerTestOneInput(input, size);
      free(input);
    }
    fclose(file);
  }
  return 0;
}
#endif
