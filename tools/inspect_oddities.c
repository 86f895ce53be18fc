/* SPDX-License-Identifier: MIT */
#include "tools/inspect.h"

#include "tools/text.h"

#include <stdio.h>

#define INDENT 6
#define MOST_SHOWN 3 /* of one sort; --json has all */

/* "target: text", in two lines when one is too short for both. */
static void print_item(const page *p, const oddity *o)
{
    const size_t left = PAGE_COLUMNS - INDENT;
    char target[SHORT_TEXT_SIZE];

    if (!o->target)
        page_line(p, STYLE_PLAIN, "%*s%s", INDENT, "", o->text);
    else if (text_width(o->target) + 2 + text_width(o->text) <= left)
        page_line(p, STYLE_PLAIN, "%*s%s: %s", INDENT, "", o->target, o->text);
    else {
        page_line(p, STYLE_PLAIN, "%*s%s:", INDENT, "", text_shorten(o->target, left - 1, target));
        page_line(p, STYLE_PLAIN, "%*s%s", 2 * INDENT, "", o->text);
    }
}

/* Oddities of one sort: what it means, then which. */
static void print_sort(const page *p, const oddity *items, size_t n)
{
    page_print(p, STYLE_ODD, "    %s", odd_name(items->what));
    page_line(p, STYLE_QUIET, ": %s", odd_advice(items->what));
    for (size_t i = 0; i < n && i < MOST_SHOWN; i++)
        print_item(p, &items[i]);
    if (n > MOST_SHOWN)
        page_line(p, STYLE_QUIET, "%*sand %zu more", INDENT, "", n - MOST_SHOWN);
}

void print_oddities(const page *p, const oddity_list *list)
{
    putchar('\n');
    if (!list->n) {
        page_line(p, STYLE_QUIET, "  nothing odd about it");
        return;
    }
    page_line(p, STYLE_TITLE, "  oddities");
    for (size_t i = 0, end; i < list->n; i = end) {
        for (end = i + 1; end < list->n && list->items[end].what == list->items[i].what;)
            end++;
        print_sort(p, list->items + i, end - i);
    }
}
