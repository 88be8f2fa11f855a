/* What SQLite calls when it loads us: register every function of functions.h, load vec0, and no
 * more. The service is asked for nothing until the first call. */
#include "sqlembed.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "functions.h"

SQLITE_EXTENSION_INIT1

enum { OLDEST_SQLITE = 3040000 };

void door_release(void *pointer) {
  struct door *door = ((struct entry *)pointer)->door;
  if (--door->users) return;
  link_close(&door->link);
  free(door->link.stash);
  sqlite3_free(door->link.problem);
  buffer_free(&door->request);
  free(door->library);
  free(door->entries);
  free(door);
}

static struct door *door_open(sqlite3 *db) {
  struct door *door = calloc(1, sizeof *door);
  if (!door) return NULL;
  door->entries = calloc(FUNCTION_COUNT, sizeof *door->entries);
  if (!door->entries) {
    free(door);
    return NULL;
  }
  door->users = 1; /* until all are registered */
  door->link.db = db;
  door->link.fd = -1;
  door->link.library = door->library = library_path();
  for (size_t i = 0; i < FUNCTION_COUNT; i++) door->entries[i] = (struct entry){door, &FUNCTIONS[i]};
  return door;
}

/* Whether a statement can be prepared. For a function without a table this reads no schema, so it
   neither waits for a lock nor disturbs a database that is not unlocked yet. */
static int knows(sqlite3 *db, const char *sql) {
  sqlite3_stmt *statement = NULL;
  int code = sqlite3_prepare_v2(db, sql, -1, &statement, NULL);
  sqlite3_finalize(statement);
  return code == SQLITE_OK;
}

/* A locked or unreadable database has no such mode for now: its rows wait, as in deferred mode. */
void watch_immediate(sqlite3 *db) {
  sqlite3_stmt *statement = NULL;
  int code = sqlite3_prepare_v2(db, HAS_IMMEDIATE, -1, &statement, NULL);
  int found = code == SQLITE_OK && sqlite3_step(statement) == SQLITE_ROW;
  sqlite3_finalize(statement);
  if (found) sqlite3_exec(db, WATCH_IMMEDIATE, NULL, NULL, NULL);
}

/* sqlite-vec lies beside us. */
static int load_vec0(sqlite3 *db, const char *library, char **error) {
  if (knows(db, "SELECT vec_version()")) return SQLITE_OK;
  const char *slash = library ? strrchr(library, '/') : NULL; /* realpath() needs memory */
  char *vec0 = slash ? sqlite3_mprintf("%.*s/vec0", (int)(slash - library), library) : NULL;
  if (!vec0) return SQLITE_NOMEM;
  int code = sqlite3_load_extension(db, vec0, "sqlite3_vec_init", error);
  sqlite3_free(vec0);
  return code;
}

/* One process may hold two copies of SQLite, such as Python's and APSW's. SQLite's own way keeps
   one pointer for all of an extension: loaded into the second, the first one's calls would crash. */
static int another_sqlite(const sqlite3_api_routines *api) {
  static const sqlite3_api_routines *first;
  const sqlite3_api_routines *none = NULL;
  return !__atomic_compare_exchange_n(&first, &none, api, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST) && none != api;
}

__attribute__((visibility("default"))) int sqlite3_sqlembed_init(sqlite3 *db, char **error,
                                                                 const sqlite3_api_routines *api) {
  if (another_sqlite(api)) {
    *error = api->mprintf("sqlembed is loaded already into another copy of SQLite in this process (%s);"
                          " this one is %s", sqlite3_libversion(), api->libversion());
    return SQLITE_ERROR;
  }
  SQLITE_EXTENSION_INIT2(api);
  if (sqlite3_libversion_number() < OLDEST_SQLITE) {
    *error = sqlite3_mprintf("sqlembed needs SQLite 3.40 or newer; this program has %s", sqlite3_libversion());
    return SQLITE_ERROR;
  }
  if (knows(db, KNOWN)) return SQLITE_OK; /* loaded before, or an APSW door */
  struct door *door = door_open(db);
  if (!door) return SQLITE_NOMEM;
  int code = load_vec0(db, door->library, error);
  for (size_t i = 0; !code && i < FUNCTION_COUNT; i++) {
    struct entry *entry = &door->entries[i];
    code = entry->function->kind == TABLE ? add_table(db, entry) : add_function(db, entry);
  }
  /* SQLite unloads what fails to load, and the functions that are registered would stay. */
  if (code && door->users > 1 && door->library) dlopen(door->library, RTLD_NOW | RTLD_NODELETE);
  door_release(&door->entries[0]);
  if (!code) watch_immediate(db);
  return code;
}
