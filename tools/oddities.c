/* SPDX-License-Identifier: MIT */
#include "tools/oddities.h"

#include "tools/command.h"
#include "tools/message.h"
#include "tools/text.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name, *advice;
} odds[] = {
    [ODD_NOT_FINITE] = {"not-finite", "spoils every tensor it is merged into; train or save it again"},
    [ODD_HUGE_NORM] = {"huge-norm", "changes far more than other sites do; diverged, or scaled twice?"},
    [ODD_HUGE_SCALE] = {"huge-scale", "beyond what is trained with; look at alpha and rsLoRA"},
    [ODD_NEGATIVE_SCALE] = {"negative-scale", "subtracts what was trained; look at alpha"},
    [ODD_NOTHING] = {"nothing", "no site of this adapter changes anything; merging gives the base"},
    [ODD_ZERO_SCALE] = {"zero-scale", "adds nothing whatever the factors are; look at alpha"},
    [ODD_ZERO_FACTOR] = {"zero-factor", "A or B is all zero, so it adds nothing; was it ever trained?"},
    [ODD_ABOVE_DIMENSIONS] = {"rank-above-dimensions", "a smaller rank says the same in fewer bytes"},
    [ODD_SAME_TENSOR] = {"same-tensor", "equal data, once in a .lora; tied on purpose, or a mistake?"},
    [ODD_MIXED_DTYPES] = {"mixed-dtypes", "not one precision; pack --dtype makes it one"},
    [ODD_NEWER] = {"newer-format", "this version cannot merge it, but keeps and copies it"},
};

const char *odd_name(odd what)
{
    return odds[what].name;
}

const char *odd_advice(odd what)
{
    return odds[what].advice;
}

static int grow(oddity_list *list)
{
    const size_t capacity = list->capacity ? 2 * list->capacity : 16;
    oddity *items = realloc(list->items, capacity * sizeof *items);

    if (!items)
        return message_no_memory();
    list->items = items;
    list->capacity = capacity;
    return EXIT_DONE;
}

int oddity_add(oddity_list *list, odd what, const char *target, const char *format, ...)
{
    va_list args;
    oddity *o;

    if (list->n == list->capacity && grow(list))
        return EXIT_FAILED;
    o = &list->items[list->n++];
    o->what = what;
    o->target = target;
    va_start(args, format);
    vsnprintf(o->text, sizeof o->text, format, args);
    va_end(args);
    return EXIT_DONE;
}

static int check_scale(const lorafmt_site *site, oddity_list *list)
{
    char scale[NUMBER_TEXT_SIZE], alpha[NUMBER_TEXT_SIZE];

    number_text(site->scale, scale);
    number_text(site->alpha, alpha);
    if (site->scale == 0)
        return oddity_add(list, ODD_ZERO_SCALE, site->target, "scale 0%s%s", site_has_alpha(site) ? " from alpha " : "",
                          site_has_alpha(site) ? alpha : "");
    if (site->scale < 0 && oddity_add(list, ODD_NEGATIVE_SCALE, site->target, "scale %s", scale))
        return EXIT_FAILED;
    if (fabs(site->scale) > HUGE_SCALE)
        return oddity_add(list, ODD_HUGE_SCALE, site->target, "scale %s, above %d", scale, HUGE_SCALE);
    return EXIT_DONE;
}

static int check_rank(const lorafmt_site *site, oddity_list *list)
{
    const matrix_shape shape = site_shape(site);
    const uint64_t least = shape.n_out < shape.n_in ? shape.n_out : shape.n_in;

    if (shape.n_experts == 0 || site->rank <= least)
        return EXIT_DONE;
    return oddity_add(list, ODD_ABOVE_DIMENSIONS, site->target, "rank %" PRIu32 " of a matrix of %" PRIu64 " x %" PRIu64,
                      site->rank, shape.n_out, shape.n_in);
}

static int check_factor(const adapter_facts *facts, const lorafmt_site *site, const lorafmt_factor *factor, oddity_list *list)
{
    const tensor_entry *t = tensor_table_find(facts->tensors, &factor->tensor);
    const char *role = lorafmt_role_name(factor->role);

    if (factor->role > LORAFMT_ROLE_ROW_INDEX &&
        oddity_add(list, ODD_NEWER, site->target, "factor of role %u, unknown to this version", factor->role))
        return EXIT_FAILED;
    if (t->elements.n_nonfinite)
        return oddity_add(list, ODD_NOT_FINITE, site->target, "%" PRIu64 " of %" PRIu64 " elements of %s are NaN or infinite",
                          t->elements.n_nonfinite, tensor_n_elements(t->tensor), role);
    if (t->elements.all_zero && (factor->role == LORAFMT_ROLE_A || factor->role == LORAFMT_ROLE_B))
        return oddity_add(list, ODD_ZERO_FACTOR, site->target, "%s is all zero%s", role,
                          lorafmt_site_factor(site, LORAFMT_ROLE_MAGNITUDE) ? ", only the magnitude acts" : "");
    return EXIT_DONE;
}

static int check_site(const adapter_facts *facts, const lorafmt_site *site, oddity_list *list)
{
    if (site->kind > LORAFMT_KIND_EXPERTS &&
        oddity_add(list, ODD_NEWER, site->target, "kind %u, unknown to this version", site->kind))
        return EXIT_FAILED;
    if (site_has_scale(site) && check_scale(site, list))
        return EXIT_FAILED;
    if (site_is_low_rank(site) && check_rank(site, list))
        return EXIT_FAILED;
    for (uint32_t f = 0; f < site->n_factors; f++)
        if (check_factor(facts, site, &site->factors[f], list))
            return EXIT_FAILED;
    return EXIT_DONE;
}

/* The median of finite norms above zero; 0 when there are too few. */
static int median_norm(const adapter_facts *facts, double *out)
{
    double *norms = calloc(facts->adapter->n_sites, sizeof *norms);
    size_t n = 0;

    *out = 0;
    if (!norms)
        return message_no_memory();
    for (size_t i = 0; i < facts->adapter->n_sites; i++)
        if (facts->sites[i].norm > 0 && isfinite(facts->sites[i].norm))
            norms[n++] = facts->sites[i].norm;
    if (n >= FEWEST_FOR_A_MEDIAN)
        *out = median_of(norms, n);
    free(norms);
    return EXIT_DONE;
}

static int check_norms(const adapter_facts *facts, oddity_list *list)
{
    double median;

    if (median_norm(facts, &median))
        return EXIT_FAILED;
    for (size_t i = 0; median > 0 && i < facts->adapter->n_sites; i++) {
        const site_facts *s = &facts->sites[i];
        if (isfinite(s->norm) && s->norm > HUGE_NORM_RATIO * median &&
            oddity_add(list, ODD_HUGE_NORM, s->site->target, "norm %.4g, %.0f times the median", s->norm, s->norm / median))
            return EXIT_FAILED;
    }
    return EXIT_DONE;
}

/* Does the site leave its target as it is? Of what the base or a newer format decides that is not known. */
static bool adds_nothing(const adapter_facts *facts, size_t i)
{
    const site_facts *s = &facts->sites[i];

    return s->has_norm && s->norm == 0 && !lorafmt_site_factor(s->site, LORAFMT_ROLE_MAGNITUDE);
}

/* The dtypes of A and B, a bit each. */
static uint32_t low_rank_dtypes(const lorafmt_adapter *adapter)
{
    uint32_t dtypes = 0;

    for (size_t i = 0; i < adapter->n_sites; i++)
        for (unsigned role = LORAFMT_ROLE_A; role <= LORAFMT_ROLE_B; role++) {
            const lorafmt_factor *factor = lorafmt_site_factor(&adapter->sites[i], role);
            if (factor)
                dtypes |= UINT32_C(1) << factor->tensor.dtype;
        }
    return dtypes;
}

static int check_dtypes(const lorafmt_adapter *adapter, oddity_list *list)
{
    const uint32_t dtypes = low_rank_dtypes(adapter);
    char text[STATS_TEXT_SIZE] = "A and B are";

    if ((dtypes & (dtypes - 1)) == 0) // one at most
        return EXIT_DONE;
    for (unsigned dtype = 0; dtype <= LORAFMT_F8_E5M2FNUZ; dtype++)
        if (dtypes >> dtype & 1)
            text_append(text, sizeof text, " %s", lorafmt_dtype_name((lorafmt_dtype)dtype));
    return oddity_add(list, ODD_MIXED_DTYPES, NULL, "%s", text);
}

static int check_adapter(const adapter_facts *facts, oddity_list *list)
{
    const size_t n_sites = facts->adapter->n_sites;
    size_t n_nothing = 0;

    for (size_t i = 0; i < n_sites; i++)
        n_nothing += adds_nothing(facts, i);
    if (n_nothing == n_sites && oddity_add(list, ODD_NOTHING, NULL, "all %zu of them add zero", n_sites))
        return EXIT_FAILED;
    return check_dtypes(facts->adapter, list);
}

static int compare_oddities(const void *a_, const void *b_)
{
    const oddity *a = a_, *b = b_;
    int order = (a->what > b->what) - (a->what < b->what);

    if (!order)
        order = strcmp(a->target ? a->target : "", b->target ? b->target : "");
    return order ? order : strcmp(a->text, b->text);
}

int oddities_find(const adapter_facts *facts, oddity_list *out)
{
    int code = EXIT_DONE;

    memset(out, 0, sizeof *out);
    for (size_t i = 0; i < facts->adapter->n_sites && code == EXIT_DONE; i++)
        code = check_site(facts, &facts->adapter->sites[i], out);
    if (code == EXIT_DONE && (check_norms(facts, out) || check_adapter(facts, out) || same_tensors_find(facts, out)))
        code = EXIT_FAILED;
    if (out->n)
        qsort(out->items, out->n, sizeof *out->items, compare_oddities);
    return code;
}

void oddities_free(oddity_list *list)
{
    free(list->items);
    memset(list, 0, sizeof *list);
}
