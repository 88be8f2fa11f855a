/* The layers of a BERT or a nomic-bert for one width of vector; bert.c includes it once for each.
 *
 * NAME(name)   the name for this width
 * LANES        floats of a vector
 * ROWS         rows that are multiplied at once, so that the sums of ROWS * 2 vectors fill the
 *              registers
 * WIDEN(from)  a vector of LANES halves
 */

#define vector NAME(vector)
#define integers NAME(integers)
typedef float vector __attribute__((vector_size(4 * LANES)));
typedef int32_t integers __attribute__((vector_size(4 * LANES)));

#define PANEL (2 * LANES) /* columns that are multiplied at once */
#define DEPTH 256         /* inputs, whose weights for a panel stay in the first cache */

#define load NAME(load)
#define store NAME(store)
#define every NAME(every)
#define either NAME(either)
#define total NAME(total)
#define power NAME(power)
#define gelu NAME(gelu)
#define silu NAME(silu)

static inline vector load(const float *from) {
  vector found;
  memcpy(&found, from, sizeof found);
  return found;
}

static inline void store(float *to, vector values) { memcpy(to, &values, sizeof values); }

static inline vector every(float value) { return value - (vector){0}; }

static inline vector either(integers which, vector yes, vector no) {
  return (vector)(((integers)yes & which) | ((integers)no & ~which));
}

static inline float total(vector values) {
  float sum = 0;
  for (int i = 0; i < LANES; i++) sum += values[i];
  return sum;
}

/* e to the power of x, by the polynomial of Cephes' expf, right to two units in the last place;
 * 0 where x is under -87. */
static inline vector power(vector x) {
  integers tiny = x < -87.0f;
  x = either(tiny, every(-87.0f), x);
  vector twos = x * 1.44269504f;
  integers whole = __builtin_convertvector(twos + either(twos < 0, every(-0.5f), every(0.5f)),
                                           integers);
  vector part = __builtin_convertvector(whole, vector);
  x = x - part * 0.693359375f + part * 2.12194440e-4f;
  vector sum = every(1.9875691500e-4f);
  sum = sum * x + 1.3981999507e-3f;
  sum = sum * x + 8.3334519073e-3f;
  sum = sum * x + 4.1665795894e-2f;
  sum = sum * x + 1.6666665459e-1f;
  sum = sum * x + 5.0000001201e-1f;
  sum = sum * x * x + x + 1.0f;
  vector scale = (vector)((whole + 127) << 23);
  return either(tiny, every(0), sum * scale);
}

/* GELU, exact but for 1.5e-7 of the error function: Abramowitz and Stegun, 7.1.26. */
static inline vector gelu(vector x) {
  vector z = x * 0.70710678f;
  integers negative = z < 0;
  vector size = either(negative, -z, z);
  vector t = 1.0f / (1.0f + 0.3275911f * size);
  vector sum = 1.061405429f * t - 1.453152027f;
  sum = sum * t + 1.421413741f;
  sum = sum * t - 0.284496736f;
  sum = sum * t + 0.254829592f;
  vector erf = 1.0f - sum * t * power(-size * size);
  return 0.5f * x * (1.0f + either(negative, -erf, erf));
}

/* x times the logistic function of x. */
static inline vector silu(vector x) {
  integers negative = x < 0;
  vector part = power(either(negative, x, -x)), by = 1.0f / (1.0f + part);
  return x * either(negative, part * by, by);
}

/* Some rows times a panel: c = a * b + bias, or where that was begun c += a * b. `stride` is
 * from row to row. The compiler keeps `sums` in registers only where it knows `rows`. */
#define multiply_rows NAME(multiply_rows)
static inline __attribute__((always_inline)) void multiply_rows(
    const int rows, const float *a, ptrdiff_t a_stride, const float *b, ptrdiff_t depth, float *c,
    ptrdiff_t c_stride, const float *bias) {
  vector sums[ROWS][2];
#pragma GCC unroll 16
  for (int i = 0; i < rows; i++) {
    sums[i][0] = load(bias ? bias : c + i * c_stride);
    sums[i][1] = load((bias ? bias : c + i * c_stride) + LANES);
  }
  for (ptrdiff_t k = 0; k < depth; k++) {
    vector first = load(b + k * PANEL), second = load(b + k * PANEL + LANES);
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) {
      vector value = every(a[i * a_stride + k]);
      sums[i][0] += value * first;
      sums[i][1] += value * second;
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < rows; i++) {
    store(c + i * c_stride, sums[i][0]);
    store(c + i * c_stride + LANES, sums[i][1]);
  }
}

#define multiply NAME(multiply)
static void multiply(ptrdiff_t rows, const float *a, ptrdiff_t a_stride, const float *b,
                     ptrdiff_t depth, float *c, ptrdiff_t c_stride, const float *bias) {
#define OF(count) \
  case count: multiply_rows(count, a, a_stride, b, depth, c, c_stride, bias); break
  switch (rows) {
    OF(1); OF(2); OF(3); OF(4); OF(5); OF(6);
#if ROWS > 6
    OF(7); OF(8);
#endif
#if ROWS > 8
    OF(9); OF(10); OF(11); OF(12);
#endif
  }
#undef OF
}

/* How many of the rows that are left to multiply next: two halves are faster than many and few. */
#define some NAME(some)
static ptrdiff_t some(ptrdiff_t left) {
  return left <= ROWS ? left : left < 2 * ROWS ? (left + 1) / 2 : ROWS;
}

/* A linear layer: c = a * weights + bias, of shape (rows, columns). `stride` is from row to row
 * of a. Called by every thread of a team, each of which takes some panels; the caller waits for
 * all. */
#define linear NAME(linear)
static void linear(const float *a, ptrdiff_t stride, ptrdiff_t rows, ptrdiff_t inputs,
                   const void *weights, int half, const float *bias, ptrdiff_t columns, float *c) {
  float widened[DEPTH * PANEL] __attribute__((aligned(64)));
  for (ptrdiff_t k = 0; k < inputs; k += DEPTH) {
    ptrdiff_t depth = inputs - k < DEPTH ? inputs - k : DEPTH;
#pragma omp for schedule(static) nowait
    for (ptrdiff_t j = 0; j < columns; j += PANEL) {
      ptrdiff_t at = j * inputs + k * PANEL;
      const float *panel = (const float *)weights + at;
      if (half) {
        const uint16_t *from = (const uint16_t *)weights + at;
        for (ptrdiff_t x = 0; x < depth * PANEL; x += LANES) store(widened + x, WIDEN(from + x));
        panel = widened;
      }
      for (ptrdiff_t i = 0, count; i < rows; i += count) {
        count = some(rows - i);
        multiply(count, a + i * stride + k, stride, panel, depth, c + i * columns + j, columns,
                 k ? NULL : bias + j);
      }
    }
  }
}

/* Layer norm of rows, to each of which another one is added before. */
#define normalize NAME(normalize)
static void normalize(float *rows, const float *added, ptrdiff_t count, ptrdiff_t width,
                      const float *scale, const float *shift, float epsilon) {
#pragma omp for schedule(static)
  for (ptrdiff_t i = 0; i < count; i++) {
    float *row = rows + i * width;
    vector sum = {0}, squares = {0};
    for (ptrdiff_t j = 0; j < width; j += LANES) {
      vector values = load(row + j);
      if (added) values += load(added + i * width + j);
      store(row + j, values);
      sum += values;
    }
    float mean = total(sum) / (float)width;
    for (ptrdiff_t j = 0; j < width; j += LANES) {
      vector apart = load(row + j) - mean;
      squares += apart * apart;
    }
    float by = 1.0f / sqrtf(total(squares) / (float)width + epsilon);
    for (ptrdiff_t j = 0; j < width; j += LANES)
      store(row + j, (load(row + j) - mean) * by * load(scale + j) + load(shift + j));
  }
}

/* Scores to weights that sum to one; those of columns that are not there are far below zero. */
#define softmax NAME(softmax)
static void softmax(float *scores, ptrdiff_t columns, float scale) {
  vector highest = load(scores);
  for (ptrdiff_t j = LANES; j < columns; j += LANES) {
    vector values = load(scores + j);
    highest = either(highest > values, highest, values);
  }
  float most = highest[0];
  for (int i = 1; i < LANES; i++) most = highest[i] > most ? highest[i] : most;
  vector sum = {0};
  for (ptrdiff_t j = 0; j < columns; j += LANES) {
    vector values = power((load(scores + j) - most) * scale);
    store(scores + j, values);
    sum += values;
  }
  float by = 1.0f / total(sum);
  for (ptrdiff_t j = 0; j < columns; j += LANES) store(scores + j, load(scores + j) * by);
}

/* One head of one text attends to all of its tokens.
 * mixed: each token's query, key and value, of shape (tokens, 3 * width)
 * out: of shape (tokens, width) */
#define attend NAME(attend)
static void attend(const float *mixed, ptrdiff_t tokens, ptrdiff_t width, ptrdiff_t size,
                   ptrdiff_t head, float *out, float *room) {
  ptrdiff_t stride = 3 * width, padded = (tokens + PANEL - 1) / PANEL * PANEL;
  const float *query = mixed + head * size, *key = query + width, *value = key + width;
  float *keys = room, *values = keys + padded * size, *absent = values + tokens * size;
  float *none = absent + padded, *scores = none + PANEL;
  for (ptrdiff_t j = 0; j < padded; j++) {
    absent[j] = j < tokens ? 0.0f : -1e30f;
    float *column = keys + j / PANEL * PANEL * size + j % PANEL;
    for (ptrdiff_t x = 0; x < size; x++)
      column[x * PANEL] = j < tokens ? key[j * stride + x] : 0.0f;
  }
  for (ptrdiff_t x = 0; x < size; x += PANEL)
    for (ptrdiff_t j = 0; j < tokens; j++)
      memcpy(values + x * tokens + j * PANEL, value + j * stride + x, PANEL * sizeof *values);
  memset(none, 0, PANEL * sizeof *none);
  for (ptrdiff_t i = 0, count; i < tokens; i += count) {
    count = some(tokens - i);
    for (ptrdiff_t j = 0; j < padded; j += PANEL)
      multiply(count, query + i * stride, stride, keys + j * size, size, scores + j, padded,
               absent + j);
    for (ptrdiff_t row = 0; row < count; row++)
      softmax(scores + row * padded, padded, 1.0f / sqrtf((float)size));
    for (ptrdiff_t x = 0; x < size; x += PANEL)
      multiply(count, scores, padded, values + x * tokens, tokens,
               out + i * width + head * size + x, width, none);
  }
}

/* Queries and keys of rows are turned by their places: pairs of the first half of a head and the
 * second. Called by every thread of a team. */
#define turn NAME(turn)
static void turn(float *mixed, const int32_t *places, ptrdiff_t tokens, ptrdiff_t width,
                 ptrdiff_t size, const float *turns) {
  ptrdiff_t half = size / 2;
#pragma omp for schedule(static)
  for (ptrdiff_t i = 0; i < tokens; i++) {
    const float *by = turns + places[i] * size;
    for (ptrdiff_t at = 0; at < 2 * width; at += size) {
      float *head = mixed + i * 3 * width + at;
      for (ptrdiff_t x = 0; x < half; x += LANES) {
        vector cosine = load(by + x), sine = load(by + half + x);
        vector first = load(head + x), second = load(head + half + x);
        store(head + x, first * cosine - second * sine);
        store(head + half + x, second * cosine + first * sine);
      }
    }
  }
}

/* Between the two matrices of a feed-forward layer, in place; with gates the first half of each
 * row is what is left. Called by every thread of a team. */
#define activate NAME(activate)
static void activate(float *wide, ptrdiff_t tokens, ptrdiff_t inner, int gated) {
  ptrdiff_t columns = gated ? 2 * inner : inner;
#pragma omp for schedule(static)
  for (ptrdiff_t i = 0; i < tokens; i++) {
    float *row = wide + i * columns;
    for (ptrdiff_t j = 0; j < inner; j += LANES)
      store(row + j, gated ? load(row + j) * silu(load(row + inner + j)) : gelu(load(row + j)));
  }
}

#define encode NAME(encode)
static void encode(const struct bert *bert, float *rows, const int32_t *places,
                   const int32_t *starts, ptrdiff_t texts, ptrdiff_t longest, float *room,
                   int threads) {
  ptrdiff_t tokens = starts[texts], width = bert->width, size = width / bert->heads;
  int half = (int)bert->half, gated = (int)bert->gated;
  ptrdiff_t inner = gated ? 2 * bert->inner : bert->inner;
  ptrdiff_t widest = 3 * width > inner ? 3 * width : inner;
  ptrdiff_t padded = longest + PANEL;
  ptrdiff_t attention = padded * (2 * size + ROWS + 1) + PANEL;
  float *wide = room, *narrow = wide + tokens * widest, *own = narrow + tokens * width;
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    normalize(rows, NULL, tokens, width, bert->scale, bert->shift, bert->epsilon);
    for (ptrdiff_t at = 0; at < bert->layers; at++) {
      const struct layer *layer = bert->layer + at;
      linear(rows, width, tokens, width, layer->query_key_value, half,
             layer->query_key_value_bias, 3 * width, wide);
#pragma omp barrier
      if (bert->turns) turn(wide, places, tokens, width, size, bert->turns);
#pragma omp for schedule(dynamic)
      for (ptrdiff_t pair = 0; pair < texts * bert->heads; pair++) {
        ptrdiff_t text = pair / bert->heads, start = starts[text];
        attend(wide + start * 3 * width, starts[text + 1] - start, width, size,
               pair % bert->heads, narrow + start * width, own + THREAD * attention);
      }
      linear(narrow, width, tokens, width, layer->output, half, layer->output_bias, width, wide);
#pragma omp barrier
      normalize(rows, wide, tokens, width, layer->attention_scale, layer->attention_shift,
                bert->epsilon);
      linear(rows, width, tokens, width, layer->up, half, layer->up_bias, inner, wide);
#pragma omp barrier
      activate(wide, tokens, bert->inner, gated);
      linear(wide, inner, tokens, bert->inner, layer->down, half, layer->down_bias, width, narrow);
#pragma omp barrier
      normalize(rows, narrow, tokens, width, layer->scale, layer->shift, bert->epsilon);
    }
  }
}

#undef vector
#undef integers
#undef PANEL
#undef DEPTH
#undef load
#undef store
#undef every
#undef either
#undef total
#undef power
#undef gelu
#undef silu
#undef multiply_rows
#undef multiply
#undef some
#undef linear
#undef normalize
#undef softmax
#undef attend
#undef turn
#undef activate
#undef encode
#undef NAME
#undef LANES
#undef ROWS
#undef WIDEN
