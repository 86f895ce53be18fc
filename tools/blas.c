/* SPDX-License-Identifier: MIT */
#include "tools/blas.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CORE "OPENBLAS_CORETYPE"

/* Not there with another LAPACK. */
#pragma weak openblas_set_num_threads
#pragma weak openblas_get_corename
void openblas_set_num_threads(int n);
char *openblas_get_corename(void);

/* The kernels that this CPU can run, by OpenBLAS's name for them; NULL for the ones that every CPU can. */
static const char *best_core(void)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq"))
        return "SkylakeX";
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return "Haswell";
#endif
    return NULL;
}

void blas_prepare(char **argv)
{
    if (openblas_set_num_threads)
        openblas_set_num_threads(1);
    if (openblas_get_corename && !getenv(CORE) && best_core() && strcmp(openblas_get_corename(), "Prescott") == 0 &&
        setenv(CORE, best_core(), 1) == 0)
        execv("/proc/self/exe", argv); // and if it cannot be, this one goes on
}
