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

    if (!*name || strchr(name, ' ') || !lf_name_valid(name, strlen(name)))
        return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, t->name,
                       "the name of an adapted parameter must have no spaces and no control characters");
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

/* Can A and B be for a parameter, if the base stores it so? Then *rank is what the config gives for it. */
static lorafmt_status fit_parameter(const lf_peft_parameters *p, const char *module, const lf_peft_wrapper *w,
                                    const lorafmt_base_tensor *t, const char *name, uint32_t *rank, bool fits[2],
                                    lorafmt_error *err)
{
    const uint64_t n_experts = t->n_dims == 3 ? t->shape[0] : 1, *d = t->shape + (t->n_dims == 3);
    const uint64_t *a = w->a->tensor.shape, *b = w->b->tensor.shape;
    char path[2 * LF_MAX_NAME + 2];
    double found = p->config->r;

    snprintf(path, sizeof path, "%.*s.%s", LF_MAX_NAME, module, name);
    LF_TRY(lf_peft_patterns_find(p->config->rank_pattern, path, &found, err));
    fits[LORAFMT_OUT_IN] = fits[LORAFMT_IN_OUT] = false;
    if (!(found >= 1 && found <= LF_MAX_RANK) || a[0] != n_experts * (uint64_t)found || b[1] != a[0])
        return LORAFMT_OK;
    *rank = (uint32_t)found;
    fits[LORAFMT_OUT_IN] = a[1] == d[1] && b[0] == d[0];
    fits[LORAFMT_IN_OUT] = t->n_dims == 3 ? a[1] == d[0] && b[0] == d[1] : fits[LORAFMT_OUT_IN]; // a matrix is always out x in
    return LORAFMT_OK;
}

/* The wrappers of one module, its parameters, and which can be whose. */
typedef struct puzzle {
    size_t n;
    uint32_t ranks[MAX_WRAPPERS][MAX_WRAPPERS];
    bool fits[MAX_WRAPPERS][MAX_WRAPPERS][2]; // by orientation, which all parameters of a module share
} puzzle;

/* Ways to give the wrappers from i on the parameters that are left. */
typedef struct assignments {
    size_t n, first[MAX_WRAPPERS];
} assignments;

static void count_assignments(const puzzle *z, unsigned orientation, size_t i, unsigned used, size_t *order, assignments *out)
{
    if (i == z->n) {
        if (out->n++ == 0)
            memcpy(out->first, order, i * sizeof *order);
        return;
    }
    for (size_t k = 0; k < z->n; k++)
        if (!(used & 1u << k) && z->fits[i][k][orientation]) {
            order[i] = k;
            count_assignments(z, orientation, i + 1, used | 1u << k, order, out);
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

/*
 * How the base stores a module's parameters: as they fit. When they fit both ways, PEFT before 0.19 knew only in x out; since
 * then the base's code says, not its file.
 */
static lorafmt_status choose_orientation(const lf_peft_parameters *p, const char *module, const candidates *c,
                                         const assignments found[2], lorafmt_orientation *out, lorafmt_error *err)
{
    char names[LIST_SIZE];
    bool any_experts = false;

    for (size_t i = 0; i < c->n; i++)
        any_experts = any_experts || c->tensors[i]->n_dims == 3;
    if (p->config->before_0_19 && any_experts)
        *out = LORAFMT_IN_OUT;
    else if (!any_experts || !found[LORAFMT_IN_OUT].n)
        *out = LORAFMT_OUT_IN;
    else if (!found[LORAFMT_OUT_IN].n)
        *out = LORAFMT_IN_OUT;
    else if (p->in->orientation && *p->in->orientation != LORAFMT_BY_SHAPE)
        *out = *p->in->orientation;
    else
        return lf_hint(err,
                       lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, module,
                               "the factors fit the base's %s stored either way, so shapes cannot tell the orientation (in-out "
                               "for a base that stores experts transposed, as GPT-OSS, else out-in)",
                               list_names(c, names)),
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
    puzzle z = {.n = c->n};
    assignments found[2] = {{.n = 0}, {.n = 0}};
    size_t order[MAX_WRAPPERS];
    lorafmt_orientation orientation;
    char names[LIST_SIZE];

    for (size_t i = 0; i < c->n; i++) {
        LF_TRY(check_factors(&wrappers[i], err));
        for (size_t k = 0; k < c->n; k++)
            LF_TRY(fit_parameter(p, module, &wrappers[i], c->tensors[k], c->names[k], &z.ranks[i][k], z.fits[i][k], err));
    }
    count_assignments(&z, LORAFMT_OUT_IN, 0, 0, order, &found[LORAFMT_OUT_IN]);
    count_assignments(&z, LORAFMT_IN_OUT, 0, 0, order, &found[LORAFMT_IN_OUT]);
    LF_TRY(choose_orientation(p, module, c, found, &orientation, err));
    if (found[orientation].n == 0)
        return lf_fail(err, LORAFMT_MISMATCH, LORAFMT_NO_OFFSET, module,
                       "no factors of this module have the shapes and ranks that the base's %s need", list_names(c, names));
    if (found[orientation].n > 1)
        return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, module,
                       "shapes do not tell which factors are for which of %s, and the file does not say it",
                       list_names(c, names));
    for (size_t i = 0; i < c->n; i++) {
        const size_t k = found[orientation].first[i];
        wrappers[i].parameter = c->tensors[k];
        wrappers[i].name = c->names[k];
        wrappers[i].rank = z.ranks[i][k];
        wrappers[i].orientation = c->tensors[k]->n_dims == 3 ? orientation : LORAFMT_OUT_IN;
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

static size_t place_of(lf_peft_order *order, const char *name)
{
    size_t i = 0;

    while (i < order->n && strcmp(order->names[i], name) != 0)
        i++;
    if (i == order->n && i < LF_PEFT_MAX_PARAMETERS)
        order->names[order->n++] = name;
    return i;
}

lorafmt_status lf_peft_order_add(lf_peft_order *order, const lf_peft_wrapper *wrappers, size_t n, lorafmt_error *err)
{
    uint64_t before = 0;

    for (size_t i = n; i-- > 0;) { // the innermost was registered first
        const size_t place = place_of(order, wrappers[i].name);
        if (place == LF_PEFT_MAX_PARAMETERS)
            return lf_fail(err, LORAFMT_LIMIT, LORAFMT_NO_OFFSET, wrappers[i].name,
                           "more than %d names of parameters are adapted", LF_PEFT_MAX_PARAMETERS);
        order->before[place] |= before;
        before |= UINT64_C(1) << place;
    }
    return LORAFMT_OK;
}

lorafmt_status lf_peft_order_text(const lf_peft_order *order, lf_arena *arena, const char **out, lorafmt_error *err)
{
    uint64_t done = 0;

    *out = NULL;
    for (size_t n = 0; n < order->n; n++) {
        size_t i = 0;
        while (i < order->n && (done >> i & 1 || order->before[i] & ~done))
            i++;
        if (i == order->n)
            return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, "target_parameters",
                           "modules register the same parameters in different orders");
        done |= UINT64_C(1) << i;
        *out = *out ? lf_arena_printf(arena, "%s %s", *out, order->names[i]) : lf_arena_strdup(arena, order->names[i]);
        if (!*out)
            return lf_no_memory(err);
    }
    return LORAFMT_OK;
}
