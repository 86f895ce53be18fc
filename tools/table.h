/* SPDX-License-Identifier: MIT */
/* Rows in columns as wide as what is in them. */
#ifndef TOOLS_TABLE_H
#define TOOLS_TABLE_H

#include "tools/page.h"

#include <stdbool.h>
#include <stddef.h>

#define TABLE_COLUMNS 12
#define CELL_SIZE (4 * PAGE_COLUMNS + 1) /* a line of UTF-8 */

typedef struct column {
    const char *head;
    bool number;   /* at the right of its column */
    unsigned drop; /* of a table that must fit: columns leave it in this order, from 1; 0 stays */
} column;

typedef struct table {
    size_t n_columns; /* at most TABLE_COLUMNS */
    const column *columns;
    size_t n_rows;
    unsigned hidden; /* columns that are left out, a bit each */
    bool fit;        /* to the page: the first column is shortened, then columns leave */

    void (*fill)(const void *ctx, size_t i, char cells[][CELL_SIZE]); /* row i, whose cells are empty; called twice for each */
    const void *ctx;

    /* What follows the columns, whatever its length; or NULL. */
    const char *tail_head;
    const char *(*tail)(const void *ctx, size_t i);
} table;

/* Indented by two; nothing without rows. */
void table_print(const page *p, const table *t);

#endif
