/* Peak performance of this machine: multiply-adds in registers, and memory reads. */
#include <stdint.h>
#include <time.h>

#if defined(__AVX512F__)
#define BYTES 64
#elif defined(__AVX__)
#define BYTES 32
#else
#define BYTES 16
#endif
typedef float V __attribute__((vector_size(BYTES), may_alias, aligned(4)));
#define SUMS 12

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Float32 operations per second of one core: fused multiply-adds in registers. */
double multiply(double seconds, float *result) {
    V sum[SUMS], factor = *result - (V){0}, one = factor + 1e-6f;
    for (int i = 0; i < SUMS; i++) sum[i] = factor * (float)i;
    const double began = now();
    double count = 0;
    do {
        for (int k = 0; k < 10000; k++)
            _Pragma("GCC unroll 12") for (int i = 0; i < SUMS; i++) sum[i] = sum[i] * factor + one;
        count += 10000.0 * SUMS * 2 * (BYTES / sizeof(float));
    } while (now() - began < seconds);
    const double rate = count / (now() - began);
    for (int i = 0; i < SUMS; i++) *result += sum[i][0];
    return rate;
}

/* One pass over memory by one core. The sum keeps the compiler from removing the reads. */
float read_memory(const float *from, int64_t n) {
    V sum[8] = {{0}};
    const int64_t step = 8 * (BYTES / sizeof(float));
    for (int64_t k = 0; k + step <= n; k += step)
        _Pragma("GCC unroll 8") for (int i = 0; i < 8; i++) sum[i] += *(const V *)(from + k + i * (BYTES / sizeof(float)));
    float total = 0;
    for (int i = 0; i < 8; i++) total += sum[i][0];
    return total;
}
