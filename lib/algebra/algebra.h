/* SPDX-License-Identifier: MIT */
/*
 * Algebra of adapters in rank space. This room knows neither paths nor foreign formats; where adapters and bases come from is
 * others' business.
 *
 *   lapack.c    the routines that are borrowed
 *   numbers.c   elements to and from f64
 *   elements.c  two runs of elements beside each other
 *   basis.c     an orthonormal basis of the columns of a tall matrix
 *   thin.c      a matrix of low rank and its singular value decomposition
 *   rank.c      how many singular values to keep
 *   random.c    numbers that look random
 *   elements.c  matrices of one shape, element by element
 *   result.c    an adapter under construction
 *   work.c      work on many sites at once
 *   combine.c   one site out of several
 *   target.c    the tensors of a base that a new adapter is for
 *   compare_elements.c   two runs of elements beside each other
 *   diff_low_rank.c, diff_whole.c   sites of two stacks, compared
 *   names.c     what names of tensors say
 *   dense.c     the difference of two models, element by element
 *   orthonormal.c   the columns of a thin f32 matrix made orthonormal
 *   sketch.c    the large singular values of a large matrix
 *   decompose.c singular values, all or the large ones
 *   extract_plan.c, extract_site.c   what becomes of which tensor; a site of it
 *   spectrum.c, resize.c, compose.c, uniform.c, init.c, diff.c, diff_models.c, extract.c   what the public headers of these names promise
 */
#ifndef LK_ALGEBRA_H
#define LK_ALGEBRA_H

#include "lorafmt/adapter.h"

/* Is it a site of a known low-rank kind, with factors A and B, and a magnitude at most? */
bool lk_is_low_rank(const lorafmt_site *site);

/* Why it is not: UNSUPPORTED. */
lorafmt_status lk_check_low_rank(const lorafmt_site *site, lorafmt_error *err);

/* The order of spec 4.4: by target, kind and range; below 0, 0 for the same place, above 0. */
int lk_site_compare(const lorafmt_site *a, const lorafmt_site *b);

/* UNSUPPORTED for a kind or a role that this version does not know, or a Tucker core; whole tensors pass. */
lorafmt_status lk_check_known(const lorafmt_site *site, lorafmt_error *err);

#endif
