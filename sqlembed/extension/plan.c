/* A call to the service, and the SQL that it asks for, run on the host's connection inside
 * whatever transaction is open there. */
#include "sqlembed.h"

#include <stdlib.h>
#include <string.h>

SQLITE_EXTENSION_INIT3

enum { MOST_TRIES = 3, BUSY_MS = 10000, BUSY_PAUSE_MS = 10 };

static const char ANOTHER_WROTE[] =
    "database is locked: this connection reads the database as it was before another's write;"
    " finish the statements or the transaction that read, then call it alone";
static const char ANOTHER_WRITES[] =
    "database is locked: another writes while this connection reads;"
    " finish the statements or the transaction that read, then call it alone";

/* The changes between BEGIN and COMMIT of one plan. Its ends are prepared before they are needed:
   after an interrupt SQLite prepares nothing until the host's statement has ended. */
struct transaction {
  sqlite3 *db;
  sqlite3_stmt *commit, *undo, *release, *write;
};

static void transaction_end(struct transaction *t) {
  sqlite3_finalize(t->commit);
  sqlite3_finalize(t->undo);
  sqlite3_finalize(t->release);
  sqlite3_finalize(t->write);
  t->commit = t->undo = t->release = t->write = NULL;
}

static int prepare(sqlite3 *db, const char *sql, sqlite3_stmt **statement) {
  return sqlite3_prepare_v2(db, sql, -1, statement, NULL);
}

/* Whether no other waits for this connection, while it waits for them. */
static int holds_nothing(sqlite3 *db) {
  return sqlite3_get_autocommit(db) && sqlite3_txn_state(db, "main") == SQLITE_TXN_NONE;
}

/* Others are waited for, whatever the host's own time limit for locks is. Of what just failed with
   `code`, SQLITE_OK: try it again; else what it comes to. */
static int wait_for_others(struct link *link, int code, int64_t until) {
  if ((code & 0xff) != SQLITE_BUSY || milliseconds() > until) return code;
  /* The host reads the state from before another's write, which no waiting changes. */
  if (sqlite3_extended_errcode(link->db) == SQLITE_BUSY_SNAPSHOT) return code;
  unsigned char any;
  sqlite3_randomness(1, &any); /* so that two who wait do not meet again and again */
  sqlite3_sleep(BUSY_PAUSE_MS + any % BUSY_PAUSE_MS);
  return link_interrupted(link) ? SQLITE_INTERRUPT : SQLITE_OK;
}

/* Where the host reads, not even a while is waited: with a rollback journal, who writes waits for that
   to end; with a WAL, what it reads is old when the other is done. */
static int begin_writing(struct link *link) {
  int patient = holds_nothing(link->db);
  int64_t until = milliseconds() + BUSY_MS;
  for (;;) {
    int code = sqlite3_exec(link->db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
    if (code == SQLITE_OK || !patient) return code;
    code = wait_for_others(link, code, until);
    if (code) return code;
  }
}

static int transaction_begin(struct link *link, struct transaction *t) {
  int own = sqlite3_get_autocommit(t->db);
  if (t->commit) return SQLITE_MISUSE; /* a service without sense: one plan has one transaction */
  if (own && sqlite3_txn_state(t->db, NULL) == SQLITE_TXN_WRITE)
    return SQLITE_OK; /* under a statement that writes: it is atomic itself */
  int code = prepare(t->db, own ? "COMMIT" : "RELEASE sqlembed_plan", &t->commit);
  if (!code) code = prepare(t->db, own ? "ROLLBACK" : "ROLLBACK TO sqlembed_plan", &t->undo);
  if (!code) code = prepare(t->db, own ? "SELECT 1" : "RELEASE sqlembed_plan", &t->release);
  if (!code) code = prepare(t->db, "BEGIN IMMEDIATE", &t->write);
  if (!code) code = own ? begin_writing(link) : sqlite3_exec(t->db, "SAVEPOINT sqlembed_plan", 0, 0, 0);
  if (code) transaction_end(t); /* nothing was begun */
  return code == SQLITE_BUSY && !own ? SQLITE_OK : code; /* under a writing statement, likewise */
}

/* With a rollback journal those who read now are waited for. */
static int transaction_commit(struct link *link, struct transaction *t) {
  int64_t until = milliseconds() + BUSY_MS;
  while (t->commit) {
    int code = sqlite3_step(t->commit) == SQLITE_DONE ? SQLITE_OK : sqlite3_errcode(t->db);
    if (code == SQLITE_OK) {
      transaction_end(t);
      break;
    }
    code = wait_for_others(link, code, until);
    if (code) return code;
    sqlite3_reset(t->commit);
  }
  return SQLITE_OK;
}

static void transaction_undo(struct transaction *t) {
  if (!t->commit) return;
  for (int tries = 0; tries < 3 && !sqlite3_get_autocommit(t->db); tries++) {
    sqlite3_reset(t->undo);
    if (sqlite3_step(t->undo) == SQLITE_DONE) {
      sqlite3_step(t->release);
      break;
    }
    /* Interrupted. Nothing runs until the host's statement ends, ROLLBACK neither; but a statement
       that writes and is interrupted makes SQLite roll the whole transaction back. */
    sqlite3_reset(t->write);
    sqlite3_step(t->write);
  }
  transaction_end(t);
}

static int bind(sqlite3_stmt *statement, int position, const struct value *value) {
  switch (value->tag) { /* the frame outlives the statement: nothing is copied */
    case TAG_INTEGER: return sqlite3_bind_int64(statement, position, value->integer);
    case TAG_REAL: return sqlite3_bind_double(statement, position, value->real);
    case TAG_TEXT: return sqlite3_bind_text(statement, position, value->bytes, value->size, SQLITE_STATIC);
    case TAG_BLOB: return sqlite3_bind_blob(statement, position, value->bytes, value->size, SQLITE_STATIC);
    default: return sqlite3_bind_null(statement, position);
  }
}

static int bind_all(sqlite3_stmt *statement, struct reader *payload, unsigned count) {
  int code = SQLITE_OK;
  for (unsigned i = 1; !code && !payload->bad && i <= count; i++) {
    struct value value = get_value(payload);
    code = bind(statement, (int)i, &value);
  }
  return payload->bad ? SQLITE_ERROR : code; /* also of nothing: what makes no sense is not run */
}

/* Rows on their way to the service: one frame until it is full, then the next. */
struct rows {
  struct buffer buffer;
  size_t begin, count_at;
  uint32_t count;
  int columns;
};

static void rows_begin(struct rows *rows, int columns) {
  rows->columns = columns;
  rows->begin = frame_begin(&rows->buffer, ROWS);
  put_u16(&rows->buffer, (unsigned)columns);
  rows->count_at = rows->buffer.size;
  rows->count = 0;
  put_u32(&rows->buffer, 0);
}

static int rows_send(struct link *link, struct rows *rows) {
  int code = SQLITE_OK;
  if (rows->count) {
    put_count(&rows->buffer, rows->count_at, rows->count, 4);
    frame_end(&rows->buffer, rows->begin);
    code = link_send(link, &rows->buffer);
  }
  buffer_clear(&rows->buffer);
  rows->count = 0;
  return code;
}

/* Errors of two kinds: SQL's, which the service is told, and the link's, which end the call. */
struct outcome {
  int link, sql;
  const char *words; /* of an SQL error that is not SQLite's */
};

static void rows_add(struct link *link, struct rows *rows, sqlite3_stmt *row, struct outcome *outcome) {
  int columns = sqlite3_column_count(row);
  if (rows->count && rows->columns != columns) outcome->link = rows_send(link, rows); /* the next statement's */
  if (!rows->count) rows_begin(rows, columns);
  /* These values are "unprotected"; but the host's statement that called us holds the mutex. */
  for (int column = 0; column < columns; column++) put_value(&rows->buffer, sqlite3_column_value(row, column));
  rows->count++;
  if (rows->buffer.failed) {
    int full = rows->buffer.failed == TOO_LARGE;
    outcome->sql = full ? SQLITE_ERROR : SQLITE_NOMEM;
    outcome->words = full ? "a row is too large for sqlembed's service, which takes 64 MB at once" : "out of memory";
  } else if (rows->buffer.size >= PART_BYTES) {
    outcome->link = rows_send(link, rows);
  }
}

static struct outcome run_script(struct link *link, struct reader *payload, struct rows *rows) {
  uint32_t size;
  const char *text = get_text(payload, &size);
  char *script = sqlite3_mprintf("%.*s", (int)size, text ? text : "");
  unsigned bindings = get_u16(payload);
  struct outcome outcome = {.sql = script ? SQLITE_OK : SQLITE_NOMEM};
  const char *rest = script;
  int64_t until = milliseconds() + BUSY_MS;
  while (!outcome.sql && !outcome.link && rest && *rest) {
    sqlite3_stmt *statement;
    const char *begin = rest;
    int patient = holds_nothing(link->db);
    outcome.sql = sqlite3_prepare_v2(link->db, begin, -1, &statement, &rest);
    if (outcome.sql && patient) { /* it may have to read the schema */
      outcome.sql = wait_for_others(link, outcome.sql, until);
      rest = begin;
      continue;
    }
    if (outcome.sql || !statement) continue;
    outcome.sql = bind_all(statement, payload, bindings);
    bindings = 0; /* of the first statement */
    while (!outcome.sql && !outcome.link) {
      int step = sqlite3_step(statement);
      if (step == SQLITE_ROW) {
        rows_add(link, rows, statement, &outcome);
        patient = 0;
      } else if (step == SQLITE_DONE) {
        break;
      } else {
        outcome.sql = patient ? wait_for_others(link, step, until) : step;
        if (!outcome.sql) sqlite3_reset(statement);
      }
    }
    int code = sqlite3_finalize(statement);
    if (!outcome.sql && !outcome.link) outcome.sql = code;
  }
  sqlite3_free(script);
  return outcome;
}

static struct outcome run_many(struct link *link, struct reader *payload) {
  uint32_t size;
  const char *text = get_text(payload, &size);
  unsigned columns = get_u16(payload);
  uint32_t count = get_u32(payload);
  sqlite3_stmt *statement = NULL;
  struct outcome outcome = {0};
  if (count && !columns) payload->bad = 1; /* as often as it likes, of nothing */
  outcome.sql = sqlite3_prepare_v2(link->db, text ? text : "", (int)size, &statement, NULL);
  while (!outcome.sql && count--) {
    outcome.sql = bind_all(statement, payload, columns);
    int step = SQLITE_ROW;
    while (!outcome.sql && step == SQLITE_ROW) step = sqlite3_step(statement);
    if (!outcome.sql && step != SQLITE_DONE) outcome.sql = step;
    int code = sqlite3_reset(statement);
    if (!outcome.sql) outcome.sql = code;
  }
  int code = sqlite3_finalize(statement);
  if (!outcome.sql) outcome.sql = code;
  return outcome;
}

static const char *reason(struct link *link, const struct outcome *outcome) {
  if (outcome->words) return outcome->words;
  if (sqlite3_extended_errcode(link->db) == SQLITE_BUSY_SNAPSHOT) return ANOTHER_WROTE;
  if ((outcome->sql & 0xff) == SQLITE_BUSY && sqlite3_txn_state(link->db, "main") == SQLITE_TXN_READ)
    return ANOTHER_WRITES;
  return sqlite3_errcode(link->db) ? sqlite3_errmsg(link->db) : sqlite3_errstr(outcome->sql);
}

/* FAILED: why a statement did not run. Busy, interrupted, full and a corrupt file are no plan's to handle;
   they end the call, and the host is told SQLite's own code. A virtual table that is corrupt is its own. */
static int put_failure(struct link *link, struct buffer *b, const struct outcome *outcome) {
  int code = outcome->sql & 0xff, fatal = code != SQLITE_ERROR && code != SQLITE_LOCKED;
  if (sqlite3_extended_errcode(link->db) == SQLITE_CORRUPT_VTAB) fatal = 0;
  const char *words = reason(link, outcome);
  link_fail(link, code, "%s", words);
  size_t begin = frame_begin(b, FAILED);
  put_u8(b, (unsigned)fatal);
  put_text(b, words, strlen(words));
  frame_end(b, begin);
  return fatal ? code : SQLITE_OK;
}

/* Do what the service asks, and answer it. */
static int perform(struct link *link, struct frame *request, struct transaction *transaction) {
  struct rows rows = {0};
  struct outcome outcome = {0};
  int epoch = link->epoch, fatal = SQLITE_OK;
  link->depth++; /* its SQL may call our functions */
  if (request->type == RUN) outcome = run_script(link, &request->payload, &rows);
  else if (request->type == MANY) outcome = run_many(link, &request->payload);
  else if (request->type == BEGIN) outcome.sql = transaction_begin(link, transaction);
  else outcome.sql = transaction_commit(link, transaction);
  link->depth--;
  int code = outcome.link;
  if (!code && (request->payload.bad || outcome.sql == SQLITE_MISUSE))
    code = link_fail(link, GONE, "sqlembed's service sent a request without sense");
  else if (!code && (link->fd < 0 || link->epoch != epoch)) /* a call inside found out, and has said why */
    code = link_fail(link, outcome.sql > SQLITE_ERROR ? outcome.sql & 0xff : GONE, "%s",
                     outcome.sql ? reason(link, &outcome) : "sqlembed's service ended");
  if (!code && !outcome.sql) code = rows_send(link, &rows);
  if (!code) {
    buffer_clear(&rows.buffer);
    if (outcome.sql) fatal = put_failure(link, &rows.buffer, &outcome);
    else frame_end(&rows.buffer, frame_begin(&rows.buffer, DONE));
    code = link_send(link, &rows.buffer);
  }
  buffer_free(&rows.buffer);
  if (code) link_close(link); /* the service still waits for an answer that it will not have */
  return code ? code : fatal;
}

static int add_frame(struct answer *answer, struct frame *frame) {
  if (answer->frame_count == answer->frame_room) {
    size_t room = answer->frame_room ? 2 * answer->frame_room : 4;
    struct frame *frames = realloc(answer->frames, room * sizeof *frames);
    if (!frames) return SQLITE_NOMEM;
    answer->frames = frames;
    answer->frame_room = room;
  }
  answer->frames[answer->frame_count++] = *frame;
  memset(frame, 0, sizeof *frame);
  return SQLITE_OK;
}

static int add_rows(struct answer *answer, struct frame *frame) {
  struct reader *payload = &frame->payload;
  unsigned columns = get_u16(payload);
  uint64_t cells = (uint64_t)get_u32(payload) * columns;
  /* A value takes a byte at least: more cells than bytes is nonsense, and not allocated. */
  if (payload->bad || columns != answer->columns || cells > (uint64_t)(payload->end - payload->at))
    return SQLITE_CORRUPT;
  if (answer->count + cells > answer->room) {
    size_t room = 2 * (answer->count + (size_t)cells);
    struct value *grown = room < SIZE_MAX / sizeof *grown ? realloc(answer->cells, room * sizeof *grown) : NULL;
    if (!grown) return SQLITE_NOMEM;
    answer->cells = grown;
    answer->room = room;
  }
  while (cells--) answer->cells[answer->count++] = get_value(payload);
  get_end(payload);
  return payload->bad ? SQLITE_CORRUPT : add_frame(answer, frame);
}

static int told(struct link *link, struct frame *frame) {
  uint32_t size;
  get_text(&frame->payload, &size); /* the error's kind, for clients that tell errors apart */
  const char *words = get_text(&frame->payload, &size);
  if (!words) return SQLITE_CORRUPT;
  return link_fail(link, SQLITE_ERROR, "%.*s", (int)size, words);
}

/* Take one frame; `more` tells whether another is to come. */
static int handle(struct link *link, struct frame *frame, struct transaction *transaction,
                  struct answer *answer, int *more) {
  int code = SQLITE_OK, table = answer->columns > 0;
  *more = 0;
  switch (frame->type) {
    case VALUE:
      answer->value = get_value(&frame->payload);
      get_end(&frame->payload);
      code = frame->payload.bad || table ? SQLITE_CORRUPT : add_frame(answer, frame);
      break;
    case END:
      if (!table) code = SQLITE_CORRUPT;
      break;
    case ERROR:
      code = told(link, frame);
      break;
    case ROWS:
      *more = 1;
      code = table ? add_rows(answer, frame) : SQLITE_CORRUPT;
      break;
    case RUN:
    case MANY:
    case BEGIN:
    case COMMIT:
      *more = 1;
      return perform(link, frame, transaction);
    default:
      code = SQLITE_CORRUPT;
  }
  if (code == SQLITE_CORRUPT)
    return link_broken(link, GONE, "sqlembed's service sent an answer without sense");
  if (code == SQLITE_NOMEM) return link_broken(link, code, "out of memory");
  return code;
}

int call(struct link *link, struct buffer *request, struct answer *answer) {
  struct transaction transaction = {.db = link->db};
  struct frame frame;
  int code, again, tries = 0, lost = 0, more = 1;
  do {
    code = link_ready(link);
    if (code) return code;
    again = ++tries < MOST_TRIES && !link->depth;
    link->works = 0;
    code = link_send(link, request); /* where the service ends meanwhile, it has not had the call */
    if (code) continue;
    /* One that was told to end may not have read it. It is sent twice at most: it may be what kills
       every service that reads it. */
    again = again && !lost++;
    code = link_receive(link, &frame);
  } while (code == ENDED && again && !link->works);
  while (!code) {
    code = handle(link, &frame, &transaction, answer, &more);
    frame_free(&frame);
    if (code || !more) break;
    code = link_receive(link, &frame);
  }
  transaction_undo(&transaction);
  return code;
}

void answer_free(struct answer *answer) {
  for (size_t i = 0; i < answer->frame_count; i++) frame_free(&answer->frames[i]);
  free(answer->frames);
  free(answer->cells);
  memset(answer, 0, sizeof *answer);
}
