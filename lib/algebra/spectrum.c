/* SPDX-License-Identifier: MIT */
#include "lorakit/spectrum.h"

#include "format/base/error.h"
#include "lib/algebra/algebra.h"
#include "lib/algebra/rank.h"
#include "lib/algebra/thin.h"
#include "lib/kernels/fpenv.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

size_t lorakit_n_experts(const lorafmt_site *site)
{
    return lk_is_low_rank(site) ? lk_site_n_experts(site) : 0;
}

static void summarise(lorakit_spectrum *s)
{
    s->norm = lk_tail(s->values, 0, s->n);
    s->effective_rank = lk_effective_rank(s->values, s->n);
    s->stable_rank = s->effective_rank > 0 ? s->norm / s->values[0] * (s->norm / s->values[0]) : 0;
}

static lorafmt_status compute(const lorafmt_site *site, size_t expert, lorakit_spectrum *out, lorafmt_error *err)
{
    lk_thin thin = {0};
    lk_core core = {0};
    lorafmt_status st = lk_thin_of(site, expert, &thin, err);

    if (!st)
        st = lk_core_make(&thin, &core, err);
    if (!st) {
        out->n = core.rank;
        out->true_rank = lk_core_true_rank(&core);
        out->values = core.s; // which is the caller's now
        core.s = NULL;
        for (size_t i = 0; i < out->n; i++)
            out->values[i] *= fabs(site->scale);
        summarise(out);
    }
    lk_core_free(&core);
    lk_thin_free(&thin);
    return st;
}

lorafmt_status lorakit_spectrum_compute(const lorafmt_site *site, size_t expert, lorakit_spectrum *out, lorafmt_error *err)
{
    lf_fpenv env;
    lorafmt_status st;

    memset(out, 0, sizeof *out);
    LF_TRY(lk_check_low_rank(site, err));
    if (expert >= lk_site_n_experts(site))
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, site->target, "expert %zu, the site has %zu", expert,
                       lk_site_n_experts(site));
    env = lf_fpenv_enter();
    st = compute(site, expert, out, err);
    lf_fpenv_leave(env);
    return st;
}

void lorakit_spectrum_clear(lorakit_spectrum *spectrum)
{
    free(spectrum->values);
    memset(spectrum, 0, sizeof *spectrum);
}

double lorakit_spectrum_energy(const lorakit_spectrum *s, size_t rank)
{
    const double left = rank < s->n ? lk_tail(s->values, rank, s->n) : 0;

    return s->norm > 0 ? 1 - left / s->norm * (left / s->norm) : 1;
}

lorafmt_status lorakit_spectrum_rank(const lorakit_spectrum *s, const lorakit_rank *rule, uint32_t *out, lorafmt_error *err)
{
    *out = 0;
    LF_TRY(lk_rank_check(rule, err));
    *out = (uint32_t)lk_rank_choose(rule, s->values, s->n, s->true_rank, s->n);
    return LORAFMT_OK;
}
