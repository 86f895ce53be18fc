/* SPDX-License-Identifier: MIT */
/* make_kinds OUT.lora: an adapter with a site of every kind, for tests of the program. All elements of factors are 1. */
#include "lorafmt/lorafmt.h"
#include "tests/adapters.h"

#include <stdio.h>

static float ones[1024];

static lorafmt_tensor tensor(uint32_t n_dims, const uint64_t *shape)
{
    lorafmt_tensor t = {.dtype = LORAFMT_F32, .n_dims = n_dims, .data = ones};

    memcpy(t.shape, shape, n_dims * sizeof *shape);
    lf_tensor_measure(t.dtype, n_dims, shape, &t.size);
    return t;
}

static lorafmt_site low_rank(const char *target, unsigned kind, uint32_t rank, uint32_t n_dims, const uint64_t *a,
                             const uint64_t *b, lorafmt_factor f[2])
{
    lorafmt_site site = test_low_rank(target, kind, rank, 1, 1, ones, ones, f);

    f[0].tensor = tensor(n_dims, a);
    f[1].tensor = tensor(n_dims, b);
    return site;
}

int main(int argc, char **argv)
{
    static const int64_t rows[2] = {1, 3};
    lorafmt_factor f[10][4];
    lorafmt_site sites[] = {
        low_rank("m.0.conv1.weight", LORAFMT_KIND_CONV1D, 2, 3, (uint64_t[]){2, 3, 5}, (uint64_t[]){4, 2, 1}, f[0]),
        low_rank("m.0.conv2.weight", LORAFMT_KIND_CONV2D, 2, 4, (uint64_t[]){2, 3, 1, 1}, (uint64_t[]){4, 2, 1, 1}, f[1]),
        low_rank("m.0.conv3.weight", LORAFMT_KIND_CONV3D, 2, 5, (uint64_t[]){2, 3, 1, 2, 3}, (uint64_t[]){4, 2, 1, 1, 1}, f[2]),
        low_rank("m.0.dora.weight", LORAFMT_KIND_LINEAR, 2, 2, (uint64_t[]){2, 8}, (uint64_t[]){6, 2}, f[3]),
        low_rank("m.0.experts.gate_up_proj", LORAFMT_KIND_EXPERTS, 2, 2, (uint64_t[]){6, 8}, (uint64_t[]){12, 2}, f[4]),
        low_rank("m.1.embed.weight", LORAFMT_KIND_EMBEDDING, 2, 2, (uint64_t[]){2, 16}, (uint64_t[]){4, 2}, f[5]),
        low_rank("m.1.out_proj.weight", LORAFMT_KIND_LINEAR, 2, 2, (uint64_t[]){2, 8}, (uint64_t[]){8, 2}, f[6]),
        test_whole("m.2.bias", LORAFMT_KIND_ADDITIVE, tensor(1, (uint64_t[]){4}), f[7]),
        test_whole("m.2.rows.weight", LORAFMT_KIND_ROWS, tensor(2, (uint64_t[]){2, 4}), f[8]),
        test_whole("m.2.saved.weight", LORAFMT_KIND_SAVED, tensor(2, (uint64_t[]){3, 4}), f[9]),
    };
    const lorafmt_adapter adapter = test_adapter("kinds", sites, sizeof sites / sizeof sites[0]), *adapters[] = {&adapter};
    char text[2048];
    lorafmt_error err;

    for (size_t i = 0; i < sizeof ones / sizeof ones[0]; i++)
        ones[i] = 1;
    f[1][2] = (lorafmt_factor){LORAFMT_ROLE_MID, tensor(4, (uint64_t[]){2, 2, 3, 3})};
    f[3][2] = (lorafmt_factor){LORAFMT_ROLE_MAGNITUDE, tensor(1, (uint64_t[]){6})};
    f[8][1] = (lorafmt_factor){LORAFMT_ROLE_ROW_INDEX, {LORAFMT_I64, 1, {2}, sizeof rows, rows}};
    sites[1].n_factors = sites[3].n_factors = 3;
    sites[8].n_factors = 2;
    sites[6].flags = LORAFMT_SITE_DOUBLED;
    sites[6].scale = 2;
    if (argc != 2)
        return 2;
    if (lorafmt_pack(adapters, 1, argv[1], NULL, &err) == LORAFMT_OK)
        return 0;
    lorafmt_error_format(&err, text, sizeof text);
    fprintf(stderr, "%s\n", text);
    return 1;
}
