/* SPDX-License-Identifier: MIT */
/* An adapter under construction: sites that are taken over, and sites with new factors. */
#ifndef LK_RESULT_H
#define LK_RESULT_H

#include "format/base/arena.h"
#include "lib/algebra/thin.h"
#include "lorakit/adapter.h"

/* A site that is being made, by a thread of its own. */
typedef struct lk_made {
    lf_arena arena;
    lorafmt_site site;
} lk_made;

struct lorakit_adapter {
    lf_arena arena;
    lorafmt_adapter adapter;
    size_t n_made;
    lk_made *made; /* sites' memory */
};

/* Room for n sites; base, names and metadata as those of the parent, whose id it has not. */
lorafmt_status lk_result_new(const lorafmt_adapter *parent, const char *name, size_t n, lorakit_adapter **out,
                             lorafmt_error *err);

/*
 * Make `made` a site like `like`, its factors A and B replaced by those of `experts` thin matrices of one rank, rounded to dtype.
 * The scale stays, its alpha follows. LIMIT when a number is too large for the dtype.
 */
lorafmt_status lk_made_low_rank(lk_made *made, const lorafmt_site *like, const lk_thin *experts, size_t n_experts,
                                lorafmt_dtype dtype, lorafmt_error *err);

/* Alpha of a scale under the site's rule, and the scale that it gives back. */
void lk_site_set_scale(lorafmt_site *site, double scale);

/*
 * Say in the metadata, not semantic, where it came from: `lorakit.method`, and `lorakit.parents` with a line "ID WEIGHT NAME"
 * for each, if any.
 */
lorafmt_status lk_result_note(lorakit_adapter *result, const char *method, const lorafmt_adapter *const *parents,
                              const double *weights, size_t n, lorafmt_error *err);

/* The made sites become the adapter's, in the order that spec 4.4 wants. */
lorafmt_status lk_result_finish(lorakit_adapter *result, lorafmt_error *err);

#endif
