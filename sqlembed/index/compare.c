/* Compare codes with a query: the loops in which a search of a large index spends its time.
 *
 * compare.py calls them, and does the same in numpy where this was not compiled. Codes come in
 * blocks, and are numbered through all of them. */

#define _GNU_SOURCE /* for sched_getcpu and pthread_attr_setaffinity_np */

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>

#define PUBLIC __attribute__((visibility("default")))
#define INLINE static inline __attribute__((always_inline)) /* so that it is compiled for each width */

/* What the processor has is seen when it runs: who built this may have had another one. */
#ifdef __x86_64__
#include <immintrin.h>
#define AVX2 __attribute__((target("avx2,fma")))
#define HAS_AVX2 (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
#endif

/* ---- Several threads ---- */

enum { MOST_THREADS = 16 };

struct part {
  void (*work)(const void *task, size_t first, size_t end);
  const void *task;
  size_t first, end;
#ifdef __GLIBC__
  const cpu_set_t *allowed; /* where it may run, once it has begun elsewhere; or none */
#endif
};

static void *run(void *given) {
  const struct part *part = given;
#ifdef __GLIBC__
  if (part->allowed) sched_setaffinity(0, sizeof *part->allowed, part->allowed);
#endif
  part->work(part->task, part->first, part->end);
  return NULL;
}

#ifdef __GLIBC__
/* Linux begins a thread on the processor of who makes it, if that has rested: it would wait there for
 * the other half of the work. After a pause two threads took as long as one. */
static int elsewhere(pthread_attr_t *attributes, cpu_set_t *allowed) {
  int here = sched_getcpu();
  if (here < 0 || sched_getaffinity(0, sizeof *allowed, allowed)) return 0;
  cpu_set_t others = *allowed;
  CPU_CLR(here, &others);
  return CPU_COUNT(&others) && !pthread_attr_setaffinity_np(attributes, sizeof others, &others);
}
#endif

/* Each thread does a part of `count` things. They are made anew each time, which takes some 20
 * microseconds: a process may fork meanwhile, and threads that wait would be missing in its child. */
static void in_parts(size_t count, int threads, void (*work)(const void *, size_t, size_t),
                     const void *task) {
  struct part parts[MOST_THREADS];
  pthread_t others[MOST_THREADS];
  size_t number = threads > MOST_THREADS ? MOST_THREADS : threads > 1 ? (size_t)threads : 1, made = 1;
  pthread_attr_t attributes;
  sigset_t all, before;
#ifdef __GLIBC__
  cpu_set_t allowed;
#endif
  for (size_t i = 0; i < number; i++)
    parts[i] = (struct part){
        .work = work, .task = task, .first = count * i / number, .end = count * (i + 1) / number};
  if (number > 1 && !pthread_attr_init(&attributes)) {
#ifdef __GLIBC__
    if (elsewhere(&attributes, &allowed))
      for (size_t i = 1; i < number; i++) parts[i].allowed = &allowed;
#endif
    sigfillset(&all); /* the host's signals are for the host's threads */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (made < number && !pthread_create(&others[made], &attributes, run, &parts[made])) made++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
  }
  work(task, 0, parts[0].end);
  for (size_t i = made; i < number; i++) work(task, parts[i].first, parts[i].end);
  for (size_t i = 1; i < made; i++) pthread_join(others[i], NULL);
}

/* ---- How far each code is apart ---- */

struct weighing {
  const uint64_t *const *signs;
  const int64_t *counts;
  size_t words;
  const uint64_t *query, *large;
  uint16_t *apart;
};

/* A bit that differs where the query is `large` counts three times. `stride` is from word to word. */
static void weigh_bits(const uint64_t *signs, size_t stride, size_t words, size_t i, size_t end,
                       const uint64_t *query, const uint64_t *large, uint16_t *apart) {
  for (; i < end; i++) {
    unsigned bits = 0;
    for (size_t word = 0; word < words; word++) {
      uint64_t differ = signs[word * stride + i] ^ query[word];
      bits += (unsigned)__builtin_popcountll(differ);
      bits += 2 * (unsigned)__builtin_popcountll(differ & large[word]);
    }
    apart[i] = (uint16_t)bits;
  }
}

#ifdef __x86_64__
enum { CODES = 4, BYTE_WORDS = 10 }; /* in a register; words that a byte can count, 24 each */

/* Bits are looked up by half bytes, in a third of the time of counting them by words. */
AVX2 static void weigh_bits_by_avx2(const uint64_t *signs, size_t stride, size_t words, size_t i,
                                    size_t end, const uint64_t *query, const uint64_t *large,
                                    uint16_t *apart) {
  const __m256i bits = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, /* twice */
                                        0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
  const __m256i two = _mm256_add_epi8(bits, bits);
  const __m256i half = _mm256_set1_epi8(15), none = _mm256_setzero_si256();
  for (; i + CODES <= end; i += CODES) {
    __m256i sums = none;
    for (size_t first = 0; first < words; first += BYTE_WORDS) {
      size_t last = words - first < BYTE_WORDS ? words : first + BYTE_WORDS;
      __m256i bytes = none;
      for (size_t word = first; word < last; word++) {
        const __m256i *four = (const __m256i *)(const void *)(signs + word * stride + i);
        __m256i asked = _mm256_set1_epi64x((long long)query[word]);
        __m256i more = _mm256_set1_epi64x((long long)large[word]);
        __m256i differ = _mm256_xor_si256(_mm256_loadu_si256(four), asked);
        __m256i heavy = _mm256_and_si256(differ, more);
        __m256i low = _mm256_and_si256(differ, half);
        __m256i high = _mm256_and_si256(_mm256_srli_epi16(differ, 4), half);
        __m256i heavy_low = _mm256_and_si256(heavy, half);
        __m256i heavy_high = _mm256_and_si256(_mm256_srli_epi16(heavy, 4), half);
        bytes = _mm256_add_epi8(bytes, _mm256_shuffle_epi8(bits, low));
        bytes = _mm256_add_epi8(bytes, _mm256_shuffle_epi8(bits, high));
        bytes = _mm256_add_epi8(bytes, _mm256_shuffle_epi8(two, heavy_low));
        bytes = _mm256_add_epi8(bytes, _mm256_shuffle_epi8(two, heavy_high));
      }
      sums = _mm256_add_epi64(sums, _mm256_sad_epu8(bytes, none));
    }
    uint64_t each[CODES];
    _mm256_storeu_si256((__m256i *)(void *)each, sums);
    for (size_t code = 0; code < CODES; code++) apart[i + code] = (uint16_t)each[code];
  }
  weigh_bits(signs, stride, words, i, end, query, large, apart);
}
#endif

static void weigh(const void *given, size_t first, size_t end) {
  const struct weighing *task = given;
  size_t base = 0;
  for (size_t block = 0; base < end; base += (size_t)task->counts[block++]) {
    size_t count = (size_t)task->counts[block];
    size_t from = first > base ? first - base : 0, to = end - base < count ? end - base : count;
    if (from >= to) continue;
    void (*bits)(const uint64_t *, size_t, size_t, size_t, size_t, const uint64_t *,
                 const uint64_t *, uint16_t *) = weigh_bits;
#ifdef __x86_64__
    if (HAS_AVX2) bits = weigh_bits_by_avx2;
#endif
    bits(task->signs[block], count, task->words, from, to, task->query, task->large,
         task->apart + base);
  }
}

/* How far each code is apart from the query: the bits in which it differs, three times where the
 * query is large. The words of a block's code lie as far apart as the block has codes. */
PUBLIC void sqlembed_apart(const uint64_t *const *signs, const int64_t *counts, size_t count,
                           size_t words, const uint64_t *query, const uint64_t *large,
                           uint16_t *apart, int threads) {
  struct weighing task = {signs, counts, words, query, large, apart};
  in_parts(count, threads, weigh, &task);
}

/* ---- The least apart ---- */

enum { VALUES = 256 }; /* of a byte */

/* How far the code is apart that comes after `before` nearer ones; only each `step`th one counts. */
static unsigned ranked(const uint16_t *apart, size_t count, size_t step, size_t before) {
  size_t high[VALUES] = {0}, low[VALUES] = {0};
  unsigned first = 0, second = 0;
  for (size_t i = 0; i < count; i += step) high[apart[i] >> 8]++;
  for (; first < VALUES - 1 && before >= high[first]; first++) before -= high[first];
  for (size_t i = 0; i < count; i += step) low[apart[i] & 255] += apart[i] >> 8 == first;
  for (; second < VALUES - 1 && before >= low[second]; second++) before -= low[second];
  return first << 8 | second;
}

static size_t within(const uint16_t *apart, size_t i, size_t count, unsigned limit, int64_t *places) {
  size_t found = 0;
  for (; i < count; i++)
    if (apart[i] <= limit) places[found++] = (int64_t)i;
  return found;
}

#ifdef __x86_64__
enum { COMPARED = 16 }; /* at once */

AVX2 static size_t within_by_avx2(const uint16_t *apart, size_t count, unsigned limit,
                                  int64_t *places) {
  const __m256i most = _mm256_set1_epi16((short)limit), none = _mm256_setzero_si256();
  size_t found = 0, i = 0;
  for (; i + COMPARED <= count; i += COMPARED) {
    __m256i some = _mm256_loadu_si256((const __m256i *)(const void *)(apart + i));
    __m256i near = _mm256_cmpeq_epi16(_mm256_subs_epu16(some, most), none);
    unsigned bits = (unsigned)_mm256_movemask_epi8(near) & 0x55555555u; /* of each one's two */
    for (; bits; bits &= bits - 1) places[found++] = (int64_t)i + __builtin_ctz(bits) / 2;
  }
  return found + within(apart, i, count, limit, places + found);
}
#endif

/* The places of all codes that are no farther apart than the one that comes after `before` nearer
 * ones, where only each `step`th one counts; and how many these are. */
PUBLIC size_t sqlembed_least(const uint16_t *apart, size_t count, size_t step, size_t before,
                             int64_t *places) {
  unsigned limit = ranked(apart, count, step, before);
#ifdef __x86_64__
  if (HAS_AVX2) return within_by_avx2(apart, count, limit, places);
#endif
  return within(apart, 0, count, limit, places);
}

/* ---- Products ---- */

enum { LANES = 16, AHEAD = 8, LINE = 64 }; /* AHEAD: codes that are fetched before they are used */

struct multiplication {
  const uint8_t *const *levels;
  const int64_t *counts;
  size_t bytes;
  const int64_t *places;
  const float *high, *low;
  float *products;
};

/* Written so that the compiler takes many numbers at a time. */
INLINE float product(const uint8_t *code, size_t bytes, const float *high, const float *low) {
  float sums[LANES] = {0}, sum = 0;
  size_t at = 0;
  for (; at + LANES <= bytes; at += LANES)
    for (size_t lane = 0; lane < LANES; lane++) {
      uint8_t both = code[at + lane];
      sums[lane] += (float)(both >> 4) * high[at + lane] + (float)(both & 15) * low[at + lane];
    }
  for (; at < bytes; at++)
    sum += (float)(code[at] >> 4) * high[at] + (float)(code[at] & 15) * low[at];
  for (size_t lane = 0; lane < LANES; lane++) sum += sums[lane];
  return sum;
}

INLINE void multiply(const struct multiplication *task, size_t first, size_t end) {
  const uint8_t *code[AHEAD] = {0};
  size_t block = 0;
  int64_t base = 0;
  for (size_t i = first; i < end + AHEAD; i++) {
    if (i >= first + AHEAD)
      task->products[i - AHEAD] = product(code[i % AHEAD], task->bytes, task->high, task->low);
    if (i < end) {
      while (task->places[i] - base >= task->counts[block]) base += task->counts[block++];
      code[i % AHEAD] = task->levels[block] + (size_t)(task->places[i] - base) * task->bytes;
      for (size_t at = 0; at < task->bytes; at += LINE) __builtin_prefetch(code[i % AHEAD] + at);
    }
  }
}

static void multiply_part(const void *task, size_t first, size_t end) {
  multiply(task, first, end);
}

#ifdef __x86_64__
AVX2 static void multiply_part_by_avx2(const void *task, size_t first, size_t end) {
  multiply(task, first, end);
}
#endif

/* The sum of each code's levels, two in a byte, times the query's weights for the higher and the
 * lower ones. `places` ascend. */
PUBLIC void sqlembed_products(const uint8_t *const *levels, const int64_t *counts, size_t bytes,
                              const int64_t *places, size_t count, const float *high,
                              const float *low, float *products, int threads) {
  struct multiplication task = {levels, counts, bytes, places, high, low, products};
#ifdef __x86_64__
  if (HAS_AVX2) {
    in_parts(count, threads, multiply_part_by_avx2, &task);
    return;
  }
#endif
  in_parts(count, threads, multiply_part, &task);
}

struct cosines {
  const float *vectors, *query;
  size_t width;
  float *found;
};

INLINE void cosine(const struct cosines *task, size_t first, size_t end) {
  for (size_t i = first; i < end; i++) {
    const float *vector = task->vectors + i * task->width;
    float sums[2 * LANES] = {0}, sum = 0;
    size_t at = 0;
    for (; at + 2 * LANES <= task->width; at += 2 * LANES)
      for (size_t lane = 0; lane < 2 * LANES; lane++)
        sums[lane] += vector[at + lane] * task->query[at + lane];
    for (; at < task->width; at++) sum += vector[at] * task->query[at];
    for (size_t lane = 0; lane < 2 * LANES; lane++) sum += sums[lane];
    task->found[i] = sum;
  }
}

static void cosine_part(const void *task, size_t first, size_t end) { cosine(task, first, end); }

#ifdef __x86_64__
AVX2 static void cosine_part_by_avx2(const void *task, size_t first, size_t end) {
  cosine(task, first, end);
}
#endif

/* The product of each vector, of shape (count, width), with the query. */
PUBLIC void sqlembed_cosines(const float *vectors, size_t count, size_t width, const float *query,
                             float *found, int threads) {
  struct cosines task = {vectors, query, width, found};
#ifdef __x86_64__
  if (HAS_AVX2) {
    in_parts(count, threads, cosine_part_by_avx2, &task);
    return;
  }
#endif
  in_parts(count, threads, cosine_part, &task);
}
