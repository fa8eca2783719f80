/* Numbers, vectors of them, and the functions of cells on vectors.
 *
 * real: what is computed in.  item: what is stored (x, y, packed weights, what backward needs).
 * elem: what a product multiplies at a time: one item, or a pair of bfloat16.
 */
#define _GNU_SOURCE
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#if defined(__linux__)
#include <limits.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

typedef int64_t i64;
#define INLINE static inline __attribute__((always_inline))

typedef struct { /* where threads and memory come from; mirrored in library.py */
    void (*parallel)(void (*)(void *), void *, unsigned, unsigned);
    int (*thread_number)(void);
    int (*thread_count)(void);
    void *(*take)(size_t);
    void (*give)(void *);
} Source;

#if defined(__AVX512F__)
#define BYTES 64
#define REGISTERS 24 /* accumulators that a product may use */
#elif defined(__AVX__)
#define BYTES 32
#define REGISTERS 12
#else
#define BYTES 16
#if defined(__aarch64__)
#define REGISTERS 24
#else
#define REGISTERS 12
#endif
#endif

#ifdef FLOAT64
typedef double real;
typedef int64_t whole;
#else
typedef float real;
typedef int32_t whole;
#endif

#define VL ((i64)(BYTES / sizeof(real))) /* lanes of a vector */

typedef real V __attribute__((vector_size(BYTES), may_alias, aligned(sizeof(real))));
typedef whole M __attribute__((vector_size(BYTES), may_alias, aligned(sizeof(real))));

#ifdef BFLOAT16
typedef uint16_t item;
typedef uint32_t elem;
#define PER 2
typedef uint16_t Half __attribute__((vector_size(BYTES / 2), may_alias, aligned(2)));
typedef uint32_t E __attribute__((vector_size(BYTES), may_alias, aligned(4)));
#else
typedef real item;
typedef real elem;
#define PER 1
typedef V E;
#endif

/* DEEP: the elems k that a product takes at a time, if it runs in the matrix unit; see amx.h */
#if defined(BFLOAT16) && defined(__AMX_BF16__) && defined(__AVX512F__) && defined(__linux__)
#define AMX
#define DEEP 16
#else
#define DEEP 1
#endif

/* The instruction where the compiler would not find it; NaN stays NaN. */
#if defined(__AVX__)
#include <immintrin.h>
#endif
#if defined(__AVX512F__) && !defined(FLOAT64)
INLINE V clip(V x, real low, real high) {
    return (V)_mm512_max_ps(_mm512_set1_ps(low), _mm512_min_ps(_mm512_set1_ps(high), (__m512)x));
}
INLINE V whole_part(V x) { return (V)_mm512_roundscale_ps((__m512)x, 8); }
INLINE V times_power_of_two(V x, V n) { return (V)_mm512_scalef_ps((__m512)x, (__m512)n); }
#else
INLINE V clip(V x, real low, real high) {
    M above = x > high, below = x < low;
    V a = (V)((above & (M)(high - (V){0})) | (~above & (M)x));
    return (V)((below & (M)(low - (V){0})) | (~below & (M)a));
}
#ifndef FLOAT64
INLINE V whole_part(V x) { /* adding 1.5 * 2^23 rounds to whole numbers */
    return (x + 12582912.0f) - 12582912.0f;
}
INLINE V times_power_of_two(V x, V n) { /* in two steps, so that neither power overflows */
    M k = __builtin_convertvector(n, M), half = k >> 1;
    return x * (V)((half + 127) << 23) * (V)((k - half + 127) << 23);
}
#endif
#endif

INLINE V all(real a) { return a - (V){0}; }
INLINE V choose(M m, V a, V b) { return (V)((m & (M)a) | (~m & (M)b)); }
INLINE V get(const real *p) { return *(const V *)p; }
INLINE void put(real *p, V v) { *(V *)p = v; }

/* ---- items ---- */

#ifdef BFLOAT16
INLINE E rounded(V v) { /* to the nearest bfloat16, ties to even, in the upper half; NaN stays NaN */
    E u = (E)v;
    E r = u + 0x7fff + ((u >> 16) & 1);
    E nan = (E)(v != v);
    return (nan & 0x7fc00000) | (~nan & r);
}
#ifdef __AVX512F__
INLINE E halves(const item *p) { return (E)_mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)p)); }
#else
INLINE E halves(const item *p) { return __builtin_convertvector(*(const Half *)p, E); }
#endif
INLINE V load(const item *p) { return (V)(halves(p) << 16); }
#ifdef __AVX512BF16__
INLINE void store(item *p, V v) { *(Half *)p = (Half)_mm512_cvtneps_pbh((__m512)v); }
INLINE E pairs_of(V low, V high) { /* rounded, the bits of `low` in the lower halves */
    typedef uint16_t Halves __attribute__((vector_size(BYTES)));
    const Halves turns = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                          8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    return (E)_mm512_permutexvar_epi16((__m512i)turns, (__m512i)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low));
}
#else
INLINE E pairs_of(V low, V high) { return rounded(low) >> 16 | (rounded(high) & 0xffff0000); }
INLINE void store(item *p, V v) { *(Half *)p = __builtin_convertvector(rounded(v) >> 16, Half); }
#endif
#else
INLINE V load(const item *p) { return get(p); }
INLINE void store(item *p, V v) { put(p, v); }
#endif

INLINE void store_some(item *p, V v, i64 n) {
    if (n >= VL) {
        store(p, v);
        return;
    }
    item part[BYTES / sizeof(item)];
    store(part, v);
    memcpy(p, part, (size_t)n * sizeof(item));
}
INLINE V load_some(const item *p, i64 n) {
    if (n >= VL) return load(p);
    item part[BYTES / sizeof(item)] = {0};
    if (n > 0) memcpy(part, p, (size_t)n * sizeof(item));
    return load(part);
}
INLINE V get_some(const real *p, i64 n) {
    if (n >= VL) return get(p);
#if defined(__AVX512F__) && !defined(FLOAT64)
    return (V)_mm512_maskz_loadu_ps(n > 0 ? (__mmask16)((1 << n) - 1) : 0, p);
#endif
    real part[BYTES / sizeof(real)] = {0};
    if (n > 0) memcpy(part, p, (size_t)n * sizeof(real));
    return get(part);
}
INLINE void put_some(real *p, V v, i64 n) {
    if (n >= VL) {
        put(p, v);
        return;
    }
    real part[BYTES / sizeof(real)];
    put(part, v);
    memcpy(p, part, (size_t)n * sizeof(real));
}
/* the first n lanes, 0 in the others */
INLINE V first(V v, i64 n) {
    if (n >= VL) return v;
    real part[BYTES / sizeof(real)];
    put(part, v);
    for (i64 k = n; k < VL; k++) part[k] = 0;
    return get(part);
}

/* ---- functions ---- */

#define BY_LANE(name, f)                          \
    static V name(V x) {                          \
        for (i64 k = 0; k < VL; k++) x[k] = f(x[k]); \
        return x;                                 \
    }
#define BY_LANE_2(name, f)                              \
    static V name(V x, V y) {                           \
        for (i64 k = 0; k < VL; k++) x[k] = f(x[k], y[k]); \
        return x;                                       \
    }

/* sums and the like that the compiler has instructions for; the others are done lane by lane */
#ifdef FLOAT64
#define OF(name) name
BY_LANE(v_exp, exp)
BY_LANE(v_tanh, tanh)
BY_LANE(v_log, log)
BY_LANE(v_log1p, log1p)
BY_LANE(v_expm1, expm1)
#else
#define OF(name) name##f
#endif
BY_LANE(v_sqrt, OF(sqrt))
BY_LANE(v_floor, OF(floor))
BY_LANE(v_ceil, OF(ceil))
BY_LANE(v_trunc, OF(trunc))
BY_LANE(v_round, OF(rint))
BY_LANE_2(v_copysign, OF(copysign))
BY_LANE(v_sin, OF(sin))
BY_LANE(v_cos, OF(cos))
BY_LANE(v_tan, OF(tan))
BY_LANE(v_asin, OF(asin))
BY_LANE(v_acos, OF(acos))
BY_LANE(v_atan, OF(atan))
BY_LANE(v_sinh, OF(sinh))
BY_LANE(v_cosh, OF(cosh))
BY_LANE(v_asinh, OF(asinh))
BY_LANE(v_acosh, OF(acosh))
BY_LANE(v_atanh, OF(atanh))
BY_LANE(v_erf, OF(erf))
BY_LANE(v_erfc, OF(erfc))
BY_LANE_2(v_pow, OF(pow))
BY_LANE_2(v_atan2, OF(atan2))
BY_LANE_2(v_hypot, OF(hypot))
BY_LANE_2(v_fmod, OF(fmod))

#ifndef FLOAT64
/* x = n ln 2 + r with |r| <= ln 2 / 2: n, r, and e^r - 1 - r by a polynomial of degree 7 (from Cephes) */
typedef struct { V n, r, rest; } Pieces;
INLINE Pieces pieces(V x) {
    V n = whole_part(x * 1.44269504088896341f);
    V r = x - n * 0.693145751953125f;
    r = r - n * 1.42860682030941723e-6f;
    V p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    return (Pieces){n, r, p * (r * r)};
}
/* e^x = 2^n e^r */
INLINE V v_exp(V x) {
    Pieces e = pieces(clip(x, -104.0f, 89.0f));
    return times_power_of_two(e.rest + (e.r + 1.0f), e.n);
}
/* (e^2x - 1) / (e^2x + 1), with e^2x - 1 = 2^n (e^r - 1) + (2^n - 1), so that small x keep their digits */
INLINE V v_tanh(V x) {
    Pieces e = pieces(clip(x, -44.0f, 44.0f) * 2.0f);
    V power = times_power_of_two(all(1), e.n);
    V less_one = power * (e.rest + e.r) + (power - 1.0f);
    return less_one / (less_one + 2.0f);
}
INLINE V v_expm1(V x) {
    Pieces e = pieces(clip(x, -104.0f, 89.0f));
    V power = times_power_of_two(all(1), e.n);
    return power * (e.rest + e.r) + (power - 1.0f);
}
/* x = 2^n m with m from sqrt(1/2) to sqrt(2); ln m by a polynomial of degree 8 (from Cephes) */
INLINE V v_log(V x) {
    M tiny = x < 1.17549435e-38f;
    V y = choose(tiny, x * 8388608.0f, x);
    M bits = (M)y, n = (bits >> 23) - 126;
    V m = (V)((bits & 0x007fffff) | 0x3f000000);
    M low = m < 0.707106781186547524f;
    V k = __builtin_convertvector(n + low, V) - choose(tiny, all(23), all(0));
    m = choose(low, m + m, m) - 1.0f;
    V z = m * m, p = m * 7.0376836292e-2f - 1.1514610310e-1f;
    p = p * m + 1.1676998740e-1f;
    p = p * m - 1.2420140846e-1f;
    p = p * m + 1.4249322787e-1f;
    p = p * m - 1.6668057665e-1f;
    p = p * m + 2.0000714765e-1f;
    p = p * m - 2.4999993993e-1f;
    p = p * m + 3.3333331174e-1f;
    V ln = p * (m * z) - k * 2.12194440e-4f - z * 0.5f + m + k * 0.693359375f;
    ln = choose(x == INFINITY, x, choose(x == 0, all(-INFINITY), ln));
    return choose(x >= 0, ln, all(NAN));
}
/* ln u x / (u - 1) with u = 1 + x as rounded: what was lost in u is made good by the quotient */
INLINE V v_log1p(V x) {
    V u = x + 1.0f, gap = u - 1.0f;
    return choose((gap == 0) | (u == INFINITY), x, v_log(u) * (x / gap));
}
#endif

INLINE V v_sigmoid(V x) { return 1 / (1 + v_exp(-x)); }
INLINE V v_abs(V x) { return choose(x < 0, -x, choose(x == 0, all(0), x)); }
INLINE V v_sign(V x) { return choose(x > 0, all(1), choose(x < 0, all(-1), x)); }
INLINE V v_relu(V x) { return choose(x < 0, all(0), x); }
INLINE V v_maximum(V a, V b) { return choose(a != a, a, choose(a > b, a, b)); }
INLINE V v_minimum(V a, V b) { return choose(a != a, a, choose(a < b, a, b)); }
INLINE V mix(V a, V b, V k) { /* a + k (b - a); exactly a for 0 and exactly b for 1 */
    return choose(k < 0.5f, a + k * (b - a), b - (1 - k) * (b - a));
}
INLINE V v_softplus(V x, real beta, real threshold) {
    return choose(x * beta > threshold, x, v_log1p(v_exp(x * beta)) / beta);
}
INLINE V v_remainder(V x, V y) { /* with the sign of y */
    V rest = v_fmod(x, y);
    return choose((rest != 0) & ((y < 0) ^ (rest < 0)), rest + y, rest);
}
INLINE V v_div_floor(V x, V y) { /* the largest whole number of y's that fit into x */
    V rest = v_fmod(x, y), n = (x - rest) / y;
    n = choose((rest != 0) & ((y < 0) ^ (rest < 0)), n - 1, n);
    V whole_ = v_floor(n);
    whole_ = choose(n - whole_ > 0.5f, whole_ + 1, whole_);
    whole_ = choose(n == 0, v_copysign(all(0), x / y), whole_);
    return choose(y == 0, x / y, whole_);
}
INLINE V v_index(real from) { /* the numbers of the units of a vector */
    V index;
    for (i64 k = 0; k < VL; k++) index[k] = from + (real)k;
    return index;
}
/* x, summed over the units so far; so far: the sum of those before, in its first lane */
INLINE V v_scan(V x, V *before, i64 n) {
    real sum = (*before)[0];
    for (i64 k = 0; k < VL && k < n; k++) x[k] = sum += x[k];
    (*before)[0] = sum;
    return x;
}
/* the first n lanes, another value in the others */
INLINE V first_or(V v, i64 n, real other) {
    for (i64 k = n; k < VL; k++) v[k] = other;
    return v;
}
/* how the values of units are gathered: their sum, the largest, the least, or the sum of those before, in lane 0 */
enum { SUM, MOST, LEAST, BEFORE };
INLINE V v_raised(real base, V x) { /* a number to the power of x */
#ifndef FLOAT64
    if (base > 0 && base < INFINITY) return v_exp(x * logf(base));
#endif
    return v_pow(all(base), x);
}
INLINE V v_power(V x, real n) { /* the powers that cells use, and all others */
    if (n == 2) return x * x;
    if (n == 3) return x * x * x;
    if (n == 1) return x;
    if (n == 0.5f) return v_sqrt(x);
    if (n == -1) return 1 / x;
    if (n == -0.5f) return 1 / v_sqrt(x);
    return v_pow(x, all(n));
}
