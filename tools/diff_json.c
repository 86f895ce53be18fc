/* SPDX-License-Identifier: MIT */
/* docs/json.md: diff */
#include "tools/diff.h"

#include "tools/stats.h"

#include <math.h>
#include <stdio.h>

/* --- adapters --- */

static void json_side(json_out *j, const char *key, const diff_side *side)
{
    json_object(j, key);
    json_text(j, "stack", side->text);
    json_array(j, "adapters");
    for (size_t i = 0; i < side->stack.n; i++) {
        const lorafmt_stack_entry *entry = &side->stack.entries[i];
        json_object(j, NULL);
        json_text(j, "path", side->stack.inputs[i].path);
        json_text(j, "name", entry->adapter->name);
        json_adapter_id(j, entry->adapter);
        json_double(j, "weight", entry->weight);
        json_object_end(j);
    }
    json_array_end(j);
    json_object_end(j);
}

static void json_fact(void *ctx, const char *key, const char *x, const char *y)
{
    json_out *j = ctx;

    json_object(j, NULL);
    json_text(j, "key", key);
    json_text(j, "x", x);
    json_text(j, "y", y);
    json_object_end(j);
}

static void json_totals(json_out *j, const adapter_diff *d)
{
    const lorakit_diff_totals *t = lorakit_diff_get_totals(d->diff);

    json_text(j, "same", lorakit_sameness_name(t->same));
    json_bool(j, "same_id", diff_is_same_id(d));
    json_array(j, "metadata");
    diff_facts(d, json_fact, j);
    json_array_end(j);
    json_u64(j, "n_compared", t->n_compared);
    json_u64(j, "n_same_bytes", t->n_same_bytes);
    json_u64(j, "n_same_function", t->n_same_function);
    json_u64(j, "n_only_x", t->n_only_x);
    json_u64(j, "n_only_y", t->n_only_y);
    json_u64(j, "n_others", t->n_others);
    json_double(j, "norm_x", t->norm_x);
    json_double(j, "norm_y", t->norm_y);
    json_double(j, "norm_difference", t->norm_difference);
    json_double(j, "cosine", t->cosine);
}

static void json_group(json_out *j, const diff_group *g)
{
    json_u64(j, "n_sites", g->n_rows);
    json_double(j, "norm_x", g->norm_x);
    json_double(j, "norm_y", g->norm_y);
    json_double(j, "norm_difference", g->difference);
    json_double(j, "cosine", g->cosine);
    json_double(j, "column_overlap", g->columns);
    json_double(j, "row_overlap", g->rows);
    json_object_end(j);
}

static void json_where(json_out *j, const diff_group *g, bool is_layer)
{
    const place *at = &g->place;
    char text[GROUP_TEXT_SIZE];

    json_object(j, NULL);
    if (!is_layer) {
        json_text(j, "module", diff_module_text(g, text));
        return;
    }
    snprintf(text, sizeof text, "%.*s", (int)at->stack.length, at->stack.text);
    json_text(j, "stack", at->has_layer ? text : NULL);
    if (at->has_layer)
        json_u64(j, "layer", at->layer);
    else
        json_null(j, "layer");
}

/* By module type and by layer. `rest` says what a group has beside its place, and ends it. */
static void json_groups(json_out *j, const diff_rows *rows, void (*rest)(json_out *j, const diff_group *g))
{
    for (int is_layer = 0; is_layer < 2; is_layer++) {
        const diff_group *groups = is_layer ? rows->layers : rows->modules;
        const size_t n = is_layer ? rows->n_layers : rows->n_modules;
        json_array(j, is_layer ? "layers" : "modules");
        for (size_t i = 0; i < n; i++) {
            json_where(j, &groups[i], is_layer);
            rest(j, &groups[i]);
        }
        json_array_end(j);
    }
}

static void json_doubles(json_out *j, const char *key, const double *x, size_t n)
{
    json_array(j, key);
    for (size_t i = 0; i < n; i++)
        json_double(j, NULL, x[i]);
    json_array_end(j);
}

/* What one of the two has at a target, or null. */
static void json_one(json_out *j, const lorakit_site_diff *s, bool is_y)
{
    const lorafmt_site *site = is_y ? s->y : s->x;

    if (!site) {
        json_null(j, is_y ? "y" : "x");
        return;
    }
    json_object(j, is_y ? "y" : "x");
    json_text(j, "kind", lorafmt_kind_name(site->kind));
    json_u64(j, "n_sites", is_y ? s->n_sites_y : s->n_sites_x);
    json_u64(j, "rank", is_y ? s->rank_y : s->rank_x);
    json_double(j, "factor", is_y ? s->factor_y : s->factor_x);
    json_double(j, "norm", is_y ? s->norm_y : s->norm_x);
    json_u64(j, "true_rank", is_y ? s->true_rank_y : s->true_rank_x);
    json_double(j, "effective_rank", is_y ? s->effective_rank_y : s->effective_rank_x);
    json_bool(j, "has_magnitude", is_y ? s->has_magnitude_y : s->has_magnitude_x);
    json_object_end(j);
}

static void json_range(json_out *j, const char *key, bool given, uint64_t begin, uint64_t end)
{
    const uint64_t range[] = {begin, end};

    if (given)
        json_u64_array(j, key, range, 2);
    else
        json_null(j, key);
}

static void json_site(json_out *j, const lorakit_site_diff *s)
{
    const lorafmt_site *site = s->x ? s->x : s->y;

    json_object(j, NULL);
    json_text(j, "target", s->target);
    json_range(j, "rows", site->flags & LORAFMT_SITE_ROW_RANGE, site->row_begin, site->row_end);
    json_range(j, "columns", site->flags & LORAFMT_SITE_COL_RANGE, site->col_begin, site->col_end);
    json_text(j, "state", lorakit_diff_state_name(s->state));
    json_text(j, "same", s->state == LORAKIT_DIFF_COMPARED ? lorakit_sameness_name(s->same) : NULL);
    json_one(j, s, false);
    json_one(j, s, true);
    json_double(j, "norm_difference", s->norm_difference);
    json_double(j, "rounding", s->rounding);
    json_double(j, "cosine", s->cosine);
    json_double(j, "column_overlap", s->column_overlap);
    json_double(j, "row_overlap", s->row_overlap);
    json_doubles(j, "column_cosines", s->column_cosines, s->n_angles);
    json_doubles(j, "row_cosines", s->row_cosines, s->n_angles);
    json_double(j, "magnitude_difference", s->magnitude_difference);
    json_u64(j, "n_elements", s->n_elements);
    json_u64(j, "n_differing", s->n_differing);
    json_object_end(j);
}

void adapter_diff_json(const adapter_diff *d)
{
    json_out j = {.to = stdout};

    json_object(&j, NULL);
    json_side(&j, "x", &d->x);
    json_side(&j, "y", &d->y);
    json_totals(&j, d);
    json_groups(&j, &d->rows, json_group);
    json_array(&j, "sites");
    for (size_t i = 0; i < lorakit_diff_n_sites(d->diff); i++)
        json_site(&j, lorakit_diff_get_site(d->diff, i));
    json_array_end(&j);
    json_object_end(&j);
}

/* --- models --- */

static void json_type(json_out *j, const char *key, const lorafmt_base_tensor *t)
{
    if (!t) {
        json_null(j, key);
        return;
    }
    json_object(j, key);
    json_text(j, "dtype", lorafmt_dtype_name(t->dtype));
    json_u64_array(j, "shape", t->shape, t->n_dims);
    json_object_end(j);
}

static double relative(double difference, double base)
{
    return base > 0 ? difference / base : NAN;
}

static void json_tensor(json_out *j, const lorakit_tensor_diff *t)
{
    json_object(j, NULL);
    json_text(j, "tensor", t->name);
    json_text(j, "state",
              t->state == LORAKIT_DIFF_ONLY_X   ? "only-base"
              : t->state == LORAKIT_DIFF_ONLY_Y ? "only-tuned"
                                                : lorakit_diff_state_name(t->state));
    json_type(j, "base", t->base);
    json_type(j, "tuned", t->tuned);
    json_u64(j, "n_elements", t->n_elements);
    json_u64(j, "n_differing", t->n_differing);
    json_double(j, "norm_base", t->norm_base);
    json_double(j, "norm_tuned", t->norm_tuned);
    json_double(j, "norm_difference", t->norm_difference);
    json_double(j, "change", relative(t->norm_difference, t->norm_base));
    json_double(j, "max_difference", t->max_difference);
    json_u64(j, "n_nan_base", t->n_nan_base);
    json_u64(j, "n_inf_base", t->n_inf_base);
    json_u64(j, "n_nan_tuned", t->n_nan_tuned);
    json_u64(j, "n_inf_tuned", t->n_inf_tuned);
    json_object_end(j);
}

static void json_model_group(json_out *j, const diff_group *g)
{
    json_u64(j, "n_tensors", g->n_rows);
    json_u64(j, "n_elements", g->n_elements);
    json_u64(j, "n_differing", g->n_differing);
    json_double(j, "norm_base", g->norm_x);
    json_double(j, "norm_difference", g->difference);
    json_double(j, "change", relative(g->difference, g->norm_x));
    json_double(j, "max_difference", g->max_difference);
    json_object_end(j);
}

static void json_model_totals(json_out *j, const lorakit_model_totals *t)
{
    json_bool(j, "equal", t->equal);
    json_u64(j, "n_compared", t->n_compared);
    json_u64(j, "n_equal", t->n_equal);
    json_u64(j, "n_only_base", t->n_only_base);
    json_u64(j, "n_only_tuned", t->n_only_tuned);
    json_u64(j, "n_others", t->n_others);
    json_u64(j, "n_elements", t->n_elements);
    json_u64(j, "n_differing", t->n_differing);
    json_double(j, "norm_base", t->norm_base);
    json_double(j, "norm_tuned", t->norm_tuned);
    json_double(j, "norm_difference", t->norm_difference);
    json_double(j, "change", relative(t->norm_difference, t->norm_base));
    json_double(j, "max_difference", t->max_difference);
}

void model_diff_json(const model_diff *d)
{
    json_out j = {.to = stdout};

    json_object(&j, NULL);
    json_text(&j, "base", d->base);
    json_text(&j, "tuned", d->tuned);
    json_model_totals(&j, lorakit_model_diff_get_totals(d->diff));
    json_groups(&j, &d->rows, json_model_group);
    json_array(&j, "tensors");
    for (size_t i = 0; i < lorakit_model_diff_n_tensors(d->diff); i++)
        json_tensor(&j, lorakit_model_diff_get_tensor(d->diff, i));
    json_array_end(&j);
    json_object_end(&j);
}
