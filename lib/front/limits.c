/* SPDX-License-Identifier: MIT */
#include "lib/front/limits.h"

#include "format/base/dtype.h"
#include "format/base/error.h"
#include "format/base/text.h"
#include "format/container/format.h"
#include "format/foreign/json.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    uint64_t most;
} known[LORAFMT_N_LIMITS] = {
    [LORAFMT_LIMIT_FILE_SIZE] = {"file-size", UINT64_C(1) << 62},
    [LORAFMT_LIMIT_INDEX_SIZE] = {"index-size", LF_MAX_INDEX_SIZE},
    [LORAFMT_LIMIT_HEADER_SIZE] = {"header-size", LF_SAFETENSORS_MAX_HEADER},
    [LORAFMT_LIMIT_CONFIG_SIZE] = {"config-size", UINT64_C(1) << 20},
    [LORAFMT_LIMIT_ADAPTERS] = {"adapters", LF_MAX_RECORDS},
    [LORAFMT_LIMIT_SITES] = {"sites", LF_MAX_RECORDS},
    [LORAFMT_LIMIT_TENSORS] = {"tensors", LF_MAX_RECORDS},
    [LORAFMT_LIMIT_METADATA] = {"metadata", LF_MAX_METADATA},
    [LORAFMT_LIMIT_NAME_SIZE] = {"name-size", LF_MAX_NAME},
    [LORAFMT_LIMIT_RANK] = {"rank", LF_MAX_RANK},
    [LORAFMT_LIMIT_TENSOR_SIZE] = {"tensor-size", LF_MAX_TENSOR_SIZE},
    [LORAFMT_LIMIT_DATA_SIZE] = {"data-size", LF_SAFETENSORS_MAX_DATA},
    [LORAFMT_LIMIT_JSON_DEPTH] = {"json-depth", LF_JSON_MAX_DEPTH},
    [LORAFMT_LIMIT_JSON_VALUES] = {"json-values", LF_SAFETENSORS_MAX_HEADER},
    [LORAFMT_LIMIT_YAML_SIZE] = {"yaml-size", UINT64_C(1) << 20},
    [LORAFMT_LIMIT_YAML_DEPTH] = {"yaml-depth", 32},
    [LORAFMT_LIMIT_YAML_VALUES] = {"yaml-values", 65536},
};

static bool is_known(lorafmt_limit limit)
{
    return (unsigned)limit < LORAFMT_N_LIMITS;
}

const char *lorafmt_limit_name(lorafmt_limit limit)
{
    return is_known(limit) ? known[limit].name : NULL;
}

uint64_t lorafmt_limit_most(lorafmt_limit limit)
{
    return is_known(limit) ? known[limit].most : 0;
}

uint64_t lorafmt_limits_get(const lorafmt_limits *limits, lorafmt_limit limit)
{
    const uint64_t set = limits && is_known(limit) ? limits->at_most[limit] : 0;

    return set ? set : lorafmt_limit_most(limit);
}

lorafmt_status lorafmt_limits_check(const lorafmt_limits *limits, lorafmt_error *err)
{
    if (!limits)
        return LORAFMT_OK;
    LF_TRY(lf_check_struct_size(limits->struct_size, sizeof *limits, err));
    for (unsigned i = 0; i < LORAFMT_N_LIMITS; i++)
        if (limits->at_most[i] > known[i].most)
            return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, known[i].name, "%" PRIu64 ", must be at most %" PRIu64,
                           limits->at_most[i], known[i].most);
    return LORAFMT_OK;
}

/* --- one number --- */

/* note goes behind what was found. */
static lorafmt_status hold(const lorafmt_limits *limits, lorafmt_limit limit, uint64_t found, const char *note, const char *field,
                           lorafmt_error *err)
{
    const uint64_t most = lorafmt_limits_get(limits, limit);

    return found <= most ? LORAFMT_OK
                         : lf_fail(err, LORAFMT_LIMIT, LORAFMT_NO_OFFSET, field, "%s %" PRIu64 "%s, the limit is %" PRIu64,
                                   known[limit].name, found, note, most);
}

static lorafmt_status within(const lorafmt_limits *limits, lorafmt_limit limit, uint64_t found, const char *field,
                             lorafmt_error *err)
{
    return hold(limits, limit, found, "", field, err);
}

/* What was added up so far, with that of field. */
static lorafmt_status sum_within(const lorafmt_limits *limits, lorafmt_limit limit, uint64_t sum, const char *field,
                                 lorafmt_error *err)
{
    return hold(limits, limit, sum, " with this", field, err);
}

lorafmt_status lf_limits_check_file(const lorafmt_limits *limits, uint64_t size, lorafmt_error *err)
{
    return within(limits, LORAFMT_LIMIT_FILE_SIZE, size, NULL, err);
}

static lorafmt_status check_name(const lorafmt_limits *limits, const char *name, lorafmt_error *err)
{
    return within(limits, LORAFMT_LIMIT_NAME_SIZE, strlen(name), name, err);
}

/* A tensor more, of *total bytes of tensors before it. */
static lorafmt_status add_tensor(const lorafmt_limits *limits, const char *field, uint64_t size, uint64_t *total,
                                 lorafmt_error *err)
{
    LF_TRY(within(limits, LORAFMT_LIMIT_TENSOR_SIZE, size, field, err));
    *total += size; // of 2^53 at most before, 2^46 more
    return sum_within(limits, LORAFMT_LIMIT_DATA_SIZE, *total, field, err);
}

static lorafmt_status check_site(const lorafmt_limits *limits, const lorafmt_site *site, lorafmt_error *err)
{
    LF_TRY(check_name(limits, site->target, err));
    return within(limits, LORAFMT_LIMIT_RANK, site->rank, site->target, err);
}

/* --- .lora: a record that cannot be read is an error where it is used, which may be nowhere --- */

static lorafmt_status check_sites(const lorafmt_limits *limits, const lf_container *c, size_t first, size_t n, lorafmt_error *err)
{
    lorafmt_site site;
    uint32_t first_factor;

    for (size_t i = 0; i < n; i++)
        if (lf_container_site(c, first + i, &site, &first_factor, NULL) == LORAFMT_OK)
            LF_TRY(check_site(limits, &site, err));
    return LORAFMT_OK;
}

static lorafmt_status check_adapters(const lorafmt_limits *limits, const lf_container *c, lorafmt_error *err)
{
    uint64_t n_sites = 0, n_metadata = 0;
    uint32_t first_site, first_metadata;
    lorafmt_adapter adapter;

    for (size_t i = 0; i < lf_container_n_adapters(c); i++) {
        LF_TRY(lf_container_adapter(c, i, &adapter, &first_site, &first_metadata, err));
        LF_TRY(check_name(limits, adapter.name, err));
        n_sites += adapter.n_sites;
        n_metadata += adapter.n_metadata;
        LF_TRY(sum_within(limits, LORAFMT_LIMIT_SITES, n_sites, adapter.name, err));
        LF_TRY(sum_within(limits, LORAFMT_LIMIT_METADATA, n_metadata, adapter.name, err));
        LF_TRY(check_sites(limits, c, first_site, adapter.n_sites, err));
    }
    return LORAFMT_OK;
}

static lorafmt_status check_tensors(const lorafmt_limits *limits, const lf_container *c, lorafmt_error *err)
{
    lf_tensor_record record;
    uint64_t total = 0;
    char field[32];

    for (size_t i = 0; i < lf_container_n_tensors(c); i++) {
        snprintf(field, sizeof field, "tensor[%zu]", i);
        if (lf_container_tensor(c, i, &record, NULL) == LORAFMT_OK)
            LF_TRY(add_tensor(limits, field, record.tensor.size, &total, err));
    }
    return LORAFMT_OK;
}

lorafmt_status lf_limits_check_container(const lorafmt_limits *limits, const lf_container *c, lorafmt_error *err)
{
    if (!limits) // the format's own were looked at
        return LORAFMT_OK;
    LF_TRY(within(limits, LORAFMT_LIMIT_INDEX_SIZE, lf_container_index_size(c), NULL, err));
    LF_TRY(within(limits, LORAFMT_LIMIT_ADAPTERS, lf_container_n_adapters(c), NULL, err));
    LF_TRY(within(limits, LORAFMT_LIMIT_TENSORS, lf_container_n_tensors(c), NULL, err));
    LF_TRY(check_tensors(limits, c, err));
    return check_adapters(limits, c, err);
}

/* --- PEFT --- */

static lorafmt_status check_json(const lorafmt_limits *limits, const char *text, size_t size, lorafmt_error *err)
{
    return limits ? lf_json_check(text, size, (unsigned)lorafmt_limits_get(limits, LORAFMT_LIMIT_JSON_DEPTH),
                                  (size_t)lorafmt_limits_get(limits, LORAFMT_LIMIT_JSON_VALUES), err)
                  : LORAFMT_OK;
}

lorafmt_status lf_limits_check_header(const lorafmt_limits *limits, const uint8_t *header, uint64_t size, lorafmt_error *err)
{
    lorafmt_status st;

    LF_TRY(within(limits, LORAFMT_LIMIT_HEADER_SIZE, size, NULL, err));
    st = check_json(limits, (const char *)header, (size_t)size, err);
    if (st && err && err->offset != LORAFMT_NO_OFFSET)
        err->offset += 8;
    return st;
}

lorafmt_status lf_limits_check_table(const lorafmt_limits *limits, const lf_safetensors *table, lorafmt_error *err)
{
    uint64_t total = 0;

    LF_TRY(within(limits, LORAFMT_LIMIT_TENSORS, table->n_tensors, NULL, err));
    for (size_t i = 0; i < table->n_tensors; i++)
        LF_TRY(add_tensor(limits, table->tensors[i].name, table->tensors[i].size, &total, err));
    return LORAFMT_OK;
}

lorafmt_status lf_limits_check_config(const lorafmt_limits *limits, const char *text, size_t size, lorafmt_error *err)
{
    LF_TRY(within(limits, LORAFMT_LIMIT_CONFIG_SIZE, size, NULL, err));
    return check_json(limits, text, size, err);
}

lorafmt_status lf_limits_check_adapter(const lorafmt_limits *limits, const lorafmt_adapter *adapter, lorafmt_error *err)
{
    LF_TRY(check_name(limits, adapter->name, err));
    LF_TRY(within(limits, LORAFMT_LIMIT_SITES, adapter->n_sites, NULL, err));
    LF_TRY(within(limits, LORAFMT_LIMIT_METADATA, adapter->n_metadata, NULL, err));
    for (size_t i = 0; i < adapter->n_sites; i++)
        LF_TRY(check_site(limits, &adapter->sites[i], err));
    return LORAFMT_OK;
}
