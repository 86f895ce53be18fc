/* SPDX-License-Identifier: MIT */
/*
 * Binding a stack to a base and evaluating rows of the result. This room does not know where adapters or bases came from.
 *
 *   base_index.c  look a base tensor up by name; structure fingerprint
 *   resolve.c     which base tensor is each site's: maps, bridges, tied heads
 *   replace.c     tensors that come whole: replaced, new, heads that come untied, vocabularies that grow
 *   fit.c         does the rest fit: kinds, orientations, shapes, dtypes, identity
 *   plan.c        what each tensor is computed from: its terms
 *   prepare.c     the factors of DoRA, which need the whole tensor
 *   bind.c        all of it in order
 *   evaluate.c    rows of a tensor
 *   patch.c       a few rows and columns of one in the working type, where more than low-rank updates are to be done
 *   unmerged.c    the terms of a tensor, for who does not merge them
 *   norm.c        how much a site adds, which takes no base
 */
#ifndef LF_VIEW_H
#define LF_VIEW_H

#include "format/base/arena.h"
#include "format/base/text.h"
#include "lib/kernels/kernels.h"
#include "lib/kernels/real.h"
#include "lorafmt/view.h"

/* spec 7.4: what every output is multiplied with, in the working type of its tensor; known once the tensor is prepared. */
typedef struct lf_dora {
    const lorafmt_tensor *magnitude;
    bool by_column; /* a factor for each column of the stored matrix, else for each row */
    void *factors;
} lf_dora;

/*
 * What a site adds to a tensor: a low-rank update, left [rows x rank] times right [rank x cols], of which each expert has its own
 * pair, one after the other; or, with rank 0, a tensor of the same shape. The factors stay where the adapter has them.
 */
typedef struct lf_term {
    const lorafmt_bound_site *bound;
    double scale; /* weight x scale, rounded to the working type */
    size_t rank;
    lf_matrix left, right;       /* of the first expert */
    uint64_t expert_rows;        /* rows of the tensor that share one pair */
    const lorafmt_tensor *value; /* with rank 0 */
    lf_dora *dora;               /* or NULL */
} lf_term;

/* How a touched tensor is computed: spec 7. */
typedef struct lf_plan {
    lorafmt_view_tensor info;
    const lorafmt_tensor *value; /* replacement, or NULL */
    size_t value_entry;          /* which adapter of the stack replaced it */
    const lorafmt_site *rows;    /* the site that replaces some rows, or NULL */
    size_t rows_entry;
    const lorafmt_bound_site *last_term; /* the latest low-rank site on it that no tie brought there */
    uint16_t kind;                       /* of a low-rank site on it, or 0 */
    bool f64;                            /* working type */
    size_t n_cols;
    size_t n_terms, n_terms_seen;
    lf_term *terms;
    bool prepared; /* the factors of all DoRA terms are known */
} lf_plan;

/* Names of a base in order, for look-up. */
typedef struct lf_base_index {
    const lorafmt_base *base;
    size_t *order; /* tensor indices in ascending order of name */
} lf_base_index;

struct lorafmt_view {
    lf_arena arena;
    const lorafmt_base *base;
    lf_base_index index;
    lf_kernels kernels;
    size_t n_entries;
    lorafmt_stack_entry *entries;
    size_t embedding, head;     /* the only one of its kind that the base stores, or LF_NOT_THERE */
    lorafmt_dtype common_dtype; /* of all real tensors of the base, or 0 */
    const char **bridges;       /* per entry, or NULL */
    size_t n_sites;
    lorafmt_bound_site *sites;
    const char **names; /* per site: what to look for in the base, which is its target or what the caller's map makes of it */
    size_t n_tensors;   /* base's, then new ones */
    lf_plan *plans;
    bool unties, check_only;
    uint64_t vocab_size;
};

/* A map of the caller's, and which of its renames have found something to rename. */
typedef struct lf_rename_map {
    const lorafmt_rename *renames;
    size_t n;
    bool *used;
} lf_rename_map;

/* Everything that bind does shares one state: the view under construction, the options, and what did not fit so far. */
typedef struct lf_binder {
    lorafmt_view *view;
    const lorafmt_bind_options *options;
    lf_rename_map map, *own_maps; /* of all entries; of each, where n is not 0 */
    size_t n_problems;
    lorafmt_error first; /* the first problem */
} lf_binder;

/* Report that a site does not fit and go on; status is what bind will return when this was the first problem. */
__attribute__((format(printf, 5, 6))) void lf_problem(lf_binder *binder, lorafmt_status status, size_t entry, const char *target,
                                                      const char *format, ...);

/* What can be done about the problem that was just reported. */
void lf_problem_hint(lf_binder *binder, lorafmt_hint hint);

lorafmt_status lf_base_index_build(const lorafmt_base *base, lf_arena *arena, lf_base_index *out, lorafmt_error *err);
#define LF_NOT_THERE SIZE_MAX
size_t lf_base_index_find(const lf_base_index *index, const char *name); /* LF_NOT_THERE when it is not */

/* Is <module>.weight quantised, going by a tensor beside it? Its name is written to sibling. */
bool lf_has_quantised_sibling(const lf_base_index *index, const char *name, char sibling[LF_MAX_NAME + 64]);

/* SHA-256 of a base tensor's bytes. base->read must be there. */
lorafmt_status lf_base_tensor_digest(const lorafmt_base *base, size_t tensor, uint8_t out[32], lorafmt_error *err);

/* An input embedding or an output head, going by the name. */
bool lf_is_embedding_name(const char *name);
bool lf_is_head_name(const char *name);
/* Fill in what a view knows of its base as a whole: embedding, head, common_dtype. */
void lf_view_survey(lorafmt_view *view);

/* The steps of bind; sites are those of one entry of the stack, from `first` on. */
void lf_check_kinds(lf_binder *binder, size_t entry);
lorafmt_status lf_resolve_entry(lf_binder *binder, size_t entry, size_t first, lorafmt_error *err);
void lf_check_renames(lf_binder *binder);
lorafmt_status lf_fit_replacements(lf_binder *binder, lorafmt_error *err);
void lf_fit_vocabulary(lf_binder *binder);
void lf_fit_rows(lf_binder *binder);
void lf_fit_terms(lf_binder *binder);
lorafmt_status lf_fit_identity(lf_binder *binder, lorafmt_error *err);
lorafmt_status lf_plan_terms(lf_binder *binder, lorafmt_error *err);

/* The stored orientation of a low-rank site on a tensor of that shape, or -1 when it does not fit (then *text says why). */
int lf_site_orientation(const lf_binder *binder, const lorafmt_site *site, const lorafmt_view_tensor *tensor, char text[256]);

/* Does it add something to a tensor: is it low-rank or additive? */
bool lf_is_bound_term(const lorafmt_bound_site *bound);

/* weight x scale of a low-rank site, rounded to the working type of its tensor: s_k of spec 7.1. */
double lf_working_scale(const lorafmt_view *view, const lorafmt_bound_site *bound);

/* Shape, rows and row size of a tensor info from its dtype, n_dims and shape. */
void lf_view_tensor_measure(lorafmt_view_tensor *info);

lf_real lf_real_of(lorafmt_dtype dtype);

/* The kernels of a level and those below it, or MISUSE when this CPU has not got it. */
lorafmt_status lf_choose_kernels(lorafmt_cpu cpu, lf_kernels *kernels, lorafmt_error *err);

#endif
