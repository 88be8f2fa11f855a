/* Compare codes with a query: the two loops in which a search of a large index spends its time.
 *
 * compare.py calls them, and does the same in numpy where this was not compiled. Codes come in
 * blocks, and are numbered through all of them. */

#include <stddef.h>
#include <stdint.h>

#define PUBLIC __attribute__((visibility("default")))

/* What the processor has is seen when it runs: who built this may have had another one. */
#ifdef __x86_64__
#include <immintrin.h>
#define AVX2 __attribute__((target("avx2,fma")))
#define HAS_AVX2 (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
#endif

/* A bit that differs where the query is `large` counts three times. */
static void weigh_bits(const uint64_t *signs, size_t words, size_t count, size_t start,
                       const uint64_t *query, const uint64_t *large, uint16_t *apart) {
  for (size_t i = start; i < count; i++) {
    unsigned bits = 0;
    for (size_t word = 0; word < words; word++) {
      uint64_t differ = signs[word * count + i] ^ query[word];
      bits += (unsigned)__builtin_popcountll(differ);
      bits += 2 * (unsigned)__builtin_popcountll(differ & large[word]);
    }
    apart[i] = (uint16_t)bits;
  }
}

#ifdef __x86_64__
enum { CODES = 4, BYTE_WORDS = 10 }; /* in a register; words that a byte can count, 24 each */

/* Bits are looked up by half bytes, in a third of the time of counting them by words. */
AVX2 static void weigh_bits_by_avx2(const uint64_t *signs, size_t words, size_t count,
                                    const uint64_t *query, const uint64_t *large,
                                    uint16_t *apart) {
  const __m256i bits = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, /* twice */
                                        0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
  const __m256i two = _mm256_add_epi8(bits, bits);
  const __m256i half = _mm256_set1_epi8(15), none = _mm256_setzero_si256();
  size_t i = 0;
  for (; i + CODES <= count; i += CODES) {
    __m256i sums = none;
    for (size_t first = 0; first < words; first += BYTE_WORDS) {
      size_t end = words - first < BYTE_WORDS ? words : first + BYTE_WORDS;
      __m256i bytes = none;
      for (size_t word = first; word < end; word++) {
        const __m256i *four = (const __m256i *)(const void *)(signs + word * count + i);
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
  weigh_bits(signs, words, count, i, query, large, apart);
}
#endif

/* How far each code is apart from the query: the bits in which it differs, three times where the
 * query is large. The words of a block's code lie as far apart as the block has codes. */
PUBLIC void sqlembed_apart(const uint64_t *const *signs, const int64_t *counts, size_t blocks,
                           size_t words, const uint64_t *query, const uint64_t *large,
                           uint16_t *apart) {
  for (size_t block = 0; block < blocks; block++) {
    size_t count = (size_t)counts[block];
#ifdef __x86_64__
    if (HAS_AVX2)
      weigh_bits_by_avx2(signs[block], words, count, query, large, apart);
    else
#endif
      weigh_bits(signs[block], words, count, 0, query, large, apart);
    apart += count;
  }
}

enum { LANES = 16, AHEAD = 8, LINE = 64 }; /* AHEAD: codes that are fetched before they are used */

/* Written so that the compiler takes many numbers at a time. */
static inline float product(const uint8_t *code, size_t bytes, const float *high, const float *low) {
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

static inline void multiply(const uint8_t *const *codes, size_t bytes, size_t count,
                            const float *high, const float *low, float *products) {
  for (size_t i = 0; i < count; i++) {
    if (i + AHEAD < count)
      for (size_t at = 0; at < bytes; at += LINE) __builtin_prefetch(codes[i + AHEAD] + at);
    products[i] = product(codes[i], bytes, high, low);
  }
}

#ifdef __x86_64__
AVX2 static void multiply_by_avx2(const uint8_t *const *codes, size_t bytes, size_t count,
                                  const float *high, const float *low, float *products) {
  multiply(codes, bytes, count, high, low, products);
}
#endif

/* The sum of each code's levels, two in a byte, times the query's weights for the higher and the
 * lower ones. `codes` says where each begins. */
PUBLIC void sqlembed_products(const uint8_t *const *codes, size_t bytes, size_t count,
                              const float *high, const float *low, float *products) {
#ifdef __x86_64__
  if (HAS_AVX2) {
    multiply_by_avx2(codes, bytes, count, high, low, products);
    return;
  }
#endif
  multiply(codes, bytes, count, high, low, products);
}
