/* Products with weights in int8, in float32.
 *
 *     y_n = s_n t sum_k w_nk q_k      v_k = t q_k, rounded;  |w| <= 127, |q| <= 32639
 *
 * s: the scale of a row of weights, t: that of the vector v. A q has two digits, q = 256 high + low, both from -128 to
 * 127, and a sum over bytes for each, in 32 bits. These sums are exact, and so the same on every machine, whether it
 * multiplies bytes, pairs of 16 bits or single numbers.
 *
 * Weights are packed as panel of columns, four k, vector, lane, k. Beside them are, for each panel, its scales, and
 * -BIAS times the sums of its columns, as digits may be stored with BIAS added.
 *
 * Above this text stands vector.h.
 */
#if !defined(FLOAT64) && !defined(BFLOAT16)
#define NARROW /* weights may be narrower than what is computed in */

/* BYTE_DOT: the sum of four products of bytes; PAIR_DOT: of two products of 16 bits */
#if BYTES == 64 && defined(__AVX512VNNI__)
#define BYTE_DOT(sum, digits, weights) (M)_mm512_dpbusd_epi32((__m512i)(sum), (__m512i)(digits), (__m512i)(weights))
#define BIAS 128
#elif BYTES == 64 && defined(__AVX512BW__)
#define PAIR_DOT(a, b) (M)_mm512_madd_epi16((__m512i)(a), (__m512i)(b))
#elif BYTES == 32 && defined(__AVXVNNI__)
#define BYTE_DOT(sum, digits, weights) (M)_mm256_dpbusd_avx_epi32((__m256i)(sum), (__m256i)(digits), (__m256i)(weights))
#define BIAS 128
#elif BYTES == 32 && defined(__AVX2__)
#define PAIR_DOT(a, b) (M)_mm256_madd_epi16((__m256i)(a), (__m256i)(b))
#elif BYTES == 16 && defined(__SSE2__)
#include <emmintrin.h>
#define PAIR_DOT(a, b) (M)_mm_madd_epi16((__m128i)(a), (__m128i)(b))
#elif BYTES == 16 && defined(__ARM_FEATURE_DOTPROD)
#include <arm_neon.h>
#define BYTE_DOT(sum, digits, weights) (M)vdotq_s32((int32x4_t)(sum), (int8x16_t)(weights), (int8x16_t)(digits))
#endif
#ifndef BIAS
#define BIAS 0
#endif

#if defined(BYTE_DOT)
typedef int8_t Digit;
#elif defined(PAIR_DOT)
typedef int16_t Digit;
#else
typedef int32_t Digit;
#endif
#define WORDS ((i64)sizeof(Digit)) /* of 32 bits, that have four digits */

typedef int32_t Word __attribute__((may_alias, aligned(sizeof(Digit))));
typedef Digit Digits __attribute__((vector_size(BYTES / 4 * sizeof(Digit)), may_alias, aligned(sizeof(Digit))));
typedef uint32_t Unsigned __attribute__((vector_size(BYTES), may_alias));
typedef uint16_t Unsigned16 __attribute__((vector_size(BYTES), may_alias));
typedef int16_t Signed16 __attribute__((vector_size(BYTES), may_alias));

INLINE M in_all(int32_t a) { return a - (M){0}; }

/* each lane of sum + the products of its four weights with four digits */
INLINE M dot_4(M sum, M weights, const Word *digits) {
#if defined(BYTE_DOT)
    return BYTE_DOT(sum, in_all(digits[0]), weights);
#elif defined(PAIR_DOT) /* weights 0 and 1 are in the even bytes */
    const Signed16 low = (Signed16)((Unsigned16)weights << 8) >> 8, high = (Signed16)weights >> 8;
    return sum + (PAIR_DOT(low, in_all(digits[0])) + PAIR_DOT(high, in_all(digits[1])));
#else
    for (i64 k = 0; k < 4; k++) sum += ((M)((Unsigned)weights << (24 - 8 * k)) >> 24) * in_all(digits[k]);
    return sum;
#endif
}
INLINE i64 fours(i64 K) { return (K + 3) / 4 * 4; }
/* a row of digits: its scale in the first vector, the high digits, the low ones */
INLINE i64 digits_length(i64 K) { return (K + VL - 1) / VL * VL; }
INLINE i64 digits_size(i64 K) { return BYTES + 2 * digits_length(K) * (i64)sizeof(Digit); }

#define MOST_Q 32639 /* 127 * 256 + 127 */
static void to_digits(char *row, const real *v, i64 K) {
    V top = {0}, wrong = {0};
    for (i64 k = 0; k < K; k += VL) {
        const V x = get_some(v + k, K - k);
        top = v_maximum(top, v_abs(x));
        wrong += x * 0; /* NaN where x is no number, or infinite */
    }
    real largest = 0, sum = 0;
    for (i64 k = 0; k < VL; k++) largest = top[k] > largest ? top[k] : largest, sum += wrong[k];
    const int fits = sum == 0 && largest > 1e-30f;
    const real inverse = fits ? MOST_Q / largest : 0;
    *(real *)row = fits ? largest / MOST_Q : sum;
    Digit *high = (Digit *)(row + BYTES), *low = high + digits_length(K);
    for (i64 k = 0; k < K; k += VL) {
        const V x = get_some(v + k, K - k);
        const M q = __builtin_convertvector(whole_part(x * inverse), M), upper = (q + 128) >> 8;
        *(Digits *)(high + k) = __builtin_convertvector(upper + BIAS, Digits);
        *(Digits *)(low + k) = __builtin_convertvector(q - (upper << 8) + BIAS, Digits);
    }
}

#define AHEAD (REGISTERS < 24 ? 1 : 2) /* sums of a column at a time: a sum must wait for its last addition */

/* c (n vectors) += the product of a row of digits, from four k0 to k1, with n of the nv vectors of a panel */
INLINE void block_8(const i64 n, i64 nv, i64 k0, i64 k1, const char *row, i64 K, const int8_t *panel, const real *scale,
                    real *c) {
    const Word *high = (const Word *)(row + BYTES), *low = high + digits_length(K) / 4 * WORDS;
    M upper[AHEAD][4], lower[AHEAD][4];
    _Pragma("GCC unroll 4") for (i64 j = 0; j < n; j++) {
        upper[0][j] = lower[0][j] = (M)get(scale + (nv + j) * VL);
        _Pragma("GCC unroll 2") for (i64 a = 1; a < AHEAD; a++) upper[a][j] = lower[a][j] = (M){0};
    }
    i64 k = k0;
    for (; k + AHEAD <= k1; k += AHEAD)
        _Pragma("GCC unroll 2") for (i64 a = 0; a < AHEAD; a++)
            _Pragma("GCC unroll 4") for (i64 j = 0; j < n; j++) {
                const M weights = *(const M *)(panel + ((k + a) * nv + j) * BYTES);
                upper[a][j] = dot_4(upper[a][j], weights, high + (k + a) * WORDS);
                lower[a][j] = dot_4(lower[a][j], weights, low + (k + a) * WORDS);
            }
    for (; k < k1; k++)
        _Pragma("GCC unroll 4") for (i64 j = 0; j < n; j++) {
            const M weights = *(const M *)(panel + (k * nv + j) * BYTES);
            upper[0][j] = dot_4(upper[0][j], weights, high + k * WORDS);
            lower[0][j] = dot_4(lower[0][j], weights, low + k * WORDS);
        }
    const real t = *(const real *)row;
    _Pragma("GCC unroll 4") for (i64 j = 0; j < n; j++) {
        M one = upper[0][j], two = lower[0][j];
        _Pragma("GCC unroll 2") for (i64 a = 1; a < AHEAD; a++) one += upper[a][j], two += lower[a][j];
        const V sum = __builtin_convertvector(one, V) * 256.0f + __builtin_convertvector(two, V);
        put(c + j * VL, get(c + j * VL) + get(scale + j * VL) * (sum * t));
    }
}
/* c (nv vectors) += the product of a row of K digits, from k0 to k1, with a panel of weights */
INLINE void product_8(i64 nv, i64 k0, i64 k1, const char *row, i64 K, const int8_t *panel, const real *scale, real *c) {
    k0 /= 4, k1 = fours(k1) / 4;
    i64 j = 0;
    for (; j + 4 <= nv; j += 4) block_8(4, nv, k0, k1, row, K, panel + j * BYTES, scale + j * VL, c + j * VL);
    for (; j + 3 <= nv; j += 3) block_8(3, nv, k0, k1, row, K, panel + j * BYTES, scale + j * VL, c + j * VL);
    for (; j < nv; j++) block_8(1, nv, k0, k1, row, K, panel + j * BYTES, scale + j * VL, c + j * VL);
}

typedef int8_t Packed __attribute__((vector_size(BYTES / 4), may_alias, aligned(1)));

/* Pack row c of a panel, N weights: return its scale, max |w| / 127, or 0 if they are no whole multiples of it. */
static real pack_row_8(int32_t *to, i64 columns, const real *from, i64 N, int32_t *sum) {
    V top = {0}, off = {0};
    M total = {0};
    for (i64 k = 0; k < N; k += VL) top = v_maximum(top, v_abs(get_some(from + k, N - k)));
    real largest = 0, worst = 0;
    for (i64 k = 0; k < VL; k++) largest = top[k] > largest ? top[k] : largest;
    const real scale = largest > 0 ? largest / 127 : 1;
    for (i64 k = 0; k < N; k += VL) {
        const V w = get_some(from + k, N - k) / scale, whole_ = whole_part(w);
        const M q = __builtin_convertvector(whole_, M);
        off = v_maximum(off, v_abs(w - whole_));
        total += q;
        uint32_t words[BYTES / 16];
        *(Packed *)words = __builtin_convertvector(q, Packed);
        for (i64 g = 0; g < VL / 4 && k + 4 * g < N; g++) {
#if defined(PAIR_DOT) /* weights 0 and 1 are in the even bytes */
            words[g] = (words[g] & 0xff0000ff) | (words[g] >> 8 & 0xff00) | (words[g] << 8 & 0xff0000);
#endif
            to[(k / 4 + g) * columns] = (int32_t)words[g];
        }
    }
    for (i64 k = 0; k < VL; k++) *sum += total[k], worst = off[k] <= worst ? worst : off[k];
    return worst < 1e-3f ? scale : 0;
}
/* Pack weights (gates H, N): panels of `units` vectors of units, all gates of them side by side; scales: (panel, 2,
   columns). Return whether all are whole multiples of their row's scale, and rows short enough for sums of 32 bits. */
static int pack_8(int8_t *to, real *scales, const real *from, i64 gates, i64 units, i64 H, i64 N) {
    const i64 columns = gates * units * VL, width = units * VL;
    if (N > 1 << 17) return 0;
    for (i64 j0 = 0; j0 < H; j0 += width, to += fours(N) * columns, scales += 2 * columns) {
        if (H - j0 < width) memset(to, 0, (size_t)(fours(N) * columns));
        for (i64 c = 0; c < columns; c++) {
            const i64 j = j0 + c % width;
            int32_t sum = 0;
            scales[c] = 0;
            if (j < H && !(scales[c] = pack_row_8((int32_t *)to + c, columns, from + (c / width * H + j) * N, N, &sum)))
                return 0;
            sum *= -BIAS;
            memcpy(scales + columns + c, &sum, sizeof sum);
        }
    }
    return 1;
}
#endif
