/* SPDX-License-Identifier: MIT */
#include "lib/algebra/target.h"

#include "format/base/dtype.h"
#include "format/base/error.h"
#include "format/base/text.h"
#include "lib/algebra/names.h"

#include <stdlib.h>
#include <string.h>

#define ALL_LINEAR "all-linear"
#define WEIGHT ".weight"

/* A module's name, without the ".weight" of its tensor. */
typedef struct module {
    const char *name;
    size_t length;
    const char *last; /* part of the name, up to its end */
} module;

/* Is it the weight of a module? */
static bool module_of(const char *tensor, module *out)
{
    const size_t n = strlen(tensor), suffix = sizeof WEIGHT - 1;

    if (n <= suffix || strcmp(tensor + n - suffix, WEIGHT) != 0)
        return false;
    *out = (module){tensor, n - suffix, tensor};
    for (const char *at = tensor; at < tensor + out->length; at++)
        if (*at == '.')
            out->last = at + 1;
    return true;
}

static size_t last_length(const module *m)
{
    return m->length - (size_t)(m->last - m->name);
}

static bool ends_with(const char *text, size_t n, const char *suffix)
{
    const size_t length = strlen(suffix);

    return n >= length && memcmp(text + n - length, suffix, length) == 0;
}

/* --- what a module is --- */

/* Is a part of the name a number, as that of a layer in a list of them? */
static bool is_numbered(const module *m)
{
    for (const char *at = m->name; at < m->name + m->length; at++) {
        size_t n = 0;
        while (at[n] >= '0' && at[n] <= '9')
            n++;
        if (n && (at == m->name || at[-1] == '.') && (at[n] == '.'))
            return true;
        at += n;
    }
    return false;
}

static bool has_shape_of_embedding(const lorafmt_base *base, const lorafmt_base_tensor *t)
{
    for (size_t i = 0; i < base->n_tensors; i++) {
        const lorafmt_base_tensor *other = &base->tensors[i];
        if (other->n_dims == 2 && lk_is_embedding(other->name) && other->shape[0] == t->shape[0] &&
            other->shape[1] == t->shape[1])
            return true;
    }
    return false;
}

static bool is_head(const lorafmt_base *base, const lorafmt_base_tensor *t, const module *m)
{
    return lk_is_head(t->name) || (!is_numbered(m) && has_shape_of_embedding(base, t));
}

static bool is_norm(const module *m)
{
    const size_t n = last_length(m);

    for (size_t i = 0; i + 4 <= n; i++)
        if (memcmp(m->last + i, "norm", 4) == 0 || memcmp(m->last + i, "Norm", 4) == 0)
            return true;
    return n >= 3 && memcmp(m->last, "ln_", 3) == 0;
}

static bool is_all_linear(const lorafmt_base *base, const lorafmt_base_tensor *t, const module *m)
{
    return t->n_dims == 2 && !lk_is_embedding(t->name) && !is_norm(m) && !is_head(base, t, m);
}

/* --- names --- */

static bool name_matches(const char *pattern, const module *m)
{
    const size_t n = strlen(pattern);

    if (strpbrk(pattern, "*?["))
        return lf_glob_matches(pattern, m->name, m->length);
    return ends_with(m->name, m->length, pattern) && (n == m->length || m->name[m->length - n - 1] == '.');
}

static bool matches(const lorafmt_base *base, const char *pattern, const lorafmt_base_tensor *t)
{
    module m;

    if (!module_of(t->name, &m))
        return false;
    return strcmp(pattern, ALL_LINEAR) == 0 ? is_all_linear(base, t, &m) : name_matches(pattern, &m);
}

/* --- near names --- */

#define MOST_NEAR 3

typedef struct near_name {
    const char *name;
    size_t length, distance;
} near_name;

/* Keep the nearest, each once and with those found first before others as near. */
static void keep_near(near_name near[MOST_NEAR], near_name found)
{
    size_t at = MOST_NEAR;

    for (size_t i = 0; i < MOST_NEAR; i++)
        if (near[i].name && near[i].length == found.length && memcmp(near[i].name, found.name, found.length) == 0)
            return;
    while (at > 0 && (!near[at - 1].name || near[at - 1].distance > found.distance))
        at--;
    if (at == MOST_NEAR)
        return;
    memmove(near + at + 1, near + at, (MOST_NEAR - at - 1) * sizeof *near);
    near[at] = found;
}

static lorafmt_status fail_unmatched(const lorafmt_base *base, const char *pattern, lorafmt_error *err)
{
    const char *dot = strrchr(pattern, '.'), *typed = dot ? dot + 1 : pattern;
    const size_t n_typed = strlen(typed) < LF_MAX_DISTANCE ? strlen(typed) : LF_MAX_DISTANCE;
    near_name near[MOST_NEAR] = {{0}};

    for (size_t i = 0; i < base->n_tensors; i++) {
        module m;
        if (base->tensors[i].n_dims == 2 && module_of(base->tensors[i].name, &m) && last_length(&m) <= LF_MAX_DISTANCE)
            keep_near(near, (near_name){m.last, last_length(&m), lf_distance(typed, n_typed, m.last, last_length(&m))});
    }
    if (!near[0].name || strcmp(pattern, ALL_LINEAR) == 0)
        return lf_fail(err, LORAFMT_NOT_FOUND, LORAFMT_NO_OFFSET, pattern,
                       "matches nothing: the base has no NAME.weight that is such a matrix");
    keep_near(near,
              (near_name){ALL_LINEAR, sizeof ALL_LINEAR - 1, lf_distance(typed, n_typed, ALL_LINEAR, sizeof ALL_LINEAR - 1)});
    return lf_fail(err, LORAFMT_NOT_FOUND, LORAFMT_NO_OFFSET, pattern, "matches no weight of the base; near are %.*s%s%.*s%s%.*s",
                   (int)near[0].length, near[0].name, near[1].name ? ", " : "", (int)near[1].length,
                   near[1].name ? near[1].name : "", near[2].name ? ", " : "", (int)near[2].length,
                   near[2].name ? near[2].name : "");
}

/* --- all of them --- */

static lorafmt_status check_tensor(const lorafmt_base_tensor *t, lorafmt_error *err)
{
    char shape[LF_SHAPE_TEXT];
    uint64_t size;

    if (!lf_tensor_measure(t->dtype, t->n_dims, t->shape, &size) || size != t->size)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, t->name, "the base's dtype, shape and size do not agree");
    if (t->n_dims != 2 || !size)
        return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, t->name, "has shape %s, must be a matrix; exclude it",
                       lf_shape_text(t->n_dims, t->shape, shape));
    if (!lf_dtype_is_real(t->dtype))
        return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, t->name,
                       "the base has %s; only F32, F16, BF16 and F64 can be added to", lorafmt_dtype_name(t->dtype));
    return LORAFMT_OK;
}

static lk_target target_of(const lorafmt_base *base, size_t i, lorafmt_orientation orientation)
{
    const lorafmt_base_tensor *t = &base->tensors[i];
    const bool embedding = lk_is_embedding(t->name);
    const bool turned = embedding || orientation == LORAFMT_IN_OUT;

    return (lk_target){.tensor = t,
                       .index = i,
                       .kind = embedding ? LORAFMT_KIND_EMBEDDING : LORAFMT_KIND_LINEAR,
                       .orientation = (uint8_t)(embedding ? LORAFMT_OUT_IN : orientation),
                       .n_out = t->shape[turned],
                       .n_in = t->shape[!turned]};
}

enum { NOT_CHOSEN, CHOSEN, EXCLUDED };

static lorafmt_status choose_target(const lorafmt_base *base, const char *pattern, uint8_t *chosen, lorafmt_error *err)
{
    bool any = false;

    for (size_t i = 0; i < base->n_tensors; i++)
        if (matches(base, pattern, &base->tensors[i])) {
            any = true;
            chosen[i] = CHOSEN;
        }
    return any ? LORAFMT_OK : fail_unmatched(base, pattern, err);
}

static lorafmt_status exclude(const lorafmt_base *base, const char *pattern, uint8_t *chosen, lorafmt_error *err)
{
    bool any = false;

    for (size_t i = 0; i < base->n_tensors; i++)
        if (chosen[i] != NOT_CHOSEN && matches(base, pattern, &base->tensors[i])) {
            any = true;
            chosen[i] = EXCLUDED;
        }
    if (any)
        return LORAFMT_OK;
    return lf_fail(err, LORAFMT_NOT_FOUND, LORAFMT_NO_OFFSET, pattern, "excludes nothing: no target matches it");
}

static lorafmt_status choose(const lorafmt_base *base, const lorakit_init_options *o, uint8_t *chosen, lorafmt_error *err)
{
    bool any = false;

    for (size_t i = 0; i < o->n_targets; i++)
        LF_TRY(choose_target(base, o->targets[i], chosen, err));
    for (size_t i = 0; i < o->n_excludes; i++)
        LF_TRY(exclude(base, o->excludes[i], chosen, err));
    for (size_t i = 0; i < base->n_tensors; i++)
        if (chosen[i] == CHOSEN) {
            any = true;
            LF_TRY(check_tensor(&base->tensors[i], err));
        }
    return any ? LORAFMT_OK : lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, "excludes", "all targets are excluded");
}

lorafmt_status lk_targets_find(const lorafmt_base *base, const lorakit_init_options *options, lk_target **out, size_t *n,
                               lorafmt_error *err)
{
    uint8_t *chosen = calloc(base->n_tensors + 1, sizeof *chosen);
    lk_target *all = calloc(base->n_tensors + 1, sizeof *all);
    lorafmt_status st = chosen && all ? choose(base, options, chosen, err) : lf_no_memory(err);

    *out = NULL;
    *n = 0;
    for (size_t i = 0; i < base->n_tensors && !st; i++)
        if (chosen[i] == CHOSEN)
            all[(*n)++] = target_of(base, i, options->orientation);
    free(chosen);
    if (st)
        free(all);
    else
        *out = all;
    return st;
}
