/* SPDX-License-Identifier: MIT */
/* The floating-point environment of spec 7.1: nearest even, subnormals kept, nothing traps, whatever the host had set. */
#ifndef LF_KERNELS_FPENV_H
#define LF_KERNELS_FPENV_H

#include <stdint.h>

#if defined(__SSE__)
#include <xmmintrin.h>

typedef unsigned lf_fpenv;

#define LF_MXCSR_DEFAULT 0x1f80u // all exceptions masked, round to nearest, no FTZ, no DAZ

static inline lf_fpenv lf_fpenv_enter(void)
{
    const lf_fpenv old = _mm_getcsr();
    _mm_setcsr(LF_MXCSR_DEFAULT);
    return old;
}

static inline void lf_fpenv_leave(lf_fpenv old)
{
    _mm_setcsr(old);
}

#elif defined(__aarch64__)

typedef struct lf_fpenv {
    uint64_t control, status;
} lf_fpenv;

/*
 * All of FPCR zero: nearest even, no trap, no FZ, FZ16 or FIZ, NaN as they come (DN, AH), f16 as IEEE 754 has it (AHP). The
 * exceptions that raised a flag are not the host's either. Memory: what is computed in between is loaded and stored in between.
 */
static inline lf_fpenv lf_fpenv_enter(void)
{
    const uint64_t standard = 0;
    lf_fpenv old;
    __asm__ volatile("mrs %0, fpsr" : "=r"(old.status));
    __asm__ volatile("mrs %0, fpcr" : "=r"(old.control));
    __asm__ volatile("msr fpcr, %0" : : "r"(standard) : "memory");
    return old;
}

static inline void lf_fpenv_leave(lf_fpenv old)
{
    __asm__ volatile("msr fpcr, %0" : : "r"(old.control) : "memory");
    __asm__ volatile("msr fpsr, %0" : : "r"(old.status));
}

#else
#include <fenv.h>

typedef int lf_fpenv; // rounding mode only: flush-to-zero has no portable name

static inline lf_fpenv lf_fpenv_enter(void)
{
    const lf_fpenv old = fegetround();
    fesetround(FE_TONEAREST);
    return old;
}

static inline void lf_fpenv_leave(lf_fpenv old)
{
    fesetround(old);
}

#endif

#endif
