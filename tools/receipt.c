/* SPDX-License-Identifier: MIT */
#include "tools/receipt.h"

#include "tools/changes.h"
#include "tools/json_out.h"
#include "tools/message.h"
#include "tools/stats.h"
#include "tools/text.h"

#include "lorafmt/version.h"

#include <inttypes.h>
#include <string.h>

#define STRING(x) #x
#define VERSION_TEXT(major, minor) STRING(major) "." STRING(minor)
#define ARITHMETIC "spec 7 of " VERSION_TEXT(LORAFMT_FORMAT_MAJOR, LORAFMT_FORMAT_MINOR)

/* Longer lists are in the JSON. */
#define MOST_LISTED 20

void receipt_foresee(const lorafmt_model *model, const lorafmt_view *view, lorafmt_merge_result *out)
{
    const size_t n_base = lorafmt_model_base(model)->n_tensors;

    memset(out, 0, sizeof *out);
    for (size_t i = 0; i < lorafmt_view_n_tensors(view); i++) {
        if (i >= n_base)
            out->n_new++;
        else if (lorafmt_view_get_tensor(view, i)->touched)
            out->n_changed++;
        else
            out->n_copied++;
    }
}

bool receipt_find_structure(const lorafmt_model *model, receipt_structure *out)
{
    const lorafmt_status st = lorafmt_base_structure(lorafmt_model_base(model), out->sha256, NULL);

    out->known = st == LORAFMT_OK;
    return st != LORAFMT_NO_MEMORY;
}

static void json_base(const receipt *r, json_out *j)
{
    json_object(j, "base");
    if (r->base_path)
        json_text(j, "path", r->base_path);
    json_digest(j, "structure", r->structure.known ? r->structure.sha256 : NULL);
    json_u64(j, "n_tensors", lorafmt_model_base(r->model)->n_tensors);
    json_object_end(j);
}

/* All on the command line that changes the result, beside base, adapters and weights. */
static void json_options(const receipt *r, json_out *j)
{
    json_object(j, "options");
    json_array(j, "map");
    for (size_t i = 0; i < r->binding->map.n; i++)
        json_text(j, NULL, r->binding->map.items[i]);
    json_array_end(j);
    json_text(j, "orientation", orientation_word(r->binding->orientation));
    json_bool(j, "any_base", r->binding->any_base);
    json_bool(j, "allow_unmatched", r->binding->allow_unmatched);
    if (r->input->alpha.given)
        json_double(j, "alpha", r->input->alpha.value);
    else
        json_null(j, "alpha");
    json_bool(j, "rslora", r->input->rslora);
    json_text(j, "experts_orientation", orientation_word(r->input->experts_orientation));
    json_object_end(j);
}

static void json_bound(const receipt *r, size_t entry, json_out *j)
{
    coverage c;

    coverage_count(r->view, entry, &c);
    json_u64(j, "n_matched", c.n_matched);
    json_text(j, "bridge", lorafmt_view_bridge(r->view, entry));
}

static void json_adapter(const receipt *r, size_t entry, bool named, json_out *j)
{
    const lorafmt_stack_entry *e = &r->stack->entries[entry];

    json_object(j, NULL);
    if (named)
        json_text(j, "name", e->adapter->name);
    json_adapter_id(j, e->adapter);
    if (named)
        json_text(j, "source", r->stack->inputs[entry].path);
    json_double(j, "weight", e->weight);
    json_u64(j, "n_sites", e->adapter->n_sites);
    if (r->view)
        json_bound(r, entry, j);
    json_object_end(j);
}

/* An adapter may have another name in another file: its id is what counts. */
static void json_adapters(const receipt *r, bool named, json_out *j)
{
    json_array(j, "adapters");
    for (size_t i = 0; i < r->stack->n; i++)
        json_adapter(r, i, named, j);
    json_array_end(j);
}

static void json_site(const receipt *r, const lorafmt_bound_site *bound, bool named, json_out *j)
{
    const lorafmt_site *site = bound->site;
    const bool found = bound->match != LORAFMT_MATCH_NONE;

    json_object(j, NULL);
    json_u64(j, "entry", bound->entry);
    if (named)
        json_text(j, "adapter", r->stack->entries[bound->entry].adapter->name);
    json_text(j, "target", site->target);
    json_text(j, "kind", lorafmt_kind_name(site->kind));
    json_text(j, "tensor", found ? lorafmt_view_get_tensor(r->view, bound->tensor)->name : NULL);
    json_text(j, "match", lorafmt_match_name(bound->match));
    json_text(j, "effect", lorafmt_effect_name(bound->effect));
    json_u64(j, "rank", site->rank);
    json_double(j, "scale", site->scale);
    json_double(j, "weight", r->stack->entries[bound->entry].weight);
    json_object_end(j);
}

static void json_sites(const receipt *r, bool named, json_out *j)
{
    size_t n_matched = 0;
    const size_t n = lorafmt_view_n_sites(r->view);

    json_array(j, "sites");
    for (size_t i = 0; i < n; i++) {
        const lorafmt_bound_site *bound = lorafmt_view_get_site(r->view, i);
        n_matched += bound->match != LORAFMT_MATCH_NONE;
        json_site(r, bound, named, j);
    }
    json_array_end(j);
    json_object(j, "coverage");
    json_u64(j, "matched", n_matched);
    json_u64(j, "total", n);
    json_object_end(j);
}

static void json_tensors(const receipt *r, json_out *j)
{
    json_object(j, "tensors");
    json_u64(j, "changed", r->result.n_changed);
    json_u64(j, "new", r->result.n_new);
    json_u64(j, "copied", r->result.n_copied);
    json_object_end(j);
    json_array(j, "new_tensors");
    for (size_t i = lorafmt_model_base(r->model)->n_tensors; i < lorafmt_view_n_tensors(r->view); i++)
        json_text(j, NULL, lorafmt_view_get_tensor(r->view, i)->name);
    json_array_end(j);
}

static void json_written(const receipt *r, json_out *j)
{
    if (r->dry_run) {
        json_null(j, "n_bytes");
        json_null(j, "counts");
        return;
    }
    json_u64(j, "n_bytes", r->result.n_bytes);
    json_object(j, "counts");
    json_u64(j, "nan", r->result.counts.n_nan);
    json_u64(j, "inf", r->result.counts.n_inf);
    json_object_end(j);
}

static void json_left(const receipt *r, json_out *j)
{
    json_array(j, "left_behind");
    for (size_t i = 0; i < r->n_left; i++) {
        json_object(j, NULL);
        json_text(j, "file", r->left[i].file);
        json_text(j, "why", r->left[i].why);
        json_object_end(j);
    }
    json_array_end(j);
}

/* What binding says of the merged model. */
static void json_view(const receipt *r, bool named, json_out *j)
{
    json_sites(r, named, j);
    json_tensors(r, j);
    if (lorafmt_view_vocab_size(r->view))
        json_u64(j, "vocab_size", lorafmt_view_vocab_size(r->view));
    else
        json_null(j, "vocab_size");
    json_bool(j, "unties", lorafmt_view_unties(r->view));
}

void receipt_json(const receipt *r, FILE *to)
{
    json_out j = {.to = to};

    json_object(&j, NULL);
    json_text(&j, "release", lorafmt_release());
    json_text(&j, "arithmetic", ARITHMETIC);
    json_bool(&j, "dry_run", r->dry_run);
    json_text(&j, "output", r->output);
    json_base(r, &j);
    json_adapters(r, true, &j);
    json_options(r, &j);
    json_view(r, true, &j);
    json_written(r, &j);
    json_changes(&j, r->view, r->changes);
    json_digests(&j, r->view, r->digests);
    json_left(r, &j);
    json_object_end(&j);
}

void receipt_replay_json(const receipt *r, FILE *to)
{
    json_out j = {.to = to};

    json_object(&j, NULL);
    json_text(&j, "arithmetic", ARITHMETIC);
    json_base(r, &j);
    json_adapters(r, false, &j);
    if (r->view)
        json_view(r, false, &j);
    if (r->changes) {
        json_written(r, &j);
        json_changes(&j, r->view, r->changes);
    }
    if (r->digests)
        json_digests(&j, r->view, r->digests);
    json_object_end(&j);
}

static void print_adapter(const receipt *r, size_t entry)
{
    char text[COVERAGE_TEXT_SIZE], weight[NUMBER_TEXT_SIZE];
    const char *bridge = lorafmt_view_bridge(r->view, entry);
    coverage c;

    coverage_count(r->view, entry, &c);
    print_line(stdout, "%s: %s, weight %s", r->stack->entries[entry].adapter->name, coverage_text(&c, text),
               number_text(r->stack->entries[entry].weight, weight));
    if (bridge)
        print_line(stdout, "  names: %s", bridge);
}

static void print_site(const receipt *r, const lorafmt_bound_site *bound)
{
    const char *target = bound->site->target;

    if (bound->match == LORAFMT_MATCH_NONE)
        print_line(stdout, "  not in the base: %s", target);
    else if (bound->match == LORAFMT_MATCH_TIED)
        print_line(stdout, "  tied: %s is %s in the base", target, lorafmt_view_get_tensor(r->view, bound->tensor)->name);
    else if (bound->match == LORAFMT_MATCH_NEW)
        print_line(stdout, "  new: %s", lorafmt_view_get_tensor(r->view, bound->tensor)->name);
}

/* The sites that did not simply find their tensor. */
static void print_special_sites(const receipt *r)
{
    size_t n = 0;

    for (size_t i = 0; i < lorafmt_view_n_sites(r->view); i++) {
        const lorafmt_bound_site *bound = lorafmt_view_get_site(r->view, i);
        const bool special =
            bound->match == LORAFMT_MATCH_NONE || bound->match == LORAFMT_MATCH_TIED || bound->match == LORAFMT_MATCH_NEW;
        if (special && n++ < MOST_LISTED)
            print_site(r, bound);
    }
    if (n > MOST_LISTED)
        print_line(stdout, "  and %zu more, which --json lists", n - MOST_LISTED);
}

static void print_config_changes(const receipt *r)
{
    if (lorafmt_view_unties(r->view))
        print_line(stdout, "  config: tie_word_embeddings becomes false");
    if (lorafmt_view_vocab_size(r->view))
        print_line(stdout, "  config: vocab_size becomes %" PRIu64, lorafmt_view_vocab_size(r->view));
}

static void print_result(const receipt *r)
{
    const lorafmt_merge_result *m = &r->result;
    char size[NUMBER_TEXT_SIZE];

    print_line(stdout, "tensors: %zu changed, %zu new, %zu copied", m->n_changed, m->n_new, m->n_copied);
    if (r->dry_run)
        print_line(stdout, "dry run: nothing is written");
    else
        print_line(stdout, "%s: %s written", r->output, size_text(m->n_bytes, size));
}

void receipt_print(const receipt *r)
{
    for (size_t i = 0; i < r->stack->n; i++)
        print_adapter(r, i);
    print_special_sites(r);
    print_config_changes(r);
    print_result(r);
}
