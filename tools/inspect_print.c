/* SPDX-License-Identifier: MIT */
#include "tools/inspect.h"

#include "tools/command.h"
#include "tools/option.h"
#include "tools/origin.h"
#include "tools/sites.h"
#include "tools/stats.h"
#include "tools/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define LINE_SIZE 1024
#define MOST_NOTES 8

static void print_container(const page *p, const char *path, const lorafmt_container_info *info)
{
    char size[NUMBER_TEXT_SIZE], name[SHORT_TEXT_SIZE], line[LINE_SIZE];

    snprintf(line, sizeof line, ": lora file, format %u.%u, %" PRIu64 " bytes", info->version_major, info->version_minor,
             info->file_end);
    page_print(p, STYLE_TITLE, "%s", text_shorten(path, PAGE_COLUMNS - text_width(line), name));
    page_line(p, STYLE_PLAIN, "%s", line);
    page_line(p, STYLE_QUIET, "  generation %" PRIu64 ", %zu tensors aligned to %" PRIu32 " bytes, index of %s", info->generation,
              info->n_tensors, info->align, size_text(info->index_size, size));
    if (info->saved)
        page_line(p, STYLE_QUIET, "  compressed to %.0f %% of raw",
                  100 * (double)info->file_end / (double)(info->file_end + info->saved));
    if (info->recovered)
        page_line(p, STYLE_ODD, "  recovered: a root slot is damaged, the other one is used; pack it again");
}

static void print_source(const page *p, const input *in)
{
    const char *what = lorafmt_source_get_kind(in->source) == LORAFMT_SOURCE_PEFT ? ": PEFT directory" : ": safetensors file";
    const size_t n_notes = lorafmt_source_n_notes(in->source);
    lorafmt_container_info info;
    char name[SHORT_TEXT_SIZE];

    if (lorafmt_source_container(in->source, &info)) {
        print_container(p, in->path, &info);
    } else {
        page_print(p, STYLE_TITLE, "%s", text_shorten(in->path, PAGE_COLUMNS - strlen(what), name));
        page_line(p, STYLE_PLAIN, "%s", what);
    }
    if (n_notes)
        page_line(p, STYLE_TITLE, "  notes");
    for (size_t i = 0; i < n_notes && i < MOST_NOTES; i++) {
        fputs("    ", stdout);
        print_wrapped(stdout, lorafmt_source_note(in->source, i), strlen("    "));
    }
    if (n_notes > MOST_NOTES)
        page_line(p, STYLE_QUIET, "    and %zu more; --json has all", n_notes - MOST_NOTES);
}

static void print_base(const page *p, const lorafmt_adapter *adapter)
{
    char digest[DIGEST_TEXT_SIZE];

    page_field(p, "base", adapter->base_name[0] ? adapter->base_name : "unknown");
    if (adapter->base_revision[0])
        page_field(p, "revision", adapter->base_revision);
    if (adapter->has_base_structure)
        page_field(p, "structure", digest_text(adapter->base_structure, digest));
}

/* "; 7 rsLoRA, 2 with DoRA": what is particular about how factors are used; empty for plain LoRA. */
static const char *particulars(const adapter_facts *facts, char line[LINE_SIZE])
{
    size_t n_rslora = 0, n_doubled = 0;

    for (size_t i = 0; i < facts->adapter->n_sites; i++) {
        n_rslora += facts->adapter->sites[i].scaling == LORAFMT_SCALING_ALPHA_SQRT_R;
        n_doubled += (facts->adapter->sites[i].flags & LORAFMT_SITE_DOUBLED) != 0;
    }
    line[0] = '\0';
    if (n_rslora)
        text_append(line, LINE_SIZE, "; %zu rsLoRA (alpha/sqrt(r))", n_rslora);
    if (facts->n_magnitudes)
        text_append(line, LINE_SIZE, "%s %zu with DoRA", line[0] ? "," : ";", facts->n_magnitudes);
    if (n_doubled)
        text_append(line, LINE_SIZE, "%s %zu doubled", line[0] ? "," : ";", n_doubled);
    return line;
}

static void print_update(const page *p, const adapter_stats *s)
{
    const struct {
        const char *name;
        const number_set *set;
    } parts[] = {{"rank", &s->rank}, {"alpha", &s->alpha}, {"scale", &s->scale}};
    char line[LINE_SIZE] = "", text[STATS_TEXT_SIZE];

    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (parts[i].set->n)
            text_append(line, sizeof line, "%s%s %s", line[0] ? "; " : "", parts[i].name, number_set_text(parts[i].set, text));
    if (line[0])
        page_field_wrapped(p, "update", line);
}

static void print_what(const page *p, const adapter_facts *facts)
{
    const adapter_stats *s = &facts->stats;
    char line[LINE_SIZE], text[STATS_TEXT_SIZE], more[LINE_SIZE];

    snprintf(line, sizeof line, "%s%s", stats_kinds_text(s, text), particulars(facts, more));
    page_field_wrapped(p, "sites", line);
    print_update(p, s);
}

/* "3.7 %", "0.00041 %" */
static const char *share_text(uint64_t part, uint64_t whole, char buf[NUMBER_TEXT_SIZE])
{
    const double percent = 100 * (double)part / (double)whole;

    snprintf(buf, NUMBER_TEXT_SIZE, percent < 9.95 ? "%.2g %%" : "%.0f %%", percent);
    return buf;
}

static void print_parameters(const page *p, const adapter_facts *facts)
{
    const adapter_stats *s = &facts->stats;
    char line[LINE_SIZE], text[NUMBER_TEXT_SIZE], whole[NUMBER_TEXT_SIZE], dtypes[STATS_TEXT_SIZE];

    snprintf(line, sizeof line, "%" PRIu64 " in %s, %s", s->n_parameters, size_text(s->n_bytes, text),
             stats_dtypes_text(s, dtypes));
    page_field_wrapped(p, "parameters", line);
    if (!facts->n_target_parameters)
        return;
    if (adapter_share_is_known(facts))
        snprintf(line, sizeof line, "%" PRIu64 ", %s of the %s in the matrices it adds to", facts->n_low_rank,
                 share_text(facts->n_low_rank, facts->n_target_parameters, text), count_text(facts->n_target_parameters, whole));
    else
        snprintf(line, sizeof line, "%" PRIu64 ", of so many in the matrices it adds to that the share is not known",
                 facts->n_low_rank);
    page_field_wrapped(p, "low-rank", line);
}

/* Does it say what the base holds? */
static bool has_digests(const lorafmt_adapter *adapter)
{
    for (size_t i = 0; i < adapter->n_sites; i++)
        if (adapter->sites[i].flags & LORAFMT_SITE_BASE_SHA256)
            return true;
    return false;
}

static void print_fit(const page *p, const adapter_facts *facts, const base_fit *fit)
{
    char line[sizeof fit->why_not + 64], text[COVERAGE_TEXT_SIZE], share[NUMBER_TEXT_SIZE], whole[NUMBER_TEXT_SIZE];

    page_field(p, "given base", fit->path);
    if (!fit->fits) {
        snprintf(line, sizeof line, "does not fit: %s", fit->why_not);
        page_field_wrapped(p, "", line);
        return;
    }
    snprintf(line, sizeof line, "fits, %s", coverage_text(&fit->coverage, text));
    page_field_wrapped(p, "", line);
    if (has_digests(facts->adapter))
        page_field(p, "", "its values were not compared; verify --base does that");
    if (facts->adapter->has_base_structure && !fit->same_structure)
        page_field(p, "", "its structure is not the one above");
    snprintf(line, sizeof line, "the adapter's parameters are %s of its %s",
             share_text(facts->stats.n_parameters, fit->n_parameters, share), count_text(fit->n_parameters, whole));
    page_field(p, "", line);
}

/* No key was given, so that anybody may have written them. */
static void print_signatures(const page *p, const lorafmt_adapter *adapter)
{
    char digest[DIGEST_TEXT_SIZE];

    for (size_t i = 0; i < adapter->n_signatures; i++) {
        lorafmt_public_key key;
        memcpy(key.bytes, adapter->signatures[i].public_key, sizeof key.bytes);
        page_field(p, i ? "" : "signed by", fingerprint_text(&key, digest));
    }
    if (adapter->n_signatures)
        page_field(p, "", "so the file says, which was not checked; verify --key does that");
}

static void print_metadata(const page *p, const lorafmt_adapter *adapter)
{
    char line[LINE_SIZE], key[SHORT_TEXT_SIZE];

    if (adapter->n_metadata) {
        putchar('\n');
        page_line(p, STYLE_TITLE, "  metadata");
    }
    for (size_t i = 0; i < adapter->n_metadata; i++) {
        const lorafmt_metadata *m = &adapter->metadata[i];
        text_shorten(m->key, PAGE_COLUMNS / 2, key);
        if (!strcmp(m->key, "peft.adapter_config"))
            snprintf(line, sizeof line, "%s: %zu bytes of JSON", key, strlen(m->value));
        else {
            char value[SHORT_TEXT_SIZE];
            snprintf(line, sizeof line, "%s: %s", key, text_shorten(m->value, PAGE_COLUMNS - 6 - text_width(key), value));
        }
        page_line(p, STYLE_PLAIN, "    %s", line);
    }
}

static int print_tables(const page *p, const adapter_facts *facts)
{
    int code = print_modules(p, facts);

    if (code == EXIT_DONE)
        code = print_layers(p, facts);
    if (code == EXIT_DONE)
        code = print_whole(p, facts);
    return code;
}
static int print_adapter(const page *p, const inspected *in, bool sites)
{
    const lorafmt_adapter *adapter = in->facts.adapter;
    char digest[DIGEST_TEXT_SIZE], name[SHORT_TEXT_SIZE];
    uint8_t id[32];
    int code;

    putchar('\n');
    page_line(p, STYLE_TITLE, "adapter %s", text_shorten(adapter->name, PAGE_COLUMNS - strlen("adapter "), name));
    lorafmt_adapter_id(adapter, id);
    page_field(p, "id", digest_text(id, digest));
    print_signatures(p, adapter);
    print_base(p, adapter);
    print_what(p, &in->facts);
    print_parameters(p, &in->facts);
    if (in->fit.path)
        print_fit(p, &in->facts, &in->fit);
    if ((code = print_tables(p, &in->facts)) != EXIT_DONE)
        return code;
    print_metadata(p, adapter);
    print_oddities(p, &in->oddities);
    if (sites)
        print_sites(p, &in->facts);
    return EXIT_DONE;
}

int inspect_print(const input *in, const inspected *adapters, size_t n, bool sites)
{
    const page p = page_of_stdout();
    int code = EXIT_DONE;

    print_source(&p, in);
    for (size_t i = 0; i < n && code == EXIT_DONE; i++)
        code = print_adapter(&p, &adapters[i], sites);
    return code;
}
