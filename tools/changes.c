/* SPDX-License-Identifier: MIT */
#include "tools/changes.h"

#include <math.h>

/* What there is to say only beside the base's rows. */
static void json_beside_base(json_out *j, const lorafmt_change *c)
{
    json_double(j, "norm", sqrt(c->sum_asked));
    json_double(j, "norm_realised", sqrt(c->sum_realised));
    json_double(j, "projection", c->sum_along / c->sum_asked); // null when nothing was asked for
    json_u64(j, "n_unchanged", c->n_unchanged);
    json_double(j, "share_unchanged", (double)c->n_unchanged / (double)c->n_elements);
    json_u64(j, "max_ulp", c->max_ulp);
}

static void json_change(json_out *j, const lorafmt_view_tensor *tensor, const lorafmt_change *c)
{
    static const char *const beside_base[] = {"norm", "norm_realised", "projection", "n_unchanged", "share_unchanged", "max_ulp"};

    json_object(j, NULL);
    json_text(j, "tensor", tensor->name);
    json_u64(j, "n_elements", c->n_elements);
    if (tensor->reads_base)
        json_beside_base(j, c);
    for (size_t i = 0; !tensor->reads_base && i < sizeof beside_base / sizeof beside_base[0]; i++)
        json_null(j, beside_base[i]);
    json_u64(j, "n_nan", c->n_nan);
    json_u64(j, "n_inf", c->n_inf);
    json_object_end(j);
}

void json_changes(json_out *j, const lorafmt_view *view, const lorafmt_change *changes)
{
    if (!changes) {
        json_null(j, "changes");
        return;
    }
    json_array(j, "changes");
    for (size_t i = 0; i < lorafmt_view_n_tensors(view); i++) {
        const lorafmt_view_tensor *tensor = lorafmt_view_get_tensor(view, i);
        if (tensor->touched)
            json_change(j, tensor, &changes[i]);
    }
    json_array_end(j);
}

void json_digests(json_out *j, const lorafmt_view *view, uint8_t (*digests)[32])
{
    if (!digests) {
        json_null(j, "digests");
        return;
    }
    json_array(j, "digests");
    for (size_t i = 0; i < lorafmt_view_n_tensors(view); i++) {
        json_object(j, NULL);
        json_text(j, "tensor", lorafmt_view_get_tensor(view, i)->name);
        json_digest(j, "sha256", digests[i]);
        json_object_end(j);
    }
    json_array_end(j);
}
