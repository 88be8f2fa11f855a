/* The bytes of a frame, written and read; every length is checked. No SQLite, no sockets. */
#include "sqlembed.h"

#include <stdlib.h>
#include <string.h>

static unsigned char *grow(struct buffer *b, size_t more) {
  if (b->failed) return NULL;
  if (more > MOST_FRAME_BYTES || b->size + more > MOST_FRAME_BYTES + 4) {
    b->failed = TOO_LARGE;
    return NULL;
  }
  if (b->size + more > b->room) {
    size_t room = b->room ? b->room : 512;
    while (room < b->size + more) room *= 2;
    unsigned char *data = realloc(b->data, room);
    if (!data) {
      b->failed = NO_MEMORY;
      return NULL;
    }
    b->data = data;
    b->room = room;
  }
  b->size += more;
  return b->data + b->size - more;
}

static void put_number(struct buffer *b, uint64_t number, size_t bytes) {
  unsigned char *at = grow(b, bytes);
  for (size_t i = 0; at && i < bytes; i++) at[i] = (unsigned char)(number >> (8 * i));
}

void put_u8(struct buffer *b, unsigned number) { put_number(b, number, 1); }
void put_u16(struct buffer *b, unsigned number) { put_number(b, number, 2); }
void put_u32(struct buffer *b, uint32_t number) { put_number(b, number, 4); }
void put_i64(struct buffer *b, int64_t number) { put_number(b, (uint64_t)number, 8); }

void put_real(struct buffer *b, double number) {
  uint64_t bits;
  memcpy(&bits, &number, sizeof bits);
  put_number(b, bits, 8);
}

void put_bytes(struct buffer *b, const void *bytes, size_t size) {
  unsigned char *at = grow(b, size);
  if (at && size) memcpy(at, bytes, size);
}

void put_text(struct buffer *b, const void *text, size_t size) {
  put_u32(b, (uint32_t)size); /* put_bytes() refuses what does not fit here */
  put_bytes(b, text, size);
}

/* A count comes before what it counts, and is known after. */
void put_count(struct buffer *b, size_t at, uint32_t count, size_t bytes) {
  if (b->failed) return;
  for (size_t i = 0; i < bytes; i++) b->data[at + i] = (unsigned char)(count >> (8 * i));
}

size_t frame_begin(struct buffer *b, enum frame_type type) {
  size_t begin = b->size;
  put_u32(b, 0);
  put_u8(b, type);
  return begin;
}

void frame_end(struct buffer *b, size_t begin) {
  put_count(b, begin, (uint32_t)(b->size - begin - 4), 4);
}

void buffer_clear(struct buffer *b) {
  if (b->room > MOST_KEPT_BYTES) buffer_free(b);
  b->size = 0;
  b->failed = FITS;
}

void buffer_free(struct buffer *b) {
  free(b->data);
  memset(b, 0, sizeof *b);
}

const unsigned char *get_bytes(struct reader *r, size_t size) {
  if (r->bad || size > (size_t)(r->end - r->at)) {
    r->bad = 1;
    return NULL;
  }
  r->at += size;
  return r->at - size;
}

static uint64_t get_number(struct reader *r, size_t bytes) {
  const unsigned char *at = get_bytes(r, bytes);
  uint64_t number = 0;
  for (size_t i = 0; at && i < bytes; i++) number |= (uint64_t)at[i] << (8 * i);
  return number;
}

void get_end(struct reader *r) { r->bad |= r->at != r->end; }

unsigned get_u8(struct reader *r) { return (unsigned)get_number(r, 1); }
unsigned get_u16(struct reader *r) { return (unsigned)get_number(r, 2); }
uint32_t get_u32(struct reader *r) { return (uint32_t)get_number(r, 4); }

const char *get_text(struct reader *r, uint32_t *size) {
  *size = get_u32(r);
  const unsigned char *text = get_bytes(r, *size);
  if (!text) *size = 0;
  return (const char *)text;
}

struct value get_value(struct reader *r) {
  struct value value = {.tag = TAG_NULL};
  unsigned tag = get_u8(r);
  uint64_t bits;
  uint32_t size;
  switch (tag) {
    case TAG_NULL:
      break;
    case TAG_INTEGER:
      value.integer = (int64_t)get_number(r, 8);
      break;
    case TAG_REAL:
      bits = get_number(r, 8);
      memcpy(&value.real, &bits, sizeof bits);
      break;
    case TAG_TEXT:
    case TAG_BLOB:
      value.bytes = get_text(r, &size);
      value.size = (int)size; /* of a frame: it fits */
      break;
    default:
      r->bad = 1;
  }
  if (!r->bad) value.tag = (enum value_tag)tag;
  return value;
}

int64_t frame_payload(const unsigned char *header) {
  struct reader r = {header, header + 4, 0};
  uint32_t length = get_u32(&r);
  return length < 1 || length > MOST_FRAME_BYTES ? -1 : (int64_t)length - 1;
}
