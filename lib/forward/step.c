/* SPDX-License-Identifier: MIT */
#include "lorafmt/train.h"

#include <math.h>

void lorafmt_sgd_step(const lorafmt_sgd *how, float *w, const float *gradient, float *velocity, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float g = gradient[i] + how->weight_decay * w[i];
        if (velocity)
            g = velocity[i] = how->momentum * velocity[i] + g;
        w[i] -= how->rate * g;
    }
}

void lorafmt_adamw_step(const lorafmt_adamw *how, uint64_t step, float *w, const float *gradient, float *m, float *v, size_t n)
{
    const float m_share = (float)(1 - pow((double)how->beta1, (double)step)),
                v_share = (float)(1 - pow((double)how->beta2, (double)step));

    for (size_t i = 0; i < n; i++) {
        m[i] = how->beta1 * m[i] + (1 - how->beta1) * gradient[i];
        v[i] = how->beta2 * v[i] + (1 - how->beta2) * gradient[i] * gradient[i];
        w[i] -= how->rate * (how->weight_decay * w[i] + m[i] / m_share / (sqrtf(v[i] / v_share) + how->eps));
    }
}
