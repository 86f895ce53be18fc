/* SPDX-License-Identifier: MIT */
#include "report.h"

#include "sample.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- JSON: what cannot be added for want of memory fails the whole --- */

static cJSON *kept(report *r, cJSON *item)
{
    r->failed |= !item;
    return item;
}

static void add_number(report *r, cJSON *to, const char *name, double value)
{
    kept(r, cJSON_AddNumberToObject(to, name, value));
}

static void add_hex(report *r, const char *name, const uint8_t *bytes, size_t n)
{
    char *hex = malloc(2 * n + 1);

    if (!hex) {
        r->failed = true;
        return;
    }
    hex[0] = '\0';
    for (size_t i = 0; i < n; i++)
        snprintf(hex + 2 * i, 3, "%02x", bytes[i]);
    kept(r, cJSON_AddStringToObject(r->scenario, name, hex));
    free(hex);
}

/* A new object at the end of the list of that name. */
static cJSON *add_object(report *r, cJSON *to, const char *list)
{
    cJSON *items = cJSON_GetObjectItemCaseSensitive(to, list), *object = kept(r, cJSON_CreateObject());

    if (!items)
        items = kept(r, cJSON_AddArrayToObject(to, list));
    if (!cJSON_AddItemToArray(items, object)) {
        cJSON_Delete(object);
        r->failed = true;
        return NULL;
    }
    return object;
}

static void add_facts(report *r, const facts *f)
{
    r->scenario = add_object(r, r->root, "scenarios");
    kept(r, cJSON_AddArrayToObject(r->scenario, "adapters"));
    for (size_t i = 0; i < f->adapters->n; i++) {
        cJSON *adapter = add_object(r, r->scenario, "adapters");
        kept(r, cJSON_AddStringToObject(adapter, "path", f->adapters->items[i].path));
        add_number(r, adapter, "weight", f->adapters->items[i].weight);
        add_number(r, adapter, "file_size", (double)f->adapters->items[i].file_size);
    }
    kept(r, cJSON_AddBoolToObject(r->scenario, "swapped", f->is_swap));
    kept(r, cJSON_AddBoolToObject(r->scenario, "unmerged", f->is_unmerged));
    add_number(r, r->scenario, "n_sites", (double)f->swap.n_sites);
    add_number(r, r->scenario, "n_bound", (double)f->swap.n_bound);
    add_number(r, r->scenario, "n_computed", (double)f->swap.n_computed);
    add_number(r, r->scenario, "n_restored", (double)f->swap.n_restored);
    add_number(r, r->scenario, "n_bytes", (double)f->swap.n_bytes);
    add_number(r, r->scenario, "open_seconds", f->open_time);
    add_number(r, r->scenario, "apply_seconds", f->apply_time);
    add_number(r, r->scenario, "n_written", (double)f->n_written);
    add_number(r, r->scenario, "write_seconds", f->write_time);
    if (f->has_digest)
        add_hex(r, "sha256", f->digest, sizeof f->digest);
}

static void add_loss(report *r, const char *file, const loss *l)
{
    cJSON *object = add_object(r, r->scenario, "losses");

    kept(r, cJSON_AddStringToObject(object, "file", file));
    add_number(r, object, "mean", l->mean);
    if (!cJSON_AddItemToObject(object, "windows", kept(r, cJSON_CreateDoubleArray(l->windows, (int)l->n_windows))))
        r->failed = true;
}

static void add_logit(report *r, uint8_t byte, double logit)
{
    cJSON *object = add_object(r, r->scenario, "logits");

    add_number(r, object, "byte", byte);
    add_number(r, object, "logit", logit);
}

/* --- people --- */

static void print_adapters(const stack *adapters)
{
    if (!adapters->n)
        printf("base");
    for (size_t i = 0; i < adapters->n; i++) {
        const stack_item *item = &adapters->items[i];
        printf("%s%s (%" PRIu64 " bytes)", i ? " + " : "", item->path, item->file_size);
        if (item->weight != 1)
            printf(" x %g", item->weight);
    }
}

static void print_digest(const uint8_t *digest)
{
    printf("sha256 ");
    for (size_t i = 0; i < 32; i++)
        printf("%02x", digest[i]);
    putchar('\n');
}

static void print_facts(report *r, const facts *f)
{
    if (r->has_printed)
        putchar('\n');
    r->has_printed = true;
    print_adapters(f->adapters);
    printf(": ");
    if (f->adapters->n)
        printf("%zu/%zu sites, opened in %.1f ms, ", f->swap.n_bound, f->swap.n_sites, f->open_time * 1e3);
    printf("%s in %.1f ms", f->is_swap ? f->is_unmerged ? "bound" : "swapped" : "loaded", f->apply_time * 1e3);
    if (f->n_written)
        printf(", wrote %zu bytes, %.0f a second", f->n_written, (double)f->n_written / f->write_time);
    putchar('\n');
    if (f->has_digest)
        print_digest(f->digest);
}

static void print_loss(const char *file, const loss *l)
{
    printf("%s: %.4f nats per byte (", file, l->mean);
    for (size_t i = 0; i < l->n_windows; i++)
        printf("%s%.4f", i ? " " : "", l->windows[i]);
    printf(")\n");
}

static void print_logit(uint8_t byte, double logit)
{
    const bool is_plain = byte > ' ' && byte < 0x7f;

    printf("next byte %3d %c%c%c  logit %8.4f\n", byte, is_plain ? '\'' : ' ', is_plain ? byte : ' ', is_plain ? '\'' : ' ',
           logit);
}

/* A model may write what a terminal obeys. */
static void print_bytes(const uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const bool is_control = (bytes[i] < ' ' && bytes[i] != '\n' && bytes[i] != '\t') || bytes[i] == 0x7f;
        putchar(is_control ? '?' : bytes[i]);
    }
}

/* --- both --- */

bool report_begin(report *r, bool json)
{
    if (json)
        r->root = kept(r, cJSON_CreateObject());
    return !r->failed;
}

void report_facts(report *r, const facts *f)
{
    if (r->root)
        add_facts(r, f);
    else
        print_facts(r, f);
}

void report_logits(report *r, const float *logits, size_t n)
{
    uint8_t best[VOCAB_SIZE];

    choose_several(logits, n, best);
    for (size_t i = 0; i < n; i++)
        if (r->root)
            add_logit(r, best[i], logits[best[i]]);
        else
            print_logit(best[i], logits[best[i]]);
}

void report_loss(report *r, const char *file, const loss *l)
{
    if (r->root)
        add_loss(r, file, l);
    else
        print_loss(file, l);
}

void report_text(report *r, const uint8_t *text, size_t n_prompt, size_t n_written)
{
    if (r->root) {
        add_hex(r, "prompt_hex", text, n_prompt);
        add_hex(r, "written_hex", text + n_prompt, n_written);
        return;
    }
    print_bytes(text, n_prompt);
    printf("▸");
    print_bytes(text + n_prompt, n_written);
    putchar('\n');
}

bool report_end(report *r)
{
    char *text = r->root && !r->failed ? cJSON_Print(r->root) : NULL;

    if (text)
        puts(text);
    free(text);
    return (text || !r->root) && fflush(stdout) == 0 && !ferror(stdout);
}

void report_free(report *r)
{
    cJSON_Delete(r->root);
}
