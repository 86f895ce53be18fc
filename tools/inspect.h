/* SPDX-License-Identifier: MIT */
/* What an input holds, for people and for programs. All return an exit code. */
#ifndef TOOLS_INSPECT_H
#define TOOLS_INSPECT_H

#include "tools/base_fit.h"
#include "tools/facts.h"
#include "tools/input.h"
#include "tools/oddities.h"
#include "tools/page.h"

#include <stdbool.h>
#include <stddef.h>

/* What is known of one adapter. */
typedef struct inspected {
    adapter_facts facts;
    oddity_list oddities;
    base_fit fit; /* path is NULL without --base */
} inspected;

int inspect_print(const input *in, const inspected *adapters, size_t n, bool sites);
int inspect_json(const input *in, const inspected *adapters, size_t n);

/* Parts of inspect_print(). */
int print_modules(const page *p, const adapter_facts *facts);
int print_layers(const page *p, const adapter_facts *facts);
int print_whole(const page *p, const adapter_facts *facts);
void print_oddities(const page *p, const oddity_list *list);

#endif
