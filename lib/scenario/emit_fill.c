/* SPDX-License-Identifier: MIT */
/* Updates of nothing, for engines that leave a layer out when another one is not adapted: docs/serving.md says which. */
#include "lib/scenario/emit.h"

#include "format/base/dtype.h"
#include "format/base/error.h"
#include "format/base/text.h"

#include <stdlib.h>
#include <string.h>

/* Parts of one fused layer. */
static const char *const partners[][3] = {{"q_proj", "k_proj", "v_proj"}, {"gate_proj", "up_proj", NULL}};

typedef struct filler {
    const lorafmt_base *base;
    const lorafmt_base_tensor **by_name; /* ascending */
    bool *covered;                       /* of by_name */
    lf_arena *arena;
    lorafmt_error *err;
    lk_named_site *sites; /* room for one for each tensor */
    size_t n;
} filler;

static int compare_tensors(const void *a, const void *b)
{
    const lorafmt_base_tensor *const *x = a, *const *y = b;

    return strcmp((*x)->name, (*y)->name);
}

/* The place of the first tensor that is not before a name. */
static size_t find(const filler *f, const char *name)
{
    size_t low = 0, high = f->base->n_tensors;

    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (strcmp(f->by_name[middle]->name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool is_at(const filler *f, size_t place, const char *name)
{
    return place < f->base->n_tensors && strcmp(f->by_name[place]->name, name) == 0;
}

/* Zeros of rank 1 for a tensor that has no site, otherwise as the site `like`. */
static lorafmt_status add_zero(filler *f, size_t place, const lk_named_site *like, const char *target)
{
    const lorafmt_base_tensor *t = f->by_name[place];
    const bool swapped = like->site.orientation == LORAFMT_IN_OUT;
    const lorafmt_dtype dtype = like->site.factors[0].tensor.dtype;
    lorafmt_factor *factors = lf_arena_alloc(f->arena, 2, sizeof *factors);
    lk_named_site *site = &f->sites[f->n];

    if (!factors || !target)
        return lf_no_memory(f->err);
    if (t->n_dims != 2 || f->covered[place])
        return LORAFMT_OK;
    factors[0] = (lorafmt_factor){LORAFMT_ROLE_A, {.dtype = dtype, .n_dims = 2, .shape = {1, t->shape[swapped ? 0 : 1]}}};
    factors[1] = (lorafmt_factor){LORAFMT_ROLE_B, {.dtype = dtype, .n_dims = 2, .shape = {t->shape[swapped ? 1 : 0], 1}}};
    for (unsigned i = 0; i < 2; i++) {
        lorafmt_tensor *x = &factors[i].tensor;
        if (!lf_tensor_measure(dtype, 2, x->shape, &x->size))
            return lf_fail(f->err, LORAFMT_LIMIT, LORAFMT_NO_OFFSET, t->name, "too large for an update of it");
        if (!(x->data = lf_arena_alloc(f->arena, (size_t)x->size, 1)))
            return lf_no_memory(f->err);
    }
    *site = *like;
    site->base_name = t->name;
    site->site.target = target;
    site->site.rank = 1;
    site->site.factors = factors;
    f->covered[place] = true;
    f->n++;
    return LORAFMT_OK;
}

/* The name with its last `tail` bytes and the `n` bytes before them replaced by `middle` and those last bytes. */
static const char *replaced(lf_arena *arena, const char *name, size_t tail, size_t n, const char *middle, size_t middle_size)
{
    const size_t length = strlen(name);

    return lf_arena_printf(arena, "%.*s%.*s%s", (int)(length - tail - n), name, (int)middle_size, middle, name + length - tail);
}

/* Do both names end alike from the layer's number on? The adapter's may begin otherwise. */
static bool end_alike(const lk_named_site *site, size_t size)
{
    const size_t a = strlen(site->base_name), b = strlen(site->site.target);

    return b >= size && strcmp(site->base_name + a - size, site->site.target + b - size) == 0;
}

static lorafmt_status cannot_name(const filler *f, const lk_named_site *site)
{
    return lf_fail(f->err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, site->site.target,
                   "is called %s in the base; what its other layers are called in the adapter is not known", site->base_name);
}

/* The same layer of every other number. */
static lorafmt_status fill_layers(filler *f, const lk_named_site *like)
{
    size_t at, n, tail;
    const char *layer = lf_target_layer(like->base_name, &n), *prefix;

    if (!layer || !layer[n])
        return LORAFMT_OK;
    at = (size_t)(layer - like->base_name);
    tail = strlen(like->base_name) - at - n;
    if (!end_alike(like, n + tail))
        return cannot_name(f, like);
    prefix = lf_arena_strndup(f->arena, like->base_name, at);
    if (!prefix)
        return lf_no_memory(f->err);
    for (size_t i = find(f, prefix); i < f->base->n_tensors && strncmp(f->by_name[i]->name, prefix, at) == 0; i++) {
        const char *number = f->by_name[i]->name + at;
        const size_t m = strspn(number, "0123456789");
        if (m && !f->covered[i] && strcmp(number + m, like->base_name + at + n) == 0)
            LF_TRY(add_zero(f, i, like, replaced(f->arena, like->site.target, tail, n, number, m)));
    }
    return LORAFMT_OK;
}

/* The module that a weight belongs to: its last component but one. */
static size_t module_at(const char *name, size_t *n)
{
    const char *end = strrchr(name, '.'), *p = end;

    while (p && p > name && p[-1] != '.')
        p--;
    *n = end ? (size_t)(end - p) : 0;
    return end ? (size_t)(p - name) : 0;
}

static lorafmt_status fill_partners_of(filler *f, const lk_named_site *like, const char *const group[3])
{
    size_t n;
    const size_t at = module_at(like->base_name, &n), tail = strlen(like->base_name) - at - n;
    bool in_group = false;

    for (size_t k = 0; k < 3 && group[k]; k++)
        in_group = in_group || (strlen(group[k]) == n && strncmp(like->base_name + at, group[k], n) == 0);
    if (in_group && !end_alike(like, n + tail))
        return cannot_name(f, like);
    for (size_t k = 0; in_group && k < 3 && group[k]; k++) {
        const size_t m = strlen(group[k]);
        const char *name = replaced(f->arena, like->base_name, tail, n, group[k], m);
        const size_t place = name ? find(f, name) : 0;
        if (!name)
            return lf_no_memory(f->err);
        if (is_at(f, place, name))
            LF_TRY(add_zero(f, place, like, replaced(f->arena, like->site.target, tail, n, group[k], m)));
    }
    return LORAFMT_OK;
}

static lorafmt_status fill_partners(filler *f, const lk_named_site *like)
{
    for (size_t g = 0; g < sizeof partners / sizeof *partners; g++)
        LF_TRY(fill_partners_of(f, like, partners[g]));
    return LORAFMT_OK;
}

lorafmt_status lk_emit_fill(const lk_engine *engine, const lorafmt_base *base, lf_arena *arena, lk_named_site **sites, size_t *n,
                            lorafmt_error *err)
{
    filler f = {.base = base, .arena = arena, .err = err};
    const size_t n_given = *n;

    f.by_name = lf_arena_alloc(arena, base->n_tensors, sizeof *f.by_name);
    f.covered = lf_arena_alloc(arena, base->n_tensors, sizeof *f.covered);
    f.sites = lf_arena_alloc(arena, n_given + base->n_tensors, sizeof *f.sites);
    if (!f.by_name || !f.covered || !f.sites)
        return lf_no_memory(err);
    for (size_t i = 0; i < base->n_tensors; i++)
        f.by_name[i] = &base->tensors[i];
    qsort(f.by_name, base->n_tensors, sizeof *f.by_name, compare_tensors);
    for (size_t i = 0; i < n_given; i++) {
        const size_t place = find(&f, (*sites)[i].base_name);
        if (is_at(&f, place, (*sites)[i].base_name))
            f.covered[place] = true;
        f.sites[f.n++] = (*sites)[i];
    }
    for (size_t i = 0; i < n_given; i++) {
        if (engine->fills_layers)
            LF_TRY(fill_layers(&f, &f.sites[i]));
        if (engine->fills_partners)
            LF_TRY(fill_partners(&f, &f.sites[i]));
    }
    *sites = f.sites;
    *n = f.n;
    return LORAFMT_OK;
}
