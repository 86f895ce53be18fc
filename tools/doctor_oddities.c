/* SPDX-License-Identifier: MIT */
/* What is odd about adapters that are sound: what inspect calls so, each sort once, and signatures. */
#include "tools/command.h"
#include "tools/doctor.h"
#include "tools/input.h"
#include "tools/oddities.h"

#include "lorafmt/origin.h"

#include <stdio.h>
#include <stdlib.h>

#define N_ODDS (ODD_NEWER + 1)

/* At most so many are looked at, since each takes a thousand times what reading it takes. */
#define MOST_SIGNATURES 1024

/* All of one sort, of which the first is shown. */
typedef struct sort {
    size_t n;
    const char *adapter, *target;
    char text[ODDITY_TEXT_SIZE];
} sort;

static void count(const lorafmt_adapter *adapter, const oddity_list *list, sort sorts[N_ODDS])
{
    for (size_t i = 0; i < list->n; i++) {
        const oddity *o = &list->items[i];
        sort *s = &sorts[o->what];
        if (s->n++)
            continue;
        s->adapter = adapter->name;
        s->target = o->target;
        snprintf(s->text, sizeof s->text, "%s", o->text);
    }
}

static int count_adapter(const lorafmt_adapter *adapter, const source_facts *source, sort sorts[N_ODDS])
{
    adapter_facts facts;
    oddity_list list = {0};
    int code = adapter_facts_gather(adapter, source, &facts);

    if (code == EXIT_DONE)
        code = oddities_find(&facts, &list);
    if (code == EXIT_DONE)
        count(adapter, &list, sorts);
    oddities_free(&list);
    adapter_facts_free(&facts);
    return code;
}

static void add_sort(diagnosis *d, odd what, const sort *s)
{
    const cause why = {.name = odd_name(what), .level = LEVEL_SUSPICIOUS, .meaning = odd_advice(what)};
    char more[48] = "";

    if (s->n > 1)
        snprintf(more, sizeof more, " (and %zu more)", s->n - 1);
    add_finding(d, &why, "%s: %s%s%s%s", s->adapter, s->target ? s->target : "", s->target ? ": " : "", s->text, more);
}

static int count_all(const lorafmt_adapter *const *adapters, size_t n, sort sorts[N_ODDS])
{
    source_facts source = {0};
    int code = source_facts_gather(adapters, n, &source);

    if (code == EXIT_DONE)
        code = same_tensors_mark(&source.tensors);
    for (size_t i = 0; i < n && code == EXIT_DONE; i++)
        code = count_adapter(adapters[i], &source, sorts);
    source_facts_free(&source);
    return code;
}

int examine_oddities(diagnosis *d, const lorafmt_source *source)
{
    sort sorts[N_ODDS] = {{0}};
    const lorafmt_adapter **adapters;
    size_t n;
    int code = source_adapters(source, &adapters, &n);

    if (code == EXIT_DONE)
        code = count_all(adapters, n, sorts);
    for (unsigned what = 0; what < N_ODDS && code == EXIT_DONE; what++)
        if (sorts[what].n)
            add_sort(d, (odd)what, &sorts[what]);
    free(adapters);
    return code;
}

/* Is there one that its key did not make? Of an algorithm of a newer format that is not known. */
static bool has_false_signature(const lorafmt_adapter *adapter, size_t *n_looked_at)
{
    for (size_t i = 0; i < adapter->n_signatures && *n_looked_at < MOST_SIGNATURES; i++) {
        const lorafmt_signature *s = &adapter->signatures[i];
        ++*n_looked_at;
        if (s->algorithm == LORAFMT_SIGNATURE_ED25519 && !lorafmt_signature_is_genuine(s, adapter->id))
            return true;
    }
    return false;
}

void examine_signatures(diagnosis *d, const lorafmt_source *source)
{
    const size_t n = lorafmt_source_n_adapters(source);
    size_t n_unsigned = 0, n_looked_at = 0;

    for (size_t i = 0; i < n; i++) {
        const lorafmt_adapter *adapter = lorafmt_source_adapter(source, i);
        n_unsigned += !adapter->n_signatures;
        if (has_false_signature(adapter, &n_looked_at))
            add_finding(d, &cause_false_signature, "%s: a signature is not by its key", adapter->name);
    }
    if (n_unsigned)
        add_finding(d, &cause_unsigned, "%zu of %zu adapters not signed", n_unsigned, n);
}
