/* SPDX-License-Identifier: MIT */
#include "tools/inspect.h"

#include "tools/command.h"
#include "tools/json_out.h"
#include "tools/origin.h"
#include "tools/stats.h"

#include <stdio.h>
#include <string.h>

static void json_container(json_out *j, const lorafmt_source *source)
{
    lorafmt_container_info info;
    char version[32];

    if (!lorafmt_source_container(source, &info)) {
        json_null(j, "container");
        return;
    }
    snprintf(version, sizeof version, "%u.%u", info.version_major, info.version_minor);
    json_object(j, "container");
    json_text(j, "version", version);
    json_u64(j, "generation", info.generation);
    json_bool(j, "recovered", info.recovered);
    json_u64(j, "file_end", info.file_end);
    json_u64(j, "n_bytes_saved", info.saved);
    json_u64(j, "index_size", info.index_size);
    json_digest(j, "root_digest", info.index_sha256);
    json_u64(j, "align", info.align);
    json_u64(j, "n_tensors", info.n_tensors);
    json_object_end(j);
}

static void json_range(json_out *j, const char *key, bool given, uint64_t begin, uint64_t end)
{
    const uint64_t range[2] = {begin, end};

    if (given)
        json_u64_array(j, key, range, 2);
    else
        json_null(j, key);
}

static void json_factor(json_out *j, const lorafmt_factor *factor)
{
    const lorafmt_tensor *t = &factor->tensor;

    json_object(j, NULL);
    json_text(j, "role", lorafmt_role_name(factor->role));
    json_u64(j, "role_number", factor->role);
    json_text(j, "dtype", lorafmt_dtype_name(t->dtype));
    json_u64_array(j, "shape", t->shape, t->n_dims);
    json_u64(j, "n_bytes", t->size);
    json_object_end(j);
}

/* A figure that is not known, or that JSON has no number for. */
static void json_known(json_out *j, const char *key, bool known, double value)
{
    if (known)
        json_double(j, key, value);
    else
        json_null(j, key);
}

static void json_site(json_out *j, const site_facts *facts)
{
    const lorafmt_site *site = facts->site;

    json_object(j, NULL);
    json_text(j, "target", site->target);
    json_text(j, "kind", lorafmt_kind_name(site->kind));
    json_u64(j, "kind_number", site->kind);
    json_text(j, "orientation", lorafmt_orientation_name(site->orientation));
    json_text(j, "scaling", lorafmt_scaling_name(site->scaling));
    json_u64(j, "rank", site->rank);
    json_double(j, "alpha", site->alpha);
    json_double(j, "scale", site->scale);
    json_bool(j, "doubled", site->flags & LORAFMT_SITE_DOUBLED);
    json_range(j, "rows", site->flags & LORAFMT_SITE_ROW_RANGE, site->row_begin, site->row_end);
    json_range(j, "columns", site->flags & LORAFMT_SITE_COL_RANGE, site->col_begin, site->col_end);
    json_digest(j, "base_sha256", site->flags & LORAFMT_SITE_BASE_SHA256 ? site->base_sha256 : NULL);
    json_known(j, "norm", facts->has_norm, facts->norm);
    json_array(j, "factors");
    for (uint32_t i = 0; i < site->n_factors; i++)
        json_factor(j, &site->factors[i]);
    json_array_end(j);
    json_object_end(j);
}

static const char *known(const char *text)
{
    return *text ? text : NULL;
}

static void json_base(json_out *j, const lorafmt_adapter *adapter)
{
    json_object(j, "base");
    json_text(j, "name", known(adapter->base_name));
    json_text(j, "revision", known(adapter->base_revision));
    json_digest(j, "structure", adapter->has_base_structure ? adapter->base_structure : NULL);
    json_object_end(j);
}

static void json_metadata(json_out *j, const lorafmt_adapter *adapter)
{
    json_array(j, "metadata");
    for (size_t i = 0; i < adapter->n_metadata; i++) {
        json_object(j, NULL);
        json_text(j, "key", adapter->metadata[i].key);
        json_text(j, "value", adapter->metadata[i].value);
        json_bool(j, "semantic", adapter->metadata[i].flags & LORAFMT_METADATA_SEMANTIC);
        json_object_end(j);
    }
    json_array_end(j);
}

static void json_signatures(json_out *j, const lorafmt_adapter *adapter)
{
    json_array(j, "signatures");
    for (size_t i = 0; i < adapter->n_signatures; i++) {
        lorafmt_public_key key;
        memcpy(key.bytes, adapter->signatures[i].public_key, sizeof key.bytes);
        json_object(j, NULL);
        json_u64(j, "algorithm", adapter->signatures[i].algorithm);
        json_digest(j, "public_key", key.bytes);
        json_fingerprint(j, &key);
        json_object_end(j);
    }
    json_array_end(j);
}

static void json_oddities(json_out *j, const oddity_list *list)
{
    json_array(j, "oddities");
    for (size_t i = 0; i < list->n; i++) {
        json_object(j, NULL);
        json_text(j, "what", odd_name(list->items[i].what));
        json_text(j, "target", list->items[i].target);
        json_text(j, "text", list->items[i].text);
        json_object_end(j);
    }
    json_array_end(j);
}

static void json_fit(json_out *j, const adapter_facts *facts, const base_fit *fit)
{
    if (!fit->path) {
        json_null(j, "fit");
        return;
    }
    json_object(j, "fit");
    json_text(j, "base", fit->path);
    json_bool(j, "fits", fit->fits);
    json_text(j, "why_not", fit->fits ? NULL : fit->why_not);
    json_u64(j, "matched", fit->coverage.n_matched);
    json_u64(j, "total", facts->adapter->n_sites);
    if (facts->adapter->has_base_structure)
        json_bool(j, "same_structure", fit->same_structure);
    else
        json_null(j, "same_structure");
    json_u64(j, "n_parameters", fit->n_parameters);
    json_known(j, "share", fit->n_parameters, (double)facts->stats.n_parameters / (double)fit->n_parameters);
    json_object_end(j);
}

static void json_adapter(json_out *j, const inspected *in)
{
    const lorafmt_adapter *adapter = in->facts.adapter;
    const adapter_facts *facts = &in->facts;

    json_object(j, NULL);
    json_text(j, "name", adapter->name);
    json_adapter_id(j, adapter);
    json_base(j, adapter);
    json_u64(j, "n_parameters", facts->stats.n_parameters);
    json_u64(j, "n_bytes", facts->stats.n_bytes);
    if (facts->n_target_parameters == COUNT_UNKNOWN)
        json_null(j, "n_target_parameters");
    else
        json_u64(j, "n_target_parameters", facts->n_target_parameters);
    json_known(j, "share", adapter_share_is_known(facts), (double)facts->n_low_rank / (double)facts->n_target_parameters);
    json_fit(j, facts, &in->fit);
    json_oddities(j, &in->oddities);
    json_u64(j, "n_sites", adapter->n_sites);
    json_array(j, "sites");
    for (size_t i = 0; i < adapter->n_sites; i++)
        json_site(j, &facts->sites[i]);
    json_array_end(j);
    json_metadata(j, adapter);
    json_signatures(j, adapter);
    json_object_end(j);
}

int inspect_json(const input *in, const inspected *adapters, size_t n)
{
    json_out j = {.to = stdout};

    json_object(&j, NULL);
    json_text(&j, "path", in->path);
    json_text(&j, "source_kind", source_kind_name(lorafmt_source_get_kind(in->source)));
    json_container(&j, in->source);
    json_array(&j, "notes");
    for (size_t i = 0; i < lorafmt_source_n_notes(in->source); i++)
        json_text(&j, NULL, lorafmt_source_note(in->source, i));
    json_array_end(&j);
    json_array(&j, "adapters");
    for (size_t i = 0; i < n; i++)
        json_adapter(&j, &adapters[i]);
    json_array_end(&j);
    json_object_end(&j);
    return EXIT_DONE;
}
