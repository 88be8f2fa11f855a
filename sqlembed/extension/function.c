/* Scalar functions, procedures and aggregates: SQLite's values to a request, the answer back. */
#include "sqlembed.h"

#include <string.h>

SQLITE_EXTENSION_INIT3

enum { MOST_PENDING_BYTES = 64 << 10, OPTIONAL_PAUSE_MS = 5000 };

void put_value(struct buffer *b, sqlite3_value *value) {
  int type = sqlite3_value_type(value);
  const void *bytes;
  int size;
  switch (type) {
    case SQLITE_INTEGER:
      put_u8(b, TAG_INTEGER);
      put_i64(b, sqlite3_value_int64(value));
      break;
    case SQLITE_FLOAT:
      put_u8(b, TAG_REAL);
      put_real(b, sqlite3_value_double(value));
      break;
    case SQLITE_TEXT:
    case SQLITE_BLOB:
      put_u8(b, type == SQLITE_TEXT ? TAG_TEXT : TAG_BLOB);
      bytes = type == SQLITE_TEXT ? sqlite3_value_text(value) : sqlite3_value_blob(value);
      size = sqlite3_value_bytes(value);
      /* No memory to convert it. An empty blob is NULL too; an empty text never is. */
      if (!bytes && (size || type == SQLITE_TEXT)) b->failed = NO_MEMORY;
      put_text(b, bytes, (size_t)size);
      break;
    default:
      put_u8(b, TAG_NULL);
  }
}

size_t request_begin(struct buffer *b, enum frame_type type, const struct function *f) {
  buffer_clear(b);
  size_t begin = frame_begin(b, type);
  put_text(b, f->name, strlen(f->name));
  return begin;
}

/* SQLite acts on some codes: on SQLITE_SCHEMA it runs the host's statement again. */
int result_code(int code) {
  switch (code) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_NOMEM:
    case SQLITE_READONLY:
    case SQLITE_INTERRUPT:
    case SQLITE_IOERR:
    case SQLITE_CORRUPT:
    case SQLITE_FULL:
    case SQLITE_TOOBIG:
      return code;
    default:
      return SQLITE_ERROR;
  }
}

static void refuse(sqlite3_context *context, struct link *link, int code) {
  sqlite3_result_error(context, link->problem ? link->problem : "out of memory", -1);
  sqlite3_result_error_code(context, result_code(code));
}

void give(sqlite3_context *context, const struct value *value) {
  switch (value->tag) {
    case TAG_INTEGER: sqlite3_result_int64(context, value->integer); break;
    case TAG_REAL: sqlite3_result_double(context, value->real); break;
    case TAG_TEXT: sqlite3_result_text(context, value->bytes, value->size, SQLITE_TRANSIENT); break;
    case TAG_BLOB: sqlite3_result_blob(context, value->bytes, value->size, SQLITE_TRANSIENT); break;
    default: sqlite3_result_null(context);
  }
}

static void finish(sqlite3_context *context, struct door *door, struct answer *answer, int code) {
  if (code) refuse(context, &door->link, code);
  else give(context, &answer->value);
  answer_free(answer);
}

/* An optional call gives 0 where the service cannot be reached and nothing was changed, and leaves
   off asking for a while: a thousand inserts must not wait a thousand times. */
static int done_without(struct door *door, int code, int changes) {
  if (code != GONE && code != ENDED) return 0;
  if (sqlite3_total_changes(door->link.db) != changes) return 0;
  door->link.down_until = milliseconds() + OPTIONAL_PAUSE_MS;
  return 1;
}

static void scalar(sqlite3_context *context, int count, sqlite3_value **values) {
  struct entry *entry = sqlite3_user_data(context);
  struct door *door = entry->door;
  struct answer answer = {0};
  int optional = entry->function->optional, changes = optional ? sqlite3_total_changes(door->link.db) : 0;
  if (optional && milliseconds() < door->link.down_until) {
    sqlite3_result_int(context, 0);
    return;
  }
  size_t begin = request_begin(&door->request, CALL, entry->function);
  put_u16(&door->request, (unsigned)count);
  for (int i = 0; i < count; i++) put_value(&door->request, values[i]);
  put_u16(&door->request, 0); /* nothing pushed down */
  frame_end(&door->request, begin);
  int code = call(&door->link, &door->request, &answer);
  if (!code && entry->function->makes_index) watch_immediate(door->link.db);
  if (optional && done_without(door, code, changes)) {
    sqlite3_result_int(context, 0);
    answer_free(&answer);
  } else {
    finish(context, door, &answer, code);
  }
}

/* A group of an aggregate: values gather here and go to the service by the part, which keeps the
   state under the group's number. */
struct group {
  uint32_t number; /* 0: nothing sent yet */
  int epoch;       /* the connection that knows the number */
  uint32_t count;
  struct buffer values;
  int failed;
};

static int group_send(struct entry *entry, struct group *group, enum frame_type type, struct answer *answer) {
  struct door *door = entry->door;
  int fresh = !group->number, code = SQLITE_OK;
  if (fresh) group->number = ++door->groups ? door->groups : ++door->groups;
  else code = link_ready(&door->link);
  if (code) return code;
  if (!fresh && door->link.epoch != group->epoch)
    return link_fail(&door->link, GONE,
                     "sqlembed's service was started anew while %s() gathered values; run the statement"
                     " again", entry->function->name);
  size_t begin = request_begin(&door->request, type, entry->function);
  put_u32(&door->request, group->number);
  put_u8(&door->request, (unsigned)fresh);
  put_u32(&door->request, group->count);
  put_bytes(&door->request, group->values.data, group->values.size);
  if (group->values.failed) door->request.failed = group->values.failed;
  frame_end(&door->request, begin);
  group->count = 0;
  group->values.size = 0;
  door->link.depth += !fresh; /* another connection knows no such group: no second try */
  code = call(&door->link, &door->request, answer);
  door->link.depth -= !fresh;
  group->epoch = door->link.epoch;
  return code;
}

static void step(sqlite3_context *context, int count, sqlite3_value **values) {
  struct entry *entry = sqlite3_user_data(context);
  struct group *group = sqlite3_aggregate_context(context, sizeof *group);
  struct answer answer = {0};
  (void)count;
  if (!group) sqlite3_result_error_nomem(context);
  if (!group || group->failed) return;
  put_value(&group->values, values[0]);
  group->count++;
  if (group->values.size < MOST_PENDING_BYTES && !group->values.failed) return;
  int code = group_send(entry, group, STEP, &answer);
  answer_free(&answer);
  if (code) {
    group->failed = 1;
    refuse(context, &entry->door->link, code);
  }
}

static void final(sqlite3_context *context) {
  struct entry *entry = sqlite3_user_data(context);
  struct group nothing = {0}, *group = sqlite3_aggregate_context(context, 0);
  struct answer answer = {0};
  if (!group) group = &nothing; /* no row */
  if (!group->failed)
    finish(context, entry->door, &answer, group_send(entry, group, FINAL, &answer));
  buffer_free(&group->values);
}

int add_function(sqlite3 *db, struct entry *entry) {
  const struct function *f = entry->function;
  int code = SQLITE_OK, aggregate = f->kind == AGGREGATE;
  for (int count = f->least; !code && count <= f->most; count++) {
    entry->door->users++; /* taken back by door_release(), also when this fails */
    code = sqlite3_create_function_v2(db, f->name, count, SQLITE_UTF8 | f->flags, entry,
                                      aggregate ? NULL : scalar, aggregate ? step : NULL,
                                      aggregate ? final : NULL, door_release);
  }
  return code;
}
