/* SPDX-License-Identifier: MIT */
/* The table of an adapter's sites. */
#ifndef TOOLS_SITES_H
#define TOOLS_SITES_H

#include "lorafmt/adapter.h"

/* Numbers first and the target, which may be long, last: so the columns hold whatever the width. */
void print_sites(const lorafmt_adapter *adapter);

#endif
