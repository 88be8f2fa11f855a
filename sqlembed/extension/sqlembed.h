/* sqlembed.so: every SQL function of sqlembed in any SQLite host, by way of the service.
 *
 * This library knows no model and no function by name. functions.h, generated from the
 * registry that Python uses, says what to register; each call is a frame to the service
 * (docs/protocol.md), and the SQL that the service asks for is run on the host's connection.
 *
 * In the order of the data:  frame.c      bytes of a frame, written and read
 *                            start.c      find and start the service
 *                            link.c       one connection to it, with time limits and interrupts
 *                            plan.c       a call, and the SQL that it asks for
 *                            function.c   scalar functions, procedures, aggregates
 *                            table.c      table-valued functions
 *                            extension.c  what SQLite calls when it loads us
 */
#ifndef SQLEMBED_H
#define SQLEMBED_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <sqlite3ext.h>

/* ---- frame.c ---- */

/* A frame: u32 length of all that follows it, u8 type, payload; little-endian. */
enum { HEADER_BYTES = 5, MOST_FRAME_BYTES = 64 << 20, PART_BYTES = 256 << 10, MOST_KEPT_BYTES = 1 << 20 };

enum frame_type {
  HELLO = 0x01, CALL, STEP, FINAL, /* the client's requests */
  ROWS = 0x11, DONE, FAILED,       /* rows go both ways; DONE and FAILED end the client's answer */
  WELCOME = 0x21, VALUE, END, ERROR, WORKING, /* the service's answers */
  RUN = 0x31, MANY, BEGIN, COMMIT             /* what it asks of the host's database */
};

enum value_tag { TAG_NULL, TAG_INTEGER, TAG_REAL, TAG_TEXT, TAG_BLOB, TAG_SET };

/* Bytes being written; once that has failed, nothing is written any more. */
struct buffer {
  unsigned char *data;
  size_t size, room;
  enum { FITS, TOO_LARGE, NO_MEMORY } failed;
};

void put_u8(struct buffer *, unsigned);
void put_u16(struct buffer *, unsigned);
void put_u32(struct buffer *, uint32_t);
void put_i64(struct buffer *, int64_t);
void put_real(struct buffer *, double);
void put_bytes(struct buffer *, const void *, size_t);
void put_text(struct buffer *, const void *, size_t);
void put_count(struct buffer *, size_t at, uint32_t count, size_t bytes);
size_t frame_begin(struct buffer *, enum frame_type); /* where it begins, for frame_end() */
void frame_end(struct buffer *, size_t begin);
void buffer_clear(struct buffer *); /* to be written anew */
void buffer_free(struct buffer *);

/* Bytes being read; `bad` once they ended early or made no sense, and nothing is read after. */
struct reader {
  const unsigned char *at, *end;
  int bad;
};

struct value {
  enum value_tag tag;
  int size; /* of a text or a blob */
  union {
    int64_t integer;
    double real;
    const char *bytes; /* inside the frame, not ended by a NUL */
  };
};

unsigned get_u8(struct reader *);
unsigned get_u16(struct reader *);
uint32_t get_u32(struct reader *);
const unsigned char *get_bytes(struct reader *, size_t);
const char *get_text(struct reader *, uint32_t *size); /* not ended by a NUL */
struct value get_value(struct reader *);               /* never a set */
void get_end(struct reader *);                         /* nothing may be left */

/* The payload's length of a frame of which HEADER_BYTES are here; -1 if it is over the limit. */
int64_t frame_payload(const unsigned char *header);

/* ---- link.c and start.c ---- */

/* One host connection's link to the service. SQLite uses a connection in one thread at a
   time, so a link needs no lock, and one host never waits for another. */
struct link {
  sqlite3 *db;
  int fd;        /* -1: not connected */
  pid_t process; /* that connected it: a fork must not share it */
  uint64_t device, inode; /* of the socket: in a fork the number may be another file's by now */
  long patience; /* seconds without a sign of life that are allowed */
  int works;     /* the service has said that it works on the last request */
  int depth;     /* plans whose statements are running now: no other connection will do */
  int epoch;     /* counts connections: neither a plan nor an aggregate may span two */
  int64_t down_until;   /* when an optional call may look for the service again */
  unsigned char *stash; /* bytes received and not read yet: so many, from there on */
  size_t stashed, stash_at;
  const char *library; /* the path of sqlembed.so */
  char *problem;       /* the last failure, in words */
};

/* Failures of the link: it cannot be had, or it ended just now, which another try may mend. All
   others are result codes of SQLite. */
enum { GONE = -1, ENDED = -2 };

/* Waiting for the other side, by the slice. */
struct wait {
  int64_t left, since; /* milliseconds that it may take yet; the clock, when last looked at */
};

struct frame {
  enum frame_type type;
  struct reader payload;
  unsigned char *memory; /* to be freed with frame_free() */
};

/* All give SQLITE_OK, GONE, ENDED or a result code of SQLite; what went wrong is in link->problem. */
int link_send(struct link *, struct buffer *);
int link_receive(struct link *, struct frame *);
int link_ready(struct link *); /* connected, started if need be, greeted */
int link_fail(struct link *, int code, const char *format, ...);
int link_broken(struct link *, int code, const char *format, ...); /* and close it */
int link_interrupted(struct link *);
int link_wait(struct link *, struct wait *); /* again? SQLITE_OK, SQLITE_INTERRUPT, or GONE: too long */
void link_close(struct link *);
void frame_free(struct frame *);
int service_start(struct link *, const char *path);
char *library_path(void); /* of sqlembed.so itself; to be freed with free() */
int64_t microseconds(void);
int64_t milliseconds(void);
int above_stdio(int fd); /* a host may have closed its own, and print into ours */

enum { SLICE_MS = 50, START_MS = 30000 };

/* ---- plan.c ---- */

/* What a call gave: a value, or rows one after another. */
struct answer {
  struct value value;
  struct value *cells;
  size_t count, room;
  unsigned columns;
  struct frame *frames; /* that the values point into */
  size_t frame_count, frame_room;
};

/* Send the request, run what the service asks for, and take its answer. */
int call(struct link *, struct buffer *request, struct answer *);
void answer_free(struct answer *);

/* ---- function.c and table.c ---- */

enum kind { SCALAR, PROCEDURE, AGGREGATE, TABLE };

/* A function as functions.h lists it. */
struct function {
  const char *name;
  enum kind kind;
  int least, most; /* arguments */
  int flags;       /* for sqlite3_create_function_v2 */
  int makes_index; /* look anew which indexes are stored to at once */
  int optional;    /* where the service cannot be reached it gives 0 */
  const char *usage, *declaration; /* of a table: for messages, and its CREATE TABLE */
  const char *const *parameters;
  int columns, restricted, bounded, ordered; /* the last three: a column, or -1 */
};

/* What every function of one host connection shares; freed with the last of them. */
struct door {
  struct link link;
  struct buffer request; /* used from its beginning to its sending, which runs no SQL */
  uint32_t groups;       /* aggregates begun */
  int users;
  char *library;
  struct entry *entries;
};

struct entry {
  struct door *door;
  const struct function *function;
};

void put_value(struct buffer *, sqlite3_value *);
int result_code(int code); /* what SQLite may be told */
size_t request_begin(struct buffer *, enum frame_type, const struct function *);
void give(sqlite3_context *, const struct value *);
void door_release(void *entry);
int add_function(sqlite3 *, struct entry *);
int add_table(sqlite3 *, struct entry *);
void watch_immediate(sqlite3 *);

#endif
