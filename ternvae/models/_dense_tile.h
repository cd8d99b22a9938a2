/* The inner loops of _dense.c, compiled for one generation of vector units.
 *
 * Vectors are lowered to what the unit has before anything is inlined, so each version is a file of
 * its own that says for which unit it is, and defines
 *   WORKER      the name of the function that it makes,
 *   HIGH, WIDE  the block of a product that its registers hold: rows (4 or 8), vectors (1 or 2).
 */
#include "_dense.h"

#ifdef __AVX512F__
#include <immintrin.h>
#endif
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

typedef float V __attribute__((vector_size(64), aligned(4)));
typedef int32_t I __attribute__((vector_size(64), aligned(4)));

/* --- arithmetic ---------------------------------------------------------------------------- */

INLINE V splat(float x) { return x - (V){}; }

INLINE V load(const float *p) { return *(const V *)p; }

INLINE void store(float *p, V x) { *(V *)p = x; }

INLINE V choose(I condition, V a, V b) { return (V)(((I)a & condition) | ((I)b & ~condition)); }

/* Each of the results is one half of a, added up in pairs of so many, interleaved with b's. */
INLINE V ones(V a, V b) {
    const I even = {0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30};
    const I odd = {1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31};
    return __builtin_shuffle(a, b, even) + __builtin_shuffle(a, b, odd);
}

INLINE V twos(V a, V b) {
    const I even = {0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29};
    const I odd = {2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31};
    return __builtin_shuffle(a, b, even) + __builtin_shuffle(a, b, odd);
}

INLINE V fours(V a, V b) {
    const I even = {0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27};
    const I odd = {4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31};
    return __builtin_shuffle(a, b, even) + __builtin_shuffle(a, b, odd);
}

INLINE V eights(V a, V b) {
    const I even = {0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23};
    const I odd = {8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31};
    return __builtin_shuffle(a, b, even) + __builtin_shuffle(a, b, odd);
}

/* The sum of each of LANES vectors: summing one by itself waits for each addition. */
INLINE V sums_of(const V *x) {
    V four[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++, x += 4) four[i] = twos(ones(x[0], x[1]), ones(x[2], x[3]));
    return eights(fours(four[0], four[1]), fours(four[2], four[3]));
}

/* exp(x), cut off at exp(-87) and exp(87); within 2 ulp: Taylor on |r| <= log(2)/2. */
INLINE V exp_of(V x) {
    x = choose(x > 87.0f, splat(87.0f), x);
    x = choose(x < -87.0f, splat(-87.0f), x);
    const V shifted = x * 1.44269504f + 12582912.0f; /* 1.5 * 2^23 leaves the integer in low bits */
    const V n = shifted - 12582912.0f;
    const V r = (x - n * 0.693145752f) - n * 1.42860677e-6f; /* log(2) in two parts */
    V sum = r * (1.0f / 5040.0f) + 1.0f / 720.0f;
    sum = sum * r + 1.0f / 120.0f;
    sum = sum * r + 1.0f / 24.0f;
    sum = sum * r + 1.0f / 6.0f;
    sum = sum * r + 0.5f;
    sum = sum * (r * r) + r;
    const V scale = (V)(((I)shifted + 127) << 23);
    return scale * sum + scale;
}

/* 1 / x for x between 1 and 2^126, within 2 ulp; a division takes as long as half of exp_of. */
INLINE V reciprocal_of(V x) {
#ifdef __AVX512F__
    const V r = (V)_mm512_rcp14_ps((__m512)x);
    return r * (2.0f - x * r);
#else
    return 1.0f / x;
#endif
}

INLINE V sigmoid_of(V x) { return reciprocal_of(1.0f + exp_of(-x)); }

/* A block of c = start + a b: HIGH rows and `wide` vectors of it. */
INLINE void block(const float *a, ptrdiff_t a_row, ptrdiff_t a_next, const float *b,
                  ptrdiff_t b_next, float *c, ptrdiff_t c_row, ptrdiff_t count,
                  const int wide, const float *bias, int adds) {
    V sum[HIGH][WIDE];
#pragma GCC unroll 8
    for (int i = 0; i < HIGH; i++)
#pragma GCC unroll 2
        for (int j = 0; j < wide; j++)
            sum[i][j] = adds   ? load(c + i * c_row + j * LANES)
                        : bias ? load(bias + j * LANES)
                               : (V){};
    for (ptrdiff_t k = 0; k < count; k++, a += a_next, b += b_next) {
        V row[WIDE];
#pragma GCC unroll 2
        for (int j = 0; j < wide; j++) row[j] = load(b + j * LANES);
#pragma GCC unroll 8
        for (int i = 0; i < HIGH; i++) {
            const V x = splat(a[i * a_row]);
#pragma GCC unroll 2
            for (int j = 0; j < wide; j++) sum[i][j] += x * row[j];
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < HIGH; i++)
#pragma GCC unroll 2
        for (int j = 0; j < wide; j++) store(c + i * c_row + j * LANES, sum[i][j]);
}

/* c = (c or bias or 0) + a b, with rows in eights and columns in LANES; a may be transposed. */
INLINE void product(const float *a, ptrdiff_t a_row, ptrdiff_t a_next, const float *b,
                    ptrdiff_t b_next, float *c, ptrdiff_t c_row, ptrdiff_t rows,
                    ptrdiff_t columns, ptrdiff_t count, const float *bias, int adds) {
    ptrdiff_t j = 0;
    for (; j + WIDE * LANES <= columns; j += WIDE * LANES)
        for (ptrdiff_t i = 0; i < rows; i += HIGH)
            block(a + i * a_row, a_row, a_next, b + j, b_next, c + i * c_row + j, c_row, count,
                  WIDE, bias ? bias + j : NULL, adds);
    for (; j < columns; j += LANES)
        for (ptrdiff_t i = 0; i < rows; i += HIGH)
            block(a + i * a_row, a_row, a_next, b + j, b_next, c + i * c_row + j, c_row, count, 1,
                  bias ? bias + j : NULL, adds);
}

/* Which lanes of the vector at column k belong to a row of so many columns. */
INLINE I inside(int k, int columns) {
    if (k + LANES <= columns) return (I){} == 0; /* known to the compiler for a constant width */
    const I lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return lane + k < columns;
}

/* A constant width lets the compiler unroll loops over columns; this one is the default model's. */
#define USUAL 64

/* Means and 1 / deviations of LANES rows. */
INLINE void moments_of(const float *x, int pitch, int columns, float epsilon, float *mean,
                       float *scale) {
    V part[LANES];
    for (int r = 0; r < LANES; r++) {
        part[r] = load(x + r * pitch);
        for (int k = LANES; k < pitch; k += LANES) part[r] += load(x + r * pitch + k);
    }
    store(mean, sums_of(part) / (float)columns); /* columns beyond the last are 0 */
    for (int r = 0; r < LANES; r++) {
        part[r] = (V){};
        for (int k = 0; k < pitch; k += LANES) {
            const V d = choose(inside(k, columns), load(x + r * pitch + k) - mean[r], (V){});
            part[r] += d * d;
        }
    }
    store(scale, sums_of(part) / (float)columns + epsilon);
    for (int r = 0; r < LANES; r++) scale[r] = 1.0f / sqrtf(scale[r]);
}

/* What the backward pass wants of something curved, made while it is computed: its slope, and of a
 * norm the deviations and their scale. */
typedef struct {
    float *slope, *unit, *scale;
} Curve;

/* silu(z) = z s and silu'(z) = s + silu(z) (1 - s) with s = sigmoid(z). */
INLINE void silu_at(V z, float *y, float *slope) {
    const V s = sigmoid_of(z), value = z * s;
    store(y, value);
    if (slope) store(slope, s + value * (1.0f - s));
}

INLINE void norm_silu(const int columns, float epsilon, const float *parameters, const float *x,
                      float *y, const Curve *curve, ptrdiff_t rows) {
    const int pitch = PADDED(columns);
    const float *gamma = parameters, *beta = parameters + pitch;
    for (ptrdiff_t from = 0; from < rows; from += LANES) {
        float mean[LANES], scale[LANES];
        moments_of(x + from * pitch, pitch, columns, epsilon, mean, scale);
        if (curve) memcpy(curve->scale + from, scale, sizeof(scale));
        for (int r = 0; r < LANES; r++)
            for (int k = 0; k < pitch; k += LANES) {
                const ptrdiff_t at = (from + r) * pitch + k;
                const V unit = (load(x + at) - mean[r]) * scale[r];
                if (curve) store(curve->unit + at, unit);
                silu_at(unit * load(gamma + k) + load(beta + k), y + at,
                        curve ? curve->slope + at : NULL);
            }
    }
}

/* Adds the gradients of gamma and beta to sums. */
INLINE void norm_silu_sums(const int columns, const Curve *curve, const float *g, float *sums,
                           ptrdiff_t rows) {
    const int pitch = PADDED(columns);
    for (int k = 0; k < pitch; k += LANES) {
        V of_gamma = load(sums + k), of_beta = load(sums + pitch + k);
        for (ptrdiff_t at = k; at < rows * pitch; at += pitch) {
            const V h = load(g + at) * load(curve->slope + at);
            of_gamma += h * load(curve->unit + at);
            of_beta += h;
        }
        store(sums + k, choose(inside(k, columns), of_gamma, (V){}));
        store(sums + pitch + k, of_beta);
    }
}

/* Adds the gradient of x to gx, or sets it. */
INLINE void norm_silu_backward(const int columns, const float *gamma, const Curve *curve,
                               const float *g, float *gx, int adds, ptrdiff_t rows) {
    const int pitch = PADDED(columns);
    for (ptrdiff_t from = 0; from < rows; from += LANES) {
        V sum[LANES], along[LANES];
        float mean[LANES], tilt[LANES];
        for (int r = 0; r < LANES; r++) {
            sum[r] = along[r] = (V){};
            for (int k = 0; k < pitch; k += LANES) {
                const ptrdiff_t at = (from + r) * pitch + k;
                const V h = load(g + at) * load(curve->slope + at) * load(gamma + k);
                sum[r] += h;
                along[r] += h * load(curve->unit + at);
            }
        }
        store(mean, sums_of(sum) / (float)columns);
        store(tilt, sums_of(along) / (float)columns);
        for (int r = 0; r < LANES; r++)
            for (int k = 0; k < pitch; k += LANES) {
                const ptrdiff_t at = (from + r) * pitch + k;
                const V h = load(g + at) * load(curve->slope + at) * load(gamma + k);
                V found = (h - mean[r] - load(curve->unit + at) * tilt[r]) * curve->scale[from + r];
                found = choose(inside(k, columns), found, (V){});
                store(gx + at, adds ? load(gx + at) + found : found);
            }
    }
}

/* LANES rows at a time, one in each lane: the logits l of a digit, e = exp(l - the largest l). */
typedef struct {
    V most, e[3], sum;
} Digit;

INLINE Digit digit_of(const float (*l)[LANES]) {
    const V a = load(l[0]), b = load(l[1]), c = load(l[2]);
    V most = choose(a > b, a, b);
    most = choose(c > most, c, most);
    Digit d = {most, {exp_of(a - most), exp_of(b - most), exp_of(c - most)}, {}};
    d.sum = d.e[0] + d.e[1] + d.e[2];
    return d;
}

INLINE void turn(const float *x, int pitch, ptrdiff_t rows, int columns, float (*to)[LANES]) {
    for (ptrdiff_t r = 0; r < rows; r++)
        for (int k = 0; k < columns; k++) to[k][r] = x[r * pitch + k];
}

INLINE void nll(const float *x, const int64_t *sequence, int digits, ptrdiff_t rows, float *out) {
    float l[3 * MOST_DIGITS][LANES], most[LANES], sum[LANES];
    const int pitch = PADDED(3 * digits);
    memset(l, 0, sizeof(float) * LANES * 3 * (size_t)digits);
    for (ptrdiff_t from = 0; from < rows; from += LANES) {
        const ptrdiff_t here = rows - from < LANES ? rows - from : LANES;
        double total[LANES] = {0}, ratio[LANES];
        for (int r = 0; r < LANES; r++) ratio[r] = 1.0;
        turn(x + from * pitch, pitch, here, 3 * digits, l);
        for (int k = 0; k < digits; k++) {
            const Digit d = digit_of((const float (*)[LANES])(l + 3 * k));
            store(most, d.most);
            store(sum, d.sum);
            for (int r = 0; r < LANES; r++) ratio[r] *= (double)sum[r];
            for (ptrdiff_t r = 0; r < here; r++) {
                const int64_t place = sequence[(from + r) * digits + k] + 1;
                const int known = place >= 0 && place <= 2;
                total[r] += known ? (double)most[r] - l[3 * k + place][r] : NAN;
            }
        }
        /* One logarithm for all digits: each sum is between 1 and 3, and 3^MOST_DIGITS is finite. */
        for (ptrdiff_t r = 0; r < here; r++) out[from + r] = (float)(total[r] + log(ratio[r]));
    }
}

INLINE void nll_backward(const float *x, const int64_t *sequence, int digits, ptrdiff_t rows,
                         const float *g, float *gx, int adds) {
    float l[3 * MOST_DIGITS][LANES], by[LANES] = {0};
    const int pitch = PADDED(3 * digits), columns = 3 * digits;
    memset(l, 0, sizeof(float) * LANES * (size_t)columns);
    for (ptrdiff_t from = 0; from < rows; from += LANES) {
        const ptrdiff_t here = rows - from < LANES ? rows - from : LANES;
        turn(x + from * pitch, pitch, here, columns, l);
        memcpy(by, g + from, (size_t)here * sizeof(float));
        for (int k = 0; k < digits; k++) {
            const Digit d = digit_of((const float (*)[LANES])(l + 3 * k));
            const V scale = load(by) * reciprocal_of(d.sum);
            for (int j = 0; j < 3; j++) store(l[3 * k + j], d.e[j] * scale);
            for (ptrdiff_t r = 0; r < here; r++) {
                const int64_t place = sequence[(from + r) * digits + k] + 1;
                if (place >= 0 && place <= 2) l[3 * k + place][r] -= by[r];
            }
        }
        for (ptrdiff_t r = 0; r < here; r++) {
            float *to = gx + (from + r) * pitch;
            if (!adds)
                for (int k = columns; k < pitch; k++) to[k] = 0.0f;
            for (int k = 0; k < columns; k++) to[k] = adds ? to[k] + l[k][r] : l[k][r];
        }
    }
}

INLINE V within_bounds(V l) {
    l = choose(l < LEAST_LOG_VARIANCE, splat(LEAST_LOG_VARIANCE), l);
    return choose(l > MOST_LOG_VARIANCE, splat(MOST_LOG_VARIANCE), l);
}

/* Rows of noise and of draws have no padding; rows of l have. */
INLINE void draw(const float *l, const float *noise, int columns, ptrdiff_t rows, float *draws,
                 float *weights) {
    const int pitch = PADDED(columns);
    for (ptrdiff_t r = 0; r < rows; r++, l += pitch, noise += columns, draws += columns) {
        V sum = {};
        for (int k = 0; k < pitch; k += LANES) {
            float e[LANES] = {0}, v[LANES];
            const int here = columns - k < LANES ? columns - k : LANES;
            memcpy(e, noise + k, (size_t)here * sizeof(float));
            const V half = 0.5f * within_bounds(load(l + k)), given = load(e);
            store(v, given * exp_of(half));
            memcpy(draws + k, v, (size_t)here * sizeof(float));
            sum += choose(inside(k, columns), 0.5f * given * given + half, (V){});
        }
        float total = 0.0f;
        for (int k = 0; k < LANES; k++) total -= sum[k];
        weights[r] = total;
    }
}

INLINE void draw_backward(const float *l, const float *noise, int columns, ptrdiff_t rows,
                          const float *g_draws, const float *g_weights, float *gl, int adds) {
    const int pitch = PADDED(columns);
    for (ptrdiff_t r = 0; r < rows; r++, l += pitch, gl += pitch) {
        for (int k = 0; k < pitch; k += LANES) {
            float e[LANES] = {0}, g[LANES] = {0};
            const int here = columns - k < LANES ? columns - k : LANES;
            memcpy(e, noise + r * columns + k, (size_t)here * sizeof(float));
            if (g_draws) memcpy(g, g_draws + r * columns + k, (size_t)here * sizeof(float));
            const V x = load(l + k), given = load(e), slope = load(g);
            V found = 0.5f * given * exp_of(0.5f * within_bounds(x)) * slope;
            if (g_weights) found -= 0.5f * g_weights[r];
            const I free = (x >= LEAST_LOG_VARIANCE) & (x <= MOST_LOG_VARIANCE);
            found = choose(free & inside(k, columns), found, (V){});
            store(gl + k, adds ? load(gl + k) + found : found);
        }
    }
}

/* --- a tile -------------------------------------------------------------------------------- */

typedef struct {
    float **value, **gradient; /* of each register, in this tile */
    Curve *curve;              /* of each register that has one, for the backward pass */
    char *has;                 /* whether a gradient has reached it */
} Tile;

/* What a register holds for the rows of this tile; what is kept has its place in the memory. */
INLINE float *value_of(const Call *call, const Tile *tile, int i, ptrdiff_t row) {
    const Instruction *o = call->network->code + i;
    if (o->saved < 0 || call->saved == NULL) return tile->value[i];
    return call->saved + o->saved * PADDED(call->n) + row * PADDED(o->out);
}

INLINE void spread(const float *from, int columns, ptrdiff_t rows, ptrdiff_t padded, float *to) {
    const int pitch = PADDED(columns);
    memset(to, 0, (size_t)(padded * pitch) * sizeof(float));
    for (ptrdiff_t r = 0; r < rows; r++)
        memcpy(to + r * pitch, from + r * columns, (size_t)columns * sizeof(float));
}

INLINE void make(const Call *call, const Tile *tile, int i, ptrdiff_t row, ptrdiff_t rows) {
    const Instruction *o = call->network->code + i;
    const ptrdiff_t padded = PADDED(rows);
    float *y = value_of(call, tile, i, row);
    const float *x = o->source < 0 ? NULL : value_of(call, tile, o->source, row);
    const Curve *curve = tile->curve ? tile->curve + i : NULL;
    switch (o->operation) {
    case ONE_HOT: {
        const int digits = o->out / 3, pitch = PADDED(o->out);
        const int64_t *sequence = call->sequences + row * digits;
        memset(y, 0, (size_t)(padded * pitch) * sizeof(float));
        for (ptrdiff_t r = 0; r < rows; r++, y += pitch, sequence += digits)
            for (int k = 0; k < digits; k++)
                if (sequence[k] >= -1 && sequence[k] <= 1) y[3 * k + sequence[k] + 1] = 1.0f;
        break;
    }
    case LOAD: spread(call->inputs[o->index] + row * o->out, o->out, rows, padded, y); break;
    case LINEAR: {
        const int pitch = PADDED(o->out);
        const float *weights = call->packed[i];
        product(x, PADDED(o->in), 1, weights, pitch, y, pitch, padded, pitch, o->in,
                weights + o->in * pitch, 0);
        break;
    }
    case NORM_SILU:
        if (o->in == USUAL)
            norm_silu(USUAL, o->epsilon, call->packed[i], x, y, curve, padded);
        else
            norm_silu(o->in, o->epsilon, call->packed[i], x, y, curve, padded);
        break;
    case SILU:
        for (ptrdiff_t k = 0; k < padded * PADDED(o->out); k += LANES)
            silu_at(load(x + k), y + k, curve ? curve->slope + k : NULL);
        break;
    case ADD: {
        const float *second = value_of(call, tile, o->index, row);
        for (ptrdiff_t k = 0; k < padded * PADDED(o->out); k += LANES)
            store(y + k, load(x + k) + load(second + k));
        break;
    }
    case SHARE:
        for (ptrdiff_t k = 0; k < padded * PADDED(o->out); k += LANES)
            store(y + k, call->whole * sigmoid_of(load(x + k)));
        break;
    case DRAW:
        draw(x, call->inputs[o->parameter] + row * o->in, o->in, rows,
             call->outputs[o->index] + row * o->in, call->outputs[o->index + 1] + row);
        break;
    case STORE:
        for (ptrdiff_t r = 0; r < rows; r++)
            memcpy(call->outputs[o->index] + (row + r) * o->in, x + r * PADDED(o->in),
                   (size_t)o->in * sizeof(float));
        break;
    case NLL:
        nll(x, call->sequences + row * (o->in / 3), o->in / 3, rows,
            call->outputs[o->index] + row);
        break;
    }
}

INLINE void linear_backward(const Call *call, const Tile *tile, int i, ptrdiff_t row,
                            ptrdiff_t rows, float *slab) {
    const Instruction *o = call->network->code + i;
    const int in_pitch = PADDED(o->in), out_pitch = PADDED(o->out);
    const float *g = tile->gradient[i];
    if (call->g_parameters[o->parameter]) {
        float *sums = slab + call->slab_at[i];
        product(g, 1, out_pitch, value_of(call, tile, o->source, row), in_pitch, sums, in_pitch,
                PADDED(o->out), in_pitch, rows, NULL, 1);
        sums += PADDED(o->out) * in_pitch;
        for (int k = 0; k < out_pitch; k += LANES) {
            V sum = load(sums + k);
            for (ptrdiff_t r = 0; r < rows; r++) sum += load(g + r * out_pitch + k);
            store(sums + k, sum);
        }
    }
    if (tile->gradient[o->source]) {
        product(g, out_pitch, 1, call->packed[i], in_pitch, tile->gradient[o->source], in_pitch,
                PADDED(rows), in_pitch, o->out, NULL, tile->has[o->source]);
        tile->has[o->source] = 1;
    }
}

/* Adds so many numbers to the gradient of a register, if it has one. */
INLINE void pass_on(const Tile *tile, int i, const float *g, ptrdiff_t count) {
    float *to = tile->gradient[i];
    if (to == NULL) return;
    for (ptrdiff_t k = 0; k < count; k += LANES)
        store(to + k, tile->has[i] ? load(to + k) + load(g + k) : load(g + k));
    tile->has[i] = 1;
}

INLINE void unmake(const Call *call, const Tile *tile, int i, ptrdiff_t row, ptrdiff_t rows,
                   float *slab) {
    const Instruction *o = call->network->code + i;
    const ptrdiff_t padded = PADDED(rows);
    const float *g = tile->gradient[i];
    if (o->operation == LOAD) {
        float *to = call->g_inputs[o->index];
        if (to == NULL || g == NULL) return;
        for (ptrdiff_t r = 0; r < rows; r++, to += 0) {
            float *at = to + (row + r) * o->out;
            if (tile->has[i])
                memcpy(at, g + r * PADDED(o->out), (size_t)o->out * sizeof(float));
            else
                memset(at, 0, (size_t)o->out * sizeof(float));
        }
        return;
    }
    if (o->operation == ONE_HOT) return;
    float *gx = tile->gradient[o->source];
    const float *x = value_of(call, tile, o->source, row);
    const int adds = tile->has[o->source], pitch = PADDED(o->in);
    if (o->operation == STORE || o->operation == NLL) {
        const float *given = call->g_outputs[o->index];
        if (given == NULL || gx == NULL) return;
        if (o->operation == NLL) {
            nll_backward(x, call->sequences + row * (o->in / 3), o->in / 3, rows, given + row, gx,
                         adds);
            memset(gx + rows * pitch, 0, (size_t)((padded - rows) * pitch) * sizeof(float));
        } else if (adds) {
            for (ptrdiff_t r = 0; r < rows; r++)
                for (int k = 0; k < o->in; k++)
                    gx[r * pitch + k] += given[(row + r) * o->in + k];
        } else {
            spread(given + row * o->in, o->in, rows, padded, gx);
        }
        tile->has[o->source] = 1;
        return;
    }
    if (o->operation == DRAW) {
        const float *draws = call->g_outputs[o->index], *weights = call->g_outputs[o->index + 1];
        if (gx == NULL || (draws == NULL && weights == NULL)) return;
        draw_backward(x, call->inputs[o->parameter] + row * o->in, o->in, rows,
                      draws ? draws + row * o->in : NULL, weights ? weights + row : NULL, gx, adds);
        if (!adds) memset(gx + rows * pitch, 0, (size_t)((padded - rows) * pitch) * sizeof(float));
        tile->has[o->source] = 1;
        return;
    }
    if (g == NULL || !tile->has[i]) return;
    if (o->operation == ADD) {
        pass_on(tile, o->source, g, padded * pitch);
        pass_on(tile, o->index, g, padded * pitch);
        return;
    }
    if (o->operation == LINEAR) {
        linear_backward(call, tile, i, row, rows, slab);
        return;
    }
    if (gx == NULL) return;
    if (o->operation == NORM_SILU) {
        const Curve *curve = tile->curve + i;
        const float *gamma = call->packed[i];
        float *sums = call->g_parameters[o->parameter] ? slab + call->slab_at[i] : NULL;
        if (o->in == USUAL) {
            if (sums) norm_silu_sums(USUAL, curve, g, sums, rows);
            norm_silu_backward(USUAL, gamma, curve, g, gx, adds, rows);
        } else {
            if (sums) norm_silu_sums(o->in, curve, g, sums, rows);
            norm_silu_backward(o->in, gamma, curve, g, gx, adds, rows);
        }
    } else if (o->operation == SHARE) {
        for (ptrdiff_t k = 0; k < padded * pitch; k += LANES) {
            const V s = sigmoid_of(load(x + k));
            const V found = load(g + k) * (call->whole * s * (1.0f - s));
            store(gx + k, adds ? load(gx + k) + found : found);
        }
    } else { /* SILU */
        for (ptrdiff_t k = 0; k < padded * pitch; k += LANES) {
            const V found = load(g + k) * load(tile->curve[i].slope + k);
            store(gx + k, adds ? load(gx + k) + found : found);
        }
    }
    tile->has[o->source] = 1;
}

/* --- a slab -------------------------------------------------------------------------------- */

/* Columns of floats that a register needs in a tile. */
static size_t room_of(const Instruction *o, int backward) {
    const size_t pitch = (size_t)PADDED(o->out);
    if (!backward) return pitch;
    if (o->operation == NORM_SILU) return 4 * pitch + LANES;
    return o->operation == SILU ? 3 * pitch : 2 * pitch;
}

/* Memory for the tiles of one slab, and in backward which registers have a gradient at all. */
static int open_tile(const Call *call, int backward, Tile *tile, void **memory) {
    const Network *network = call->network;
    const size_t length = (size_t)network->length;
    size_t floats = 0;
    for (size_t i = 0; i < length; i++) floats += ROWS * room_of(network->code + i, backward);
    const size_t heads = length * (2 * sizeof(float *) + sizeof(Curve) + 1);
    const size_t bytes = (floats * sizeof(float) + heads + ALIGNMENT) / ALIGNMENT * ALIGNMENT;
    char *room = aligned_alloc(ALIGNMENT, bytes);
    *memory = room;
    if (room == NULL) return 0;
    float *at = (float *)room;
    tile->value = (float **)(room + floats * sizeof(float));
    tile->gradient = tile->value + length;
    tile->curve = backward ? (Curve *)(tile->gradient + length) : NULL;
    tile->has = (char *)((Curve *)(tile->gradient + length) + length);
    for (size_t i = 0; i < length; i++) {
        const Instruction *o = network->code + i;
        const size_t size = ROWS * (size_t)PADDED(o->out);
        tile->value[i] = at;
        tile->gradient[i] = NULL;
        if (backward) {
            tile->curve[i] = (Curve){at + 2 * size, at + 3 * size, at + 4 * size};
            const int above = (o->source >= 0 && tile->gradient[o->source] != NULL) ||
                              (o->operation == ADD && tile->gradient[o->index] != NULL);
            const int learns = (o->operation == LINEAR || o->operation == NORM_SILU) &&
                               call->g_parameters[o->parameter] != NULL;
            const int given = o->operation == LOAD && call->g_inputs[o->index] != NULL;
            if (above || learns || given) tile->gradient[i] = at + size;
        }
        at += ROWS * room_of(o, backward);
    }
    return 1;
}

int WORKER(const Call *call, int backward, ptrdiff_t slab) {
    const Network *network = call->network;
    Tile tile;
    void *memory;
    if (!open_tile(call, backward, &tile, &memory)) return 0;
    float *sums = backward ? call->slabs + slab * call->slab_size : NULL;
    if (backward) memset(sums, 0, (size_t)call->slab_size * sizeof(float));
    const ptrdiff_t from = slab * SLAB_ROWS;
    const ptrdiff_t to = from + SLAB_ROWS < call->n ? from + SLAB_ROWS : call->n;
    for (ptrdiff_t row = from; row < to; row += ROWS) {
        const ptrdiff_t rows = to - row < ROWS ? to - row : ROWS;
        for (int i = 0; i < network->length; i++) {
            const int operation = network->code[i].operation;
            const int again = operation != LINEAR && operation < SHARE;
            if (!backward || again) make(call, &tile, i, row, rows);
        }
        if (!backward) continue;
        memset(tile.has, 0, (size_t)network->length);
        for (int i = network->length - 1; i >= 0; i--)
            unmake(call, &tile, i, row, rows, sums);
    }
    free(memory);
    return 1;
}

