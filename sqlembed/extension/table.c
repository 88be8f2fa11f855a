/* Table-valued functions: arguments are hidden columns; ids, distances and LIMIT go to the
 * service, so that they apply before k. */
#include "sqlembed.h"

#include <string.h>

#include "functions.h"

SQLITE_EXTENSION_INIT3

/* What is handed on besides the arguments; docs/protocol.md numbers it so. */
enum pushed { AMONG, ONLY, BELOW, AT_MOST, ABOVE, AT_LEAST, LIMIT, OFFSET, ANEW };

/* In idxStr a letter stands for each value that xFilter is given: these, and 'a' and up for the
   arguments. */
static const char LETTERS[] = "I=<{>}LO";

enum { EXPECTED_ROWS = 10 };
static const double EXPECTED_COST = 1000.0;
/* Of `id = x`. SQLite turns `id IN (?)` into it, which restricts before k; so does a join's
   `k.id = s.id`, which must not. At this cost the planner takes it only where it has to. */
static const double LAST_RESORT_COST = 1e30;

struct table {
  sqlite3_vtab base;
  struct entry *entry;
  struct cursor *opened; /* last, and not filtered yet */
};

struct cursor {
  sqlite3_vtab_cursor base;
  struct answer answer;
  sqlite3_value *arguments[MOST_PARAMETERS]; /* of the hidden columns */
  struct buffer asked;                       /* the id of an earlier `id = x`, encoded */
  sqlite3_int64 position, rows;
};

static int fail(sqlite3_vtab *vtab, int code, const char *words) {
  sqlite3_free(vtab->zErrMsg);
  vtab->zErrMsg = sqlite3_mprintf("%s", words ? words : "out of memory");
  return code;
}

static int table_connect(sqlite3 *db, void *entry, int count, const char *const *words,
                         sqlite3_vtab **vtab, char **error) {
  struct table *table = sqlite3_malloc(sizeof *table);
  (void)count, (void)words, (void)error;
  if (!table) return SQLITE_NOMEM;
  memset(table, 0, sizeof *table);
  table->entry = entry;
  int code = sqlite3_declare_vtab(db, table->entry->function->declaration);
  if (code) sqlite3_free(table);
  else *vtab = &table->base;
  return code;
}

static int table_disconnect(sqlite3_vtab *vtab) {
  sqlite3_free(vtab);
  return SQLITE_OK;
}

/* The values that a query plan hands to xFilter, in their order. */
static void take(sqlite3_index_info *plan, int which, char letter, int omit) {
  int count = (int)strlen(plan->idxStr);
  plan->idxStr[count] = letter;
  plan->aConstraintUsage[which].argvIndex = count + 1;
  plan->aConstraintUsage[which].omit = omit != 0;
}

/* Ids are compared byte by byte. Another collation's matches are SQLite's to find. */
static int by_bytes(sqlite3_index_info *plan, int which) {
  const char *collation = sqlite3_vtab_collation(plan, which);
  return !collation || sqlite3_stricmp(collation, "BINARY") == 0;
}

static char bound(int op) {
  switch (op) {
    case SQLITE_INDEX_CONSTRAINT_LT: return LETTERS[BELOW];
    case SQLITE_INDEX_CONSTRAINT_LE: return LETTERS[AT_MOST];
    case SQLITE_INDEX_CONSTRAINT_GT: return LETTERS[ABOVE];
    case SQLITE_INDEX_CONSTRAINT_GE: return LETTERS[AT_LEAST];
    default: return 0;
  }
}

static int missing_argument(sqlite3_vtab *vtab, const struct function *f, const char *given) {
  char *names = NULL;
  for (int i = 0; i < f->least; i++) {
    if (given[i]) continue;
    char *more = sqlite3_mprintf("%s%s%s", names ? names : "", names ? ", " : "", f->parameters[i]);
    sqlite3_free(names);
    names = more;
  }
  char *words = sqlite3_mprintf("%s: %s is missing", f->usage, names);
  int code = fail(vtab, SQLITE_ERROR, words);
  sqlite3_free(words);
  sqlite3_free(names);
  return code;
}

/* Choose what is handed to xFilter; its letters go to plan->idxStr, which has room for all. */
static int choose(sqlite3_vtab *vtab, sqlite3_index_info *plan) {
  const struct function *f = ((struct table *)vtab)->entry->function;
  char given[MOST_PARAMETERS] = {0};
  int limit = -1, offset = -1, all_taken = 1;
  plan->estimatedCost = EXPECTED_COST;
  plan->estimatedRows = EXPECTED_ROWS;
  for (int i = 0; i < plan->nConstraint; i++) {
    const struct sqlite3_index_constraint *c = &plan->aConstraint[i];
    int parameter = c->iColumn - f->columns, equal = c->op == SQLITE_INDEX_CONSTRAINT_EQ;
    if (c->op == SQLITE_INDEX_CONSTRAINT_LIMIT) {
      if (c->usable) limit = i;
    } else if (c->op == SQLITE_INDEX_CONSTRAINT_OFFSET) {
      if (c->usable) offset = i;
      else all_taken = 0; /* rows that are skipped would be missing at the end */
    } else if (equal && parameter >= 0 && !(given[parameter] && c->usable)) {
      if (!c->usable) return SQLITE_CONSTRAINT;
      given[parameter] = 1;
      take(plan, i, (char)('a' + parameter), 1);
    } else if (!c->usable || c->iColumn < 0) {
      all_taken = 0;
    } else if (equal && c->iColumn == f->restricted && by_bytes(plan, i)) {
      int set = sqlite3_vtab_in(plan, i, -1);
      if (set) sqlite3_vtab_in(plan, i, 1);
      else plan->estimatedCost = LAST_RESORT_COST;
      take(plan, i, LETTERS[set ? AMONG : ONLY], 1);
    } else if (c->iColumn == f->bounded && bound(c->op)) {
      take(plan, i, bound(c->op), 0);
    } else {
      all_taken = 0;
    }
  }
  for (int i = 0; i < f->least; i++)
    if (!given[i]) return missing_argument(vtab, f, given);
  int sorted = plan->nOrderBy == 1 && plan->aOrderBy[0].iColumn == f->ordered && !plan->aOrderBy[0].desc;
  plan->orderByConsumed = sorted && f->ordered >= 0;
  /* Where nothing is left to filter or sort, LIMIT says how many rows are wanted. */
  if (f->ordered >= 0 && limit >= 0 && all_taken && (!plan->nOrderBy || sorted)) {
    take(plan, limit, LETTERS[LIMIT], 0);
    if (offset >= 0) take(plan, offset, LETTERS[OFFSET], 0);
  }
  return SQLITE_OK;
}

static int table_best_index(sqlite3_vtab *vtab, sqlite3_index_info *plan) {
  plan->idxStr = sqlite3_malloc(plan->nConstraint + 1);
  if (!plan->idxStr) return SQLITE_NOMEM;
  memset(plan->idxStr, 0, (size_t)plan->nConstraint + 1);
  int code = choose(vtab, plan);
  plan->needToFreeIdxStr = code == SQLITE_OK;
  if (code) { /* not every SQLite frees it then */
    sqlite3_free(plan->idxStr);
    plan->idxStr = NULL;
  }
  return code;
}

static int table_open(sqlite3_vtab *vtab, sqlite3_vtab_cursor **opened) {
  struct cursor *cursor = sqlite3_malloc(sizeof *cursor);
  if (!cursor) return SQLITE_NOMEM;
  memset(cursor, 0, sizeof *cursor);
  ((struct table *)vtab)->opened = cursor;
  *opened = &cursor->base;
  return SQLITE_OK;
}

static void forget(struct cursor *cursor) {
  answer_free(&cursor->answer);
  for (int i = 0; i < MOST_PARAMETERS; i++) {
    sqlite3_value_free(cursor->arguments[i]);
    cursor->arguments[i] = NULL;
  }
}

static int table_close(sqlite3_vtab_cursor *base) {
  struct cursor *cursor = (struct cursor *)base;
  struct table *table = (struct table *)base->pVtab;
  forget(cursor);
  if (table->opened == cursor) table->opened = NULL;
  /* Before 3.41 a subquery that runs again opens its next cursor, and then closes this one: what
     this one was asked goes over. */
  if (table->opened && !table->opened->asked.size) table->opened->asked = cursor->asked;
  else buffer_free(&cursor->asked);
  sqlite3_free(cursor);
  return SQLITE_OK;
}

static void put_set(struct buffer *b, sqlite3_value *set) {
  uint32_t count = 0;
  sqlite3_value *member = NULL;
  put_u8(b, TAG_SET);
  size_t at = b->size;
  put_u32(b, 0);
  int code = sqlite3_vtab_in_first(set, &member);
  for (; code == SQLITE_OK && member; code = sqlite3_vtab_in_next(set, &member), count++) put_value(b, member);
  if (code != SQLITE_OK && code != SQLITE_DONE) b->failed = NO_MEMORY; /* not a smaller set */
  put_count(b, at, count, 4);
}

/* Whether this statement has asked for another single id before. */
static int asked_anew(struct cursor *cursor, const char *letters, sqlite3_value **values) {
  struct buffer now = {0};
  for (int i = 0; letters[i]; i++)
    if (letters[i] == LETTERS[ONLY]) put_value(&now, values[i]);
  int anew = cursor->asked.size &&
             (cursor->asked.size != now.size || memcmp(cursor->asked.data, now.data, now.size));
  buffer_free(&cursor->asked);
  cursor->asked = now;
  return anew;
}

static void put_pushed(struct buffer *b, struct cursor *cursor, const char *letters, sqlite3_value **values) {
  unsigned count = 0;
  int anew = asked_anew(cursor, letters, values);
  size_t at = b->size;
  put_u16(b, 0);
  for (int i = 0; letters[i]; i++) {
    const char *letter = strchr(LETTERS, letters[i]);
    if (!letter) continue;
    unsigned what = (unsigned)(letter - LETTERS);
    if (what == ONLY && anew) what = ANEW;
    count++;
    put_u8(b, what);
    if (what == AMONG) put_set(b, values[i]);
    else put_value(b, values[i]);
  }
  put_count(b, at, count, 2);
}

static int table_filter(sqlite3_vtab_cursor *base, int number, const char *letters, int count,
                        sqlite3_value **values) {
  struct cursor *cursor = (struct cursor *)base;
  struct entry *entry = ((struct table *)base->pVtab)->entry;
  const struct function *f = entry->function;
  struct buffer *request = &entry->door->request;
  struct link *link = &entry->door->link;
  int parameters = 0;
  (void)number, (void)count;
  forget(cursor);
  cursor->position = cursor->rows = 0;
  ((struct table *)base->pVtab)->opened = NULL;
  while (f->parameters[parameters]) parameters++;
  for (int i = 0; letters[i]; i++) {
    int parameter = letters[i] - 'a';
    if (parameter < 0 || parameter >= parameters) continue;
    sqlite3_value_free(cursor->arguments[parameter]);
    if (!(cursor->arguments[parameter] = sqlite3_value_dup(values[i]))) return SQLITE_NOMEM;
  }
  size_t begin = request_begin(request, CALL, f);
  put_u16(request, (unsigned)parameters);
  for (int i = 0; i < parameters; i++) {
    if (cursor->arguments[i]) put_value(request, cursor->arguments[i]);
    else put_u8(request, TAG_NULL);
  }
  put_pushed(request, cursor, letters, values);
  frame_end(request, begin);
  cursor->answer.columns = (unsigned)f->columns;
  int code = call(link, request, &cursor->answer);
  if (code) return fail(base->pVtab, result_code(code), link->problem);
  cursor->rows = (sqlite3_int64)(cursor->answer.count / (size_t)f->columns);
  return SQLITE_OK;
}

static int table_next(sqlite3_vtab_cursor *base) {
  ((struct cursor *)base)->position++;
  return SQLITE_OK;
}

static int table_eof(sqlite3_vtab_cursor *base) {
  struct cursor *cursor = (struct cursor *)base;
  return cursor->position >= cursor->rows;
}

static int table_column(sqlite3_vtab_cursor *base, sqlite3_context *context, int column) {
  struct cursor *cursor = (struct cursor *)base;
  int columns = (int)cursor->answer.columns;
  if (column < columns) {
    give(context, &cursor->answer.cells[(size_t)(cursor->position * columns + column)]);
  } else if (cursor->arguments[column - columns]) {
    sqlite3_result_value(context, cursor->arguments[column - columns]);
  }
  return SQLITE_OK;
}

static int table_rowid(sqlite3_vtab_cursor *base, sqlite3_int64 *rowid) {
  *rowid = ((struct cursor *)base)->position;
  return SQLITE_OK;
}

/* No xCreate: the table exists by its name alone, and nobody can make another. */
static const sqlite3_module MODULE = {
    .iVersion = 1,
    .xConnect = table_connect,
    .xBestIndex = table_best_index,
    .xDisconnect = table_disconnect,
    .xOpen = table_open,
    .xClose = table_close,
    .xFilter = table_filter,
    .xNext = table_next,
    .xEof = table_eof,
    .xColumn = table_column,
    .xRowid = table_rowid,
};

int add_table(sqlite3 *db, struct entry *entry) {
  entry->door->users++; /* taken back by door_release(), also when this fails */
  return sqlite3_create_module_v2(db, entry->function->name, &MODULE, entry, door_release);
}
