/* SPDX-License-Identifier: MIT */
/* Getting OpenBLAS, when that is what liblorakit's LAPACK is, to do its best. */
#ifndef TOOLS_BLAS_H
#define TOOLS_BLAS_H

/*
 * Call first of all. One thread for each of ours, which work on a site each. And an OpenBLAS that is older than the CPU takes its slowest
 * kernels, which make everything three times slower; it is told by the environment, before it is loaded, which ones to take: then this
 * starts the program anew.
 */
void blas_prepare(char **argv);

#endif
