/* SPDX-License-Identifier: MIT */
/* Parts of a factor as the loops read them. */
#include "lib/kernels/kernels.h"

#include <string.h>

/* Elements of a transposed matrix that are widened before they are spread out. */
#define SPREAD 128

static const uint8_t *element(const lf_matrix *m, size_t row, size_t col)
{
    return (const uint8_t *)m->data + (m->transposed ? col * m->n_cols + row : row * m->n_cols + col) * lf_real_size(m->type);
}

/* Element (row, col + j) of a transposed matrix to dst[at(j)], where at(j) goes through panels of `step` floats. */
static void spread_row(const lf_kernels *kernels, const lf_matrix *m, size_t row, size_t n_rows, size_t col, float *dst,
                       size_t step)
{
    for (size_t done = 0; done < n_rows; done += SPREAD) {
        const size_t n = n_rows - done < SPREAD ? n_rows - done : SPREAD;
        float wide[SPREAD];
        kernels->widen_rows(m->type, element(m, row + done, col), 0, 1, n, wide, 0, LF_PANEL);
        for (size_t p = 0; p < n; p++)
            dst[(done + p) * step] = wide[p];
    }
}

void lf_pack_panels(const lf_kernels *kernels, const lf_matrix *m, size_t row, size_t n_rows, size_t col, size_t n_cols,
                    float *panels)
{
    if (n_cols % LF_PANEL) {
        float *last = panels + lf_panel_at(n_rows, n_cols - n_cols % LF_PANEL);
        memset(last, 0, n_rows * LF_PANEL * sizeof *last);
    }
    if (m->transposed) {
        const size_t whole = n_cols / LF_PANEL;
        kernels->widen_panels(m->type, element(m, row, col), m->n_cols * lf_real_size(m->type), n_rows, whole, panels);
        for (size_t j = whole * LF_PANEL; j < n_cols; j++)
            spread_row(kernels, m, row, n_rows, col + j, panels + lf_panel_at(n_rows, j), LF_PANEL);
    } else {
        kernels->widen_rows(m->type, element(m, row, col), m->n_cols * lf_real_size(m->type), n_rows, n_cols, panels, LF_PANEL,
                            n_rows * LF_PANEL);
    }
}

void lf_pack_rows_f32(const lf_kernels *kernels, const lf_matrix *m, size_t row, size_t n_rows, size_t col, size_t n_cols,
                      float *rows)
{
    if (m->transposed)
        for (size_t j = 0; j < n_cols; j++)
            spread_row(kernels, m, row, n_rows, col + j, rows + j, n_cols);
    else
        kernels->widen_rows(m->type, element(m, row, col), m->n_cols * lf_real_size(m->type), n_rows, n_cols, rows, n_cols,
                            LF_PANEL);
}

void lf_pack_rows_f64(const lf_matrix *m, size_t row, size_t n_rows, size_t col, size_t n_cols, double *rows)
{
    for (size_t i = 0; i < n_rows; i++) {
        if (!m->transposed)
            lf_widen_f64(m->type, element(m, row + i, col), rows + i * n_cols, n_cols);
        for (size_t j = 0; m->transposed && j < n_cols; j++)
            lf_widen_f64(m->type, element(m, row + i, col + j), rows + i * n_cols + j, 1);
    }
}
