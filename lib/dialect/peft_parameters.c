/* SPDX-License-Identifier: MIT */
/*
 * target_parameters: PEFT adapts bare parameters, experts mostly, by one wrapper around their module for each, the first
 * registered parameter innermost. The file says neither which parameter a wrapper is for nor how the base stores it; the shapes
 * in the base do, when only one assignment fits.
 */
#include "format/base/error.h"
#include "format/base/text.h"
#include "lib/dialect/peft.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define MAX_WRAPPERS 6                // around one module: at most 6! assignments
#define MAX_STEPS (UINT64_C(1) << 26) // comparisons of names: modules times parameters of the base
#define LIST_SIZE 256                 // bytes of a list of names in a message

/* One is the other, or ends in it at a whole component: the tree at training time may be deeper or shallower than the file's. */
static bool same_tail(const char *a, size_t n, const char *b, size_t m)
{
    const size_t shorter = n < m ? n : m, longer = n < m ? m : n;
    const char *longer_text = n < m ? b : a;

    return shorter && memcmp(a + n - shorter, b + m - shorter, shorter) == 0 &&
           (shorter == longer || longer_text[longer - shorter - 1] == '.');
}

static bool is_listed(const lf_peft_config *config, const char *name)
{
    const cJSON *item;

    cJSON_ArrayForEach(item, config->target_parameters)
    {
        if (same_tail(name, strlen(name), item->valuestring, strlen(item->valuestring)))
            return true;
    }
    return false;
}

/* Going by the config alone, does the module hold a listed parameter? A name without a module may be of any. */
typedef enum listing { NOT_LISTED, MAY_BE_LISTED, LISTED } listing;

static listing listing_of(const lf_peft_config *config, const char *module)
{
    listing found = NOT_LISTED;
    const cJSON *item;

    cJSON_ArrayForEach(item, config->target_parameters)
    {
        const size_t n = lf_peft_module_length(item->valuestring);
        if (n == 0 && found == NOT_LISTED)
            found = MAY_BE_LISTED;
        if (n && same_tail(module, strlen(module), item->valuestring, n))
            found = LISTED;
    }
    return found;
}

lorafmt_status lf_peft_parameters_find(const lf_peft_input *in, const lf_peft_config *config, lf_arena *arena,
                                       lf_peft_parameters *out, lorafmt_error *err)
{
    *out = (lf_peft_parameters){.in = in, .config = config};
    if (!in->base || !config->target_parameters)
        return LORAFMT_OK;
    out->tensors = lf_arena_alloc(arena, in->base->n_tensors, sizeof(const lorafmt_base_tensor *));
    if (!out->tensors)
        return lf_no_memory(err);
    for (size_t i = 0; i < in->base->n_tensors; i++) {
        const lorafmt_base_tensor *t = &in->base->tensors[i];
        if ((t->n_dims == 2 || t->n_dims == 3) && strlen(t->name) <= LF_MAX_NAME && is_listed(config, t->name))
            out->tensors[out->n++] = t;
    }
    return LORAFMT_OK;
}

/* The listed parameters of one module. */
typedef struct candidates {
    const lorafmt_base_tensor *tensors[MAX_WRAPPERS + 1];
    const char *names[MAX_WRAPPERS + 1];
    size_t n;
    bool exact; /* found under the module's own name */
} candidates;

static lorafmt_status add_candidate(candidates *c, const lorafmt_base_tensor *t, const char *module, lorafmt_error *err)
{
    const char *name = t->name + lf_peft_module_length(t->name) + 1;

    for (size_t i = 0; i < c->n; i++)
        if (strcmp(c->names[i], name) == 0)
            return lf_fail(err, LORAFMT_MISMATCH, LORAFMT_NO_OFFSET, module,
                           "the base has two parameters that may be meant: %s and %s", c->tensors[i]->name, t->name);
    if (c->n == MAX_WRAPPERS)
        return lf_fail(err, LORAFMT_LIMIT, LORAFMT_NO_OFFSET, module, "more than %d parameters of one module are adapted",
                       MAX_WRAPPERS);
    c->tensors[c->n] = t;
    c->names[c->n++] = name;
    return LORAFMT_OK;
}

static lorafmt_status find_candidates(lf_peft_parameters *p, const char *module, candidates *c, lorafmt_error *err)
{
    const size_t length = strlen(module);

    memset(c, 0, sizeof *c);
    p->n_steps += p->n;
    if (p->n_steps > MAX_STEPS)
        return lf_fail(err, LORAFMT_LIMIT, LORAFMT_NO_OFFSET, "target_parameters", "too many modules and parameters to compare");
    for (size_t i = 0; i < p->n; i++) {
        const lorafmt_base_tensor *t = p->tensors[i];
        const size_t n = lf_peft_module_length(t->name);
        const bool exact = n == length && memcmp(t->name, module, n) == 0;
        if (!same_tail(t->name, n, module, length) || (c->exact && !exact))
            continue;
        if (exact && !c->exact)
            *c = (candidates){.exact = true};
        LF_TRY(add_candidate(c, t, module, err));
    }
    return LORAFMT_OK;
}

/* How A and B fit a parameter: orientations, and the rank that the config gives for it. */
typedef struct fit {
    bool out_in, in_out;
    uint32_t rank;
} fit;

static lorafmt_status fit_parameter(const lf_peft_parameters *p, const char *module, const lf_peft_wrapper *w,
                                    const lorafmt_base_tensor *t, const char *name, fit *out, lorafmt_error *err)
{
    const uint64_t n_experts = t->n_dims == 3 ? t->shape[0] : 1, *d = t->shape + (t->n_dims == 3);
    const uint64_t *a = w->a->tensor.shape, *b = w->b->tensor.shape;
    char path[2 * LF_MAX_NAME + 2];
    double rank = p->config->r;

    snprintf(path, sizeof path, "%.*s.%s", LF_MAX_NAME, module, name);
    LF_TRY(lf_peft_patterns_find(p->config->rank_pattern, path, &rank, err));
    memset(out, 0, sizeof *out);
    if (!(rank >= 1 && rank <= LF_MAX_RANK) || a[0] != n_experts * (uint64_t)rank || b[1] != a[0])
        return LORAFMT_OK;
    out->rank = (uint32_t)rank;
    out->out_in = a[1] == d[1] && b[0] == d[0];
    out->in_out = t->n_dims == 3 && a[1] == d[0] && b[0] == d[1];
    return LORAFMT_OK;
}

/* Try every assignment of the parameters from wrapper i on to those that are left; *n counts what fits, the first is kept. */
static void count_assignments(fit (*fits)[MAX_WRAPPERS], size_t n_wrappers, size_t i, unsigned used, size_t *order, size_t *kept,
                              size_t *n)
{
    if (i == n_wrappers) {
        if ((*n)++ == 0)
            memcpy(kept, order, n_wrappers * sizeof *kept);
        return;
    }
    for (size_t k = 0; k < n_wrappers; k++)
        if (!(used & 1u << k) && (fits[i][k].out_in || fits[i][k].in_out)) {
            order[i] = k;
            count_assignments(fits, n_wrappers, i + 1, used | 1u << k, order, kept, n);
        }
}

static const char *list_names(const candidates *c, char text[LIST_SIZE])
{
    size_t used = 0;

    text[0] = '\0';
    for (size_t i = 0; i < c->n && used + 1 < LIST_SIZE; i++) {
        const int n = snprintf(text + used, LIST_SIZE - used, "%s%s", i ? ", " : "", c->names[i]);
        used += n > 0 ? (size_t)n : 0;
    }
    return text;
}

/* A square expert fits both ways. PEFT before 0.19 knew only in x out; since then the base's code says, not its file. */
static lorafmt_status choose_orientation(const lf_peft_parameters *p, const lf_peft_wrapper *w, const fit *f,
                                         lorafmt_orientation *out, lorafmt_error *err)
{
    if (!f->out_in || !f->in_out)
        *out = f->in_out ? LORAFMT_IN_OUT : LORAFMT_OUT_IN;
    else if (p->in->orientation && *p->in->orientation != LORAFMT_BY_SHAPE)
        *out = *p->in->orientation;
    else if (p->config->before_0_19)
        *out = LORAFMT_IN_OUT;
    else
        return lf_hint(err,
                       lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, w->parameter->name,
                               "experts are square in the base: their shape cannot tell the orientation (in-out for a base that "
                               "stores them transposed, as GPT-OSS, else out-in)"),
                       LORAFMT_HINT_EXPERTS);
    return LORAFMT_OK;
}

static lorafmt_status check_factors(const lf_peft_wrapper *w, lorafmt_error *err)
{
    const lf_peft_tensor *bad = w->a->tensor.n_dims != 2 ? w->a : w->b;

    if (w->a->tensor.n_dims != 2 || w->b->tensor.n_dims != 2)
        return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, bad->name, "a factor of a parameter must have 2 dimensions");
    return LORAFMT_OK;
}

static lorafmt_status assign(lf_peft_parameters *p, const char *module, lf_peft_wrapper *wrappers, const candidates *c,
                             lorafmt_error *err)
{
    fit fits[MAX_WRAPPERS][MAX_WRAPPERS];
    size_t order[MAX_WRAPPERS], kept[MAX_WRAPPERS], n = 0;
    char names[LIST_SIZE];

    for (size_t i = 0; i < c->n; i++) {
        LF_TRY(check_factors(&wrappers[i], err));
        for (size_t k = 0; k < c->n; k++)
            LF_TRY(fit_parameter(p, module, &wrappers[i], c->tensors[k], c->names[k], &fits[i][k], err));
    }
    count_assignments(fits, c->n, 0, 0, order, kept, &n);
    if (n == 0)
        return lf_fail(err, LORAFMT_MISMATCH, LORAFMT_NO_OFFSET, module,
                       "no factors of this module have the shapes and ranks that the base's %s need", list_names(c, names));
    if (n > 1)
        return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, module,
                       "shapes do not tell which factors are for which of %s, and the file does not say it",
                       list_names(c, names));
    for (size_t i = 0; i < c->n; i++) {
        const fit *f = &fits[i][kept[i]];
        wrappers[i].parameter = c->tensors[kept[i]];
        wrappers[i].name = c->names[kept[i]];
        wrappers[i].rank = f->rank;
        LF_TRY(choose_orientation(p, &wrappers[i], f, &wrappers[i].orientation, err));
    }
    return LORAFMT_OK;
}

lorafmt_status lf_peft_parameters_assign(lf_peft_parameters *p, const char *module, lf_peft_wrapper *wrappers, size_t n,
                                         bool *adapted, lorafmt_error *err)
{
    const listing listed = listing_of(p->config, module);
    candidates c = {.n = 0};
    char names[LIST_SIZE];

    *adapted = false;
    if (listed == NOT_LISTED)
        return LORAFMT_OK;
    if (!p->in->base)
        return lf_hint(err,
                       lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, module,
                               "this adapter has target_parameters (experts): which tensor is whose, and how it is stored, only "
                               "the base says"),
                       LORAFMT_HINT_BASE);
    LF_TRY(find_candidates(p, module, &c, err));
    if (c.n == 0 && listed == MAY_BE_LISTED)
        return LORAFMT_OK;
    if (c.n == 0)
        return lf_fail(err, LORAFMT_MISMATCH, LORAFMT_NO_OFFSET, module,
                       "target_parameters names parameters of this module, and the base has none of them");
    if (c.n != n)
        return lf_fail(err, LORAFMT_MISMATCH, LORAFMT_NO_OFFSET, module,
                       "the file has factors for %zu parameters of this module, the base has %zu: %s", n, c.n,
                       list_names(&c, names));
    *adapted = true;
    return assign(p, module, wrappers, &c, err);
}

size_t lf_peft_order_find(const char *order, const char *name)
{
    const size_t length = strlen(name);
    size_t place = 0;

    while (order && *order) {
        const size_t n = strcspn(order, " ");
        if (n == length && strncmp(order, name, n) == 0)
            return place;
        order += n + (order[n] == ' ');
        place++;
    }
    return LF_PEFT_NO_PLACE;
}

lorafmt_status lf_peft_order_place(const char **order, const char *name, lf_arena *arena, size_t *place, lorafmt_error *err)
{
    *place = lf_peft_order_find(*order, name);
    if (*place != LF_PEFT_NO_PLACE)
        return LORAFMT_OK;
    *order = *order ? lf_arena_printf(arena, "%s %s", *order, name) : lf_arena_strdup(arena, name);
    if (!*order)
        return lf_no_memory(err);
    *place = lf_peft_order_find(*order, name);
    return LORAFMT_OK;
}
