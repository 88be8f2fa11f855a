/* The forward pass of a BERT or a nomic-bert over a batch of texts, on the processor's own vectors.
 *
 * bert.py calls it, where it was compiled and the processor has what it needs; llama.cpp computes
 * elsewhere, and every other architecture. Floats are 32 bits wide, weights 16 or 32; texts of a
 * batch are laid one after another, without padding, and attend to themselves only.
 *
 * The arithmetic, once for each width of vector, is in bert_layers.h. */

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef _OPENMP
#include <omp.h>
#define THREAD omp_get_thread_num()
#else
#define THREAD 0
#endif

#define PUBLIC __attribute__((visibility("default")))

/* Matrices are panels: so many output columns, for every input one after another. Vectors that
 * are added have one float a column. */
struct layer {
  const void *query_key_value, *output, *up, *down;
  const float *query_key_value_bias, *output_bias, *up_bias, *down_bias;
  const float *attention_scale, *attention_shift, *scale, *shift; /* of the two norms */
};

struct bert {
  ptrdiff_t layers, heads, width, inner;
  ptrdiff_t half;  /* whether weights have 16 bits */
  ptrdiff_t gated; /* whether `up` has twice `inner` columns: the second half says how much of the
                      first goes on, by SiLU; else GELU decides */
  float epsilon;
  const float *scale, *shift; /* of the norm over the sum of embeddings */
  const struct layer *layer;
  const float *turns; /* for each place half a head's cosines, then sines, by which queries and
                         keys are turned; or none */
};

/* What the processor has is seen when it runs: who built this may have had another one. */
#ifdef __x86_64__
#include <immintrin.h>

#define PRAGMA(text) _Pragma(#text)
#ifdef __clang__
#define FOR(targets) \
  PRAGMA(clang attribute push(__attribute__((target(targets))), apply_to = function))
#define END PRAGMA(clang attribute pop)
#else
#define FOR(targets) PRAGMA(GCC push_options) PRAGMA(GCC target(targets))
#define END PRAGMA(GCC pop_options)
#endif

FOR("avx2,fma,f16c")
#define NAME(name) name##_avx2
#define LANES 8
#define ROWS 6
#define WIDEN(from) ((vector)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(from))))
#include "bert_layers.h"
END

FOR("avx512f,avx2,fma,f16c")
#define NAME(name) name##_avx512
#define LANES 16
#define ROWS 12
#define WIDEN(from) \
  ((vector)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)(from))))
#include "bert_layers.h"
END

#elif defined(__aarch64__)
#include <arm_neon.h>
#define NAME(name) name##_neon
#define LANES 4
#define ROWS 8
#define WIDEN(from) ((vector)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(from))))
#include "bert_layers.h"
#endif

/* Floats of the widest vector that the processor has; 0 where it has none of those that are known here. */
PUBLIC int sqlembed_bert_lanes(void) {
#ifdef __x86_64__
  if (__builtin_cpu_supports("avx512f")) return 16;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("f16c"))
    return 8;
#elif defined(__aarch64__)
  return 4;
#endif
  return 0;
}

/* Floats of memory that a batch of so many tokens needs, the longest text having `longest`. */
PUBLIC ptrdiff_t sqlembed_bert_room(const struct bert *bert, ptrdiff_t tokens, ptrdiff_t longest,
                                    int threads) {
  ptrdiff_t inner = bert->gated ? 2 * bert->inner : bert->inner;
  ptrdiff_t widest = 3 * bert->width > inner ? 3 * bert->width : inner;
  ptrdiff_t padded = longest + 2 * 16;
  ptrdiff_t attention = padded * (2 * bert->width / bert->heads + 12 + 1) + 2 * 16;
  return tokens * (widest + bert->width) + threads * attention;
}

/* The rows of a batch: `rows` has the sum of each token's embeddings, and is written over.
 * places: of each row, if there are turns
 * starts: where each text begins, and where the last one ends. */
PUBLIC void sqlembed_bert_encode(const struct bert *bert, int lanes, float *rows,
                                 const int32_t *places, const int32_t *starts, ptrdiff_t texts,
                                 ptrdiff_t longest, float *room, int threads) {
#ifdef __x86_64__
  if (lanes == 16) encode_avx512(bert, rows, places, starts, texts, longest, room, threads);
  if (lanes == 8) encode_avx2(bert, rows, places, starts, texts, longest, room, threads);
#elif defined(__aarch64__)
  if (lanes == 4) encode_neon(bert, rows, places, starts, texts, longest, room, threads);
#endif
}
