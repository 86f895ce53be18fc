/* SPDX-License-Identifier: MIT */
/* The table of an adapter's sites. */
#ifndef TOOLS_SITES_H
#define TOOLS_SITES_H

#include "tools/facts.h"
#include "tools/page.h"

/* Numbers first and the target, which may be long, last: so the columns hold whatever the width. */
void print_sites(const page *p, const adapter_facts *facts);

/* Cells of a table. */
void append_number(char *cell, bool given, double number);
void append_norm(char *cell, bool known, double norm);
void append_dtypes(char *cell, const lorafmt_site *site);

#endif
