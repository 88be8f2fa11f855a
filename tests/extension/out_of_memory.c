/* A host whose n-th allocation fails, for every n: whatever a statement says then, nothing crashes,
 * leaks or hangs, no transaction stays open, no wrong vector is given, and the next call works.
 *
 * Ours and SQLite's allocations are counted together. Its argument is a stride: beyond the first
 * hundred of a statement, one of so many fails. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sqlite3.h>

int sqlite3_sqlembed_init(sqlite3 *db, char **error, const void *api);

static long left = -1; /* allocations until one fails; below 0: none does */
static int all;        /* and every one after it */
static long seen;

static int fails(void) {
  seen++;
  if (left < 0) return 0;
  if (left > 0) {
    left--;
    return 0;
  }
  if (!all) left = -1;
  return 1;
}

void *__real_malloc(size_t);
void *__real_calloc(size_t, size_t);
void *__real_realloc(void *, size_t);
void *__wrap_malloc(size_t size) { return fails() ? NULL : __real_malloc(size); }
void *__wrap_calloc(size_t count, size_t size) { return fails() ? NULL : __real_calloc(count, size); }
void *__wrap_realloc(void *old, size_t size) { return fails() ? NULL : __real_realloc(old, size); }

static sqlite3_mem_methods real;
static void *sqlite_malloc(int size) { return fails() ? NULL : real.xMalloc(size); }
static void *sqlite_realloc(void *old, int size) { return fails() ? NULL : real.xRealloc(old, size); }

static void die(const char *what, long n, sqlite3 *db) {
  fprintf(stderr, "allocation %ld%s: %s: %s\n", n, all ? " and all after" : "", what, sqlite3_errmsg(db));
  exit(1);
}

static const char *const STATEMENTS[] = {
    "SELECT embed('dinner') = (SELECT v FROM truth)",
    "SELECT vec_mean(embed('dinner')) = (SELECT v FROM truth) FROM sms",
    "SELECT count(*) = 3 FROM knn('sms', 'dinner', 3) WHERE id IN (1, 2, 3) AND distance < 9",
    "SELECT count(*) = 2 FROM embed_each('[\"dinner\", \"prize\"]') WHERE ordinal IN (0, 1)",
    "INSERT INTO sms(body) VALUES ('more') RETURNING sqlembed_flush('sms') IS NOT NULL",
    "SELECT sqlembed_flush('sms') IS NOT NULL",
    "SELECT sqlembed_index('other', 'body') = 0",
};
enum { COUNT = sizeof STATEMENTS / sizeof *STATEMENTS, ONCE = COUNT - 1, DENSE = 100 };

/* The last one can be done only once, and is taken back. A value of 0 is a wrong answer; an error is a right one. */
static int run(sqlite3 *db, const char *sql) {
  sqlite3_stmt *statement = NULL;
  int code = sqlite3_prepare_v2(db, sql, -1, &statement, NULL), right = 1;
  while (code == SQLITE_OK && sqlite3_step(statement) == SQLITE_ROW) right &= sqlite3_column_int(statement, 0);
  int end = sqlite3_finalize(statement);
  if (!right && !end) return -1;
  return code ? code : end;
}

static sqlite3 *host(void) {
  sqlite3 *db;
  static const char SETUP[] =
      "CREATE TABLE sms(id INTEGER PRIMARY KEY, body TEXT);"
      "INSERT INTO sms(body) VALUES ('dinner at eight'), ('win a prize'), ('late');"
      "CREATE TABLE other(id INTEGER PRIMARY KEY, body TEXT);"
      "SELECT sqlembed_index('sms', 'body');"
      "CREATE TABLE truth AS SELECT embed('dinner') AS v;";
  char *error = NULL;
  if (sqlite3_open(":memory:", &db)) die("open", -1, db);
  sqlite3_enable_load_extension(db, 1);
  if (sqlite3_sqlembed_init(db, &error, &left)) die(error, -1, db);
  if (sqlite3_exec(db, SETUP, NULL, NULL, NULL)) die("setup", -1, db);
  return db;
}

int main(int count, char **words) {
  long stride = count > 1 ? atol(words[1]) : 1;
  sqlite3_config(SQLITE_CONFIG_GETMALLOC, &real);
  sqlite3_mem_methods ours = real;
  ours.xMalloc = sqlite_malloc;
  ours.xRealloc = sqlite_realloc;
  sqlite3_config(SQLITE_CONFIG_MALLOC, &ours);
  sqlite3_config(SQLITE_CONFIG_LOOKASIDE, 0, 0); /* or many allocations would not be counted */
  long total = 0;
  for (int i = 0; i < COUNT; i++) {
    for (all = 0; all < 2; all++) {
      sqlite3 *db = host();
      for (long n = 0, reached = 1; reached; n += n < DENSE ? 1 : stride, total++) {
        /* The plan begins a transaction of its own, or a savepoint in the host's. */
        int inside = i >= ONCE || n % 2;
        if (inside) sqlite3_exec(db, "SAVEPOINT before", NULL, NULL, NULL);
        left = n;
        int code = run(db, STATEMENTS[i]);
        reached = left < 0 || (all && left == 0);
        left = -1;
        if (code == -1) die("a wrong answer", n, db);
        if (!reached && code) die(STATEMENTS[i], n, db);
        if (!inside && !sqlite3_get_autocommit(db)) die("a transaction stays open", n, db);
        if (inside && !sqlite3_get_autocommit(db))
          sqlite3_exec(db, "ROLLBACK TO before; RELEASE before", NULL, NULL, NULL);
        if (run(db, STATEMENTS[0])) die("the next call fails", n, db);
      }
      if (sqlite3_close(db)) die("a statement was left", -1, db);
    }
  }
  for (long n = 0, reached = 1; reached; n++, total++) { /* the load itself, and closing after it */
    sqlite3 *db;
    char *error = NULL;
    if (sqlite3_open(":memory:", &db)) die("open", n, db);
    sqlite3_enable_load_extension(db, 1);
    all = 0;
    left = n;
    int code = sqlite3_sqlembed_init(db, &error, &left);
    reached = left < 0;
    left = -1;
    sqlite3_free(error);
    if (!reached && code) die("load", n, db);
    if (sqlite3_close(db)) die("a statement was left by the load", n, db);
  }
  printf("%ld allocations failed, of %ld\n", total, seen);
  return 0;
}
