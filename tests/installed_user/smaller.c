/* SPDX-License-Identifier: MIT */
/* What a user of the installed liblorakit writes: give an adapter another rank and say what that loses. Compiles as C and as C++. */
#include <lorafmt/lorafmt.h>
#include <lorakit/lorakit.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int fail(const lorafmt_error *error)
{
    char text[2048];

    lorafmt_error_format(error, text, sizeof text);
    fprintf(stderr, "%s\n", text);
    return EXIT_FAILURE;
}

static void print_result(const lorafmt_adapter *adapter, const lorakit_resized *sites)
{
    double norm = 0, truncated = 0;

    for (size_t i = 0; i < adapter->n_sites; i++) {
        norm += sites[i].norm * sites[i].norm;
        truncated += sites[i].truncated * sites[i].truncated;
    }
    printf("%s: %zu sites of rank %u keep %.3f of the squared norm\n", adapter->name, adapter->n_sites,
           (unsigned)adapter->sites[0].rank, 1 - truncated / norm);
}

int main(int argc, char **argv)
{
    lorafmt_source *source = NULL;
    const lorafmt_adapter *adapter;
    lorakit_adapter *smaller = NULL;
    lorakit_resize_options options;
    lorakit_resized *sites;
    lorafmt_error error;

    if (argc != 3) {
        fprintf(stderr, "usage: %s ADAPTER RANK\n", argv[0]);
        return 2;
    }
    if (lorafmt_source_open(argv[1], NULL, &source, &error) || lorafmt_source_choose(source, NULL, &adapter, &error))
        return fail(&error);
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.rank.rule = LORAKIT_FIXED;
    options.rank.most = (uint32_t)strtoul(argv[2], NULL, 10);
    sites = (lorakit_resized *)calloc(adapter->n_sites, sizeof *sites);
    if (!sites || lorakit_resize(adapter, &options, sites, &smaller, &error))
        return fail(&error);
    print_result(lorakit_adapter_get(smaller), sites);
    lorakit_adapter_free(smaller);
    lorafmt_source_free(source);
    free(sites);
    return EXIT_SUCCESS;
}
