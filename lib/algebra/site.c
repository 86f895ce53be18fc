/* SPDX-License-Identifier: MIT */
#include "lib/algebra/algebra.h"

#include "format/base/error.h"

#include <string.h>

bool lk_is_low_rank(const lorafmt_site *site)
{
    return lk_check_low_rank(site, NULL) == LORAFMT_OK;
}

lorafmt_status lk_check_known(const lorafmt_site *site, lorafmt_error *err)
{
    bool known = site->kind >= LORAFMT_KIND_REPLACEMENT && site->kind <= LORAFMT_KIND_EXPERTS;

    for (uint32_t i = 0; i < site->n_factors; i++)
        known = known && site->factors[i].role >= LORAFMT_ROLE_A && site->factors[i].role <= LORAFMT_ROLE_ROW_INDEX;
    if (!known)
        return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, site->target,
                       "a site of a newer format, of which it is not known what it means");
    if (lorafmt_site_factor(site, LORAFMT_ROLE_MID))
        return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, site->target,
                       "an update with a Tucker core, which is not a product of two matrices");
    return LORAFMT_OK;
}

lorafmt_status lk_check_low_rank(const lorafmt_site *site, lorafmt_error *err)
{
    LF_TRY(lk_check_known(site, err));
    if (site->kind < LORAFMT_KIND_LINEAR)
        return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, site->target, "a site of kind %s, which is not low-rank",
                       lorafmt_kind_name(site->kind));
    return LORAFMT_OK;
}

int lk_site_compare(const lorafmt_site *a, const lorafmt_site *b)
{
    const int by_target = strcmp(a->target, b->target);

    if (by_target)
        return by_target;
    if (a->kind != b->kind)
        return a->kind < b->kind ? -1 : 1;
    if (a->row_begin != b->row_begin)
        return a->row_begin < b->row_begin ? -1 : 1;
    return a->col_begin < b->col_begin ? -1 : a->col_begin > b->col_begin;
}
