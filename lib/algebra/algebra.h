/* SPDX-License-Identifier: MIT */
/*
 * Algebra of adapters in rank space. This room knows neither paths nor foreign formats; where adapters and bases come from is
 * others' business.
 *
 *   lapack.c    the routines that are borrowed
 *   numbers.c   elements to and from f64
 *   basis.c     an orthonormal basis of the columns of a tall matrix
 *   thin.c      a matrix of low rank and its singular value decomposition
 *   rank.c      how many singular values to keep
 *   result.c    an adapter under construction
 *   targets.c   what names of tensors say
 *   dense.c     the difference of two models, element by element
 *   orthonormal.c   the columns of a thin f32 matrix made orthonormal
 *   sketch.c    the large singular values of a large matrix
 *   decompose.c singular values, all or the large ones
 *   extract_plan.c, extract_site.c   what becomes of which tensor; a site of it
 *   spectrum.c, resize.c, extract.c   what the public headers of these names promise
 */
#ifndef LK_ALGEBRA_H
#define LK_ALGEBRA_H

#include "lorafmt/adapter.h"

/* Is it a site of a known low-rank kind, with factors A and B, and a magnitude at most? */
bool lk_is_low_rank(const lorafmt_site *site);

/* Why it is not: UNSUPPORTED. */
lorafmt_status lk_check_low_rank(const lorafmt_site *site, lorafmt_error *err);

/* UNSUPPORTED for a kind or a role that this version does not know, or a Tucker core; whole tensors pass. */
lorafmt_status lk_check_known(const lorafmt_site *site, lorafmt_error *err);

#endif
