/* SPDX-License-Identifier: MIT */
/* What a user of the installed library writes: open an adapter of any form and print its sites. Compiles as C and as C++. */
#include <inttypes.h>
#include <lorafmt/lorafmt.h>
#include <stdio.h>
#include <stdlib.h>

static void print_site(const lorafmt_site *site)
{
    printf("  %s: %s, rank %" PRIu32 ", scale %g", site->target, lorafmt_kind_name(site->kind), site->rank, site->scale);
    for (uint32_t i = 0; i < site->n_factors; i++) {
        const lorafmt_factor *factor = &site->factors[i];
        printf("%s %s %s", i ? "," : ":", lorafmt_role_name(factor->role), lorafmt_dtype_name(factor->tensor.dtype));
        for (uint32_t k = 0; k < factor->tensor.n_dims; k++)
            printf("%c%" PRIu64, k ? 'x' : ' ', factor->tensor.shape[k]);
    }
    printf("\n");
}

int main(int argc, char **argv)
{
    lorafmt_source *source = NULL;
    lorafmt_error error;

    if (argc != 2) {
        fprintf(stderr, "usage: %s ADAPTER\n", argv[0]);
        return 2;
    }
    if (lorafmt_source_open(argv[1], NULL, &source, &error) != LORAFMT_OK) {
        char text[2048];
        lorafmt_error_format(&error, text, sizeof text);
        fprintf(stderr, "%s\n", text);
        return EXIT_FAILURE;
    }
    printf("liblorafmt %s\n", lorafmt_release());
    for (size_t i = 0; i < lorafmt_source_n_adapters(source); i++) {
        const lorafmt_adapter *adapter = lorafmt_source_adapter(source, i);
        printf("%s: %zu sites\n", adapter->name, adapter->n_sites);
        for (size_t k = 0; k < adapter->n_sites; k++)
            print_site(&adapter->sites[k]);
    }
    lorafmt_source_free(source);
    return EXIT_SUCCESS;
}
