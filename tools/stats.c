/* SPDX-License-Identifier: MIT */
#include "tools/stats.h"

#include "tools/tensors.h"
#include "tools/text.h"

#include <string.h>

void json_adapter_id(json_out *j, const lorafmt_adapter *adapter)
{
    uint8_t id[32];

    lorafmt_adapter_id(adapter, id);
    json_digest(j, "id", id);
}

bool site_has_scale(const lorafmt_site *site)
{
    return site->scaling != LORAFMT_SCALING_NONE;
}

bool site_has_alpha(const lorafmt_site *site)
{
    return site->scaling == LORAFMT_SCALING_ALPHA_R || site->scaling == LORAFMT_SCALING_ALPHA_SQRT_R;
}

static void add_value(number_set *set, double value)
{
    size_t at = 0;

    if (!set->n || value < set->least)
        set->least = value;
    if (!set->n || value > set->greatest)
        set->greatest = value;
    if (set->n > STATS_VALUES)
        return;
    while (at < set->n && set->values[at] < value)
        at++;
    if (at < set->n && set->values[at] == value)
        return;
    if (set->n < STATS_VALUES) {
        memmove(&set->values[at + 1], &set->values[at], (set->n - at) * sizeof set->values[0]);
        set->values[at] = value;
    }
    set->n++;
}

static void count_factor(const lorafmt_factor *factor, adapter_stats *out)
{
    const lorafmt_tensor *t = &factor->tensor;

    out->n_bytes += t->size;
    if (factor->role == LORAFMT_ROLE_ROW_INDEX) // says where parameters go
        return;
    out->n_dtype[lorafmt_dtype_bits(t->dtype) ? t->dtype : 0]++;
    out->n_parameters += tensor_n_elements(t);
}

void adapter_stats_count(const lorafmt_adapter *adapter, adapter_stats *out)
{
    memset(out, 0, sizeof *out);
    for (size_t i = 0; i < adapter->n_sites; i++) {
        const lorafmt_site *site = &adapter->sites[i];
        out->n_kind[site->kind <= LORAFMT_KIND_EXPERTS ? site->kind : 0]++;
        if (site->rank)
            add_value(&out->rank, site->rank);
        if (site_has_alpha(site))
            add_value(&out->alpha, site->alpha);
        if (site_has_scale(site))
            add_value(&out->scale, site->scale);
        for (uint32_t f = 0; f < site->n_factors; f++)
            count_factor(&site->factors[f], out);
    }
}

const char *number_set_text(const number_set *set, char buf[STATS_TEXT_SIZE])
{
    char number[NUMBER_TEXT_SIZE], other[NUMBER_TEXT_SIZE];

    buf[0] = '\0';
    if (!set->n)
        text_append(buf, STATS_TEXT_SIZE, "none");
    else if (set->n > STATS_VALUES)
        text_append(buf, STATS_TEXT_SIZE, "%s .. %s", number_text(set->least, number), number_text(set->greatest, other));
    else
        for (size_t i = 0; i < set->n; i++)
            text_append(buf, STATS_TEXT_SIZE, "%s%s", i ? ", " : "", number_text(set->values[i], number));
    return buf;
}

const char *stats_kinds_text(const adapter_stats *stats, char buf[STATS_TEXT_SIZE])
{
    buf[0] = '\0';
    for (unsigned kind = LORAFMT_KIND_EXPERTS + 1; kind-- > 0;)
        if (stats->n_kind[kind])
            text_append(buf, STATS_TEXT_SIZE, "%s%zu %s", buf[0] ? ", " : "", stats->n_kind[kind], lorafmt_kind_name(kind));
    return buf;
}

const char *stats_dtypes_text(const adapter_stats *stats, char buf[STATS_TEXT_SIZE])
{
    buf[0] = '\0';
    for (unsigned dtype = 1; dtype <= LORAFMT_F8_E5M2FNUZ; dtype++)
        if (stats->n_dtype[dtype])
            text_append(buf, STATS_TEXT_SIZE, "%s%s", buf[0] ? ", " : "", lorafmt_dtype_name((lorafmt_dtype)dtype));
    if (stats->n_dtype[0])
        text_append(buf, STATS_TEXT_SIZE, "%sunknown", buf[0] ? ", " : "");
    return buf;
}
