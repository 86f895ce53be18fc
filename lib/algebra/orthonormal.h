/* SPDX-License-Identifier: MIT */
/* An orthonormal basis of the columns of a thin matrix, in its place and with several threads; what basis.h does, but in f32. */
#ifndef LK_ORTHONORMAL_H
#define LK_ORTHONORMAL_H

#include "lorafmt/error.h"

#include <stddef.h>

/* x [n x width] by columns, finite, width <= n. Computed in f64 and rounded once; the result does not depend on n_threads. */
lorafmt_status lk_orthonormalise(float *x, size_t n, size_t width, unsigned n_threads, lorafmt_error *err);

#endif
