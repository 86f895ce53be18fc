/* SPDX-License-Identifier: MIT */
/* The levels of this CPU, and how many multiply-adds each can do. */
#ifndef BENCH_PEAK_H
#define BENCH_PEAK_H

#include "lib/kernels/kernels.h"
#include "lorafmt/view.h"

#include <time.h>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

typedef struct level {
    const char *name;
    lorafmt_cpu cpu;
    unsigned flags;
    size_t flops; // of one step of peak()
    void (*peak)(size_t n_steps);
} level;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static volatile float sink;

/* Twelve sums, as many as hide how long one multiply-add takes. FMA(x, y, z) is x * y + z. */
#define SUMS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#define N_SUMS 12
#define BEGIN(i) s##i = SET((float)(i));
#define STEP(i) s##i = FMA(s##i, x, y);
#define END(i) STORE(out, s##i), sink = out[0];
#define PEAK(name, vec, attribute)                                                                                               \
    attribute static void name(size_t n_steps)                                                                                   \
    {                                                                                                                            \
        const vec x = SET(0.5f), y = SET(sink);                                                                                  \
        vec s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11;                                                                    \
        float out[16];                                                                                                           \
        SUMS(BEGIN)                                                                                                              \
        for (size_t k = 0; k < n_steps; k++) {                                                                                   \
            SUMS(STEP)                                                                                                           \
        }                                                                                                                        \
        SUMS(END)                                                                                                                \
    }

#if defined(__x86_64__)
#define SET _mm256_set1_ps
#define FMA _mm256_fmadd_ps
#define STORE _mm256_storeu_ps
PEAK(peak_avx2, __m256, __attribute__((target("avx2,fma"))))
#undef SET
#undef FMA
#undef STORE
#define SET _mm512_set1_ps
#define FMA _mm512_fmadd_ps
#define STORE _mm512_storeu_ps
PEAK(peak_avx512, __m512, __attribute__((target("avx512f"))))
#elif defined(__aarch64__)
#define SET vdupq_n_f32
#define FMA(a, b, c) vfmaq_f32(c, a, b)
#define STORE vst1q_f32
PEAK(peak_neon, float32x4_t, )
#endif

static const level levels[] = {
#if defined(__x86_64__)
    {"avx2", LORAFMT_CPU_AVX2, LF_CPU_FMA, 2 * N_SUMS * 8, peak_avx2},
    {"avx512", LORAFMT_CPU_AVX512, LF_CPU_FMA | LF_CPU_AVX512, 2 * N_SUMS * 16, peak_avx512},
#elif defined(__aarch64__)
    {"neon", LORAFMT_CPU_NEON, LF_CPU_NEON, 2 * N_SUMS * 4, peak_neon},
#endif
    {NULL, LORAFMT_CPU_BEST, 0, 0, NULL},
};

#endif
