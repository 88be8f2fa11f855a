/* Table-valued functions: arguments are hidden columns; ids, distances and LIMIT go to the
 * service, so that they apply before k. */
#include "sqlembed.h"

#include <string.h>

SQLITE_EXTENSION_INIT3

/* What is handed on besides the arguments; docs/protocol.md numbers it so. */
enum pushed { AMONG, ONLY, BELOW, AT_MOST, ABOVE, AT_LEAST, LIMIT, OFFSET, ANEW };

/* In idxStr a letter stands for each value that xFilter is given: these, and 'a' and up for the
   arguments. */
static const char LETTERS[] = "I=<{>}LO";

enum { MOST_TAKEN = 30, MOST_PARAMETERS = 8, EXPECTED_ROWS = 10 };
static const double EXPECTED_COST = 1000.0;
/* Of `id = x`. SQLite turns `id IN (?)` into it, which restricts before k; so does a join's
   `k.id = s.id`, which must not. At this cost the planner takes it only where it has to. */
static const double LAST_RESORT_COST = 1e30;

struct table {
  sqlite3_vtab base;
  struct entry *entry;
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
struct taken {
  sqlite3_index_info *plan;
  char letters[MOST_TAKEN + 1];
  int count;
};

static int take(struct taken *taken, int which, char letter, int omit) {
  if (taken->count == MOST_TAKEN) return 0;
  taken->letters[taken->count++] = letter;
  taken->plan->aConstraintUsage[which].argvIndex = taken->count;
  taken->plan->aConstraintUsage[which].omit = (unsigned char)omit;
  return 1;
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

static int table_best_index(sqlite3_vtab *vtab, sqlite3_index_info *plan) {
  const struct function *f = ((struct table *)vtab)->entry->function;
  struct taken taken = {.plan = plan};
  char given[MOST_PARAMETERS] = {0};
  int limit = -1, offset = -1, all_taken = 1;
  plan->estimatedCost = EXPECTED_COST;
  plan->estimatedRows = EXPECTED_ROWS;
  for (int i = 0; i < plan->nConstraint; i++) {
    const struct sqlite3_index_constraint *c = &plan->aConstraint[i];
    int parameter = c->iColumn - f->columns, equal = c->op == SQLITE_INDEX_CONSTRAINT_EQ;
    if (c->op == SQLITE_INDEX_CONSTRAINT_LIMIT) {
      limit = i;
    } else if (c->op == SQLITE_INDEX_CONSTRAINT_OFFSET) {
      offset = i;
    } else if (equal && parameter >= 0) {
      if (!c->usable) return SQLITE_CONSTRAINT;
      given[parameter] = 1;
      take(&taken, i, (char)('a' + parameter), 1);
    } else if (!c->usable || c->iColumn < 0) {
      all_taken = 0;
    } else if (equal && c->iColumn == f->restricted) {
      int set = sqlite3_vtab_in(plan, i, -1);
      if (set) sqlite3_vtab_in(plan, i, 1);
      else plan->estimatedCost = LAST_RESORT_COST;
      take(&taken, i, LETTERS[set ? AMONG : ONLY], 1);
    } else if (c->iColumn == f->ordered && bound(c->op)) {
      all_taken &= take(&taken, i, bound(c->op), 0);
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
    take(&taken, limit, LETTERS[LIMIT], 0);
    if (offset >= 0) take(&taken, offset, LETTERS[OFFSET], 0);
  }
  plan->idxStr = sqlite3_mprintf("%s", taken.letters);
  plan->needToFreeIdxStr = 1;
  return plan->idxStr ? SQLITE_OK : SQLITE_NOMEM;
}

static int table_open(sqlite3_vtab *vtab, sqlite3_vtab_cursor **opened) {
  struct cursor *cursor = sqlite3_malloc(sizeof *cursor);
  (void)vtab;
  if (!cursor) return SQLITE_NOMEM;
  memset(cursor, 0, sizeof *cursor);
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
  forget(cursor);
  buffer_free(&cursor->asked);
  sqlite3_free(cursor);
  return SQLITE_OK;
}

static void put_set(struct buffer *b, sqlite3_value *set) {
  uint32_t count = 0;
  sqlite3_value *member;
  put_u8(b, TAG_SET);
  size_t at = b->size;
  put_u32(b, 0);
  for (int code = sqlite3_vtab_in_first(set, &member); code == SQLITE_OK && member;
       code = sqlite3_vtab_in_next(set, &member), count++)
    put_value(b, member);
  size_t size = b->size;
  if (b->failed) return;
  b->size = at;
  put_u32(b, count);
  b->size = size;
}

/* Whether this statement has asked for another single id before. */
static int asked_anew(struct cursor *cursor, sqlite3_value *id) {
  struct buffer now = {0};
  put_value(&now, id);
  int anew = cursor->asked.size &&
             (cursor->asked.size != now.size || memcmp(cursor->asked.data, now.data, now.size));
  buffer_free(&cursor->asked);
  cursor->asked = now;
  return anew;
}

static void put_pushed(struct buffer *b, struct cursor *cursor, const char *letters, sqlite3_value **values) {
  unsigned count = 0;
  size_t at = b->size;
  put_u16(b, 0);
  for (int i = 0; letters[i]; i++) {
    const char *letter = strchr(LETTERS, letters[i]);
    if (!letter) continue;
    unsigned what = (unsigned)(letter - LETTERS);
    if (what == ONLY && asked_anew(cursor, values[i])) what = ANEW;
    count++;
    put_u8(b, what);
    if (what == AMONG) put_set(b, values[i]);
    else put_value(b, values[i]);
  }
  size_t size = b->size;
  if (b->failed) return;
  b->size = at;
  put_u16(b, count);
  b->size = size;
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
